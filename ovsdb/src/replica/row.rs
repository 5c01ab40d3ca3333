//! One row, and typed reading of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::schema::{ColumnType, TableSchema};
use crate::value::{Atom, Uuid, Value, ValueError};

/// What an entry of the table's tree and the shared row's counts take. Units: bytes.
const ENTRY: usize = 48;

/// The columns of a table, shared by its rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// In the order of the names.
    columns: Vec<(String, ColumnType)>,
    defaults: Vec<Value>,
}

impl Columns {
    pub(super) fn new(schema: &TableSchema) -> Self {
        let columns: Vec<_> =
            schema.columns.iter().map(|(name, ty)| (name.clone(), ty.clone())).collect();
        let defaults = columns.iter().map(|(_, ty)| Value::default_of(ty)).collect();
        Self { columns, defaults }
    }

    /// A column's place and type.
    pub(super) fn find(&self, name: &str) -> Option<(usize, &ColumnType)> {
        let at = self.columns.binary_search_by(|(ours, _)| ours.as_str().cmp(name)).ok()?;
        self.columns.get(at).map(|(_, ty)| (at, ty))
    }

    pub(super) fn defaults(&self) -> Vec<Value> {
        self.defaults.clone()
    }
}

/// A row: the monitored columns by name.
#[derive(Clone)]
pub struct Row {
    columns: Arc<Columns>,
    /// One for each of the columns, in their order.
    values: Box<[Value]>,
    weight: usize,
}

impl Row {
    pub(super) fn new(columns: &Arc<Columns>, values: Vec<Value>) -> Self {
        let weight = ENTRY + size_of::<Self>() + values.iter().map(Value::weight).sum::<usize>();
        Self { columns: Arc::clone(columns), values: values.into(), weight }
    }

    pub(super) fn change(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Value) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        if let Some(value) = self.values.get_mut(at) {
            self.weight -= value.weight();
            change(value)?;
            self.weight += value.weight();
        }
        Ok(())
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// The value of a column; none for one that is not monitored.
    pub fn value(&self, column: &str) -> Option<&Value> {
        let (at, _) = self.columns.find(column)?;
        self.values.get(at)
    }

    /// All columns, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.columns.columns.iter().map(|(name, _)| name.as_str()).zip(&self.values)
    }

    /// The row with typed reading.
    pub fn with(&self, uuid: Uuid) -> RowRef<'_> {
        RowRef { uuid, row: self }
    }

    /// All columns, as an operation takes them.
    pub fn to_map(&self) -> BTreeMap<String, Value> {
        self.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }
}

/// Equal are rows with the same columns and values.
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.columns, &other.columns) || self.columns == other.columns)
            && self.values == other.values
    }
}

impl Eq for Row {}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A row of a [`Replica`](crate::replica::Replica), with typed reading. A column that the server does not have reads
/// as its default.
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

    fn atoms(self, column: &str) -> &'a [Atom] {
        self.row.value(column).map_or(&[], Value::atoms)
    }

    fn pairs(self, column: &str) -> &'a [(Atom, Atom)] {
        self.row.value(column).map_or(&[], Value::pairs)
    }

    /// A string that may be absent.
    pub fn optional_str(self, column: &str) -> Option<&'a str> {
        self.atoms(column).iter().find_map(string)
    }

    /// A string that may be absent.
    pub fn optional_string(self, column: &str) -> Option<String> {
        self.optional_str(column).map(str::to_owned)
    }

    /// A string.
    pub fn string(self, column: &str) -> String {
        self.optional_string(column).unwrap_or_default()
    }

    /// An integer that may be absent.
    pub fn optional_integer(self, column: &str) -> Option<i64> {
        self.atoms(column).iter().find_map(integer)
    }

    /// An integer.
    pub fn integer(self, column: &str) -> i64 {
        self.optional_integer(column).unwrap_or_default()
    }

    /// A real number that may be absent.
    pub fn optional_real(self, column: &str) -> Option<f64> {
        self.atoms(column).iter().find_map(|atom| match atom {
            Atom::Real(value) => Some(*value),
            _ => None,
        })
    }

    /// A truth value that may be absent.
    pub fn optional_boolean(self, column: &str) -> Option<bool> {
        self.atoms(column).iter().find_map(|atom| match atom {
            Atom::Boolean(value) => Some(*value),
            _ => None,
        })
    }

    /// A truth value.
    pub fn boolean(self, column: &str) -> bool {
        self.optional_boolean(column).unwrap_or_default()
    }

    /// A reference that may be absent.
    pub fn optional_uuid(self, column: &str) -> Option<Uuid> {
        self.atoms(column).iter().find_map(uuid)
    }

    /// A set of strings.
    pub fn string_set(self, column: &str) -> BTreeSet<String> {
        self.atoms(column).iter().filter_map(string).map(str::to_owned).collect()
    }

    /// A set of integers.
    pub fn integer_set(self, column: &str) -> BTreeSet<i64> {
        self.atoms(column).iter().filter_map(integer).collect()
    }

    /// A set of references.
    pub fn uuid_set(self, column: &str) -> BTreeSet<Uuid> {
        self.atoms(column).iter().filter_map(uuid).collect()
    }

    /// The value of a key in a map of strings.
    pub fn key(self, column: &str, key: &str) -> Option<&'a str> {
        let pairs = self.pairs(column);
        let at = pairs.binary_search_by(|(ours, _)| string(ours).cmp(&Some(key))).ok()?;
        pairs.get(at).and_then(|(_, value)| string(value))
    }

    /// A map of strings.
    pub fn string_map(self, column: &str) -> BTreeMap<String, String> {
        self.pairs(column)
            .iter()
            .filter_map(|(k, v)| Some((string(k)?.to_owned(), string(v)?.to_owned())))
            .collect()
    }

    /// A map of integers to references.
    pub fn integer_to_uuid(self, column: &str) -> BTreeMap<i64, Uuid> {
        self.pairs(column).iter().filter_map(|(k, v)| Some((integer(k)?, uuid(v)?))).collect()
    }
}

fn string(atom: &Atom) -> Option<&str> {
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
