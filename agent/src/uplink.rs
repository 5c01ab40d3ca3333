//! The connection to the controller: one stream after another, each a snapshot and the changes that follow it.
//!
//! A snapshot is put together aside and handed on at its end marker, so that nothing is removed before the whole is
//! known. While there is no stream, nothing is handed on, and what was handed on last stays in force (NP-42).
//!
//! A stream begins with a digest of what is in force, so that a controller needs to tell only what differs from it. The
//! result is compared with the controller's digest of the whole before it is handed on. Where that fails, the stream's next
//! snapshot is a whole one, and so is the first of the next stream.

pub mod decode;
mod outbox;
mod replicas;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tracing::{debug, info, warn};
use weir_api::holdings::{Held, NoBucket};
use weir_api::v1;
use weir_api::version::TooOld;
use weir_ovsdb::vswitch::SwitchState;
use weir_policy::state::{Change, NodeState};
use weir_runtime::backoff::Backoff;

pub use decode::Refusal;
pub use outbox::{Outbox, Outcome, Report};
use replicas::{Replica, Replicas};

use crate::reconcile::Ask;
use crate::seam::chain;

/// Events that may wait for the reconciler. It takes all that wait at once, so this is how far the controller's stream
/// runs ahead of one bundle; beyond it the stream waits, and the controller holds a snapshot ready instead of a queue.
pub const EVENTS: usize = 256;
/// Questions that may wait; one more is answered with an error.
pub const QUERIES: usize = 16;
/// Messages that wait for the network. Small, as the outbox merges what waits longer.
const OUTBOUND: usize = 8;

/// For the TCP and TLS handshakes, and for the first answer of the controller.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Probes find a dead controller host within the sum of both.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first connection waits for OVSDB, so that the controller learns the switch's version.
const VERSION_PATIENCE: Duration = Duration::from_secs(2);
/// How long a stream waits to hear what is in force. A reconciler that is busy with the switch for longer costs a whole
/// snapshot, and that is all.
const HELD_PATIENCE: Duration = Duration::from_secs(1);

/// Where the controller is and who we are.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    pub node: String,
    /// `https://host:port`, one per replica.
    pub controllers: Vec<String>,
    /// PEM. This and the credentials are read for each connection, so that renewed ones need no restart.
    pub ca: PathBuf,
    pub credentials: Credentials,
    /// The name in the controller's certificate, where it is not the URL's host.
    pub server_name: Option<String>,
    /// Pauses between two attempts.
    pub backoff: (Duration, Duration),
}

/// How we say who we are. The controller says so by its certificate in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// PEM files.
    Certificate { cert: PathBuf, key: PathBuf },
    /// A file with a ServiceAccount token.
    Token(PathBuf),
}

/// What the controller said, complete enough to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Which stream said it: reports name it, so that a new controller is told nothing about its predecessor's state.
    pub stream: u64,
    pub revision: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Everything there is.
    Snapshot { state: Box<NodeState>, refused: Vec<Refusal> },
    /// To be applied as one.
    Delta { changes: Vec<Change>, refused: Vec<Refusal> },
}

/// A question from an operator, by way of the controller.
#[derive(Debug)]
pub struct Query {
    pub id: u64,
    pub what: String,
    /// The stream it came by; closed when that has ended.
    pub reply: mpsc::Sender<v1::AgentMessage>,
}

/// How the connection is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkStatus {
    /// The controller last tried.
    pub controller: String,
    pub connected: bool,
    /// Since when that is so; absent before the first attempt ended.
    pub since: Option<Instant>,
    /// Why the last stream or attempt ended.
    pub last_error: Option<String>,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UplinkError {
    #[error("{path} cannot be read", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} is no token", path = path.display())]
    Token { path: PathBuf },
    #[error("controller {0:?} is not https://HOST:PORT")]
    NotHttps(String),
    #[error("connecting failed")]
    Connect(#[from] tonic::transport::Error),
    #[error("no answer within {CONNECT_TIMEOUT:?}")]
    NoAnswer,
    #[error("the controller ended the stream: {}: {}", .0.code(), .0.message())]
    Status(Box<tonic::Status>),
    #[error("the controller is too old")]
    TooOld(#[from] TooOld),
    #[error("a batch came before any snapshot")]
    BatchBeforeSnapshot,
    #[error("the end of a snapshot came without its begin")]
    EndBeforeBegin,
    #[error("a snapshot of what differs came, and nothing was told to be held")]
    NothingHeld,
    #[error("a snapshot names a bucket that there is not")]
    NoBucket(#[from] NoBucket),
    #[error(
        "a snapshot of what differs led to something else than it should, and there is no telling the controller"
    )]
    Differs,
    #[error("a snapshot is larger than {limit} bytes")]
    SnapshotTooLarge { limit: usize },
    #[error("the controller takes this agent for node {theirs:?}, it is {ours:?}")]
    OtherNode { theirs: String, ours: String },
    #[error("the reconciler is gone")]
    Stopped,
}

impl From<tonic::Status> for UplinkError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Its snapshot was handed on.
    synced: bool,
    /// A snapshot of what differs could not be used, and no whole one has come since.
    doubted: bool,
}

