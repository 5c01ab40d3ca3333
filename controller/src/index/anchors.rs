//! Which selectors could pick a given profile, without trying them all.
//!
//! Every selector hangs on one thing its namespaces must have and one thing its pods must have. Whatever it picks has
//! both, so that a profile's own namespace and labels lead to every candidate. Things are kept as hashes only: two that
//! share one make a candidate more, and the selector has the last word.

use std::hash::{BuildHasher, Hash};

use hashbrown::DefaultHashBuilder;
use smallvec::SmallVec;
use weir_policy::labels::{LabelSelector, Labels, NamespaceScope, Requirement, Selector};

use super::table::Map;

/// What a label set must have.
#[derive(Clone, Copy, Hash)]
enum LabelAnchor<'a> {
    Value(&'a str, &'a str),
    Key(&'a str),
    Nothing,
}

/// One hash of each anchor that a selector hangs on or that a label set answers to.
type Hashes = SmallVec<[u64; 16]>;

/// Numbers of groups, each once.
pub(super) type Found = SmallVec<[u32; 8]>;

/// Up to this many anchors of one namespace are looked at one after the other, as in [`super::table::Entries`].
const FEW: usize = 4;

/// Numbers of the groups whose selectors name one namespace, by the anchors of their pods.
#[derive(Debug)]
pub(super) enum Local {
    /// Half a hash and a number, in no order.
    Few(SmallVec<[(u32, u32); FEW]>),
    Many(Box<Map<u32, SmallVec<[u32; 2]>>>),
}

impl Default for Local {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Local {
    fn insert(&mut self, anchor: u32, group: u32) {
        match self {
            Self::Few(pairs) if pairs.len() < FEW => pairs.push((anchor, group)),
            Self::Few(pairs) => {
                let mut many = Map::<u32, SmallVec<[u32; 2]>>::default();
                for (anchor, group) in pairs.iter().copied().chain([(anchor, group)]) {
                    many.entry(anchor).or_default().push(group);
                }
                *self = Self::Many(Box::new(many));
            }
            Self::Many(groups) => groups.entry(anchor).or_default().push(group),
        }
    }

    fn remove(&mut self, anchor: u32, group: u32) {
        match self {
            Self::Few(pairs) => pairs.retain(|pair| *pair != (anchor, group)),
            Self::Many(groups) => {
                if let Some(of_anchor) = groups.get_mut(&anchor) {
                    of_anchor.retain(|g| *g != group);
                    if of_anchor.is_empty() {
                        groups.remove(&anchor);
                    }
                }
            }
        }
    }

    /// Adds the groups that hang on one of these anchors.
    fn of(&self, anchors: &Hashes, out: &mut Found) {
        match self {
            Self::Few(pairs) => {
                let pairs = pairs.iter().filter(|(a, _)| anchors.iter().any(|h| half(*h) == *a));
                out.extend(pairs.map(|(_, group)| *group));
            }
            Self::Many(groups) => {
                out.extend(anchors.iter().filter_map(|h| groups.get(&half(*h))).flatten().copied());
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(pairs) => pairs.is_empty(),
            Self::Many(groups) => groups.is_empty(),
        }
    }
}

/// Numbers of groups whose namespaces are picked by labels, by the anchors of their selectors; and the hashes of all.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    hasher: DefaultHashBuilder,
    /// By the anchors of their namespaces, once for each.
    scopes: Map<u64, Vec<u32>>,
    /// By both.
    groups: Map<u64, SmallVec<[u32; 2]>>,
}

impl Anchors {
    fn hash(&self, anchor: LabelAnchor<'_>) -> u64 {
        self.hasher.hash_one(anchor)
    }

    /// The hashes of what a selector hangs on: its pods, and its namespaces if it picks those by labels.
    fn hashes(&self, selector: &Selector) -> (Hashes, Hashes) {
        let all = |s| each_anchor(s).map(|a| self.hash(a)).collect();
        let scopes = match &selector.namespaces {
            NamespaceScope::Name(_) => Hashes::new(),
            NamespaceScope::Labels(scope) => all(scope),
        };
        (all(&selector.pods), scopes)
    }

    /// `local` is of the namespace that the selector names, if it names one.
    pub(super) fn insert(&mut self, group: u32, selector: &Selector, local: Option<&mut Local>) {
        let (pods, scopes) = self.hashes(selector);
        if let Some(local) = local {
            pods.iter().for_each(|pod| local.insert(half(*pod), group));
        }
        for scope in scopes {
            self.scopes.entry(scope).or_default().push(group);
            for pod in &pods {
                self.groups.entry(both(scope, *pod)).or_default().push(group);
            }
        }
    }

    /// As [`Self::insert`].
    pub(super) fn remove(&mut self, group: u32, selector: &Selector, local: Option<&mut Local>) {
        let (pods, scopes) = self.hashes(selector);
        if let Some(local) = local {
            pods.iter().for_each(|pod| local.remove(half(*pod), group));
        }
        for scope in scopes {
            take_out(&mut self.scopes, scope, |groups| {
                groups.retain(|g| *g != group);
                groups.is_empty()
            });
            for pod in &pods {
                take_out(&mut self.groups, both(scope, *pod), |groups| {
                    groups.retain(|g| *g != group);
                    groups.is_empty()
                });
            }
        }
    }

    /// Groups that could hold a profile of these labels in a namespace; the selector has the last word. `scope` are the
    /// namespace's labels.
    pub(super) fn of_profile(&self, local: &Local, scope: &Labels, pod: &Labels) -> Found {
        let mut out = Found::new();
        if local.is_empty() && self.scopes.is_empty() {
            return out;
        }
        let pods: Hashes = carried(pod).map(|a| self.hash(a)).collect();
        local.of(&pods, &mut out);
        if !self.scopes.is_empty() {
            // most anchors are nobody's
            let scopes = carried(scope).map(|a| self.hash(a));
            for scope in scopes.filter(|s| self.scopes.contains_key(s)) {
                let groups = pods.iter().filter_map(|pod| self.groups.get(&both(scope, *pod)));
                out.extend(groups.flatten().copied());
            }
        }
        distinct(out)
    }

    /// Groups whose namespace selector could pick a namespace of these labels.
    pub(super) fn of_namespace(&self, labels: &Labels) -> Found {
        let scopes = carried(labels).filter_map(|a| self.scopes.get(&self.hash(a)));
        distinct(scopes.flatten().copied().collect())
    }
}

fn take_out<T>(map: &mut Map<u64, T>, key: u64, remove: impl FnOnce(&mut T) -> bool) {
    if map.get_mut(&key).is_some_and(remove) {
        map.remove(&key);
    }
}

/// The half of a hash that [`Local`] keeps.
fn half(hash: u64) -> u32 {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The key of a pair.
fn both(scope: u64, pod: u64) -> u64 {
    scope.rotate_left(32) ^ pod
}

fn distinct(mut groups: Found) -> Found {
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
