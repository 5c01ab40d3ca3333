//! Groups and meters as `ovs-ofctl add-group` and `add-meter` read them.
//!
//! Source: ovs-ofctl(8), "Group Syntax" and "Meter Syntax"; OVS `lib/ofp-group.c`, `lib/ofp-meter.c`.

use super::message::{write_group_entry, write_meter_entry};
use super::parse::{ParseError, integer};
use super::parse_action::parse_instructions;
use super::{NUMBERS, Names};
use crate::group_mod::{Bucket, GroupMod};
use crate::instruction::Instruction;
use crate::meter_mod::{MeterBand, MeterMod, meter_flags, meter_id};
use crate::oxm::Match;
use crate::types::{GROUP_ALL, port};

/// The largest group that can be made. Source: OpenFlow 1.3, "Modify Group Entry Message" (`OFPG_MAX`).
const GROUP_MAX: u32 = 0xffff_ff00;

/// A group mod as a line that `ovs-ofctl add-group` reads, any change but an addition with its command in front.
pub fn group_mod(group_mod: &GroupMod, names: &Names) -> String {
    let mut text = match group_mod.command {
        GroupMod::MODIFY => "modify ".to_owned(),
        GroupMod::DELETE => {
            return match group_mod.group {
                GROUP_ALL => "delete group_id=all".to_owned(),
                group => format!("delete group_id={group}"),
            };
        }
        GroupMod::ADD_OR_MODIFY => "add_or_mod ".to_owned(),
        _ => String::new(),
    };
    // Writing to a String cannot fail.
    let GroupMod { typ, group, buckets, .. } = group_mod;
    let _ = write_group_entry(&mut text, *group, *typ, buckets, names);
    text
}

/// A meter mod as a line that `ovs-ofctl add-meter` reads, any change but an addition with its command in front.
pub fn meter_mod(meter_mod: &MeterMod) -> String {
    let mut text = match meter_mod.command {
        MeterMod::MODIFY => "modify ".to_owned(),
        MeterMod::DELETE => "delete ".to_owned(),
        _ => String::new(),
    };
    let MeterMod { meter, flags, bands, .. } = meter_mod;
    let deletes = meter_mod.command == MeterMod::DELETE;
    // Writing to a String cannot fail.
    let _ = write_meter_entry(&mut text, *meter, *flags, bands);
    if deletes {
        let end = text.find(" bands=").unwrap_or(text.len());
        text.truncate(end);
    }
    text.replace('\n', " ").replace("bands= ", "bands=")
}

fn bad(name: &str, value: &str) -> ParseError {
    ParseError::Value { name: name.to_owned(), value: value.to_owned() }
}

fn missing(name: &str) -> ParseError {
    ParseError::NoValue { name: name.to_owned() }
}

fn number<T: TryFrom<u128>>(name: &str, text: &str) -> Result<T, ParseError> {
    integer(text).and_then(|n| T::try_from(n).ok()).ok_or_else(|| bad(name, text))
}

/// Splits off the first word if it is one of these.
fn command<'a>(text: &'a str, words: &[(&str, u16)]) -> (u16, &'a str) {
    let text = text.trim();
    let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    match words.iter().find(|(name, _)| *name == word) {
        Some((_, command)) => (*command, rest.trim_start_matches([',', ' ', '\t'])),
        None => (0, text),
    }
}

/// Reads a group as `ovs-ofctl add-group` does; with `modify`, `delete` or `add_or_mod` in front, that change.
///
/// Errors: [`ParseError`]. What OpenFlow 1.3 has no bytes for (`bucket_id`, `selection_method`) is an unknown field.
///
/// ```
/// use rust_openflow::text;
///
/// let group = text::parse_group("group_id=5,type=select,bucket=weight:10,actions=output:1")?;
/// assert_eq!((group.group, group.buckets.len(), group.buckets[0].weight), (5, 1, 10));
/// # Ok::<(), text::ParseError>(())
/// ```
pub fn parse_group(text: &str) -> Result<GroupMod, ParseError> {
    parse_group_with(text, &NUMBERS)
}

