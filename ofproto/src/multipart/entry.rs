//! Flows of a dump that are read only where somebody looks.

use bytes::Bytes;

use super::FlowStats;
use super::kind::FLOW;
use crate::error::DecodeError;
use crate::header;
use crate::message::kind;
use crate::wire::{Reader, padding};

/// Bytes of an entry before its match.
const FIXED: usize = 48;

/// The flows of one part of a dump, one after the other.
///
/// Behind an error there is nothing more: without a good length, the next flow cannot be found.
#[derive(Clone, Debug)]
pub struct FlowEntries {
    frame: Bytes,
    at: usize,
}

impl FlowEntries {
    /// Those of a whole message.
    ///
    /// Errors: [`DecodeError`] for a message that is not a reply with flows.
    pub fn of_reply(frame: &Bytes) -> Result<Self, DecodeError> {
        let (header, mut reader) = header::open(frame)?;
        for (what, offset, value, wanted) in [
            ("message type", 1, u64::from(header.typ), u64::from(kind::MULTIPART_REPLY)),
            ("multipart type", 8, reader.u16("multipart type")?.into(), FLOW.into()),
        ] {
            if value != wanted {
                return Err(DecodeError::Value { what, offset, value });
            }
        }
        reader.skip("multipart flags and padding", 6)?;
        Ok(Self { frame: frame.clone(), at: reader.offset() })
    }

    fn entry(&mut self) -> Result<FlowEntry, DecodeError> {
        let mut reader = Reader::new(&self.frame);
        reader.skip("flow statistics", self.at)?;
        let start = reader.clone();
        let length = usize::from(reader.u16("flow entry length")?);
        let bad = |what, length| DecodeError::Length { what, offset: self.at, length };
        if length < FIXED + 8 {
            return Err(bad("flow statistics entry", length));
        }
        let bytes = start.clone().sub("flow statistics entry", length)?.bytes();
        // The match says where the instructions begin.
        let mut reader = Reader::new(&bytes);
        reader.skip("flow entry", FIXED + 2)?;
        let match_len = usize::from(reader.u16("match length")?);
        let instructions = FIXED + match_len + padding(match_len);
        if match_len < 4 || instructions > length {
            return Err(bad("match", match_len));
        }
        self.at += length;
        Ok(FlowEntry { bytes, instructions })
    }
}

impl Iterator for FlowEntries {
    type Item = Result<FlowEntry, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.frame.len() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.at = self.frame.len();
        }
        Some(entry)
    }
}

/// One flow of a dump, as it was sent. It keeps the whole part it came in: decode what you want to keep for long.
///
/// Two flows of one switch match the same if their [`FlowEntry::match_bytes`] are equal, and do the same if their
/// [`FlowEntry::instruction_bytes`] are; and what this crate encodes for a flow is what OVS shows of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FlowEntry {
    bytes: Bytes,
    /// Where they begin.
    instructions: usize,
}

impl FlowEntry {
    fn fixed<const N: usize>(&self, at: usize) -> [u8; N] {
        // The fixed part is there, or there were no entry.
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    /// Its table.
    pub fn table(&self) -> u8 {
        u8::from_be_bytes(self.fixed(2))
    }

    /// Its priority.
    pub fn priority(&self) -> u16 {
        u16::from_be_bytes(self.fixed(12))
    }

    /// Bits of [`flow_flags`](crate::flow_flags).
    pub fn flags(&self) -> u16 {
        u16::from_be_bytes(self.fixed(18))
    }

    /// Its cookie.
    pub fn cookie(&self) -> u64 {
        u64::from_be_bytes(self.fixed(24))
    }

    /// Packets it has seen.
    pub fn packets(&self) -> u64 {
        u64::from_be_bytes(self.fixed(32))
    }

    /// Bytes it has seen.
    pub fn byte_count(&self) -> u64 {
        u64::from_be_bytes(self.fixed(40))
    }

    /// The `ofp_match` with its padding.
    pub fn match_bytes(&self) -> &[u8] {
        self.bytes.get(FIXED..self.instructions).unwrap_or_default()
    }

    /// The instructions.
    pub fn instruction_bytes(&self) -> &[u8] {
        self.bytes.get(self.instructions..).unwrap_or_default()
    }

    /// The flow as values.
    ///
    /// Errors: [`DecodeError`]; offsets count from the beginning of the entry.
    pub fn decode(&self) -> Result<FlowStats, DecodeError> {
        FlowStats::decode(&mut Reader::new(&self.bytes))
    }
}
