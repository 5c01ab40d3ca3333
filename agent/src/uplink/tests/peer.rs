//! A controller in the same process: a gRPC server over TLS whose streams the test holds in its hands.

use std::net::SocketAddr;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use v1::distribution_server::{Distribution, DistributionServer};
use weir_runtime::task::Task;

use super::super::*;

/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

type Answer = Result<v1::ControllerMessage, Status>;

/// One stream of an agent.
pub(super) struct Peer {
    inbound: Streaming<v1::AgentMessage>,
    outbound: mpsc::Sender<Answer>,
    /// What came with the request.
    pub(super) authorization: Option<String>,
}

impl Peer {
    pub(super) async fn hello(&mut self) -> v1::Hello {
        match self.next().await {
            v1::agent_message::Kind::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn next(&mut self) -> v1::agent_message::Kind {
        let message = tokio::time::timeout(PATIENCE, self.inbound.message());
        message.await.expect("the agent says nothing").unwrap().unwrap().kind.unwrap()
    }

    pub(super) async fn realized(&mut self) -> v1::Realized {
        match self.next().await {
            v1::agent_message::Kind::Realized(realized) => realized,
            other => panic!("{other:?}"),
        }
    }

    /// True when the agent ended the stream.
    pub(super) async fn ended(&mut self) -> bool {
        !matches!(self.inbound.message().await, Ok(Some(_)))
    }

    pub(super) async fn send(&self, kind: v1::controller_message::Kind) {
        let message = v1::ControllerMessage { kind: Some(kind) };
        // an agent that ended the stream is what some tests wait for
        drop(self.outbound.send(Ok(message)).await);
    }

    pub(super) async fn begin(&self, revision: u64) {
        self.begin_as(revision, weir_api::version::PROTOCOL).await;
    }

    pub(super) async fn begin_as(&self, revision: u64, protocol: u32) {
        self.begin_with(revision, protocol, None).await;
    }

    pub(super) async fn begin_with(&self, revision: u64, protocol: u32, only: Option<v1::Buckets>) {
        let controller = "test".to_owned();
        let begin = v1::SnapshotBegin { revision, protocol, controller, only };
        self.send(v1::controller_message::Kind::SnapshotBegin(begin)).await;
    }

    pub(super) async fn batch(&self, revision: u64, changes: &[Change]) {
        let changes = changes.iter().map(weir_api::convert::change_to_bytes).collect();
        self.raw(revision, changes).await;
    }

    pub(super) async fn raw(&self, revision: u64, changes: Vec<bytes::Bytes>) {
        let batch = v1::Batch { revision, changes };
        self.send(v1::controller_message::Kind::Batch(batch)).await;
    }

    pub(super) async fn end(&self, revision: u64) {
        self.end_with(revision, &[]).await;
    }

    pub(super) async fn end_with(&self, revision: u64, digest: &[u8]) {
        let end = v1::SnapshotEnd { revision, digest: bytes::Bytes::copy_from_slice(digest) };
        self.send(v1::controller_message::Kind::SnapshotEnd(end)).await;
    }

    pub(super) async fn query(&self, id: u64, what: &str) {
        let query = v1::Query { id, what: what.to_owned() };
        self.send(v1::controller_message::Kind::Query(query)).await;
    }
}

/// Hands every stream to the test.
struct Handover(mpsc::Sender<Peer>);

#[tonic::async_trait]
impl Distribution for Handover {
    type FollowStream = tokio_stream::wrappers::ReceiverStream<Answer>;

    async fn follow(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let (outbound, answers) = mpsc::channel(64);
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.and_then(|a| Some(a.to_str().ok()?.to_owned()));
        let peer = Peer { inbound: request.into_inner(), outbound, authorization };
        self.0.send(peer).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(answers.into()))
    }
}

/// Who signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for a name.
    pub(super) fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        (pem, key.serialize_pem())
    }
}

/// Whom a controller takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Callers {
    Certified,
    Any,
}

/// A controller that takes certificates of `authority` and calls itself `controller.test`.
pub(super) struct Controller {
    pub address: SocketAddr,
    peers: mpsc::Receiver<Peer>,
    _serving: Task<()>,
}

impl Controller {
    pub(super) async fn start(authority: &Authority) -> Self {
        Self::start_for(authority, Callers::Certified, "controller.test").await
    }

