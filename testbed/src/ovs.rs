//! An Open vSwitch of a node's own: database server, switch daemon, sockets and files in one directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::address::Mac;
use crate::error::{During, Error, Result};
use crate::netns::Inside;
use crate::{command, require, wait};

/// The bridge that carries the pods.
pub const BRIDGE: &str = "br-int";
/// The bridge port that leads to other nodes and the world.
pub const UPLINK: &str = "uplink";
/// How long a daemon may take to come or go.
const PATIENCE: Duration = Duration::from_secs(20);

/// One node's Open vSwitch. Dropping it leaves the daemons alone.
#[derive(Clone, Debug)]
pub struct Ovs {
    inside: Inside,
    dir: PathBuf,
}

impl Ovs {
    /// The one whose files lie in `dir`.
    pub const fn at(inside: Inside, dir: PathBuf) -> Self {
        Self { inside, dir }
    }

    /// Starts both daemons and makes [`BRIDGE`], secure and empty but for its own port.
    pub fn start(&self, mac: Mac) -> Result<()> {
        std::fs::create_dir_all(&self.dir).during(|| format!("making {}", self.dir.display()))?;
        let file = self.dir.join("conf.db");
        self.inside.run(move || require::create_database(&file))?;
        self.start_database()?;
        self.vsctl(&["--no-wait", "init"])?;
        // as ovs-ctl does on a host; the daemons do not
        let version = require::ovs_version()?;
        let version = format!("ovs_version={version}");
        self.vsctl(&["--no-wait", "set", "Open_vSwitch", ".", &version])?;
        self.start_switch()?;
        let mac = format!("other_config:hwaddr=\"{mac}\"");
        self.vsctl(&[
            "add-br",
            BRIDGE,
            "--",
            "set",
            "bridge",
            BRIDGE,
            "datapath_type=netdev",
            "fail_mode=secure",
            "protocols=OpenFlow13,OpenFlow15",
            &mac,
        ])
        .map(drop)
    }

    /// Starts the database server on the database that is there.
    pub fn start_database(&self) -> Result<()> {
        let mut c = self.daemon("ovsdb-server", "db");
        c.arg(self.dir.join("conf.db")).arg(format!("--remote=punix:{}", self.socket().display()));
        self.run_inside(c)
    }

    /// Starts the switch daemon; it returns once it has read its configuration.
    pub fn start_switch(&self) -> Result<()> {
        let mut c = self.daemon("ovs-vswitchd", "vs");
        // the kernel's datapath belongs to whoever else runs a switch here
        c.arg(self.database()).arg("--disable-system");
        self.run_inside(c)
    }

    /// Ends the switch daemon: with SIGTERM as an upgrade does, with SIGKILL as a crash does.
    pub fn stop_switch(&self, signal: Signal) -> Result<()> {
        self.stop("vs", signal)
    }

    /// Ends the database server.
    pub fn stop_database(&self, signal: Signal) -> Result<()> {
        self.stop("db", signal)
    }

    /// The database as `--db` takes it.
    pub fn database(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// The socket of the database.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("db.sock")
    }

    /// The OpenFlow socket of the bridge.
    pub fn management(&self) -> PathBuf {
        self.dir.join(format!("{BRIDGE}.mgmt"))
    }

    /// The control socket of the switch daemon, for `ovs-appctl -t`.
    pub fn control(&self) -> PathBuf {
        self.dir.join("vs.ctl")
    }

    /// The directory, for `OVS_RUNDIR`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs `ovs-vsctl`, which waits until the switch daemon has done what the database says. As it may wait long for a
    /// daemon that is gone, it lives in the node's namespace and is cleaned away with it.
    pub fn vsctl<S: AsRef<str>>(&self, args: &[S]) -> Result<String> {
        let mut c = Command::new("ovs-vsctl");
        c.arg("--timeout=20").arg(format!("--db={}", self.database()));
        c.args(args.iter().map(AsRef::as_ref));
        self.inside.run(move || command::run(&mut c))
    }

    /// Runs `ovs-ofctl` in OpenFlow 1.3; put `BRIDGE` where it takes the switch.
    pub fn ofctl<S: AsRef<str>>(&self, args: &[S]) -> Result<String> {
        let mut c = Command::new("ovs-ofctl");
        c.env("OVS_RUNDIR", &self.dir).args(["-O", "OpenFlow13", "--timeout=20"]);
        c.args(args.iter().map(AsRef::as_ref));
        command::run(&mut c)
    }

    /// Runs `ovs-appctl` on the switch daemon.
    pub fn appctl<S: AsRef<str>>(&self, args: &[S]) -> Result<String> {
        let mut c = Command::new("ovs-appctl");
        c.arg("--timeout=20").arg("-t").arg(self.control());
        c.args(args.iter().map(AsRef::as_ref));
        command::run(&mut c)
    }

    /// The flows without their counters, one a line in a stable order.
    pub fn flows(&self) -> Result<Vec<String>> {
        let text = self.ofctl(&["--no-stats", "dump-flows", BRIDGE])?;
        let mut flows: Vec<String> = text.lines().map(|l| l.trim().to_owned()).collect();
        flows.sort();
        Ok(flows)
    }

    /// The entries of the connection table.
    pub fn connections(&self) -> Result<Vec<String>> {
        let text = self.appctl(&["dpctl/dump-conntrack", "-m"])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn daemon(&self, program: &str, short: &str) -> Command {
        let file = |ending| self.dir.join(format!("{short}.{ending}"));
        let mut c = Command::new(program);
        c.env("OVS_RUNDIR", &self.dir).env("OVS_LOGDIR", &self.dir).env("OVS_DBDIR", &self.dir);
        c.args(["--detach", "--no-chdir", "-vconsole:off", "-vfile:info"])
            .arg(format!("--unixctl={}", file("ctl").display()))
            .arg(format!("--pidfile={}", file("pid").display()))
            .arg(format!("--log-file={}", file("log").display()));
        c
    }

    /// The daemons belong to the namespace of the thread that starts them.
    fn run_inside(&self, mut c: Command) -> Result<()> {
        self.inside.run(move || command::run(&mut c).map(drop))
    }

    fn stop(&self, short: &str, signal: Signal) -> Result<()> {
        let file = self.dir.join(format!("{short}.pid"));
        let Ok(text) = std::fs::read_to_string(&file) else {
            return Ok(());
        };
        let pid: i32 = text.trim().parse().map_err(|_| Error::Content {
            file: file.clone(),
            field: "pid".to_owned(),
            reason: format!("{text:?} is no number"),
        })?;
        // the number may belong to somebody else by now
        let is_ours = || {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|c| String::from_utf8_lossy(&c).contains(&*self.dir.to_string_lossy()))
        };
        if is_ours() {
            let _ = kill(Pid::from_raw(pid), signal);
        }
        wait::until(&format!("the end of process {pid}"), PATIENCE, || {
            Ok((!is_ours()).then_some(()))
        })?;
        let _ = std::fs::remove_file(&file);
        Ok(())
    }
}
