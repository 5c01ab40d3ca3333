//! The texts of `weirctl flows`.

use super::columns::{columns, thousands};
use crate::annotate::{layout, words};
use crate::cmd::flows::{Line, Listing};

const HEADS: [&str; 7] = ["TABLE", "PRIO", "MATCH", "ACTION", "PACKETS", "OWNER", "WHAT"];
/// Columns of numbers stand to the right.
const RIGHT: [bool; 7] = [false, true, false, false, true, false, false];

pub(crate) fn table(listing: &Listing, heads: bool) -> String {
    let rows: Vec<Vec<String>> = listing.lines.iter().map(row).collect();
    let mut out = String::new();
    if heads {
        out.push_str(&head(listing));
        out.push('\n');
    }
    let heads: &[&str] = if heads { &HEADS } else { &[] };
    out.push_str(&columns(heads, &rows, &RIGHT));
    out
}

/// `NODE n5  br-int  OVS 3.1.0  revision 1841  5 of 1,204 flows`.
fn head(listing: &Listing) -> String {
    let mut parts = Vec::new();
    parts.extend(listing.node.as_ref().map(|n| format!("NODE {n}")));
    parts.extend(listing.bridge.clone());
    parts.extend(listing.ovs.as_ref().map(|v| format!("OVS {v}")));
    parts.extend(listing.revision.map(|r| format!("revision {r}")));
    let shown = thousands(listing.lines.len());
    parts.push(format!("{shown} of {} flows", thousands(listing.all)));
    parts.join("  ")
}

fn row(line: &Line) -> Vec<String> {
    let packets = line.packets().map(|n| thousands(usize::try_from(n).unwrap_or(usize::MAX)));
    vec![
        layout::table_name(line.flow.table),
        line.flow.priority.to_string(),
        words::matching(&line.flow.match_),
        words::actions(&line.flow.instructions),
        packets.unwrap_or_else(|| "-".to_owned()),
        line.note.owner.as_str().to_owned(),
        line.note.what.clone(),
    ]
}

pub(crate) fn ofctl(listing: &Listing) -> String {
    listing.lines.iter().map(|l| l.ofctl() + "\n").collect()
}
