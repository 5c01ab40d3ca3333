//! Reasons as people ask for them: which rule admits a connection, or which one nearly does and what it lacks.
//!
//! The verdict is [`crate::eval`]'s; this module only takes it apart. Every rule is a list of terms (subject, peer,
//! port), each of which holds or fails with what was wanted and what is there. Field names are those of
//! `weirctl why -o json`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::eval::{self, Connection, End, L4, Party, Reason, Side};
use crate::ids::{PolicyKey, RuleId};
use crate::labels::Requirement;
use crate::rule::{Direction, PolicyObject, PolicyRule, isolation_set};
use crate::world::{Pod, World};

mod change;
mod terms;

pub use change::Change;
pub use terms::Term;

/// What an end or a connection comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Allowed,
    Denied,
    /// It depends on an address that is not known.
    Undecided,
}

impl Answer {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Undecided => "undecided",
        }
    }

    fn of(side: &Side) -> Self {
        match side.reason {
            _ if side.allowed => Self::Allowed,
            Reason::Undecided(_) => Self::Undecided,
            _ => Self::Denied,
        }
    }
}

/// The explanation of one connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    pub verdict: Answer,
    pub src: Who,
    pub dst: Who,
    /// Destination port at the pod; none for protocols without ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, or the IP protocol number.
    pub protocol: String,
    pub egress: SideWhy,
    pub ingress: SideWhy,
    pub notes: Vec<Note>,
}

/// One end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Who {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Who {
    fn of(world: &World, end: &End) -> Self {
        match end {
            End::External(address) => Self { ip: Some(*address), ..Self::default() },
            End::Node { name, address } => {
                Self { ip: Some(*address), node: Some(name.to_string()), ..Self::default() }
            }
            End::Pod { key: (namespace, name), address } => Self {
                namespace: Some(namespace.to_string()),
                pod: Some(name.to_string()),
                ip: *address,
                node: world
                    .pod(&(namespace.clone(), name.clone()))
                    .filter(|p| !p.node.is_empty())
                    .map(|p| p.node.to_string()),
            },
        }
    }

    /// `shop/web-1`, `node/n1`, or the address.
    pub fn name(&self) -> String {
        match (&self.namespace, &self.pod, &self.node, self.ip) {
            (Some(namespace), Some(pod), _, _) => format!("{namespace}/{pod}"),
            (_, _, Some(node), _) => format!("node/{node}"),
            (_, _, _, Some(ip)) => ip.to_string(),
            _ => "unknown".to_owned(),
        }
    }
}

/// What one end says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SideWhy {
    pub verdict: Answer,
    /// The deciding fact as a sentence.
    pub text: String,
    pub isolated: bool,
    /// The number that drops of this pod and direction carry where default-deny ends them.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "id_text")]
    pub isolation_set: Option<RuleId>,
    pub isolated_by: Vec<PolicyRef>,
    pub allowed_by: Vec<RuleWhy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<RuleWhy>,
    /// What would admit the connection at this end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// A policy, with what it weighs in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub generation: i64,
    /// How many rules it has in the direction.
    pub rules: usize,
}

impl PolicyRef {
    fn of(object: &PolicyObject, direction: Direction) -> Self {
        let PolicyKey { namespace, name, .. } = &object.policy.key;
        let rules = object.policy.rules.iter().filter(|r| r.rule.direction == direction);
        Self {
            kind: "NetworkPolicy",
            namespace: namespace.to_string(),
            name: name.to_string(),
            generation: object.policy.generation,
            rules: rules.count(),
        }
    }

    /// `default-deny (gen 1, no ingress rules)`.
    pub fn sentence(&self, direction: Direction) -> String {
        let rules = match self.rules {
            0 => format!("no {direction} rules"),
            1 => format!("1 {direction} rule"),
            n => format!("{n} {direction} rules"),
        };
        format!("{} (gen {}, {rules})", self.name, self.generation)
    }
}

