//! What the machine must have, said in one sentence when it has not.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::{During, Error, Result};

/// The tools, and the Debian package each comes in.
const TOOLS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("ethtool", "ethtool"),
    ("ovsdb-tool", "openvswitch-switch"),
    ("ovsdb-server", "openvswitch-switch"),
    ("ovs-vswitchd", "openvswitch-switch"),
    ("ovs-vsctl", "openvswitch-switch"),
];
/// The schema that a new database is made from.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Checks everything a testbed needs.
///
/// Errors: [`Error::Missing`] with the first thing that is not there and how to get it.
pub fn all() -> Result<()> {
    let missing = |text: String| Err(Error::Missing(text));
    root()?;
    for (tool, package) in TOOLS {
        if find_tool(tool).is_none() {
            return missing(format!("{tool} is not installed: apt-get install {package}"));
        }
    }
    if !Path::new(SCHEMA).exists() {
        return missing(format!("{SCHEMA} is not there: apt-get install openvswitch-switch"));
    }
    if !Path::new("/dev/net/tun").exists() {
        return missing(
            "/dev/net/tun is not there, and Open vSwitch needs it for the port of the node: modprobe tun"
                .into(),
        );
    }
    if let Err(e) = try_namespace() {
        return missing(format!(
            "this machine lets nobody make network namespaces ({e}): use a machine or container that does"
        ));
    }
    Ok(())
}

/// The version of the switch daemon that is installed: `3.1.0`.
///
/// Errors: those of running it, [`Error::Missing`] when it does not say.
pub fn ovs_version() -> Result<String> {
    let text = crate::command::run(Command::new("ovs-vswitchd").arg("--version"))?;
    // `ovs-vswitchd (Open vSwitch) 3.1.0`
    let version = text.lines().next().and_then(|line| line.split_whitespace().last());
    version
        .map(str::to_owned)
        .ok_or_else(|| Error::Missing("ovs-vswitchd --version says no version".to_owned()))
}

/// Checks that this is root.
///
/// Errors: [`Error::Missing`].
pub fn root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let text = "the testbed makes network namespaces and needs root: run it with sudo";
    Err(Error::Missing(text.to_owned()))
}

/// Where a tool lies on the path, or in the places of system tools.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// A program of Weir that was built beside this one.
///
/// Errors: [`Error::Missing`] when it was not built.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().during(|| "finding the own program".to_owned())?;
    // a test lies one directory deeper
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            Error::Missing(format!(
                "{name} does not lie beside {}: cargo build --workspace",
                own.display()
            ))
        })
}

/// Raises the limit of open files to what the machine allows: every probe is a socket.
pub fn raise_file_limit() -> Result<()> {
    let during = || "raising the limit of open files".to_owned();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).during(during)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).during(during)?;
    }
    Ok(())
}

fn try_namespace() -> nix::Result<()> {
    std::thread::spawn(|| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET))
        .join()
        .unwrap_or(Err(nix::Error::UnknownErrno))
}

/// A new, empty Open vSwitch database.
pub(crate) fn create_database(file: &Path) -> Result<()> {
    crate::command::run(Command::new("ovsdb-tool").arg("create").args([file, Path::new(SCHEMA)]))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_in_one_sentence() {
        let error = sibling("weir-nonesuch").unwrap_err().to_string();
        assert!(error.starts_with("weir-nonesuch does not lie beside"), "{error}");
        assert!(!error.contains('\n'));
        assert!(find_tool("sh").is_some());
        assert!(find_tool("weir-nonesuch").is_none());
    }
}
