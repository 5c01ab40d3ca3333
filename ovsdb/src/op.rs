//! The operations of a transaction, and the reading of its results.
//!
//! Source: RFC 7047, section 5.2.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, ProtocolError};
use crate::schema::{AtomicType, TableSchema};
use crate::value::{Atom, Uuid, Value, ValueError};

/// Columns and their values, as an operation takes them.
pub type Row = BTreeMap<String, Value>;

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Adds a row. In a table that is no root, a row nothing refers to at commit vanishes without an error.
    Insert {
        /// The table.
        table: String,
        /// Columns that differ from their default.
        row: Row,
        /// The name by which other operations refer to the row, as [`Atom::NamedUuid`].
        uuid_name: Option<String>,
    },
    /// Reads rows.
    Select {
        /// The table.
        table: String,
        /// All must hold.
        conditions: Vec<Condition>,
        /// Columns to give; `None` is all.
        columns: Option<Vec<String>>,
    },
    /// Sets columns of the rows that meet the conditions.
    Update {
        /// The table.
        table: String,
        /// All must hold.
        conditions: Vec<Condition>,
        /// The new values.
        row: Row,
    },
    /// Changes columns of the rows that meet the conditions.
    Mutate {
        /// The table.
        table: String,
        /// All must hold.
        conditions: Vec<Condition>,
        /// Applied in order.
        mutations: Vec<Mutation>,
    },
    /// Removes the rows that meet the conditions.
    Delete {
        /// The table.
        table: String,
        /// All must hold.
        conditions: Vec<Condition>,
    },
    /// Fails with `timed out` unless the rows are (or, with `equal` false, are not) those given: with a time-out
    /// of 0 the optimistic lock.
    Wait {
        /// Units: milliseconds; keep it below [`Options::request_timeout`](crate::Options::request_timeout).
        timeout_ms: u64,
        /// The table.
        table: String,
        /// All must hold.
        conditions: Vec<Condition>,
        /// The columns compared.
        columns: Vec<String>,
        /// Whether the rows shall be equal.
        equal: bool,
        /// The rows.
        rows: Vec<Row>,
    },
    /// Written to the server's log with the transaction.
    Comment(String),
    /// Fails unless this client holds the lock.
    Assert {
        /// The lock's name.
        lock: String,
    },
    /// Fails on purpose.
    Abort,
    /// With `durable`, waits for the disk.
    Commit {
        /// Whether to wait for the disk.
        durable: bool,
    },
}

/// What an operation's outcome looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// Gives the new row's UUID.
    Insert,
    /// Gives rows.
    Select,
    /// Update, mutate, delete: gives a number of rows.
    Count,
    /// All others: give nothing.
    Plain,
}

/// What an operation gave.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// Of an insert: the new row.
    Inserted(Uuid),
    /// Of a select: the rows as they came; [`Outcome::read`] gives typed ones.
    Rows(Vec<Map<String, Json>>),
    /// Of an update, mutate or delete: how many rows met the conditions.
    Count(u64),
    /// Of any other.
    Done,
}

impl Outcome {
    /// The new row of an insert.
    pub fn uuid(&self) -> Option<Uuid> {
        match self {
            Self::Inserted(uuid) => Some(*uuid),
            _ => None,
        }
    }

    /// How many rows an update, mutate or delete met.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Count(count) => Some(*count),
            _ => None,
        }
    }

    /// The rows of a select, as JSON; none of other operations.
    pub fn rows(&self) -> &[Map<String, Json>] {
        match self {
            Self::Rows(rows) => rows,
            _ => &[],
        }
    }

    /// The rows of a select with their identity (where `_uuid` was among the columns), by the types of a table's schema.
    ///
    /// Errors: a [`ValueError`] for a value of another type than the schema's, or a column that it does not have.
    pub fn read(&self, table: &TableSchema) -> Result<Vec<(Option<Uuid>, Row)>, ValueError> {
        self.rows().iter().map(|row| read(table, row)).collect()
    }
}

