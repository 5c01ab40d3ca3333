//! A real kube-apiserver whose nodes and pods are those of the testbed: what users apply comes to life, and goes.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use serde_json::{Value, json};
use weir_testbed::Layout;
use weir_testbed::cluster::client::Identity;
use weir_testbed::cluster::{Account, Cluster, KUBECTL, pod_key};

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: web, image: example.org/web, ports: [{containerPort: 8080}]}
";

fn cluster() -> Cluster {
    Cluster::for_test(&Layout { nodes: 2, ..Layout::default() }).unwrap()
}

/// kubectl as a user runs it: outside of every namespace, with the kubeconfig that `up` prints.
fn kubectl(cluster: &Cluster, args: &[&str], input: &str) -> Result<String, String> {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = Command::new(cluster.dir().join(KUBECTL))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn pods(cluster: &Cluster) -> Vec<Value> {
    let mut pods = cluster.client().list("v1", "Pod").unwrap();
    pods.retain(|p| p["metadata"]["namespace"] == "shop");
    pods
}

fn running(cluster: &mut Cluster, count: usize) -> Vec<Value> {
    let client = cluster.client().clone();
    cluster
        .until(&format!("{count} pods run"), || {
            let mut pods = client.list("v1", "Pod")?;
            pods.retain(|p| p["metadata"]["namespace"] == "shop");
            let run = |p: &Value| {
                p["status"]["phase"] == "Running" && p["metadata"]["deletionTimestamp"].is_null()
            };
            Ok((pods.len() == count && pods.iter().all(run)).then_some(pods))
        })
        .unwrap()
}

#[test]
fn what_kubectl_applies_comes_to_life_and_goes() {
    let mut cluster = cluster();
    kubectl(&cluster, &["apply", "-f", "-"], SHOP).unwrap();
    kubectl(&cluster, &["apply", "-f", "-"], WEB).unwrap();
    let there = running(&mut cluster, 3);
    kubectl(&cluster, &["rollout", "status", "-n", "shop", "deployment/web", "--timeout=60s"], "")
        .unwrap();
    for pod in &there {
        let name = format!("shop/{}", pod["metadata"]["name"].as_str().unwrap());
        let node = pod["spec"]["nodeName"].as_str().unwrap();
        cluster.with_bed(|bed| {
            let host = bed.host(&name).unwrap();
            assert_eq!(host.node(), Some(node));
            let told: Vec<&str> = pod["status"]["podIPs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|ip| ip["ip"].as_str().unwrap())
                .collect();
            let has: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(told, has);
            // the port says whose it is, as Weir's agents read it
            let port = host.port().unwrap();
            let ids = bed
                .node(node)
                .unwrap()
                .ovs
                .vsctl(&["get", "Interface", port, "external_ids:iface-id"])
                .unwrap();
            assert_eq!(ids.trim().trim_matches('"'), name);
            // and the probe server stands in for the image
            let listens = bed.host(&name).unwrap().services.clone();
            assert_eq!(listens, [weir_testbed::tcp(8080)]);
        });
    }
    let nodes: std::collections::BTreeSet<&str> =
        there.iter().map(|p| p["spec"]["nodeName"].as_str().unwrap()).collect();
    assert_eq!(nodes.len(), 2, "the scheduler put all on one node");

    // one is deleted: another comes in its place, and its network is gone
    let first = there[0]["metadata"]["name"].as_str().unwrap().to_owned();
    kubectl(&cluster, &["delete", "pod", "-n", "shop", &first], "").unwrap();
    let now = running(&mut cluster, 3);
    assert!(now.iter().all(|p| p["metadata"]["name"] != *first));
    cluster.with_bed(|bed| assert!(bed.host(&format!("shop/{first}")).is_err()));

    // and a namespace takes everything along
    kubectl(&cluster, &["delete", "namespace", "shop", "--timeout=90s"], "").unwrap();
    assert!(pods(&cluster).is_empty());
    cluster.with_bed(|bed| assert!(bed.hosts().keys().all(|name| !name.starts_with("shop/"))));
    cluster.check().unwrap();
    cluster.down().unwrap();
}

#[test]
fn fields_that_a_kind_does_not_have_are_refused() {
    let cluster = cluster();
    let policy = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: default}
spec: {podSelector: {}, ingres: []}
";
    let error = cluster.apply(policy).unwrap_err().to_string();
    assert!(error.contains("NetworkPolicy default/p") && error.contains("ingres"), "{error}");
    let error = kubectl(&cluster, &["apply", "-f", "-"], policy).unwrap_err();
    assert!(error.contains("ingres"), "{error}");
    cluster.down().unwrap();
}

/// A pod of its own, on a node and at an address that it names.
fn lone(name: &str, node: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": "default",
            "name": name,
            "annotations": {"testbed.weir.io/addresses": address},
        },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "a", "image": "a", "ports": [{"containerPort": 80}]}],
        },
    })
}

