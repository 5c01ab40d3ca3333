//! Workload: a virtual machine or a bare-metal machine under the same policies as pods (NP-50).

use std::collections::BTreeSet;

use crate::net::parse_address;
use crate::port::NamedPort;
use crate::world::{Kind, Pod};

use super::at::{At, Problem};
use super::core::{created, identity, labels, port_number, protocol, terminating, uid};
use super::{Rejection, Warning};

/// The version that is read. `deploy/crds/weir.io_workloads.yaml` has the schema.
pub(super) const API_VERSION: &str = "weir.io/v1alpha1";

/// Fields of `spec`.
const FIELDS: [&str; 4] = ["addresses", "mac", "node", "ports"];

pub(super) fn workload(root: &At<'_>) -> Result<(Pod, Vec<Warning>), Rejection> {
    let id = identity(root, Kind::Workload.as_str())?;
    let mut out = Pod {
        kind: Kind::Workload,
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
    let mut warnings = Vec::new();
    out.created = created(root, &id.title, &mut warnings);
    if let Some(spec) = root.field("spec") {
        read(&spec, &mut out, &mut |problem, effect| {
            warnings.push(problem.warn(&id.title, effect));
        });
    }
    Ok((out, warnings))
}

/// What is wrong takes nothing but itself away: a workload with less of an address, a port or a place is reached by less.
fn read(spec: &At<'_>, out: &mut Pod, warn: &mut dyn FnMut(Problem, &str)) {
    if let Err(problem) = spec.only(&FIELDS) {
        warn(problem, "this field does nothing");
    }
    if let Some(node) = spec.field("node") {
        match node.str() {
            Ok(name) => out.node = name.into(),
            Err(p) => warn(p, "the workload is on no node, and only a peer"),
        }
    }
    if let Some(mac) = spec.field("mac") {
        match mac.str().and_then(|text| parse_mac(text).ok_or_else(|| mac.wrong(MAC_FORM))) {
            Ok(parsed) => out.mac = Some(parsed),
            Err(p) => warn(p, "the workload is held to the MAC address of its port alone"),
        }
    }
    if let Some(list) = spec.field("addresses") {
        let items = match list.list() {
            Ok(items) => items,
            Err(p) => return warn(p, "the workload has no address"),
        };
        for item in items {
            match item.str().map(parse_address) {
                Ok(Ok(address)) if !out.addresses.contains(&address) => out.addresses.push(address),
                Ok(Ok(_)) => {}
                Ok(Err(e)) => {
                    warn(item.problem(e.to_string()), "the workload does not have this address");
                }
                Err(p) => warn(p, "the workload does not have this address"),
            }
        }
    }
    if let Some(list) = spec.field("ports") {
        let items = match list.list() {
            Ok(items) => items,
            Err(p) => return warn(p, "none of its named ports count"),
        };
        for item in items {
            match port(&item) {
                Ok(port) => {
                    out.named_ports.insert(port);
                }
                Err(p) => warn(p, "this named port does not count"),
            }
        }
    }
}

const MAC_FORM: &str = "a unicast MAC address as \"02:00:00:00:01:20\"";

/// Six pairs of hexadecimal digits with colons. No interface has a group address, or the address of zeros.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2)?;
        // from_str_radix takes a sign
        if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    let unicast = mac[0] & 1 == 0 && mac != [0; 6];
    (parts.next().is_none() && unicast).then_some(mac)
}

fn port(at: &At<'_>) -> Result<NamedPort, Problem> {
    at.only(&["name", "port", "protocol"])?;
    let name = at.required_str("name")?;
    let number = match at.field("port") {
        Some(n) => port_number(&n)?,
        None => return Err(at.problem("port is missing".to_owned())),
    };
    Ok(NamedPort { name: name.into(), protocol: protocol(at)?, number })
}
