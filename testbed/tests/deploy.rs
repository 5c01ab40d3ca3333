//! What `deploy/` holds is what the programs take and what a real API server accepts.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use serde_json::Value;
use weir_testbed::Layout;
use weir_testbed::cluster::{Cluster, binary, weir};

/// What stands above the rendering.
const HEAD: &str = "\
# Everything that `helm install weir deploy/chart --namespace weir-system --create-namespace` makes, for `kubectl apply
# --server-side -f`. Rendered from deploy/chart: edit that, and then `BLESS=1 cargo test --workspace --test deploy`.
";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The chart as Helm's own engine renders it.
fn render(more: &[&str]) -> String {
    let output = Command::new(binary::find().unwrap())
        .args(["helm-template", "--namespace", weir::NAMESPACE, "--include-crds"])
        .args(more)
        .arg("weir")
        .arg(deploy().join("chart"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_plain_yaml_is_the_chart_rendered() {
    let file = deploy().join("weir.yaml");
    let rendered = format!("{HEAD}{}", render(&["--set", "createNamespace=true"]));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, &rendered).unwrap();
        return;
    }
    let there = fs::read_to_string(&file).unwrap();
    assert!(
        there == rendered,
        "deploy/weir.yaml is not what deploy/chart renders to; BLESS=1 makes it so"
    );
    assert_eq!(there, weir::MANIFESTS, "the testbed was built with another deploy/weir.yaml");
}

#[test]
fn values_reach_the_manifests() {
    let rendered = render(&[
        "--set",
        "controller.replicas=3,agent.bridge=br0,agent.uplinks={eth7,eth8},controller.admin=127.0.0.1:1234",
    ]);
    for part in [
        "replicas: 3",
        "br0.mgmt",
        "--uplink=eth7",
        "--uplink=eth8",
        "port: 1234",
        "--admin=127.0.0.1:1234",
    ] {
        assert!(rendered.contains(part), "{part}");
    }
    assert!(!rendered.contains("kind: Namespace\n"), "a namespace that nobody asked for");
}

/// Program and arguments of every container, as a kubelet hands them over.
fn command_lines(text: &str) -> Vec<(String, Vec<String>)> {
    let mut out = Vec::new();
    for object in weir::objects(text).unwrap() {
        let containers = object.pointer("/spec/template/spec/containers");
        for container in containers.and_then(Value::as_array).into_iter().flatten() {
            let name = container["name"].as_str().unwrap().to_owned();
            let args = container["args"].as_array().unwrap().iter().map(|arg| {
                let arg = arg.as_str().unwrap().replace("$(NODE)", "n1");
                let arg = arg.replace("$(ADDRESS)", "192.0.2.1");
                let arg = arg.replace("$(WEIR_CONTROLLER_SERVICE_HOST)", "10.96.7.7");
                assert!(!arg.contains("$("), "{name}: {arg} has a variable that nobody sets");
                arg
            });
            let words = std::iter::once(name.clone()).chain(args).collect();
            out.push((name, words));
        }
    }
    out
}

#[test]
fn every_argument_is_one_that_the_programs_take() {
    let lines = command_lines(weir::MANIFESTS);
    let mut seen = BTreeSet::new();
    for (name, words) in &lines {
        seen.insert(name.as_str());
        let parsed = match name.as_str() {
            "weir-controller" => weir_controller::args::Cli::try_parse_from(words).map(drop),
            "weir-agent" => weir_agent::args::Cli::try_parse_from(words).map(drop),
            other => panic!("{other} is no program of ours"),
        };
        if let Err(e) = parsed {
            panic!("{}\n{e}", words.join(" "));
        }
    }
    assert_eq!((lines.len(), seen.len()), (2, 2));
}

#[test]
fn a_real_api_server_takes_all_of_it() {
    let mut cluster = Cluster::for_test(&Layout { nodes: 2, ..Layout::default() }).unwrap();
    // its kinds first, and then everything, with strict validation
    weir::install(&mut cluster, weir::MANIFESTS).unwrap();
    let objects = weir::objects(weir::MANIFESTS).unwrap();
    for object in &objects {
        cluster.client().apply(object).unwrap();
    }
    // a second time changes nothing
    for object in &objects {
        let before = cluster.client().get(object).unwrap().unwrap();
        let after = cluster.client().apply(object).unwrap();
        assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);
    }
    // an agent for each node, and controllers on different ones
    let client = cluster.client().clone();
    let placed = cluster
        .until("the pods of Weir are placed", || {
            let mut pods = client.list("v1", "Pod")?;
            pods.retain(|p| p["metadata"]["namespace"] == weir::NAMESPACE);
            let all = pods.len() == 4 && pods.iter().all(|p| p["status"]["phase"] == "Running");
            Ok(all.then_some(pods))
        })
        .unwrap();
    for component in ["controller", "agent"] {
        let nodes: BTreeSet<&str> = placed
            .iter()
            .filter(|p| p["metadata"]["labels"]["app.kubernetes.io/component"] == component)
            .map(|p| p["spec"]["nodeName"].as_str().unwrap())
            .collect();
        assert_eq!(nodes.len(), 2, "{component}s share a node");
    }
    cluster.down().unwrap();
}

/// What the controllers may change in their namespace has a name, beside what they make.
#[test]
fn rights_in_the_namespace_name_their_objects() {
    let objects = weir::objects(weir::MANIFESTS).unwrap();
    let roles: Vec<&Value> = objects.iter().filter(|o| o["kind"] == "Role").collect();
    assert_eq!(roles.len(), 1);
    let mut named = BTreeSet::new();
    for rule in roles[0]["rules"].as_array().unwrap() {
        let names = rule["resourceNames"].as_array();
        named.extend(names.into_iter().flatten().map(|n| n.as_str().unwrap().to_owned()));
        // of what is not there yet, and of all of them together, no name can be said
        let free = |verb: &Value| verb == "create" || verb == "list";
        let all_free = rule["verbs"].as_array().unwrap().iter().all(free);
        assert!(all_free || names.is_some_and(|n| !n.is_empty()), "{rule}");
    }
    let replicas = (0..weir_controller::peers::SLOTS).map(|n| format!("weir-controller.{n}"));
    let wanted: BTreeSet<String> =
        replicas.chain(["weir-ca", "weir-controller"].map(str::to_owned)).collect();
    assert_eq!(named, wanted);
}

/// Controllers ask each other, so they must get there.
#[test]
fn controllers_reach_each_other_through_their_own_policy() {
    let rendered = render(&["--set", "controller.port=7443"]);
    let objects = weir::objects(&rendered).unwrap();
    let policy = objects
        .iter()
        .find(|o| o["kind"] == "NetworkPolicy" && o["metadata"]["name"] == "weir-controller")
        .unwrap();
    for direction in ["ingress", "egress"] {
        let rules = policy["spec"][direction].as_array().unwrap();
        let mut ports = rules.iter().flat_map(|r| r["ports"].as_array().unwrap());
        assert!(ports.any(|p| p["port"] == 7443), "{direction}: {policy}");
    }
}
