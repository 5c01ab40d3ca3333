//! One stream from the controller, from hello to its end.

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use weir_api::holdings::{Hashes, Held};
use weir_api::v1;
use weir_api::v1::distribution_client::DistributionClient;
use weir_api::version::{MAX_TO_AGENT, MAX_TO_CONTROLLER, agree};
use weir_policy::state::{Change, NodeState};

use super::decode::{self, Refusal};
use super::{CONNECT_TIMEOUT, Event, OUTBOUND, Progress, Query, Uplink, UplinkError, What};

/// The most that a snapshot may hold in encoded changes: a hundred times what 100,000 endpoints take. Units: bytes.
const MAX_SNAPSHOT: usize = 1 << 30;

/// A stream that the controller has answered.
pub(super) struct Stream {
    inbound: Streaming<v1::ControllerMessage>,
    outbound: mpsc::Sender<v1::AgentMessage>,
}

/// Says hello and waits for the controller to take us.
pub(super) async fn open(
    channel: Channel,
    hello: v1::Hello,
    token: Option<AsciiMetadataValue>,
) -> Result<Stream, UplinkError> {
    let (outbound, messages) = mpsc::channel(OUTBOUND);
    let hello = v1::AgentMessage { kind: Some(v1::agent_message::Kind::Hello(hello)) };
    // an empty queue has room for it
    outbound.try_send(hello).map_err(|_| UplinkError::Stopped)?;
    let mut client = DistributionClient::new(channel)
        .max_decoding_message_size(MAX_TO_AGENT)
        .max_encoding_message_size(MAX_TO_CONTROLLER);
    let mut request = Request::new(ReceiverStream::new(messages));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", token);
    }
    let answer = client.follow(request);
    let answer = tokio::time::timeout(CONNECT_TIMEOUT, answer)
        .await
        .map_err(|_| UplinkError::NoAnswer)??;
    Ok(Stream { inbound: answer.into_inner(), outbound })
}

impl Stream {
    /// Reads and writes until either end is done. `held` is what the hello told of.
    pub(super) async fn run(
        self,
        number: u64,
        uplink: &Uplink,
        held: Option<Box<Held>>,
        progress: &mut Progress,
    ) -> Result<(), UplinkError> {
        let Self { inbound, outbound } = self;
        // Side by side: a controller that does not read our reports must not keep us from reading its changes.
        tokio::select! {
            ended = read(inbound, number, uplink, &outbound, held, progress) => ended,
            () = uplink.outbox.drain(number, &outbound) => Ok(()),
        }
    }
}

async fn read(
    mut inbound: Streaming<v1::ControllerMessage>,
    number: u64,
    uplink: &Uplink,
    outbound: &mpsc::Sender<v1::AgentMessage>,
    mut held: Option<Box<Held>>,
    progress: &mut Progress,
) -> Result<(), UplinkError> {
    use v1::controller_message::Kind;
    let mut assembly: Option<Assembly> = None;
    // everything was asked for, and what comes before it is about a state that we have not
    let mut skip = false;
    while let Some(message) = inbound.message().await? {
        let event = match message.kind {
            Some(Kind::SnapshotBegin(begin)) => {
                agree(begin.protocol)?;
                tracing::debug!(revision = begin.revision, by = begin.controller, "a snapshot");
                skip = false;
                // what was held is of use for the first snapshot only
                let held = held.take();
                assembly = Some(match &begin.only {
                    None => Assembly::default(),
                    Some(buckets) => {
                        progress.doubted = true;
                        let held = held.ok_or(UplinkError::NothingHeld)?;
                        Assembly {
                            state: held.without(buckets)?,
                            partial: true,
                            ..Assembly::default()
                        }
                    }
                });
                continue;
            }
            Some(Kind::Batch(batch)) => match &mut assembly {
                Some(assembly) => {
                    assembly.add(&batch)?;
                    continue;
                }
                None if skip => continue,
                None if progress.synced => delta(number, &batch, &uplink.config.node)?,
                None => return Err(UplinkError::BatchBeforeSnapshot),
            },
            Some(Kind::SnapshotEnd(end)) => {
                let assembly = assembly.take().ok_or(UplinkError::EndBeforeBegin)?;
                let Some(assembly) = assembly.checked(&end.digest).await else {
                    tracing::warn!(
                        revision = end.revision,
                        "what differs led to another state than the controller's; asking for everything"
                    );
                    send_all(end.revision, outbound)?;
                    skip = true;
                    continue;
                };
                let what = assembly.finish(&uplink.config.node)?;
                *progress = Progress { synced: true, doubted: false };
                Event { stream: number, revision: end.revision, what }
            }
            Some(Kind::Query(query)) => {
                ask(query, uplink, outbound);
                continue;
            }
            // a newer controller; what an older agent needs to know it says in the kinds above
            None => continue,
        };
        uplink.events.send(event).await.map_err(|_| UplinkError::Stopped)?;
    }
    Ok(())
}

