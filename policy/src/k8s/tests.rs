//! Manifests as people write them, right and wrong. Rules are named by their numbers in `docs/semantics.md`.

use serde_json::{Value, json};

use super::*;
use crate::port::{PortMatch, Protocol, Service};
use crate::rule::{Direction, Peers, Rule, Services};
use crate::world::Kind;

fn policy(spec: Value) -> (PolicyObject, Vec<Warning>) {
    let manifest = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": "db"}, "spec": spec});
    match object(&manifest).unwrap() {
        (Some(Object::NetworkPolicy(p)), warnings) => (p, warnings),
        other => panic!("{other:?}"),
    }
}

/// A policy whose only mistake is at `field`, with the rest intact.
#[track_caller]
fn one_warning(spec: Value, field: &str) -> PolicyObject {
    let (object, warnings) = policy(spec);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].field, field, "{}", warnings[0]);
    assert_eq!(warnings[0].object, "NetworkPolicy shop/db");
    assert!(!warnings[0].to_string().contains('\n'));
    object
}

/// The groups and blocks of the first rule: how many of each.
fn peers(object: &PolicyObject) -> (usize, usize) {
    match &object.policy.rules[0].rule.peers {
        Peers::Any => panic!("any"),
        Peers::Of { groups, blocks } => (groups.len(), blocks.len()),
    }
}

fn services(object: &PolicyObject) -> Vec<Service> {
    match &object.policy.rules[0].rule.services {
        Services::Any => panic!("any"),
        Services::Of(items) => items.iter().cloned().collect(),
    }
}

fn from(peer: Value) -> Value {
    json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}, peer]}]})
}

fn ports(item: Value) -> Value {
    json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}, item]}]})
}

#[test]
fn defaults_np8_np11_np12_np21() {
    let (p, warnings) = policy(json!({"podSelector": {},
        "ingress": [{"from": [], "ports": []}, {"from": null, "ports": [{}, {"port": 53, "protocol": "UDP"}]}],
        "egress": [{}]}));
    assert!(warnings.is_empty());
    assert_eq!(p.policy.isolates, Direction::BOTH.into());
    assert_eq!(p.policy.generation, 0);
    let paths: Vec<&str> = p.policy.rules.iter().map(|r| &*r.path).collect();
    assert_eq!(paths, ["ingress[0]", "ingress[1]", "egress[0]"]);
    assert!(p.policy.rules.iter().all(|r| r.rule.peers == Peers::Any));
    assert_eq!(p.policy.rules[0].rule.services, Services::Any);
    let Services::Of(items) = &p.policy.rules[1].rule.services else { panic!() };
    let wanted = [
        Service { protocol: Protocol::Tcp, port: PortMatch::Any },
        Service::port(Protocol::Udp, 53),
    ];
    assert_eq!(*items, wanted.into());
}

#[test]
fn cidrs_with_host_bits_or_leading_zeros_np16() {
    let (p, warnings) =
        policy(from(json!({"ipBlock": {"cidr": "10.0.0.5/24", "except": ["010.000.0.08/29"]}})));
    assert!(warnings.is_empty(), "{warnings:?}");
    let Peers::Of { blocks, .. } = &p.policy.rules[0].rule.peers else { panic!() };
    assert_eq!(blocks.first().unwrap().to_string(), "10.0.0.0/24 except 10.0.0.8/29");
}

#[test]
fn bad_cidr_takes_only_its_peer_np17() {
    for cidr in [
        "10.10.0.999/24",
        "10.0.0.0",
        "10.0.0.0/33",
        "10.0.0.0/255.0.0.0",
        "::ffff:10.0.0.0/104",
        "/8",
        "",
    ] {
        let p = one_warning(
            from(json!({"ipBlock": {"cidr": cidr}})),
            "spec.ingress[0].from[1].ipBlock.cidr",
        );
        assert_eq!(peers(&p), (1, 0), "{cidr}");
    }
    let block = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0"]}});
    let p = one_warning(from(block), "spec.ingress[0].from[1].ipBlock.except[1]");
    assert_eq!(peers(&p), (1, 0));
    // alone it leaves a rule that matches nothing, which is not a rule without peers
    let alone = json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "x"}}]}]});
    let p = one_warning(alone, "spec.ingress[0].from[0].ipBlock.cidr");
    assert_eq!(peers(&p), (0, 0));
    assert!(p.policy.isolates.contains(&Direction::Ingress));
}

