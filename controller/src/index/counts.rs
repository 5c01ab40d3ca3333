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

    /// Adds to `out` those that are also in `within`.
    pub(super) fn meet(&self, within: &RoaringBitmap, out: &mut RoaringBitmap) {
        // a look-up costs about as much as eight steps
        if within.len() < self.0.len() as u64 / 8 {
            *out |= ascending(within.iter().filter(|n| self.contains(*n)));
            return;
        }
        let mut within = within.iter().peekable();
        *out |= ascending(self.numbers().filter(|n| {
            while within.next_if(|w| w < n).is_some() {}
            within.next_if_eq(n).is_some()
        }));
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
        let mut out = RoaringBitmap::new();
        c.meet(&RoaringBitmap::from([3, 4, 5]), &mut out);
        assert_eq!(out, RoaringBitmap::from([3]));
        for n in 0..40 {
            c.add(n * 5);
        }
        // few of many, and many of many; what was there stays
        for (within, wanted) in
            [(vec![10, 11], vec![3, 10]), (vec![1, 10, 11, 90, 400], vec![3, 10, 90])]
        {
            c.meet(&RoaringBitmap::from_iter(within), &mut out);
            assert_eq!(out, RoaringBitmap::from_iter(wanted));
        }
    }
}
