//! Reading flow text.

use super::check::check_flow;
use super::parse_action::parse_instructions;
use super::parse_match::parse_fields;
use super::{NUMBERS, Names};
use crate::flow_mod::{FlowCommand, FlowMod, flow_flags};
use crate::instruction::Instruction;
use crate::oxm::Match;
use crate::types::{GROUP_ALL, GROUP_ANY, TABLE_ALL};

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
    /// A field that a match can have only once.
    #[error("field {name:?} stands twice")]
    Twice {
        /// The field.
        name: String,
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
    /// A word its command has no use for.
    #[error("{name:?} has no place in a line that is to {command}")]
    Misplaced {
        /// The word.
        name: String,
        /// The command.
        command: &'static str,
    },
    /// A deletion with a cookie and no mask, which could be mistaken for the setting of a cookie.
    #[error("a deletion cannot set a cookie (to look for it, give a mask: cookie={value}/-1)")]
    CookieWithoutMask {
        /// The cookie.
        value: String,
    },
    /// Actions inside actions inside actions, and so on.
    #[error("actions stand in more than {limit} brackets")]
    TooDeep {
        /// The most there may be.
        limit: u8,
    },
    /// An instruction twice, or before one that is carried out earlier.
    #[error(
        "{name:?} cannot follow {before:?}: the order is meter, actions, clear_actions, write_actions, write_metadata, \
         goto_table, each once"
    )]
    InstructionOrder {
        /// The instruction, or an action.
        name: String,
        /// What stands before it.
        before: String,
    },
    /// A field of a match or an action without what it needs.
    #[error("field {name:?} needs {needs} in the match")]
    Missing {
        /// The field.
        name: String,
        /// What it needs.
        needs: &'static str,
    },
    /// An action that OVS does not take here.
    #[error("action {action:?} is refused: {reason}")]
    Inconsistent {
        /// The action.
        action: String,
        /// Why.
        reason: &'static str,
    },
    /// A goto_table that does not go to a later table.
    #[error("goto_table from table {from} to {to}: it goes to later tables only, 254 at most")]
    GotoBack {
        /// The flow's table.
        from: u8,
        /// Where it would go.
        to: u8,
    },
    /// A drop beside something else.
    #[error("drop stands alone")]
    DropNotAlone,
    /// Text that is no run of bits of a field.
    #[error("{text:?} is no run of bits of a field (NAME[FIRST..LAST], NAME[BIT] or NAME[])")]
    NoSubfield {
        /// The text.
        text: String,
    },
    /// A field that no action may write, or not where this one stands.
    #[error("no action may write to {name:?} here")]
    ReadOnly {
        /// The field.
        name: String,
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

/// Reads one line of `ovs-ofctl dump-flows` or of an `add-flows` file, with or without statistics, without names.
///
/// Errors: [`ParseError`]. A line that begins with a command is for [`parse_flow_mod`].
///
/// ```
/// use rust_openflow::{Field, text};
///
/// let flow = text::parse_flow("table=3, n_packets=5, priority=10,tcp,tp_dst=80 actions=output:1")?;
/// assert_eq!((flow.table, flow.priority), (3, 10));
/// assert_eq!(flow.match_.exact(Field::TcpDst), Some(80));
/// # Ok::<(), text::ParseError>(())
/// ```
pub fn parse_flow(line: &str) -> Result<FlowText, ParseError> {
    parse_flow_with(line, &NUMBERS)
}

/// Reads one line of `ovs-ofctl dump-flows`, with or without statistics, with or without `names`.
///
/// Errors: [`ParseError`].
pub fn parse_flow_with(line: &str, names: &Names) -> Result<FlowText, ParseError> {
    let parsed = parse_line(line, FlowCommand::Add, names)?;
    let flow = parsed.flow;
    Ok(FlowText {
        cookie: flow.cookie,
        table: flow.table,
        priority: flow.priority,
        idle_timeout: flow.idle_timeout,
        hard_timeout: flow.hard_timeout,
        flags: flow.flags,
        stats: parsed.stats,
        match_: flow.match_,
        instructions: flow.instructions,
    })
}

/// Reads one line of an `add-flows` file: a flow to add, or one of the commands `add`, `modify`, `modify_strict`,
/// `delete` and `delete_strict` with what it needs.
///
/// Errors: [`ParseError`].
///
/// ```
/// use rust_openflow::{FlowCommand, text};
///
/// let flow = text::parse_flow_mod("delete_strict table=3,priority=10,tcp")?;
/// assert_eq!((flow.command, flow.table), (FlowCommand::DeleteStrict, 3));
/// # Ok::<(), text::ParseError>(())
/// ```
pub fn parse_flow_mod(line: &str) -> Result<FlowMod, ParseError> {
    parse_flow_mod_with(line, FlowCommand::Add, &NUMBERS)
}

/// Reads one line of flow text, with or without `names`; `command` is what it means if it does not begin with one.
///
/// Errors: [`ParseError`].
pub fn parse_flow_mod_with(
    line: &str,
    command: FlowCommand,
    names: &Names,
) -> Result<FlowMod, ParseError> {
    let (command, rest) = split_command(line, command);
    Ok(parse_line(rest, command, names)?.flow)
}

/// A line of a file that is no flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct LineError {
    /// Which line. Units: from 1.
    pub line: usize,
    /// What is wrong with it.
    #[source]
    pub error: ParseError,
}

