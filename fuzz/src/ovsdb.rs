//! OVSDB: the stream of a server, cut anywhere, up to the rows of a replica and what changed in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::{Value as Json, json};
use weir_ovsdb::monitor::{Method, TableUpdates};
use weir_ovsdb::replica::Replica;
use weir_ovsdb::rpc::{Decoder, Message, MessageLimits};
use weir_ovsdb::schema::Schema;
use weir_ovsdb::value::Value;

use crate::split::{pieces, split};

/// Small, so that inputs of a few kilobytes reach them.
const LIMITS: MessageLimits = MessageLimits { bytes: 1 << 14, depth: 24, values: 1 << 12 };

/// One column of each kind that the client reads.
const SCHEMA: &str = r#"{"name": "Open_vSwitch", "version": "8.3.0", "tables": {
    "Bridge": {"columns": {
        "name": {"type": "string"},
        "ports": {"type": {"key": {"type": "uuid"}, "min": 0, "max": "unlimited"}},
        "flow_tables": {"type": {"key": "integer", "value": "uuid", "min": 0, "max": "unlimited"}},
        "external_ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}},
    "Interface": {"columns": {
        "ofport": {"type": {"key": "integer", "min": 0, "max": 1}},
        "up": {"type": "boolean"},
        "load": {"type": "real"},
        "mac_in_use": {"type": {"key": "string", "min": 0, "max": 1}}}}}}"#;

fn schema() -> &'static Schema {
    static PARSED: OnceLock<Schema> = OnceLock::new();
    PARSED.get_or_init(|| {
        let json: Json = serde_json::from_str(SCHEMA).expect("JSON");
        Schema::parse(&json).expect("a schema")
    })
}

/// A server's stream: the same messages however it is cut; updates change a replica whose counts stay right, as a whole or
/// not at all, and the changes told are those made.
pub fn ovsdb_stream(data: &[u8]) {
    let (sizes, stream) = split(data);
    let (objects, end) = decode(&pieces(&sizes, stream));
    let (whole, other_end) = decode(&[stream]);
    assert_eq!((&objects, &end), (&whole, &other_end));
    let mut replica = Replica::new(schema().clone());
    for object in objects {
        let _ = Schema::parse(&object);
        let Ok(message) = Message::parse(object) else { continue };
        let again = Message::parse(message.to_json()).expect("what was written can be read");
        assert_eq!(again, message);
        let (method, updates) = match message {
            Message::Notification { method, params } => {
                let method = match method.as_str() {
                    "update" => Method::Monitor,
                    _ => Method::MonitorCond,
                };
                (method, params.get(1).cloned().unwrap_or_default())
            }
            Message::Response { result: Ok(result), .. } => (Method::MonitorCond, result),
            _ => continue,
        };
        let Ok(updates) = TableUpdates::parse(method, updates) else { continue };
        let before = replica.clone();
        match replica.apply(updates) {
            Ok(changes) => assert_eq!(changes, replica.since(&before)),
            Err(_) => assert!(replica == before && replica.weight() == before.weight()),
        }
        let rows: usize = ["Bridge", "Interface"].iter().map(|t| replica.rows(t).count()).sum();
        assert_eq!(rows, replica.len());
        assert_eq!(rows == 0, replica.weight() == 0);
        for (_, row) in replica.rows("Bridge") {
            let _ = (row.string("name"), row.uuid_set("ports"), row.integer_to_uuid("flow_tables"));
            let _ = row.string_map("external_ids");
        }
    }
}

/// The objects of a stream, and how it ended.
fn decode(pieces: &[&[u8]]) -> (Vec<Json>, String) {
    let mut decoder = Decoder::new(LIMITS);
    let mut objects = Vec::new();
    for piece in pieces {
        decoder.buffer().extend_from_slice(piece);
        loop {
            match decoder.next_object() {
                Ok(Some(object)) => objects.push(object),
                Ok(None) => break,
                Err(error) => return (objects, format!("{error:?}")),
            }
        }
    }
    (objects, format!("{:?}", decoder.finish()))
}

