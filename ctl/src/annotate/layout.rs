//! What the numbers in Weir's flows mean: tables, cookies, registers, conntrack bits.
//!
//! Documented for ever in `docs/pipeline.md`, and so written down here a second time: a tool must read the flows of any
//! agent, also of one that is not built into it. `testbed/tests/layout.rs` compares both.

/// Number, name, what the table does in a few words.
pub const TABLES: [(u8, &str, &str); 15] = [
    (0, "Classifier", "where the packet comes from; unknown ports are closed"),
    (10, "SpoofGuard", "a workload may use its own addresses only"),
    (20, "Conntrack", "looks the connection up"),
    (25, "ConntrackState", "replies of live connections skip the policy"),
    (30, "SrcClass", "source address to class"),
    (35, "DstClass", "destination address to class"),
    (40, "EgressAdmin", "egress of local workloads starts here"),
    (45, "EgressRule", "NetworkPolicy egress"),
    (50, "EgressBaseline", "egress, Baseline tier"),
    (60, "IngressAdmin", "ingress of local workloads starts here"),
    (65, "IngressRule", "NetworkPolicy ingress"),
    (70, "IngressBaseline", "ingress, Baseline tier"),
    (80, "Commit", "stores new connections with the ids of their rules"),
    (90, "Forward", "a workload gets packets to its own addresses only"),
    (100, "Output", "switching is left to NORMAL"),
];

pub const CLASSIFIER: u8 = 0;
pub const SPOOF_GUARD: u8 = 10;
pub const SRC_CLASS: u8 = 30;
pub const DST_CLASS: u8 = 35;
pub const CONNTRACK_STATE: u8 = 25;
pub const EGRESS_ADMIN: u8 = 40;
pub const EGRESS_RULE: u8 = 45;
pub const INGRESS_ADMIN: u8 = 60;
pub const COMMIT: u8 = 80;
pub const INGRESS_RULE: u8 = 65;
pub const FORWARD: u8 = 90;

/// The register that holds the class of the source.
pub const REG_SRC_CLASS: u8 = 2;
/// The register that holds the class of the destination.
pub const REG_DST_CLASS: u8 = 3;
/// The register that holds the rule that allowed egress.
pub const REG_EGRESS_RULE: u8 = 4;
/// The register that holds the rule that allowed ingress.
pub const REG_INGRESS_RULE: u8 = 5;
/// Bit of `ct_mark`: the connection was cut.
pub const MARK_REVOKED: u128 = 1;
/// Bit of `ct_mark`: either end may have begun the connection.
pub const MARK_UNSURE: u128 = 2;

/// Fields of `reg0`: mask, value, in words.
pub const REG0: [(u128, u128, &str); 8] = [
    (0x0f, 1, "from workload"),
    (0x0f, 2, "from uplink"),
    (0x0f, 3, "from gateway"),
    (0x01, 1, "from this node"),
    (0x10, 0x10, "self"),
    (0x20, 0x20, "own node"),
    (0x40, 0x40, "local"),
    (0x80, 0x80, "source local"),
];

/// First id of rules and isolation sets; below are local numbers.
pub const FIRST_ID: u32 = 0x0100_0000;

/// The name of a table, or its number.
pub fn table_name(table: u8) -> String {
    TABLES
        .iter()
        .find(|(n, ..)| *n == table)
        .map_or_else(|| table.to_string(), |(_, name, _)| (*name).to_owned())
}

/// A table by number or, in any case, by name.
pub fn table_number(text: &str) -> Option<u8> {
    text.parse().ok().or_else(|| {
        TABLES.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(text)).map(|(n, ..)| *n)
    })
}

/// What a table is for; empty if it is none of Weir's.
pub fn table_purpose(table: u8) -> &'static str {
    TABLES.iter().find(|(n, ..)| *n == table).map_or("", |(_, _, about)| *about)
}

/// What a flow is for, as its cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Base,
    Allow,
    Deny,
    Clause,
    Isolation,
    AlwaysAllowed,
    SpoofGuard,
    Trace,
    Staged,
}

/// Who a flow belongs to: the values of `--owner`, and flows of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Owner {
    Base,
    Rule,
    Clause,
    Deny,
    Staged,
    Trace,
    /// Not Weir's.
    Foreign,
}

