//! The NetworkPolicy conformance vectors against the oracle.
//!
//! They live outside the repository: `WEIR_CONFORMANCE` names their folder. Without them the test says so and passes.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]
#![cfg(feature = "k8s")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use weir_policy::eval::{self, End, L4};
use weir_policy::ids::{PolicyKey, Str};
use weir_policy::k8s;
use weir_policy::world::World;

fn folder() -> Option<PathBuf> {
    let candidates = [
        std::env::var_os("WEIR_CONFORMANCE").map(PathBuf::from),
        Some(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/conformance"))),
    ];
    candidates
        .into_iter()
        .flatten()
        .flat_map(|p| [p.join("networkpolicy"), p])
        .find(|p| p.join("001-set-namespace-to-x.json").is_file())
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}"))
}

/// The short forms of the vectors as the manifests that Kubernetes would show.
fn put(world: &mut World, manifest: &Value) {
    let (object, warnings) = k8s::object(manifest).unwrap();
    assert!(warnings.is_empty(), "{}", warnings[0]);
    object.unwrap().put(world);
}

fn put_namespace(world: &mut World, namespace: &Value) {
    put(
        world,
        &json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace["name"], "labels": namespace["labels"]}}),
    );
}

fn put_pod(world: &mut World, pod: &Value) {
    let ports: Vec<Value> = pod["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| json!({"name": p["name"], "containerPort": p["port"], "protocol": p["protocol"]}))
        .collect();
    put(
        world,
        &json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": pod["namespace"], "name": pod["name"], "labels": pod["labels"]},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": "Running", "podIP": pod["ip"], "podIPs": [{"ip": pod["ip"]}]}}),
    );
}

fn act(world: &mut World, action: &Value) {
    let namespace_of = |field| -> Str { text(action, field).into() };
    match text(action, "op") {
        "apply-policy" => put(world, &action["policy"]),
        "delete-policy" => {
            let key = PolicyKey::network_policy(text(action, "namespace"), text(action, "name"));
            world.policies.remove(&key).unwrap();
        }
        "create-namespace" => put_namespace(world, &action["namespace"]),
        "label-namespace" => put_namespace(world, action),
        "delete-namespace" => {
            let name = namespace_of("name");
            world.namespaces.remove(&name).unwrap();
            world.pods.retain(|key, _| key.0 != name);
            world.policies.retain(|key, _| key.namespace != name);
        }
        "create-pod" => put_pod(world, &action["pod"]),
        "label-pod" => {
            let key = (namespace_of("namespace"), namespace_of("name"));
            let labels: BTreeMap<String, String> =
                serde_json::from_value(action["labels"].clone()).unwrap();
            world.pods.get_mut(&key).unwrap().labels = labels.into_iter().collect();
        }
        "delete-pod" => {
            world.pods.remove(&(namespace_of("namespace"), namespace_of("name"))).unwrap();
        }
        other => panic!("op {other}"),
    }
}

fn l4(flow: &str) -> L4 {
    let (protocol, port) = flow.split_once('/').unwrap();
    L4::Port { protocol: protocol.parse().unwrap(), dport: port.parse().unwrap() }
}

/// The number of cells compared, or the first that differs.
fn check(world: &World, expect: &Value) -> Result<usize, String> {
    let pods: Vec<&str> =
        expect["pods"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    let mut there: Vec<String> = world.pods.keys().map(|(ns, n)| format!("{ns}/{n}")).collect();
    there.sort_unstable();
    let mut sorted = pods.clone();
    sorted.sort_unstable();
    if sorted != there {
        return Err(format!("pods are {there:?}"));
    }
    let end = |name: &str| {
        let (namespace, name) = name.split_once('/').unwrap();
        let key = (Arc::from(namespace), Arc::from(name));
        let address = world.pods[&key].addresses.first().copied();
        assert_eq!(world.pod_by_address(address.unwrap()).unwrap().key(), key);
        End::Pod { key, address }
    };
    let mut cells = 0;
    for table in expect["tables"].as_array().unwrap() {
        for flow in table["flows"].as_array().unwrap() {
            let flow = flow.as_str().unwrap();
            for (src, row) in table["rows"].as_object().unwrap() {
                for (dst, want) in pods.iter().zip(row.as_str().unwrap().chars()) {
                    let verdict = eval::verdict(
                        world,
                        &eval::Connection {
                            src: end(src),
                            dst: end(dst),
                            l4: l4(flow),
                            via_service: false,
                        },
                    );
                    let got = match (verdict.ingress.allowed, verdict.egress.allowed) {
                        _ if src == dst => '-',
                        (true, true) => '.',
                        (false, true) => 'i',
                        (true, false) => 'e',
                        (false, false) => 'x',
                    };
                    if got != want {
                        return Err(format!("{flow} {src} -> {dst}: {got}, expected {want}"));
                    }
                    cells += usize::from(src != dst);
                }
            }
        }
    }
    Ok(cells)
}

#[test]
fn vectors_agree_with_the_oracle() {
    let Some(folder) = folder() else {
        println!("skipped: no conformance vectors; set WEIR_CONFORMANCE");
        return;
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    paths.sort();
    let (mut passed, mut steps, mut cells) = (0, 0, 0);
    let mut failures = Vec::new();
    for path in &paths {
        let case: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut world = World::default();
        for namespace in case["world"]["namespaces"].as_array().unwrap() {
            put_namespace(&mut world, namespace);
        }
        for pod in case["world"]["pods"].as_array().unwrap() {
            put_pod(&mut world, pod);
        }
        let mut ok = true;
        for (n, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            for action in step["actions"].as_array().unwrap() {
                act(&mut world, action);
            }
            match check(&world, &step["expect"]) {
                Ok(n) => cells += n,
                Err(e) => {
                    failures.push(format!("{} step {n}: {e}", text(&case, "name")));
                    ok = false;
                }
            }
            steps += 1;
        }
        passed += usize::from(ok);
    }
    println!("{passed} of {} cases, {steps} steps, {cells} cells", paths.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
