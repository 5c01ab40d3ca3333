//! Rows by their UUID, shared between one picture and the next.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use serde::Serialize;

use crate::value::Uuid;

/// Rows by their UUID. Two pictures share the rows that are the same in both, and all of a table where nothing in it
/// differs: the first change to a copy costs a reference per row of its table, and a comparison of what is shared nothing.
#[derive(PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Rows<T>(Arc<BTreeMap<Uuid, Arc<T>>>);

impl<T> Clone for Rows<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Rows<T> {
    /// A row.
    pub fn get(&self, uuid: &Uuid) -> Option<&T> {
        self.0.get(uuid).map(|row| &**row)
    }

    /// Whether the row is there.
    pub fn contains_key(&self, uuid: &Uuid) -> bool {
        self.0.contains_key(uuid)
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The identities, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &Uuid> {
        self.0.keys()
    }

    /// The rows, in the order of their identities.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.values().map(|row| &**row)
    }

    /// The rows with their identities.
    pub fn iter(&self) -> impl Iterator<Item = (&Uuid, &T)> {
        self.0.iter().map(|(uuid, row)| (uuid, &**row))
    }

    /// Adds or replaces a row.
    pub fn insert(&mut self, uuid: Uuid, row: T) {
        Arc::make_mut(&mut self.0).insert(uuid, Arc::new(row));
    }

    /// Removes a row, and tells whether it was there.
    pub fn remove(&mut self, uuid: &Uuid) -> bool {
        Arc::make_mut(&mut self.0).remove(uuid).is_some()
    }
}

impl<T: Clone> Rows<T> {
    /// A row to be changed; other pictures keep theirs.
    pub fn get_mut(&mut self, uuid: &Uuid) -> Option<&mut T> {
        Arc::make_mut(&mut self.0).get_mut(uuid).map(Arc::make_mut)
    }
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self(Arc::new(BTreeMap::new()))
    }
}

impl<T: fmt::Debug> fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<T> Index<&Uuid> for Rows<T> {
    type Output = T;

    /// Panics for a row that is not there; [`Rows::get`] does not.
    fn index(&self, uuid: &Uuid) -> &T {
        self.get(uuid).expect("the row is there, says the caller")
    }
}

impl<T> FromIterator<(Uuid, T)> for Rows<T> {
    fn from_iter<I: IntoIterator<Item = (Uuid, T)>>(rows: I) -> Self {
        Self(Arc::new(rows.into_iter().map(|(uuid, row)| (uuid, Arc::new(row))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_copy_leaves_the_original_alone() {
        let ids = [1, 2].map(Uuid::from_u128);
        let original: Rows<String> = ids.into_iter().map(|id| (id, id.to_string())).collect();
        let mut copy = original.clone();
        copy.get_mut(&ids[0]).unwrap().push('x');
        assert_ne!(copy, original);
        assert_eq!(original[&ids[0]], ids[0].to_string());
        // the other row is one and the same
        assert!(std::ptr::eq(&copy[&ids[1]], &original[&ids[1]]));
        assert!(copy.remove(&ids[0]) && !copy.remove(&ids[0]));
        copy.insert(ids[0], original[&ids[0]].clone());
        assert_eq!(copy, original);
        assert_eq!((copy.len(), copy.is_empty(), copy.contains_key(&ids[1])), (2, false, true));
        assert!(copy.keys().eq(&ids) && copy.values().eq(original.values()));
    }
}
