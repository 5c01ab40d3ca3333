//! What a real server sent while ovs-vsctl changed rows, against what it dumped at the end.
//!
//! Each file of `tests/vectors/` is one monitor: a line with the commands it came from, the schema's part, the reply and
//! notifications as `ovsdb-client` logged them, and the dump.
#![expect(clippy::unwrap_used, reason = "a broken vector is to be seen")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use weir_ovsdb::monitor::{Method, RowUpdate, TableUpdates};
use weir_ovsdb::op::Row;
use weir_ovsdb::replica::{Changes, Replica};
use weir_ovsdb::schema::{Schema, TableSchema};
use weir_ovsdb::{Atom, Uuid, Value};

fn vectors() -> Vec<(PathBuf, Vec<Json>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let lines = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    files.into_iter().map(|path| (path.clone(), lines(&path))).collect()
}

fn dumped(table: &TableSchema, dump: &Json) -> BTreeMap<Uuid, Row> {
    let headings: Vec<&str> =
        dump["headings"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let row = |row: &Json| {
        let mut uuid = Uuid::NIL;
        let mut columns = Row::new();
        for (name, value) in headings.iter().zip(row.as_array().unwrap()) {
            if *name == "_uuid" {
                uuid = value[1].as_str().unwrap().parse().unwrap();
            } else {
                let value = Value::from_json(&table.columns[*name], value.clone()).unwrap();
                columns.insert((*name).to_owned(), value);
            }
        }
        (uuid, columns)
    };
    dump["data"].as_array().unwrap().iter().map(row).collect()
}

fn content(replica: &Replica, table: &str) -> BTreeMap<Uuid, Row> {
    replica.rows(table).map(|(uuid, row)| (uuid, row.columns().to_map())).collect()
}

#[test]
fn a_replica_that_follows_a_real_server_ends_at_its_dump() {
    let mut kinds = BTreeMap::new();
    let vectors = vectors();
    assert_eq!(vectors.len(), 4);
    for (path, lines) in vectors {
        let schema = Schema::parse(&lines[1]["schema"]).unwrap();
        let (name, table) = schema.tables.first_key_value().unwrap();
        let mut replica = Replica::new(schema.clone());
        let mut sum = Changes::default();
        for line in &lines[2..lines.len() - 1] {
            let message = line.get("reply").or_else(|| line.get("update2")).unwrap().clone();
            let updates = TableUpdates::parse(Method::MonitorCond, message).unwrap();
            for update in updates.tables.values().flat_map(BTreeMap::values) {
                let kind = match update {
                    RowUpdate::Initial(_) => "initial",
                    RowUpdate::Insert(_) => "insert",
                    RowUpdate::Modify(_) => "modify",
                    RowUpdate::Delete => "delete",
                    RowUpdate::Replace(_) => "replace",
                };
                *kinds.entry(kind).or_insert(0) += 1;
            }
            let before = replica.clone();
            let changes = replica.apply(updates).unwrap();
            assert_eq!(changes, replica.since(&before), "{path:?}");
            sum.merge(changes);
        }
        let dump = dumped(table, &lines.last().unwrap()["dump"]);
        assert_eq!(content(&replica, name), dump, "{path:?}");
        // from nothing to the end in one step
        assert_eq!(sum, replica.since(&Replica::new(schema.clone())), "{path:?}");
    }
    let seen: Vec<&str> = kinds.keys().copied().collect();
    assert_eq!(seen, ["delete", "initial", "insert", "modify"]);
}

/// A value that the server sent goes back to it in the same form.
#[test]
fn values_are_written_as_the_server_writes_them() {
    let mut compared = 0;
    for (path, lines) in vectors() {
        let schema = Schema::parse(&lines[1]["schema"]).unwrap();
        let table = schema.tables.values().next().unwrap();
        let dump = &lines.last().unwrap()["dump"];
        let headings = dump["headings"].as_array().unwrap();
        for row in dump["data"].as_array().unwrap() {
            for (name, json) in headings.iter().zip(row.as_array().unwrap()) {
                let name = name.as_str().unwrap();
                if name == "_uuid" {
                    let atom = Atom::from_json(weir_ovsdb::schema::AtomicType::Uuid, json.clone());
                    assert_eq!(&atom.unwrap().to_json(), json);
                } else {
                    let value = Value::from_json(&table.columns[name], json.clone()).unwrap();
                    assert_eq!(&value.to_json(), json, "{path:?} {name}");
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 20, "{compared}");
}
