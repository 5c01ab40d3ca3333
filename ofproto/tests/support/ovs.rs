//! A private Open vSwitch with the dummy datapath: no privileges, no traffic of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Runs a command of Open vSwitch; a test without it fails with this sentence.
pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).env("LC_ALL", "C").output().unwrap_or_else(|error| {
        panic!("this test needs Open vSwitch ({program}; Debian: openvswitch-switch): {error}")
    })
}

/// Runs a command that must succeed; gives what it printed.
pub(crate) fn must(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(
        output.status.success(),
        "{program} {args:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A switch `br0` in a directory of its own; stopped when dropped, also by a panic.
pub(crate) struct Switch {
    dir: TempDir,
}

impl Switch {
    pub(crate) fn start() -> Self {
        let switch = Self { dir: tempfile::tempdir().unwrap() };
        let path = |name: &str| switch.path(name).display().to_string();
        must(
            "ovsdb-tool",
            &["create", &path("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema"],
        );
        must(
            "ovsdb-server",
            &[
                &path("conf.db"),
                &format!("--remote=punix:{}", path("db.sock")),
                &format!("--unixctl={}", path("db.ctl")),
                &format!("--pidfile={}", path("db.pid")),
                &format!("--log-file={}", path("db.log")),
                "--detach",
                "--no-chdir",
                "-vconsole:off",
            ],
        );
        switch.start_vswitchd();
        switch.vsctl(&[
            "add-br",
            "br0",
            "--",
            "set",
            "bridge",
            "br0",
            "datapath_type=dummy",
            "fail_mode=secure",
            "protocols=OpenFlow13",
        ]);
        switch
    }

    fn start_vswitchd(&self) {
        let path = |name: &str| self.path(name).display().to_string();
        let started = Command::new("ovs-vswitchd")
            .arg(format!("unix:{}", path("db.sock")))
            .args(["--enable-dummy=override", "--disable-system", "--detach", "--no-chdir"])
            .args(["-vconsole:off", &format!("--unixctl={}", path("vs.ctl"))])
            .args([
                format!("--pidfile={}", path("vs.pid")),
                format!("--log-file={}", path("vs.log")),
            ])
            .env("OVS_RUNDIR", self.dir.path())
            .status()
            .expect("this test needs Open vSwitch (ovs-vswitchd; Debian: openvswitch-switch)");
        assert!(started.success(), "ovs-vswitchd did not start");
    }

    /// Ends the switch and starts it again; its database stays, its flows do not.
    #[allow(dead_code, reason = "not every program that has a switch does this")]
    pub(crate) fn restart(&self) {
        kill(&self.path("vs.pid"));
        // Its end removes the file. The process itself may stay as a zombie where nobody reaps.
        while self.path("vs.pid").exists() {
            std::thread::yield_now();
        }
        self.start_vswitchd();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn mgmt(&self) -> PathBuf {
        self.path("br0.mgmt")
    }

    pub(crate) fn vsctl(&self, args: &[&str]) -> String {
        let db = format!("--db=unix:{}", self.path("db.sock").display());
        must("ovs-vsctl", &[&[db.as_str(), "--timeout=10"], args].concat())
    }

    /// The lines of a dump, without the one that names the reply.
    #[allow(dead_code, reason = "not every program that has a switch does this")]
    pub(crate) fn dump(&self, options: &[&str]) -> Vec<String> {
        let mgmt = format!("unix:{}", self.mgmt().display());
        let args = [&["-O", "OpenFlow13"], options, &["dump-flows", &mgmt]].concat();
        let text = must("ovs-ofctl", &args);
        text.lines().filter(|l| l.starts_with(' ')).map(|l| l.trim().to_owned()).collect()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for name in ["vs.pid", "db.pid"] {
            kill(&self.path(name));
        }
    }
}

fn kill(pidfile: &Path) {
    if let Ok(pid) = std::fs::read_to_string(pidfile) {
        // The process may have ended by itself.
        let _ = Command::new("kill").arg(pid.trim()).status();
    }
}
