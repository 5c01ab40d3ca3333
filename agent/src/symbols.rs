//! The names behind the numbers in the switch: rule ids, isolation sets, classes, ports.
//!
//! One JSON object a line, sorted, kept in the state directory, so that `weirctl flows` can annotate a dump while the
//! controller is away, or on another machine.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_policy::ids::{GroupId, PolicyKey};
use weir_policy::rule::{Peers, Rule, Services};
use weir_policy::state::NodeState;

use crate::desired::Desired;
use crate::ports::Ports;

/// All symbols of the node, in a stable order.
pub fn symbols(desired: &Desired, state: &NodeState, ports: &Ports) -> Vec<Value> {
    let mut out = Vec::new();
    let policy = |key: &PolicyKey| {
        let p = state.policies.get(key);
        json!({
            "kind": "NetworkPolicy",
            "namespace": key.namespace,
            "name": key.name,
            "uid": p.map_or("", |p| &*p.uid),
            "gen": p.map_or(0, |p| p.generation),
        })
    };
    let group = |id: &GroupId| -> String {
        state.groups.get(id).map_or_else(|| format!("group {id}"), |g| g.selector.to_string())
    };

    let mut rules: Vec<_> = desired.rules().collect();
    rules.sort_by_key(|(id, ..)| *id);
    for (id, rule, users) in rules {
        let rules: Vec<Value> = users
            .iter()
            .map(|(key, path)| {
                let mut v = policy(key);
                v["at"] = json!(path);
                v
            })
            .collect();
        let (peers, services) = (peers(rule, &group), services(rule));
        let side = if rule.direction.as_str() == "ingress" { "from" } else { "to" };
        out.push(json!({
            "what": "rule",
            "id": id.to_string(),
            "direction": rule.direction.as_str(),
            "rules": rules,
            "subject": group(&rule.subject),
            "peers": peers,
            "services": services,
            "text": format!("allow {} {side} {}", services.join(", "), peers.join(", ")),
        }));
    }

    let mut sets: Vec<(u32, &str, BTreeSet<PolicyKey>)> = desired
        .isolation_sets()
        .map(|(direction, _, id, policies)| (id.0, direction.as_str(), policies))
        .collect();
    sets.sort();
    sets.dedup();
    for (id, direction, policies) in sets {
        out.push(json!({
            "what": "isolation",
            "id": format!("{id:08x}"),
            "direction": direction,
            "rules": policies.iter().map(policy).collect::<Vec<_>>(),
            "text": format!("default deny {direction}"),
        }));
    }

    for (number, class) in desired.classes().iter() {
        let endpoints: BTreeSet<String> = state
            .endpoints
            .values()
            .filter(|e| class.members.contains(&e.profile))
            .map(|e| format!("{}/{}", e.namespace, e.name))
            .collect();
        out.push(json!({
            "what": "class",
            "class": number,
            "groups": class.key.groups.iter().map(group).collect::<BTreeSet<_>>(),
            "ports": class.key.ports.iter()
                .map(|p| format!("{}={}/{}", p.name, p.number, p.protocol)).collect::<Vec<_>>(),
            "endpoints": endpoints,
        }));
    }

    for e in state.endpoints.values() {
        out.push(json!({
            "what": "endpoint",
            "id": e.id.to_string(),
            "pod": format!("{}/{}", e.namespace, e.name),
            "node": e.node,
            "addresses": e.addresses,
            "class": desired.classes().of(e.profile),
        }));
    }
    for (number, p) in &ports.workloads {
        out.push(json!({
            "what": "port",
            "port": number,
            "interface": p.interface,
            "pod": format!("{}/{}", p.namespace, p.name),
        }));
    }
    for (what, set) in [("gateway", &ports.gateways), ("uplink", &ports.uplinks)] {
        out.extend(set.iter().map(|number| json!({"what": what, "port": number})));
    }
    out
}

fn peers(rule: &Rule, group: &impl Fn(&GroupId) -> String) -> Vec<String> {
    match &rule.peers {
        Peers::Any => vec!["anywhere".to_owned()],
        Peers::Of { groups, blocks } => {
            groups.iter().map(group).chain(blocks.iter().map(ToString::to_string)).collect()
        }
    }
}

fn services(rule: &Rule) -> Vec<String> {
    match &rule.services {
        Services::Any => vec!["everything".to_owned()],
        Services::Of(items) => items.iter().map(ToString::to_string).collect(),
    }
}
