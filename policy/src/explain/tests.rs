use serde_json::{Value, json};

use super::*;
use crate::k8s;

fn put(world: &mut World, manifest: Value) {
    let (object, _) = k8s::object(&manifest).unwrap();
    object.unwrap().put(world);
}

fn pod(world: &mut World, name: &str, app: &str, node: &str, ip: &str, port: Value) {
    put(
        world,
        json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": name, "labels": {"app": app, "pod-template-hash": "x"}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": port}]}, "status": {"podIP": ip}}),
    );
}

fn policy(world: &mut World, name: &str, generation: i64, spec: Value) {
    put(
        world,
        json!({"kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": name, "generation": generation},
            "spec": spec}),
    );
}

/// The shop of the samples.
fn shop() -> World {
    let mut world = World::default();
    pod(&mut world, "web-6d4f9", "web", "n2", "10.244.1.17", json!([]));
    pod(&mut world, "api-58c7b", "api", "n3", "10.244.2.8", json!([]));
    pod(
        &mut world,
        "db-0",
        "db",
        "n5",
        "10.244.3.9",
        json!([{"name": "pg", "containerPort": 5432}]),
    );
    policy(&mut world, "default-deny", 1, json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    policy(
        &mut world,
        "db-from-api",
        4,
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"app": "api"}}}], "ports": [{"port": 5432}]}]}),
    );
    world
}

fn ask(world: &World, src: &str, dst: &str, port: u16) -> Why {
    let connection =
        eval::from_addresses(world, src.parse().unwrap(), dst.parse().unwrap(), L4::tcp(port));
    why(world, &connection)
}

fn terms(rule: &RuleWhy) -> Vec<String> {
    let mark = |ok| match ok {
        Some(true) => "ok",
        Some(false) => "FAIL",
        None => "?",
    };
    rule.terms
        .iter()
        .map(|t| format!("{} {}: {}: {}", mark(t.ok), t.item(), t.wanted(), t.found()))
        .collect()
}

#[test]
fn denied_with_its_nearest_miss() {
    let world = shop();
    let why = ask(&world, "10.244.1.17", "10.244.3.9", 5432);
    assert_eq!(why.verdict, Answer::Denied);
    assert_eq!(
        (why.src.name(), why.dst.name()),
        ("shop/web-6d4f9".to_owned(), "shop/db-0".to_owned())
    );
    assert_eq!(why.egress.text, "no policy isolates it for egress");
    assert_eq!(
        why.ingress.text,
        "isolated by 2 policies; none of their rules admits this connection"
    );
    let policies: Vec<String> =
        why.ingress.isolated_by.iter().map(|p| p.sentence(Direction::Ingress)).collect();
    assert_eq!(
        policies,
        ["default-deny (gen 1, no ingress rules)", "db-from-api (gen 4, 1 ingress rule)"]
    );
    let miss = why.ingress.nearest_miss.as_ref().unwrap();
    assert_eq!((miss.place(), miss.failing()), ("shop/db-from-api ingress[0]".to_owned(), 1));
    assert_eq!(
        terms(miss),
        [
            "ok subject: podSelector app=db: db-0 has app=db",
            "FAIL from[0]: podSelector app=api, namespace shop: web-6d4f9 has app=web",
            "ok port[0]: tcp/5432: ",
        ]
    );
    assert_eq!(
        why.ingress.change.as_ref().unwrap().text,
        "would be admitted by adding to shop/db-from-api ingress[0].from:  - podSelector: {matchLabels: {app: web}}"
    );
}

#[test]
fn allowed_by_a_rule() {
    let world = shop();
    let why = ask(&world, "10.244.2.8", "10.244.3.9", 5432);
    assert_eq!(why.verdict, Answer::Allowed);
    let id = why.ingress.allowed_by[0].id.unwrap();
    let wanted =
        format!("by {id} shop/db-from-api ingress[0]  (from[0] app=api, port[0] tcp/5432)");
    assert_eq!(why.ingress.text, wanted);
    assert!(why.ingress.isolated && why.ingress.nearest_miss.is_none());
}

#[test]
fn json_has_the_documented_names() {
    let why = ask(&shop(), "10.244.1.17", "10.244.3.9", 5432);
    let value = serde_json::to_value(&why).unwrap();
    assert_eq!(value["verdict"], "denied");
    assert_eq!(
        value["src"],
        json!({"namespace": "shop", "pod": "web-6d4f9", "ip": "10.244.1.17", "node": "n2"})
    );
    assert_eq!(value["egress"]["isolatedBy"], json!([]));
    let first = json!({"kind": "NetworkPolicy", "namespace": "shop", "name": "default-deny", "generation": 1, "rules": 0});
    assert_eq!(value["ingress"]["isolatedBy"][0], first);
    assert_eq!(value["ingress"]["isolationSet"].as_str().unwrap().len(), 8);
    let miss = &value["ingress"]["nearestMiss"];
    assert_eq!(miss["rule"], "ingress[0]");
    assert_eq!(miss["terms"][1]["term"], "from[0].podSelector");
    assert_eq!(miss["terms"][1]["want"], "app=api");
    assert_eq!(miss["terms"][1]["have"], "app=web");
    assert_eq!(miss["terms"][1]["ok"], false);
}

