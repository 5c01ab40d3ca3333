//! A rule as a list of terms, each with what it wants and what is there.

use serde::Serialize;

use crate::eval::{L4, Party, service_matches};
use crate::labels::{LabelSelector, Labels, NamespaceScope, Selector};
use crate::net::IpBlock;
use crate::port::{PortMatch, Service};
use crate::rule::{Direction, PeerItem, Peers, PolicyObject, Rule, RuleItems, Services};
use crate::world::{Pod, World};

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Term {
    /// `subject.podSelector`, `from[0].ipBlock`, `port[1].port`: the entry, and which of its conditions.
    pub term: String,
    /// `None` = it depends on an address that is not known.
    pub ok: Option<bool>,
    /// `app=api`, `10.0.0.0/8`, `tcp/5432`.
    pub want: String,
    /// `app=web`, `10.1.2.3`, `udp/53`.
    pub have: String,
    /// In which namespace the selector looks, where it looks in one: `namespace shop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Who or what has it: `web-6d4f9`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
}

impl Term {
    /// `from[0]` of `from[0].podSelector`.
    pub fn item(&self) -> &str {
        self.term.split_once('.').map_or(&*self.term, |(item, _)| item)
    }

    /// `podSelector` of `from[0].podSelector`; empty where the term is the whole entry.
    pub fn kind(&self) -> &str {
        self.term.split_once('.').map_or("", |(_, kind)| kind)
    }

    /// `podSelector app=api, namespace shop`.
    pub fn wanted(&self) -> String {
        let scope = self.scope.as_ref().map(|s| format!(", {s}")).unwrap_or_default();
        match self.kind() {
            // `port tcp/80` would say it twice
            "" | "port" | "namedPort" | "protocol" => format!("{}{scope}", self.want),
            kind => format!("{kind} {}{scope}", self.want),
        }
    }

    /// `web-6d4f9 has app=web`.
    pub fn found(&self) -> String {
        match &self.who {
            Some(who) if self.have.starts_with("is ") => format!("{who} {}", self.have),
            Some(who) => format!("{who} has {}", self.have),
            None => self.have.clone(),
        }
    }

    fn new(term: impl Into<String>, ok: impl Into<Option<bool>>, want: impl Into<String>) -> Self {
        Self {
            term: term.into(),
            ok: ok.into(),
            want: want.into(),
            have: String::new(),
            scope: None,
            who: None,
        }
    }

    fn have(mut self, who: Option<String>, have: impl Into<String>) -> Self {
        self.who = who;
        self.have = have.into();
        self
    }
}

/// The terms of one rule: the subject's, those of the peer that comes nearest, those of the port that comes nearest.
pub(super) fn of(
    world: &World,
    object: &PolicyObject,
    index: usize,
    pod: &Pod,
    other: &Party<'_>,
    l4: L4,
) -> Vec<Term> {
    let mut out = Vec::new();
    let Some(rule) = object.policy.rules.get(index).map(|r| &r.rule) else {
        return out;
    };
    if let Some(subject) = object.selectors.get(&object.policy.subject) {
        out.push(pods_term("subject", subject, pod, world.selects(subject, pod)));
    }
    let items = object.items.get(index).cloned().unwrap_or_else(|| from_sets(rule));
    let list = match rule.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    out.extend(match &rule.peers {
        Peers::Any => vec![Term::new(list, true, "anyone")],
        Peers::Of { .. } => nearest(
            items.peers.iter().enumerate().map(|(n, item)| {
                let name = format!("{list}[{n}]");
                match item {
                    None => vec![nothing(name)],
                    Some(PeerItem::Block(b)) => block_terms(&name, b, other),
                    Some(PeerItem::Group(id)) => match object.selectors.get(id) {
                        None => vec![nothing(name)],
                        Some(s) => selector_terms(world, &name, s, other),
                    },
                }
            }),
            list,
        ),
    });
    let destination = match rule.direction {
        Direction::Ingress => Some(pod),
        Direction::Egress => other.pod(),
    };
    out.extend(match &rule.services {
        Services::Any => vec![Term::new("port", true, "any")],
        Services::Of(_) => nearest(
            items.services.iter().enumerate().map(|(n, item)| {
                let name = format!("port[{n}]");
                match item {
                    None => vec![nothing(name)],
                    Some(s) => vec![service_term(&name, s, l4, destination)],
                }
            }),
            "port",
        ),
    });
    out
}

