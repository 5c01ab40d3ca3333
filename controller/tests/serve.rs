//! Agents and tools over real TLS: who gets what, and what a bad one costs the others.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]

mod support;

use std::sync::atomic::Ordering;

use bytes::{Buf, BufMut};
use support::{Agent, Rig, events};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};
use weir_api::convert::key_to_proto;
use weir_api::v1;
use weir_api::v1::agent_message::Kind as FromAgent;
use weir_api::version::MAX_TO_CONTROLLER;
use weir_controller::event::Event;
use weir_controller::pki::{Authority, Role, Validity};
use weir_policy::compile::node_state;
use weir_policy::ids::PolicyKey;
use weir_policy::k8s;
use weir_policy::world::World;

/// Longer than any step takes on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

const WORLD: &str = "
{kind: Namespace, metadata: {name: shop, labels: {team: blue}}}
---
{kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
---
{kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}
---
{kind: Pod, metadata: {namespace: shop, name: db, labels: {app: db}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.0.1.1}]}}
---
{kind: Pod, metadata: {namespace: shop, name: web, labels: {app: web}}, spec: {nodeName: n2, containers: [{ports: [{name: http, containerPort: 80}]}]}, status: {podIPs: [{ip: 10.0.2.1}]}}
---
{kind: Pod, metadata: {namespace: shop, name: host, uid: u}, spec: {nodeName: n2, hostNetwork: true}, status: {phase: Failed, podIPs: [{ip: 192.0.2.2}]}}
---
kind: NetworkPolicy
metadata: {namespace: shop, name: db, generation: 1}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
";

fn policy(name: &str, app: &str, generation: i64) -> String {
    format!(
        "{{kind: NetworkPolicy, metadata: {{namespace: shop, name: {name}, generation: {generation}}}, \
         spec: {{podSelector: {{matchLabels: {{app: {app}}}}}}}}}"
    )
}

#[tokio::test]
async fn a_node_gets_its_span_and_nothing_else() {
    let mut rig = Rig::with(WORLD).await;
    let mut n1 = rig.agent("n1").await;
    let mut n2 = rig.agent("n2").await;
    n1.step().await.unwrap();
    n2.step().await.unwrap();
    assert_eq!(n1.state, node_state(&rig.world, "n1"));
    assert_eq!(n2.state, node_state(&rig.world, "n2"));
    assert_eq!((n1.state.policies.len(), n2.state.policies.len()), (1, 0));
    assert_eq!((n1.state.endpoints.len(), n2.state.endpoints.len()), (2, 1));

    // a policy for n2 that names the pods of n1 is no message for n1
    rig.apply(&policy("web", "web", 1)).await;
    n2.step().await.unwrap();
    rig.apply(&policy("db", "db", 2)).await;
    n1.step().await.unwrap();
    assert_eq!((n1.batches, n2.batches), (1, 1));
    assert_eq!(n1.state, node_state(&rig.world, "n1"));
    assert_eq!(n2.state, node_state(&rig.world, "n2"));
    assert_eq!(rig.refused(), [0; 4]);
}

