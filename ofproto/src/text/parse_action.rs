//! Reading actions and instructions. Source: ovs-actions(7); what it leaves open, from the answers of ovs-ofctl 3.1.0.

use std::net::IpAddr;

use bytes::Bytes;

use super::Names;
use super::parse::{Pair, ParseError, integer, integer64, pairs, read_group};
use super::parse_match::{parse_masked, parse_prefixed, tun_metadata};
use crate::action::link::{BUNDLE_ALGORITHMS, HASH_FIELDS, MULTIPATH_ALGORITHMS};
use crate::action::{
    Action, BundleAction, ControllerAction, CtAction, EncapAction, EncapProperty, LearnAction,
    LearnSource, LearnSpec, LearnTarget, MultipathAction, NatAction, NatRange, SampleAction,
    Subfield, immediate_len, learn_flags, packet_type,
};
use crate::instruction::Instruction;
use crate::oxm::{Field, FieldMatch, Match, ip_proto, ones};
use crate::types::{MacAddr, port};

/// How deep actions may nest in text.
const MAX_DEPTH: u8 = 8;

/// The EtherType of a VLAN tag that old actions push.
const ETH_TYPE_VLAN: u16 = 0x8100;

/// What actions are read with.
struct Context<'a> {
    names: &'a Names,
    /// How many brackets of actions this one stands in.
    depth: u8,
    /// Whether the packet has a VLAN tag here: old actions push one where there is none.
    vlan: bool,
    /// Whether this is the inside of a ct.
    in_ct: bool,
    /// The IP protocol of the match.
    proto: Option<u128>,
}

/// Reads what stands behind `actions=`, for packets of this match.
pub(super) fn parse_instructions(
    text: &str,
    match_: &Match,
    names: &Names,
) -> Result<Vec<Instruction>, ParseError> {
    let vlan = match_.field(Field::VlanVid).is_some_and(|vid| vid.value & vid.mask & 0x1000 != 0);
    let mut context =
        Context { names, depth: 0, vlan, in_ct: false, proto: match_.exact(Field::IpProto) };
    let (mut list, mut apply) = (Vec::new(), Vec::new());
    let mut drops = false;
    let mut others = 0_usize;
    // The place of the last instruction in OVS's order; none may come twice or before one that stands earlier.
    let mut last = (0, "");
    for pair in pairs(text) {
        let pair = pair?;
        let (name, argument) = (pair.key, pair.value);
        let lower = name.to_ascii_lowercase();
        if lower == "drop" {
            drops = true;
            continue;
        }
        others += 1;
        let refuse = || refused(name, argument);
        let rank = match lower.as_str() {
            "meter" => 1,
            "clear_actions" => 3,
            "write_actions" => 4,
            "write_metadata" => 5,
            "goto_table" => 6,
            _ => 2,
        };
        let order = |repeats: bool| {
            if rank > last.0 || (repeats && rank == last.0) {
                return Ok(());
            }
            let (name, before) = (name.to_owned(), last.1.to_owned());
            Err(ParseError::InstructionOrder { name, before })
        };
        order(rank == 2)?;
        last = (rank, name);
        match lower.as_str() {
            "goto_table" => {
                list.push(Instruction::GotoTable(names.read_table(argument).ok_or_else(refuse)?));
            }
            "write_metadata" => {
                let (value, mask) = match argument.split_once('/') {
                    Some((value, mask)) => (integer64(value), integer64(mask)),
                    None => (integer64(argument), Some(u64::MAX)),
                };
                let (value, mask) = value.zip(mask).ok_or_else(refuse)?;
                list.push(Instruction::WriteMetadata { value, mask });
            }
            "write_actions" if argument.trim() == "drop" => {}
            "write_actions" => {
                let mut actions = Vec::new();
                context.depth = 1;
                context.list(argument, &mut actions)?;
                context.depth = 0;
                list.push(Instruction::WriteActions(actions));
            }
            "clear_actions" => list.push(Instruction::ClearActions),
            "meter" => list.push(Instruction::Meter(unsigned(argument).ok_or_else(refuse)?)),
            _ => context.action(&pair, &mut apply)?,
        }
    }
    if drops && others > 0 {
        return Err(ParseError::DropNotAlone);
    }
    if !apply.is_empty() {
        list.push(Instruction::ApplyActions(apply));
    }
    Ok(crate::instruction::canonical(&list).cloned().collect())
}

fn refused(action: &str, argument: &str) -> ParseError {
    ParseError::Argument { action: action.to_owned(), argument: argument.to_owned() }
}

