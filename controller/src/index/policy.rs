//! Policies: what they hold on to.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use weir_api::convert::{change_from_bytes, frames, wire};
use weir_policy::ids::{GroupId, PolicyKey, Str};
use weir_policy::rule::{Peers, Policy, PolicyObject};
use weir_policy::state::Change;

use super::Index;
use super::encode::Encoder;
use super::group::Naming;
use super::table::Hasher;

#[derive(Debug)]
pub(super) struct PolicyRecord {
    pub(super) key: PolicyKey,
    pub(super) generation: i64,
    /// The policy as it travels: a frame. It is the smallest form, and equal policies have equal frames.
    pub(super) encoded: Bytes,
    pub(super) manifest: Arc<str>,
    /// The group of its subjects; absent for a policy that does not define it, which then applies to nobody.
    pub(super) subject: Option<u32>,
    /// The other groups it names, and the subject group where that is a peer as well.
    named: SmallVec<[(u32, Naming); 2]>,
}

impl PolicyRecord {
    pub(super) fn policy(&self) -> Policy {
        decode(&self.encoded)
    }
}

fn decode(encoded: &Bytes) -> Policy {
    let frame = frames(encoded.clone()).next().unwrap_or_default();
    match change_from_bytes(&frame) {
        Ok(Change::Policy(policy)) => policy,
        other => unreachable!("the index encoded a policy: {other:?}"),
    }
}