#[tokio::test]
async fn a_stranger_gets_nothing() {
    let rig = Rig::with(WORLD).await;
    let node = Role::Node("n1".to_owned());
    let other = Authority::create().unwrap().issue(&node, Validity::default()).unwrap();
    let expired = rig.authority.issue(&node, Validity::days(-30, -2)).unwrap();
    let early = rig.authority.issue(&node, Validity::days(2, 30)).unwrap();
    for pair in [None, Some(&other), Some(&expired), Some(&early)] {
        // the client learns of the refusal with its first read, which may be in or after connecting
        if let Ok(channel) = rig.channel(pair).await {
            let status = Agent::connect(channel.clone(), "n1").await;
            let status = match status {
                Ok(mut agent) => agent.step().await,
                Err(status) => Err(status),
            };
            assert!(status.is_err(), "{status:?}");
            let mut tool = v1::inspection_client::InspectionClient::new(channel);
            assert!(tool.status(v1::StatusRequest {}).await.is_err());
        }
    }
    // a certificate of ours is not enough: it must be of the right kind
    for role in [Role::Server(vec!["n1".to_owned()]), Role::Operator("n1".to_owned())] {
        let pair = rig.issue(role.clone());
        let Ok(channel) = rig.channel(Some(&pair)).await else {
            // TLS itself refuses a server's certificate as a client's
            assert!(matches!(role, Role::Server(_)));
            continue;
        };
        let status = Agent::connect(channel, "n1").await.err().unwrap();
        assert!(
            matches!(status.code(), Code::PermissionDenied | Code::Unknown | Code::Unavailable),
            "{status:?}"
        );
    }
    let mut tool = v1::inspection_client::InspectionClient::new(rig.node_channel("n1").await);
    for status in [
        tool.status(v1::StatusRequest {}).await.err().unwrap(),
        tool.world(v1::WorldRequest {}).await.err().unwrap(),
        tool.node(v1::NodeQuery::default()).await.err().unwrap(),
    ] {
        assert_eq!(status.code(), Code::PermissionDenied);
    }
    assert_eq!(rig.refused(), [4, 0, 0, 0]);
    assert_eq!(rig.hub.summary().streams, 0);
}

#[tokio::test]
async fn a_node_speaks_for_itself_only() {
    let rig = Rig::with(WORLD).await;
    let mut agent = Agent::connect(rig.node_channel("n2").await, "n1").await.unwrap();
    let status = agent.end().await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("the credentials are those of node n2"), "{status:?}");
    assert_eq!(rig.refused(), [0, 1, 0, 0]);
    assert_eq!(agent.snapshots, 0);
}

#[tokio::test]
async fn an_agent_that_is_too_old_is_told_so() {
    let rig = Rig::with(WORLD).await;
    let (to, outbound) = tokio::sync::mpsc::channel(1);
    let hello = v1::Hello { node: "n1".to_owned(), ..v1::Hello::default() };
    to.send(v1::AgentMessage { kind: Some(FromAgent::Hello(hello)) }).await.unwrap();
    let mut client = v1::distribution_client::DistributionClient::new(rig.node_channel("n1").await);
    let outbound = tokio_stream::wrappers::ReceiverStream::new(outbound);
    let mut from = client.follow(outbound).await.unwrap().into_inner();
    let status = from.message().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("protocol 0 is too old"), "{status:?}");
}

/// Sends bytes as they are.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut out = vec![0; from.remaining()];
        from.copy_to_slice(&mut out);
        Ok(Some(out))
    }
}

/// What comes of a stream whose messages are these bytes.
async fn send_raw(rig: &Rig, messages: Vec<Vec<u8>>) -> Status {
    let mut client = tonic::client::Grpc::new(rig.node_channel("n2").await);
    client.ready().await.unwrap();
    let path = "/weir.v1.Distribution/Follow".parse().unwrap();
    let messages = tokio_stream::iter(messages);
    let request = tonic::Request::new(messages);
    let mut from = match client.streaming(request, path, Raw).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    loop {
        match from.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok(""),
            Err(status) => return status,
        }
    }
}

/// What comes of a question of one message, if one that never ends.
async fn ask(
    channel: tonic::transport::Channel,
    path: &'static str,
    body: Option<Vec<u8>>,
) -> Status {
    use tokio_stream::StreamExt;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let whole = body.is_some();
    let body = tokio_stream::iter(body);
    let body: std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Vec<u8>> + Send>> = match whole {
        true => Box::pin(body),
        false => Box::pin(body.chain(tokio_stream::pending())),
    };
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    let answer = client.client_streaming(tonic::Request::new(body), path, Raw);
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("waits for the body");
    answer.map_or_else(|status| status, |_| Status::ok(""))
}

#[tokio::test]
async fn identity_comes_before_the_body() {
    let rig = Rig::with(WORLD).await;
    for path in ["/weir.v1.Inspection/Status", "/weir.v1.Inspection/Node", "/weir.v1.Replicas/Told"]
    {
        let status = ask(rig.node_channel("n1").await, path, None).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{path}: {status:?}");
    }
}

