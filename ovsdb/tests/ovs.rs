//! The client against a real ovsdb-server and ovs-vswitchd with a dummy datapath, in a private folder.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::sync::watch;
use weir_ovsdb::op::{Condition, Mutation, Operation, Row};
use weir_ovsdb::schema::Schema;
use weir_ovsdb::vswitch::{self, SwitchState, Vswitch};
use weir_ovsdb::{Atom, Driver, Error, Options, Target, Uuid, Value};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with its owner, also when a test panics.
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        let name = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self(child.unwrap_or_else(|error| {
            panic!("cannot start {name:?} ({error}): these tests need Open vSwitch (`make test` installs it)")
        }))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Ovs {
    server: Option<Process>,
    vswitchd: Option<Process>,
    folder: TempDir,
}

impl Ovs {
    async fn start() -> Self {
        assert!(
            Path::new(SCHEMA).exists(),
            "{SCHEMA} is missing: these tests need Open vSwitch (`make test` installs it)"
        );
        let folder = tempfile::tempdir().unwrap();
        let mut ovs = Self { server: None, vswitchd: None, folder };
        let database = ovs.path("conf.db");
        ovs.run("ovsdb-tool", &["create", &database, SCHEMA]).await;
        ovs.start_server().await;
        ovs.vsctl("--no-wait init").await;
        ovs.vswitchd = Some(Process::start(
            ovs.command("ovs-vswitchd").args([
                ovs.remote().as_str(),
                "--enable-dummy=override",
                "--disable-system",
                &format!("--unixctl={}", ovs.path("vs.ctl")),
                "-vconsole:warn",
            ]),
            &ovs.folder.path().join("vswitchd.log"),
        ));
        ovs
    }

