//! The command line.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use weir_runtime::log::LogFormat;

use crate::ports::{PortConfig, PortKeys};
use crate::sweep::Control;
use crate::uplink::Credentials;

/// Enforces policies on the Open vSwitch bridge of one node.
#[derive(Clone, Debug, Parser)]
#[command(name = "weir-agent", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Follows a controller and keeps the bridge as its policies say. Ends at SIGTERM and leaves the flows as they are.
    Run(Box<Run>),
}

#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Name of this node, as the controller and the client certificate know it.
    #[arg(long, env = "WEIR_NODE", value_name = "NAME")]
    pub node: String,

    #[command(flatten)]
    pub controller: ControllerArgs,

    #[command(flatten)]
    pub bridge: BridgeArgs,

    /// Where the last good state and the symbols are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/weir")]
    pub state_dir: PathBuf,

    /// Address of /livez, /readyz and /debug/state (`/path` or `unix:/path` = a socket there); none without it.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<AdminAddress>,

    /// How log lines look: text or json. WEIR_LOG filters them.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Controller")]
pub struct ControllerArgs {
    /// Where a controller listens. Once per replica; a name with several addresses stands for one replica at each.
    #[arg(long, required = true, value_name = "https://HOST:PORT", value_parser = https)]
    pub controller: Vec<String>,

    /// Certificates of who may sign the controller's certificate (PEM). Read for each connection.
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,

    /// Certificate of this node (PEM). Read for each connection.
    #[arg(long, value_name = "FILE", requires = "key", required_unless_present = "token")]
    pub cert: Option<PathBuf>,

    /// Private key of this node (PEM).
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,

    /// Instead of a certificate: a ServiceAccount token bound to this node, as the kubelet keeps it in a file. Read for
    /// each connection.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cert", "key"])]
    pub token: Option<PathBuf>,

    /// Name in the controller's certificate, where it is not the URL's host.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
}

/// Where Open vSwitch keeps its sockets. Source: ovs-vswitchd(8), `--unixctl`, of a Debian build.
const RUN_DIR: &str = "/var/run/openvswitch";

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Switch")]
pub struct BridgeArgs {
    /// OVSDB of the switch: unix:/path or tcp:ip:port.
    #[arg(long, value_name = "TARGET", default_value = "unix:/var/run/openvswitch/db.sock")]
    pub ovsdb: String,

    /// The bridge. All its flows become Weir's.
    #[arg(long, value_name = "NAME", default_value = "br-int")]
    pub bridge: String,

    /// OpenFlow of the bridge: unix:/path or tcp:ip:port [default: unix:/var/run/openvswitch/BRIDGE.mgmt].
    #[arg(long, value_name = "TARGET")]
    pub bridge_mgmt: Option<String>,

    /// Control socket of ovs-vswitchd [default: that of the pid in ovs-vswitchd.pid, in the directory of the bridge's
    /// OpenFlow socket].
    #[arg(long, value_name = "PATH")]
    pub vswitchd_control: Option<PathBuf>,

    /// An interface that leads out of the node, or a bond with all its members. Tunnels and patch ports need not be named.
    /// Repeatable.
    #[arg(long, value_name = "NAME")]
    pub uplink: Vec<String>,

    /// An interface of the node itself [default: the bridge's own port]. Repeatable.
    #[arg(long, value_name = "NAME")]
    pub gateway: Vec<String>,

    /// An address of this node, beside those that the controller knows. Repeatable.
    #[arg(long, value_name = "IP")]
    pub node_address: Vec<IpAddr>,

    /// Key in external_ids with namespace/pod or namespace_pod.
    #[arg(long, value_name = "KEY", default_value = "iface-id")]
    pub iface_id_key: String,

    /// Key in external_ids with the pod's namespace.
    #[arg(long, value_name = "KEY", default_value = "pod-namespace")]
    pub pod_namespace_key: String,

    /// Key in external_ids with the pod's name.
    #[arg(long, value_name = "KEY", default_value = "pod-name")]
    pub pod_name_key: String,

    /// Key in external_ids with the workload's MAC.
    #[arg(long, value_name = "KEY", default_value = "attached-mac")]
    pub attached_mac_key: String,

    /// How often the bridge is compared with what it should be. Units: seconds.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub drift_interval: Duration,
}

impl ControllerArgs {
    /// How we say who we are. `None` cannot be: the parser wants one or the other.
    pub fn credentials(&self) -> Option<Credentials> {
        match (&self.token, &self.cert, &self.key) {
            (Some(token), ..) => Some(Credentials::Token(token.clone())),
            (None, Some(cert), Some(key)) => {
                Some(Credentials::Certificate { cert: cert.clone(), key: key.clone() })
            }
            _ => None,
        }
    }
}

impl BridgeArgs {
    /// Where the bridge speaks OpenFlow.
    pub fn mgmt(&self) -> String {
        let default = || format!("unix:/var/run/openvswitch/{}.mgmt", self.bridge);
        self.bridge_mgmt.clone().unwrap_or_else(default)
    }

