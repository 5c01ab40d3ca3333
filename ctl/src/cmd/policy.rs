//! `weirctl policy`: how far policies are in force.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use weir_api::v1::{NodeStatus, PolicyStatus, StatusReply};
use weir_policy::rule::{Policy, PolicyObject};

use super::status::{data, keep, percentile, state};
use crate::args::SourceArgs;
use crate::args::flows::{ServerArgs, StatusFormat};
use crate::args::policy::{
    ClusterArgs, PolicyArgs, PolicyCommand, PolicyStatusArgs, PolicyWaitArgs,
};
use crate::exit::{Exit, Failure};
use crate::out::Out;
use crate::render;
use crate::render::status::milliseconds;
use crate::source::cluster::{Cluster, Seen};
use crate::source::nodes::Nodes;
use crate::source::{files, server};

/// Between two looks at the controller.
const LOOK: Duration = Duration::from_millis(100);
/// The same at an API server, which has others to answer. The controller writes status once a second.
const LOOK_AT_CLUSTER: Duration = Duration::from_millis(250);

pub(crate) async fn run(args: PolicyArgs, out: &mut Out<'_>) -> Result<Exit, Failure> {
    match args.command {
        PolicyCommand::Status(args) => status(args, out).await,
        PolicyCommand::Wait(args) => wait(args, out).await,
    }
}

async fn status(args: PolicyStatusArgs, out: &mut Out<'_>) -> Result<Exit, Failure> {
    let namespace = args.namespace.as_deref();
    let (rows, data) = match Source::of(&args.server, &args.cluster).await? {
        Source::Controller { nodes, .. } => {
            let mut status = nodes.status().await?;
            keep(&mut status, namespace);
            let rows = status.policies.iter().map(|p| Row::told(p, &status.nodes)).collect();
            (rows, data(&status)["policies"].take())
        }
        Source::Cluster(cluster) => {
            let mut seen = cluster.policies(namespace).await?;
            seen.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
            let rows: Vec<Row> = seen.iter().map(Row::seen).collect();
            let data = rows.iter().map(Row::data).collect();
            (rows, data)
        }
    };
    match args.output {
        StatusFormat::Json => out.answer(&render::columns::json(&data)),
        // a table of heads alone is noise
        StatusFormat::Text if rows.is_empty() => {
            let place = namespace.map(|ns| format!(" in namespace {ns}")).unwrap_or_default();
            out.remark(&format!("no NetworkPolicy{place}"));
        }
        StatusFormat::Text => out.answer(&render::status::policies(&rows, !args.no_headers)),
    }
    let late = rows.iter().any(|row| row.progress != Progress::Done);
    Ok(if late { Exit::No } else { Exit::Yes })
}

/// Whom to ask.
enum Source {
    Controller { address: String, source: Box<SourceArgs>, nodes: Box<Nodes> },
    Cluster(Cluster),
}

impl Source {
    /// A cluster that is named comes before a controller that only the environment names.
    async fn of(server: &ServerArgs, cluster: &ClusterArgs) -> Result<Self, Failure> {
        match &server.server {
            Some(address) if !cluster.is_named() => {
                let source = Box::new(SourceArgs::from(server));
                let nodes = Box::new(Nodes::connect(address, &source).await?);
                Ok(Self::Controller { address: address.clone(), source, nodes })
            }
            _ => Ok(Self::Cluster(Cluster::find(cluster).await?)),
        }
    }
}

/// A policy in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) generation: i64,
    pub(crate) realized: u64,
    pub(crate) desired: u64,
    pub(crate) p50: Option<String>,
    pub(crate) p99: Option<String>,
    /// The most on one node, and that node.
    pub(crate) flows: Option<(u64, String)>,
    /// Nodes that cannot, and why.
    failed: Vec<(String, String)>,
    /// Since it was made. Units: milliseconds.
    pub(crate) age_ms: Option<i64>,
    pub(crate) state: String,
    progress: Progress,
}

impl Row {
    /// As a controller tells it.
    pub(crate) fn told(p: &PolicyStatus, nodes: &[NodeStatus]) -> Self {
        let key = p.policy.clone().unwrap_or_default();
        let latency = |percent| percentile(&p.latencies_us, percent).map(milliseconds);
        Self {
            namespace: key.namespace,
            name: key.name,
            generation: p.generation,
            realized: p.nodes_realized.into(),
            desired: p.nodes_desired.into(),
            p50: latency(50),
            p99: latency(99),
            flows: (!p.flows_node.is_empty()).then(|| (p.flows_max.into(), p.flows_node.clone())),
            failed: p.failures.iter().map(|f| (f.node.clone(), f.reason.clone())).collect(),
            age_ms: None,
            state: state(p, nodes),
            progress: progress(p),
        }
    }

