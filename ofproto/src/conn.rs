//! A connection to a switch.
//!
//! [`connect`] shakes hands and returns three things: a [`Connection`] to ask and tell with, cheap to clone; a
//! [`Driver`], the future that reads and writes and that the caller must poll (nothing is spawned here); and the
//! events the switch sends of its own accord.
//!
//! Reading and writing go on independently of each other inside the driver. OVS stops reading when about a hundred
//! replies wait for us, so a client that writes before it reads can block both for good.

mod bundle;
mod driver;
mod error;
mod handshake;
mod pending;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

pub use driver::Driver;
pub use error::{BundleError, ConnError};

use crate::error_msg::ErrorMsg;
use crate::features::FeaturesReply;
use crate::flow_mod::FlowMod;
use crate::flow_removed::FlowRemoved;
use crate::message::Message;
use crate::multipart::{
    AggregateStats, Desc, FlowStats, FlowStatsRequest, MultipartBody, MultipartReply,
    MultipartRequest, TableStats,
};
use crate::packet::PacketIn;
use crate::port_status::{PortDesc, PortStatus};
use pending::{Shared, Waiting};

/// Where a switch listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// `unix:PATH`, such as `unix:/var/run/openvswitch/br-int.mgmt`.
    Unix(PathBuf),
    /// `tcp:ADDRESS:PORT`, an IPv6 address in brackets.
    Tcp(SocketAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Text that is not a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither unix:PATH nor tcp:ADDRESS:PORT")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || TargetError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.strip_prefix("tcp:").ok_or_else(refuse)?;
        address.parse().map(Self::Tcp).map_err(|_| refuse())
    }
}

/// How a connection behaves. The defaults suit a local Open vSwitch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Bytes of a packet a packet-in carries. With 0, OVS sends no events over a service connection.
    pub miss_send_len: u16,
    /// What the whole bridge does with IP fragments, as in [`SwitchConfig::flags`](crate::SwitchConfig::flags).
    pub fragments: u16,
    /// Time for connecting and shaking hands.
    pub handshake_timeout: Duration,
    /// Time for the answer to a request; a dump counts as one.
    pub request_timeout: Duration,
    /// Time for each half of a bundle: up to its CLOSE, and its COMMIT.
    pub bundle_timeout: Duration,
    /// An echo is sent after this much silence; the connection is given up after two more.
    pub echo_interval: Duration,
    /// Events that may wait for the caller; more are dropped and counted.
    pub event_capacity: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            miss_send_len: u16::MAX,
            fragments: crate::config::FRAGMENTS_NORMAL,
            handshake_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            bundle_timeout: Duration::from_secs(30),
            echo_interval: Duration::from_secs(5),
            event_capacity: 1024,
        }
    }
}

/// What a switch sends of its own accord.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A packet for the controller.
    PacketIn(PacketIn),
    /// A port came, went or changed.
    PortStatus(PortStatus),
    /// A flow ended.
    FlowRemoved(FlowRemoved),
    /// A refusal of something sent without waiting for an answer.
    Error {
        /// The xid of what was refused.
        xid: u32,
        /// Why.
        error: ErrorMsg,
    },
    /// Any other message nobody waits for.
    Other {
        /// Its xid.
        xid: u32,
        /// The message.
        message: Message,
    },
    /// The connection has ended; nothing follows.
    Closed {
        /// Why.
        reason: String,
    },
}

/// A handle to ask and tell a switch. Clones share the connection; it ends when the last one is dropped.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    writer: mpsc::Sender<Bytes>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("features", &self.shared.features)
            .finish_non_exhaustive()
    }
}

/// Connects to a switch and shakes hands: HELLO, features, configuration.
///
/// Errors: [`ConnError::Connect`], [`ConnError::Timeout`], [`ConnError::NoCommonVersion`], and those of a broken
/// connection.
pub async fn connect(
    target: &Target,
    options: Options,
) -> Result<(Connection, Driver, mpsc::Receiver<Event>), ConnError> {
    let refused = |source| ConnError::Connect { target: target.to_string(), source };
    let timeout = options.handshake_timeout;
    let connecting = async {
        match target {
            Target::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(refused)?;
                connect_stream(stream, options).await
            }
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(refused)?;
                // Small requests must not wait for more to come.
                stream.set_nodelay(true).map_err(refused)?;
                connect_stream(stream, options).await
            }
        }
    };
    tokio::time::timeout(timeout, connecting)
        .await
        .unwrap_or(Err(ConnError::Timeout { what: "connection" }))
}

/// As [`connect`], over a stream that is already there.
///
/// Errors: as [`connect`].
pub async fn connect_stream<S>(
    stream: S,
    options: Options,
) -> Result<(Connection, Driver, mpsc::Receiver<Event>), ConnError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let timeout = options.handshake_timeout;
    let shaken = tokio::time::timeout(timeout, handshake::shake(stream, &options))
        .await
        .unwrap_or(Err(ConnError::Timeout { what: "handshake" }))?;
    let (events, receiver) = mpsc::channel(options.event_capacity.max(1));
    let shared = Arc::new(Shared::new(shaken.features, options));
    let (driver, writer) = Driver::new(shaken, Arc::clone(&shared), events);
    Ok((Connection { shared, writer }, driver, receiver))
}

impl Connection {
    /// What the switch said about itself.
    pub fn features(&self) -> &FeaturesReply {
        &self.shared.features
    }

    /// Events dropped because the caller did not take them in time.
    pub fn dropped_events(&self) -> u64 {
        self.shared.dropped_events.load(Ordering::Relaxed)
    }

    /// Messages from the switch that could not be decoded.
    pub fn malformed_messages(&self) -> u64 {
        self.shared.malformed.load(Ordering::Relaxed)
    }

