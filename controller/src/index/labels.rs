//! An inverted index over label sets: which numbers carry a key, and which a key with a value.

use roaring::RoaringBitmap;
use weir_policy::ids::Str;
use weir_policy::labels::{LabelSelector, Labels, Requirement, Values};

use super::set::Set;
use super::table::Map;

/// What carries one key.
#[derive(Debug, Default)]
struct Key {
    any: Set,
    values: Map<Str, Set>,
}

/// Label sets by number, searchable by selector without looking at each.
#[derive(Debug, Default)]
pub(super) struct LabelIndex {
    all: Set,
    keys: Map<Str, Key>,
}

/// Up to this many candidates are looked at one by one; above it bitmaps are quicker.
const ONE_BY_ONE: usize = 4096;

impl LabelIndex {
    pub(super) fn insert<'a>(
        &mut self,
        number: u32,
        labels: impl Iterator<Item = (&'a Str, &'a Str)>,
    ) {
        self.all.insert(number);
        for (key, value) in labels {
            let entry = self.keys.entry(Str::clone(key)).or_default();
            entry.any.insert(number);
            match entry.values.get_mut(value) {
                Some(set) => {
                    set.insert(number);
                }
                None => {
                    entry.values.insert(Str::clone(value), Set::from_iter([number]));
                }
            }
        }
    }

    pub(super) fn remove<'a>(
        &mut self,
        number: u32,
        labels: impl Iterator<Item = (&'a Str, &'a Str)>,
    ) {
        self.all.remove(number);
        for (key, value) in labels {
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

    /// Those of `scope` (absent: of all) that the selector picks. `labels` gives those of a number.
    pub(super) fn select<'a>(
        &self,
        scope: Option<&Set>,
        selector: &LabelSelector,
        labels: impl Fn(u32) -> &'a Labels,
    ) -> Set {
        // the smallest set that holds whatever can be picked
        let mut smallest = scope.unwrap_or(&self.all);
        for requirement in selector.requirements() {
            let holders = match requirement {
                Requirement::In(key, values) => match (self.keys.get(key), values.first()) {
                    (Some(entry), Some(value)) if values.len() == 1 => entry.values.get(value),
                    (entry, _) => entry.map(|e| &e.any),
                },
                Requirement::Exists(key) => self.keys.get(key).map(|e| &e.any),
                Requirement::NotIn(..) | Requirement::DoesNotExist(_) => continue,
            };
            match holders {
                None => return Set::default(),
                Some(set) if set.len() < smallest.len() => smallest = set,
                Some(_) => {}
            }
        }
        if smallest.len() <= ONE_BY_ONE {
            let within = |n: &u32| scope.is_none_or(|s| s.contains(*n));
            return smallest.iter().filter(|n| within(n) && selector.matches(labels(*n))).collect();
        }
        let mut found = smallest.bitmap();
        if let Some(scope) = scope {
            found &= scope.bitmap();
        }
        for requirement in selector.requirements() {
            match requirement {
                Requirement::In(key, values) => found &= self.with_values(key, values),
                Requirement::Exists(key) => found &= self.with_key(key),
                Requirement::NotIn(key, values) => found -= self.with_values(key, values),
                Requirement::DoesNotExist(key) => found -= self.with_key(key),
            }
        }
        found.iter().collect()
    }

    fn with_key(&self, key: &Str) -> RoaringBitmap {
        self.keys.get(key).map(|k| k.any.bitmap()).unwrap_or_default()
    }

    fn with_values(&self, key: &Str, values: &Values) -> RoaringBitmap {
        let mut out = RoaringBitmap::new();
        if let Some(entry) = self.keys.get(key) {
            for set in values.iter().filter_map(|v| entry.values.get(v)) {
                match set {
                    Set::Few(list) => out.extend(list.iter().copied()),
                    Set::Many(bitmap) => out |= bitmap,
                }
            }
        }
        out
    }
}