fn unsigned<T: TryFrom<u128>>(text: &str) -> Option<T> {
    integer(text.trim()).and_then(|n| T::try_from(n).ok())
}

/// Parts between commas and spaces.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|part| !part.is_empty())
}

impl Context<'_> {
    fn list(&mut self, text: &str, out: &mut Vec<Action>) -> Result<(), ParseError> {
        if self.depth > MAX_DEPTH {
            return Err(ParseError::TooDeep { limit: MAX_DEPTH });
        }
        pairs(text).try_for_each(|pair| self.action(&pair?, out))
    }

    /// The actions in brackets of an action.
    fn nested(&mut self, text: &str) -> Result<Vec<Action>, ParseError> {
        let mut actions = Vec::new();
        self.depth += 1;
        if text.trim() != "drop" {
            self.list(text, &mut actions)?;
        }
        self.depth -= 1;
        Ok(actions)
    }

    /// Reads one action, which may stand for several on the wire.
    fn action(&mut self, pair: &Pair<'_>, out: &mut Vec<Action>) -> Result<(), ParseError> {
        let (name, argument) = (pair.key, pair.value);
        let names = self.names;
        let refuse = || refused(name, argument);
        let lower = name.to_ascii_lowercase();
        let bare = |action: Action| argument.trim().is_empty().then_some(action);
        let parsed = match lower.as_str() {
            "output" => output(pair, names),
            "group" => read_group(argument).map(Action::Group),
            "enqueue" => {
                let (to, queue) = argument.split_once([':', ',']).ok_or_else(refuse)?;
                let to = names.read_port(to.trim()).ok_or_else(refuse)?;
                out.push(Action::SetQueue(unsigned(queue).ok_or_else(refuse)?));
                out.push(Action::Output { port: to, max_len: u16::MAX });
                Some(Action::PopQueue)
            }
            "set_queue" => unsigned(argument).map(Action::SetQueue),
            "pop_queue" => bare(Action::PopQueue),
            "push_vlan" => {
                self.vlan = true;
                unsigned(argument).map(Action::PushVlan)
            }
            "pop_vlan" | "strip_vlan" => {
                self.vlan = false;
                bare(Action::PopVlan)
            }
            "mod_vlan_vid" | "set_vlan_vid" => {
                let vid = unsigned(argument).filter(|vid: &u128| *vid < 0x1000);
                let vid = vid.ok_or_else(refuse)?;
                self.need_vlan(out);
                Some(Action::set_field(Field::VlanVid, vid | 0x1000))
            }
            "mod_vlan_pcp" | "set_vlan_pcp" => {
                let pcp = unsigned(argument).filter(|pcp| *pcp < 8).ok_or_else(refuse)?;
                self.need_vlan(out);
                Some(Action::set_field(Field::VlanPcp, pcp))
            }
            "mod_dl_src" => mac(argument).map(|mac| Action::set_field(Field::EthSrc, mac)),
            "mod_dl_dst" => mac(argument).map(|mac| Action::set_field(Field::EthDst, mac)),
            "mod_nw_src" => ipv4(argument).map(|ip| Action::set_field(Field::Ipv4Src, ip)),
            "mod_nw_dst" => ipv4(argument).map(|ip| Action::set_field(Field::Ipv4Dst, ip)),
            "mod_nw_tos" => unsigned(argument)
                .filter(|tos: &u128| tos & !0xfc == 0)
                .map(|tos| Action::set_field(Field::IpDscp, tos >> 2)),
            "mod_nw_ecn" => unsigned(argument)
                .filter(|ecn| *ecn < 4)
                .map(|ecn| Action::set_field(Field::IpEcn, ecn)),
            "mod_nw_ttl" => unsigned(argument).map(Action::SetNwTtl),
            "mod_tp_src" | "mod_tp_dst" => {
                let source = lower == "mod_tp_src";
                let field = match self.proto {
                    Some(ip_proto::TCP) if source => Field::TcpSrc,
                    Some(ip_proto::TCP) => Field::TcpDst,
                    Some(ip_proto::UDP) if source => Field::UdpSrc,
                    Some(ip_proto::UDP) => Field::UdpDst,
                    Some(ip_proto::SCTP) if source => Field::SctpSrc,
                    Some(ip_proto::SCTP) => Field::SctpDst,
                    _ => return Err(ParseError::NoProtocol { name: name.to_owned() }),
                };
                unsigned::<u16>(argument).map(|to| Action::set_field(field, to.into()))
            }
            "push_mpls" => unsigned(argument).map(Action::PushMpls),
            "pop_mpls" => unsigned(argument).map(Action::PopMpls),
            "set_mpls_label" => unsigned(argument)
                .filter(|label| *label <= 0xf_ffff)
                .map(|label| Action::set_field(Field::MplsLabel, label)),
            "set_mpls_tc" => unsigned(argument)
                .filter(|tc| *tc < 8)
                .map(|tc| Action::set_field(Field::MplsTc, tc)),
            "set_mpls_ttl" => unsigned(argument).map(Action::SetMplsTtl),
            "dec_mpls_ttl" => bare(Action::DecMplsTtl),
            "dec_nsh_ttl" => bare(Action::DecNshTtl),
            "dec_ttl" => dec_ttl(argument),
            "fin_timeout" => fin_timeout(argument)?,
            "set_tunnel" | "set_tunnel64" => {
                integer64(argument).map(|id| Action::set_field(Field::TunId, id.into()))
            }
            "ct_clear" => bare(Action::CtClear),
            "exit" => bare(Action::Exit),
            "set_field" => {
                self.set_field(argument, out)?;
                return Ok(());
            }
            "load" => {
                let (value, dst) = argument.split_once("->").ok_or_else(refuse)?;
                let dst = self.writable(dst)?;
                let value = unsigned::<u128>(value).ok_or_else(refuse)?;
                if value > ones(dst.bits) {
                    return Err(refuse());
                }
                if let (true, Field::TunMetadata(n, _)) = (dst.is_whole(), dst.field) {
                    let field = tun_metadata(n, value);
                    out.push(Action::RegLoad2(FieldMatch::exact(field, value)));
                    return Ok(());
                }
                if u32::from(dst.offset) + u32::from(dst.bits) > 128 {
                    return Err(refuse());
                }
                let Some(mask) = ones(dst.bits).checked_shl(dst.offset.into()) else {
                    return Err(refuse());
                };
                loads(dst.field, value << dst.offset, mask, out);
                return Ok(());
            }
            "move" => {
                let (src, dst) = argument.split_once("->").ok_or_else(refuse)?;
                let src = subfield(src).ok_or_else(refuse)?;
                let dst = self.writable(dst)?;
                (src.bits == dst.bits).then_some(Action::RegMove {
                    bits: src.bits,
                    src: src.field,
                    src_offset: src.offset,
                    dst: dst.field,
                    dst_offset: dst.offset,
                })
            }
            "push" => subfield(argument).map(Action::Push),
            "pop" => Some(Action::Pop(self.writable(argument)?)),
            "delete_field" => Field::from_action_name(argument).map(Action::DeleteField),
            "check_pkt_larger" => {
                let dst = pair.arrow.ok_or_else(refuse)?;
                let dst = self.writable(dst)?;
                let length = unsigned(argument).filter(|_| dst.bits == 1);
                length.map(|length| Action::CheckPktLarger { length, dst })
            }
            "resubmit" => resubmit(argument, names),
            "conjunction" => conjunction(argument),
            "note" => hex(argument).map(|text| Action::note(&text)),
            "controller" => controller(argument)?,
            "multipath" => multipath(argument),
            "bundle" | "bundle_load" => bundle(argument, lower == "bundle_load", names),
            "sample" => sample(argument, names)?,
            "encap" => encap(argument)?,
            "decap" => decap(argument)?,
            "learn" => learn(argument, names)?,
            "nat" if self.in_ct => nat(argument).map(Action::Nat),
            "ct" => self.ct(argument)?.map(Action::Ct),
            "clone" => {
                let vlan = self.vlan;
                let actions = self.nested(argument)?;
                self.vlan = vlan;
                Some(Action::Clone(actions))
            }
            _ if argument.is_empty() => match names.read_port(name) {
                Some(number) => Some(Action::output(number)),
                None => return Err(ParseError::UnknownAction { action: name.to_owned() }),
            },
            _ => return Err(ParseError::UnknownAction { action: name.to_owned() }),
        };
        if pair.arrow.is_some() && lower != "check_pkt_larger" {
            return Err(refuse());
        }
        out.push(parsed.ok_or_else(refuse)?);
        Ok(())
    }

    /// Pushes a VLAN tag if there is none, as the old actions that set a part of it do.
    fn need_vlan(&mut self, out: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.vlan, true) {
            out.push(Action::PushVlan(ETH_TYPE_VLAN));
        }
    }

    /// A run of bits that actions may write to.
    fn writable(&self, text: &str) -> Result<Subfield, ParseError> {
        let run = subfield(text)
            .ok_or_else(|| ParseError::NoSubfield { text: text.trim().to_owned() })?;
        self.check_writable(run.field)?;
        Ok(run)
    }

    fn check_writable(&self, field: Field) -> Result<(), ParseError> {
        let conntrack = matches!(field, Field::CtMark | Field::CtLabel);
        if field.is_read_only() || (conntrack && !self.in_ct) {
            return Err(ParseError::ReadOnly { name: field.set_name().into_owned() });
        }
        Ok(())
    }

    fn set_field(&self, argument: &str, out: &mut Vec<Action>) -> Result<(), ParseError> {
        let refuse = || refused("set_field", argument);
        let (value, name) = argument.rsplit_once("->").ok_or_else(refuse)?;
        let name = name.trim();
        let field = Field::from_action_name(name)
            .ok_or_else(|| ParseError::UnknownField { name: name.to_owned() })?;
        self.check_writable(field)?;
        let (field, value, mask) = parse_masked(field, value, self.names).ok_or_else(refuse)?;
        let exact = field.exact_mask();
        if value > exact || mask > exact {
            return Err(refuse());
        }
        if mask == exact {
            // A code point has to leave the two bits of the ECN alone.
            if field == Field::NxmIpTos && value & 3 != 0 {
                return Err(refuse());
            }
            out.push(Action::SetField(FieldMatch::exact(field, value)));
        } else if field.info().is_some_and(|info| info.maskable) {
            loads(field, value, mask, out);
        } else {
            return Err(refuse());
        }
        Ok(())
    }

    fn ct(&mut self, argument: &str) -> Result<Option<CtAction>, ParseError> {
        let mut ct = CtAction::default();
        for pair in pairs(argument) {
            let pair = pair?;
            let value = pair.value;
            let refuse = || refused("ct", &format!("{}={value}", pair.key));
            match pair.key {
                "commit" => ct.commit = true,
                "force" => ct.force = true,
                "nat" => ct.actions.push(Action::Nat(nat(value).ok_or_else(refuse)?)),
                "exec" => {
                    let outer = std::mem::replace(&mut self.in_ct, true);
                    let actions = self.nested(value)?;
                    self.in_ct = outer;
                    ct.actions.extend(actions);
                }
                "table" => {
                    let table = self.names.read_table(value).filter(|table| *table != 0xff);
                    ct.table = Some(table.ok_or_else(refuse)?);
                }
                "zone" => match unsigned(value) {
                    Some(zone) => (ct.zone, ct.zone_field) = (zone, None),
                    None => {
                        let run = subfield(value).filter(|run| run.bits == 16);
                        ct.zone_field = Some(run.ok_or_else(refuse)?);
                    }
                },
                "alg" => {
                    ct.alg = match value {
                        "ftp" => 21,
                        "tftp" => 69,
                        _ => return Err(refuse()),
                    };
                }
                _ => return Err(refuse()),
            }
        }
        if ct.force && !ct.commit {
            return Ok(None);
        }
        Ok(Some(ct))
    }
}