    /// As its object at the API server and the PolicyStatus beside it have it.
    fn seen(seen: &Seen) -> Self {
        let number = |pointer: &str| seen.status_at(pointer).and_then(Value::as_u64);
        let text = |pointer: &str| seen.status_at(pointer).and_then(Value::as_str);
        let failed = seen.status_at("/nodes/failed").and_then(Value::as_array);
        let failure = |f: &Value| {
            let word = |field: &str| f[field].as_str().unwrap_or_default().to_owned();
            (word("node"), word("reason"))
        };
        let (state, progress) = seen_state(seen);
        Self {
            namespace: seen.namespace.clone(),
            name: seen.name.clone(),
            generation: seen.generation,
            realized: number("/nodes/realized").unwrap_or_default(),
            desired: number("/nodes/desired").unwrap_or_default(),
            p50: text("/latency/p50").map(str::to_owned),
            p99: text("/latency/p99").map(str::to_owned),
            flows: number("/flowsPerNode/max").zip(text("/flowsPerNode/node").map(str::to_owned)),
            failed: failed.into_iter().flatten().map(failure).collect(),
            age_ms: seen.age_ms,
            state,
            progress,
        }
    }

    fn data(&self) -> Value {
        let failure = |(node, reason): &(String, String)| json!({"node": node, "reason": reason});
        let failed: Vec<Value> = self.failed.iter().map(failure).collect();
        let flows = self.flows.as_ref();
        json!({
            "kind": "NetworkPolicy", "namespace": self.namespace, "name": self.name,
            "generation": self.generation,
            "nodes": {"desired": self.desired, "realized": self.realized, "failed": failed},
            "latency": {"p50": self.p50, "p99": self.p99},
            "flowsPerNode": flows.map(|(max, node)| json!({"max": max, "node": node})),
            "state": self.state,
        })
    }
}

/// How far a policy of the API server is, in a word and with the reason.
fn seen_state(seen: &Seen) -> (String, Progress) {
    let Some(status) = &seen.status else {
        let text = "Unknown (no controller has written a PolicyStatus yet)";
        return (text.to_owned(), Progress::Waiting);
    };
    let condition = |kind: &str, field: &str| -> &str {
        let all = status["conditions"].as_array().into_iter().flatten();
        let one = all.into_iter().find(|c| c["type"] == kind);
        one.and_then(|c| c[field].as_str()).unwrap_or_default()
    };
    let observed = status.pointer("/policy/observedGeneration").and_then(Value::as_i64);
    let observed = observed.unwrap_or_default();
    if observed < seen.generation {
        let text = format!("Realizing (the controller has generation {observed})");
        return (text, Progress::Waiting);
    }
    let (word, progress) = match (condition("Realized", "status"), condition("Realized", "reason"))
    {
        ("True", _) => ("Realized", Progress::Done),
        // others may be on their way, but this one will not come by itself
        (_, "NodeFailed") => ("Failed", Progress::Failed),
        _ => ("Realizing", Progress::Waiting),
    };
    let narrowed = match condition("Accepted", "status") {
        "False" => condition("Accepted", "message"),
        _ => "",
    };
    let why: Vec<&str> = [condition("Realized", "message"), narrowed]
        .into_iter()
        .filter(|w| !w.is_empty())
        .collect();
    match why.is_empty() {
        true => (word.to_owned(), progress),
        false => (format!("{word} ({})", why.join("; ")), progress),
    }
}

/// How far a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Done,
    Waiting,
    /// Every node has said how it stands, and one of them cannot.
    Failed,
}

fn progress(p: &PolicyStatus) -> Progress {
    match (p.failures.is_empty(), p.nodes_realized >= p.nodes_desired) {
        (true, true) => Progress::Done,
        (false, _) if p.pending.is_empty() => Progress::Failed,
        _ => Progress::Waiting,
    }
}

/// A policy that is waited for.
struct Wanted {
    /// As its manifest has it; absent where only its name was given.
    policy: Option<Policy>,
    generation: i64,
    /// Whoever is asked has it as wanted.
    known: bool,
}

impl Wanted {
    /// Whether what is there is what the manifest has.
    fn compare(&mut self, there: Option<&Policy>, generation: i64) {
        if let Some(policy) = &self.policy {
            self.known = there.is_some_and(|there| same(policy, there));
            self.generation = there.map_or(0, |t| t.generation).max(generation);
        }
    }
}

type Name = (String, String);

