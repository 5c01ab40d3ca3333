//! Address groups: a selector and the profiles it picks.

use std::cell::OnceCell;
use std::ops::{Index as At, IndexMut as AtMut};

use bytes::Bytes;
use roaring::RoaringBitmap;
use smallvec::SmallVec;
use weir_api::convert::wire;
use weir_policy::group::Group;
use weir_policy::ids::{GroupId, ProfileId};
use weir_policy::labels::{NamespaceScope, Selector};

use super::Index;
use super::anchors::Anchors;
use super::counts::Counts;
use super::encode::Encoder;
use super::journal::GroupBefore;
use super::set::Set;
use super::slots::Slots;
use super::table::Table;

/// How the policies of a subject group name another group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// Its members are needed, their addresses are not.
    Members,
    /// As a peer: with addresses.
    Peer,
}

/// One subject group naming one group: how many of its policies do, and how many as a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Edge {
    pub(super) policies: u32,
    pub(super) as_peer: u32,
}

impl Edge {
    pub(super) fn naming(self) -> Option<Naming> {
        match self {
            Self { as_peer: 1.., .. } => Some(Naming::Peer),
            Self { policies: 1.., .. } => Some(Naming::Members),
            Self { .. } => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct GroupRecord {
    pub(super) id: GroupId,
    pub(super) selector: Selector,
    /// Profile numbers.
    pub(super) members: Set,
    /// How many policies name it in whatever way.
    pub(super) uses: u32,
    /// Policies of which it is the subject.
    pub(super) policies: Set,
    /// As a subject: the groups that its policies name, sorted by number.
    pub(super) edges: SmallVec<[(u32, Edge); 1]>,
    /// As a subject: nodes where members' pods run, with the number of these members.
    pub(super) active: Counts,
    /// Nodes where other subject groups that name it are active, with the number of these: without and with addresses.
    pub(super) named: Counts,
    pub(super) peer: Counts,
    /// As a snapshot has it: a frame.
    encoded: OnceCell<Bytes>,
    /// The frames of its policies, where there are many.
    pub(super) policies_encoded: OnceCell<Box<[Bytes]>>,
}

impl GroupRecord {
    pub(super) fn is_subject(&self) -> bool {
        !self.policies.is_empty()
    }

    /// Nodes that know this group.
    pub(super) fn need(&self) -> RoaringBitmap {
        let mut out = self.active.bitmap();
        for more in [&self.named, &self.peer] {
            if !more.is_empty() {
                out |= more.bitmap();
            }
        }
        out
    }

    pub(super) fn is_needed(&self) -> bool {
        !self.active.is_empty() || !self.named.is_empty() || self.has_peers()
    }

    /// Some node needs the addresses of its members.
    pub(super) fn has_peers(&self) -> bool {
        !self.peer.is_empty()
    }

    pub(super) fn before(&self) -> GroupBefore {
        GroupBefore { active: self.active.bitmap(), need: self.need(), peer: self.peer.clone() }
    }
}

/// Groups by number and id.
#[derive(Debug, Default)]
pub(super) struct Groups {
    slots: Slots<GroupRecord>,
    /// Those whose selectors name no namespace, by id.
    numbers: Table,
    /// How many edges all groups have.
    pub(super) edges: usize,
    pub(super) anchors: Anchors,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &GroupRecord)> {
        self.slots.iter()
    }

    /// All numbers are below this.
    pub(super) fn end(&self) -> u32 {
        self.slots.end()
    }

    pub(super) fn change_members<T>(&mut self, group: u32, change: impl FnOnce(&mut Set) -> T) {
        let record = &mut self.slots[group];
        change(&mut record.members);
        record.encoded.take();
    }
}

impl At<u32> for Groups {
    type Output = GroupRecord;

    fn index(&self, number: u32) -> &GroupRecord {
        &self.slots[number]
    }
}

impl AtMut<u32> for Groups {
    fn index_mut(&mut self, number: u32) -> &mut GroupRecord {
        &mut self.slots[number]
    }
}

/// Half of an id, which is a hash already, and of a kind that nobody makes collide cheaply.
fn id_half(id: GroupId) -> u32 {
    let [a, b, c, d, ..] = id.0.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl Index {
    /// The number of the group that a selector makes; a new one finds its members.
    pub(super) fn group_number(&mut self, id: GroupId, selector: &Selector) -> u32 {
        let is = |number: u32| self.groups.slots[number].id == id;
        let namespace = match &selector.namespaces {
            NamespaceScope::Name(name) => Some(self.namespaces.mention(name)),
            NamespaceScope::Labels(_) => None,
        };
        let known = match namespace {
            Some(ns) => self.namespaces.of(ns).groups.find(id_half(id), is),
            None => self.groups.numbers.find(&id, is),
        };
        if let Some(number) = known {
            return number;
        }
        let scope = self.namespaces.in_scope(&selector.namespaces);
        let labels = |number: u32| &self.profiles[number].content.labels;
        let members = self.profiles.labels.select(scope.as_deref(), &selector.pods, labels);
        let name = namespace.map(|ns| self.namespaces.of(ns).name.clone());
        let selector = self.names.selector(selector, name);
        let local = namespace.map(|ns| &mut self.namespaces.of_mut(ns).anchors);
        self.groups.anchors.insert(self.groups.slots.next(), &selector, local);
        let number = self.groups.slots.insert(GroupRecord {
            id,
            selector,
            members: Set::default(),
            uses: 0,
            policies: Set::default(),
            edges: SmallVec::new(),
            active: Counts::default(),
            named: Counts::default(),
            peer: Counts::default(),
            encoded: OnceCell::new(),
            policies_encoded: OnceCell::new(),
        });
        match namespace {
            Some(ns) => self.namespaces.of_mut(ns).groups.insert(id_half(id), number),
            None => self.groups.numbers.insert(&id, number),
        }
        // Its members need no journal of their own: no node knew the group, so that it changes nothing about before.
        self.journal.group(number, GroupBefore::default);
        for profile in &members {
            let groups = &mut self.profiles[profile].groups;
            if let Err(at) = groups.binary_search(&number) {
                groups.insert(at, number);
            }
        }
        self.groups[number].members = members;
        number
    }

    /// The end of a group that no policy names.
    pub(super) fn drop_group_if_unused(&mut self, number: u32) {
        // a group can be listed twice, and be in use again
        if !self.groups.slots.holds(number) || self.groups[number].uses > 0 {
            return;
        }
        if let Some(record) = self.groups.slots.remove(number) {
            for profile in &record.members {
                let groups = &mut self.profiles[profile].groups;
                if let Ok(at) = groups.binary_search(&number) {
                    groups.remove(at);
                }
            }
            let namespace = match &record.selector.namespaces {
                NamespaceScope::Name(name) => self.namespaces.find(name),
                NamespaceScope::Labels(_) => None,
            };
            let local = namespace.map(|ns| &mut self.namespaces.of_mut(ns).anchors);
            self.groups.anchors.remove(number, &record.selector, local);
            match namespace {
                Some(ns) => {
                    self.namespaces.of_mut(ns).groups.remove(id_half(record.id), number);
                    self.namespaces.forget_if_unused(ns);
                }
                None => self.groups.numbers.remove(&record.id, number),
            }
        }
    }

    /// A group as agents know it.
    pub(super) fn group(&self, number: u32) -> Group {
        let record = &self.groups[number];
        Group {
            id: record.id,
            selector: record.selector.to_string().into(),
            members: record.members.iter().map(|p| self.profiles[p].id).collect(),
        }
    }

    /// A group as a frame.
    pub(super) fn group_encoded(&self, number: u32, encoder: &mut Encoder) -> Bytes {
        let record = &self.groups[number];
        let encode = || {
            let mut members: SmallVec<[ProfileId; 32]> =
                record.members.iter().map(|p| self.profiles[p].id).collect();
            members.sort_unstable();
            let selector = &record.selector;
            encoder.encode(|out| wire::frame_group(out, record.id, selector, members.into_iter()))
        };
        record.encoded.get_or_init(encode).clone()
    }
}
