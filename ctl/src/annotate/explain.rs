//! Lines of other tools, each with what is known of it: `ovs-ofctl dump-flows`, `ofproto/trace`, `dump-conntrack`, logs.

use std::collections::BTreeSet;

use rust_openflow::Match;
use rust_openflow::text::{FlowText, Names, parse_flow_with};

use super::layout::{self, Cookie};
use super::symbols::{PortOwner, Symbols};
use super::{PolicyRef, annotate, titles};

/// What our own output has between a flow and its note.
pub const MARK: &str = "  # ";

/// The names that text may have been written with.
pub fn names(symbols: &Symbols) -> Names {
    let interfaces = symbols.ports.iter().filter_map(|(n, owner)| match owner {
        PortOwner::Workload { interface, .. } => Some((*n, interface.clone())),
        _ => None,
    });
    Names {
        tables: layout::TABLES.iter().map(|(n, name, _)| (*n, (*name).to_owned())).collect(),
        ports: interfaces.collect(),
    }
}

/// A line with its note behind it; the line alone where nothing is known of it.
pub fn line(text: &str, symbols: &Symbols, names: &Names) -> String {
    // annotating twice is annotating once
    let text = text.split(MARK).next().unwrap_or(text).trim_end();
    match note(text, symbols, names) {
        Some(note) => format!("{text}{MARK}{note}"),
        None => text.to_owned(),
    }
}

/// What is known of a line.
pub fn note(text: &str, symbols: &Symbols, names: &Names) -> Option<String> {
    let text = text.trim();
    if text.contains("actions=") {
        return flow(text, symbols, names);
    }
    if let Some((head, cookie)) = text.split_once("cookie 0x") {
        return traced(head, cookie, symbols, names);
    }
    if text.contains("orig=(") {
        return Some(connection(text, symbols));
    }
    if !text.contains([' ', ','])
        && let Some(note) = bare(text, symbols)
    {
        return Some(note);
    }
    mentioned(text, symbols)
}

/// A line of a dump. One that cannot be read still has a cookie.
fn flow(text: &str, symbols: &Symbols, names: &Names) -> Option<String> {
    let parsed = parse_flow_with(text, names).ok();
    let flow = parsed.or_else(|| {
        let after =
            |key: &str| text.split_once(key).and_then(|(_, rest)| rest.split([',', ' ']).next());
        let cookie = u64::from_str_radix(after("cookie=0x")?, 16).ok()?;
        let table = after("table=").and_then(layout::table_number).unwrap_or(0);
        Some(bare_flow(cookie, table, Match::new()))
    })?;
    Some(annotate(&flow, symbols).sentence())
}

const fn bare_flow(cookie: u64, table: u8, match_: Match) -> FlowText {
    FlowText {
        cookie,
        table,
        priority: 0,
        idle_timeout: 0,
        hard_timeout: 0,
        flags: 0,
        stats: None,
        match_,
        instructions: Vec::new(),
    }
}

/// ` 65. conj_id=747757690,ip, priority 200, cookie 0x57011a002c91e07a`: a step of `ofproto/trace`.
fn traced(head: &str, cookie: &str, symbols: &Symbols, names: &Names) -> Option<String> {
    let end = cookie.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(cookie.len());
    let cookie = u64::from_str_radix(cookie.get(..end)?, 16).ok()?;
    let (table, rest) = head.split_once(". ").unwrap_or(("", head));
    let table = layout::table_number(table.trim().trim_matches('"')).unwrap_or(0);
    let match_ = rest.split(", priority").next().unwrap_or_default().trim();
    let match_ = match_.strip_suffix('.').unwrap_or(match_);
    let parsed = parse_flow_with(&format!("{match_} actions=NORMAL"), names);
    let flow = bare_flow(cookie, table, parsed.map(|f| f.match_).unwrap_or_default());
    Some(annotate(&flow, symbols).sentence())
}

