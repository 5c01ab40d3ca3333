//! What the rules in force say of one connection, asked of what the flows are made from.
//!
//! For connections that conntrack holds and no packet of which may come any more, see [`crate::sweep`]. New packets are
//! judged by the flows; a property test holds both against the evaluator.

use std::net::IpAddr;

use weir_policy::ids::ContentHash;
use weir_policy::port::{PortMatch, Protocol, Service};
use weir_policy::rule::{Direction, Peers, Rule, Services};

use super::Desired;
use crate::pipeline::endpoint;

/// A connection, from its initiator to its responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: Protocol,
    pub dport: u16,
}

impl Desired {
    /// Whether workloads of this node let the connection out and in. True where none has a part in it, and for what comes
    /// from an address of the node, which may be the node itself (NP-32).
    pub fn admits(&self, asked: &Asked) -> bool {
        let flows = self.flows();
        if endpoint::is_self(flows, asked.src, asked.dst) {
            return true;
        }
        let src = endpoint::look_up(flows, asked.src);
        let dst = endpoint::look_up(flows, asked.dst);
        let ends = (src.map(|s| s.class), dst.map(|d| d.class));
        let out = src.is_none_or(|s| !s.local || self.side(Direction::Egress, ends, asked));
        let node = self.node_addresses.contains(&asked.src)
            || self.config.node_addresses.contains(&asked.src);
        out && (node || dst.is_none_or(|d| !d.local || self.side(Direction::Ingress, ends, asked)))
    }

    fn side(
        &self,
        direction: Direction,
        (src, dst): (Option<u32>, Option<u32>),
        asked: &Asked,
    ) -> bool {
        let (subject, peer, address) = match direction {
            Direction::Egress => (src, dst, asked.dst),
            Direction::Ingress => (dst, src, asked.src),
        };
        let Some(class) = subject.and_then(|c| self.classes.get(c)) else {
            return true;
        };
        if subject.is_none_or(|c| !self.isolated.contains_key(&(direction, c))) {
            return true;
        }
        let in_force = |content: &ContentHash| {
            let id = self.policies.ids.get(content);
            id.is_some_and(|id| !self.failed.contains_key(&id))
        };
        class.key.groups.iter().any(|group| {
            self.policies.rules_of(*group).any(|content| {
                let Some(rule) = self.policies.rule(&content).map(|e| &e.rule) else {
                    return false;
                };
                rule.direction == direction
                    && rule.subject == *group
                    && self.is_peer(rule, peer, address)
                    && self.is_service(rule, dst, asked)
                    && in_force(&content)
            })
        })
    }

    fn is_peer(&self, rule: &Rule, class: Option<u32>, address: IpAddr) -> bool {
        let Peers::Of { groups, blocks } = &rule.peers else {
            return true;
        };
        let key = class.and_then(|c| self.classes.get(c)).map(|c| &c.key);
        key.is_some_and(|k| !k.groups.is_disjoint(groups))
            || blocks.iter().any(|b| b.contains(address))
    }

    fn is_service(&self, rule: &Rule, dst: Option<u32>, asked: &Asked) -> bool {
        let Services::Of(items) = &rule.services else {
            return true;
        };
        let number = |item: &&Service| item.protocol == asked.protocol;
        items.iter().filter(number).any(|item| match &item.port {
            PortMatch::Any => true,
            PortMatch::Range { first, last } => (*first..=*last).contains(&asked.dport),
            PortMatch::Named(name) => {
                let key = dst.and_then(|c| self.classes.get(c)).map(|c| &c.key);
                key.is_some_and(|key| {
                    let candidate = match rule.direction {
                        Direction::Ingress => true,
                        Direction::Egress => !key.groups.is_disjoint(&rule.peer_groups()),
                    };
                    candidate
                        && key.ports.iter().any(|p| {
                            p.name == *name
                                && p.protocol == asked.protocol
                                && p.number == asked.dport
                        })
                })
            }
        })
    }
}
