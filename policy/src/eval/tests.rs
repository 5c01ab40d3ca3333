//! The worked examples of `docs/semantics.md` section 4, by their numbers. E7 and E8 are of another tier.

use serde_json::{Value, json};

use super::*;
use crate::k8s;

/// The world of the examples: namespaces x, y, z (`ns=<name>`), pods a, b, c in each (`pod=<name>`) on node N1.
fn world() -> World {
    let mut world = World::default();
    node(&mut world, "N1", &["192.0.2.1", "fd00:20::1"]);
    node(&mut world, "N2", &["192.0.2.2", "fd00:20::2"]);
    for (i, ns) in ["x", "y", "z"].into_iter().enumerate() {
        put(
            &mut world,
            json!({"kind": "Namespace", "metadata": {"name": ns, "labels": {"ns": ns}}}),
        );
        for (j, name) in ["a", "b", "c"].into_iter().enumerate() {
            let n = (i * 3 + j + 1) * 10;
            pod(&mut world, ns, name, json!({"pod": name}), &format!("10.10.0.{n}"));
        }
    }
    world
}

fn put(world: &mut World, manifest: Value) -> Vec<k8s::Warning> {
    let (object, warnings) = k8s::object(&manifest).unwrap();
    object.unwrap().put(world);
    warnings
}

fn node(world: &mut World, name: &str, addresses: &[&str]) {
    let addresses: Vec<Value> =
        addresses.iter().map(|a| json!({"type": "InternalIP", "address": a})).collect();
    put(
        world,
        json!({"kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses}}),
    );
}

fn pod(world: &mut World, namespace: &str, name: &str, labels: Value, ip: &str) {
    put(
        world,
        json!({"kind": "Pod", "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": {"nodeName": "N1"}, "status": {"podIP": ip}}),
    );
}

/// A policy in x on `pod=a`, unless `spec` has a podSelector of its own.
fn policy(world: &mut World, name: &str, spec: Value) -> Vec<k8s::Warning> {
    policy_in(world, "x", name, spec)
}

fn policy_in(world: &mut World, namespace: &str, name: &str, mut spec: Value) -> Vec<k8s::Warning> {
    if spec.get("podSelector").is_none() {
        spec["podSelector"] = json!({"matchLabels": {"pod": "a"}});
    }
    put(
        world,
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": namespace, "name": name}, "spec": spec}),
    )
}

/// `x/a`, or an address.
fn named(world: &World, name: &str) -> End {
    match name.split_once('/') {
        None => end(world, name.parse().unwrap()),
        Some((namespace, name)) => {
            let key: PodKey = (namespace.into(), name.into());
            let address = world.pods.get(&key).and_then(|p| p.addresses.first().copied());
            End::Pod { key, address }
        }
    }
}

fn decide_one(world: &World, src: &str, dst: &str, l4: L4) -> Verdict {
    let connection =
        Connection { src: named(world, src), dst: named(world, dst), l4, via_service: false };
    verdict(world, &connection)
}

#[track_caller]
fn check(world: &World, src: &str, dst: &str, l4: L4, wanted: bool) {
    let verdict = decide_one(world, src, dst, l4);
    assert_eq!(verdict.allowed(), wanted, "{src} -> {dst} {l4:?}: {verdict:?}");
}

/// Into x/a on TCP 80 from each of `sources`.
#[track_caller]
fn into_a(world: &World, sources: &[(&str, bool)]) {
    for (src, wanted) in sources {
        check(world, src, "x/a", L4::tcp(80), *wanted);
    }
}

const PING: L4 = L4::Other { ip_protocol: 1 };

#[test]
fn e1_and_or_or_np12() {
    let ns_y = json!({"matchLabels": {"ns": "y"}});
    let pod_b = json!({"matchLabels": {"pod": "b"}});
    let table = [
        (json!([{"namespaceSelector": ns_y, "podSelector": pod_b}]), [false, false, true, false]),
        (json!([{"namespaceSelector": ns_y}, {"podSelector": pod_b}]), [true, true, true, false]),
        (json!([{"podSelector": pod_b}]), [true, false, false, false]),
        (json!([{"namespaceSelector": {}, "podSelector": pod_b}]), [true, false, true, true]),
    ];
    for (from, wanted) in table {
        let mut world = world();
        policy(&mut world, "p", json!({"ingress": [{"from": from}]}));
        for (src, wanted) in ["x/b", "y/a", "y/b", "z/b"].into_iter().zip(wanted) {
            check(&world, src, "x/a", L4::tcp(80), wanted);
        }
    }
}

/// w1 `http=8080/TCP`, w2 `http=9090/TCP`, w3 `http=8080/UDP`, w4 none.
fn named_world() -> World {
    let mut world = world();
    let ports = [
        ("w1", json!([{"name": "http", "containerPort": 8080}])),
        ("w2", json!([{"name": "http", "containerPort": 9090, "protocol": "TCP"}])),
        ("w3", json!([{"name": "http", "containerPort": 8080, "protocol": "UDP"}])),
        ("w4", json!([{"containerPort": 8080}, {"containerPort": 9090}])),
    ];
    for (n, (name, ports)) in ports.into_iter().enumerate() {
        put(
            &mut world,
            json!({"kind": "Pod", "metadata": {"namespace": "x", "name": name},
                "spec": {"nodeName": "N2", "containers": [{"name": "c", "ports": ports}]},
                "status": {"podIP": format!("10.10.0.{}", 200 + n)}}),
        );
    }
    world
}

#[test]
fn e2_named_ports_with_different_numbers_np24() {
    let mut world = named_world();
    policy(&mut world, "p", json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}));
    for (port, open) in [(8080, [true, false, false, false]), (9090, [false, true, false, false])] {
        for (dst, wanted) in ["x/w1", "x/w2", "x/w3", "x/w4"].into_iter().zip(open) {
            check(&world, "y/a", dst, L4::tcp(port), wanted);
        }
    }
    // the item is TCP (NP-21), also where the name is a UDP port
    check(&world, "y/a", "x/w3", L4::udp(8080), false);
    // whoever the peer is (NP-25)
    check(&world, "203.0.113.7", "x/w2", L4::tcp(9090), true);
}

