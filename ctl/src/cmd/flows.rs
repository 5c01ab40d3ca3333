//! `weirctl flows`.

use std::path::{Path, PathBuf};

use rust_openflow::text::{FlowText, Names, flow_mod, instructions, matching, parse_flow};
use rust_openflow::{Action, Field, Instruction};
use serde_json::{Value, json};

use super::why::API_VERSION;
use crate::annotate::explain;
use crate::annotate::filter::{Filter, Selection, packets};
use crate::annotate::layout;
use crate::annotate::symbols::Symbols;
use crate::annotate::{Note, annotate};
use crate::args::SourceArgs;
use crate::args::flows::{FlowsArgs, FlowsFormat};
use crate::exit::{Exit, Failure};
use crate::out::Out;
use crate::render;
use crate::source::nodes::Nodes;
use crate::source::switch;

const DEFAULT_SWITCH: &str = "unix:/var/run/openvswitch/br-int.mgmt";
const DEFAULT_SYMBOLS: &str = "/var/lib/weir/symbols.jsonl";

/// A flow and what is known of it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) flow: FlowText,
    pub(crate) note: Note,
}

impl Line {
    pub(crate) fn packets(&self) -> Option<u64> {
        packets(&self.flow, &self.note)
    }

    /// As `ovs-ofctl dump-flows --names` prints it, with its note as a comment.
    pub(crate) fn ofctl(&self) -> String {
        let names = table_names();
        let mut text = flow_mod(&self.flow.clone().into_add(), &names);
        if let Some(stats) = self.flow.stats {
            let table = format!("table={}, ", layout::table_name(self.flow.table));
            let counters = format!("{table}n_packets={}, n_bytes={}, ", stats.packets, stats.bytes);
            text = text.replacen(&table, &counters, 1);
        }
        format!(" {text}{}{}", explain::MARK, self.note.sentence())
    }

    fn data(&self) -> Value {
        let rules: Vec<Value> = self
            .note
            .rules
            .iter()
            .map(|r| {
                json!({
                    "kind": r.kind, "namespace": r.namespace, "name": r.name,
                    "generation": r.generation, "rule": r.at,
                })
            })
            .collect();
        let names = table_names();
        let bytes = self.packets().and(self.flow.stats).map(|s| s.bytes);
        json!({
            "table": layout::table_name(self.flow.table),
            "tableId": self.flow.table,
            "priority": self.flow.priority,
            "cookie": format!("0x{:016x}", self.flow.cookie),
            "match": matching(&self.flow.match_, &names),
            "actions": instructions(&self.flow.instructions, &names),
            "packets": self.packets(),
            "bytes": bytes,
            "owner": self.note.owner.as_str(),
            "what": self.note.what,
            "id": self.note.id.map(|id| format!("{id:08x}")),
            "rules": rules,
            "peer": self.note.peer,
            "endpoints": self.note.endpoints,
        })
    }
}

fn table_names() -> Names {
    Names {
        tables: layout::TABLES.iter().map(|(n, name, _)| (*n, (*name).to_owned())).collect(),
        ..Names::default()
    }
}

/// Where flows were read, and which of them are meant.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) node: Option<String>,
    pub(crate) bridge: Option<String>,
    pub(crate) ovs: Option<String>,
    pub(crate) revision: Option<u64>,
    /// Flows of the bridge.
    pub(crate) all: usize,
    pub(crate) lines: Vec<Line>,
}

/// What a source yields.
struct Source {
    flows: Vec<FlowText>,
    symbols: Symbols,
    listing: Listing,
}

