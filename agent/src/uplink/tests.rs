mod peer;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use weir_api::holdings::{Hashes, ObjectHash};
use weir_policy::group::Group;
use weir_policy::ids::{GroupId, PolicyKey};
use weir_policy::state::NodeInfo;

use super::*;
use peer::{Agent, Authority, Callers, Controller};

fn node(name: &str) -> Change {
    Change::Node(NodeInfo { name: name.into(), addresses: BTreeSet::new() })
}

fn group(id: u64) -> Change {
    Change::Group(Group { id: GroupId(id), selector: "shop {}".into(), members: BTreeSet::new() })
}

fn state(groups: &[u64]) -> NodeState {
    let mut state = NodeState::default();
    state.apply(groups.iter().map(|id| group(*id)).chain([node("n1")]));
    state
}

fn snapshot(event: &Event) -> &NodeState {
    match &event.what {
        What::Snapshot { state, .. } => state,
        What::Delta { .. } => panic!("{event:?}"),
    }
}

/// A controller and an agent that knows it.
async fn pair() -> (Controller, Agent) {
    let authority = Authority::new();
    let controller = Controller::start(&authority).await;
    let agent = Agent::start(&authority, vec![controller.url()]);
    (controller, agent)
}

#[tokio::test]
async fn a_snapshot_is_handed_on_whole_and_changes_after_it() {
    let (mut controller, mut agent) = pair().await;
    let mut peer = controller.accept().await;
    let hello = peer.hello().await;
    assert_eq!((hello.node.as_str(), hello.ovs_version.as_str()), ("n1", "3.1.0"));
    assert_eq!(hello.protocol, weir_api::version::PROTOCOL);
    peer.begin(7).await;
    peer.batch(7, &[node("n1"), group(1)]).await;
    peer.batch(7, &[group(2)]).await;
    peer.end(7).await;
    peer.batch(8, &[group(3), Change::RemoveGroup(GroupId(1))]).await;
    let event = agent.event().await;
    assert_eq!((event.stream, event.revision), (1, 7));
    assert_eq!(snapshot(&event), &state(&[1, 2]));
    let event = agent.event().await;
    assert_eq!((event.stream, event.revision), (1, 8));
    let changes = vec![group(3), Change::RemoveGroup(GroupId(1))];
    assert_eq!(event.what, What::Delta { changes, refused: Vec::new() });
    // a slow agent is given a fresh snapshot on the same stream
    peer.begin(9).await;
    peer.batch(9, &[node("n1"), group(5)]).await;
    peer.end(9).await;
    assert_eq!(snapshot(&agent.event().await), &state(&[5]));
    assert!(agent.status.borrow().connected);

    agent.stop.cancel();
    agent.task.join().await.unwrap();
    assert!(peer.ended().await);
}

#[tokio::test]
async fn half_a_snapshot_is_nothing() {
    let (mut controller, mut agent) = pair().await;
    let peer = controller.accept().await;
    peer.begin(7).await;
    peer.batch(7, &[node("n1"), group(1)]).await;
    drop(peer);
    let peer = controller.accept().await;
    peer.begin(8).await;
    peer.batch(8, &[node("n1"), group(2)]).await;
    peer.end(8).await;
    let event = agent.event().await;
    assert_eq!((event.stream, event.revision), (2, 8));
    assert_eq!(snapshot(&event), &state(&[2]));
}

/// What a controller that has this state says to an agent that holds something: the buckets, the changes, the digest.
fn difference(
    holdings: &v1::Holdings,
    wanted: &NodeState,
) -> (v1::Buckets, Vec<bytes::Bytes>, [u8; 32]) {
    let empty = NodeState { node: wanted.node.clone(), ..NodeState::default() };
    let changes = std::iter::once(Change::Node(wanted.node.clone())).chain(empty.diff(wanted));
    let mut objects: Vec<_> = changes.map(|c| weir_api::convert::change_to_bytes(&c)).collect();
    let hashes: Hashes = objects.iter().map(|object| ObjectHash::of(object)).collect();
    let difference = hashes.compare(holdings).unwrap();
    objects.retain(|object| difference.holds(&ObjectHash::of(object)));
    (difference.to_proto(), objects, hashes.digest())
}

