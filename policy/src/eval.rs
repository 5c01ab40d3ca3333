//! The oracle: world + connection -> verdict with its reasons.
//!
//! This is the text of `docs/semantics.md` section 1 as code, for the NetworkPolicy tier. It is written to be compared
//! with that text by reading: it asks every policy, compares ports as numbers and CIDRs by containment, and shares no
//! short cut with what is compiled for switches. Everything that decides faster is tested against it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{PolicyKey, Str};
use crate::port::{PortMatch, Protocol, Service};
use crate::rule::{Direction, Peers, PolicyObject, Rule, Services};
use crate::world::{Pod, PodKey, World};

/// One end of a connection, as seen at the pod's port after Service translation (NP-30).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum End {
    /// A pod, by the address it is reached at or sends from. Without an address (manifests that have none yet) a rule
    /// with an `ipBlock` may stay undecided.
    Pod { key: PodKey, address: Option<IpAddr> },
    /// A node itself, or a host-network pod on it (NP-31).
    Node { name: Str, address: IpAddr },
    /// Any other address.
    External(IpAddr),
}

impl End {
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Pod { address, .. } => *address,
            Self::Node { address, .. } | Self::External(address) => Some(*address),
        }
    }
}

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum L4 {
    /// `dport` is the port of the pod (NP-29). Source ports are never looked at (NP-22).
    Port { protocol: Protocol, dport: u16 },
    /// Any other protocol by its IP protocol number; only rules without ports match it (NP-27).
    Other { ip_protocol: u8 },
}

impl L4 {
    pub const fn tcp(dport: u16) -> Self {
        Self::Port { protocol: Protocol::Tcp, dport }
    }

    pub const fn udp(dport: u16) -> Self {
        Self::Port { protocol: Protocol::Udp, dport }
    }

    /// ICMP or ICMPv6, by the family of `address`.
    pub const fn ping(address: IpAddr) -> Self {
        Self::Other { ip_protocol: if address.is_ipv4() { 1 } else { 58 } }
    }
}

/// From initiator to responder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Connection {
    pub src: End,
    pub dst: End,
    pub l4: L4,
    /// The initiator asked for a Service and reached this end. It matters where both ends are one pod (NP-36).
    pub via_service: bool,
}

/// What both ends say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// At the source.
    pub egress: Side,
    /// At the destination.
    pub ingress: Side,
}

impl Verdict {
    /// The connection passes: both ends allow it (NP-5).
    pub fn allowed(&self) -> bool {
        self.egress.allowed && self.ingress.allowed
    }

    pub fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// What one end says, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    pub allowed: bool,
    pub reason: Reason,
}

/// Why one end allows or denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Allowed: this end is no pod, and policy is for pods.
    NotAPod,
    /// Allowed: both ends are one pod (NP-35, NP-36).
    SamePod,
    /// Allowed: a pod's own node always gets in (NP-32).
    OwnNode,
    /// Allowed: no policy isolates the pod in this direction (NP-4).
    NotIsolated,
    /// Allowed by these rules: policy, and path of the rule in it.
    AllowedBy(Vec<(PolicyKey, Str)>),
    /// Denied: these policies isolate the pod, and no rule of theirs matches (NP-6).
    Isolated(Vec<PolicyKey>),
    /// Not decided, so not allowed: these policies isolate the pod, and whether a rule of theirs matches depends on an
    /// address that is not known.
    Undecided(Vec<PolicyKey>),
    /// Denied: the pod is not in the world, so nothing is known of it (NP-42).
    Unknown,
}

/// The ends that packets between these addresses have: a node that has the address, else a pod, else an external end.
pub fn end(world: &World, address: IpAddr) -> End {
    if let Some(node) = world.node_by_address(address) {
        return End::Node { name: node.name.clone(), address };
    }
    match world.pod_by_address(address) {
        Some(pod) => End::Pod { key: pod.key(), address: Some(address) },
        None => End::External(address),
    }
}

/// A connection between two addresses, its ends resolved as packets would be.
pub fn from_addresses(world: &World, src: IpAddr, dst: IpAddr, l4: L4) -> Connection {
    Connection { src: end(world, src), dst: end(world, dst), l4, via_service: false }
}

/// Decides one connection.
pub fn verdict(world: &World, connection: &Connection) -> Verdict {
    let src = Party::of(world, &connection.src);
    let dst = Party::of(world, &connection.dst);
    if let (Party::Pod(a, _), Party::Pod(b, _)) = (&src, &dst)
        && a.key() == b.key()
    {
        // NP-35 directly, NP-36 through a Service: the NetworkPolicy tier has no part in either
        let same = Side { allowed: true, reason: Reason::SamePod };
        return Verdict { egress: same.clone(), ingress: same };
    }
    let egress = decide(world, Direction::Egress, &src, &dst, connection.l4);
    let ingress = match (&src, &dst) {
        // NP-32; not the other way round (NP-34)
        (Party::Node { name, .. }, Party::Pod(pod, _)) if **name == pod.node => {
            Side { allowed: true, reason: Reason::OwnNode }
        }
        _ => decide(world, Direction::Ingress, &dst, &src, connection.l4),
    };
    Verdict { egress, ingress }
}