#[test]
fn except_outside_changes_nothing_np15() {
    let block = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["192.168.0.0/16"]}});
    let p = one_warning(from(block), "spec.ingress[0].from[1].ipBlock.except[0]");
    assert_eq!(peers(&p), (1, 1));
}

#[test]
fn peers_the_api_server_refuses_np19() {
    let here = "spec.ingress[0].from[1]";
    for (peer, field) in [
        (json!({}), here),
        (json!(null), here),
        (json!("10.0.0.0/8"), here),
        (json!({"podSelector": null}), here),
        (json!({"ipBlock": {"cidr": "0.0.0.0/0"}, "podSelector": {}}), here),
        (json!({"ipBlock": {"cidr": "0.0.0.0/0"}, "namespaceSelector": {}}), here),
        (json!({"serviceSelector": {}}), here),
        (json!({"podSelector": {}, "nodeSelector": {}}), here),
        (json!({"podSelector": {"app": "web"}}), "spec.ingress[0].from[1].podSelector"),
        (
            json!({"podSelector": {"matchLabels": {"app": 1}}}),
            "spec.ingress[0].from[1].podSelector.matchLabels[\"app\"]",
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}}),
            "spec.ingress[0].from[1].podSelector.matchExpressions[0]",
        ),
        (
            json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn"}]}}),
            "spec.ingress[0].from[1].namespaceSelector.matchExpressions[0]",
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "a b", "operator": "DoesNotExist"}]}}),
            "spec.ingress[0].from[1].podSelector.matchExpressions[0]",
        ),
        (json!({"ipBlock": {"except": []}}), "spec.ingress[0].from[1].ipBlock"),
        (json!({"ipBlock": {"cidr": 10}}), "spec.ingress[0].from[1].ipBlock.cidr"),
    ] {
        let p = one_warning(from(peer), field);
        assert_eq!(peers(&p), (1, 0));
        assert_eq!(p.items[0].peers.len(), 2);
        assert!(p.items[0].peers[0].is_some() && p.items[0].peers[1].is_none());
    }
}

#[test]
fn present_but_empty_is_not_absent_np2() {
    let peer_of = |peer: Value| {
        let (p, warnings) = policy(json!({"podSelector": {}, "ingress": [{"from": [peer]}]}));
        assert!(warnings.is_empty());
        let Peers::Of { groups, .. } = &p.policy.rules[0].rule.peers else { panic!() };
        p.selectors[groups.first().unwrap()].to_string()
    };
    assert_eq!(peer_of(json!({"podSelector": {}})), "shop {}");
    assert_eq!(peer_of(json!({"namespaceSelector": {}})), "all namespaces {}");
    let both = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}});
    assert_eq!(peer_of(both), "namespaces {a=b} {}");
}

#[test]
fn ports_np21_np23() {
    for (item, field) in [
        (json!({"endPort": 90}), "spec.ingress[0].ports[1].endPort"),
        (json!({"port": "http", "endPort": 90}), "spec.ingress[0].ports[1].port"),
        (json!({"port": 80, "endPort": 79}), "spec.ingress[0].ports[1].endPort"),
        (json!({"port": 80, "endPort": 65536}), "spec.ingress[0].ports[1].endPort"),
        (json!({"port": 0}), "spec.ingress[0].ports[1].port"),
        (json!({"port": 65536}), "spec.ingress[0].ports[1].port"),
        (json!({"port": -1}), "spec.ingress[0].ports[1].port"),
        (json!({"port": 80.5}), "spec.ingress[0].ports[1].port"),
        (json!({"port": "80"}), "spec.ingress[0].ports[1].port"),
        (json!({"port": "no_such name"}), "spec.ingress[0].ports[1].port"),
        (json!({"port": [80]}), "spec.ingress[0].ports[1].port"),
        (json!({"protocol": "tcp"}), "spec.ingress[0].ports[1].protocol"),
        (json!({"protocol": "ICMP"}), "spec.ingress[0].ports[1].protocol"),
        (json!({"protocol": 6}), "spec.ingress[0].ports[1].protocol"),
        (json!({"icmp": {}}), "spec.ingress[0].ports[1]"),
        (json!(80), "spec.ingress[0].ports[1]"),
    ] {
        let p = one_warning(ports(item), field);
        assert_eq!(services(&p), [Service::port(Protocol::Tcp, 80)]);
    }
    let (p, warnings) = policy(ports(json!({"port": 90, "endPort": 90})));
    assert!(warnings.is_empty());
    assert_eq!(services(&p), [Service::port(Protocol::Tcp, 80), Service::port(Protocol::Tcp, 90)]);
}

