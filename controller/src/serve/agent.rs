//! Streams of agents.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::{Notify, mpsc, watch};
use tonic::{Code, Request, Response, Status, Streaming};
use weir_api::convert::frames;
use weir_api::holdings::{Hashes, ObjectHash};
use weir_api::v1::agent_message::Kind as FromAgent;
use weir_api::v1::controller_message::Kind as ToAgent;
use weir_api::v1::distribution_server::Distribution;
use weir_api::v1::{self, AgentMessage, ControllerMessage};
use weir_api::version;

use super::body::{Body, Out};
use super::refusals::About;
use super::{Context, HELLO_TIMEOUT, Identity};
use crate::publish::{Counters, Delta, HubGone, Question, Session, SubscribeError, Subscription};
use crate::status::Hello;

/// Size at which a part of a snapshot is full. Units: bytes.
const SNAPSHOT_PART: usize = 512 << 10;

/// Objects that are hashed before others have their turn: about a tenth of a millisecond.
const HASH_PART: usize = 512;

/// How long a tool may take to read a part of an answer before the agent goes on without it.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// What an agent says of itself is kept and shown: not more than this of it. Units: characters.
const MAX_VERSION: usize = 100;

/// The service for agents.
#[derive(Debug)]
pub(super) struct Agents {
    context: Context,
}

impl Agents {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Distribution for Agents {
    type FollowStream = Body<ControllerMessage>;

    async fn follow(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let Some(Identity::Node(node)) = request.extensions().get().cloned() else {
            return Err(Status::internal("a stream without a node"));
        };
        let context = self.context.clone();
        let inbound = request.into_inner();
        Ok(Response::new(Body::new(|out| follow(context, node, inbound, out))))
    }
}

/// Questions this stream has passed on, by number.
#[derive(Debug, Default)]
struct Questions {
    last: AtomicU64,
    open: Mutex<HashMap<u64, mpsc::Sender<Result<Bytes, String>>>>,
}

impl Questions {
    fn add(&self, parts: mpsc::Sender<Result<Bytes, String>>) -> u64 {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // whoever stopped waiting for an answer that never came
        open.retain(|_, parts| !parts.is_closed());
        open.insert(id, parts);
        id
    }

    fn part_of(&self, answer: &v1::Answer) -> Option<mpsc::Sender<Result<Bytes, String>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.last || !answer.error.is_empty() {
            open.remove(&answer.query)
        } else {
            open.get(&answer.query).cloned()
        }
    }

    fn forget(&self, query: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&query);
    }
}

async fn follow(
    context: Context,
    node: String,
    mut inbound: Streaming<AgentMessage>,
    out: Out<ControllerMessage>,
) -> Result<(), Status> {
    let (hello, holdings) = Box::pin(greet(&context, &node, &mut inbound)).await?;
    tracing::info!(%node, agent = %hello.agent_version, ovs = %hello.ovs_version, "agent connected");
    let session = Session {
        node: node.as_str().into(),
        hello,
        number: None,
        doubted: false,
        alive: Arc::default(),
    };
    let questions = Questions::default();
    // which subscription a report is about: none before the first
    let (current_tx, current_rx) = watch::channel(None);
    let doubts = Notify::new();
    let heard = Heard { questions: &questions, doubts: &doubts, current: current_rx };
    let result = tokio::select! {
        // both ways at once: an agent that waits for us to read must not keep us from writing
        end = read(&context, &node, &mut inbound, heard) => end,
        end = write(&context, session, holdings, &out, &questions, &doubts, &current_tx) => end,
        () = context.drain.cancelled() => Err(Status::unavailable("the controller is shutting down")),
    };
    match &result {
        Ok(()) => tracing::info!(%node, "agent disconnected"),
        Err(status) => {
            tracing::info!(%node, code = ?status.code(), reason = status.message(), "stream ended");
        }
    }
    result
}

