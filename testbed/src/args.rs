//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Nodes, pods and real traffic on one machine, with Weir in between.
#[derive(Debug, Parser)]
#[command(name = "weir-testbed", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// Which testbed.
#[derive(Clone, Debug, Args)]
pub struct Bed {
    /// Name of the testbed. Several can be up at once.
    #[arg(long, default_value = "demo", value_name = "NAME")]
    pub name: String,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts nodes, pods, controller and agents of a scenario, and leaves them running.
    Up {
        #[command(flatten)]
        bed: Bed,
        /// Scenario; `weir-testbed scenarios` lists them.
        #[arg(long, default_value = "three-tier", value_name = "NAME")]
        scenario: String,
    },
    /// Ends everything `up`, `demo --keep` or a crashed run left.
    Down {
        #[command(flatten)]
        bed: Bed,
    },
    /// Lists testbeds, their nodes and pods, and who holds them.
    Status,
    /// Lists the scenarios.
    Scenarios,
    /// Runs a command in a pod (NAMESPACE/POD), a node (node/n1) or a host outside (world/NAME).
    Exec {
        #[command(flatten)]
        bed: Bed,
        host: String,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Runs weirctl on the controller of a testbed.
    Ctl {
        #[command(flatten)]
        bed: Bed,
        #[arg(last = true, required = true)]
        args: Vec<String>,
    },
    /// Plays a scenario: expected and observed matrix, changes taking effect, a live connection cut, annotated flows.
    Demo {
        #[command(flatten)]
        bed: Bed,
        /// Leaves everything running at the end.
        #[arg(long)]
        keep: bool,
        /// Scenario; `weir-testbed scenarios` lists them.
        #[arg(long, default_value = "three-tier", value_name = "NAME")]
        scenario: String,
        /// Where the figures go, as JSON.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Plays a directory of conformance cases.
    Conformance {
        /// The directory.
        dir: PathBuf,
        #[command(flatten)]
        mode: Mode,
        /// Only cases whose file name begins with this.
        #[arg(long, value_name = "N")]
        case: Option<String>,
        /// Name of the testbed that `--ovs` makes [default: one of its own].
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Kubernetes on the testbed: a real API server whose nodes and pods are those of the testbed.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Runs an earlier version and this one side by side on a cluster, and moves from one to the other.
    Upgrade(Upgrade),
    /// Writes a container image of a static program, without a container engine, and tries it out.
    Image(Image),
    /// Serves the pods of a testbed that was left up.
    #[command(hide = true)]
    Serve {
        #[command(flatten)]
        bed: Bed,
    },
}

/// How cases are checked.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Mode {
    /// Against the evaluator: every row, who blocks included.
    #[arg(long)]
    pub evaluator: bool,
    /// On Open vSwitch with real connections (TCP and UDP rows), pods spread over two nodes.
    #[arg(long)]
    pub ovs: bool,
    /// As with --ovs, and everything goes through a real kube-apiserver.
    #[arg(long)]
    pub cluster: bool,
}

#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Starts etcd, kube-apiserver, kube-controller-manager, nodes, controllers and agents; prints where the kubeconfig is.
    Up(ClusterUp),
    /// Ends it.
    Down {
        #[command(flatten)]
        bed: Bed,
    },
    /// Runs the real kubectl on it.
    Kubectl {
        #[command(flatten)]
        bed: Bed,
        #[arg(last = true, required = true)]
        args: Vec<String>,
    },
    /// What `up` leaves behind: servers, kubelets and programs until a signal.
    #[command(hide = true)]
    Run(ClusterUp),
}

/// The earlier version.
#[derive(Clone, Debug, Args)]
pub struct Upgrade {
    /// Its controller.
    #[arg(long, value_name = "FILE")]
    pub old_controller: PathBuf,
    /// Its agent.
    #[arg(long, value_name = "FILE")]
    pub old_agent: PathBuf,
    /// Name of the testbed [default: one of its own].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// An image to be.
#[derive(Clone, Debug, Args)]
pub struct Image {
    /// Name with tag.
    #[arg(value_name = "NAME:TAG")]
    pub name: String,
    /// The program.
    #[arg(long, value_name = "FILE")]
    pub program: PathBuf,
    /// User and group it runs as.
    #[arg(long, value_name = "ID", default_value = "0")]
    pub user: u32,
    /// A label of the image, beside its title and its version. May be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// The archive.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

/// What a cluster starts with.
#[derive(Clone, Debug, Args)]
pub struct ClusterUp {
    #[command(flatten)]
    pub bed: Bed,
    /// Nodes, 1 to 9.
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// Controllers, 1 to 5.
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,
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
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            &["conformance", "dir"][..],
            &["conformance", "dir", "--evaluator", "--ovs"],
            &["conformance", "dir", "--cluster", "--ovs"],
            &["cluster", "up", "--nodes", "0"],
            &["cluster", "kubectl", "get", "pods"],
            &["exec", "x/a"],
            &["upgrade", "--old-controller", "c"],
            &["image", "x:1", "--program", "x", "--out", "x.tar", "--label", "licenses"],
            &["demo", "extra"],
        ] {
            let args = std::iter::once("weir-testbed").chain(bad.iter().copied());
            assert!(Cli::try_parse_from(args).is_err(), "{bad:?}");
        }
        let args = ["weir-testbed", "exec", "x/a", "--", "ping", "-c1", "10.10.0.1"];
        let Command::Exec { command, .. } = Cli::try_parse_from(args).unwrap().command else {
            panic!("not exec");
        };
        assert_eq!(command, ["ping", "-c1", "10.10.0.1"]);
    }
}