#[test]
fn broken_rules_match_nothing() {
    for (rule, field) in [
        (json!(null), "spec.ingress[0]"),
        (json!([]), "spec.ingress[0]"),
        // misspelt, this rule would allow everything
        (json!({"form": [{"podSelector": {}}]}), "spec.ingress[0]"),
        // of the other direction
        (json!({"to": [{"podSelector": {}}]}), "spec.ingress[0]"),
        (json!({"from": {"podSelector": {}}}), "spec.ingress[0].from"),
        (json!({"from": [{"podSelector": {}}], "ports": {"port": 80}}), "spec.ingress[0].ports"),
    ] {
        let p = one_warning(json!({"podSelector": {}, "ingress": [rule, {}]}), field);
        let Rule { peers, services, .. } = &p.policy.rules[0].rule;
        let no_peer =
            matches!(peers, Peers::Of { groups, blocks } if groups.is_empty() && blocks.is_empty());
        let no_port = matches!(services, Services::Of(items) if items.is_empty());
        assert!(no_peer || no_port, "{peers:?} {services:?}");
        assert_eq!(p.policy.rules[1].rule.peers, Peers::Any);
    }
    let p = one_warning(json!({"podSelector": {}, "ingress": {"from": []}}), "spec.ingress");
    assert!(p.policy.rules.is_empty() && p.policy.isolates.contains(&Direction::Ingress));
    let p = one_warning(json!({"podSelector": {}, "egress": "all"}), "spec.egress");
    assert!(p.policy.rules.is_empty() && p.policy.isolates == Direction::BOTH.into());
}

#[test]
fn unknown_subject_isolates_all_and_allows_nothing_np19() {
    for selector in [
        json!({"matchExpressions": [{"key": "app", "operator": "Like", "values": ["w"]}]}),
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": []}]}),
        json!({"matchLabels": ["app"]}),
        json!({"app": "web"}),
        json!("app=web"),
    ] {
        let (p, warnings) = policy(json!({"podSelector": selector, "ingress": [{}]}));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].field.starts_with("spec.podSelector"), "{}", warnings[0]);
        assert_eq!(p.selectors[&p.policy.subject].to_string(), "shop {}");
        assert_eq!(p.policy.isolates, [Direction::Ingress].into());
        assert!(p.policy.rules.is_empty());
    }
}

#[test]
fn unknown_fields_of_spec_are_read_strictly() {
    // `podselector`: whom it selects is not known
    let p =
        one_warning(json!({"podselector": {"matchLabels": {"a": "b"}}, "ingress": [{}]}), "spec");
    assert!(p.policy.rules.is_empty());
    assert_eq!(p.policy.isolates, Direction::BOTH.into());
    // `policytypes`: in which directions is not known, the rules are
    let p =
        one_warning(json!({"podSelector": {}, "policytypes": ["Egress"], "ingress": [{}]}), "spec");
    assert_eq!(p.policy.rules.len(), 1);
    assert_eq!(p.policy.isolates, Direction::BOTH.into());
    let p = one_warning(json!("deny"), "spec");
    assert!(p.policy.rules.is_empty() && p.policy.isolates == Direction::BOTH.into());
}

