//! Rows as a server reports them, kept locally, and what each update changed.
//!
//! Rows are shared, so that a set of [`Changes`] holds the rows of before and after without a copy of either.

mod changes;
mod row;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::monitor::{RowUpdate, TableUpdates};
use crate::schema::{Schema, short};
use crate::value::{Uuid, Value, ValueError};

pub use changes::{ChangeKind, Changes, RowChange};
use row::Columns;
pub use row::{Row, RowRef};

/// A copy of the monitored columns of the monitored tables.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    schema: Schema,
    tables: BTreeMap<String, Table>,
    rows: usize,
    weight: usize,
    limits: Option<(usize, usize)>,
}

#[derive(Debug, Clone)]
struct Table {
    columns: Arc<Columns>,
    rows: BTreeMap<Uuid, Arc<Row>>,
}

/// Equal are replicas with the same rows, whatever else their schemas have.
impl PartialEq for Replica {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows && self.since(other).is_empty()
    }
}

impl Eq for Replica {}

impl Replica {
    /// An empty replica of the tables and columns in `schema`, which are those monitored.
    pub fn new(schema: Schema) -> Self {
        let tables = schema.tables.iter().map(|(name, table)| {
            let columns = Arc::new(Columns::new(table));
            (name.clone(), Table { columns, rows: BTreeMap::new() })
        });
        Self { tables: tables.collect(), schema, ..Self::default() }
    }

    /// The same, of at most this many rows and about this many bytes.
    ///
    /// Units: rows, bytes.
    #[must_use]
    pub fn with_limits(self, rows: usize, bytes: usize) -> Self {
        Self { limits: Some((rows, bytes)), ..self }
    }