/// As [`parse_group`], with the names of ports.
///
/// Errors: [`ParseError`].
pub fn parse_group_with(text: &str, names: &Names) -> Result<GroupMod, ParseError> {
    let words = [
        ("add", GroupMod::ADD),
        ("modify", GroupMod::MODIFY),
        ("delete", GroupMod::DELETE),
        ("add_or_mod", GroupMod::ADD_OR_MODIFY),
    ];
    let (command, text) = command(text, &words);
    let deletes = command == GroupMod::DELETE;
    let mut group_mod = GroupMod { command, typ: 0, group: GROUP_ALL, buckets: Vec::new() };
    if deletes && text.is_empty() {
        return Ok(group_mod);
    }
    let mut parts = text.split("bucket=");
    let (mut group, mut typ) = (None, None);
    for item in items(parts.next().unwrap_or_default())? {
        let (key, value) = item.split_once(['=', ':']).ok_or_else(|| missing(item))?;
        match key {
            "group_id" if value == "all" => group = Some(GROUP_ALL),
            "group_id" => {
                let n: u32 = number(key, value)?;
                if n > GROUP_MAX && n != GROUP_ALL {
                    return Err(bad(key, value));
                }
                group = Some(n);
            }
            "type" if !deletes => {
                typ = Some(match value {
                    "all" => 0,
                    "select" => 1,
                    "indirect" => 2,
                    "ff" | "fast_failover" => 3,
                    _ => return Err(bad(key, value)),
                });
            }
            _ => return Err(ParseError::UnknownField { name: key.to_owned() }),
        }
    }
    group_mod.group = group.ok_or_else(|| missing("group_id"))?;
    if deletes {
        return match parts.next() {
            None => Ok(group_mod),
            Some(_) => Err(ParseError::UnknownField { name: "bucket".to_owned() }),
        };
    }
    group_mod.typ = typ.ok_or_else(|| missing("type"))?;
    for part in parts {
        group_mod.buckets.push(bucket(part, group_mod.typ, names)?);
    }
    if group_mod.typ == 2 && group_mod.buckets.len() != 1 {
        // An indirect group has one bucket, that is what makes it one.
        return Err(bad("bucket", &format!("{} of an indirect group", group_mod.buckets.len())));
    }
    Ok(group_mod)
}

