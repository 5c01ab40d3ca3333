//! Reading actions and instructions.

use std::net::IpAddr;

use bytes::Bytes;

use super::Names;
use super::parse::{ParseError, integer};
use super::parse_match::parse_exact;
use crate::action::{Action, ControllerAction, CtAction, NatAction, NatRange};
use crate::instruction::Instruction;
use crate::oxm::Field;
use crate::types::port;

/// How deep actions may nest in text.
const MAX_DEPTH: u8 = 8;

/// Reads what stands behind `actions=`.
pub(super) fn parse_instructions(
    text: &str,
    names: &Names,
) -> Result<Vec<Instruction>, ParseError> {
    let mut list = Vec::new();
    let mut apply = Vec::new();
    if text.trim() == "drop" {
        return Ok(list);
    }
    for item in items(text)? {
        let (name, argument) = call(item)?;
        let refuse = || refused(name, argument);
        match name {
            "goto_table" => {
                list.push(Instruction::GotoTable(names.read_table(argument).ok_or_else(refuse)?));
            }
            "write_metadata" => {
                let (value, mask) = match argument.split_once('/') {
                    Some((value, mask)) => (unsigned(value), unsigned(mask)),
                    None => (unsigned(argument), Some(u64::MAX)),
                };
                let (value, mask) = value.zip(mask).ok_or_else(refuse)?;
                list.push(Instruction::WriteMetadata { value, mask });
            }
            "write_actions" if argument.trim() == "drop" => {
                list.push(Instruction::WriteActions(Vec::new()));
            }
            "write_actions" => {
                list.push(Instruction::WriteActions(parse_actions(argument, names, 0)?));
            }
            "clear_actions" => list.push(Instruction::ClearActions),
            "meter" => list.push(Instruction::Meter(unsigned(argument).ok_or_else(refuse)?)),
            _ => apply.push(parse_action(item, names, 0)?),
        }
    }
    if !apply.is_empty() {
        list.push(Instruction::ApplyActions(apply));
    }
    Ok(crate::instruction::canonical(&list).cloned().collect())
}

