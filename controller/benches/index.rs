//! How long the index takes: a world from nothing with every node's state encoded, and single events.
//!
//! `cargo bench -p weir-controller` prints one row per world.

#![expect(clippy::print_stdout, reason = "the result of a benchmark")]
#![expect(clippy::clone_on_ref_ptr, reason = "`Str` is shared text")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use weir_api::convert::change_to_bytes;
use weir_controller::event::Event;
use weir_controller::index::{Index, Output};
use weir_policy::ids::PolicyKey;
use weir_policy::k8s::{self, Object};
use weir_policy::labels::Labels;
use weir_policy::world::{Kind, Pod};

/// One shape of cluster.
struct Shape {
    name: &'static str,
    namespaces: usize,
    pods: usize,
    /// Distinct values of the pods' second label; the first tells all of them.
    labels: usize,
    nodes: usize,
    policies: fn(usize) -> Vec<Event>,
}

const SHAPES: [Shape; 5] = [
    Shape {
        name: "3 nodes, 1,000 policies, 3,000 pods",
        namespaces: 20,
        pods: 150,
        labels: 50,
        nodes: 3,
        policies: |ns| (0..50).map(|n| by_label(ns, n, n)).collect(),
    },
    Shape {
        name: "small namespaces",
        namespaces: 25_000,
        pods: 4,
        labels: 2,
        nodes: 1_000,
        policies: |ns| {
            let mut out = vec![policy(ns, "deny", json!({}), None)];
            out.extend((0..2).map(|n| by_label(ns, n, n)));
            out
        },
    },
    Shape {
        name: "large namespaces",
        namespaces: 100,
        pods: 1_000,
        labels: 100,
        nodes: 1_000,
        policies: |ns| {
            let mut out = vec![policy(ns, "deny", json!({}), None)];
            out.extend((0..100).map(|n| by_label(ns, n, n)));
            out
        },
    },
    Shape {
        name: "one namespace",
        namespaces: 1,
        pods: 10_000,
        labels: 1,
        nodes: 1_000,
        policies: |ns| {
            let all = json!({"podSelector": {}});
            (0..10_000)
                .map(|n| policy(ns, &format!("p{n}"), json!({}), Some(all.clone())))
                .collect()
        },
    },
    Shape {
        name: "policy per pod",
        namespaces: 1,
        pods: 10_000,
        labels: 10_000,
        nodes: 1_000,
        policies: |ns| (0..10_000).map(|n| by_label(ns, n, (n + 1) % 10_000)).collect(),
    },
];

fn by_label(namespace: usize, subject: usize, peer: usize) -> Event {
    let label = |n: usize| json!({"matchLabels": {"l": format!("v{n}")}});
    let peer = json!({"podSelector": label(peer)});
    policy(namespace, &format!("p{subject}"), label(subject), Some(peer))
}

fn policy(
    namespace: usize,
    name: &str,
    subject: serde_json::Value,
    peer: Option<serde_json::Value>,
) -> Event {
    let mut spec = json!({"podSelector": subject, "policyTypes": ["Ingress", "Egress"]});
    if let Some(peer) = peer {
        spec["ingress"] = json!([{"from": [peer]}]);
    }
    let manifest = json!({
        "kind": "NetworkPolicy",
        "metadata": {"namespace": format!("ns{namespace}"), "name": name},
        "spec": spec,
    });
    match k8s::object(&manifest) {
        Ok((Some(Object::NetworkPolicy(object)), _)) => {
            Event::PolicyApplied { object: Box::new(object), manifest: manifest.to_string().into() }
        }
        other => panic!("{other:?}"),
    }
}