fn read(table: &TableSchema, json: &Map<String, Json>) -> Result<(Option<Uuid>, Row), ValueError> {
    let (mut uuid, mut row) = (None, Row::new());
    for (column, value) in json {
        if column == "_uuid" || column == "_version" {
            let Atom::Uuid(id) = Atom::from_json(AtomicType::Uuid, value.clone())? else {
                continue;
            };
            if column == "_uuid" {
                uuid = Some(id);
            }
            continue;
        }
        let ty = table.columns.get(column).ok_or(ValueError::Type {
            expected: "column of the schema",
            found: "another column",
        })?;
        row.insert(column.clone(), Value::from_json(ty, value.clone())?);
    }
    Ok((uuid, row))
}

/// Which rows an operation is about.
///
/// Made from a [`Uuid`] (that row), one [`Condition`], a list of them (all must hold), or `()` (every row).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Where(pub Vec<Condition>);

impl From<Uuid> for Where {
    fn from(row: Uuid) -> Self {
        Self(vec![Condition::row(row)])
    }
}

impl From<Condition> for Where {
    fn from(condition: Condition) -> Self {
        Self(vec![condition])
    }
}

impl From<Vec<Condition>> for Where {
    fn from(conditions: Vec<Condition>) -> Self {
        Self(conditions)
    }
}

impl From<()> for Where {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl Operation {
    /// Adds a row; columns left out get their default.
    pub fn insert(table: &str, row: Row) -> Self {
        Self::Insert { table: table.to_owned(), row, uuid_name: None }
    }

    /// The name of an insert's row for other operations of the transaction; of other operations nothing changes.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        if let Self::Insert { uuid_name, .. } = &mut self {
            *uuid_name = Some(name.to_owned());
        }
        self
    }

    /// Reads these columns of rows.
    pub fn select(table: &str, rows: impl Into<Where>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        let Where(conditions) = rows.into();
        Self::Select { table: table.to_owned(), conditions, columns: Some(columns) }
    }

    /// Sets columns of rows. Sets and maps that others write as well are better served by [`Operation::mutate`].
    pub fn update(table: &str, rows: impl Into<Where>, row: Row) -> Self {
        let Where(conditions) = rows.into();
        Self::Update { table: table.to_owned(), conditions, row }
    }

    /// Changes columns of rows.
    pub fn mutate(
        table: &str,
        rows: impl Into<Where>,
        mutations: impl IntoIterator<Item = Mutation>,
    ) -> Self {
        let Where(conditions) = rows.into();
        let mutations = mutations.into_iter().collect();
        Self::Mutate { table: table.to_owned(), conditions, mutations }
    }

    /// Removes rows.
    pub fn delete(table: &str, rows: impl Into<Where>) -> Self {
        let Where(conditions) = rows.into();
        Self::Delete { table: table.to_owned(), conditions }
    }

    /// The optimistic lock: the transaction fails with [`Refusal::TimedOut`](crate::Refusal::TimedOut) unless the row
    /// still has these values. [`Client::optimistic`](crate::client::Client::optimistic) tries again then.
    pub fn unchanged(table: &str, uuid: Uuid, row: Row) -> Self {
        Self::Wait {
            timeout_ms: 0,
            table: table.to_owned(),
            conditions: vec![Condition::row(uuid)],
            columns: row.keys().cloned().collect(),
            equal: true,
            rows: vec![row],
        }
    }

    /// What its outcome looks like.
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Insert { .. } => OperationKind::Insert,
            Self::Select { .. } => OperationKind::Select,
            Self::Update { .. } | Self::Mutate { .. } | Self::Delete { .. } => OperationKind::Count,
            _ => OperationKind::Plain,
        }
    }

    /// As it goes to the server.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Insert { table, row, uuid_name } => {
                let mut json = json!({"op": "insert", "table": table, "row": row_json(row)});
                if let (Some(name), Some(object)) = (uuid_name, json.as_object_mut()) {
                    object.insert("uuid-name".to_owned(), Json::from(name.as_str()));
                }
                json
            }
            Self::Select { table, conditions, columns } => {
                let mut json =
                    json!({"op": "select", "table": table, "where": where_json(conditions)});
                if let (Some(columns), Some(object)) = (columns, json.as_object_mut()) {
                    object.insert("columns".to_owned(), Json::from(columns.clone()));
                }
                json
            }
            Self::Update { table, conditions, row } => json!({
                "op": "update", "table": table, "where": where_json(conditions), "row": row_json(row),
            }),
            Self::Mutate { table, conditions, mutations } => {
                let mutations: Vec<Json> = mutations.iter().map(Mutation::to_json).collect();
                json!({
                    "op": "mutate", "table": table, "where": where_json(conditions),
                    "mutations": mutations,
                })
            }
            Self::Delete { table, conditions } => {
                json!({"op": "delete", "table": table, "where": where_json(conditions)})
            }
            Self::Wait { timeout_ms, table, conditions, columns, equal, rows } => {
                let rows: Vec<Json> = rows.iter().map(row_json).collect();
                json!({
                    "op": "wait", "timeout": timeout_ms, "table": table,
                    "where": where_json(conditions), "columns": columns,
                    "until": if *equal { "==" } else { "!=" }, "rows": rows,
                })
            }
            Self::Comment(text) => json!({"op": "comment", "comment": text}),
            Self::Assert { lock } => json!({"op": "assert", "lock": lock}),
            Self::Abort => json!({"op": "abort"}),
            Self::Commit { durable } => json!({"op": "commit", "durable": durable}),
        }
    }
}