#[tokio::test]
async fn what_differs_is_enough_for_an_agent_that_holds_something() {
    let authority = Authority::new();
    let mut controller = Controller::start(&authority).await;
    let mut agent = Agent::start(&authority, vec![controller.url()]);
    let mut peer = controller.accept().await;
    assert_eq!(peer.hello().await.holdings, None, "it holds nothing yet");
    let held: Vec<u64> = (1..40).collect();
    agent.held.send_replace(Some(state(&held)));
    drop(peer);

    let mut peer = controller.accept().await;
    let holdings = peer.hello().await.holdings.unwrap();
    let wanted = state(&(3..42).collect::<Vec<_>>());
    let (only, changes, digest) = difference(&holdings, &wanted);
    assert!(changes.len() < 30, "{}", changes.len());
    peer.begin_with(7, weir_api::version::PROTOCOL, Some(only)).await;
    peer.raw(7, changes).await;
    peer.end_with(7, &digest).await;
    peer.batch(8, &[group(50)]).await;
    let event = agent.event().await;
    assert_eq!((event.stream, event.revision), (2, 7));
    assert_eq!(snapshot(&event), &wanted);
    assert!(matches!(agent.event().await.what, What::Delta { .. }));
}

/// A controller from before there were holdings passes over them.
#[tokio::test]
async fn everything_is_taken_from_a_controller_that_asks_for_nothing_else() {
    let authority = Authority::new();
    let mut controller = Controller::start(&authority).await;
    let mut agent = Agent::start(&authority, vec![controller.url()]);
    agent.held.send_replace(Some(state(&[1, 2, 3])));
    let peer = controller.accept().await;
    peer.begin(7).await;
    peer.batch(7, &[node("n1"), group(2)]).await;
    peer.end(7).await;
    assert_eq!(snapshot(&agent.event().await), &state(&[2]));
}

