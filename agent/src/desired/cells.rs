//! Flows as sums of parts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use rust_openflow::Instruction;

use crate::flow::{FlowKey, FlowTable, FlowValue};
use crate::flows::rule::conjunction;
use crate::flows::{Contribution, Part};

/// Parts by owner, and the flows they add up to.
pub(super) struct Cells<O> {
    parts: HashMap<O, BTreeMap<FlowKey, Part>>,
    cells: HashMap<FlowKey, BTreeSet<O>>,
    flows: FlowTable,
    /// Keys whose parts changed since the flows were last summed up.
    dirty: BTreeSet<FlowKey>,
}

impl<O> Default for Cells<O> {
    fn default() -> Self {
        Self {
            parts: HashMap::new(),
            cells: HashMap::new(),
            flows: FlowTable::new(),
            dirty: BTreeSet::new(),
        }
    }
}

impl<O: Clone + Ord + Hash> Cells<O> {
    /// Replaces everything that `owner` contributes.
    pub(super) fn set(&mut self, owner: O, parts: Vec<Contribution>) {
        let new: BTreeMap<FlowKey, Part> = parts.into_iter().collect();
        let old = if new.is_empty() {
            self.parts.remove(&owner)
        } else {
            self.parts.insert(owner.clone(), new.clone())
        }
        .unwrap_or_default();
        let mut touched = BTreeSet::new();
        for key in old.keys().filter(|k| !new.contains_key(k)) {
            if let Some(owners) = self.cells.get_mut(key) {
                owners.remove(&owner);
                if owners.is_empty() {
                    self.cells.remove(key);
                }
            }
            touched.insert(key.clone());
        }
        for (key, part) in new {
            if old.get(&key) != Some(&part) {
                self.cells.entry(key.clone()).or_default().insert(owner.clone());
                touched.insert(key);
            }
        }
        self.dirty.extend(touched);
    }

    /// The flows that are different since the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<FlowKey> {
        let mut changed = BTreeSet::new();
        for key in std::mem::take(&mut self.dirty) {
            let new = self.sum(&key);
            if self.flows.get(&key) == new.as_ref() {
                continue;
            }
            match new {
                Some(value) => self.flows.insert(key.clone(), value),
                None => self.flows.remove(&key),
            };
            changed.insert(key);
        }
        changed
    }

    pub(super) fn flows(&self) -> &FlowTable {
        &self.flows
    }

    pub(super) fn owners(&self, key: &FlowKey) -> impl Iterator<Item = &O> {
        self.cells.get(key).into_iter().flatten()
    }

    /// The keys of the flows that an owner contributes to.
    pub(super) fn keys(&self, owner: &O) -> impl Iterator<Item = &FlowKey> {
        self.parts.get(owner).into_iter().flat_map(BTreeMap::keys)
    }

    /// How many these are.
    pub(super) fn count(&self, owner: &O) -> usize {
        self.parts.get(owner).map_or(0, BTreeMap::len)
    }

    /// The flow of a key: all its clauses, or the whole flow of the highest rank.
    fn sum(&self, key: &FlowKey) -> Option<FlowValue> {
        let mut clauses: BTreeMap<_, _> = BTreeMap::new();
        let mut clause_cookie = 0;
        let mut best: Option<(&crate::flows::Rank, &FlowValue)> = None;
        for owner in self.cells.get(key)? {
            match self.parts.get(owner)?.get(key)? {
                Part::Clause { rule, clause, n_clauses, cookie } => {
                    clauses.insert(*rule, conjunction(*rule, *clause, *n_clauses));
                    clause_cookie = *cookie;
                }
                Part::Whole { rank, value } => {
                    if best.is_none_or(|(r, _)| rank > r) {
                        best = Some((rank, value));
                    }
                }
            }
        }
        match best {
            Some((_, value)) => Some(value.clone()),
            None => Some(FlowValue {
                cookie: clause_cookie,
                instructions: vec![Instruction::ApplyActions(clauses.into_values().collect())],
            }),
        }
    }
}
