//! An immutable picture of everything policy depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::group::Profile;
use crate::ids::{EndpointId, GroupId, PolicyKey, Str};
use crate::labels::{Labels, METADATA_NAME, Selector};
use crate::port::NamedPort;
use crate::rule::PolicyObject;

/// Which pod object: namespace and name.
pub type PodKey = (Str, Str);

/// A pod as far as policy is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub namespace: Str,
    pub name: Str,
    /// Empty where manifests carry none.
    pub uid: Str,
    pub labels: Labels,
    /// `spec.nodeName`; empty while not scheduled.
    pub node: Str,
    /// `status.podIPs` (or `podIP`), in the order of the object.
    pub addresses: Vec<IpAddr>,
    pub named_ports: BTreeSet<NamedPort>,
    /// `spec.hostNetwork`: never a pod for policy (NP-31).
    pub host_network: bool,
    /// `status.phase` Succeeded or Failed: not a pod any more (NP-44).
    pub terminal: bool,
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

    /// Pods that take part in policy.
    pub fn endpoints(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(|p| p.is_endpoint())
    }

    /// The pod that has this address for policy. Two that claim one address: the one with the greater endpoint id, so
    /// that the answer does not depend on the order of events.
    pub fn pod_by_address(&self, address: IpAddr) -> Option<&Pod> {
        self.endpoints()
            .filter(|p| p.addresses.contains(&address))
            .max_by(|a, b| a.endpoint_id().cmp(&b.endpoint_id()))
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