/// The groups that a policy names as peers, sorted. As [`Policy::peer_groups`].
fn peer_groups(policy: &Policy) -> SmallVec<[GroupId; 8]> {
    let mut out = SmallVec::new();
    for rule in &policy.rules {
        if let Peers::Of { groups, .. } = &rule.rule.peers {
            out.extend(groups.iter().copied());
        }
        out.extend(rule.rule.universe());
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// Half a hash of a policy's key, apart from its namespace.
fn half(hasher: &Hasher, key: &PolicyKey) -> u32 {
    hasher.half(&(key.kind, &key.name))
}

/// Up to this many policies of one subject group go as they are; more are put together once for all nodes.
pub(super) const SINGLE: usize = 4;

/// What nodes had of a policy before a batch.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) encoded: Bytes,
    pub(super) subject: Option<u32>,
}

impl Served {
    pub(super) fn key(&self) -> PolicyKey {
        decode(&self.encoded).key
    }
}

impl Index {
    /// The frames of a subject group's policies.
    pub(super) fn policies_encoded(&self, group: u32, encoder: &mut Encoder, out: &mut Vec<Bytes>) {
        let record = &self.groups[group];
        let policies = || record.policies.iter().filter_map(|n| self.policies[n].as_ref());
        if record.policies.len() <= SINGLE {
            out.extend(policies().map(|p| p.encoded.clone()));
            return;
        }
        let pieces = record.policies_encoded.get_or_init(|| {
            let pieces =
                encoder.pieces(policies(), |policy, out| out.extend_from_slice(&policy.encoded));
            pieces.into_vec().into()
        });
        out.extend_from_slice(pieces);
    }

    pub(super) fn apply_policy(&mut self, object: PolicyObject, manifest: Arc<str>) {
        let known = self.find_policy(&object.policy.key);
        let encoder = self.encoder.get_mut();
        let encoded = encoder.write(|out| wire::frame_policy(out, &object.policy));
        if let Some(old) = known.and_then(|n| self.policies[n].as_mut())
            && *old.encoded == *encoded
        {
            // groups are hashes of their selectors, so that the selectors are equal too
            old.manifest = manifest;
            return;
        }
        let encoded = encoder.keep();
        let key = &object.policy.key;
        let number = known.unwrap_or_else(|| {
            let number = self.policies.insert(None);
            let namespace = self.namespaces.mention(&key.namespace);
            let half = half(&self.hasher, key);
            self.namespaces.of_mut(namespace).policies.insert(half, number);
            number
        });
        let record = self.hold(number, object, encoded, manifest);
        self.set_policy(number, Some(record));
    }

    /// The number of a policy. One that went in this batch still has it.
    pub(super) fn find_policy(&self, key: &PolicyKey) -> Option<u32> {
        let namespace = self.namespaces.find(&key.namespace)?;
        let half = half(&self.hasher, key);
        self.namespaces.of(namespace).policies.find(half, |n| match &self.policies[n] {
            Some(record) => record.key == *key,
            None => self.journal.gone_policies.iter().any(|(gone, k)| *gone == n && k == key),
        })
    }

    /// Frees the number of a policy that went.
    pub(super) fn free_policy_if_gone(&mut self, number: u32, key: &PolicyKey) {
        // a policy can be listed twice, and one of its name can have come
        if !self.policies.holds(number) || self.policies[number].is_some() {
            return;
        }
        self.policies.remove(number);
        if let Some(namespace) = self.namespaces.find(&key.namespace) {
            let half = half(&self.hasher, key);
            self.namespaces.of_mut(namespace).policies.remove(half, number);
            self.namespaces.forget_if_unused(namespace);
        }
    }

    pub(super) fn delete_policy(&mut self, key: &PolicyKey, uid: &Str) {
        let Some(number) = self.find_policy(key) else {
            return;
        };
        let Some(old) = &self.policies[number] else {
            return;
        };
        // the deletion of an earlier policy of this name
        if !uid.is_empty() {
            let known = old.policy().uid;
            if !known.is_empty() && known != *uid {
                return;
            }
        }
        self.journal.gone_policies.push((number, key.clone()));
        self.set_policy(number, None);
    }

    /// Takes hold of all groups that a policy names. This comes before the old version lets go, so that what both name
    /// never goes.
    fn hold(
        &mut self,
        number: u32,
        object: PolicyObject,
        encoded: Bytes,
        manifest: Arc<str>,
    ) -> PolicyRecord {
        let PolicyObject { policy, selectors, .. } = object;
        let peers = peer_groups(&policy);
        let mut subject = None;
        let mut named = SmallVec::new();
        // without its subject a policy applies nowhere, and needs nothing
        if selectors.contains_key(&policy.subject) {
            for (id, selector) in &selectors {
                let group = self.group_number(*id, selector);
                self.groups[group].uses += 1;
                let is_peer = peers.binary_search(id).is_ok();
                if *id == policy.subject {
                    subject = Some(group);
                }
                match (is_peer, *id == policy.subject) {
                    (true, _) => named.push((group, Naming::Peer)),
                    (false, false) => named.push((group, Naming::Members)),
                    (false, true) => {}
                }
            }
        }
        if let Some(subject) = subject {
            let first = !self.groups[subject].is_subject();
            self.groups[subject].policies.insert(number);
            self.groups[subject].policies_encoded.take();
            if first {
                self.start_subject(subject);
            }
            for (group, naming) in &named {
                self.edge_add(subject, *group, *naming);
            }
        }
        let Policy { mut key, generation, .. } = policy;
        if let Some(namespace) = self.namespaces.find(&key.namespace) {
            key.namespace = self.namespaces.of(namespace).name.clone();
        }
        key.name = self.names.intern(&key.name);
        PolicyRecord { key, generation, encoded, manifest, subject, named }
    }

    fn set_policy(&mut self, number: u32, new: Option<PolicyRecord>) {
        self.changed = true;
        let now = new.as_ref().and_then(|p| p.subject);
        let old = std::mem::replace(&mut self.policies[number], new);
        self.journal.policy(number, || {
            old.as_ref().map(|p| Served { encoded: p.encoded.clone(), subject: p.subject })
        });
        let Some(PolicyRecord { subject: Some(subject), named, .. }) = old else {
            return;
        };
        for (group, naming) in named {
            self.edge_sub(subject, group, naming);
            if group != subject {
                self.let_go(group);
            }
        }
        self.groups[subject].policies_encoded.take();
        if now != Some(subject) {
            self.groups[subject].policies.remove(number);
            if !self.groups[subject].is_subject() {
                self.end_subject(subject);
            }
        }
        self.let_go(subject);
    }

    fn let_go(&mut self, group: u32) {
        self.groups[group].uses -= 1;
        if self.groups[group].uses == 0 {
            self.journal.unused_groups.push(group);
        }
    }
}
