//! Cuts UDP connections that only their responder keeps alive.
//!
//! A connection that policy stops allowing is cut by the first packet of its original direction: it meets the drop of its
//! class, and that flow sets the mark that stops replies (NP-38). Where the initiator has gone silent no such packet comes,
//! and the responder could send for ever. So after every change of flows the tracked UDP connections are looked at, and
//! those that the rules do not admit any more are marked by a packet of our own, which conntrack takes for one of the
//! original direction and nobody receives. TCP needs none of this: without acknowledgements its sender stops.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rust_openflow::{PacketOut, UnixCtl, UnixCtlError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use weir_ovsdb::vswitch::SwitchState;

use crate::conntrack::{Datagrams, live_datagrams};
use crate::pipeline::base::{commit, mark_revoked};
use crate::reconcile::{Ask, Overview};
use crate::seam::{Switch, SwitchError, chain};

/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// A look costs the switch's main thread a part of the time it takes: the pause is so many times as long.
const REST: u32 = 10;
/// Packets that were under way when the flows changed have made their entries after so long: a second look finds them.
const SETTLE: Duration = Duration::from_secs(2);
/// Connections asked about at once, so that the reconciler gets a word in between.
const AT_ONCE: usize = 512;

/// Why the connections could not be looked at.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("ovs-vswitchd's pid file {0} cannot be read")]
    Pid(PathBuf, #[source] std::io::Error),
    #[error("no tracked connections from ovs-vswitchd")]
    Control(#[from] UnixCtlError),
    #[error("no connection to the switch")]
    NotConnected,
    #[error("a connection could not be marked")]
    Switch(#[from] SwitchError),
    #[error("the agent is stopping")]
    Stopping,
}

/// Where ovs-vswitchd takes commands.
#[derive(Clone, Debug)]
pub enum Control {
    /// This socket.
    Socket(PathBuf),
    /// `ovs-vswitchd.PID.ctl` in this directory, with the number that `ovs-vswitchd.pid` holds.
    Directory(PathBuf),
}

impl Control {
    fn socket(&self) -> Result<PathBuf, SweepError> {
        match self {
            Self::Socket(path) => Ok(path.clone()),
            Self::Directory(dir) => {
                let file = dir.join("ovs-vswitchd.pid");
                let pid =
                    std::fs::read_to_string(&file).map_err(|e| SweepError::Pid(file.clone(), e))?;
                Ok(dir.join(format!("ovs-vswitchd.{}.ctl", pid.trim())))
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Sweep<S> {
    pub control: Control,
    pub bridge: String,
    pub zone: u16,
    pub picture: watch::Receiver<Option<Arc<SwitchState>>>,
    pub sessions: watch::Receiver<Option<Arc<S>>>,
    /// Says when flows have changed.
    pub overview: watch::Receiver<Overview>,
    pub asks: mpsc::Sender<Ask>,
}

impl<S: Switch> Sweep<S> {
    /// Runs until the reconciler is gone.
    pub async fn run(mut self) {
        let mut known = None;
        // the bundles that the last look saw, and whether it was the second after them
        // an agent that was killed before its look comes back to flows that are right already
        let (mut swept, mut settled) = (0, false);
        loop {
            let change = self.overview.wait_for(|o| o.counters.bundles != swept);
            // without a change, what failed is tried again, and what went well is looked at once more
            let next = if settled && known.is_none() {
                change.await.map(|o| Some(o.counters.bundles))
            } else {
                let waited = timeout(SETTLE, change).await;
                waited.map_or(Ok(None), |seen| seen.map(|o| Some(o.counters.bundles)))
            };
            match next {
                Ok(seen) => {
                    settled = seen.is_none();
                    swept = seen.unwrap_or(swept);
                }
                Err(_) => return,
            }
            let started = Instant::now();
            let outcome = self.sweep().await;
            let took = started.elapsed();
            let trouble = match outcome {
                Ok(0) => None,
                Ok(cut) => {
                    info!(cut, ?took, "UDP connections that only their responders used are cut");
                    None
                }
                Err(SweepError::Stopping) => return,
                Err(error) => Some(chain(&error)),
            };
            if trouble != known {
                if let Some(error) = &trouble {
                    warn!(error, "UDP connections that only their responders use cannot be cut");
                }
                if self.asks.send(Ask::Unswept(trouble.clone())).await.is_err() {
                    return;
                }
                known = trouble;
            }
            tokio::time::sleep(PAUSE.max(took * REST)).await;
        }
    }

    /// Units of the answer: connections that were cut.
    async fn sweep(&self) -> Result<usize, SweepError> {
        let dump = self.dump().await?;
        let connections: Vec<Datagrams> = live_datagrams(&dump).collect();
        let mut cut = 0;
        for part in connections.chunks(AT_ONCE) {
            let (reply, answer) = oneshot::channel();
            let ask = Ask::Denied(part.to_vec(), reply);
            self.asks.send(ask).await.map_err(|_| SweepError::Stopping)?;
            let denied = answer.await.map_err(|_| SweepError::Stopping)?;
            if denied.is_empty() {
                continue;
            }
            let session = self.sessions.borrow().clone().ok_or(SweepError::NotConnected)?;
            let packets: Vec<PacketOut> = denied.iter().filter_map(|d| self.mark(d)).collect();
            cut += packets.len();
            session.inject(packets).await?;
        }
        Ok(cut)
    }

    async fn dump(&self) -> Result<String, SweepError> {
        let kind = self.picture.borrow().as_ref().and_then(|picture| {
            let bridge = picture.bridges.get(&self.bridge)?;
            Some(bridge.datapath_type.clone()).filter(|kind| !kind.is_empty())
        });
        let kind = kind.unwrap_or_else(|| "system".to_owned());
        let mut control = UnixCtl::connect(self.control.socket()?).await?;
        let (datapath, zone) = (format!("{kind}@ovs-{kind}"), format!("zone={}", self.zone));
        Ok(control.call("dpctl/dump-conntrack", &[&datapath, &zone]).await?)
    }

    /// A packet of the connection that sets its mark and goes nowhere.
    fn mark(&self, connection: &Datagrams) -> Option<PacketOut> {
        Some(PacketOut {
            actions: vec![commit(self.zone, vec![mark_revoked(1)])],
            data: connection.packet()?,
            ..PacketOut::default()
        })
    }
}
