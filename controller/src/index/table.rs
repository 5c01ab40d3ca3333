//! Numbers of things by a key that the things themselves hold.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use smallvec::SmallVec;

/// Maps within the index: quick, and seeded, so that nobody can choose names that all collide.
pub(super) type Map<K, V> = hashbrown::HashMap<K, V>;

/// Hashes keys for [`Entries`], with a seed of its own.
#[derive(Debug, Default)]
pub(super) struct Hasher(hashbrown::DefaultHashBuilder);

impl Hasher {
    /// Half a hash: enough to grow a table without a look at the keys.
    pub(super) fn half(&self, key: &impl Hash) -> u32 {
        let [a, b, c, d, ..] = self.0.hash_one(key).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

/// Spreads half a hash over a whole one: the table looks at bits of both ends.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Up to this many entries are looked at one after the other. They are part of what holds the table.
const FEW: usize = 4;

/// Numbers by half hashes of their keys: eight bytes for each thing.
#[derive(Debug)]
pub(super) enum Entries {
    /// In no order.
    Few(SmallVec<[(u32, u32); FEW]>),
    Many(HashTable<(u32, u32)>),
}

impl Default for Entries {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Entries {
    /// The number that has the key of this hash; `is` tells for a number with the right hash.
    pub(super) fn find(&self, half: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut is = |entry: &(u32, u32)| entry.0 == half && is(entry.1);
        let found = match self {
            Self::Few(entries) => entries.iter().find(|e| is(e)),
            Self::Many(entries) => entries.find(spread(half), is),
        };
        found.map(|(_, number)| *number)
    }

    pub(super) fn insert(&mut self, half: u32, number: u32) {
        match self {
            Self::Few(entries) if entries.len() < FEW => entries.push((half, number)),
            Self::Few(entries) => {
                let mut many = HashTable::with_capacity(2 * FEW);
                for entry in entries.iter().copied().chain([(half, number)]) {
                    many.insert_unique(spread(entry.0), entry, |(half, _)| spread(*half));
                }
                *self = Self::Many(many);
            }
            Self::Many(entries) => {
                entries.insert_unique(spread(half), (half, number), |(half, _)| spread(*half));
            }
        }
    }

    pub(super) fn remove(&mut self, half: u32, number: u32) {
        match self {
            Self::Few(entries) => {
                if let Some(at) = entries.iter().position(|e| *e == (half, number)) {
                    entries.swap_remove(at);
                }
            }
            Self::Many(entries) => {
                if let Ok(entry) = entries.find_entry(spread(half), |e| *e == (half, number)) {
                    entry.remove();
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(entries) => entries.is_empty(),
            Self::Many(entries) => entries.is_empty(),
        }
    }
}

/// Finds numbers by keys without a copy of the keys.
#[derive(Debug, Default)]
pub(super) struct Table {
    hasher: Hasher,
    entries: Entries,
}

impl Table {
    /// The number that has this key; `is` tells for a number with the right hash.
    pub(super) fn find(&self, key: &impl Hash, is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.entries.find(self.hasher.half(key), is)
    }

    pub(super) fn insert(&mut self, key: &impl Hash, number: u32) {
        self.entries.insert(self.hasher.half(key), number);
    }

    pub(super) fn remove(&mut self, key: &impl Hash, number: u32) {
        self.entries.remove(self.hasher.half(key), number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Through both forms, with hashes that several keys share.
    #[test]
    fn entries_are_found_until_they_go() {
        let mut entries = Entries::default();
        let half = |number: u32| number / 3;
        for count in [FEW, 10 * FEW] {
            let numbers = || 0..u32::try_from(count).unwrap();
            for number in numbers() {
                entries.insert(half(number), number);
            }
            for number in numbers() {
                assert_eq!(entries.find(half(number), |n| n == number), Some(number));
            }
            assert_eq!(entries.find(half(1), |_| false), None);
            assert_eq!(entries.find(1 << 20, |_| true), None);
            for number in numbers() {
                assert!(!entries.is_empty());
                entries.remove(half(number), number);
                assert_eq!(entries.find(half(number), |n| n == number), None);
            }
            assert!(entries.is_empty());
        }
        assert!(matches!(entries, Entries::Many(_)));
    }
}