/// The entry with the fewest terms that do not hold, the first of equals.
fn nearest(entries: impl Iterator<Item = Vec<Term>>, list: &str) -> Vec<Term> {
    entries
        // one that is undecided is nearer than one that fails
        .min_by_key(|terms| {
            let count = |ok| terms.iter().filter(|t| t.ok == ok).count();
            (count(Some(false)), count(None))
        })
        .unwrap_or_else(|| vec![nothing(list.to_owned())])
}

fn nothing(name: String) -> Term {
    Term::new(name, false, "nothing").have(None, "the entry is not in force as written")
}

/// Where the lists of the manifest are not kept: the sets, in their order.
fn from_sets(rule: &Rule) -> RuleItems {
    let peers = match &rule.peers {
        Peers::Any => Vec::new(),
        Peers::Of { groups, blocks } => groups
            .iter()
            .map(|g| Some(PeerItem::Group(*g)))
            .chain(blocks.iter().map(|b| Some(PeerItem::Block(b.clone()))))
            .collect(),
    };
    let services = match &rule.services {
        Services::Any => Vec::new(),
        Services::Of(items) => items.iter().cloned().map(Some).collect(),
    };
    RuleItems { peers, services }
}

fn selector_terms(world: &World, name: &str, selector: &Selector, other: &Party<'_>) -> Vec<Term> {
    let Some(pod) = other.pod() else {
        // NP-13
        let address = other.address().map_or_else(|| "it".to_owned(), |a| a.to_string());
        let mut term =
            Term::new(format!("{name}.podSelector"), false, selector_text(&selector.pods))
                .have(Some(address), "is no pod");
        match &selector.namespaces {
            NamespaceScope::Name(n) => term.scope = Some(format!("namespace {n}")),
            NamespaceScope::Labels(s) => {
                term.scope = Some(format!("namespaces {}", selector_text(s)))
            }
        }
        return vec![term];
    };
    let NamespaceScope::Labels(namespaces) = &selector.namespaces else {
        return vec![pods_term(name, selector, pod, world.selects(selector, pod))];
    };
    let labels = world.namespace_labels(&pod.namespace);
    let mut out = vec![
        Term::new(
            format!("{name}.namespaceSelector"),
            namespaces.matches(&labels),
            selector_text(namespaces),
        )
        .have(Some(format!("namespace {}", pod.namespace)), labels_text(namespaces, &labels)),
    ];
    if !selector.pods.is_everything() {
        out.push(pods_term(name, selector, pod, selector.pods.matches(&pod.labels)));
    }
    out
}

/// The `podSelector` of an entry or of the policy itself.
fn pods_term(name: &str, selector: &Selector, pod: &Pod, ok: bool) -> Term {
    let mut have = labels_text(&selector.pods, &pod.labels);
    let mut scope = None;
    if let NamespaceScope::Name(n) = &selector.namespaces {
        if *n != pod.namespace {
            have = format!("{have}, namespace {}", pod.namespace);
        }
        // the subject is always of the policy's own namespace
        if name != "subject" {
            scope = Some(format!("namespace {n}"));
        }
    }
    let mut term = Term::new(format!("{name}.podSelector"), ok, selector_text(&selector.pods))
        .have(Some(pod.name.to_string()), have);
    term.scope = scope;
    term
}