    /// The tables and columns that are monitored.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// About what the rows take in memory. Units: bytes.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The rows of a table, in the order of their UUIDs; none for a table that is not monitored.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (Uuid, RowRef<'_>)> {
        self.tables
            .get(table)
            .into_iter()
            .flat_map(|table| &table.rows)
            .map(|(uuid, row)| (*uuid, row.with(*uuid)))
    }

    /// One row.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<RowRef<'_>> {
        self.tables.get(table)?.rows.get(&uuid).map(|row| row.with(uuid))
    }

    /// The exact difference to an earlier replica, of this schema or another: what would have to happen to `before`
    /// to make it this one.
    pub fn since(&self, before: &Self) -> Changes {
        let mut changes = Changes::default();
        for (name, table) in &before.tables {
            let now = self.tables.get(name).map(|table| &table.rows);
            for (uuid, row) in &table.rows {
                let after = now.and_then(|rows| rows.get(uuid));
                if after != Some(row) {
                    changes.add(name, *uuid, Some(row), after);
                }
            }
        }
        for (name, table) in &self.tables {
            let then = before.tables.get(name).map(|table| &table.rows);
            for (uuid, row) in &table.rows {
                if then.is_none_or(|rows| !rows.contains_key(uuid)) {
                    changes.add(name, *uuid, None, Some(row));
                }
            }
        }
        changes
    }

    /// Applies an update, all or nothing, and tells what it changed.
    ///
    /// Errors: a [`ReplicaError`] for anything that a replica in step with its server cannot be told: a row that
    /// appears twice, a change to a row that is not there, an unknown table or column, a value of the wrong type, more
    /// than the limits. The replica is then as before, but no longer in step: monitor anew.
    pub fn apply(&mut self, updates: TableUpdates) -> Result<Changes, ReplicaError> {
        let mut changes = Changes::default();
        match self.apply_to(updates, &mut changes) {
            Ok(()) => Ok(changes),
            Err(error) => {
                self.undo(&changes);
                Err(error)
            }
        }
    }

    fn apply_to(
        &mut self,
        updates: TableUpdates,
        changes: &mut Changes,
    ) -> Result<(), ReplicaError> {
        for (name, rows) in updates.tables {
            let Some(table) = self.tables.get_mut(&name) else {
                return Err(ReplicaError::UnknownTable(short(&name)));
            };
            for (uuid, update) in rows {
                let before = table.rows.get(&uuid).cloned();
                let after = next(&table.columns, before.as_ref(), update)
                    .map_err(|cause| cause.at(&name, uuid))?;
                if before == after {
                    continue;
                }
                match &after {
                    Some(row) => table.rows.insert(uuid, Arc::clone(row)),
                    None => table.rows.remove(&uuid),
                };
                self.rows =
                    self.rows + usize::from(after.is_some()) - usize::from(before.is_some());
                self.weight = self.weight + weight_of(&after) - weight_of(&before);
                changes.add(&name, uuid, before.as_ref(), after.as_ref());
                if let Some((rows, bytes)) = self.limits {
                    if self.rows > rows {
                        return Err(ReplicaError::Rows { limit: rows });
                    }
                    if self.weight > bytes {
                        return Err(ReplicaError::Weight { limit: bytes });
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes changes back that were made since the last success.
    fn undo(&mut self, changes: &Changes) {
        for (name, rows) in changes.tables() {
            let Some(table) = self.tables.get_mut(name) else { continue };
            for (uuid, change) in rows {
                let (before, after) = (change.shared_before().cloned(), change.shared_after());
                self.rows =
                    self.rows + usize::from(before.is_some()) - usize::from(after.is_some());
                self.weight =
                    self.weight + weight_of(&before) - after.map_or(0, |row| row.weight());
                match before {
                    Some(row) => table.rows.insert(*uuid, row),
                    None => table.rows.remove(uuid),
                };
            }
        }
    }
}

fn weight_of(row: &Option<Arc<Row>>) -> usize {
    row.as_ref().map_or(0, |row| row.weight())
}

/// A failure before it is known where it happened.
enum Cause {
    Repeated,
    Missing,
    UnknownColumn(String),
    Value(String, ValueError),
}

impl Cause {
    fn at(self, table: &str, uuid: Uuid) -> ReplicaError {
        let table = table.to_owned();
        match self {
            Self::Repeated => ReplicaError::Repeated { table, uuid },
            Self::Missing => ReplicaError::Missing { table, uuid },
            Self::UnknownColumn(column) => ReplicaError::UnknownColumn { table, column },
            Self::Value(column, source) => ReplicaError::Value { table, uuid, column, source },
        }
    }
}

/// What a row is after an update; none where it went.
fn next(
    columns: &Arc<Columns>,
    before: Option<&Arc<Row>>,
    update: RowUpdate,
) -> Result<Option<Arc<Row>>, Cause> {
    let row = match update {
        RowUpdate::Initial(_) | RowUpdate::Insert(_) if before.is_some() => {
            return Err(Cause::Repeated);
        }
        RowUpdate::Initial(row) | RowUpdate::Insert(row) | RowUpdate::Replace(row) => {
            set_all(columns, row)?
        }
        RowUpdate::Modify(row) => {
            let mut after = Row::clone(before.ok_or(Cause::Missing)?);
            for (column, json) in row {
                let Some((at, ty)) = columns.find(&column) else {
                    return Err(Cause::UnknownColumn(short(&column)));
                };
                let difference = Value::difference_from_json(ty, json);
                difference
                    .and_then(|difference| after.change(at, |value| value.apply(ty, difference)))
                    .map_err(|cause| Cause::Value(column, cause))?;
            }
            after
        }
        RowUpdate::Delete => {
            return match before {
                Some(_) => Ok(None),
                None => Err(Cause::Missing),
            };
        }
    };
    Ok(Some(Arc::new(row)))
}

/// A row with all columns: those that are left out hold their default.
fn set_all(
    columns: &Arc<Columns>,
    given: serde_json::Map<String, serde_json::Value>,
) -> Result<Row, Cause> {
    let mut values = columns.defaults();
    for (column, json) in given {
        let Some((at, ty)) = columns.find(&column) else {
            return Err(Cause::UnknownColumn(short(&column)));
        };
        let value = Value::from_json(ty, json).map_err(|cause| Cause::Value(column, cause))?;
        if let Some(slot) = values.get_mut(at) {
            *slot = value;
        }
    }
    Ok(Row::new(columns, values))
}

/// An update that does not fit the replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// A table that is not monitored.
    #[error("unknown table {0}")]
    UnknownTable(String),
    /// A column that is not monitored.
    #[error("unknown column {column} in table {table}")]
    UnknownColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A new row with the identity of one that is there.
    #[error("row {uuid} of table {table} appeared twice")]
    Repeated {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
    },
    /// A change to a row that is not there.
    #[error("row {uuid} of table {table} changed without having appeared")]
    Missing {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
    },
    /// A value of another type than the schema says.
    #[error("column {column} of row {uuid} of table {table}")]
    Value {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
        /// The column.
        column: String,
        /// What is wrong with it.
        source: ValueError,
    },
    /// More rows than the limit.
    #[error("more than {limit} rows")]
    Rows {
        /// [`Limits::replica_rows`](crate::Limits::replica_rows).
        limit: usize,
    },
    /// More bytes than the limit.
    #[error("rows of more than {limit} bytes")]
    Weight {
        /// [`Limits::replica_bytes`](crate::Limits::replica_bytes). Units: bytes.
        limit: usize,
    },
}

#[cfg(test)]
mod tests;
