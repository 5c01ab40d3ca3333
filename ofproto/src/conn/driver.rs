//! Reading, writing and watching, as one future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::handshake::{Shaken, split_frame};
use super::pending::{Delivery, Shared};
use super::{ConnError, Event};
use crate::bundle::BundleControlType;
use crate::header::Header;
use crate::message::{Message, kind};
use crate::multipart::{MultipartBody, MultipartReply};
use crate::types::VERSION;

/// Frames, or runs of frames, that may wait for the writer: enough to keep the socket busy, little enough that a
/// caller feels a slow switch.
const WRITER_CAPACITY: usize = 32;
/// Echoes that may wait for the writer; a switch that sends more without reading gets no answer to the rest.
const ECHO_CAPACITY: usize = 16;
/// Room made for each read.
const READ_SIZE: usize = 128 << 10;

/// The future that carries a connection. It ends with `Ok` when all handles are gone, with an error when the
/// connection is lost; dropping it ends the connection.
///
/// Errors: [`ConnError::Io`], [`ConnError::Eof`], [`ConnError::Framing`], [`ConnError::Unresponsive`].
#[must_use = "a connection does nothing unless its driver is polled"]
pub struct Driver {
    future: Pin<Box<dyn Future<Output = Result<(), ConnError>> + Send>>,
    end: End,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Driver {
    pub(super) fn new<S>(
        shaken: Shaken<S>,
        shared: Arc<Shared>,
        events: mpsc::Sender<Event>,
    ) -> (Self, mpsc::Sender<Bytes>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (writer, frames) = mpsc::channel(WRITER_CAPACITY);
        let (echoes, echo_frames) = mpsc::channel(ECHO_CAPACITY);
        let end = End { shared: Arc::clone(&shared), events: Some(events.clone()) };
        let Shaken { stream, buffer, early, .. } = shaken;
        let future = Box::pin(async move {
            let (read_half, write_half) = tokio::io::split(stream);
            let shared_by_reader = Arc::clone(&shared);
            let reader =
                Reader { shared: shared_by_reader, events, lost: 0, echoes: echoes.clone() };
            // Whichever ends first ends all.
            tokio::select! {
                ended = reader.run(read_half, buffer, early) => ended,
                ended = write(write_half, frames, echo_frames) => ended,
                ended = watch(&shared, echoes) => ended,
            }
        });
        (Self { future, end }, writer)
    }
}

impl Future for Driver {
    type Output = Result<(), ConnError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = std::task::ready!(self.future.as_mut().poll(context));
        let reason = match &ended {
            Ok(()) => "all handles dropped".to_owned(),
            Err(error) => match std::error::Error::source(error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
        };
        // The socket and the event queue end now, not when the driver is dropped.
        self.future = Box::pin(std::future::pending());
        self.end.now(&reason);
        Poll::Ready(ended)
    }
}

/// Ends whatever waits, once, also when the driver is dropped.
struct End {
    shared: Arc<Shared>,
    events: Option<mpsc::Sender<Event>>,
}

impl End {
    fn now(&mut self, reason: &str) {
        self.shared.end(reason);
        if let Some(events) = self.events.take() {
            // A full queue ends without the word; the end of the channel says the same.
            let _ = events.try_send(Event::Closed { reason: reason.to_owned() });
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.events.is_some() {
            self.now("driver dropped");
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    /// Events dropped since the caller was told of some.
    lost: u64,
    echoes: mpsc::Sender<Bytes>,
}

impl Reader {
    async fn run(
        mut self,
        mut stream: impl AsyncRead + Unpin,
        mut buffer: BytesMut,
        early: Vec<Bytes>,
    ) -> Result<(), ConnError> {
        for frame in early {
            self.take(&frame).await;
        }
        loop {
            while let Some(frame) = split_frame(&mut buffer)? {
                self.take(&frame).await;
            }
            // The caller may have made room since the last event.
            self.tell_of_lost();
            buffer.reserve(READ_SIZE);
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(ConnError::Eof);
            }
        }
    }

    /// Handles one frame. It waits only for a stream that has no room, and not for long.
    async fn take(&mut self, frame: &Bytes) {
        self.shared.received.fetch_add(1, Ordering::Relaxed);
        let (xid, delivery) = match self.as_it_is(frame) {
            Some(delivered) => delivered,
            None => match Message::decode(frame) {
                Ok((xid, Message::EchoRequest(data))) => return self.answer(xid, data),
                Ok((xid, message)) => (xid, self.shared.deliver(xid, message, frame.len())),
                Err(error) => self.malformed(frame, error),
            },
        };
        match delivery {
            Delivery::Taken => {}
            Delivery::Unclaimed(message) => self.unclaimed(xid, message),
            Delivery::Full(parts, part) => {
                let patience = self.shared.options.echo_interval;
                if tokio::time::timeout(patience, parts.send(part)).await.is_err() {
                    // With the last sender gone, the stream ends and says why.
                    self.shared.forget(xid);
                    tracing::warn!(xid, "nobody takes the parts of a reply; giving it up");
                }
            }
        }
    }

    /// A part of a reply that whoever asked for it decodes, or does not.
    fn as_it_is(&self, frame: &Bytes) -> Option<(u32, Delivery)> {
        let header = Header::decode(*frame.first_chunk()?).ok()?;
        if (header.version, header.typ) != (VERSION, kind::MULTIPART_REPLY) {
            return None;
        }
        Some((header.xid, self.shared.deliver_frame(header.xid, frame)?))
    }

    fn unclaimed(&mut self, xid: u32, message: Message) {
        let event = match message {
            Message::PacketIn(packet) => Event::PacketIn(packet),
            Message::PacketIn2(packet) => Event::PacketIn2(packet),
            Message::PortStatus(status) => Event::PortStatus(status),
            Message::FlowRemoved(removed) => Event::FlowRemoved(removed),
            // With xid 0 nobody has asked for it: that is how a flow monitor tells of changes.
            Message::MultipartReply(MultipartReply {
                flags: 0,
                body: MultipartBody::FlowMonitor(updates),
            }) if xid == 0 => Event::FlowMonitor(updates),
            Message::MultipartReply(update) if xid == 0 => Event::Update(update),
            // Replies to what was given up. The answer to an echo of ours has said all it has to say by coming.
            Message::MultipartReply(_)
            | Message::BarrierReply
            | Message::FeaturesReply(_)
            | Message::GetConfigReply(_) => {
                self.shared.late_replies.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Message::EchoReply(_) => return,
            Message::BundleControl(control) if control.typ == BundleControlType::DISCARD_REPLY => {
                return;
            }
            Message::Error(error) => {
                let refused = Message::decode(&error.data).ok().map(|(_, message)| message);
                tracing::warn!(xid, %error, ?refused, "switch refused a message nobody waits for");
                Event::Error { xid, error }
            }
            message => Event::Other { xid, message },
        };
        self.tell_of_lost();
        // Nothing comes before the word of what is missing.
        let told = self.lost == 0;
        if !told || matches!(self.events.try_send(event), Err(mpsc::error::TrySendError::Full(_))) {
            self.lost += 1;
            self.shared.dropped_events.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells the caller of events that were dropped, in their place in the queue, once there is room.
    fn tell_of_lost(&mut self) {
        if self.lost > 0 && self.events.try_send(Event::Lost { count: self.lost }).is_ok() {
            self.lost = 0;
        }
    }

    fn answer(&self, xid: u32, data: Bytes) {
        let mut out = BytesMut::new();
        if Message::EchoReply(data).encode(xid, &mut out).is_ok() {
            // See ECHO_CAPACITY.
            let _ = self.echoes.try_send(out.freeze());
        }
    }

    fn malformed(&self, frame: &Bytes, error: crate::DecodeError) -> (u32, Delivery) {
        self.shared.count_malformed(frame, &error);
        let header = frame.first_chunk::<{ Header::LEN }>().and_then(|h| Header::decode(*h).ok());
        let Some(header) = header else { return (0, Delivery::Taken) };
        if header.version == VERSION && header.xid != 0 {
            return (header.xid, self.shared.fail(header.xid, error.into()));
        }
        (header.xid, Delivery::Taken)
    }
}

/// Writes frames as they come, echoes first.
async fn write(
    mut stream: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Bytes>,
    mut echoes: mpsc::Receiver<Bytes>,
) -> Result<(), ConnError> {
    loop {
        let frame = tokio::select! {
            biased;
            Some(echo) = echoes.recv() => Some(echo),
            frame = frames.recv() => frame,
        };
        let Some(frame) = frame else {
            stream.shutdown().await?;
            return Ok(());
        };
        stream.write_all(&frame).await?;
        if frames.is_empty() {
            stream.flush().await?;
        }
    }
}

/// Sends an echo after each interval without a frame; gives up after two that nothing followed.
async fn watch(shared: &Shared, echoes: mpsc::Sender<Bytes>) -> Result<(), ConnError> {
    let mut seen = shared.received.load(Ordering::Relaxed);
    let mut missed = 0;
    loop {
        tokio::time::sleep(shared.options.echo_interval).await;
        let received = shared.received.load(Ordering::Relaxed);
        if received != seen {
            (seen, missed) = (received, 0);
            continue;
        }
        if missed == 2 {
            return Err(ConnError::Unresponsive);
        }
        missed += 1;
        let mut echo = BytesMut::new();
        Message::EchoRequest(Bytes::new()).encode(shared.allocate(1), &mut echo)?;
        // With the queue full, the writer is stuck, and that is what is being watched for.
        let _ = echoes.try_send(echo.freeze());
    }
}
