//! How far policies are, on a real API server: the objects that the controller writes, its events and numbers, and what
//! `weirctl policy` makes of them without a controller's address.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use weir_testbed::cluster::weir::{Setup, Weir};
use weir_testbed::{require, tcp};

const OBJECTS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: idle, namespace: shop}
spec: {podSelector: {matchLabels: {app: nobody}}}
";

fn pod(name: &str, node: &str) -> Value {
    let ports = json!([{"name": "sql", "containerPort": 5432}]);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "server", "image": "weir-testbed", "ports": ports}],
        },
    })
}

fn object(api: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api, "kind": kind, "metadata": {"namespace": "shop", "name": name}})
}

/// `weirctl`, which knows nothing but these variables: exit code, answer, remarks.
fn weirctl(env: &[(&str, &Path)], args: &[&str]) -> (i32, String, String) {
    let output = Command::new(require::sibling("weirctl").unwrap())
        .env_clear()
        .envs(env.iter().copied())
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The rows of a program's table in the documentation.
fn documented(program: &str) -> String {
    let text = include_str!("../../docs/metrics.md");
    let section = text.split("\n## ").find(|s| s.starts_with(program)).unwrap();
    let rows = section.lines().filter(|l| l.starts_with("| `weir_"));
    rows.map(|l| format!("{l}\n")).collect()
}

#[test]
fn a_policy_is_told_of_in_objects_events_numbers_and_tables() {
    let mut weir = Weir::for_test(&Setup::new(2, 1)).unwrap();
    weir.cluster().apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}").unwrap();
    for (name, node) in [("web", "n1"), ("db", "n2")] {
        weir.cluster().apply_pod(&pod(name, node)).unwrap();
        weir.cluster().pod_runs("shop", name).unwrap();
    }
    weir.cluster().apply(OBJECTS).unwrap();
    let (kubeconfig, home) = (weir.cluster().kubeconfig(), tempfile::tempdir().unwrap());
    let env: &[(&str, &Path)] = &[("KUBECONFIG", &kubeconfig)];

    // in force: weirctl says so, and so does a connection
    let wait = ["policy", "wait", "np/db", "-n", "shop", "--timeout", "60s"];
    assert_eq!(weirctl(env, &wait), (0, "1 policy in force\n".to_owned(), String::new()));
    weir.reaches("shop/web", "shop/db", tcp(5432)).unwrap();

    // the object, and the flows that it speaks of
    let client = weir.cluster().client().clone();
    let db = object("weir.io/v1alpha1", "PolicyStatus", "db");
    let count = |weir: &mut Weir| {
        let dump = weir
            .cluster()
            .with_bed(|bed| bed.node("n2").unwrap().ovs.ofctl(&["dump-flows", "br-int"]).unwrap());
        // rules and clauses, of the only policy that has any
        let kinds = ["cookie=0x57011", "cookie=0x57013"];
        dump.lines().filter(|l| kinds.iter().any(|kind| l.contains(kind))).count()
    };
    let flows = count(&mut weir);
    assert!(flows >= 4, "{flows}");
    let status = weir
        .cluster()
        .until("the flows of the policy are told", || {
            let there = client.get(&db)?.unwrap_or_default();
            Ok((there["status"]["flowsPerNode"] == json!({"max": flows, "node": "n2"}))
                .then_some(there))
        })
        .unwrap();
    // strict validation: the definition has every field that is written
    let mut again = status.clone();
    again["metadata"] = json!({"namespace": "shop", "name": "as-written"});
    client.apply(&again).unwrap();
    client.delete(&object("weir.io/v1alpha1", "PolicyStatus", "as-written")).unwrap();
    assert_eq!(status["status"]["warnings"], json!([]));
    let idle = object("weir.io/v1alpha1", "PolicyStatus", "idle");
    let idle = client.get(&idle).unwrap().unwrap();
    assert_eq!(idle["status"]["warnings"][0]["code"], "selects-nothing");

    // a workload that claims an address of a pod
    let web = client.get(&object("v1", "Pod", "web")).unwrap().unwrap();
    let address = web["status"]["podIP"].as_str().unwrap();
    let workload = format!(
        "{{apiVersion: weir.io/v1alpha1, kind: Workload, metadata: {{name: vm, namespace: shop}}, \
          spec: {{addresses: ['{address}']}}}}"
    );
    weir.cluster().apply(&workload).unwrap();
    let events = weir
        .cluster()
        .until("both events", || {
            let mut events = client.list("events.k8s.io/v1", "Event")?;
            events.retain(|e| e["reportingController"] == weir_controller::status::REPORTER);
            Ok((events.len() >= 2).then_some(events))
        })
        .unwrap();
    let mut said: Vec<String> = events
        .iter()
        .map(|e| {
            let word = |pointer: &str| e.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
            let (kind, name) = (word("/regarding/kind"), word("/regarding/name"));
            format!("{kind} {name} {} {}", word("/type"), word("/reason"))
        })
        .collect();
    said.sort();
    assert_eq!(said, ["NetworkPolicy db Normal Realized", "Workload vm Warning AddressTaken"]);
    for event in &events {
        let regarding = &event["regarding"];
        let (api, kind) = (&regarding["apiVersion"], &regarding["kind"]);
        let name = regarding["name"].as_str().unwrap();
        let there = client.get(&object(api.as_str().unwrap(), kind.as_str().unwrap(), name));
        // kubectl describe finds events by it
        assert_eq!(there.unwrap().unwrap()["metadata"]["uid"], regarding["uid"], "{event}");
    }

    // the numbers, all of them listed
    let metrics = weir.metrics().unwrap();
    assert_eq!(weir_runtime::metrics::markdown(&metrics), documented("weir-controller"));
    let value = |name: &str| {
        let line = metrics.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(".0").to_owned()
    };
    assert_eq!(value("weir_policy_warnings{code=\"address-taken\"}"), "1");
    assert_eq!(value("weir_policy_warnings{code=\"selects-nothing\"}"), "1");
    assert_eq!(value("weir_policy_warnings{code=\"invalid-field\"}"), "0");
    assert_eq!(value("weir_controller_announcements_total{result=\"said\"}"), "2");

    // the table
    let (code, text, remarks) = weirctl(env, &["policy", "status"]);
    assert_eq!((code, remarks.as_str()), (0, ""));
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0],
        [
            "NAMESPACE",
            "NAME",
            "KIND",
            "GEN",
            "REALIZED",
            "P50",
            "P99",
            "FLOWS/NODE",
            "AGE",
            "STATE"
        ]
    );
    let rows: Vec<(&str, &str)> = lines[1..].iter().map(|l| (l[0], l[1])).collect();
    let mut sorted = rows.clone();
    sorted.sort_unstable();
    assert_eq!(rows, sorted);
    let row = |name: &str| lines.iter().find(|l| l[..2] == ["shop", name]).unwrap();
    assert_eq!(row("db")[2..5], ["NP", "1", "1/1"]);
    assert_eq!((row("db")[7], row("db")[9]), (flows.to_string().as_str(), "Realized"));
    assert_eq!(row("idle")[4..8], ["0/0", "-", "-", "-"]);
    assert!(row("idle").join(" ").ends_with("Realized (selects no pod)"), "{text}");
    let column = text.lines().next().unwrap().find("STATE").unwrap();
    assert!(text.lines().skip(1).all(|l| l[column..].starts_with("Realized")), "{text}");
    assert!(!text.contains('\u{1b}') && text.lines().all(|l| l == l.trim_end()), "{text:?}");
    let (code, text, _) =
        weirctl(env, &["policy", "status", "-n", "shop", "--no-headers", "-o", "text"]);
    assert_eq!((code, text.lines().count()), (0, 2), "{text}");
    let (code, text, _) = weirctl(env, &["policy", "status", "-n", "shop", "-o", "json"]);
    let rows: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &rows[0]["name"], &rows[1]["name"]), (0, &json!("db"), &json!("idle")));
    assert_eq!(rows[0]["nodes"], json!({"desired": 1, "realized": 1, "failed": []}));
    assert_eq!(rows[0]["flowsPerNode"], json!({"max": flows, "node": "n2"}));
    let (code, text, remarks) = weirctl(env, &["policy", "status", "-n", "elsewhere"]);
    assert_eq!(
        (code, text.as_str(), remarks.as_str()),
        (0, "", "no NetworkPolicy in namespace elsewhere\n")
    );

    // manifests as they stand, and not as they stand
    let file = home.path().join("policies.yaml");
    let from = ["policy", "wait", "--timeout", "0ms", "-f", file.to_str().unwrap()];
    std::fs::write(&file, OBJECTS).unwrap();
    assert_eq!(weirctl(env, &from).0, 0);
    std::fs::write(&file, OBJECTS.replace("5432", "5433")).unwrap();
    let (code, text, _) = weirctl(env, &from);
    assert_eq!((code, text.as_str()), (1, "shop/db: the API server has another version of it\n"));
    let unknown = ["policy", "wait", "other", "-n", "shop", "--timeout", "0ms"];
    let (code, text, _) = weirctl(env, &unknown);
    assert_eq!((code, text.as_str()), (1, "shop/other: not known to the API server\n"));

    // the usual places, and what is missing in a sentence
    let named = ["policy", "status", "--kubeconfig", kubeconfig.to_str().unwrap()];
    assert_eq!(weirctl(&[("WEIR_SERVER", Path::new("127.0.0.1:1"))], &named).0, 0);
    std::fs::create_dir(home.path().join(".kube")).unwrap();
    let empty_home: &[(&str, &Path)] = &[("HOME", home.path())];
    let (code, _, remarks) = weirctl(empty_home, &["policy", "status"]);
    assert_eq!(
        (code, remarks.as_str()),
        (
            2,
            "error: no cluster and no controller is named: ~/.kube/config is not there, this is no pod; \
             name one with --kubeconfig or --server\n"
        )
    );
    std::fs::copy(&kubeconfig, home.path().join(".kube/config")).unwrap();
    assert_eq!(weirctl(empty_home, &["policy", "status"]).0, 0);
    let (code, _, remarks) = weirctl(empty_home, &["policy", "status", "--context", "nowhere"]);
    let there = "error: kubeconfig ~/.kube/config: no context \"nowhere\"; it has ";
    assert!(code == 2 && remarks.starts_with(there), "{remarks}");
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap();
    let away = home.path().join("away");
    std::fs::write(&away, text.replace(server, "https://127.0.0.1:1")).unwrap();
    let (code, _, remarks) = weirctl(&[("KUBECONFIG", &away)], &["policy", "status"]);
    assert!(code == 4 && remarks.starts_with("error: https://127.0.0.1:1: "), "{remarks}");
    assert_eq!(remarks.lines().count(), 1, "{remarks}");

    weir.check().unwrap();
    weir.down().unwrap();
}

#[test]
fn a_cluster_without_weir_is_said_to_be_one() {
    let mut cluster =
        weir_testbed::cluster::Cluster::for_test(&weir_testbed::Layout::default()).unwrap();
    let kubeconfig = cluster.kubeconfig();
    for args in [&["policy", "status"][..], &["policy", "wait", "x", "--timeout", "0ms"]] {
        let (code, _, remarks) = weirctl(&[("KUBECONFIG", &kubeconfig)], args);
        let words = ": it serves no PolicyStatus of weir.io: Weir is not installed there\n";
        assert!(code == 4 && remarks.ends_with(words), "{code} {remarks}");
    }
    cluster.check().unwrap();
    cluster.down().unwrap();
}
