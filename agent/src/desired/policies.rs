//! The policies of the node as rules that are stored once and counted (NP-7), and as isolation by subject.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weir_policy::ids::{ContentHash, GroupId, PolicyKey, RuleId, Str};
use weir_policy::port::Protocol;
use weir_policy::rule::{Direction, Policy, Rule};

use super::Dirty;
use crate::flows::ids::Ids;
use crate::flows::{MAX_BANKS, RULES_PER_PRIORITY};

/// A rule and everyone who wrote it.
pub(super) struct Entry {
    pub(super) rule: Rule,
    /// Policy and field path.
    pub(super) users: BTreeSet<(PolicyKey, Str)>,
}

#[derive(Default)]
pub(super) struct Policies {
    policies: BTreeMap<PolicyKey, Policy>,
    rules: BTreeMap<ContentHash, Entry>,
    by_group: HashMap<GroupId, BTreeSet<ContentHash>>,
    isolation: HashMap<(Direction, GroupId), BTreeSet<PolicyKey>>,
    named: BTreeMap<(Str, Protocol), usize>,
    /// Ids of rules and of isolation sets.
    pub(super) ids: Ids,
    /// Priorities that rules are spread over; a power of two.
    banks: u32,
}

impl Policies {
    /// Replaces one policy; `None` takes it away.
    pub(super) fn replace(&mut self, key: &PolicyKey, new: Option<&Policy>, dirty: &mut Dirty) {
        let old = match new {
            Some(p) => self.policies.insert(key.clone(), p.clone()),
            None => self.policies.remove(key),
        };
        // what stays the same is added before it is removed, so that nothing moves
        if let Some(p) = new {
            for r in &p.rules {
                self.add_rule(&r.rule, (key.clone(), Str::clone(&r.path)), dirty);
            }
        }
        if let Some(old) = &old {
            for r in &old.rules {
                let content = r.rule.content();
                let kept = new
                    .is_some_and(|p| p.rules.iter().any(|n| n.path == r.path && n.rule == r.rule));
                if !kept {
                    self.remove_rule(content, &(key.clone(), Str::clone(&r.path)), dirty);
                }
            }
        }
        for direction in Direction::BOTH {
            let place = |p: &Policy| p.isolates.contains(&direction).then_some(p.subject);
            let (before, after) = (old.as_ref().and_then(place), new.and_then(place));
            if before == after {
                continue;
            }
            if let Some(group) = before {
                if let Some(set) = self.isolation.get_mut(&(direction, group)) {
                    set.remove(key);
                    if set.is_empty() {
                        self.isolation.remove(&(direction, group));
                    }
                }
                dirty.groups.insert(group);
            }
            if let Some(group) = after {
                self.isolation.entry((direction, group)).or_default().insert(key.clone());
                dirty.groups.insert(group);
            }
        }
    }

    fn add_rule(&mut self, rule: &Rule, user: (PolicyKey, Str), dirty: &mut Dirty) {
        let content = rule.content();
        if let Some(entry) = self.rules.get_mut(&content) {
            entry.users.insert(user);
            return;
        }
        self.rules.insert(content, Entry { rule: rule.clone(), users: BTreeSet::from([user]) });
        dirty.rules.insert(content);
        self.renamed(content, true, dirty);
        for group in Self::groups(rule) {
            self.by_group.entry(group).or_default().insert(content);
        }
        for (name, protocol) in rule.services.named() {
            *self.named.entry((Str::clone(name), protocol)).or_default() += 1;
        }
    }

    fn remove_rule(&mut self, content: ContentHash, user: &(PolicyKey, Str), dirty: &mut Dirty) {
        let Some(entry) = self.rules.get_mut(&content) else {
            return;
        };
        entry.users.remove(user);
        if !entry.users.is_empty() {
            return;
        }
        let Some(entry) = self.rules.remove(&content) else {
            return;
        };
        dirty.rules.insert(content);
        self.renamed(content, false, dirty);
        for group in Self::groups(&entry.rule) {
            if let Some(set) = self.by_group.get_mut(&group) {
                set.remove(&content);
                if set.is_empty() {
                    self.by_group.remove(&group);
                }
            }
        }
        for (name, protocol) in entry.rule.services.named() {
            let key = (Str::clone(name), protocol);
            if let Some(n) = self.named.get_mut(&key) {
                *n -= 1;
                if *n == 0 {
                    self.named.remove(&key);
                }
            }
        }
    }

    /// Takes or frees an id; rules that a clash renames are dirty, and so are all classes if it renames a drop.
    fn renamed(&mut self, content: ContentHash, add: bool, dirty: &mut Dirty) {
        let renamed = if add { self.ids.add(content) } else { self.ids.remove(&content) };
        for other in renamed {
            if self.rules.contains_key(&other) {
                dirty.rules.insert(other);
            } else if other != content {
                dirty.groups.extend(self.isolation.keys().map(|(_, group)| *group));
            }
        }
    }

    fn groups(rule: &Rule) -> BTreeSet<GroupId> {
        let mut groups = rule.peer_groups();
        groups.insert(rule.subject);
        groups
    }

    pub(super) fn rule(&self, content: &ContentHash) -> Option<&Entry> {
        self.rules.get(content)
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = (&ContentHash, &Entry)> {
        self.rules.iter()
    }

    /// What the rules of a policy are stored under.
    pub(super) fn rules_in(&self, policy: &PolicyKey) -> BTreeSet<ContentHash> {
        let rules = self.policies.get(policy).into_iter().flat_map(|p| &p.rules);
        rules.map(|r| r.rule.content()).collect()
    }

    /// The rules that name a group as subject or peer.
    pub(super) fn rules_of(&self, group: GroupId) -> impl Iterator<Item = ContentHash> {
        self.by_group.get(&group).into_iter().flatten().copied()
    }

    /// The policies that isolate an endpoint of these groups.
    pub(super) fn isolating(
        &self,
        direction: Direction,
        groups: &BTreeSet<GroupId>,
    ) -> BTreeSet<PolicyKey> {
        groups
            .iter()
            .filter_map(|g| self.isolation.get(&(direction, *g)))
            .flatten()
            .cloned()
            .collect()
    }

    /// The named ports that some rule asks for.
    pub(super) fn named_ports(&self) -> BTreeSet<(Str, Protocol)> {
        self.named.keys().cloned().collect()
    }

    /// Decides over how many priorities rules are spread: the fewest with no more than [`RULES_PER_PRIORITY`] rules at
    /// one. A function of the rules alone. True if it changed.
    pub(super) fn spread_over_banks(&mut self) -> bool {
        let old = self.banks;
        self.banks = 1;
        while self.banks < MAX_BANKS && self.rules.len() > RULES_PER_PRIORITY {
            let mut counts: HashMap<(Direction, u32), usize> = HashMap::new();
            for (content, entry) in &self.rules {
                let bank = self.ids.get(content).map_or(0, |id| id.0 % self.banks);
                *counts.entry((entry.rule.direction, bank)).or_default() += 1;
            }
            if counts.values().all(|n| *n <= RULES_PER_PRIORITY) {
                break;
            }
            self.banks *= 2;
        }
        self.banks != old && old != 0
    }

    pub(super) fn bank(&self, id: RuleId) -> u16 {
        u16::try_from(id.0 % self.banks.max(1)).unwrap_or(0)
    }
}
