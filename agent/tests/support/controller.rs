//! A controller that knows one state and one node.

use std::net::SocketAddr;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use weir_api::convert::change_to_bytes;
use weir_api::v1;
use weir_api::v1::agent_message::Kind;
use weir_api::v1::distribution_server::{Distribution, DistributionServer};
use weir_policy::state::{Change, NodeState};
use weir_runtime::task::Task;

/// Certificates for a controller and for node `n1`, and where the controller will listen.
pub(crate) struct Site {
    identity: Identity,
    ca: Certificate,
    pub address: SocketAddr,
}

impl Site {
    /// Writes `ca.pem`, `n1.pem` and `n1.key` into a directory.
    pub(crate) fn new(directory: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let sign = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let (cert, key) = sign("n1");
        for (name, text) in [("ca.pem", &ca), ("n1.pem", &cert), ("n1.key", &key)] {
            std::fs::write(directory.join(name), text).unwrap();
        }
        let (cert, key) = sign("controller.test");
        // free when the controller starts, as nothing else asks the system for this one number
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            identity: Identity::from_pem(cert, key),
            ca: Certificate::from_pem(ca),
            address: free.local_addr().unwrap(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

/// A running controller, and the only agent it serves.
pub(crate) struct Controller {
    streams: mpsc::Receiver<Stream>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<Task<()>>,
}

struct Stream {
    inbound: Streaming<v1::AgentMessage>,
    outbound: mpsc::Sender<Result<v1::ControllerMessage, Status>>,
}

struct Service(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl Distribution for Service {
    type FollowStream = ReceiverStream<Result<v1::ControllerMessage, Status>>;

    async fn follow(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let (outbound, messages) = mpsc::channel(64);
        let stream = Stream { inbound: request.into_inner(), outbound };
        self.0.send(stream).await.map_err(|_| Status::unavailable("stopped"))?;
        Ok(Response::new(messages.into()))
    }
}

/// A stream of the agent of `n1`.
pub(crate) struct Node(Stream);

impl Controller {
    pub(crate) async fn start(site: &Site) -> Self {
        let (service, streams) = mpsc::channel(4);
        let listener = TcpListener::bind(site.address).await.unwrap();
        let tls =
            ServerTlsConfig::new().identity(site.identity.clone()).client_ca_root(site.ca.clone());
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(DistributionServer::new(Service(service)));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = weir_runtime::task::spawn("controller", async move {
            let connections = TcpListenerStream::new(listener);
            let serve = server.serve_with_incoming(connections);
            tokio::select! {
                ended = serve => ended.unwrap(),
                _ = stopped => {}
            }
        });
        Self { streams, stop: Some(stop), serving: Some(serving) }
    }

    /// The next stream, after its hello.
    pub(crate) async fn node(&mut self) -> Node {
        let mut node = Node(self.streams.recv().await.unwrap());
        match node.next().await {
            Kind::Hello(hello) => assert_eq!(hello.node, "n1"),
            other => panic!("{other:?}"),
        }
        node
    }

    /// Closes every connection and the socket.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.serving.take().unwrap().join().await.unwrap();
    }
}

impl Node {
    async fn next(&mut self) -> Kind {
        let message = tokio::time::timeout(super::PATIENCE, self.0.inbound.message());
        message.await.expect("the agent says nothing").unwrap().unwrap().kind.unwrap()
    }

    async fn send(&self, kind: v1::controller_message::Kind) {
        self.0.outbound.send(Ok(v1::ControllerMessage { kind: Some(kind) })).await.unwrap();
    }

    pub(crate) async fn snapshot(&self, revision: u64, state: &NodeState) {
        use v1::controller_message::Kind;
        let controller = "test".to_owned();
        let begin = v1::SnapshotBegin { revision, protocol: 1, controller, only: None };
        self.send(Kind::SnapshotBegin(begin)).await;
        self.delta(revision, &NodeState::default().diff(state)).await;
        self.send(Kind::SnapshotEnd(v1::SnapshotEnd { revision, ..v1::SnapshotEnd::default() }))
            .await;
    }

    pub(crate) async fn delta(&self, revision: u64, changes: &[Change]) {
        let changes = changes.iter().map(change_to_bytes).collect();
        let batch = v1::Batch { revision, changes };
        self.send(v1::controller_message::Kind::Batch(batch)).await;
    }

    /// Waits until the switch has a revision.
    pub(crate) async fn realized(&mut self, revision: u64) -> v1::Realized {
        loop {
            match self.next().await {
                Kind::Realized(realized) if realized.revision == revision => return realized,
                Kind::Realized(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn ask(&mut self, what: &str) -> String {
        let query = v1::Query { id: 1, what: what.to_owned() };
        self.send(v1::controller_message::Kind::Query(query)).await;
        let mut data = Vec::new();
        loop {
            match self.next().await {
                Kind::Answer(answer) => {
                    assert_eq!(answer.error, "");
                    data.extend_from_slice(&answer.data);
                    if answer.last {
                        return String::from_utf8(data).unwrap();
                    }
                }
                Kind::Realized(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
