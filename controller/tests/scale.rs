//! Three nodes, 1,000 policies, 3,000 pods: what an event costs is what it changes.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]

use serde_json::json;
use weir_controller::event::Event;
use weir_controller::index::{Index, Output};
use weir_policy::k8s::{self, Object};
use weir_policy::state::Change;

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