/// An end with what the world knows of it.
pub(crate) enum Party<'w> {
    /// A pod for policy: own network, not terminal.
    Pod(&'w Pod, Option<IpAddr>),
    /// A node, by one of its own addresses.
    Node { name: &'w Str, address: Option<IpAddr> },
    /// Anything else; the address of a host-network pod offline may not be known.
    Address(Option<IpAddr>),
    /// A pod that the world does not have.
    Missing,
}

impl<'w> Party<'w> {
    pub(crate) fn of(world: &'w World, end: &'w End) -> Self {
        match end {
            End::External(address) => Self::Address(Some(*address)),
            End::Node { name, address } => Self::node(world, name, Some(*address)),
            End::Pod { key, address } => match world.pod(key) {
                None => Self::Missing,
                // NP-31: its traffic is its node's
                Some(pod) if pod.host_network => Self::node(world, &pod.node, *address),
                // NP-44: not a pod any more, whatever its object still shows
                Some(pod) if pod.terminal => Self::Address(*address),
                Some(pod) => Self::Pod(pod, *address),
            },
        }
    }

    /// NP-33: with one of the node's addresses. Without an address nothing speaks against it.
    fn node(world: &'w World, name: &'w Str, address: Option<IpAddr>) -> Self {
        let own = match address {
            Some(a) => world.nodes.get(name).is_some_and(|n| n.addresses.contains(&a)),
            None => !name.is_empty(),
        };
        if own { Self::Node { name, address } } else { Self::Address(address) }
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Pod(_, address) | Self::Node { address, .. } | Self::Address(address) => *address,
            Self::Missing => None,
        }
    }

    pub(crate) fn pod(&self) -> Option<&'w Pod> {
        match self {
            Self::Pod(pod, _) => Some(pod),
            _ => None,
        }
    }
}

/// `decide(pod, direction)` of the specification, for the NetworkPolicy tier.
fn decide(
    world: &World,
    direction: Direction,
    this: &Party<'_>,
    other: &Party<'_>,
    l4: L4,
) -> Side {
    let pod = match this {
        Party::Pod(pod, _) => *pod,
        Party::Missing => {
            return Side { allowed: false, reason: Reason::Unknown };
        }
        Party::Node { .. } | Party::Address(_) => {
            return Side { allowed: true, reason: Reason::NotAPod };
        }
    };
    let isolating: Vec<&PolicyObject> = isolating(world, pod, direction).collect();
    if isolating.is_empty() {
        return Side { allowed: true, reason: Reason::NotIsolated };
    }
    let destination = match direction {
        Direction::Ingress => Some(pod),
        Direction::Egress => other.pod(),
    };
    let mut allowed_by = Vec::new();
    let mut undecided = false;
    for object in &isolating {
        for rule in object.policy.rules.iter().filter(|r| r.rule.direction == direction) {
            if !services_match(&rule.rule.services, l4, destination) {
                continue;
            }
            match peers_match(world, object, &rule.rule, other) {
                Some(true) => allowed_by.push((object.policy.key.clone(), rule.path.clone())),
                Some(false) => {}
                None => undecided = true,
            }
        }
    }
    if !allowed_by.is_empty() {
        return Side { allowed: true, reason: Reason::AllowedBy(allowed_by) };
    }
    let keys = isolating.iter().map(|o| o.policy.key.clone()).collect();
    let reason = if undecided { Reason::Undecided(keys) } else { Reason::Isolated(keys) };
    Side { allowed: false, reason }
}

/// The policies that isolate a pod in a direction (NP-1, NP-4, NP-9).
pub fn isolating<'w>(
    world: &'w World,
    pod: &'w Pod,
    direction: Direction,
) -> impl Iterator<Item = &'w PolicyObject> {
    world.policies.values().filter(move |object| {
        object.policy.isolates.contains(&direction)
            && object
                .selectors
                .get(&object.policy.subject)
                .is_some_and(|subject| world.selects(subject, pod))
    })
}

/// NP-11 to NP-14: any one peer is enough. `None` = it depends on an address that is not known.
fn peers_match(
    world: &World,
    object: &PolicyObject,
    rule: &Rule,
    other: &Party<'_>,
) -> Option<bool> {
    let (groups, blocks) = match &rule.peers {
        Peers::Any => return Some(true),
        Peers::Of { groups, blocks } => (groups, blocks),
    };
    // NP-13: selectors match pods, never addresses
    if let Some(pod) = other.pod()
        && groups
            .iter()
            .filter_map(|g| object.selectors.get(g))
            .any(|selector| world.selects(selector, pod))
    {
        return Some(true);
    }
    match other.address() {
        Some(address) => Some(blocks.iter().any(|b| b.contains(address))),
        None if blocks.is_empty() => Some(false),
        None => None,
    }
}

/// NP-20 to NP-27. `destination` is the pod the connection goes to, if it goes to one.
fn services_match(services: &Services, l4: L4, destination: Option<&Pod>) -> bool {
    match (services, l4) {
        (Services::Any, _) => true,
        (Services::Of(_), L4::Other { .. }) => false,
        (Services::Of(items), L4::Port { protocol, dport }) => {
            items.iter().any(|s| service_matches(s, protocol, dport, destination))
        }
    }
}

/// One ports item.
pub(crate) fn service_matches(
    service: &Service,
    protocol: Protocol,
    dport: u16,
    destination: Option<&Pod>,
) -> bool {
    if service.protocol != protocol {
        return false;
    }
    match &service.port {
        PortMatch::Any => true,
        PortMatch::Range { first, last } => *first <= dport && dport <= *last,
        // NP-24: the name means what the destination says it means
        PortMatch::Named(name) => destination.is_some_and(|pod| {
            pod.named_ports
                .iter()
                .any(|p| p.name == *name && p.protocol == protocol && p.number == dport)
        }),
    }
}

#[cfg(test)]
mod tests;
