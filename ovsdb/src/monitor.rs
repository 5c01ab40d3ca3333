//! Monitor requests, and the updates they lead to.
//!
//! Source: ovsdb-server(7), sections 4.1.12 to 4.1.15 (`monitor_cond`, `update2`); RFC 7047, sections 4.1.5 and 4.1.6
//! (`monitor`, `update`).

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::error::ProtocolError;
use crate::op::Condition;
use crate::schema::Schema;
use crate::value::Uuid;

/// How a server is asked to monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `monitor_cond`, answered with row updates of the second form.
    MonitorCond,
    /// `monitor`, which servers before OVS 2.6 have alone.
    Monitor,
}

impl Method {
    /// The JSON-RPC method.
    pub fn name(self) -> &'static str {
        match self {
            Self::MonitorCond => "monitor_cond",
            Self::Monitor => "monitor",
        }
    }

    /// The notification that brings updates.
    pub fn update(self) -> &'static str {
        match self {
            Self::MonitorCond => "update2",
            Self::Monitor => "update",
        }
    }
}

/// The parameters of `monitor_cond` or `monitor` for all tables and columns in `wanted`, and of these for the rows for
/// which one of a table's conditions holds (all rows without any).
///
/// `monitor` takes no conditions: give it none.
pub fn request<'a>(
    database: &str,
    monitor: &str,
    wanted: &Schema,
    conditions: impl Fn(&str) -> &'a [Condition],
) -> Json {
    let tables: Map<String, Json> = wanted
        .tables
        .iter()
        .map(|(name, table)| {
            let columns: Vec<&String> = table.columns.keys().collect();
            let request = match conditions(name) {
                [] => json!({ "columns": columns }),
                conditions => json!({ "columns": columns, "where": any_of(conditions) }),
            };
            (name.clone(), request)
        })
        .collect();
    json!([database, monitor, tables])
}

/// The parameters of `monitor_cond_change` for one table; the monitor keeps its name.
///
/// Source: ovsdb-server(7), "Monitor_cond_change".
pub fn change_request(monitor: &str, table: &str, conditions: &[Condition]) -> Json {
    json!([monitor, monitor, {table: [{"where": any_of(conditions)}]}])
}

fn any_of(conditions: &[Condition]) -> Json {
    match conditions {
        // an empty list would be no row
        [] => json!([true]),
        conditions => conditions.iter().map(Condition::to_json).collect(),
    }
}

/// What happened to a row. Columns are as they came; the replica knows their types.
#[derive(Debug, Clone, PartialEq)]
pub enum RowUpdate {
    /// A row that was there when the monitor began; columns left out hold their default.
    Initial(Map<String, Json>),
    /// A new row; columns left out hold their default.
    Insert(Map<String, Json>),
    /// Differences of columns, see [`Value::apply`](crate::Value::apply).
    Modify(Map<String, Json>),
    /// The row went.
    Delete,
    /// All columns of a new or changed row: what `monitor` reports in place of the others.
    Replace(Map<String, Json>),
}

/// What happened to rows, by table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableUpdates {
    /// Row updates by table and row.
    pub tables: BTreeMap<String, BTreeMap<Uuid, RowUpdate>>,
}

impl TableUpdates {
    /// Reads the reply to a monitor request, or the second parameter of its update notifications.
    ///
    /// Errors: [`ProtocolError::Updates`].
    pub fn parse(method: Method, json: Json) -> Result<Self, ProtocolError> {
        let Json::Object(tables) = json else {
            return Err(ProtocolError::Updates("no object"));
        };
        let mut updates = Self::default();
        for (table, rows) in tables {
            let Json::Object(rows) = rows else {
                return Err(ProtocolError::Updates("table is no object"));
            };
            let mut parsed = BTreeMap::new();
            for (uuid, update) in rows {
                let uuid =
                    uuid.parse().map_err(|_| ProtocolError::Updates("row's name is no UUID"))?;
                let update = match method {
                    Method::MonitorCond => row_update2(update),
                    Method::Monitor => row_update(update),
                }?;
                parsed.insert(uuid, update);
            }
            updates.tables.insert(table, parsed);
        }
        Ok(updates)
    }
}

