//! One allocation per distinct string.

use std::collections::HashSet;
use std::sync::Arc;

use weir_policy::group::Profile;
use weir_policy::ids::Str;
use weir_policy::labels::Labels;

/// Strings that are in use. Those that nobody else holds any more go when their number has doubled.
#[derive(Debug, Default)]
pub(super) struct Interner {
    strings: HashSet<Str>,
    purge_at: usize,
}

/// Below this a purge is not worth it. Units: strings.
const PURGE_FLOOR: usize = 4096;

impl Interner {
    pub(super) fn intern(&mut self, text: &str) -> Str {
        if let Some(known) = self.strings.get(text) {
            return Str::clone(known);
        }
        let new: Str = text.into();
        self.strings.insert(Str::clone(&new));
        new
    }

    pub(super) fn labels(&mut self, labels: &Labels) -> Labels {
        let pairs = labels.0.iter();
        Labels(pairs.map(|(k, v)| (self.intern(k), self.intern(v))).collect())
    }

    pub(super) fn profile(&mut self, profile: Profile) -> Profile {
        Profile {
            namespace: self.intern(&profile.namespace),
            labels: self.labels(&profile.labels),
            named_ports: profile.named_ports,
        }
    }

    pub(super) fn purge(&mut self) {
        if self.strings.len() >= self.purge_at.max(PURGE_FLOOR) {
            self.strings.retain(|s| Arc::strong_count(s) > 1);
            self.purge_at = self.strings.len() * 2;
        }
    }
}
