//! A private ovsdb-server and ovs-vswitchd with a dummy datapath, and what a dump of them says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::sync::watch;
use weir_ovsdb::client::{self, Client, Observer, TableRequest};
use weir_ovsdb::op::{Mutation, Operation, Row};
use weir_ovsdb::vswitch::{self, SwitchState, Vswitch};
use weir_ovsdb::{Atom, Driver, Options, Target, Uuid};

pub(crate) const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Longer than any step takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A process that ends with its owner, also when a test panics.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
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

pub(crate) struct Ovs {
    pub(crate) server: Option<Process>,
    pub(crate) vswitchd: Option<Process>,
    pub(crate) folder: TempDir,
    /// More arguments of the server, for instance remotes.
    pub(crate) arguments: Vec<String>,
}

impl Ovs {
    /// Database and switch.
    pub(crate) async fn start() -> Self {
        let mut ovs = Self::database(&[]).await;
        ovs.vsctl("--no-wait init").await;
        ovs.start_vswitchd();
        ovs
    }

    /// The database alone, empty, with more arguments of the server; `DIR` in them is its folder.
    pub(crate) async fn database(arguments: &[&str]) -> Self {
        assert!(
            Path::new(SCHEMA).exists(),
            "{SCHEMA} is missing: these tests need Open vSwitch (`make test` installs it)"
        );
        let folder = tempfile::tempdir().unwrap();
        let mut ovs = Self { server: None, vswitchd: None, folder, arguments: Vec::new() };
        let database = ovs.path("conf.db");
        ovs.run("ovsdb-tool", &["create", &database, SCHEMA]).await;
        let dir = ovs.folder.path().to_str().unwrap().to_owned();
        ovs.arguments = arguments.iter().map(|text| text.replace("DIR", &dir)).collect();
        ovs.start_server().await;
        ovs
    }

    pub(crate) fn start_vswitchd(&mut self) {
        self.vswitchd = Some(Process::start(
            self.command("ovs-vswitchd").args([
                self.remote().as_str(),
                "--enable-dummy=override",
                "--disable-system",
                &format!("--unixctl={}", self.path("vs.ctl")),
                "-vconsole:warn",
            ]),
            &self.folder.path().join("vswitchd.log"),
        ));
    }

