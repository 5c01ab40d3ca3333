//! What an event costs is what it changes: three nodes, 1,000 policies, 3,000 pods, or one profile of 6,000.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]

use serde_json::json;
use weir_api::convert::{change_from_bytes, frames};
use weir_controller::event::Event;
use weir_controller::index::{Index, Output};
use weir_policy::k8s::{self, Object};
use weir_policy::state::{Change, NodeState};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn event(value: serde_json::Value) -> Event {
    match k8s::object(&value).unwrap().0.unwrap() {
        Object::Pod(pod) => Event::PodApplied(pod),
        Object::NetworkPolicy(object) => {
            Event::PolicyApplied { object: Box::new(object), manifest: "{}".into() }
        }
        other => panic!("{other:?}"),
    }
}

/// 20 namespaces of 50 Deployments of 3 pods, one on each node.
fn pod(namespace: usize, app: usize, replica: usize) -> Event {
    event(json!({
        "kind": "Pod",
        "metadata": {
            "namespace": format!("ns{namespace}"),
            "name": format!("a{app}-{replica}"),
            "labels": {"app": format!("a{app}"), "tier": format!("t{}", app % 5)},
        },
        "spec": {"nodeName": NODES[replica % 3]},
        "status": {"podIPs": [{"ip": format!("10.{namespace}.{app}.{replica}")}]},
    }))
}

fn policy(
    namespace: usize,
    name: &str,
    subject: serde_json::Value,
    peer: serde_json::Value,
) -> Event {
    event(json!({
        "kind": "NetworkPolicy",
        "metadata": {"namespace": format!("ns{namespace}"), "name": name},
        "spec": {"podSelector": subject, "ingress": [{"from": [peer]}]},
    }))
}

fn cluster() -> Index {
    let mut index = Index::new();
    let pods = (0..20).flat_map(|ns| (0..50).flat_map(move |a| (0..3).map(move |r| pod(ns, a, r))));
    let policies = (0..20).flat_map(|ns| {
        (0..50).map(move |a| {
            let app = |a: usize| json!({"matchLabels": {"app": format!("a{a}")}});
            let peer = json!({"podSelector": app((a + 1) % 50)});
            policy(ns, &format!("p{a}"), app(a), peer)
        })
    });
    index.apply(pods.chain(policies).chain([Event::Synced]));
    let sizes = index.sizes();
    assert_eq!((sizes.pods, sizes.policies, sizes.profiles), (3_000, 1_000, 1_000));
    assert_eq!((sizes.groups, sizes.edges), (1_000, 1_000));
    index
}

/// How many changes each node gets, and of which kinds.
fn counts(index: &mut Index, output: &Output) -> Vec<Vec<&'static str>> {
    let kind = |change: &Change| match change {
        Change::Node(_) => "node",
        Change::Policy(_) => "policy",
        Change::RemovePolicy(_) => "-policy",
        Change::Group(_) => "group",
        Change::GroupMembers { .. } => "members",
        Change::RemoveGroup(_) => "-group",
        Change::Profile(_) => "profile",
        Change::RemoveProfile(_) => "-profile",
        Change::Endpoint(_) => "endpoint",
        Change::RemoveEndpoint(_) => "-endpoint",
    };
    NODES
        .iter()
        .map(|node| {
            let number = index.node_number(node);
            let mine = output.deliveries.iter().filter(|d| d.nodes.contains(number));
            mine.flat_map(|d| d.news.to_changes()).map(|c| kind(&c)).collect()
        })
        .collect()
}

