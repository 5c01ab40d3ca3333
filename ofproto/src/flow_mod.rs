//! Changes to a flow table.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::instruction::{self, Instruction};
use crate::oxm::Match;
use crate::types::{DEFAULT_PRIORITY, GROUP_ANY, NO_BUFFER, TABLE_ALL, port};
use crate::wire::Reader;

/// Bits of [`FlowMod::flags`] and of the flags of a flow.
pub mod flow_flags {
    /// Tell of the flow's end.
    pub const SEND_FLOW_REM: u16 = 0x01;
    /// Refuse a flow that overlaps one of equal priority.
    pub const CHECK_OVERLAP: u16 = 0x02;
    /// Set the counters of a replaced flow to zero.
    pub const RESET_COUNTS: u16 = 0x04;
    /// Count no packets.
    pub const NO_PACKET_COUNTS: u16 = 0x08;
    /// Count no bytes.
    pub const NO_BYTE_COUNTS: u16 = 0x10;
    /// Names in bit order, lowest first.
    pub const NAMES: [&str; 5] =
        ["send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts"];
}

/// What a flow mod does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum FlowCommand {
    /// Adds; replaces the flow with the same match and priority.
    #[default]
    Add,
    /// Changes the instructions of every flow the match covers. The cookie is a filter, and is never changed.
    Modify,
    /// Changes the instructions of the flow with this match and priority.
    ModifyStrict,
    /// Removes every flow the match covers.
    Delete,
    /// Removes the flow with this match and priority.
    DeleteStrict,
}

/// `OFPT_FLOW_MOD`.
///
/// Units: timeouts in seconds, 0 for none. Source: OpenFlow 1.3, "Modify Flow Entry Message".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FlowMod {
    /// Add: the flow's cookie. Other commands: the cookie to look for.
    pub cookie: u64,
    /// Which bits of the cookie to look for; 0 for all cookies, and for add.
    pub cookie_mask: u64,
    /// The table; 255 deletes from all.
    pub table: u8,
    /// What to do.
    pub command: FlowCommand,
    /// Ends the flow after this time without a packet.
    pub idle_timeout: u16,
    /// Ends the flow after this time.
    pub hard_timeout: u16,
    /// The higher wins.
    pub priority: u16,
    /// A packet buffered in the switch; OVS has none.
    pub buffer_id: u32,
    /// Delete: only flows that output here.
    pub out_port: u32,
    /// Delete: only flows that go to this group.
    pub out_group: u32,
    /// Bits of [`flow_flags`].
    pub flags: u16,
    /// What the flow matches.
    pub match_: Match,
    /// What it does; nothing drops. Written in OVS's order, whatever the order here.
    pub instructions: Vec<Instruction>,
}

impl Default for FlowMod {
    fn default() -> Self {
        Self {
            cookie: 0,
            cookie_mask: 0,
            table: 0,
            command: FlowCommand::Add,
            idle_timeout: 0,
            hard_timeout: 0,
            priority: DEFAULT_PRIORITY,
            buffer_id: NO_BUFFER,
            out_port: port::ANY,
            out_group: GROUP_ANY,
            flags: 0,
            match_: Match::new(),
            instructions: Vec::new(),
        }
    }
}

impl FlowMod {
    /// Adds a flow. Its instructions are put in the order in which a dump shows them.
    pub fn add(
        table: u8,
        priority: u16,
        match_: Match,
        instructions: impl Into<Vec<Instruction>>,
    ) -> Self {
        let mut instructions = instructions.into();
        instruction::make_canonical(&mut instructions);
        Self { table, priority, match_, instructions, ..Self::default() }
    }

    /// Removes the flow with exactly this match and priority.
    pub fn delete_strict(table: u8, priority: u16, match_: Match) -> Self {
        let command = FlowCommand::DeleteStrict;
        Self { table, priority, match_, command, ..Self::default() }
    }

    /// Removes every flow of every table whose cookie agrees in the bits of `cookie_mask`.
    pub fn delete_by_cookie(cookie: u64, cookie_mask: u64) -> Self {
        let command = FlowCommand::Delete;
        Self { table: TABLE_ALL, cookie, cookie_mask, command, ..Self::default() }
    }

    /// The same with this cookie.
    #[must_use]
    pub fn with_cookie(mut self, cookie: u64) -> Self {
        self.cookie = cookie;
        self
    }

    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u64(self.cookie);
        out.put_u64(self.cookie_mask);
        out.put_u8(self.table);
        out.put_u8(match self.command {
            FlowCommand::Add => 0,
            FlowCommand::Modify => 1,
            FlowCommand::ModifyStrict => 2,
            FlowCommand::Delete => 3,
            FlowCommand::DeleteStrict => 4,
        });
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.priority);
        out.put_u32(self.buffer_id);
        out.put_u32(self.out_port);
        out.put_u32(self.out_group);
        out.put_u16(self.flags);
        out.put_u16(0);
        self.match_.encode(out)?;
        instruction::encode_list(&self.instructions, out)
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let cookie = reader.u64("cookie")?;
        let cookie_mask = reader.u64("cookie mask")?;
        let table = reader.u8("table")?;
        let offset = reader.offset();
        let command = match reader.u8("flow mod command")? {
            0 => FlowCommand::Add,
            1 => FlowCommand::Modify,
            2 => FlowCommand::ModifyStrict,
            3 => FlowCommand::Delete,
            4 => FlowCommand::DeleteStrict,
            other => {
                let value = other.into();
                return Err(DecodeError::Value { what: "flow mod command", offset, value });
            }
        };
        let idle_timeout = reader.u16("idle timeout")?;
        let hard_timeout = reader.u16("hard timeout")?;
        let priority = reader.u16("priority")?;
        let buffer_id = reader.u32("buffer id")?;
        let out_port = reader.u32("out port")?;
        let out_group = reader.u32("out group")?;
        let flags = reader.u16("flags")?;
        reader.skip("flow mod padding", 2)?;
        let match_ = Match::decode(reader)?;
        let instructions = instruction::decode_list(reader)?;
        Ok(Self {
            cookie,
            cookie_mask,
            table,
            command,
            idle_timeout,
            hard_timeout,
            priority,
            buffer_id,
            out_port,
            out_group,
            flags,
            match_,
            instructions,
        })
    }
}

/// Conjunction actions one flow may carry, be installed by a bundle and still show in a dump.
///
/// As a statistics entry it must fit one message: 65,535 less 16 (multipart header), 48 (fixed part), the padded
/// match and 8 (instruction header), in units of 16. With one more, OVS 3.1.0 takes the flow but leaves it out of
/// dumps. Inside a bundle, 24 bytes go before the fixed part instead of 16, which costs one more action where the
/// match is a multiple of 16, so that is what counts here.
///
/// Units: `match_len` in bytes, padded, as [`Match::encoded_len`] gives it.
pub const fn max_conjunctions(match_len: u16) -> u16 {
    (65_535 - 24 - 48 - 8_u16).saturating_sub(match_len) / 16
}
