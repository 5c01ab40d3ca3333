//! An inverted index over label sets: which numbers carry a key, and which a key with a value.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use weir_policy::ids::Str;
use weir_policy::labels::{LabelSelector, Labels, Requirement};

/// What carries one key.
#[derive(Debug, Default)]
struct Key {
    any: RoaringBitmap,
    values: HashMap<Str, RoaringBitmap>,
}

/// Label sets by number, searchable by selector without looking at each.
#[derive(Debug, Default)]
pub(super) struct LabelIndex {
    all: RoaringBitmap,
    keys: HashMap<Str, Key>,
}

impl LabelIndex {
    pub(super) fn insert(&mut self, number: u32, labels: &Labels) {
        self.all.insert(number);
        for (key, value) in &labels.0 {
            let entry = self.keys.entry(key.clone()).or_default();
            entry.any.insert(number);
            entry.values.entry(value.clone()).or_default().insert(number);
        }
    }

    pub(super) fn remove(&mut self, number: u32, labels: &Labels) {
        self.all.remove(number);
        for (key, value) in &labels.0 {
            let Some(entry) = self.keys.get_mut(key) else {
                continue;
            };
            entry.any.remove(number);
            if let Some(set) = entry.values.get_mut(value) {
                set.remove(number);
                if set.is_empty() {
                    entry.values.remove(value);
                }
            }
            if entry.any.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    /// Those of `base` (absent: of all) that the selector picks.
    pub(super) fn select(
        &self,
        base: Option<RoaringBitmap>,
        selector: &LabelSelector,
    ) -> RoaringBitmap {
        let mut found = base;
        // what must be there first: it is what makes the set small
        for requirement in selector.requirements() {
            let holders = match requirement {
                Requirement::In(key, values) => self.with_values(key, values),
                Requirement::Exists(key) => self.with_key(key),
                Requirement::NotIn(..) | Requirement::DoesNotExist(_) => continue,
            };
            found = Some(match found {
                Some(found) => found & holders,
                None => holders,
            });
        }
        let mut found = found.unwrap_or_else(|| self.all.clone());
        for requirement in selector.requirements() {
            if found.is_empty() {
                break;
            }
            match requirement {
                Requirement::NotIn(key, values) => found -= self.with_values(key, values),
                Requirement::DoesNotExist(key) => found -= self.with_key(key),
                Requirement::In(..) | Requirement::Exists(_) => {}
            }
        }
        found
    }

    fn with_key(&self, key: &Str) -> RoaringBitmap {
        self.keys.get(key).map(|k| k.any.clone()).unwrap_or_default()
    }

    fn with_values<'a>(
        &self,
        key: &Str,
        values: impl IntoIterator<Item = &'a Str>,
    ) -> RoaringBitmap {
        let mut out = RoaringBitmap::new();
        if let Some(entry) = self.keys.get(key) {
            for set in values.into_iter().filter_map(|v| entry.values.get(v)) {
                out |= set;
            }
        }
        out
    }
}
