//! Agents as tasks: they read, decode and acknowledge, and can stop to read their sockets.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll, Waker};

use anyhow::{Context, Result, bail, ensure};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::codegen::{Service, http};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use weir_api::convert::batch_from_proto;
use weir_api::holdings::{Hashes, Held};
use weir_api::v1::agent_message::Kind as FromAgent;
use weir_api::v1::controller_message::Kind as ToAgent;
use weir_api::v1::distribution_client::DistributionClient;
use weir_api::v1::{self, AgentMessage, ControllerMessage};
use weir_api::version;
use weir_policy::state::NodeState;

use crate::site::Site;

/// Handshakes that this side does at once.
const AT_ONCE: usize = 16;
/// What a controller may send to an agent that can be stalled before that has read it: what HTTP/2 begins with. Units:
/// bytes.
const WINDOW: u32 = 65_535;

/// An agent has acknowledged something.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) node: usize,
    pub(crate) revision: u64,
    /// Of the messages since it last told. Units: bytes.
    pub(crate) bytes: usize,
    pub(crate) snapshot: bool,
    /// After a snapshot, where it was asked for: what it holds then.
    pub(crate) holds: Option<Holds>,
    /// Where it was asked for.
    pub(crate) digest: Option<[u8; 32]>,
}

/// What an agent says to hold, and the digest of all of it.
#[derive(Clone, Debug)]
pub(crate) struct Holds {
    pub(crate) holdings: v1::Holdings,
    pub(crate) digest: [u8; 32],
}

/// How an agent behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// Keeps a state and tells its digest.
    pub(crate) keeps: bool,
    /// Tells with its snapshot what it would hold.
    pub(crate) hashes: bool,
    /// Says to hold this.
    pub(crate) holds: Option<Holds>,
    /// Can be stalled by this.
    pub(crate) valve: Option<Arc<Valve>>,
}

/// Whether sockets are read.
#[derive(Debug, Default)]
pub(crate) struct Valve {
    /// While it is shut: who waits for it.
    waiting: Mutex<Option<Vec<Waker>>>,
    /// Whether the digest of what an agent holds is wanted with each acknowledgement.
    checks: AtomicBool,
}

impl Valve {
    pub(crate) fn shut(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    pub(crate) fn open(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// From now on, or no longer.
    pub(crate) fn check(&self, wanted: bool) {
        self.checks.store(wanted, Ordering::Relaxed);
    }

    fn poll(&self, cx: &Task<'_>) -> Poll<()> {
        match &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(waiting) => {
                waiting.push(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

/// A socket behind a valve.
struct Socket {
    stream: TcpStream,
    valve: Arc<Valve>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.valve.poll(cx) {
            Poll::Ready(()) => Pin::new(&mut self.stream).poll_read(cx, buf),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Makes such sockets.
struct Dial(Arc<Valve>);

impl Service<http::Uri> for Dial {
    type Response = TokioIo<Socket>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Socket>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: http::Uri) -> Self::Future {
        let valve = Arc::clone(&self.0);
        Box::pin(async move {
            let address = to.authority().map(http::uri::Authority::as_str).unwrap_or_default();
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(Socket { stream, valve }))
        })
    }
}

/// Connects these nodes. Each tells when it has its snapshot, and after each batch that it acknowledged.
pub(crate) fn follow(
    site: &Site,
    nodes: impl IntoIterator<Item = (usize, Manner)>,
    tell: &mpsc::UnboundedSender<Told>,
    agents: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let ca = Certificate::from_pem(site.authority.certificate());
    for (node, manner) in nodes {
        let pair = &site.pairs[node];
        let tls = ClientTlsConfig::new()
            .ca_certificate(ca.clone())
            .domain_name("localhost")
            .identity(Identity::from_pem(&pair.cert, &pair.key));
        let endpoint = Endpoint::from_shared(site.controller.url())?.tls_config(tls)?;
        let (tell, slots) = (tell.clone(), Arc::clone(&slots));
        agents.spawn(async move {
            let slot = slots.acquire_owned().await?;
            let channel = match &manner.valve {
                Some(valve) => {
                    let endpoint = endpoint.initial_stream_window_size(WINDOW);
                    endpoint.connect_with_connector(Dial(Arc::clone(valve))).await?
                }
                None => endpoint.connect().await?,
            };
            let (to, from) = hello(channel, node, manner.holds.as_ref()).await?;
            drop(slot);
            Box::pin(run(node, manner, to, from, tell)).await
        });
    }
    Ok(())
}

async fn run(
    node: usize,
    manner: Manner,
    to: mpsc::Sender<AgentMessage>,
    mut from: Streaming<ControllerMessage>,
    tell: mpsc::UnboundedSender<Told>,
) -> Result<()> {
    let keeps = manner.keeps || manner.hashes;
    let mut state = NodeState::default();
    let (mut in_snapshot, mut bytes) = (false, 0);
    while let Some(message) = from.message().await? {
        bytes += message.encoded_len();
        let revision = match message.kind {
            Some(ToAgent::SnapshotBegin(begin)) => {
                in_snapshot = true;
                state = NodeState::default();
                let differing = begin.only.map(|only| only.numbers.len());
                let wanted = manner.holds.as_ref().map(|_| 0);
                ensure!(differing == wanted, "{differing:?} buckets where {wanted:?} differ");
                continue;
            }
            Some(ToAgent::Batch(batch)) => {
                let (changes, errors) = batch_from_proto(&batch);
                if !errors.is_empty() {
                    bail!("{errors:?}");
                }
                if keeps {
                    state.apply(changes);
                }
                if in_snapshot {
                    continue;
                }
                batch.revision
            }
            Some(ToAgent::SnapshotEnd(end)) => {
                if let Some(holds) = &manner.holds {
                    ensure!(end.digest[..] == holds.digest, "another state than before");
                }
                end.revision
            }
            Some(ToAgent::Query(_)) | None => continue,
        };
        let report = v1::Realized { revision, ..v1::Realized::default() };
        to.send(AgentMessage { kind: Some(FromAgent::Realized(report)) }).await?;
        let snapshot = std::mem::take(&mut in_snapshot);
        // not while others are timed: it takes as long as ten acknowledgements
        let wanted = manner.valve.as_ref().is_none_or(|v| v.checks.load(Ordering::Relaxed));
        let digest = (manner.keeps && wanted).then(|| Hashes::of(&state).digest());
        let holds = (manner.hashes && snapshot).then(|| {
            let state = std::mem::take(&mut state);
            let digest = Hashes::of(&state).digest();
            Holds { holdings: Held::new(state).to_proto(), digest }
        });
        let bytes = std::mem::take(&mut bytes);
        tell.send(Told { node, revision, bytes, snapshot, holds, digest })?;
    }
    Ok(())
}

async fn hello(
    channel: Channel,
    node: usize,
    holds: Option<&Holds>,
) -> Result<(mpsc::Sender<AgentMessage>, Streaming<ControllerMessage>)> {
    let (to, outbound) = mpsc::channel(16);
    let hello = v1::Hello {
        node: format!("n{node}"),
        agent_version: "bench".to_owned(),
        protocol: version::PROTOCOL,
        ovs_version: "3.1.0".to_owned(),
        holdings: holds.map(|holds| holds.holdings.clone()),
    };
    let hello = AgentMessage { kind: Some(FromAgent::Hello(hello)) };
    to.send(hello).await.context("a queue of its own")?;
    let mut client =
        DistributionClient::new(channel).max_decoding_message_size(version::MAX_TO_AGENT);
    let from = client.follow(ReceiverStream::new(outbound)).await?.into_inner();
    Ok((to, from))
}