/// Sets the bits of a mask: one reg_load for each run of at most 64 bits, lowest first; one reg_load2 for a field that
/// a reg_load does not reach.
fn loads(field: Field, value: u128, mask: u128, out: &mut Vec<Action>) {
    if matches!(field, Field::TunMetadata(..)) || field.sub_experimenter().is_some() {
        let field = match field {
            Field::TunMetadata(n, _) => tun_metadata(n, value | mask),
            other => other,
        };
        out.push(Action::RegLoad2(FieldMatch::masked(field, value, mask)));
        return;
    }
    let mut offset = 0_u8;
    while let Some(rest) = mask.checked_shr(offset.into()).filter(|rest| *rest != 0) {
        // A shift by less than 128 twice stays below 128, as there is a bit left.
        offset = offset.saturating_add(u8::try_from(rest.trailing_zeros()).unwrap_or(u8::MAX));
        let rest = mask.checked_shr(offset.into()).unwrap_or(0);
        let bits = u8::try_from(rest.trailing_ones().min(64)).unwrap_or(64);
        let value = value.checked_shr(offset.into()).unwrap_or(0) & ones(bits.into());
        let value = u64::try_from(value).unwrap_or(u64::MAX);
        out.push(Action::RegLoad { dst: field, offset, bits, value });
        offset = offset.saturating_add(bits);
    }
}

