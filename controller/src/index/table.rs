//! Numbers of things by a key that the things themselves hold.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;

/// Maps within the index: quick, and seeded, so that nobody can choose names that all collide.
pub(super) type Map<K, V> = hashbrown::HashMap<K, V>;

/// Finds numbers by keys without a copy of the keys: eight bytes for each thing.
#[derive(Debug, Default)]
pub(super) struct Table {
    hasher: hashbrown::DefaultHashBuilder,
    /// Half of the hash, which is enough to grow without a look at the keys, and the number.
    entries: HashTable<(u32, u32)>,
}

/// Spreads half a hash over a whole one: the table looks at bits of both ends.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Table {
    fn half(&self, key: &impl Hash) -> u32 {
        let hash = self.hasher.hash_one(key);
        let [a, b, c, d, ..] = hash.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// The number that has this key; `is` tells for a number with the right hash.
    pub(super) fn find(&self, key: &impl Hash, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let half = self.half(key);
        let found = self.entries.find(spread(half), |(h, n)| *h == half && is(*n));
        found.map(|(_, number)| *number)
    }

    pub(super) fn insert(&mut self, key: &impl Hash, number: u32) {
        let half = self.half(key);
        self.entries.insert_unique(spread(half), (half, number), |(half, _)| spread(*half));
    }

    pub(super) fn remove(&mut self, key: &impl Hash, number: u32) {
        let half = self.half(key);
        if let Ok(entry) = self.entries.find_entry(spread(half), |e| *e == (half, number)) {
            entry.remove();
        }
    }
}
