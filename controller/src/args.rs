//! The command line.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use weir_runtime::log::LogFormat;

use crate::cluster;

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
    /// Where objects come from: `kube` is a Kubernetes API server, `dir:PATH` a directory of Kubernetes manifests, followed
    /// while it changes [default: kube in a pod or with --kubeconfig].
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<Source>,

    /// The cluster for `--source kube` [default: the one whose pod this is].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Address for agents and tools; port 0 lets the system choose.
    #[arg(long, value_name = "IP:PORT", default_value = "[::]:9443")]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub tls: TlsArgs,

    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Address of /livez, /readyz, /metrics and /debug/state; none without it. Port 0 lets the system choose.
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<SocketAddr>,

    /// Where to write the addresses in use, one `NAME ADDRESS` a line: `listen`, `admin`.
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,

    /// How log lines look: text or json. WEIR_LOG filters them.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Certificates")]
pub struct TlsArgs {
    /// Certificate of this controller (PEM), read again when it changes [default with kube: the controller issues its own,
    /// from an authority in the Secret weir-ca].
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of this controller (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Certificates of who may sign certificates of nodes and operators (PEM), read again when they change [default with
    /// kube: the authority in the Secret weir-ca].
    #[arg(long, value_name = "FILE")]
    pub client_ca: Option<PathBuf>,

    /// A name or address for the certificate that the controller issues itself, beside weir-controller,
    /// weir-controller.NAMESPACE.svc and localhost. Repeatable.
    #[arg(long, value_name = "NAME|IP")]
    pub serve_host: Vec<String>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct ClusterArgs {
    /// Where Weir's own objects are: the Secret and ConfigMap weir-ca, the Lease [default: this pod's, else weir-system].
    #[arg(long, env = "WEIR_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// What this replica is called in the Lease [default: the host name].
    #[arg(long, env = "WEIR_REPLICA", value_name = "NAME")]
    pub replica: Option<String>,

    /// Where other replicas reach this one [default: the address of --listen, if it names one].
    #[arg(long, env = "WEIR_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,

    /// The ServiceAccount of agents, in Weir's namespace or as NAMESPACE:NAME. Its tokens speak for the nodes they are
    /// bound to.
    #[arg(long, value_name = "[NAMESPACE:]NAME", default_value = "weir-agent")]
    pub agent_account: String,

    /// What agents' tokens must have been made for.
    #[arg(long, value_name = "AUDIENCE", default_value = "weir-controller")]
    pub token_audience: String,

    /// How long an authority lasts that the controllers make: a number with d, h, m or s, from 30s to 36500d. After two thirds
    /// of that it is replaced; one that is there and was made for longer, too.
    #[arg(long, value_name = "TIME", default_value = "3650d", value_parser = authority_life)]
    pub authority_life: Duration,

    /// Do not write PolicyStatus objects.
    #[arg(long)]
    pub no_status: bool,
}

/// Units: days, hours, minutes or seconds, as the last letter says.
fn authority_life(text: &str) -> Result<Duration, String> {
    let wrong = || "it must be a number with d, h, m or s, such as 3650d".to_owned();
    let unit = match text.chars().last() {
        Some('d') => 24 * 3600,
        Some('h') => 3600,
        Some('m') => 60,
        Some('s') => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let life = number.checked_mul(unit).map(Duration::from_secs).ok_or_else(wrong)?;
    if !LIVES.contains(&life) {
        return Err("it must be between 30s and 36500d".to_owned());
    }
    Ok(life)
}

/// Lives of an authority: long enough for a replica to look some times, and short enough for a calendar.
const LIVES: RangeInclusive<Duration> =
    Duration::from_secs(30)..=Duration::from_secs(36_500 * 24 * 3600);

impl Run {
    /// The source that was named, or goes without saying.
    ///
    /// Errors: a sentence, when there is none, or something does not go with it.
    pub fn source(&self) -> Result<Source, String> {
        let source = match &self.source {
            Some(source) => source.clone(),
            None if self.kubeconfig.is_some() || cluster::is_inside() => Source::Kube,
            None => return Err("--source is missing: kube or dir:PATH".to_owned()),
        };
        if source == Source::Kube {
            return Ok(source);
        }
        if self.kubeconfig.is_some() {
            return Err(format!("--kubeconfig does not go with --source {source}"));
        }
        let TlsArgs { tls_cert, client_ca, .. } = &self.tls;
        if tls_cert.is_none() || client_ca.is_none() {
            let needs = "needs --tls-cert, --tls-key and --client-ca";
            return Err(format!("--source {source} {needs}; `weir-controller pki` makes them"));
        }
        Ok(source)
    }
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Directory(PathBuf),
    Kube,
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Directory(path.into())),
            _ if text == "kube" => Ok(Self::Kube),
            _ => Err("it must be kube or dir:PATH".to_owned()),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
            Self::Kube => f.write_str("kube"),
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
        assert_eq!(run.source(), Ok(Source::Directory("/etc/weir".into())));
        assert_eq!(run.log_format, LogFormat::Json);
    }

    fn source(flags: &str) -> Result<Source, String> {
        let line = format!("weir-controller run {flags}");
        match Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string())?.command {
            Command::Run(run) => run.source(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cluster_needs_no_files() {
        let all = "--source kube --kubeconfig k --serve-host a --serve-host 10.0.0.1 --namespace weir --replica r1 --advertise 10.0.0.1:9443 \
                   --agent-account other:agent --token-audience weir --authority-life 90d --no-status";
        for flags in ["--source kube", "--kubeconfig k", all] {
            assert_eq!(source(flags), Ok(Source::Kube), "{flags}");
        }
    }

    #[test]
    fn an_authority_lives_for_days_or_less() {
        let day = Duration::from_secs(24 * 3600);
        for (text, life) in
            [("3650d", day * 3650), ("36h", day * 3 / 2), ("1440m", day), ("30s", day / 2880)]
        {
            assert_eq!(authority_life(text), Ok(life), "{text}");
        }
    }

    #[test]
    fn sources_that_are_none() {
        for text in ["", "dir", "dir:", "/etc/weir", "kube:x"] {
            assert!(text.parse::<Source>().is_err(), "{text:?}");
        }
        let tls = "--tls-cert c --tls-key k --client-ca a";
        for (flags, words) in [
            (tls.to_owned(), "--source is missing"),
            ("--source dir:/m".to_owned(), "needs --tls-cert"),
            (format!("--source dir:/m --kubeconfig k {tls}"), "does not go with"),
            ("--source kube --tls-cert c".to_owned(), "--tls-key"),
            ("--source kube --authority-life 29s".to_owned(), "between 30s and 36500d"),
            ("--source kube --authority-life 36501d".to_owned(), "between 30s and 36500d"),
            ("--source kube --authority-life 10".to_owned(), "a number with d, h, m or s"),
            ("--source kube --authority-life=-1d".to_owned(), "a number with d, h, m or s"),
            ("--source kube --authority-life 9é".to_owned(), "a number with d, h, m or s"),
            ("--source kube --authority-life 99999999999999999d".to_owned(), "a number with"),
        ] {
            let error = source(&flags).unwrap_err();
            assert!(error.contains(words), "{flags}: {error}");
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