#[test]
fn unknown_policy_types_isolate_both_ways() {
    for types in [json!(["ingress"]), json!("Ingress"), json!(["Both"]), json!([null])] {
        let (p, warnings) = policy(
            json!({"podSelector": {}, "policyTypes": types, "ingress": [{}], "egress": [{}]}),
        );
        assert_eq!(warnings.len(), 1);
        assert_eq!(p.policy.isolates, Direction::BOTH.into());
        assert!(p.policy.rules.is_empty());
    }
    let (p, _) = policy(
        json!({"podSelector": {}, "policyTypes": ["Ingress", "x"], "ingress": [{}], "egress": [{}]}),
    );
    assert_eq!(p.policy.isolates, Direction::BOTH.into());
    assert_eq!(p.policy.rules.len(), 1);
}

/// Where the API has plain structs, absent is empty: every pod, ingress.
#[test]
fn no_spec_is_an_empty_spec() {
    let manifest =
        json!({"kind": "NetworkPolicy", "metadata": {"name": "p", "generation": 7, "uid": "u"}});
    let (Some(Object::NetworkPolicy(p)), warnings) = object(&manifest).unwrap() else { panic!() };
    assert!(warnings.is_empty());
    assert_eq!(p.policy.key.to_string(), "default/p");
    assert_eq!((p.policy.generation, &*p.policy.uid), (7, "u"));
    assert_eq!(p.policy.isolates, [Direction::Ingress].into());
}

#[test]
fn rejections_name_object_field_and_value() {
    for (value, line) in [
        (json!(["a"]), "object: write an object"),
        (json!({"metadata": {"name": "x"}}), "object: kind: missing; every object needs it"),
        (json!({"kind": 3}), "object: kind 3: write text (in quotes)"),
        (json!({"kind": "Pod"}), "Pod: metadata.name: every object needs a name (text)"),
        (
            json!({"kind": "Pod", "metadata": {"name": 7}}),
            "Pod: metadata.name 7: every object needs a name (text)",
        ),
        (
            json!({"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": ["x"]}}),
            "NetworkPolicy: metadata.namespace [\"x\"]: write text (in quotes)",
        ),
        (
            json!({"kind": "Pod", "metadata": {"name": "p", "labels": {"version": 1.0}}}),
            "Pod default/p: metadata.labels[\"version\"] 1.0: label values are text; write it in quotes",
        ),
    ] {
        let rejection = object(&value).unwrap_err();
        let text = rejection.to_string();
        assert!(text.contains(line.trim_start_matches("object: write")), "{text}");
        assert!(!text.contains('\n'));
    }
}

#[test]
fn kinds_that_are_not_read() {
    let of = |version: &str, kind: &str| {
        object(
            &json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": "shop", "name": "db"}}),
        )
    };
    for (version, kind) in [
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("v1", "PodTemplate"),
        ("networking.k8s.io/v1", "Ingress"),
        ("networking.k8s.io/v1", "IngressClass"),
        ("networking.istio.io/v1", "ServiceEntry"),
        ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
        ("cilium.io/v2", "CiliumNetworkPolicy"),
        ("config.openshift.io/v1", "Node"),
    ] {
        let (object, warnings) = of(version, kind).unwrap();
        assert!(object.is_none() && warnings.is_empty(), "{version} {kind}");
    }
    // another project's, of the same name
    for version in ["projectcalico.org/v3", "crd.antrea.io/v1beta1"] {
        let (object, warnings) = of(version, "NetworkPolicy").unwrap();
        assert!(object.is_none());
        assert_eq!(warnings[0].field, "apiVersion");
        assert_eq!(warnings[0].object, "NetworkPolicy shop/db");
    }
}

