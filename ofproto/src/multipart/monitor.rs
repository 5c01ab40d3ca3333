//! Flow monitors: being told of every change to flows (ONF experimenter multipart 1870, OVS 3.0).
//!
//! The first reply has the xid of the request. Every later one has xid 0 and no MORE: it is an event, not the part
//! of a reply.
//!
//! Source: ONF EXT-187; OVS `include/openflow/openflow-1.4.h` and `lib/ofp-monitor.c`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::instruction::{self, Instruction};
use crate::oxm::Match;
use crate::types::{TABLE_ALL, port};
use crate::wire::{Length, Reader};

/// Bits of [`FlowMonitorRequest::flags`].
pub mod monitor_flags {
    /// Begin with the flows that are there.
    pub const INITIAL: u16 = 0x01;
    /// Flows that are added.
    pub const ADD: u16 = 0x02;
    /// Flows that are removed.
    pub const DELETE: u16 = 0x04;
    /// Flows that are changed.
    pub const MODIFY: u16 = 0x08;
    /// With their instructions.
    pub const ACTIONS: u16 = 0x10;
    /// One's own changes in full; without it they come as [`FlowUpdate::Abbreviated`](super::FlowUpdate).
    pub const OWN: u16 = 0x20;
    /// Names in bit order, lowest first.
    pub const NAMES: [&str; 6] = ["initial", "add", "delete", "modify", "actions", "own"];
}

/// Which flows to watch. The default is all changes to all flows, with instructions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FlowMonitorRequest {
    /// The monitor, chosen by the controller.
    pub id: u32,
    /// Bits of [`monitor_flags`].
    pub flags: u16,
    /// Only flows that output here.
    pub out_port: u32,
    /// The table; 255 for all.
    pub table: u8,
    /// Only flows this match covers.
    pub match_: Match,
}

impl Default for FlowMonitorRequest {
    fn default() -> Self {
        Self { id: 0, flags: 0x3f, out_port: port::ANY, table: TABLE_ALL, match_: Match::new() }
    }
}

impl FlowMonitorRequest {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u32(self.id);
        out.put_u16(self.flags);
        // OVS writes the bytes of the match here and never reads them.
        let at = out.len();
        out.put_u16(0);
        out.put_u32(self.out_port);
        out.put_u8(self.table);
        out.put_bytes(0, 3);
        // A request without its match makes OVS 3.1.0 answer with 65,535 bytes of its memory, so there always is one.
        let start = out.len();
        self.match_.encode(out)?;
        let stated = out.get(start + 2..start + 4).map(<[u8]>::to_vec).unwrap_or_default();
        if let Some(slot) = out.get_mut(at..at + 2) {
            slot.copy_from_slice(&stated);
        }
        Ok(())
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = reader.u32("monitor id")?;
        let flags = reader.u16("monitor flags")?;
        reader.skip("match length", 2)?;
        let out_port = reader.u32("out port")?;
        let table = reader.u8("table")?;
        reader.skip("monitor padding", 3)?;
        let match_ = Match::decode(reader)?;
        Ok(Self { id, flags, out_port, table, match_ })
    }
}

/// One change.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum FlowUpdate {
    /// A flow was added, removed or changed.
    Full(Box<FlowChange>),
    /// A change of one's own, done.
    Abbreviated {
        /// The xid of the message that made it.
        xid: u32,
    },
    /// Any other: event and everything behind it.
    Unknown {
        /// The event.
        event: u16,
        /// The bytes behind length and event.
        body: Bytes,
    },
}

/// A flow and what became of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FlowChange {
    /// 0 added, 1 removed, 2 changed.
    pub event: u16,
    /// Why it was removed, as in [`FlowRemoved`](crate::FlowRemoved).
    pub reason: u16,
    /// Its priority.
    pub priority: u16,
    /// Units: seconds.
    pub idle_timeout: u16,
    /// Units: seconds.
    pub hard_timeout: u16,
    /// Its table.
    pub table: u8,
    /// Its cookie.
    pub cookie: u64,
    /// What it matches.
    pub match_: Match,
    /// What it does, if the monitor asked for that.
    pub instructions: Vec<Instruction>,
}

impl FlowChange {
    /// A flow was added, or was there from the beginning.
    pub const ADDED: u16 = 0;
    /// A flow was removed.
    pub const REMOVED: u16 = 1;
    /// The instructions of a flow were changed.
    pub const MODIFIED: u16 = 2;
}

const ABBREVIATED: u16 = 3;

impl FlowUpdate {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "flow update", 0);
        out.put_u16(0);
        match self {
            Self::Full(change) => {
                out.put_u16(change.event);
                out.put_u16(change.reason);
                out.put_u16(change.priority);
                out.put_u16(change.idle_timeout);
                out.put_u16(change.hard_timeout);
                let at = out.len();
                out.put_u16(0);
                out.put_u8(change.table);
                out.put_u8(0);
                out.put_u64(change.cookie);
                let start = out.len();
                change.match_.encode(out)?;
                let stated = out.get(start + 2..start + 4).map(<[u8]>::to_vec).unwrap_or_default();
                if let Some(slot) = out.get_mut(at..at + 2) {
                    slot.copy_from_slice(&stated);
                }
                instruction::encode_list(&change.instructions, out)?;
            }
            Self::Abbreviated { xid } => {
                out.put_u16(ABBREVIATED);
                out.put_u32(*xid);
            }
            Self::Unknown { event, body } => {
                out.put_u16(*event);
                out.put_slice(body);
            }
        }
        length.close(out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut entry = super::entry(reader, "flow update")?;
        let event = entry.u16("flow update event")?;
        Ok(match (event, entry.len()) {
            (FlowChange::ADDED..=FlowChange::MODIFIED, _) => {
                let reason = entry.u16("flow update reason")?;
                let priority = entry.u16("priority")?;
                let idle_timeout = entry.u16("idle timeout")?;
                let hard_timeout = entry.u16("hard timeout")?;
                entry.skip("match length", 2)?;
                let table = entry.u8("table")?;
                entry.skip("flow update padding", 1)?;
                let cookie = entry.u64("cookie")?;
                let match_ = Match::decode(&mut entry)?;
                let instructions = instruction::decode_list(&mut entry)?;
                Self::Full(Box::new(FlowChange {
                    event,
                    reason,
                    priority,
                    idle_timeout,
                    hard_timeout,
                    table,
                    cookie,
                    match_,
                    instructions,
                }))
            }
            (ABBREVIATED, 4) => Self::Abbreviated { xid: entry.u32("xid")? },
            _ => Self::Unknown { event, body: entry.bytes() },
        })
    }
}
