//! Cookies: who owns a flow and which rule made it.
//!
//! `57` magic, `01` layout version, one nibble kind, one nibble stage, `00`, then 32 bits: the rule id, the isolation
//! set, or a local number (class, service). Documented for ever; a new layout is a new version byte.

use weir_policy::rule::{Direction, Tier};

/// The first byte of every cookie of ours.
pub const MAGIC: u8 = 0x57;
/// The second: this layout.
pub const VERSION: u8 = 0x01;

/// What a flow is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Base = 0,
    Allow = 1,
    Deny = 2,
    Clause = 3,
    Isolation = 4,
    AlwaysAllowed = 5,
    SpoofGuard = 6,
    Trace = 7,
    Staged = 8,
}

impl Kind {
    /// As `weirctl flows --owner` names it.
    pub const fn owner(self) -> &'static str {
        match self {
            Self::Base | Self::AlwaysAllowed | Self::SpoofGuard => "base",
            Self::Allow | Self::Deny => "rule",
            Self::Clause => "clause",
            Self::Isolation => "deny",
            Self::Trace => "trace",
            Self::Staged => "staged",
        }
    }

    const fn from_nibble(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::Base,
            1 => Self::Allow,
            2 => Self::Deny,
            3 => Self::Clause,
            4 => Self::Isolation,
            5 => Self::AlwaysAllowed,
            6 => Self::SpoofGuard,
            7 => Self::Trace,
            8 => Self::Staged,
            _ => return None,
        })
    }
}

/// The stage nibble: none, or tier and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stage(u8);

impl Stage {
    pub const NONE: Self = Self(0);

    pub const fn new(tier: Tier, direction: Direction) -> Self {
        let tier = match tier {
            Tier::Admin => 1,
            Tier::NetworkPolicy => 2,
            Tier::Baseline => 3,
        };
        Self(match direction {
            Direction::Ingress => tier | 8,
            Direction::Egress => tier,
        })
    }

    /// None for [`Stage::NONE`].
    pub const fn direction(self) -> Option<Direction> {
        match self.0 {
            0 => None,
            n if n & 8 != 0 => Some(Direction::Ingress),
            _ => Some(Direction::Egress),
        }
    }
}

/// A cookie taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    pub kind: Kind,
    pub stage: Stage,
    pub id: u32,
}

impl Cookie {
    /// The cookie of a flow.
    pub const fn encode(kind: Kind, stage: Stage, id: u32) -> u64 {
        ((MAGIC as u64) << 56)
            | ((VERSION as u64) << 48)
            | ((kind as u64) << 44)
            | ((stage.0 as u64) << 40)
            | id as u64
    }

    /// A flow of the fixed part of the pipeline; `id` is a class or 0.
    pub const fn base(id: u32) -> u64 {
        Self::encode(Kind::Base, Stage::NONE, id)
    }

    /// None if the cookie is not ours, or of a layout that this version does not know.
    pub fn read(cookie: u64) -> Option<Self> {
        let b = cookie.to_be_bytes();
        if b[0] != MAGIC || b[1] != VERSION {
            return None;
        }
        let id = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
        Some(Self { kind: Kind::from_nibble(b[2] >> 4)?, stage: Stage(b[2] & 0xf), id })
    }

    /// The flow is ours, whatever the layout.
    pub const fn is_ours(cookie: u64) -> bool {
        (cookie >> 56) as u8 == MAGIC
    }
}

/// The local number of a service clause: protocol and port, below the rule ids and above the classes.
pub const fn service_number(protocol_index: u8, port: u16) -> u32 {
    0x80_0000 | ((protocol_index as u32) << 16) | port as u32
}
