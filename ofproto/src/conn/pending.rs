//! Who waits for which xid.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use super::batch::BatchState;
use super::{ConnError, Options};
use crate::error_msg::ErrorMsg;
use crate::features::FeaturesReply;
use crate::message::{Message, kind};
use crate::multipart::{MORE, MultipartReply, Reassembly};

/// Parts of a stream that may wait for the caller: enough that reading and decoding overlap with what the caller does.
const STREAM_CAPACITY: usize = 8;

/// What the handles and the driver share.
pub(super) struct Shared {
    pub(super) features: FeaturesReply,
    pub(super) options: Options,
    pub(super) dropped_events: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) late_replies: AtomicU64,
    /// Frames received, for the driver to know that the switch lives.
    pub(super) received: AtomicU32,
    state: Mutex<State>,
}

struct State {
    next_xid: u32,
    /// By the first xid of each.
    waiting: BTreeMap<u32, Entry>,
    /// Why the connection has ended.
    ended: Option<String>,
}

enum Entry {
    One { reply: oneshot::Sender<Result<Message, ConnError>>, parts: Reassembly },
    Bundle(Arc<BundleState>),
    Batch(Arc<BatchState>),
    Stream { parts: mpsc::Sender<Part>, raw: bool },
}

/// What a stream is given.
pub(super) type Part = Result<Body, ConnError>;

/// One part of a reply, as its stream wants it.
#[derive(Debug)]
pub(super) enum Body {
    Values(MultipartReply),
    /// The whole message, not looked at.
    Frame(Bytes),
}

impl Body {
    /// Whether more parts follow.
    pub(super) fn more(&self) -> bool {
        match self {
            Self::Values(part) => part.more(),
            // The low byte of the flags, behind header and type.
            Self::Frame(frame) => frame.get(11).is_some_and(|flags| u16::from(*flags) & MORE != 0),
        }
    }
}

/// What became of a message.
pub(super) enum Delivery {
    /// Somebody waited for it.
    Taken,
    /// Nobody did.
    Unclaimed(Message),
    /// It belongs to a stream that has no room for it now.
    Full(mpsc::Sender<Part>, Part),
}

