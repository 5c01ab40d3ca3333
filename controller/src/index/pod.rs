//! Pods, and the endpoints that some of them are.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use weir_policy::claim::Claim;
use weir_policy::group::Profile;
use weir_policy::ids::{EndpointId, ProfileId, Str};
use weir_policy::state::Endpoint;
use weir_policy::world::{Kind, Pod, PodKey};

use super::Index;

/// Where a pod stands among the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) profile: u32,
    /// Absent while the pod is not scheduled: then it is nobody's, and still a peer.
    pub(super) node: Option<u32>,
}

/// A pod; replaced, never changed, so that readers elsewhere keep what they hold.
#[derive(Debug)]
pub struct PodRecord {
    pub(super) kind: Kind,
    pub(super) namespace: Str,
    pub(super) name: Str,
    pub(super) uid: Str,
    pub(super) node: Str,
    pub(super) addresses: Box<[IpAddr]>,
    pub(super) mac: Option<[u8; 6]>,
    /// Those of its addresses that another pod has for policy.
    pub(super) lost: Vec<IpAddr>,
    pub(super) content: Arc<Profile>,
    pub(super) host_network: bool,
    pub(super) terminal: bool,
    pub(super) terminating: bool,
    pub(super) created: Option<i64>,
    /// Absent for pods that have no part in policy.
    pub(super) place: Option<Place>,
    pub(super) encoded: OnceLock<Bytes>,
}

impl PodRecord {
    /// The pod as it came.
    pub fn pod(&self) -> Pod {
        Pod {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            labels: self.content.labels.clone(),
            node: self.node.clone(),
            addresses: self.addresses.to_vec(),
            mac: self.mac,
            named_ports: self.content.named_ports.clone(),
            host_network: self.host_network,
            terminal: self.terminal,
            terminating: self.terminating,
            created: self.created,
        }
    }

    fn is(&self, pod: &Pod) -> bool {
        self.kind == pod.kind
            && self.uid == pod.uid
            && self.mac == pod.mac
            && self.node == pod.node
            && *self.addresses == *pod.addresses
            && self.host_network == pod.host_network
            && self.terminal == pod.terminal
            && self.terminating == pod.terminating
            && self.created == pod.created
            && self.content.labels == pod.labels
            && self.content.named_ports == pod.named_ports
    }

    pub(super) fn endpoint_id(&self) -> EndpointId {
        if self.uid.is_empty() {
            EndpointId(format!("{}/{}", self.namespace, self.name).into())
        } else {
            EndpointId(self.uid.clone())
        }
    }