#[tokio::test]
async fn questions_are_short() {
    let rig = Rig::with(WORLD).await;
    let channel = |role: Role| {
        let pair = rig.issue(role);
        async { rig.channel(Some(&{ pair })).await.unwrap() }
    };
    for (role, path) in [
        (Role::Operator("admin".to_owned()), "/weir.v1.Inspection/Status"),
        (Role::Replica("r".to_owned()), "/weir.v1.Replicas/Told"),
    ] {
        // a field that nobody knows, and with it 256 KiB or one byte more
        let question = |length: usize| {
            let mut bytes = vec![0xfa, 0x7f];
            let mut size = length - 5;
            while size >= 0x80 {
                bytes.push(0x80 | (size & 0x7f) as u8);
                size >>= 7;
            }
            bytes.push(size as u8);
            bytes.resize(length, 0);
            bytes
        };
        let status = ask(channel(role.clone()).await, path, Some(question(256 << 10))).await;
        assert_eq!(status.code(), Code::Ok, "{path}: {status:?}");
        let status = ask(channel(role).await, path, Some(question((256 << 10) + 1))).await;
        assert_eq!(status.code(), Code::OutOfRange, "{path}: {status:?}");
    }
}

#[tokio::test]
async fn bad_messages_close_their_own_stream_only() {
    let mut rig = Rig::with(WORLD).await;
    let mut good = rig.agent("n1").await;
    good.step().await.unwrap();

    let status = send_raw(&rig, vec![vec![0xff; 40]]).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let status = send_raw(&rig, vec![vec![0; MAX_TO_CONTROLLER + 1]]).await;
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(status.message().contains("4194304"), "{status:?}");
    let status = send_raw(&rig, vec![Vec::new()]).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(status.message(), "the first message must be hello");

    // twice hello
    let mut agent = rig.agent("n2").await;
    agent.step().await.unwrap();
    agent.say(FromAgent::Hello(v1::Hello::default())).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);
    assert_eq!(rig.refused(), [0, 0, 0, 4]);

    // answers that nobody asked for, and reports about nothing, are harmless
    let mut agent = rig.agent("n2").await;
    agent.step().await.unwrap();
    agent
        .say(FromAgent::Answer(v1::Answer { query: 77, last: true, ..v1::Answer::default() }))
        .await;
    let result = v1::PolicyResult { generation: 3, ..v1::PolicyResult::default() };
    agent.realized(vec![result; 1000]).await;

    rig.apply(&policy("db", "db", 2)).await;
    good.step().await.unwrap();
    assert_eq!(good.state, node_state(&rig.world, "n1"));
    assert_eq!(good.snapshots, 1);
}

