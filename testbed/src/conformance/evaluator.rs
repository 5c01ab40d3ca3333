//! The cases against the evaluator: all rows, all four letters.

use std::net::IpAddr;

use serde_json::{Value, json};
use weir_policy::eval::{self, L4};
use weir_policy::k8s;
use weir_policy::world::World;

use super::case::{Action, Case, Letter, Namespace, Pod};
use crate::error::{Error, Result};

/// Plays a case; one line for each cell that differs.
pub fn play(case: &Case) -> Result<Vec<String>> {
    let mut world = World::default();
    for namespace in &case.world.namespaces {
        put(&mut world, case, &namespace_manifest(namespace))?;
    }
    for pod in &case.world.pods {
        put(&mut world, case, &pod_manifest(pod, ""))?;
    }
    let mut differences = Vec::new();
    for (n, step) in case.steps.iter().enumerate() {
        for action in &step.actions {
            act(&mut world, case, action)?;
        }
        for cell in step.expect.cells() {
            let seen = verdict(&world, &cell.from, &cell.to, cell.service);
            if seen != Some(cell.letter) {
                differences.push(format!(
                    "step {n}: {} -> {} {}/{}: expected {}, seen {}",
                    cell.from,
                    cell.to,
                    cell.service.protocol.as_str(),
                    cell.service.port,
                    cell.letter.as_char(),
                    seen.map_or('?', Letter::as_char)
                ));
            }
        }
    }
    Ok(differences)
}

fn verdict(world: &World, from: &str, to: &str, service: crate::probe::Service) -> Option<Letter> {
    let address = |name: &str| -> Option<IpAddr> {
        let (namespace, name) = name.split_once('/')?;
        world.pods.get(&(namespace.into(), name.into()))?.addresses.first().copied()
    };
    let l4 = L4::Port { protocol: service.protocol, dport: service.port };
    let connection = eval::from_addresses(world, address(from)?, address(to)?, l4);
    let verdict = eval::verdict(world, &connection);
    Some(Letter::of(verdict.ingress.allowed, verdict.egress.allowed))
}

fn act(world: &mut World, case: &Case, action: &Action) -> Result<()> {
    match action {
        Action::ApplyPolicy { policy } => put(world, case, policy)?,
        Action::DeletePolicy { namespace, name } => {
            world.policies.retain(|key, _| *key.namespace != **namespace || *key.name != **name);
        }
        Action::CreateNamespace { namespace } => put(world, case, &namespace_manifest(namespace))?,
        Action::LabelNamespace { name, labels } => {
            let namespace = Namespace { name: name.clone(), labels: labels.clone() };
            put(world, case, &namespace_manifest(&namespace))?;
        }
        Action::DeleteNamespace { name } => {
            world.namespaces.remove(&**name);
            world.pods.retain(|(namespace, _), _| **namespace != **name);
            world.policies.retain(|key, _| *key.namespace != **name);
        }
        Action::CreatePod { pod } => put(world, case, &pod_manifest(pod, ""))?,
        Action::LabelPod { namespace, name, labels } => {
            if let Some(pod) =
                world.pods.get_mut(&(namespace.as_str().into(), name.as_str().into()))
            {
                pod.labels = labels.iter().collect();
            }
        }
        Action::DeletePod { namespace, name } => {
            world.pods.remove(&(namespace.as_str().into(), name.as_str().into()));
        }
    }
    Ok(())
}

fn put(world: &mut World, case: &Case, manifest: &Value) -> Result<()> {
    let content = |reason: String| Error::Content {
        file: format!("{}.json", case.name).into(),
        field: manifest.get("kind").map_or_else(|| "object".to_owned(), ToString::to_string),
        reason,
    };
    let (object, warnings) = k8s::object(manifest).map_err(|e| content(e.to_string()))?;
    if let Some(warning) = warnings.first() {
        return Err(content(warning.to_string()));
    }
    object.ok_or_else(|| content("not a kind that Weir reads".to_owned()))?.put(world);
    Ok(())
}

/// The short form of a case as the manifest that Kubernetes would show.
pub(super) fn namespace_manifest(namespace: &Namespace) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace.name, "labels": namespace.labels},
    })
}

/// The same of a pod; `uid` may be empty.
pub(super) fn pod_manifest(pod: &Pod, uid: &str) -> Value {
    let ports: Vec<Value> = pod
        .ports
        .iter()
        .map(|p| json!({"name": p.name, "containerPort": p.port, "protocol": p.protocol.as_str()}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": uid, "labels": pod.labels},
        "spec": {"nodeName": "n1", "containers": [{"name": "server", "ports": ports}]},
        "status": {"phase": "Running", "podIP": pod.ip.to_string(), "podIPs": [{"ip": pod.ip.to_string()}]},
    })
}