/// One rule and how its terms fare with the connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleWhy {
    #[serde(serialize_with = "id_text")]
    pub id: Option<RuleId>,
    pub policy: PolicyRef,
    /// `ingress[0]`.
    pub rule: String,
    pub terms: Vec<Term>,
}

impl RuleWhy {
    /// Terms that do not hold, or are not known to.
    pub fn failing(&self) -> usize {
        self.terms.iter().filter(|t| t.ok != Some(true)).count()
    }

    /// `shop/db-from-api ingress[0]`.
    pub fn place(&self) -> String {
        format!("{}/{} {}", self.policy.namespace, self.policy.name, self.rule)
    }

    /// Terms that fail, and terms that are not known to hold.
    fn distance(&self) -> (usize, usize) {
        let count = |ok| self.terms.iter().filter(|t| t.ok == ok).count();
        (count(Some(false)), count(None))
    }

    /// `from[0] app=api, port[0] tcp/5432`: what it admits, the subject left out.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        let mut before = "subject";
        for term in self.terms.iter().filter(|t| t.item() != "subject") {
            if term.item() != before {
                let comma = if out.is_empty() { "" } else { ", " };
                out.push_str(&format!("{comma}{} {}", term.item(), term.want));
            } else if term.kind() == "except" {
                out.push_str(&format!(" except {}", term.want));
            } else {
                out.push_str(&format!(" and {}", term.want));
            }
            before = term.item();
        }
        out
    }
}

fn id_text<S: Serializer>(id: &Option<RuleId>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

/// Something that surprises people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    pub code: &'static str,
    pub text: String,
}

/// Explains the verdict on one connection.
pub fn why(world: &World, connection: &Connection) -> Why {
    let verdict = eval::verdict(world, connection);
    let (port, protocol) = match connection.l4 {
        L4::Port { protocol, dport } => (Some(dport), protocol.lower().to_owned()),
        L4::Other { ip_protocol: 1 } => (None, "icmp".to_owned()),
        L4::Other { ip_protocol: 58 } => (None, "icmp6".to_owned()),
        L4::Other { ip_protocol } => (None, ip_protocol.to_string()),
    };
    let egress = side(world, connection, Direction::Egress, &verdict.egress);
    let ingress = side(world, connection, Direction::Ingress, &verdict.ingress);
    let overall = match (egress.verdict, ingress.verdict) {
        (Answer::Denied, _) | (_, Answer::Denied) => Answer::Denied,
        (Answer::Undecided, _) | (_, Answer::Undecided) => Answer::Undecided,
        _ => Answer::Allowed,
    };
    let mut why = Why {
        verdict: overall,
        src: Who::of(world, &connection.src),
        dst: Who::of(world, &connection.dst),
        port,
        protocol,
        egress,
        ingress,
        notes: Vec::new(),
    };
    why.notes = notes(world, connection, &verdict, &why);
    why
}

/// Every rule of a direction that could concern the connection: those of the policies in the namespace of this end's
/// pod, whether they select it or not, the nearest first.
pub fn rules(world: &World, connection: &Connection, direction: Direction) -> Vec<RuleWhy> {
    let (this, other) = ends(world, connection, direction);
    let Some(pod) = this.pod() else {
        return Vec::new();
    };
    let mut out: Vec<((usize, usize), bool, u128, RuleWhy)> = Vec::new();
    let policies = world.policies.values().filter(|o| o.policy.key.namespace == pod.namespace);
    for object in policies {
        for (n, rule) in object.policy.rules.iter().enumerate() {
            if rule.rule.direction != direction {
                continue;
            }
            let terms = terms::of(world, object, n, pod, &other, connection.l4);
            let why = rule_why(object, rule, direction, terms);
            let foreign =
                why.terms.iter().any(|t| t.term.starts_with("subject") && t.ok != Some(true));
            out.push((why.distance(), foreign, terms::breadth(world, object, &rule.rule), why));
        }
    }
    // fewest failing terms, then one that selects the pod at all, then the narrowest, then by id
    out.sort_by_key(|a| (a.0, a.1, a.2, a.3.id));
    out.into_iter().map(|(.., why)| why).collect()
}