#[tokio::test]
async fn a_result_that_is_not_the_controllers_is_not_handed_on() {
    let authority = Authority::new();
    let mut controller = Controller::start(&authority).await;
    let mut agent = Agent::start(&authority, vec![controller.url()]);
    let (none, protocol) = (|| Some(v1::Buckets::default()), weir_api::version::PROTOCOL);
    // this one may have come before it held anything
    drop(controller.accept().await);
    agent.held.send_replace(Some(state(&[1, 2, 3])));
    drop(controller.accept().await);
    // the stream that ends before everything came
    let mut peer = controller.accept().await;
    assert!(peer.hello().await.holdings.is_some());
    peer.begin_with(7, protocol, none()).await;
    peer.end_with(7, &[7; 32]).await;
    let v1::agent_message::Kind::SendAll(again) = peer.next().await else { panic!("no doubt") };
    assert_eq!(again.revision, 7);
    drop(peer);

    // nothing is said to be held then, and a controller that tells what differs all the same is not believed
    let mut peer = controller.accept().await;
    assert_eq!(peer.hello().await.holdings, None);
    peer.begin_with(8, protocol, none()).await;
    agent.error("nothing was told to be held").await;

    // nor is one that names what is not
    let mut peer = controller.accept().await;
    assert_eq!(peer.hello().await.holdings, None);
    peer.begin(9).await;
    peer.batch(9, &[node("n1"), group(1)]).await;
    peer.end(9).await;
    assert_eq!(snapshot(&agent.event().await), &state(&[1]));
    drop(peer);
    let mut peer = controller.accept().await;
    assert!(peer.hello().await.holdings.is_some(), "after a whole snapshot there is no doubt");
    let beyond = v1::Buckets { numbers: vec![0, 1 << 20] };
    peer.begin_with(10, protocol, Some(beyond)).await;
    agent.error("names a bucket that there is not").await;

    // on one and the same stream: what comes between is about a state that the agent has not
    let mut peer = controller.accept().await;
    assert_eq!(peer.hello().await.holdings, None);
    peer.begin(11).await;
    peer.batch(11, &[node("n1"), group(1)]).await;
    peer.end(11).await;
    assert_eq!(snapshot(&agent.event().await), &state(&[1]));
    drop(peer);
    let mut peer = controller.accept().await;
    assert!(peer.hello().await.holdings.is_some());
    peer.begin_with(12, protocol, none()).await;
    peer.end_with(12, &[]).await;
    peer.batch(13, &[group(9)]).await;
    assert!(matches!(peer.next().await, v1::agent_message::Kind::SendAll(_)));
    peer.begin(14).await;
    peer.batch(14, &[node("n1"), group(2)]).await;
    peer.end(14).await;
    let event = agent.event().await;
    assert_eq!((event.revision, snapshot(&event)), (14, &state(&[2])));
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_stream_and_changes_nothing() {
    let (mut controller, mut agent) = pair().await;
    let peer = controller.accept().await;
    peer.batch(1, &[group(1)]).await;
    agent.error("a batch came before any snapshot").await;
    let peer = controller.accept().await;
    peer.end(1).await;
    agent.error("end of a snapshot came without its begin").await;
    let peer = controller.accept().await;
    peer.begin_as(1, 0).await;
    agent.error("too old").await;
    let peer = controller.accept().await;
    peer.begin(1).await;
    peer.batch(1, &[node("n2")]).await;
    peer.end(1).await;
    agent.error("takes this agent for node \"n2\"").await;
    let peer = controller.accept().await;
    peer.begin(1).await;
    peer.raw(1, vec![vec![0; weir_api::version::MAX_TO_AGENT + 1].into()]).await;
    agent.error("ended the stream").await;
    // after all this a good one is taken
    let peer = controller.accept().await;
    peer.begin(2).await;
    peer.batch(2, &[node("n1")]).await;
    peer.end(2).await;
    assert_eq!(snapshot(&agent.event().await), &state(&[]));
}

#[tokio::test]
async fn what_is_not_understood_is_refused_by_name_and_the_rest_handed_on() {
    let (mut controller, mut agent) = pair().await;
    let peer = controller.accept().await;
    let bad = v1::Policy {
        key: Some(v1::PolicyKey { kind: 1, namespace: "shop".to_owned(), name: "db".to_owned() }),
        generation: 4,
        subject: 1,
        isolates_ingress: true,
        rules: vec![v1::Rule { path: "ingress[0]".to_owned(), action: 99, ..v1::Rule::default() }],
        ..v1::Policy::default()
    };
    let bad = v1::Change { kind: Some(v1::change::Kind::Policy(bad)) }.encode_to_vec();
    let good = [node("n1"), group(1)];
    let mut changes: Vec<_> = good.iter().map(weir_api::convert::change_to_bytes).collect();
    changes.insert(1, bad.into());
    peer.begin(7).await;
    peer.raw(7, changes).await;
    peer.end(7).await;
    let What::Snapshot { state, refused } = agent.event().await.what else {
        panic!("no snapshot");
    };
    let key = PolicyKey::network_policy("shop", "db");
    assert_eq!(state.groups.len(), 1);
    assert!(state.policies[&key].rules.is_empty() && !state.policies[&key].isolates.is_empty());
    assert_eq!(refused[0].policy, Some((key, 4)));
}

#[tokio::test]
async fn reports_go_to_the_stream_they_are_about() {
    let (mut controller, mut agent) = pair().await;
    let report = |stream, revision, name: &str| {
        let key = PolicyKey::network_policy("shop", name);
        let failures = vec!["ingress[0]: no".to_owned()];
        let outcome = Outcome { generation: 3, failures, flows: 4 };
        Report {
            stream,
            revision,
            results: BTreeMap::from([(key, outcome)]),
            gaps: vec!["no SCTP".to_owned()],
            ports_ready: 2,
            ports_closed: 1,
            flows: 99,
        }
    };
    let mut peer = controller.accept().await;
    peer.hello().await;
    agent.outbox.push(report(1, 7, "a"));
    let realized = peer.realized().await;
    assert_eq!((realized.revision, realized.flows), (7, 99));
    assert_eq!((realized.ports_ready, realized.ports_closed), (2, 1));
    assert_eq!(realized.gaps, ["no SCTP"]);
    let [result] = &realized.results[..] else { panic!("{realized:?}") };
    assert_eq!((result.generation, result.realized), (3, false));
    assert_eq!(result.failures, ["ingress[0]: no"]);

    drop(peer);
    agent.error("ended the stream").await;
    // said to nobody: what it is about is the first stream's state
    agent.outbox.push(report(1, 8, "b"));
    let mut peer = controller.accept().await;
    peer.hello().await;
    agent.outbox.push(report(2, 1, "c"));
    let realized = peer.realized().await;
    assert_eq!(realized.revision, 1);
    assert_eq!(realized.results[0].policy.as_ref().unwrap().name, "c");
}

#[tokio::test]
async fn questions_are_handed_on_and_too_many_answered_at_once() {
    let (mut controller, mut agent) = pair().await;
    let mut peer = controller.accept().await;
    peer.hello().await;
    peer.query(1, "flows").await;
    peer.query(2, "state").await;
    let v1::agent_message::Kind::Answer(answer) = peer.next().await else { panic!("no answer") };
    assert_eq!((answer.query, answer.last), (2, true));
    assert!(answer.error.contains("too many"), "{}", answer.error);
    let query = agent.queries.recv().await.unwrap();
    assert_eq!((query.id, query.what.as_str()), (1, "flows"));
    let answer = v1::Answer { query: 1, last: true, ..v1::Answer::default() };
    let kind = Some(v1::agent_message::Kind::Answer(answer.clone()));
    query.reply.send(v1::AgentMessage { kind }).await.unwrap();
    assert_eq!(peer.next().await, v1::agent_message::Kind::Answer(answer));
}

#[tokio::test]
async fn another_replica_is_tried_when_one_is_away() {
    let authority = Authority::new();
    let mut controller = Controller::start(&authority).await;
    // a port that nobody listens on
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("https://{}", away.local_addr().unwrap());
    drop(away);
    let _agent = Agent::start(&authority, vec![dead.clone(), controller.url(), dead]);
    assert_eq!(controller.accept().await.hello().await.node, "n1");
}

#[tokio::test]
async fn a_stranger_is_not_followed() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let controller = Controller::start(&theirs).await;
    let mut agent = Agent::start(&ours, vec![controller.url()]);
    agent.error("connecting failed").await;
    assert!(!agent.status.borrow().connected);
}

