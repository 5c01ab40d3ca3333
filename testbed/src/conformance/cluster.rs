//! The cases through a real kube-apiserver: every object is applied there with strict validation, pods come to life as the
//! testbed's kubelets see them, and the controllers know nothing but what the API tells them.

use serde_json::{Value, json};

use super::case::{Labels, Namespace, Pod};
use super::evaluator::{namespace_manifest, pod_manifest};
use super::live::{Ground, Live, NODES};
use crate::cluster::kubelet::ADDRESSES;
use crate::cluster::pod_key;
use crate::cluster::weir::{Setup, Weir};
use crate::error::Result;
use crate::host::HostName;
use crate::matrix::{Observed, Verdicts};
use crate::out;

/// Controllers, so that a case is not always computed by the same one.
const REPLICAS: u8 = 2;

impl Live<Weir> {
    /// Starts a cluster.
    pub fn up_cluster(name: &str) -> Result<Self> {
        out::progress(&format!(
            "starting a cluster: etcd, kube-apiserver, {NODES} nodes, {REPLICAS} controllers, agents"
        ));
        Ok(Self::on(Weir::up(name, &Setup::new(NODES, REPLICAS))?))
    }
}

fn policy_key(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name},
    })
}

fn split(host: &HostName) -> (&str, &str) {
    host.split_once('/').unwrap_or(("default", host))
}

/// A pod of a case as a user would write it. Its node is left to the scheduler, its status to the kubelet.
fn manifest(pod: &Pod) -> Value {
    let mut object = pod_manifest(pod, "");
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object["metadata"] = json!({
        "namespace": pod.namespace,
        "name": pod.name,
        "labels": pod.labels,
        "annotations": {ADDRESSES: pod.ip.to_string()},
    });
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("nodeName");
        // as pods are, but for the half minute that programs may take to end
        spec.insert("terminationGracePeriodSeconds".to_owned(), json!(1));
    }
    object["spec"]["containers"][0]["image"] = json!("weir-testbed");
    object
}

/// Merge patches replace what they name and remove what they call null.
fn labels_patch(mut key: Value, old: Option<&Value>, labels: &Labels) -> Value {
    let mut patch = serde_json::Map::new();
    for name in old.and_then(Value::as_object).into_iter().flat_map(serde_json::Map::keys) {
        // the API server's own, which it would only put back
        if name != "kubernetes.io/metadata.name" {
            patch.insert(name.clone(), Value::Null);
        }
    }
    patch.extend(labels.iter().map(|(k, v)| (k.clone(), json!(v))));
    key["metadata"]["labels"] = Value::Object(patch);
    key
}

impl Weir {
    fn put_labels(&mut self, key: &Value, labels: &Labels) -> Result<()> {
        let client = self.cluster().client().clone();
        let there = client.get(key)?;
        let old = there.as_ref().and_then(|o| o.pointer("/metadata/labels"));
        client.merge(&labels_patch(key.clone(), old, labels))
    }
}

impl Ground for Weir {
    fn put_policy(&mut self, policy: &Value) -> Result<()> {
        self.cluster().client().apply(policy).map(drop)
    }

    fn delete_policy(&mut self, namespace: &str, name: &str) -> Result<()> {
        self.cluster().client().delete(&policy_key(namespace, name)).map(drop)
    }

    fn delete_policies(&mut self) -> Result<()> {
        let client = self.cluster().client().clone();
        for policy in client.list("networking.k8s.io/v1", "NetworkPolicy")? {
            let text = |pointer: &str| policy.pointer(pointer).and_then(Value::as_str);
            let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
            // Weir's own stay
            if let (Some(namespace), Some(name)) = (namespace, name)
                && namespace != crate::cluster::weir::NAMESPACE
            {
                client.delete(&policy_key(namespace, name))?;
            }
        }
        Ok(())
    }

    fn put_namespace(&mut self, namespace: &Namespace) -> Result<()> {
        let key =
            namespace_manifest(&Namespace { name: namespace.name.clone(), labels: Labels::new() });
        if self.cluster().client().get(&key)?.is_none() {
            return self.cluster().client().apply(&namespace_manifest(namespace)).map(drop);
        }
        self.put_labels(&key, &namespace.labels)
    }

    fn delete_namespace(&mut self, name: &str, _pods: &[HostName]) -> Result<()> {
        let key = namespace_manifest(&Namespace { name: name.to_owned(), labels: Labels::new() });
        self.cluster().client().delete(&key)?;
        self.cluster().is_gone(&key)
    }

    fn create(&mut self, pods: &[Pod]) -> Result<()> {
        for pod in pods {
            self.cluster().apply_pod(&manifest(pod))?;
        }
        pods.iter().try_for_each(|p| self.cluster().pod_runs(&p.namespace, &p.name))
    }

    fn delete(&mut self, pods: &[HostName]) -> Result<()> {
        let keys: Vec<Value> = pods
            .iter()
            .map(|p| {
                let (namespace, name) = split(p);
                pod_key(namespace, name)
            })
            .collect();
        for key in &keys {
            self.cluster().client().delete(key)?;
        }
        keys.iter().try_for_each(|key| self.cluster().is_gone(key))
    }

    fn label(&mut self, namespace: &str, name: &str, labels: &Labels) -> Result<()> {
        self.put_labels(&pod_key(namespace, name), labels)
    }

    fn settle(&mut self, expected: &Verdicts) -> Result<Observed> {
        self.check()?;
        Self::settle(self, expected)
    }

    fn down(self) -> Result<()> {
        Self::down(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_replaced_as_a_whole() {
        let labels: Labels = [("app".to_owned(), "db".to_owned())].into();
        let old = json!({"app": "web", "tier": "x", "kubernetes.io/metadata.name": "n"});
        let patch = labels_patch(pod_key("n", "p"), Some(&old), &labels);
        assert_eq!(patch["metadata"]["labels"], json!({"app": "db", "tier": null}));
    }

    #[test]
    fn pods_are_written_as_users_write_them() {
        let pod = Pod {
            namespace: "x".into(),
            name: "a".into(),
            labels: Labels::new(),
            ip: "10.10.0.10".parse().unwrap(),
            ports: Vec::new(),
        };
        let object = manifest(&pod);
        assert_eq!(object["metadata"]["annotations"][ADDRESSES], "10.10.0.10");
        assert!(object.get("status").is_none());
        assert!(object["spec"].get("nodeName").is_none());
    }
}
