//! Dense numbers for things, so that sets of them are bitmaps.

use std::ops::{Index, IndexMut};

/// Things by number; the numbers of removed things are used again.
#[derive(Debug)]
pub(super) struct Slots<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// All numbers are below this.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.items.len()).expect("fewer than 2^32 objects fit in memory")
    }

    pub(super) fn insert(&mut self, item: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.items[number as usize] = Some(item);
            return number;
        }
        let number = self.end();
        self.items.push(Some(item));
        number
    }

    /// The number that [`Self::insert`] gives next.
    pub(super) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or_else(|| self.end())
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let item = self.items.get_mut(number as usize)?.take();
        if item.is_some() {
            self.free.push(number);
        }
        item
    }

    pub(super) fn holds(&self, number: u32) -> bool {
        self.items.get(number as usize).is_some_and(Option::is_some)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.items).filter_map(|(n, item)| Some((n, item.as_ref()?)))
    }
}

/// Panics for a number that is not in use: numbers come from this type alone, and whoever removes a thing removes its
/// number from every set.
impl<T> Index<u32> for Slots<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        self.items[number as usize].as_ref().expect("a number in use")
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.items[number as usize].as_mut().expect("a number in use")
    }
}
