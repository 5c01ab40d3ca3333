//! Policies and their keys -> protobuf types, for messages that hold them. Whole changes: [`super::wire`].

use std::net::IpAddr;

use bytes::Bytes;
use weir_policy::ids::{PolicyKey, PolicyKind};
use weir_policy::net::{IpBlock, Prefix};
use weir_policy::port::{PortMatch, Service};
use weir_policy::rule::{Action, Direction, Peers, Policy, PolicyRule, Services, Tier};

use crate::v1;

pub(super) fn key(key: &PolicyKey) -> v1::PolicyKey {
    let kind = match key.kind {
        PolicyKind::NetworkPolicy => v1::PolicyKind::NetworkPolicy,
    };
    v1::PolicyKey {
        kind: kind.into(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
    }
}

pub(super) fn policy(policy: &Policy) -> v1::Policy {
    v1::Policy {
        key: Some(key(&policy.key)),
        uid: policy.uid.to_string(),
        generation: policy.generation,
        subject: policy.subject.0,
        isolates_ingress: policy.isolates.contains(&Direction::Ingress),
        isolates_egress: policy.isolates.contains(&Direction::Egress),
        rules: policy.rules.iter().map(rule).collect(),
    }
}

fn rule(rule: &PolicyRule) -> v1::Rule {
    let r = &rule.rule;
    let tier = match r.tier {
        Tier::Admin => v1::Tier::Admin,
        Tier::NetworkPolicy => v1::Tier::NetworkPolicy,
        Tier::Baseline => v1::Tier::Baseline,
    };
    let direction = match r.direction {
        Direction::Ingress => v1::Direction::Ingress,
        Direction::Egress => v1::Direction::Egress,
    };
    let action = match r.action {
        Action::Allow => v1::Action::Allow,
        Action::Deny => v1::Action::Deny,
        Action::Pass => v1::Action::Pass,
    };
    v1::Rule {
        path: rule.path.to_string(),
        tier: tier.into(),
        order: r.order,
        direction: direction.into(),
        subject: r.subject.0,
        peers: match &r.peers {
            Peers::Any => None,
            Peers::Of { groups, blocks } => Some(v1::Peers {
                groups: groups.iter().map(|g| g.0).collect(),
                blocks: blocks.iter().map(block).collect(),
            }),
        },
        services: match &r.services {
            Services::Any => None,
            Services::Of(items) => {
                Some(v1::Services { items: items.iter().map(service).collect() })
            }
        },
        action: action.into(),
    }
}

fn block(block: &IpBlock) -> v1::IpBlock {
    v1::IpBlock {
        cidr: Some(prefix(&block.cidr)),
        except: block.except.iter().map(prefix).collect(),
    }
}

fn prefix(prefix: &Prefix) -> v1::Prefix {
    v1::Prefix { address: address(&prefix.address()), length: u32::from(prefix.length()) }
}

pub(super) fn address(address: &IpAddr) -> Bytes {
    match address {
        IpAddr::V4(a) => Bytes::copy_from_slice(&a.octets()),
        IpAddr::V6(a) => Bytes::copy_from_slice(&a.octets()),
    }
}

fn service(service: &Service) -> v1::Service {
    use v1::service::{Any, Port, Range};
    let port = match &service.port {
        PortMatch::Any => Port::Any(Any {}),
        PortMatch::Range { first, last } => {
            Port::Range(Range { first: u32::from(*first), last: u32::from(*last) })
        }
        PortMatch::Named(name) => Port::Named(name.to_string()),
    };
    v1::Service { protocol: u32::from(service.protocol.number()), port: Some(port) }
}
