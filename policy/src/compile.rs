//! World -> the state one node needs, in one pass and from nothing.
//!
//! The controller's incremental index must always equal this.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::group::Group;
use crate::ids::{GroupId, ProfileId};
use crate::labels::Selector;
use crate::state::{Endpoint, NodeInfo, NodeState};
use crate::world::{Pod, World};

/// Everything in the span of `node`.
pub fn node_state(world: &World, node: &str) -> NodeState {
    let mut state = NodeState {
        node: NodeInfo {
            name: node.into(),
            addresses: world.nodes.get(node).map(|n| n.addresses.clone()).unwrap_or_default(),
        },
        ..NodeState::default()
    };

    // a policy goes where its subjects run
    for object in world.policies.values() {
        let Some(subject) = object.selectors.get(&object.policy.subject) else {
            continue;
        };
        if world.endpoints().any(|p| &*p.node == node && world.selects(subject, p)) {
            state.policies.insert(object.policy.key.clone(), object.policy.clone());
        }
    }

    // a group where a spanned policy names it
    let mut selectors: BTreeMap<GroupId, &Selector> = BTreeMap::new();
    let mut peers: BTreeSet<GroupId> = BTreeSet::new();
    for key in state.policies.keys() {
        let object = &world.policies[key];
        selectors.extend(object.selectors.iter().map(|(id, s)| (*id, s)));
        peers.extend(object.policy.peer_groups());
    }
    for (id, selector) in &selectors {
        let members = members(world, selector);
        state.groups.insert(*id, Group { id: *id, selector: selector.to_string().into(), members });
    }

    // an endpoint on its own node and where a spanned peer group holds its profile, and the profile with it
    let reachable: BTreeSet<ProfileId> = peers
        .iter()
        .filter_map(|g| state.groups.get(g))
        .flat_map(|g| &g.members)
        .copied()
        .collect();
    for pod in world.endpoints() {
        let profile = pod.profile();
        let id = profile.id();
        let local = &*pod.node == node;
        if local || reachable.contains(&id) {
            let endpoint = endpoint(world, pod);
            state.endpoints.insert(endpoint.id.clone(), endpoint);
            state.profiles.insert(id, profile);
        }
    }
    state
}

/// The profiles that a selector picks.
pub fn members(world: &World, selector: &Selector) -> BTreeSet<ProfileId> {
    world.endpoints().filter(|p| world.selects(selector, p)).map(|p| p.profile().id()).collect()
}

/// A pod as agents know it.
///
/// An address that another pod has for policy ([`World::pod_by_address`]) is not among its own, nor is one of a node if it
/// is a workload: each address answers for one pod on every node, in whatever order objects come and go (NP-45, NP-50).
pub fn endpoint(world: &World, pod: &Pod) -> Endpoint {
    let own = |a: &IpAddr| world.pod_by_address(*a).is_some_and(|p| p.key() == pod.key());
    Endpoint {
        id: pod.endpoint_id(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        node: pod.node.clone(),
        addresses: pod.addresses.iter().copied().filter(own).collect(),
        mac: pod.mac,
        profile: pod.profile().id(),
    }
}