fn ends<'w>(
    world: &'w World,
    connection: &'w Connection,
    direction: Direction,
) -> (Party<'w>, Party<'w>) {
    let src = Party::of(world, &connection.src);
    let dst = Party::of(world, &connection.dst);
    match direction {
        Direction::Ingress => (dst, src),
        Direction::Egress => (src, dst),
    }
}

fn rule_why(
    object: &PolicyObject,
    rule: &PolicyRule,
    direction: Direction,
    terms: Vec<Term>,
) -> RuleWhy {
    RuleWhy {
        id: Some(RuleId::candidate(&rule.rule.content(), 0)),
        policy: PolicyRef::of(object, direction),
        rule: rule.path.to_string(),
        terms,
    }
}

fn side(world: &World, connection: &Connection, direction: Direction, side: &Side) -> SideWhy {
    let (this, other) = ends(world, connection, direction);
    let mut out = SideWhy {
        verdict: Answer::of(side),
        text: String::new(),
        isolated: false,
        isolation_set: None,
        isolated_by: Vec::new(),
        allowed_by: Vec::new(),
        nearest_miss: None,
        change: None,
    };
    if let Some(pod) = this.pod()
        && !matches!(side.reason, Reason::SamePod | Reason::OwnNode)
    {
        isolation(world, pod, direction, &mut out);
    }
    out.text = match &side.reason {
        Reason::NotAPod => "it is no pod, and policies are for pods".to_owned(),
        Reason::SamePod => "a pod always reaches itself".to_owned(),
        Reason::OwnNode => "from the pod's own node, which always gets in".to_owned(),
        Reason::NotIsolated => format!("no policy isolates it for {direction}"),
        Reason::Unknown => "the pod is not known, so it is closed".to_owned(),
        Reason::AllowedBy(_) => {
            out.allowed_by = rules(world, connection, direction);
            out.allowed_by.retain(|r| r.failing() == 0);
            allowed_text(&out.allowed_by)
        }
        Reason::Isolated(_) | Reason::Undecided(_) => {
            let found = rules(world, connection, direction);
            if let Some(pod) = this.pod()
                && matches!(side.reason, Reason::Isolated(_))
            {
                out.change =
                    change::suggest(world, pod, &other, connection.l4, direction, found.first());
            }
            out.nearest_miss = found.into_iter().next();
            let count = match out.isolated_by.len() {
                1 => "1 policy".to_owned(),
                n => format!("{n} policies"),
            };
            if matches!(side.reason, Reason::Undecided(_)) {
                format!("isolated by {count}; an address that is not known decides")
            } else {
                let whose = if out.isolated_by.len() == 1 { "its" } else { "their" };
                format!("isolated by {count}; none of {whose} rules admits this connection")
            }
        }
    };
    out
}

fn isolation(world: &World, pod: &Pod, direction: Direction, out: &mut SideWhy) {
    let policies: Vec<&PolicyObject> = eval::isolating(world, pod, direction).collect();
    if policies.is_empty() {
        return;
    }
    out.isolated = true;
    let keys: BTreeSet<PolicyKey> = policies.iter().map(|o| o.policy.key.clone()).collect();
    out.isolation_set = Some(RuleId::candidate(&isolation_set(direction, &keys), 0));
    out.isolated_by = policies.iter().map(|o| PolicyRef::of(o, direction)).collect();
    // a policy without rules is what people look for first
    out.isolated_by.sort_by(|a, b| (a.rules, &a.name).cmp(&(b.rules, &b.name)));
}

fn allowed_text(rules: &[RuleWhy]) -> String {
    let Some(first) = rules.first() else {
        return String::new();
    };
    let id = first.id.map(|id| format!("{id} ")).unwrap_or_default();
    let more = match rules.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    format!("by {id}{}  ({}){more}", first.place(), first.summary())
}