/// A row's JSON object.
fn row_json(row: &Row) -> Json {
    Json::from(
        row.iter()
            .map(|(column, value)| (column.clone(), value.to_json()))
            .collect::<Map<String, Json>>(),
    )
}

fn where_json(conditions: &[Condition]) -> Json {
    conditions.iter().map(Condition::to_json).collect()
}

/// A comparison of a column.
///
/// Source: RFC 7047, section 5.1, `<condition>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column; `_uuid` is the row itself.
    pub column: String,
    /// The comparison.
    pub function: Function,
    /// What is compared with.
    pub value: Value,
}

impl Condition {
    /// The column equals a value.
    pub fn eq(column: &str, value: impl Into<Value>) -> Self {
        Self { column: column.to_owned(), function: Function::Equal, value: value.into() }
    }

    /// The row with this identity.
    pub fn row(uuid: Uuid) -> Self {
        Self::eq("_uuid", uuid)
    }

    /// As it goes to the server.
    pub fn to_json(&self) -> Json {
        json!([self.column, self.function.symbol(), self.value.to_json()])
    }
}

/// The comparison of a [`Condition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `<`, numbers only.
    Less,
    /// `<=`, numbers only.
    LessOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>=`, numbers only.
    GreaterOrEqual,
    /// `>`, numbers only.
    Greater,
    /// The column holds all members given.
    Includes,
    /// The column holds none of the members given.
    Excludes,
}

impl Function {
    fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }
}

/// A change of a column.
///
/// Source: RFC 7047, section 5.1, `<mutation>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The column.
    pub column: String,
    /// The change.
    pub mutator: Mutator,
    /// The operand.
    pub value: Value,
}

impl Mutation {
    /// Adds members or pairs. **Never overwrites** a map key that is there: put a [`Mutation::delete`] of the key
    /// before it.
    pub fn insert(column: &str, value: impl Into<Value>) -> Self {
        Self { column: column.to_owned(), mutator: Mutator::Insert, value: value.into() }
    }

    /// Removes members; of a map, pairs (given a map) or keys (given a set).
    pub fn delete(column: &str, value: impl Into<Value>) -> Self {
        Self { column: column.to_owned(), mutator: Mutator::Delete, value: value.into() }
    }

    /// Sets pairs of a map and leaves its other keys alone, whoever they belong to.
    ///
    /// Two mutations, as an insertion alone does not overwrite.
    ///
    /// ```
    /// use weir_ovsdb::Uuid;
    /// use weir_ovsdb::op::{Mutation, Operation};
    ///
    /// let port = Uuid::from_u128(7);
    /// let change = Operation::mutate("Port", port, Mutation::put("external_ids", [("pod-name", "db-0")]));
    /// # assert_eq!(change.to_json()["mutations"][0][1], "delete");
    /// ```
    pub fn put<K: Into<Atom>, V: Into<Atom>>(
        column: &str,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> [Self; 2] {
        let pairs: crate::value::Map = pairs.into_iter().collect();
        let keys = Value::set(pairs.iter().map(|(key, _)| key.clone()));
        [Self::delete(column, keys), Self::insert(column, pairs)]
    }

    /// Removes keys of a map, whatever their values are.
    pub fn remove<K: Into<Atom>>(column: &str, keys: impl IntoIterator<Item = K>) -> Self {
        Self::delete(column, Value::set(keys))
    }

    /// Adds to a number.
    pub fn add(column: &str, value: i64) -> Self {
        Self {
            column: column.to_owned(),
            mutator: Mutator::Add,
            value: Atom::Integer(value).into(),
        }
    }

    fn to_json(&self) -> Json {
        json!([self.column, self.mutator.symbol(), self.value.to_json()])
    }
}

/// The change of a [`Mutation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutator {
    /// `+=`
    Add,
    /// `-=`
    Subtract,
    /// `*=`
    Multiply,
    /// `/=`
    Divide,
    /// `%=`, integers only.
    Modulo,
    /// Adds members.
    Insert,
    /// Removes members.
    Delete,
}

