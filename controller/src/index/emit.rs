//! What a batch changes for which nodes: the difference between the journal and what is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use weir_api::convert::{change_from_bytes, change_to_bytes, wire};
use weir_policy::state::{Change, NodeInfo};

use super::group::GroupRecord;
use super::journal::{GroupBefore, Journal};
use super::pod::{Place, PodRecord};
use super::table::Map;
use super::{Index, NodeSet};

/// What one delivery says. Endpoints are told of by the hundred, and their bytes are there already.
#[derive(Clone, Debug)]
pub enum News {
    Change(Change),
    /// [`Change::Endpoint`]
    Endpoint(Arc<PodRecord>),
    /// [`Change::RemoveEndpoint`]
    RemoveEndpoint(Arc<PodRecord>),
}

impl News {
    /// As agents understand it.
    pub fn to_change(&self) -> Cow<'_, Change> {
        match self {
            Self::Change(change) => Cow::Borrowed(change),
            Self::Endpoint(pod) => match change_from_bytes(pod.change()) {
                Ok(change) => Cow::Owned(change),
                Err(error) => unreachable!("the index encoded an endpoint: {error}"),
            },
            Self::RemoveEndpoint(pod) => Cow::Owned(Change::RemoveEndpoint(pod.endpoint_id())),
        }
    }

    /// As it travels.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Change(change) => change_to_bytes(change),
            Self::Endpoint(pod) => Bytes::copy_from_slice(pod.change()),
            Self::RemoveEndpoint(pod) => wire::endpoint_gone(pod.id()),
        }
    }
}

/// Equal changes have equal bytes.
impl PartialEq for News {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

/// One change and the nodes it goes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub news: News,
    /// Numbers of nodes ([`Index::node_name`]); never empty. Often the same for many deliveries.
    pub nodes: Arc<NodeSet>,
}

/// What one batch of events changes. A node that no delivery names has nothing to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    pub revision: u64,
    /// In dependency order: what others refer to comes first and goes last.
    pub deliveries: Vec<Delivery>,
}

/// Deliveries by kind; joined in dependency order.
#[derive(Default)]
struct Out {
    nodes: Vec<Delivery>,
    profiles: Vec<Delivery>,
    groups: Vec<Delivery>,
    endpoints: Vec<Delivery>,
    policies: Vec<Delivery>,
    gone_policies: Vec<Delivery>,
    gone_endpoints: Vec<Delivery>,
    gone_groups: Vec<Delivery>,
    gone_profiles: Vec<Delivery>,
}

fn send(to: &mut Vec<Delivery>, nodes: RoaringBitmap, change: impl FnOnce() -> Change) {
    if !nodes.is_empty() {
        to.push(Delivery { news: News::Change(change()), nodes: Arc::new(nodes) });
    }
}

fn send_pod(to: &mut Vec<Delivery>, nodes: RoaringBitmap, news: impl FnOnce() -> News) {
    if !nodes.is_empty() {
        to.push(Delivery { news: news(), nodes: Arc::new(nodes) });
    }
}

/// An endpoint at one end of a batch, where it is one.
type End<'a> = Option<(&'a Arc<PodRecord>, Place)>;

/// As [`send_pod`], to all of `nodes` but the pod's own.
fn send_elsewhere(
    to: &mut Vec<Delivery>,
    nodes: &Arc<NodeSet>,
    place: Place,
    news: impl FnOnce() -> News,
) {
    if nodes.is_empty() {
        return;
    }
    let mut nodes = Arc::clone(nodes);
    if let Some(own) = place.node
        && nodes.contains(own)
    {
        Arc::make_mut(&mut nodes).remove(own);
    }
    if !nodes.is_empty() {
        to.push(Delivery { news: news(), nodes });
    }
}

/// For each profile the nodes for which something may have changed.
#[derive(Default)]
struct Candidates {
    /// About the profile itself.
    known: Map<u32, RoaringBitmap>,
    /// About the addresses of its pods.
    reached: Map<u32, RoaringBitmap>,
}