    async fn start_server(&mut self) {
        let _ = fs::remove_file(self.path("db.sock"));
        self.server = Some(Process::start(
            self.command("ovsdb-server").args([
                &self.path("conf.db"),
                &format!("--remote=p{}", self.remote()),
                &format!("--unixctl={}", self.path("db.ctl")),
                "-vconsole:warn",
            ]),
            &self.folder.path().join("server.log"),
        ));
        // waits for the server itself
        self.run(
            "ovsdb-client",
            &["-t", "30", "wait", &self.remote(), "Open_vSwitch", "connected"],
        )
        .await;
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn remote(&self) -> String {
        format!("unix:{}", self.path("db.sock"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("OVS_RUNDIR", self.folder.path()).env("OVS_LOGDIR", self.folder.path());
        command
    }

    async fn run(&self, program: &str, args: &[&str]) -> String {
        let mut command = tokio::process::Command::from(self.command(program));
        // a test that gives up takes its commands along
        command.args(args).kill_on_drop(true);
        let output = command.output().await.unwrap_or_else(|error| {
            panic!("cannot run {program} ({error}): these tests need Open vSwitch (`make test` installs it)")
        });
        assert!(
            output.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    async fn vsctl(&self, args: &str) -> String {
        let database = format!("--db={}", self.remote());
        let all: Vec<&str> =
            ["-t", "30", database.as_str()].into_iter().chain(args.split(' ')).collect();
        self.run("ovs-vsctl", &all).await
    }

    async fn bridge(&self) {
        self.vsctl("add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure protocols=OpenFlow13,OpenFlow14")
            .await;
    }

    fn client(&self) -> (Vswitch, Driver) {
        let options = Options {
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(100),
            ..Options::default()
        };
        vswitch::connect(Target::Unix(PathBuf::from(self.path("db.sock"))), options)
    }

    /// The monitored columns as `ovsdb-client dump` tells them, drawn by this test alone.
    async fn dump(&self) -> SwitchState {
        let mut state = SwitchState::default();
        for row in self.table("Open_vSwitch").await {
            state.system.uuid = row.uuid();
            state.system.ovs_version = row.text("ovs_version").unwrap_or_default();
            state.system.cur_cfg = row.integer("cur_cfg").unwrap();
            state.system.next_cfg = row.integer("next_cfg").unwrap();
            state.system.other_config = row.strings("other_config");
            state.system.external_ids = row.strings("external_ids");
        }
        for row in self.table("Bridge").await {
            let bridge = vswitch::BridgeRow {
                uuid: row.uuid(),
                name: row.text("name").unwrap(),
                datapath_id: row.text("datapath_id"),
                datapath_type: row.text("datapath_type").unwrap(),
                fail_mode: row.text("fail_mode"),
                protocols: row.set("protocols").iter().map(as_text).collect(),
                ports: row.set("ports").iter().map(as_uuid).collect(),
                flow_tables: row
                    .map("flow_tables")
                    .iter()
                    .map(|(k, v)| (k.as_i64().unwrap(), as_uuid(v)))
                    .collect(),
                other_config: row.strings("other_config"),
                external_ids: row.strings("external_ids"),
            };
            state.bridges.insert(bridge.name.clone(), bridge);
        }
        for row in self.table("Port").await {
            let port = vswitch::PortRow {
                uuid: row.uuid(),
                name: row.text("name").unwrap(),
                interfaces: row.set("interfaces").iter().map(as_uuid).collect(),
                tag: row.integer("tag"),
                external_ids: row.strings("external_ids"),
            };
            state.ports.insert(port.uuid, port);
        }
        for row in self.table("Interface").await {
            let interface = vswitch::InterfaceRow {
                uuid: row.uuid(),
                name: row.text("name").unwrap(),
                type_: row.text("type").unwrap(),
                ofport: row.integer("ofport"),
                ofport_request: row.integer("ofport_request"),
                external_ids: row.strings("external_ids"),
                options: row.strings("options"),
                error: row.text("error"),
                mac_in_use: row.text("mac_in_use"),
                admin_state: row.text("admin_state"),
                link_state: row.text("link_state"),
                ifindex: row.integer("ifindex"),
                mtu: row.integer("mtu"),
            };
            state.interfaces.insert(interface.uuid, interface);
        }
        for row in self.table("Flow_Table").await {
            let table = vswitch::FlowTableRow {
                uuid: row.uuid(),
                name: row.text("name"),
                flow_limit: row.integer("flow_limit"),
                overflow_policy: row.text("overflow_policy"),
                groups: row.set("groups").iter().map(as_text).collect(),
                prefixes: row.set("prefixes").iter().map(as_text).collect(),
                external_ids: row.strings("external_ids"),
            };
            state.flow_tables.insert(table.uuid, table);
        }
        state
    }

    async fn table(&self, table: &str) -> Vec<Dumped> {
        let remote = self.remote();
        let args = ["--format=json", "--data=json", "dump", &remote, "Open_vSwitch", table];
        let text = self.run("ovsdb-client", &args).await;
        let json: Json = serde_json::from_str(&text).unwrap();
        let headings: Vec<String> =
            json["headings"].as_array().unwrap().iter().map(as_text).collect();
        json["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                Dumped(headings.iter().cloned().zip(row.as_array().unwrap().clone()).collect())
            })
            .collect()
    }
}

/// A row of `ovsdb-client dump`.
struct Dumped(BTreeMap<String, Json>);

impl Dumped {
    fn uuid(&self) -> Uuid {
        as_uuid(&self.0["_uuid"])
    }

    fn set(&self, column: &str) -> Vec<Json> {
        let json = &self.0[column];
        match json[0].as_str() {
            Some("set") => json[1].as_array().unwrap().clone(),
            _ => vec![json.clone()],
        }
    }

    fn map(&self, column: &str) -> Vec<(Json, Json)> {
        let pairs = self.0[column][1].as_array().unwrap();
        pairs.iter().map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    fn text(&self, column: &str) -> Option<String> {
        self.set(column).first().map(as_text)
    }

    fn integer(&self, column: &str) -> Option<i64> {
        self.set(column).first().map(|json| json.as_i64().unwrap())
    }

    fn strings(&self, column: &str) -> BTreeMap<String, String> {
        self.map(column).iter().map(|(k, v)| (as_text(k), as_text(v))).collect()
    }
}

fn as_text(json: &Json) -> String {
    json.as_str().unwrap().to_owned()
}

fn as_uuid(json: &Json) -> Uuid {
    json[1].as_str().unwrap().parse().unwrap()
}

type Watch = watch::Receiver<Option<Arc<SwitchState>>>;

async fn until(watch: &mut Watch, what: impl Fn(&SwitchState) -> bool) -> Arc<SwitchState> {
    let shown = watch.wait_for(|state| state.as_ref().is_some_and(|state| what(state)));
    shown.await.unwrap().clone().unwrap()
}

/// Waits until the picture is what a dump says; the dump is taken again for each picture, as OVS changes rows on its own.
async fn until_dump(ovs: &Ovs, watch: &mut Watch) {
    loop {
        let before = watch.borrow_and_update().clone();
        let dump = ovs.dump().await;
        if before.as_deref() == Some(&dump) {
            return;
        }
        tokio::time::timeout(Duration::from_secs(20), watch.changed())
            .await
            .unwrap_or_else(|_| {
                panic!("the picture stays at\n{before:#?}\nthe dump says\n{dump:#?}")
            })
            .unwrap();
    }
}

/// Runs a test beside the driver.
async fn with_driver(driver: Driver, test: impl Future<Output = ()>) {
    tokio::select! {
        () = driver => panic!("the driver ended"),
        outcome = tokio::time::timeout(PATIENCE, test) => outcome.expect("the test hangs"),
    }
}

fn interface<'a>(state: &'a SwitchState, name: &str) -> Option<&'a vswitch::InterfaceRow> {
    state.interfaces.values().find(|interface| interface.name == name)
}

fn has_ofport(state: &SwitchState, name: &str) -> bool {
    interface(state, name).is_some_and(|interface| interface.ofport.is_some())
}

#[tokio::test]
async fn the_replica_is_what_a_dump_says() {
    let ovs = Ovs::start().await;
    let (vswitch, driver) = ovs.client();
    let mut watch = vswitch.watch();
    with_driver(driver, async {
        until(&mut watch, |_| true).await;
        ovs.bridge().await;
        for n in 1..=5 {
            ovs.vsctl(&format!(
                "add-port br0 p{n} -- set interface p{n} type=dummy external_ids:iface-id=pod{n} \
                 external_ids:attached-mac=aa:00:00:00:00:0{n} \
                 -- set port p{n} external_ids:pod-name=pod{n} tag={n}"
            ))
            .await;
        }
        let state = until(&mut watch, |state| (1..=5).all(|n| has_ofport(state, &format!("p{n}")))).await;
        let p3 = interface(&state, "p3").unwrap();
        assert_eq!(p3.external_ids["iface-id"], "pod3");
        assert!(p3.ofport.is_some_and(|ofport| ofport > 0));
        let (port, _) = state.interfaces_of("br0").find(|(port, _)| port.name == "p3").unwrap();
        assert_eq!((port.external_ids["pod-name"].as_str(), port.tag), ("pod3", Some(3)));
        assert_eq!(
            state.bridges["br0"].protocols,
            BTreeSet::from(["OpenFlow13".to_owned(), "OpenFlow14".to_owned()])
        );
        until_dump(&ovs, &mut watch).await;

        ovs.vsctl("remove interface p1 external_ids attached-mac -- set interface p1 external_ids:iface-id=other").await;
        ovs.vsctl("clear port p2 tag external_ids -- set bridge br0 protocols=OpenFlow13").await;
        ovs.vsctl("del-port p4").await;
        ovs.vsctl("del-port p5 -- add-port br0 p5 -- set interface p5 type=dummy").await;
        until_dump(&ovs, &mut watch).await;
        let state = watch.borrow().clone().unwrap();
        assert_eq!(
            interface(&state, "p1").unwrap().external_ids,
            BTreeMap::from([("iface-id".to_owned(), "other".to_owned())])
        );
        assert!(interface(&state, "p4").is_none());

        // a failure: ofport is -1 and not absent
        ovs.vsctl("--no-wait add-port br0 bad -- set interface bad type=nonsense").await;
        let failed = |state: &SwitchState| {
            interface(state, "bad").is_some_and(|interface| interface.ofport == Some(-1))
        };
        let state = until(&mut watch, failed).await;
        assert!(interface(&state, "bad").unwrap().error.is_some());
        until_dump(&ovs, &mut watch).await;
        ovs.vsctl("del-br br0").await;
        until_dump(&ovs, &mut watch).await;
        assert!(watch.borrow().as_ref().unwrap().interfaces.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_killed_server_is_found_again() {
    let mut ovs = Ovs::start().await;
    let (vswitch, driver) = ovs.client();
    let (mut watch, mut connected) = (vswitch.watch(), vswitch.connected());
    with_driver(driver, async {
        ovs.bridge().await;
        until_dump(&ovs, &mut watch).await;
        for round in 0..3 {
            connected.wait_for(|connected| *connected).await.unwrap();
            ovs.server = None;
            connected.wait_for(|connected| !connected).await.unwrap();
            assert!(matches!(vswitch.transact(vec![]).await, Err(Error::NotConnected)));
            assert!(watch.borrow().as_ref().unwrap().bridges.contains_key("br0"));
            ovs.start_server().await;
            ovs.vsctl(&format!("add-port br0 r{round} -- set interface r{round} type=dummy")).await;
            until(&mut watch, |state| has_ofport(state, &format!("r{round}"))).await;
            until_dump(&ovs, &mut watch).await;
        }
        assert_eq!(watch.borrow().as_ref().unwrap().interfaces.len(), 4);
    })
    .await;
}

#[tokio::test]
async fn names_show_in_dumps_and_other_tables_are_kept() {
    let ovs = Ovs::start().await;
    let (vswitch, driver) = ovs.client();
    let mut watch = vswitch.watch();
    let names = BTreeMap::from([
        (0, "Classify".to_owned()),
        (30, "SrcClass".to_owned()),
        (254, "Output".to_owned()),
    ]);
    with_driver(driver, async {
        ovs.bridge().await;
        // others': table 7; settings of table 30; one row for tables 0 and 8
        ovs.vsctl(
            "-- --id=@a create Flow_Table name=Others -- --id=@b create Flow_Table prefixes=ip_src \
             external_ids:k=v -- --id=@c create Flow_Table flow_limit=100000 overflow_policy=refuse \
             -- set Bridge br0 flow_tables:7=@a flow_tables:30=@b flow_tables:0=@c flow_tables:8=@c",
        )
        .await;
        until(&mut watch, |state| state.flow_tables.len() == 3).await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();
        let before = watch.borrow().clone().unwrap();
        vswitch.name_tables("br0", &names).await.unwrap();

        // the caller sees what it did
        let state = watch.borrow_and_update().clone().unwrap();
        let tables = &state.bridges["br0"].flow_tables;
        let named = |table: i64| &state.flow_tables[&tables[&table]];
        assert_eq!(tables.keys().copied().collect::<Vec<_>>(), [0, 7, 8, 30, 254]);
        assert_eq!(named(7).name.as_deref(), Some("Others"));
        assert_eq!(named(8).name, None);
        assert_eq!((named(0).name.as_deref(), named(0).flow_limit), (Some("Classify"), Some(100_000)));
        assert_eq!(named(0).overflow_policy.as_deref(), Some("refuse"));
        assert_eq!(tables[&30], before.bridges["br0"].flow_tables[&30]);
        assert_eq!(named(30).name.as_deref(), Some("SrcClass"));
        assert_eq!(named(30).prefixes, BTreeSet::from(["ip_src".to_owned()]));
        assert_eq!(named(30).external_ids["k"], "v");
        until_dump(&ovs, &mut watch).await;

        // ovs-vsctl waits for ovs-vswitchd, so the names are in force
        ovs.vsctl("set Bridge br0 other_config:x=y").await;
        let management = format!("unix:{}", ovs.path("br0.mgmt"));
        let ofctl = |args: &'static [&'static str]| {
            let (ovs, management) = (&ovs, management.clone());
            async move {
                let all: Vec<&str> = ["-O", "OpenFlow13", "--names", args[0], &management]
                    .into_iter()
                    .chain(args[1..].iter().copied())
                    .collect();
                ovs.run("ovs-ofctl", &all).await
            }
        };
        ofctl(&["add-flow", "table=SrcClass,priority=5 actions=drop"]).await;
        ofctl(&["add-flow", "table=0,priority=1 actions=goto_table:30"]).await;
        let flows = ofctl(&["dump-flows"]).await;
        for part in ["table=SrcClass", "table=Classify", "goto_table:SrcClass"] {
            assert!(flows.contains(part), "{part} is not in\n{flows}");
        }

        // again: nothing changes, not even the log of transactions
        let log = fs::metadata(ovs.path("conf.db")).unwrap().len();
        vswitch.name_tables("br0", &names).await.unwrap();
        assert_eq!(fs::metadata(ovs.path("conf.db")).unwrap().len(), log);

        // a bridge without any settings of tables
        ovs.vsctl("add-br br1 -- set bridge br1 datapath_type=dummy").await;
        until(&mut watch, |state| state.bridges.contains_key("br1")).await;
        vswitch.name_tables("br1", &names).await.unwrap();
        until_dump(&ovs, &mut watch).await;
        assert_eq!(watch.borrow().as_ref().unwrap().bridges["br1"].flow_tables.len(), 3);

        let renamed = BTreeMap::from([(30, "Source".to_owned())]);
        vswitch.name_tables("br0", &renamed).await.unwrap();
        until_dump(&ovs, &mut watch).await;
    })
    .await;
}

#[tokio::test]
async fn transactions_and_their_failures() {
    let ovs = Ovs::start().await;
    let (vswitch, driver) = ovs.client();
    let mut watch = vswitch.watch();
    with_driver(driver, async {
        ovs.bridge().await;
        let state = until(&mut watch, |state| has_ofport(state, "br0")).await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();
        let bridge = state.bridges["br0"].uuid;
        let named = |name: &str| Value::from(Atom::NamedUuid(name.to_owned()));
        let row = |pairs: &[(&str, Value)]| -> Row {
            pairs.iter().map(|(column, value)| ((*column).to_owned(), value.clone())).collect()
        };
        let insert = |table: &str, row: Row, name: &str| Operation::Insert {
            table: table.to_owned(),
            row,
            uuid_name: Some(name.to_owned()),
        };
        let add_port = vec![
            insert("Interface", row(&[("name", "p1".into()), ("type", "dummy".into())]), "i"),
            insert("Port", row(&[("name", "p1".into()), ("interfaces", named("i"))]), "p"),
            Operation::Mutate {
                table: "Bridge".into(),
                conditions: vec![Condition::row(bridge)],
                mutations: vec![Mutation::insert("ports", named("p"))],
            },
            Operation::Mutate {
                table: "Open_vSwitch".into(),
                conditions: vec![],
                mutations: vec![Mutation::add("next_cfg", 1)],
            },
        ];
        let results = vswitch.transact(add_port.clone()).await.unwrap();
        assert_eq!(results.len(), 4);
        assert_eq!(results[2], json!({"count": 1}));
        let state = watch.borrow().clone().unwrap();
        let port = as_uuid(&results[1]["uuid"]);
        assert!(state.bridges["br0"].ports.contains(&port));
        let wanted = state.system.next_cfg;
        until(&mut watch, |state| state.system.cur_cfg >= wanted).await;
        until_dump(&ovs, &mut watch).await;

        // at commit: the name is taken
        let error = vswitch.transact(add_port).await;
        assert!(
            matches!(&error, Err(Error::Commit { error, .. }) if error == "constraint violation"),
            "{error:?}"
        );
        // at commit: a reference to nothing
        let dangling = vec![Operation::Mutate {
            table: "Bridge".into(),
            conditions: vec![Condition::row(bridge)],
            mutations: vec![Mutation::insert("ports", Uuid::from_u128(77))],
        }];
        let error = vswitch.transact(dangling).await;
        assert!(
            matches!(&error, Err(Error::Commit { error, .. }) if error == "referential integrity violation"),
            "{error:?}"
        );
        // in an operation
        let wait = Operation::Wait {
            timeout_ms: 0,
            table: "Bridge".into(),
            conditions: vec![Condition::row(bridge)],
            columns: vec!["name".into()],
            equal: true,
            rows: vec![row(&[("name", "br1".into())])],
        };
        let error = vswitch.transact(vec![Operation::Comment("first".into()), wait, Operation::Abort]).await;
        assert!(
            matches!(&error, Err(Error::Operation { index: 1, error, .. }) if error == "timed out"),
            "{error:?}"
        );
        let select = Operation::Select {
            table: "Bridge".into(),
            conditions: vec![Condition::eq("name", "br0")],
            columns: Some(vec!["name".into()]),
        };
        assert_eq!(vswitch.transact(vec![select]).await.unwrap(), [json!({"rows": [{"name": "br0"}]})]);
    })
    .await;
}

#[test]
fn the_installed_schema_is_read() {
    let text = fs::read_to_string(SCHEMA)
        .unwrap_or_else(|error| panic!("{SCHEMA} ({error}): these tests need Open vSwitch"));
    let schema = Schema::parse(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(schema.name, "Open_vSwitch");
    assert!(schema.tables["Bridge"].columns["ports"].is_composite());
    assert!(!schema.tables["Interface"].columns["ofport"].is_composite());
}
