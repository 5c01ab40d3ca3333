//! `weirctl why`.

use serde::Serialize;
use serde_json::{Value, json};
use weir_policy::analyze::{self, Reach};
use weir_policy::eval::{Connection, End};
use weir_policy::explain::{self, Answer, Note, RuleWhy, SideWhy, Who, Why};
use weir_policy::port::Protocol;
use weir_policy::rule::Direction;

use super::resolve;
use crate::args::{WhyArgs, WhyFormat};
use crate::exit::{Exit, Failure};
use crate::names::{Name, Question};
use crate::out::Out;
use crate::render;
use crate::source::nodes::Nodes;
use crate::source::{self, Objects, Origin};

mod switch;

pub(crate) use switch::SwitchWhy;

/// One answer and the pairs it holds for.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) why: Why,
    /// Without a port: what each end and both together let through.
    pub(crate) ports: Option<Ports>,
    /// With `--all`: every rule, egress and ingress.
    pub(crate) rules: Option<[Vec<RuleWhy>; 2]>,
    /// What the switches at both ends say, the one that matters most first. Online, with a port.
    pub(crate) switches: Vec<SwitchWhy>,
    /// Further pairs of the same answer.
    pub(crate) also: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) egress: Reach,
    pub(crate) ingress: Reach,
    pub(crate) both: Reach,
}

/// Where the answers come from, for the last line.
#[derive(Debug)]
pub(crate) struct Offline {
    pub(crate) objects: usize,
    pub(crate) names: String,
    pub(crate) policies: usize,
    pub(crate) workloads: usize,
    pub(crate) addresses_unknown: bool,
}

pub(crate) async fn run(args: WhyArgs, out: &mut Out<'_>) -> Result<Exit, Failure> {
    let question = Question::parse(&args.ends)?;
    let mut objects = source::read(&args.source, out).await?;
    for (name, address) in &args.addresses {
        set_address(&mut objects, name, *address, &args.namespace)?;
    }
    let mut blocks = blocks(&objects, &question, &args)?;
    if let Some(server) = &args.source.server {
        let nodes = Nodes::connect(server, &args.source).await?;
        switch::ask(&mut blocks, &objects, &nodes).await;
    }
    let offline = offline(&objects);
    let text = match args.output {
        WhyFormat::Text => render::why::text(&blocks, offline.as_ref()),
        WhyFormat::Json => {
            let value = data(&blocks, &objects);
            format!("{}\n", serde_json::to_string_pretty(&value).map_err(|e| format("JSON", &e))?)
        }
        WhyFormat::Yaml => {
            let value = data(&blocks, &objects);
            serde_saphyr::to_string(&value).map_err(|e| format("YAML", &e))?
        }
    };
    out.answer(&text);
    if blocks.iter().flat_map(|b| &b.switches).any(|s| s.agrees == Some(false)) {
        return Ok(Exit::Disagree);
    }
    Ok(Exit::of(blocks.iter().map(|b| b.why.verdict)))
}

fn format(format: &'static str, error: &dyn std::fmt::Display) -> Failure {
    Failure::Format { format, reason: error.to_string() }
}

fn set_address(
    objects: &mut Objects,
    name: &str,
    address: std::net::IpAddr,
    namespace: &str,
) -> Result<(), Failure> {
    let question = Question::parse(&[name.to_owned(), name.to_owned()])?;
    let target = resolve::target(objects, &question.src, namespace)?;
    for end in target.ends {
        if let resolve::Candidate::Pod(key) = end
            && let Some(pod) = objects.world.pod_mut(&key)
        {
            pod.addresses = vec![address];
        }
    }
    Ok(())
}

/// An answer for each pair of ends, equal ones put together.
fn blocks(objects: &Objects, question: &Question, args: &WhyArgs) -> Result<Vec<Block>, Failure> {
    let world = &objects.world;
    let src = resolve::target(objects, &question.src, &args.namespace)?;
    let dst = resolve::target(objects, &question.dst, &args.namespace)?;
    let mut blocks: Vec<(String, Block)> = Vec::new();
    let single = src.ends.len() == 1 && dst.ends.len() == 1;
    let mut no_family = false;
    for a in &src.ends {
        for b in &dst.ends {
            let connections = resolve::connections(world, a, b);
            no_family |= connections.is_empty();
            // one family answers where nobody asked for the other
            let families = if matches!(question.dst, Name::Address(_)) { 2 } else { 1 };
            for mut connection in connections.into_iter().take(families) {
                connection.via_service = dst.service.is_some();
                if !single && dst.service.is_none() && same_pod(&connection) {
                    continue;
                }
                if let Some(port) = question.port {
                    match resolve::l4(objects, dst.service.as_ref(), &connection.dst, port)? {
                        Some(l4) => connection.l4 = l4,
                        None => continue,
                    }
                }
                add(&mut blocks, one(objects, &connection, question.port.is_none(), args.all));
            }
        }
    }
    if blocks.is_empty() {
        let reason = if no_family {
            "have no address of one family"
        } else {
            "are one pod, or no endpoint has the port"
        };
        return Err(Failure::Usage(format!("{} and {} {reason}", question.src, question.dst)));
    }
    let mut blocks: Vec<Block> = blocks.into_iter().map(|(_, b)| b).collect();
    if dst.service.is_some() {
        for block in &mut blocks {
            block.why.notes.push(Note {
                code: "service",
                text: "policy sees the endpoint and its port, not the Service's address and port"
                    .to_owned(),
            });
        }
    }
    Ok(blocks)
}

