//! The end of a flow.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::oxm::Match;
use crate::wire::Reader;

/// `OFPT_FLOW_REMOVED`.
///
/// Units: time-outs in seconds. Source: OpenFlow 1.3, "Flow Removed Message".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FlowRemoved {
    /// The flow's cookie.
    pub cookie: u64,
    /// Its priority.
    pub priority: u16,
    /// 0 idle, 1 hard time-out, 2 delete, 3 group delete, 4 meter delete.
    pub reason: u8,
    /// Its table.
    pub table: u8,
    /// Whole seconds it lived.
    pub duration_sec: u32,
    /// Nanoseconds beyond.
    pub duration_nsec: u32,
    /// Its idle time-out.
    pub idle_timeout: u16,
    /// Its hard time-out.
    pub hard_timeout: u16,
    /// Packets it saw.
    pub packets: u64,
    /// Bytes it saw.
    pub bytes: u64,
    /// What it matched.
    pub match_: Match,
}

impl FlowRemoved {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u64(self.cookie);
        out.put_u16(self.priority);
        out.put_u8(self.reason);
        out.put_u8(self.table);
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        out.put_u64(self.packets);
        out.put_u64(self.bytes);
        self.match_.encode(out)
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            cookie: reader.u64("cookie")?,
            priority: reader.u16("priority")?,
            reason: reader.u8("flow-removed reason")?,
            table: reader.u8("table")?,
            duration_sec: reader.u32("duration")?,
            duration_nsec: reader.u32("duration")?,
            idle_timeout: reader.u16("idle timeout")?,
            hard_timeout: reader.u16("hard timeout")?,
            packets: reader.u64("packets")?,
            bytes: reader.u64("bytes")?,
            match_: Match::decode(reader)?,
        })
    }
}