/// Splits at commas outside brackets and quotes.
fn items(text: &str) -> Result<Vec<&str>, ParseError> {
    let mut list = Vec::new();
    let (mut depth, mut quoted, mut escaped, mut start) = (0_usize, false, false, 0);
    let unpaired = || ParseError::Unpaired { text: text.to_owned() };
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.checked_sub(1).ok_or_else(unpaired)?,
            ',' if depth == 0 => {
                list.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 || quoted {
        return Err(unpaired());
    }
    list.push(text.get(start..).unwrap_or_default());
    Ok(list.into_iter().map(str::trim).filter(|item| !item.is_empty()).collect())
}

/// `name`, `name:argument` or `name(argument)`.
fn call(item: &str) -> Result<(&str, &str), ParseError> {
    let Some(at) = item.find([':', '(']) else { return Ok((item, "")) };
    let (name, rest) = item.split_at(at);
    match rest.strip_prefix(':') {
        Some(argument) => Ok((name, argument)),
        None => {
            let inner = rest.strip_prefix('(').and_then(|r| r.strip_suffix(')'));
            Ok((name, inner.ok_or_else(|| ParseError::Unpaired { text: item.to_owned() })?))
        }
    }
}

fn refused(action: &str, argument: &str) -> ParseError {
    ParseError::Argument { action: action.to_owned(), argument: argument.to_owned() }
}

fn unsigned<T: TryFrom<u128>>(text: &str) -> Option<T> {
    integer(text).and_then(|n| T::try_from(n).ok())
}

fn parse_actions(text: &str, names: &Names, depth: u8) -> Result<Vec<Action>, ParseError> {
    if depth > MAX_DEPTH {
        return Err(ParseError::UnknownAction { action: text.to_owned() });
    }
    items(text)?.into_iter().map(|item| parse_action(item, names, depth)).collect()
}

fn parse_action(item: &str, names: &Names, depth: u8) -> Result<Action, ParseError> {
    let (name, argument) = call(item)?;
    let parsed = match name {
        "output" => output(argument, names),
        "group" => unsigned(argument).map(Action::Group),
        "set_queue" => unsigned(argument).map(Action::SetQueue),
        "push_vlan" => unsigned(argument).map(Action::PushVlan),
        "mod_nw_ttl" => unsigned(argument).map(Action::SetNwTtl),
        "pop_queue" if argument.is_empty() => Some(Action::PopQueue),
        "pop_vlan" | "strip_vlan" if argument.is_empty() => Some(Action::PopVlan),
        "dec_ttl" if argument.is_empty() => Some(Action::DecNwTtl),
        "ct_clear" if argument.is_empty() => Some(Action::CtClear),
        "exit" if argument.is_empty() => Some(Action::Exit),
        "set_field" => argument.rsplit_once("->").and_then(|(value, field)| {
            parse_exact(Field::from_name(field)?, value, names).map(Action::SetField)
        }),
        "load" => load(argument),
        "move" => reg_move(argument),
        "resubmit" => resubmit(item, argument, names),
        "conjunction" => conjunction(argument),
        "note" => Some(note(argument)).flatten(),
        "CONTROLLER" | "controller" => return controller(argument),
        "nat" => return nat(argument).map(Action::Nat).ok_or_else(|| refused(name, argument)),
        "ct" => return ct(argument, names, depth).map(Action::Ct),
        "clone" => return parse_actions(argument, names, depth + 1).map(Action::Clone),
        other if argument.is_empty() => match names.read_port(other) {
            Some(number) => Some(Action::output(number)),
            None => return Err(ParseError::UnknownAction { action: other.to_owned() }),
        },
        other => return Err(ParseError::UnknownAction { action: other.to_owned() }),
    };
    parsed.ok_or_else(|| refused(name, argument))
}

fn output(argument: &str, names: &Names) -> Option<Action> {
    if let Some((src, offset, bits)) = subfield(argument) {
        return Some(Action::OutputReg { src, offset, bits, max_len: u16::MAX });
    }
    names.read_port(argument).map(Action::output)
}

/// `NAME[a..b]`, `NAME[a]` or `NAME[]`: field, first bit, number of bits.
fn subfield(text: &str) -> Option<(Field, u16, u16)> {
    let (name, range) = text.strip_suffix(']')?.split_once('[')?;
    let field = Field::from_name(name)?;
    let (first, last) = match range.split_once("..") {
        _ if range.is_empty() => (0, field.bits().checked_sub(1)?),
        Some((first, last)) => (unsigned(first)?, unsigned(last)?),
        None => (unsigned(range)?, unsigned(range)?),
    };
    let bits = u16::checked_sub(last, first)?.checked_add(1)?;
    (last < field.bits()).then_some((field, first, bits))
}

fn load(argument: &str) -> Option<Action> {
    let (value, dst) = argument.split_once("->")?;
    let (dst, offset, bits) = subfield(dst)?;
    let value = unsigned(value)?;
    Some(Action::RegLoad {
        dst,
        offset: offset.try_into().ok()?,
        bits: bits.try_into().ok()?,
        value,
    })
}

fn reg_move(argument: &str) -> Option<Action> {
    let (src, dst) = argument.split_once("->")?;
    let (src, src_offset, bits) = subfield(src)?;
    let (dst, dst_offset, same) = subfield(dst)?;
    (bits == same).then_some(Action::RegMove { bits, src, src_offset, dst, dst_offset })
}

fn resubmit(item: &str, argument: &str, names: &Names) -> Option<Action> {
    let number = |text: &str| names.read_port(text).and_then(port::to_u16);
    if item.starts_with("resubmit:") {
        return Some(Action::Resubmit { port: number(argument)?, table: 0xff });
    }
    let (from, table) = argument.split_once(',')?;
    let port = if from.is_empty() { port::IN_PORT_16 } else { number(from)? };
    Some(Action::Resubmit { port, table: names.read_table(table)? })
}

fn conjunction(argument: &str) -> Option<Action> {
    let (id, fraction) = argument.split_once(',')?;
    let (clause, n_clauses) = fraction.split_once('/')?;
    let clause: u8 = unsigned(clause.trim())?;
    Some(Action::Conjunction {
        id: unsigned(id)?,
        clause: clause.checked_sub(1)?,
        n_clauses: unsigned(n_clauses)?,
    })
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

fn note(argument: &str) -> Option<Action> {
    Some(Action::note(&hex(argument)?))
}

fn controller(argument: &str) -> Result<Action, ParseError> {
    let refuse = || refused("controller", argument);
    if !argument.contains('=') && argument != "pause" {
        let max_len = if argument.is_empty() { Some(u16::MAX) } else { unsigned(argument) };
        let max_len = max_len.ok_or_else(refuse)?;
        return Ok(Action::Output { port: port::CONTROLLER, max_len });
    }
    let mut action = ControllerAction::default();
    for item in items(argument)? {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        match key {
            "max_len" => action.max_len = unsigned(value).ok_or_else(refuse)?,
            "id" => action.controller_id = unsigned(value).ok_or_else(refuse)?,
            "reason" => {
                action.reason = match value {
                    "no_match" => 0,
                    "action" => 1,
                    "invalid_ttl" => 2,
                    other => unsigned(other).ok_or_else(refuse)?,
                };
            }
            "userdata" => action.userdata = Some(hex(value).ok_or_else(refuse)?),
            "pause" => action.pause = true,
            "meter_id" => action.meter = Some(unsigned(value).ok_or_else(refuse)?),
            _ => return Err(refuse()),
        }
    }
    Ok(Action::Controller(action))
}

fn ct(argument: &str, names: &Names, depth: u8) -> Result<CtAction, ParseError> {
    let mut ct = CtAction::default();
    for item in items(argument)? {
        let refuse = || refused("ct", item);
        match item {
            "commit" => ct.commit = true,
            "force" => ct.force = true,
            "nat" => ct.actions.insert(0, Action::Nat(NatAction::default())),
            _ => {
                if let Some(exec) = item.strip_prefix("exec(").and_then(|i| i.strip_suffix(')')) {
                    ct.actions.extend(parse_actions(exec, names, depth + 1)?);
                } else if let Some(range) =
                    item.strip_prefix("nat(").and_then(|i| i.strip_suffix(')'))
                {
                    ct.actions.insert(0, Action::Nat(nat(range).ok_or_else(refuse)?));
                } else {
                    let (key, value) = item.split_once('=').ok_or_else(refuse)?;
                    match key {
                        "table" => ct.table = Some(names.read_table(value).ok_or_else(refuse)?),
                        "zone" => ct.zone = unsigned(value).ok_or_else(refuse)?,
                        "alg" => {
                            ct.alg = match value {
                                "ftp" => 21,
                                "tftp" => 69,
                                other => unsigned(other).ok_or_else(refuse)?,
                            };
                        }
                        _ => return Err(refuse()),
                    }
                }
            }
        }
    }
    Ok(ct)
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