#[test]
fn e3_egress_to_a_named_port_without_to_np25() {
    let mut world = named_world();
    let spec = json!({"policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]});
    policy_in(&mut world, "y", "p", spec);
    check(&world, "y/a", "x/w1", L4::tcp(8080), true);
    check(&world, "y/a", "x/w2", L4::tcp(9090), true);
    check(&world, "y/a", "x/w1", L4::tcp(9090), false);
    check(&world, "y/a", "x/w3", L4::tcp(8080), false);
    check(&world, "y/a", "203.0.113.7", L4::tcp(8080), false);
    let object = world.policies.values().next().unwrap();
    let universe = crate::labels::Selector::all_pods();
    assert_eq!(object.selectors.get(&universe.id()), Some(&universe));
}

#[test]
fn e4_overlapping_excepts_np15() {
    let mut world = world();
    let block =
        json!({"ipBlock": {"cidr": "10.10.0.0/24", "except": ["10.10.0.80/28", "10.10.0.88/29"]}});
    let egress = |to: Value| json!({"policyTypes": ["Egress"], "egress": [{"to": to}]});
    policy(&mut world, "p", egress(json!([block])));
    for (dst, wanted) in [("y/a", true), ("z/b", false), ("z/c", false), ("10.10.1.1", false)] {
        check(&world, "x/a", dst, L4::tcp(80), wanted);
    }
    let second = json!({"ipBlock": {"cidr": "10.10.0.90/32"}});
    let mut other = world.clone();
    policy(&mut world, "p", egress(json!([block, second])));
    policy(&mut other, "q", egress(json!([second])));
    for world in [world, other] {
        for (dst, wanted) in [("y/a", true), ("z/b", false), ("z/c", true), ("10.10.1.1", false)] {
            check(&world, "x/a", dst, L4::tcp(80), wanted);
        }
    }
}

#[test]
fn e5_what_a_spec_isolates_np8_np9_np10() {
    let from_b = json!([{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]);
    let to_b = json!([{"to": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]);
    let table = [
        (json!({}), false, true),
        (json!({"egress": []}), false, true),
        (json!({"egress": [{}]}), false, true),
        (json!({"ingress": [{}]}), true, true),
        (json!({"policyTypes": ["Egress"], "ingress": from_b}), true, false),
        (json!({"policyTypes": ["Ingress"], "egress": to_b}), false, true),
    ];
    for (spec, ingress, egress) in table {
        let mut world = world();
        policy(&mut world, "p", spec.clone());
        for l4 in [L4::tcp(80), L4::udp(80), PING] {
            check(&world, "y/b", "x/a", l4, ingress);
            check(&world, "x/a", "y/b", l4, egress);
        }
        let reason = decide_one(&world, "x/a", "y/b", L4::tcp(80)).egress.reason;
        // isolated, with all allowed, is not the same as not isolated
        let isolated = spec == json!({"egress": [{}]}) || !egress;
        assert_eq!(reason != Reason::NotIsolated, isolated, "{spec}: {reason:?}");
    }
    let mut world = world();
    policy(&mut world, "p", json!({"ingress": [{"ports": [{"protocol": "UDP"}]}]}));
    check(&world, "y/b", "x/a", L4::udp(1), true);
    check(&world, "y/b", "x/a", L4::udp(65535), true);
    check(&world, "y/b", "x/a", L4::tcp(80), false);
    check(&world, "y/b", "x/a", PING, false);
    check(&world, "x/a", "y/b", L4::tcp(80), true);
}

#[test]
fn e6_default_deny_plus_an_allow_np5_np6() {
    let mut world = world();
    let only = |pod: &str| json!([{"podSelector": {"matchLabels": {"pod": pod}}}]);
    policy(&mut world, "deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    let port = json!([{"port": 80}]);
    policy(&mut world, "web", json!({"ingress": [{"from": only("b"), "ports": port}]}));
    let pairs = [("x/b", "x/a"), ("x/c", "x/a"), ("y/a", "x/a"), ("x/b", "y/a"), ("x/c", "y/a")];
    let compare = |world: &World, wanted: [bool; 5]| {
        for ((src, dst), wanted) in pairs.into_iter().zip(wanted) {
            check(world, src, dst, L4::tcp(80), wanted);
        }
    };
    compare(&world, [false; 5]);
    let verdict = decide_one(&world, "x/b", "x/a", L4::tcp(80));
    assert!(verdict.ingress.allowed && !verdict.egress.allowed, "{verdict:?}");
    let out = json!({"podSelector": {"matchLabels": {"pod": "b"}}, "policyTypes": ["Egress"],
        "egress": [{"to": only("a")}]});
    policy(&mut world, "out", out);
    compare(&world, [true, false, false, false, false]);
    world.policies.remove(&PolicyKey::network_policy("x", "deny"));
    compare(&world, [true, false, false, false, true]);
}

#[test]
fn e9_pod_label_change_np46() {
    let mut world = world();
    let from = |label: &str, v: &str| json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {label: v}}}]}]});
    policy(&mut world, "p", from("role", "client"));
    into_a(&world, &[("x/b", false)]);
    pod(&mut world, "x", "b", json!({"pod": "b", "role": "client"}), "10.10.0.20");
    into_a(&world, &[("x/b", true)]);
    policy(&mut world, "q", from("role", "client"));
    world.policies.remove(&PolicyKey::network_policy("x", "p"));
    into_a(&world, &[("x/b", true)]);
    pod(&mut world, "x", "b", json!({"pod": "b"}), "10.10.0.20");
    into_a(&world, &[("x/b", false)]);
}

