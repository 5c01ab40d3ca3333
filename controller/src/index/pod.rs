//! Pods, and the endpoints that some of them are.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use weir_api::convert::wire::{EndpointFrame, EndpointParts};
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
    /// What agents are told of it, if it has a place. Its name, its UID and its node are here and nowhere else.
    frame: EndpointFrame,
    /// Absent: agents know it by its name.
    has_uid: bool,
    pub(super) addresses: SmallVec<[IpAddr; 1]>,
    pub(super) mac: Option<[u8; 6]>,
    /// Those of its addresses that another pod has for policy.
    pub(super) lost: Box<[IpAddr]>,
    pub(super) content: Arc<Profile>,
    pub(super) host_network: bool,
    pub(super) terminal: bool,
    pub(super) terminating: bool,
    pub(super) created: Option<i64>,
    /// Absent for pods that have no part in policy.
    pub(super) place: Option<Place>,
}

impl PodRecord {
    /// The pod as it came.
    pub fn pod(&self) -> Pod {
        Pod {
            kind: self.kind,
            namespace: self.content.namespace.clone(),
            name: self.name().into(),
            uid: self.uid().into(),
            labels: self.content.labels.clone(),
            node: self.node().into(),
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
            && *self.uid() == *pod.uid
            && self.mac == pod.mac
            && *self.node() == *pod.node
            && *self.addresses == *pod.addresses
            && self.host_network == pod.host_network
            && self.terminal == pod.terminal
            && self.terminating == pod.terminating
            && self.created == pod.created
            && self.content.labels == pod.labels
            && self.content.named_ports == pod.named_ports
    }

    pub(super) fn name(&self) -> &str {
        self.frame.name()
    }

    /// Empty while it is not scheduled.
    fn node(&self) -> &str {
        self.frame.node()
    }

    /// Empty where it has none.
    pub(super) fn uid(&self) -> &str {
        if self.has_uid { self.frame.id() } else { "" }
    }

    /// What agents know it by.
    pub(super) fn id(&self) -> &str {
        self.frame.id()
    }

    pub(super) fn endpoint_id(&self) -> EndpointId {
        EndpointId(self.frame.id().into())
    }

    /// What agents are told of it: with the addresses that are its own (NP-45).
    pub(super) fn endpoint(&self, profile: ProfileId) -> Endpoint {
        let own = self.addresses.iter().filter(|a| !self.lost.contains(a));
        Endpoint {
            id: self.endpoint_id(),
            namespace: self.content.namespace.clone(),
            name: self.name().into(),
            node: self.node().into(),
            addresses: own.copied().collect(),
            mac: self.mac,
            profile,
        }
    }

    /// What agents are told of it, as [`weir_policy::state::Change::Endpoint`].
    pub(super) fn change(&self) -> &[u8] {
        self.frame.change()
    }

    /// The same as a frame.
    pub(super) fn frame(&self) -> &[u8] {
        self.frame.bytes()
    }

    /// The same pod after it lost and won addresses.
    pub(super) fn with_lost(&self, lost: Box<[IpAddr]>, profile: ProfileId) -> Self {
        let own = self.addresses.iter().filter(|a| !lost.contains(a));
        Self {
            kind: self.kind,
            frame: EndpointFrame::new(&EndpointParts {
                id: self.frame.id(),
                namespace: &self.content.namespace,
                name: self.name(),
                node: self.node(),
                addresses: &in_order(own.copied()),
                mac: self.mac,
                profile,
            }),
            has_uid: self.has_uid,
            addresses: self.addresses.clone(),
            mac: self.mac,
            lost,
            content: Arc::clone(&self.content),
            host_network: self.host_network,
            terminal: self.terminal,
            terminating: self.terminating,
            created: self.created,
            place: self.place,
        }
    }

    /// What it has to show for an address that others claim as well.
    pub(super) fn claim(&self) -> Claim {
        Claim {
            is_pod: self.kind == Kind::Pod,
            stays: !self.terminating,
            created: self.created,
            id: self.endpoint_id(),
            key: (self.content.namespace.clone(), self.name().into()),
        }
    }

    pub(super) fn title(&self) -> String {
        format!("{} {}/{}", self.kind.as_str(), self.content.namespace, self.name())
    }

    /// The addresses that it claims.
    pub(super) fn claims(&self) -> impl Iterator<Item = IpAddr> {
        let is_endpoint = self.place.is_some();
        self.addresses.iter().copied().filter(move |_| is_endpoint)
    }
}

/// Each once, as agents are told of them.
fn in_order(addresses: impl Iterator<Item = IpAddr>) -> SmallVec<[IpAddr; 4]> {
    let mut out: SmallVec<[IpAddr; 4]> = addresses.collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// A deletion that names a UID is not about a later object of the same name.
fn is_meant(uid: &str, known: &str) -> bool {
    uid.is_empty() || known.is_empty() || uid == known
}

impl Index {
    pub(super) fn apply_pod(&mut self, pod: Pod) {
        let key = (pod.namespace.clone(), pod.name.clone());
        let known = self.find_pod(&key);
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
        self.put_pod(key, known, pod);
    }

    /// Puts a pod in place of whatever has its name.
    fn put_pod(&mut self, key: PodKey, known: Option<u32>, pod: Pod) {
        let is_endpoint = pod.is_endpoint();
        let node = (!pod.node.is_empty()).then(|| self.node_number(&pod.node));
        let profile =
            Profile { namespace: pod.namespace, labels: pod.labels, named_ports: pod.named_ports };
        let namespace = self.namespaces.mention(&key.0);
        let (content, place, id) = if is_endpoint {
            let number = self.profile_number(namespace, profile);
            let record = &self.profiles[number];
            (Arc::clone(&record.content), Some(Place { profile: number, node }), record.id)
        } else {
            // it has a frame as others have, which goes nowhere
            let name = self.namespaces.of(namespace).name.clone();
            (Arc::new(self.names.profile(profile, name)), None, ProfileId(0))
        };
        let named;
        let frame = EndpointFrame::new(&EndpointParts {
            id: if pod.uid.is_empty() {
                named = format!("{}/{}", key.0, key.1);
                &named
            } else {
                &pod.uid
            },
            namespace: &key.0,
            name: &key.1,
            node: &pod.node,
            addresses: &in_order(pod.addresses.iter().copied()),
            mac: pod.mac,
            profile: id,
        });
        let record = PodRecord {
            kind: pod.kind,
            frame,
            has_uid: !pod.uid.is_empty(),
            addresses: pod.addresses.into_iter().collect(),
            mac: pod.mac,
            lost: Box::default(),
            content,
            host_network: pod.host_network,
            terminal: pod.terminal,
            terminating: pod.terminating,
            created: pod.created,
            place,
        };
        let number = known.unwrap_or_else(|| {
            let number = self.pods.insert(None);
            let half = self.hasher.half(&key.1);
            self.namespaces.of_mut(namespace).pods.insert(half, number);
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
        let Some(number) = self.find_pod(key) else {
            return;
        };
        let Some(old) = &self.pods[number] else {
            return;
        };
        if old.kind != kind || !is_meant(uid, old.uid()) {
            return;
        }
        if let Some(workload) = self.shadowed.remove(key) {
            // its turn has come: in place of the pod
            self.put_pod(key.clone(), Some(number), workload);
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
        for place in [before, place].into_iter().flatten() {
            self.forget_encoded(place.profile);
        }
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

    /// The number of a pod. One that went in this batch still has it.
    fn find_pod(&self, key: &PodKey) -> Option<u32> {
        let namespace = self.namespaces.find(&key.0)?;
        let half = self.hasher.half(&key.1);
        self.namespaces.of(namespace).pods.find(half, |n| match &self.pods[n] {
            Some(pod) => *pod.name() == *key.1,
            None => self.journal.gone_pods.iter().any(|(gone, k)| *gone == n && k == key),
        })
    }

    /// Frees the number of a pod that went.
    pub(super) fn free_pod_if_gone(&mut self, number: u32, key: &PodKey) {
        // a pod can be listed twice, and one of its name can have come
        if !self.pods.holds(number) || self.pods[number].is_some() {
            return;
        }
        self.pods.remove(number);
        if let Some(namespace) = self.namespaces.find(&key.0) {
            let half = self.hasher.half(&key.1);
            self.namespaces.of_mut(namespace).pods.remove(half, number);
            self.namespaces.forget_if_unused(namespace);
        }
    }
}
