//! What a batch touches, with the values from before.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use roaring::RoaringBitmap;
use weir_policy::ids::PolicyKey;
use weir_policy::world::{Node, PodKey};

use super::counts::Counts;
use super::pod::PodRecord;
use super::policy::Served;
use super::table::Map;

/// The nodes of a group before the batch.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupBefore {
    /// Where its own policies apply.
    pub(super) active: RoaringBitmap,
    /// Where it is known at all.
    pub(super) need: RoaringBitmap,
    /// Where its members' addresses are known.
    pub(super) peer: Counts,
}

/// Profiles that came to a group or left it.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) added: RoaringBitmap,
    pub(super) removed: RoaringBitmap,
}

/// A profile before the batch.
#[derive(Debug, Default)]
pub(super) struct ProfileBefore {
    pub(super) groups: Vec<u32>,
    /// Nodes where its pods ran.
    pub(super) local: Counts,
}

/// The journal of one batch. While it is off, as before the source has synced, it keeps only what has to be swept.
#[derive(Debug, Default)]
pub(super) struct Journal {
    on: bool,
    pub(super) groups: Map<u32, GroupBefore>,
    pub(super) members: Map<u32, Members>,
    pub(super) profiles: Map<u32, ProfileBefore>,
    pub(super) pods: Map<u32, Option<Arc<PodRecord>>>,
    pub(super) policies: Map<u32, Option<Served>>,
    pub(super) nodes: Map<u32, BTreeSet<IpAddr>>,
    pub(super) gone_pods: Vec<(u32, PodKey)>,
    pub(super) gone_policies: Vec<(u32, PolicyKey)>,
    pub(super) unused_groups: Vec<u32>,
    pub(super) empty_profiles: Vec<u32>,
}

impl Journal {
    pub(super) fn set_on(&mut self, on: bool) {
        self.on = on;
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Each of these takes the first value only: that is the one from before the batch.
    pub(super) fn group(&mut self, group: u32, before: impl FnOnce() -> GroupBefore) {
        if self.on {
            self.groups.entry(group).or_insert_with(before);
        }
    }

    pub(super) fn profile(&mut self, profile: u32, before: impl FnOnce() -> ProfileBefore) {
        if self.on {
            self.profiles.entry(profile).or_insert_with(before);
        }
    }

    pub(super) fn pod(&mut self, pod: u32, before: Option<&Arc<PodRecord>>) {
        if self.on {
            self.pods.entry(pod).or_insert_with(|| before.cloned());
        }
    }

    pub(super) fn policy(&mut self, policy: u32, before: impl FnOnce() -> Option<Served>) {
        if self.on {
            self.policies.entry(policy).or_insert_with(before);
        }
    }

    pub(super) fn node(&mut self, node: u32, before: Option<&Node>) {
        if self.on {
            self.nodes
                .entry(node)
                .or_insert_with(|| before.map(|n| n.addresses.clone()).unwrap_or_default());
        }
    }

    pub(super) fn member(&mut self, group: u32, profile: u32, joins: bool) {
        if !self.on {
            return;
        }
        let delta = self.members.entry(group).or_default();
        let (to, from) = if joins {
            (&mut delta.added, &mut delta.removed)
        } else {
            (&mut delta.removed, &mut delta.added)
        };
        if !from.remove(profile) {
            to.insert(profile);
        }
    }
}
