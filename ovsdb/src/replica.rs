//! Rows as a server reports them, kept locally, and what each update changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::monitor::{RowUpdate, TableUpdates};
use crate::schema::{Schema, TableSchema, short};
use crate::value::{Atom, Uuid, Value, ValueError};

/// A row: the monitored columns by name.
pub type Row = BTreeMap<String, Value>;

/// A copy of the monitored columns of the monitored tables.
///
/// An error leaves it half changed: throw it away and monitor anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    schema: Schema,
    tables: BTreeMap<String, BTreeMap<Uuid, Row>>,
    rows: usize,
    weight: usize,
}

/// The rows an update touched, by table. A row that came and went is here too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    tables: BTreeMap<String, BTreeSet<Uuid>>,
}

impl Changes {
    /// Tables with touched rows.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &BTreeSet<Uuid>)> {
        self.tables.iter().map(|(table, rows)| (table.as_str(), rows))
    }

    /// True where nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Adds those of a later update.
    pub fn merge(&mut self, later: Self) {
        for (table, rows) in later.tables {
            self.tables.entry(table).or_default().extend(rows);
        }
    }
}

impl Replica {
    /// An empty replica of the tables and columns in `schema`, which are those monitored.
    pub fn new(schema: Schema) -> Self {
        Self { schema, ..Self::default() }
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
            .flatten()
            .map(|(uuid, row)| (*uuid, RowRef { uuid: *uuid, row }))
    }

    /// One row.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<RowRef<'_>> {
        self.tables.get(table)?.get(&uuid).map(|row| RowRef { uuid, row })
    }

    /// Applies an update and tells which rows it touched.
    ///
    /// Errors: a [`ReplicaError`] for anything that a replica in step with its server cannot be told: a row that
    /// appears twice, a change to a row that is not there, an unknown table or column, a value of the wrong type.
    pub fn apply(&mut self, updates: TableUpdates) -> Result<Changes, ReplicaError> {
        let mut changes = Changes::default();
        for (name, rows) in updates.tables {
            let Some(schema) = self.schema.tables.get(&name) else {
                return Err(ReplicaError::UnknownTable(short(&name)));
            };
            let table = self.tables.entry(name.clone()).or_default();
            let touched = changes.tables.entry(name.clone()).or_default();
            for (uuid, update) in rows {
                let before = table.get(&uuid).map(weight_of);
                apply_row(schema, table, uuid, update).map_err(|cause| cause.at(&name, uuid))?;
                let after = table.get(&uuid).map(weight_of);
                self.rows =
                    self.rows + usize::from(after.is_some()) - usize::from(before.is_some());
                self.weight = self.weight + after.unwrap_or(0) - before.unwrap_or(0);
                touched.insert(uuid);
            }
        }
        changes.tables.retain(|_, rows| !rows.is_empty());
        Ok(changes)
    }
}

