//! The text of `weirctl why`.

use weir_policy::explain::{Answer, RuleWhy, SideWhy, Who, Why};
use weir_policy::rule::Direction;

use super::columns::thousands;
use super::status::age;
use super::{pad, push_line};
use crate::cmd::why::{Block, Offline, Ports, SwitchWhy};

/// How many further pairs of one answer are named.
const PAIRS: usize = 5;

pub(crate) fn text(blocks: &[Block], offline: Option<&Offline>) -> String {
    let mut out = String::new();
    for (n, b) in blocks.iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        block(&mut out, b);
    }
    if let Some(o) = offline {
        let unknown = if o.addresses_unknown {
            "; pod addresses unknown, so ipBlock terms were not decided"
        } else {
            ""
        };
        push_line(
            &mut out,
            &format!(
                "offline  {} from {} ({}, {}){unknown}",
                counted(o.objects, "object"),
                o.names,
                policies(o.policies),
                counted(o.workloads, "workload"),
            ),
        );
    }
    out
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn policies(n: usize) -> String {
    if n == 1 { "1 policy".to_owned() } else { format!("{n} policies") }
}

fn block(out: &mut String, block: &Block) {
    let why = &block.why;
    header(out, why, block.ports.as_ref());
    if why.verdict != Answer::Allowed && block.ports.is_none() {
        out.push('\n');
    }
    let names = [why.src.name(), why.dst.name()];
    let width = names.iter().map(String::len).max().unwrap_or_default();
    let sides = [(Direction::Egress, &why.egress), (Direction::Ingress, &why.ingress)];
    match &block.ports {
        Some(ports) => {
            let admits = [&ports.egress, &ports.ingress].map(reach);
            let column = admits.iter().map(String::len).max().unwrap_or_default();
            for (((direction, side), name), admits) in sides.into_iter().zip(&names).zip(&admits) {
                let text = if side.isolated {
                    let by: Vec<&str> = side.isolated_by.iter().map(|p| &*p.name).collect();
                    format!("isolated by {}", by.join(", "))
                } else {
                    side.text.clone()
                };
                let line = format!(
                    "{}  {}  {}  {text}",
                    pad(direction.as_str(), 7),
                    pad(name, width),
                    pad(admits, column)
                );
                push_line(out, &line);
            }
        }
        None => {
            let words = sides.iter().map(|(_, s)| verdict(s.verdict).len());
            let verdicts = words.max().unwrap_or_default();
            for ((direction, side), name) in sides.into_iter().zip(&names) {
                side_lines(out, direction, side, name, [width, verdicts]);
            }
            for (_, side) in sides {
                if side.verdict != Answer::Allowed
                    && let Some(miss) = &side.nearest_miss
                {
                    nearest_miss(out, miss);
                }
            }
            for line in switch_lines(&block.switches) {
                push_line(out, &line);
            }
            for (_, side) in sides {
                if let Some(change) = &side.change {
                    push_line(out, &format!("change  {}", change.text));
                }
            }
        }
    }
    if let Some(rules) = &block.rules {
        for rule in rules.iter().flatten() {
            push_line(out, &format!("rule  {}  {}: {}", id(rule), rule.place(), failing(rule)));
            terms(out, rule);
        }
    }
    for note in &why.notes {
        push_line(out, &format!("note  {}", note.text));
    }
    if !block.also.is_empty() {
        let mut pairs: Vec<String> =
            block.also.iter().take(PAIRS).map(|(a, b)| format!("{a} -> {b}")).collect();
        if block.also.len() > PAIRS {
            pairs.push("...".to_owned());
        }
        push_line(out, &format!("same     for {} more: {}", block.also.len(), pairs.join(", ")));
    }
}

/// What the switches say: those that disagree or gave no answer, and the ones that decide; of switches that only let
/// pass, one.
fn switch_lines(switches: &[SwitchWhy]) -> Vec<String> {
    let telling =
        switches.iter().enumerate().filter(|(n, s)| *n == 0 || s.decides || s.agrees != Some(true));
    telling.map(|(_, s)| format!("switch  {}", switch_words(s))).collect()
}

/// `n5 agrees: dropped by isolation set e1f03c55 in IngressRule, 37 packets in 4m`.
fn switch_words(s: &SwitchWhy) -> String {
    let how = match s.agrees {
        None => {
            let error = s.error.as_deref().unwrap_or_default();
            return format!("{} was not asked: {error}", s.node);
        }
        Some(true) => "agrees",
        Some(false) => "DISAGREES",
    };
    let mut text = format!("{} {how}: ", s.node);
    match (s.passes, &s.id, &s.table) {
        (true, Some(id), Some(table)) => text.push_str(&format!("allowed by {id} in {table}")),
        (true, ..) => text.push_str("passes, nothing isolates it there"),
        (false, Some(id), Some(table)) => {
            text.push_str(&format!("dropped by isolation set {id} in {table}"));
        }
        (false, None, Some(table)) => text.push_str(&format!("dropped in {table}")),
        (false, _, None) => text.push_str("dropped, no flow takes it"),
    }
    if let (Some(packets), Some(seconds)) = (s.packets, s.age_seconds) {
        let packets = thousands(usize::try_from(packets).unwrap_or(usize::MAX));
        text.push_str(&format!(", {packets} packets in {}", age(i64::from(seconds) * 1000)));
    }
    if s.foreign {
        text.push_str(", by way of a flow that is not Weir's");
    }
    if let Some(revision) = s.revision {
        text.push_str(&format!(" (the node is at revision {revision}, this answer is not)"));
    }
    text
}