fn pod(shape: &Shape, namespace: usize, n: usize) -> Pod {
    // spread at random, and the same in each run
    let random = (namespace * shape.pods + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let [_, a, b, c] = u32::try_from(namespace * shape.pods + n).unwrap_or_default().to_be_bytes();
    Pod {
        kind: Kind::Pod,
        mac: None,
        namespace: format!("ns{namespace}").into(),
        name: format!("p{n}").into(),
        uid: format!("uid-{namespace}-{n}").into(),
        labels: Labels::from_iter([("app", "x"), ("l", &format!("v{}", n % shape.labels))]),
        node: format!("n{}", random % shape.nodes).into(),
        addresses: vec![std::net::Ipv4Addr::new(10, a, b, c).into()],
        named_ports: BTreeSet::new(),
        host_network: false,
        terminal: false,
        terminating: false,
        created: None,
    }
}

fn main() {
    println!(
        "{:<36} {:>8} {:>9} {:>9} {:>8}   single events, p50/p99 in us",
        "world", "events", "compute", "encode", "peak"
    );
    for shape in SHAPES {
        row(&shape);
    }
}

fn row(shape: &Shape) {
    let mut events = Vec::new();
    for ns in 0..shape.namespaces {
        let name = format!("ns{ns}").into();
        events.push(Event::NamespaceApplied { name, labels: Labels::default() });
        events.extend((0..shape.pods).map(|n| Event::PodApplied(pod(shape, ns, n))));
        events.extend((shape.policies)(ns));
    }
    let count = events.len();
    let start = Instant::now();
    let mut index = Index::new();
    for event in events {
        index.apply([event]);
    }
    index.apply([Event::Synced]);
    let computed = start.elapsed();
    let start = Instant::now();
    let nodes: Vec<u32> = (0..shape.nodes).map(|n| index.node_number(&format!("n{n}"))).collect();
    let changes: usize = nodes.iter().map(|n| index.snapshot(*n).len()).sum();
    let encoded = start.elapsed();
    print!(
        "{:<36} {count:>8} {:>7.2} s {:>7.2} s {:>5} MB",
        shape.name,
        computed.as_secs_f64(),
        encoded.as_secs_f64(),
        peak_mb()
    );
    std::hint::black_box(changes);
    singles(shape, &mut index);
}

/// Single events, each with its deltas encoded.
fn singles(shape: &Shape, index: &mut Index) {
    let mut kinds: [(&str, Vec<Duration>); 5] =
        ["pod add", "pod relabel", "pod delete", "policy add", "policy delete"]
            .map(|name| (name, Vec::new()));
    for n in 0..500 {
        let ns = n % shape.namespaces;
        let mut new = pod(shape, ns, n % shape.pods);
        new.name = format!("new{n}").into();
        new.uid = format!("new-{n}").into();
        new.addresses = vec![std::net::Ipv4Addr::new(11, 0, (n >> 8) as u8, n as u8).into()];
        let added = Event::PodApplied(new.clone());
        new.labels.set("l", &format!("v{}", (n + 1) % shape.labels));
        let relabelled = Event::PodApplied(new.clone());
        let deleted = Event::PodDeleted {
            namespace: new.namespace.clone(),
            name: new.name.clone(),
            uid: new.uid.clone(),
        };
        let label = json!({"matchLabels": {"l": format!("v{}", n % shape.labels)}});
        let peer = json!({"podSelector": {"matchLabels": {"app": "x"}}});
        let policy_added = policy(ns, "single", label, Some(peer));
        let key = PolicyKey::network_policy(&format!("ns{ns}"), "single");
        let policy_deleted = Event::PolicyDeleted { key, uid: "".into() };
        let events = [added, relabelled, deleted, policy_added, policy_deleted];
        for (event, (_, times)) in events.into_iter().zip(&mut kinds) {
            let start = Instant::now();
            let output = index.apply([event]);
            encode(&output);
            times.push(start.elapsed());
        }
    }
    for (name, mut times) in kinds {
        times.sort();
        let at = |share: usize| times[times.len() * share / 100].as_micros();
        print!("  {name} {}/{}", at(50), at(99));
    }
    println!();
}

fn encode(output: &Output) {
    for delivery in &output.deliveries {
        std::hint::black_box(change_to_bytes(&delivery.change));
    }
}

/// The most memory this process ever had.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kb = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kb.unwrap_or_default() / 1024
}
