//! A controller in this process, and agents to talk to it.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};
use weir_api::convert::batch_from_proto;
use weir_api::holdings::{Hashes, Held};
use weir_api::v1::agent_message::Kind as FromAgent;
use weir_api::v1::controller_message::Kind as ToAgent;
use weir_api::v1::distribution_client::DistributionClient;
use weir_api::v1::inspection_client::InspectionClient;
use weir_api::v1::{self, AgentMessage, ControllerMessage};
use weir_api::version;
use weir_controller::event::Event;
use weir_controller::pki::{Authority, Pair, Role, Validity};
use weir_controller::publish::{Handle, Hub};
use weir_controller::serve::{Refusals, ServeError, Tls, serve};
use weir_controller::source::{Feed, line};
use weir_policy::k8s::{self, Object};
use weir_policy::state::NodeState;
use weir_policy::world::World;
use weir_runtime::task::{Task, spawn};

/// How long an agent waits for a message before its test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) authority: Authority,
    pub(crate) feed: Feed,
    pub(crate) hub: Handle,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) drain: CancellationToken,
    pub(crate) url: String,
    /// What the source has told.
    pub(crate) world: World,
    pub(crate) serving: Option<Task<Result<(), ServeError>>>,
    _hub: Task<()>,
}

/// The objects of YAML documents, as events.
pub(crate) fn events(text: &str) -> Vec<Event> {
    let (documents, rejections) = k8s::read_documents(text);
    assert_eq!(rejections, []);
    documents.iter().flat_map(|d| k8s::flatten(d.clone())).map(|d| event(&d)).collect()
}

fn event(value: &serde_json::Value) -> Event {
    match k8s::object(value).unwrap().0.unwrap() {
        Object::Namespace { name, labels } => Event::NamespaceApplied { name, labels },
        Object::Pod(pod) => Event::PodApplied(pod),
        Object::Workload(workload) => Event::WorkloadApplied(workload),
        Object::Node(node) => Event::NodeApplied(node),
        Object::NetworkPolicy(object) => {
            Event::PolicyApplied { object: Box::new(object), manifest: value.to_string().into() }
        }
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let authority = Authority::create().unwrap();
        let hosts = ["localhost", "127.0.0.1", "weir-controller"].map(str::to_owned).to_vec();
        let server = authority.issue(&Role::Server(hosts), Validity::default()).unwrap();
        let tls = Tls {
            cert: server.cert.into_bytes(),
            key: server.key.into_bytes(),
            client_ca: authority.certificate().as_bytes().to_vec(),
        };
        let (feed, intake) = line();
        let (hub, handle) = Hub::new(intake, "test");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (refusals, drain) = (Arc::new(Refusals::default()), CancellationToken::new());
        let serving = serve(listener, tls, handle.clone(), Arc::clone(&refusals), drain.clone());
        Self {
            authority,
            feed,
            hub: handle,
            refusals,
            drain,
            url,
            world: World::default(),
            serving: Some(spawn("serve", serving)),
            _hub: spawn("hub", hub.run()),
        }
    }

    /// A controller that has read these manifests.
    pub(crate) async fn with(text: &str) -> Self {
        let mut rig = Self::new().await;
        rig.apply(text).await;
        rig.send(vec![Event::Synced]).await;
        rig
    }

    /// Manifests come or change, all at once; gives the revision.
    pub(crate) async fn apply(&mut self, text: &str) {
        self.send(events(text)).await;
    }

    pub(crate) async fn send(&mut self, events: Vec<Event>) {
        for event in &events {
            match event.clone() {
                Event::NamespaceApplied { name, labels } => Object::Namespace { name, labels },
                Event::PodApplied(pod) => Object::Pod(pod),
                Event::WorkloadApplied(workload) => Object::Workload(workload),
                Event::NodeApplied(node) => Object::Node(node),
                Event::PolicyApplied { object, .. } => Object::NetworkPolicy(*object),
                Event::PodDeleted { namespace, name, .. } => {
                    self.world.pods.remove(&(namespace, name));
                    continue;
                }
                Event::PolicyDeleted { key, .. } => {
                    self.world.policies.remove(&key);
                    continue;
                }
                Event::Synced => continue,
                other => panic!("not used here: {other:?}"),
            }
            .put(&mut self.world);
        }
        self.feed.send(Instant::now(), events).await.unwrap();
    }

    pub(crate) fn issue(&self, role: Role) -> Pair {
        self.authority.issue(&role, Validity::default()).unwrap()
    }

    /// A connection with this certificate, or none.
    pub(crate) async fn channel(
        &self,
        pair: Option<&Pair>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.certificate()))
            .domain_name("localhost");
        if let Some(pair) = pair {
            tls = tls.identity(Identity::from_pem(&pair.cert, &pair.key));
        }
        Endpoint::from_shared(self.url.clone())?.tls_config(tls)?.connect().await
    }

    pub(crate) async fn node_channel(&self, node: &str) -> Channel {
        let pair = self.issue(Role::Node(node.to_owned()));
        self.channel(Some(&pair)).await.unwrap()
    }

    pub(crate) async fn agent(&self, node: &str) -> Agent {
        Agent::connect(self.node_channel(node).await, node).await.unwrap()
    }

    pub(crate) async fn operator(&self) -> InspectionClient<Channel> {
        let pair = self.issue(Role::Operator("admin".to_owned()));
        InspectionClient::new(self.channel(Some(&pair)).await.unwrap())
    }

    pub(crate) fn refused(&self) -> [u64; 4] {
        let r = &self.refusals;
        [&r.identity, &r.wrong_node, &r.version, &r.malformed].map(|c| c.load(Ordering::Relaxed))
    }
}

