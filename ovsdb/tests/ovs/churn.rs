//! A thousand ports come and go, and the server is killed in the middle: the replica is what the database holds at every
//! quiet point, and the change sets add up to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use weir_ovsdb::client::{Client, Observer, Shape, TableRequest};
use weir_ovsdb::op::{Mutation, Operation, Row};
use weir_ovsdb::replica::{Changes, Replica};
use weir_ovsdb::schema::{AtomicType, Schema};
use weir_ovsdb::vswitch::{SwitchState, Vswitch};
use weir_ovsdb::{Error, Uuid, Value};

use crate::rig::{Ovs, add_port, has_ofport, live, until, until_dump, with_drivers};

const PORTS: usize = 1_000;
/// Ports of one transaction.
const BATCH: usize = 25;

type Rows = BTreeMap<(String, Uuid), Row>;

/// Applies change sets to rows of its own, and checks that each begins where the last ended.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    added_up: Rows,
    shown: Rows,
    connections: usize,
}

impl Ledger {
    fn add(&self, replica: &Replica, changes: &Changes) {
        let mut content = self.0.lock().unwrap();
        for (table, rows) in changes.tables() {
            for (uuid, change) in rows {
                let name = (table.to_owned(), *uuid);
                let before = content.added_up.get(&name);
                assert_eq!(before, change.before().map(|row| row.to_map()).as_ref());
                assert_ne!(change.before(), change.after(), "a change that is none");
                match change.after() {
                    Some(row) => content.added_up.insert(name, row.to_map()),
                    None => content.added_up.remove(&name),
                };
            }
        }
        // in the same step, as the test looks from another thread
        let tables = ["Open_vSwitch", "Bridge", "Port", "Interface"];
        let rows = tables.into_iter().flat_map(|table| {
            replica
                .rows(table)
                .map(move |(uuid, row)| ((table.to_owned(), uuid), row.columns().to_map()))
        });
        content.shown = rows.collect();
    }

    /// The rows that the changes add up to, and those of the replica.
    fn rows(&self) -> (Rows, Rows) {
        let content = self.0.lock().unwrap();
        (content.added_up.clone(), content.shown.clone())
    }
}

impl Observer for Ledger {
    fn replaced(&mut self, replica: &Replica, changes: &Changes) {
        self.add(replica, changes);
        self.0.lock().unwrap().connections += 1;
    }

    fn changed(&mut self, replica: &Replica, changes: &Changes) {
        self.add(replica, changes);
    }
}

/// All columns but those that change by themselves.
fn tables(schema: &Schema) -> Vec<TableRequest> {
    let volatile =
        BTreeSet::from(["statistics", "status", "rstp_status", "rstp_statistics", "lldp"]);
    ["Open_vSwitch", "Bridge", "Port", "Interface"]
        .into_iter()
        .map(|table| {
            let columns = schema.tables[table].columns.iter();
            let shapes: Vec<(&str, Shape)> = columns
                .filter(|(name, _)| !volatile.contains(name.as_str()))
                .map(|(name, ty)| {
                    let shape =
                        ty.value.map_or(Shape::Set(ty.key), |value| Shape::Map(ty.key, value));
                    (name.as_str(), shape)
                })
                .collect();
            TableRequest::required(table, &shapes)
        })
        .collect()
}

/// The same columns, selected afresh.
async fn selected(client: &Client, schema: &Schema) -> Rows {
    let volatile = ["statistics", "status", "rstp_status", "rstp_statistics", "lldp"];
    let mut operations = Vec::new();
    let tables = ["Open_vSwitch", "Bridge", "Port", "Interface"];
    for table in tables {
        let names = schema.tables[table].columns.keys().map(String::as_str);
        let columns: Vec<&str> =
            names.filter(|name| !volatile.contains(name)).chain(["_uuid"]).collect();
        operations.push(Operation::select(table, (), &columns));
    }
    let outcomes = client.transact(operations).await.unwrap();
    let mut rows = Rows::new();
    for (table, outcome) in tables.into_iter().zip(outcomes) {
        for (uuid, row) in outcome.read(&schema.tables[table]).unwrap() {
            rows.insert((table.to_owned(), uuid.unwrap()), row);
        }
    }
    rows
}

/// Compares at a quiet point: OVS writes on its own, so both are looked at until they agree.
async fn agrees(client: &Client, schema: &Schema, ledger: &Ledger) {
    let mut revision = client.revision();
    loop {
        revision.mark_unchanged();
        let expected = selected(client, schema).await;
        let (added_up, shown) = ledger.rows();
        assert!(added_up == shown, "the change sets do not add up to the replica");
        if shown == expected {
            return;
        }
        let wait = tokio::time::timeout(Duration::from_secs(20), revision.changed()).await;
        wait.unwrap_or_else(|_| {
            let wrong: Vec<_> = expected.iter().filter(|(k, v)| shown.get(*k) != Some(v)).collect();
            panic!("the replica differs from the database: {wrong:#?}")
        })
        .unwrap();
    }
}

