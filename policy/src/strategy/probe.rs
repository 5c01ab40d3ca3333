//! Connections.

use super::*;
use crate::eval::{self, Connection, L4};
use crate::port::PortMatch;
use crate::rule::Services;

/// A connection before it is known in which world: ends and port are picked from what the world has.
#[derive(Clone, Debug)]
pub struct Probe {
    src: EndPick,
    dst: EndPick,
    v6: bool,
    protocol: Option<Protocol>,
    port: PortPick,
    /// How both ends may be one address: through a Service or not; else they are two.
    same: Option<bool>,
}

#[derive(Clone, Debug)]
enum EndPick {
    Pod(Index),
    Node(Index),
    Outside(Index),
}

#[derive(Clone, Debug)]
enum PortPick {
    /// A port as drawn.
    Any(u16),
    /// At, just below or just above an end of a range that some rule has.
    Edge(Index, i8),
    /// A number behind a name that some pod declares.
    Named(Index),
}

impl Probe {
    /// The connection in this world; `None` where the world has no such ends (no pod, no address of the family).
    ///
    /// Ends are resolved from their addresses, so two pods that claim one address give one answer.
    pub fn connection(&self, world: &World) -> Option<Connection> {
        let src = self.address(world, &self.src, None)?;
        let dst = self.address(world, &self.dst, self.same.is_none().then_some(src))?;
        let l4 = match self.protocol {
            Some(protocol) => L4::Port { protocol, dport: self.port(world) },
            None => L4::ping(dst),
        };
        let mut out = eval::from_addresses(world, src, dst, l4);
        out.via_service = self.same == Some(true) && out.src == out.dst;
        Some(out)
    }

    fn address(&self, world: &World, pick: &EndPick, not: Option<IpAddr>) -> Option<IpAddr> {
        let of_family = |a: &IpAddr| a.is_ipv6() == self.v6 && Some(*a) != not;
        match pick {
            EndPick::Pod(at) => {
                let all: Vec<IpAddr> = world
                    .all_pods()
                    .flat_map(|p| &p.addresses)
                    .copied()
                    .filter(of_family)
                    .collect();
                (!all.is_empty()).then(|| *at.get(&all))
            }
            EndPick::Node(at) => {
                let all: Vec<IpAddr> = world
                    .nodes
                    .values()
                    .flat_map(|n| &n.addresses)
                    .copied()
                    .filter(of_family)
                    .collect();
                (!all.is_empty()).then(|| *at.get(&all))
            }
            EndPick::Outside(at) => {
                let all: Vec<IpAddr> =
                    OUTSIDE.iter().filter_map(|a| a.parse().ok()).filter(of_family).collect();
                (!all.is_empty()).then(|| *at.get(&all))
            }
        }
    }

    fn port(&self, world: &World) -> u16 {
        match &self.port {
            PortPick::Any(port) => *port,
            PortPick::Edge(at, by) => {
                let rules = world.policies.values().flat_map(|o| &o.policy.rules);
                let edges: Vec<u16> = rules
                    .filter_map(|r| match &r.rule.services {
                        Services::Of(items) => Some(items),
                        Services::Any => None,
                    })
                    .flatten()
                    .filter_map(|s| match s.port {
                        PortMatch::Range { first, last } => Some([first, last]),
                        _ => None,
                    })
                    .flatten()
                    .collect();
                if edges.is_empty() {
                    80
                } else {
                    at.get(&edges).saturating_add_signed(i16::from(*by))
                }
            }
            PortPick::Named(at) => {
                let numbers: Vec<u16> =
                    world.all_pods().flat_map(|p| &p.named_ports).map(|p| p.number).collect();
                if numbers.is_empty() { 8080 } else { *at.get(&numbers) }
            }
        }
    }
}

/// Pod to pod most often; pods, nodes and outside addresses at either end; TCP, UDP, SCTP and ping.
pub fn probe() -> impl Strategy<Value = Probe> {
    let end = || {
        prop_oneof![
            10 => any::<Index>().prop_map(EndPick::Pod),
            1 => any::<Index>().prop_map(EndPick::Node),
            1 => any::<Index>().prop_map(EndPick::Outside),
        ]
    };
    let protocol = prop_oneof![7 => protocol().prop_map(Some), 1 => Just(None)];
    let port = prop_oneof![
        1 => port().prop_map(PortPick::Any),
        2 => (any::<Index>(), -1i8..=1).prop_map(|(at, by)| PortPick::Edge(at, by)),
        2 => any::<Index>().prop_map(PortPick::Named),
    ];
    let same = prop_oneof![8 => Just(None), 1 => any::<bool>().prop_map(Some)];
    (end(), end(), any::<bool>(), protocol, port, same).prop_map(
        |(src, dst, v6, protocol, port, same)| Probe { src, dst, v6, protocol, port, same },
    )
}

/// Up to `most` probes.
pub fn probes(most: usize) -> impl Strategy<Value = Vec<Probe>> {
    vec(probe(), 1..=most)
}