pub(crate) struct Agent {
    pub(crate) to: mpsc::Sender<AgentMessage>,
    pub(crate) from: Streaming<ControllerMessage>,
    pub(crate) state: NodeState,
    pub(crate) revision: u64,
    /// Batches since the last snapshot.
    pub(crate) batches: usize,
    /// Snapshots taken.
    pub(crate) snapshots: usize,
    /// Snapshots of what differs that led to something else than they should.
    pub(crate) doubts: usize,
    /// Bytes of the messages that the last snapshot took.
    pub(crate) bytes: usize,
    /// Changes in them.
    pub(crate) changes: usize,
    pub(crate) held: Option<Held>,
}

impl Agent {
    /// Says hello as `node`.
    pub(crate) async fn connect(channel: Channel, node: &str) -> Result<Self, Status> {
        Self::through(channel, node).await
    }

    /// Says hello as `node`, which has a state already.
    pub(crate) async fn reconnect(
        channel: Channel,
        node: &str,
        state: NodeState,
    ) -> Result<Self, Status> {
        let held = Held::new(state.clone());
        let holdings = held.to_proto();
        let mut agent = Self::open(channel, node, Some(holdings)).await?;
        (agent.state, agent.held) = (state, Some(held));
        Ok(agent)
    }

    /// The same by way of something around a channel.
    pub(crate) async fn through<C>(channel: C, node: &str) -> Result<Self, Status>
    where
        C: tonic::client::GrpcService<tonic::body::Body>,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        C::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
        <C::ResponseBody as tonic::codegen::Body>::Error:
            Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        Self::open(channel, node, None).await
    }

    /// Says hello as `node`, which says to hold this.
    pub(crate) async fn open<C>(
        channel: C,
        node: &str,
        holdings: Option<v1::Holdings>,
    ) -> Result<Self, Status>
    where
        C: tonic::client::GrpcService<tonic::body::Body>,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        C::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
        <C::ResponseBody as tonic::codegen::Body>::Error:
            Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let (to, outbound) = mpsc::channel(16);
        let hello = v1::Hello {
            node: node.to_owned(),
            agent_version: "test".to_owned(),
            protocol: version::PROTOCOL,
            ovs_version: "3.1.0".to_owned(),
            holdings,
        };
        to.send(AgentMessage { kind: Some(FromAgent::Hello(hello)) }).await.unwrap();
        let mut client =
            DistributionClient::new(channel).max_decoding_message_size(version::MAX_TO_AGENT);
        let from = client.follow(ReceiverStream::new(outbound)).await?.into_inner();
        Ok(Self {
            to,
            from,
            state: NodeState::default(),
            revision: 0,
            batches: 0,
            snapshots: 0,
            doubts: 0,
            bytes: 0,
            changes: 0,
            held: None,
        })
    }

    pub(crate) async fn next(&mut self) -> Result<Option<ToAgent>, Status> {
        let message = tokio::time::timeout(PATIENCE, self.from.message()).await;
        let message = message.expect("the controller says nothing")?;
        Ok(message.and_then(|m| m.kind))
    }

    /// Takes messages until a whole snapshot or one batch was applied.
    pub(crate) async fn step(&mut self) -> Result<(), Status> {
        let (mut snapshot, mut partial, mut skip) = (None, false, false);
        loop {
            let kind = self.next().await?;
            let kind = kind.ok_or_else(|| Status::ok("the stream ended"))?;
            if matches!(kind, ToAgent::SnapshotBegin(_)) {
                (self.bytes, self.changes) = (0, 0);
            }
            self.bytes += ControllerMessage { kind: Some(kind.clone()) }.encoded_len();
            match kind {
                ToAgent::SnapshotBegin(begin) => {
                    assert_eq!(begin.protocol, version::PROTOCOL);
                    let held = self.held.take();
                    (partial, skip) = (begin.only.is_some(), false);
                    snapshot = Some(match &begin.only {
                        None => NodeState::default(),
                        Some(buckets) => {
                            held.expect("it holds something").without(buckets).unwrap()
                        }
                    });
                }
                ToAgent::Batch(_) if skip => {}
                ToAgent::Batch(batch) => {
                    let (changes, errors) = batch_from_proto(&batch);
                    assert_eq!(errors, []);
                    self.changes += changes.len();
                    match &mut snapshot {
                        Some(state) => {
                            state.apply(changes);
                        }
                        None => {
                            assert!(batch.revision > self.revision);
                            assert!(!self.state.apply(changes).is_empty());
                            self.revision = batch.revision;
                            self.batches += 1;
                            return Ok(());
                        }
                    }
                }
                ToAgent::SnapshotEnd(end) => {
                    let state = snapshot.take().expect("an end has a beginning");
                    if partial && Hashes::of(&state).digest()[..] != end.digest[..] {
                        (self.doubts, skip) = (self.doubts + 1, true);
                        self.say(FromAgent::SendAll(v1::SendAll { revision: end.revision })).await;
                        continue;
                    }
                    assert!(partial || end.digest.is_empty());
                    self.state = state;
                    self.revision = end.revision;
                    self.snapshots += 1;
                    return Ok(());
                }
                ToAgent::Query(query) => self.answer(query).await,
            }
        }
    }

    /// Steps until its state is what the world says.
    pub(crate) async fn reach(&mut self, world: &World) {
        let wanted = weir_policy::compile::node_state(world, &self.state.node.name);
        while self.state != wanted {
            self.step().await.unwrap();
        }
    }

    pub(crate) async fn realized(&self, results: Vec<v1::PolicyResult>) {
        let report = v1::Realized {
            revision: self.revision,
            results,
            ports_ready: 1,
            flows: 42,
            ..v1::Realized::default()
        };
        self.say(FromAgent::Realized(report)).await;
    }

    /// In three parts.
    async fn answer(&self, query: v1::Query) {
        for (n, last) in [(1, false), (2, false), (3, true)] {
            let data = format!("{} {n}\n", query.what).into();
            let answer = v1::Answer { query: query.id, data, last, error: String::new() };
            self.say(FromAgent::Answer(answer)).await;
        }
    }

    pub(crate) async fn say(&self, kind: FromAgent) {
        self.to.send(AgentMessage { kind: Some(kind) }).await.unwrap();
    }

    /// Takes messages until the stream ends, and says how.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.step().await {
                return status;
            }
        }
    }
}