#[test]
fn kinds_and_versions_misspelt() {
    for (version, kind, field) in [
        ("networking.k8s.io/v1", "NetworkPolicies", "kind"),
        ("networking.k8s.io/v1", "networkpolicy", "kind"),
        ("networking.k8s.io/v1", "NetPol", "kind"),
        ("", "NetworkPolcy", "kind"),
        ("networking.k8s.io/v11", "NetworkPolicy", "apiVersion"),
        ("networking.k8s.io", "NetworkPolicy", "apiVersion"),
        ("network.k8s.io/v1", "NetworkPolicy", "apiVersion"),
        ("extensions/v1beta1", "NetworkPolicy", "apiVersion"),
        ("v1", "NetworkPolicy", "apiVersion"),
        ("v11", "Namespace", "apiVersion"),
        ("weir.io/v1", "Workload", "apiVersion"),
        ("v1", "Namspace", "kind"),
        ("V1", "Pod", "apiVersion"),
        ("v1", "NetworkPolicyList", "items"),
    ] {
        let value = json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": "shop", "name": "db"}});
        let rejection = object(&value).expect_err(kind);
        assert_eq!(rejection.field, field, "{version} {kind}: {rejection}");
        assert_eq!(rejection.object, format!("{kind} shop/db"));
    }
}

#[test]
fn pods_np18_np26_np44() {
    let manifest = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "shop", "uid": "u1", "labels": {"app": "db", "empty": null}},
        "spec": {"nodeName": "n1",
            "initContainers": [
                {"name": "i", "ports": [{"name": "gone", "containerPort": 1}]},
                {"name": "s", "restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 2}]}],
            "containers": [
                {"name": "c", "ports": [{"name": "pg", "containerPort": 5432}, {"containerPort": 5}]},
                {"name": "d", "ports": [{"name": "pg", "containerPort": 5433, "protocol": "TCP"},
                    {"name": "pg", "containerPort": 5434, "protocol": "UDP"}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}});
    let (Some(Object::Pod(p)), warnings) = object(&manifest).unwrap() else { panic!() };
    assert!(warnings.is_empty());
    assert_eq!(p.labels.to_string(), "app=db,empty=");
    let ports: Vec<String> =
        p.named_ports.iter().map(|p| format!("{}={}/{}", p.name, p.number, p.protocol)).collect();
    assert_eq!(ports, ["mesh=2/tcp", "pg=5432/tcp", "pg=5433/tcp", "pg=5434/udp"]);
    let addresses: Vec<String> = p.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "fd00::1"]);
    assert_eq!((&*p.node, &*p.uid, p.terminal, p.host_network), ("n1", "u1", false, false));
    let phase = |phase: &str| {
        let (Some(Object::Pod(p)), _) =
            object(&json!({"kind": "Pod", "metadata": {"name": "p"}, "status": {"phase": phase}}))
                .unwrap()
        else {
            panic!()
        };
        p.terminal
    };
    assert!(phase("Succeeded") && phase("Failed") && !phase("Pending") && !phase("Unknown"));
}

#[test]
fn broken_pods_lose_only_what_is_broken() {
    let manifest = json!({"kind": "Pod", "metadata": {"name": "p"},
        "spec": {"hostNetwork": "yes", "containers": [{"ports": [{"name": "a", "containerPort": "x"},
            {"name": "b", "containerPort": 2}]}, 7]},
        "status": {"podIPs": [{"ip": "10.0.0.300"}, {"ip": "10.0.0.2"}, {}]}});
    let (Some(Object::Pod(p)), warnings) = object(&manifest).unwrap() else { panic!() };
    let fields: Vec<&str> = warnings.iter().map(|w| w.field.as_str()).collect();
    assert_eq!(
        fields,
        ["spec.hostNetwork", "spec.containers[0].ports[0].containerPort", "status.podIPs[0].ip"]
    );
    assert_eq!(p.named_ports.len(), 1);
    assert_eq!(p.addresses.len(), 1);
}