fn row_update2(json: Json) -> Result<RowUpdate, ProtocolError> {
    let Json::Object(update) = json else {
        return Err(ProtocolError::Updates("row update is no object"));
    };
    let mut members = update.into_iter();
    match (members.next(), members.next()) {
        (Some((kind, content)), None) => match (kind.as_str(), content) {
            ("initial", Json::Object(row)) => Ok(RowUpdate::Initial(row)),
            ("insert", Json::Object(row)) => Ok(RowUpdate::Insert(row)),
            ("modify", Json::Object(row)) => Ok(RowUpdate::Modify(row)),
            ("delete", Json::Null) => Ok(RowUpdate::Delete),
            _ => Err(ProtocolError::Updates("unknown kind of row update")),
        },
        _ => Err(ProtocolError::Updates("row update has not one member")),
    }
}

fn row_update(json: Json) -> Result<RowUpdate, ProtocolError> {
    let Json::Object(mut update) = json else {
        return Err(ProtocolError::Updates("row update is no object"));
    };
    match (update.remove("old"), update.remove("new")) {
        (_, Some(Json::Object(new))) => Ok(RowUpdate::Replace(new)),
        (Some(Json::Object(_)), None | Some(Json::Null)) => Ok(RowUpdate::Delete),
        _ => Err(ProtocolError::Updates("row update without old and new")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, json: Json) -> Result<TableUpdates, ProtocolError> {
        TableUpdates::parse(method, json)
    }

    #[test]
    fn every_kind_of_update2() {
        let row = Map::from_iter([("name".to_owned(), json!("a"))]);
        let id = Uuid::from_u128(7);
        for (json, expected) in [
            (json!({"initial": {"name": "a"}}), RowUpdate::Initial(row.clone())),
            (json!({"insert": {"name": "a"}}), RowUpdate::Insert(row.clone())),
            (json!({"modify": {"name": "a"}}), RowUpdate::Modify(row.clone())),
            (json!({"delete": null}), RowUpdate::Delete),
        ] {
            let updates = parse(Method::MonitorCond, json!({"T": {id.to_string(): json}})).unwrap();
            assert_eq!(updates.tables["T"][&id], expected);
        }
    }

    #[test]
    fn every_kind_of_update() {
        let row = Map::from_iter([("name".to_owned(), json!("a"))]);
        let id = Uuid::from_u128(7);
        for (json, expected) in [
            (json!({"new": {"name": "a"}}), RowUpdate::Replace(row.clone())),
            (json!({"old": {"name": "b"}, "new": {"name": "a"}}), RowUpdate::Replace(row.clone())),
            (json!({"old": {"name": "a"}}), RowUpdate::Delete),
        ] {
            let updates = parse(Method::Monitor, json!({"T": {id.to_string(): json}})).unwrap();
            assert_eq!(updates.tables["T"][&id], expected);
        }
    }

    #[test]
    fn malformed_updates() {
        let id = Uuid::from_u128(7).to_string();
        for method in [Method::MonitorCond, Method::Monitor] {
            for json in [
                json!([]),
                json!({"T": []}),
                json!({"T": {"x": {"delete": null}}}),
                json!({"T": {id.clone(): null}}),
                json!({"T": {id.clone(): {}}}),
                json!({"T": {id.clone(): {"insert": 3, "old": 3}}}),
                json!({"T": {id.clone(): {"modify": []}}}),
                json!({"T": {id.clone(): {"delete": {}}}}),
                json!({"T": {id.clone(): {"new": 3}}}),
            ] {
                assert!(
                    matches!(parse(method, json.clone()), Err(ProtocolError::Updates(_))),
                    "{json}"
                );
            }
        }
    }
}
