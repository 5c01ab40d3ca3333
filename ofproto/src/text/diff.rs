//! What a switch would have to change for one set of flows to become another.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::parse::{Line, LineError, flow_lines, parse_line};
use super::{NUMBERS, shown};
use crate::flow_mod::FlowCommand;
use crate::oxm::Match;
use crate::types::DEFAULT_PRIORITY;

/// A line of one of two files that is no flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// In the first file.
    #[error("first file, {0}")]
    First(#[source] LineError),
    /// In the second file.
    #[error("second file, {0}")]
    Second(#[source] LineError),
}

/// What identifies a flow: table, priority (the highest first) and match.
type Key = (u8, std::cmp::Reverse<u16>, Match);

/// What changes between two sets of flows, each a file of flows or a dump: a line `-FLOW` for what only `a` has, a
/// line `+FLOW` for what only `b` has, both where cookie, timeouts or actions differ. Empty if nothing changes.
///
/// Flows are written as `ovs-ofctl diff-flows` writes them; lines stand in the order of table, priority (highest
/// first) and match. Where one file has a flow twice, the last one counts, as it would in a switch.
///
/// Errors: [`DiffError`], for the first line that is no flow to add.
///
/// ```
/// use rust_openflow::text;
///
/// let a = "table=1,priority=5,ip actions=output:1\ntable=2 actions=drop";
/// let b = " table=1, n_packets=7, priority=5,ip actions=output:2\ntable=2 actions=drop";
/// assert_eq!(
///     text::diff(a, b)?,
///     "-table=1 priority=5,ip actions=output:1\n+table=1 priority=5,ip actions=output:2\n"
/// );
/// # Ok::<(), text::DiffError>(())
/// ```
pub fn diff(a: &str, b: &str) -> Result<String, DiffError> {
    let mut all: BTreeMap<Key, [Option<Line>; 2]> = BTreeMap::new();
    for (side, text) in [a, b].into_iter().enumerate() {
        for (line, text) in flow_lines(text) {
            let parsed = parse_line(text, FlowCommand::Add, &NUMBERS).map_err(|error| {
                let error = LineError { line, error };
                if side == 0 { DiffError::First(error) } else { DiffError::Second(error) }
            })?;
            let flow = &parsed.flow;
            let key = (flow.table, std::cmp::Reverse(flow.priority), flow.match_.clone());
            if let Some(slot) = all.entry(key).or_default().get_mut(side) {
                *slot = Some(parsed);
            }
        }
    }
    let mut out = String::new();
    for [a, b] in all.values() {
        if a.as_ref().map(version) == b.as_ref().map(version) {
            continue;
        }
        for (sign, line) in [('-', a), ('+', b)] {
            if let Some(line) = line {
                write_line(&mut out, sign, line);
            }
        }
    }
    Ok(out)
}

/// What makes two flows of one key the same.
fn version(line: &Line) -> impl PartialEq + '_ {
    let flow = &line.flow;
    (flow.cookie, flow.idle_timeout, flow.hard_timeout, line.importance, &flow.instructions)
}

/// Source: the output of ovs-ofctl 3.1.0; see the tests beside `tests/text_diff.rs`.
fn write_line(out: &mut String, sign: char, line: &Line) {
    let flow = &line.flow;
    out.push(sign);
    // Writing to a String cannot fail.
    if flow.table != 0 {
        let _ = write!(out, "table={} ", flow.table);
    }
    if flow.priority != DEFAULT_PRIORITY {
        let _ = write!(out, "priority={}", flow.priority);
        if !flow.match_.is_empty() {
            out.push(',');
        }
    }
    out.push_str(&shown(&flow.match_, &NUMBERS));
    if flow.cookie != 0 {
        let _ = write!(out, " cookie={:#x}", flow.cookie);
    }
    for (name, value) in [
        ("idle_timeout", flow.idle_timeout),
        ("hard_timeout", flow.hard_timeout),
        ("importance", line.importance),
    ] {
        if value != 0 {
            let _ = write!(out, " {name}={value}");
        }
    }
    let _ = writeln!(out, " actions={}", super::instructions(&flow.instructions, &NUMBERS));
}
