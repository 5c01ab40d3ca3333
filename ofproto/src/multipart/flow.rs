//! Flows with their counters.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::instruction::{self, Instruction};
use crate::oxm::Match;
use crate::types::{GROUP_ANY, TABLE_ALL, port};
use crate::wire::{Length, Reader};

/// Which flows to show. The default is all of them.
///
/// Source: OpenFlow 1.3, "Individual Flow Statistics".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FlowStatsRequest {
    /// The table; 255 for all.
    pub table: u8,
    /// Only flows that output here.
    pub out_port: u32,
    /// Only flows that go to this group.
    pub out_group: u32,
    /// Only flows with this cookie,
    pub cookie: u64,
    /// as far as these bits say. An all-ones mask is served from an index, any other by a scan.
    pub cookie_mask: u64,
    /// Only flows this match covers.
    pub match_: Match,
}

impl Default for FlowStatsRequest {
    fn default() -> Self {
        Self {
            table: TABLE_ALL,
            out_port: port::ANY,
            out_group: GROUP_ANY,
            cookie: 0,
            cookie_mask: 0,
            match_: Match::new(),
        }
    }
}

impl FlowStatsRequest {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(self.table);
        out.put_bytes(0, 3);
        out.put_u32(self.out_port);
        out.put_u32(self.out_group);
        out.put_u32(0);
        out.put_u64(self.cookie);
        out.put_u64(self.cookie_mask);
        self.match_.encode(out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let table = reader.u8("table")?;
        reader.skip("flow request padding", 3)?;
        let out_port = reader.u32("out port")?;
        let out_group = reader.u32("out group")?;
        reader.skip("flow request padding", 4)?;
        let cookie = reader.u64("cookie")?;
        let cookie_mask = reader.u64("cookie mask")?;
        let match_ = Match::decode(reader)?;
        Ok(Self { table, out_port, out_group, cookie, cookie_mask, match_ })
    }
}

/// One flow of a dump.
///
/// Units: timeouts in seconds, 0 for none. Source: OpenFlow 1.3, "Individual Flow Statistics".
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowStats {
    /// Its table.
    pub table: u8,
    /// Whole seconds it has lived.
    pub duration_sec: u32,
    /// Nanoseconds beyond.
    pub duration_nsec: u32,
    /// Its priority.
    pub priority: u16,
    /// Ends after this time without a packet.
    pub idle_timeout: u16,
    /// Ends after this time.
    pub hard_timeout: u16,
    /// Bits of [`flow_flags`](crate::flow_flags).
    pub flags: u16,
    /// Its cookie.
    pub cookie: u64,
    /// Packets it has seen.
    pub packets: u64,
    /// Bytes it has seen.
    pub bytes: u64,
    /// What it matches.
    pub match_: Match,
    /// What it does; nothing drops.
    pub instructions: Vec<Instruction>,
}

impl FlowStats {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "flow statistics entry", 0);
        out.put_u16(0);
        out.put_u8(self.table);
        out.put_u8(0);
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
        out.put_u16(self.priority);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u16(self.flags);
        out.put_u32(0);
        out.put_u64(self.cookie);
        out.put_u64(self.packets);
        out.put_u64(self.bytes);
        self.match_.encode(out)?;
        instruction::encode_list(&self.instructions, out)?;
        length.close(out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let length = usize::from(reader.u16("flow entry length")?);
        let Some(rest) = length.checked_sub(2) else {
            return Err(DecodeError::Length { what: "flow statistics entry", offset, length });
        };
        let mut entry = reader.sub("flow statistics entry", rest)?;
        let table = entry.u8("table")?;
        entry.skip("flow entry padding", 1)?;
        let duration_sec = entry.u32("duration")?;
        let duration_nsec = entry.u32("duration")?;
        let priority = entry.u16("priority")?;
        let idle_timeout = entry.u16("idle timeout")?;
        let hard_timeout = entry.u16("hard timeout")?;
        let flags = entry.u16("flags")?;
        entry.skip("flow entry padding", 4)?;
        let cookie = entry.u64("cookie")?;
        let packets = entry.u64("packets")?;
        let bytes = entry.u64("bytes")?;
        let match_ = Match::decode(&mut entry)?;
        let instructions = instruction::decode_list(&mut entry)?;
        Ok(Self {
            table,
            duration_sec,
            duration_nsec,
            priority,
            idle_timeout,
            hard_timeout,
            flags,
            cookie,
            packets,
            bytes,
            match_,
            instructions,
        })
    }
}

/// Bytes of an entry without fields and instructions.
const LEAST: usize = 56;

/// Entries ahead, as far as they are well-formed.
fn count(reader: &Reader<'_>) -> usize {
    reader.count_records(LEAST, |[high, low, ..]| u16::from_be_bytes([high, low]).into())
}

/// Reads flows up to the end of `reader`.
pub(super) fn decode_list(reader: &mut Reader<'_>) -> Result<Vec<FlowStats>, DecodeError> {
    let mut flows = Vec::with_capacity(count(reader));
    while !reader.is_empty() {
        flows.push(FlowStats::decode(reader)?);
    }
    Ok(flows)
}

/// Appends the flows of one part of a reply, a whole message; `false` if it is a part of another kind.
///
/// Errors: [`DecodeError`]; those before the malformed one have been appended.
#[cfg(feature = "tokio")]
pub(crate) fn append_flows(
    frame: &bytes::Bytes,
    flows: &mut Vec<FlowStats>,
) -> Result<bool, DecodeError> {
    let (_, mut reader) = crate::header::open(frame)?;
    let typ = reader.u16("multipart type")?;
    reader.skip("multipart flags and padding", 6)?;
    if typ != super::kind::FLOW {
        return Ok(false);
    }
    flows.reserve(count(&reader));
    while !reader.is_empty() {
        flows.push(FlowStats::decode(&mut reader)?);
    }
    Ok(true)
}

/// Counters of all flows of a request together; 24 bytes. Source: OpenFlow 1.3, "Aggregate Flow Statistics".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct AggregateStats {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Flows.
    pub flows: u32,
}

impl AggregateStats {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.packets);
        out.put_u64(self.bytes);
        out.put_u32(self.flows);
        out.put_u32(0);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let packets = reader.u64("packets")?;
        let bytes = reader.u64("bytes")?;
        let flows = reader.u32("flows")?;
        reader.skip("aggregate padding", 4)?;
        Ok(Self { packets, bytes, flows })
    }
}
