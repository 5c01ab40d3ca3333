//! What a replica costs beside the plain parsing of the same bytes: the first picture of many ports, single changes to
//! it, and memory.
//!
//! `cargo bench -p weir-ovsdb` prints times with divan and, after them, the memory that a counting allocator saw.

use std::fmt::Write as _;
use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use serde_json::{Value as Json, json};
use weir_ovsdb::Uuid;
use weir_ovsdb::monitor::{Method, TableUpdates};
use weir_ovsdb::replica::Replica;
use weir_ovsdb::rpc::{Decoder, Message, MessageLimits};
use weir_ovsdb::schema::Schema;
use weir_ovsdb::vswitch::SwitchState;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const PORTS: usize = 10_000;
const CHANGES: usize = 1_000;
const LIMITS: MessageLimits = MessageLimits { bytes: 64 << 20, depth: 64, values: 8 << 20 };

fn main() {
    divan::main();
}

/// The monitored part of the schema of Open vSwitch 3.1.0.
fn schema() -> Schema {
    let strings = json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"});
    let optional = |key: &str| json!({"type": {"key": key, "min": 0, "max": 1}});
    let uuids = json!({"type": {"key": "uuid", "min": 0, "max": "unlimited"}});
    let map = json!({"type": strings});
    let text = json!({"type": "string"});
    let json = json!({"name": "Open_vSwitch", "version": "8.3.1", "tables": {
        "Bridge": {"columns": {"name": text, "ports": uuids, "other_config": map}},
        "Port": {"columns": {"name": text, "tag": optional("integer"), "external_ids": map,
            "interfaces": {"type": {"key": "uuid", "min": 1, "max": "unlimited"}}}},
        "Interface": {"columns": {"name": text, "type": text, "ofport": optional("integer"),
            "ofport_request": optional("integer"), "external_ids": map, "options": map,
            "error": optional("string"), "mac_in_use": optional("string"),
            "admin_state": optional("string"), "link_state": optional("string"),
            "ifindex": optional("integer"), "mtu": optional("integer")}},
    }});
    Schema::parse(&json).expect("a schema")
}

fn uuid(table: u128, n: usize) -> String {
    // spread like the random ones of a server
    let n = n as u128 + 1;
    Uuid::from_u128((n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) << 8) | table)
        .to_string()
}