#[tokio::test]
async fn nothing_is_served_before_the_source_has_synced() {
    let mut rig = Rig::new().await;
    let mut agent = rig.agent("n1").await;
    let status = rig.operator().await.status(v1::StatusRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    rig.feed.waits_for("p.yaml: document 1: line 3: no");
    let status = rig.operator().await.status(v1::StatusRequest {}).await.unwrap_err();
    assert_eq!(
        status.message(),
        "the source has not been read yet: p.yaml: document 1: line 3: no"
    );
    // in two batches: an agent that were served in between would see the first alone
    rig.apply(&policy("db", "db", 1)).await;
    rig.hub.revision(1).await.unwrap();
    rig.apply(WORLD).await;
    rig.send(vec![Event::Synced]).await;
    agent.step().await.unwrap();
    assert_eq!((agent.snapshots, agent.batches), (1, 0));
    assert_eq!(agent.state, node_state(&rig.world, "n1"));
}

/// What one event changes is encoded once, however many streams it goes to.
#[tokio::test]
async fn a_delta_is_encoded_once_for_all_streams() {
    let nodes: Vec<String> = (0..6).map(|n| format!("m{n}")).collect();
    let pods: Vec<String> = nodes
        .iter()
        .zip(1..)
        .map(|(node, n)| {
            format!(
                "{{kind: Pod, metadata: {{namespace: shop, name: p{n}, labels: {{app: web}}}}, \
                 spec: {{nodeName: {node}}}, status: {{podIPs: [{{ip: 10.0.0.{n}}}]}}}}"
            )
        })
        .collect();
    let mut rig = Rig::with(&pods.join("\n---\n")).await;
    let mut agents = Vec::new();
    for node in &nodes {
        let mut agent = rig.agent(node).await;
        agent.step().await.unwrap();
        agents.push(agent);
    }
    let count = |rig: &Rig| {
        let counters = rig.hub.counters();
        [&counters.changes_encoded, &counters.deltas_sent].map(|c| c.load(Ordering::Relaxed))
    };
    assert_eq!(count(&rig), [0, 0], "snapshots share what the index encodes");
    rig.apply(&policy("web", "web", 1)).await;
    for (agent, node) in agents.iter_mut().zip(&nodes) {
        agent.step().await.unwrap();
        assert_eq!(agent.state, node_state(&rig.world, node));
    }
    // the group and the policy, once each; one delta for each stream
    assert_eq!(count(&rig), [2, nodes.len() as u64]);
}

/// An agent that does not read gets a snapshot when it does, and holds up nobody.
#[tokio::test]
async fn a_slow_agent_slows_nobody_else() {
    let mut rig = Rig::with(WORLD).await;
    let mut fast = rig.agent("n1").await;
    fast.step().await.unwrap();
    rig.apply(&policy("web", "web", 1)).await;
    let mut slow = rig.agent("n2").await;
    slow.step().await.unwrap();

    // policies of both nodes, one large enough to fill every buffer on the way
    let blocks: Vec<String> = (0..4000)
        .map(|n| format!("{{ipBlock: {{cidr: 10.{}.{}.0/24}}}}", n / 256, n % 256))
        .collect();
    let rules = format!("ingress: [{{from: [{}]}}], podSelector", blocks.join(", "));
    let large = events(&policy("web", "web", 1).replace("podSelector", &rules)).remove(0);
    let mut steps = 0;
    while rig.hub.counters().streams_behind.load(Ordering::Relaxed) == 0 {
        steps += 1;
        let mut batch = events(&policy("db", "db", 1 + steps));
        let mut large = large.clone();
        if let Event::PolicyApplied { object, .. } = &mut large {
            object.policy.generation = 1 + steps;
        }
        batch.push(large);
        rig.send(batch).await;
        fast.step().await.unwrap();
        assert!(steps < 10_000, "it can buffer no end");
    }
    // and when it is behind the others go on all the same
    for _ in 0..10 {
        steps += 1;
        rig.apply(&policy("db", "db", 1 + steps)).await;
        fast.step().await.unwrap();
    }
    assert_eq!((fast.snapshots, i64::try_from(fast.batches).unwrap()), (1, steps));
    assert_eq!(fast.state, node_state(&rig.world, "n1"));

    slow.reach(&rig.world).await;
    assert_eq!(slow.snapshots, 2, "one more, after {steps} steps");
    assert_eq!(rig.hub.counters().snapshots_slow.load(Ordering::Relaxed), 1);
    // and from there on it follows
    let batches = slow.batches;
    rig.apply(&policy("web", "web", 100_000)).await;
    slow.step().await.unwrap();
    assert_eq!((slow.snapshots, slow.batches), (2, batches + 1));
    assert_eq!(slow.state, node_state(&rig.world, "n2"));
}

#[tokio::test]
async fn the_newer_stream_of_a_node_takes_over() {
    let mut rig = Rig::with(WORLD).await;
    let mut old = rig.agent("n1").await;
    old.step().await.unwrap();
    let mut new = rig.agent("n1").await;
    new.step().await.unwrap();
    let status = old.end().await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::Aborted, "a newer stream of this node took over")
    );
    rig.apply(&policy("db", "db", 2)).await;
    new.step().await.unwrap();
    assert_eq!(new.state, node_state(&rig.world, "n1"));
}

