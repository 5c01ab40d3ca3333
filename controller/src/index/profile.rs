//! Profiles: what pods share that selectors can ask about.

use std::cell::OnceCell;
use std::iter;
use std::ops::{Index as At, IndexMut as AtMut};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use weir_api::convert::wire;
use weir_policy::group::Profile;
use weir_policy::ids::ProfileId;

use super::Index;
use super::counts::Counts;
use super::encode::{Encoder, Pieces};
use super::journal::ProfileBefore;
use super::labels::LabelIndex;
use super::set::Set;
use super::slots::Slots;
use super::table::Hasher;

#[derive(Debug)]
pub(super) struct ProfileRecord {
    pub(super) id: ProfileId,
    pub(super) content: Arc<Profile>,
    /// What agents are told of it: a frame.
    pub(super) frame: Box<[u8]>,
    pub(super) namespace: u32,
    pub(super) pods: Set,
    /// Nodes where its pods run, with the number of these.
    pub(super) local: Counts,
    /// Groups that hold it, sorted.
    pub(super) groups: SmallVec<[u32; 4]>,
    /// Frames of the profile and all its endpoints, cut into pieces.
    encoded: OnceCell<Pieces>,
}

impl ProfileRecord {
    fn before(&self) -> ProfileBefore {
        ProfileBefore { groups: self.groups.to_vec(), local: self.local.clone() }
    }
}

/// Profiles by number and content, and their labels inverted.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    slots: Slots<ProfileRecord>,
    pub(super) labels: LabelIndex,
}

impl Profiles {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &ProfileRecord)> {
        self.slots.iter()
    }

    /// All numbers are below this.
    pub(super) fn end(&self) -> u32 {
        self.slots.end()
    }
}

impl At<u32> for Profiles {
    type Output = ProfileRecord;

    fn index(&self, number: u32) -> &ProfileRecord {
        &self.slots[number]
    }
}

impl AtMut<u32> for Profiles {
    fn index_mut(&mut self, number: u32) -> &mut ProfileRecord {
        &mut self.slots[number]
    }
}

/// Half a hash of a profile, apart from its namespace.
fn half(hasher: &Hasher, profile: &Profile) -> u32 {
    hasher.half(&(&profile.labels, &profile.named_ports))
}

impl Index {
    /// The number of a profile of this namespace; a new one joins its groups.
    pub(super) fn profile_number(&mut self, namespace: u32, content: Profile) -> u32 {
        let half = half(&self.hasher, &content);
        let is = |number: u32| {
            let known = &self.profiles.slots[number].content;
            known.labels == content.labels && known.named_ports == content.named_ports
        };
        if let Some(number) = self.namespaces.of(namespace).contents.find(half, is) {
            return number;
        }
        let name = self.namespaces.of(namespace).name.clone();
        let content = Arc::new(self.names.profile(content, name));
        let frame = self.encoder.get_mut().write(|out| wire::frame_profile(out, &content)).into();
        let number = self.profiles.slots.insert(ProfileRecord {
            id: content.id(),
            frame,
            content: Arc::clone(&content),
            namespace,
            pods: Set::default(),
            local: Counts::default(),
            groups: SmallVec::new(),
            encoded: OnceCell::new(),
        });
        self.profiles.labels.insert(number, content.labels.iter());
        let ns = self.namespaces.of_mut(namespace);
        ns.profiles.insert(number);
        ns.contents.insert(half, number);
        let candidates = self.groups.anchors.of_profile(&ns.anchors, &ns.labels, &content.labels);
        for group in candidates {
            let ns = &self.namespaces.of(namespace).labels;
            let selector = &self.groups[group].selector;
            if selector.matches(&content.namespace, ns, &content.labels) {
                self.join(number, group);
            }
        }
        number
    }

