//! The ports of the bridge, as OVSDB tells them.

use std::collections::{BTreeMap, BTreeSet};

use rust_openflow::{MacAddr, port};
use weir_ovsdb::Uuid;
use weir_ovsdb::vswitch::{InterfaceRow, PortRow, SwitchState};
use weir_policy::ids::Str;

use switching::{Switching, Vlans};

pub mod switching;

/// The port of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadPort {
    /// Name of the interface.
    pub interface: Str,
    /// Whose it is: namespace and name from its `external_ids`.
    pub namespace: Str,
    pub name: Str,
    /// `attached-mac`.
    pub mac: Option<[u8; 6]>,
}

/// The ports that packets can come from, by OpenFlow port number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    pub workloads: BTreeMap<u32, WorkloadPort>,
    /// The node's own ports: the bridge's LOCAL port and those named in the configuration.
    pub gateways: BTreeSet<u32>,
    /// Uplinks and tunnels.
    pub uplinks: BTreeSet<u32>,
    /// Those that are something else than a trunk of all VLANs by themselves.
    pub switching: BTreeMap<u32, Switching>,
    /// Ports that are none of these, with what is known of them: they carry nothing.
    pub unknown: BTreeMap<u32, Str>,
}

/// The keys of `external_ids` that say whose a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortKeys {
    /// `namespace/pod` or `namespace_pod`.
    pub iface_id: String,
    pub pod_namespace: String,
    pub pod_name: String,
    pub attached_mac: String,
}

impl Default for PortKeys {
    /// The keys that OVN, libvirt, NSX and pod networks use.
    fn default() -> Self {
        Self {
            iface_id: "iface-id".to_owned(),
            pod_namespace: "pod-namespace".to_owned(),
            pod_name: "pod-name".to_owned(),
            attached_mac: "attached-mac".to_owned(),
        }
    }
}

/// What the configuration says of the bridge and its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortConfig {
    pub bridge: String,
    /// Interfaces that lead out of the node, or ports with all their members. Tunnels and patch ports need not be named.
    pub uplinks: BTreeSet<String>,
    /// Interfaces of the node itself. Empty = the bridge's own port.
    pub gateways: BTreeSet<String>,
    pub keys: PortKeys,
}

/// Interface types that join bridges or nodes and never a workload. Source: ovs-vswitchd.conf.db(5), Interface `type`.
const UPLINK_TYPES: [&str; 13] = [
    "vxlan",
    "geneve",
    "gre",
    "ip6gre",
    "erspan",
    "ip6erspan",
    "stt",
    "lisp",
    "gtpu",
    "bareudp",
    "srv6",
    "patch",
    "gre64",
];

/// The bridge's own port as OVSDB numbers it; OpenFlow 1.3 has [`port::LOCAL`]. Source: `OFPP10_LOCAL`.
const LOCAL_OFPORT: i64 = 65_534;
/// First number that is no ordinary port in OVSDB. Source: `OFPP10_MAX`, less one reserved block.
const FIRST_RESERVED: i64 = 0xff00;

/// What one interface is to us.
enum Role {
    Workload(WorkloadPort),
    Gateway,
    Uplink,
    /// Why it is nothing else.
    Unknown(String),
}

/// The ports of the configured bridge. Whatever cannot be told for certain is unknown, and so carries nothing (NP-42).
pub fn read(switch: &SwitchState, config: &PortConfig) -> Ports {
    let mut switching = BTreeMap::new();
    let mut bundles: BTreeMap<Uuid, (&PortRow, BTreeMap<u32, &InterfaceRow>)> = BTreeMap::new();
    let mut claims: BTreeMap<u32, Vec<(&InterfaceRow, Role)>> = BTreeMap::new();
    for (port, interface) in switch.interfaces_of(&config.bridge) {
        if let Some(number) = number(interface) {
            let role = role(port, interface, config);
            let (_, members) = bundles.entry(port.uuid).or_insert((port, BTreeMap::new()));
            members.insert(number, interface);
            claims.entry(number).or_default().push((interface, role));
        }
    }
    for (port, members) in bundles.values() {
        let vlans = Vlans::of(port);
        let mut bonds = switching::bond(port, members);
        for number in members.keys() {
            let how = Switching { vlans: vlans.clone(), bond: bonds.remove(number) };
            if how != Switching::default() {
                switching.insert(*number, how);
            }
        }
    }
    let mut ports = Ports { switching, ..Ports::default() };
    for (number, mut claim) in claims {
        let Some((interface, role)) = claim.pop() else {
            continue;
        };
        // While an interface takes the number of another, both rows show it for a moment, and nothing says which of
        // them packets come from (openflow.md, trap 14).
        if !claim.is_empty() {
            let mut names: Vec<&str> = claim.iter().map(|(i, _)| i.name.as_str()).collect();
            names.push(&interface.name);
            names.sort_unstable();
            let why = format!("{}: they claim one ofport", names.join(" and "));
            ports.unknown.insert(number, why.into());
            continue;
        }
        match role {
            Role::Workload(workload) => {
                ports.workloads.insert(number, workload);
            }
            Role::Gateway => {
                ports.gateways.insert(number);
            }
            Role::Uplink => {
                ports.uplinks.insert(number);
            }
            Role::Unknown(why) => {
                let what = format!("{}: {why}", interface.name);
                ports.unknown.insert(number, what.into());
            }
        }
    }
    ports
}

