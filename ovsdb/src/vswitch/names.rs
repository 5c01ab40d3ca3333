//! Naming flow tables.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::op::{Mutation, Operation, Row};
use crate::value::{Atom, Uuid, Value};
use crate::vswitch::{FlowTableRow, SwitchState, Vswitch};

impl Vswitch {
    /// Gives flow tables of a bridge their names, in one transaction; in none when all are right already.
    ///
    /// Tables that are not in `names` stay as they are. A `Flow_Table` row that is there keeps its other settings; one
    /// that other tables use as well is not renamed but copied.
    ///
    /// Units: table numbers, 0 to 254. OVS cuts names after 31 bytes.
    /// Errors: [`Error::TableNumber`], [`Error::NoBridge`], [`Error::Contended`] when others keep changing the same
    /// bridge's tables, and those of [`Vswitch::transact`].
    pub async fn name_tables(&self, bridge: &str, names: &BTreeMap<u8, String>) -> Result<()> {
        if names.contains_key(&u8::MAX) {
            return Err(Error::TableNumber(u8::MAX));
        }
        self.optimistic("Bridge.flow_tables", |state| plan(state, bridge, names)).await?;
        Ok(())
    }
}

/// The transaction that gives the names; empty where all are right. Its first operation is the `wait` that makes
/// sure that nobody changed `flow_tables` since.
fn plan(state: &SwitchState, bridge: &str, names: &BTreeMap<u8, String>) -> Result<Vec<Operation>> {
    let row = state.bridges.get(bridge).ok_or_else(|| Error::NoBridge(bridge.to_owned()))?;
    let mut changes = Vec::new();
    let mut replaced = BTreeMap::new();
    for (&table, name) in names {
        let uuid = row.flow_tables.get(&i64::from(table)).copied();
        match uuid.and_then(|uuid| Some((uuid, state.flow_tables.get(&uuid)?))) {
            Some((_, settings)) if settings.name.as_ref() == Some(name) => {}
            Some((uuid, _)) if uses(state, uuid) == 1 => changes.push(Operation::update(
                "Flow_Table",
                uuid,
                Row::from([("name".to_owned(), name.as_str().into())]),
            )),
            shared => {
                let uuid_name = format!("table{table}");
                let settings = shared.map(|(_, settings)| settings);
                let row = named(settings, name);
                changes.push(Operation::insert("Flow_Table", row).named(&uuid_name));
                replaced.insert(i64::from(table), Atom::named(&uuid_name));
            }
        }
    }
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let tables = Value::map(row.flow_tables.iter().map(|(table, uuid)| (*table, *uuid)));
    let mut operations = vec![Operation::unchanged(
        "Bridge",
        row.uuid,
        Row::from([("flow_tables".to_owned(), tables)]),
    )];
    operations.append(&mut changes);
    if !replaced.is_empty() {
        let tables = Mutation::put("flow_tables", replaced);
        operations.push(Operation::mutate("Bridge", row.uuid, tables));
    }
    operations.push(Operation::Comment(format!("names of the flow tables of {bridge}")));
    Ok(operations)
}

/// How many tables of all bridges use a row.
fn uses(state: &SwitchState, uuid: Uuid) -> usize {
    let tables = state.bridges.values().flat_map(|bridge| bridge.flow_tables.values());
    tables.filter(|used| **used == uuid).count()
}

/// A new row with a name and, where there are some, the settings of another. Columns at their default are left out, so
/// that a server without them takes it.
fn named(settings: Option<&FlowTableRow>, name: &str) -> Row {
    let mut row = Row::from([("name".to_owned(), Value::from(name))]);
    let Some(settings) = settings else { return row };
    let columns = [
        ("flow_limit", Value::set(settings.flow_limit)),
        ("overflow_policy", Value::set(settings.overflow_policy.clone())),
        ("groups", Value::set(settings.groups.iter().cloned())),
        ("prefixes", Value::set(settings.prefixes.iter().cloned())),
        (
            "external_ids",
            Value::map(settings.external_ids.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
        ),
    ];
    row.extend(
        columns
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(column, value)| (column.to_owned(), value)),
    );
    row
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::vswitch::BridgeRow;

    fn uuid(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn state(tables: &[(&str, i64, u128)], rows: &[(u128, &str)]) -> SwitchState {
        let mut state = SwitchState::default();
        state.bridges.insert("br0".to_owned(), BridgeRow::default());
        for (bridge, table, row) in tables {
            let bridge = state.bridges.entry((*bridge).to_owned()).or_default();
            bridge.flow_tables.insert(*table, uuid(*row));
        }
        for (row, name) in rows {
            let settings = FlowTableRow {
                uuid: uuid(*row),
                name: (!name.is_empty()).then(|| (*name).to_owned()),
                prefixes: BTreeSet::from(["ip_src".to_owned()]),
                ..FlowTableRow::default()
            };
            state.flow_tables.insert(uuid(*row), settings);
        }
        state
    }

    fn kinds(operations: &[Operation]) -> Vec<String> {
        operations.iter().map(|op| op.to_json()["op"].as_str().unwrap().to_owned()).collect()
    }

    fn names(names: &[(u8, &str)]) -> BTreeMap<u8, String> {
        names.iter().map(|(table, name)| (*table, (*name).to_owned())).collect()
    }

    #[test]
    fn nothing_to_do_is_no_transaction() {
        let state = state(&[("br0", 3, 1)], &[(1, "A")]);
        assert_eq!(plan(&state, "br0", &names(&[(3, "A")])).unwrap(), []);
        assert_eq!(plan(&state, "br0", &names(&[])).unwrap(), []);
    }

    #[test]
    fn a_row_of_its_own_is_renamed_in_place() {
        let state = state(&[("br0", 3, 1), ("br0", 4, 2)], &[(1, ""), (2, "B")]);
        let operations = plan(&state, "br0", &names(&[(3, "A")])).unwrap();
        assert_eq!(kinds(&operations), ["wait", "update", "comment"]);
    }

    #[test]
    fn a_missing_row_is_made_and_others_are_kept() {
        let state = state(&[("br0", 4, 2)], &[(2, "B")]);
        let operations = plan(&state, "br0", &names(&[(3, "A"), (4, "B")])).unwrap();
        assert_eq!(kinds(&operations), ["wait", "insert", "mutate", "comment"]);
        assert_eq!(
            operations[2].to_json()["mutations"],
            serde_json::json!([
                ["flow_tables", "delete", 3],
                ["flow_tables", "insert", ["map", [[3, ["named-uuid", "table3"]]]]]
            ])
        );
    }

    #[test]
    fn a_shared_row_is_copied_with_its_settings() {
        for shared in [("br0", 4, 1), ("br1", 3, 1)] {
            let state = state(&[("br0", 3, 1), shared], &[(1, "B")]);
            let operations = plan(&state, "br0", &names(&[(3, "A")])).unwrap();
            assert_eq!(kinds(&operations), ["wait", "insert", "mutate", "comment"]);
            assert_eq!(
                operations[1].to_json()["row"],
                serde_json::json!({"name": "A", "prefixes": "ip_src"})
            );
        }
    }

    #[test]
    fn an_unknown_bridge_is_an_error() {
        let error = plan(&SwitchState::default(), "br9", &names(&[(0, "A")]));
        assert!(matches!(error, Err(Error::NoBridge(name)) if name == "br9"));
    }
}
