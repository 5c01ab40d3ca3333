//! A small shop on a cluster, for what is about controllers and agents and not about policies.

use serde_json::{Value, json};

use super::weir::Weir;
use crate::error::Result;
use crate::tcp;

/// Only web may reach db.
pub const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}, {port: 5432, protocol: UDP}]
";

/// A pod of it, with a server on port 5432.
pub fn pod(name: &str, node: &str, app: &str) -> Value {
    let ports = json!([
        {"name": "sql", "containerPort": 5432},
        {"name": "sql-udp", "containerPort": 5432, "protocol": "UDP"},
    ]);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": app}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "server", "image": "weir-testbed", "ports": ports}],
        },
    })
}

/// Opens it: web and other on n1, db on n2; waits until its policy is in force.
pub fn open(weir: &mut Weir) -> Result<()> {
    weir.cluster().apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")?;
    for (name, node) in [("web", "n1"), ("other", "n1"), ("db", "n2")] {
        weir.cluster().apply_pod(&pod(name, node, name))?;
    }
    for name in ["web", "other", "db"] {
        weir.cluster().pod_runs("shop", name)?;
    }
    weir.cluster().apply(POLICY)?;
    weir.cannot_reach("shop/other", "shop/db", tcp(5432))?;
    weir.agrees().map(drop)
}