fn header(out: &mut String, why: &Why, ports: Option<&Ports>) {
    let verdict = match why.verdict {
        Answer::Allowed => "ALLOWED",
        Answer::Denied => "DENIED",
        Answer::Undecided => "UNDECIDED",
    };
    let what = match ports {
        Some(ports) => reach(&ports.both),
        None => why.protocol.clone(),
    };
    let line =
        format!("{verdict}  {what}  {}  ->  {}", who(&why.src, None), who(&why.dst, why.port));
    push_line(out, &line);
}

fn reach(reach: &weir_policy::analyze::Reach) -> String {
    match (reach.is_exact(), reach.surely.is_empty()) {
        (true, true) => "nothing".to_owned(),
        (true, false) if reach.surely.is_all() => "everything".to_owned(),
        (true, false) => reach.surely.to_string(),
        (false, true) => "?".to_owned(),
        (false, false) => format!("{},?", reach.surely),
    }
}

/// `shop/db-0 10.244.3.9:5432 (n5)`.
fn who(who: &Who, port: Option<u16>) -> String {
    let port = port.map(|p| format!(":{p}")).unwrap_or_default();
    let address = match who.ip {
        Some(ip) if ip.is_ipv6() && !port.is_empty() => format!("[{ip}]{port}"),
        Some(ip) => format!("{ip}{port}"),
        None => String::new(),
    };
    if who.pod.is_none() && who.node.is_none() {
        return address;
    }
    let mut text = who.name();
    if address.is_empty() {
        text.push_str(&port);
    } else {
        text = format!("{text} {address}");
    }
    match &who.node {
        Some(node) if who.pod.is_some() => format!("{text} ({node})"),
        _ => text,
    }
}

const fn verdict(answer: Answer) -> &'static str {
    match answer {
        Answer::Allowed => "allowed",
        Answer::Denied => "DENIED",
        Answer::Undecided => "UNDECIDED",
    }
}

fn side_lines(
    out: &mut String,
    direction: Direction,
    side: &SideWhy,
    name: &str,
    [names, verdicts]: [usize; 2],
) {
    let line = format!(
        "{}  {}  {}  {}",
        pad(direction.as_str(), 7),
        pad(name, names),
        pad(verdict(side.verdict), verdicts),
        side.text
    );
    push_line(out, &line);
    if side.verdict != Answer::Allowed && !side.isolated_by.is_empty() {
        let all: Vec<String> = side.isolated_by.iter().map(|p| p.sentence(direction)).collect();
        push_line(out, &format!("           {}", all.join(", ")));
    }
}

fn id(rule: &RuleWhy) -> String {
    rule.id.map(|id| id.to_string()).unwrap_or_default()
}

/// `1 of 3 terms fails`.
fn failing(rule: &RuleWhy) -> String {
    let open = rule.terms.iter().filter(|t| t.ok.is_none()).count();
    let failed = rule.failing() - open;
    let total = rule.terms.len();
    match (failed, open) {
        (0, 0) => "every term holds".to_owned(),
        (0, 1) => format!("1 of {total} terms is undecided"),
        (0, n) => format!("{n} of {total} terms are undecided"),
        (1, _) => format!("1 of {total} terms fails"),
        (n, _) => format!("{n} of {total} terms fail"),
    }
}

fn nearest_miss(out: &mut String, rule: &RuleWhy) {
    push_line(out, &format!("nearest miss  {}  {}: {}", id(rule), rule.place(), failing(rule)));
    terms(out, rule);
}

fn terms(out: &mut String, rule: &RuleWhy) {
    let items = rule.terms.iter().map(|t| t.item().len()).max().unwrap_or_default();
    let wanted = rule.terms.iter().map(|t| t.wanted().len()).max().unwrap_or_default();
    for term in &rule.terms {
        let mark = match term.ok {
            Some(true) => "ok",
            Some(false) => "FAIL",
            None => "?",
        };
        let line = format!(
            "  {}  {}  {}   {}",
            pad(mark, 4),
            pad(term.item(), items),
            pad(&term.wanted(), wanted),
            term.found()
        );
        push_line(out, &line);
    }
}
