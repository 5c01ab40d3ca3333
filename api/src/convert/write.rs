//! Policy types -> protobuf.

use std::net::IpAddr;

use bytes::Bytes;
use weir_policy::group::{Group, Profile};
use weir_policy::ids::{PolicyKey, PolicyKind};
use weir_policy::net::{IpBlock, Prefix};
use weir_policy::port::{PortMatch, Service};
use weir_policy::rule::{Action, Direction, Peers, Policy, PolicyRule, Services, Tier};
use weir_policy::state::{Change, Endpoint, NodeInfo};

use crate::v1;

pub(super) fn change(change: &Change) -> v1::Change {
    use v1::change::Kind;
    let kind = match change {
        Change::Node(n) => Kind::Node(node(n)),
        Change::Policy(p) => Kind::Policy(policy(p)),
        Change::RemovePolicy(k) => Kind::RemovePolicy(key(k)),
        Change::Group(g) => Kind::Group(group(g)),
        Change::GroupMembers { id, add, remove } => Kind::GroupMembers(v1::GroupMembers {
            id: id.0,
            add: add.iter().map(|p| p.0).collect(),
            remove: remove.iter().map(|p| p.0).collect(),
        }),
        Change::RemoveGroup(id) => Kind::RemoveGroup(id.0),
        Change::Profile(p) => Kind::Profile(profile(p)),
        Change::RemoveProfile(id) => Kind::RemoveProfile(id.0),
        Change::Endpoint(e) => Kind::Endpoint(endpoint(e)),
        Change::RemoveEndpoint(id) => Kind::RemoveEndpoint(id.0.to_string()),
    };
    v1::Change { kind: Some(kind) }
}

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

fn address(address: &IpAddr) -> Bytes {
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

fn node(node: &NodeInfo) -> v1::NodeInfo {
    v1::NodeInfo {
        name: node.name.to_string(),
        addresses: node.addresses.iter().map(address).collect(),
    }
}

fn group(group: &Group) -> v1::Group {
    v1::Group {
        id: group.id.0,
        selector: group.selector.to_string(),
        members: group.members.iter().map(|p| p.0).collect(),
    }
}

fn profile(profile: &Profile) -> v1::Profile {
    v1::Profile {
        namespace: profile.namespace.to_string(),
        labels: profile.labels.0.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        named_ports: profile
            .named_ports
            .iter()
            .map(|p| v1::NamedPort {
                name: p.name.to_string(),
                protocol: u32::from(p.protocol.number()),
                number: u32::from(p.number),
            })
            .collect(),
    }
}

fn endpoint(endpoint: &Endpoint) -> v1::Endpoint {
    v1::Endpoint {
        id: endpoint.id.0.to_string(),
        namespace: endpoint.namespace.to_string(),
        name: endpoint.name.to_string(),
        node: endpoint.node.to_string(),
        addresses: endpoint.addresses.iter().map(address).collect(),
        mac: endpoint.mac.map_or_else(Bytes::new, |m| Bytes::copy_from_slice(&m)),
        profile: endpoint.profile.0,
    }
}
