//! Tables: numbers, names and what they are for. A pair of number and name is never reused for something else.

use std::collections::BTreeMap;

pub const CLASSIFIER: u8 = 0;
pub const SPOOF_GUARD: u8 = 10;
pub const CONNTRACK: u8 = 20;
pub const CONNTRACK_STATE: u8 = 25;
pub const SRC_CLASS: u8 = 30;
pub const DST_CLASS: u8 = 35;
pub const EGRESS_ADMIN: u8 = 40;
pub const EGRESS_RULE: u8 = 45;
pub const EGRESS_BASELINE: u8 = 50;
pub const INGRESS_ADMIN: u8 = 60;
pub const INGRESS_RULE: u8 = 65;
pub const INGRESS_BASELINE: u8 = 70;
pub const COMMIT: u8 = 80;
pub const FORWARD: u8 = 90;
pub const OUTPUT: u8 = 100;

/// Number, name, and what the table does, in a sentence.
pub const TABLES: [(u8, &str, &str); 15] = [
    (
        CLASSIFIER,
        "Classifier",
        "Where the packet comes from: a workload, the node's gateway port or an uplink. Any other port is closed.",
    ),
    (
        SPOOF_GUARD,
        "SpoofGuard",
        "A workload may use its own MAC and addresses only, in ARP and neighbour discovery too; these two go straight to Output.",
    ),
    (CONNTRACK, "Conntrack", "Looks the connection up in the zone of the bridge."),
    (
        CONNTRACK_STATE,
        "ConntrackState",
        "Drops what is invalid and the replies of cut connections; lets replies and related ICMP of live connections skip the policy; all packets of the original direction go on.",
    ),
    (SRC_CLASS, "SrcClass", "Source address to class; marks traffic of the node itself."),
    (DST_CLASS, "DstClass", "Destination address to class; marks destinations on this node."),
    (
        EGRESS_ADMIN,
        "EgressAdmin",
        "Egress of local workloads starts here; everything else goes to IngressAdmin. Rules of the Admin tier.",
    ),
    (
        EGRESS_RULE,
        "EgressRule",
        "NetworkPolicy egress: allow by conjunctions, below them a drop per isolated class.",
    ),
    (EGRESS_BASELINE, "EgressBaseline", "Rules of the Baseline tier."),
    (
        INGRESS_ADMIN,
        "IngressAdmin",
        "Ingress of local workloads starts here; traffic of the own node is allowed; other destinations go to Commit.",
    ),
    (
        INGRESS_RULE,
        "IngressRule",
        "NetworkPolicy ingress: allow by conjunctions, below them a drop per isolated class.",
    ),
    (INGRESS_BASELINE, "IngressBaseline", "Rules of the Baseline tier."),
    (
        COMMIT,
        "Commit",
        "Commits new connections with the rule ids in the ct_label; a cut connection that is allowed again is marked live.",
    ),
    (
        FORWARD,
        "Forward",
        "A local workload gets only packets to its own addresses; multicast reaches only ports that nothing isolates.",
    ),
    (OUTPUT, "Output", "Switching is left to NORMAL."),
];

/// The names as OVSDB takes them.
pub fn names() -> BTreeMap<u8, String> {
    TABLES.iter().map(|(n, name, _)| (*n, (*name).to_owned())).collect()
}

/// The name of a table, or its number.
pub fn name(table: u8) -> String {
    TABLES
        .iter()
        .find(|(n, ..)| *n == table)
        .map_or_else(|| table.to_string(), |(_, name, _)| (*name).to_owned())
}
