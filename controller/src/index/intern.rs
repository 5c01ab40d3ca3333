//! One allocation per distinct string.

use std::sync::Arc;

use hashbrown::HashSet;
use weir_policy::group::Profile;
use weir_policy::ids::Str;
use weir_policy::labels::{LabelSelector, Labels, NamespaceScope, Requirement, Selector, Values};

/// Strings that are in use. Those that nobody else holds any more go when their number has doubled.
#[derive(Debug, Default)]
pub(super) struct Interner {
    strings: HashSet<Str>,
    purge_at: usize,
}

/// Below this a purge is not worth it. Units: strings.
const PURGE_FLOOR: usize = 4096;

impl Interner {
    pub(super) fn intern(&mut self, text: &Str) -> Str {
        Str::clone(self.strings.get_or_insert_with(&**text, |_| Str::clone(text)))
    }

    pub(super) fn text(&mut self, text: &str) -> Str {
        Str::clone(self.strings.get_or_insert_with(text, |text| text.into()))
    }

    pub(super) fn labels(&mut self, labels: &Labels) -> Labels {
        let pairs: Vec<(Str, Str)> =
            labels.iter().map(|(k, v)| (self.intern(k), self.intern(v))).collect();
        Labels::from(pairs)
    }

    /// The same profile; `namespace` is the one text of its namespace.
    pub(super) fn profile(&mut self, profile: Profile, namespace: Str) -> Profile {
        Profile {
            namespace,
            labels: self.labels(&profile.labels),
            named_ports: profile.named_ports,
        }
    }

    /// The same selector; `namespace` is the one text of the namespace that it names, if it names one.
    pub(super) fn selector(&mut self, selector: &Selector, namespace: Option<Str>) -> Selector {
        Selector {
            namespaces: match (&selector.namespaces, namespace) {
                (NamespaceScope::Name(_), Some(name)) => NamespaceScope::Name(name),
                (NamespaceScope::Name(name), None) => NamespaceScope::Name(self.intern(name)),
                (NamespaceScope::Labels(s), _) => NamespaceScope::Labels(self.label_selector(s)),
            },
            pods: self.label_selector(&selector.pods),
        }
    }

    fn label_selector(&mut self, selector: &LabelSelector) -> LabelSelector {
        if selector.is_everything() {
            return LabelSelector::everything();
        }
        LabelSelector::new(selector.requirements().map(|r| match r {
            Requirement::In(key, values) => Requirement::In(self.intern(key), self.values(values)),
            Requirement::NotIn(key, values) => {
                Requirement::NotIn(self.intern(key), self.values(values))
            }
            Requirement::Exists(key) => Requirement::Exists(self.intern(key)),
            Requirement::DoesNotExist(key) => Requirement::DoesNotExist(self.intern(key)),
        }))
    }

    fn values(&mut self, values: &Values) -> Values {
        values.iter().map(|v| self.intern(v)).collect()
    }

    pub(super) fn purge(&mut self) {
        if self.strings.len() >= self.purge_at.max(PURGE_FLOOR) {
            self.strings.retain(|s| Arc::strong_count(s) > 1);
            self.purge_at = self.strings.len() * 2;
        }
    }
}