fn block_terms(name: &str, block: &IpBlock, other: &Party<'_>) -> Vec<Term> {
    let address = other.address();
    let have =
        address.map_or_else(|| "is without a known address".to_owned(), |a| format!("is {a}"));
    let who = other.pod().map(|p| p.name.to_string()).or_else(|| Some("it".to_owned()));
    let inside = address.map(|a| block.cidr.contains(a));
    let mut out = vec![
        Term::new(format!("{name}.ipBlock"), inside, block.cidr.to_string())
            .have(who.clone(), have.clone()),
    ];
    if inside != Some(false) && !block.except.is_empty() {
        let hole = address.and_then(|a| block.except.iter().find(|e| e.contains(a)));
        let want = match hole {
            Some(hole) => hole.to_string(),
            None => block.except.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        let ok = address.map(|_| hole.is_none());
        out.push(Term::new(format!("{name}.except"), ok, want).have(who, have));
    }
    out
}

fn service_term(name: &str, service: &Service, l4: L4, destination: Option<&Pod>) -> Term {
    let want = service.to_string();
    let L4::Port { protocol, dport } = l4 else {
        // NP-27
        let kind = format!("{name}.protocol");
        return Term::new(kind, false, want).have(None, "the protocol has no ports");
    };
    let ok = service_matches(service, protocol, dport, destination);
    let asked = format!("{protocol}/{dport}");
    match &service.port {
        _ if service.protocol != protocol => {
            Term::new(format!("{name}.protocol"), ok, want).have(None, asked)
        }
        PortMatch::Any | PortMatch::Range { .. } => {
            let have = if ok { String::new() } else { asked };
            Term::new(format!("{name}.port"), ok, want).have(None, have)
        }
        PortMatch::Named(port) => {
            let term = Term::new(format!("{name}.namedPort"), ok, want);
            let Some(pod) = destination else {
                return term.have(None, "the destination is no pod, so it has no port names");
            };
            let numbers: Vec<String> = pod
                .named_ports
                .iter()
                .filter(|p| p.name == *port && p.protocol == protocol)
                .map(|p| p.number.to_string())
                .collect();
            let have = if numbers.is_empty() {
                format!("no {protocol} port named {port}")
            } else {
                format!("{port}={}", numbers.join(","))
            };
            term.have(Some(pod.name.to_string()), have)
        }
    }
}

fn selector_text(selector: &LabelSelector) -> String {
    if selector.is_everything() {
        return "{}".to_owned();
    }
    selector.requirements().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Of the labels, those the selector asks about; all of them where it asks about none.
fn labels_text(selector: &LabelSelector, labels: &Labels) -> String {
    let mut out: Vec<String> = Vec::new();
    for r in selector.requirements() {
        let text = match labels.get(r.key()) {
            Some(value) => format!("{}={value}", r.key()),
            None => format!("no label {}", r.key()),
        };
        if !out.contains(&text) {
            out.push(text);
        }
    }
    match (out.is_empty(), labels.is_empty()) {
        (false, _) => out.join(","),
        (true, false) => labels.to_string(),
        (true, true) => "no labels".to_owned(),
    }
}

/// How much a rule admits, to tell narrow rules from wide ones: peers times ports.
pub(super) fn breadth(world: &World, object: &PolicyObject, rule: &Rule) -> u128 {
    let peers = match &rule.peers {
        Peers::Any => u128::MAX,
        Peers::Of { groups, blocks } => {
            let selectors: Vec<&Selector> =
                groups.iter().filter_map(|g| object.selectors.get(g)).collect();
            let pods =
                world.endpoints().filter(|p| selectors.iter().any(|s| world.selects(s, p))).count();
            let addresses = blocks.iter().map(|b| {
                let width: u8 = if b.cidr.is_ipv4() { 32 } else { 128 };
                1u128.checked_shl(u32::from(width - b.cidr.length())).unwrap_or(u128::MAX)
            });
            addresses.fold(pods as u128, u128::saturating_add)
        }
    };
    let ports = match &rule.services {
        Services::Any => 1 << 24,
        Services::Of(items) => items
            .iter()
            .map(|s| match &s.port {
                PortMatch::Any => 1 << 16,
                PortMatch::Range { first, last } => u128::from(last - first) + 1,
                PortMatch::Named(_) => 1,
            })
            .sum(),
    };
    peers.saturating_mul(ports)
}
