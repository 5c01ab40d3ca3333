//! Changes as the generated types write them: what [`super::super::wire`] is held to.

use bytes::Bytes;
use weir_policy::group::{Group, Profile};
use weir_policy::state::{Change, Endpoint, NodeInfo};

use super::super::write::{address, key, policy};
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
        labels: profile.labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
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