    /// Sends a message that has an answer and waits for it; the parts of a multipart reply come as one.
    ///
    /// Errors: [`ConnError::Refused`] with the switch's error; [`ConnError::Timeout`]; [`ConnError::Closed`].
    pub async fn request(&self, message: Message) -> Result<Message, ConnError> {
        let waiting = self.start(&message).await?;
        self.finish(waiting, &message).await
    }

    async fn start(&self, message: &Message) -> Result<Waiting<'_>, ConnError> {
        let xid = self.shared.allocate(1);
        let mut frame = BytesMut::new();
        message.encode(xid, &mut frame)?;
        let waiting = self.shared.wait_for(xid);
        self.write(frame.freeze()).await?;
        Ok(waiting)
    }

    async fn finish(
        &self,
        mut waiting: Waiting<'_>,
        message: &Message,
    ) -> Result<Message, ConnError> {
        let reply = tokio::time::timeout(self.shared.options.request_timeout, waiting.reply())
            .await
            .unwrap_or(Err(ConnError::Timeout { what: "reply" }))?;
        match reply {
            Message::Error(error) => {
                Err(ConnError::Refused { xid: waiting.xid(), request: message.kind(), error })
            }
            reply => Ok(reply),
        }
    }

    /// Sends a message without waiting. A refusal comes as [`Event::Error`].
    ///
    /// Errors: [`ConnError::Encode`]; [`ConnError::Closed`].
    pub async fn send(&self, message: Message) -> Result<(), ConnError> {
        let mut frame = BytesMut::new();
        message.encode(self.shared.allocate(1), &mut frame)?;
        self.write(frame.freeze()).await
    }

    /// Sends a message that has no answer, and waits until the switch has carried it out.
    ///
    /// Errors: [`ConnError::Refused`] with the switch's error; else as [`Connection::request`].
    pub async fn apply(&self, message: Message) -> Result<(), ConnError> {
        let mut waiting = self.start(&message).await?;
        self.barrier().await?;
        match waiting.ready() {
            Some(Message::Error(error)) => {
                Err(ConnError::Refused { xid: waiting.xid(), request: message.kind(), error })
            }
            _ => Ok(()),
        }
    }

    /// Waits until the switch has carried out everything sent before.
    ///
    /// Errors: as [`Connection::request`].
    pub async fn barrier(&self) -> Result<(), ConnError> {
        match self.request(Message::BarrierRequest).await? {
            Message::BarrierReply => Ok(()),
            other => Err(unexpected("barrier reply", &other)),
        }
    }

    async fn multipart(&self, request: MultipartRequest) -> Result<MultipartBody, ConnError> {
        match self.request(Message::MultipartRequest(request)).await? {
            Message::MultipartReply(MultipartReply { body, .. }) => Ok(body),
            other => Err(unexpected("multipart reply", &other)),
        }
    }

    /// The flows a request means, with their counters.
    ///
    /// Errors: as [`Connection::request`].
    pub async fn dump_flows(&self, request: FlowStatsRequest) -> Result<Vec<FlowStats>, ConnError> {
        match self.multipart(MultipartRequest::Flow(request)).await? {
            MultipartBody::Flow(flows) => Ok(flows),
            _ => Err(ConnError::UnexpectedBody { expected: "flow statistics" }),
        }
    }

    /// The counters of the flows a request means, together.
    ///
    /// Errors: as [`Connection::request`].
    pub async fn aggregate(&self, request: FlowStatsRequest) -> Result<AggregateStats, ConnError> {
        match self.multipart(MultipartRequest::Aggregate(request)).await? {
            MultipartBody::Aggregate(stats) => Ok(stats),
            _ => Err(ConnError::UnexpectedBody { expected: "aggregate statistics" }),
        }
    }

    /// The counters of all tables.
    ///
    /// Errors: as [`Connection::request`].
    pub async fn table_stats(&self) -> Result<Vec<TableStats>, ConnError> {
        match self.multipart(MultipartRequest::Table).await? {
            MultipartBody::Table(tables) => Ok(tables),
            _ => Err(ConnError::UnexpectedBody { expected: "table statistics" }),
        }
    }

    /// The ports of the switch.
    ///
    /// Errors: as [`Connection::request`].
    pub async fn port_desc(&self) -> Result<Vec<PortDesc>, ConnError> {
        match self.multipart(MultipartRequest::PortDesc).await? {
            MultipartBody::PortDesc(ports) => Ok(ports),
            _ => Err(ConnError::UnexpectedBody { expected: "port descriptions" }),
        }
    }

    /// Who made the switch, and its version.
    ///
    /// Errors: as [`Connection::request`].
    pub async fn desc(&self) -> Result<Desc, ConnError> {
        match self.multipart(MultipartRequest::Desc).await? {
            MultipartBody::Desc(desc) => Ok(*desc),
            _ => Err(ConnError::UnexpectedBody { expected: "description" }),
        }
    }

    /// Carries out all of `mods`, in order and at once, or none of them.
    ///
    /// Packets see the tables before or after, never in between. When the future is dropped before the commit was
    /// sent, the bundle is discarded.
    ///
    /// Errors: [`BundleError`]; only [`BundleError::Unknown`] leaves open whether the tables have changed.
    pub async fn bundle(&self, mods: &[FlowMod]) -> Result<(), BundleError> {
        bundle::run(self, mods).await
    }

    /// Hands a frame, or several back to back, to the writer.
    async fn write(&self, frames: Bytes) -> Result<(), ConnError> {
        self.writer.send(frames).await.map_err(|_| self.shared.closed())
    }
}

fn unexpected(expected: &'static str, got: &Message) -> ConnError {
    ConnError::Unexpected { expected, got: got.kind() }
}
