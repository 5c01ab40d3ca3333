//! A connection to a switch.
//!
//! [`connect`] shakes hands and returns three things: a [`Connection`] to ask and tell with, cheap to clone; a
//! [`Driver`], the future that reads and writes and that the caller must poll (nothing is spawned here); and the
//! events the switch sends of its own accord.
//!
//! Reading and writing go on independently of each other inside the driver. OVS stops reading when about a hundred
//! replies wait for us, so a client that writes before it reads can block both for good.
//!
//! | to change flows | all or nothing | on an error | for |
//! |---|---|---|---|
//! | [`Connection::bundle`] | yes, and packets see no mix | nothing has changed | changes that belong together, anything with conjunctions |
//! | [`Connection::bundles`] | each chunk | chunks before it have taken effect | a large synchronisation beside other users |
//! | [`Connection::batch`] | no | all others have taken effect | filling a table that nothing leads to yet |
//! | [`Connection::apply`] | one message | it had no effect | groups, meters, single flows |
//! | [`Connection::send`] | one message | comes as [`Event::Error`] | packet-outs |
//!
//! [`Reconnect`] makes one connection after another, with a back-off.

mod batch;
mod bundle;
mod driver;
mod dump;
mod error;
mod handshake;
mod pending;
mod reconnect;
mod stream;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
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
pub use error::{BatchError, BundleError, ChunkError, ConnError, Refusal};
pub use reconnect::{Backoff, Generation, Reconnect};
pub use stream::{FlowEntryStream, FlowStream, MultipartStream};

use crate::error::EncodeError;
use crate::error_msg::ErrorMsg;
use crate::features::FeaturesReply;
use crate::flow_mod::FlowMod;
use crate::flow_removed::FlowRemoved;
use crate::message::Message;
use crate::multipart::{
    AggregateStats, Desc, FlowStats, FlowStatsRequest, FlowUpdate, MultipartBody, MultipartReply,
    MultipartRequest, TableStats,
};
use crate::packet::PacketIn;
use crate::packet_in2::PacketIn2;
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
    /// Time for the answer to a request, and for the room to send it in; a dump counts as one.
    pub request_timeout: Duration,
    /// Time for each half of a bundle: up to its CLOSE, and its COMMIT. Also for a batch.
    pub bundle_timeout: Duration,
    /// An echo is sent after this much silence; the connection is given up after two more.
    pub echo_interval: Duration,
    /// Events that may wait for the caller; more are dropped and counted, see [`Event::Lost`].
    pub event_capacity: usize,
    /// Whether packets come as `NXT_PACKET_IN2`, with the userdata and continuation of the `controller` action, instead
    /// of the specification's packet-in.
    pub packet_in2: bool,
    /// The id that `controller(id=N)` actions mean; 0, which every connection begins with, sends nothing.
    pub controller_id: u16,
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
            packet_in2: false,
            controller_id: 0,
        }
    }
}

