//! The client against a scripted server on a unix socket.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use weir_ovsdb::op::Operation;
use weir_ovsdb::rpc::MessageLimits;
use weir_ovsdb::vswitch::{self, Vswitch};
use weir_ovsdb::{Error, Limits, Options, Target, Uuid};

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

    fn client(&self, options: Options) -> (Vswitch, weir_ovsdb::Driver) {
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
async fn with_driver<T>(driver: weir_ovsdb::Driver, script: impl Future<Output = T>) -> T {
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
            let update = json!({"method": "update", "id": null, "params": ["weir",
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
        let update = json!({"method": "update2", "id": null, "params": ["weir",
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
        json!({"method": "update2", "id": null, "params": ["weir", updates]}).to_string()
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
            json!({"method": "update2", "id": null, "params": ["weir"]}).to_string(),
        ),
        ("unknown monitor", update(json!({})).replace("weir", "other")),
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
            json!({"method": "monitor_canceled", "id": null, "params": ["weir"]}).to_string(),
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
        peer.send(r#"{"method": "update2", "id": null, "params": ["weir", {}]}"#).await;
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
            let update = json!({"method": "update2", "id": null, "params": ["weir",
                {"Bridge": {id(5): {"insert": {"name": "br5"}}}}]});
            let reply = json!({"id": request["id"], "result": [{}, {}], "error": null});
            peer.send(format!("{update}{reply}")).await;
        });
        assert_eq!(answer.unwrap(), [json!({}), json!({})]);
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
            let update = json!({"method": "update2", "id": null, "params": ["weir", {
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
