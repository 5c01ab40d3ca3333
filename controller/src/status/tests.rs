use std::time::Duration;

use weir_policy::k8s::{self, Object};
use weir_policy::world::{Kind, Pod};

use super::*;
use crate::event::Event;

fn policy(generation: i64) -> Event {
    let value = serde_json::json!({
        "kind": "NetworkPolicy",
        "metadata": {"namespace": "x", "name": "p", "generation": generation},
        "spec": {"podSelector": {}},
    });
    match k8s::object(&value).unwrap().0 {
        Some(Object::NetworkPolicy(object)) => {
            Event::PolicyApplied { object: Box::new(object), manifest: "{}".into() }
        }
        other => panic!("{other:?}"),
    }
}

fn pod(name: &str, node: &str) -> Event {
    Event::PodApplied(Pod {
        kind: Kind::Pod,
        mac: None,
        namespace: "x".into(),
        name: name.into(),
        uid: "".into(),
        labels: Default::default(),
        node: node.into(),
        addresses: Vec::new(),
        named_ports: BTreeSet::new(),
        host_network: false,
        terminal: false,
        terminating: false,
        created: None,
    })
}

struct Rig {
    index: Index,
    tracker: Tracker,
    start: Instant,
}

impl Rig {
    /// Pods on n1 and n2, both connected.
    fn new() -> Self {
        let mut index = Index::new();
        index.apply([pod("a", "n1"), pod("b", "n2"), policy(1), Event::Synced]);
        let mut rig = Self { index, tracker: Tracker::default(), start: Instant::now() };
        for node in ["n1", "n2"] {
            rig.subscribe(node);
        }
        rig
    }

    fn number(&mut self, node: &str) -> u32 {
        self.index.node_number(node)
    }

    fn subscribe(&mut self, node: &str) {
        let number = self.number(node);
        self.tracker.subscribed(number, Hello::default(), self.index.revision());
    }

    fn event(&mut self, event: Event, ms: u64) -> u64 {
        let output = self.index.apply([event]);
        self.tracker.sent(&output, self.start + Duration::from_millis(ms), &self.index);
        output.revision
    }

    fn report(&mut self, node: &str, revision: u64, ms: u64, failures: &[(i64, &str)]) {
        let results = failures.iter().map(|(generation, failure)| v1::PolicyResult {
            policy: Some(key_to_proto(&PolicyKey::network_policy("x", "p"))),
            generation: *generation,
            realized: failure.is_empty(),
            failures: vec![(*failure).to_owned()],
            flows: 3,
        });
        let report =
            v1::Realized { revision, results: results.collect(), ..v1::Realized::default() };
        let number = self.number(node);
        let at = self.start + Duration::from_millis(ms);
        self.tracker.realized(number, at, report, &self.index);
    }

    /// Generation, realised of desired, pending nodes, failures, latencies in ms.
    fn status(&self) -> String {
        let status = self.tracker.status(&self.index, |_| true);
        let p = &status.policies[0];
        let failures: Vec<_> =
            p.failures.iter().map(|f| format!("{}: {}", f.node, f.reason)).collect();
        let latencies: Vec<_> = p.latencies_us.iter().map(|us| us / 1000).collect();
        format!(
            "gen {} {}/{} pending {:?} failed {failures:?} ms {latencies:?}",
            p.generation, p.nodes_realized, p.nodes_desired, p.pending
        )
    }
}

#[test]
fn a_policy_is_realised_node_by_node() {
    let mut rig = Rig::new();
    assert_eq!(rig.status(), r#"gen 1 0/2 pending ["n1", "n2"] failed [] ms []"#);
    // a snapshot tells nothing about how long the event took
    rig.report("n1", 1, 5, &[]);
    rig.report("n2", 1, 6, &[]);
    assert_eq!(rig.status(), "gen 1 2/2 pending [] failed [] ms []");

    let revision = rig.event(policy(2), 100);
    assert_eq!(rig.status(), r#"gen 2 0/2 pending ["n1", "n2"] failed [] ms []"#);
    rig.report("n1", revision, 111, &[(2, "")]);
    // n2 is still at what it had before
    rig.report("n2", revision - 1, 112, &[(1, "")]);
    assert_eq!(rig.status(), r#"gen 2 1/2 pending ["n2"] failed [] ms [11]"#);
    rig.report("n2", revision, 130, &[]);
    assert_eq!(rig.status(), "gen 2 2/2 pending [] failed [] ms [11, 30]");
}

#[test]
fn a_failure_names_the_node_until_it_is_gone() {
    let mut rig = Rig::new();
    rig.report("n1", 1, 1, &[(1, "ingress[0]: no room")]);
    rig.report("n2", 1, 1, &[]);
    assert_eq!(rig.status(), r#"gen 1 1/2 pending [] failed ["n1: ingress[0]: no room"] ms []"#);
    // what was said about another generation is not about this one
    rig.report("n1", 1, 1, &[(7, "")]);
    assert!(rig.status().contains("no room"));
    let revision = rig.event(policy(2), 100);
    rig.report("n1", revision, 110, &[(2, "")]);
    assert_eq!(rig.status(), r#"gen 2 1/2 pending ["n2"] failed [] ms [10]"#);
}

#[test]
fn a_node_that_was_away_counts_from_the_event() {
    let mut rig = Rig::new();
    rig.report("n1", 1, 1, &[]);
    rig.report("n2", 1, 1, &[]);
    let revision = rig.event(policy(2), 100);
    rig.report("n1", revision, 105, &[]);
    rig.subscribe("n2");
    rig.report("n2", 0, 1_000, &[]);
    assert_eq!(rig.status(), r#"gen 2 1/2 pending ["n2"] failed [] ms [5]"#);
    rig.report("n2", revision, 2_100, &[]);
    assert_eq!(rig.status(), "gen 2 2/2 pending [] failed [] ms [5, 2000]");
}

#[test]
fn nobody_acknowledges_the_future() {
    let mut rig = Rig::new();
    rig.report("n1", u64::MAX, 1, &[]);
    rig.report("n2", 1, 1, &[]);
    rig.event(policy(2), 100);
    assert_eq!(rig.status(), r#"gen 2 0/2 pending ["n1", "n2"] failed [] ms []"#);
}

#[test]
fn a_node_without_news_is_current() {
    let mut rig = Rig::new();
    rig.report("n1", 1, 1, &[]);
    rig.report("n2", 1, 1, &[]);
    let revision = rig.event(pod("c", "n3"), 5);
    let status = rig.tracker.status(&rig.index, |n| n != rig.index.find_node("n3").unwrap());
    let of = |name: &str| status.nodes.iter().find(|n| n.name == name).unwrap();
    assert_eq!((of("n1").revision, of("n1").connected), (revision, true));
    assert_eq!((of("n3").revision, of("n3").connected), (0, false));
    assert_eq!(status.policies[0].pending, ["n3"]);
}

#[test]
fn a_policy_that_goes_leaves_nothing() {
    let mut rig = Rig::new();
    rig.event(policy(2), 1);
    let key = PolicyKey::network_policy("x", "p");
    rig.event(Event::PolicyDeleted { key, uid: "".into() }, 2);
    assert!(rig.tracker.latencies.is_empty());
    assert!(rig.tracker.nodes.values().all(|n| n.pending.is_empty() && n.failures.is_empty()));
}
