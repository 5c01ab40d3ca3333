//! Namespace, Pod and Node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::ids::Str;
use crate::labels::Labels;
use crate::net::parse_address;
use crate::port::{NamedPort, Protocol};
use crate::world::{Kind, Node, Pod};

use super::at::{At, Problem};
use super::{Rejection, Warning, selector};

/// Name and namespace of an object, and what messages call it.
pub(super) struct Identity<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) title: String,
}

/// Where a namespaced object lives that does not say.
const DEFAULT_NAMESPACE: &str = "default";

/// Reads `metadata` of a namespaced object.
pub(super) fn identity<'a>(root: &'a At<'a>, kind: &str) -> Result<Identity<'a>, Rejection> {
    let namespace = match root.value.pointer("/metadata/namespace") {
        None | Some(serde_json::Value::Null) => DEFAULT_NAMESPACE,
        Some(serde_json::Value::String(s)) if s.is_empty() => DEFAULT_NAMESPACE,
        Some(serde_json::Value::String(s)) => s,
        Some(other) => {
            return Err(Rejection {
                object: kind.to_owned(),
                field: "metadata.namespace".to_owned(),
                value: other.to_string(),
                reason: "write text (in quotes)".to_owned(),
            });
        }
    };
    let name = name(root, kind)?;
    Ok(Identity { namespace, name, title: format!("{kind} {namespace}/{name}") })
}

fn name<'a>(root: &'a At<'a>, kind: &str) -> Result<&'a str, Rejection> {
    let missing = |value: String| Rejection {
        object: kind.to_owned(),
        field: "metadata.name".to_owned(),
        value,
        reason: "every object needs a name (text)".to_owned(),
    };
    match root.value.pointer("/metadata/name") {
        Some(serde_json::Value::String(s)) if !s.is_empty() => Ok(s),
        Some(other) => Err(missing(other.to_string())),
        None => Err(missing(String::new())),
    }
}

pub(super) fn labels(root: &At<'_>, title: &str) -> Result<Labels, Rejection> {
    let Some(metadata) = root.field("metadata") else {
        return Ok(Labels::default());
    };
    let Some(at) = metadata.field("labels") else {
        return Ok(Labels::default());
    };
    selector::labels(&at).map_err(|p| p.reject(title))
}

pub(super) fn uid<'a>(root: &'a At<'a>) -> &'a str {
    root.value.pointer("/metadata/uid").and_then(|v| v.as_str()).unwrap_or_default()
}

/// When the object was made, where it says so. Units: seconds of Unix time.
pub(super) fn created(root: &At<'_>, title: &str, warnings: &mut Vec<Warning>) -> Option<i64> {
    let metadata = root.field("metadata")?;
    let at = metadata.field("creationTimestamp")?;
    let time = at.str().and_then(|text| {
        text.parse::<jiff::Timestamp>().map_err(|_| at.wrong("a time as \"2026-11-25T20:59:41Z\""))
    });
    match time {
        Ok(time) => Some(time.as_second()),
        Err(problem) => {
            warnings.push(problem.warn(title, "it counts as older than any other"));
            None
        }
    }
}

/// It is being deleted. When that began makes no difference.
pub(super) fn terminating(root: &At<'_>) -> bool {
    root.field("metadata").is_some_and(|m| m.field("deletionTimestamp").is_some())
}

pub(super) fn namespace(root: &At<'_>) -> Result<(Str, Labels), Rejection> {
    let name = name(root, "Namespace")?;
    let labels = labels(root, &format!("Namespace {name}"))?;
    Ok((name.into(), labels))
}

pub(super) fn node(root: &At<'_>) -> Result<(Node, Vec<Warning>), Rejection> {
    let name = name(root, "Node")?;
    let title = format!("Node {name}");
    let mut warnings = Vec::new();
    let mut addresses = BTreeSet::new();
    if let Some(status) = root.field("status")
        && let Some(list) = status.field("addresses")
    {
        match list.list() {
            // Hostname and DNS entries are no addresses, and are not meant to be
            Ok(items) => addresses
                .extend(items.filter_map(|a| parse_address(a.text_or("address", "").trim()).ok())),
            Err(p) => warnings.push(p.warn(&title, "the node has no addresses")),
        }
    }
    let node = Node { name: name.into(), labels: labels(root, &title)?, addresses };
    Ok((node, warnings))
}

