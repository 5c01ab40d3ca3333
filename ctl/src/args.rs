//! The command line.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod flows;
pub mod policy;

const EXIT_CODES: &str = "Exit codes: 0 yes or allowed, 1 no or denied, 2 bad usage or input, 3 cannot tell,\n\
     4 no answer, 5 policies and switch disagree";

/// Asks Weir and explains what it enforces.
#[derive(Debug, Parser)]
#[command(name = "weirctl", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Why(WhyArgs),
    Matrix(MatrixArgs),
    Flows(Box<flows::FlowsArgs>),
    Status(flows::StatusArgs),
    Policy(policy::PolicyArgs),
}

/// Where objects come from.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct SourceArgs {
    /// Manifests: a file, a directory, or - for stdin. Offline: asks nothing of any server. Repeatable.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub files: Vec<PathBuf>,

    /// The controller to ask.
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_SERVER", conflicts_with = "files")]
    pub server: Option<String>,

    /// Certificates of who may sign the controller's certificate (PEM).
    #[arg(long, value_name = "FILE", env = "WEIR_CA")]
    pub ca: Option<PathBuf>,

    /// Certificate of an operator (PEM).
    #[arg(long, value_name = "FILE", env = "WEIR_CERT")]
    pub cert: Option<PathBuf>,

    /// Private key of the operator (PEM).
    #[arg(long, value_name = "FILE", env = "WEIR_KEY")]
    pub key: Option<PathBuf>,

    /// Name in the controller's certificate, where it is not HOST.
    #[arg(long, value_name = "NAME", env = "WEIR_SERVER_NAME")]
    pub server_name: Option<String>,
}

/// Which rule admits a connection, or which one nearly does.
#[derive(Debug, Args)]
#[command(
    after_help = "Names: [NS/]POD, [NS/]KIND/NAME (pod deploy sts ds job cronjob svc), node/NAME, an address.\n\
    Without a port: the ports that are admitted.\n\n\
    Examples:\n  \
    weirctl why shop/web-6d4f9 shop/db-0:5432 --server weir.example.org:7443\n  \
    weirctl why -f manifests/ shop/deploy/web shop/sts/db:5432\n  \
    weirctl why -f manifests/ 'shop/deploy/web -> 192.0.2.7:53/udp'\n\n\
    Exit codes: 0 allowed, 1 denied, 2 bad usage or input, 3 cannot tell, 4 no answer,\n\
    5 a switch disagrees"
)]
pub struct WhyArgs {
    /// SRC DST[:PORT[/PROTO]], or both in one word: 'SRC -> DST:PORT'.
    #[arg(required = true, num_args = 1..=3, value_name = "SRC DST[:PORT[/PROTO]]")]
    pub ends: Vec<String>,

    /// Namespace of names that have none.
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,

    /// The address of a pod that the manifests do not tell. Repeatable.
    #[arg(long = "ip", value_name = "NAME=ADDR", value_parser = name_address)]
    pub addresses: Vec<(String, IpAddr)>,

    /// Every rule that could concern the connection, not only the nearest.
    #[arg(long)]
    pub all: bool,

    /// text, json or yaml.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: WhyFormat,

    #[command(flatten)]
    pub source: SourceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhyFormat {
    Text,
    Json,
    Yaml,
}

/// Who may connect to whom, on which ports.
#[derive(Debug, Args)]
#[command(after_help = "Cells: TCP ports unless marked, . none, * all, ? undecided, - itself.\n\n\
    Examples:\n  \
    weirctl matrix -f manifests/\n  \
    weirctl matrix -n shop -o csv --server weir.example.org:7443\n  \
    weirctl matrix -f manifests/ --by namespace -o md")]
pub struct MatrixArgs {
    /// Only this namespace.
    #[arg(short, long, value_name = "NS", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,

    /// All namespaces (the default).
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,

    /// What a row and a column stand for.
    #[arg(long, value_name = "WHAT", default_value = "workload")]
    pub by: By,

    /// txt, json, csv or md.
    #[arg(short, long, value_name = "FORMAT", default_value = "txt")]
    pub output: MatrixFormat,

    #[command(flatten)]
    pub source: SourceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    Workload,
    Namespace,
    Pod,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MatrixFormat {
    #[value(alias = "text")]
    Txt,
    Json,
    Csv,
    Md,
}

fn name_address(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text.split_once('=').ok_or("write NAME=ADDR")?;
    let address = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    Ok((name.to_owned(), address))
}

/// `SRC '->' DST` as three words becomes one: on its own the arrow looks like flags.
pub fn join_arrow(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg != "->" {
            out.push(arg);
            continue;
        }
        let mut joined = out.pop().unwrap_or_default();
        joined.push(" -> ");
        joined.push(args.next().unwrap_or_default());
        out.push(joined);
    }
    out
}
