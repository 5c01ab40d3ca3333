//! What OVS checks of a flow beyond its grammar: whether the match has what its fields and actions need.
//!
//! Source: OVS `lib/meta-flow.c`, `lib/nx-match.c` and `lib/ofp-actions.c`, as far as the answers of ovs-ofctl and of
//! a switch of OVS 3.1.0 show it; see `tests/flow_refusals.rs`.

use super::parse::ParseError;
use crate::action::{
    Action, CtAction, LearnAction, LearnSource, LearnTarget, NatAction, packet_type,
};
use crate::flow_mod::{FlowCommand, FlowMod};
use crate::instruction::Instruction;
use crate::oxm::{Field, Match, Prerequisite, ct_state, eth_type, ip_proto};
use crate::types::port;

/// Checks a flow that text described.
pub(super) fn check_flow(flow: &FlowMod) -> Result<(), ParseError> {
    check_match(&flow.match_)?;
    let mut packet = Packet::of(&flow.match_);
    for instruction in &flow.instructions {
        match instruction {
            Instruction::ApplyActions(actions) => {
                check_conjunctions(actions)?;
                let conjunctive =
                    actions.iter().any(|action| matches!(action, Action::Conjunction { .. }));
                if conjunctive && flow.instructions.len() > 1 {
                    return Err(refuse("conjunction", "only note may stand beside it"));
                }
                check_actions(actions, &mut packet)?;
            }
            Instruction::WriteActions(actions) => {
                actions.iter().try_for_each(check_in_set)?;
                check_actions(actions, &mut packet)?;
            }
            Instruction::GotoTable(table)
                if *table == 0xff
                    || (*table <= flow.table && flow.command != FlowCommand::Delete) =>
            {
                return Err(ParseError::GotoBack { from: flow.table, to: *table });
            }
            Instruction::Meter(0) => return Err(refuse("meter", "0 is no meter")),
            _ => {}
        }
    }
    Ok(())
}

fn refuse(action: &str, reason: &'static str) -> ParseError {
    ParseError::Inconsistent { action: action.to_owned(), reason }
}

fn missing(field: Field, needs: &'static str) -> ParseError {
    ParseError::Missing { name: field.name().into_owned(), needs }
}

/// Checks that a match has what its fields need.
fn check_match(match_: &Match) -> Result<(), ParseError> {
    let packet = Packet::of(match_);
    for field in match_.fields() {
        let field = field.field;
        let prerequisite = field.info().map_or(Prerequisite::None, |info| info.prerequisite);
        let l2 = matches!(field, Field::EthSrc | Field::EthDst | Field::EthType | Field::VlanVid);
        if l2 && match_.exact(Field::PacketType).is_some_and(|typ| typ != 0) {
            return Err(missing(
                field,
                "a packet_type of (0,0), which is Ethernet, or none at all",
            ));
        }
        if prerequisite == Prerequisite::Conntrack {
            check_conntrack(field, match_, &packet)?;
        } else if let Some(needs) = packet.lacks(prerequisite) {
            return Err(missing(field, needs));
        }
    }
    Ok(())
}

/// Most VLAN tags of a packet that OVS knows of.
const MAX_VLANS: u8 = 2;

/// Whether the packets of a match belong to a connection, so that the connection's tuple is there.
fn has_tuple(match_: &Match) -> bool {
    let (state, mask) =
        match_.field(Field::CtState).map_or((0, 0), |state| (state.value & state.mask, state.mask));
    let of = ct_state::NEW
        | ct_state::EST
        | ct_state::REL
        | ct_state::RPL
        | ct_state::SNAT
        | ct_state::DNAT;
    let (trk, inv) = (u128::from(ct_state::TRK), u128::from(ct_state::INV));
    state & u128::from(of) != 0 || (state & trk != 0 && mask & inv != 0 && state & inv == 0)
}

