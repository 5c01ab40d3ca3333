//! Metrics as a table for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

#[derive(Default)]
struct Family<'a> {
    kind: &'a str,
    help: &'a str,
    labels: BTreeSet<&'a str>,
}

/// What [`super::Metrics::encode`] tells, as rows of a Markdown table: name, type, labels, meaning; sorted by name. Names are as
/// Prometheus has them, counters with their `_total`. Labels are those of the samples that are there.
pub fn markdown(text: &str) -> String {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    let mut current = "";
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            families.entry(name).or_default().help = help.trim_end_matches('.');
            current = name;
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            families.entry(name).or_default().kind = kind;
            current = name;
        } else if let Some((_, rest)) = line.split_once('{')
            && let Some((labels, _)) = rest.split_once('}')
        {
            // values of ours hold no comma and no quote
            let names = labels.split(',').filter_map(|l| Some(l.split_once('=')?.0));
            let family = families.entry(current).or_default();
            family.labels.extend(names.filter(|n| *n != "le"));
        }
    }
    let mut out = String::new();
    for (name, Family { kind, help, labels }) in families {
        let total = if kind == "counter" { "_total" } else { "" };
        let labels: Vec<&str> = labels.into_iter().collect();
        // writing to a String cannot fail
        let _ = writeln!(out, "| `{name}{total}` | {kind} | {} | {help} |", labels.join(", "));
    }
    out
}
