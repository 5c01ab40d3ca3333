//! Tests of the replica: a model makes random changes and tells them as a server would.

use super::*;
use crate::monitor::Method;
use crate::schema::{AtomicType, ColumnType};
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

/// One column of each way in which updates tell of changes.
fn schema() -> Schema {
    let ty = |key, value, min, max| ColumnType { key, value, min, max };
    let columns = [
        ("scalar", ColumnType::scalar(AtomicType::String)),
        ("optional", ty(AtomicType::Integer, None, 0, Some(1))),
        ("set", ty(AtomicType::Integer, None, 0, None)),
        ("some", ty(AtomicType::Uuid, None, 1, None)),
        ("map", ty(AtomicType::String, Some(AtomicType::Integer), 0, None)),
        ("pair", ty(AtomicType::String, Some(AtomicType::Integer), 0, Some(1))),
    ];
    let columns = columns.map(|(name, ty)| (name.to_owned(), ty)).into_iter().collect();
    let table = TableSchema { columns };
    let tables = ["A", "B"].map(|name| (name.to_owned(), table.clone())).into_iter().collect();
    Schema { name: "D".into(), version: "1.0.0".into(), tables }
}

type Model = BTreeMap<(String, Uuid), Row>;

fn row() -> impl Strategy<Value = Row> {
    let small = 0_i64..4;
    let key = prop::sample::select(vec!["a", "b", "c"]);
    (
        prop::sample::select(vec!["", "x", "y"]),
        prop::option::of(small.clone()),
        prop::collection::btree_set(small.clone(), 0..4),
        prop::collection::btree_set((0_u128..3).prop_map(Uuid::from_u128), 1..3),
        prop::collection::btree_map(key.clone(), small.clone(), 0..4),
        prop::option::of((key, small)),
    )
        .prop_map(|(scalar, optional, set, some, map, pair)| {
            [
                ("scalar", Value::scalar(scalar)),
                ("optional", Value::set(optional)),
                ("set", Value::set(set)),
                ("some", Value::set(some)),
                ("map", Value::map(map)),
                ("pair", Value::map(pair)),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
        })
}

fn model() -> impl Strategy<Value = Model> {
    let name = (prop::sample::select(vec!["A", "B"]), 0_u128..4);
    let name = name.prop_map(|(table, id)| (table.to_owned(), Uuid::from_u128(id)));
    prop::collection::btree_map(name, row(), 0..6)
}

/// The difference of two column values, from their definition and not from `Value::apply`.
fn difference(name: &str, old: &Value, new: &Value) -> Value {
    match (name, old, new) {
        ("set" | "some", Value::Set(old), Value::Set(new)) => {
            Value::Set(old.symmetric_difference(new).cloned().collect())
        }
        ("map", Value::Map(old), Value::Map(new)) => {
            let gone = old.iter().filter(|(key, _)| !new.contains_key(key));
            let changed = new.iter().filter(|(key, value)| old.get(key) != Some(value));
            Value::Map(gone.chain(changed).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        _ => new.clone(),
    }
}

fn without_defaults(row: &Row) -> Json {
    let schema = schema();
    let columns = &schema.tables["A"].columns;
    row.iter()
        .filter(|(name, value)| **value != Value::default_of(&columns[*name]))
        .map(|(name, value)| (name.clone(), value.to_json()))
        .collect::<Map<_, _>>()
        .into()
}

fn all(row: &Row) -> Json {
    row.iter().map(|(name, value)| (name.clone(), value.to_json())).collect::<Map<_, _>>().into()
}

/// What a server tells when its rows go from `old` to `new`.
fn told(method: Method, kind: &str, old: &Model, new: &Model) -> Json {
    let mut tables = Map::new();
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (table, uuid) = name;
        let update = match (method, old.get(name), new.get(name)) {
            (_, Some(old), Some(new)) if old == new => continue,
            (Method::MonitorCond, Some(_), None) => json!({"delete": null}),
            (Method::MonitorCond, None, Some(row)) => json!({kind: without_defaults(row)}),
            (Method::MonitorCond, Some(old), Some(new)) => {
                let changed: Map<_, _> = new
                    .iter()
                    .filter(|(column, value)| old[*column] != **value)
                    .map(|(column, value)| {
                        (column.clone(), difference(column, &old[column], value).to_json())
                    })
                    .collect();
                json!({"modify": changed})
            }
            (Method::Monitor, Some(old), None) => json!({"old": all(old)}),
            (Method::Monitor, None, Some(new)) => json!({"new": all(new)}),
            (Method::Monitor, Some(old), Some(new)) => json!({"old": all(old), "new": all(new)}),
            (_, None, None) => continue,
        };
        let rows = tables.entry(table.clone()).or_insert_with(|| json!({}));
        rows.as_object_mut().unwrap().insert(uuid.to_string(), update);
    }
    tables.into()
}

fn content(replica: &Replica) -> Model {
    ["A", "B"]
        .into_iter()
        .flat_map(|table| {
            replica
                .rows(table)
                .map(move |(uuid, row)| ((table.to_owned(), uuid), row.columns().clone()))
        })
        .collect()
}

proptest! {
    #[test]
    fn a_replica_equals_the_model(
        states in prop::collection::vec(model(), 1..12),
        cond in any::<bool>(),
    ) {
        let method = if cond { Method::MonitorCond } else { Method::Monitor };
        let mut replica = Replica::new(schema());
        let mut before = Model::new();
        for (step, state) in states.into_iter().enumerate() {
            let kind = if step == 0 { "initial" } else { "insert" };
            let json = told(method, kind, &before, &state);
            let changes = replica.apply(TableUpdates::parse(method, json).unwrap()).unwrap();
            prop_assert_eq!(&content(&replica), &state);
            prop_assert_eq!(replica.len(), state.len());
            let touched: BTreeSet<_> = changes
                .tables()
                .flat_map(|(table, rows)| rows.iter().map(move |uuid| (table.to_owned(), *uuid)))
                .collect();
            let differing: BTreeSet<_> = before
                .keys()
                .chain(state.keys())
                .filter(|name| before.get(*name) != state.get(*name))
                .cloned()
                .collect();
            prop_assert_eq!(touched, differing);
            before = state;
        }
        // what was weighed on the way up is taken off on the way down
        let json = told(method, "insert", &before, &Model::new());
        replica.apply(TableUpdates::parse(method, json).unwrap()).unwrap();
        prop_assert_eq!((replica.len(), replica.weight()), (0, 0));
    }
}

fn apply(replica: &mut Replica, table: &str, update: Json) -> Result<Changes, ReplicaError> {
    let json = json!({table: {Uuid::from_u128(1).to_string(): update}});
    replica.apply(TableUpdates::parse(Method::MonitorCond, json).unwrap())
}

#[test]
fn updates_that_do_not_fit() {
    let insert = json!({"insert": {"scalar": "x"}});
    let fresh = || Replica::new(schema());
    let uuid = Uuid::from_u128(1);
    let table = || "A".to_owned();
    for update in [json!({"modify": {"scalar": "x"}}), json!({"delete": null})] {
        let missing = ReplicaError::Missing { table: table(), uuid };
        assert_eq!(apply(&mut fresh(), "A", update), Err(missing));
    }
    assert_eq!(
        apply(&mut fresh(), "C", insert.clone()),
        Err(ReplicaError::UnknownTable("C".to_owned()))
    );
    for kind in ["insert", "initial"] {
        assert_eq!(
            apply(&mut fresh(), "A", json!({kind: {"other": 1}})),
            Err(ReplicaError::UnknownColumn { table: table(), column: "other".to_owned() })
        );
    }
    let mut replica = fresh();
    apply(&mut replica, "A", insert.clone()).unwrap();
    assert_eq!(
        apply(&mut replica, "A", insert),
        Err(ReplicaError::Repeated { table: table(), uuid })
    );
    assert!(matches!(
        apply(&mut replica, "A", json!({"modify": {"scalar": 7}})),
        Err(ReplicaError::Value { column, .. }) if column == "scalar"
    ));
    assert!(matches!(
        apply(&mut replica, "A", json!({"modify": {"other": 7}})),
        Err(ReplicaError::UnknownColumn { .. })
    ));
}