fn notes(world: &World, connection: &Connection, verdict: &eval::Verdict, why: &Why) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |code, text: String| {
        let note = Note { code, text };
        if !notes.contains(&note) {
            notes.push(note);
        }
    };
    for end in [&connection.src, &connection.dst] {
        if let End::Pod { key, .. } = end {
            let name = format!("{}/{}", key.0, key.1);
            match world.pod(key) {
                None => note("unknown-pod", format!("{name} is not among the objects read")),
                Some(p) if p.host_network => note(
                    "host-network",
                    format!(
                        "{name} is on the host network: its traffic is its node's, and no policy filters it"
                    ),
                ),
                Some(p) if p.terminal => {
                    note("terminal", format!("{name} has ended: it is no pod any more for policy"));
                }
                Some(_) => {}
            }
        }
    }
    for (side, other) in [(&verdict.egress, &connection.dst), (&verdict.ingress, &connection.src)] {
        if let (Reason::Undecided(_), End::Pod { key, .. }) = (&side.reason, other) {
            let text = "is not known, so ipBlock terms were not decided";
            note("address-unknown", format!("the address of {}/{} {text}", key.0, key.1));
        }
    }
    if verdict.ingress.reason == Reason::OwnNode {
        note(
            "own-node",
            "traffic from the pod's own node always gets in; the reverse needs a rule".to_owned(),
        );
    }
    if let (End::Node { name, .. }, End::Pod { key, .. }) = (&connection.dst, &connection.src)
        && verdict.egress.allowed != verdict.ingress.allowed
        && world.pod(key).is_some_and(|p| p.node == *name)
    {
        note(
            "own-node",
            "the own node is no exception for egress: it needs a rule with an ipBlock".to_owned(),
        );
    }
    let to_pod = matches!(connection.dst, End::Pod { .. });
    if to_pod && matches!(connection.src, End::External(_)) && why.ingress.isolated {
        note(
            "translated-source",
            "what comes through a NodePort or load balancer may arrive with a node's address as its source \
             (externalTrafficPolicy: Cluster)"
                .to_owned(),
        );
    }
    for (side, other) in [(&why.egress, &connection.dst), (&why.ingress, &connection.src)] {
        let by_block = |r: &RuleWhy| r.terms.iter().any(|t| t.term.ends_with(".ipBlock"));
        if matches!(other, End::Pod { .. }) && side.allowed_by.iter().any(by_block) {
            note("ip-block-pods", "an ipBlock matches the addresses of pods too".to_owned());
        }
    }
    for (direction, side) in [(Direction::Egress, &why.egress), (Direction::Ingress, &why.ingress)]
    {
        if let Some(miss) = &side.nearest_miss {
            for key in unknown_keys(world, miss, direction) {
                note("unknown-label-key", key);
            }
        }
    }
    notes
}

/// Keys that the nearest miss asks for and no object carries: most often a misspelling.
fn unknown_keys(world: &World, miss: &RuleWhy, direction: Direction) -> Vec<String> {
    let key = PolicyKey::network_policy(&miss.policy.namespace, &miss.policy.name);
    let Some(object) = world.policies.get(&key) else {
        return Vec::new();
    };
    let rules = object.policy.rules.iter();
    let Some(rule) =
        rules.into_iter().find(|r| *r.path == *miss.rule && r.rule.direction == direction)
    else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for group in rule.rule.peer_groups() {
        let Some(selector) = object.selectors.get(&group) else { continue };
        let needs = |r: &&Requirement| matches!(r, Requirement::In(..) | Requirement::Exists(_));
        for r in selector.pods.requirements().filter(needs) {
            if !world.endpoints().any(|p| p.labels.get(r.key()).is_some()) {
                out.push(format!("no pod carries the label {}", r.key()));
            }
        }
        if let crate::labels::NamespaceScope::Labels(namespaces) = &selector.namespaces {
            for r in namespaces.requirements().filter(needs) {
                let known = world
                    .endpoints()
                    .map(|p| &p.namespace)
                    .chain(world.namespaces.keys())
                    .any(|n| world.namespace_labels(n).get(r.key()).is_some());
                if !known {
                    out.push(format!("no namespace carries the label {}", r.key()));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
