//! One rule of the NetworkPolicy tier: subject, peers and services as dimensions of a conjunction.
//!
//! A dimension that the rule leaves open ("any peer", "any service") is not there; one dimension alone is a plain flow
//! per subject class. A named port is no dimension of its own: it is an alternative of the service dimension that fixes
//! the destination class as well, because each destination has its own number (NP-24).

use std::collections::BTreeSet;

use rust_openflow::{Action, Field, Match};
use weir_policy::ids::RuleId;
use weir_policy::net;
use weir_policy::port::{PortMatch, Protocol, Service, range_masks};
use weir_policy::rule::{Direction, Peers, Rule, Services};

use super::isolation::place;
use super::{Contribution, Part, Rank, priority};
use crate::classes::Classes;
use crate::flow::FlowKey;
use crate::pipeline::cookie::{Cookie, Kind, Stage, service_number};
use crate::pipeline::regs::{self, RegField};
use crate::pipeline::{flow, load, table};

/// What a rule is compiled against.
pub struct View<'a> {
    pub classes: &'a Classes,
    /// Classes with an endpoint on this node: only those can be subjects here.
    pub local: &'a BTreeSet<u32>,
    /// Which of the priorities for conjunctions this rule has.
    pub bank: u16,
}

/// One alternative of a dimension: a match, and the local number its clause flow carries in the cookie.
type Alternative = (Match, u32);

/// The parts of all flows that `rule` needs; none if it can match nothing here.
pub fn contributions(rule: &Rule, id: RuleId, view: &View<'_>) -> Vec<Contribution> {
    let (table, subject_register) = place(rule.direction);
    let peer_register = match rule.direction {
        Direction::Egress => regs::DST_CLASS,
        Direction::Ingress => regs::SRC_CLASS,
    };
    let stage = Stage::new(rule.tier, rule.direction);

    let subject: Vec<Alternative> = view
        .classes
        .in_group(rule.subject)
        .filter(|c| view.local.contains(c))
        .map(|c| (subject_register.matches(Match::new(), c), c))
        .collect();
    let mut dimensions = Vec::new();
    if let Peers::Of { .. } = rule.peers {
        dimensions.push(peers(rule, &peer_register, view));
    }
    dimensions.push(subject);
    if let Services::Of(items) = &rule.services {
        dimensions.push(services(rule, items, view));
    }
    if dimensions.iter().any(Vec::is_empty) {
        return Vec::new();
    }

    let (result, goto) = match rule.direction {
        Direction::Egress => (regs::EGRESS_RULE, table::INGRESS_ADMIN),
        Direction::Ingress => (regs::INGRESS_RULE, table::COMMIT),
    };
    let allow = |priority: u16, m: Match| {
        let cookie = Cookie::encode(Kind::Allow, stage, id.0);
        let (key, value) = flow(table, priority, m, cookie, vec![load(&result, id.0)], Some(goto));
        // equal claims: the lesser rule id
        let rank = Rank(u64::MAX - u64::from(id.0), "".into());
        (key, Part::Whole { rank, value })
    };

    if let [subject] = &dimensions[..] {
        return subject.iter().map(|(m, _)| allow(priority::PLAIN, m.clone())).collect();
    }
    let priority = priority::CONJUNCTION + view.bank;
    let n_clauses = u8::try_from(dimensions.len()).unwrap_or(u8::MAX);
    let mut out = vec![allow(priority, Match::new().with(Field::ConjId, u128::from(id.0)))];
    for (clause, alternatives) in dimensions.into_iter().enumerate() {
        let clause = u8::try_from(clause).unwrap_or(u8::MAX);
        for (match_, number) in alternatives {
            let cookie = Cookie::encode(Kind::Clause, stage, number);
            out.push((
                FlowKey { table, priority, match_ },
                Part::Clause { rule: id, clause, n_clauses, cookie },
            ));
        }
    }
    out
}

/// `conjunction(...)` actions of a clause flow.
pub fn conjunction(rule: RuleId, clause: u8, n_clauses: u8) -> Action {
    Action::Conjunction { id: rule.0, clause, n_clauses }
}