/// What a switch sends of its own accord.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A packet for the controller.
    PacketIn(PacketIn),
    /// The same with userdata and continuation, see [`Options::packet_in2`]. A paused one goes on by
    /// [`Message::Resume`] with [`PacketIn2::to_resume`].
    PacketIn2(PacketIn2),
    /// A port came, went or changed.
    PortStatus(PortStatus),
    /// A flow ended.
    FlowRemoved(FlowRemoved),
    /// Changes to flows, as a flow monitor tells of them: one bundle's all together.
    FlowMonitor(Vec<FlowUpdate>),
    /// Any other part of a multipart reply with xid 0, which nobody has asked for.
    Update(MultipartReply),
    /// Events were dropped here, as the caller had not taken enough before: what they would have told must be asked.
    Lost {
        /// How many.
        count: u64,
    },
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

    /// Replies that came when nobody waited for them any more.
    pub fn late_replies(&self) -> u64 {
        self.shared.late_replies.load(Ordering::Relaxed)
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
    /// Errors: [`ConnError::Encode`]; [`ConnError::Timeout`] where the switch does not read; [`ConnError::Closed`].
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
        dump::flows(self, request).await
    }

    /// The flows a request means, as they come: memory for a few parts, whatever the number of flows.
    ///
    /// Errors: [`ConnError::Encode`]; [`ConnError::Closed`]; the stream's own.
    pub async fn stream_flows(&self, request: FlowStatsRequest) -> Result<FlowStream, ConnError> {
        self.stream(MultipartRequest::Flow(request)).await.map(FlowStream::new)
    }

    /// As [`Connection::stream_flows`], without decoding the flows: each is read where and as far as the caller looks.
    ///
    /// Errors: as [`Connection::stream_flows`].
    pub async fn stream_flow_entries(
        &self,
        request: FlowStatsRequest,
    ) -> Result<FlowEntryStream, ConnError> {
        self.stream(MultipartRequest::Flow(request)).await.map(FlowEntryStream::new)
    }

    /// The parts of any multipart reply, as they come.
    ///
    /// Errors: [`ConnError::Encode`]; [`ConnError::Closed`]; the stream's own.
    pub async fn stream(&self, request: MultipartRequest) -> Result<MultipartStream, ConnError> {
        let xid = self.shared.allocate(1);
        let mut frame = BytesMut::new();
        Message::MultipartRequest(request).encode(xid, &mut frame)?;
        // Made first, so that it forgets the xid whatever happens.
        let parts = self.shared.wait_for_parts(xid);
        let stream = MultipartStream::new(self.clone(), xid, parts);
        self.write(frame.freeze()).await?;
        Ok(stream)
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

    /// As [`Connection::bundle`], of flow mods, group mods and whatever else the switch takes into a bundle (of meters,
    /// tables and barriers OVS takes none).
    ///
    /// Errors: as [`Connection::bundle`].
    pub async fn bundle_messages(&self, messages: &[Message]) -> Result<(), BundleError> {
        bundle::run(self, messages).await
    }

    /// Carries out `mods` in order, in one bundle for every `size` of them: each of these all or nothing, the whole not.
    ///
    /// A bundle of 100,000 flows holds up other users of the switch for some 0.2 s, one of 1,000 for 10 ms.
    ///
    /// Errors: [`ChunkError`], which tells how much was committed before.
    pub async fn bundles(&self, mods: &[FlowMod], size: NonZeroUsize) -> Result<(), ChunkError> {
        let mut committed = 0;
        for chunk in mods.chunks(size.get()) {
            bundle::run(self, chunk).await.map_err(|source| ChunkError {
                committed,
                tried: chunk.len(),
                source: source.shifted(committed),
            })?;
            committed += chunk.len();
        }
        Ok(())
    }

    /// Carries out each of `mods` by itself, in order, as fast as the switch takes them: one barrier behind all.
    ///
    /// Errors: [`BatchError`]; with [`BatchError::Refused`], those not refused have taken effect. When the future is
    /// dropped, any number of them has.
    pub async fn batch(&self, mods: &[FlowMod]) -> Result<(), BatchError> {
        batch::run(self, mods).await
    }

    /// Hands a frame, or several back to back, to the writer. A switch that lives and does not read is waited for only
    /// as long as for an answer.
    async fn write(&self, frames: Bytes) -> Result<(), ConnError> {
        let sending = self.writer.send(frames);
        match tokio::time::timeout(self.shared.options.request_timeout, sending).await {
            Ok(sent) => sent.map_err(|_| self.shared.closed()),
            Err(_) => Err(ConnError::Timeout { what: "room to send" }),
        }
    }
}

fn unexpected(expected: &'static str, got: &Message) -> ConnError {
    ConnError::Unexpected { expected, got: got.kind() }
}

/// Bytes handed to the writer at once, so that echoes come in between.
const CHUNK: usize = 64 << 10;

/// The xids for so many messages, with room for what is sent beside them.
fn xids(messages: usize) -> Result<u32, EncodeError> {
    const LIMIT: u32 = u32::MAX / 2;
    u32::try_from(messages).ok().filter(|n| *n < LIMIT).ok_or(EncodeError::TooLong {
        what: "list of messages",
        length: messages,
        limit: LIMIT as usize,
    })
}
