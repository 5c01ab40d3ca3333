//! The agent's connection and controllers, over TLS, without a switch: what an agent is told that moves to another replica.
#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_agent::reconcile::Ask;
use weir_agent::uplink::{Credentials, Event, Outbox, Uplink, UplinkConfig, UplinkStatus, What};
use weir_controller::event::Event as Change;
use weir_controller::pki::{Authority, Role, Validity};
use weir_controller::publish::{Handle, Hub};
use weir_controller::serve::{Clients, Limits, Reception, Sent, Tls, serve_all};
use weir_controller::source::{Feed, line};
use weir_policy::compile::node_state;
use weir_policy::k8s::{self, Object};
use weir_policy::state::NodeState;
use weir_policy::world::World;
use weir_runtime::task::{Task, spawn};

const PATIENCE: Duration = Duration::from_secs(60);

/// A replica of the controller.
struct Replica {
    url: String,
    hub: Handle,
    sent: Arc<Sent>,
    feed: Feed,
    world: World,
    drain: CancellationToken,
    _tasks: (Task<()>, Task<()>),
}

impl Replica {
    async fn start(authority: &Authority, manifests: &str) -> Self {
        let host = vec!["localhost".to_owned()];
        let server = authority.issue(&Role::Server(host), Validity::default()).unwrap();
        let tls = Tls {
            cert: server.cert.into_bytes(),
            key: server.key.into_bytes(),
            client_ca: authority.certificate().as_bytes().to_vec(),
        };
        let (feed, intake) = line();
        let (hub, handle) = Hub::new(intake, "test");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (sent, drain) = (Arc::new(Sent::default()), CancellationToken::new());
        let (config, configs) = watch::channel(Some(tls.config(Clients::Certified).unwrap()));
        let reception = Reception {
            tls: configs,
            tokens: None,
            peers: None,
            limits: Limits::default(),
            sent: Arc::clone(&sent),
        };
        let (of_hub, until) = (handle.clone(), drain.clone());
        let serving = async move {
            let _keep = config;
            serve_all(listener, reception, of_hub, Arc::default(), until).await.unwrap();
        };
        let tasks = (spawn("hub", hub.run()), spawn("serve", serving));
        let world = World::default();
        let mut replica = Self { url, hub: handle, sent, feed, world, drain, _tasks: tasks };
        replica.apply(manifests, vec![Change::Synced]).await;
        replica
    }

    async fn apply(&mut self, manifests: &str, more: Vec<Change>) {
        let (documents, rejections) = k8s::read_documents(manifests);
        assert_eq!(rejections, []);
        let mut events = Vec::new();
        for value in documents.iter().flat_map(|d| k8s::flatten(d.clone())) {
            let object = k8s::object(&value).unwrap().0.unwrap();
            object.clone().put(&mut self.world);
            events.push(match object {
                Object::Namespace { name, labels } => Change::NamespaceApplied { name, labels },
                Object::Pod(pod) => Change::PodApplied(pod),
                Object::Node(node) => Change::NodeApplied(node),
                Object::NetworkPolicy(object) => Change::PolicyApplied {
                    object: Box::new(object),
                    manifest: value.to_string().into(),
                },
                other => panic!("not used here: {other:?}"),
            });
        }
        events.extend(more);
        self.feed.send(Instant::now(), events).await.unwrap();
    }

    /// Bytes of snapshots, and how many of these told what differs.
    fn told(&self) -> (u64, u64) {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.sent.snapshot), read(&self.hub.counters().snapshots_partial))
    }
}

/// The agent of `n1`: its connection, and a state that follows as the reconciler's does.
struct Agent {
    snapshots: mpsc::Receiver<(u64, NodeState)>,
    _tasks: (Task<()>, Task<()>),
}

