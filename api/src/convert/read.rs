//! Protobuf -> policy types.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weir_policy::group::{Group, Profile};
use weir_policy::ids::{EndpointId, GroupId, PolicyKey, PolicyKind, ProfileId};
use weir_policy::labels::Labels;
use weir_policy::net::{IpBlock, Prefix};
use weir_policy::port::{NamedPort, PortMatch, Protocol, Service};
use weir_policy::rule::{Action, Direction, Peers, Policy, PolicyRule, Rule, Services, Tier};
use weir_policy::state::{Change, Endpoint, NodeInfo};

use super::error::{BadPolicy, Cause, ConvertError, FieldError, Resource};
use crate::v1;

type Result<T, E = FieldError> = std::result::Result<T, E>;

pub(super) fn change(message: v1::Change) -> Result<Change, ConvertError> {
    use v1::change::Kind;
    let Some(kind) = message.kind else {
        return Err(FieldError::new("", Cause::UnknownChange).into_error(&Resource::Change));
    };
    Ok(match kind {
        Kind::Node(n) => Change::Node(node(n)?),
        Kind::Policy(p) => Change::Policy(policy(p)?),
        Kind::RemovePolicy(k) => {
            Change::RemovePolicy(key(k).map_err(|e| e.into_error(&Resource::PolicyKey))?)
        }
        Kind::Group(g) => Change::Group(Group {
            id: GroupId(g.id),
            selector: g.selector.into(),
            members: profiles(&g.members),
        }),
        Kind::GroupMembers(m) => Change::GroupMembers {
            id: GroupId(m.id),
            add: profiles(&m.add),
            remove: profiles(&m.remove),
        },
        Kind::RemoveGroup(id) => Change::RemoveGroup(GroupId(id)),
        Kind::Profile(p) => Change::Profile(profile(p)?),
        Kind::RemoveProfile(id) => Change::RemoveProfile(ProfileId(id)),
        Kind::Endpoint(e) => Change::Endpoint(endpoint(e)?),
        Kind::RemoveEndpoint(id) => Change::RemoveEndpoint(EndpointId(id.into())),
    })
}

pub(super) fn key(key: v1::PolicyKey) -> Result<PolicyKey> {
    let kind = match v1::PolicyKind::try_from(key.kind) {
        Ok(v1::PolicyKind::NetworkPolicy) => PolicyKind::NetworkPolicy,
        Ok(v1::PolicyKind::Unspecified) | Err(_) => return Err(unknown("kind", key.kind)),
    };
    if key.name.is_empty() {
        return Err(FieldError::new("name", Cause::Missing));
    }
    Ok(PolicyKey { kind, namespace: key.namespace.into(), name: key.name.into() })
}

pub(super) fn policy(policy: v1::Policy) -> Result<Policy, ConvertError> {
    let key = policy
        .key
        .ok_or_else(|| FieldError::new("", Cause::Missing))
        .and_then(key)
        .map_err(|e| e.within("key").into_error(&Resource::PolicyKey))?;
    let isolates = [
        (policy.isolates_ingress, Direction::Ingress),
        (policy.isolates_egress, Direction::Egress),
    ];
    let known = BadPolicy {
        key,
        uid: policy.uid.into(),
        generation: policy.generation,
        subject: GroupId(policy.subject),
        isolates: isolates
            .into_iter()
            .filter_map(|(on, direction)| on.then_some(direction))
            .collect(),
    };
    let rules: Result<Vec<PolicyRule>> = policy
        .rules
        .into_iter()
        .enumerate()
        .map(|(n, r)| {
            let path = r.path.clone();
            rule(r).map_err(|e| e.within(format_args!("rules[{n}] ({path})")))
        })
        .collect();
    match rules {
        Ok(rules) => Ok(Policy { rules, ..known.closed() }),
        Err(error) => Err(ConvertError {
            policy: Some(Box::new(known.clone())),
            ..error.into_error(&Resource::Policy(known.key))
        }),
    }
}

fn rule(r: v1::Rule) -> Result<PolicyRule> {
    let tier = match v1::Tier::try_from(r.tier) {
        Ok(v1::Tier::Admin) => Tier::Admin,
        Ok(v1::Tier::NetworkPolicy) => Tier::NetworkPolicy,
        Ok(v1::Tier::Baseline) => Tier::Baseline,
        Ok(v1::Tier::Unspecified) | Err(_) => return Err(unknown("tier", r.tier)),
    };
    let direction = match v1::Direction::try_from(r.direction) {
        Ok(v1::Direction::Ingress) => Direction::Ingress,
        Ok(v1::Direction::Egress) => Direction::Egress,
        Ok(v1::Direction::Unspecified) | Err(_) => return Err(unknown("direction", r.direction)),
    };
    let action = match v1::Action::try_from(r.action) {
        Ok(v1::Action::Allow) => Action::Allow,
        Ok(v1::Action::Deny) => Action::Deny,
        Ok(v1::Action::Pass) => Action::Pass,
        Ok(v1::Action::Unspecified) | Err(_) => return Err(unknown("action", r.action)),
    };
    let peers = match r.peers {
        None => Peers::Any,
        Some(peers) => Peers::Of {
            groups: peers.groups.into_iter().map(GroupId).collect(),
            blocks: each(peers.blocks, "peers.blocks", block)?,
        },
    };
    let services = match r.services {
        None => Services::Any,
        Some(services) => Services::Of(each(services.items, "services.items", service)?),
    };
    Ok(PolicyRule {
        path: r.path.into(),
        rule: Rule {
            tier,
            order: r.order,
            direction,
            subject: GroupId(r.subject),
            peers,
            services,
            action,
        },
    })
}

