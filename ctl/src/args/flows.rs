//! The command lines of `weirctl flows` and `weirctl status`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::SourceArgs;
use crate::annotate::filter::Counters;
use crate::annotate::layout::Owner;

/// How to reach a controller.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ServerArgs {
    /// The controller to ask.
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_SERVER")]
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

impl From<&ServerArgs> for SourceArgs {
    fn from(args: &ServerArgs) -> Self {
        Self {
            files: Vec::new(),
            server: args.server.clone(),
            ca: args.ca.clone(),
            cert: args.cert.clone(),
            key: args.key.clone(),
            server_name: args.server_name.clone(),
        }
    }
}

/// Every flow of a node, with the policy, rule and peer it is there for.
#[derive(Debug, Args)]
#[command(
    after_help = "On the node itself nothing is needed but its switch and the agent's symbols. With --server, any node.\n\n\
    Examples:\n  \
    weirctl flows --pod shop/db-0 --table IngressRule\n  \
    weirctl flows --server weir.example.org:9443 --node n5 --policy shop/db-from-api\n  \
    weirctl flows --rule 2c91e07a -o ofctl\n  \
    ovs-ofctl -O OpenFlow13 dump-flows br-int | weirctl flows --explain -\n\n\
    Exit codes: 0 some flows, 1 no flow matches, 2 bad usage or input, 4 no answer"
)]
pub struct FlowsArgs {
    /// Ask the agent of this node, through the controller.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,

    /// Flows about a pod: its port, its addresses, its class, the rules it is a subject of.
    #[arg(long, value_name = "[NS/]POD", help_heading = "Filter")]
    pub pod: Option<String>,

    /// Flows of a policy.
    #[arg(long, value_name = "[KIND/]NS/NAME", value_parser = policy, help_heading = "Filter")]
    pub policy: Option<(String, String)>,

    /// Flows of a rule or isolation set: 8 hex digits, or decimal as conj_id prints it.
    #[arg(long, value_name = "ID", help_heading = "Filter")]
    pub rule: Option<String>,

    /// Flows of a class, a number local to the node.
    #[arg(long, value_name = "N", help_heading = "Filter")]
    pub class: Option<u32>,

    /// Flows of a table, by name or number.
    #[arg(long, value_name = "TABLE", value_parser = table, help_heading = "Filter")]
    pub table: Option<u8>,

    /// Whose flows.
    #[arg(long, value_name = "OWNER", help_heading = "Filter")]
    pub owner: Option<Owner>,

    /// Only flows that have seen packets, or that have not.
    #[arg(long, value_name = "WHICH", help_heading = "Filter")]
    pub counters: Option<Counters>,

    /// table, ofctl (ovs-ofctl add-flows takes it back) or json.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: FlowsFormat,

    /// No line of heads over the table.
    #[arg(long)]
    pub no_headers: bool,

    /// Annotate text instead: what dump-flows, ofproto/trace, dump-conntrack print, a label, an id. - is stdin.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = "-",
        conflicts_with_all = ["node", "pod", "policy", "rule", "class", "table", "owner", "counters", "switch"]
    )]
    pub explain: Option<PathBuf>,

    /// Where the bridge of this node speaks OpenFlow: unix:/path or tcp:ip:port
    /// [default: unix:/var/run/openvswitch/br-int.mgmt].
    #[arg(long, value_name = "TARGET", conflicts_with = "node", help_heading = "Connection")]
    pub switch: Option<String>,

    /// The symbols of the node [default: /var/lib/weir/symbols.jsonl].
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub symbols: Option<PathBuf>,

    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlowsFormat {
    Table,
    Ofctl,
    Json,
}

/// Nodes, how far each policy is realised, and warnings.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    weirctl status --server weir.example.org:9443\n  \
    weirctl status -n shop -o json\n\n\
    Exit codes: 0 everything is realised, 1 something is not (yet), 2 bad usage, 4 no answer")]
pub struct StatusArgs {
    /// Only policies and warnings of this namespace.
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,

    /// text or json.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: StatusFormat,

    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    Text,
    Json,
}

fn table(text: &str) -> Result<u8, String> {
    crate::annotate::layout::table_number(text).ok_or_else(|| {
        let names: Vec<&str> = crate::annotate::layout::TABLES.iter().map(|t| t.1).collect();
        format!("no such table; there are {}", names.join(" "))
    })
}

fn policy(text: &str) -> Result<(String, String), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (namespace, name) = match parts[..] {
        [namespace, name] => (namespace, name),
        ["np" | "netpol" | "networkpolicy" | "NetworkPolicy", namespace, name] => (namespace, name),
        [_, _, _] => return Err("KIND is np (NetworkPolicy)".to_owned()),
        _ => return Err("write NS/NAME".to_owned()),
    };
    if namespace.is_empty() || name.is_empty() {
        return Err("write NS/NAME".to_owned());
    }
    Ok((namespace.to_owned(), name.to_owned()))
}