impl Shared {
    pub(super) fn new(features: FeaturesReply, options: Options) -> Self {
        Self {
            features,
            options,
            dropped_events: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            late_replies: AtomicU64::new(0),
            received: AtomicU32::new(0),
            state: Mutex::new(State { next_xid: 0x100, waiting: BTreeMap::new(), ended: None }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first of `n` consecutive xids. Zero is never among them: it marks what nobody asked for.
    pub(super) fn allocate(&self, n: u32) -> u32 {
        let mut state = self.state();
        let first = match state.next_xid.checked_add(n) {
            Some(_) => state.next_xid,
            None => 1,
        };
        state.next_xid = first.saturating_add(n).max(1);
        first
    }

    /// Registers a request, before it is sent.
    pub(super) fn wait_for(&self, xid: u32) -> Waiting<'_> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.ended.is_none() {
            let entry = Entry::One { reply: sender, parts: Reassembly::new() };
            state.waiting.insert(xid, entry);
        }
        drop(state);
        Waiting { shared: self, xid, receiver }
    }

    /// Registers a bundle of `n` additions: OPEN has the first xid, the additions follow, then CLOSE, COMMIT and
    /// DISCARD.
    pub(super) fn wait_for_bundle(&self, first: u32, n: u32) -> Arc<BundleState> {
        let bundle = Arc::new(BundleState {
            first,
            n,
            inner: Mutex::new(BundleInner::default()),
            changed: Notify::new(),
        });
        let mut state = self.state();
        if state.ended.is_some() {
            bundle.end();
        } else {
            state.waiting.insert(first, Entry::Bundle(Arc::clone(&bundle)));
        }
        bundle
    }

    /// Registers messages without answers, `n` of them from `first` on, and the barrier behind them.
    pub(super) fn wait_for_batch(&self, first: u32, n: u32) -> Arc<BatchState> {
        let batch = Arc::new(BatchState::new(first, n));
        let mut state = self.state();
        if state.ended.is_some() {
            batch.end();
        } else {
            state.waiting.insert(first, Entry::Batch(Arc::clone(&batch)));
        }
        batch
    }

    /// Registers a request whose reply is wanted part by part, with `raw` not decoded.
    pub(super) fn wait_for_parts(&self, xid: u32, raw: bool) -> mpsc::Receiver<Part> {
        let (sender, receiver) = mpsc::channel(STREAM_CAPACITY);
        let mut state = self.state();
        if state.ended.is_none() {
            state.waiting.insert(xid, Entry::Stream { parts: sender, raw });
        }
        receiver
    }

    pub(super) fn forget(&self, xid: u32) {
        self.state().waiting.remove(&xid);
    }

    /// Gives a message to whoever waits for it.
    pub(super) fn deliver(&self, xid: u32, message: Message, bytes: usize) -> Delivery {
        let mut state = self.state();
        let Some((&first, entry)) = state.waiting.range_mut(..=xid).next_back() else {
            return Delivery::Unclaimed(message);
        };
        let offset = xid - first;
        match entry {
            Entry::Bundle(bundle) if offset < bundle.xids() => {
                bundle.deliver(xid, message).map_or(Delivery::Taken, Delivery::Unclaimed)
            }
            Entry::Batch(batch) if offset < batch.xids() => {
                batch.deliver(offset, message).map_or(Delivery::Taken, Delivery::Unclaimed)
            }
            Entry::Stream { parts, .. } if offset == 0 => {
                let part = match message {
                    Message::MultipartReply(part) => Ok(Body::Values(part)),
                    Message::Error(error) => {
                        Err(ConnError::Refused { xid, request: kind::MULTIPART_REQUEST, error })
                    }
                    other => Err(super::unexpected("multipart reply", &other)),
                };
                let parts = parts.clone();
                if !part.as_ref().is_ok_and(Body::more) {
                    state.waiting.remove(&xid);
                }
                offer(parts, part)
            }
            Entry::One { parts, .. } if offset == 0 => {
                let outcome = match message {
                    Message::MultipartReply(part) => match parts.push(part, bytes) {
                        Ok(None) => return Delivery::Taken,
                        Ok(Some(body)) => {
                            Ok(Message::MultipartReply(MultipartReply { flags: 0, body }))
                        }
                        Err(error) => Err(error.into()),
                    },
                    message => Ok(message),
                };
                if let Some(Entry::One { reply, .. }) = state.waiting.remove(&xid) {
                    // The caller may have given up; then the reply is of no use to anyone.
                    let _ = reply.send(outcome);
                }
                Delivery::Taken
            }
            _ => Delivery::Unclaimed(message),
        }
    }

    /// Gives the frame of a multipart reply to the stream that wants it as it is, if there is one.
    pub(super) fn deliver_frame(&self, xid: u32, frame: &Bytes) -> Option<Delivery> {
        let mut state = self.state();
        let Some(Entry::Stream { parts, raw: true }) = state.waiting.get(&xid) else { return None };
        let (parts, part) = (parts.clone(), Body::Frame(frame.clone()));
        if !part.more() {
            state.waiting.remove(&xid);
        }
        Some(offer(parts, Ok(part)))
    }

    /// Fails whoever waits for a message that could not be decoded. A bundle or batch is not failed by it: what it
    /// misses, it misses until its time is up.
    pub(super) fn fail(&self, xid: u32, error: ConnError) -> Delivery {
        let mut state = self.state();
        match state.waiting.get(&xid) {
            Some(Entry::One { .. } | Entry::Stream { .. }) => {}
            _ => return Delivery::Taken,
        }
        match state.waiting.remove(&xid) {
            Some(Entry::One { reply, .. }) => {
                // As above.
                let _ = reply.send(Err(error));
                Delivery::Taken
            }
            Some(Entry::Stream { parts, .. }) => offer(parts, Err(error)),
            _ => Delivery::Taken,
        }
    }

    /// Ends everything that waits.
    pub(super) fn end(&self, reason: &str) {
        let mut state = self.state();
        state.ended.get_or_insert_with(|| reason.to_owned());
        // Dropping the senders wakes the callers.
        for entry in std::mem::take(&mut state.waiting).into_values() {
            match entry {
                Entry::Bundle(bundle) => bundle.end(),
                Entry::Batch(batch) => batch.end(),
                Entry::One { .. } | Entry::Stream { .. } => {}
            }
        }
    }

    /// Whether the connection has ended.
    pub(super) fn ended(&self) -> bool {
        self.state().ended.is_some()
    }

    /// The error of a request that meets a connection that has ended.
    pub(super) fn closed(&self) -> ConnError {
        let reason = self.state().ended.clone();
        ConnError::Closed { reason: reason.unwrap_or_else(|| "driver dropped".to_owned()) }
    }
}

fn offer(parts: mpsc::Sender<Part>, part: Part) -> Delivery {
    match parts.try_send(part) {
        Err(mpsc::error::TrySendError::Full(part)) => Delivery::Full(parts, part),
        // The caller may have dropped the stream.
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Delivery::Taken,
    }
}

/// A registered request; forgets itself when dropped.
pub(super) struct Waiting<'a> {
    shared: &'a Shared,
    xid: u32,
    receiver: oneshot::Receiver<Result<Message, ConnError>>,
}