async fn wait(args: PolicyWaitArgs, out: &mut Out<'_>) -> Result<Exit, Failure> {
    let mut wanted: BTreeMap<Name, Wanted> = BTreeMap::new();
    if !args.files.is_empty() {
        for (key, object) in files::read(&args.files, out)?.world.policies {
            let PolicyObject { policy, .. } = object;
            let it = Wanted { policy: Some(policy), generation: args.generation, known: false };
            wanted.insert((key.namespace.to_string(), key.name.to_string()), it);
        }
    }
    if wanted.is_empty() && args.policies.is_empty() {
        return Err(Failure::Usage("there is no NetworkPolicy in these files".to_owned()));
    }
    let source = Source::of(&args.server, &args.cluster).await?;
    let namespace = args.namespace.as_deref().unwrap_or(match &source {
        Source::Controller { .. } => "default",
        Source::Cluster(cluster) => &cluster.namespace,
    });
    for name in &args.policies {
        let it = Wanted { policy: None, generation: args.generation, known: false };
        wanted.insert((namespace.to_owned(), name.clone()), it);
    }
    let deadline = Instant::now() + args.timeout;
    loop {
        let (mut late, mut failed) = (Vec::new(), false);
        for (progress, text) in look_at_all(&source, &mut wanted, args.generation).await? {
            failed |= progress == Progress::Failed;
            if progress != Progress::Done {
                late.push(text);
            }
        }
        if late.is_empty() {
            out.answer(&format!("{} in force\n", count(wanted.len())));
            return Ok(Exit::Yes);
        }
        if failed || Instant::now() >= deadline {
            for line in late {
                out.answer(&format!("{line}\n"));
            }
            return Ok(Exit::No);
        }
        let pause = match &source {
            Source::Controller { .. } => LOOK,
            Source::Cluster(_) => LOOK_AT_CLUSTER,
        };
        tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
    }
}

/// How far each of them is, and that in words.
async fn look_at_all(
    source: &Source,
    wanted: &mut BTreeMap<Name, Wanted>,
    generation: i64,
) -> Result<Vec<(Progress, String)>, Failure> {
    let mut out = Vec::new();
    match source {
        Source::Controller { address, source, nodes } => {
            if wanted.values().any(|w| !w.known && w.policy.is_some()) {
                // what is wrong with other objects is not asked
                let (mut answers, mut remarks) = (std::io::sink(), std::io::sink());
                let mut nowhere = Out::new(&mut answers, &mut remarks);
                let world = server::read(address, source, &mut nowhere).await?.world;
                for (name, wanted) in wanted.iter_mut() {
                    let key = weir_policy::ids::PolicyKey::network_policy(&name.0, &name.1);
                    wanted.compare(world.policies.get(&key).map(|o| &o.policy), generation);
                }
            }
            let status = nodes.status().await?;
            out.extend(wanted.iter().map(|(name, wanted)| look(name, wanted, &status)));
        }
        Source::Cluster(cluster) => {
            for (name, wanted) in wanted {
                let seen = cluster.policy(&name.0, &name.1).await?;
                if wanted.policy.is_some() {
                    let there = seen.as_ref().and_then(Seen::policy);
                    wanted.compare(there.as_ref(), generation);
                }
                out.push(look_at(name, wanted, seen.as_ref()));
            }
        }
    }
    Ok(out)
}

/// The same as [`look`], at the API server.
fn look_at(name: &Name, wanted: &Wanted, seen: Option<&Seen>) -> (Progress, String) {
    let (namespace, name) = name;
    let waits = |why: &str| (Progress::Waiting, format!("{namespace}/{name}: {why}"));
    let Some(seen) = seen else {
        return waits("not known to the API server");
    };
    if wanted.policy.is_some() && !wanted.known {
        return waits("the API server has another version of it");
    }
    if seen.generation < wanted.generation {
        return waits(&format!("the API server has generation {}", seen.generation));
    }
    let Row { realized, desired, state, progress, .. } = Row::seen(seen);
    (progress, format!("{namespace}/{name}: {realized}/{desired} {state}"))
}

/// How far one policy is, and that in words.
fn look(name: &Name, wanted: &Wanted, status: &StatusReply) -> (Progress, String) {
    let (namespace, name) = name;
    let found = status
        .policies
        .iter()
        .find(|p| p.policy.as_ref().is_some_and(|k| k.namespace == *namespace && k.name == *name));
    let waits = |why: &str| (Progress::Waiting, format!("{namespace}/{name}: {why}"));
    let Some(found) = found else {
        return waits("not known to the controller");
    };
    if wanted.policy.is_some() && !wanted.known {
        return waits("the controller has another version of it");
    }
    if found.generation < wanted.generation {
        return waits(&format!("the controller has generation {}", found.generation));
    }
    let text = format!(
        "{namespace}/{name}: {}/{} {}",
        found.nodes_realized,
        found.nodes_desired,
        state(found, &status.nodes)
    );
    (progress(found), text)
}

/// The same policy, whatever their sources say of identity and generation.
fn same(a: &Policy, b: &Policy) -> bool {
    a.subject == b.subject && a.isolates == b.isolates && a.rules == b.rules
}

fn count(policies: usize) -> String {
    match policies {
        1 => "1 policy".to_owned(),
        n => format!("{n} policies"),
    }
}