impl Mutator {
    fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Subtract => "-=",
            Self::Multiply => "*=",
            Self::Divide => "/=",
            Self::Modulo => "%=",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }
}

/// Reads the reply to `transact`: one outcome per operation, or the error that made nothing of all of them.
///
/// Errors: [`Error::Operation`] for the first operation that failed (those after it are null), [`Error::Commit`] for
/// the extra element that a failed commit adds, [`Error::Protocol`] for a list that is neither.
/// Source: RFC 7047, section 4.1.3.
pub fn outcomes(operations: &[OperationKind], reply: Json) -> Result<Vec<Outcome>, Error> {
    let Json::Array(results) = reply else {
        return Err(ProtocolError::Results("no list").into());
    };
    let mut outcomes = Vec::with_capacity(operations.len());
    let found = results.len();
    for (index, result) in results.into_iter().enumerate() {
        let mut object = match result {
            Json::Object(object) => object,
            Json::Null => return Err(ProtocolError::Results("null before any error").into()),
            _ => return Err(ProtocolError::Results("element is no object").into()),
        };
        if let Some(error) = object.get("error") {
            let (error, details) = error_text(error, object.get("details"));
            return Err(if index < operations.len() {
                Error::Operation { index, error, details }
            } else {
                Error::Commit { error, details }
            });
        }
        if let Some(kind) = operations.get(index) {
            outcomes.push(outcome(*kind, &mut object)?);
        }
    }
    if found == operations.len() {
        Ok(outcomes)
    } else {
        Err(ProtocolError::Results("number of elements").into())
    }
}

fn outcome(kind: OperationKind, object: &mut Map<String, Json>) -> Result<Outcome, ProtocolError> {
    match kind {
        OperationKind::Insert => {
            let uuid = object.remove("uuid").map(|json| Atom::from_json(AtomicType::Uuid, json));
            match uuid {
                Some(Ok(Atom::Uuid(uuid))) => Ok(Outcome::Inserted(uuid)),
                _ => Err(ProtocolError::Results("insert without a UUID")),
            }
        }
        OperationKind::Select => {
            let Some(Json::Array(rows)) = object.remove("rows") else {
                return Err(ProtocolError::Results("select without rows"));
            };
            rows.into_iter()
                .map(|row| match row {
                    Json::Object(row) => Ok(row),
                    _ => Err(ProtocolError::Results("row is no object")),
                })
                .collect::<Result<_, _>>()
                .map(Outcome::Rows)
        }
        OperationKind::Count => object
            .get("count")
            .and_then(Json::as_u64)
            .map(Outcome::Count)
            .ok_or(ProtocolError::Results("no count of rows")),
        OperationKind::Plain => Ok(Outcome::Done),
    }
}