fn mac(text: &str) -> Option<u128> {
    text.parse::<MacAddr>().ok().map(MacAddr::to_u128)
}

fn ipv4(text: &str) -> Option<u128> {
    text.parse::<std::net::Ipv4Addr>().ok().map(|ip| u32::from(ip).into())
}

fn output(pair: &Pair<'_>, names: &Names) -> Option<Action> {
    let argument = pair.value;
    if argument.contains("max_len") || argument.starts_with("port=") {
        let (mut to, mut max_len) = (None, None);
        for pair in pairs(argument) {
            let pair = pair.ok()?;
            match pair.key {
                "port" => to = Some(names.read_port(pair.value).and_then(port::to_u16)?),
                "max_len" => max_len = Some(unsigned::<u32>(pair.value)?),
                _ => return None,
            }
        }
        let max_len = max_len.filter(|max_len| *max_len >= 14)?;
        let to = to.filter(|to| truncates(port::from_u16(*to)))?;
        return Some(Action::OutputTrunc { port: to, max_len });
    }
    if let Some(number) = names.read_port(argument) {
        let max_len = if number == port::CONTROLLER { u16::MAX } else { 0 };
        return Some(Action::Output { port: number, max_len });
    }
    let Subfield { field: src, offset, bits } = subfield(argument)?;
    Some(Action::OutputReg { src, offset, bits, max_len: u16::MAX })
}

