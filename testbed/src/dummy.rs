//! A switch without privileges: private daemons on the dummy datapath, for what needs OVS's tables but no packets.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::error::{During, Result};
use crate::netns::Inside;
use crate::ovs::{BRIDGE, Ovs};
use crate::{command, require};

/// A bridge [`BRIDGE`] with dummy ports. Dropping it, in a panic too, ends the daemons and removes their files.
pub struct DummySwitch {
    ovs: Ovs,
    /// Keeps the files until the daemons are gone.
    _dir: TempDir,
}

impl DummySwitch {
    /// Starts the daemons and makes the bridge with ports `p1` to `p<ports>`, whose OpenFlow numbers those are.
    ///
    /// Errors: what is missing or did not start.
    pub fn start(ports: u32) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("weir-dummy-")
            .tempdir()
            .during(|| "making a directory for a private switch".to_owned())?;
        require::create_database(&dir.path().join("conf.db"))?;
        let ovs = Ovs::at(Inside::here()?, dir.path().to_owned());
        let switch = Self { ovs, _dir: dir };
        switch.ovs.start_database()?;
        switch.ovs.vsctl(&["--no-wait", "init"])?;
        switch.daemon(switch.ovs.dir())?;
        let mut args: Vec<String> =
            ["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=dummy"]
                .map(str::to_owned)
                .to_vec();
        args.extend(["fail_mode=secure", "protocols=OpenFlow13"].map(str::to_owned));
        for n in 1..=ports {
            let port = format!("p{n}");
            args.extend(["--", "add-port", BRIDGE, &port].map(str::to_owned));
            args.extend(["--", "set", "interface", &port, "type=dummy"].map(str::to_owned));
            args.push(format!("ofport_request={n}"));
        }
        switch.ovs.vsctl(&args)?;
        Ok(switch)
    }

    /// Its sockets and commands.
    pub const fn ovs(&self) -> &Ovs {
        &self.ovs
    }

    fn daemon(&self, dir: &Path) -> Result<()> {
        let mut c = Command::new("ovs-vswitchd");
        c.env("OVS_RUNDIR", dir).env("OVS_LOGDIR", dir).env("OVS_DBDIR", dir);
        c.args(["--detach", "--no-chdir", "--enable-dummy=override", "--disable-system"])
            .args(["-vconsole:off", "-vfile:info"])
            .arg(format!("--unixctl={}", self.ovs.control().display()))
            .arg(format!("--pidfile={}", dir.join("vs.pid").display()))
            .arg(format!("--log-file={}", dir.join("vs.log").display()))
            .arg(self.ovs.database());
        command::run(&mut c).map(drop)
    }
}

impl Drop for DummySwitch {
    fn drop(&mut self) {
        let _ = self.ovs.stop_switch(Signal::SIGKILL);
        let _ = self.ovs.stop_database(Signal::SIGKILL);
    }
}