pub(super) fn pod(root: &At<'_>) -> Result<(Pod, Vec<Warning>), Rejection> {
    let id = identity(root, "Pod")?;
    let mut warnings = Vec::new();
    let mut out = Pod {
        kind: Kind::Pod,
        namespace: id.namespace.into(),
        name: id.name.into(),
        uid: uid(root).into(),
        labels: labels(root, &id.title)?,
        node: "".into(),
        addresses: Vec::new(),
        mac: None,
        named_ports: BTreeSet::new(),
        host_network: false,
        terminal: false,
        terminating: terminating(root),
        created: None,
    };
    out.created = created(root, &id.title, &mut warnings);
    if let Some(spec) = root.field("spec") {
        out.node = spec.text_or("nodeName", "").into();
        if let Some(host) = spec.field("hostNetwork") {
            match host.value.as_bool() {
                Some(b) => out.host_network = b,
                None => warnings.push(
                    host.wrong("true or false")
                        .warn(&id.title, "read as a pod with its own network"),
                ),
            }
        }
        let mut ports = |list: &str, counts: &dyn Fn(&At<'_>) -> bool| {
            let Some(list) = spec.field(list) else { return };
            let containers = match list.list() {
                Ok(items) => items,
                Err(p) => return warnings.push(p.warn(&id.title, "none of its named ports count")),
            };
            for container in containers.filter(counts) {
                for p in named_ports(&container, &mut out.named_ports) {
                    warnings.push(p.warn(&id.title, "this named port does not count"));
                }
            }
        };
        ports("containers", &|_| true);
        // restartable init containers run beside the others and serve (NP-26); plain ones have ended
        ports("initContainers", &|c| c.text_or("restartPolicy", "") == "Always");
    }
    if let Some(status) = root.field("status") {
        out.terminal = matches!(status.text_or("phase", ""), "Succeeded" | "Failed");
        match addresses(&status) {
            Ok((addresses, problems)) => {
                out.addresses = addresses;
                let effect = "the pod does not have this address";
                warnings.extend(problems.into_iter().map(|p| p.warn(&id.title, effect)));
            }
            Err(p) => warnings.push(p.warn(&id.title, "the pod has no address")),
        }
    }
    Ok((out, warnings))
}

/// Every address of `podIPs`, or `podIP` where there is no list (NP-18).
fn addresses(status: &At<'_>) -> Result<(Vec<IpAddr>, Vec<Problem>), Problem> {
    let mut out = Vec::new();
    let mut problems = Vec::new();
    let mut add = |at: &At<'_>| match at.str().map(parse_address) {
        Ok(Ok(address)) if !out.contains(&address) => out.push(address),
        Ok(Ok(_)) => {}
        Ok(Err(e)) => problems.push(at.problem(e.to_string())),
        Err(p) => problems.push(p),
    };
    if let Some(list) = status.field("podIPs") {
        for item in list.list()? {
            if let Some(ip) = item.field("ip") {
                add(&ip);
            }
        }
    }
    if let Some(ip) = status.field("podIP").filter(|ip| ip.value.as_str() != Some("")) {
        // the first of the list again; alone in old manifests
        add(&ip);
    }
    Ok((out, problems))
}

fn named_ports(container: &At<'_>, out: &mut BTreeSet<NamedPort>) -> Vec<Problem> {
    let Some(list) = container.field("ports") else {
        return Vec::new();
    };
    let items = match list.list() {
        Ok(items) => items,
        Err(p) => return vec![p],
    };
    let mut problems = Vec::new();
    for port in items {
        match named_port(&port) {
            Ok(Some(p)) => {
                out.insert(p);
            }
            Ok(None) => {}
            Err(p) => problems.push(p),
        }
    }
    problems
}

/// A container port, if it has a name.
fn named_port(at: &At<'_>) -> Result<Option<NamedPort>, Problem> {
    at.object()?;
    let Some(name) = at.field("name") else {
        return Ok(None);
    };
    let name = name.str()?;
    let protocol = protocol(at)?;
    let number = match at.field("containerPort") {
        Some(n) => port_number(&n)?,
        None => return Err(at.problem("containerPort is missing".to_owned())),
    };
    Ok((!name.is_empty()).then(|| NamedPort { name: name.into(), protocol, number }))
}

/// The `protocol` field; TCP where there is none (NP-21).
pub(super) fn protocol(at: &At<'_>) -> Result<Protocol, Problem> {
    let Some(field) = at.field("protocol") else {
        return Ok(Protocol::Tcp);
    };
    let text = field.str()?;
    Protocol::ALL
        .into_iter()
        .find(|p| p.as_str() == text)
        .ok_or_else(|| field.problem("write TCP, UDP or SCTP".to_owned()))
}

/// A number from 1 to 65535.
pub(super) fn port_number(at: &At<'_>) -> Result<u16, Problem> {
    at.value
        .as_u64()
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| at.wrong("a number from 1 to 65535"))
}