/// The first message: who the agent is, what it speaks, and what it has already.
async fn greet(
    context: &Context,
    node: &str,
    inbound: &mut Streaming<AgentMessage>,
) -> Result<(Hello, Option<v1::Holdings>), Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no hello in time"))?;
    let first = first.map_err(|status| malformed(context, node, &status))?;
    let Some(FromAgent::Hello(hello)) = first.and_then(|m| m.kind) else {
        context.refusals.malformed.fetch_add(1, Ordering::Relaxed);
        return Err(Status::invalid_argument("the first message must be hello"));
    };
    if hello.node != node {
        context.refusals.wrong_node.fetch_add(1, Ordering::Relaxed);
        let reason =
            format!("the credentials are those of node {node}, hello says {:?}", cut(&hello.node));
        if let Some(more) = context.refusals.is_news(About::Node(node.to_owned()), &reason) {
            tracing::warn!(%reason, more, "refused: speaks for another node");
        }
        return Err(Status::permission_denied(reason));
    }
    version::agree(hello.protocol).map_err(|error| {
        context.refusals.version.fetch_add(1, Ordering::Relaxed);
        let reason = error.to_string();
        if let Some(more) = context.refusals.is_news(About::Node(node.to_owned()), &reason) {
            tracing::warn!(%node, %reason, more, "refused");
        }
        Status::failed_precondition(reason)
    })?;
    let (agent_version, ovs_version) = (cut(&hello.agent_version), cut(&hello.ovs_version));
    Ok((Hello { agent_version, ovs_version }, hello.holdings))
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_VERSION).collect()
}

/// A stream that cannot be read any more. The agent went away, or sent what nobody should.
fn malformed(context: &Context, node: &str, status: &Status) -> Status {
    match status.code() {
        Code::Internal | Code::OutOfRange | Code::ResourceExhausted => {
            context.refusals.malformed.fetch_add(1, Ordering::Relaxed);
            let (about, reason) = (About::Node(node.to_owned()), status.message());
            if let Some(more) = context.refusals.is_news(about, reason) {
                tracing::warn!(%node, reason, more, "malformed message, stream closed");
            }
            let code = match status.code() {
                Code::Internal => Code::InvalidArgument,
                code => code,
            };
            Status::new(code, status.message())
        }
        _ => status.clone(),
    }
}

/// What the half that reads tells the other.
struct Heard<'a> {
    questions: &'a Questions,
    doubts: &'a Notify,
    current: watch::Receiver<Option<(u32, u64)>>,
}

/// Takes what the agent says.
async fn read(
    context: &Context,
    node: &str,
    inbound: &mut Streaming<AgentMessage>,
    heard: Heard<'_>,
) -> Result<(), Status> {
    let Heard { questions, doubts, current } = heard;
    loop {
        let message =
            inbound.message().await.map_err(|status| malformed(context, node, &status))?;
        let Some(message) = message else {
            return Ok(());
        };
        match message.kind {
            Some(FromAgent::Realized(report)) => {
                // before the first subscription there is nothing it could be about
                let subscription = *current.borrow();
                if let Some((number, session)) = subscription {
                    let told = context.hub.realized(number, session, report);
                    Box::pin(told).await.map_err(gone)?;
                }
            }
            Some(FromAgent::Answer(answer)) => {
                let Some(parts) = questions.part_of(&answer) else {
                    continue;
                };
                let query = answer.query;
                let part =
                    if answer.error.is_empty() { Ok(answer.data) } else { Err(answer.error) };
                let sent = tokio::time::timeout(ANSWER_PATIENCE, parts.send(part)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    questions.forget(query);
                }
            }
            Some(FromAgent::SendAll(_)) => doubts.notify_one(),
            Some(FromAgent::Hello(_)) => {
                context.refusals.malformed.fetch_add(1, Ordering::Relaxed);
                return Err(Status::invalid_argument("hello comes first, and once"));
            }
            // of a later version
            None => {}
        }
    }
}

/// Tells the agent what it needs to know: a snapshot, what follows, and another snapshot when it fell behind.
async fn write(
    context: &Context,
    mut session: Session,
    mut holdings: Option<v1::Holdings>,
    out: &Out<ControllerMessage>,
    questions: &Questions,
    doubts: &Notify,
    current: &watch::Sender<Option<(u32, u64)>>,
) -> Result<(), Status> {
    context.hub.synced().await.map_err(gone)?;
    loop {
        let subscribing = Box::pin(context.hub.subscribe(session.clone()));
        let subscription = match subscribing.await {
            Ok(subscription) => subscription,
            Err(error @ SubscribeError::Superseded) => {
                return Err(Status::aborted(error.to_string()));
            }
            Err(SubscribeError::Gone(error)) => return Err(gone(error)),
        };
        session.number = Some(subscription.session);
        current.send_replace(Some((subscription.node, subscription.session)));
        // what it holds is known for the first time only
        let holdings = holdings.take();
        let Subscription { revision, snapshot, deltas, questions: asked, .. } = subscription;
        // in a box of its own, as a stream is without it nearly all of its life
        let partly = Box::pin(begin(context, revision, snapshot, holdings, out)).await?;
        session.doubted = tokio::select! {
            end = forward(context, deltas, asked, out, questions) => {
                end?;
                false
            }
            // once, as what is sent then is everything
            () = doubts.notified(), if partly => {
                tracing::warn!(
                    node = %session.node,
                    revision,
                    "what the agent holds after it was told the difference is something else; it is sent everything"
                );
                true
            }
        };
    }
}

