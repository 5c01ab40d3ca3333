//! The pipeline: tables, registers, cookies, and the flows of each stage.
//!
//! ```text
//!  0 Classifier -> 10 SpoofGuard -> 20 Conntrack -> 25 ConntrackState -> 30 SrcClass -> 35 DstClass
//!    -> 40 EgressAdmin -> 45 EgressRule -> 50 EgressBaseline
//!    -> 60 IngressAdmin -> 65 IngressRule -> 70 IngressBaseline -> 80 Commit -> 90 Forward -> 100 Output
//! ```
//!
//! ARP and neighbour discovery go from SpoofGuard straight to Output; replies and related ICMP of live connections go
//! from ConntrackState to Forward. One file per stage that has flows of its own.

pub mod base;
pub mod cookie;
pub mod endpoint;
pub mod multicast;
pub mod port;
pub mod regs;
pub mod table;

use std::collections::BTreeSet;
use std::net::IpAddr;

use rust_openflow::{Action, Field, Instruction, Match};

use crate::flow::{FlowKey, FlowValue};
use regs::RegField;

/// What of the pipeline depends on the bridge it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineConfig {
    /// The conntrack zone of all connections through the bridge.
    pub zone: u16,
    /// The datapath tracks SCTP with ports. False for the userspace datapath before OVS 3.2: there SCTP goes untracked,
    /// passes between pods that nothing isolates, and is dropped for the others (NP-28).
    pub sctp_tracked: bool,
    /// Addresses of the node beside those the controller names.
    pub node_addresses: BTreeSet<IpAddr>,
}

impl PipelineConfig {
    /// The zone that Weir uses unless told otherwise.
    pub const ZONE: u16 = 65520;
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self { zone: Self::ZONE, sctp_tracked: true, node_addresses: BTreeSet::new() }
    }
}

/// A flow with its key: what the stages produce.
pub type FlowPair = (FlowKey, FlowValue);

/// Builds a flow: match, then actions, then the table to go on with (none = the actions are all there is).
pub fn flow(
    table: u8,
    priority: u16,
    match_: Match,
    cookie: u64,
    actions: Vec<Action>,
    goto: Option<u8>,
) -> FlowPair {
    let mut instructions = Vec::new();
    if !actions.is_empty() {
        instructions.push(Instruction::ApplyActions(actions));
    }
    instructions.extend(goto.map(Instruction::GotoTable));
    (FlowKey { table, priority, match_ }, FlowValue { cookie, instructions })
}

/// `load:VALUE->FIELD`.
pub fn load(field: &RegField, value: u32) -> Action {
    Action::RegLoad {
        dst: Field::Reg(field.reg),
        offset: field.offset,
        bits: field.bits,
        value: u64::from(value),
    }
}

/// The match on the family of an address.
pub fn family(address: IpAddr) -> Match {
    if address.is_ipv4() { Match::ip() } else { Match::ipv6() }
}

/// Full length of an address's family. Units: bits.
pub const fn full(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `ip` and `ipv6`, for flows that need either.
pub fn families() -> [Match; 2] {
    [Match::ip(), Match::ipv6()]
}

/// A MAC address as a field value.
pub fn mac_value(mac: [u8; 6]) -> u128 {
    mac.iter().fold(0, |acc, b| (acc << 8) | u128::from(*b))
}
