//! An immutable picture of everything policy depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::group::Profile;
use crate::ids::{EndpointId, GroupId, PolicyKey, Str};
use crate::labels::{Labels, METADATA_NAME, Selector};
use crate::port::NamedPort;
use crate::rule::PolicyObject;

/// Which pod or workload: namespace and name. Both kinds share the names of a namespace (NP-50).
pub type PodKey = (Str, Str);

/// What kind of object stands behind a [`Pod`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Kind {
    /// `v1 Pod`.
    #[default]
    Pod,
    /// `weir.io/v1alpha1 Workload`: a virtual machine or a bare-metal machine.
    Workload,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Workload => "Workload",
        }
    }
}

/// A pod as far as policy is concerned, or a workload of another kind (NP-50): to policy they are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    #[serde(default)]
    pub kind: Kind,
    pub namespace: Str,
    pub name: Str,
    /// Empty where manifests carry none.
    pub uid: Str,
    pub labels: Labels,
    /// `spec.nodeName`; empty while not scheduled.
    pub node: Str,
    /// `status.podIPs` (or `podIP`), in the order of the object.
    pub addresses: Vec<IpAddr>,
    /// Where the object says it; pods never do.
    #[serde(default)]
    pub mac: Option<[u8; 6]>,
    pub named_ports: BTreeSet<NamedPort>,
    /// `spec.hostNetwork`: never a pod for policy (NP-31).
    pub host_network: bool,
    /// `status.phase` Succeeded or Failed: not a pod any more (NP-44).
    pub terminal: bool,
    /// `metadata.deletionTimestamp` is there: it is being deleted, and gives way to others at its addresses (NP-45).
    #[serde(default)]
    pub terminating: bool,
    /// `metadata.creationTimestamp`. Units: seconds of Unix time.
    #[serde(default)]
    pub created: Option<i64>,
}

impl Pod {
    pub fn key(&self) -> PodKey {
        (self.namespace.clone(), self.name.clone())
    }

    /// Its identity as an endpoint.
    pub fn endpoint_id(&self) -> EndpointId {
        if self.uid.is_empty() {
            EndpointId(format!("{}/{}", self.namespace, self.name).into())
        } else {
            EndpointId(self.uid.clone())
        }
    }

    /// It takes part in policy: own network namespace, not terminal, on a node. Without an address it is known but
    /// nothing can reach it.
    pub fn is_endpoint(&self) -> bool {
        !self.host_network && !self.terminal
    }

    pub fn profile(&self) -> Profile {
        Profile {
            namespace: self.namespace.clone(),
            labels: self.labels.clone(),
            named_ports: self.named_ports.clone(),
        }
    }
}

/// A node: its name and every address of `status.addresses` that is an IP address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub name: Str,
    pub labels: Labels,
    pub addresses: BTreeSet<IpAddr>,
}

/// The picture. Ordered maps, so that everything computed from it is in a stable order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Declared namespaces. One that only a pod or policy mentions exists with its name label alone (NP-3).
    pub namespaces: BTreeMap<Str, Labels>,
    pub pods: BTreeMap<PodKey, Pod>,
    /// Workloads. One that has the name of a pod is not in force (NP-50): [`World::pod`].
    pub workloads: BTreeMap<PodKey, Pod>,
    pub nodes: BTreeMap<Str, Node>,
    pub policies: BTreeMap<PolicyKey, PolicyObject>,
}

impl World {
    /// The labels of a namespace, its name label included whatever was declared (NP-3).
    pub fn namespace_labels(&self, name: &str) -> Labels {
        let mut labels = self.namespaces.get(name).cloned().unwrap_or_default();
        labels.set(METADATA_NAME, name);
        labels
    }

    /// The pod or workload of a name; a pod comes first (NP-50).
    pub fn pod(&self, key: &PodKey) -> Option<&Pod> {
        self.pods.get(key).or_else(|| self.workloads.get(key))
    }

    /// As [`World::pod`], to be changed.
    pub fn pod_mut(&mut self, key: &PodKey) -> Option<&mut Pod> {
        match self.pods.get_mut(key) {
            Some(pod) => Some(pod),
            None => self.workloads.get_mut(key),
        }
    }

    /// Pods and workloads in force.
    pub fn all_pods(&self) -> impl Iterator<Item = &Pod> {
        let shadowed = |key: &PodKey| self.pods.contains_key(key);
        let workloads = self.workloads.iter().filter(move |(key, _)| !shadowed(key));
        self.pods.values().chain(workloads.map(|(_, w)| w))
    }

    /// Pods and workloads that take part in policy.
    pub fn endpoints(&self) -> impl Iterator<Item = &Pod> {
        self.all_pods().filter(|p| p.is_endpoint())
    }

    /// The first node by name that has this address.
    pub fn node_by_address(&self, address: IpAddr) -> Option<&Node> {
        self.nodes.values().find(|n| n.addresses.contains(&address))
    }

    /// The pod or workload that has this address for policy: of those that claim it the one with the greatest
    /// [`Claim`](crate::claim::Claim), so that the answer does not depend on the order of events. No workload has the
    /// address of a node (NP-50).
    pub fn pod_by_address(&self, address: IpAddr) -> Option<&Pod> {
        let of_node = self.node_by_address(address).is_some();
        self.endpoints()
            .filter(|p| p.addresses.contains(&address))
            .filter(|p| p.kind == Kind::Pod || !of_node)
            .max_by_key(|p| p.claim())
    }

    pub fn selects(&self, selector: &Selector, pod: &Pod) -> bool {
        pod.is_endpoint()
            && selector.matches(&pod.namespace, &self.namespace_labels(&pod.namespace), &pod.labels)
    }

    /// The definition of a group, if any policy names it.
    pub fn selector(&self, group: GroupId) -> Option<&Selector> {
        self.policies.values().find_map(|p| p.selectors.get(&group))
    }
}