impl Waiting<'_> {
    pub(super) fn xid(&self) -> u32 {
        self.xid
    }

    pub(super) async fn reply(&mut self) -> Result<Message, ConnError> {
        match (&mut self.receiver).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.shared.closed()),
        }
    }

    /// The reply, if it has come.
    pub(super) fn ready(&mut self) -> Option<Message> {
        self.receiver.try_recv().ok().and_then(Result::ok)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.forget(self.xid);
    }
}

/// A control message of a bundle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Open,
    Close,
    Commit,
    Discard,
}

/// What has come back for one bundle. The first refusal is kept and no other, so that it stays small whatever the
/// switch sends.
pub(super) struct BundleState {
    first: u32,
    n: u32,
    inner: Mutex<BundleInner>,
    changed: Notify,
}

/// What came back for a control message.
type Answer = Option<Result<(), ErrorMsg>>;

#[derive(Default)]
struct BundleInner {
    refused: Option<(usize, ErrorMsg)>,
    open: Answer,
    close: Answer,
    commit: Answer,
    discard: Answer,
    ended: bool,
}

impl BundleInner {
    fn answer(&mut self, control: Control) -> &mut Answer {
        match control {
            Control::Open => &mut self.open,
            Control::Close => &mut self.close,
            Control::Commit => &mut self.commit,
            Control::Discard => &mut self.discard,
        }
    }
}

impl BundleState {
    /// xids of a bundle beside its additions.
    pub(super) const CONTROLS: u32 = 4;

    fn xids(&self) -> u32 {
        self.n.saturating_add(Self::CONTROLS)
    }

    pub(super) fn xid(&self, control: Control) -> u32 {
        match control {
            Control::Open => self.first,
            Control::Close => self.first + self.n + 1,
            Control::Commit => self.first + self.n + 2,
            Control::Discard => self.first + self.n + 3,
        }
    }

    fn inner(&self) -> MutexGuard<'_, BundleInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message for one of the bundle's xids; back if a bundle does not expect its kind.
    fn deliver(&self, xid: u32, message: Message) -> Option<Message> {
        let offset = xid - self.first;
        let control = match offset.checked_sub(self.n) {
            _ if offset == 0 => Some(Control::Open),
            Some(1) => Some(Control::Close),
            Some(2) => Some(Control::Commit),
            Some(3) => Some(Control::Discard),
            _ => None,
        };
        let mut inner = self.inner();
        match (control, message) {
            (Some(control), Message::Error(error)) => {
                *inner.answer(control) = Some(Err(error));
            }
            (Some(control), Message::BundleControl(_)) => {
                *inner.answer(control) = Some(Ok(()));
            }
            (None, Message::Error(error)) => {
                let index = offset as usize - 1;
                if inner.refused.as_ref().is_none_or(|(first, _)| index < *first) {
                    inner.refused = Some((index, error));
                }
            }
            (_, message) => return Some(message),
        }
        drop(inner);
        self.changed.notify_one();
        None
    }

    fn end(&self) {
        self.inner().ended = true;
        self.changed.notify_one();
    }

    /// The first addition the switch refused.
    pub(super) fn refused(&self) -> Option<(usize, ErrorMsg)> {
        self.inner().refused.clone()
    }

    /// The refusal of a control message, if it has come.
    pub(super) fn failed(&self, control: Control) -> Option<ErrorMsg> {
        self.inner().answer(control).as_ref().and_then(|a| a.clone().err())
    }

    /// Waits for the answer to a control message; `None` when the connection has ended.
    pub(super) async fn answer(&self, control: Control) -> Option<Result<(), ErrorMsg>> {
        loop {
            {
                let mut inner = self.inner();
                if let Some(answer) = inner.answer(control) {
                    return Some(answer.clone());
                }
                if inner.ended {
                    return None;
                }
            }
            // One waiter only, and `notify_one` keeps its permit: no change is missed.
            self.changed.notified().await;
        }
    }
}
