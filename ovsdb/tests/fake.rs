//! The client against a scripted server on a unix socket.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use weir_ovsdb::client::{self, Client, Feed, LockState, Shape, TableRequest};
use weir_ovsdb::op::Condition;
use weir_ovsdb::op::{Operation, Outcome};
use weir_ovsdb::replica::{ChangeKind, Changes};
use weir_ovsdb::rpc::MessageLimits;
use weir_ovsdb::schema::AtomicType;
use weir_ovsdb::vswitch::{self, Vswitch};
use weir_ovsdb::{Driver, Error, Limits, Options, Refusal, Target, Uuid};

struct Server {
    listener: UnixListener,
    path: PathBuf,
    _folder: TempDir,
}

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.sock");
        Self { listener: UnixListener::bind(&path).unwrap(), path, _folder: folder }
    }

    fn client(&self, options: Options) -> (Vswitch, Driver) {
        vswitch::connect(Target::Unix(self.path.clone()), options)
    }

    async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        Peer { stream, received: Vec::new() }
    }

    /// A connection up to its first full replica.
    async fn live(&self, name: &str) -> Peer {
        let mut peer = self.accept().await;
        peer.handshake("monitor_cond", &initial(name)).await;
        peer
    }
}

struct Peer {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Peer {
    /// The next message; `None` when the client closed.
    async fn next(&mut self) -> Option<Json> {
        loop {
            let mut messages = serde_json::Deserializer::from_slice(&self.received).into_iter();
            if let Some(Ok(message)) = messages.next() {
                let length = messages.byte_offset();
                self.received.drain(..length);
                return Some(message);
            }
            if self.stream.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn expect(&mut self, method: &str) -> Json {
        let message = self.next().await.expect("the client closed the connection");
        assert_eq!(message["method"], method, "{message}");
        message
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) {
        // the client may close before it has read all
        let _ = self.stream.write_all(text.as_ref()).await;
    }

    async fn reply(&mut self, request: &Json, result: Json) {
        let reply = json!({"id": request["id"], "result": result, "error": null});
        self.send(reply.to_string()).await;
    }

    async fn refuse(&mut self, request: &Json, error: Json) {
        let reply = json!({"id": request["id"], "result": null, "error": error});
        self.send(reply.to_string()).await;
    }

    async fn schema(&mut self) {
        let aware = self.expect("set_db_change_aware").await;
        assert_eq!(aware["params"], json!([true]));
        self.refuse(&aware, json!("unknown method")).await;
        let request = self.expect("get_schema").await;
        assert_eq!(request["params"], json!(["Open_vSwitch"]));
        self.reply(&request, schema()).await;
    }

    async fn handshake(&mut self, method: &str, rows: &Json) {
        self.schema().await;
        let request = self.expect(method).await;
        self.reply(&request, rows.clone()).await;
    }

    async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }
}

fn schema() -> Json {
    let set = |ty: &str| json!({"type": {"key": ty, "min": 0, "max": "unlimited"}});
    let strings =
        json!({"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}});
    let tables = json!({"type": {"key": "integer", "value": "uuid", "min": 0, "max": "unlimited"}});
    json!({"name": "Open_vSwitch", "version": "1.0.0", "tables": {
        "Open_vSwitch": {"columns": {"cur_cfg": {"type": "integer"}, "other_config": strings}},
        "Bridge": {"columns": {"name": {"type": "string"}, "ports": set("uuid"), "flow_tables": tables}},
        "Port": {"columns": {"name": {"type": "string"}, "interfaces": set("uuid")}},
        "Interface": {"columns": {"name": {"type": "string"},
            "ofport": {"type": {"key": "integer", "min": 0, "max": 1}}}},
        "Flow_Table": {"columns": {"name": {"type": {"key": "string", "min": 0, "max": 1}}}},
    }})
}

fn id(n: u128) -> String {
    Uuid::from_u128(n).to_string()
}

fn initial(name: &str) -> Json {
    json!({"Bridge": {id(1): {"initial": {"name": name}}}, "Open_vSwitch": {id(2): {"initial": {}}}})
}

fn options() -> Options {
    Options {
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        probe_interval: None,
        limits: Limits {
            message: MessageLimits { bytes: 64 << 10, depth: 32, values: 16384 },
            replica_rows: 100,
            replica_bytes: 256 << 10,
            output_bytes: 64 << 10,
        },
        ..Options::default()
    }
}

/// Runs the script beside the driver.
async fn with_driver<T>(driver: Driver, script: impl Future<Output = T>) -> T {
    let script = async { tokio::time::timeout(Duration::from_secs(30), script).await };
    tokio::select! {
        () = driver => panic!("the driver ended"),
        outcome = script => outcome.expect("the script hangs"),
    }
}

async fn until_bridge(vswitch: &Vswitch, name: &str) {
    let mut watch = vswitch.watch();
    let shows = |state: &Option<std::sync::Arc<vswitch::SwitchState>>| {
        state.as_ref().is_some_and(|state| state.bridges.contains_key(name))
    };
    watch.wait_for(shows).await.unwrap();
}

#[tokio::test]
async fn asks_only_for_columns_the_server_has() {
    let server = Server::new();
    let (vswitch, driver) = server.client(options());
    assert!(vswitch.watch().borrow().is_none());
    with_driver(driver, async {
        let mut peer = server.accept().await;
        peer.schema().await;
        let request = peer.expect("monitor_cond").await;
        let tables = &request["params"][2];
        assert_eq!(tables["Bridge"], json!({"columns": ["flow_tables", "name", "ports"]}));
        assert_eq!(tables["Open_vSwitch"], json!({"columns": ["cur_cfg", "other_config"]}));
        assert!(!*vswitch.connected().borrow());
        peer.reply(&request, initial("br0")).await;
        until_bridge(&vswitch, "br0").await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();
    })
    .await;
    assert!(!*vswitch.connected().borrow(), "a dropped driver is not connected");
    assert!(matches!(vswitch.transact(vec![]).await, Err(Error::Stopped)));
}

#[tokio::test]
async fn falls_back_to_monitor() {
    for error in [json!("unknown method"), json!({"error": "unknown method", "details": "x"})] {
        let server = Server::new();
        let (vswitch, driver) = server.client(options());
        with_driver(driver, async {
            let mut peer = server.accept().await;
            peer.schema().await;
            let request = peer.expect("monitor_cond").await;
            peer.refuse(&request, error).await;
            let request = peer.expect("monitor").await;
            let row = json!({"name": "br0", "ports": ["set", []], "flow_tables": ["map", []]});
            peer.reply(&request, json!({"Bridge": {id(1): {"new": row}}})).await;
            until_bridge(&vswitch, "br0").await;
            let row = json!({"name": "br1", "ports": ["set", []], "flow_tables": ["map", []]});
            let update = json!({"method": "update", "id": null, "params": ["replica",
                {"Bridge": {id(1): {"old": {"name": "br0"}, "new": row}}}]});
            peer.send(update.to_string()).await;
            until_bridge(&vswitch, "br1").await;
        })
        .await;
    }
}

#[tokio::test]
async fn answers_echo_amid_pieces_of_other_messages() {
    let server = Server::new();
    let (vswitch, driver) = server.client(options());
    with_driver(driver, async {
        let mut peer = server.live("br0").await;
        until_bridge(&vswitch, "br0").await;
        let echo = json!({"method": "echo", "params": ["x", {"y": 1}], "id": "echo"});
        let update = json!({"method": "update2", "id": null, "params": ["replica",
            {"Bridge": {id(9): {"insert": {"name": "br9"}}}}]});
        // two messages and the half of a third, then the rest
        let text = format!("{echo}{echo}{update}");
        let (first, second) = text.split_at(text.len() - 40);
        peer.send(first).await;
        for _ in 0..2 {
            let answer = peer.next().await.unwrap();
            assert_eq!(answer, json!({"id": "echo", "result": ["x", {"y": 1}], "error": null}));
        }
        peer.send(second).await;
        until_bridge(&vswitch, "br9").await;
        peer.send(json!({"method": "odd", "params": [], "id": 5}).to_string()).await;
        assert_eq!(peer.next().await.unwrap()["error"]["error"], "unknown method");
    })
    .await;
}

/// Everything that is wrong ends the connection, and the next one is used. The picture is never empty meanwhile.
#[tokio::test]
async fn bad_bytes_after_the_handshake_lead_to_a_new_connection() {
    let update = |updates: Json| {
        json!({"method": "update2", "id": null, "params": ["replica", updates]}).to_string()
    };
    let rows: serde_json::Map<String, Json> =
        (100..300).map(|n| (id(n), json!({"insert": {"name": n.to_string()}}))).collect();
    let heavy = |n: u128| {
        let text = "x".repeat(50_000);
        update(json!({"Port": {id(n): {"insert": {"name": text}}}}))
    };
    let cases: Vec<(&str, String)> = vec![
        ("begins with byte 0x5b", "[]".into()),
        ("malformed JSON", "{\"id\": }".into()),
        ("connection closed after", "{\"id\": 1".into()),
        ("more than 65536 bytes", format!("{{\"id\": \"{}", "x".repeat(100_000))),
        ("deeper than 32", format!("{{\"id\": {}", "[".repeat(1000))),
        ("more than 16384 values", format!("{{\"id\": [{}", "0,".repeat(20_000))),
        ("neither method nor id", "{}".into()),
        ("unknown request id", json!({"id": 77, "result": {}, "error": null}).to_string()),
        ("unknown request id", json!({"id": "x", "result": {}, "error": null}).to_string()),
        (
            "malformed parameters",
            json!({"method": "update2", "id": null, "params": ["replica"]}).to_string(),
        ),
        ("unknown monitor", update(json!({})).replace("replica", "other")),
        ("unknown monitor", update(json!({})).replace("update2", "update")),
        ("malformed table updates", update(json!(7))),
        ("unknown table Mirror", update(json!({"Mirror": {id(1): {"delete": null}}}))),
        ("without having appeared", update(json!({"Bridge": {id(7): {"delete": null}}}))),
        ("unknown column x", update(json!({"Bridge": {id(1): {"modify": {"x": 1}}}}))),
        (
            "expected string, found number",
            update(json!({"Bridge": {id(1): {"modify": {"name": 1}}}})),
        ),
        ("appeared twice", update(json!({"Bridge": {id(1): {"insert": {"name": "x"}}}}))),
        ("more than 100 rows", update(json!({"Port": rows}))),
        ("more than 262144 bytes", (1000..1010).map(heavy).collect()),
        (
            "cancelled the monitor",
            json!({"method": "monitor_canceled", "id": null, "params": ["replica"]}).to_string(),
        ),
        (
            "answers wait",
            json!({"method": "echo", "id": "x".repeat(30_000), "params": []})
                .to_string()
                .repeat(100),
        ),
    ];
    let server = Server::new();
    let (vswitch, driver) = server.client(options());
    with_driver(driver, async {
        for (round, (what, bytes)) in cases.iter().enumerate() {
            let name = format!("br{round}");
            let mut peer = server.live(&name).await;
            until_bridge(&vswitch, &name).await;
            vswitch.connected().wait_for(|connected| *connected).await.unwrap();
            peer.send(bytes).await;
            if what.contains("closed after") {
                peer.stream.shutdown().await.unwrap();
            }
            if !what.contains("answers wait") {
                peer.closed().await;
            }
            vswitch.connected().wait_for(|connected| !connected).await.unwrap();
            let trouble = vswitch.trouble().borrow().clone().unwrap();
            assert!(trouble.contains(what), "{trouble:?} does not tell of {what:?}");
            let watch = vswitch.watch();
            let state = watch.borrow().clone().expect("the last picture stays");
            assert!(state.bridges.contains_key(&name), "{what}");
        }
        let _peer = server.live("last").await;
        until_bridge(&vswitch, "last").await;
    })
    .await;
}

#[tokio::test]
async fn bad_handshakes_lead_to_a_new_connection() {
    let server = Server::new();
    let (vswitch, driver) = server.client(options());
    with_driver(driver, async {
        for schema in [json!(null), json!({"tables": {}}), json!({"tables": {"A": {"columns": 1}}})]
        {
            let mut peer = server.accept().await;
            peer.expect("set_db_change_aware").await;
            let request = peer.expect("get_schema").await;
            peer.reply(&request, schema).await;
            peer.closed().await;
        }
        let mut peer = server.accept().await;
        peer.schema().await;
        let request = peer.expect("monitor_cond").await;
        peer.refuse(&request, json!({"error": "syntax error"})).await;
        peer.closed().await;
        // an update before the first replica
        let mut peer = server.accept().await;
        peer.schema().await;
        peer.send(r#"{"method": "update2", "id": null, "params": ["replica", {}]}"#).await;
        peer.closed().await;
        // closed without a word
        drop(server.accept().await);
        assert!(vswitch.watch().borrow().is_none());
        assert!(matches!(vswitch.transact(vec![]).await, Err(Error::NotConnected)));
        let _peer = server.live("br0").await;
        until_bridge(&vswitch, "br0").await;
    })
    .await;
}

#[tokio::test]
async fn every_outcome_of_a_transaction() {
    let server = Server::new();
    let (vswitch, driver) = server.client(options());
    let ops = || vec![Operation::Comment("a".into()), Operation::Comment("b".into())];
    with_driver(driver, async {
        let mut peer = server.live("br0").await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();

        let (answer, ()) = tokio::join!(vswitch.transact(ops()), async {
            let request = peer.expect("transact").await;
            assert_eq!(request["params"][0], "Open_vSwitch");
            assert_eq!(request["params"][2], json!({"op": "comment", "comment": "b"}));
            // the change and the answer in one piece: the caller sees its change
            let update = json!({"method": "update2", "id": null, "params": ["replica",
                {"Bridge": {id(5): {"insert": {"name": "br5"}}}}]});
            let reply = json!({"id": request["id"], "result": [{}, {}], "error": null});
            peer.send(format!("{update}{reply}")).await;
        });
        assert_eq!(answer.unwrap(), [Outcome::Done, Outcome::Done]);
        assert!(vswitch.watch().borrow().as_ref().unwrap().bridges.contains_key("br5"));

        let (answer, ()) = tokio::join!(vswitch.transact(ops()), async {
            let request = peer.expect("transact").await;
            peer.reply(&request, json!([{"error": "timed out", "details": "d"}, null])).await;
        });
        assert!(matches!(answer, Err(Error::Operation { index: 0, .. })), "{answer:?}");

        let (answer, ()) = tokio::join!(vswitch.transact(ops()), async {
            let request = peer.expect("transact").await;
            peer.reply(&request, json!([{}, {}, {"error": "constraint violation"}])).await;
        });
        assert!(
            matches!(&answer, Err(Error::Commit { error, .. }) if error == "constraint violation")
        );

        let (answer, ()) = tokio::join!(vswitch.transact(ops()), async {
            let request = peer.expect("transact").await;
            peer.refuse(&request, json!({"error": "unknown database"})).await;
        });
        assert!(
            matches!(&answer, Err(Error::Refused { error, .. }) if error == "unknown database")
        );

        let large = vec![Operation::Comment("x".repeat(100_000))];
        assert!(matches!(vswitch.transact(large).await, Err(Error::RequestTooLarge { .. })));

        // two at once, answered in the other order
        let (first, second, ()) =
            tokio::join!(vswitch.transact(ops()), vswitch.transact(vec![]), async {
                let first = peer.expect("transact").await;
                let second = peer.expect("transact").await;
                peer.reply(&second, json!([])).await;
                peer.reply(&first, json!([{}, {}])).await;
            });
        assert_eq!((first.unwrap().len(), second.unwrap().len()), (2, 0));

        // an answer that cannot be read is told to the caller and ends the connection
        let (answer, ()) = tokio::join!(vswitch.transact(ops()), async {
            let request = peer.expect("transact").await;
            peer.reply(&request, json!([{}])).await;
            peer.closed().await;
        });
        assert!(matches!(answer, Err(Error::Protocol(_))), "{answer:?}");

        let mut peer = server.live("br1").await;
        until_bridge(&vswitch, "br1").await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();
        let (answer, ()) = tokio::join!(vswitch.transact(ops()), async {
            peer.expect("transact").await;
            drop(peer);
        });
        assert!(matches!(answer, Err(Error::Disconnected)), "{answer:?}");
    })
    .await;
}

/// With paused time: all waiting is skipped once nobody has anything to do.
#[tokio::test(start_paused = true)]
async fn silence_is_probed_and_then_given_up() {
    let server = Server::new();
    let options = Options { probe_interval: Some(Duration::from_secs(5)), ..options() };
    let (vswitch, driver) = server.client(options);
    let script = async {
        let mut peer = server.live("br0").await;
        until_bridge(&vswitch, "br0").await;
        for _ in 0..3 {
            let probe = peer.expect("echo").await;
            peer.reply(&probe, json!([])).await;
        }
        peer.expect("echo").await;
        peer.closed().await;
        // silence in the handshake, and a transaction without an answer
        server.accept().await.closed().await;
        let mut peer = server.live("br1").await;
        until_bridge(&vswitch, "br1").await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();
        let (answer, ()) = tokio::join!(vswitch.transact(vec![]), async {
            while let Some(message) = peer.next().await {
                if message["method"] == "echo" {
                    peer.reply(&message, json!([])).await;
                }
            }
        });
        assert!(matches!(answer, Err(Error::Disconnected)), "{answer:?}");
    };
    tokio::select! {
        () = driver => panic!("the driver ended"),
        () = script => {}
    }
}

#[tokio::test]
async fn a_rename_race_is_tried_again() {
    let server = Server::new();
    let (vswitch, driver) = server.client(options());
    let names = std::collections::BTreeMap::from([(3, "Three".to_owned())]);
    with_driver(driver, async {
        let mut peer = server.live("br0").await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();
        let (outcome, ()) = tokio::join!(vswitch.name_tables("br0", &names), async {
            let request = peer.expect("transact").await;
            assert_eq!(request["params"][2]["op"], "insert");
            let refusal = json!([{"error": "timed out"}, null, null, null]);
            peer.reply(&request, refusal).await;
            // what the other did: a row for the same table
            let update = json!({"method": "update2", "id": null, "params": ["replica", {
                "Bridge": {id(1): {"modify": {"flow_tables": ["map", [[3, ["uuid", id(30)]]]]}}},
                "Flow_Table": {id(30): {"insert": {}}}}]});
            peer.send(update.to_string()).await;
            let request = peer.expect("transact").await;
            assert_eq!(request["params"][2]["op"], "update");
            peer.reply(&request, json!([{}, {"count": 1}, {}])).await;
        });
        outcome.unwrap();
        let all = std::collections::BTreeMap::from([(255, "All".to_owned())]);
        assert!(matches!(vswitch.name_tables("br0", &all).await, Err(Error::TableNumber(255))));
        assert!(matches!(vswitch.name_tables("br9", &names).await, Err(Error::NoBridge(_))));
    })
    .await;
}

const NAME: Shape = Shape::Set(AtomicType::String);

/// A client of bridges alone, and its changes.
fn follower(server: &Server, request: TableRequest) -> (Client, Driver, Feed) {
    let (observer, feed) = client::feed();
    let target = Target::Unix(server.path.clone());
    let (client, driver) = client::connect(target, options(), vec![request], observer);
    (client, driver, feed)
}

fn bridges() -> TableRequest {
    TableRequest::required("Bridge", &[("name", NAME)])
}

fn update2(tables: &Json) -> String {
    json!({"method": "update2", "id": null, "params": ["replica", tables]}).to_string()
}

/// A connection of a [`follower`] up to its first full replica.
async fn live(server: &Server, name: &str) -> Peer {
    let mut peer = server.accept().await;
    peer.handshake("monitor_cond", &json!({"Bridge": {id(1): {"initial": {"name": name}}}})).await;
    peer
}

/// What happened to rows, and their names after (or before, where they went).
fn told(changes: &Changes) -> Vec<(u128, ChangeKind, String)> {
    changes
        .rows("Bridge")
        .map(|(uuid, change)| {
            let row = change.after().or_else(|| change.before()).unwrap();
            (uuid.as_u128(), change.kind(), row.with(uuid).string("name"))
        })
        .collect()
}

#[tokio::test]
async fn a_new_connection_brings_exactly_the_difference() {
    use ChangeKind::{Deleted, Inserted, Modified};
    let server = Server::new();
    let (client, driver, mut feed) = follower(&server, bridges());
    let row = |kind: &str, name: &str| json!({kind: {"name": name}});
    let event = |n, kind, name: &str| (n, kind, name.to_owned());
    with_driver(driver, async {
        let mut peer = server.accept().await;
        let rows = json!({"Bridge": {id(1): row("initial", "a"), id(2): row("initial", "b"),
            id(3): row("initial", "c")}});
        peer.handshake("monitor_cond", &rows).await;
        let changes = feed.next().await.unwrap();
        assert_eq!(
            told(&changes),
            [event(1, Inserted, "a"), event(2, Inserted, "b"), event(3, Inserted, "c")]
        );

        // a good update, then one that does not fit, in one piece: the good one counts and the other leaves no trace
        let good = update2(
            &json!({"Bridge": {id(2): {"modify": {"name": "b2"}}, id(4): row("insert", "d")}}),
        );
        let bad = update2(&json!({"Bridge": {id(1): {"delete": null}, id(9): {"delete": null}}}));
        peer.send(format!("{good}{bad}")).await;
        peer.closed().await;
        let changes = feed.next().await.unwrap();
        assert_eq!(told(&changes), [event(2, Modified, "b2"), event(4, Inserted, "d")]);

        // connections that never get as far as rows change nothing
        server.accept().await.schema().await;
        drop(server.accept().await);

        let mut peer = server.accept().await;
        let rows = json!({"Bridge": {id(1): row("initial", "a"), id(3): row("initial", "c2"),
            id(4): row("initial", "d"), id(5): row("initial", "e")}});
        peer.handshake("monitor_cond", &rows).await;
        let changes = feed.next().await.unwrap();
        assert_eq!(
            told(&changes),
            [event(2, Deleted, "b2"), event(3, Modified, "c2"), event(5, Inserted, "e")]
        );
        drop(peer);

        // nothing happened meanwhile: a look that finds nothing
        let mut peer = server.accept().await;
        peer.handshake("monitor_cond", &rows).await;
        assert!(feed.next().await.unwrap().is_empty());

        // what nobody took adds up, and what is undone goes
        client.connected().wait_for(|connected| *connected).await.unwrap();
        let mut revision = client.revision();
        let before = *revision.borrow();
        peer.send(update2(
            &json!({"Bridge": {id(6): row("insert", "f"), id(1): {"modify": {"name": "x"}}}}),
        ))
        .await;
        revision.wait_for(|now| *now == before + 1).await.unwrap();
        peer.send(update2(
            &json!({"Bridge": {id(6): {"delete": null}, id(1): {"modify": {"name": "y"}}}}),
        ))
        .await;
        revision.wait_for(|now| *now == before + 2).await.unwrap();
        assert_eq!(told(&feed.next().await.unwrap()), [event(1, Modified, "y")]);
    })
    .await;
    // the driver is gone
    assert_eq!(feed.next().await, None);
}

/// A whole conversation, cut at each of its bytes in turn, and byte by byte.
#[tokio::test]
async fn messages_cut_anywhere_are_the_same_messages() {
    let server = Server::new();
    let (client, driver, mut feed) = follower(&server, bridges());
    // names with what cutting could trip over
    let update = update2(&json!({"Bridge": {id(7): {"insert": {"name": "\u{e9}}{\"\\]\n"}}}}));
    let gone = update2(&json!({"Bridge": {id(7): {"delete": null}}}));
    let echo = json!({"method": "echo", "params": [], "id": "x"});
    with_driver(driver, async {
        let mut peer = live(&server, "br0").await;
        feed.next().await.unwrap();
        let text = format!(" {update}\n{echo}{gone}\t ");
        let text = text.as_bytes();
        let mut seen = client.revision();
        for cut in 1..text.len() {
            for piece in [&text[..cut], &text[cut..]] {
                peer.send(piece).await;
                peer.stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
            assert_eq!(peer.next().await.unwrap()["result"], json!([]), "cut at {cut}");
        }
        for byte in text {
            peer.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(peer.next().await.unwrap()["id"], "x");
        // and all at once, many times over
        peer.send(text.repeat(50)).await;
        for _ in 0..50 {
            assert_eq!(peer.next().await.unwrap()["id"], "x");
        }
        // the last word of the server: afterwards all is as at first
        peer.send(update2(&json!({"Bridge": {id(1): {"modify": {"name": "end"}}}}))).await;
        let mut sum = Changes::default();
        while told(&sum) != [(1, ChangeKind::Modified, "end".to_owned())] {
            sum.merge(feed.next().await.unwrap());
        }
        assert!(*seen.borrow_and_update() > 1);
        assert!(*client.connected().borrow(), "one connection for all of it");
    })
    .await;
}

#[tokio::test]
async fn what_is_not_for_us_is_passed_over() {
    let server = Server::new();
    let (client, driver, mut feed) = follower(&server, bridges());
    with_driver(driver, async {
        let mut peer = server.accept().await;
        // a schema of another time: more tables, columns, types and members than we know
        peer.expect("set_db_change_aware").await;
        let request = peer.expect("get_schema").await;
        let schema = json!({"name": "Open_vSwitch", "version": "99.0.0", "cksum": "1 2", "tables": {
            "Bridge": {"isRoot": true, "indexes": [["name"]], "columns": {
                "name": {"type": "string", "mutable": false, "ephemeral": true, "new": 1},
                "colour": {"type": {"key": {"type": "tensor"}, "min": 0, "max": 7}},
                "shape": {"type": "string"}}},
            "Aspect": {"columns": {"x": {"type": "quaternion"}}}}});
        peer.reply(&request, schema).await;
        let request = peer.expect("monitor_cond").await;
        assert_eq!(request["params"][2], json!({"Bridge": {"columns": ["name"]}}));
        // notifications before the first rows, and after
        let odd = [
            json!({"method": "weather", "params": ["fair"], "id": null}),
            json!({"method": "locked", "params": ["nobody's"], "id": null}),
            json!({"method": "stolen", "params": ["nobody's"], "id": null}),
            json!({"method": "update3", "params": ["replica", "0", {}], "id": null, "jsonrpc": "1.0"}),
        ];
        for message in &odd {
            peer.send(message.to_string()).await;
        }
        peer.reply(&request, json!({"Bridge": {id(1): {"initial": {"name": "br0"}}}})).await;
        feed.next().await.unwrap();
        for message in &odd {
            peer.send(message.to_string()).await;
        }
        peer.send(update2(&json!({}))).await;
        peer.send(update2(&json!({"Bridge": {}}))).await;
        peer.send(update2(&json!({"Bridge": {id(1): {"modify": {"name": "br1"}}}}))).await;
        assert_eq!(told(&feed.next().await.unwrap()), [(1, ChangeKind::Modified, "br1".to_owned())]);
        assert!(*client.connected().borrow());
    })
    .await;
}

#[tokio::test]
async fn conditions_need_monitor_cond() {
    let server = Server::new();
    let only = bridges().where_any(vec![Condition::eq("name", "br0")]);
    let (client, driver, _feed) = follower(&server, only);
    with_driver(driver, async {
        let mut peer = server.accept().await;
        peer.schema().await;
        let request = peer.expect("monitor_cond").await;
        let bridges = json!({"columns": ["name"], "where": [["name", "==", "br0"]]});
        assert_eq!(request["params"][2]["Bridge"], bridges);
        // all rows in place of some would be a wrong replica
        peer.refuse(&request, json!("unknown method")).await;
        peer.closed().await;
        client.trouble().wait_for(|trouble| trouble.is_some()).await.unwrap();
        let trouble = client.trouble().borrow().clone().unwrap();
        assert!(trouble.contains("a part of table Bridge"), "{trouble}");

        let mut peer = live(&server, "br0").await;
        client.connected().wait_for(|connected| *connected).await.unwrap();
        let (changed, ()) = tokio::join!(client.set_conditions("Bridge", vec![]), async {
            let request = peer.expect("monitor_cond_change").await;
            assert_eq!(
                request["params"],
                json!(["replica", "replica", {"Bridge": [{"where": [true]}]}])
            );
            peer.reply(&request, json!({})).await;
        });
        changed.unwrap();
        drop(peer);
        // without conditions the old way will do, and no conditions can be set
        let mut peer = server.accept().await;
        peer.schema().await;
        let request = peer.expect("monitor_cond").await;
        assert_eq!(request["params"][2]["Bridge"], json!({"columns": ["name"]}));
        peer.refuse(&request, json!("unknown method")).await;
        let request = peer.expect("monitor").await;
        peer.reply(&request, json!({"Bridge": {}})).await;
        client.connected().wait_for(|connected| *connected).await.unwrap();
        let error = client.set_conditions("Bridge", vec![]).await.unwrap_err();
        assert!(matches!(&error, Error::NoConditions(table) if table == "Bridge"), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn locks_as_a_server_might_answer_them() {
    let server = Server::new();
    let (client, driver, _feed) = follower(&server, bridges());
    with_driver(driver, async {
        // wanted before there is a connection: asked for on the first one
        let lock = client.steal("a").unwrap();
        assert_eq!((lock.state(), lock.name()), (LockState::Waiting, "a"));
        let mut peer = live(&server, "br0").await;
        let request = peer.expect("steal").await;
        assert_eq!(request["params"], json!(["a"]));
        peer.reply(&request, json!({"locked": true})).await;
        lock.held().await.unwrap();
        let mut state = lock.watch();
        peer.send(json!({"method": "stolen", "params": ["a"], "id": null}).to_string()).await;
        state.wait_for(|state| *state == LockState::Stolen).await.unwrap();
        // a release and a new wish: in this order, on one connection
        drop(lock);
        let lock = client.lock("a").unwrap();
        let unlock = peer.expect("unlock").await;
        let request = peer.expect("lock").await;
        peer.reply(&unlock, json!({})).await;
        peer.reply(&request, json!({"locked": false})).await;
        assert_eq!(lock.state(), LockState::Waiting);
        peer.send(json!({"method": "locked", "params": ["a"], "id": null}).to_string()).await;
        lock.held().await.unwrap();
        drop(peer);
        lock.watch().wait_for(|state| *state == LockState::Waiting).await.unwrap();

        // not stolen a second time
        let mut peer = live(&server, "br1").await;
        let request = peer.expect("lock").await;
        peer.reply(&request, json!({"locked": true})).await;
        lock.held().await.unwrap();
        // a release is over when the connection is
        let (mut connected, released) = (client.connected(), lock.release());
        tokio::join!(released, async {
            peer.expect("unlock").await;
            drop(peer);
        });
        connected.wait_for(|connected| !connected).await.unwrap();

        // an answer that says nothing ends the connection
        let last = client.lock("a").unwrap();
        let mut peer = live(&server, "br2").await;
        let request = peer.expect("lock").await;
        peer.reply(&request, json!({})).await;
        peer.closed().await;
        let mut peer = live(&server, "br3").await;
        let request = peer.expect("lock").await;
        peer.refuse(&request, json!({"error": "permission error"})).await;
        assert_eq!(last.held().await.unwrap_err().refusal(), Some(Refusal::PermissionError));
    })
    .await;
    assert!(matches!(client.lock("b").unwrap().held().await, Err(Error::Stopped)));
}