/// The reply to `monitor_cond` for a bridge with so many ports, as a server writes it.
fn first_picture(ports: usize) -> String {
    let mut text = String::from(r#"{"id":3,"error":null,"result":{"Bridge":{"#);
    let list: Vec<Json> = (0..ports).map(|n| json!(["uuid", uuid(1, n)])).collect();
    let bridge = json!({"initial": {"name": "br-int", "ports": ["set", list]}});
    write!(text, "\"{}\":{bridge}}},\"Port\":{{", uuid(3, 0)).expect("memory");
    let separator = |n: usize| if n == 0 { "" } else { "," };
    for n in 0..ports {
        let row = json!({"name": format!("veth{n:06x}"), "interfaces": ["uuid", uuid(2, n)]});
        let (comma, id) = (separator(n), uuid(1, n));
        write!(text, "{comma}\"{id}\":{{\"initial\":{row}}}").expect("memory");
    }
    text.push_str("},\"Interface\":{");
    for n in 0..ports {
        let row = json!({"name": format!("veth{n:06x}"), "ofport": n + 1, "ifindex": n + 7,
            "mac_in_use": format!("fe:00:00:{:02x}:{:02x}:01", n >> 8, n & 255), "mtu": 1450,
            "admin_state": "up", "link_state": "up",
            "external_ids": ["map", [["attached-mac", format!("02:00:00:{:02x}:{:02x}:01", n >> 8, n & 255)],
                ["iface-id", format!("namespace-{}/pod-{n}", n % 50)], ["iface-status", "active"],
                ["vm-id", uuid(4, n)]]]});
        let (comma, id) = (separator(n), uuid(2, n));
        write!(text, "{comma}\"{id}\":{{\"initial\":{row}}}").expect("memory");
    }
    text.push_str("}}}");
    text
}

/// Notifications that each change one interface: a new number and the state of its link.
fn single_changes() -> String {
    (0..CHANGES)
        .map(|n| {
            let row = json!({"ofport": 20_000 + n, "link_state": "down",
                "external_ids": ["map", [["iface-status", "inactive"]]]});
            let id = uuid(2, n * (PORTS / CHANGES));
            json!({"id": null, "method": "update2",
                "params": ["replica", {"Interface": {id: {"modify": row}}}]})
            .to_string()
        })
        .collect()
}

/// Notifications that each add one port to the bridge, with its rows.
fn added_ports() -> String {
    (PORTS..PORTS + CHANGES)
        .map(|n| {
            let (port, interface) = (uuid(1, n), uuid(2, n));
            json!({"id": null, "method": "update2", "params": ["replica", {
                "Bridge": {uuid(3, 0): {"modify": {"ports": ["uuid", port]}}},
                "Port": {uuid(1, n): {"insert": {"name": format!("veth{n:06x}"), "interfaces": ["uuid", interface]}}},
                "Interface": {uuid(2, n): {"insert": {"name": format!("veth{n:06x}")}}}}]})
            .to_string()
        })
        .collect()
}

/// What the client does with received bytes, up to the rows.
fn follow(replica: &mut Replica, text: &str) -> usize {
    let mut decoder = Decoder::new(LIMITS);
    let mut rows = 0;
    for piece in text.as_bytes().chunks(1 << 16) {
        decoder.buffer().extend_from_slice(piece);
        while let Some(json) = decoder.next_object().expect("JSON") {
            let updates = match Message::parse(json).expect("a message") {
                Message::Response { result: Ok(updates), .. } => updates,
                Message::Notification { params: Json::Array(mut params), .. } => {
                    params.pop().expect("updates")
                }
                other => panic!("{other:?}"),
            };
            let updates = TableUpdates::parse(Method::MonitorCond, updates).expect("updates");
            rows += replica.apply(updates).expect("an update that fits").len();
        }
    }
    rows
}

fn full() -> Replica {
    let mut replica = Replica::new(schema());
    assert_eq!(follow(&mut replica, &first_picture(PORTS)), 2 * PORTS + 1);
    replica
}

fn parse_plainly(text: &str) -> Vec<Json> {
    let messages = serde_json::Deserializer::from_str(text).into_iter();
    messages.collect::<Result<_, _>>().expect("JSON")
}

/// The reply to a monitor request: one bridge, 10,000 ports and 10,000 interfaces.
#[divan::bench_group(sample_count = 15)]
mod first_picture_of_10000_ports {
    use super::*;

    #[divan::bench]
    fn serde_json_value_baseline(bencher: Bencher<'_, '_>) {
        let text = first_picture(PORTS);
        bencher
            .counter(ItemsCount::new(2 * PORTS + 1))
            .counter(BytesCount::of_str(&text))
            .bench_local(|| parse_plainly(&text));
    }

    #[divan::bench]
    fn replica(bencher: Bencher<'_, '_>) {
        let text = first_picture(PORTS);
        bencher
            .counter(ItemsCount::new(2 * PORTS + 1))
            .counter(BytesCount::of_str(&text))
            .with_inputs(|| Replica::new(schema()))
            .bench_local_values(|mut replica| {
                follow(&mut replica, &text);
                replica
            });
    }

    /// What a new connection adds: the exact difference of two replicas with the same rows.
    #[divan::bench]
    fn difference_after_reconnecting(bencher: Bencher<'_, '_>) {
        let (before, after) = (full(), full());
        bencher.counter(ItemsCount::new(2 * PORTS + 1)).bench_local(|| after.since(&before).len());
    }
}

/// One notification each, to a replica of 10,000 ports.
#[divan::bench_group(sample_count = 15)]
mod single_changes_1000 {
    use super::*;

    fn baseline(bencher: Bencher<'_, '_>, text: &str) {
        bencher
            .counter(ItemsCount::new(CHANGES))
            .counter(BytesCount::of_str(text))
            .bench_local(|| parse_plainly(text));
    }

    fn measured(bencher: Bencher<'_, '_>, text: &str) {
        let replica = full();
        bencher
            .counter(ItemsCount::new(CHANGES))
            .counter(BytesCount::of_str(text))
            // rows are shared: a copy is a tree of references
            .with_inputs(|| replica.clone())
            .bench_local_values(|mut replica| {
                follow(&mut replica, text);
                replica
            });
    }

    #[divan::bench]
    fn interfaces_serde_json_value_baseline(bencher: Bencher<'_, '_>) {
        baseline(bencher, &single_changes());
    }

    #[divan::bench]
    fn interfaces_replica(bencher: Bencher<'_, '_>) {
        measured(bencher, &single_changes());
    }

    #[divan::bench]
    fn ports_added_serde_json_value_baseline(bencher: Bencher<'_, '_>) {
        baseline(bencher, &added_ports());
    }

    #[divan::bench]
    fn ports_added_replica(bencher: Bencher<'_, '_>) {
        measured(bencher, &added_ports());
    }

    /// The same with a picture of typed rows for each notification, kept while the next one is drawn.
    #[divan::bench]
    fn interfaces_replica_and_pictures(bencher: Bencher<'_, '_>) {
        let replica = full();
        let first = Arc::new(SwitchState::of(&replica));
        let updates: Vec<TableUpdates> = parse_plainly(&single_changes())
            .into_iter()
            .map(|mut message| {
                let updates = message["params"][1].take();
                TableUpdates::parse(Method::MonitorCond, updates).expect("updates")
            })
            .collect();
        bencher
            .counter(ItemsCount::new(CHANGES))
            .with_inputs(|| (replica.clone(), Arc::clone(&first), updates.clone()))
            .bench_local_values(|(mut replica, mut picture, updates)| {
                for update in updates {
                    let changes = replica.apply(update).expect("an update that fits");
                    let kept = Arc::clone(&picture);
                    Arc::make_mut(&mut picture).follow(&replica, &changes);
                    assert!(kept != picture);
                }
                (replica, picture)
            });
    }
}

/// Building and keeping: the column `max alloc` less the text is what 20,001 rows take; `alloc` counts the work.
#[divan::bench_group(sample_count = 1, sample_size = 1)]
mod memory_of_20001_rows {
    use super::*;

    #[divan::bench]
    fn kept_as_serde_json_value_baseline(bencher: Bencher<'_, '_>) {
        let json = parse_plainly(&first_picture(PORTS));
        bencher.bench_local(|| json.clone());
    }

    #[divan::bench]
    fn kept_as_rows(bencher: Bencher<'_, '_>) {
        let replica = full();
        let tables = ["Bridge", "Port", "Interface"];
        bencher.bench_local(|| {
            let rows = tables.iter().flat_map(|table| replica.rows(table));
            rows.map(|(uuid, row)| (uuid, Arc::new(row.columns().clone())))
                .collect::<std::collections::BTreeMap<_, _>>()
        });
    }
}