/// Everything the uplink is connected to inside the agent.
#[derive(Debug)]
pub struct Uplink {
    pub config: UplinkConfig,
    pub events: mpsc::Sender<Event>,
    pub queries: mpsc::Sender<Query>,
    /// Where to ask what is in force.
    pub asks: mpsc::Sender<Ask>,
    pub outbox: Outbox,
    pub picture: watch::Receiver<Option<Arc<SwitchState>>>,
    pub status: watch::Sender<UplinkStatus>,
}

impl Uplink {
    /// Connects and follows, again and again, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        // patience only: without OVSDB the controller is told no version
        let picture = self.picture.wait_for(Option::is_some);
        drop(tokio::time::timeout(VERSION_PATIENCE, picture).await);

        let mut backoff = Backoff::new(self.config.backoff.0, self.config.backoff.1);
        let mut replicas = Replicas::new(&self.config);
        let mut progress = Progress::default();
        for number in 1.. {
            let replica = replicas.next(&self.config).await;
            let controller = replica.to_string();
            progress.synced = false;
            let ended = Box::pin(self.follow(&replica, number, &mut progress)).await;
            let error = match ended {
                Ok(()) => "the controller ended the stream".to_owned(),
                Err(UplinkError::Stopped) => return,
                Err(error) => chain(&error),
            };
            if progress.synced {
                backoff.reset();
                info!(%controller, %error, "the controller is away; the last state stays in force");
            } else {
                warn!(%controller, %error, "no state from the controller");
            }
            self.status.send_modify(|status| {
                let since = status.since.filter(|_| !status.connected);
                *status = UplinkStatus {
                    controller,
                    connected: false,
                    since: Some(since.unwrap_or_else(Instant::now)),
                    last_error: Some(error),
                };
            });
            backoff.wait().await;
        }
    }

    async fn follow(
        &self,
        replica: &Replica,
        number: u64,
        progress: &mut Progress,
    ) -> Result<(), UplinkError> {
        let (channel, token) = self.connect(replica).await?;
        // after all waiting: nothing changes it before this stream does
        let held = if progress.doubted { None } else { self.held().await };
        let version = self.picture.borrow().as_ref().map(|p| p.system.ovs_version.clone());
        let hello = v1::Hello {
            node: self.config.node.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: weir_api::version::PROTOCOL,
            ovs_version: version.unwrap_or_default(),
            holdings: held.as_ref().map(|held| held.to_proto()),
        };
        let stream = stream::open(channel, hello, token).await?;
        info!(controller = %replica, "connected to the controller");
        self.status.send_replace(UplinkStatus {
            controller: replica.to_string(),
            connected: true,
            since: Some(Instant::now()),
            last_error: None,
        });
        stream.run(number, self, held, progress).await
    }

    /// What is in force, if that is known exactly.
    async fn held(&self) -> Option<Box<Held>> {
        let (reply, state) = oneshot::channel();
        let state = async {
            self.asks.send(Ask::Held(reply)).await.ok()?;
            state.await.ok()?
        };
        let Ok(state) = tokio::time::timeout(HELD_PATIENCE, state).await else {
            debug!("what is in force is not to be known now; the controller will tell everything");
            return None;
        };
        let state = state?;
        // every object is encoded and hashed
        tokio::task::spawn_blocking(|| Box::new(Held::new(state))).await.ok()
    }

    async fn connect(
        &self,
        replica: &Replica,
    ) -> Result<(Channel, Option<AsciiMetadataValue>), UplinkError> {
        let not_https = || UplinkError::NotHttps(replica.url.clone());
        // policies are not to be had in the clear, nor from whoever answers
        if !replica.url.starts_with("https://") {
            return Err(not_https());
        }
        let ca = read(&self.config.ca).await?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        let mut token = None;
        match &self.config.credentials {
            Credentials::Certificate { cert, key } => {
                tls = tls.identity(Identity::from_pem(read(cert).await?, read(key).await?));
            }
            Credentials::Token(path) => token = Some(bearer(path).await?),
        }
        if let Some(name) = self.config.server_name.as_ref().or(replica.host.as_ref()) {
            tls = tls.domain_name(name);
        }
        let endpoint = Endpoint::from_shared(replica.target())
            .map_err(|_| not_https())?
            .tls_config(tls)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PROBE_INTERVAL)
            .keep_alive_timeout(PROBE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        // connect_timeout is for TCP alone
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect());
        Ok((connecting.await.map_err(|_| UplinkError::NoAnswer)??, token))
    }
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, UplinkError> {
    let file = |source| UplinkError::File { path: path.clone(), source };
    tokio::fs::read(path).await.map_err(file)
}

/// `Bearer TOKEN`.
async fn bearer(path: &PathBuf) -> Result<AsciiMetadataValue, UplinkError> {
    let no_token = || UplinkError::Token { path: path.clone() };
    let text = String::from_utf8(read(path).await?).map_err(|_| no_token())?;
    let text = text.trim();
    if text.is_empty() {
        return Err(no_token());
    }
    let mut value: AsciiMetadataValue = format!("Bearer {text}").parse().map_err(|_| no_token())?;
    // not to be shown by whoever prints the request
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
