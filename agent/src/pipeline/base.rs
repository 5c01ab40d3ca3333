//! The flows that are always there: what does not depend on ports, endpoints or policies.

use std::net::{Ipv4Addr, Ipv6Addr};

use rust_openflow::{Action, CtAction, Field, Match};

use super::cookie::{Cookie, Kind, Stage};
use super::regs::{self, RegField};
use super::{FlowPair, PipelineConfig, families, flow, load, table};

/// Bits of `ct_state`, as on the wire.
pub mod ct_state {
    pub const NEW: u128 = 0x01;
    pub const EST: u128 = 0x02;
    pub const REL: u128 = 0x04;
    pub const RPL: u128 = 0x08;
    pub const INV: u128 = 0x10;
    pub const TRK: u128 = 0x20;
}
use ct_state::{EST, INV, NEW, REL, RPL, TRK};

/// The bit of `vlan_vid` that says that there is a tag.
pub const VLAN_PRESENT: u128 = 0x1000;

/// Set in the destination MAC of a frame for a group of stations, broadcast included. Source: IEEE 802, the I/G bit.
pub const GROUP_BIT: u128 = 0x0100_0000_0000;

/// `output:NORMAL`.
pub const NORMAL: u32 = 0xffff_fffa;

/// Neighbour discovery and multicast listener types that pass from outside: router solicitation to redirect, and
/// listener queries and reports (NP-39).
const ND_FROM_OUTSIDE: [u128; 9] = [130, 131, 132, 133, 134, 135, 136, 137, 143];

/// `ct_state` with all of these bits set.
pub fn state(match_: Match, set: u128) -> Match {
    match_.with_masked(Field::CtState, set, set)
}

/// A packet that is no fragment (`nw_frag=no`).
pub fn whole(match_: Match) -> Match {
    match_.with_masked(Field::IpFrag, 0, FRAGMENT)
}

/// Bits of `nw_frag`: a fragment, with an offset. Source: ovs-fields(7), "IP Fragment".
const FRAGMENT: u128 = 3;

/// Neighbour discovery or a listener message that is what it says: whole, and with the hop limit that shows that it comes
/// from this link. Source: RFC 4861, sections 4 and 7; RFC 6980; RFC 2710 and RFC 3810, section 5.
pub fn of_this_link(kind: u128) -> Match {
    let hops = if is_listener(kind) { 1 } else { 255 };
    whole(Match::icmp6().with(Field::Icmpv6Type, kind)).with(Field::IpTtl, hops)
}

/// Multicast listener queries, reports and their end.
const fn is_listener(kind: u128) -> bool {
    matches!(kind, 130..=132 | 143)
}

/// A TCP packet that opens a connection: SYN without ACK.
fn opens(match_: Match) -> Match {
    match_.with_masked(Field::TcpFlags, SYN, SYN | ACK)
}

/// Flags of TCP. Source: RFC 9293, section 3.1.
const SYN: u128 = 0x002;
const RST: u128 = 0x004;
const ACK: u128 = 0x010;

/// `ct(commit,zone=Z,exec(...))`.
pub fn commit(zone: u16, exec: Vec<Action>) -> Action {
    Action::Ct(CtAction { commit: true, zone, actions: exec, ..CtAction::default() })
}

/// `load:VALUE->NXM_NX_CT_MARK[0]`: cut (1) or live (0).
pub fn mark_revoked(value: u64) -> Action {
    let f = regs::CT_REVOKED;
    Action::RegLoad { dst: Field::CtMark, offset: f.offset, bits: f.bits, value }
}

/// Both rule ids, from the registers to the label; and not cut, which an entry may be that has seen no answer yet.
fn labels() -> Vec<Action> {
    vec![
        mark_revoked(0),
        label_from(&regs::INGRESS_RULE, &regs::CT_INGRESS_RULE),
        label_from(&regs::EGRESS_RULE, &regs::CT_EGRESS_RULE),
    ]
}

fn label_from(register: &RegField, label: &RegField) -> Action {
    Action::RegMove {
        bits: 32,
        src: Field::Reg(register.reg),
        src_offset: 0,
        dst: Field::CtLabel,
        dst_offset: u16::from(label.offset),
    }
}

fn base(
    table: u8,
    priority: u16,
    match_: Match,
    actions: Vec<Action>,
    goto: Option<u8>,
) -> FlowPair {
    flow(table, priority, match_, Cookie::base(0), actions, goto)
}