/// Whether a packet on its way to this port may be cut short.
const fn truncates(to: u32) -> bool {
    to < port::MAX || matches!(to, port::LOCAL | port::IN_PORT)
}

/// `NAME[a..b]`, `NAME[a]`, `NAME[]` or `NAME`: field, first bit, number of bits.
pub(super) fn subfield(text: &str) -> Option<Subfield> {
    if !text.contains('[') {
        let named = text.trim().starts_with(|c: char| c.is_ascii_alphabetic());
        return Field::from_action_name(text.trim()).filter(|_| named).map(Subfield::whole);
    }
    let (name, range) = text.trim().strip_suffix(']')?.split_once('[')?;
    let field = Field::from_action_name(name)?;
    let (first, last) = match range.split_once("..") {
        _ if range.is_empty() => (0, field.bits().checked_sub(1)?),
        Some((first, last)) => (unsigned(first)?, unsigned(last)?),
        None => (unsigned(range)?, unsigned(range)?),
    };
    let bits = u16::checked_sub(last, first)?.checked_add(1)?;
    (last < field.bits()).then_some(Subfield { field, offset: first, bits })
}

fn dec_ttl(argument: &str) -> Option<Action> {
    let ids = parts(argument).map(unsigned).collect::<Option<Vec<u16>>>()?;
    Some(match ids.as_slice() {
        [] | [0] => Action::DecNwTtl,
        _ => Action::DecNwTtlIds(ids),
    })
}

fn fin_timeout(argument: &str) -> Result<Option<Action>, ParseError> {
    let (mut idle, mut hard) = (0, 0);
    for pair in pairs(argument) {
        let pair = pair?;
        let value = unsigned(pair.value);
        match (pair.key, value) {
            ("idle_timeout", Some(value)) => idle = value,
            ("hard_timeout", Some(value)) => hard = value,
            _ => return Ok(None),
        }
    }
    Ok(Some(Action::FinTimeout { idle, hard }))
}

fn resubmit(argument: &str, names: &Names) -> Option<Action> {
    let number = |text: &str| names.read_port(text.trim()).and_then(port::to_u16);
    let mut words = argument.split(',');
    let from = words.next().unwrap_or_default();
    let port = if from.is_empty() { port::IN_PORT_16 } else { number(from)? };
    let table = match words.next().unwrap_or_default() {
        "" => 0xff,
        table => names.read_table(table.trim())?,
    };
    let ct = match words.next() {
        None => false,
        Some("ct") => true,
        Some(_) => return None,
    };
    if (port == port::IN_PORT_16 && table == 0xff) || words.next().is_some() {
        return None;
    }
    Some(if ct { Action::ResubmitCt { port, table } } else { Action::Resubmit { port, table } })
}

fn conjunction(argument: &str) -> Option<Action> {
    let mut words = argument.split([',', '/', ' ']).filter(|word| !word.is_empty());
    let id = unsigned(words.next()?)?;
    let clause: u8 = unsigned(words.next()?)?;
    let n_clauses = unsigned(words.next()?).filter(|n| (2..=64).contains(n))?;
    let clause = clause.checked_sub(1).filter(|clause| *clause < n_clauses)?;
    words.next().is_none().then_some(Action::Conjunction { id, clause, n_clauses })
}

