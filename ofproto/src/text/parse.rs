//! Reading flow text.

use super::parse_action::parse_instructions;
use super::parse_match::parse_fields;
use super::{NUMBERS, Names};
use crate::flow_mod::{FlowMod, flow_flags};
use crate::instruction::Instruction;
use crate::oxm::Match;
use crate::types::DEFAULT_PRIORITY;

/// Text that is not a flow as ovs-ofctl writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A line without `actions=`.
    #[error("flow without actions=")]
    NoActions,
    /// A word that is no field, flag or statistic known here.
    #[error("unknown field {name:?}")]
    UnknownField {
        /// The word.
        name: String,
    },
    /// A field that needs a value and has none.
    #[error("field {name:?} has no value")]
    NoValue {
        /// The field.
        name: String,
    },
    /// A value its field cannot have.
    #[error("field {name:?} cannot be {value:?}")]
    Value {
        /// The field.
        name: String,
        /// The value.
        value: String,
    },
    /// A field whose meaning hangs on a protocol the match does not name.
    #[error("field {name:?} needs a protocol in the match")]
    NoProtocol {
        /// The field.
        name: String,
    },
    /// An action that is not known here.
    #[error("unknown action {action:?}")]
    UnknownAction {
        /// The action.
        action: String,
    },
    /// An argument its action cannot have.
    #[error("action {action:?} cannot have the argument {argument:?}")]
    Argument {
        /// The action.
        action: String,
        /// The argument.
        argument: String,
    },
    /// Brackets or quotes that do not pair.
    #[error("unpaired bracket or quote in {text:?}")]
    Unpaired {
        /// The text.
        text: String,
    },
}

/// Counters of a flow, where the text has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TextStats {
    /// Whole seconds it has lived.
    pub duration_sec: u32,
    /// Nanoseconds beyond.
    pub duration_nsec: u32,
    /// Packets it has seen.
    pub packets: u64,
    /// Bytes it has seen.
    pub bytes: u64,
}

/// A flow read from text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowText {
    /// Its cookie; 0 if the text has none.
    pub cookie: u64,
    /// Its table; 0 if the text has none.
    pub table: u8,
    /// Its priority; 32768 if the text has none.
    pub priority: u16,
    /// Units: seconds.
    pub idle_timeout: u16,
    /// Units: seconds.
    pub hard_timeout: u16,
    /// Bits of [`flow_flags`].
    pub flags: u16,
    /// Its counters, if the text has any.
    pub stats: Option<TextStats>,
    /// What it matches.
    pub match_: Match,
    /// What it does.
    pub instructions: Vec<Instruction>,
}

impl FlowText {
    /// The flow mod that adds this flow.
    pub fn into_add(self) -> FlowMod {
        FlowMod {
            cookie: self.cookie,
            idle_timeout: self.idle_timeout,
            hard_timeout: self.hard_timeout,
            flags: self.flags,
            ..FlowMod::add(self.table, self.priority, self.match_, self.instructions)
        }
    }
}

/// Reads one line of `ovs-ofctl dump-flows`, with or without statistics, without names.
///
/// Errors: [`ParseError`].
pub fn parse_flow(line: &str) -> Result<FlowText, ParseError> {
    parse_flow_with(line, &NUMBERS)
}

/// Reads one line of `ovs-ofctl dump-flows`, with or without statistics, with or without `names`.
///
/// Errors: [`ParseError`].
pub fn parse_flow_with(line: &str, names: &Names) -> Result<FlowText, ParseError> {
    let (head, actions) = split_actions(line.trim()).ok_or(ParseError::NoActions)?;
    let mut flow = FlowText {
        cookie: 0,
        table: 0,
        priority: DEFAULT_PRIORITY,
        idle_timeout: 0,
        hard_timeout: 0,
        flags: 0,
        stats: None,
        match_: Match::new(),
        instructions: parse_instructions(actions, names)?,
    };
    let mut fields = Vec::new();
    for (key, value) in words(head)? {
        if let Some(bit) = flow_flags::NAMES.iter().position(|name| *name == key) {
            flow.flags |= 1 << bit;
            continue;
        }
        match key {
            "cookie" => flow.cookie = number(key, value)?,
            "table" => {
                let text = required(key, value)?;
                flow.table = names.read_table(text).ok_or_else(|| bad(key, text))?;
            }
            "priority" => flow.priority = number(key, value)?,
            "idle_timeout" => flow.idle_timeout = number(key, value)?,
            "hard_timeout" => flow.hard_timeout = number(key, value)?,
            "n_packets" => flow.stats.get_or_insert_default().packets = number(key, value)?,
            "n_bytes" => flow.stats.get_or_insert_default().bytes = number(key, value)?,
            "duration" => {
                let text = required(key, value)?;
                let stats = flow.stats.get_or_insert_default();
                (stats.duration_sec, stats.duration_nsec) =
                    duration(text).ok_or_else(|| bad(key, text))?;
            }
            "idle_age" | "hard_age" => {
                number::<u32>(key, value)?;
            }
            _ => fields.push((key, value)),
        }
    }
    flow.match_ = parse_fields(&fields, names)?;
    Ok(flow)
}

/// The text before and behind `actions=`.
fn split_actions(line: &str) -> Option<(&str, &str)> {
    if let Some(actions) = line.strip_prefix("actions=") {
        return Some(("", actions));
    }
    let (head, actions) = line.split_once(" actions=").or_else(|| line.split_once(",actions="))?;
    Some((head, actions))
}

/// A word, with what follows its `=`.
type Word<'a> = (&'a str, Option<&'a str>);

/// Splits `key=value` and plain words at commas and spaces; a quoted value may hold both.
fn words(text: &str) -> Result<Vec<Word<'_>>, ParseError> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        if rest.is_empty() {
            return Ok(words);
        }
        let mut quoted = false;
        let mut escaped = false;
        let end = rest.find(|c: char| {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ',' | ' ' | '\t' => return !quoted,
                _ => {}
            }
            false
        });
        if end.is_none() && quoted {
            return Err(ParseError::Unpaired { text: text.to_owned() });
        }
        let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
        rest = tail;
        words.push(match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        });
    }
}

/// `1.234s`: seconds and nanoseconds.
fn duration(text: &str) -> Option<(u32, u32)> {
    let text = text.strip_suffix('s')?;
    let Some((sec, fraction)) = text.split_once('.') else { return Some((text.parse().ok()?, 0)) };
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((sec.parse().ok()?, format!("{fraction:0<9}").parse().ok()?))
}

pub(super) fn bad(name: &str, value: &str) -> ParseError {
    ParseError::Value { name: name.to_owned(), value: value.to_owned() }
}

pub(super) fn required<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, ParseError> {
    value.ok_or_else(|| ParseError::NoValue { name: name.to_owned() })
}

/// A decimal or 0x-hexadecimal number in the range of its type.
pub(super) fn number<T: TryFrom<u128>>(name: &str, value: Option<&str>) -> Result<T, ParseError> {
    let text = required(name, value)?;
    integer(text).and_then(|n| T::try_from(n).ok()).ok_or_else(|| bad(name, text))
}

/// A decimal or 0x-hexadecimal number.
pub(super) fn integer(text: &str) -> Option<u128> {
    let digits = |text: &str, radix| {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if plain { u128::from_str_radix(text, radix).ok() } else { None }
    };
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => digits(hex, 16),
        None => digits(text, 10),
    }
}