/// Reads a whole `add-flows` file, without names: one flow or command a line; empty lines, and what stands behind a
/// `#`, are passed over, and so are the lines in which a dump names itself.
///
/// Errors: [`LineError`], for the first line that is no flow.
///
/// ```
/// use rust_openflow::text;
///
/// let flows = text::parse_flows("# two flows\ntable=1,ip actions=drop\n\nadd table=2 actions=NORMAL\n")?;
/// assert_eq!(flows.len(), 2);
/// assert_eq!(text::parse_flows("ip actions=drop\nip").unwrap_err().line, 2);
/// # Ok::<(), text::LineError>(())
/// ```
pub fn parse_flows(file: &str) -> Result<Vec<FlowMod>, LineError> {
    parse_flows_with(file, &NUMBERS)
}

/// Reads a whole `add-flows` file, with or without `names`.
///
/// Errors: [`LineError`], for the first line that is no flow.
pub fn parse_flows_with(file: &str, names: &Names) -> Result<Vec<FlowMod>, LineError> {
    flow_lines(file)
        .map(|(line, text)| {
            parse_flow_mod_with(text, FlowCommand::Add, names)
                .map_err(|error| LineError { line, error })
        })
        .collect()
}

/// The lines of a file that hold a flow, counted from 1, without comments.
pub(super) fn flow_lines(file: &str) -> impl Iterator<Item = (usize, &str)> {
    file.lines().enumerate().filter_map(|(n, line)| {
        let text = line.split('#').next().unwrap_or_default().trim();
        let header = text.starts_with("NXST_FLOW reply") || text.starts_with("OFPST_FLOW reply");
        (!text.is_empty() && !header).then_some((n + 1, text))
    })
}

/// Commands a line may begin with.
const COMMANDS: [(&str, FlowCommand); 5] = [
    ("add", FlowCommand::Add),
    ("modify", FlowCommand::Modify),
    ("modify_strict", FlowCommand::ModifyStrict),
    ("delete", FlowCommand::Delete),
    ("delete_strict", FlowCommand::DeleteStrict),
];

/// The command at the beginning of a line, and the rest.
fn split_command(line: &str, default: FlowCommand) -> (FlowCommand, &str) {
    let line = line.trim();
    let end = line.find([',', ' ', '\t', '\r', '\n']).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    match COMMANDS.iter().find(|(name, _)| *name == word) {
        Some((_, command)) => (*command, rest),
        None => (default, line),
    }
}

/// What a line says.
pub(super) struct Line {
    /// The change it stands for.
    pub(super) flow: FlowMod,
    /// Counters, where it has them.
    pub(super) stats: Option<TextStats>,
    /// Importance, which OpenFlow 1.3 has no place for.
    pub(super) importance: u16,
}