/// Splits at commas and spaces outside brackets and quotes.
fn items(text: &str) -> Result<Vec<&str>, ParseError> {
    let (mut depth, mut quoted, mut start) = (0_usize, false, 0);
    let mut list = Vec::new();
    let unpaired = || ParseError::Unpaired { text: text.to_owned() };
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.checked_sub(1).ok_or_else(unpaired)?,
            ',' | ' ' | '\t' | '\r' | '\n' if depth == 0 => {
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
    list.retain(|item| !item.is_empty());
    Ok(list)
}

fn bucket(text: &str, typ: u8, names: &Names) -> Result<Bucket, ParseError> {
    let mut bucket = Bucket { weight: u16::from(typ == 1), ..Bucket::default() };
    let mut actions: Vec<&str> = Vec::new();
    for item in items(text)? {
        let (key, value) = item.split_once(['=', ':']).unwrap_or((item, ""));
        match key.to_ascii_lowercase().as_str() {
            "weight" => bucket.weight = number(key, value)?,
            "watch_port" => {
                let known = |n: &u32| *n < port::MAX || *n == port::ANY;
                bucket.watch_port =
                    names.read_port(value).filter(known).ok_or_else(|| bad(key, value))?;
            }
            "watch_group" => {
                bucket.watch_group = number(key, value)?;
                if bucket.watch_group > GROUP_MAX {
                    return Err(bad(key, value));
                }
            }
            "bucket_id" => return Err(ParseError::UnknownField { name: key.to_owned() }),
            "action" | "actions" => actions.push(value),
            _ => actions.push(item),
        }
    }
    if actions.is_empty() {
        return Err(missing("actions"));
    }
    let watches = bucket.watch_port != port::ANY || bucket.watch_group != u32::MAX;
    if typ == 3 && !watches {
        return Err(missing("watch_port"));
    }
    for instruction in parse_instructions(&actions.join(","), &Match::new(), names)? {
        match instruction {
            Instruction::ApplyActions(list) => bucket.actions = list,
            _ => return Err(ParseError::UnknownAction { action: actions.join(",") }),
        }
    }
    Ok(bucket)
}

/// Reads a meter as `ovs-ofctl add-meter` does; with `modify` or `delete` in front, that change.
///
/// Errors: [`ParseError`].
///
/// ```
/// use rust_openflow::{MeterBand, text};
///
/// let meter = text::parse_meter("meter=3 kbps burst bands=type=drop rate=1000 burst_size=100")?;
/// assert_eq!((meter.meter, meter.flags), (3, 5));
/// assert_eq!(meter.bands, [MeterBand::Drop { rate: 1000, burst: 100 }]);
/// # Ok::<(), text::ParseError>(())
/// ```
pub fn parse_meter(text: &str) -> Result<MeterMod, ParseError> {
    let words =
        [("add", MeterMod::ADD), ("modify", MeterMod::MODIFY), ("delete", MeterMod::DELETE)];
    let (command, text) = command(text, &words);
    let deletes = command == MeterMod::DELETE;
    let (head, bands) = match text.find("band") {
        _ if deletes => (text, ""),
        Some(at) => {
            let (head, rest) = text.split_at(at);
            (head, rest.split_once('=').ok_or_else(|| missing("bands"))?.1)
        }
        None => return Err(missing("bands")),
    };
    let mut meter_mod = MeterMod { command, ..MeterMod::default() };
    let separators = ['=', ',', ' ', '\t', '\r', '\n'];
    let mut words = head.split(separators).filter(|word| !word.is_empty());
    let mut meter = None;
    while let Some(word) = words.next() {
        let flag = meter_flags::NAMES.iter().position(|name| *name == word);
        if let Some(bit) = flag.filter(|_| !deletes) {
            meter_mod.flags |= 1 << bit;
            continue;
        }
        let value = words.next().ok_or_else(|| missing(word))?;
        if word != "meter" {
            return Err(ParseError::UnknownField { name: word.to_owned() });
        }
        meter = Some(match value {
            "all" => meter_id::ALL,
            "controller" => meter_id::CONTROLLER,
            "slowpath" => meter_id::SLOWPATH,
            _ => {
                let n = number(word, value)?;
                if n == 0 || n > meter_id::MAX {
                    return Err(bad(word, value));
                }
                n
            }
        });
    }
    meter_mod.meter = meter.ok_or_else(|| missing("meter"))?;
    if deletes {
        return Ok(meter_mod);
    }
    // One unit, not none and not both.
    match meter_mod.flags & (meter_flags::KBPS | meter_flags::PKTPS) {
        0 => return Err(missing("kbps")),
        3 => return Err(bad("pktps", "kbps")),
        _ => {}
    }
    let words: Vec<&str> = bands.split(separators).filter(|word| !word.is_empty()).collect();
    let burst = meter_mod.flags & meter_flags::BURST != 0;
    let starts = words.iter().enumerate().filter(|(at, word)| at % 2 == 0 && **word == "type");
    let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
    if starts.first() != Some(&0) {
        return Err(missing("type"));
    }
    let ends = starts.iter().skip(1).copied().chain([words.len()]);
    for (start, end) in starts.iter().copied().zip(ends) {
        meter_mod.bands.push(band(words.get(start..end).unwrap_or_default(), burst)?);
    }
    Ok(meter_mod)
}

/// One band: names and values in turn.
fn band(words: &[&str], has_burst: bool) -> Result<MeterBand, ParseError> {
    let (mut typ, mut rate, mut burst, mut level) = ("", 0, 0, 0);
    for pair in words.chunks(2) {
        let [key, value] = pair else {
            return Err(missing(pair.first().copied().unwrap_or_default()));
        };
        match *key {
            "type" => typ = value,
            "rate" => rate = number(key, value)?,
            "burst_size" => burst = number(key, value)?,
            "prec_level" => level = number(key, value)?,
            _ => return Err(ParseError::UnknownField { name: (*key).to_owned() }),
        }
    }
    if rate == 0 {
        return Err(missing("rate"));
    }
    if has_burst && burst == 0 {
        return Err(missing("burst_size"));
    }
    if !has_burst && burst != 0 {
        return Err(ParseError::UnknownField { name: "burst_size".to_owned() });
    }
    match (typ, level) {
        ("drop", 0) => Ok(MeterBand::Drop { rate, burst }),
        ("drop", _) => Err(ParseError::UnknownField { name: "prec_level".to_owned() }),
        ("dscp_remark", 0) => Err(missing("prec_level")),
        ("dscp_remark", level) => Ok(MeterBand::DscpRemark { rate, burst, level }),
        _ => Err(bad("type", typ)),
    }
}