fn send_all(revision: u64, outbound: &mpsc::Sender<v1::AgentMessage>) -> Result<(), UplinkError> {
    let kind = Some(v1::agent_message::Kind::SendAll(v1::SendAll { revision }));
    // without room for it, the end of the stream says it as well
    outbound.try_send(v1::AgentMessage { kind }).map_err(|_| UplinkError::Differs)
}

fn delta(stream: u64, batch: &v1::Batch, ours: &str) -> Result<Event, UplinkError> {
    let decoded = decode::changes(&batch.changes);
    for change in &decoded.changes {
        if let Change::Node(node) = change {
            same_node(&node.name, ours)?;
        }
    }
    let what = What::Delta { changes: decoded.changes, refused: decoded.refused };
    Ok(Event { stream, revision: batch.revision, what })
}

/// Another node's span would close ours, so it is not even applied.
fn same_node(theirs: &str, ours: &str) -> Result<(), UplinkError> {
    if theirs == ours {
        return Ok(());
    }
    Err(UplinkError::OtherNode { theirs: theirs.to_owned(), ours: ours.to_owned() })
}

/// A snapshot in the making.
#[derive(Default)]
struct Assembly {
    state: NodeState,
    refused: Vec<Refusal>,
    bytes: usize,
    /// It began with what was held.
    partial: bool,
}

impl Assembly {
    /// Itself, if it is what the controller says that it is. Only what was put together from two sides is looked at.
    async fn checked(self, digest: &[u8]) -> Option<Self> {
        if !self.partial {
            return Some(self);
        }
        let digest = digest.to_vec();
        let check = move || (Hashes::of(&self.state).digest()[..] == digest).then_some(self);
        // only the end of the runtime leaves no output
        tokio::task::spawn_blocking(check).await.ok().flatten()
    }

    fn add(&mut self, batch: &v1::Batch) -> Result<(), UplinkError> {
        self.bytes += batch.changes.iter().map(|c| c.len()).sum::<usize>();
        if self.bytes > MAX_SNAPSHOT {
            return Err(UplinkError::SnapshotTooLarge { limit: MAX_SNAPSHOT });
        }
        let decoded = decode::changes(&batch.changes);
        self.state.apply(decoded.changes);
        self.refused.extend(decoded.refused);
        Ok(())
    }

    fn finish(mut self, ours: &str) -> Result<What, UplinkError> {
        // a node that the controller's source does not list has no record of its own
        if self.state.node.name.is_empty() {
            self.state.node.name = ours.into();
        }
        same_node(&self.state.node.name, ours)?;
        Ok(What::Snapshot { state: Box::new(self.state), refused: self.refused })
    }
}

/// Hands a question on, or says at once that there are too many.
fn ask(query: v1::Query, uplink: &Uplink, outbound: &mpsc::Sender<v1::AgentMessage>) {
    let query = Query { id: query.id, what: query.what, reply: outbound.clone() };
    if let Err(TrySendError::Full(query) | TrySendError::Closed(query)) =
        uplink.queries.try_send(query)
    {
        let answer = v1::Answer {
            query: query.id,
            last: true,
            error: "the agent has too many questions to answer; try again".to_owned(),
            ..v1::Answer::default()
        };
        let kind = Some(v1::agent_message::Kind::Answer(answer));
        // without room for this either, the asker's own time limit ends it
        drop(outbound.try_send(v1::AgentMessage { kind }));
    }
}