fn block(block: v1::IpBlock) -> Result<IpBlock> {
    let cidr = block
        .cidr
        .ok_or_else(|| FieldError::new("", Cause::Missing))
        .and_then(prefix)
        .map_err(|e| e.within("cidr"))?;
    Ok(IpBlock { cidr, except: each(block.except, "except", prefix)? })
}

fn prefix(prefix: v1::Prefix) -> Result<Prefix> {
    let address = address(&prefix.address).map_err(|e| e.within("address"))?;
    let limit: u8 = if address.is_ipv4() { 32 } else { 128 };
    let length = u8::try_from(prefix.length).ok().filter(|l| *l <= limit).ok_or_else(|| {
        FieldError::new(
            "length",
            Cause::TooLarge { value: u64::from(prefix.length), limit: u64::from(limit) },
        )
    })?;
    Ok(Prefix::new(address, length))
}

fn address(bytes: &[u8]) -> Result<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).map(IpAddr::from).map_err(|_| length("", bytes.len(), &[4, 16]))
}

fn service(service: v1::Service) -> Result<Service> {
    use v1::service::Port;
    let port = match service.port {
        None => return Err(FieldError::new("port", Cause::NoAlternative)),
        Some(Port::Any(_)) => PortMatch::Any,
        Some(Port::Named(name)) => PortMatch::Named(name.into()),
        Some(Port::Range(range)) => {
            if range.first > range.last {
                let (first, last) = (range.first, range.last);
                return Err(FieldError::new("port.range", Cause::EmptyRange { first, last }));
            }
            PortMatch::Range {
                first: port_number(range.first, "port.range.first")?,
                last: port_number(range.last, "port.range.last")?,
            }
        }
    };
    Ok(Service { protocol: protocol(service.protocol)?, port })
}

fn protocol(number: u32) -> Result<Protocol> {
    u8::try_from(number)
        .ok()
        .and_then(Protocol::from_number)
        .ok_or_else(|| FieldError::new("protocol", Cause::UnknownValue(i64::from(number))))
}

fn port_number(number: u32, field: &str) -> Result<u16> {
    u16::try_from(number).map_err(|_| {
        FieldError::new(
            field,
            Cause::TooLarge { value: u64::from(number), limit: u64::from(u16::MAX) },
        )
    })
}

fn node(node: v1::NodeInfo) -> Result<NodeInfo, ConvertError> {
    let addresses =
        addresses(&node.addresses).map_err(|e| e.into_error(&Resource::Node(node.name.clone())))?;
    Ok(NodeInfo { name: node.name.into(), addresses })
}

fn profiles(ids: &[u64]) -> BTreeSet<ProfileId> {
    ids.iter().copied().map(ProfileId).collect()
}

fn profile(profile: v1::Profile) -> Result<Profile, ConvertError> {
    let named_ports = each(profile.named_ports, "named_ports", |p| {
        Ok(NamedPort {
            protocol: protocol(p.protocol)?,
            number: port_number(p.number, "number")?,
            name: p.name.into(),
        })
    })
    .map_err(|e| e.into_error(&Resource::Profile(profile.namespace.clone())))?;
    Ok(Profile {
        namespace: profile.namespace.into(),
        labels: Labels::from_iter(profile.labels),
        named_ports,
    })
}

fn endpoint(e: v1::Endpoint) -> Result<Endpoint, ConvertError> {
    let wrong = |error: FieldError| error.into_error(&Resource::Endpoint(e.id.clone()));
    if e.id.is_empty() {
        return Err(wrong(FieldError::new("id", Cause::Missing)));
    }
    let mac = match e.mac.len() {
        0 => None,
        had => {
            Some(<[u8; 6]>::try_from(&e.mac[..]).map_err(|_| wrong(length("mac", had, &[0, 6])))?)
        }
    };
    Ok(Endpoint {
        addresses: addresses(&e.addresses).map_err(wrong)?,
        id: EndpointId(e.id.into()),
        namespace: e.namespace.into(),
        name: e.name.into(),
        node: e.node.into(),
        mac,
        profile: ProfileId(e.profile),
    })
}

fn addresses(items: &[bytes::Bytes]) -> Result<BTreeSet<IpAddr>> {
    items
        .iter()
        .enumerate()
        .map(|(n, bytes)| address(bytes).map_err(|e| e.within(format_args!("addresses[{n}]"))))
        .collect()
}

/// A set from a repeated field; an error names the element.
fn each<T, U: Ord>(
    items: Vec<T>,
    field: &str,
    read: impl Fn(T) -> Result<U>,
) -> Result<BTreeSet<U>> {
    items
        .into_iter()
        .enumerate()
        .map(|(n, item)| read(item).map_err(|e| e.within(format_args!("{field}[{n}]"))))
        .collect()
}

fn unknown(field: &str, value: i32) -> FieldError {
    FieldError::new(field, Cause::UnknownValue(i64::from(value)))
}

fn length(field: &str, had: usize, allowed: &'static [usize]) -> FieldError {
    FieldError::new(field, Cause::Length { had, allowed })
}