pub(crate) async fn run(args: FlowsArgs, out: &mut Out<'_>) -> Result<Exit, Failure> {
    if let Some(file) = &args.explain {
        return explain_text(&args, file, out).await;
    }
    // what cannot be an id whatever the symbols say needs no switch
    rule(&args, |_| true)?;
    let Source { flows, symbols, mut listing } = read(&args, out).await?;
    let filter = filter(&args, &symbols)?;
    listing.all = flows.len();
    listing.lines = lines(flows, &symbols, &filter);
    let text = match args.output {
        FlowsFormat::Table => render::flows::table(&listing, !args.no_headers),
        FlowsFormat::Ofctl => render::flows::ofctl(&listing),
        FlowsFormat::Json => render::columns::json(&data(&listing)),
    };
    out.answer(&text);
    if listing.lines.is_empty() {
        out.remark("no flow matches");
        return Ok(Exit::No);
    }
    Ok(Exit::Yes)
}

/// The flows a filter keeps, in the order in which packets meet them.
pub(crate) fn lines(mut flows: Vec<FlowText>, symbols: &Symbols, filter: &Filter) -> Vec<Line> {
    flows.sort_by_cached_key(|f| (f.table, u16::MAX - f.priority, of_rule(f), f.match_.clone()));
    let selection = Selection::new(filter, symbols, &flows);
    let keep: Vec<(bool, Note)> = flows
        .iter()
        .map(|flow| {
            let note = annotate(flow, symbols);
            (selection.keeps(flow, &note), note)
        })
        .collect();
    flows
        .into_iter()
        .zip(keep)
        .filter(|(_, (kept, _))| *kept)
        .map(|(flow, (_, note))| Line { flow, note })
        .collect()
}

/// Brings the flows of a rule together: its clauses in their order, then the flow they end in.
fn of_rule(flow: &FlowText) -> Option<(u32, u8)> {
    if let Some(id) = flow.match_.exact(Field::ConjId) {
        return Some((u32::try_from(id).ok()?, u8::MAX));
    }
    let actions = flow.instructions.iter().filter_map(|i| match i {
        Instruction::ApplyActions(list) => Some(list),
        _ => None,
    });
    let clauses = actions.flatten().filter_map(|a| match a {
        Action::Conjunction { id, clause, .. } => Some((*id, *clause)),
        _ => None,
    });
    clauses.min()
}

/// The id after `--rule`; `known` tells which of two readings is meant.
fn rule(args: &FlowsArgs, known: impl Fn(u32) -> bool) -> Result<Option<u32>, Failure> {
    let Some(text) = &args.rule else {
        return Ok(None);
    };
    layout::read_id(text, known).map(Some).ok_or_else(|| {
        Failure::Usage(format!("--rule {text}: write 8 hex digits, or decimal as conj_id has it"))
    })
}

fn filter(args: &FlowsArgs, symbols: &Symbols) -> Result<Filter, Failure> {
    let rule = rule(args, |id| symbols.knows(id))?;
    let pod = match &args.pod {
        None => None,
        Some(text) => {
            let name = if text.contains('/') { text.clone() } else { format!("default/{text}") };
            if symbols.pod(&name).is_none() {
                let hint = "; this node knows its own pods and those its policies name".to_owned();
                return Err(Failure::NotFound { what: "pod", name, hint });
            }
            Some(name)
        }
    };
    Ok(Filter {
        pod,
        policy: args.policy.clone(),
        rule,
        class: args.class,
        table: args.table,
        owner: args.owner,
        counters: args.counters,
    })
}

async fn read(args: &FlowsArgs, out: &mut Out<'_>) -> Result<Source, Failure> {
    if let (Some(server), None) = (&args.server.server, &args.switch) {
        let Some(node) = &args.node else {
            return Err(Failure::Usage(
                "--server needs --node: flows are those of one node".into(),
            ));
        };
        return through_controller(args, server, node, out).await;
    }
    if args.node.is_some() {
        return Err(Failure::Usage(
            "--node needs --server; without it, flows of this host are read from its switch".into(),
        ));
    }
    let dump = switch::dump(args.switch.as_deref().unwrap_or(DEFAULT_SWITCH)).await?;
    let symbols = symbols_of(args.symbols.as_deref(), out).await?;
    let listing = Listing {
        bridge: Some(dump.bridge).filter(|b| !b.is_empty()),
        ovs: Some(dump.ovs),
        ..Listing::default()
    };
    Ok(Source { flows: dump.flows, symbols, listing })
}

