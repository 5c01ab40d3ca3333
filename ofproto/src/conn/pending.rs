//! Who waits for which xid.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use super::batch::BatchState;
use super::dump::{Body, DumpState};
use super::{ConnError, Options};
use crate::error::DecodeError;
use crate::error_msg::ErrorMsg;
use crate::features::FeaturesReply;
use crate::header::Header;
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
    Stream(mpsc::Sender<Part>),
    Dump(Arc<DumpState>),
}

impl Entry {
    /// xids from the first on that belong to it.
    fn xids(&self) -> u32 {
        match self {
            Self::Bundle(bundle) => bundle.xids(),
            Self::Batch(batch) => batch.xids(),
            Self::One { .. } | Self::Stream(_) | Self::Dump(_) => 1,
        }
    }
}

/// What a stream is given: a multipart reply as it came.
pub(super) type Part = Result<Bytes, ConnError>;

/// Whether more parts follow this multipart reply.
pub(super) fn more(frame: &Bytes) -> bool {
    // The low byte of the flags, behind header and type.
    frame.get(11).is_some_and(|flags| u16::from(*flags) & MORE != 0)
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

impl State {
    fn fail(&mut self, xid: u32, error: ConnError) -> Delivery {
        match self.waiting.remove(&xid) {
            Some(Entry::One { reply, .. }) => {
                // The caller may have given up; then the error is of no use to anyone.
                let _ = reply.send(Err(error));
            }
            Some(Entry::Stream(parts)) => return offer(parts, Err(error)),
            Some(Entry::Dump(dump)) => {
                dump.push(Err(error), 0);
            }
            // These have been failed in place.
            Some(Entry::Bundle(_) | Entry::Batch(_)) | None => {}
        }
        Delivery::Taken
    }
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

    /// The first of `n` consecutive xids, which nobody waits for. Zero is never among them: it marks what nobody asked
    /// for.
    pub(super) fn allocate(&self, n: u32) -> u32 {
        let mut state = self.state();
        let mut first = state.next_xid;
        let mut again = false;
        loop {
            let end = match first.checked_add(n) {
                Some(end) => end,
                // Behind the last xid it begins again.
                None if !again => {
                    (first, again) = (1, true);
                    continue;
                }
                // No such gap anywhere.
                None => {
                    state.next_xid = n.saturating_add(1);
                    return 1;
                }
            };
            let below = state.waiting.range(..end).next_back();
            match below.map(|(taken, entry)| taken.saturating_add(entry.xids())) {
                Some(behind) if behind > first => first = behind,
                _ => {
                    state.next_xid = end;
                    return first;
                }
            }
        }
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

    /// Registers a request for flows, all of which are wanted at the end.
    pub(super) fn wait_for_dump(&self, xid: u32) -> Arc<DumpState> {
        let dump = Arc::new(DumpState::default());
        let mut state = self.state();
        if state.ended.is_some() {
            dump.end();
        } else {
            state.waiting.insert(xid, Entry::Dump(Arc::clone(&dump)));
        }
        dump
    }

    /// Registers a request whose reply is wanted part by part.
    pub(super) fn wait_for_parts(&self, xid: u32) -> mpsc::Receiver<Part> {
        let (sender, receiver) = mpsc::channel(STREAM_CAPACITY);
        let mut state = self.state();
        if state.ended.is_none() {
            state.waiting.insert(xid, Entry::Stream(sender));
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
            Entry::Stream(parts) if offset == 0 => {
                let parts = parts.clone();
                state.waiting.remove(&xid);
                offer(parts, Err(no_part(xid, message)))
            }
            Entry::Dump(dump) if offset == 0 => {
                let part = match message {
                    Message::MultipartReply(part) => Ok(Body::Values(part)),
                    other => Err(no_part(xid, other)),
                };
                if !dump.push(part, bytes) {
                    state.waiting.remove(&xid);
                }
                Delivery::Taken
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

    /// Gives the frame of a multipart reply to whoever is to decode it, if that is not the driver.
    pub(super) fn deliver_frame(&self, xid: u32, frame: &Bytes) -> Option<Delivery> {
        let mut state = self.state();
        let (delivered, more) = match state.waiting.get(&xid)? {
            Entry::Stream(parts) => (offer(parts.clone(), Ok(frame.clone())), more(frame)),
            Entry::Dump(dump) if !dump.is_behind() => {
                (Delivery::Taken, dump.push(Ok(Body::Frame(frame.clone())), frame.len()))
            }
            _ => return None,
        };
        if !more {
            state.waiting.remove(&xid);
        }
        Some(delivered)
    }

    /// Fails whoever waits for a message that could not be decoded: it may have been a refusal.
    pub(super) fn fail(&self, xid: u32, error: ConnError) -> Delivery {
        let mut state = self.state();
        if let Some((&first, entry)) = state.waiting.range(..=xid).next_back() {
            match entry {
                Entry::Bundle(bundle) if xid - first < bundle.xids() => bundle.fail(error),
                Entry::Batch(batch) if xid - first < batch.xids() => batch.fail(error),
                _ if xid == first => return state.fail(xid, error),
                _ => {}
            }
        }
        Delivery::Taken
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
                Entry::Dump(dump) => dump.end(),
                Entry::One { .. } | Entry::Stream(_) => {}
            }
        }
    }

    /// Counts and reports a message that could not be decoded.
    pub(super) fn count_malformed(&self, frame: &Bytes, error: &DecodeError) {
        let count = self.malformed.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let header = frame.first_chunk::<{ Header::LEN }>().and_then(|h| Header::decode(*h).ok());
        // Of a flood of them, one line for each power of two.
        if let Some(header) = header
            && count.is_power_of_two()
        {
            tracing::warn!(
                typ = header.typ, xid = header.xid, length = header.length, count,
                %error, "malformed message from the switch"
            );
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

/// What a message that is no part of a reply means to whoever waits for one.
fn no_part(xid: u32, message: Message) -> ConnError {
    match message {
        Message::Error(error) => {
            ConnError::Refused { xid, request: kind::MULTIPART_REQUEST, error }
        }
        other => super::unexpected("multipart reply", &other),
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
    /// A message for it that could not be decoded.
    malformed: Option<ConnError>,
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

    fn fail(&self, error: ConnError) {
        self.inner().malformed.get_or_insert(error);
        self.changed.notify_one();
    }

    /// Why nobody can know what the switch refused, if so. Told once.
    pub(super) fn malformed(&self) -> Option<ConnError> {
        self.inner().malformed.take()
    }

    /// The first addition the switch refused.
    pub(super) fn refused(&self) -> Option<(usize, ErrorMsg)> {
        self.inner().refused.clone()
    }

    /// The refusal of a control message, if it has come.
    pub(super) fn failed(&self, control: Control) -> Option<ErrorMsg> {
        self.inner().answer(control).as_ref().and_then(|a| a.clone().err())
    }

    /// Waits for the answer to a control message; `None` when the connection has ended, or a message for this bundle
    /// could not be decoded.
    pub(super) async fn answer(&self, control: Control) -> Option<Result<(), ErrorMsg>> {
        loop {
            {
                let mut inner = self.inner();
                if let Some(answer) = inner.answer(control) {
                    return Some(answer.clone());
                }
                if inner.ended || inner.malformed.is_some() {
                    return None;
                }
            }
            // One waiter only, and `notify_one` keeps its permit: no change is missed.
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behind the last xid they begin again; what somebody still waits for is passed by, so that no answer goes astray.
    #[test]
    fn xids_that_are_waited_for_are_not_given_again() {
        let shared = Shared::new(FeaturesReply::default(), Options::default());
        let long = shared.allocate(1);
        let _parts = shared.wait_for_parts(long);
        let batch = shared.allocate(11);
        let _batch = shared.wait_for_batch(batch, 10);
        shared.state().next_xid = u32::MAX - 5;
        // No room before the end, and none of the old ones in between.
        let first = shared.allocate(100);
        assert_eq!(first, 1);
        assert_eq!(shared.allocate(long - 102), 101);
        assert_eq!(shared.allocate(1), long - 1);
        let behind = batch + 11;
        assert_eq!(shared.allocate(3), behind);
        shared.state().next_xid = 1;
        assert_eq!(shared.allocate(1 << 20), behind);
        shared.forget(long);
        shared.forget(batch);
        shared.state().next_xid = long;
        assert_eq!(shared.allocate(20), long);
    }
}
