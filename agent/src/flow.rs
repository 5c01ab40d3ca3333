//! Flows as values: what is wanted and what is installed have the same type, so that they can be compared.

use std::collections::BTreeMap;

use rust_openflow::{Instruction, Match};

/// What identifies a flow in a switch: the same key twice is one flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    pub table: u8,
    pub priority: u16,
    pub match_: Match,
}

/// What a flow does, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowValue {
    pub cookie: u64,
    /// Empty = drop.
    pub instructions: Vec<Instruction>,
}

/// The flows of a bridge.
pub type FlowTable = BTreeMap<FlowKey, FlowValue>;
