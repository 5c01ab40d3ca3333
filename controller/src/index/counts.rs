//! Reference counts per number, mostly of nodes.

use roaring::RoaringBitmap;
use smallvec::SmallVec;

/// Numbers with how often each is counted; sorted, as most of these are small and all are read in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts(SmallVec<[(u32, u32); 2]>);

impl Counts {
    /// Counts `number` once more; true if it was not there.
    pub(super) fn add(&mut self, number: u32) -> bool {
        match self.0.binary_search_by_key(&number, |(n, _)| *n) {
            Ok(at) => {
                self.0[at].1 += 1;
                false
            }
            Err(at) => {
                self.0.insert(at, (number, 1));
                true
            }
        }
    }

    /// Counts `number` once less; true if it is gone by that.
    pub(super) fn sub(&mut self, number: u32) -> bool {
        let Ok(at) = self.0.binary_search_by_key(&number, |(n, _)| *n) else {
            debug_assert!(false, "{number} is not counted");
            return false;
        };
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.remove(at);
            return true;
        }
        false
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.0.binary_search_by_key(&number, |(n, _)| *n).is_ok()
    }

    /// `number` is counted once: the next [`Self::sub`] takes it away.
    pub(super) fn is_last(&self, number: u32) -> bool {
        self.0.binary_search_by_key(&number, |(n, _)| *n).is_ok_and(|at| self.0[at].1 == 1)
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|(n, _)| *n)
    }

    pub(super) fn bitmap(&self) -> RoaringBitmap {
        ascending(self.numbers())
    }

    /// Calls `f` with numbers that are counted: at least with those of `wanted`.
    pub(super) fn each_of(&self, wanted: &[u32], f: impl FnMut(u32)) {
        // a look-up costs about as much as eight steps
        if wanted.len() < self.0.len() / 8 {
            wanted.iter().copied().filter(|n| self.contains(*n)).for_each(f);
        } else {
            self.numbers().for_each(f);
        }
    }
}

/// A bitmap of numbers that come in order, which is quicker to make than one of any.
pub(super) fn ascending(numbers: impl Iterator<Item = u32>) -> RoaringBitmap {
    RoaringBitmap::from_sorted_iter(numbers).expect("the numbers are in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_up_and_down() {
        let mut c = Counts::default();
        assert!(c.add(7) && !c.add(7) && c.add(3));
        assert_eq!(c.bitmap(), RoaringBitmap::from([3, 7]));
        assert!(!c.sub(7) && c.contains(7));
        assert!(c.sub(7) && !c.contains(7));
        for n in 0..40 {
            c.add(n * 5);
        }
        // few of many, many of many, and what is not there
        for wanted in [vec![10, 11], vec![1, 3, 10, 11, 90, 400], vec![], (0..1000).collect()] {
            let mut met = Vec::new();
            c.each_of(&wanted, |n| met.push(n));
            assert!(met.iter().all(|n| c.contains(*n)));
            assert!(wanted.iter().all(|n| c.contains(*n) == met.contains(n)), "{wanted:?}");
        }
    }
}
