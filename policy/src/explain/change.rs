//! What would admit a connection that is denied: the smallest addition, as YAML to paste.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::eval::{self, L4, Party};
use crate::ids::PolicyKey;
use crate::labels::{METADATA_NAME, Requirement, Selector};
use crate::net::Prefix;
use crate::rule::Direction;
use crate::world::{Pod, World};

use super::RuleWhy;

/// An addition that admits the connection at one end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The policy to change, `shop/db-from-api`; none where a policy of its own is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The list below `spec` that gets one entry more: `ingress[0].from`, `ingress[0].ports`, `ingress`.
    pub at: String,
    /// The entry; null where labels of the pod are what is missing.
    pub add: Value,
    /// All of it as a sentence.
    pub text: String,
}

/// Labels that name one incarnation of a pod rather than what it is.
const VOLATILE: [&str; 6] = [
    "pod-template-hash",
    "pod-template-generation",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
];

/// `pod` is the end that denies, `miss` the rule of it that comes nearest.
pub(super) fn suggest(
    world: &World,
    pod: &Pod,
    other: &Party<'_>,
    l4: L4,
    direction: Direction,
    miss: Option<&RuleWhy>,
) -> Option<Change> {
    let list = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let failing = |what: &str| {
        miss.is_some_and(|m| {
            m.terms.iter().any(|t| t.ok != Some(true) && t.item().starts_with(what))
        })
    };
    let peer = peer(pod, other, miss)?;
    let port = match l4 {
        L4::Port { protocol, dport } if dport > 0 => {
            Some(json!({"protocol": protocol.as_str(), "port": dport}))
        }
        // NP-27: nothing but a rule without ports; and no manifest can name port 0
        _ => None,
    };
    if let Some(miss) = miss {
        let policy = format!("{}/{}", miss.policy.namespace, miss.policy.name);
        match (failing("subject"), failing(list), failing("port"), &port) {
            (false, true, false, _) => {
                return Some(addition(policy, format!("{}.{list}", miss.rule), peer));
            }
            (false, false, true, Some(port)) => {
                return Some(addition(policy, format!("{}.ports", miss.rule), port.clone()));
            }
            (true, false, false, _) => {
                if let Some(change) = relabel(world, pod, miss, &policy) {
                    return Some(change);
                }
            }
            _ => {}
        }
    }
    let mut rule = Map::new();
    rule.insert(list.to_owned(), json!([peer]));
    if let Some(port) = port {
        rule.insert("ports".to_owned(), json!([port]));
    }
    let rule = Value::Object(rule);
    // into a policy that is about these pods; a blanket one would open all the others with it
    let narrow = eval::isolating(world, pod, direction).find(|o| {
        o.selectors.get(&o.policy.subject).is_some_and(|s: &Selector| !s.pods.is_everything())
    });
    Some(match narrow {
        Some(object) => {
            addition(object.policy.key.to_string(), direction.as_str().to_owned(), rule)
        }
        None => {
            let labels = identifying(pod);
            let subject = json!({"matchLabels": labels});
            let text = format!(
                "would be admitted by a policy in {} with podSelector {} and {direction}:  - {}",
                pod.namespace,
                flow(&subject),
                entry(&rule)
            );
            Change { policy: None, at: direction.as_str().to_owned(), add: rule, text }
        }
    })
}

fn addition(policy: String, at: String, add: Value) -> Change {
    let text = format!("would be admitted by adding to {policy} {at}:  - {}", entry(&add));
    Change { policy: Some(policy), at, add, text }
}

/// The policy would select the pod but for its labels.
fn relabel(world: &World, pod: &Pod, miss: &RuleWhy, policy: &str) -> Option<Change> {
    let key = PolicyKey::network_policy(&miss.policy.namespace, &miss.policy.name);
    let object = world.policies.get(&key)?;
    let subject = object.selectors.get(&object.policy.subject)?;
    let lacking: Vec<String> = subject
        .pods
        .requirements()
        .filter(|r| !r.matches(&pod.labels))
        .map(|r| match r {
            Requirement::In(key, values) => {
                format!("{key}={}", values.first().map(|v| &**v).unwrap_or_default())
            }
            Requirement::Exists(key) => format!("any {key}"),
            Requirement::NotIn(key, _) => format!("another {key}"),
            Requirement::DoesNotExist(key) => format!("no {key}"),
        })
        .collect();
    if lacking.is_empty() {
        return None;
    }
    Some(Change {
        policy: Some(policy.to_owned()),
        at: "podSelector".to_owned(),
        add: Value::Null,
        text: format!(
            "{policy} would admit it, and would select {}/{} if its labels had {}",
            pod.namespace,
            pod.name,
            lacking.join(", ")
        ),
    })
}

/// The other end as a peer: by the labels that the nearest rule asks about, else by those that say what it is.
fn peer(pod: &Pod, other: &Party<'_>, miss: Option<&RuleWhy>) -> Option<Value> {
    let by_address = || {
        let address = other.address()?;
        Some(json!({"ipBlock": {"cidr": Prefix::host(address).to_string()}}))
    };
    let Some(peer) = other.pod() else {
        return by_address();
    };
    let mut labels = Map::new();
    for term in miss.into_iter().flat_map(|m| &m.terms) {
        let of_peer = term.kind() == "podSelector" && term.item() != "subject";
        for (key, value) in peer.labels.iter().filter(|_| of_peer) {
            let asked = term
                .want
                .split(',')
                .any(|w| w.trim_start_matches('!').split(['=', '!']).next() == Some(&**key));
            if asked {
                labels.insert(key.to_string(), value.as_ref().into());
            }
        }
    }
    if labels.is_empty() {
        labels = identifying(peer);
    }
    if labels.is_empty()
        && let Some(block) = by_address()
    {
        return Some(block);
    }
    let mut out = Map::new();
    if peer.namespace != pod.namespace {
        out.insert(
            "namespaceSelector".into(),
            json!({"matchLabels": {METADATA_NAME: *peer.namespace}}),
        );
    }
    out.insert("podSelector".into(), json!({"matchLabels": labels}));
    Some(Value::Object(out))
}

fn identifying(pod: &Pod) -> Map<String, Value> {
    let labels = pod.labels.iter().filter(|(k, _)| !VOLATILE.contains(&&***k));
    labels.map(|(k, v)| (k.to_string(), Value::from(&**v))).collect()
}

/// A list entry after its dash: one key stands open, several in braces.
fn entry(value: &Value) -> String {
    match value {
        Value::Object(map) if map.len() == 1 => {
            map.iter().map(|(k, v)| format!("{}: {}", scalar(k), flow(v))).collect()
        }
        other => flow(other),
    }
}

/// YAML in flow style, fields in the order people write them.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            const ORDER: [&str; 6] =
                ["from", "to", "namespaceSelector", "podSelector", "protocol", "port"];
            let place = |k: &str| ORDER.iter().position(|o| *o == k).unwrap_or(ORDER.len());
            let mut fields: Vec<(&String, &Value)> = map.iter().collect();
            fields.sort_by_key(|(k, _)| place(k));
            let fields: Vec<String> =
                fields.into_iter().map(|(k, v)| format!("{}: {}", scalar(k), flow(v))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::String(s) => scalar(s),
        other => other.to_string(),
    }
}

/// Plain where no reader of YAML could take it for anything but this text.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !["true", "false", "yes", "no", "on", "off", "y", "n", "null"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}
