//! The texts of `weirctl matrix`.

use std::collections::BTreeSet;

use weir_policy::analyze::{PortSet, Reach};
use weir_policy::port::Protocol;

use super::{pad, push_line};
use crate::cmd::matrix::{Matrix, Party};

/// The narrowest first and other columns.
const FIRST: usize = 14;
const OTHER: usize = 10;

pub(crate) fn text(matrix: &Matrix) -> String {
    let names = short_names(matrix);
    let cells: Vec<Vec<String>> =
        matrix.cells.iter().map(|row| row.iter().map(cell).collect()).collect();
    let first = names.iter().map(|n| n.len() + 2).max().unwrap_or_default().max(FIRST);
    let widths: Vec<usize> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let widest = cells.iter().filter_map(|row| row.get(n)).map(String::len).max();
            (widest.unwrap_or_default().max(name.len()) + 2).max(OTHER)
        })
        .collect();
    let line = |head: &str, cells: &[String]| {
        let cells: String = cells.iter().zip(&widths).map(|(c, w)| pad(c, *w)).collect();
        format!("{}{cells}", pad(head, first))
    };
    let mut out = String::new();
    push_line(&mut out, &line("FROM \\ TO", &names));
    for (name, row) in names.iter().zip(&cells) {
        push_line(&mut out, &line(name, row));
    }
    out
}

/// Without the namespace where there is only one, without the kind where that is clear.
fn short_names(matrix: &Matrix) -> Vec<String> {
    let namespaces: BTreeSet<&str> = matrix
        .parties
        .iter()
        .filter_map(|p| match p {
            Party::Workload(namespace, ..) => Some(namespace.as_str()),
            _ => None,
        })
        .collect();
    let short = |p: &Party| match p {
        Party::Workload(_, name, _) if namespaces.len() == 1 => name.clone(),
        Party::Workload(namespace, name, _) => format!("{namespace}/{name}"),
        Party::Namespace(name) => name.clone(),
        Party::World => "world".to_owned(),
    };
    let names: Vec<String> = matrix.parties.iter().map(short).collect();
    let twice = |n: &String| names.iter().filter(|m| *m == n).count() > 1;
    names
        .iter()
        .zip(&matrix.parties)
        .map(|(n, p)| if twice(n) { p.full() } else { n.clone() })
        .collect()
}

fn cell(reach: &Option<Reach>) -> String {
    match reach {
        None => "-".to_owned(),
        Some(r) if r.is_exact() => r.surely.to_string(),
        Some(r) if r.surely.is_empty() => "?".to_owned(),
        Some(r) => format!("{},?", r.surely),
    }
}

/// `TCP 80,443;UDP 53`, `All Connections`, `No Connections`: the words of netpol-analyzer.
pub(crate) fn conn(reach: &Reach) -> String {
    let text = ports(&reach.surely);
    if reach.is_exact() { text } else { format!("{text} (undecided: depends on addresses)") }
}

fn ports(set: &PortSet) -> String {
    if set.is_all() {
        return "All Connections".to_owned();
    }
    let mut parts = Vec::new();
    for protocol in Protocol::ALL {
        let ranges: Vec<String> = set
            .ranges(protocol)
            .iter()
            .map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") })
            .collect();
        if !ranges.is_empty() {
            parts.push(format!("{} {}", protocol.as_str(), ranges.join(",")));
        }
    }
    if set.others() {
        parts.push("other protocols".to_owned());
    }
    if parts.is_empty() { "No Connections".to_owned() } else { parts.join(";") }
}

/// The pairs that may connect.
fn rows(matrix: &Matrix) -> impl Iterator<Item = [String; 3]> {
    matrix.parties.iter().zip(&matrix.cells).flat_map(move |(src, row)| {
        matrix.parties.iter().zip(row).filter_map(move |(dst, cell)| {
            let reach = cell.as_ref().filter(|r| !r.possibly.is_empty())?;
            Some([src.full(), dst.full(), conn(reach)])
        })
    })
}

pub(crate) fn csv(matrix: &Matrix) -> String {
    let mut out = String::from("src,dst,conn\n");
    for row in rows(matrix) {
        let quoted = row.map(|f| {
            if f.contains([',', '"']) { format!("\"{}\"", f.replace('"', "\"\"")) } else { f }
        });
        push_line(&mut out, &quoted.join(","));
    }
    out
}

pub(crate) fn markdown(matrix: &Matrix) -> String {
    let mut out = String::from("| src | dst | conn |\n|---|---|---|\n");
    for row in rows(matrix) {
        push_line(&mut out, &format!("| {} |", row.join(" | ")));
    }
    out
}
