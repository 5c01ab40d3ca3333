//! Agents that come with a state: what they are told, and what they have then.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]
#![allow(clippy::clone_on_ref_ptr, reason = "`Str` is shared text")]

mod support;

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use support::{Agent, Rig};
use weir_api::convert::{change_from_bytes, frames};
use weir_api::holdings::{Hashes, Held, ObjectHash};
use weir_api::v1;
use weir_api::v1::agent_message::Kind as FromAgent;
use weir_controller::event::Event;
use weir_controller::index::Index;
use weir_policy::compile::node_state;
use weir_policy::state::NodeState;
use weir_policy::strategy::{self, NODES};
use weir_policy::world::World;

fn index(world: &World) -> Index {
    let mut events = Vec::new();
    for (name, labels) in &world.namespaces {
        events.push(Event::NamespaceApplied { name: name.clone(), labels: labels.clone() });
    }
    events.extend(world.nodes.values().cloned().map(Event::NodeApplied));
    events.extend(world.pods.values().cloned().map(Event::PodApplied));
    events.extend(world.workloads.values().cloned().map(Event::WorkloadApplied));
    events.extend(world.policies.values().map(|object| Event::PolicyApplied {
        object: Box::new(object.clone()),
        manifest: "{}".into(),
    }));
    events.push(Event::Synced);
    let mut index = Index::new();
    index.apply(events);
    index
}

proptest! {
    /// What the controller encodes is what an agent makes of it again, byte by byte; and what differs between two worlds
    /// leads from the one to the other.
    #[test]
    fn both_ends_hash_the_same_and_the_difference_is_enough(
        mut world in strategy::world(),
        changes in proptest::collection::vec(strategy::mutation(), 0..6),
    ) {
        let before: Vec<NodeState> = NODES.iter().map(|node| node_state(&world, node)).collect();
        for change in &changes {
            change.apply(&mut world);
        }
        let mut index = index(&world);
        for (node, before) in NODES.iter().zip(before) {
            let wanted = node_state(&world, node);
            let number = index.node_number(node);
            let objects: Vec<_> = index.snapshot(number).into_iter().flat_map(frames).collect();
            let hashes: Hashes = objects.iter().map(|object| ObjectHash::of(object)).collect();
            prop_assert_eq!(&hashes, &Hashes::of(&wanted));

            let held = Held::new(before);
            let difference = hashes.compare(&held.to_proto()).unwrap();
            let mut state = held.without(&difference.to_proto()).unwrap();
            let sent = objects.iter().filter(|object| difference.holds(&ObjectHash::of(object)));
            state.apply(sent.map(|object| change_from_bytes(object).unwrap()));
            prop_assert_eq!(state, wanted);
        }
    }
}

