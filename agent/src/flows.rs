//! From rules and classes to parts of flows.
//!
//! Several rules share one clause flow, so a rule does not make flows but *parts* of them: [`Part`]. Who contributes
//! which part is kept in `desired`, and a flow is the sum of its parts.

pub mod ids;
pub mod isolation;
pub mod rule;

use weir_policy::ids::RuleId;

use crate::flow::{FlowKey, FlowValue};

/// What one contributor adds to one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `conjunction(rule, clause/n)`: all such parts of one key are actions of one flow.
    Clause {
        rule: RuleId,
        /// From 0, as on the wire.
        clause: u8,
        n_clauses: u8,
        /// The cookie of the shared flow: a function of its match alone.
        cookie: u64,
    },
    /// The whole flow. Where several claim one key the highest rank is installed.
    Whole { rank: Rank, value: FlowValue },
}

/// Which of several claims on one flow wins; the same whatever the order of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(pub u64, pub weir_policy::ids::Str);

/// A part and the flow it belongs to.
pub type Contribution = (FlowKey, Part);

/// Priorities within a rule table.
pub mod priority {
    /// SCTP of isolated classes where the datapath cannot track it.
    pub const SCTP_GAP: u16 = 400;
    /// Rules with neither peers nor services: one flow per subject class, no conjunction.
    pub const PLAIN: u16 = 300;
    /// Conjunctive rules, spread from here over as many priorities as their number asks for.
    pub const CONJUNCTION: u16 = 200;
    /// Established connections of an isolated class that no rule allows any more: cut.
    pub const CUT: u16 = 110;
    /// Everything else of an isolated class: dropped.
    pub const ISOLATED: u16 = 100;
}

/// Rules that share one priority. One flow takes at most 4,087 conjunction actions within a bundle (64 KB messages); a
/// rule has at most one in any flow, so this many rules at one priority can never exceed it.
pub const RULES_PER_PRIORITY: usize = 4_000;

/// The most priorities that rules are spread over: what lies between [`priority::CONJUNCTION`] and [`priority::PLAIN`].
pub const MAX_BANKS: u32 = 64;
