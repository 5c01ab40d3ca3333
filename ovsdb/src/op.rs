//! The operations of a transaction, and the reading of its results.
//!
//! Source: RFC 7047, section 5.2.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, ProtocolError};
use crate::value::{Atom, Uuid, Value};

/// Columns and their values.
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

impl Operation {
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

    fn to_json(&self) -> Json {
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

/// Reads the reply to `transact`: one result per operation, or the error that made nothing of all of them.
///
/// Errors: [`Error::Operation`] for the first operation that failed (those after it are null), [`Error::Commit`] for
/// the extra element that a failed commit adds, [`Error::Protocol`] for a list that is neither.
/// Source: RFC 7047, section 4.1.3.
pub fn results(operations: usize, reply: Json) -> Result<Vec<Json>, Error> {
    let Json::Array(results) = reply else {
        return Err(ProtocolError::Results("no list").into());
    };
    for (index, result) in results.iter().enumerate() {
        match result {
            Json::Object(object) => {
                let Some(error) = object.get("error") else {
                    continue;
                };
                let (error, details) = error_text(error, object.get("details"));
                return Err(if index < operations {
                    Error::Operation { index, error, details }
                } else {
                    Error::Commit { error, details }
                });
            }
            Json::Null => return Err(ProtocolError::Results("null before any error").into()),
            _ => return Err(ProtocolError::Results("element is no object").into()),
        }
    }
    if results.len() == operations {
        Ok(results)
    } else {
        Err(ProtocolError::Results("number of elements").into())
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
    fn results_of_a_transaction() {
        assert_eq!(results(2, json!([{}, {"count": 1}])).unwrap().len(), 2);
        let error = results(3, json!([{}, {"error": "timed out", "details": "x"}, null]));
        assert!(
            matches!(&error, Err(Error::Operation { index: 1, error, details: Some(d) })
                if error == "timed out" && d == "x"),
            "{error:?}"
        );
        let error = results(1, json!([{}, {"error": "referential integrity violation"}]));
        assert!(
            matches!(&error, Err(Error::Commit { error, .. }) if error.starts_with("referential")),
            "{error:?}"
        );
    }

    #[test]
    fn malformed_results() {
        for reply in [json!(null), json!({}), json!([]), json!([{}, {}]), json!([null]), json!([7])]
        {
            assert!(matches!(results(1, reply), Err(Error::Protocol(ProtocolError::Results(_)))));
        }
    }
}
