//! Which of many numbers are meant, while one answer is put together.

/// A bit for each number there is. Whoever collects numbers from many lists has each once by this, and in order, without
/// sorting.
#[derive(Debug, Default)]
pub(super) struct Marks {
    words: Vec<u64>,
    len: usize,
}

impl Marks {
    /// No marks on numbers below `end`.
    pub(super) fn new(end: u32) -> Self {
        Self { words: vec![0; end.div_ceil(u64::BITS) as usize], len: 0 }
    }

    /// True if it was not there.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = place(number);
        let word = &mut self.words[word];
        let fresh = *word & bit == 0;
        *word |= bit;
        self.len += usize::from(fresh);
        fresh
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let (word, bit) = place(number);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// In ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).step_by(u64::BITS as usize).zip(&self.words).flat_map(|(first, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(first + bit)
            })
        })
    }
}

fn place(number: u32) -> (usize, u64) {
    ((number / u64::BITS) as usize, 1 << (number % u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once_and_in_order() {
        let mut marks = Marks::new(130);
        assert!(marks.iter().next().is_none());
        assert_eq!(
            [129, 0, 63, 64, 0, 129].map(|n| marks.insert(n)),
            [true, true, true, true, false, false]
        );
        assert_eq!(marks.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert_eq!(marks.len(), 4);
        assert!(marks.contains(63) && !marks.contains(62) && !marks.contains(1_000));
        assert_eq!(Marks::new(0).iter().count(), 0);
    }
}