#[tokio::test]
async fn draining_ends_streams_and_the_service() {
    let mut rig = Rig::with(WORLD).await;
    let mut agent = rig.agent("n1").await;
    agent.step().await.unwrap();
    rig.drain.cancel();
    let status = agent.end().await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "the controller is shutting down")
    );
    drop(agent);
    rig.serving.take().unwrap().join().await.unwrap().unwrap();
}

#[tokio::test]
async fn the_world_reads_back() {
    let rig = Rig::with(WORLD).await;
    let mut parts = rig.operator().await.world(v1::WorldRequest {}).await.unwrap().into_inner();
    let mut world = World::default();
    while let Some(part) = parts.message().await.unwrap() {
        assert_eq!(part.revision, rig.hub.summary().revision);
        for text in part.objects {
            let value = serde_json::from_str(&text).unwrap();
            let (object, warnings) = k8s::object(&value).unwrap();
            assert_eq!(warnings, []);
            object.unwrap().put(&mut world);
        }
    }
    assert_eq!(world, rig.world);
}

#[tokio::test]
async fn status_follows_acknowledgements() {
    let mut rig = Rig::with(WORLD).await;
    let mut operator = rig.operator().await;
    let mut agent = rig.agent("n1").await;
    agent.step().await.unwrap();
    rig.apply(&policy("db", "db", 2)).await;
    agent.step().await.unwrap();
    let status = operator.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.source, "test");
    assert_eq!((status.policies[0].nodes_desired, status.policies[0].nodes_realized), (1, 0));
    assert_eq!(status.policies[0].pending, ["n1"]);

    let result = v1::PolicyResult {
        policy: Some(key_to_proto(&PolicyKey::network_policy("shop", "db"))),
        generation: 2,
        realized: true,
        failures: Vec::new(),
        flows: 7,
    };
    agent.realized(vec![result]).await;
    // the report and this question come on different connections
    let status = loop {
        let status = operator.status(v1::StatusRequest {}).await.unwrap().into_inner();
        if status.policies[0].nodes_realized == 1 {
            break status;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(status.policies[0].latencies_us.len(), 1);
    assert_eq!((status.policies[0].flows_max, status.policies[0].flows_node.as_str()), (7, "n1"));
    let n1 = &status.nodes[0];
    assert_eq!((&*n1.name, n1.connected, n1.revision, n1.flows), ("n1", true, status.revision, 42));
    assert_eq!((&*n1.agent_version, &*n1.ovs_version), ("test", "3.1.0"));
    assert!(!status.nodes[1].connected);
}

#[tokio::test]
async fn questions_reach_the_agent_and_come_back() {
    let rig = Rig::with(WORLD).await;
    let mut operator = rig.operator().await;
    let ask = |node: &str| v1::NodeQuery { node: node.to_owned(), what: "flows".to_owned() };
    for node in ["n1", "nowhere"] {
        let status = operator.node(ask(node)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), format!("node {node} is not connected"));
    }
    let mut agent = rig.agent("n1").await;
    agent.step().await.unwrap();
    let answering = weir_runtime::task::spawn("agent", async move { agent.end().await });
    let mut parts = operator.node(ask("n1")).await.unwrap().into_inner();
    let mut text = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        text.extend(part.data);
    }
    assert_eq!(String::from_utf8(text).unwrap(), "flows 1\nflows 2\nflows 3\n");
    drop(answering);
}

/// An agent that never answers costs its asker the time, and the next one nothing.
#[tokio::test]
async fn a_silent_agent_is_given_up() {
    let rig = Rig::with(WORLD).await;
    let mut operator = rig.operator().await;
    let mut agent = rig.agent("n1").await;
    agent.step().await.unwrap();
    let query = v1::NodeQuery { node: "n1".to_owned(), what: "flows".to_owned() };
    let mut parts = operator.node(query).await.unwrap().into_inner();
    // the agent goes instead of answering
    drop(agent);
    let end = parts.message().await;
    assert!(matches!(end, Ok(None) | Err(_)), "{end:?}");
}