    pub(crate) async fn start_server(&mut self) {
        let _ = fs::remove_file(self.path("db.sock"));
        self.server = Some(Process::start(
            self.command("ovsdb-server")
                .args([
                    &self.path("conf.db"),
                    &format!("--remote=p{}", self.remote()),
                    &format!("--unixctl={}", self.path("db.ctl")),
                    "-vconsole:info",
                ])
                .args(&self.arguments),
            &self.folder.path().join("server.log"),
        ));
        // waits for the server itself
        self.run(
            "ovsdb-client",
            &["-t", "30", "wait", &self.remote(), "Open_vSwitch", "connected"],
        )
        .await;
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn remote(&self) -> String {
        format!("unix:{}", self.path("db.sock"))
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("OVS_RUNDIR", self.folder.path()).env("OVS_LOGDIR", self.folder.path());
        command
    }

    pub(crate) async fn run(&self, program: &str, args: &[&str]) -> String {
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

    pub(crate) async fn vsctl(&self, args: &str) -> String {
        let database = format!("--db={}", self.remote());
        let all: Vec<&str> =
            ["-t", "30", database.as_str()].into_iter().chain(args.split(' ')).collect();
        self.run("ovs-vsctl", &all).await
    }

    pub(crate) async fn bridge(&self) {
        self.vsctl("add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure protocols=OpenFlow13,OpenFlow14")
            .await;
    }

    pub(crate) fn target(&self) -> Target {
        Target::Unix(PathBuf::from(self.path("db.sock")))
    }

    pub(crate) fn client(&self) -> (Vswitch, Driver) {
        vswitch::connect(self.target(), options())
    }

    /// A client of any tables.
    pub(crate) fn plain(
        &self,
        tables: Vec<TableRequest>,
        observer: impl Observer,
    ) -> (Client, Driver) {
        client::connect(self.target(), options(), tables, observer)
    }

    /// The port that a passive remote with port 0 got, from the server's log; the server listens by now.
    pub(crate) fn listening_port(&self) -> u16 {
        let log = fs::read_to_string(self.path("server.log")).unwrap();
        let port = log.lines().find_map(|line| line.split("listening on port ").nth(1));
        let port = port.unwrap_or_else(|| panic!("no listening port in\n{log}"));
        port.trim().parse().unwrap()
    }

    /// The monitored columns as `ovsdb-client dump` tells them, drawn by this test alone.
    pub(crate) async fn dump(&self) -> SwitchState {
        let mut state = SwitchState::default();
        for row in self.table("Open_vSwitch").await {
            state.system.uuid = row.uuid();
            state.system.ovs_version = row.text("ovs_version").unwrap_or_default();
            state.system.cur_cfg = row.integer("cur_cfg").unwrap();
            state.system.next_cfg = row.integer("next_cfg").unwrap();
            state.system.bridges = row.set("bridges").iter().map(as_uuid).collect();
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
                vlan_mode: row.text("vlan_mode"),
                trunks: row.set("trunks").iter().map(|v| v.as_i64().unwrap()).collect(),
                lacp: row.text("lacp"),
                bond_active_slave: row.text("bond_active_slave"),
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

    pub(crate) async fn table(&self, table: &str) -> Vec<Dumped> {
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
pub(crate) struct Dumped(BTreeMap<String, Json>);

impl Dumped {
    pub(crate) fn uuid(&self) -> Uuid {
        as_uuid(&self.0["_uuid"])
    }

    pub(crate) fn set(&self, column: &str) -> Vec<Json> {
        let json = &self.0[column];
        match json[0].as_str() {
            Some("set") => json[1].as_array().unwrap().clone(),
            _ => vec![json.clone()],
        }
    }

    pub(crate) fn map(&self, column: &str) -> Vec<(Json, Json)> {
        let pairs = self.0[column][1].as_array().unwrap();
        pairs.iter().map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    pub(crate) fn text(&self, column: &str) -> Option<String> {
        self.set(column).first().map(as_text)
    }

    pub(crate) fn integer(&self, column: &str) -> Option<i64> {
        self.set(column).first().map(|json| json.as_i64().unwrap())
    }

    pub(crate) fn strings(&self, column: &str) -> BTreeMap<String, String> {
        self.map(column).iter().map(|(k, v)| (as_text(k), as_text(v))).collect()
    }
}

pub(crate) fn as_text(json: &Json) -> String {
    json.as_str().unwrap().to_owned()
}

pub(crate) fn as_uuid(json: &Json) -> Uuid {
    json[1].as_str().unwrap().parse().unwrap()
}

pub(crate) type Watch = watch::Receiver<Option<Arc<SwitchState>>>;

pub(crate) async fn until(
    watch: &mut Watch,
    what: impl Fn(&SwitchState) -> bool,
) -> Arc<SwitchState> {
    let shown = watch.wait_for(|state| state.as_ref().is_some_and(|state| what(state)));
    shown.await.unwrap().clone().unwrap()
}

/// Waits until the picture is what a dump says; the dump is taken again for each picture, as OVS changes rows on its own.
pub(crate) async fn until_dump(ovs: &Ovs, watch: &mut Watch) {
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
pub(crate) async fn with_driver(driver: Driver, test: impl Future<Output = ()>) {
    tokio::select! {
        () = driver => panic!("the driver ended"),
        outcome = tokio::time::timeout(PATIENCE, test) => outcome.expect("the test hangs"),
    }
}

pub(crate) fn interface<'a>(
    state: &'a SwitchState,
    name: &str,
) -> Option<&'a vswitch::InterfaceRow> {
    state.interfaces.values().find(|interface| interface.name == name)
}

pub(crate) fn has_ofport(state: &SwitchState, name: &str) -> bool {
    interface(state, name).is_some_and(|interface| interface.ofport.is_some())
}

/// Short pauses.
pub(crate) fn options() -> Options {
    Options {
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(100),
        ..Options::default()
    }
}

/// Runs a test beside the drivers of several clients.
pub(crate) async fn with_drivers<const N: usize>(
    drivers: [Driver; N],
    test: impl Future<Output = ()>,
) {
    let mut set = tokio::task::JoinSet::new();
    for driver in drivers {
        set.spawn(driver);
    }
    tokio::select! {
        _ = set.join_next() => panic!("a driver ended"),
        outcome = tokio::time::timeout(PATIENCE, test) => outcome.expect("the test hangs"),
    }
}

pub(crate) async fn live(client: &Client) {
    client.connected().wait_for(|connected| *connected).await.unwrap();
}

/// The operations that add a port with a dummy interface to a bridge; `n` tells their names apart.
pub(crate) fn add_port(bridge: Uuid, name: &str, n: usize) -> [Operation; 3] {
    let (interface, port) = (format!("i{n}"), format!("p{n}"));
    let ids = weir_ovsdb::Value::map([("iface-id", format!("pod-{name}"))]);
    [
        Operation::insert(
            "Interface",
            Row::from([
                ("name".into(), name.into()),
                ("type".into(), "dummy".into()),
                ("external_ids".into(), ids),
            ]),
        )
        .named(&interface),
        Operation::insert(
            "Port",
            Row::from([
                ("name".into(), name.into()),
                ("interfaces".into(), Atom::named(&interface).into()),
            ]),
        )
        .named(&port),
        Operation::mutate("Bridge", bridge, [Mutation::insert("ports", Atom::named(&port))]),
    ]
}
