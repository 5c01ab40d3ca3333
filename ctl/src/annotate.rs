//! Flows with their owners and reasons: what an operator wants to know about a line of `ovs-ofctl dump-flows`.
//!
//! The flow itself says a lot (cookie, table, registers: [`layout`]); the node's [`Symbols`] give the numbers names.
//! Nothing here asks anybody anything.

pub mod explain;
pub mod filter;
pub mod layout;
mod port_term;
pub mod symbols;
pub mod words;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rust_openflow::text::FlowText;
use rust_openflow::{Action, Field, Instruction};

use layout::{Cookie, Kind, Owner};
use symbols::{ClassSymbol, PolicyRef, PortOwner, Symbols};

/// Endpoints of a class that are named one by one; of larger ones the number is said.
const NAMED_ENDPOINTS: usize = 3;

/// What is known of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub owner: Owner,
    /// In a sentence.
    pub what: String,
    /// Rule or isolation set.
    pub id: Option<u32>,
    /// Policies behind the flow.
    pub rules: Vec<PolicyRef>,
    /// The other end: selectors or a prefix.
    pub peer: Option<String>,
    /// Workloads that the flow is about.
    pub endpoints: Vec<String>,
}

impl Note {
    fn of(owner: Owner, what: impl Into<String>) -> Self {
        Self {
            owner,
            what: what.into(),
            id: None,
            rules: Vec::new(),
            peer: None,
            endpoints: Vec::new(),
        }
    }

    /// What the flow is and, where the table leaves them to other lines, whose rules it serves.
    pub fn sentence(&self) -> String {
        let whose = match self.owner {
            Owner::Clause if !self.rules.is_empty() => format!("; of {}", titles(&self.rules)),
            _ => String::new(),
        };
        format!("{}: {}{whose}", self.owner.as_str(), self.what)
    }
}

/// The conjunctions a flow is a clause of.
pub fn conjunctions(flow: &FlowText) -> BTreeSet<u32> {
    flow.instructions
        .iter()
        .filter_map(|i| match i {
            Instruction::ApplyActions(list) => Some(list),
            _ => None,
        })
        .flatten()
        .filter_map(|a| match a {
            Action::Conjunction { id, .. } => Some(*id),
            _ => None,
        })
        .collect()
}

/// The whole value of a register in a match.
pub fn register(flow: &FlowText, number: u8) -> Option<u32> {
    flow.match_.exact(Field::Reg(number)).and_then(|v| u32::try_from(v).ok())
}

/// The port a flow matches.
pub fn in_port(flow: &FlowText) -> Option<u32> {
    flow.match_.exact(Field::InPort).and_then(|v| u32::try_from(v).ok())
}

/// Address and prefix length that a flow matches as source or destination. Units: bits.
pub fn prefix(flow: &FlowText, source: bool) -> Option<(IpAddr, u32)> {
    let (v4, v6) =
        if source { (Field::Ipv4Src, Field::Ipv6Src) } else { (Field::Ipv4Dst, Field::Ipv6Dst) };
    if let Some(f) = flow.match_.field(v4) {
        let address = Ipv4Addr::from(u32::try_from(f.value).ok()?);
        return Some((address.into(), f.mask.count_ones()));
    }
    let f = flow.match_.field(v6)?;
    Some((Ipv6Addr::from(f.value).into(), f.mask.count_ones()))
}

/// What a flow is and whose.
pub fn annotate(flow: &FlowText, symbols: &Symbols) -> Note {
    let Some(cookie) = Cookie::read(flow.cookie) else {
        return foreign(flow);
    };
    match cookie.kind {
        Kind::Allow | Kind::Deny | Kind::Staged => rule(&cookie, symbols),
        Kind::Isolation => isolation(flow, &cookie, symbols),
        Kind::Clause => clause(flow, symbols),
        Kind::Base | Kind::AlwaysAllowed | Kind::SpoofGuard => base(flow, &cookie, symbols),
        Kind::Trace => Note::of(Owner::Trace, "packet under observation"),
    }
}

fn foreign(flow: &FlowText) -> Note {
    let why = if flow.cookie >> 56 == 0x57 {
        "a cookie layout that this weirctl does not know"
    } else {
        "not Weir's"
    };
    Note::of(Owner::Foreign, why)
}

fn titles(rules: &[PolicyRef]) -> String {
    let all: Vec<String> = rules.iter().map(PolicyRef::title).collect();
    all.join(", ")
}