/// Sends a snapshot: everything, or what differs from what the agent holds. Tells whether it was the second.
async fn begin(
    context: &Context,
    revision: u64,
    snapshot: Vec<Bytes>,
    holdings: Option<v1::Holdings>,
    out: &Out<ControllerMessage>,
) -> Result<bool, Status> {
    let mut objects: Vec<Bytes> = snapshot.into_iter().flat_map(frames).collect();
    let mut difference = None;
    if let Some(holdings) = holdings {
        let mut hashes = Vec::with_capacity(objects.len());
        for part in objects.chunks(HASH_PART) {
            hashes.extend(part.iter().map(|object| ObjectHash::of(object)));
            tokio::task::yield_now().await;
        }
        let all: Hashes = hashes.iter().copied().collect();
        difference = all.compare(&holdings).map(|difference| (difference, all.digest()));
        if let Some((difference, _)) = &difference {
            Counters::add(&context.hub.counters().snapshots_partial, 1);
            let mut hashes = hashes.iter();
            objects.retain(|_| hashes.next().is_some_and(|hash| difference.holds(hash)));
        }
    }
    let bytes = &context.sent.snapshot;
    let begin = v1::SnapshotBegin {
        revision,
        protocol: version::PROTOCOL,
        controller: context.name.to_string(),
        only: difference.as_ref().map(|(difference, _)| difference.to_proto()),
    };
    send(out, bytes, ToAgent::SnapshotBegin(begin)).await?;
    let empty = || v1::Batch { revision, changes: Vec::new() };
    let (mut part, mut size) = (empty(), 0);
    for object in objects {
        if size > 0 && size + object.len() > SNAPSHOT_PART {
            let full = std::mem::replace(&mut part, empty());
            send(out, bytes, ToAgent::Batch(full)).await?;
            size = 0;
        }
        size += object.len();
        part.changes.push(object);
    }
    if size > 0 {
        send(out, bytes, ToAgent::Batch(part)).await?;
    }
    let partly = difference.is_some();
    let digest = difference.map(|(_, digest)| Bytes::copy_from_slice(&digest));
    let end = v1::SnapshotEnd { revision, digest: digest.unwrap_or_default() };
    send(out, bytes, ToAgent::SnapshotEnd(end)).await?;
    Ok(partly)
}

/// Serves one subscription, after its snapshot, until it ends.
async fn forward(
    context: &Context,
    mut deltas: mpsc::Receiver<Box<Delta>>,
    mut asked: mpsc::Receiver<Box<Question>>,
    out: &Out<ControllerMessage>,
    questions: &Questions,
) -> Result<(), Status> {
    loop {
        tokio::select! {
            delta = deltas.recv() => {
                let Some(delta) = delta else {
                    return Ok(());
                };
                let batch = v1::Batch { revision: delta.revision, changes: delta.changes() };
                send(out, &context.sent.delta, ToAgent::Batch(batch)).await?;
            }
            Some(question) = asked.recv() => {
                let Question { what, parts } = *question;
                let id = questions.add(parts);
                send(out, &context.sent.query, ToAgent::Query(v1::Query { id, what })).await?;
            }
        }
    }
}

async fn send(
    out: &Out<ControllerMessage>,
    bytes: &AtomicU64,
    kind: ToAgent,
) -> Result<(), Status> {
    let message = ControllerMessage { kind: Some(kind) };
    bytes.fetch_add(message.encoded_len() as u64, Ordering::Relaxed);
    out.send(message).await
}

pub(super) fn gone(error: HubGone) -> Status {
    Status::unavailable(error.to_string())
}
