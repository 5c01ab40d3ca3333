//! OVSDB: the stream of a server, cut anywhere, up to the rows of a replica.

use std::sync::OnceLock;

use serde_json::Value as Json;
use weir_ovsdb::monitor::{Method, TableUpdates};
use weir_ovsdb::replica::Replica;
use weir_ovsdb::rpc::{Decoder, Message, MessageLimits};
use weir_ovsdb::schema::Schema;

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

/// A server's stream: the same messages however it is cut; updates change a replica whose counts stay right.
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
        let applied = replica.apply(updates);
        if applied.is_err() {
            // as the client does: what is half changed is thrown away
            replica = Replica::new(schema().clone());
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