#[test]
fn e10_namespace_relabel_np46() {
    let mut world = world();
    let from = json!([{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]);
    policy(&mut world, "p", json!({"ingress": [{"from": from}]}));
    let of_y = |wanted| {
        [("y/a", wanted), ("y/b", wanted), ("y/c", wanted), ("x/b", false), ("z/a", false)]
    };
    into_a(&world, &of_y(false));
    let namespace =
        |labels: Value| json!({"kind": "Namespace", "metadata": {"name": "y", "labels": labels}});
    put(&mut world, namespace(json!({"team": "blue"})));
    into_a(&world, &of_y(true));
    put(&mut world, namespace(json!({})));
    into_a(&world, &of_y(false));
}

#[test]
fn e11_address_reuse_after_completion_np44_np45() {
    let mut world = world();
    let from = json!([{"podSelector": {"matchLabels": {"job": "etl"}}}]);
    policy(&mut world, "p", json!({"ingress": [{"from": from}]}));
    let address = "10.10.0.100";
    let from_there = |world: &World, wanted| check(world, address, "x/a", L4::tcp(80), wanted);
    pod(&mut world, "x", "j", json!({"job": "etl"}), address);
    from_there(&world, true);
    world.pods.get_mut(&("x".into(), "j".into())).unwrap().terminal = true;
    from_there(&world, false);
    check(&world, "x/j", "x/a", L4::tcp(80), false);
    pod(&mut world, "z", "n", json!({}), address);
    from_there(&world, false);
    world.pods.remove(&("z".into(), "n".into()));
    pod(&mut world, "x", "k", json!({"job": "etl"}), address);
    from_there(&world, true);
    world.pods.remove(&("x".into(), "j".into()));
    from_there(&world, true);
    // a deletionTimestamp alone changes nothing
    put(
        &mut world,
        json!({"kind": "Pod", "metadata": {"namespace": "x", "name": "k", "labels": {"job": "etl"},
            "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running", "podIP": address}}),
    );
    from_there(&world, true);
}

/// The verdicts of E12; its masks are tested beside `range_masks`.
#[test]
fn e12_end_port_np23() {
    let table = [
        ((80, 80), vec![80], vec![79, 81]),
        ((80, 83), vec![80, 83], vec![79, 84]),
        ((8000, 8010), vec![8000, 8008, 8010], vec![7999, 8011, 8015]),
        ((65534, 65535), vec![65534, 65535], vec![65533, 0]),
        ((1, 65535), vec![1, 65535], vec![0]),
    ];
    for ((first, last), open, closed) in table {
        let mut world = world();
        policy(
            &mut world,
            "p",
            json!({"ingress": [{"ports": [{"port": first, "endPort": last}]}]}),
        );
        for port in open {
            check(&world, "y/a", "x/a", L4::tcp(port), true);
            check(&world, "y/a", "x/a", L4::udp(port), false);
        }
        for port in closed {
            check(&world, "y/a", "x/a", L4::tcp(port), false);
        }
    }
}

#[test]
fn e13_dual_stack_np18() {
    let mut dual = world();
    for pod in dual.pods.values_mut() {
        let IpAddr::V4(v4) = pod.addresses[0] else { panic!() };
        pod.addresses.push(format!("fd00:10::{}", v4.octets()[3]).parse().unwrap());
    }
    let table = [
        (json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}]), true, false, 0),
        (
            json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0", "except": ["fd00:10::/64"]}}]),
            true,
            false,
            0,
        ),
        (json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]), true, true, 0),
        (json!([{"ipBlock": {"cidr": "10.10.0.999/24"}}, {"podSelector": {}}]), false, false, 1),
    ];
    for (from, v4, v6, warnings) in table {
        let mut world = dual.clone();
        let given = policy(&mut world, "p", json!({"ingress": [{"from": from}]}));
        assert_eq!(given.len(), warnings);
        check(&world, "10.10.0.40", "10.10.0.10", L4::tcp(80), v4);
        check(&world, "fd00:10::40", "fd00:10::10", L4::tcp(80), v6);
        let neighbour = warnings == 1;
        if neighbour {
            check(&world, "10.10.0.20", "10.10.0.10", L4::tcp(80), true);
            check(&world, "fd00:10::20", "fd00:10::10", L4::tcp(80), true);
        }
    }
}