/// A value as JSON, of each type of column. What can be read can be written, and reads as the same; a difference that
/// is applied twice to a set or to an optional value of its own is undone or refused, and never panics.
pub fn ovsdb_value(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Json>(data) else { return };
    for table in schema().tables.values() {
        for ty in table.columns.values() {
            if let Ok(value) = Value::from_json(ty, json.clone()) {
                let again = Value::from_json(ty, value.to_json()).expect("what was written");
                assert_eq!(again, value);
            }
            if let Ok(difference) = Value::difference_from_json(ty, json.clone()) {
                let mut value = Value::default_of(ty);
                if value.apply(ty, difference.clone()).is_ok() {
                    let _ = value.apply(ty, difference);
                    let again = Value::from_json(ty, value.to_json()).expect("what was applied");
                    assert_eq!(again, value);
                }
            }
        }
    }
}

/// What a bridge is to the model below.
#[derive(Default, Clone, PartialEq, Debug)]
struct Bridge {
    name: String,
    ports: BTreeSet<String>,
    ids: BTreeMap<String, String>,
}

fn uuid(n: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{n:02x}")
}

/// The set of those of eight that a byte's bits name.
fn members(bits: u8) -> BTreeSet<String> {
    (0..8).filter(|n| bits >> n & 1 == 1).map(uuid).collect()
}

fn set(members: &BTreeSet<String>) -> Json {
    let atoms: Vec<Json> = members.iter().map(|uuid| json!(["uuid", uuid])).collect();
    match <[Json; 1]>::try_from(atoms) {
        Ok([one]) => one,
        Err(atoms) => json!(["set", atoms]),
    }
}

/// Changes to rows as a server tells them, four bytes each, beside a model that does the same by hand.
pub fn ovsdb_update2(data: &[u8]) {
    let mut replica = Replica::new(schema().clone());
    let mut model: BTreeMap<String, Bridge> = BTreeMap::new();
    for change in data.chunks_exact(4).take(512) {
        let [what, row, a, b] = [change[0], change[1] % 4, change[2], change[3]];
        let row = uuid(row);
        let pair = || (format!("k{}", a % 3), format!("v{}", b % 3));
        let (update, fits) = match what % 6 {
            // Columns with their default are left out.
            0 => {
                let bridge = Bridge { ports: members(a), ..Bridge::default() };
                let mut columns = serde_json::Map::new();
                if !bridge.ports.is_empty() {
                    columns.insert("ports".to_owned(), set(&bridge.ports));
                }
                let kind = if b.is_multiple_of(2) { "initial" } else { "insert" };
                let fits = !model.contains_key(&row);
                model.insert(row.clone(), bridge);
                (json!({kind: columns}), fits)
            }
            1 => (json!({"delete": null}), model.remove(&row).is_some()),
            kind => match model.get_mut(&row) {
                None => (json!({"modify": {"name": "x"}}), false),
                Some(bridge) if kind == 2 => {
                    bridge.name = format!("br{a}");
                    (json!({"modify": {"name": bridge.name}}), true)
                }
                Some(bridge) if kind < 5 => {
                    let difference = members(a);
                    bridge.ports = &bridge.ports ^ &difference;
                    (json!({"modify": {"ports": set(&difference)}}), true)
                }
                Some(bridge) => {
                    let (key, value) = pair();
                    // The same pair again takes it away; another value replaces the old one.
                    if bridge.ids.get(&key) == Some(&value) {
                        bridge.ids.remove(&key);
                    } else {
                        bridge.ids.insert(key.clone(), value.clone());
                    }
                    (json!({"modify": {"external_ids": ["map", [[key, value]]]}}), true)
                }
            },
        };
        let updates = json!({"Bridge": {row: update}});
        let parsed =
            TableUpdates::parse(Method::MonitorCond, updates.clone()).expect("well formed");
        let applied = replica.apply(parsed).is_ok();
        assert_eq!(applied, fits, "{updates}");
        if !applied {
            replica = Replica::new(schema().clone());
            model.clear();
        }
        let seen: BTreeMap<String, Bridge> = replica
            .rows("Bridge")
            .map(|(uuid, row)| {
                let ports = row.uuid_set("ports").iter().map(ToString::to_string).collect();
                let (name, ids) = (row.string("name"), row.string_map("external_ids"));
                (uuid.to_string(), Bridge { name, ports, ids })
            })
            .collect();
        assert_eq!(seen, model, "{updates}");
        assert_eq!(replica.len(), model.len());
    }
}
