//! A switch without privileges: private daemons on the dummy datapath.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use tempfile::TempDir;

/// Where packages put the schema of the database.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// The daemons and their files. Dropping it, in a panic too, ends and removes them.
pub(crate) struct Switch {
    daemons: Vec<Child>,
    dir: TempDir,
}

impl Switch {
    /// Starts a database and a switch.
    ///
    /// Errors: what is missing or did not start.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("weir-doc-").tempdir()?;
        let mut switch = Self { daemons: Vec::new(), dir };
        let conf = switch.path("conf.db").display().to_string();
        switch.run("ovsdb-tool", &["create", &conf, SCHEMA])?;
        let remote = switch.remote();
        switch.daemon(
            "ovsdb-server",
            &[&conf, &format!("--remote=p{remote}"), &format!("--unixctl={}", switch.ctl("db"))],
        )?;
        // waits for the server itself
        switch.run("ovsdb-client", &["-t", "30", "wait", &remote, "Open_vSwitch", "connected"])?;
        switch.vsctl(&["--no-wait", "init"])?;
        switch.daemon(
            "ovs-vswitchd",
            &[
                &remote,
                "--enable-dummy=override",
                "--disable-system",
                &format!("--unixctl={}", switch.ctl("vs")),
            ],
        )?;
        Ok(switch)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The control socket of a daemon: `db` or `vs`.
    pub(crate) fn ctl(&self, daemon: &str) -> String {
        self.path(&format!("{daemon}.ctl")).display().to_string()
    }

    fn remote(&self) -> String {
        format!("unix:{}", self.path("db.sock").display())
    }

    /// `ovs-vsctl ARGS`, waiting for the switch to follow.
    ///
    /// Errors: its own words.
    pub(crate) fn vsctl(&self, args: &[&str]) -> anyhow::Result<String> {
        let database = format!("--db={}", self.remote());
        let all: Vec<&str> =
            ["-t", "30", &database].into_iter().chain(args.iter().copied()).collect();
        self.run("ovs-vsctl", &all)
    }

    /// Runs a command to its end and returns what it prints.
    ///
    /// Errors: its own words.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let output = self.command(program).args(args).output().with_context(|| {
            format!("cannot run {program}: the page needs Open vSwitch on this machine")
        })?;
        if !output.status.success() {
            bail!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn daemon(&mut self, program: &str, args: &[&str]) -> anyhow::Result<()> {
        let child = self
            .command(program)
            .args(args)
            .arg("-vconsole:off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| {
                format!("cannot start {program}: the page needs Open vSwitch on this machine")
            })?;
        self.daemons.push(child);
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let dir = self.dir.path();
        command.env("OVS_RUNDIR", dir).env("OVS_LOGDIR", dir).env("OVS_DBDIR", dir);
        command
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            // gone already, or not to be had: nothing more to be done about it here
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