/// The original direction of a connection is there only once the packet belongs to one.
fn check_conntrack(field: Field, match_: &Match, packet: &Packet) -> Result<(), ParseError> {
    if !has_tuple(match_) {
        return Err(missing(field, "a ct_state such as +trk+est or +trk-inv"));
    }
    let v4 = matches!(field, Field::CtNwSrc | Field::CtNwDst);
    let v6 = matches!(field, Field::CtIpv6Src | Field::CtIpv6Dst);
    if v4 && packet.kind != eth_type::IPV4 {
        return Err(missing(field, "ip"));
    }
    if v6 && packet.kind != eth_type::IPV6 {
        return Err(missing(field, "ipv6"));
    }
    if !packet.is_ip() {
        return Err(missing(field, "ip or ipv6"));
    }
    let ports = matches!(field, Field::CtTpSrc | Field::CtTpDst);
    let proto = match_.exact(Field::CtNwProto);
    if ports && !matches!(proto, Some(ip_proto::TCP | ip_proto::UDP | ip_proto::SCTP)) {
        return Err(missing(field, "ct_nw_proto=6, 17 or 132"));
    }
    Ok(())
}

/// What is known of a packet where an action stands.
#[derive(Clone, Copy)]
struct Packet {
    kind: u128,
    proto: u128,
    /// Whether it has an Ethernet header.
    ethernet: bool,
    /// VLAN tags that are known to be there.
    vlans: u8,
    /// Whether the connection tracker's tuple is there.
    tuple: bool,
    later_fragment: bool,
    nsh: bool,
    icmp_type: Option<u128>,
}

impl Packet {
    fn of(match_: &Match) -> Self {
        let exact = |field| match_.exact(field).unwrap_or(0);
        let bits = |field, bit| match_.field(field).is_some_and(|f| f.value & f.mask & bit != 0);
        let typ = exact(Field::PacketType);
        // A packet without an Ethernet header has its EtherType in its type.
        let kind = if typ >> 16 == 1 { typ & 0xffff } else { exact(Field::EthType) };
        Self {
            kind,
            proto: exact(Field::IpProto),
            ethernet: typ == 0,
            vlans: u8::from(bits(Field::VlanVid, 0x1000)),
            tuple: has_tuple(match_),
            later_fragment: bits(Field::IpFrag, 2),
            nsh: kind == eth_type::NSH,
            icmp_type: match_.exact(Field::Icmpv6Type),
        }
    }

    const fn is_ip(&self) -> bool {
        matches!(self.kind, eth_type::IPV4 | eth_type::IPV6)
    }

    const fn is_mpls(&self) -> bool {
        matches!(self.kind, eth_type::MPLS | eth_type::MPLS_MCAST)
    }

    const fn has_ports(&self, proto: u128) -> bool {
        self.is_ip() && self.proto == proto && !self.later_fragment
    }

    /// What a packet lacks for a field, if anything.
    fn lacks(&self, prerequisite: Prerequisite) -> Option<&'static str> {
        let icmpv6 =
            self.kind == eth_type::IPV6 && self.proto == ip_proto::ICMPV6 && !self.later_fragment;
        let (has, needs) = match prerequisite {
            Prerequisite::None | Prerequisite::Conntrack => (true, ""),
            Prerequisite::Vlan => (self.vlans > 0, "a VLAN tag (dl_vlan, vlan_tci=0x1000/0x1000)"),
            Prerequisite::Ip => (self.is_ip(), "ip or ipv6"),
            Prerequisite::Ipv4 => (self.kind == eth_type::IPV4, "ip"),
            Prerequisite::Ipv6 => (self.kind == eth_type::IPV6, "ipv6"),
            Prerequisite::Arp => {
                (matches!(self.kind, eth_type::ARP | eth_type::RARP), "arp or rarp")
            }
            Prerequisite::Mpls => (self.is_mpls(), "mpls or mplsm"),
            Prerequisite::Tcp => {
                (self.has_ports(ip_proto::TCP), "tcp or tcp6, and no nw_frag=later")
            }
            Prerequisite::Udp => {
                (self.has_ports(ip_proto::UDP), "udp or udp6, and no nw_frag=later")
            }
            Prerequisite::Sctp => {
                (self.has_ports(ip_proto::SCTP), "sctp or sctp6, and no nw_frag=later")
            }
            Prerequisite::Icmp => (
                self.kind == eth_type::IPV4 && self.proto == ip_proto::ICMP && !self.later_fragment,
                "icmp, and no nw_frag=later",
            ),
            Prerequisite::Icmpv6 => (icmpv6, "icmp6, and no nw_frag=later"),
            Prerequisite::Nd => (
                icmpv6 && matches!(self.icmp_type, Some(135 | 136)),
                "icmp6 with icmp_type=135 or 136",
            ),
            Prerequisite::NdSolicit => {
                (icmpv6 && self.icmp_type == Some(135), "icmp6 with icmp_type=135")
            }
            Prerequisite::NdAdvert => {
                (icmpv6 && self.icmp_type == Some(136), "icmp6 with icmp_type=136")
            }
            Prerequisite::Nsh => (self.nsh, "dl_type=0x894f"),
        };
        (!has).then_some(needs)
    }

    /// Checks that an action may use a field.
    fn check_field(&self, field: Field) -> Result<(), ParseError> {
        let l2 = matches!(
            field,
            Field::EthSrc
                | Field::EthDst
                | Field::EthType
                | Field::NxmVlanTci
                | Field::VlanVid
                | Field::VlanPcp
        );
        if l2 && !self.ethernet {
            return Err(missing(
                field,
                "a packet_type of (0,0), which is Ethernet, or none at all",
            ));
        }
        let prerequisite = match field {
            Field::VlanVid => Prerequisite::Vlan,
            _ => field.info().map_or(Prerequisite::None, |info| info.prerequisite),
        };
        match self.lacks(prerequisite) {
            Some(needs) => Err(missing(field, needs)),
            None => Ok(()),
        }
    }
}

