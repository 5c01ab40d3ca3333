//! The connection to the switch: one after another, each with its own handle.

use std::sync::Arc;
use std::time::Duration;

use rust_openflow::config::FRAGMENTS_NX_MATCH;
use rust_openflow::conn::{self, BundleError, ConnError, Connection, Event, Options, Target};
use rust_openflow::{FlowMod, FlowStats, FlowStatsRequest, Message, PacketOut};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};
use weir_runtime::backoff::Backoff;

use crate::seam::{CommitError, Switch, SwitchError, chain};

/// Pauses between attempts. Short, as OVS is on the same host and a restart of it leaves the bridge without flows.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A connection that lived this long was a good one: the next attempt is made at once.
const STABLE: Duration = Duration::from_secs(5);

/// One connection.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
}

impl Switch for Session {
    async fn dump(&self) -> Result<Vec<FlowStats>, SwitchError> {
        Ok(self.connection.dump_flows(FlowStatsRequest::default()).await?)
    }

    async fn commit(&self, changes: Arc<Vec<FlowMod>>) -> Result<(), CommitError> {
        self.connection.bundle(&changes).await.map_err(CommitError::from)
    }

    async fn inject(&self, packets: Vec<PacketOut>) -> Result<(), SwitchError> {
        for packet in packets {
            self.connection.send(Message::PacketOut(packet)).await?;
        }
        Ok(self.connection.barrier().await?)
    }
}

impl From<ConnError> for SwitchError {
    fn from(error: ConnError) -> Self {
        Self { source: Box::new(error) }
    }
}

impl From<BundleError> for CommitError {
    fn from(error: BundleError) -> Self {
        match error {
            // nothing was sent because of it: to the rule it is the same as a refusal
            BundleError::Encode { index, source } => {
                Self::Refused { index, reason: format!("no encoding: {}", chain(&source)) }
            }
            BundleError::Refused { index, error } => {
                Self::Refused { index, reason: error.to_string() }
            }
            BundleError::Failed { error } => Self::Rejected { reason: error.to_string() },
            // "not committed" is certain, but then the connection is lost, and with it what else was certain
            lost => Self::Unknown(SwitchError { source: Box::new(lost) }),
        }
    }
}

/// Connects to the bridge, again and again, and shows each connection while it lives.
pub async fn keep(target: Target, sessions: watch::Sender<Option<Arc<Session>>>) {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    // We ask for no events: no flow of the pipeline sends packets here, and ports are known from OVSDB. A length of 0
    // is how a service connection says so. First fragments are to be matched by their ports.
    let options = Options { miss_send_len: 0, fragments: FRAGMENTS_NX_MATCH, ..Options::default() };
    let mut known = None;
    loop {
        match conn::connect(&target, options.clone()).await {
            Ok((connection, driver, events)) => {
                known = None;
                let started = tokio::time::Instant::now();
                let datapath = connection.features().datapath_id;
                info!(%target, datapath = format!("{datapath:016x}"), "OpenFlow connection");
                sessions.send_replace(Some(Arc::new(Session { connection })));
                tokio::select! {
                    ended = driver => debug!(?ended, "the OpenFlow connection ended"),
                    () = listen(events) => {}
                }
                sessions.send_replace(None);
                if started.elapsed() >= STABLE {
                    backoff.reset();
                }
            }
            // once per reason: a host whose OVS is stopped tries for hours
            Err(error) => {
                let error = chain(&error);
                if known.as_ref() != Some(&error) {
                    warn!(%target, error, "no OpenFlow connection; trying again");
                }
                known = Some(error);
            }
        }
        backoff.wait().await;
    }
}

/// Logs what the switch says of its own accord, until the connection ends.
async fn listen(mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Closed { reason } => warn!(reason, "the OpenFlow connection is closed"),
            Event::Error { xid, error } => warn!(xid, %error, "the switch refused a message"),
            event => debug!(?event, "an event that was not asked for"),
        }
    }
    // the driver tells the end
    std::future::pending().await
}