    /// A profile and its endpoints as frames: what a node needs of a profile that its rules can meet.
    pub(super) fn profile_encoded(&self, number: u32, encoder: &mut Encoder) -> &[Bytes] {
        let record = &self.profiles[number];
        record.encoded.get_or_init(|| {
            let pods = record.pods.iter().filter_map(|n| self.pods[n].as_ref());
            let frames = iter::once(&*record.frame).chain(pods.map(|pod| pod.frame()));
            encoder.pieces(frames, |frame, out| out.extend_from_slice(frame))
        })
    }

    /// What [`Self::profile_encoded`] has made, if it has.
    pub(super) fn profile_if_encoded(&self, number: u32) -> Option<&[Bytes]> {
        self.profiles[number].encoded.get().map(|pieces| &**pieces)
    }

    /// A pod of a profile came, went or changed.
    pub(super) fn forget_encoded(&mut self, profile: u32) {
        self.profiles[profile].encoded.take();
    }

    pub(super) fn join(&mut self, profile: u32, group: u32) {
        let record = &mut self.profiles[profile];
        let Err(at) = record.groups.binary_search(&group) else {
            return;
        };
        self.journal.profile(profile, || record.before());
        record.groups.insert(at, group);
        let nodes: SmallVec<[u32; 8]> = record.local.numbers().collect();
        self.groups.change_members(group, |m| m.insert(profile));
        self.journal.member(group, profile, true);
        if self.groups[group].is_subject() {
            for node in nodes {
                self.active_add(group, node);
            }
        }
    }

    pub(super) fn leave(&mut self, profile: u32, group: u32) {
        let record = &mut self.profiles[profile];
        let Ok(at) = record.groups.binary_search(&group) else {
            return;
        };
        self.journal.profile(profile, || record.before());
        record.groups.remove(at);
        let nodes: SmallVec<[u32; 8]> = record.local.numbers().collect();
        self.groups.change_members(group, |m| m.remove(profile));
        self.journal.member(group, profile, false);
        if self.groups[group].is_subject() {
            for node in nodes {
                self.active_sub(group, node);
            }
        }
    }

    /// One more pod of this profile runs on a node.
    pub(super) fn local_add(&mut self, profile: u32, node: u32) {
        let record = &mut self.profiles[profile];
        if !record.local.contains(node) {
            self.journal.profile(profile, || record.before());
        }
        if record.local.add(node) {
            self.each_subject(profile, |index, group| index.active_add(group, node));
        }
    }

    /// One pod of this profile less runs on a node.
    pub(super) fn local_sub(&mut self, profile: u32, node: u32) {
        let record = &mut self.profiles[profile];
        if record.local.is_last(node) {
            self.journal.profile(profile, || record.before());
        }
        if record.local.sub(node) {
            self.each_subject(profile, |index, group| index.active_sub(group, node));
        }
    }

    fn each_subject(&mut self, profile: u32, mut f: impl FnMut(&mut Self, u32)) {
        let groups = std::mem::take(&mut self.profiles[profile].groups);
        for group in &groups {
            if self.groups[*group].is_subject() {
                f(self, *group);
            }
        }
        self.profiles[profile].groups = groups;
    }

    /// Profiles that the batch left without pods leave their groups: selectors pick what exists.
    pub(super) fn sweep_profiles(&mut self) {
        let candidates = std::mem::take(&mut self.journal.empty_profiles);
        for profile in &candidates {
            if self.profiles[*profile].pods.is_empty() {
                let groups = self.profiles[*profile].groups.clone();
                for group in groups {
                    self.leave(*profile, group);
                }
            }
        }
        self.journal.empty_profiles = candidates;
    }

    /// The end of a profile without pods.
    pub(super) fn free_profile_if_empty(&mut self, number: u32) {
        // a profile can be listed twice
        if !self.profiles.slots.holds(number) || !self.profiles[number].pods.is_empty() {
            return;
        }
        if let Some(record) = self.profiles.slots.remove(number) {
            self.profiles.labels.remove(number, record.content.labels.iter());
            let ns = self.namespaces.of_mut(record.namespace);
            ns.profiles.remove(number);
            ns.contents.remove(half(&self.hasher, &record.content), number);
            self.namespaces.forget_if_unused(record.namespace);
        }
    }
}
