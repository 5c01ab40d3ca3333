//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use weir_runtime::log::LogFormat;

/// Works out what each node needs and serves it.
#[derive(Clone, Debug, Parser)]
#[command(name = "weir-controller", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Follows a source and serves agents and tools. Ends at SIGTERM.
    Run(Box<Run>),
    /// Makes certificates, where nobody else does.
    #[command(subcommand)]
    Pki(Pki),
}

#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Where objects come from: `dir:PATH` is a directory of Kubernetes manifests, followed while it changes.
    #[arg(long, value_name = "SOURCE")]
    pub source: Source,

    /// Address for agents and tools; port 0 lets the system choose.
    #[arg(long, value_name = "IP:PORT", default_value = "[::]:9443")]
    pub listen: SocketAddr,

    /// Certificate of this controller (PEM).
    #[arg(long, value_name = "FILE")]
    pub tls_cert: PathBuf,

    /// Private key of this controller (PEM).
    #[arg(long, value_name = "FILE")]
    pub tls_key: PathBuf,

    /// Certificates of who may sign certificates of nodes and operators (PEM).
    #[arg(long, value_name = "FILE")]
    pub client_ca: PathBuf,

    /// Address of /livez, /readyz and /debug/state; none without it. Port 0 lets the system choose.
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<SocketAddr>,

    /// Where to write the addresses in use, one `NAME ADDRESS` a line: `listen`, `admin`.
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,

    /// How log lines look: text or json. WEIR_LOG filters them.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Directory(PathBuf),
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Directory(path.into())),
            Some(("kube", _)) => Err("kube is not in this version; use dir:PATH".to_owned()),
            _ if text == "kube" => Err("kube is not in this version; use dir:PATH".to_owned()),
            _ => Err("it must be dir:PATH".to_owned()),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
pub enum Pki {
    /// Makes an authority: DIR/ca.crt, DIR/ca.key. One that is there is kept.
    Init {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Replaces one that is there. What it issued is then worth nothing.
        #[arg(long)]
        force: bool,
    },
    /// Issues the controller's certificate: DIR/server.crt, DIR/server.key.
    Server {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// A name or address by which it is reached, beside weir-controller and localhost. Repeatable.
        #[arg(long, value_name = "NAME|IP")]
        host: Vec<String>,
        /// Replaces the one that is there.
        #[arg(long)]
        force: bool,
    },
    /// Issues a node's certificate: DIR/node-NAME.crt, DIR/node-NAME.key.
    Node {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        name: String,
        /// Replaces the one that is there.
        #[arg(long)]
        force: bool,
    },
    /// Issues an operator's certificate: DIR/operator-NAME.crt, DIR/operator-NAME.key.
    Operator {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        name: String,
        /// Replaces the one that is there.
        #[arg(long)]
        force: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag() {
        let line = "weir-controller run --source dir:/etc/weir --listen 127.0.0.1:0 --tls-cert c --tls-key k \
                    --client-ca ca --admin 127.0.0.1:0 --address-file a --log-format json";
        let Command::Run(run) = Cli::try_parse_from(line.split_whitespace()).unwrap().command
        else {
            panic!("run is run");
        };
        assert_eq!(run.source, Source::Directory("/etc/weir".into()));
        assert_eq!(run.source.to_string(), "dir:/etc/weir");
        assert_eq!(run.log_format, LogFormat::Json);
    }

    #[test]
    fn sources_that_are_none() {
        for text in ["", "dir", "dir:", "/etc/weir", "kube", "kube:x"] {
            assert!(text.parse::<Source>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn pki_commands() {
        for line in [
            "weir-controller pki init d --force",
            "weir-controller pki server d --host a --host 10.0.0.1",
            "weir-controller pki node d n1",
            "weir-controller pki operator d admin --force",
        ] {
            Cli::try_parse_from(line.split_whitespace()).unwrap();
        }
    }
}
