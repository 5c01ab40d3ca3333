//! Reading actions and instructions. Source: ovs-actions(7); what it leaves open, from the answers of ovs-ofctl 3.1.0.

mod extension;
mod learn;
mod nat;

use bytes::Bytes;

pub(super) use extension::REASONS;
use extension::{bundle, controller, decap, encap, multipath, sample};
use learn::learn;
use nat::nat;

use super::Names;
use super::parse::{Pair, ParseError, integer, integer64, pairs, read_group};
use super::parse_match::{parse_masked, tun_metadata, wide_metadata};
use crate::action::{Action, CtAction, Subfield};
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
                if let (true, Field::TunMetadata(n, _)) = (dst.is_whole(), dst.field)
                    && let Some(wide) = wide_metadata(n, value)
                {
                    out.push(Action::RegLoad2Wide(wide));
                    return Ok(());
                }
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
        if let Field::TunMetadata(n, _) = field
            && let Some(wide) = wide_metadata(n, value)
        {
            let masked = wide.as_tun_metadata().is_some_and(|wide| wide.mask.is_some());
            out.push(if masked { Action::RegLoad2Wide(wide) } else { Action::SetWideField(wide) });
            return Ok(());
        }
        let bare = !value.contains('/');
        let (field, value, mask) = parse_masked(field, value, self.names).ok_or_else(refuse)?;
        let exact = field.exact_mask();
        let all = ones(u16::from(field.bytes()) * 8);
        if field.has_value_as_mask() && value <= exact && (bare || mask == all) {
            // Only ones in every bit of the TLV are no mask here.
            out.push(Action::SetField(FieldMatch { field, value, mask: all }));
            return Ok(());
        }
        if value > exact || mask > exact {
            return Err(refuse());
        }
        if mask == exact && !field.has_value_as_mask() {
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