/// The server's words, cut to a length that a log can take.
pub(crate) fn error_text(error: &Json, details: Option<&Json>) -> (String, Option<String>) {
    const LONGEST: usize = 1024;
    let cut = |text: &str| text.chars().take(LONGEST).collect::<String>();
    let error = error.as_str().map_or_else(|| "unspecified".to_owned(), cut);
    (error, details.and_then(Json::as_str).map(cut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Refusal;
    use crate::schema::ColumnType;

    #[test]
    fn operations_as_rfc_7047_spells_them() {
        let insert = Operation::Insert {
            table: "Port".into(),
            row: Row::from([("interfaces".into(), Value::from(Atom::NamedUuid("i".into())))]),
            uuid_name: Some("p".into()),
        };
        assert_eq!(
            insert.to_json(),
            json!({"op": "insert", "table": "Port", "uuid-name": "p",
                   "row": {"interfaces": ["named-uuid", "i"]}})
        );
        let uuid = Uuid::from_u128(1);
        let mutate = Operation::Mutate {
            table: "Bridge".into(),
            conditions: vec![Condition::row(uuid)],
            mutations: vec![
                Mutation::delete("flow_tables", Value::set([30, 31])),
                Mutation::insert("flow_tables", Value::map([(30, uuid)])),
                Mutation::add("next_cfg", 1),
            ],
        };
        let id = "00000000-0000-0000-0000-000000000001";
        assert_eq!(
            mutate.to_json(),
            json!({"op": "mutate", "table": "Bridge", "where": [["_uuid", "==", ["uuid", id]]],
                   "mutations": [["flow_tables", "delete", ["set", [30, 31]]],
                                 ["flow_tables", "insert", ["map", [[30, ["uuid", id]]]]],
                                 ["next_cfg", "+=", 1]]})
        );
        let wait = Operation::Wait {
            timeout_ms: 0,
            table: "Bridge".into(),
            conditions: vec![Condition::eq("name", "br0")],
            columns: vec!["ports".into()],
            equal: true,
            rows: vec![Row::from([("ports".into(), Value::set(Vec::<Uuid>::new()))])],
        };
        assert_eq!(
            wait.to_json(),
            json!({"op": "wait", "timeout": 0, "table": "Bridge", "where": [["name", "==", "br0"]],
                   "columns": ["ports"], "until": "==", "rows": [{"ports": ["set", []]}]})
        );
    }

    #[test]
    fn outcomes_of_a_transaction() {
        let uuid = Uuid::from_u128(1);
        let reply = json!([{"uuid": ["uuid", uuid.to_string()]}, {"rows": [{"name": "a"}]},
                           {"count": 1}, {}]);
        let kinds = [
            OperationKind::Insert,
            OperationKind::Select,
            OperationKind::Count,
            OperationKind::Plain,
        ];
        let all = outcomes(&kinds, reply.clone()).unwrap();
        assert_eq!((all[0].uuid(), all[2].count()), (Some(uuid), Some(1)));
        assert_eq!(all[1].rows()[0]["name"], "a");
        assert_eq!(all[3], Outcome::Done);
        // each of them in a place that wants another
        for kind in &kinds[..3] {
            for (at, element) in reply.as_array().unwrap().iter().enumerate() {
                let read = outcomes(&[*kind], json!([element]));
                assert_eq!(read.is_ok(), kinds[at] == *kind, "{kind:?} {element}");
            }
        }
        let plain = [OperationKind::Plain; 3];
        let error = outcomes(&plain, json!([{}, {"error": "timed out", "details": "x"}, null]));
        assert!(
            matches!(&error, Err(Error::Operation { index: 1, error, details: Some(d) })
                if error == "timed out" && d == "x"),
            "{error:?}"
        );
        assert_eq!(error.unwrap_err().refusal(), Some(Refusal::TimedOut));
        let error =
            outcomes(&plain[..1], json!([{}, {"error": "referential integrity violation"}]));
        let error = error.unwrap_err();
        assert!(matches!(&error, Error::Commit { .. }), "{error:?}");
        assert_eq!(error.refusal(), Some(Refusal::ReferentialIntegrity));
    }

    #[test]
    fn malformed_results() {
        for reply in [json!(null), json!({}), json!([]), json!([{}, {}]), json!([null]), json!([7])]
        {
            assert!(matches!(
                outcomes(&[OperationKind::Plain], reply),
                Err(Error::Protocol(ProtocolError::Results(_)))
            ));
        }
    }

    #[test]
    fn selected_rows_are_typed() {
        let name = ColumnType::scalar(AtomicType::String);
        let table =
            TableSchema { columns: [("name".to_owned(), name)].into(), ..TableSchema::default() };
        let rows = |json: Json| Outcome::Rows(vec![json.as_object().unwrap().clone()]).read(&table);
        let uuid = Uuid::from_u128(3);
        let read = rows(json!({"_uuid": ["uuid", uuid.to_string()], "name": "x"})).unwrap();
        assert_eq!(read, [(Some(uuid), Row::from([("name".to_owned(), "x".into())]))]);
        for wrong in [json!({"name": 7}), json!({"other": 7}), json!({"_uuid": "x"})] {
            assert!(rows(wrong).is_err());
        }
    }
}
