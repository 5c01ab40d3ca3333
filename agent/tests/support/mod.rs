//! A private Open vSwitch with the dummy datapath, a controller in the test's process, and the agent as a process.

pub(crate) mod controller;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// Longer than any step takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with its owner, also when a test panics.
pub(crate) struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let name = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self(child.unwrap_or_else(|error| {
            panic!("cannot start {name:?} ({error}): this test needs Open vSwitch (`make test` installs it)")
        }))
    }

    pub(crate) fn signal(&mut self, signal: &str) -> ExitStatus {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything in one directory.
pub(crate) struct Host {
    _server: Process,
    vswitchd: Option<Process>,
    directory: TempDir,
}

impl Host {
    /// A bridge `br-int` with the port of `shop/db-0` as number 1.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        run(Command::new("ovsdb-tool").args(["create", &path("conf.db"), SCHEMA]));
        let server = Process::start(
            Command::new("ovsdb-server")
                .arg(path("conf.db"))
                .arg(format!("--remote=punix:{}", path("db.sock")))
                .arg(format!("--unixctl={}", path("db.ctl")))
                .arg("-vconsole:warn"),
            &directory.path().join("ovs.log"),
        );
        let mut host = Self { _server: server, vswitchd: None, directory };
        let db = format!("unix:{}", host.path("db.sock").display());
        run(Command::new("ovsdb-client").args([
            "-t",
            "30",
            "wait",
            &db,
            "Open_vSwitch",
            "connected",
        ]));
        host.vsctl("--no-wait init");
        host.start_vswitchd();
        host.vsctl(
            "add-br br-int -- set bridge br-int datapath_type=dummy fail_mode=secure \
             -- add-port br-int p1 -- set interface p1 type=dummy ofport_request=1 \
             external_ids:iface-id=shop/db-0 external_ids:attached-mac=02:00:00:00:00:01",
        );
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn vsctl(&self, args: &str) -> String {
        let db = format!("--db=unix:{}", self.path("db.sock").display());
        run(Command::new("ovs-vsctl").args(["-t", "30", &db]).args(args.split_whitespace()))
    }

    fn start_vswitchd(&mut self) {
        let db = format!("unix:{}", self.path("db.sock").display());
        let vswitchd = Process::start(
            Command::new("ovs-vswitchd")
                .args([
                    db.as_str(),
                    "--enable-dummy=override",
                    "--disable-system",
                    "-vconsole:warn",
                ])
                .arg(format!("--unixctl={}", self.path("vs.ctl").display()))
                .env("OVS_RUNDIR", self.directory.path()),
            &self.path("ovs.log"),
        );
        self.vswitchd = Some(vswitchd);
    }

    /// ovs-vswitchd dies and comes back: the bridge has no flows then.
    pub(crate) fn restart_ovs(&mut self) {
        self.vswitchd.take().unwrap().signal("-KILL");
        // the database goes on, so the bridge is there when this returns
        self.start_vswitchd();
        self.vsctl("set bridge br-int other_config:seen=1");
    }

    fn mgmt(&self) -> String {
        format!("unix:{}", self.path("br-int.mgmt").display())
    }

    pub(crate) fn ofctl(&self, args: &[&str]) -> String {
        let mgmt = self.mgmt();
        run(Command::new("ovs-ofctl").args(["-O", "OpenFlow13"]).args(args).arg(mgmt))
    }

    pub(crate) fn ofctl_add(&self, flow: &str) {
        let mgmt = self.mgmt();
        run(Command::new("ovs-ofctl").args(["-O", "OpenFlow13", "add-flow", &mgmt, flow]));
    }

    /// The flows without what counts and grows, sorted.
    pub(crate) fn flows(&self) -> Vec<String> {
        let text = self.ofctl(&["--no-stats", "dump-flows"]);
        let mut flows: Vec<String> =
            text.lines().filter(|l| l.contains("actions=")).map(|l| l.trim().to_owned()).collect();
        flows.sort();
        flows
    }

    /// The agent as `systemd` would start it.
    pub(crate) fn agent(&self, controller: &str) -> Process {
        let path = |name: &str| self.path(name).display().to_string();
        let log = self.path("agent.log");
        Process::start(
            Command::new(env!("CARGO_BIN_EXE_weir-agent"))
                .args(["run", "--node", "n1", "--controller", controller])
                .args(["--server-name", "controller.test"])
                .args([
                    "--ca",
                    &path("ca.pem"),
                    "--cert",
                    &path("n1.pem"),
                    "--key",
                    &path("n1.key"),
                ])
                .args(["--ovsdb", &format!("unix:{}", path("db.sock"))])
                .args(["--bridge-mgmt", &self.mgmt(), "--state-dir", &path("state")])
                .args(["--admin", &path("admin.sock"), "--node-address", "192.0.2.9"]),
            &log,
        )
    }

    /// Status and body of a request to the agent; none while it does not listen.
    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(self.path("admin.sock")).await.ok()?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
            .await
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = text.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    /// Asks the agent until the answer is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
        let mut last = None;
        let asking = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                last = self.get(path).await;
                if let Some((status, body)) = &last
                    && wanted(*status, body)
                {
                    return body.clone();
                }
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, asking).await;
        outcome.unwrap_or_else(|_| {
            let log = std::fs::read_to_string(self.path("agent.log")).unwrap_or_default();
            panic!("{path} stays {last:?}\n{log}")
        })
    }

    /// Waits until the state on disk is of this revision: the disk is told of a change at once, and nobody waits for it.
    pub(crate) async fn stored(&self, revision: u64) {
        let directory = self.path("state");
        let store = weir_agent::store::Store::open(Path::new(&directory)).unwrap();
        let looking = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while store.load("n1").ok().flatten().is_none_or(|s| s.revision != revision) {
                tick.tick().await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, looking).await;
        outcome.unwrap_or_else(|_| panic!("revision {revision} does not reach the disk"));
    }

    pub(crate) async fn ready(&self) {
        self.until("/readyz?verbose", |status, _| status == 200).await;
    }
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}: this test needs Open vSwitch (`make test` installs it)")
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
