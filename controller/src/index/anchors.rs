//! Which selectors could pick a given profile, without trying them all.
//!
//! Every selector hangs on one thing its namespaces must have and one thing its pods must have. Whatever it picks has
//! both, so that a profile's own namespace and labels lead to every candidate. Things are kept as hashes only: two that
//! share one make a candidate more, and the selector has the last word.

use std::hash::{BuildHasher, Hash};

use hashbrown::DefaultHashBuilder;
use smallvec::SmallVec;
use weir_policy::ids::Str;
use weir_policy::labels::{LabelSelector, Labels, NamespaceScope, Requirement, Selector};

use super::table::Map;

/// What a label set must have.
#[derive(Hash)]
enum LabelAnchor<'a> {
    Value(&'a str, &'a str),
    Key(&'a str),
    Nothing,
}

/// What a namespace must be or have.
#[derive(Hash)]
enum ScopeAnchor<'a> {
    Name(&'a str),
    Labels(LabelAnchor<'a>),
}

/// One hash of each kind of anchor, for all that a selector hangs on or that a label set answers to.
type Hashes = SmallVec<[u64; 16]>;

/// Groups that hang on namespaces of one anchor.
#[derive(Debug, Default)]
struct Scope {
    /// How many there are, once for each anchor of their pods.
    groups: u32,
    /// Which they are, where the anchor is about labels.
    by_labels: Vec<u32>,
}

/// Numbers of groups by the anchors of their selectors.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    hasher: DefaultHashBuilder,
    scopes: Map<u64, Scope>,
    groups: Map<u64, SmallVec<[u32; 2]>>,
}

impl Anchors {
    fn hash(&self, anchor: &impl Hash) -> u64 {
        self.hasher.hash_one(anchor)
    }

    pub(super) fn insert(&mut self, group: u32, selector: &Selector) {
        let pods = self.anchors(&selector.pods);
        let by_labels = matches!(selector.namespaces, NamespaceScope::Labels(_));
        for scope in self.scopes_of(&selector.namespaces) {
            let entry = self.scopes.entry(scope).or_default();
            entry.groups += 1;
            if by_labels {
                entry.by_labels.push(group);
            }
            for pod in &pods {
                self.groups.entry(both(scope, *pod)).or_default().push(group);
            }
        }
    }

    pub(super) fn remove(&mut self, group: u32, selector: &Selector) {
        let pods = self.anchors(&selector.pods);
        for scope in self.scopes_of(&selector.namespaces) {
            if let Some(entry) = self.scopes.get_mut(&scope) {
                entry.groups -= 1;
                entry.by_labels.retain(|g| *g != group);
                if entry.groups == 0 {
                    self.scopes.remove(&scope);
                }
            }
            for pod in &pods {
                let key = both(scope, *pod);
                if let Some(groups) = self.groups.get_mut(&key) {
                    groups.retain(|g| *g != group);
                    if groups.is_empty() {
                        self.groups.remove(&key);
                    }
                }
            }
        }
    }

    /// Groups that could hold a profile of these labels in this namespace; the selector has the last word.
    pub(super) fn of_profile(&self, namespace: &Str, scope: &Labels, pod: &Labels) -> Vec<u32> {
        let name = self.hash(&ScopeAnchor::Name(namespace));
        let mut scopes: Hashes =
            carried(scope).map(|a| self.hash(&ScopeAnchor::Labels(a))).collect();
        scopes.push(name);
        // most anchors are nobody's
        scopes.retain(|s| self.scopes.contains_key(s));
        if scopes.is_empty() {
            return Vec::new();
        }
        let mut out = Vec::new();
        for pod in carried(pod).map(|a| self.hash(&a)) {
            for scope in &scopes {
                out.extend(self.groups.get(&both(*scope, pod)).into_iter().flatten());
            }
        }
        distinct(out)
    }

    /// Groups whose namespace selector could pick a namespace of these labels.
    pub(super) fn of_namespace(&self, labels: &Labels) -> Vec<u32> {
        let scopes = carried(labels).map(|a| self.hash(&ScopeAnchor::Labels(a)));
        let scopes = scopes.filter_map(|s| self.scopes.get(&s));
        distinct(scopes.flat_map(|s| &s.by_labels).copied().collect())
    }

    fn scopes_of(&self, scope: &NamespaceScope) -> Hashes {
        match scope {
            NamespaceScope::Name(name) => {
                [self.hash(&ScopeAnchor::Name(name))].into_iter().collect()
            }
            NamespaceScope::Labels(s) => {
                each_anchor(s).map(|a| self.hash(&ScopeAnchor::Labels(a))).collect()
            }
        }
    }

    fn anchors(&self, selector: &LabelSelector) -> Hashes {
        each_anchor(selector).map(|a| self.hash(&a)).collect()
    }
}

/// The key of a pair.
fn both(scope: u64, pod: u64) -> u64 {
    scope.rotate_left(32) ^ pod
}

fn distinct(mut groups: Vec<u32>) -> Vec<u32> {
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The anchors of a selector: each value of the `In` with the fewest, else a key that must be there, else nothing.
fn each_anchor(selector: &LabelSelector) -> impl Iterator<Item = LabelAnchor<'_>> {
    let fewest = selector
        .requirements()
        .filter_map(|r| match r {
            Requirement::In(key, values) => Some((key, values)),
            _ => None,
        })
        .min_by_key(|(_, values)| values.len());
    let key = || {
        selector.requirements().find_map(|r| match r {
            Requirement::Exists(key) => Some(LabelAnchor::Key(key)),
            _ => None,
        })
    };
    let single = match fewest {
        Some(_) => None,
        None => Some(key().unwrap_or(LabelAnchor::Nothing)),
    };
    let values = fewest
        .into_iter()
        .flat_map(|(key, values)| values.iter().map(move |v| LabelAnchor::Value(key, v)));
    values.chain(single)
}

/// Every anchor that a label set answers to.
fn carried(labels: &Labels) -> impl Iterator<Item = LabelAnchor<'_>> {
    labels
        .iter()
        .flat_map(|(k, v)| [LabelAnchor::Value(k, v), LabelAnchor::Key(k)])
        .chain([LabelAnchor::Nothing])
}