fn rule(cookie: &Cookie, symbols: &Symbols) -> Note {
    let rules = symbols.policies_of(cookie.id).to_vec();
    let what = if rules.is_empty() {
        format!("rule {:08x}, not among the symbols", cookie.id)
    } else {
        titles(&rules)
    };
    let peer = symbols.rules.get(&cookie.id).map(|r| r.peers.join(", "));
    Note { id: Some(cookie.id), rules, peer, ..Note::of(cookie.owner(), what) }
}

fn isolation(flow: &FlowText, cookie: &Cookie, symbols: &Symbols) -> Note {
    let rules = symbols.policies_of(cookie.id).to_vec();
    let register =
        if cookie.ingress == Some(true) { layout::REG_DST_CLASS } else { layout::REG_SRC_CLASS };
    let class = self::register(flow, register).and_then(|c| symbols.classes.get(&c));
    let mut what = format!("{:08x}: ", cookie.id);
    if rules.is_empty() {
        what.push_str("isolation set, not among the symbols");
    } else {
        what.push_str(&titles(&rules));
    }
    if flow.match_.field(Field::CtState).is_some() {
        what.push_str(" (established connections are cut)");
    } else if flow.match_.field(Field::IpProto).is_some() {
        what.push_str(" (SCTP, which this datapath cannot track)");
    }
    let endpoints = class.map(|c| c.endpoints.iter().cloned().collect()).unwrap_or_default();
    Note { id: Some(cookie.id), rules, endpoints, ..Note::of(Owner::Deny, what) }
}

/// One alternative of a dimension: subject, peer or port of the rules that share it.
fn clause(flow: &FlowText, symbols: &Symbols) -> Note {
    let ids = conjunctions(flow);
    let rules: BTreeSet<PolicyRef> =
        ids.iter().flat_map(|id| symbols.policies_of(*id)).cloned().collect();
    let rules: Vec<PolicyRef> = rules.into_iter().collect();
    let ingress = flow.table == layout::INGRESS_RULE;
    let side = if ingress { "from" } else { "to" };
    let source = register(flow, layout::REG_SRC_CLASS);
    let destination = register(flow, layout::REG_DST_CLASS);
    let (subject, peer) = if ingress { (destination, source) } else { (source, destination) };

    if let Some(term) = port_term::of(&flow.match_) {
        let mut what = format!("port: {}", term.text());
        let mut endpoints = Vec::new();
        if let Some(number) = destination {
            // a named port, which each destination has its own number for
            let class = symbols.classes.get(&number);
            if let Some(name) = class.and_then(|c| term.name_in(&c.ports)) {
                what.push_str(&format!(" ({name})"));
            }
            let asked = asked(&ids, symbols, !ingress);
            what.push_str(&format!(" of {}", class_text(number, class, Some(&asked))));
            endpoints = names_of(class);
        }
        return Note { rules, endpoints, ..Note::of(Owner::Clause, what) };
    }
    if let Some((address, length)) = prefix(flow, ingress) {
        let prefix = format!("{address}/{length}");
        let what = format!("{side}: {prefix}");
        return Note { rules, peer: Some(prefix), ..Note::of(Owner::Clause, what) };
    }
    let (word, number, of_peer) = match (subject, peer) {
        (Some(n), _) => ("subject", n, false),
        (None, Some(n)) => (side, n, true),
        (None, None) => return Note { rules, ..Note::of(Owner::Clause, "clause") },
    };
    let class = symbols.classes.get(&number);
    let asked = asked(&ids, symbols, of_peer);
    let text = class_text(number, class, Some(&asked));
    let peer = of_peer.then(|| selectors(number, class, Some(&asked)));
    Note {
        rules,
        peer,
        endpoints: names_of(class),
        ..Note::of(Owner::Clause, format!("{word}: {text}"))
    }
}

/// The selectors that rules name as peers or as subjects.
fn asked<'a>(ids: &BTreeSet<u32>, symbols: &'a Symbols, of_peer: bool) -> BTreeSet<&'a str> {
    let rules = ids.iter().filter_map(|id| symbols.rules.get(id));
    if of_peer {
        rules.flat_map(|r| &r.peers).map(String::as_str).collect()
    } else {
        rules.map(|r| r.subject.as_str()).collect()
    }
}

fn names_of(class: Option<&ClassSymbol>) -> Vec<String> {
    class.map(|c| c.endpoints.iter().cloned().collect()).unwrap_or_default()
}

/// The selectors that pick a class: of those the rules ask for, where any are.
fn selectors(number: u32, class: Option<&ClassSymbol>, asked: Option<&BTreeSet<&str>>) -> String {
    let groups: Vec<&str> =
        class.map(|c| c.groups.iter().map(String::as_str).collect()).unwrap_or_default();
    let wanted: Vec<&str> =
        groups.iter().copied().filter(|g| asked.is_some_and(|a| a.contains(g))).collect();
    let shown = if wanted.is_empty() { groups } else { wanted };
    if shown.is_empty() { format!("class {number}") } else { shown.join(" and ") }
}

