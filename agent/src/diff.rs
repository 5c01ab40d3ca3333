//! Wanted and installed -> what to send.
//!
//! A change set is one bundle, and OVS makes a bundle one version of its tables: no packet sees a part of it. The order
//! still follows the rule that holds without that promise: flows that a conjunction ends in come before its clauses, and
//! go after them; drops come first of all.

use std::collections::BTreeSet;

use rust_openflow::{Field, FlowCommand, FlowMod};

use crate::flow::{FlowKey, FlowTable, FlowValue};

/// Everything that differs.
pub fn diff(wanted: &FlowTable, installed: &FlowTable) -> Vec<FlowMod> {
    let keys: BTreeSet<FlowKey> = wanted
        .iter()
        .filter(|(k, v)| installed.get(k) != Some(v))
        .map(|(k, _)| k)
        .chain(installed.keys().filter(|k| !wanted.contains_key(k)))
        .cloned()
        .collect();
    diff_keys(&keys, wanted, installed)
}

/// What differs among these flows.
pub fn diff_keys(
    keys: &BTreeSet<FlowKey>,
    wanted: &FlowTable,
    installed: &FlowTable,
) -> Vec<FlowMod> {
    let mut adds: Vec<(u8, FlowMod)> = Vec::new();
    let mut deletes: Vec<(u8, FlowMod)> = Vec::new();
    for key in keys {
        match (wanted.get(key), installed.get(key)) {
            (Some(new), old) if old != Some(new) => adds.push((rank(key, new), add(key, new))),
            (None, Some(old)) => deletes.push((rank(key, old), delete(key))),
            _ => {}
        }
    }
    adds.sort_by_key(|(rank, _)| *rank);
    deletes.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    adds.into_iter().chain(deletes).map(|(_, m)| m).collect()
}

/// Drops, then flows that conjunctions end in, then the rest.
fn rank(key: &FlowKey, value: &FlowValue) -> u8 {
    if value.instructions.is_empty() {
        0
    } else if key.match_.field(Field::ConjId).is_some() {
        1
    } else {
        2
    }
}

fn add(key: &FlowKey, value: &FlowValue) -> FlowMod {
    FlowMod {
        cookie: value.cookie,
        ..FlowMod::add(key.table, key.priority, key.match_.clone(), value.instructions.clone())
    }
}

fn delete(key: &FlowKey) -> FlowMod {
    FlowMod {
        command: FlowCommand::DeleteStrict,
        ..FlowMod::add(key.table, key.priority, key.match_.clone(), Vec::new())
    }
}
