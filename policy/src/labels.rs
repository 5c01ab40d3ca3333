//! Label sets and selectors in canonical form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Canonical, GroupId, Str};

/// The label that every namespace carries (NP-3).
pub const METADATA_NAME: &str = "kubernetes.io/metadata.name";

/// A set of labels, ordered by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Labels(pub BTreeMap<Str, Str>);

impl Labels {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|v| &**v)
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.into(), value.into());
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        Self(items.into_iter().map(|(k, v)| (k.as_ref().into(), v.as_ref().into())).collect())
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (k, v)) in self.0.iter().enumerate() {
            write!(f, "{}{k}={v}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// One condition on one label key (NP-2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Requirement {
    /// The label is there and its value is one of these. `matchLabels` entries are this with one value.
    In(Str, BTreeSet<Str>),
    /// The label is missing or its value is none of these.
    NotIn(Str, BTreeSet<Str>),
    /// The label is there.
    Exists(Str),
    /// The label is missing.
    DoesNotExist(Str),
}

impl Requirement {
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Self::Exists(key) => labels.get(key).is_some(),
            Self::DoesNotExist(key) => labels.get(key).is_none(),
        }
    }

    pub fn key(&self) -> &Str {
        match self {
            Self::In(k, _) | Self::NotIn(k, _) | Self::Exists(k) | Self::DoesNotExist(k) => k,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |values: &BTreeSet<Str>| values.iter().map(|v| &**v).collect::<Vec<_>>().join("|");
        match self {
            Self::In(k, values) => write!(f, "{k}={}", list(values)),
            Self::NotIn(k, values) => write!(f, "{k}!={}", list(values)),
            Self::Exists(k) => write!(f, "{k}"),
            Self::DoesNotExist(k) => write!(f, "!{k}"),
        }
    }
}

/// A label selector in canonical form: requirements sorted, duplicates gone. Empty = everything in scope.
///
/// A selector that is *absent* is never represented by this type (NP-2).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LabelSelector(BTreeSet<Requirement>);

impl LabelSelector {
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        Self(requirements.into_iter().collect())
    }

    /// `matchLabels` alone.
    pub fn labels<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::new(
            pairs.into_iter().map(|(k, v)| {
                Requirement::In(k.as_ref().into(), BTreeSet::from([v.as_ref().into()]))
            }),
        )
    }

    /// Selects everything in its scope.
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.0.iter()
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|r| r.matches(labels))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{")?;
        for (n, r) in self.0.iter().enumerate() {
            write!(f, "{}{r}", if n == 0 { "" } else { "," })?;
        }
        write!(f, "}}")
    }
}

/// Which namespaces a selector looks into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NamespaceScope {
    /// The one of this name: subjects, and peers with a `podSelector` alone.
    Name(Str),
    /// All whose labels match.
    Labels(LabelSelector),
}

/// A canonical (namespace selector, pod selector) pair; equal selectors are one address group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector {
    pub namespaces: NamespaceScope,
    pub pods: LabelSelector,
}

impl Selector {
    /// Pods of one namespace.
    pub fn in_namespace(namespace: &str, pods: LabelSelector) -> Self {
        Self { namespaces: NamespaceScope::Name(namespace.into()), pods }
    }

    /// Every pod of the cluster.
    pub fn all_pods() -> Self {
        Self {
            namespaces: NamespaceScope::Labels(LabelSelector::everything()),
            pods: LabelSelector::everything(),
        }
    }

    pub fn matches(&self, namespace: &str, namespace_labels: &Labels, pod: &Labels) -> bool {
        let scope = match &self.namespaces {
            NamespaceScope::Name(name) => &**name == namespace,
            NamespaceScope::Labels(selector) => selector.matches(namespace_labels),
        };
        scope && self.pods.matches(pod)
    }

    /// The id of the group this selector makes, the same wherever it is computed.
    pub fn id(&self) -> GroupId {
        let mut c = Canonical::new("weir/selector/1");
        match &self.namespaces {
            NamespaceScope::Name(name) => {
                c.u64(0).str(name);
            }
            NamespaceScope::Labels(selector) => {
                c.u64(1);
                hash_selector(&mut c, selector);
            }
        }
        hash_selector(&mut c, &self.pods);
        GroupId(c.finish().word64())
    }
}

fn hash_selector(c: &mut Canonical, selector: &LabelSelector) {
    c.u64(selector.0.len() as u64);
    for r in &selector.0 {
        let (tag, values) = match r {
            Requirement::In(_, v) => (0, Some(v)),
            Requirement::NotIn(_, v) => (1, Some(v)),
            Requirement::Exists(_) => (2, None),
            Requirement::DoesNotExist(_) => (3, None),
        };
        c.u64(tag).str(r.key()).u64(values.map_or(0, BTreeSet::len) as u64);
        for v in values.into_iter().flatten() {
            c.str(v);
        }
    }
}

/// As people read it: `shop {app=db}`, `{team=blue}/{app=web}`, `all namespaces {}`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespaces {
            NamespaceScope::Name(name) => write!(f, "{name} {}", self.pods),
            NamespaceScope::Labels(s) if s.is_everything() => {
                write!(f, "all namespaces {}", self.pods)
            }
            NamespaceScope::Labels(s) => write!(f, "namespaces {s} {}", self.pods),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str]) -> BTreeSet<Str> {
        values.iter().map(|v| Str::from(*v)).collect()
    }

    /// NP-2: `NotIn` and `DoesNotExist` hold for what lacks the key.
    #[test]
    fn operators() {
        let web = Labels::from_iter([("app", "web")]);
        let none = Labels::default();
        for (requirement, on_web, on_none) in [
            (Requirement::In("app".into(), set(&["web", "api"])), true, false),
            (Requirement::In("app".into(), set(&["api"])), false, false),
            (Requirement::NotIn("app".into(), set(&["api"])), true, true),
            (Requirement::NotIn("app".into(), set(&["web"])), false, true),
            (Requirement::Exists("app".into()), true, false),
            (Requirement::DoesNotExist("app".into()), false, true),
        ] {
            assert_eq!(requirement.matches(&web), on_web, "{requirement}");
            assert_eq!(requirement.matches(&none), on_none, "{requirement}");
        }
        assert!(LabelSelector::everything().matches(&none));
    }

    #[test]
    fn canonical_form() {
        let a = Requirement::In("a".into(), set(&["1"]));
        let b = Requirement::Exists("b".into());
        let twice = LabelSelector::new([b.clone(), a.clone(), b.clone()]);
        assert_eq!(twice, LabelSelector::new([a, b]));
        let scope = |s: LabelSelector| Selector {
            namespaces: NamespaceScope::Labels(s),
            pods: LabelSelector::default(),
        };
        // every namespace, and the one namespace: never one group
        assert_ne!(
            scope(LabelSelector::everything()).id(),
            Selector::in_namespace("x", LabelSelector::default()).id()
        );
        assert_ne!(
            LabelSelector::new([Requirement::Exists("ab".into())]),
            LabelSelector::new([Requirement::DoesNotExist("ab".into())])
        );
    }

    #[test]
    fn text() {
        let s = Selector::in_namespace("shop", LabelSelector::labels([("app", "db")]));
        assert_eq!(s.to_string(), "shop {app=db}");
        assert_eq!(Selector::all_pods().to_string(), "all namespaces {}");
    }
}