/// Selectors and endpoints of a class.
fn class_text(number: u32, class: Option<&ClassSymbol>, asked: Option<&BTreeSet<&str>>) -> String {
    let selectors = selectors(number, class, asked);
    match class {
        Some(c) => format!("{selectors}, {}", endpoints_text(&c.endpoints)),
        None => selectors,
    }
}

/// `3 endpoints (db-0 db-1 db-2)`; the namespace is said once where all share it.
fn endpoints_text(endpoints: &BTreeSet<String>) -> String {
    let count = endpoints.len();
    let s = if count == 1 { "" } else { "s" };
    if count == 0 || count > NAMED_ENDPOINTS {
        return format!("{count} endpoint{s}");
    }
    let namespaces: BTreeSet<&str> =
        endpoints.iter().filter_map(|e| e.split_once('/')).map(|(ns, _)| ns).collect();
    let names: Vec<&str> = endpoints
        .iter()
        .map(|e| match e.split_once('/') {
            Some((_, name)) if namespaces.len() == 1 => name,
            _ => e,
        })
        .collect();
    format!("{count} endpoint{s} ({})", names.join(" "))
}

/// A flow of the fixed part, of a port or of an address.
fn base(flow: &FlowText, cookie: &Cookie, symbols: &Symbols) -> Note {
    let purpose = || layout::table_purpose(flow.table).to_owned();
    let port = in_port(flow);
    let behind = port.and_then(|p| symbols.ports.get(&p));
    let pod = match behind {
        Some(PortOwner::Workload { pod, .. }) => Some(pod.as_str()),
        _ => None,
    };
    let mut note = Note::of(Owner::Base, String::new());
    note.endpoints.extend(pod.map(str::to_owned));
    note.what = match flow.table {
        layout::CLASSIFIER => match (port, behind) {
            (Some(n), Some(PortOwner::Workload { interface, pod })) => {
                format!("port {n} ({interface}) is {pod}")
            }
            (Some(_), Some(PortOwner::Gateway)) => "the node's own port".to_owned(),
            (Some(n), Some(PortOwner::Uplink)) => format!("port {n} is an uplink"),
            (Some(n), None) => format!("port {n}"),
            (None, _) => "every other port is closed".to_owned(),
        },
        layout::SPOOF_GUARD => spoof_guard(flow, pod.map(str::to_owned), port),
        layout::SRC_CLASS => match prefix(flow, true) {
            Some(_) if cookie.kind == Kind::AlwaysAllowed => {
                "the node's own address: always gets in".to_owned()
            }
            Some((address, _)) => address_text(address, cookie.id, symbols, &mut note),
            None => "no workload that a policy names".to_owned(),
        },
        layout::DST_CLASS => match (prefix(flow, false), prefix(flow, true)) {
            (Some((address, _)), None) => address_text(address, cookie.id, symbols, &mut note),
            (Some((address, _)), Some(_)) => {
                let who = symbols.who(&address.to_string());
                format!("{who} reaches itself through a Service")
            }
            (None, _) => "no workload that a policy names".to_owned(),
        },
        layout::FORWARD => match (prefix(flow, false), flow.match_.field(Field::EthDst)) {
            (Some((address, _)), _) => {
                let who = symbols.who(&address.to_string());
                note.endpoints.extend(symbols.by_address(address).map(|e| e.pod.clone()));
                format!("{who} gets packets to {address}")
            }
            (None, Some(mac)) if mac.is_exact() && cookie.kind == Kind::Base => {
                "a port whose workload is not known: nothing is delivered".to_owned()
            }
            (None, Some(mac)) if mac.is_exact() => {
                "a packet with a workload's MAC address and not its IP address".to_owned()
            }
            (None, Some(mac)) if mac.value == 0 => {
                "a packet for a group in a frame for one station".to_owned()
            }
            (None, Some(_)) => "multicast, only to ports that let everything in".to_owned(),
            (None, None) => purpose(),
        },
        _ if cookie.kind == Kind::AlwaysAllowed => "the own node always gets in".to_owned(),
        _ => stage(flow).map_or_else(purpose, str::to_owned),
    };
    note
}

