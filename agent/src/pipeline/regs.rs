//! Every register and conntrack bit that the pipeline uses. Two fields that overlap do not compile.

use rust_openflow::{Field, Match};

/// A run of bits in a register, `ct_mark` or `ct_label`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegField {
    pub name: &'static str,
    pub store: Store,
    /// Number of the register; 0 for the others.
    pub reg: u8,
    /// Units: bits from the least significant.
    pub offset: u8,
    /// Units: bits.
    pub bits: u8,
    /// What it holds, in a sentence.
    pub about: &'static str,
}

/// Where a field lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Reg,
    CtMark,
    CtLabel,
}

impl RegField {
    const fn reg(name: &'static str, reg: u8, offset: u8, bits: u8, about: &'static str) -> Self {
        Self { name, store: Store::Reg, reg, offset, bits, about }
    }

    /// Adds "this field equals `value`" to a match, beside what it says of other bits of the same register.
    pub fn matches(&self, match_: Match, value: u32) -> Match {
        let mask = (if self.bits >= 32 { u32::MAX } else { (1 << self.bits) - 1 }) << self.offset;
        let field = match self.store {
            Store::Reg => Field::Reg(self.reg),
            Store::CtMark => Field::CtMark,
            Store::CtLabel => Field::CtLabel,
        };
        let mask = u128::from(mask);
        let (others, asked) = match_.field(field).map_or((0, 0), |f| (f.value & !mask, f.mask));
        match_.with_masked(field, others | u128::from(value) << self.offset, asked | mask)
    }
}

/// Values of [`ORIGIN`].
pub mod origin {
    pub const WORKLOAD: u32 = 1;
    pub const UPLINK: u32 = 2;
    pub const GATEWAY: u32 = 3;
}

pub const ORIGIN: RegField = RegField::reg(
    "Origin",
    0,
    0,
    4,
    "Where the packet came from: 1 a workload, 2 an uplink or tunnel, 3 the node's gateway port.",
);
/// The lowest bit of [`ORIGIN`]: set for workloads and the gateway port, clear for uplinks. An alias, so not in [`FIELDS`].
pub const ORIGIN_HERE: RegField =
    RegField::reg("OriginHere", 0, 0, 1, "1: the packet came from this node, not from an uplink.");
pub const SELF_TRAFFIC: RegField = RegField::reg(
    "SelfTraffic",
    0,
    4,
    1,
    "1: source and destination are the same workload (hairpin); NetworkPolicy does not apply.",
);
pub const OWN_NODE: RegField = RegField::reg(
    "OwnNode",
    0,
    5,
    1,
    "1: sent by the node itself, from its own port with one of its own addresses.",
);
pub const DST_LOCAL: RegField =
    RegField::reg("DstLocal", 0, 6, 1, "1: the destination is a workload of this node.");
pub const SRC_LOCAL: RegField =
    RegField::reg("SrcLocal", 0, 7, 1, "1: the source has the address of a workload of this node.");
pub const SRC_CLASS: RegField =
    RegField::reg("SrcClass", 2, 0, 32, "Class of the source; 0: no workload that a policy names.");
pub const DST_CLASS: RegField = RegField::reg(
    "DstClass",
    3,
    0,
    32,
    "Class of the destination; 0: no workload that a policy names.",
);
pub const EGRESS_RULE: RegField =
    RegField::reg("EgressRule", 4, 0, 32, "Id of the rule that allowed egress; 0: not isolated.");
pub const INGRESS_RULE: RegField =
    RegField::reg("IngressRule", 5, 0, 32, "Id of the rule that allowed ingress; 0: not isolated.");
pub const CT_REVOKED: RegField = RegField {
    name: "Revoked",
    store: Store::CtMark,
    reg: 0,
    offset: 0,
    bits: 1,
    about: "1: the connection was cut by a policy change; its replies are dropped.",
};
pub const CT_UNSURE: RegField = RegField {
    name: "Unsure",
    store: Store::CtMark,
    reg: 0,
    offset: 1,
    bits: 1,
    about: "1: a TCP connection that was met without its SYN, so that nobody knows which end began it; packets of both \
            directions are judged.",
};
pub const CT_INGRESS_RULE: RegField = RegField {
    name: "IngressRule",
    store: Store::CtLabel,
    reg: 0,
    offset: 0,
    bits: 32,
    about: "Id of the ingress rule that let the connection in.",
};
pub const CT_EGRESS_RULE: RegField = RegField {
    name: "EgressRule",
    store: Store::CtLabel,
    reg: 0,
    offset: 32,
    bits: 32,
    about: "Id of the egress rule that let the connection out.",
};

/// All of them.
pub const FIELDS: [RegField; 13] = [
    ORIGIN,
    SELF_TRAFFIC,
    OWN_NODE,
    DST_LOCAL,
    SRC_LOCAL,
    SRC_CLASS,
    DST_CLASS,
    EGRESS_RULE,
    INGRESS_RULE,
    CT_REVOKED,
    CT_UNSURE,
    CT_INGRESS_RULE,
    CT_EGRESS_RULE,
];

const fn same_store(a: Store, b: Store) -> bool {
    matches!(
        (a, b),
        (Store::Reg, Store::Reg)
            | (Store::CtMark, Store::CtMark)
            | (Store::CtLabel, Store::CtLabel)
    )
}

const fn overlap(a: &RegField, b: &RegField) -> bool {
    same_store(a.store, b.store)
        && a.reg == b.reg
        && a.offset < b.offset + b.bits
        && b.offset < a.offset + a.bits
}

const _: () = {
    let mut i = 0;
    while i < FIELDS.len() {
        let mut j = i + 1;
        while j < FIELDS.len() {
            assert!(!overlap(&FIELDS[i], &FIELDS[j]), "two register fields overlap");
            j += 1;
        }
        i += 1;
    }
};