fn peers(rule: &Rule, register: &RegField, view: &View<'_>) -> Vec<Alternative> {
    let Peers::Of { groups, blocks } = &rule.peers else {
        return Vec::new();
    };
    let classes: BTreeSet<u32> = groups.iter().flat_map(|g| view.classes.in_group(*g)).collect();
    let prefixes = net::union(blocks.iter().flat_map(net::IpBlock::prefixes));
    let by_class = classes.into_iter().map(|c| (register.matches(Match::new(), c), c));
    let by_prefix = prefixes.into_iter().map(|p| {
        let (family, a, length) = (crate::pipeline::family(p.address()), p.address(), p.length());
        let m = match rule.direction {
            Direction::Egress => family.nw_dst(a, length),
            Direction::Ingress => family.nw_src(a, length),
        };
        (m, 0)
    });
    by_class.chain(by_prefix).collect()
}

fn l4(protocol: Protocol) -> [(Match, Field); 2] {
    match protocol {
        Protocol::Tcp => [(Match::tcp(), Field::TcpDst), (Match::tcp6(), Field::TcpDst)],
        Protocol::Udp => [(Match::udp(), Field::UdpDst), (Match::udp6(), Field::UdpDst)],
        Protocol::Sctp => [(Match::sctp(), Field::SctpDst), (Match::sctp6(), Field::SctpDst)],
    }
}

const fn protocol_index(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 1,
        Protocol::Udp => 2,
        Protocol::Sctp => 3,
    }
}

/// Fragments behind the first have no ports, and the userspace datapath shows them one by one: addresses and protocol
/// judge them, for IPv6 addresses alone, as their header names no protocol. Without its first fragment, which has ports
/// and is judged by them, nobody can put a datagram together.
fn later_fragment(family: &Match) -> Match {
    let m = match family.exact(Field::EthType) {
        Some(ETH_P_IPV6) => Match::ipv6().with(Field::IpProto, IPPROTO_FRAGMENT),
        _ => family.clone(),
    };
    m.with_masked(Field::IpFrag, FRAGMENT_LATER, FRAGMENT_LATER)
}

const ETH_P_IPV6: u128 = 0x86dd;
/// What OVS takes for the protocol of later fragments of IPv6. Source: ovs-fields(7), "IPv4/v6 Protocol".
const IPPROTO_FRAGMENT: u128 = 44;

/// A fragment, and not the first. Source: ovs-fields(7), "IP Fragment"; `FLOW_NW_FRAG_MASK`.
const FRAGMENT_LATER: u128 = 3;

fn services(rule: &Rule, items: &BTreeSet<Service>, view: &View<'_>) -> Vec<Alternative> {
    let mut out: BTreeSet<(Match, u32)> = BTreeSet::new();
    for item in items {
        for (family, field) in l4(item.protocol) {
            let number = |port| service_number(protocol_index(item.protocol), port);
            let port = |m: Match, value: u16, mask: u16| {
                m.with_masked(field, u128::from(value), u128::from(mask))
            };
            match &item.port {
                PortMatch::Any => {
                    out.insert((later_fragment(&family), number(0)));
                    out.insert((family, number(0)));
                }
                PortMatch::Range { first, last } => {
                    out.insert((later_fragment(&family), number(0)));
                    for (value, mask) in range_masks(*first, *last) {
                        out.insert((port(family.clone(), value, mask), number(value)));
                    }
                }
                PortMatch::Named(name) => {
                    for class in named_candidates(rule, view) {
                        let ports = view.classes.get(class).into_iter().flat_map(|c| &c.key.ports);
                        for p in ports.filter(|p| p.name == *name && p.protocol == item.protocol) {
                            let there = |m: Match| regs::DST_CLASS.matches(m, class);
                            out.insert((there(later_fragment(&family)), number(0)));
                            let m = port(family.clone(), p.number, u16::MAX);
                            out.insert((there(m), number(p.number)));
                        }
                    }
                }
            }
        }
    }
    out.into_iter().collect()
}

/// The classes a named port can be resolved on: the destinations the rule can have.
fn named_candidates(rule: &Rule, view: &View<'_>) -> BTreeSet<u32> {
    match rule.direction {
        Direction::Ingress => {
            view.classes.in_group(rule.subject).filter(|c| view.local.contains(c)).collect()
        }
        Direction::Egress => {
            rule.peer_groups().iter().flat_map(|g| view.classes.in_group(*g)).collect()
        }
    }
}