/// What a flow of the fixed part does in its stage, where its table's purpose does not say it.
fn stage(flow: &FlowText) -> Option<&'static str> {
    let bits = |field| flow.match_.field(field).map_or(0, |f| f.value & f.mask);
    let (state, mark) = (bits(Field::CtState), bits(Field::CtMark));
    let (protocol, flags) = (bits(Field::IpProto), bits(Field::TcpFlags));
    let has = |bit| state & bit != 0;
    Some(match (flow.table, bits(Field::Reg(0))) {
        (layout::CONNTRACK_STATE, _) if has(ct::INV) => "invalid packets",
        (layout::CONNTRACK_STATE, _) if has(ct::EST) && mark != 0 => {
            "cut connections that either end may have begun"
        }
        (layout::CONNTRACK_STATE, _) if has(ct::RPL) && mark == layout::MARK_UNSURE => {
            "replies where either end may have begun: through the rules"
        }
        (layout::CONNTRACK_STATE, _) if has(ct::RPL) && mark != 0 => "replies of cut connections",
        (layout::CONNTRACK_STATE, _) if has(ct::REL) && mark != 0 => "ICMP of cut connections",
        (layout::CONNTRACK_STATE, _) if has(ct::RPL) => {
            "replies of live connections skip the rules"
        }
        (layout::CONNTRACK_STATE, 1) if has(ct::REL) => "ICMP about connections of others",
        (layout::CONNTRACK_STATE, _) if has(ct::REL) => "ICMP of live connections skips the rules",
        (layout::CONNTRACK_STATE, _) if has(ct::TRK) => "original direction: through the rules",
        (layout::CONNTRACK_STATE, _) => "not tracked",
        (layout::COMMIT, _) if mark != 0 => "a cut connection that is allowed again",
        (layout::COMMIT, _) if has(ct::NEW) && flags == 0 && protocol == TCP => {
            "connections met without their SYN are stored as unsure"
        }
        (layout::COMMIT, _) if has(ct::NEW) => "new connections are stored",
        (layout::COMMIT, _) => "stored already",
        (layout::EGRESS_ADMIN, 1) => "from a local workload: its egress is judged here",
        (layout::EGRESS_ADMIN, 0x80) => "a local workload's, sent on by the node: judged here, too",
        (layout::EGRESS_ADMIN, _) => "from elsewhere: its egress is not judged here",
        (layout::INGRESS_ADMIN, 0x40) => "to a local workload: its ingress is judged here",
        (layout::INGRESS_ADMIN, _) => "to elsewhere: its ingress is not judged here",
        (layout::EGRESS_RULE | layout::INGRESS_RULE, 0x10) => {
            "a workload reaches itself: no rule is asked"
        }
        (layout::EGRESS_RULE | layout::INGRESS_RULE, _) => "not isolated",
        _ => return None,
    })
}

const TCP: u128 = 6;

/// Bits of `ct_state`.
mod ct {
    pub(super) const NEW: u128 = 0x01;
    pub(super) const EST: u128 = 0x02;
    pub(super) const REL: u128 = 0x04;
    pub(super) const RPL: u128 = 0x08;
    pub(super) const INV: u128 = 0x10;
    pub(super) const TRK: u128 = 0x20;
}

/// Told by the match alone: a trace shows actions on lines of their own.
fn spoof_guard(flow: &FlowText, pod: Option<String>, port: Option<u32>) -> String {
    let match_ = &flow.match_;
    let who = pod.or_else(|| port.map(|n| format!("port {n}")));
    let Some(who) = who else {
        return if match_.is_empty() {
            "nothing else gets past"
        } else if match_.field(Field::VlanVid).is_some() {
            "a workload does not choose a VLAN: spoofed"
        } else if match_.field(Field::Reg(0)).is_some() {
            "neighbour discovery that is not the workload's own is spoofed"
        } else {
            "not from a workload: not held to addresses"
        }
        .to_owned();
    };
    if match_.fields().len() == 1 {
        return format!("anything else from {who} is spoofed");
    }
    if let Some((address, _)) = prefix(flow, true)
        && match_.field(Field::IpProto).is_none()
    {
        return format!("{who} may send from {address}");
    }
    if match_.field(Field::ArpSpa).is_some() {
        return format!("ARP of {who}");
    }
    format!("neighbour discovery of {who}")
}

fn address_text(address: IpAddr, class: u32, symbols: &Symbols, note: &mut Note) -> String {
    let found = symbols.classes.get(&class);
    let who = symbols.by_address(address);
    note.endpoints = who.map(|e| vec![e.pod.clone()]).unwrap_or_default();
    let groups = match found {
        Some(c) if !c.groups.is_empty() => format!(" ({})", selectors(class, found, None)),
        _ => String::new(),
    };
    let who = who.map_or_else(|| address.to_string(), |e| e.pod.clone());
    format!("{who} is of class {class}{groups}")
}

#[cfg(test)]
mod tests;