/// NP-45.
#[test]
fn age_of_pods_and_workloads() {
    let read = |metadata: Value| {
        let both = [("v1", "Pod"), ("weir.io/v1alpha1", "Workload")].map(|(version, kind)| {
            let manifest = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
            match object(&manifest).unwrap() {
                (Some(Object::Pod(p) | Object::Workload(p)), warnings) => {
                    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
                    (p.created, p.terminating, warnings)
                }
                other => panic!("{other:?}"),
            }
        });
        both.map(|(created, terminating, warnings)| {
            (created, terminating, warnings.join("").replace("Workload", "Pod"))
        })
    };
    let time = "2026-11-25T20:59:41Z";
    for (metadata, wanted) in [
        (json!({"name": "p"}), (None, false, "")),
        (json!({"name": "p", "creationTimestamp": null}), (None, false, "")),
        (json!({"name": "p", "creationTimestamp": time}), (Some(1_795_640_381), false, "")),
        (
            json!({"name": "p", "creationTimestamp": time, "deletionTimestamp": time}),
            (Some(1_795_640_381), true, ""),
        ),
        (
            json!({"name": "p", "creationTimestamp": "today"}),
            (
                None,
                false,
                "Pod default/p: metadata.creationTimestamp \"today\": write a time as \
                 \"2026-11-25T20:59:41Z\"; it counts as older than any other",
            ),
        ),
    ] {
        let wanted = (wanted.0, wanted.1, wanted.2.to_owned());
        assert_eq!(read(metadata), [wanted.clone(), wanted]);
    }
}

/// NP-44: on its way out a pod is what it was; only its phase ends it.
#[test]
fn terminating_pods_are_pods() {
    let read = |metadata: Value, phase: &str| {
        let manifest = json!({"kind": "Pod", "metadata": metadata,
            "status": {"phase": phase, "podIP": "10.0.0.1"}});
        match object(&manifest).unwrap().0 {
            Some(Object::Pod(pod)) => pod,
            other => panic!("{other:?}"),
        }
    };
    let going = json!({"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"});
    let plain = read(json!({"name": "p"}), "Running");
    assert_eq!(read(going.clone(), "Running"), Pod { terminating: true, ..plain });
    assert!(read(going.clone(), "Running").is_endpoint());
    assert!(!read(going, "Failed").is_endpoint());
}

/// NP-50.
#[test]
fn workloads() {
    let manifest = json!({"apiVersion": "weir.io/v1alpha1", "kind": "Workload",
    "metadata": {"name": "db", "namespace": "shop", "uid": "u", "labels": {"app": "db"}},
    "spec": {
        "addresses": ["10.0.0.7", "fd00::7", "10.0.0.7"],
        "node": "n3",
        "mac": "02:00:0A:00:01:20",
        "ports": [{"name": "pg", "port": 5432}, {"name": "dns", "port": 53, "protocol": "UDP"}],
    }});
    let (object, warnings) = object(&manifest).unwrap();
    assert_eq!(warnings, []);
    let Some(Object::Workload(w)) = object else { panic!("{object:?}") };
    assert_eq!((w.kind, w.key()), (Kind::Workload, ("shop".into(), "db".into())));
    assert_eq!((&*w.uid, &*w.node, w.labels.to_string().as_str()), ("u", "n3", "app=db"));
    assert_eq!(
        w.addresses,
        ["10.0.0.7", "fd00::7"].map(|a| a.parse::<std::net::IpAddr>().unwrap())
    );
    assert_eq!(w.mac, Some([2, 0, 10, 0, 1, 0x20]));
    let ports: Vec<_> = w.named_ports.iter().map(|p| (&*p.name, p.protocol, p.number)).collect();
    assert_eq!(ports, [("dns", Protocol::Udp, 53), ("pg", Protocol::Tcp, 5432)]);
    assert!(w.is_endpoint());
    // the group is in the kind's name: without it the kind is somebody else's
    let other = json!({"kind": "Workload", "metadata": {"name": "db"}});
    assert_eq!(super::object(&other).unwrap(), (None, vec![]));
}

