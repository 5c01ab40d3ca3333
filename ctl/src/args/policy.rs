//! `weirctl policy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::flows::{ServerArgs, StatusFormat};

/// How far policies are in force.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    pub command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    Status(PolicyStatusArgs),
    Wait(PolicyWaitArgs),
}

const WHERE: &str = "Asks a controller where --server names one, else the API server of\n\
    --kubeconfig, KUBECONFIG, ~/.kube/config, or of the pod it runs in.";

/// A cluster, where no controller is named.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ClusterArgs {
    /// The kubeconfig, instead of KUBECONFIG and ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// A context of the kubeconfig, instead of its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl ClusterArgs {
    /// Somebody asked for a cluster, whatever the environment says of controllers.
    pub fn is_named(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }
}

/// How far each policy is in force, and how long that took.
#[derive(Debug, Args)]
#[command(before_help = WHERE, after_help = "Examples:\n  \
    weirctl policy status -n shop\n  \
    weirctl policy status -A -o json --context production\n  \
    weirctl policy status -n shop --server weir.example.org:9443\n\n\
    Exit codes: 0 every policy is in force, 1 one is not (yet), 2 bad usage or no\n\
    cluster named, 4 no answer")]
pub struct PolicyStatusArgs {
    /// Only this namespace.
    #[arg(short, long, value_name = "NS", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,

    /// All namespaces (the default).
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,

    /// text or json.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: StatusFormat,

    /// The table without its heads.
    #[arg(long)]
    pub no_headers: bool,

    #[command(flatten)]
    pub server: ServerArgs,

    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Waits until policies are in force on every node that runs a pod they select.
#[derive(Debug, Args)]
#[command(
    before_help = WHERE,
    after_help = "Names: [np/]NAME. With -f, the policies of these manifests as they stand there.\n\n\
    Examples:\n  \
    weirctl policy wait np/db-from-api -n shop --timeout 30s\n  \
    weirctl policy wait -f manifests/\n  \
    weirctl policy wait db-from-api -n shop --server weir.example.org:9443\n\n\
    Exit codes: 0 in force, 1 not in time or refused by a switch, 2 bad usage or\n\
    input, or no cluster named, 4 no answer"
)]
pub struct PolicyWaitArgs {
    /// [np/]NAME, several if need be.
    #[arg(value_name = "POLICY", required_unless_present = "files", value_parser = name)]
    pub policies: Vec<String>,

    /// The namespace of policies named, instead of that of the context.
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,

    /// Manifests: a file, a directory, or - for stdin. Repeatable.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub files: Vec<PathBuf>,

    /// No generation before this one will do.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub generation: i64,

    /// How long to wait: 30s, 2m, 500ms.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,

    #[command(flatten)]
    pub server: ServerArgs,

    #[command(flatten)]
    pub cluster: ClusterArgs,
}

fn name(text: &str) -> Result<String, String> {
    let name = match text.split_once('/') {
        None => text,
        Some(("np" | "netpol" | "networkpolicy" | "NetworkPolicy", name)) => name,
        Some(_) => return Err("KIND is np (NetworkPolicy); write the namespace as -n".to_owned()),
    };
    match name {
        "" => Err("write [np/]NAME".to_owned()),
        name => Ok(name.to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a time as 30s, 2m or 500ms".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_times() {
        assert_eq!(name("np/db").unwrap(), "db");
        assert_eq!(name("db").unwrap(), "db");
        for bad in ["", "np/", "shop/db", "cnp/db"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(duration("30s").unwrap(), Duration::from_secs(30));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        for bad in ["", "30", "s", "-1s", "1h", "99999999999999999999s", "99999999999999999999m"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
