//! Which selectors could pick a given profile, without trying them all.
//!
//! Every selector hangs on one thing its namespaces must have and one thing its pods must have. Whatever it picks has
//! both, so that a profile's own namespace and labels lead to every candidate.

use std::collections::HashMap;
use std::hash::Hash;

use weir_policy::ids::Str;
use weir_policy::labels::{LabelSelector, Labels, NamespaceScope, Requirement, Selector};

/// What a label set must have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LabelAnchor {
    Value(Str, Str),
    Key(Str),
    Nothing,
}

/// What a namespace must be or have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ScopeAnchor {
    Name(Str),
    Labels(LabelAnchor),
}

/// Numbers of groups by the anchors of their selectors.
#[derive(Debug, Default)]
pub(super) struct Anchors(HashMap<ScopeAnchor, HashMap<LabelAnchor, Vec<u32>>>);

impl Anchors {
    pub(super) fn insert(&mut self, group: u32, selector: &Selector) {
        for scope in scopes(&selector.namespaces) {
            let pods = self.0.entry(scope).or_default();
            for anchor in anchors(&selector.pods) {
                pods.entry(anchor).or_default().push(group);
            }
        }
    }

    pub(super) fn remove(&mut self, group: u32, selector: &Selector) {
        for scope in scopes(&selector.namespaces) {
            let Some(pods) = self.0.get_mut(&scope) else {
                continue;
            };
            for anchor in anchors(&selector.pods) {
                if let Some(groups) = pods.get_mut(&anchor) {
                    groups.retain(|g| *g != group);
                    if groups.is_empty() {
                        pods.remove(&anchor);
                    }
                }
            }
            if pods.is_empty() {
                self.0.remove(&scope);
            }
        }
    }

    /// Groups that could hold a profile of these labels in this namespace; the selector has the last word.
    pub(super) fn of_profile(&self, namespace: &Str, scope: &Labels, pod: &Labels) -> Vec<u32> {
        let mut out = Vec::new();
        let pod: Vec<LabelAnchor> = carried(pod).collect();
        let mut collect = |anchor: &ScopeAnchor| {
            if let Some(pods) = self.0.get(anchor) {
                for anchor in &pod {
                    out.extend(pods.get(anchor).into_iter().flatten());
                }
            }
        };
        collect(&ScopeAnchor::Name(namespace.clone()));
        for anchor in carried(scope) {
            collect(&ScopeAnchor::Labels(anchor));
        }
        distinct(out)
    }

    /// Groups whose namespace selector could pick a namespace of these labels.
    pub(super) fn of_namespace(&self, labels: &Labels) -> Vec<u32> {
        let scopes = carried(labels).map(ScopeAnchor::Labels);
        let groups = scopes.filter_map(|s| self.0.get(&s));
        distinct(groups.flat_map(HashMap::values).flatten().copied().collect())
    }
}

fn distinct(mut groups: Vec<u32>) -> Vec<u32> {
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn scopes(scope: &NamespaceScope) -> Vec<ScopeAnchor> {
    match scope {
        NamespaceScope::Name(name) => vec![ScopeAnchor::Name(name.clone())],
        NamespaceScope::Labels(s) => anchors(s).into_iter().map(ScopeAnchor::Labels).collect(),
    }
}

/// The anchors of a selector: each value of the `In` with the fewest, else a key that must be there, else nothing.
fn anchors(selector: &LabelSelector) -> Vec<LabelAnchor> {
    let fewest = selector
        .requirements()
        .filter_map(|r| match r {
            Requirement::In(key, values) => Some((key, values)),
            _ => None,
        })
        .min_by_key(|(_, values)| values.len());
    if let Some((key, values)) = fewest {
        let value = |v: &Str| LabelAnchor::Value(key.clone(), v.clone());
        return values.iter().map(value).collect();
    }
    let key = selector.requirements().find_map(|r| match r {
        Requirement::Exists(key) => Some(LabelAnchor::Key(key.clone())),
        _ => None,
    });
    vec![key.unwrap_or(LabelAnchor::Nothing)]
}

/// Every anchor that a label set answers to.
fn carried(labels: &Labels) -> impl Iterator<Item = LabelAnchor> {
    labels
        .0
        .iter()
        .flat_map(|(k, v)| [LabelAnchor::Value(k.clone(), v.clone()), LabelAnchor::Key(k.clone())])
        .chain([LabelAnchor::Nothing])
}