#[test]
fn e14_nodes_and_host_network_np31_to_np34() {
    let mut world = world();
    put(
        &mut world,
        json!({"kind": "Pod", "metadata": {"namespace": "x", "name": "h"},
            "spec": {"nodeName": "N2", "hostNetwork": true}, "status": {"podIP": "192.0.2.2"}}),
    );
    let both = |from: Value| json!({"policyTypes": ["Ingress", "Egress"], "ingress": from});
    policy(&mut world, "p", both(json!([])));
    into_a(
        &world,
        &[("192.0.2.1", true), ("fd00:20::1", true), ("192.0.2.2", false), ("x/h", false)],
    );
    check(&world, "x/a", "192.0.2.1", L4::tcp(80), false);
    policy(
        &mut world,
        "p",
        both(json!([{"from": [{"podSelector": {}}, {"namespaceSelector": {}}]}])),
    );
    into_a(&world, &[("192.0.2.1", true), ("192.0.2.2", false), ("x/h", false)]);
    policy(&mut world, "p", both(json!([{"from": [{"ipBlock": {"cidr": "192.0.2.2/32"}}]}])));
    into_a(&world, &[("192.0.2.2", true), ("x/h", true), ("fd00:20::2", false)]);
    // no policy selects the host-network pod either
    assert_eq!(decide_one(&world, "y/b", "x/h", L4::tcp(80)).ingress.reason, Reason::NotAPod);
    // a host-network pod on the own node is the own node
    world.pods.get_mut(&("x".into(), "h".into())).unwrap().node = "N1".into();
    world.pods.get_mut(&("x".into(), "h".into())).unwrap().addresses =
        vec!["192.0.2.1".parse().unwrap()];
    policy(&mut world, "p", both(json!([])));
    into_a(&world, &[("x/h", true)]);
}

