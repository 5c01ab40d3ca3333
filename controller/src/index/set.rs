//! Sets of numbers: most have a handful of members, some tens of thousands.

use roaring::RoaringBitmap;
use smallvec::SmallVec;

use super::counts::ascending;

/// Up to this many members a sorted list takes not much more than a bitmap, and is quicker.
const FEW: usize = 1024;

/// A set of numbers.
#[derive(Clone, Debug)]
pub(super) enum Set {
    /// Sorted.
    Few(SmallVec<[u32; 4]>),
    Many(RoaringBitmap),
}

impl Default for Set {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Set {
    /// True if it was not there.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        match self {
            Self::Few(list) => {
                // what is new usually has the greatest number so far
                let at = match list.last() {
                    Some(last) if *last < number => list.len(),
                    _ => match list.binary_search(&number) {
                        Ok(_) => return false,
                        Err(at) => at,
                    },
                };
                if list.len() < FEW {
                    list.insert(at, number);
                } else {
                    let mut many: RoaringBitmap = list.iter().copied().collect();
                    many.insert(number);
                    *self = Self::Many(many);
                }
                true
            }
            Self::Many(bitmap) => bitmap.insert(number),
        }
    }

    /// True if it was there.
    pub(super) fn remove(&mut self, number: u32) -> bool {
        match self {
            Self::Few(list) => match list.binary_search(&number) {
                Ok(at) => {
                    list.remove(at);
                    true
                }
                Err(_) => false,
            },
            Self::Many(bitmap) => {
                let was = bitmap.remove(number);
                // half of it, so that a set at the limit does not change its form with each event
                if was && bitmap.len() <= FEW as u64 / 2 {
                    *self = Self::Few(bitmap.iter().collect());
                }
                was
            }
        }
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        match self {
            Self::Few(list) => list.binary_search(&number).is_ok(),
            Self::Many(bitmap) => bitmap.contains(number),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(bitmap) => usize::try_from(bitmap.len()).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(list) => list.is_empty(),
            Self::Many(bitmap) => bitmap.is_empty(),
        }
    }

    pub(super) fn iter(&self) -> Iter<'_> {
        match self {
            Self::Few(list) => Iter::Few(list.iter()),
            Self::Many(bitmap) => Iter::Many(bitmap.iter()),
        }
    }

    pub(super) fn bitmap(&self) -> RoaringBitmap {
        match self {
            Self::Few(list) => ascending(list.iter().copied()),
            Self::Many(bitmap) => bitmap.clone(),
        }
    }
}

impl FromIterator<u32> for Set {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut out = Self::default();
        for number in numbers {
            out.insert(number);
        }
        out
    }
}

impl<'a> IntoIterator for &'a Set {
    type Item = u32;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// In ascending order.
pub(super) enum Iter<'a> {
    Few(std::slice::Iter<'a, u32>),
    Many(roaring::bitmap::Iter<'a>),
}

impl Iterator for Iter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match self {
            Self::Few(iter) => iter.next().copied(),
            Self::Many(iter) => iter.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Few(iter) => iter.size_hint(),
            Self::Many(iter) => iter.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both forms, and every way between them, against a tree.
    #[test]
    fn grows_and_shrinks() {
        let mut set = Set::default();
        let mut wanted = std::collections::BTreeSet::new();
        let mut x = 1_u32;
        let (mut grew, mut shrank) = (0, 0);
        for round in 0..120_000 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = x >> 16 & 0xfff;
            let was_many = matches!(set, Set::Many(_));
            // mostly inserting, then mostly removing
            if (round / 20_000 % 2 == 0) == (x >> 28 != 0) {
                assert_eq!(set.insert(number), wanted.insert(number));
            } else {
                assert_eq!(set.remove(number), wanted.remove(&number));
            }
            let is_many = matches!(set, Set::Many(_));
            grew += u32::from(!was_many && is_many);
            shrank += u32::from(was_many && !is_many);
            assert_eq!((set.len(), set.is_empty()), (wanted.len(), wanted.is_empty()));
            assert_eq!(set.contains(number), wanted.contains(&number));
            if round % 1024 == 0 {
                assert!(set.iter().eq(wanted.iter().copied()));
            }
        }
        assert!(grew > 1 && shrank > 1, "{grew} {shrank}");
        assert!(set.bitmap().iter().eq(wanted.iter().copied()));
        assert!(set.iter().collect::<Set>().iter().eq(wanted));
    }
}
