//! The one task that owns the index: events in, batches out to the streams that follow.
//!
//! What several streams need is encoded once and shared: what waits for a stream are numbers of pieces of the batch.
//! A stream that does not keep up loses its queue and takes a fresh snapshot when it can, so that it holds up nobody and
//! costs no memory meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use weir_api::convert::{frame_lengths, frames};
use weir_api::v1;
use weir_api::version::MAX_TO_AGENT;
use weir_policy::ids::{PolicyKey, Str};
use weir_runtime::metrics::Seconds;

use crate::index::{Index, News, NodeSet, Output, Sizes, View};
use crate::metrics::EventCounts;
use crate::source::{Batch, Code, Intake};
use crate::status::{Hello, Page, Tracker};

mod handle;

pub use handle::{Handle, HubGone};

/// Batches that may wait for one stream. At a batch per event this is some seconds of a busy cluster; whoever is further
/// behind is served better by a snapshot.
pub const DELTA_QUEUE: usize = 64;

/// Requests of all streams that may wait. One that finds no room waits itself, and holds up only its own stream.
pub const REQUEST_QUEUE: usize = 1024;

/// Questions that may wait for one stream.
pub const QUERY_QUEUE: usize = 16;

/// A delta above this is not sent: a snapshot, which comes in parts, says the same. Units: bytes.
const MAX_DELTA: usize = MAX_TO_AGENT / 2;

/// One batch on its way to one node.
#[derive(Clone, Debug)]
pub struct Delta {
    pub revision: u64,
    /// What the batch has for anybody: pieces, each of one or more frames of changes.
    all: Arc<Vec<Bytes>>,
    /// Which of these are for this node.
    mine: Picks,
}

impl Delta {
    /// The encoded changes, in order.
    pub fn changes(&self) -> Vec<Bytes> {
        let runs = self.mine.0.iter().map(|run| &self.all[run.clone()]);
        runs.flatten().cloned().flat_map(frames).collect()
    }
}

/// Ascending numbers, of which many follow each other: what one event changes is for the most part the same for all nodes
/// that it touches. A list of references for each would take a thousand times 64 KiB when a policy brings a thousand
/// peers to a thousand nodes, and as much for each batch that waits for somebody who does not read.
#[derive(Clone, Debug, Default)]
struct Picks(SmallVec<[Range<usize>; 2]>);

impl Picks {
    /// Adds numbers above all that there are.
    fn push(&mut self, numbers: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.end == numbers.start => last.end = numbers.end,
            _ => self.0.push(numbers),
        }
    }
}

/// A question for an agent. Its answer goes into `parts` in order; dropping that ends it.
#[derive(Debug)]
pub struct Question {
    pub what: String,
    pub parts: mpsc::Sender<Result<Bytes, String>>,
}

/// Everything of a node, and what follows.
#[derive(Debug)]
pub struct Subscription {
    pub node: u32,
    pub session: u64,
    pub revision: u64,
    /// Pieces: frames of encoded changes ([`weir_api::convert::frames`]).
    pub snapshot: Vec<Bytes>,
    /// Ends when this stream was too slow, or another one took its place. These and the questions are in boxes, as an idle
    /// stream has room for 32 of what its channels are of.
    pub deltas: mpsc::Receiver<Box<Delta>>,
    pub questions: mpsc::Receiver<Box<Question>>,
}

/// Why a stream gets no subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    #[error("a newer stream of this node took over")]
    Superseded,
    #[error(transparent)]
    Gone(#[from] HubGone),
}

/// Why a question cannot be passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    #[error("node {0} is not connected")]
    NotConnected(String),
    #[error("node {0} has too many questions to answer, try again")]
    Busy(String),
    #[error(transparent)]
    Gone(#[from] HubGone),
}

/// A stream of an agent, as long as it lives.
#[derive(Clone, Debug)]
pub struct Session {
    pub node: Str,
    pub hello: Hello,
    /// Given by the first subscription.
    pub number: Option<u64>,
    /// What the agent made of a snapshot of what differs was not the state it should have.
    pub doubted: bool,
    /// The hub holds it weakly, and thereby knows when the stream ends.
    pub alive: Arc<()>,
}

