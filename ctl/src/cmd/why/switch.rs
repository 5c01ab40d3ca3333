//! What the switches say of a connection that the policies have been asked about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_policy::explain::{Answer, Who, Why};

use super::Block;
use crate::annotate::layout::{Cookie, FIRST_ID, Kind};
use crate::source::nodes::Nodes;
use crate::source::{Objects, Origin};

/// What an agent answers to `verdict`: how its switch's own flows treat the first packet.
#[derive(Debug, Deserialize)]
struct Reply {
    #[serde(default)]
    revision: Option<u64>,
    passes: bool,
    path: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    table: String,
    cookie: String,
    packets: u64,
    age: u32,
}

impl Step {
    fn cookie(&self) -> Option<Cookie> {
        let hex = self.cookie.strip_prefix("0x")?;
        Cookie::read(u64::from_str_radix(hex, 16).ok()?)
    }
}

/// One switch beside the policies.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SwitchWhy {
    pub(crate) node: String,
    /// Absent: the switch could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agrees: Option<bool>,
    pub(crate) passes: bool,
    /// The rule that allows, or the isolation set that drops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// The table of the flow that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<String>,
    /// Of that flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) packets: Option<u64>,
    /// How long that flow has been there. Units: seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) age_seconds: Option<u32>,
    /// The state of the agent, where it is not the one that the policies were read at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<u64>,
    /// A flow on the way is not Weir's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) foreign: bool,
    /// Why the switch could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip)]
    pub(crate) decides: bool,
}

/// Asks the switches about each answer that concerns one connection. Offline, and without a port, nobody is asked.
pub(super) async fn ask(blocks: &mut [Block], objects: &Objects, nodes: &Nodes) {
    let Origin::Server { revision } = &objects.origin else {
        return;
    };
    for block in blocks.iter_mut().filter(|b| b.ports.is_none()) {
        let why = &block.why;
        let (Some(query), false) = (query(why), why.verdict == Answer::Undecided) else {
            continue;
        };
        let mut says = Vec::new();
        for (node, wanted) in ends(why, objects) {
            says.push(match nodes.ask(&node, &query).await {
                Ok(text) => compare(node, wanted, &text, *revision),
                Err(error) => unanswered(node, error.to_string()),
            });
        }
        // a switch that disagrees is the news; then the one that decided
        says.sort_by_key(|s| (s.agrees != Some(false), !s.decides));
        block.switches = says;
    }
    let mut says: Vec<&mut SwitchWhy> = blocks.iter_mut().flat_map(|b| &mut b.switches).collect();
    says.retain(|s| s.revision.is_some());
    if says.is_empty() {
        return;
    }
    // A node's revision is that of the last change which was for it; nodes that no later one concerns have everything.
    // Where the controller does not say which those are, the difference stays a remark.
    if let Ok(status) = nodes.status().await {
        let current = |node: &str| {
            let node = status.nodes.iter().find(|n| n.name == node);
            node.is_some_and(|n| n.connected && n.revision == status.revision)
        };
        for says in says.into_iter().filter(|s| current(&s.node)) {
            says.revision = None;
        }
    }
}

/// `verdict SRC DST PROTOCOL PORT`; none where it is no connection between two addresses.
fn query(why: &Why) -> Option<String> {
    let (src, dst) = (why.src.ip?, why.dst.ip?);
    let protocol = match why.protocol.as_str() {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        "icmp" => 1,
        "icmp6" => 58,
        number => number.parse::<u8>().ok()?,
    };
    (src != dst).then(|| format!("verdict {src} {dst} {protocol} {}", why.port.unwrap_or(0)))
}

/// The nodes of the pods at both ends, and whether the policies let the connection pass there.
fn ends(why: &Why, objects: &Objects) -> BTreeMap<String, bool> {
    let mut out = BTreeMap::new();
    for (who, side) in [(&why.src, &why.egress), (&why.dst, &why.ingress)] {
        if let Some(node) = home(who, objects) {
            *out.entry(node).or_insert(true) &= side.verdict == Answer::Allowed;
        }
    }
    out
}

/// The node whose switch has a port for this end.
fn home(who: &Who, objects: &Objects) -> Option<String> {
    let (namespace, name) = (who.namespace.as_deref()?, who.pod.as_deref()?);
    let pod = objects.world.pod(&(namespace.into(), name.into()))?;
    (!pod.host_network && !pod.node.is_empty()).then(|| pod.node.to_string())
}

fn unanswered(node: String, error: String) -> SwitchWhy {
    SwitchWhy {
        node,
        agrees: None,
        passes: false,
        id: None,
        table: None,
        packets: None,
        age_seconds: None,
        revision: None,
        foreign: false,
        error: Some(error),
        decides: false,
    }
}

fn compare(node: String, wanted: bool, text: &str, revision: u64) -> SwitchWhy {
    let reply: Reply = match serde_json::from_str(text) {
        Ok(reply) => reply,
        Err(error) => return unanswered(node, format!("an answer that cannot be read: {error}")),
    };
    // where it ends, or the last rule that allows on the way
    let allows = |step: &&Step| step.cookie().is_some_and(|c| c.kind == Kind::Allow);
    let decisive =
        if reply.passes { reply.path.iter().rev().find(allows) } else { reply.path.last() };
    let id = decisive.and_then(Step::cookie).map(|c| c.id).filter(|id| *id >= FIRST_ID);
    SwitchWhy {
        agrees: Some(reply.passes == wanted),
        passes: reply.passes,
        id: id.map(|id| format!("{id:08x}")),
        table: decisive.map(|s| s.table.clone()),
        packets: decisive.map(|s| s.packets),
        age_seconds: decisive.map(|s| s.age),
        revision: reply.revision.filter(|r| *r != revision),
        foreign: reply.path.iter().any(|s| s.cookie().is_none()),
        error: None,
        decides: decisive.is_some(),
        node,
    }
}