    /// Where ovs-vswitchd takes commands.
    pub fn control(&self) -> Control {
        if let Some(socket) = &self.vswitchd_control {
            return Control::Socket(socket.clone());
        }
        let mgmt = self.mgmt();
        let dir = mgmt.strip_prefix("unix:").and_then(|path| Path::new(path).parent());
        Control::Directory(dir.unwrap_or_else(|| Path::new(RUN_DIR)).to_owned())
    }

    /// What is said of ports.
    pub fn ports(&self) -> PortConfig {
        PortConfig {
            bridge: self.bridge.clone(),
            uplinks: self.uplink.iter().cloned().collect(),
            gateways: self.gateway.iter().cloned().collect(),
            keys: PortKeys {
                iface_id: self.iface_id_key.clone(),
                pod_namespace: self.pod_namespace_key.clone(),
                pod_name: self.pod_name_key.clone(),
                attached_mac: self.attached_mac_key.clone(),
            },
        }
    }

    /// Addresses of the node that the controller may not know.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.node_address.iter().copied().collect()
    }
}

/// Where the admin server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::str::FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.starts_with('/') {
            return Ok(Self::Unix(path.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| "neither IP:PORT nor a path".to_owned())
    }
}

fn https(text: &str) -> Result<String, String> {
    match text.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() => Ok(text.to_owned()),
        _ => Err("it must be https://HOST:PORT".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("it must be a number of seconds above 0".to_owned()),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const LEAST: [&str; 12] = [
        "weir-agent",
        "run",
        "--node",
        "n1",
        "--controller",
        "https://c:6443",
        "--ca",
        "ca.pem",
        "--cert",
        "n1.pem",
        "--key",
        "n1.key",
    ];

    fn parse(more: &[&str]) -> Result<Run, clap::Error> {
        let cli = Cli::try_parse_from(LEAST.iter().chain(more))?;
        let Command::Run(run) = cli.command;
        Ok(*run)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_a_plain_host() {
        let run = parse(&[]).unwrap();
        assert_eq!(run.bridge.mgmt(), "unix:/var/run/openvswitch/br-int.mgmt");
        assert_eq!(run.bridge.ovsdb, "unix:/var/run/openvswitch/db.sock");
        assert_eq!(run.state_dir, PathBuf::from("/var/lib/weir"));
        assert_eq!(run.bridge.drift_interval, Duration::from_secs(300));
        assert_eq!(run.bridge.ports().keys, PortKeys::default());
        assert_eq!(run.admin, None);
    }

    #[test]
    fn a_certificate_or_a_token() {
        let with = |more: &[&str]| {
            let cli = Cli::try_parse_from(LEAST[..8].iter().chain(more))?;
            let Command::Run(run) = cli.command;
            Ok::<_, clap::Error>(run.controller.credentials())
        };
        let token = with(&["--token", "t"]).unwrap();
        assert_eq!(token, Some(Credentials::Token("t".into())));
        let pair = Credentials::Certificate { cert: "c".into(), key: "k".into() };
        assert_eq!(with(&["--cert", "c", "--key", "k"]).unwrap(), Some(pair));
        for bad in [
            &[][..],
            &["--cert", "c"],
            &["--key", "k"],
            &["--token", "t", "--cert", "c", "--key", "k"],
        ] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_flag() {
        let run = parse(&[
            "--controller",
            "https://d:6443",
            "--server-name",
            "weir-controller",
            "--ovsdb",
            "unix:/tmp/db.sock",
            "--bridge",
            "br0",
            "--bridge-mgmt",
            "unix:/tmp/br0.mgmt",
            "--uplink",
            "eth0",
            "--uplink",
            "eth1",
            "--gateway",
            "gw0",
            "--node-address",
            "192.0.2.1",
            "--node-address",
            "2001:db8::1",
            "--state-dir",
            "/tmp/weir",
            "--admin",
            "127.0.0.1:9000",
            "--log-format",
            "json",
            "--drift-interval",
            "5",
            "--iface-id-key",
            "vm-id",
        ])
        .unwrap();
        assert_eq!(run.controller.controller, ["https://c:6443", "https://d:6443"]);
        assert_eq!(run.controller.server_name.as_deref(), Some("weir-controller"));
        assert_eq!(run.bridge.mgmt(), "unix:/tmp/br0.mgmt");
        let ports = run.bridge.ports();
        assert_eq!((ports.uplinks.len(), ports.gateways.len()), (2, 1));
        assert_eq!(ports.keys.iface_id, "vm-id");
        assert_eq!(run.bridge.addresses().len(), 2);
        assert_eq!(run.admin, Some(AdminAddress::Tcp("127.0.0.1:9000".parse().unwrap())));
        assert_eq!(run.log_format, LogFormat::Json);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            ["--controller", "http://c:1"],
            ["--node-address", "10.0.0.0/8"],
            ["--admin", "everywhere"],
            ["--drift-interval", "0"],
            ["--log-format", "xml"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
        assert!(Cli::try_parse_from(["weir-agent", "run", "--node", "n1"]).is_err());
        let unix = parse(&["--admin", "unix:/run/weir.sock"]).unwrap();
        assert_eq!(unix.admin, Some(AdminAddress::Unix("/run/weir.sock".into())));
    }
}