#[test]
fn the_api_server_is_killed_and_its_history_forgotten() {
    let mut cluster = cluster();
    cluster.apply_pod(&lone("a", "n1", "10.10.0.10")).unwrap();
    cluster.pod_runs("default", "a").unwrap();

    cluster.servers().apiserver().kill().unwrap();
    assert!(cluster.client().text("/readyz").is_err());
    // meanwhile what runs runs on
    cluster.with_bed(|bed| assert!(bed.host("default/a").is_ok()));
    cluster.servers().compact().unwrap();
    cluster.servers().apiserver().start_again().unwrap();
    let client = cluster.client().clone();
    cluster.servers().until_ready(&client).unwrap();

    // the kubelets see what comes and goes afterwards
    cluster.apply_pod(&lone("b", "n2", "10.10.0.20")).unwrap();
    cluster.pod_runs("default", "b").unwrap();
    cluster.client().delete(&pod_key("default", "a")).unwrap();
    cluster.is_gone(&pod_key("default", "a")).unwrap();
    cluster.with_bed(|bed| {
        assert!(bed.host("default/a").is_err());
        assert_eq!(bed.host("default/b").unwrap().node(), Some("n2"));
    });
    cluster.down().unwrap();
}

#[test]
fn tokens_are_those_of_their_accounts_and_nothing_is_allowed_unsaid() {
    let mut cluster = cluster();
    cluster.apply_pod(&lone("a", "n1", "10.10.0.10")).unwrap();
    cluster.pod_runs("default", "a").unwrap();
    let account = Account {
        namespace: "default",
        name: "default",
        audience: None,
        seconds: 600,
        bound: None,
    };
    let token = cluster.token(&account).unwrap();
    let stranger = cluster.client_as(&Identity::Token(token)).unwrap();
    let error = stranger.list("v1", "Pod").unwrap_err().to_string();
    assert!(error.contains("system:serviceaccount:default:default"), "{error}");
    assert!(error.contains("forbidden"), "{error}");

    let error = cluster.client_as(&Identity::Nobody).unwrap().list("v1", "Pod").unwrap_err();
    assert!(error.to_string().contains("forbidden"), "{error}");

    // a token bound to a pod names the pod's node
    let pod = cluster.client().get(&pod_key("default", "a")).unwrap().unwrap();
    let bound = json!({
        "apiVersion": "v1", "kind": "Pod", "name": "a", "uid": pod["metadata"]["uid"],
    });
    let token = cluster
        .token(&Account { audience: Some("weir-controller"), bound: Some(&bound), ..account })
        .unwrap();
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["weir-controller"]},
    });
    let text = review.to_string();
    let answer = kubectl(&cluster, &["create", "-f", "-", "-o", "json"], &text).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["status"]["authenticated"], true);
    assert_eq!(
        answer["status"]["user"]["extra"]["authentication.kubernetes.io/node-name"],
        json!(["n1"])
    );
    cluster.down().unwrap();
}
