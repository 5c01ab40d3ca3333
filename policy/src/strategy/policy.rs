//! Policies, as manifests.

use proptest::option;
use serde_json::{Map, Value, json};

use super::*;

/// A policy, read from a [`manifest`].
pub fn policy() -> impl Strategy<Value = PolicyObject> {
    manifest().prop_map(|manifest| match crate::k8s::object(&manifest) {
        Ok((Some(crate::k8s::Object::NetworkPolicy(object)), _)) => object,
        other => panic!("{manifest}: {other:?}"),
    })
}

/// A NetworkPolicy manifest with every field the API has, a few of them as the API server would refuse them.
pub fn manifest() -> impl Strategy<Value = Value> {
    let meta = (select(&NAMESPACES[..]), select(&POLICIES[..]), 1i64..100);
    let types = select(vec![
        None,
        Some(json!([])),
        Some(json!(["Ingress"])),
        Some(json!(["Egress"])),
        Some(json!(["Ingress", "Egress"])),
    ]);
    let subject = prop_oneof![2 => Just(json!({})), 3 => selector()];
    let ingress = option::weighted(0.8, vec(rule("from"), 0..=3));
    let egress = option::weighted(0.6, vec(rule("to"), 0..=3));
    (meta, subject, types, ingress, egress).prop_map(
        |((namespace, name, generation), subject, types, ingress, egress)| {
            let mut spec = Map::new();
            spec.insert("podSelector".into(), subject);
            if let Some(types) = types {
                spec.insert("policyTypes".into(), types);
            }
            if let Some(rules) = ingress {
                spec.insert("ingress".into(), rules.into());
            }
            if let Some(rules) = egress {
                spec.insert("egress".into(), rules.into());
            }
            json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"namespace": namespace, "name": name, "generation": generation},
                "spec": spec,
            })
        },
    )
}

fn rule(peers: &'static str) -> impl Strategy<Value = Value> {
    let ports = option::weighted(0.6, vec(ports_item(), 0..=3));
    (option::weighted(0.8, vec(peer(), 0..=3)), ports).prop_map(move |(list, ports)| {
        let mut rule = Map::new();
        if let Some(list) = list {
            rule.insert(peers.into(), list.into());
        }
        if let Some(ports) = ports {
            rule.insert("ports".into(), ports.into());
        }
        Value::Object(rule)
    })
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => selector().prop_map(|s| json!({"podSelector": s})),
        4 => namespace_selector().prop_map(|s| json!({"namespaceSelector": s})),
        4 => (namespace_selector(), selector())
            .prop_map(|(n, p)| json!({"namespaceSelector": n, "podSelector": p})),
        6 => ip_block().prop_map(|b| json!({"ipBlock": b})),
        // NP-17, NP-19: matches nothing
        1 => select(vec![
            json!({}),
            json!({"ipBlock": {"cidr": "10.10.0.999/24"}}),
            json!({"ipBlock": {"cidr": "10.10.0.0/16", "except": ["10.10.0.0"]}}),
            json!({"podSelector": {}, "ipBlock": {"cidr": "0.0.0.0/0"}}),
        ]),
    ]
}

/// Selectors on few keys: most match something, and equal ones come up often.
fn selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => Just(json!({})),
        4 => requirement_pair().prop_map(|(k, v)| json!({"matchLabels": {k: v}})),
        3 => vec(expression(), 1..=2).prop_map(|e| json!({"matchExpressions": e})),
        1 => (requirement_pair(), expression())
            .prop_map(|((k, v), e)| json!({"matchLabels": {k: v}, "matchExpressions": [e]})),
    ]
}

fn namespace_selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => select(&NAMESPACES[..])
            .prop_map(|n| json!({"matchLabels": {crate::labels::METADATA_NAME: n}})),
        3 => selector(),
    ]
}

fn requirement_pair() -> impl Strategy<Value = (&'static str, &'static str)> {
    (select(&LABELS[..]), any::<Index>()).prop_map(|((key, values), at)| (key, *at.get(values)))
}

fn expression() -> impl Strategy<Value = Value> {
    let pair = (select(&LABELS[..]), any::<Index>(), any::<Index>());
    let operator = select(&["In", "NotIn", "Exists", "DoesNotExist"][..]);
    (pair, operator).prop_map(|(((key, values), a, b), operator)| match operator {
        "Exists" | "DoesNotExist" => json!({"key": key, "operator": operator}),
        _ => json!({"key": key, "operator": operator, "values": [a.get(values), b.get(values)]}),
    })
}

/// Blocks that cut through the pool of addresses, with exceptions inside, overlapping, outside and covering.
fn ip_block() -> impl Strategy<Value = Value> {
    (cidr(), vec(cidr(), 0..=3), any::<bool>()).prop_map(|(cidr, except, with)| {
        if with { json!({"cidr": cidr, "except": except}) } else { json!({"cidr": cidr}) }
    })
}

fn cidr() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..ADDRESSES, 20u8..=32).prop_map(|(n, length)| format!("{}/{length}", v4(n))),
        3 => (0..ADDRESSES, 108u8..=128).prop_map(|(n, length)| format!("{}/{length}", v6(n))),
        3 => select(&["0.0.0.0/0", "::/0", "10.0.0.0/8", "fd00::/16", "0.0.0.0/1", "128.0.0.0/1"][..])
            .prop_map(str::to_owned),
        1 => (0..NODES.len()).prop_map(|n| format!("{}/32", node_addresses(n)[0])),
        1 => (0..NODES.len()).prop_map(|n| format!("{}/128", node_addresses(n)[1])),
        1 => select(&OUTSIDE[..]).prop_map(|a| format!("{a}/{}", if a.contains(':') { 64 } else { 24 })),
    ]
}

fn ports_item() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        2 => Just(json!({})),
        4 => port().prop_map(|p| json!({"port": p})),
        4 => (port(), port()).prop_map(|(a, b)| json!({"port": a.min(b), "endPort": a.max(b)})),
        4 => select(&PORT_NAMES[..]).prop_map(|n| json!({"port": n})),
        // NP-23: matches nothing
        1 => select(vec![json!({"port": 80, "endPort": 79}), json!({"port": "http", "endPort": 80})]),
    ];
    (port, option::weighted(0.7, protocol())).prop_map(|(mut item, protocol)| {
        if let Some(protocol) = protocol {
            item["protocol"] = protocol.as_str().into();
        }
        item
    })
}
