//! Namespaces: labels, and the profiles that live there.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use roaring::RoaringBitmap;
use weir_policy::ids::Str;
use weir_policy::labels::{
    LabelSelector, Labels, METADATA_NAME, NamespaceScope, Requirement, Selector,
};

use super::Index;
use super::anchors::Local;
use super::labels::LabelIndex;
use super::set::Set;
use super::slots::Slots;
use super::table::{Entries, Table};

#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) name: Str,
    /// As declared; absent for one that only pods mention.
    pub(super) declared: Option<Arc<Labels>>,
    /// As selectors see it: with its name label (NP-3).
    pub(super) labels: Labels,
    pub(super) profiles: Set,
    // What is looked for by names is looked for here: tables of everything in a cluster would be met at random, and events
    // come namespace by namespace.
    /// Profiles by labels and named ports.
    pub(super) contents: Entries,
    /// Pods and workloads by name, endpoints or not.
    pub(super) pods: Entries,
    /// Policies by kind and name.
    pub(super) policies: Entries,
    /// Groups whose selectors name it, by id.
    pub(super) groups: Entries,
    /// The same, by what their selectors hang on.
    pub(super) anchors: Local,
}

impl Namespace {
    /// Nothing is in it or names it, and it was not declared.
    fn is_unused(&self) -> bool {
        self.declared.is_none()
            && self.profiles.is_empty()
            && self.pods.is_empty()
            && self.policies.is_empty()
            && self.groups.is_empty()
    }
}

/// Namespaces by number and name, and their labels inverted.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    slots: Slots<Namespace>,
    numbers: Table,
    /// The one that was asked for last, which mostly is the next as well.
    last: Cell<u32>,
    /// The key of the label that every namespace has.
    name_key: Option<Str>,
    /// All labels but the names: those lead to numbers already.
    labels: LabelIndex,
}

/// What [`Namespaces::labels`] holds of a namespace's labels.
fn searched(labels: &Labels) -> impl Iterator<Item = (&Str, &Str)> {
    labels.iter().filter(|(key, _)| ***key != *METADATA_NAME)
}

impl Namespaces {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.slots.iter().map(|(_, ns)| ns)
    }

    pub(super) fn of(&self, number: u32) -> &Namespace {
        &self.slots[number]
    }

    pub(super) fn of_mut(&mut self, number: u32) -> &mut Namespace {
        &mut self.slots[number]
    }

    /// The number of a namespace, if it is known.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let is = |number: u32| *self.slots[number].name == *name;
        let last = self.last.get();
        if self.slots.holds(last) && is(last) {
            return Some(last);
        }
        let number = self.numbers.find(&name, is)?;
        self.last.set(number);
        Some(number)
    }

    /// The number of a namespace, which exists from then on.
    pub(super) fn mention(&mut self, name: &Str) -> u32 {
        if let Some(number) = self.find(name) {
            return number;
        }
        let labels = self.effective(name, None);
        let number = self.slots.insert(Namespace {
            name: name.clone(),
            declared: None,
            labels: labels.clone(),
            profiles: Set::default(),
            contents: Entries::default(),
            pods: Entries::default(),
            policies: Entries::default(),
            groups: Entries::default(),
            anchors: Local::default(),
        });
        self.labels.insert(number, searched(&labels));
        self.numbers.insert(name, number);
        self.last.set(number);
        number
    }

    /// Forgets a namespace that is neither declared nor mentioned any more.
    pub(super) fn forget_if_unused(&mut self, number: u32) {
        if !self.slots[number].is_unused() {
            return;
        }
        if let Some(ns) = self.slots.remove(number) {
            self.labels.remove(number, searched(&ns.labels));
            self.numbers.remove(&ns.name, number);
        }
    }

    /// The profiles in scope of a selector; absent = all.
    pub(super) fn in_scope(&self, scope: &NamespaceScope) -> Option<Cow<'_, Set>> {
        match scope {
            NamespaceScope::Name(name) => Some(match self.find(name) {
                Some(number) => Cow::Borrowed(&self.slots[number].profiles),
                None => Cow::Owned(Set::default()),
            }),
            NamespaceScope::Labels(s) if s.is_everything() => None,
            NamespaceScope::Labels(s) => {
                let picked = self.picked(s);
                let profiles: RoaringBitmap =
                    picked.iter().flat_map(|number| &self.slots[number].profiles).collect();
                Some(Cow::Owned(profiles.iter().collect()))
            }
        }
    }

    /// The namespaces that a selector picks.
    fn picked(&self, selector: &LabelSelector) -> Set {
        let labels = |number: u32| &self.slots[number].labels;
        let picks = |number: &u32| selector.matches(labels(*number));
        let of_name = |r: &&Requirement| **r.key() == *METADATA_NAME;
        let by_name = selector.requirements().filter(of_name).find_map(|r| match r {
            Requirement::In(_, names) => Some(names),
            _ => None,
        });
        if let Some(names) = by_name {
            return names.iter().filter_map(|name| self.find(name)).filter(picks).collect();
        }
        if !selector.requirements().any(|r| of_name(&r)) {
            return self.labels.select(None, selector, labels);
        }
        let rest = selector.requirements().filter(|r| !of_name(r)).cloned();
        let found = self.labels.select(None, &LabelSelector::new(rest), labels);
        found.iter().filter(picks).collect()
    }

    fn effective(&mut self, name: &Str, declared: Option<&Labels>) -> Labels {
        let key = self.name_key.get_or_insert_with(|| METADATA_NAME.into());
        let mut labels = declared.cloned().unwrap_or_default();
        labels.insert(Str::clone(key), name.clone());
        labels
    }
}

impl Index {
    pub(super) fn apply_namespace(&mut self, name: Str, labels: Labels) {
        let number = self.namespaces.mention(&name);
        if self.namespaces.of(number).declared.as_deref() == Some(&labels) {
            return;
        }
        let labels = self.names.labels(&labels);
        self.declare(number, Some(Arc::new(labels)));
    }

    pub(super) fn delete_namespace(&mut self, name: &Str) {
        let Some(number) = self.namespaces.find(name) else {
            return;
        };
        if self.namespaces.of(number).declared.is_some() {
            self.declare(number, None);
            self.namespaces.forget_if_unused(number);
        }
    }

    /// Gives a namespace other labels; the profiles there change their groups by that.
    fn declare(&mut self, number: u32, declared: Option<Arc<Labels>>) {
        self.changed = true;
        let name = self.namespaces.of(number).name.clone();
        let new = self.namespaces.effective(&name, declared.as_deref());
        let ns = &mut self.namespaces.slots[number];
        ns.declared = declared;
        let old = std::mem::replace(&mut ns.labels, new.clone());
        if old == new {
            return;
        }
        self.namespaces.labels.remove(number, searched(&old));
        self.namespaces.labels.insert(number, searched(&new));
        let profiles = self.namespaces.of(number).profiles.clone();
        if profiles.is_empty() {
            return;
        }
        let mut groups = self.groups.anchors.of_namespace(&old);
        groups.extend(self.groups.anchors.of_namespace(&new));
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            let selector: &Selector = &self.groups[group].selector;
            let NamespaceScope::Labels(scope) = &selector.namespaces else {
                continue;
            };
            let (was, is) = (scope.matches(&old), scope.matches(&new));
            if was == is {
                continue;
            }
            let labels = |number: u32| &self.profiles[number].content.labels;
            let moved = self.profiles.labels.select(Some(&profiles), &selector.pods, labels);
            for profile in &moved {
                if is {
                    self.join(profile, group);
                } else {
                    self.leave(profile, group);
                }
            }
        }
    }
}
