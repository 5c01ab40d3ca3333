//! `weirctl policy`: how far policies are in force.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use weir_api::v1::{PolicyStatus, StatusReply};
use weir_policy::rule::{Policy, PolicyObject};

use super::status::{data, keep, state};
use crate::args::SourceArgs;
use crate::args::flows::StatusFormat;
use crate::args::policy::{PolicyArgs, PolicyCommand, PolicyStatusArgs, PolicyWaitArgs};
use crate::exit::{Exit, Failure};
use crate::out::Out;
use crate::render;
use crate::source::nodes::Nodes;
use crate::source::{files, server};

/// Between two looks at the controller.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) async fn run(args: PolicyArgs, out: &mut Out<'_>) -> Result<Exit, Failure> {
    match args.command {
        PolicyCommand::Status(args) => status(args, out).await,
        PolicyCommand::Wait(args) => wait(args, out).await,
    }
}

async fn status(args: PolicyStatusArgs, out: &mut Out<'_>) -> Result<Exit, Failure> {
    let source = SourceArgs::from(&args.server);
    let nodes = Nodes::connect(named(&source)?, &source).await?;
    let mut status = nodes.status().await?;
    keep(&mut status, args.namespace.as_deref());
    out.answer(&match args.output {
        StatusFormat::Text => render::status::policies(&status),
        StatusFormat::Json => render::columns::json(&data(&status)["policies"]),
    });
    let late = status.policies.iter().any(|p| progress(p) != Progress::Done);
    Ok(if late { Exit::No } else { Exit::Yes })
}

fn named(source: &SourceArgs) -> Result<&str, Failure> {
    let missing = || Failure::Usage("name a controller: --server HOST:PORT".to_owned());
    source.server.as_deref().ok_or_else(missing)
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
    /// The controller has it as wanted.
    known: bool,
}

type Name = (String, String);

async fn wait(args: PolicyWaitArgs, out: &mut Out<'_>) -> Result<Exit, Failure> {
    let mut wanted: BTreeMap<Name, Wanted> = BTreeMap::new();
    for name in &args.policies {
        let it = Wanted { policy: None, generation: args.generation, known: false };
        wanted.insert((args.namespace.clone(), name.clone()), it);
    }
    if !args.files.is_empty() {
        for (key, object) in files::read(&args.files, out)?.world.policies {
            let PolicyObject { policy, .. } = object;
            let it = Wanted { policy: Some(policy), generation: args.generation, known: false };
            wanted.insert((key.namespace.to_string(), key.name.to_string()), it);
        }
    }
    if wanted.is_empty() {
        return Err(Failure::Usage("there is no NetworkPolicy in these files".to_owned()));
    }
    let source = SourceArgs::from(&args.server);
    let address = named(&source)?;
    let deadline = Instant::now() + args.timeout;
    let nodes = Nodes::connect(address, &source).await?;
    loop {
        if wanted.values().any(|w| !w.known && w.policy.is_some()) {
            // what is wrong with other objects is not asked
            let (mut answers, mut remarks) = (std::io::sink(), std::io::sink());
            let mut nowhere = Out::new(&mut answers, &mut remarks);
            let world = server::read(address, &source, &mut nowhere).await?.world;
            for (name, wanted) in &mut wanted {
                let key = weir_policy::ids::PolicyKey::network_policy(&name.0, &name.1);
                let there = world.policies.get(&key).map(|object| &object.policy);
                if let Some(policy) = &wanted.policy {
                    wanted.known = there.is_some_and(|there| same(policy, there));
                    wanted.generation = there.map_or(0, |t| t.generation).max(args.generation);
                }
            }
        }
        let status = nodes.status().await?;
        let mut late = Vec::new();
        let mut failed = false;
        for (name, wanted) in &wanted {
            match look(name, wanted, &status) {
                (Progress::Done, _) => {}
                (progress, text) => {
                    failed |= progress == Progress::Failed;
                    late.push(text);
                }
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
        tokio::time::sleep_until(deadline.min(Instant::now() + LOOK)).await;
    }
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