#[tokio::test]
async fn files_that_are_missing_and_urls_without_tls_are_named() {
    let (missing, files) = Agent::dir();
    let config = UplinkConfig {
        node: "n1".to_owned(),
        controllers: vec!["https://127.0.0.1:1".to_owned()],
        ca: missing.join("ca.pem"),
        credentials: Credentials::Certificate {
            cert: missing.join("n1.pem"),
            key: missing.join("n1.key"),
        },
        server_name: None,
        backoff: (Duration::from_millis(1), Duration::from_millis(20)),
    };
    let mut agent = Agent::with(config.clone(), files);
    agent.error("/nonexistent/ca.pem cannot be read").await;
    let plain = UplinkConfig { controllers: vec!["http://127.0.0.1:1".to_owned()], ..config };
    let mut agent = Agent::with(plain, tempfile::tempdir().unwrap());
    agent.error("is not https://HOST:PORT").await;
}

#[tokio::test]
async fn a_token_is_read_for_each_connection_and_shown_to_every_address_of_a_name() {
    let authority = Authority::new();
    let mut controller = Controller::start_for(&authority, Callers::Any, "localhost").await;
    let files = tempfile::tempdir().unwrap();
    let token = files.path().join("token");
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    std::fs::write(&token, "  ").unwrap();
    let config = UplinkConfig {
        node: "n1".to_owned(),
        controllers: vec![format!("https://localhost:{}", controller.address.port())],
        ca,
        credentials: Credentials::Token(token.clone()),
        server_name: None,
        backoff: (Duration::from_millis(1), Duration::from_millis(20)),
    };
    let mut agent = Agent::with(config, files);
    agent.error("is no token").await;
    std::fs::write(&token, "first\n").unwrap();
    let peer = controller.accept().await;
    assert_eq!(peer.authorization.as_deref(), Some("Bearer first"));
    assert!(agent.status.borrow().controller.ends_with("(127.0.0.1)"));
    std::fs::write(&token, "second").unwrap();
    drop(peer);
    assert_eq!(controller.accept().await.authorization.as_deref(), Some("Bearer second"));
}
