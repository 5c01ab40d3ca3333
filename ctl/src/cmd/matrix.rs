//! `weirctl matrix`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weir_policy::analyze::{self, Reach};
use weir_policy::eval::{Connection, End, L4};
use weir_policy::ids::ProfileId;
use weir_policy::net::IpBlock;
use weir_policy::rule::Peers;
use weir_policy::world::{Pod, PodKey, World};

use super::resolve::{self, Candidate};
use super::why::{API_VERSION, reach_data};
use crate::args::{By, MatrixArgs, MatrixFormat};
use crate::exit::{Exit, Failure};
use crate::names::Kind;
use crate::out::Out;
use crate::render;
use crate::source::{self, Objects, Origin};

/// A row and a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    /// Namespace, name, kind.
    Workload(String, String, Kind),
    Namespace(String),
    /// Every address that is of no pod and no node.
    World,
}

impl Party {
    /// `shop/web[Deployment]`: what other tools read.
    pub(crate) fn full(&self) -> String {
        match self {
            Self::Workload(namespace, name, kind) => {
                format!("{namespace}/{name}[{}]", kind.as_str())
            }
            Self::Namespace(name) => format!("{name}[Namespace]"),
            Self::World => "world".to_owned(),
        }
    }
}

/// Who reaches whom.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) parties: Vec<Party>,
    /// Row by row; `None` = there are no two different ends.
    pub(crate) cells: Vec<Vec<Option<Reach>>>,
}

pub(crate) async fn run(args: MatrixArgs, out: &mut Out<'_>) -> Result<Exit, Failure> {
    let objects = source::read(&args.source, out).await?;
    let matrix = compute(&objects, args.by, args.namespace.as_deref());
    if matrix.parties.len() == 1 {
        let place = args.namespace.map(|n| format!(" in namespace {n}")).unwrap_or_default();
        out.remark(&format!("no pods{place}"));
    }
    let text = match args.output {
        MatrixFormat::Txt => render::matrix::text(&matrix),
        MatrixFormat::Csv => render::matrix::csv(&matrix),
        MatrixFormat::Md => render::matrix::markdown(&matrix),
        MatrixFormat::Json => {
            let value = data(&matrix, args.by, &objects);
            let text = serde_json::to_string_pretty(&value)
                .map_err(|e| Failure::Format { format: "JSON", reason: e.to_string() })?;
            format!("{text}\n")
        }
    };
    out.answer(&text);
    Ok(Exit::Yes)
}

fn data(matrix: &Matrix, by: By, objects: &Objects) -> Value {
    let mut items = Vec::new();
    for (src, row) in matrix.parties.iter().zip(&matrix.cells) {
        for (dst, cell) in matrix.parties.iter().zip(row) {
            if let Some(reach) = cell {
                items.push(json!({
                    "src": src.full(),
                    "dst": dst.full(),
                    "conn": render::matrix::conn(reach),
                    "admits": reach_data(reach),
                }));
            }
        }
    }
    let mut out = json!({"apiVersion": API_VERSION, "kind": "Matrix", "by": by, "items": items});
    match &objects.origin {
        Origin::Server { revision } => out["revision"] = (*revision).into(),
        Origin::Files { .. } => out["offline"] = true.into(),
    }
    out
}

fn compute(objects: &Objects, by: By, namespace: Option<&str>) -> Matrix {
    let world = &objects.world;
    let blocks = blocks(world);
    // Pods that no policy can tell apart stand in for each other: two of each kind are enough, as one may meet the other.
    let mut parties: BTreeMap<Party, BTreeMap<Sign, Vec<PodKey>>> = BTreeMap::new();
    for pod in world.endpoints() {
        if namespace.is_some_and(|n| *n != *pod.namespace) {
            continue;
        }
        let signs = parties.entry(party(objects, by, pod)).or_default();
        let same = signs.entry(sign(&blocks, pod)).or_default();
        if same.len() < 2 {
            same.push(pod.key());
        }
    }
    let mut groups: Vec<(Party, Vec<Candidate>)> = parties
        .into_iter()
        .map(|(party, signs)| (party, signs.into_values().flatten().map(Candidate::Pod).collect()))
        .collect();
    let outside = analyze::outside_addresses(world).into_iter().map(Candidate::Address).collect();
    groups.push((Party::World, outside));

    let cell = |from: &(Party, Vec<Candidate>), to: &(Party, Vec<Candidate>)| {
        if from.0 == Party::World && to.0 == Party::World {
            return Some(Reach::default());
        }
        let mut out: Option<Reach> = None;
        for a in &from.1 {
            for b in &to.1 {
                if matches!((a, b), (Candidate::Pod(a), Candidate::Pod(b)) if a == b) {
                    continue;
                }
                let sum = out.get_or_insert_default();
                for connection in connections(world, a, b) {
                    sum.union(&analyze::reach(world, &connection));
                }
            }
        }
        out
    };
    let cells =
        groups.iter().map(|from| groups.iter().map(|to| cell(from, to)).collect()).collect();
    Matrix { parties: groups.into_iter().map(|(party, _)| party).collect(), cells }
}

/// As of two ends with their families; a pod whose address is not known may meet any outside address.
fn connections(world: &World, a: &Candidate, b: &Candidate) -> Vec<Connection> {
    let found = resolve::connections(world, a, b);
    if !found.is_empty() {
        return found;
    }
    let end = |c: &Candidate| match c {
        Candidate::Pod(key) if world.pod(key).is_some_and(|p| p.addresses.is_empty()) => {
            Some(End::Pod { key: key.clone(), address: None })
        }
        Candidate::Address(address) => Some(End::External(*address)),
        _ => None,
    };
    let pair = end(a).zip(end(b));
    let l4 = L4::Other { ip_protocol: 1 };
    pair.map(|(src, dst)| Connection { src, dst, l4, via_service: false }).into_iter().collect()
}

fn party(objects: &Objects, by: By, pod: &Pod) -> Party {
    match by {
        By::Namespace => Party::Namespace(pod.namespace.to_string()),
        By::Pod => Party::Workload(pod.namespace.to_string(), pod.name.to_string(), Kind::Pod),
        By::Workload => {
            let w = objects.workload(&pod.key());
            Party::Workload(w.namespace.to_string(), w.name.to_string(), w.kind)
        }
    }
}

/// Everything about a pod that a policy can ask for.
type Sign = (ProfileId, Vec<(bool, Vec<bool>)>);

fn sign(blocks: &BTreeSet<&IpBlock>, pod: &Pod) -> Sign {
    let of_address =
        |a: &std::net::IpAddr| (a.is_ipv6(), blocks.iter().map(|b| b.contains(*a)).collect());
    (pod.profile().id(), pod.addresses.iter().map(of_address).collect())
}

fn blocks(world: &World) -> BTreeSet<&IpBlock> {
    let rules = world.policies.values().flat_map(|o| &o.policy.rules);
    rules
        .filter_map(|r| match &r.rule.peers {
            Peers::Of { blocks, .. } => Some(blocks),
            Peers::Any => None,
        })
        .flatten()
        .collect()
}