    /// What agents are told of it: with the addresses that are its own (NP-45).
    pub(super) fn endpoint(&self, profile: ProfileId) -> Endpoint {
        let own = self.addresses.iter().filter(|a| !self.lost.contains(a));
        Endpoint {
            id: self.endpoint_id(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            node: self.node.clone(),
            addresses: own.copied().collect(),
            mac: self.mac,
            profile,
        }
    }

    /// The same pod after it lost and won addresses.
    pub(super) fn with_lost(&self, lost: Vec<IpAddr>) -> Self {
        Self {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            node: self.node.clone(),
            addresses: self.addresses.clone(),
            mac: self.mac,
            lost,
            content: Arc::clone(&self.content),
            host_network: self.host_network,
            terminal: self.terminal,
            terminating: self.terminating,
            created: self.created,
            place: self.place,
            encoded: OnceLock::new(),
        }
    }

    /// What it has to show for an address that others claim as well.
    pub(super) fn claim(&self) -> Claim {
        Claim {
            is_pod: self.kind == Kind::Pod,
            stays: !self.terminating,
            created: self.created,
            id: self.endpoint_id(),
            key: (self.namespace.clone(), self.name.clone()),
        }
    }

    pub(super) fn title(&self) -> String {
        format!("{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }

    /// The addresses that it claims.
    pub(super) fn claims(&self) -> impl Iterator<Item = IpAddr> {
        let is_endpoint = self.place.is_some();
        self.addresses.iter().copied().filter(move |_| is_endpoint)
    }
}

/// A deletion that names a UID is not about a later object of the same name.
fn is_meant(uid: &Str, known: &Str) -> bool {
    uid.is_empty() || known.is_empty() || uid == known
}

impl Index {
    pub(super) fn apply_pod(&mut self, pod: Pod) {
        let key = (self.names.intern(&pod.namespace), pod.name.clone());
        let known = self.pod_numbers.get(&key).copied();
        if let Some(old) = known.and_then(|n| self.pods[n].as_ref()) {
            match (old.kind, pod.kind) {
                // a workload waits until there is no pod of its name (NP-50)
                (Kind::Pod, Kind::Workload) => {
                    if self.shadowed.get(&key) != Some(&pod) {
                        self.changed = true;
                        self.shadowed.insert(key, pod);
                    }
                    return;
                }
                (Kind::Workload, Kind::Pod) => {
                    self.shadowed.insert(key.clone(), old.pod());
                }
                _ if old.is(&pod) => return,
                _ => {}
            }
        }
        self.put_pod(key, pod);
    }

    /// Puts a pod in place of whatever has its name.
    fn put_pod(&mut self, key: PodKey, pod: Pod) {
        let known = self.pod_numbers.get(&key).copied();
        let (namespace, name) = key.clone();
        let is_endpoint = pod.is_endpoint();
        let node = (!pod.node.is_empty()).then(|| self.node_number(&pod.node));
        let profile = Profile {
            namespace: namespace.clone(),
            labels: pod.labels,
            named_ports: pod.named_ports,
        };
        let (content, place) = if is_endpoint {
            let number = self.profile_number(profile);
            let content = Arc::clone(&self.profiles[number].content);
            let place = Place { profile: number, node };
            (content, Some(place))
        } else {
            (Arc::new(self.names.profile(profile)), None)
        };
        let record = PodRecord {
            kind: pod.kind,
            namespace,
            name,
            uid: pod.uid,
            node: node.map_or_else(|| pod.node.clone(), |n| self.node_name(n).clone()),
            addresses: pod.addresses.into(),
            mac: pod.mac,
            lost: Vec::new(),
            content,
            host_network: pod.host_network,
            terminal: pod.terminal,
            terminating: pod.terminating,
            created: pod.created,
            place,
            encoded: OnceLock::new(),
        };
        let number = known.unwrap_or_else(|| {
            let number = self.pods.insert(None);
            self.pod_numbers.insert(key, number);
            number
        });
        self.set_pod(number, Some(Arc::new(record)));
    }

    pub(super) fn delete_pod(&mut self, kind: Kind, key: &PodKey, uid: &Str) {
        if kind == Kind::Workload
            && let Some(waiting) = self.shadowed.get(key)
        {
            if is_meant(uid, &waiting.uid) {
                self.shadowed.remove(key);
                self.changed = true;
            }
            return;
        }
        let Some(number) = self.pod_numbers.get(key).copied() else {
            return;
        };
        let Some(old) = &self.pods[number] else {
            return;
        };
        if old.kind != kind || !is_meant(uid, &old.uid) {
            return;
        }
        if let Some(workload) = self.shadowed.remove(key) {
            // its turn has come: in place of the pod
            self.put_pod(key.clone(), workload);
            return;
        }
        self.journal.gone_pods.push((number, key.clone()));
        self.set_pod(number, None);
    }

    fn set_pod(&mut self, number: u32, new: Option<Arc<PodRecord>>) {
        self.changed = true;
        let place = new.as_ref().and_then(|p| p.place);
        let old = std::mem::replace(&mut self.pods[number], new);
        self.journal.pod(number, old.as_ref());
        self.change_claims(number, old.as_deref());
        let before = old.and_then(|p| p.place);
        if before == place {
            return;
        }
        // the new place first: what both need then never goes
        if let Some(Place { profile, node }) = place {
            self.profiles[profile].pods.insert(number);
            if let Some(node) = node {
                self.nodes[node].pods.insert(number);
                self.local_add(profile, node);
            }
        }
        if let Some(Place { profile, node }) = before {
            if place.is_none_or(|p| p.profile != profile) {
                let pods = &mut self.profiles[profile].pods;
                pods.remove(number);
                if pods.is_empty() {
                    self.journal.empty_profiles.push(profile);
                }
            }
            if let Some(node) = node {
                if place.is_none_or(|p| p.node != Some(node)) {
                    self.nodes[node].pods.remove(number);
                }
                self.local_sub(profile, node);
            }
        }
    }
}