/// NP-50: each mistake takes itself away, and is named.
#[test]
fn broken_workloads_lose_only_what_is_broken() {
    let read = |spec: Value| {
        let manifest = json!({"apiVersion": "weir.io/v1alpha1", "kind": "Workload",
            "metadata": {"name": "db", "namespace": "shop"}, "spec": spec});
        workload(&manifest).unwrap()
    };
    let (w, warnings) = read(json!({
        "addresses": ["10.0.0.7", "10.0.0.700", 7], "node": 3, "mac": "02:00:00:00:01",
        "ports": [{"name": "pg", "port": 5432}, {"name": "x"}, {"port": 80}, {"name": "y", "port": 0},
                  {"name": "z", "port": 1, "protocol": "ICMP"}, {"name": "w", "containerPort": 80}],
        "adresses": [],
    }));
    let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    for (text, field) in texts.iter().zip([
        "spec {",
        "spec.node 3: write text",
        "spec.mac \"02:00:00:00:01\": write a unicast MAC address",
        "spec.addresses[1] \"10.0.0.700\"",
        "spec.addresses[2] 7",
        "spec.ports[1] {\"name\":\"x\"}: port is missing",
        "spec.ports[2].name: missing",
        "spec.ports[3].port 0",
        "spec.ports[4].protocol \"ICMP\"",
        "spec.ports[5] {",
    ]) {
        let wanted = format!("Workload shop/db: {field}");
        assert!(text.starts_with(&wanted), "{text} <-> {wanted}");
    }
    assert_eq!(texts.len(), 10, "{texts:#?}");
    assert_eq!((w.addresses.len(), w.named_ports.len(), &*w.node, w.mac), (1, 1, "", None));
    for mac in ["01:00:5e:00:00:01", "00:00:00:00:00:00", "+2:00:00:00:00:01", "02-00-00-00-00-01"]
    {
        let (w, warnings) = read(json!({"mac": mac}));
        assert_eq!((w.mac, warnings.len()), (None, 1), "{mac}");
    }
    let labels = json!({"apiVersion": "weir.io/v1alpha1", "kind": "Workload",
        "metadata": {"name": "db", "labels": {"version": 1.0}}});
    let rejected = object(&labels).unwrap_err().to_string();
    assert!(rejected.starts_with("Workload default/db: metadata.labels"), "{rejected}");
}

#[test]
fn nodes_take_every_address() {
    let manifest = json!({"kind": "Node", "metadata": {"name": "n1", "labels": {"a": "b"}},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "ExternalIP", "address": "203.0.113.1"},
            {"type": "InternalIP", "address": "fd00::1"}, {"type": "Hostname", "address": "n1"}]}});
    let (Some(Object::Node(n)), warnings) = object(&manifest).unwrap() else { panic!() };
    assert!(warnings.is_empty());
    assert_eq!(n.addresses.len(), 3);
    assert_eq!(n.labels.to_string(), "a=b");
}

#[test]
fn typed_objects_read_the_same() {
    use k8s_openapi::api::core::v1 as core;
    let value = json!({"metadata": {"name": "p", "namespace": "x", "labels": {"a": "b"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}]}]},
        "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}});
    let typed: core::Pod = serde_json::from_value(value).unwrap();
    let (p, warnings) = pod(&typed).unwrap();
    assert!(warnings.is_empty());
    assert_eq!((p.named_ports.len(), p.addresses.len()), (1, 1));
    let typed: core::Namespace =
        serde_json::from_value(json!({"metadata": {"name": "x"}})).unwrap();
    assert_eq!(&*namespace(&typed).unwrap().0, "x");
    let typed: core::Node = serde_json::from_value(
        json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}),
    )
    .unwrap();
    assert_eq!(node(&typed).unwrap().0.addresses.len(), 1);
    let typed = k8s_openapi::api::networking::v1::NetworkPolicy::default();
    assert_eq!(network_policy(&typed).unwrap_err().field, "metadata.name");
}

mod text {
    use super::*;