/// All of them.
pub fn flows(config: &PipelineConfig) -> Vec<FlowPair> {
    let mut out = Vec::new();
    use table::*;

    // closed unless a port says otherwise
    for t in [CLASSIFIER, SPOOF_GUARD, CONNTRACK, CONNTRACK_STATE] {
        out.push(base(t, 0, Match::new(), vec![], None));
    }

    // a workload has no business on a VLAN of its choice
    let tagged = Match::new().with_masked(Field::VlanVid, VLAN_PRESENT, VLAN_PRESENT);
    let tagged = regs::ORIGIN.matches(tagged, regs::origin::WORKLOAD);
    let guard = Cookie::encode(Kind::SpoofGuard, Stage::NONE, 0);
    out.push(flow(SPOOF_GUARD, 65000, tagged, guard, vec![], None));

    // what does not come from a workload
    out.push(base(SPOOF_GUARD, 90, Match::arp(), vec![], Some(OUTPUT)));
    for t in ND_FROM_OUTSIDE {
        out.push(base(SPOOF_GUARD, 90, of_this_link(t), vec![], Some(OUTPUT)));
    }
    for m in families() {
        out.push(base(SPOOF_GUARD, 80, m, vec![], Some(CONNTRACK)));
    }
    // neighbour discovery of a workload that no flow of its port lets through: router advertisements, redirects, and
    // whatever claims another address, although it comes from an address of its own
    for t in ND_FROM_OUTSIDE {
        let m = Match::icmp6().with(Field::Icmpv6Type, t);
        let m = regs::ORIGIN.matches(m, regs::origin::WORKLOAD);
        out.push(flow(SPOOF_GUARD, 205, m, guard, vec![], None));
    }

    for m in families() {
        let track = Action::Ct(CtAction {
            zone: config.zone,
            table: Some(CONNTRACK_STATE),
            ..CtAction::default()
        });
        out.push(base(CONNTRACK, 100, m, vec![track], None));
    }
    if !config.sctp_tracked {
        for m in [Match::sctp(), Match::sctp6()] {
            out.push(base(CONNTRACK, 110, m, vec![], Some(SRC_CLASS)));
        }
    }

    let live = || Match::new();
    let cut = |m| regs::CT_REVOKED.matches(m, 1);
    out.push(base(CONNTRACK_STATE, 250, state(live(), INV | TRK), vec![], None));
    // of an unsure connection either direction may be the one that was not allowed
    let cut_unsure = cut(regs::CT_UNSURE.matches(state(live(), EST | TRK), 1));
    out.push(base(CONNTRACK_STATE, 245, cut_unsure, vec![], None));
    out.push(base(CONNTRACK_STATE, 240, cut(state(live(), RPL | TRK)), vec![], None));
    out.push(base(CONNTRACK_STATE, 240, cut(state(live(), REL | TRK)), vec![], None));
    // an ICMP error from a workload speaks of a connection of its own, see `port::related`, or it is forged
    let related = regs::ORIGIN.matches(state(live(), REL | TRK), regs::origin::WORKLOAD);
    out.push(flow(CONNTRACK_STATE, 225, related, guard, vec![], None));
    out.push(base(CONNTRACK_STATE, 220, state(live(), REL | TRK), vec![], Some(FORWARD)));
    let unsure = regs::CT_UNSURE.matches(state(live(), RPL | TRK), 1);
    out.push(base(CONNTRACK_STATE, 210, unsure, vec![], Some(SRC_CLASS)));
    out.push(base(CONNTRACK_STATE, 200, state(live(), RPL | TRK), vec![], Some(FORWARD)));
    out.push(base(CONNTRACK_STATE, 100, state(live(), TRK), vec![], Some(SRC_CLASS)));

    // the way through the tiers
    out.push(base(SRC_CLASS, 0, Match::new(), vec![], Some(DST_CLASS)));
    out.push(base(DST_CLASS, 0, Match::new(), vec![], Some(EGRESS_ADMIN)));
    let from_workload = regs::ORIGIN.matches(Match::new(), regs::origin::WORKLOAD);
    out.push(base(EGRESS_ADMIN, 100, from_workload, vec![], Some(EGRESS_RULE)));
    // what comes back from the node with a Service's address replaced is judged by the endpoint (NP-30)
    let of_workload = regs::SRC_LOCAL.matches(Match::new(), 1);
    out.push(base(EGRESS_ADMIN, 100, of_workload, vec![], Some(EGRESS_RULE)));
    out.push(base(EGRESS_ADMIN, 0, Match::new(), vec![], Some(INGRESS_ADMIN)));
    let itself = regs::SELF_TRAFFIC.matches(Match::new(), 1);
    out.push(base(EGRESS_RULE, 65000, itself.clone(), vec![], Some(EGRESS_BASELINE)));
    out.push(base(EGRESS_RULE, 0, Match::new(), vec![], Some(EGRESS_BASELINE)));
    out.push(base(EGRESS_BASELINE, 0, Match::new(), vec![], Some(INGRESS_ADMIN)));
    let own_node = regs::OWN_NODE.matches(Match::new(), 1);
    let always = Cookie::encode(Kind::AlwaysAllowed, Stage::NONE, 0);
    out.push(flow(INGRESS_ADMIN, 65000, own_node, always, vec![], Some(COMMIT)));
    let to_workload = regs::DST_LOCAL.matches(Match::new(), 1);
    out.push(base(INGRESS_ADMIN, 100, to_workload, vec![], Some(INGRESS_RULE)));
    out.push(base(INGRESS_ADMIN, 0, Match::new(), vec![], Some(COMMIT)));
    out.push(base(INGRESS_RULE, 65000, itself, vec![], Some(INGRESS_BASELINE)));
    out.push(base(INGRESS_RULE, 0, Match::new(), vec![], Some(INGRESS_BASELINE)));
    out.push(base(INGRESS_BASELINE, 0, Match::new(), vec![], Some(COMMIT)));

    for m in families() {
        let allowed_again = regs::CT_REVOKED.matches(state(m.clone(), EST | TRK), 1);
        let live = commit(config.zone, vec![mark_revoked(0)]);
        out.push(base(COMMIT, 200, allowed_again, vec![live], Some(FORWARD)));
        let new = state(m, NEW | TRK);
        out.push(base(COMMIT, 190, new, vec![commit(config.zone, labels())], Some(FORWARD)));
    }
    // Without its SYN, after conntrack lost its entry, a connection is committed too, but either end may have begun it.
    for m in [Match::tcp(), Match::tcp6()] {
        let new = state(m, NEW | TRK);
        let sure = commit(config.zone, labels());
        out.push(base(COMMIT, 195, opens(new.clone()), vec![sure], Some(FORWARD)));
        // a reset begins nothing, and its entry would outlive it
        let reset = new.clone().with_masked(Field::TcpFlags, RST, RST);
        out.push(base(COMMIT, 193, reset, vec![], Some(FORWARD)));
        let f = regs::CT_UNSURE;
        let mut exec = labels();
        exec.push(Action::RegLoad { dst: Field::CtMark, offset: f.offset, bits: f.bits, value: 1 });
        out.push(base(COMMIT, 192, new, vec![commit(config.zone, exec)], Some(FORWARD)));
    }
    out.push(base(COMMIT, 0, Match::new(), vec![], Some(FORWARD)));

    // a group's address belongs into a group's frame: to one station it would get past the judgement of its port
    let to_one = |m: Match| m.with_masked(Field::EthDst, 0, GROUP_BIT);
    let broadcast = Ipv4Addr::BROADCAST;
    for m in [
        Match::ip().ipv4_dst(Ipv4Addr::new(224, 0, 0, 0), 4),
        Match::ip().ipv4_dst(broadcast, 32),
        Match::ipv6().ipv6_dst(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
    ] {
        out.push(flow(FORWARD, 195, to_one(m), guard, vec![], None));
    }
    out.push(base(FORWARD, 0, Match::new(), vec![], Some(OUTPUT)));
    let normal = Action::Output { port: NORMAL, max_len: 0 };
    out.push(base(OUTPUT, 0, Match::new(), vec![normal], None));
    out
}

/// The node's own ports and its uplinks, and where the node's own traffic is recognised (NP-32, NP-33).
pub fn node_port(
    port: u32,
    origin: u32,
    addresses: impl IntoIterator<Item = std::net::IpAddr>,
) -> Vec<FlowPair> {
    let from = Match::new().with(Field::InPort, u128::from(port));
    let mut out = vec![base(
        table::CLASSIFIER,
        150,
        from,
        vec![load(&regs::ORIGIN, origin)],
        Some(table::SPOOF_GUARD),
    )];
    if origin == regs::origin::GATEWAY {
        for a in addresses {
            let m = super::family(a).with(Field::InPort, u128::from(port));
            out.push(flow(
                table::SRC_CLASS,
                200,
                m.nw_src(a, super::full(a)),
                Cookie::encode(Kind::AlwaysAllowed, Stage::NONE, 0),
                vec![load(&regs::OWN_NODE, 1)],
                Some(table::DST_CLASS),
            ));
        }
    }
    out
}
