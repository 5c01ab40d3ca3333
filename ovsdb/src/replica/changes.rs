//! What happened between two states of a replica.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::replica::Row;
use crate::value::{Uuid, Value};

/// The exact difference between two states of a replica: each row that is not in both or differs, as it was before and
/// as it is after. A row that came and went between the two is not here.
///
/// Consecutive ones add up with [`Changes::merge`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    tables: BTreeMap<String, BTreeMap<Uuid, RowChange>>,
}

/// What happened to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    before: Option<Arc<Row>>,
    after: Option<Arc<Row>>,
}

/// The kind of a [`RowChange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// The row is new.
    Inserted,
    /// Columns changed.
    Modified,
    /// The row is gone.
    Deleted,
}

impl RowChange {
    /// The row before; none where it is new.
    pub fn before(&self) -> Option<&Row> {
        self.before.as_deref()
    }

    /// The row after; none where it is gone.
    pub fn after(&self) -> Option<&Row> {
        self.after.as_deref()
    }

    /// What happened.
    pub fn kind(&self) -> ChangeKind {
        match (&self.before, &self.after) {
            (None, _) => ChangeKind::Inserted,
            (Some(_), Some(_)) => ChangeKind::Modified,
            (Some(_), None) => ChangeKind::Deleted,
        }
    }

    /// The columns that differ, with their values before and after; all columns of a row that is new or gone.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Option<&Value>, Option<&Value>)> {
        let names = self.after.as_deref().or(self.before.as_deref());
        names.into_iter().flat_map(Row::iter).filter_map(|(name, _)| {
            let before = self.before().and_then(|row| row.value(name));
            let after = self.after().and_then(|row| row.value(name));
            (before != after).then_some((name, before, after))
        })
    }

    pub(super) fn shared_before(&self) -> Option<&Arc<Row>> {
        self.before.as_ref()
    }

    pub(super) fn shared_after(&self) -> Option<&Arc<Row>> {
        self.after.as_ref()
    }
}

impl Changes {
    /// Tables with changed rows, by name.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &BTreeMap<Uuid, RowChange>)> {
        self.tables.iter().map(|(table, rows)| (table.as_str(), rows))
    }

    /// The changed rows of a table.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (Uuid, &RowChange)> {
        self.tables.get(table).into_iter().flatten().map(|(uuid, change)| (*uuid, change))
    }

    /// True where nothing changed.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The number of changed rows.
    pub fn len(&self) -> usize {
        self.tables.values().map(BTreeMap::len).sum()
    }

    /// Adds what happened later. What the two undo of each other is in neither.
    pub fn merge(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        for (table, rows) in later.tables {
            for (uuid, change) in rows {
                self.add(&table, uuid, change.before.as_ref(), change.after.as_ref());
            }
        }
    }

    /// Adds one change, which begins where an earlier one of the row ended.
    pub(super) fn add(
        &mut self,
        table: &str,
        uuid: Uuid,
        before: Option<&Arc<Row>>,
        after: Option<&Arc<Row>>,
    ) {
        let after = after.cloned();
        // few tables: a name is made once in each set of changes
        if !self.tables.contains_key(table) {
            self.tables.insert(table.to_owned(), BTreeMap::new());
        }
        let Some(rows) = self.tables.get_mut(table) else { return };
        match rows.get_mut(&uuid) {
            None => {
                rows.insert(uuid, RowChange { before: before.cloned(), after });
            }
            Some(earlier) if earlier.before == after => {
                rows.remove(&uuid);
                if rows.is_empty() {
                    self.tables.remove(table);
                }
            }
            Some(earlier) => earlier.after = after,
        }
    }
}
