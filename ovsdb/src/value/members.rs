//! The members of sets and maps: sorted lists, as most columns hold one atom and a tree would take half a kilobyte for it.

use smallvec::SmallVec;

use crate::value::{Atom, ValueError};

/// Differences of at most this many members are put in one by one, larger ones merged: each single insertion may move
/// all members behind it.
const FEW: usize = 8;

/// The members of a set, each once, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Set(SmallVec<[Atom; 1]>);

impl Set {
    pub(super) fn of(atom: Atom) -> Self {
        Self(SmallVec::from_buf([atom]))
    }

    /// A set of these atoms.
    ///
    /// Errors: [`ValueError::Repeated`].
    pub(super) fn unique(mut atoms: SmallVec<[Atom; 1]>) -> Result<Self, ValueError> {
        atoms.sort_unstable();
        match atoms.windows(2).any(|pair| pair.first() == pair.last()) {
            true => Err(ValueError::Repeated),
            false => Ok(Self(atoms)),
        }
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members.
    pub fn as_slice(&self) -> &[Atom] {
        &self.0
    }

    /// The members, in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Atom> {
        self.0.iter()
    }

    /// Whether an atom is a member.
    pub fn contains(&self, atom: &Atom) -> bool {
        self.0.binary_search(atom).is_ok()
    }

    /// The symmetric difference: members of both go, others stay or come.
    pub(super) fn toggle(&mut self, difference: Self) {
        if difference.len() <= FEW {
            for atom in difference.0 {
                match self.0.binary_search(&atom) {
                    Ok(at) => drop(self.0.remove(at)),
                    Err(at) => self.0.insert(at, atom),
                }
            }
            return;
        }
        let mut ours = std::mem::take(&mut self.0).into_iter().peekable();
        for theirs in difference.0 {
            while let Some(atom) = ours.next_if(|atom| *atom < theirs) {
                self.0.push(atom);
            }
            if ours.next_if(|atom| *atom == theirs).is_none() {
                self.0.push(theirs);
            }
        }
        self.0.extend(ours);
    }

    /// Units: bytes, beside the value itself.
    pub(super) fn heap_weight(&self) -> usize {
        if self.0.spilled() { self.0.capacity() * size_of::<Atom>() } else { 0 }
    }
}

impl<A: Into<Atom>> FromIterator<A> for Set {
    fn from_iter<I: IntoIterator<Item = A>>(atoms: I) -> Self {
        let mut atoms: SmallVec<[Atom; 1]> = atoms.into_iter().map(Into::into).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Self(atoms)
    }
}

impl IntoIterator for Set {
    type Item = Atom;
    type IntoIter = smallvec::IntoIter<[Atom; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Set {
    type Item = &'a Atom;
    type IntoIter = std::slice::Iter<'a, Atom>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The pairs of a map, each key once, in the order of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Map(Vec<(Atom, Atom)>);

impl Map {
    /// A map of these pairs.
    ///
    /// Errors: [`ValueError::Repeated`].
    pub(super) fn unique(mut pairs: Vec<(Atom, Atom)>) -> Result<Self, ValueError> {
        pairs.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        match pairs.windows(2).any(|two| two.first().map(|p| &p.0) == two.last().map(|p| &p.0)) {
            true => Err(ValueError::Repeated),
            false => Ok(Self(pairs)),
        }
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without pairs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pairs.
    pub fn as_slice(&self) -> &[(Atom, Atom)] {
        &self.0
    }

    /// The pairs, in the order of their keys.
    pub fn iter(&self) -> std::slice::Iter<'_, (Atom, Atom)> {
        self.0.iter()
    }

    /// The value of a key.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        let at = self.0.binary_search_by(|(ours, _)| ours.cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Adds and changes pairs, and removes those that are the same in the difference.
    pub(super) fn apply(&mut self, difference: Self) {
        if difference.len() <= FEW {
            for (key, value) in difference.0 {
                match self.0.binary_search_by(|(ours, _)| ours.cmp(&key)) {
                    Err(at) => self.0.insert(at, (key, value)),
                    Ok(at) => match self.0.get_mut(at) {
                        Some((_, ours)) if *ours != value => *ours = value,
                        _ => drop(self.0.remove(at)),
                    },
                }
            }
            return;
        }
        let mut ours = std::mem::take(&mut self.0).into_iter().peekable();
        for theirs in difference.0 {
            while let Some(pair) = ours.next_if(|pair| pair.0 < theirs.0) {
                self.0.push(pair);
            }
            if ours.next_if(|pair| pair.0 == theirs.0).is_none_or(|pair| pair.1 != theirs.1) {
                self.0.push(theirs);
            }
        }
        self.0.extend(ours);
    }

    /// Units: bytes, beside the value itself.
    pub(super) fn heap_weight(&self) -> usize {
        self.0.capacity() * size_of::<(Atom, Atom)>()
    }
}

impl<K: Into<Atom>, V: Into<Atom>> FromIterator<(K, V)> for Map {
    /// Of pairs with the same key the last one counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Atom, Atom)> =
            pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        // stable, so that the last of a key stays the last
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self(pairs)
    }
}

impl IntoIterator for Map {
    type Item = (Atom, Atom);
    type IntoIter = std::vec::IntoIter<(Atom, Atom)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a (Atom, Atom);
    type IntoIter = std::slice::Iter<'a, (Atom, Atom)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