/// Conjunctions bear only notes beside them.
fn check_conjunctions(actions: &[Action]) -> Result<(), ParseError> {
    let any = actions.iter().any(|action| matches!(action, Action::Conjunction { .. }));
    let only =
        actions.iter().all(|action| matches!(action, Action::Conjunction { .. } | Action::Note(_)));
    if any && !only {
        return Err(refuse("conjunction", "only note may stand beside it"));
    }
    Ok(())
}

/// Whether an action may be in the action set.
fn check_in_set(action: &Action) -> Result<(), ParseError> {
    let may = matches!(
        action,
        Action::Output { .. }
            | Action::Resubmit { .. }
            | Action::ResubmitCt { .. }
            | Action::Ct(_)
            | Action::CtClear
            | Action::Group(_)
            | Action::SetQueue(_)
            | Action::PushVlan(_)
            | Action::PopVlan
            | Action::PushMpls(_)
            | Action::PopMpls(_)
            | Action::SetMplsTtl(_)
            | Action::DecMplsTtl
            | Action::SetNwTtl(_)
            | Action::DecNwTtl
            | Action::DecNwTtlIds(_)
            | Action::DecNshTtl
            | Action::SetField(_)
            | Action::SetWideField(_)
            | Action::RegLoad { .. }
            | Action::RegLoad2(_)
            | Action::RegLoad2Wide(_)
            | Action::RegMove { .. }
            | Action::SetTunnel(_)
            | Action::SetTunnel64(_)
            | Action::Encap(_)
            | Action::Decap(_)
    );
    if may { Ok(()) } else { Err(refuse("write_actions", "one of its actions has no place in it")) }
}

fn check_actions(actions: &[Action], packet: &mut Packet) -> Result<(), ParseError> {
    actions.iter().try_for_each(|action| check_action(action, packet))
}

fn check_port(name: &str, to: u32) -> Result<(), ParseError> {
    match to {
        port::MAX..port::IN_PORT | port::ANY => Err(refuse(name, "there is no such port")),
        _ => Ok(()),
    }
}

