//! Label sets and selectors in canonical form.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Canonical, GroupId, Str};

/// The label that every namespace carries (NP-3).
pub const METADATA_NAME: &str = "kubernetes.io/metadata.name";

/// A set of labels, ordered by key. One allocation, as there are hundreds of thousands of them and most are small.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Str, Str>", into = "BTreeMap<Str, Str>")]
pub struct Labels(Box<[(Str, Str)]>);

impl Labels {
    pub fn get(&self, key: &str) -> Option<&str> {
        // most sets have a handful of labels
        self.0.iter().find(|(k, _)| **k == *key).map(|(_, v)| &**v)
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.insert(key.into(), value.into());
    }

    /// Replaces the value of a key, or adds both.
    pub fn insert(&mut self, key: Str, value: Str) {
        let mut labels = std::mem::take(&mut self.0).into_vec();
        match labels.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => labels[at].1 = value,
            Err(at) => labels.insert(at, (key, value)),
        }
        self.0 = labels.into();
    }

    /// By key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Str, &Str)> {
        self.0.iter().map(|(k, v)| (k, v))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of several values of one key the last counts.
impl From<Vec<(Str, Str)>> for Labels {
    fn from(mut labels: Vec<(Str, Str)>) -> Self {
        if !labels.is_sorted_by(|a, b| a.0 < b.0) {
            // stable, so that the last of a key ends its run
            labels.sort_by(|a, b| a.0.cmp(&b.0));
            labels.reverse();
            labels.dedup_by(|a, b| a.0 == b.0);
            labels.reverse();
        }
        Self(labels.into())
    }
}

impl From<BTreeMap<Str, Str>> for Labels {
    fn from(labels: BTreeMap<Str, Str>) -> Self {
        Self(labels.into_iter().collect())
    }
}

impl From<Labels> for BTreeMap<Str, Str> {
    fn from(labels: Labels) -> Self {
        labels.0.into_iter().collect()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let pairs = items.into_iter().map(|(k, v)| (k.as_ref().into(), v.as_ref().into()));
        Self::from(pairs.collect::<Vec<(Str, Str)>>())
    }
}

/// Values of one label, sorted, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Str>", into = "Vec<Str>")]
pub struct Values(Box<[Str]>);

impl Values {
    pub fn contains(&self, value: &str) -> bool {
        self.0.binary_search_by(|v| (**v).cmp(value)).is_ok()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Str> {
        self.0.iter()
    }

    pub fn first(&self) -> Option<&Str> {
        self.0.first()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<Str>> for Values {
    fn from(mut values: Vec<Str>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self(values.into())
    }
}

impl<const N: usize> From<[Str; N]> for Values {
    fn from(values: [Str; N]) -> Self {
        Self::from(Vec::from(values))
    }
}

impl From<Values> for Vec<Str> {
    fn from(values: Values) -> Self {
        values.0.into_vec()
    }
}

impl FromIterator<Str> for Values {
    fn from_iter<I: IntoIterator<Item = Str>>(values: I) -> Self {
        Self::from(values.into_iter().collect::<Vec<Str>>())
    }
}

impl<'a> IntoIterator for &'a Values {
    type Item = &'a Str;
    type IntoIter = std::slice::Iter<'a, Str>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (k, v)) in self.iter().enumerate() {
            write!(f, "{}{k}={v}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// One condition on one label key (NP-2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Requirement {
    /// The label is there and its value is one of these. `matchLabels` entries are this with one value.
    In(Str, Values),
    /// The label is missing or its value is none of these.
    NotIn(Str, Values),
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
        let (key, sign, values) = match self {
            Self::In(key, values) => (key, "=", values),
            Self::NotIn(key, values) => (key, "!=", values),
            Self::Exists(key) => return f.write_str(key),
            Self::DoesNotExist(key) => return write!(f, "!{key}"),
        };
        f.write_str(key)?;
        f.write_str(sign)?;
        for (n, value) in values.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { "|" })?;
            f.write_str(value)?;
        }
        Ok(())
    }
}

/// A label selector in canonical form: requirements sorted, duplicates gone. Empty = everything in scope.
///
/// A selector that is *absent* is never represented by this type (NP-2).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Requirement>", into = "Vec<Requirement>")]
pub struct LabelSelector(Box<[Requirement]>);

impl From<Vec<Requirement>> for LabelSelector {
    fn from(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_unstable();
        requirements.dedup();
        Self(requirements.into())
    }
}

impl From<LabelSelector> for Vec<Requirement> {
    fn from(selector: LabelSelector) -> Self {
        selector.0.into_vec()
    }
}

impl LabelSelector {
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        Self::from(requirements.into_iter().collect::<Vec<_>>())
    }

    /// `matchLabels` alone.
    pub fn labels<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::new(
            pairs.into_iter().map(|(k, v)| {
                Requirement::In(k.as_ref().into(), Values::from([v.as_ref().into()]))
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
        f.write_str("{")?;
        for (n, r) in self.0.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { "," })?;
            r.fmt(f)?;
        }
        f.write_str("}")
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
        c.u64(tag).str(r.key()).u64(values.map_or(0, Values::len) as u64);
        for v in values.into_iter().flatten() {
            c.str(v);
        }
    }
}

/// As people read it: `shop {app=db}`, `{team=blue}/{app=web}`, `all namespaces {}`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespaces {
            NamespaceScope::Name(name) => {
                f.write_str(name)?;
                f.write_str(" ")?;
                self.pods.fmt(f)
            }
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

    /// NP-2: `NotIn` and `DoesNotExist` hold for what lacks the key.
    #[test]
    fn operators() {
        let web = Labels::from_iter([("app", "web")]);
        let none = Labels::default();
        for (requirement, on_web, on_none) in [
            (Requirement::In("app".into(), set_of(&["web", "api"])), true, false),
            (Requirement::In("app".into(), set_of(&["api"])), false, false),
            (Requirement::NotIn("app".into(), set_of(&["api"])), true, true),
            (Requirement::NotIn("app".into(), set_of(&["web"])), false, true),
            (Requirement::Exists("app".into()), true, false),
            (Requirement::DoesNotExist("app".into()), false, true),
        ] {
            assert_eq!(requirement.matches(&web), on_web, "{requirement}");
            assert_eq!(requirement.matches(&none), on_none, "{requirement}");
        }
        assert!(LabelSelector::everything().matches(&none));
    }

    #[test]
    fn sets_are_in_order() {
        let pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("c", "5")];
        let labels = Labels::from_iter(pairs);
        assert_eq!(labels.to_string(), "a=4,b=3,c=5");
        let mut set = labels.clone();
        set.set("b", "x");
        set.set("aa", "y");
        assert_eq!(set.to_string(), "a=4,aa=y,b=x,c=5");
        let text = serde_json::to_string(&labels).unwrap();
        assert_eq!(text, r#"{"a":"4","b":"3","c":"5"}"#);
        assert_eq!(serde_json::from_str::<Labels>(&text).unwrap(), labels);
        assert_eq!(set_of(&["z", "a", "z"]).iter().map(|v| &**v).collect::<Vec<_>>(), ["a", "z"]);
    }

    fn set_of(values: &[&str]) -> Values {
        values.iter().map(|v| Str::from(*v)).collect()
    }

    #[test]
    fn canonical_form() {
        let a = Requirement::In("a".into(), set_of(&["1"]));
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