#[test]
fn an_event_costs_what_it_changes() {
    let mut index = cluster();
    let all = json!({"namespaceSelector": {}, "podSelector": {}});

    // one more replica, of a profile that is known
    let output = index.apply([pod(3, 7, 3)]);
    // n1 has it; the others know its peers' addresses because of a policy
    assert_eq!(counts(&mut index, &output), vec![vec!["endpoint"]; 3]);

    // a pod alone on a node, and a policy for it alone
    index.apply([event(json!({
        "kind": "Pod",
        "metadata": {"namespace": "ns0", "name": "solo", "labels": {"app": "solo"}},
        "spec": {"nodeName": "n3"},
        "status": {"podIPs": [{"ip": "10.99.0.1"}]},
    }))]);
    let solo = json!({"matchLabels": {"app": "solo"}});
    let peer = json!({"podSelector": {"matchLabels": {"app": "a1"}}});
    let output = index.apply([policy(0, "solo", solo.clone(), peer)]);
    assert_eq!(counts(&mut index, &output), [vec![], vec![], vec!["group", "policy"]]);

    // the same policy for all pods of the cluster as peers: still nothing for the other nodes, and n3 knows most of it
    let output = index.apply([policy(0, "solo", solo.clone(), all.clone())]);
    let [n1, n2, n3] = &counts(&mut index, &output)[..] else { panic!("three nodes") };
    assert_eq!((n1.len(), n2.len()), (0, 0));
    // every pod's address was there by the other policies, but for its own
    assert_eq!(n3, &["group", "policy"]);

    // and it changes no more than itself when it goes
    let key = weir_policy::ids::PolicyKey::network_policy("ns0", "solo");
    let output = index.apply([Event::PolicyDeleted { key, uid: "".into() }]);
    assert_eq!(counts(&mut index, &output), [vec![], vec![], vec!["-policy", "-group", "-group"]]);

    // a label change moves one endpoint from one profile to another, in one batch
    let Event::PodApplied(mut moved) = pod(3, 7, 0) else { panic!("a pod") };
    moved.labels.set("app", "a8");
    let output = index.apply([Event::PodApplied(moved)]);
    let n2 = &counts(&mut index, &output)[1];
    // its tier differs from that of the others with app=a8, so that its profile is new
    assert_eq!(n2, &["profile", "members", "endpoint"]);
}

/// A profile whose frames are more than one piece, on nodes that run some of its pods and on one that runs none.
#[test]
fn a_large_profile_comes_and_goes() {
    const PODS: usize = 6_000;
    let pod = |name: &str, app: &str, node: &str, number: usize| {
        event(json!({
            "kind": "Pod",
            "metadata": {"namespace": "ns0", "name": name, "labels": {"app": app}},
            "spec": {"nodeName": node},
            "status": {"podIPs": [{"ip": format!("10.0.{}.{}", number / 250, number % 250)}]},
        }))
    };
    let mut index = Index::new();
    let large = (0..PODS).map(|n| pod(&format!("web-6d4f9c7b8-{n}"), "web", NODES[n % 2], n));
    let probes =
        NODES.iter().zip(PODS..).map(|(node, n)| pod(&format!("probe-{node}"), "probe", node, n));
    index.apply(large.chain(probes).chain([Event::Synced]));
    let numbers = NODES.map(|node| index.node_number(node));
    let snapshot = |index: &Index, number: u32| {
        let mut state = NodeState::default();
        let changes = index.snapshot(number).into_iter().flat_map(frames);
        state.apply(changes.map(|bytes| change_from_bytes(&bytes).unwrap()));
        state
    };
    let mut states = numbers.map(|number| snapshot(&index, number));
    let app = |app: &str| json!({"matchLabels": {"app": app}});
    let key = weir_policy::ids::PolicyKey::network_policy("ns0", "p");
    // twice: what is kept after the first time, and a pod more in between
    for round in 0..2 {
        let applied = policy(0, "p", app("probe"), json!({"podSelector": app("web")}));
        let deleted = Event::PolicyDeleted { key: key.clone(), uid: "".into() };
        let more = pod(&format!("more-{round}"), "web", "n3", PODS + 3 + round);
        for (event, endpoints) in [(applied, PODS), (deleted, 0), (more, 0)] {
            let output = index.apply([event]);
            // not one for each of the pods
            assert!(output.deliveries.len() < 20, "{}", output.deliveries.len());
            for (number, state) in numbers.iter().zip(&mut states) {
                let mine = output.deliveries.iter().filter(|d| d.nodes.contains(*number));
                for change in mine.flat_map(|d| d.news.to_changes()) {
                    assert!(!state.apply([change.clone()]).is_empty(), "{change:?}");
                }
                assert!(state.endpoints.len() >= endpoints);
                assert_eq!(*state, snapshot(&index, *number));
                assert_eq!(*state, index.state(*number));
            }
        }
    }
}