    fn names(values: &[Value]) -> Vec<&str> {
        values.iter().map(|v| v["metadata"]["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn documents_comments_and_markers() {
        let text = "%YAML 1.2\n# head\n---\n# first\nmetadata: {name: a}\n--- # second\nmetadata:\n  name: b\n...\n---\n---\nmetadata: {name: c, note: |\n  x}\n";
        let (values, rejections) = read_documents(text);
        // the third has a block scalar inside a flow mapping: not YAML
        assert_eq!(names(&values), ["a", "b"]);
        assert_eq!(rejections.len(), 1);
        assert!(rejections[0].field.starts_with("line 1"), "{}", rejections[0]);
    }

    #[test]
    fn one_broken_document_does_not_take_the_others() {
        let text =
            "metadata: {name: a}\n---\nmetadata:\n  name: b\n bad: [\n---\nmetadata: {name: c}\n";
        let (values, rejections) = read_documents(text);
        assert_eq!(names(&values), ["a", "c"]);
        assert_eq!(rejections.len(), 1);
        let line: usize = rejections[0].field.strip_prefix("line ").unwrap().parse().unwrap();
        assert!((4..=6).contains(&line), "{}", rejections[0]);
        assert!(!rejections[0].to_string().contains('\n'));
    }

    #[test]
    fn repeated_keys_are_refused() {
        let (values, rejections) = read_documents("kind: Pod\nkind: Node\n");
        assert!(values.is_empty());
        assert_eq!(rejections[0].field, "line 2", "{}", rejections[0]);
    }

    #[test]
    fn json_values_one_after_the_other() {
        let (values, rejections) =
            read_documents("{\"metadata\":{\"name\":\"a\"}}\n{\"metadata\":{\"name\":\"b\"}}");
        assert!(rejections.is_empty());
        assert_eq!(names(&values), ["a", "b"]);
    }

    #[test]
    fn nothing_is_nothing() {
        for text in ["", "\n\n", "# only words\n", "---\n---\n", "\u{feff}", "---\nnull\n"] {
            let (values, rejections) = read_documents(text);
            assert!(values.is_empty() && rejections.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn scalars_as_kubernetes_reads_them() {
        let (values, _) =
            read_documents("{a: 80, b: '80', c: 1.5, d: 0080, e: true, f: ~, g: 8_0, h: ''}");
        assert_eq!(
            values[0],
            json!({"a": 80, "b": "80", "c": 1.5, "d": "0080", "e": true, "f": null, "g": "8_0", "h": ""})
        );
    }

    #[test]
    fn anchors_work_and_bombs_do_not() {
        let (values, rejections) = read_documents("a: &x {k: v}\nb: *x\nc:\n  <<: *x\n  l: w\n");
        assert!(rejections.is_empty(), "{}", rejections[0]);
        assert_eq!(values[0]["c"], json!({"k": "v", "l": "w"}));
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for n in 1..12 {
            let items = vec![format!("*a{}", n - 1); 10].join(",");
            bomb += &format!("a{n}: &a{n} [{items}]\n");
        }
        let started = std::time::Instant::now();
        let (values, rejections) = read_documents(&bomb);
        assert!(values.is_empty());
        assert_eq!(rejections.len(), 1);
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(100_000);
        let (values, rejections) = read_documents(&deep);
        assert!(values.is_empty());
        assert_eq!(rejections.len(), 1);
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read_documents(&deep).1.len(), 1);
    }

    #[test]
    fn lists_are_opened() {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Pod"}, {"kind": "Node"}]});
        assert_eq!(flatten(list).len(), 2);
        let typed = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicyList",
            "items": [{"metadata": {"name": "p"}}]});
        let items = flatten(typed);
        assert_eq!(items[0]["kind"], "NetworkPolicy");
        assert_eq!(items[0]["apiVersion"], "networking.k8s.io/v1");
        assert!(flatten(json!({"kind": "PodList", "items": null})).is_empty());
        assert_eq!(flatten(json!({"kind": "Pod"})).len(), 1);
        let no_items = json!({"kind": "List", "item": []});
        assert!(object(&flatten(no_items)[0]).is_err());
        let nested = json!({"kind": "List", "items": [
            {"kind": "NetworkPolicyList", "items": [{"metadata": {"name": "p"}}]}, {"kind": "Node"}]});
        let kinds: Vec<Value> = flatten(nested).iter().map(|o| o["kind"].clone()).collect();
        assert_eq!(kinds, ["NetworkPolicy", "Node"]);
    }

    #[test]
    fn manifests_of_a_shop() {
        let text = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-from-api, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from:
    - podSelector: {matchLabels: {app: api}}
    ports:
    - {port: 5432}
";
        let mut world = World::default();
        for value in read_documents(text).0.into_iter().flat_map(flatten) {
            let (object, warnings) = object(&value).unwrap();
            assert!(warnings.is_empty());
            object.unwrap().put(&mut world);
        }
        assert_eq!((world.namespaces.len(), world.policies.len()), (1, 1));
    }
}