fn same_pod(connection: &Connection) -> bool {
    matches!((&connection.src, &connection.dst), (End::Pod { key: a, .. }, End::Pod { key: b, .. }) if a == b)
}

fn one(objects: &Objects, connection: &Connection, no_port: bool, all: bool) -> Block {
    let world = &objects.world;
    let mut why = explain::why(world, connection);
    let ports = no_port.then(|| Ports {
        egress: analyze::side(world, connection, Direction::Egress),
        ingress: analyze::side(world, connection, Direction::Ingress),
        both: analyze::reach(world, connection),
    });
    if let Some(ports) = &ports {
        why.verdict = match (ports.both.surely.is_empty(), ports.both.possibly.is_empty()) {
            (false, _) => Answer::Allowed,
            (true, false) => Answer::Undecided,
            (true, true) => Answer::Denied,
        };
    }
    let rules = all.then(|| {
        [Direction::Egress, Direction::Ingress].map(|d| explain::rules(world, connection, d))
    });
    Block { why, ports, rules, switches: Vec::new(), also: Vec::new() }
}

/// Joins the block of the same answer, if there is one.
fn add(blocks: &mut Vec<(String, Block)>, block: Block) {
    let why = &block.why;
    let key = format!(
        "{:?} {:?} {} {:?} {:?} {:?}",
        why.verdict,
        why.port,
        why.protocol,
        side_key(&why.egress),
        side_key(&why.ingress),
        block.ports.as_ref().map(|p| format!("{:?}", p.both)),
    );
    let pair = (why.src.name(), why.dst.name());
    match blocks.iter_mut().find(|(k, _)| *k == key) {
        Some((_, there)) => there.also.push(pair),
        None => blocks.push((key, block)),
    }
}

/// What makes two answers of one end the same; which replica it is does not.
fn side_key(side: &SideWhy) -> String {
    let miss = side.nearest_miss.as_ref().map(|m| {
        let terms: Vec<_> = m.terms.iter().map(|t| (&t.term, t.ok, &t.want, &t.have)).collect();
        format!("{:?} {} {terms:?}", m.id, m.place())
    });
    format!("{} {:?} {miss:?}", side.text, side.isolated_by)
}

fn offline(objects: &Objects) -> Option<Offline> {
    let Origin::Files { names, objects: count } = &objects.origin else {
        return None;
    };
    Some(Offline {
        objects: *count,
        names: names.join(" "),
        policies: objects.world.policies.len(),
        workloads: objects.workload_count(),
        addresses_unknown: objects.world.endpoints().any(|p| p.addresses.is_empty()),
    })
}

/// Of every JSON object that weirctl writes.
pub(crate) const API_VERSION: &str = "weir.io/v1alpha1";

/// `WhyResult`, or `WhyResultList` for several answers.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    One(Box<WhyResult<'a>>),
    #[serde(rename_all = "camelCase")]
    List {
        api_version: &'static str,
        kind: &'static str,
        items: Vec<WhyResult<'a>>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WhyResult<'a> {
    api_version: &'static str,
    kind: &'static str,
    certainty: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    offline: bool,
    #[serde(flatten)]
    body: Body<'a>,
    /// The switch that decides, or that disagrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    switch: Option<&'a SwitchWhy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Connection(&'a Why),
    Ports {
        verdict: Answer,
        src: &'a Who,
        dst: &'a Who,
        admits: Value,
        egress: Value,
        ingress: Value,
        notes: &'a [Note],
    },
}

fn data<'a>(blocks: &'a [Block], objects: &Objects) -> Data<'a> {
    let mut items: Vec<WhyResult<'a>> = blocks.iter().map(|b| result(b, objects)).collect();
    match items.pop() {
        Some(one) if items.is_empty() => Data::One(Box::new(one)),
        last => {
            items.extend(last);
            Data::List { api_version: API_VERSION, kind: "WhyResultList", items }
        }
    }
}

fn result<'a>(block: &'a Block, objects: &Objects) -> WhyResult<'a> {
    let why = &block.why;
    let body = match &block.ports {
        None => Body::Connection(why),
        Some(ports) => {
            let side = |s: &SideWhy, reach| {
                json!({
                    "text": s.text,
                    "isolated": s.isolated,
                    "isolatedBy": s.isolated_by,
                    "admits": reach_data(reach),
                })
            };
            Body::Ports {
                verdict: why.verdict,
                src: &why.src,
                dst: &why.dst,
                admits: reach_data(&ports.both),
                egress: side(&why.egress, &ports.egress),
                ingress: side(&why.ingress, &ports.ingress),
                notes: &why.notes,
            }
        }
    };
    let revision = match &objects.origin {
        Origin::Server { revision } => Some(*revision),
        Origin::Files { .. } => None,
    };
    WhyResult {
        api_version: API_VERSION,
        kind: "WhyResult",
        certainty: if why.verdict == Answer::Undecided { "undecided" } else { "exact" },
        revision,
        offline: revision.is_none(),
        body,
        switch: block.switches.first(),
        rules: block.rules.as_ref().map(|[e, i]| json!({"egress": e, "ingress": i})),
        also: block.also.iter().map(|(a, b)| json!({"src": a, "dst": b})).collect(),
    }
}

/// Ranges of ports per protocol, and `other` for protocols without ports.
pub(crate) fn reach_data(reach: &Reach) -> Value {
    let mut out = json!({"other": reach.surely.others(), "exact": reach.is_exact()});
    for protocol in Protocol::ALL {
        out[protocol.lower()] = json!(reach.surely.ranges(protocol));
    }
    out
}