impl Agent {
    fn start(authority: &Authority, replicas: &[&Replica], files: &Path) -> Self {
        let pair = authority.issue(&Role::Node("n1".to_owned()), Validity::default()).unwrap();
        let file = |name: &str, text: &str| {
            let path = files.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let config = UplinkConfig {
            node: "n1".to_owned(),
            controllers: replicas.iter().map(|replica| replica.url.clone()).collect(),
            ca: file("ca.crt", authority.certificate()),
            credentials: Credentials::Certificate {
                cert: file("n1.crt", &pair.cert),
                key: file("n1.key", &pair.key),
            },
            server_name: Some("localhost".to_owned()),
            backoff: (Duration::from_millis(1), Duration::from_millis(20)),
        };
        let (events, mut heard) = mpsc::channel::<Event>(8);
        let (asks, mut asked) = mpsc::channel(1);
        let (queries, _) = mpsc::channel(1);
        let (status, _) = watch::channel(UplinkStatus::default());
        // nobody will say which version OVS has
        let (_, picture) = watch::channel(None);
        let outbox = Outbox::default();
        let uplink = Uplink { config, events, queries, asks, outbox, picture, status };
        let (told, snapshots) = mpsc::channel(8);
        let following = async move {
            let mut state: Option<NodeState> = None;
            loop {
                tokio::select! {
                    biased;
                    Some(event) = heard.recv() => match event.what {
                        What::Snapshot { state: new, .. } => {
                            state = Some((*new).clone());
                            told.send((event.stream, *new)).await.unwrap();
                        }
                        What::Delta { changes, .. } => {
                            let state = state.as_mut().unwrap();
                            state.apply(changes);
                            told.send((event.stream, state.clone())).await.unwrap();
                        }
                    },
                    Some(Ask::Held(reply)) = asked.recv() => drop(reply.send(state.clone())),
                    else => return,
                }
            }
        };
        let tasks =
            (spawn("uplink", uplink.run(CancellationToken::new())), spawn("state", following));
        Self { snapshots, _tasks: tasks }
    }

    async fn next(&mut self) -> (u64, NodeState) {
        let next = tokio::time::timeout(PATIENCE, self.snapshots.recv());
        next.await.expect("the agent hears nothing").unwrap()
    }
}

fn world() -> String {
    let mut out = String::from("{kind: Namespace, metadata: {name: shop}}\n");
    for pod in 0..60 {
        let node = 1 + pod / 30;
        out.push_str(&format!(
            "---\n{{kind: Pod, metadata: {{namespace: shop, name: p{pod}, labels: {{app: web}}}}, \
             spec: {{nodeName: n{node}}}, status: {{podIPs: [{{ip: 10.0.{node}.{pod}}}]}}}}\n"
        ));
    }
    out + "---\n" + &policy(1)
}

fn policy(port: u16) -> String {
    format!(
        "{{kind: NetworkPolicy, metadata: {{namespace: shop, name: web, generation: {port}}}, spec: {{podSelector: {{}}, \
         ingress: [{{from: [{{podSelector: {{}}}}], ports: [{{port: {port}}}]}}]}}}}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_moves_is_told_what_differs() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let authority = Authority::create().unwrap();
    let mut replicas =
        [Replica::start(&authority, &world()).await, Replica::start(&authority, &world()).await];
    let files = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(&authority, &[&replicas[0], &replicas[1]], files.path());
    let (_, state) = agent.next().await;
    assert_eq!(state, node_state(&replicas[0].world, "n1"));
    // which of them its name's hash picked
    if replicas[0].told().0 == 0 {
        replicas.reverse();
    }
    let (whole, partial) = replicas[0].told();
    assert!(whole > 2_000 && partial == 0, "{whole} {partial}");
    assert_eq!(replicas[1].told(), (0, 0));

    // to the other, where everything is the same
    replicas[0].drain.cancel();
    let (stream, again) = agent.next().await;
    assert_eq!((stream > 1, &again), (true, &state));
    let (bytes, partial) = replicas[1].told();
    assert!(bytes < 200 && partial == 1, "{bytes} {partial}");

    // what follows is followed, and held the next time
    replicas[1].apply(&policy(2), Vec::new()).await;
    let (_, state) = agent.next().await;
    assert_eq!(state, node_state(&replicas[1].world, "n1"));
    assert_ne!(state, again);
}
