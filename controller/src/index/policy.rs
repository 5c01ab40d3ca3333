//! Policies: what they hold on to.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use weir_policy::ids::{PolicyKey, Str};
use weir_policy::rule::{Policy, PolicyObject};

use super::Index;
use super::group::Naming;

#[derive(Debug)]
pub(super) struct PolicyRecord {
    pub(super) policy: Arc<Policy>,
    pub(super) manifest: Arc<str>,
    /// The group of its subjects; absent for a policy that does not define it, which then applies to nobody.
    pub(super) subject: Option<u32>,
    /// The other groups it names, and the subject group where that is a peer as well.
    named: Vec<(u32, Naming)>,
    pub(super) encoded: OnceLock<Bytes>,
}

/// What nodes had of a policy before a batch.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) policy: Arc<Policy>,
    pub(super) subject: Option<u32>,
}

impl Index {
    pub(super) fn apply_policy(&mut self, object: PolicyObject, manifest: Arc<str>) {
        let key = object.policy.key.clone();
        let known = self.policy_numbers.get(&key).copied();
        if let Some(old) = known.and_then(|n| self.policies[n].as_mut())
            && *old.policy == object.policy
        {
            // groups are hashes of their selectors, so that the selectors are equal too
            old.manifest = manifest;
            return;
        }
        let number = known.unwrap_or_else(|| {
            let number = self.policies.insert(None);
            self.policy_numbers.insert(key, number);
            number
        });
        let record = self.hold(number, object, manifest);
        self.set_policy(number, Some(record));
    }

    pub(super) fn delete_policy(&mut self, key: &PolicyKey, uid: &Str) {
        let Some(number) = self.policy_numbers.get(key).copied() else {
            return;
        };
        let Some(old) = &self.policies[number] else {
            return;
        };
        // the deletion of an earlier policy of this name
        if !uid.is_empty() && !old.policy.uid.is_empty() && old.policy.uid != *uid {
            return;
        }
        self.journal.gone_policies.push((number, key.clone()));
        self.set_policy(number, None);
    }

    /// Takes hold of all groups that a policy names. This comes before the old version lets go, so that what both name
    /// never goes.
    fn hold(&mut self, number: u32, object: PolicyObject, manifest: Arc<str>) -> PolicyRecord {
        let PolicyObject { policy, selectors, .. } = object;
        let peers: BTreeSet<_> = policy.peer_groups();
        let mut subject = None;
        let mut named = Vec::new();
        // without its subject a policy applies nowhere, and needs nothing
        if selectors.contains_key(&policy.subject) {
            for (id, selector) in &selectors {
                let group = self.group_number(*id, selector);
                self.groups[group].uses += 1;
                let is_peer = peers.contains(id);
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
            if first {
                self.start_subject(subject);
            }
            for (group, naming) in &named {
                self.edge_add(subject, *group, *naming);
            }
        }
        PolicyRecord {
            policy: Arc::new(policy),
            manifest,
            subject,
            named,
            encoded: OnceLock::new(),
        }
    }

    fn set_policy(&mut self, number: u32, new: Option<PolicyRecord>) {
        self.changed = true;
        let now = new.as_ref().and_then(|p| p.subject);
        let old = std::mem::replace(&mut self.policies[number], new);
        self.journal.policy(number, || {
            old.as_ref().map(|p| Served { policy: Arc::clone(&p.policy), subject: p.subject })
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