#[derive(Debug)]
enum Request {
    Subscribe { session: Session, reply: oneshot::Sender<Result<Subscription, SubscribeError>> },
    Realized { node: u32, session: u64, at: Instant, report: v1::Realized },
    View(oneshot::Sender<View>),
    Status(oneshot::Sender<v1::StatusReply>),
    Policies { from: usize, limit: usize, reply: oneshot::Sender<Page> },
    Told { keys: Vec<PolicyKey>, nodes: bool, reply: oneshot::Sender<v1::ToldReply> },
    Missing { keys: Vec<PolicyKey>, reply: oneshot::Sender<Vec<PolicyKey>> },
    Ask { node: String, question: Question, reply: oneshot::Sender<Result<(), QuestionError>> },
}

/// What happened so far; read by whoever wants to know.
#[derive(Debug, Default)]
pub struct Counters {
    pub batches: AtomicU64,
    pub changes_encoded: AtomicU64,
    pub bytes_encoded: AtomicU64,
    pub deltas_sent: AtomicU64,
    /// Streams that did not keep up.
    pub streams_behind: AtomicU64,
    /// Snapshots for streams that began.
    pub snapshots_new: AtomicU64,
    /// Of these, the ones of what differs from what the agent held.
    pub snapshots_partial: AtomicU64,
    /// Snapshots for agents that were told what differs, and have something else than they should.
    pub snapshots_doubted: AtomicU64,
    /// Snapshots for streams that did not keep up.
    pub snapshots_slow: AtomicU64,
    /// Reports of agents.
    pub reports: AtomicU64,
    /// Writes of status objects.
    pub status_writes: AtomicU64,
    pub events: EventCounts,
    /// From a change seen by the source to its deltas in the queues of streams.
    pub event_duration: Seconds,
    /// Of the index alone.
    pub compute_duration: Seconds,
    /// From a change of a policy to the acknowledgement of one node.
    pub realization: Seconds,
}

/// Sizes at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub revision: u64,
    pub synced: bool,
    pub sizes: Sizes,
    pub streams: usize,
    /// Of these, the ones that wait for a snapshot because they did not keep up.
    pub behind: usize,
    /// Batches that wait for the index.
    pub waiting: usize,
    /// Workloads that claim an address which something else has.
    pub refused: usize,
}

struct Subscriber {
    session: u64,
    alive: Weak<()>,
    /// Absent while the stream is behind and has not taken its snapshot.
    deltas: Option<mpsc::Sender<Box<Delta>>>,
    questions: mpsc::Sender<Box<Question>>,
}

/// Owns the index.
pub struct Hub {
    index: Index,
    intake: Intake,
    requests: mpsc::Receiver<Request>,
    subscribers: HashMap<u32, Subscriber>,
    /// Nodes with a subscriber that has a queue.
    following: NodeSet,
    sessions: u64,
    tracker: Tracker,
    source: String,
    counters: Arc<Counters>,
    summary: watch::Sender<Summary>,
}

impl Hub {
    /// A hub that reads from `intake`; `source` is its name for people.
    pub fn new(intake: Intake, source: &str) -> (Self, Handle) {
        let (request_tx, request_rx) = mpsc::channel(REQUEST_QUEUE);
        let (summary_tx, summary_rx) = watch::channel(Summary::default());
        let counters = Arc::new(Counters::default());
        let waits_for = intake.waits_for.clone();
        let warnings = intake.warnings.clone();
        let hub = Self {
            index: Index::new(),
            intake,
            requests: request_rx,
            subscribers: HashMap::new(),
            following: NodeSet::new(),
            sessions: 0,
            tracker: Tracker::default(),
            source: source.to_owned(),
            counters: Arc::clone(&counters),
            summary: summary_tx,
        };
        (hub, Handle::new(request_tx, summary_rx, waits_for, counters, warnings))
    }