/// The state before the batch: from the journal where the batch touched it, as it is elsewhere.
struct Before<'a> {
    index: &'a Index,
    journal: &'a Journal,
}

impl<'a> Before<'a> {
    fn profile_groups(&self, profile: u32) -> &'a [u32] {
        match self.journal.profiles.get(&profile) {
            Some(before) => &before.groups,
            None => &self.index.profiles[profile].groups,
        }
    }

    fn is_local(&self, profile: u32, within: &RoaringBitmap, out: &mut RoaringBitmap) {
        match self.journal.profiles.get(&profile) {
            Some(before) => *out |= &before.local & within,
            None => self.index.profiles[profile].local.meet(within, out),
        }
    }

    fn group(&self, group: u32) -> Result<&'a GroupBefore, &'a GroupRecord> {
        let journal = self.journal.groups.get(&group);
        journal.ok_or_else(|| &self.index.groups[group])
    }

    fn active(&self, group: u32) -> RoaringBitmap {
        match self.group(group) {
            Ok(before) => before.active.clone(),
            Err(record) => record.active.bitmap(),
        }
    }

    /// Those of `within` that knew a profile.
    fn known(&self, profile: u32, within: &RoaringBitmap) -> RoaringBitmap {
        let mut out = RoaringBitmap::new();
        self.is_local(profile, within, &mut out);
        out |= self.reached(profile, Some(within));
        out
    }

    /// Nodes that knew the addresses of a profile's pods because of a group; all, or those of `within`.
    fn reached(&self, profile: u32, within: Option<&RoaringBitmap>) -> RoaringBitmap {
        let mut out = RoaringBitmap::new();
        for group in self.profile_groups(profile) {
            match (self.group(*group), within) {
                (Ok(before), Some(within)) => out |= &before.peer & within,
                (Ok(before), None) => out |= &before.peer,
                (Err(record), Some(within)) => record.peer.meet(within, &mut out),
                (Err(record), None) => out.extend(record.peer.numbers()),
            }
        }
        out
    }

    fn endpoint_nodes(&self, place: Place) -> RoaringBitmap {
        let mut out = self.reached(place.profile, None);
        out.extend(place.node);
        out
    }
}

impl Index {
    /// Those of `within` that know a profile.
    fn known(&self, profile: u32, within: &RoaringBitmap) -> RoaringBitmap {
        let record = &self.profiles[profile];
        let mut out = RoaringBitmap::new();
        record.local.meet(within, &mut out);
        out |= self.reached(profile, Some(within));
        out
    }

    /// Nodes that know the addresses of a profile's pods because of a group; all, or those of `within`.
    fn reached(&self, profile: u32, within: Option<&RoaringBitmap>) -> RoaringBitmap {
        let mut out = RoaringBitmap::new();
        for group in &self.profiles[profile].groups {
            let peer = &self.groups[*group].peer;
            match within {
                Some(within) => peer.meet(within, &mut out),
                None => out.extend(peer.numbers()),
            }
        }
        out
    }

    fn endpoint_nodes(&self, place: Place) -> RoaringBitmap {
        let mut out = self.reached(place.profile, None);
        out.extend(place.node);
        out
    }

    /// The node itself as its agent knows it.
    pub(super) fn node_info(&self, number: u32) -> NodeInfo {
        let record = &self.nodes[number];
        NodeInfo {
            name: record.name.clone(),
            addresses: record.object.as_ref().map(|n| n.addresses.clone()).unwrap_or_default(),
        }
    }

