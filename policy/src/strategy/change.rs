//! Changes of a world.

use super::*;
use crate::ids::PolicyKey;

/// One change, as a source would report it. What it names may not be there; then it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A pod comes, or its object is replaced: another life, node, address, labels, ports.
    PutPod(Pod),
    DeletePod(PodKey),
    DeleteWorkload(PodKey),
    LabelPod(PodKey, Labels),
    ReaddressPod(PodKey, Vec<IpAddr>),
    /// The first claims the addresses of the second as well (NP-45).
    ClaimAddresses(PodKey, PodKey),
    /// `metadata.deletionTimestamp` appears.
    TerminatePod(PodKey),
    /// NP-47.
    SwapAddresses(PodKey, PodKey),
    /// Succeeded or Failed; the object stays and still shows its address (NP-44).
    EndPod(PodKey),
    /// Declares a namespace or replaces its labels.
    LabelNamespace(Str, Labels),
    /// With its pods and policies.
    DeleteNamespace(Str),
    PutPolicy(PolicyObject),
    DeletePolicy(PolicyKey),
    /// A node comes, or its addresses change.
    PutNode(Node),
    DeleteNode(Str),
}

impl Mutation {
    /// Applies the change; says whether the world is another one than before.
    pub fn apply(&self, world: &mut World) -> bool {
        match self {
            Self::PutPod(pod) => put_pod(world, pod.clone()),
            Self::DeletePod(key) => world.pods.remove(key).is_some(),
            Self::DeleteWorkload(key) => world.workloads.remove(key).is_some(),
            Self::LabelPod(key, labels) => with(world.pod_mut(key), |pod| {
                std::mem::replace(&mut pod.labels, labels.clone()) != *labels
            }),
            Self::ReaddressPod(key, addresses) => with(world.pod_mut(key), |pod| {
                !pod.host_network
                    && std::mem::replace(&mut pod.addresses, addresses.clone()) != *addresses
            }),
            Self::ClaimAddresses(a, b) => {
                let of = world.pod(b).filter(|p| !p.host_network).map(|p| p.addresses.clone());
                let of = of.unwrap_or_default();
                let of_node = of_nodes(&of);
                with(world.pod_mut(a).filter(|p| !p.host_network && !of_node), |pod| {
                    let new: Vec<IpAddr> =
                        of.into_iter().filter(|a| !pod.addresses.contains(a)).collect();
                    pod.addresses.extend(&new);
                    !new.is_empty()
                })
            }
            Self::TerminatePod(key) => {
                with(world.pod_mut(key), |pod| !std::mem::replace(&mut pod.terminating, true))
            }
            Self::SwapAddresses(a, b) => swap(world, a, b),
            Self::EndPod(key) => {
                with(world.pods.get_mut(key), |pod| !std::mem::replace(&mut pod.terminal, true))
            }
            Self::LabelNamespace(name, labels) => {
                world.namespaces.insert(name.clone(), labels.clone()).as_ref() != Some(labels)
            }
            Self::DeleteNamespace(name) => {
                let size = |w: &World| (w.pods.len(), w.workloads.len(), w.policies.len());
                let before = size(world);
                world.workloads.retain(|key, _| key.0 != *name);
                world.pods.retain(|key, _| key.0 != *name);
                world.policies.retain(|key, _| key.namespace != *name);
                let gone = world.namespaces.remove(name).is_some();
                gone || before != size(world)
            }
            Self::PutPolicy(object) => {
                let key = object.policy.key.clone();
                world.policies.insert(key, object.clone()).as_ref() != Some(object)
            }
            Self::DeletePolicy(key) => world.policies.remove(key).is_some(),
            Self::PutNode(node) => {
                world.nodes.insert(node.name.clone(), node.clone()).as_ref() != Some(node)
            }
            Self::DeleteNode(name) => world.nodes.remove(name).is_some(),
        }
    }
}

fn with<T>(target: Option<&mut T>, f: impl FnOnce(&mut T) -> bool) -> bool {
    target.is_some_and(f)
}

/// A pod with a network of its own never shows the address of a node, so that nothing passes on what a workload claims.
fn of_nodes(addresses: &[IpAddr]) -> bool {
    (0..2 * NODES.len()).any(|n| node_addresses(n).iter().any(|a| addresses.contains(a)))
}

fn swap(world: &mut World, a: &PodKey, b: &PodKey) -> bool {
    let addresses = |key| world.pod(key).filter(|p| !p.host_network).map(|p| p.addresses.clone());
    let (Some(of_a), Some(of_b)) = (addresses(a), addresses(b)) else {
        return false;
    };
    if of_a == of_b || of_nodes(&of_a) || of_nodes(&of_b) {
        return false;
    }
    for (key, new) in [(a, of_b), (b, of_a)] {
        if let Some(pod) = world.pod_mut(key) {
            pod.addresses = new;
        }
    }
    true
}

/// One change, of any kind. Addresses come from the pool of all pods, so that they are used again.
pub fn mutation() -> impl Strategy<Value = Mutation> {
    let namespace = || select(&NAMESPACES[..]).prop_map(Str::from);
    let put_pod =
        (pod_seed(), select(&NAMESPACES[..]), select(&PODS[..]), 0..NODES.len(), 0..ADDRESSES)
            .prop_map(|(seed, namespace, name, node, address)| {
                Mutation::PutPod(seed.pod(namespace, name, node, address))
            });
    let readdress = (pod_key(), families(), 0..ADDRESSES)
        .prop_map(|(key, families, n)| Mutation::ReaddressPod(key, families.pick(v4(n), v6(n))));
    // at times the addresses of another machine, as when one takes over
    let put_node =
        (0..NODES.len(), node_families(), any::<bool>()).prop_map(|(n, families, moved)| {
            let mut new = node(n, families);
            if moved {
                new.addresses = node_addresses(n + NODES.len()).into();
            }
            Mutation::PutNode(new)
        });
    let policy_key = (select(&NAMESPACES[..]), select(&POLICIES[..]))
        .prop_map(|(ns, n)| PolicyKey::network_policy(ns, n));
    prop_oneof![
        5 => put_pod,
        2 => pod_key().prop_map(Mutation::DeletePod),
        1 => pod_key().prop_map(Mutation::DeleteWorkload),
        4 => (pod_key(), labels()).prop_map(|(key, labels)| Mutation::LabelPod(key, labels)),
        2 => readdress,
        2 => (pod_key(), pod_key()).prop_map(|(a, b)| Mutation::SwapAddresses(a, b)),
        2 => (pod_key(), pod_key()).prop_map(|(a, b)| Mutation::ClaimAddresses(a, b)),
        1 => pod_key().prop_map(Mutation::TerminatePod),
        2 => pod_key().prop_map(Mutation::EndPod),
        3 => (namespace(), labels()).prop_map(|(name, labels)| Mutation::LabelNamespace(name, labels)),
        1 => namespace().prop_map(Mutation::DeleteNamespace),
        6 => policy().prop_map(Mutation::PutPolicy),
        2 => policy_key.prop_map(Mutation::DeletePolicy),
        1 => put_node,
        1 => select(&NODES[..]).prop_map(|n| Mutation::DeleteNode(n.into())),
    ]
}

/// A sequence of up to `most` changes.
pub fn changes(most: usize) -> impl Strategy<Value = Vec<Mutation>> {
    vec(mutation(), 1..=most)
}