#[test]
fn self_np35_np36() {
    let mut world = world();
    policy(&mut world, "p", json!({"policyTypes": ["Ingress", "Egress"]}));
    for via_service in [false, true] {
        let a = named(&world, "x/a");
        let c = Connection { src: a.clone(), dst: a, l4: L4::tcp(80), via_service };
        assert_eq!(verdict(&world, &c).ingress.reason, Reason::SamePod);
        assert!(verdict(&world, &c).allowed());
    }
}

#[test]
fn unknown_pod_is_closed_np42() {
    let world = world();
    let verdict = decide_one(&world, "x/ghost", "x/a", L4::tcp(80));
    assert_eq!(verdict.egress, Side { allowed: false, reason: Reason::Unknown });
    assert!(verdict.ingress.allowed);
}

#[test]
fn without_addresses_ip_blocks_are_undecided() {
    let mut world = world();
    let key: PodKey = ("x".into(), "b".into());
    world.pods.get_mut(&key).unwrap().addresses.clear();
    let from = json!([{"ipBlock": {"cidr": "10.10.0.0/24"}}]);
    policy(&mut world, "p", json!({"ingress": [{"from": from}]}));
    let p = PolicyKey::network_policy("x", "p");
    let reason = decide_one(&world, "x/b", "x/a", L4::tcp(80)).ingress.reason;
    assert_eq!(reason, Reason::Undecided(vec![p.clone()]));
    // a rule that admits it without asking for the address decides
    policy(&mut world, "q", json!({"ingress": [{"from": [{"podSelector": {}}]}]}));
    let reason = decide_one(&world, "x/b", "x/a", L4::tcp(80)).ingress.reason;
    let q = PolicyKey::network_policy("x", "q");
    assert_eq!(reason, Reason::AllowedBy(vec![(q, "ingress[0]".into())]));
    // and where no port can match, the address does not matter
    world.policies.remove(&PolicyKey::network_policy("x", "q"));
    policy(&mut world, "p", json!({"ingress": [{"from": from, "ports": [{"port": 81}]}]}));
    let reason = decide_one(&world, "x/b", "x/a", L4::tcp(80)).ingress.reason;
    assert_eq!(reason, Reason::Isolated(vec![p]));
}

/// NP-3: the name label is there, whatever the manifest says, and for namespaces that nobody declared.
#[test]
fn namespace_name_label_np3() {
    let mut world = world();
    world.namespaces.remove("y");
    put(
        &mut world,
        json!({"kind": "Namespace", "metadata": {"name": "z", "labels": {"kubernetes.io/metadata.name": "y"}}}),
    );
    let from =
        json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}}]);
    policy(&mut world, "p", json!({"ingress": [{"from": from}]}));
    into_a(&world, &[("y/a", true), ("z/a", false)]);
}