    /// Runs until the source or all handles are gone.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                // changes before questions: whoever asks then gets the newest answer
                biased;
                batch = self.intake.batches.recv() => match batch {
                    Some(batch) => self.take(batch),
                    None => return,
                },
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request),
                    None => return,
                },
            }
            self.summarise();
        }
    }

    fn summarise(&self) {
        let alive = |s: &&Subscriber| s.alive.strong_count() > 0;
        let summary = Summary {
            revision: self.index.revision(),
            synced: self.index.is_synced(),
            sizes: self.index.sizes(),
            streams: self.subscribers.values().filter(alive).count(),
            behind: self.subscribers.values().filter(alive).filter(|s| s.deltas.is_none()).count(),
            waiting: self.intake.batches.len(),
            refused: self.index.refused(),
        };
        self.summary.send_if_modified(|old| std::mem::replace(old, summary) != summary);
    }

    fn take(&mut self, batch: Batch) {
        for event in &batch.events {
            self.counters.events.add(event);
        }
        let start = Instant::now();
        let output = self.index.apply(batch.events);
        self.counters.compute_duration.observe(start.elapsed());
        Counters::add(&self.counters.batches, 1);
        self.note_refusals();
        self.tracker.sent(&output, batch.at, &self.index);
        self.send(output);
        self.counters.event_duration.observe(batch.at.elapsed());
    }

    /// Says which addresses workloads claim in vain, each once.
    fn note_refusals(&mut self) {
        for refusal in self.index.new_refusals() {
            tracing::warn!("{refusal}");
        }
    }

    fn send(&mut self, output: Output) {
        let mut all = Vec::new();
        let mut batches: BTreeMap<u32, (usize, Picks)> = BTreeMap::new();
        for delivery in &output.deliveries {
            let nodes = &delivery.nodes & &self.following;
            if nodes.is_empty() {
                continue;
            }
            let pieces = self.encode(&delivery.news);
            let bytes: usize = pieces.iter().map(Bytes::len).sum();
            let numbers = all.len()..all.len() + pieces.len();
            all.extend(pieces);
            for node in nodes {
                let (size, mine) = batches.entry(node).or_default();
                *size += bytes;
                mine.push(numbers.clone());
            }
        }
        let all = Arc::new(all);
        for (node, (size, mine)) in batches {
            let Some(subscriber) = self.subscribers.get_mut(&node) else {
                continue;
            };
            let Some(deltas) = &subscriber.deltas else {
                continue;
            };
            let delta = Box::new(Delta { revision: output.revision, all: Arc::clone(&all), mine });
            let sent = if size > MAX_DELTA {
                Err(TrySendError::Full(delta))
            } else {
                deltas.try_send(delta)
            };
            match sent {
                Ok(()) => Counters::add(&self.counters.deltas_sent, 1),
                Err(error) => {
                    if matches!(error, TrySendError::Full(_)) {
                        Counters::add(&self.counters.streams_behind, 1);
                        let name = self.index.node_name(node);
                        tracing::info!(node = %name, "stream is behind, it will get a snapshot");
                    }
                    subscriber.deltas = None;
                    self.following.remove(node);
                }
            }
        }
    }

    fn encode(&self, news: &News) -> SmallVec<[Bytes; 1]> {
        let pieces = news.to_frames();
        let (mut changes, mut bytes) = (0, 0);
        for length in pieces.iter().flat_map(|piece| frame_lengths(piece)) {
            changes += 1;
            bytes += length as u64;
        }
        Counters::add(&self.counters.changes_encoded, changes);
        Counters::add(&self.counters.bytes_encoded, bytes);
        pieces
    }

    /// Whoever asked may be gone by now, which is its own affair: a reply that nobody takes is dropped.
    fn answer(&mut self, request: Request) {
        match request {
            Request::Subscribe { session, reply } => {
                let _ = reply.send(self.subscribe(session));
            }
            Request::Realized { node, session, at, report } => {
                Counters::add(&self.counters.reports, 1);
                if self.subscribers.get(&node).is_some_and(|s| s.session == session) {
                    let took = self.tracker.realized(node, at, report, &self.index);
                    for took in took {
                        self.counters.realization.observe(took);
                    }
                }
            }
            Request::View(reply) => {
                let _ = reply.send(self.index.view());
            }
            Request::Status(reply) => {
                let subscribers = &self.subscribers;
                let connected =
                    |n: u32| subscribers.get(&n).is_some_and(|s| s.alive.strong_count() > 0);
                let mut status = self.tracker.status(&self.index, connected);
                status.source.clone_from(&self.source);
                let warnings = self.intake.warnings.borrow().iter().cloned().collect::<Vec<_>>();
                status.warnings.extend(warnings.into_iter().map(|w| v1::Warning {
                    code: w.code.as_str().to_owned(),
                    object: w.object,
                    field: w.field,
                    message: w.message,
                }));
                status.warnings.extend(self.index.refusals().into_iter().map(|r| v1::Warning {
                    code: Code::AddressTaken.as_str().to_owned(),
                    message: r.reason(),
                    object: r.object,
                    field: r.field,
                }));
                let _ = reply.send(status);
            }
            Request::Policies { from, limit, reply } => {
                let subscribers = &self.subscribers;
                let connected =
                    |n: u32| subscribers.get(&n).is_some_and(|s| s.alive.strong_count() > 0);
                let _ = reply.send(self.tracker.page(&self.index, from, limit, connected));
            }
            Request::Told { keys, nodes, reply } => {
                let connected: BTreeSet<u32> = self
                    .subscribers
                    .iter()
                    .filter(|(_, s)| s.alive.strong_count() > 0)
                    .map(|(node, _)| *node)
                    .collect();
                let mut told = self.tracker.told(&self.index, &keys, nodes, &connected);
                // grows by one with each thing that can make a difference
                let gone = self.sessions * 2 - connected.len() as u64;
                let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                told.mark = read(&self.counters.batches) + read(&self.counters.reports) + gone;
                let _ = reply.send(told);
            }
            Request::Missing { mut keys, reply } => {
                keys.retain(|key| !self.index.has_policy(key));
                let _ = reply.send(keys);
            }
            Request::Ask { node, question, reply } => {
                let _ = reply.send(self.ask(node, question));
            }
        }
    }

    fn subscribe(&mut self, session: Session) -> Result<Subscription, SubscribeError> {
        let node = self.index.node_number(&session.node);
        let number = match session.number {
            // the same stream again
            Some(number) => {
                if self.subscribers.get(&node).is_none_or(|s| s.session != number) {
                    return Err(SubscribeError::Superseded);
                }
                let counter = match session.doubted {
                    true => &self.counters.snapshots_doubted,
                    false => &self.counters.snapshots_slow,
                };
                Counters::add(counter, 1);
                number
            }
            None => {
                self.sessions += 1;
                Counters::add(&self.counters.snapshots_new, 1);
                self.sessions
            }
        };
        let (delta_tx, delta_rx) = mpsc::channel(DELTA_QUEUE);
        let (question_tx, question_rx) = mpsc::channel(QUERY_QUEUE);
        self.tracker.subscribed(node, session.hello, self.index.revision());
        self.following.insert(node);
        self.subscribers.insert(
            node,
            Subscriber {
                session: number,
                alive: Arc::downgrade(&session.alive),
                deltas: Some(delta_tx),
                questions: question_tx,
            },
        );
        Ok(Subscription {
            node,
            session: number,
            revision: self.index.revision(),
            snapshot: self.index.snapshot(node),
            deltas: delta_rx,
            questions: question_rx,
        })
    }

    fn ask(&self, node: String, question: Question) -> Result<(), QuestionError> {
        let number = self.index.find_node(&node);
        let subscriber =
            number.and_then(|n| self.subscribers.get(&n)).filter(|s| s.alive.strong_count() > 0);
        let Some(subscriber) = subscriber else {
            return Err(QuestionError::NotConnected(node));
        };
        subscriber.questions.try_send(Box::new(question)).map_err(|error| match error {
            TrySendError::Full(_) => QuestionError::Busy(node),
            TrySendError::Closed(_) => QuestionError::NotConnected(node),
        })
    }
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whichever news are for a node, it gets all changes of these, in order.
        #[test]
        fn a_delta_gives_what_was_picked(
            news in vec((any::<bool>(), vec(vec(vec(any::<u8>(), 0..9), 1..4), 1..3)), 0..100),
        ) {
            let (mut all, mut mine, mut wanted) = (Vec::new(), Picks::default(), Vec::new());
            for (is_mine, pieces) in &news {
                if *is_mine {
                    mine.push(all.len()..all.len() + pieces.len());
                    wanted.extend(pieces.iter().flatten().cloned().map(Bytes::from));
                }
                // texts this short have a length of one byte
                let frame = |text: &Vec<u8>| {
                    let length = u8::try_from(text.len()).unwrap();
                    [&[length][..], text].concat()
                };
                let piece = |texts: &Vec<Vec<u8>>| texts.iter().flat_map(frame).collect();
                all.extend(pieces.iter().map(piece));
            }
            let picks: Vec<bool> = news.iter().map(|(is_mine, _)| *is_mine).collect();
            let starts = picks.iter().zip(std::iter::once(&false).chain(&picks));
            prop_assert_eq!(mine.0.len(), starts.filter(|(is, was)| **is && !**was).count());
            let delta = Delta { revision: 1, all: Arc::new(all), mine };
            prop_assert_eq!(delta.changes(), wanted);
        }
    }
}
