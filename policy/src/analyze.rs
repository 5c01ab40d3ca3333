//! Reachability: everything one end may open to another, as exact sets of ports.
//!
//! Faster than asking [`crate::eval`] port by port, and tested against it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::eval::{self, Connection, Party};
use crate::net::{IpBlock, Prefix};
use crate::port::{PortMatch, Protocol};
use crate::rule::{Direction, Peers, PolicyObject, Rule, Services};
use crate::world::{Pod, World};

/// A set of destination ports of TCP, UDP and SCTP, and whether all other protocols belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet {
    /// Per protocol of [`Protocol::ALL`]: ranges, ascending, apart from each other.
    ports: [Vec<(u16, u16)>; 3],
    /// ICMP and every other protocol without ports (NP-27).
    others: bool,
}

impl PortSet {
    pub fn none() -> Self {
        Self::default()
    }

    pub fn all() -> Self {
        Self { ports: std::array::from_fn(|_| vec![(0, u16::MAX)]), others: true }
    }

    pub fn is_empty(&self) -> bool {
        !self.others && self.ports.iter().all(Vec::is_empty)
    }

    pub fn is_all(&self) -> bool {
        *self == Self::all()
    }

    /// Protocols without ports belong to it.
    pub fn others(&self) -> bool {
        self.others
    }

    /// The ranges of a protocol, ascending and apart from each other.
    pub fn ranges(&self, protocol: Protocol) -> &[(u16, u16)] {
        &self.ports[index(protocol)]
    }

    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.ranges(protocol).iter().any(|(first, last)| *first <= port && port <= *last)
    }

    pub fn insert(&mut self, protocol: Protocol, first: u16, last: u16) {
        let ranges = &mut self.ports[index(protocol)];
        ranges.push((first, last));
        *ranges = merged(std::mem::take(ranges));
    }

    pub fn union(&mut self, other: &Self) {
        self.others |= other.others;
        for (mine, theirs) in self.ports.iter_mut().zip(&other.ports) {
            mine.extend(theirs);
            *mine = merged(std::mem::take(mine));
        }
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let ports = std::array::from_fn(|n| {
            let pairs =
                self.ports[n].iter().flat_map(|a| other.ports[n].iter().map(move |b| (a, b)));
            pairs
                .map(|(a, b)| (a.0.max(b.0), a.1.min(b.1)))
                .filter(|(first, last)| first <= last)
                .collect()
        });
        Self { ports, others: self.others && other.others }
    }
}

fn index(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    }
}

fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut out: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => {
                before.1 = before.1.max(last)
            }
            _ => out.push((first, last)),
        }
    }
    out
}

/// `*`, `.`, or TCP ports unless marked: `80,8000-8010,53/udp,*/sctp`.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("*");
        }
        let mut parts = Vec::new();
        for protocol in Protocol::ALL {
            let mark = match protocol {
                Protocol::Tcp => String::new(),
                p => format!("/{p}"),
            };
            for (first, last) in self.ranges(protocol) {
                parts.push(match (first, last) {
                    (0, &u16::MAX) => format!("*/{protocol}"),
                    (a, b) if a == b => format!("{a}{mark}"),
                    (a, b) => format!("{a}-{b}{mark}"),
                });
            }
        }
        if self.others {
            parts.push("other protocols".to_owned());
        }
        f.write_str(if parts.is_empty() { "." } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

/// What may be opened for certain, and what may be opened if the addresses that are not known turn out so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    pub surely: PortSet,
    pub possibly: PortSet,
}

impl Reach {
    fn exactly(set: PortSet) -> Self {
        Self { possibly: set.clone(), surely: set }
    }

    /// It does not depend on an address that is not known.
    pub fn is_exact(&self) -> bool {
        self.surely == self.possibly
    }

    pub fn union(&mut self, other: &Self) {
        self.surely.union(&other.surely);
        self.possibly.union(&other.possibly);
    }
}

/// What the source may open to the destination; the protocol and port of `connection` are not looked at.
pub fn reach(world: &World, connection: &Connection) -> Reach {
    let egress = side(world, connection, Direction::Egress);
    let ingress = side(world, connection, Direction::Ingress);
    Reach {
        surely: egress.surely.intersection(&ingress.surely),
        possibly: egress.possibly.intersection(&ingress.possibly),
    }
}

