//! `weirctl status`.

use serde_json::{Value, json};
use weir_api::v1::{NodeStatus, PolicyStatus, StatusReply};

use super::why::API_VERSION;
use crate::args::SourceArgs;
use crate::args::flows::{StatusArgs, StatusFormat};
use crate::exit::{Exit, Failure};
use crate::out::Out;
use crate::render;
use crate::source::nodes::Nodes;

pub(crate) async fn run(args: StatusArgs, out: &mut Out<'_>) -> Result<Exit, Failure> {
    let Some(server) = &args.server.server else {
        return Err(Failure::Usage("name a controller: --server HOST:PORT".to_owned()));
    };
    let nodes = Nodes::connect(server, &SourceArgs::from(&args.server)).await?;
    let mut status = nodes.status().await?;
    keep(&mut status, args.namespace.as_deref());
    out.answer(&match args.output {
        StatusFormat::Text => render::status::text(&status),
        StatusFormat::Json => render::columns::json(&data(&status)),
    });
    Ok(exit(&status))
}

/// Only what concerns one namespace. Nodes concern all.
pub(crate) fn keep(status: &mut StatusReply, namespace: Option<&str>) {
    status.policies.retain(|p| {
        namespace.is_none_or(|ns| p.policy.as_ref().is_some_and(|k| k.namespace == ns))
    });
    status.warnings.retain(|w| {
        namespace.is_none_or(|ns| w.object.split(' ').nth(1).is_some_and(|o| in_namespace(o, ns)))
    });
    status.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    status.policies.sort_by_key(|p| {
        p.policy.as_ref().map(|k| (k.namespace.clone(), k.name.clone())).unwrap_or_default()
    });
}

fn in_namespace(object: &str, namespace: &str) -> bool {
    object.split_once('/').is_some_and(|(ns, _)| ns == namespace)
}

pub(crate) fn exit(status: &StatusReply) -> Exit {
    let late = |p: &PolicyStatus| p.nodes_realized < p.nodes_desired || !p.failures.is_empty();
    let away = |n: &NodeStatus| !n.connected;
    if status.policies.iter().any(late) || status.nodes.iter().any(away) {
        Exit::No
    } else {
        Exit::Yes
    }
}

/// The value below which `percent` of the samples lie. Units: microseconds.
pub(crate) fn percentile(samples: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    // nearest rank
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1).min(last)).copied()
}

/// Nodes that are named where many are late.
const NAMED_NODES: usize = 3;

/// How far a policy is, in a word and with the reason.
pub(crate) fn state(p: &PolicyStatus, nodes: &[NodeStatus]) -> String {
    let failures: Vec<String> =
        p.failures.iter().map(|f| format!("{}: {}", f.node, f.reason)).collect();
    if !failures.is_empty() {
        return format!("Failed ({})", failures.join("; "));
    }
    match (p.nodes_realized, p.nodes_desired) {
        (_, 0) => "Realized (no node runs a pod it selects)".to_owned(),
        (n, m) if n >= m => "Realized".to_owned(),
        _ if p.pending.is_empty() => "Realizing".to_owned(),
        _ => format!("Realizing ({})", late(&p.pending, nodes)),
    }
}

fn late(pending: &[String], nodes: &[NodeStatus]) -> String {
    let away = |name: &&String| nodes.iter().any(|n| n.name == **name && !n.connected);
    // those that will not come by themselves first
    let (gone, waiting): (Vec<&String>, Vec<&String>) = pending.iter().partition(away);
    let gone = gone.into_iter().map(|n| format!("{n}: not connected"));
    let mut all: Vec<String> = gone.chain(waiting.into_iter().cloned()).collect();
    let rest = all.len().saturating_sub(NAMED_NODES);
    if rest > 1 {
        all.truncate(NAMED_NODES);
        all.push(format!("and {rest} more"));
    }
    all.join(", ")
}

/// The most flows on one node, if any node told.
fn flows_per_node(p: &PolicyStatus) -> Value {
    match p.flows_node.as_str() {
        "" => Value::Null,
        node => json!({"max": p.flows_max, "node": node}),
    }
}

pub(crate) fn data(status: &StatusReply) -> Value {
    let nodes: Vec<Value> = status
        .nodes
        .iter()
        .map(|n| {
            json!({
                "name": n.name, "connected": n.connected, "revision": n.revision,
                "acknowledgedMs": n.acknowledged_ms, "agentVersion": n.agent_version,
                "ovsVersion": n.ovs_version, "gaps": n.gaps, "portsReady": n.ports_ready,
                "portsClosed": n.ports_closed, "flows": n.flows,
            })
        })
        .collect();
    let policies: Vec<Value> = status
        .policies
        .iter()
        .map(|p| {
            let key = p.policy.clone().unwrap_or_default();
            let failures: Vec<Value> =
                p.failures.iter().map(|f| json!({"node": f.node, "reason": f.reason})).collect();
            json!({
                "kind": "NetworkPolicy", "namespace": key.namespace, "name": key.name,
                "generation": p.generation,
                "nodes": {"desired": p.nodes_desired, "realized": p.nodes_realized,
                          "failed": failures, "pending": p.pending},
                "latencyUs": {"p50": percentile(&p.latencies_us, 50),
                              "p99": percentile(&p.latencies_us, 99)},
                "flowsPerNode": flows_per_node(p),
                "state": state(p, &status.nodes),
            })
        })
        .collect();
    let warnings: Vec<Value> = status
        .warnings
        .iter()
        .map(
            |w| json!({"code": w.code, "object": w.object, "field": w.field, "message": w.message}),
        )
        .collect();
    json!({
        "apiVersion": API_VERSION, "kind": "Status", "revision": status.revision,
        "source": status.source, "nodes": nodes, "policies": policies, "warnings": warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_nodes_are_named_as_far_as_they_are_few() {
        let nodes: Vec<NodeStatus> = ["n1", "n2", "n3", "n4", "n5"]
            .map(|name| NodeStatus {
                name: name.into(),
                connected: name != "n4",
                ..NodeStatus::default()
            })
            .into();
        let state = |pending: &[&str]| {
            let pending = pending.iter().map(|n| (*n).to_owned()).collect();
            state(&PolicyStatus { nodes_desired: 5, pending, ..PolicyStatus::default() }, &nodes)
        };
        assert_eq!(state(&["n1", "n4"]), "Realizing (n4: not connected, n1)");
        assert_eq!(state(&["n1", "n2", "n3", "n5"]), "Realizing (n1, n2, n3, n5)");
        assert_eq!(
            state(&["n1", "n2", "n3", "n4", "n5"]),
            "Realizing (n4: not connected, n1, n2, and 2 more)"
        );
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 99), Some(7));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 99), Some(99));
        assert_eq!(percentile(&[1, 2], 50), Some(1));
    }
}
