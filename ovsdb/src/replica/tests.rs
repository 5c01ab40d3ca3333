//! Tests of the replica: a model makes random changes and tells them as a server would.

use std::collections::BTreeSet;

use super::*;
use crate::monitor::Method;
use crate::op::Row;
use crate::schema::{AtomicType, ColumnType, TableSchema};
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
    let table = TableSchema { columns, ..TableSchema::default() };
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
            let gone = old.iter().filter(|atom| !new.contains(atom));
            let added = new.iter().filter(|atom| !old.contains(atom));
            Value::set(gone.chain(added).cloned())
        }
        ("map", Value::Map(old), Value::Map(new)) => {
            let gone = old.iter().filter(|(key, _)| new.get(key).is_none());
            let changed = new.iter().filter(|(key, value)| old.get(key) != Some(value));
            Value::map(gone.chain(changed).cloned())
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
                .map(move |(uuid, row)| ((table.to_owned(), uuid), row.columns().to_map()))
        })
        .collect()
}

type Difference = BTreeMap<(String, Uuid), (Option<Row>, Option<Row>)>;

fn told_by(changes: &Changes) -> Difference {
    let row = |row: Option<&super::Row>| row.map(super::Row::to_map);
    changes
        .tables()
        .flat_map(|(table, rows)| rows.iter().map(move |(uuid, c)| ((table.to_owned(), *uuid), c)))
        .map(|(name, change)| (name, (row(change.before()), row(change.after()))))
        .collect()
}

fn difference_of(before: &Model, after: &Model) -> Difference {
    before
        .keys()
        .chain(after.keys())
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| (name.clone(), (before.get(name).cloned(), after.get(name).cloned())))
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
        let (mut before, mut previous) = (Model::new(), replica.clone());
        let mut sum = Changes::default();
        for (step, state) in states.into_iter().enumerate() {
            let kind = if step == 0 { "initial" } else { "insert" };
            let json = told(method, kind, &before, &state);
            let changes = replica.apply(TableUpdates::parse(method, json).unwrap()).unwrap();
            prop_assert_eq!(&content(&replica), &state);
            prop_assert_eq!(replica.len(), state.len());
            prop_assert_eq!(told_by(&changes), difference_of(&before, &state));
            // and so is what a later look at both finds
            prop_assert_eq!(&replica.since(&previous), &changes);
            sum.merge(changes);
            prop_assert_eq!(told_by(&sum), difference_of(&Model::new(), &state));
            previous = replica.clone();
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
        apply(&mut replica, "A", json!({"modify": {"scalar": "y", "other": 7}})),
        Err(ReplicaError::UnknownColumn { .. })
    ));
}

/// The rows of an update come in the order of their names; the last one is wrong.
#[test]
fn an_update_that_does_not_fit_changes_nothing() {
    let ids: Vec<String> = (1..=4).map(|n| Uuid::from_u128(n).to_string()).collect();
    let mut replica = Replica::new(schema()).with_limits(4, 10_000);
    let parse = |json| TableUpdates::parse(Method::MonitorCond, json).unwrap();
    let row = |text: &str| json!({"insert": {"scalar": text, "set": ["set", [1, 2]]}});
    replica
        .apply(parse(json!({"A": {ids[0].clone(): row("a"), ids[1].clone(): row("b")}})))
        .unwrap();
    let before = replica.clone();
    let many: Map<_, _> = (10..20).map(|n| (Uuid::from_u128(n).to_string(), row("x"))).collect();
    for (wrong, what) in [
        (json!({"delete": null}), "changed without having appeared"),
        (json!({"insert": {"scalar": 7}}), "column scalar"),
        (json!({"insert": {"scalar": "x".repeat(10_000)}}), "more than 10000 bytes"),
    ] {
        let update = json!({"A": {
            ids[0].clone(): {"modify": {"scalar": "z", "set": ["set", [2, 3]]}},
            ids[1].clone(): {"delete": null},
            ids[2].clone(): row("c"),
            ids[3].clone(): wrong,
        }});
        let error = replica.apply(parse(update)).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(replica, before);
        assert_eq!((replica.len(), replica.weight()), (before.len(), before.weight()));
    }
    let error = replica.apply(parse(json!({"A": many}))).unwrap_err();
    assert_eq!(error, ReplicaError::Rows { limit: 4 });
    assert_eq!((&replica, replica.weight()), (&before, before.weight()));
}

#[test]
fn changes_name_kinds_and_columns() {
    let mut replica = Replica::new(schema());
    let uuid = Uuid::from_u128(1);
    let row = |changes: &Changes| changes.rows("A").next().unwrap().1.clone();
    let inserted = row(&apply(&mut replica, "A", json!({"insert": {"scalar": "x"}})).unwrap());
    assert_eq!((inserted.kind(), inserted.columns().count()), (ChangeKind::Inserted, 6));
    let modified = row(&apply(&mut replica, "A", json!({"modify": {"scalar": "y"}})).unwrap());
    assert_eq!(modified.kind(), ChangeKind::Modified);
    let (old, new) = (Value::from("x"), Value::from("y"));
    assert_eq!(modified.columns().collect::<Vec<_>>(), [("scalar", Some(&old), Some(&new))]);
    assert_eq!(modified.after().unwrap().with(uuid).optional_str("scalar"), Some("y"));
    // a server may tell of a change to the same value; that is none
    assert!(apply(&mut replica, "A", json!({"modify": {"scalar": "y"}})).unwrap().is_empty());
    let deleted = row(&apply(&mut replica, "A", json!({"delete": null})).unwrap());
    assert_eq!((deleted.kind(), deleted.after()), (ChangeKind::Deleted, None));
}