/// Reads a line without its command.
pub(super) fn parse_line(
    line: &str,
    command: FlowCommand,
    names: &Names,
) -> Result<Line, ParseError> {
    let deletes = matches!(command, FlowCommand::Delete | FlowCommand::DeleteStrict);
    let (head, actions) = if deletes {
        (line, None)
    } else {
        let (head, actions) = split_actions(line).ok_or(ParseError::NoActions)?;
        (head, Some(actions))
    };
    let mut parsed =
        Line { flow: FlowMod { command, ..FlowMod::default() }, stats: None, importance: 0 };
    let mut table = None;
    let mut fields = Vec::new();
    for pair in pairs(head) {
        let pair = pair?;
        let (key, value) = (pair.key, Some(pair.value).filter(|value| !value.is_empty()));
        let flow = &mut parsed.flow;
        if let Some(bit) = flow_flags::NAMES.iter().position(|name| *name == key) {
            if deletes {
                return Err(misplaced(key, command));
            }
            flow.flags |= 1 << bit;
            continue;
        }
        match key {
            "cookie" => {
                let text = required(key, value)?;
                match text.split_once('/') {
                    Some(_) if command == FlowCommand::Add => return Err(misplaced(key, command)),
                    Some((cookie, mask)) => {
                        flow.cookie_mask = integer64(mask).ok_or_else(|| bad(key, text))?;
                        let cookie = integer64(cookie).ok_or_else(|| bad(key, text))?;
                        flow.cookie = cookie & flow.cookie_mask;
                    }
                    None if deletes => {
                        return Err(ParseError::CookieWithoutMask { value: text.to_owned() });
                    }
                    None => {
                        let cookie = integer64(text).ok_or_else(|| bad(key, text))?;
                        // A modification never changes a cookie in OpenFlow 1.3.
                        if command == FlowCommand::Add {
                            flow.cookie = cookie;
                        }
                    }
                }
            }
            "table" => {
                let text = required(key, value)?;
                table = Some(names.read_table(text).ok_or_else(|| bad(key, text))?);
            }
            "out_port" if deletes => {
                let text = required(key, value)?;
                flow.out_port = names.read_port(text).ok_or_else(|| bad(key, text))?;
            }
            "out_group" if deletes => {
                let text = required(key, value)?;
                flow.out_group = read_group(text).ok_or_else(|| bad(key, text))?;
            }
            "out_port" | "out_group" => return Err(misplaced(key, command)),
            "priority" if command == FlowCommand::Delete => return Err(misplaced(key, command)),
            "idle_timeout" | "hard_timeout" | "importance" if deletes => {
                return Err(misplaced(key, command));
            }
            "priority" => flow.priority = number(key, value)?,
            "idle_timeout" => flow.idle_timeout = number(key, value)?,
            "hard_timeout" => flow.hard_timeout = number(key, value)?,
            "importance" => parsed.importance = number(key, value)?,
            "n_packets" => parsed.stats.get_or_insert_default().packets = number(key, value)?,
            "n_bytes" => parsed.stats.get_or_insert_default().bytes = number(key, value)?,
            "duration" => {
                let text = required(key, value)?;
                let stats = parsed.stats.get_or_insert_default();
                (stats.duration_sec, stats.duration_nsec) =
                    duration(text).ok_or_else(|| bad(key, text))?;
            }
            "idle_age" | "hard_age" => {
                number::<u32>(key, value)?;
            }
            "no_readonly_table" | "allow_hidden_fields" => {}
            _ => fields.push((key, value)),
        }
    }
    let flow = &mut parsed.flow;
    flow.match_ = parse_fields(&fields, names)?;
    // A deletion without a table is one in all tables.
    flow.table = match table {
        Some(TABLE_ALL) | None if !deletes => 0,
        other => other.unwrap_or(TABLE_ALL),
    };
    if let Some(actions) = actions {
        flow.instructions = parse_instructions(actions, &flow.match_, names)?;
    }
    check_flow(flow)?;
    Ok(parsed)
}

fn misplaced(name: &str, command: FlowCommand) -> ParseError {
    let command = COMMANDS.iter().find(|(_, c)| *c == command).map_or("add", |(name, _)| *name);
    ParseError::Misplaced { name: name.to_owned(), command }
}

/// A group by number, or one of the names of reserved ones.
pub(super) fn read_group(text: &str) -> Option<u32> {
    match text.to_ascii_lowercase().as_str() {
        "any" => Some(GROUP_ANY),
        "all" => Some(GROUP_ALL),
        other => integer(other).and_then(|n| u32::try_from(n).ok()),
    }
}

