//! Flow text as ovs-ofctl writes and reads it.
//!
//! [`Display`](std::fmt::Display) of [`Match`], [`Action`], [`Instruction`] and [`FlowStats`] is what
//! `ovs-ofctl -O OpenFlow13 --no-names dump-flows` of OVS 3.1 prints (without the space that begins its lines);
//! [`flow()`] with [`Names`] is what it prints with `--names`. [`parse_flow`] reads both, [`parse_flow_mod`] and
//! [`parse_flows`] what `ovs-ofctl add-flows` reads, and [`diff()`] says what changes between two sets of flows.
//!
//! What is read becomes the bytes that `ovs-ofctl -O OpenFlow13` makes of it: xreg and xxreg in a match become
//! registers, a masked set_field becomes one load for each run of bits, `enqueue`, `mod_nw_src` and the like become
//! what OpenFlow 1.3 has in their place.
//!
//! Some flows that ovs-ofctl takes are refused here, as a switch would refuse them, or as ovs-ofctl makes something
//! else of them in silence: a field without the protocol it needs (ovs-ofctl leaves it out, so that the flow matches
//! more than it says), `nw_frag=later` beside ports, the tuple of a connection without a ct_state that has one, a
//! value too large for the bits of its field. The list with a test is in `tests/flow_refusals.rs`.
//!
//! What this crate keeps as bytes (unknown actions, fields of more than 16 bytes) is written as `unknown(TYPE,HEX)`,
//! which nothing reads.

mod action;
mod check;
mod diff;
mod flow;
mod group;
mod matching;
mod message;
mod parse;
mod parse_action;
mod parse_match;

use std::collections::BTreeMap;
use std::fmt;

pub use diff::{DiffError, diff};
pub use flow::{flow, flow_mod, flow_without_stats};
pub use group::{group_mod, meter_mod, parse_group, parse_group_with, parse_meter};
pub use message::{message, message_name, print};
pub use parse::{
    FlowText, LineError, ParseError, TextStats, parse_flow, parse_flow_mod, parse_flow_mod_with,
    parse_flow_with, parse_flows, parse_flows_with,
};

use crate::action::Action;
use crate::flow_mod::FlowMod;
use crate::instruction::Instruction;
use crate::multipart::FlowStats;
use crate::oxm::Match;
use crate::types::port;

/// Names of tables and ports, as `ovs-ofctl --names` shows them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Names {
    /// Names of tables (`Flow_Table` rows of the database).
    pub tables: BTreeMap<u8, String>,
    /// Names of ports.
    pub ports: BTreeMap<u32, String>,
}

/// No names: numbers throughout.
static NUMBERS: Names = Names { tables: BTreeMap::new(), ports: BTreeMap::new() };

/// Ports that have a name in every switch.
const RESERVED: [(u32, &str); 8] = [
    (port::IN_PORT, "IN_PORT"),
    (port::TABLE, "TABLE"),
    (port::NORMAL, "NORMAL"),
    (port::FLOOD, "FLOOD"),
    (port::ALL, "ALL"),
    (port::CONTROLLER, "CONTROLLER"),
    (port::LOCAL, "LOCAL"),
    (port::ANY, "ANY"),
];

impl Names {
    /// Writes a table.
    fn write_table(&self, out: &mut dyn fmt::Write, table: u8) -> fmt::Result {
        match self.tables.get(&table) {
            Some(name) => write_name(out, name),
            None => write!(out, "{table}"),
        }
    }

    /// Writes a port: reserved name, given name, number.
    fn write_port(&self, out: &mut dyn fmt::Write, number: u32) -> fmt::Result {
        if let Some(name) = reserved_name(number) {
            return out.write_str(name);
        }
        match self.ports.get(&number) {
            Some(name) => write_name(out, name),
            None => write!(out, "{}", if number >= port::MAX { number & 0xffff } else { number }),
        }
    }

    /// The table a text means: number or name.
    fn read_table(&self, text: &str) -> Option<u8> {
        text.parse().ok().or_else(|| {
            let name = read_name(text)?;
            self.tables.iter().find(|(_, n)| **n == name).map(|(table, _)| *table)
        })
    }

    /// The port a text means: number, reserved name or given name.
    fn read_port(&self, text: &str) -> Option<u32> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let number: u32 = text.parse().ok()?;
            return match u16::try_from(number) {
                Ok(short) => Some(port::from_u16(short)),
                Err(_) => Some(number).filter(|number| *number >= port::MAX),
            };
        }
        if let Some((number, _)) = RESERVED.iter().find(|(_, n)| n.eq_ignore_ascii_case(text)) {
            return Some(*number);
        }
        let name = read_name(text)?;
        self.ports.iter().find(|(_, n)| **n == name).map(|(port, _)| *port)
    }
}

/// The name of a reserved port.
fn reserved_name(number: u32) -> Option<&'static str> {
    RESERVED.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
}

/// Writes a name: as it is when it is a letter followed by letters and digits, else quoted.
///
/// Source: OVS `lib/ofp-port.c` and `lib/ofp-table.c` (`namemap_put_name`).
fn write_name(out: &mut dyn fmt::Write, name: &str) -> fmt::Result {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if plain {
        return out.write_str(name);
    }
    out.write_char('"')?;
    for c in name.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// Reads a name as [`write_name`] writes it.
fn read_name(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let inner = quoted.strip_suffix('"')?;
    let mut name = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            name.push(c);
            continue;
        }
        name.push(match chars.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let hex: String = chars.by_ref().take(4).collect();
                char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?
            }
            other => other,
        });
    }
    Some(name)
}

/// Something with a flow text that may need names.
trait Show {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result;
}

macro_rules! display {
    ($($type:ty)*) => {
        $(impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.show(f, &NUMBERS)
            }
        })*
    };
}

display! { Match Action Instruction FlowStats FlowMod }

/// The text of a match, with names.
pub fn matching(value: &Match, names: &Names) -> String {
    shown(value, names)
}

/// The text of a list of instructions as it stands behind `actions=`, with names.
pub fn instructions(value: &[Instruction], names: &Names) -> String {
    shown(value, names)
}

/// The text of one action, with names.
pub fn action(value: &Action, names: &Names) -> String {
    shown(value, names)
}

fn shown<T: Show + ?Sized>(value: &T, names: &Names) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = value.show(&mut text, names);
    text
}

/// Writes bytes in hex, `separator` between them.
fn write_hex(out: &mut dyn fmt::Write, bytes: &[u8], separator: &str) -> fmt::Result {
    for (n, byte) in bytes.iter().enumerate() {
        write!(out, "{}{byte:02x}", if n == 0 { "" } else { separator })?;
    }
    Ok(())
}

/// Writes a number as C's `%#x` does: zero without a prefix.
fn write_c_hex(out: &mut dyn fmt::Write, value: u128) -> fmt::Result {
    if value == 0 { out.write_char('0') } else { write!(out, "{value:#x}") }
}
