//! The default drops of one isolated class, and the id that names every policy behind them.

use rust_openflow::Match;
use weir_policy::ids::RuleId;
use weir_policy::rule::{Direction, Tier};

use super::priority;
use crate::pipeline::base::{commit, ct_state, mark_revoked, state, whole};
use crate::pipeline::cookie::{Cookie, Kind, Stage};
use crate::pipeline::{FlowPair, PipelineConfig, families, flow, regs, table};

/// Rule table and subject register of a direction.
pub const fn place(direction: Direction) -> (u8, regs::RegField) {
    match direction {
        Direction::Egress => (table::EGRESS_RULE, regs::SRC_CLASS),
        Direction::Ingress => (table::INGRESS_RULE, regs::DST_CLASS),
    }
}

/// Drops of the class in one direction: new packets silently and without a conntrack entry; established connections with
/// the mark that stops their replies (NP-38).
///
/// Fragments of a connection are dropped without the mark: `ct` would hold the first one until later ones, which a rule
/// for another port may let go on, complete the datagram at their own `ct`, and both would be let go.
pub fn flows(
    config: &PipelineConfig,
    direction: Direction,
    class: u32,
    set: RuleId,
) -> Vec<FlowPair> {
    let (table, register) = place(direction);
    let cookie = Cookie::encode(Kind::Isolation, Stage::new(Tier::NetworkPolicy, direction), set.0);
    let of_class = |m: Match| register.matches(m, class);
    let mut out =
        vec![flow(table, priority::ISOLATED, of_class(Match::new()), cookie, vec![], None)];
    for m in families() {
        let established = whole(state(m, ct_state::EST | ct_state::TRK));
        let cut = commit(config.zone, vec![mark_revoked(1)]);
        out.push(flow(table, priority::CUT, of_class(established), cookie, vec![cut], None));
    }
    if !config.sctp_tracked {
        for m in [Match::sctp(), Match::sctp6()] {
            out.push(flow(table, priority::SCTP_GAP, of_class(m), cookie, vec![], None));
        }
    }
    out
}