async fn through_controller(
    args: &FlowsArgs,
    server: &str,
    node: &str,
    out: &mut Out<'_>,
) -> Result<Source, Failure> {
    let asked = Nodes::connect(server, &SourceArgs::from(&args.server)).await?;
    let text = asked.ask(node, "flows").await?;
    let symbols = match &args.symbols {
        Some(path) => symbols_of(Some(path), out).await?,
        None => Symbols::read(&asked.ask(node, "symbols").await?)
            .map_err(|e| Failure::Usage(format!("{node}: {e}")))?,
    };
    let mut flows = Vec::new();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        match parse_flow(line) {
            Ok(flow) => flows.push(flow),
            Err(error) => out.remark(&format!("warning: left out: {error}: {line}")),
        }
    }
    let mut listing = Listing { node: Some(node.to_owned()), ..Listing::default() };
    let status = asked.status().await?;
    if let Some(n) = status.nodes.iter().find(|n| n.name == node) {
        listing.ovs = Some(n.ovs_version.clone()).filter(|v| !v.is_empty());
        listing.revision = Some(n.revision);
    }
    // only the agent knows which bridge it is; without a word of it the name is left out
    if let Ok(state) = asked.ask(node, "state").await {
        let bridge = state.lines().find_map(|line| line.strip_prefix("bridge: "));
        listing.bridge = bridge.and_then(|b| b.split(' ').next()).map(str::to_owned);
    }
    Ok(Source { flows, symbols, listing })
}

/// Reads symbols; without a name those of this host's agent, if there are any.
async fn symbols_of(path: Option<&Path>, out: &mut Out<'_>) -> Result<Symbols, Failure> {
    let named = path.is_some();
    let path = path.unwrap_or_else(|| Path::new(DEFAULT_SYMBOLS));
    let text = match tokio::fs::read_to_string(path).await {
        Ok(text) => text,
        Err(_) if !named => {
            out.remark(&format!(
                "warning: {DEFAULT_SYMBOLS} cannot be read: numbers stay numbers (--symbols FILE)"
            ));
            return Ok(Symbols::default());
        }
        Err(source) => return Err(Failure::File { path: path.to_owned(), source }),
    };
    Symbols::read(&text).map_err(|e| Failure::Usage(format!("{}: {e}", path.display())))
}

async fn explain_text(
    args: &FlowsArgs,
    file: &PathBuf,
    out: &mut Out<'_>,
) -> Result<Exit, Failure> {
    let symbols = match (&args.symbols, &args.server.server) {
        (None, Some(_)) => {
            return Err(Failure::Usage(
                "--explain reads symbols from a file: --symbols FILE".into(),
            ));
        }
        (path, _) => symbols_of(path.as_deref(), out).await?,
    };
    let failed = |source| Failure::File { path: file.clone(), source };
    let text = if file.as_os_str() == "-" {
        tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()))
            .await
            .map_err(|e| failed(std::io::Error::other(e)))?
    } else {
        tokio::fs::read_to_string(file).await
    }
    .map_err(failed)?;
    let names = explain::names(&symbols);
    let answer = match args.output {
        FlowsFormat::Json => {
            let items: Vec<Value> = text
                .lines()
                .map(|l| json!({"text": l, "note": explain::note(l, &symbols, &names)}))
                .collect();
            render::columns::json(
                &json!({"apiVersion": API_VERSION, "kind": "Explanation", "lines": items}),
            )
        }
        FlowsFormat::Table | FlowsFormat::Ofctl => {
            text.lines().map(|l| explain::line(l, &symbols, &names) + "\n").collect()
        }
    };
    out.answer(&answer);
    Ok(Exit::Yes)
}

fn data(listing: &Listing) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "FlowList",
        "node": listing.node,
        "bridge": listing.bridge,
        "ovsVersion": listing.ovs,
        "revision": listing.revision,
        "total": listing.all,
        "items": listing.lines.iter().map(Line::data).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
