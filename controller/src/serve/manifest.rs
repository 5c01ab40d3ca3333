//! The picture as manifests: trimmed to what policy depends on, and read back to the same picture.

use serde_json::{Value, json};
use weir_policy::labels::Labels;
use weir_policy::world::{Node, Pod};

use crate::index::{NamespaceView, View};

/// One JSON object each: namespaces, nodes, pods, policies.
pub fn objects(view: &View) -> impl Iterator<Item = String> + Send {
    let namespaces = view.namespaces.clone().into_iter().map(|n| namespace(&n).to_string());
    let nodes = view.nodes.clone().into_iter().map(|n| node(&n).to_string());
    let pods = view.pods.clone().into_iter().map(|p| pod(&p.pod()).to_string());
    let policies = view.policies.clone().into_iter().map(|p| p.to_string());
    namespaces.chain(nodes).chain(pods).chain(policies)
}

fn labels(labels: &Labels) -> Value {
    labels.0.iter().map(|(k, v)| (k.to_string(), Value::from(&**v))).collect()
}

fn namespace(namespace: &NamespaceView) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": &*namespace.name, "labels": labels(&namespace.labels) },
    })
}

fn node(node: &Node) -> Value {
    let addresses: Vec<Value> =
        node.addresses.iter().map(|a| json!({ "type": "InternalIP", "address": a })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": &*node.name, "labels": labels(&node.labels) },
        "status": { "addresses": addresses },
    })
}

fn pod(pod: &Pod) -> Value {
    let mut metadata = json!({
        "namespace": &*pod.namespace,
        "name": &*pod.name,
        "labels": labels(&pod.labels),
    });
    if !pod.uid.is_empty() {
        metadata["uid"] = Value::from(&*pod.uid);
    }
    let ports: Vec<Value> = pod
        .named_ports
        .iter()
        .map(|p| {
            json!({
                "name": &*p.name,
                "containerPort": p.number,
                "protocol": p.protocol.as_str(),
            })
        })
        .collect();
    let mut spec = json!({});
    if !ports.is_empty() {
        spec["containers"] = json!([{ "name": "all", "ports": ports }]);
    }
    if !pod.node.is_empty() {
        spec["nodeName"] = Value::from(&*pod.node);
    }
    if pod.host_network {
        spec["hostNetwork"] = true.into();
    }
    let ips: Vec<Value> = pod.addresses.iter().map(|a| json!({ "ip": a })).collect();
    let mut status = json!({ "podIPs": ips });
    if pod.terminal {
        // which of the two final phases it was makes no difference
        status["phase"] = "Succeeded".into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    })
}