fn check_action(action: &Action, packet: &mut Packet) -> Result<(), ParseError> {
    match action {
        Action::Output { port, .. } => check_port("output", *port),
        Action::OutputReg { src, .. } => packet.check_field(*src),
        Action::PushMpls(_) if !packet.ethernet => {
            Err(refuse("push_mpls", "the packet has no Ethernet header, see packet_type"))
        }
        Action::PushVlan(kind) => {
            if !matches!(kind, 0x8100 | 0x88a8) {
                return Err(refuse("push_vlan", "the EtherType is 0x8100 or 0x88a8"));
            }
            if packet.vlans >= MAX_VLANS {
                return Err(refuse("push_vlan", "a packet has two VLAN tags at most"));
            }
            packet.vlans += 1;
            Ok(())
        }
        Action::PopVlan => {
            let Some(left) = packet.vlans.checked_sub(1) else {
                return Err(refuse("pop_vlan", "no VLAN tag is known to be there"));
            };
            packet.vlans = left;
            Ok(())
        }
        Action::PushMpls(kind) => {
            if !matches!(u128::from(*kind), eth_type::MPLS | eth_type::MPLS_MCAST) {
                return Err(refuse("push_mpls", "the EtherType is 0x8847 or 0x8848"));
            }
            // Nothing is known of what is below a label.
            (packet.kind, packet.proto) = (u128::from(*kind), 0);
            Ok(())
        }
        Action::PopMpls(kind) => {
            if !packet.is_mpls() {
                return Err(refuse("pop_mpls", "the match must have mpls or mplsm"));
            }
            packet.kind = u128::from(*kind);
            Ok(())
        }
        Action::SetMplsTtl(_) | Action::DecMplsTtl if !packet.is_mpls() => {
            Err(refuse("set_mpls_ttl", "the match must have mpls or mplsm"))
        }
        Action::SetNwTtl(_) | Action::DecNwTtl | Action::DecNwTtlIds(_) if !packet.is_ip() => {
            Err(refuse("dec_ttl", "the match must have ip or ipv6"))
        }
        Action::DecNshTtl if !packet.nsh => {
            Err(refuse("dec_nsh_ttl", "the match must have dl_type=0x894f"))
        }
        Action::FinTimeout { .. } if packet.proto != ip_proto::TCP || !packet.is_ip() => {
            Err(refuse("fin_timeout", "the match must have tcp or tcp6"))
        }
        Action::SetField(set) => {
            packet.check_field(set.field)?;
            match set.field {
                Field::NxmVlanTci => packet.vlans = u8::from(set.value & 0x1000 != 0),
                Field::VlanVid if set.value & 0x1000 == 0 => {
                    return Err(refuse("set_field", "vlan_vid must have the bit 0x1000"));
                }
                Field::InPort if set.value > 0xffff => {
                    return Err(refuse("set_field", "ports have 16 bits"));
                }
                _ => {}
            }
            Ok(())
        }
        Action::RegLoad { dst, offset, bits, value } => {
            packet.check_field(*dst)?;
            if *dst == Field::NxmVlanTci && u16::from(*offset) + u16::from(*bits) > 12 {
                packet.vlans = u8::from((value << offset) & 0x1000 != 0);
            }
            Ok(())
        }
        Action::RegLoad2(set) => packet.check_field(set.field),
        Action::SetWideField(set) | Action::RegLoad2Wide(set) => packet.check_field(set.field()),
        Action::RegMove { src, dst, .. } => {
            packet.check_field(*src)?;
            packet.check_field(*dst)
        }
        Action::CopyField { src, dst } => {
            packet.check_field(src.field)?;
            packet.check_field(dst.field)
        }
        Action::Push(run) | Action::Pop(run) => packet.check_field(run.field),
        Action::CheckPktLarger { dst, .. } => packet.check_field(dst.field),
        Action::DeleteField(field) if !matches!(field, Field::TunMetadata(..)) => {
            Err(refuse("delete_field", "only tunnel metadata can be removed"))
        }
        Action::Multipath(multipath) => packet.check_field(multipath.dst.field),
        Action::Bundle(bundle) => match bundle.dst {
            Some(dst) => packet.check_field(dst.field),
            None => Ok(()),
        },
        Action::ResubmitCt { .. } if !packet.is_ip() || !packet.tuple => {
            Err(refuse("resubmit", "ct needs ip or ipv6, and a ct_state such as +trk+est"))
        }
        Action::Clone(actions) => {
            let mut copy = *packet;
            check_conjunctions(actions)?;
            check_actions(actions, &mut copy)
        }
        Action::Ct(ct) => check_ct(ct, packet),
        Action::Nat(nat) => check_nat(nat, packet),
        Action::Learn(learn) => check_learn(learn, packet),
        Action::Encap(encap) => {
            packet.kind = match encap.packet_type {
                packet_type::ETHERNET => 0,
                other => u128::from(other & 0xffff),
            };
            packet.nsh = packet.kind == eth_type::NSH;
            packet.proto = 0;
            packet.ethernet = encap.packet_type == packet_type::ETHERNET;
            Ok(())
        }
        Action::Decap(_) => {
            (packet.kind, packet.proto, packet.nsh) = (0, 0, false);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn check_ct(ct: &CtAction, packet: &mut Packet) -> Result<(), ParseError> {
    if !packet.is_ip() {
        return Err(refuse("ct", "the match must have ip or ipv6"));
    }
    if let Some(zone) = ct.zone_field {
        packet.check_field(zone.field)?;
    }
    match ct.alg {
        21 if packet.proto != ip_proto::TCP => {
            return Err(refuse("ct", "alg=ftp needs tcp or tcp6 in the match"));
        }
        69 if packet.proto != ip_proto::UDP => {
            return Err(refuse("ct", "alg=tftp needs udp or udp6 in the match"));
        }
        _ => {}
    }
    for action in &ct.actions {
        let target = match action {
            Action::Nat(nat) => {
                if nat.flags & 3 != 0 && !ct.commit {
                    return Err(refuse("nat", "src and dst need commit"));
                }
                check_nat(nat, packet)?;
                continue;
            }
            Action::SetField(set) => set.field,
            Action::RegLoad { dst, .. } => *dst,
            Action::RegMove { src, dst, .. } => {
                packet.check_field(*src)?;
                *dst
            }
            _ => return Err(refuse("ct", "exec sets ct_mark and ct_label, nothing else")),
        };
        if !ct.commit || !matches!(target, Field::CtMark | Field::CtLabel) {
            return Err(refuse("ct", "exec needs commit, and sets ct_mark and ct_label only"));
        }
    }
    Ok(())
}

fn check_nat(nat: &NatAction, packet: &Packet) -> Result<(), ParseError> {
    let wrong = |kind| packet.kind != kind;
    let reversed = |first: u128, last: Option<u128>| last.is_some_and(|last| last < first);
    if let Some(range) = nat.addresses {
        let number = |address| match address {
            std::net::IpAddr::V4(a) => u128::from(u32::from(a)),
            std::net::IpAddr::V6(a) => u128::from(a),
        };
        let family = if range.first.is_ipv4() { eth_type::IPV4 } else { eth_type::IPV6 };
        let mixed = range.last.is_some_and(|last| last.is_ipv4() != range.first.is_ipv4());
        if mixed || wrong(family) {
            return Err(refuse("nat", "addresses and match must be of one family"));
        }
        if reversed(number(range.first), range.last.map(number)) {
            return Err(refuse("nat", "the last address stands before the first"));
        }
    }
    if let Some((first, last)) = nat.ports
        && (reversed(first.into(), last.map(u128::from)) || first == 0)
    {
        return Err(refuse("nat", "the last port stands before the first, or the first is 0"));
    }
    if nat.flags & 3 == 0 && (nat.flags != 0 || nat.addresses.is_some() || nat.ports.is_some()) {
        return Err(refuse("nat", "it needs src or dst"));
    }
    if nat.ports.is_some() && nat.addresses.is_none() {
        return Err(refuse("nat", "ports need an address before them"));
    }
    if nat.flags & 3 == 3 {
        return Err(refuse("nat", "it is src or dst"));
    }
    if nat.flags & 0x18 == 0x18 {
        return Err(refuse("nat", "it is hash or random"));
    }
    if nat.addresses.is_none() && nat.ports.is_none() && nat.flags & !3 != 0 {
        return Err(refuse("nat", "persistent, hash and random need a range"));
    }
    Ok(())
}

/// The learned flow's match grows with the specs; a field needs those before it, or what the packet has.
fn check_learn(learn: &LearnAction, packet: &Packet) -> Result<(), ParseError> {
    let mut learned = Match::new();
    for spec in &learn.specs {
        if let LearnSource::Field(field, _) = spec.source {
            packet.check_field(field)?;
        }
        match spec.target {
            LearnTarget::Match(field, offset) => {
                Packet::of(&learned).check_learned(field)?;
                let value = match &spec.source {
                    LearnSource::Immediate(bytes) if bytes.len() <= 16 => {
                        bytes.iter().fold(0, |v, byte| (v << 8) | u128::from(*byte))
                    }
                    _ => continue,
                };
                if offset == 0 && spec.bits == field.bits() {
                    learned = learned.with(field, value);
                }
            }
            LearnTarget::Load(field, _) => Packet::of(&learned).check_learned(field)?,
            LearnTarget::Output => {}
        }
    }
    Ok(())
}

impl Packet {
    /// Checks a field of a learned flow.
    fn check_learned(&self, field: Field) -> Result<(), ParseError> {
        if field == Field::VlanVid {
            return Ok(());
        }
        self.check_field(field)
    }
}