/// Twenty pods on each of two nodes, and a policy for them.
fn world() -> String {
    let mut out = String::from(
        "{kind: Namespace, metadata: {name: shop}}\n---\n{kind: Node, metadata: {name: n1}}\n---\n\
         {kind: Node, metadata: {name: n2}}\n",
    );
    for pod in 0..40 {
        let node = 1 + pod / 20;
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

fn counts(rig: &Rig) -> [u64; 4] {
    let c = rig.hub.counters();
    [&c.snapshots_new, &c.snapshots_partial, &c.snapshots_doubted, &c.snapshots_slow]
        .map(|c| c.load(Ordering::Relaxed))
}

async fn reconnect(rig: &Rig, state: NodeState) -> Agent {
    Agent::reconnect(rig.node_channel("n1").await, "n1", state).await.unwrap()
}

#[tokio::test]
async fn another_replica_tells_only_what_is_different_there() {
    let first = Rig::with(&world()).await;
    let mut agent = first.agent("n1").await;
    agent.step().await.unwrap();
    assert_eq!(agent.state, node_state(&first.world, "n1"));
    let whole = agent.bytes;
    assert!(whole > 1_500, "{whole}");

    // nothing is: two short messages, and no change at all
    let mut second = Rig::with(&world()).await;
    let state = agent.state;
    let mut agent = reconnect(&second, state.clone()).await;
    agent.step().await.unwrap();
    assert_eq!((agent.changes, agent.snapshots, &agent.state), (0, 1, &state));
    assert!(agent.bytes < 150, "{}", agent.bytes);
    assert_eq!(counts(&second), [1, 1, 0, 0]);

    // the stream goes on as any other
    second.apply(&policy(2)).await;
    agent.step().await.unwrap();
    assert_eq!((agent.batches, &agent.state), (1, &node_state(&second.world, "n1")));

    // one is: a part of the whole
    let mut agent = reconnect(&second, state).await;
    agent.step().await.unwrap();
    assert_eq!(agent.state, node_state(&second.world, "n1"));
    assert!(agent.changes > 0 && agent.bytes * 2 < whole, "{} of {whole}", agent.bytes);
    assert_eq!(counts(&second), [2, 2, 0, 0]);
}

#[tokio::test]
async fn an_agent_with_another_nodes_state_gets_its_own() {
    let rig = Rig::with(&world()).await;
    let mut agent = reconnect(&rig, node_state(&rig.world, "n2")).await;
    agent.step().await.unwrap();
    assert_eq!(agent.state, node_state(&rig.world, "n1"));
    assert_eq!((agent.doubts, counts(&rig)), (0, [1, 1, 0, 0]));
}

#[tokio::test]
async fn an_agent_that_does_not_hold_what_it_said_gets_everything() {
    let mut rig = Rig::with(&world()).await;
    let wanted = node_state(&rig.world, "n1");
    let mut agent = reconnect(&rig, wanted.clone()).await;
    // it lost some, and does not know
    let mut less = wanted.clone();
    less.policies.clear();
    agent.held = Some(Held::new(less));
    agent.step().await.unwrap();
    assert_eq!((agent.doubts, agent.snapshots, &agent.state), (1, 1, &wanted));
    assert_eq!(counts(&rig), [1, 1, 1, 0]);
    rig.apply(&policy(2)).await;
    agent.step().await.unwrap();
    assert_eq!((agent.batches, &agent.state), (1, &node_state(&rig.world, "n1")));
}

/// Holdings of another form, of a number of buckets that is none, or too many, are as good as none.
#[tokio::test]
async fn holdings_that_say_nothing_cost_nothing() {
    let rig = Rig::with(&world()).await;
    let good = Held::new(node_state(&rig.world, "n1")).to_proto();
    let other = v1::Holdings { form: good.form + 1, ..good.clone() };
    let odd = v1::Holdings { digests: good.digests.slice(1..), ..good.clone() };
    let many = v1::Holdings { digests: vec![7; 1 << 20].into(), ..good };
    for (holdings, n) in [v1::Holdings::default(), other, odd, many].into_iter().zip(1..) {
        let channel = rig.node_channel("n1").await;
        let mut agent = Agent::open(channel, "n1", Some(holdings)).await.unwrap();
        agent.step().await.unwrap();
        assert_eq!(agent.state, node_state(&rig.world, "n1"));
        assert_eq!(counts(&rig), [n, 0, 0, 0]);
    }
    assert_eq!(rig.refused(), [0; 4]);
}

/// Everything is sent again once, and to whoever was told a part only.
#[tokio::test]
async fn asking_for_everything_again_and_again_brings_nothing() {
    let mut rig = Rig::with(&world()).await;
    let wanted = node_state(&rig.world, "n1");
    let ask = || FromAgent::SendAll(v1::SendAll { revision: 1 });
    let mut agent = rig.agent("n1").await;
    agent.step().await.unwrap();
    for _ in 0..3 {
        agent.say(ask()).await;
    }
    rig.apply(&policy(2)).await;
    agent.step().await.unwrap();
    assert_eq!((agent.snapshots, agent.batches, counts(&rig)), (1, 1, [1, 0, 0, 0]));

    let mut agent = reconnect(&rig, wanted).await;
    agent.step().await.unwrap();
    agent.say(ask()).await;
    agent.step().await.unwrap();
    for _ in 0..3 {
        agent.say(ask()).await;
    }
    rig.apply(&policy(3)).await;
    agent.step().await.unwrap();
    assert_eq!((agent.snapshots, agent.batches, counts(&rig)), (2, 1, [2, 1, 1, 0]));
    assert_eq!(agent.state, node_state(&rig.world, "n1"));
}