/// The OpenFlow port number. None while ovs-vswitchd has not given one, and after a failure (-1).
fn number(interface: &InterfaceRow) -> Option<u32> {
    match interface.ofport? {
        LOCAL_OFPORT => Some(port::LOCAL),
        n if (1..FIRST_RESERVED).contains(&n) => u32::try_from(n).ok(),
        _ => None,
    }
}

/// What the operator named comes first, then what the port says of itself, then what its type says: an interface with
/// the marks of a workload is held to a workload's rules whatever its type, as those are the stricter ones.
fn role(port: &PortRow, interface: &InterfaceRow, config: &PortConfig) -> Role {
    // the members of a bond may be named by it
    let named =
        |names: &BTreeSet<String>| names.contains(&interface.name) || names.contains(&port.name);
    if named(&config.uplinks) {
        return Role::Uplink;
    }
    let gateway = if config.gateways.is_empty() {
        interface.name == config.bridge
    } else {
        named(&config.gateways)
    };
    if gateway {
        return Role::Gateway;
    }
    match owner(port, interface, &config.keys) {
        Ok(Some((namespace, name))) => match mac(port, interface, &config.keys) {
            Ok(mac) => Role::Workload(WorkloadPort {
                interface: interface.name.as_str().into(),
                namespace,
                name,
                mac,
            }),
            // NP-40 cannot be kept without an address to compare with
            Err(why) => Role::Unknown(why),
        },
        Err(why) => Role::Unknown(why),
        Ok(None) if UPLINK_TYPES.contains(&interface.type_.as_str()) => Role::Uplink,
        Ok(None) => Role::Unknown("no external_ids of a workload".to_owned()),
    }
}

type Ids = BTreeMap<String, String>;

/// Whose port it is: what the Interface says, else what the Port says, else what both say together.
///
/// Errors: an `iface-id` that names no pod, with nothing better beside it.
fn owner(
    port: &PortRow,
    interface: &InterfaceRow,
    keys: &PortKeys,
) -> Result<Option<(Str, Str)>, String> {
    let mut both = port.external_ids.clone();
    both.extend(interface.external_ids.clone());
    for ids in [&interface.external_ids, &port.external_ids, &both] {
        // the pair before iface-id: it says what it means, while an iface-id with an underscore may be anything
        if let Some(owner) = pair(ids, keys) {
            return Ok(Some(owner));
        }
        if let Some(owner) = ids.get(&keys.iface_id).and_then(|text| split(text)) {
            return Ok(Some(owner));
        }
    }
    match both.get(&keys.iface_id) {
        Some(text) => {
            Err(format!("{}={text:?} is neither namespace/pod nor namespace_pod", keys.iface_id))
        }
        None => Ok(None),
    }
}

fn pair(ids: &Ids, keys: &PortKeys) -> Option<(Str, Str)> {
    let part = |key: &str| ids.get(key).filter(|text| !text.is_empty());
    let (namespace, name) = (part(&keys.pod_namespace)?, part(&keys.pod_name)?);
    Some((namespace.as_str().into(), name.as_str().into()))
}

/// `namespace/pod`, or `namespace_pod`: the name of a namespace holds no underscore, so the first one parts them.
fn split(text: &str) -> Option<(Str, Str)> {
    let (namespace, name) = text.split_once('/').or_else(|| text.split_once('_'))?;
    let good = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    good.then(|| (namespace.into(), name.into()))
}

/// The workload's MAC where it is told. Errors: a text that is no address a station can have.
fn mac(
    port: &PortRow,
    interface: &InterfaceRow,
    keys: &PortKeys,
) -> Result<Option<[u8; 6]>, String> {
    let key = &keys.attached_mac;
    let Some(text) = interface.external_ids.get(key).or_else(|| port.external_ids.get(key)) else {
        return Ok(None);
    };
    match text.trim().parse::<MacAddr>() {
        Ok(MacAddr(mac)) if mac[0] & 1 == 0 && mac != [0; 6] => Ok(Some(mac)),
        _ => Err(format!("{key}={text:?} is not the MAC of a station")),
    }
}

#[cfg(test)]
mod tests;