/// An entry of the connection table: who, by which rules, cut or not.
fn connection(text: &str, symbols: &Symbols) -> String {
    let original = text.split_once("orig=(").map_or("", |(_, rest)| rest);
    let original = original.split(')').next().unwrap_or_default();
    let value = |text: &str, key: &str| {
        text.split(',').find_map(|w| w.trim().strip_prefix(key)).map(str::to_owned)
    };
    let who = |key| value(original, key).map_or_else(|| "?".to_owned(), |a| symbols.who(&a));
    let port = value(original, "dport=").map(|p| format!(":{p}")).unwrap_or_default();
    let mut out = format!("{} -> {}{port}", who("src="), who("dst="));
    let number = |key| {
        let text = value(text, key)?;
        let text = text.split('/').next().unwrap_or_default().to_owned();
        match text.strip_prefix("0x") {
            Some(hex) => u128::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    };
    out.push_str("; ");
    out.push_str(&label(number("labels=").unwrap_or(0), symbols));
    if number("mark=").unwrap_or(0) & layout::MARK_REVOKED != 0 {
        out.push_str("; cut by a policy change");
    }
    if number("mark=").unwrap_or(0) & layout::MARK_UNSURE != 0 {
        out.push_str("; met without its first packet, so both directions are judged");
    }
    out
}

/// The two halves of a `ct_label`.
fn label(label: u128, symbols: &Symbols) -> String {
    let half = |shift: u32| u32::try_from(label >> shift & 0xffff_ffff).unwrap_or(0);
    let mut parts = Vec::new();
    for (word, id) in [("ingress", half(0)), ("egress", half(32))] {
        if id != 0 {
            parts.push(format!("{word} by {id:08x} {}", titles_of(id, symbols)));
        }
    }
    if parts.is_empty() { "no rule was needed on this node".to_owned() } else { parts.join("; ") }
}

fn titles_of(id: u32, symbols: &Symbols) -> String {
    let rules: &[PolicyRef] = symbols.policies_of(id);
    if rules.is_empty() { "(not among the symbols)".to_owned() } else { titles(rules) }
}

/// What an id is.
pub fn id_text(id: u32, symbols: &Symbols) -> String {
    if let Some(rule) = symbols.rules.get(&id) {
        return format!("{id:08x} rule {}: {}", titles(&rule.rules), rule.text);
    }
    if let Some(set) = symbols.isolation.get(&id) {
        return format!("{id:08x} isolated for {} by {}", set.direction, titles(&set.rules));
    }
    format!("{id:08x} not among the symbols")
}

/// A word alone: cookie, label, id.
fn bare(text: &str, symbols: &Symbols) -> Option<String> {
    let (key, value) = text.split_once('=').unwrap_or(("", text));
    let hex = value.strip_prefix("0x").filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
    if matches!(key, "ct_label" | "labels" | "ct_labels" | "label") {
        let value = value.split('/').next()?;
        let value = u128::from_str_radix(value.strip_prefix("0x")?, 16).ok()?;
        return Some(label(value, symbols));
    }
    if let Some(hex) = hex.filter(|h| h.len() > 8) {
        let wide = u128::from_str_radix(hex, 16).ok()?;
        return match u64::try_from(wide).ok().filter(|c| Cookie::read(*c).is_some()) {
            Some(cookie) => {
                let flow = bare_flow(cookie, cookie_table(cookie), Match::new());
                Some(annotate(&flow, symbols).sentence())
            }
            None => Some(label(wide, symbols)),
        };
    }
    let id = layout::read_id(value, |id| symbols.knows(id)).filter(|id| *id >= layout::FIRST_ID)?;
    Some(id_text(id, symbols))
}

/// The rule table that a cookie's direction means.
fn cookie_table(cookie: u64) -> u8 {
    match Cookie::read(cookie).and_then(|c| c.ingress) {
        Some(true) => layout::INGRESS_RULE,
        Some(false) => layout::EGRESS_RULE,
        None => u8::MAX,
    }
}

/// Ids that stand anywhere in a line, as `id=2c91e07a`, `0x2c91e07a` or `conj_id=747757690`.
fn mentioned(text: &str, symbols: &Symbols) -> Option<String> {
    let mut ids = BTreeSet::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        if digits.len() < 8 {
            continue;
        }
        ids.extend(layout::read_id(word, |id| symbols.knows(id)).filter(|id| symbols.knows(*id)));
        // the halves of a label
        if let Ok(wide) = u128::from_str_radix(digits, 16)
            && digits.len() > 8
            && word.starts_with("0x")
        {
            ids.extend(
                [0, 32]
                    .iter()
                    .filter_map(|shift| u32::try_from(wide >> shift & 0xffff_ffff).ok())
                    .filter(|id| symbols.knows(*id)),
            );
        }
    }
    let texts: Vec<String> = ids.into_iter().map(|id| id_text(id, symbols)).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