    /// One that calls itself otherwise, and takes others.
    pub(super) async fn start_for(authority: &Authority, callers: Callers, name: &str) -> Self {
        let (handover, peers) = mpsc::channel(8);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cert, key) = authority.sign(name);
        let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(cert, key));
        if callers == Callers::Certified {
            tls = tls.client_ca_root(Certificate::from_pem(&authority.pem));
        }
        let service =
            DistributionServer::new(Handover(handover)).max_encoding_message_size(64 << 20);
        let server = Server::builder().tls_config(tls).unwrap().add_service(service);
        let connections = TcpListenerStream::new(listener).filter(Result::is_ok);
        let serving = weir_runtime::task::spawn("controller", async move {
            server.serve_with_incoming(connections).await.unwrap();
        });
        Self { address, peers, _serving: serving }
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) async fn accept(&mut self) -> Peer {
        let peer = tokio::time::timeout(PATIENCE, self.peers.recv());
        peer.await.expect("the agent does not come").unwrap()
    }
}

/// An uplink of node `n1`, and what it is connected to inside the agent.
pub(super) struct Agent {
    pub events: mpsc::Receiver<Event>,
    pub queries: mpsc::Receiver<Query>,
    pub outbox: Outbox,
    pub status: watch::Receiver<UplinkStatus>,
    /// What is in force, as the reconciler would say.
    pub held: watch::Sender<Option<NodeState>>,
    pub stop: CancellationToken,
    pub task: Task<()>,
    _picture: watch::Sender<Option<Arc<SwitchState>>>,
    _answering: Task<()>,
    _files: tempfile::TempDir,
}

impl Agent {
    pub(super) fn start(authority: &Authority, controllers: Vec<String>) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (cert, key) = authority.sign("n1");
        let file = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let config = UplinkConfig {
            node: "n1".to_owned(),
            controllers,
            ca: file("ca.pem", &authority.pem),
            credentials: Credentials::Certificate {
                cert: file("n1.pem", &cert),
                key: file("n1.key", &key),
            },
            server_name: Some("controller.test".to_owned()),
            backoff: (Duration::from_millis(1), Duration::from_millis(20)),
        };
        Self::with(config, files)
    }

    /// The same with the files as they are, which may be missing.
    pub(super) fn with(config: UplinkConfig, files: tempfile::TempDir) -> Self {
        let mut picture = SwitchState::default();
        picture.system.ovs_version = "3.1.0".to_owned();
        let (show, seen) = watch::channel(Some(Arc::new(picture)));
        let (send_events, events) = mpsc::channel(8);
        let (send_queries, queries) = mpsc::channel(1);
        let (send_status, status) = watch::channel(UplinkStatus::default());
        let (asks, mut asked) = mpsc::channel(1);
        let (held, holds) = watch::channel(None);
        let answering = weir_runtime::task::spawn("reconcile", async move {
            while let Some(ask) = asked.recv().await {
                match ask {
                    Ask::Held(reply) => drop(reply.send(holds.borrow().clone())),
                    other => panic!("{other:?}"),
                }
            }
        });
        let (outbox, stop) = (Outbox::default(), CancellationToken::new());
        let uplink = Uplink {
            config,
            events: send_events,
            queries: send_queries,
            asks,
            outbox: outbox.clone(),
            picture: seen,
            status: send_status,
        };
        let task = weir_runtime::task::spawn("uplink", uplink.run(stop.clone()));
        Self {
            events,
            queries,
            outbox,
            status,
            held,
            stop,
            task,
            _picture: show,
            _answering: answering,
            _files: files,
        }
    }

    pub(super) async fn event(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv());
        event.await.expect("nothing is handed on").unwrap()
    }

    /// Waits until the last attempt ended with these words.
    pub(super) async fn error(&mut self, words: &str) {
        let said = |s: &UplinkStatus| s.last_error.as_ref().is_some_and(|e| e.contains(words));
        let status = self.status.wait_for(said);
        if tokio::time::timeout(PATIENCE, status).await.is_err() {
            panic!("not {words:?}: {:?}", *self.status.borrow());
        }
    }

    pub(super) fn dir() -> (&'static Path, tempfile::TempDir) {
        (Path::new("/nonexistent"), tempfile::tempdir().unwrap())
    }
}