/// Bytes in hex, with or without dots between.
fn hex(text: &str) -> Option<Bytes> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'.').collect();
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
        _ => None,
    });
    bytes.collect::<Option<Vec<u8>>>().map(Bytes::from)
}

/// Reasons of a packet-in by name. Source: ovs-actions(7), "The controller action".
pub(super) const REASONS: [&str; 6] =
    ["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"];

fn controller(argument: &str) -> Result<Option<Action>, ParseError> {
    if argument.bytes().all(|b| b.is_ascii_digit()) {
        let max_len = if argument.is_empty() { Some(u16::MAX) } else { unsigned(argument) };
        return Ok(max_len.map(|max_len| Action::Output { port: port::CONTROLLER, max_len }));
    }
    let mut action = ControllerAction::default();
    for pair in pairs(argument) {
        let Pair { key, value, .. } = pair?;
        let refuse = || refused("controller", &format!("{key}={value}"));
        match key {
            "max_len" => action.max_len = unsigned(value).ok_or_else(refuse)?,
            "id" => action.controller_id = unsigned(value).ok_or_else(refuse)?,
            "reason" => {
                let reason = REASONS.iter().position(|name| *name == value);
                let reason = reason.and_then(|reason| u8::try_from(reason).ok());
                action.reason = reason.ok_or_else(refuse)?;
            }
            "userdata" => {
                let data = hex(value).ok_or_else(refuse)?;
                action.userdata = Some(data).filter(|data| !data.is_empty());
            }
            "pause" => action.pause = true,
            "meter_id" => {
                action.meter = Some(unsigned(value).ok_or_else(refuse)?).filter(|id| *id != 0);
            }
            _ => return Err(refuse()),
        }
    }
    let plain = ControllerAction { max_len: action.max_len, ..ControllerAction::default() };
    Ok(Some(if action == plain {
        Action::Output { port: port::CONTROLLER, max_len: action.max_len }
    } else {
        Action::Controller(action)
    }))
}

/// The number of a name in a list.
fn named(names: &[&str], name: &str) -> Option<u16> {
    names.iter().position(|n| *n == name).and_then(|n| u16::try_from(n).ok())
}

fn multipath(argument: &str) -> Option<Action> {
    let words: Vec<&str> = parts(argument).collect();
    let [fields, basis, algorithm, links, arg, dst] = words.as_slice() else { return None };
    let dst = subfield(dst).filter(|dst| !dst.field.is_read_only())?;
    let links: u32 = unsigned(links)?;
    let max_link = u16::try_from(links.checked_sub(1)?).ok()?;
    if dst.bits < 16 && u32::from(max_link) >> dst.bits != 0 {
        return None;
    }
    Some(Action::Multipath(MultipathAction {
        fields: named(&HASH_FIELDS, fields)?,
        basis: unsigned(basis)?,
        algorithm: named(&MULTIPATH_ALGORITHMS, algorithm)?,
        max_link,
        arg: unsigned(arg)?,
        dst,
    }))
}

fn bundle(argument: &str, load: bool, names: &Names) -> Option<Action> {
    let (head, members) = ["members:", "slaves:"].iter().find_map(|m| argument.split_once(m))?;
    let words: Vec<&str> = parts(head).collect();
    let (fields, basis, algorithm, dst) = match (words.as_slice(), load) {
        ([fields, basis, algorithm, "ofport"], false) => (fields, basis, algorithm, None),
        ([fields, basis, algorithm, "ofport", dst], true) => {
            let dst = subfield(dst).filter(|dst| !dst.field.is_read_only() && dst.bits >= 16)?;
            (fields, basis, algorithm, Some(dst))
        }
        _ => return None,
    };
    let member = |name: &str| names.read_port(name).and_then(port::to_u16);
    Some(Action::Bundle(BundleAction {
        algorithm: named(&BUNDLE_ALGORITHMS, algorithm)?,
        fields: named(&HASH_FIELDS, fields)?,
        basis: unsigned(basis)?,
        dst,
        members: parts(members).map(member).collect::<Option<_>>()?,
    }))
}

