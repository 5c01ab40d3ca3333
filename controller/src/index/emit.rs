//! What a batch changes for which nodes: the difference between the journal and what is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use smallvec::{SmallVec, smallvec};
use weir_api::convert::{change_from_bytes, frames, wire};
use weir_policy::state::{Change, NodeInfo};

use super::counts::Counts;
use super::journal::{GroupBefore, Journal, ProfileBefore};
use super::pod::{Place, PodRecord};
use super::reach::{Candidates, Parcels};
use super::table::Map;
use super::{Index, NodeSet};

/// What one delivery says: one change or many, never none.
#[derive(Clone, Debug)]
pub enum News {
    Change(Change),
    /// Frames of changes ([`weir_api::convert::frames`]): profiles and endpoints, which come and go by the hundred.
    Frames(Vec<Bytes>),
}

impl News {
    /// As it travels: frames of changes.
    pub fn to_frames(&self) -> SmallVec<[Bytes; 1]> {
        match self {
            Self::Change(change) => {
                let mut out = Vec::with_capacity(128);
                wire::frame(&mut out, change);
                smallvec![out.into()]
            }
            Self::Frames(pieces) => pieces.iter().cloned().collect(),
        }
    }

    /// As agents understand it.
    pub fn to_changes(&self) -> Vec<Change> {
        let read = |bytes: Bytes| match change_from_bytes(&bytes) {
            Ok(change) => change,
            Err(error) => unreachable!("the index encoded a change: {error}"),
        };
        self.to_frames().into_iter().flat_map(frames).map(read).collect()
    }
}

/// Equal changes have equal bytes.
impl PartialEq for News {
    fn eq(&self, other: &Self) -> bool {
        self.to_frames().concat() == other.to_frames().concat()
    }
}

/// Changes and the nodes they go to.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub news: News,
    /// Numbers of nodes ([`Index::node_name`]); never empty.
    pub nodes: NodeSet,
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
pub(super) struct Out {
    nodes: Vec<Delivery>,
    pub(super) profiles: Parcels,
    groups: Vec<Delivery>,
    pub(super) endpoints: Parcels,
    policies: Vec<Delivery>,
    gone_policies: Vec<Delivery>,
    pub(super) gone_endpoints: Parcels,
    gone_groups: Vec<Delivery>,
    pub(super) gone_profiles: Parcels,
}

fn send(to: &mut Vec<Delivery>, nodes: RoaringBitmap, change: impl FnOnce() -> Change) {
    if !nodes.is_empty() {
        to.push(Delivery { news: News::Change(change()), nodes });
    }
}

/// An endpoint at one end of a batch, where it is one.
type End<'a> = Option<(&'a Arc<PodRecord>, Place)>;

/// The state before the batch: from the journal where the batch touched it, as it is elsewhere.
pub(super) struct Before<'a> {
    index: &'a Index,
    journal: &'a Journal,
}

impl<'a> Before<'a> {
    /// Where the batch touched it.
    pub(super) fn profile(&self, profile: u32) -> Option<&'a ProfileBefore> {
        self.journal.profiles.get(&profile)
    }

    /// Where the batch touched it.
    pub(super) fn group(&self, group: u32) -> Option<&'a GroupBefore> {
        self.journal.groups.get(&group)
    }

    pub(super) fn peer(&self, group: u32) -> &'a Counts {
        self.group(group).map_or_else(|| &self.index.groups[group].peer, |before| &before.peer)
    }

    fn active(&self, group: u32) -> RoaringBitmap {
        match self.group(group) {
            Some(before) => before.active.clone(),
            None => self.index.groups[group].active.bitmap(),
        }
    }

    fn endpoint_nodes(&self, place: Place) -> RoaringBitmap {
        let groups = match self.profile(place.profile) {
            Some(before) => &before.groups[..],
            None => &self.index.profiles[place.profile].groups,
        };
        endpoint_nodes(groups.iter().map(|group| self.peer(*group)), place)
    }
}

/// Nodes that have an endpoint: its own, and those which reach its profile by a group.
fn endpoint_nodes<'a>(peers: impl Iterator<Item = &'a Counts>, place: Place) -> RoaringBitmap {
    let mut out = RoaringBitmap::new();
    for peer in peers {
        if out.is_empty() {
            out = peer.bitmap();
        } else {
            out.extend(peer.numbers());
        }
    }
    out.extend(place.node);
    out
}

impl Index {
    fn endpoint_nodes(&self, place: Place) -> RoaringBitmap {
        let groups = &self.profiles[place.profile].groups;
        endpoint_nodes(groups.iter().map(|group| &self.groups[*group].peer), place)
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
        self.emit_profiles(&before, candidates, &mut out);
        self.emit_pods(&before, &mut out);
        self.emit_policies(&before, &mut out);
        let Out { nodes, profiles, groups, endpoints, policies, .. } = out;
        let mut all = nodes;
        all.extend(profiles.end());
        all.extend(groups);
        all.extend(endpoints.end());
        all.extend(policies);
        all.extend(out.gone_policies);
        all.extend(out.gone_endpoints.end());
        all.extend(out.gone_groups);
        all.extend(out.gone_profiles.end());
        all
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
                Some(before) => (before.need.clone(), before.peer.bitmap()),
                None => (need.clone(), peer.clone()),
            };
            let fresh = &need - &was_needed;
            let gone = &was_needed - &need;
            let moved = self.journal.members.get(&group);

            // whoever begins or ceases to have it for a peer may see its members come or go
            let reached = &peer ^ &was_peer;
            let removed = moved.into_iter().flat_map(|moved| &moved.removed);
            candidates.add(record.members.iter().chain(removed), &reached);
            // and whoever keeps it as one sees those that come and go there
            if let Some(moved) = moved {
                let both = &moved.added | &moved.removed;
                candidates.add(&both, &(&peer | &was_peer));
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
        for (profile, was) in &self.journal.profiles {
            let local = self.profiles[*profile].local.bitmap() ^ was.local.bitmap();
            candidates.add([*profile], &local);
        }
        candidates
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
                let nodes: Vec<u32> = (&was_at - &is_at).iter().collect();
                out.gone_endpoints.write(&nodes, |out| wire::frame_endpoint_gone(out, pod.id()));
            }
            if let Some((pod, _)) = is {
                let to = if same { is_at - was_at } else { is_at };
                let nodes: Vec<u32> = to.iter().collect();
                out.endpoints.write(&nodes, |out| out.extend_from_slice(pod.frame()));
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

/// In the order of the numbers, so that equal histories give equal output.
fn sorted<T>(map: &Map<u32, T>) -> Vec<(u32, &T)> {
    let mut out: Vec<(u32, &T)> = map.iter().map(|(n, value)| (*n, value)).collect();
    out.sort_unstable_by_key(|(n, _)| *n);
    out
}