    /// What the journal says has changed, for whom.
    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        if !self.journal.is_on() {
            return Vec::new();
        }
        let before = Before { index: self, journal: &self.journal };
        let mut out = Out::default();
        self.emit_nodes(&mut out);
        let candidates = self.emit_groups(&before, &mut out);
        self.emit_profiles(&before, &candidates.known, &mut out);
        self.emit_pods(&before, &mut out);
        self.emit_other_endpoints(&before, &candidates.reached, &mut out);
        self.emit_policies(&before, &mut out);
        [
            out.nodes,
            out.profiles,
            out.groups,
            out.endpoints,
            out.policies,
            out.gone_policies,
            out.gone_endpoints,
            out.gone_groups,
            out.gone_profiles,
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn emit_nodes(&self, out: &mut Out) {
        for (node, addresses) in sorted(&self.journal.nodes) {
            let info = self.node_info(node);
            if info.addresses != *addresses {
                send(&mut out.nodes, RoaringBitmap::from([node]), || Change::Node(info));
            }
        }
    }

    fn emit_groups(&self, before: &Before<'_>, out: &mut Out) -> Candidates {
        let mut candidates = Candidates::default();
        let mut touched: Vec<u32> = self.journal.groups.keys().copied().collect();
        touched.extend(self.journal.members.keys());
        touched.sort_unstable();
        touched.dedup();
        for group in touched {
            let record = &self.groups[group];
            let (need, peer) = (record.need(), record.peer.bitmap());
            let (was_needed, was_peer) = match before.group(group) {
                Ok(before) => (before.need.clone(), before.peer.clone()),
                Err(_) => (need.clone(), peer.clone()),
            };
            let fresh = &need - &was_needed;
            let gone = &was_needed - &need;
            let moved = self.journal.members.get(&group);

            // whoever begins or ceases to have it for a peer may see its members come or go
            let reached = &peer ^ &was_peer;
            if !reached.is_empty() {
                let mut members = record.members.bitmap();
                if let Some(moved) = moved {
                    members |= &moved.removed;
                }
                note(&mut candidates.reached, &members, &reached);
            }
            // and whoever keeps it as one sees those that come and go there
            if let Some(moved) = moved {
                let both = &moved.added | &moved.removed;
                note(&mut candidates.reached, &both, &(&peer | &was_peer));
                let ids = |set: &RoaringBitmap| -> BTreeSet<_> {
                    set.iter().map(|p| self.profiles[p].id).collect()
                };
                if !both.is_empty() {
                    send(&mut out.groups, &need & &was_needed, || Change::GroupMembers {
                        id: record.id,
                        add: ids(&moved.added),
                        remove: ids(&moved.removed),
                    });
                }
            }
            send(&mut out.groups, fresh, || Change::Group(self.group(group)));
            send(&mut out.gone_groups, gone, || Change::RemoveGroup(record.id));
        }
        candidates.known.clone_from(&candidates.reached);
        for (profile, was) in &self.journal.profiles {
            let local = self.profiles[*profile].local.bitmap() ^ &was.local;
            note(&mut candidates.known, &RoaringBitmap::from([*profile]), &local);
        }
        candidates
    }

    fn emit_profiles(
        &self,
        before: &Before<'_>,
        candidates: &Map<u32, RoaringBitmap>,
        out: &mut Out,
    ) {
        for (profile, nodes) in sorted(candidates) {
            let record = &self.profiles[profile];
            let (was, is) = (before.known(profile, nodes), self.known(profile, nodes));
            send(&mut out.profiles, &is - &was, || Change::Profile((*record.content).clone()));
            send(&mut out.gone_profiles, was - is, || Change::RemoveProfile(record.id));
        }
    }

    /// Pods that the batch touched.
    fn emit_pods(&self, before: &Before<'_>, out: &mut Out) {
        // By identity: an object can change its name, and a name its object.
        let mut ends: BTreeMap<&str, [End<'_>; 2]> = BTreeMap::new();
        for (pod, was) in sorted(&self.journal.pods) {
            for (side, pod) in [was.as_ref(), self.pods[pod].as_ref()].into_iter().enumerate() {
                if let Some(pod) = pod
                    && let Some(place) = pod.place
                {
                    ends.entry(pod.id()).or_default()[side] = Some((pod, place));
                }
            }
        }
        for [was, is] in ends.into_values() {
            let was_at = was.map(|(_, place)| before.endpoint_nodes(place)).unwrap_or_default();
            let is_at = is.map(|(_, place)| self.endpoint_nodes(place)).unwrap_or_default();
            let same = was.map(|(pod, _)| pod.change()) == is.map(|(pod, _)| pod.change());
            if let Some((pod, _)) = was {
                let news = || News::RemoveEndpoint(Arc::clone(pod));
                send_pod(&mut out.gone_endpoints, &was_at - &is_at, news);
            }
            if let Some((pod, _)) = is {
                let to = if same { is_at - was_at } else { is_at };
                send_pod(&mut out.endpoints, to, || News::Endpoint(Arc::clone(pod)));
            }
        }
    }

    /// Pods that the batch did not touch, of profiles that come into reach of nodes or leave it.
    fn emit_other_endpoints(
        &self,
        before: &Before<'_>,
        candidates: &Map<u32, RoaringBitmap>,
        out: &mut Out,
    ) {
        for (profile, nodes) in sorted(candidates) {
            let was = before.reached(profile, Some(nodes));
            let is = self.reached(profile, Some(nodes));
            let (fresh, gone) = (Arc::new(&is - &was), Arc::new(was - is));
            if fresh.is_empty() && gone.is_empty() {
                continue;
            }
            for number in &self.profiles[profile].pods {
                let Some(pod) = &self.pods[number] else {
                    continue;
                };
                let Some(place) = pod.place else {
                    continue;
                };
                if self.journal.pods.contains_key(&number) {
                    continue;
                }
                // its own node has it in any case
                let pod = || Arc::clone(pod);
                send_elsewhere(&mut out.endpoints, &fresh, place, || News::Endpoint(pod()));
                let news = || News::RemoveEndpoint(pod());
                send_elsewhere(&mut out.gone_endpoints, &gone, place, news);
            }
        }
    }

    fn emit_policies(&self, before: &Before<'_>, out: &mut Out) {
        for (number, was) in sorted(&self.journal.policies) {
            let is = self.policies[number].as_ref();
            let was_at = was.as_ref().and_then(|p| p.subject).map(|g| before.active(g));
            let was_at = was_at.unwrap_or_default();
            let is_at = is.and_then(|p| p.subject).map(|g| self.groups[g].active.bitmap());
            let is_at = is_at.unwrap_or_default();
            let same = was.as_ref().map(|p| &p.encoded) == is.map(|p| &p.encoded);
            let gone = &was_at - &is_at;
            if let Some(is) = is {
                let to = if same { is_at - was_at } else { is_at };
                send(&mut out.policies, to, || Change::Policy(is.policy()));
            }
            if let Some(was) = was {
                send(&mut out.gone_policies, gone, || Change::RemovePolicy(was.key()));
            }
        }
        for (group, was) in sorted(&self.journal.groups) {
            let is_active = self.groups[group].active.bitmap();
            let (fresh, gone) = (&is_active - &was.active, &was.active - &is_active);
            if fresh.is_empty() && gone.is_empty() {
                continue;
            }
            for number in &self.groups[group].policies {
                let Some(record) = &self.policies[number] else {
                    continue;
                };
                if self.journal.policies.contains_key(&number) {
                    continue;
                }
                send(&mut out.policies, fresh.clone(), || Change::Policy(record.policy()));
                let change = || Change::RemovePolicy(record.key.clone());
                send(&mut out.gone_policies, gone.clone(), change);
            }
        }
    }
}

fn note(to: &mut Map<u32, RoaringBitmap>, profiles: &RoaringBitmap, nodes: &RoaringBitmap) {
    if !nodes.is_empty() {
        for profile in profiles {
            *to.entry(profile).or_default() |= nodes;
        }
    }
}

/// In the order of the numbers, so that equal histories give equal output.
fn sorted<T>(map: &Map<u32, T>) -> Vec<(u32, &T)> {
    let mut out: Vec<(u32, &T)> = map.iter().map(|(n, value)| (*n, value)).collect();
    out.sort_unstable_by_key(|(n, _)| *n);
    out
}