fn sample(argument: &str, names: &Names) -> Result<Option<Action>, ParseError> {
    let mut sample = SampleAction {
        probability: 0,
        collector_set_id: 0,
        obs_domain_id: 0,
        obs_point_id: 0,
        sampling_port: None,
        direction: 0,
    };
    for pair in pairs(argument) {
        let Pair { key, value, .. } = pair?;
        let refuse = || refused("sample", &format!("{key}={value}"));
        match key {
            "probability" => sample.probability = unsigned(value).ok_or_else(refuse)?,
            "collector_set_id" => sample.collector_set_id = unsigned(value).ok_or_else(refuse)?,
            "obs_domain_id" => sample.obs_domain_id = unsigned(value).ok_or_else(refuse)?,
            "obs_point_id" => sample.obs_point_id = unsigned(value).ok_or_else(refuse)?,
            "sampling_port" => {
                let port = names.read_port(value).and_then(port::to_u16).ok_or_else(refuse)?;
                sample.sampling_port = Some(port).filter(|port| *port != 0xffff);
            }
            "ingress" => sample.direction = 1,
            "egress" => sample.direction = 2,
            _ => return Err(refuse()),
        }
    }
    Ok((sample.probability > 0).then_some(Action::Sample(sample)))
}

fn encap(argument: &str) -> Result<Option<Action>, ParseError> {
    let mut all = pairs(argument);
    let Some(header) = all.next().transpose()? else { return Ok(None) };
    let packet_type = match header.key {
        "ethernet" => packet_type::ETHERNET,
        "nsh" => packet_type::NSH,
        "mpls" => packet_type::MPLS,
        "mpls_mc" => packet_type::MPLS_MCAST,
        _ => return Ok(None),
    };
    let mut properties = Vec::new();
    for pair in pairs(header.value) {
        let Pair { key, value, .. } = pair?;
        let refuse = || refused("encap", &format!("{key}={value}"));
        match key {
            "md_type" if packet_type == packet_type::NSH => {
                let md_type =
                    unsigned(value).filter(|md| matches!(md, 1 | 2)).ok_or_else(refuse)?;
                properties.push(EncapProperty::NshMdType(md_type));
            }
            "tlv" if packet_type == packet_type::NSH => {
                let words: Vec<&str> = parts(value).collect();
                let [class, typ, data] = words.as_slice() else { return Err(refuse()) };
                let data = data.strip_prefix("0x").and_then(hex).filter(|data| data.len() <= 124);
                properties.push(EncapProperty::NshTlv {
                    class: unsigned(class).ok_or_else(refuse)?,
                    typ: unsigned(typ).ok_or_else(refuse)?,
                    value: data.ok_or_else(refuse)?,
                });
            }
            _ => return Err(refuse()),
        }
    }
    let alone = all.next().is_none();
    Ok(alone.then_some(Action::Encap(EncapAction { packet_type, properties })))
}

fn decap(argument: &str) -> Result<Option<Action>, ParseError> {
    let mut all = pairs(argument);
    let Some(pair) = all.next().transpose()? else {
        return Ok(Some(Action::Decap(packet_type::USE_NEXT_PROTO)));
    };
    if pair.key != "packet_type" || all.next().is_some() {
        return Ok(None);
    }
    let (mut space, mut typ) = (None, None);
    for pair in pairs(pair.value) {
        let pair = pair?;
        match pair.key {
            "ns" => space = unsigned::<u16>(pair.value),
            "type" => typ = unsigned::<u16>(pair.value),
            _ => return Ok(None),
        }
    }
    Ok(space.zip(typ).map(|(space, typ)| Action::Decap(u32::from(space) << 16 | u32::from(typ))))
}

fn learn(argument: &str, names: &Names) -> Result<Option<Action>, ParseError> {
    let mut learn = LearnAction::default();
    for pair in pairs(argument) {
        let Pair { key, value, .. } = pair?;
        let refuse = || refused("learn", &format!("{key}={value}"));
        match key {
            "table" => {
                let table = names.read_table(value).filter(|table| *table != 0xff);
                learn.table = table.ok_or_else(refuse)?;
            }
            "idle_timeout" => learn.idle_timeout = unsigned(value).ok_or_else(refuse)?,
            "hard_timeout" => learn.hard_timeout = unsigned(value).ok_or_else(refuse)?,
            "fin_idle_timeout" => learn.fin_idle_timeout = unsigned(value).ok_or_else(refuse)?,
            "fin_hard_timeout" => learn.fin_hard_timeout = unsigned(value).ok_or_else(refuse)?,
            "priority" => learn.priority = unsigned(value).ok_or_else(refuse)?,
            "cookie" => learn.cookie = integer64(value).ok_or_else(refuse)?,
            "send_flow_rem" => learn.flags |= learn_flags::SEND_FLOW_REM,
            "delete_learned" => learn.flags |= learn_flags::DELETE_LEARNED,
            "limit" => learn.limit = unsigned(value).ok_or_else(refuse)?,
            "result_dst" => {
                let result =
                    subfield(value).filter(|run| run.bits == 1 && !run.field.is_read_only());
                learn.result = Some(result.ok_or_else(refuse)?);
            }
            _ => learn.specs.push(learn_spec(key, value, names).ok_or_else(refuse)?),
        }
    }
    Ok(Some(Action::Learn(learn)))
}