/// What one end of a connection lets through.
pub fn side(world: &World, connection: &Connection, direction: Direction) -> Reach {
    let src = Party::of(world, &connection.src);
    let dst = Party::of(world, &connection.dst);
    let (this, other) = match direction {
        Direction::Ingress => (&dst, &src),
        Direction::Egress => (&src, &dst),
    };
    let pod = match this {
        Party::Pod(pod, _) => *pod,
        Party::Missing => return Reach::default(),
        Party::Node { .. } | Party::Address(_) => return Reach::exactly(PortSet::all()),
    };
    match other {
        // NP-35, NP-36
        Party::Pod(same, _) if same.key() == pod.key() => return Reach::exactly(PortSet::all()),
        // NP-32
        Party::Node { name, .. } if direction == Direction::Ingress && **name == pod.node => {
            return Reach::exactly(PortSet::all());
        }
        _ => {}
    }
    let mut isolated = false;
    let mut out = Reach::default();
    for object in eval::isolating(world, pod, direction) {
        isolated = true;
        for rule in object.policy.rules.iter().filter(|r| r.rule.direction == direction) {
            let admitted = peers(world, object, &rule.rule, other);
            if admitted == Some(false) {
                continue;
            }
            let destination = match direction {
                Direction::Ingress => Some(pod),
                Direction::Egress => other.pod(),
            };
            let ports = services(&rule.rule.services, destination);
            out.possibly.union(&ports);
            if admitted == Some(true) {
                out.surely.union(&ports);
            }
        }
    }
    if isolated { out } else { Reach::exactly(PortSet::all()) }
}

fn peers(world: &World, object: &PolicyObject, rule: &Rule, other: &Party<'_>) -> Option<bool> {
    let Peers::Of { groups, blocks } = &rule.peers else {
        return Some(true);
    };
    let in_group = other.pod().is_some_and(|pod| {
        groups.iter().filter_map(|g| object.selectors.get(g)).any(|s| world.selects(s, pod))
    });
    match other.address() {
        _ if in_group => Some(true),
        Some(address) => Some(blocks.iter().any(|b| b.contains(address))),
        None => blocks.is_empty().then_some(false),
    }
}

fn services(services: &Services, destination: Option<&Pod>) -> PortSet {
    let Services::Of(items) = services else {
        return PortSet::all();
    };
    let mut out = PortSet::none();
    for s in items {
        match &s.port {
            PortMatch::Any => out.insert(s.protocol, 0, u16::MAX),
            PortMatch::Range { first, last } => out.insert(s.protocol, *first, *last),
            PortMatch::Named(name) => {
                let ports = destination.into_iter().flat_map(|p| &p.named_ports);
                for p in ports.filter(|p| p.name == *name && p.protocol == s.protocol) {
                    out.insert(s.protocol, p.number, p.number);
                }
            }
        }
    }
    out
}

/// Addresses outside the world (of no pod and no node), so many that each combination of the CIDRs in the policies has
/// one of them: what holds for some outside address holds for one of these.
pub fn outside_addresses(world: &World) -> Vec<IpAddr> {
    let blocks: BTreeSet<&IpBlock> = world
        .policies
        .values()
        .flat_map(|o| &o.policy.rules)
        .filter_map(|r| match &r.rule.peers {
            Peers::Of { blocks, .. } => Some(blocks),
            Peers::Any => None,
        })
        .flatten()
        .collect();
    let mut edges: BTreeSet<IpAddr> =
        [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].into();
    for prefix in blocks.iter().flat_map(|b| b.except.iter().chain([&b.cidr])) {
        edges.insert(prefix.address());
        edges.extend(after(prefix));
    }
    let inside: BTreeSet<IpAddr> = world
        .endpoints()
        .flat_map(|p| p.addresses.iter())
        .chain(world.nodes.values().flat_map(|n| &n.addresses))
        .copied()
        .collect();
    let mut out = Vec::new();
    let mut edges = edges.into_iter().peekable();
    while let Some(edge) = edges.next() {
        let mut address = Some(edge);
        while let Some(a) = address.filter(|a| inside.contains(a)) {
            address = after(&Prefix::host(a));
        }
        // still before the next edge, so in the same combination of CIDRs
        let next = edges.peek().filter(|n| n.is_ipv4() == edge.is_ipv4());
        out.extend(address.filter(|a| next.is_none_or(|n| a < n)));
    }
    out
}

/// The first address behind a prefix, if its family has one.
fn after(prefix: &Prefix) -> Option<IpAddr> {
    match prefix.address() {
        IpAddr::V4(a) => {
            let size = 1u64 << (32 - prefix.length());
            u32::try_from(u64::from(u32::from(a)) + size).ok().map(|n| Ipv4Addr::from(n).into())
        }
        IpAddr::V6(a) => {
            let size = 1u128.checked_shl(u32::from(128 - prefix.length()))?;
            u128::from(a).checked_add(size).map(|n| Ipv6Addr::from(n).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_ports() {
        let mut set = PortSet::none();
        assert_eq!(set.to_string(), ".");
        set.insert(Protocol::Tcp, 8000, 8005);
        set.insert(Protocol::Tcp, 80, 80);
        set.insert(Protocol::Tcp, 8006, 8010);
        set.insert(Protocol::Udp, 53, 53);
        set.insert(Protocol::Sctp, 0, u16::MAX);
        assert_eq!(set.to_string(), "80,8000-8010,53/udp,*/sctp");
        assert_eq!(set.intersection(&PortSet::all()), set);
        let mut other = PortSet::none();
        other.insert(Protocol::Tcp, 80, 8003);
        assert_eq!(set.intersection(&other).to_string(), "80,8000-8003");
        set.union(&PortSet::all());
        assert_eq!(set.to_string(), "*");
        assert!(set.is_all() && !set.is_empty());
    }
}