fn weight_of(row: &Row) -> usize {
    // a row's own entry, and per column the name and a tree's share
    const ROW: usize = 64;
    row.iter().map(|(name, value)| name.len() + size_of::<String>() + value.weight()).sum::<usize>()
        + ROW
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

fn apply_row(
    schema: &TableSchema,
    table: &mut BTreeMap<Uuid, Row>,
    uuid: Uuid,
    update: RowUpdate,
) -> Result<(), Cause> {
    match update {
        RowUpdate::Initial(columns) | RowUpdate::Insert(columns) => {
            if table.contains_key(&uuid) {
                return Err(Cause::Repeated);
            }
            table.insert(uuid, full_row(schema, columns)?);
        }
        RowUpdate::Replace(columns) => {
            table.insert(uuid, full_row(schema, columns)?);
        }
        RowUpdate::Modify(columns) => {
            let row = table.get_mut(&uuid).ok_or(Cause::Missing)?;
            for (column, json) in columns {
                let ty = schema
                    .columns
                    .get(&column)
                    .ok_or_else(|| Cause::UnknownColumn(short(&column)))?;
                let difference = Value::difference_from_json(ty, json)
                    .map_err(|cause| Cause::Value(column.clone(), cause))?;
                row.entry(column.clone())
                    .or_insert_with(|| Value::default_of(ty))
                    .apply(ty, difference)
                    .map_err(|cause| Cause::Value(column, cause))?;
            }
        }
        RowUpdate::Delete => {
            table.remove(&uuid).ok_or(Cause::Missing)?;
        }
    }
    Ok(())
}

/// A row with all columns: those that are left out hold their default.
fn full_row(
    schema: &TableSchema,
    mut columns: serde_json::Map<String, serde_json::Value>,
) -> Result<Row, Cause> {
    let mut row = Row::new();
    for (column, ty) in &schema.columns {
        let value = match columns.remove(column) {
            Some(json) => {
                Value::from_json(ty, json).map_err(|cause| Cause::Value(column.clone(), cause))?
            }
            None => Value::default_of(ty),
        };
        row.insert(column.clone(), value);
    }
    match columns.into_iter().next() {
        Some((column, _)) => Err(Cause::UnknownColumn(short(&column))),
        None => Ok(row),
    }
}

/// A row of a [`Replica`], with typed reading. A column that the server does not have reads as its default.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    uuid: Uuid,
    row: &'a Row,
}

impl<'a> RowRef<'a> {
    /// The row's identity.
    pub fn uuid(self) -> Uuid {
        self.uuid
    }

    /// All columns.
    pub fn columns(self) -> &'a Row {
        self.row
    }

    fn atoms(self, column: &str) -> impl Iterator<Item = &'a Atom> + use<'a> {
        self.row.get(column).into_iter().flat_map(Value::atoms)
    }

    fn pairs(self, column: &str) -> impl Iterator<Item = (&'a Atom, &'a Atom)> + use<'a> {
        self.row.get(column).into_iter().flat_map(Value::pairs)
    }

    /// A string that may be absent.
    pub fn optional_string(self, column: &str) -> Option<String> {
        self.atoms(column).find_map(string).cloned()
    }

    /// A string.
    pub fn string(self, column: &str) -> String {
        self.optional_string(column).unwrap_or_default()
    }

    /// An integer that may be absent.
    pub fn optional_integer(self, column: &str) -> Option<i64> {
        self.atoms(column).find_map(integer)
    }

    /// An integer.
    pub fn integer(self, column: &str) -> i64 {
        self.optional_integer(column).unwrap_or_default()
    }

    /// A set of strings.
    pub fn string_set(self, column: &str) -> BTreeSet<String> {
        self.atoms(column).filter_map(string).cloned().collect()
    }

    /// A set of references.
    pub fn uuid_set(self, column: &str) -> BTreeSet<Uuid> {
        self.atoms(column).filter_map(uuid).collect()
    }

    /// A map of strings.
    pub fn string_map(self, column: &str) -> BTreeMap<String, String> {
        self.pairs(column)
            .filter_map(|(k, v)| Some((string(k)?.clone(), string(v)?.clone())))
            .collect()
    }

    /// A map of integers to references.
    pub fn integer_to_uuid(self, column: &str) -> BTreeMap<i64, Uuid> {
        self.pairs(column).filter_map(|(k, v)| Some((integer(k)?, uuid(v)?))).collect()
    }
}

fn string(atom: &Atom) -> Option<&String> {
    match atom {
        Atom::String(text) => Some(text),
        _ => None,
    }
}

fn integer(atom: &Atom) -> Option<i64> {
    match atom {
        Atom::Integer(value) => Some(*value),
        _ => None,
    }
}

fn uuid(atom: &Atom) -> Option<Uuid> {
    match atom {
        Atom::Uuid(uuid) => Some(*uuid),
        _ => None,
    }
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