fn learn_spec(key: &str, value: &str, names: &Names) -> Option<LearnSpec> {
    let source = |run: Subfield| LearnSource::Field(run.field, run.offset);
    match key {
        "load" => {
            let (from, dst) = value.split_once("->")?;
            let dst = subfield(dst).filter(|dst| !dst.field.is_read_only())?;
            let source = match subfield(from) {
                Some(from) if from.bits == dst.bits => source(from),
                Some(_) => return None,
                None => immediate(unsigned(from)?, dst.bits)?,
            };
            let target = LearnTarget::Load(dst.field, dst.offset);
            return Some(LearnSpec { bits: dst.bits, source, target });
        }
        "output" => {
            let from = subfield(value)?;
            let target = LearnTarget::Output;
            return Some(LearnSpec { bits: from.bits, source: source(from), target });
        }
        _ => {}
    }
    let whole = Field::from_action_name(key).filter(|_| !key.contains('['));
    let dst = whole.map(Subfield::whole).or_else(|| subfield(key))?;
    let target = LearnTarget::Match(dst.field, dst.offset);
    let from = if value.is_empty() { Some(dst) } else { subfield(value) };
    let source = match (from, whole) {
        (Some(from), _) if from.bits == dst.bits => source(from),
        (Some(_), _) => return None,
        (None, Some(field)) => {
            let (value, mask) = parse_prefixed(field, value, names)?;
            immediate(Some(value).filter(|_| mask == field.exact_mask())?, dst.bits)?
        }
        (None, None) => immediate(unsigned(value)?, dst.bits)?,
    };
    Some(LearnSpec { bits: dst.bits, source, target })
}

/// A number as the bytes of a learn, if it fits its bits.
fn immediate(value: u128, bits: u16) -> Option<LearnSource> {
    if value > ones(bits) {
        return None;
    }
    let length = immediate_len(bits);
    let bytes = value.to_be_bytes();
    let mut all = vec![0; length.saturating_sub(bytes.len())];
    all.extend(bytes.get(bytes.len().saturating_sub(length)..)?);
    Some(LearnSource::Immediate(all.into()))
}

fn nat(argument: &str) -> Option<NatAction> {
    let mut nat = NatAction::default();
    for item in argument.split(',').filter(|item| !item.is_empty()) {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        match key {
            "src" | "dst" => {
                nat.flags |= if key == "src" { 1 } else { 2 };
                if !value.is_empty() {
                    (nat.addresses, nat.ports) = nat_range(value)?;
                    // An address of zeros is none to OVS.
                    nat.addresses =
                        nat.addresses.filter(|r| r.last.is_some() || !r.first.is_unspecified());
                }
            }
            "persistent" => nat.flags |= 4,
            "hash" => nat.flags |= 8,
            "random" => nat.flags |= 0x10,
            _ => return None,
        }
    }
    Some(nat)
}

type Ports = (u16, Option<u16>);

/// `A`, `A-B`, `A:p`, `A-B:p-q`; IPv6 addresses stand in brackets where ports follow.
fn nat_range(text: &str) -> Option<(Option<NatRange>, Option<Ports>)> {
    if let Some(range) = address_range(text) {
        return Some((Some(range), None));
    }
    let (addresses, ports) = text.rsplit_once(':')?;
    let addresses = if addresses.is_empty() { None } else { Some(address_range(addresses)?) };
    let ports = match ports.split_once('-') {
        Some((first, last)) => (unsigned(first)?, Some(unsigned(last)?)),
        None => (unsigned(ports)?, None),
    };
    Some((addresses, Some(ports)))
}

/// `A` or `A-B`, with or without brackets.
fn address_range(text: &str) -> Option<NatRange> {
    let address = |text: &str| -> Option<IpAddr> {
        text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).parse().ok()
    };
    Some(match text.split_once('-') {
        Some((first, last)) => NatRange { first: address(first)?, last: Some(address(last)?) },
        None => NatRange { first: address(text)?, last: None },
    })
}