impl Owner {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Rule => "rule",
            Self::Clause => "clause",
            Self::Deny => "deny",
            Self::Staged => "staged",
            Self::Trace => "trace",
            Self::Foreign => "foreign",
        }
    }
}

/// A cookie taken apart: `57 01 KS 00 IIIIIIII`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    pub kind: Kind,
    /// `Some(true)`: ingress; none for flows of no direction.
    pub ingress: Option<bool>,
    pub id: u32,
}

impl Cookie {
    const MAGIC: u64 = 0x5701;

    /// None if the cookie is not Weir's, or of a layout not known here.
    pub fn read(cookie: u64) -> Option<Self> {
        if cookie >> 48 != Self::MAGIC {
            return None;
        }
        let kind = match cookie >> 44 & 0xf {
            0 => Kind::Base,
            1 => Kind::Allow,
            2 => Kind::Deny,
            3 => Kind::Clause,
            4 => Kind::Isolation,
            5 => Kind::AlwaysAllowed,
            6 => Kind::SpoofGuard,
            7 => Kind::Trace,
            8 => Kind::Staged,
            _ => return None,
        };
        let stage = cookie >> 40 & 0xf;
        let ingress = (stage != 0).then_some(stage & 8 != 0);
        Some(Self { kind, ingress, id: u32::try_from(cookie & 0xffff_ffff).unwrap_or(0) })
    }

    pub const fn owner(&self) -> Owner {
        match self.kind {
            Kind::Base | Kind::AlwaysAllowed | Kind::SpoofGuard => Owner::Base,
            Kind::Allow | Kind::Deny => Owner::Rule,
            Kind::Clause => Owner::Clause,
            Kind::Isolation => Owner::Deny,
            Kind::Trace => Owner::Trace,
            Kind::Staged => Owner::Staged,
        }
    }
}

/// Reads an id as people write it: 8 hex digits, `0x` and hex digits, or decimal as `conj_id` prints it.
///
/// Eight digits are hex, as cookies and labels print ids; ids printed in decimal have eight digits only below
/// 100,000,000, and then `known` tells which is meant.
pub fn read_id(text: &str, known: impl Fn(u32) -> bool) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u32::from_str_radix(hex, 16).ok();
    }
    let hex = (text.len() == 8).then(|| u32::from_str_radix(text, 16).ok()).flatten();
    let decimal = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match (hex, decimal) {
        (Some(h), Some(d)) if known(d) && !known(h) => Some(d),
        (Some(h), _) => Some(h),
        (None, d) => d,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        let c = Cookie::read(0x5701_1a00_2c91_e07a).unwrap();
        assert_eq!((c.kind, c.ingress, c.id), (Kind::Allow, Some(true), 0x2c91_e07a));
        let c = Cookie::read(0x5701_3200_0000_0005).unwrap();
        assert_eq!((c.owner(), c.ingress, c.id), (Owner::Clause, Some(false), 5));
        for foreign in [0, 0x5702_0000_0000_0000, 0x5701_f000_0000_0000] {
            assert_eq!(Cookie::read(foreign), None);
        }
    }

    #[test]
    fn ids_as_people_write_them() {
        let none = |_| false;
        assert_eq!(read_id("2c91e07a", none), Some(0x2c91_e07a));
        assert_eq!(read_id("0x2c91e07a", none), Some(0x2c91_e07a));
        assert_eq!(read_id("747757690", none), Some(0x2c91_e07a));
        // eight digits: hex, unless only the decimal is an id
        assert_eq!(read_id("20000000", none), Some(0x2000_0000));
        assert_eq!(read_id("20000000", |id| id == 20_000_000), Some(20_000_000));
        for bad in ["", "web", "2c91e07", "99999999999"] {
            assert_eq!(read_id(bad, none), None, "{bad}");
        }
    }

    #[test]
    fn tables_by_name_and_number() {
        assert_eq!(table_number("ingressrule"), Some(65));
        assert_eq!(table_number("65"), Some(65));
        assert_eq!(table_number("Nowhere"), None);
        assert_eq!((table_name(45).as_str(), table_name(7).as_str()), ("EgressRule", "7"));
    }
}