/// The text before `actions=` and behind it.
fn split_actions(line: &str) -> Option<(&str, &str)> {
    let (head, rest) = line.split_once("action")?;
    let (between, actions) = rest.split_once('=')?;
    matches!(between.trim_end(), "" | "s").then_some((head, actions))
}

/// `key=value`, `key:value`, `key(value)` or a key alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    /// The key.
    pub(super) key: &'a str,
    /// What follows; empty if nothing does.
    pub(super) value: &'a str,
    /// What follows an arrow behind the brackets.
    pub(super) arrow: Option<&'a str>,
}

/// Splits text into pairs at commas and white space outside brackets and quotes, as ovs-ofctl does.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = Result<Pair<'_>, ParseError>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.trim_start_matches([',', ' ', '\t', '\r', '\n']);
        if start.is_empty() {
            rest = "";
            return None;
        }
        let delimiters = [':', '=', '(', ',', ' ', '\t', '\r', '\n'];
        let key_end = if start.starts_with('"') {
            value_end(start, &delimiters).unwrap_or(start.len())
        } else {
            start.find(delimiters).unwrap_or(start.len())
        };
        let (key, tail) = start.split_at(key_end);
        let (value, after) = match tail.chars().next() {
            Some(':' | '=') => {
                let value = tail.get(1..).unwrap_or_default();
                match value_end(value, &[',', ' ', '\t', '\r', '\n']) {
                    Some(end) => value.split_at(end),
                    None => {
                        rest = "";
                        return Some(Err(ParseError::Unpaired { text: start.to_owned() }));
                    }
                }
            }
            Some('(') => {
                let value = tail.get(1..).unwrap_or_default();
                match value_end(value, &[')']) {
                    Some(end) if end < value.len() => (
                        value.get(..end).unwrap_or_default(),
                        value.get(end + 1..).unwrap_or_default(),
                    ),
                    _ => {
                        rest = "";
                        return Some(Err(ParseError::Unpaired { text: start.to_owned() }));
                    }
                }
            }
            _ => ("", tail),
        };
        let (arrow, after) = match after.strip_prefix("->") {
            Some(tail) if start.get(key_end..).is_some_and(|t| t.starts_with('(')) => {
                let end = tail.find([',', ' ', '\t', '\r', '\n']).unwrap_or(tail.len());
                let (arrow, after) = tail.split_at(end);
                (Some(arrow), after)
            }
            _ => (None, after),
        };
        rest = after;
        Some(Ok(Pair { key, value, arrow }))
    })
}

/// Where a value ends: at the first of `delimiters` outside brackets and quotes, or with the text; `None` if a bracket
/// or quote is left open.
fn value_end(text: &str, delimiters: &[char]) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            c if depth == 0 && delimiters.contains(&c) => return Some(at),
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    (depth == 0 && !quoted).then_some(text.len())
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

/// A number of 64 bits; -1 is all ones.
pub(super) fn integer64(text: &str) -> Option<u64> {
    integer(text).and_then(|number| u64::try_from(number).ok())
}

/// A number as C reads it: decimal, hexadecimal behind `0x`, octal behind `0`. Behind a sign, and of decimal digits, it
/// has 64 bits; a negative one is counted back from 2^64, as `strtoull` does: `-1` is all ones of 64 bits.
pub(super) fn integer(text: &str) -> Option<u128> {
    let short = |number: &u128| *number <= u64::MAX.into();
    if let Some(digits) = text.strip_prefix('-') {
        let number = u64::try_from(unsigned(digits)?).ok()?;
        return Some(number.wrapping_neg().into());
    }
    match text.strip_prefix('+') {
        Some(digits) => unsigned(digits).filter(short),
        None => unsigned(text),
    }
}

/// A number without a sign.
fn unsigned(text: &str) -> Option<u128> {
    let digits = |text: &str, radix| {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if plain { u128::from_str_radix(text, radix).ok() } else { None }
    };
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => digits(hex, 16),
        None if text.len() > 1 && text.starts_with('0') => digits(text, 8),
        // ovs-ofctl reads decimals of 64 bits.
        None => digits(text, 10).filter(|n| *n <= u64::MAX.into()),
    }
}