fn name(n: usize) -> String {
    format!("p{n}")
}

/// The next transaction towards just the ports wanted; none when they are there.
fn step(state: &SwitchState, wanted: &BTreeSet<String>) -> Vec<Operation> {
    let bridge = &state.bridges["br0"];
    let there: BTreeMap<&String, Uuid> = bridge
        .ports
        .iter()
        .filter_map(|uuid| state.ports.get(uuid))
        .filter(|port| port.name != "br0")
        .map(|port| (&port.name, port.uuid))
        .collect();
    let missing: Vec<&String> =
        wanted.iter().filter(|name| !there.contains_key(name)).take(BATCH).collect();
    let surplus: Vec<Uuid> = there
        .iter()
        .filter(|(name, _)| !wanted.contains(**name))
        .map(|(_, uuid)| *uuid)
        .take(BATCH)
        .collect();
    if missing.is_empty() && surplus.is_empty() {
        return Vec::new();
    }
    let as_seen = Value::set(bridge.ports.iter().copied());
    let mut operations =
        vec![Operation::unchanged("Bridge", bridge.uuid, Row::from([("ports".into(), as_seen)]))];
    for (n, name) in missing.into_iter().enumerate() {
        operations.extend(add_port(bridge.uuid, name, n));
    }
    if !surplus.is_empty() {
        operations.push(Operation::mutate(
            "Bridge",
            bridge.uuid,
            [Mutation::delete("ports", Value::set(surplus))],
        ));
    }
    operations.push(Operation::mutate("Open_vSwitch", (), [Mutation::add("next_cfg", 1)]));
    operations
}

/// Goes on until the ports are as wanted, over lost connections and transactions of unknown outcome.
async fn reach(writer: &Vswitch, wanted: &BTreeSet<String>) {
    loop {
        live(writer.client()).await;
        match writer.optimistic("Bridge.ports", |state| Ok(step(state, wanted))).await {
            Ok(done) if done.is_empty() => return,
            Ok(_) | Err(Error::NotConnected | Error::Disconnected) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until ovs-vswitchd has seen the last change and numbered all ports.
async fn quiet(watch: &mut watch::Receiver<Option<Arc<SwitchState>>>, ports: usize) {
    until(watch, |state| {
        state.system.cur_cfg >= state.system.next_cfg
            && state.interfaces.len() == ports + 1
            && state.interfaces.values().all(|interface| interface.ofport.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_ports_come_and_go_and_the_server_is_killed() {
    let mut ovs = Ovs::start().await;
    ovs.bridge().await;
    let text = std::fs::read_to_string(crate::rig::SCHEMA).unwrap();
    let schema = Schema::parse(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(schema.tables["Bridge"].columns["ports"].key, AtomicType::Uuid);
    let ledger = Ledger::default();
    let (follower, follower_driver) = ovs.plain(tables(&schema), ledger.clone());
    let (writer, writer_driver) = ovs.client();
    let mut watch = writer.watch();
    let names = |range: std::ops::Range<usize>| range.map(name).collect::<BTreeSet<String>>();
    with_drivers([follower_driver, writer_driver], async {
        until(&mut watch, |state| has_ofport(state, "br0")).await;
        live(&follower).await;

        reach(&writer, &names(0..PORTS / 2)).await;
        quiet(&mut watch, PORTS / 2).await;
        agrees(&follower, &schema, &ledger).await;
        until_dump(&ovs, &mut watch).await;

        // killed while the other half is under way, and some of the first half goes
        let goal = names(PORTS / 4..PORTS);
        let half = |state: &SwitchState| state.ports.len() > PORTS * 3 / 5;
        tokio::join!(reach(&writer, &goal), async {
            until(&mut writer.watch(), half).await;
            for _ in 0..2 {
                ovs.server = None;
                follower.connected().wait_for(|connected| !connected).await.unwrap();
                ovs.start_server().await;
                live(&follower).await;
            }
        });
        quiet(&mut watch, goal.len()).await;
        agrees(&follower, &schema, &ledger).await;
        until_dump(&ovs, &mut watch).await;
        assert_eq!(ledger.0.lock().unwrap().connections, 3);

        // changed while we are away: names gone and come again are other rows
        ovs.server = None;
        follower.connected().wait_for(|connected| !connected).await.unwrap();
        ovs.start_server().await;
        reach(&writer, &names(PORTS / 2..PORTS)).await;
        reach(&writer, &names(PORTS / 4..PORTS / 2)).await;
        quiet(&mut watch, PORTS / 4).await;
        agrees(&follower, &schema, &ledger).await;

        reach(&writer, &BTreeSet::new()).await;
        quiet(&mut watch, 0).await;
        agrees(&follower, &schema, &ledger).await;
        until_dump(&ovs, &mut watch).await;
        assert_eq!(ledger.rows().0.keys().filter(|(table, _)| table == "Interface").count(), 1);
    })
    .await;
}