#[test]
fn other_misses_and_their_changes() {
    let change = |why: &Why| why.ingress.change.as_ref().unwrap().text.clone();
    let mut world = shop();
    let why = ask(&world, "10.244.2.8", "10.244.3.9", 5433);
    assert_eq!(
        change(&why),
        "would be admitted by adding to shop/db-from-api ingress[0].ports:  - {protocol: TCP, port: 5433}"
    );
    let why = ask(&world, "203.0.113.7", "10.244.3.9", 5432);
    assert_eq!(
        terms(why.ingress.nearest_miss.as_ref().unwrap())[1],
        "FAIL from[0]: podSelector app=api, namespace shop: 203.0.113.7 is no pod"
    );
    assert_eq!(
        change(&why),
        "would be admitted by adding to shop/db-from-api ingress[0].from:  - ipBlock: {cidr: \"203.0.113.7/32\"}"
    );
    assert_eq!(why.notes[0].code, "translated-source");
    // both terms fail: a rule of its own, in the policy that is about the pod
    let why = ask(&world, "10.244.1.17", "10.244.3.9", 1);
    assert!(
        change(&why)
            .starts_with("would be admitted by adding to shop/db-from-api ingress:  - {from: [{")
    );
    // the policy is about another pod
    let why = ask(&world, "10.244.2.8", "10.244.1.17", 5432);
    assert_eq!(
        change(&why),
        "shop/db-from-api would admit it, and would select shop/web-6d4f9 if its labels had app=db"
    );
    // no rules at all
    world.policies.remove(&PolicyKey::network_policy("shop", "db-from-api"));
    let why = ask(&world, "10.244.2.8", "10.244.3.9", 5432);
    assert!(why.ingress.nearest_miss.is_none());
    assert!(change(&why).starts_with("would be admitted by a policy in shop with podSelector {matchLabels: {app: db}} and ingress:"));
    assert_eq!(why.ingress.text, "isolated by 1 policy; none of its rules admits this connection");
}

#[test]
fn named_ports_blocks_and_excepts() {
    let mut world = shop();
    policy(
        &mut world,
        "db-from-api",
        5,
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{
            "from": [{"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.1.0/24"]}}], "ports": [{"port": "pg"}]}]}),
    );
    let why = ask(&world, "10.244.1.17", "10.244.3.9", 5432);
    assert_eq!(
        terms(why.ingress.nearest_miss.as_ref().unwrap()),
        [
            "ok subject: podSelector app=db: db-0 has app=db",
            "ok from[0]: ipBlock 10.244.0.0/16: web-6d4f9 is 10.244.1.17",
            "FAIL from[0]: except 10.244.1.0/24: web-6d4f9 is 10.244.1.17",
            "ok port[0]: tcp/pg: db-0 has pg=5432",
        ]
    );
    let why = ask(&world, "10.244.2.8", "10.244.3.9", 5432);
    assert_eq!(why.verdict, Answer::Allowed);
    assert_eq!(why.notes[0].code, "ip-block-pods");
    world.pods.get_mut(&("shop".into(), "web-6d4f9".into())).unwrap().addresses.clear();
    let end = |name: &str| End::Pod { key: ("shop".into(), name.into()), address: None };
    let connection = Connection {
        src: end("web-6d4f9"),
        dst: end("db-0"),
        l4: L4::tcp(5432),
        via_service: false,
    };
    let why = super::why(&world, &connection);
    assert_eq!(why.verdict, Answer::Undecided);
    assert_eq!(why.notes[0].code, "address-unknown");
    assert_eq!(why.ingress.change, None);
    // the rule that an address decides is nearer than one that fails
    let miss = why.ingress.nearest_miss.unwrap();
    assert_eq!(
        terms(&miss)[1],
        "? from[0]: ipBlock 10.244.0.0/16: web-6d4f9 is without a known address"
    );
}

#[test]
fn misspelt_keys_are_pointed_out() {
    let mut world = shop();
    policy(
        &mut world,
        "db-from-api",
        5,
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{
            "from": [{"namespaceSelector": {"matchLabels": {"nme": "shop"}}, "podSelector": {"matchLabels": {"ap": "web"}}}]}]}),
    );
    let why = ask(&world, "10.244.1.17", "10.244.3.9", 5432);
    let notes: Vec<&str> = why.notes.iter().map(|n| &*n.text).collect();
    assert_eq!(notes, ["no pod carries the label ap", "no namespace carries the label nme"]);
}
