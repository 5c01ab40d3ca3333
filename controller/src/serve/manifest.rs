//! The picture as manifests: trimmed to what policy depends on, and read back to the same picture.

use serde_json::{Value, json};
use weir_policy::labels::Labels;
use weir_policy::port::NamedPort;
use weir_policy::world::{Kind, Node, Pod};

use crate::index::{NamespaceView, View};

/// One JSON object each: namespaces, nodes, pods, policies.
pub fn objects(view: &View) -> impl Iterator<Item = String> + Send {
    let namespaces = view.namespaces.clone().into_iter().map(|n| namespace(&n).to_string());
    let nodes = view.nodes.clone().into_iter().map(|n| node(&n).to_string());
    let pods = view.pods.clone().into_iter().map(|p| pod_or_workload(&p.pod()).to_string());
    let shadowed = view.shadowed.clone().into_iter().map(|w| workload(&w).to_string());
    let policies = view.policies.clone().into_iter().map(|p| p.to_string());
    namespaces.chain(nodes).chain(pods).chain(shadowed).chain(policies)
}

fn labels(labels: &Labels) -> Value {
    labels.iter().map(|(k, v)| (k.to_string(), Value::from(&**v))).collect()
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

fn metadata(pod: &Pod) -> Value {
    let mut metadata = json!({
        "namespace": &*pod.namespace,
        "name": &*pod.name,
        "labels": labels(&pod.labels),
    });
    if !pod.uid.is_empty() {
        metadata["uid"] = Value::from(&*pod.uid);
    }
    if let Some(created) = pod.created.and_then(|s| jiff::Timestamp::from_second(s).ok()) {
        metadata["creationTimestamp"] = created.to_string().into();
    }
    if pod.terminating {
        // when that began makes no difference
        metadata["deletionTimestamp"] = jiff::Timestamp::UNIX_EPOCH.to_string().into();
    }
    metadata
}

fn pod_or_workload(of: &Pod) -> Value {
    match of.kind {
        Kind::Pod => pod(of),
        Kind::Workload => workload(of),
    }
}

fn workload(workload: &Pod) -> Value {
    let mut spec = json!({ "addresses": workload.addresses });
    if !workload.node.is_empty() {
        spec["node"] = Value::from(&*workload.node);
    }
    if let Some([a, b, c, d, e, f]) = workload.mac {
        spec["mac"] = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}").into();
    }
    if !workload.named_ports.is_empty() {
        let port = |p: &NamedPort| json!({ "name": &*p.name, "port": p.number, "protocol": p.protocol.as_str() });
        spec["ports"] = workload.named_ports.iter().map(port).collect();
    }
    json!({
        "apiVersion": "weir.io/v1alpha1",
        "kind": "Workload",
        "metadata": metadata(workload),
        "spec": spec,
    })
}

fn pod(pod: &Pod) -> Value {
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
        "metadata": metadata(pod),
        "spec": spec,
        "status": status,
    })
}
