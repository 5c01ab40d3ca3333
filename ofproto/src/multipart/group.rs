//! Groups: what they are, what they have done, what the switch can do with them.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::group_mod::{Bucket, decode_buckets, encode_buckets};
use crate::wire::{Length, Reader};

/// Packets and bytes of one bucket or band.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Counters {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.packets);
        out.put_u64(self.bytes);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { packets: reader.u64("packets")?, bytes: reader.u64("bytes")? })
    }
}

/// Counters of one group; 40 bytes and 16 for each bucket. Source: OpenFlow 1.3, "Group Statistics".
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct GroupStats {
    /// The group.
    pub group: u32,
    /// Flows and groups that send to it.
    pub ref_count: u32,
    /// Packets and bytes in all.
    pub counters: Counters,
    /// Whole seconds it has been there.
    pub duration_sec: u32,
    /// Nanoseconds beyond.
    pub duration_nsec: u32,
    /// Packets and bytes of its buckets, in their order.
    pub buckets: Vec<Counters>,
}

impl GroupStats {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "group statistics entry", 0);
        out.put_u32(0);
        out.put_u32(self.group);
        out.put_u32(self.ref_count);
        out.put_u32(0);
        self.counters.encode(out);
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
        self.buckets.iter().for_each(|bucket| bucket.encode(out));
        length.close(out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut entry = super::entry(reader, "group statistics entry")?;
        entry.skip("group padding", 2)?;
        let group = entry.u32("group")?;
        let ref_count = entry.u32("references")?;
        entry.skip("group padding", 4)?;
        let counters = Counters::decode(&mut entry)?;
        let duration_sec = entry.u32("duration")?;
        let duration_nsec = entry.u32("duration")?;
        let buckets = super::list(&mut entry, Counters::decode)?;
        Ok(Self { group, ref_count, counters, duration_sec, duration_nsec, buckets })
    }
}

/// One group as it is configured. Source: OpenFlow 1.3, "Group Description".
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct GroupDesc {
    /// 0 all, 1 select, 2 indirect, 3 fast failover.
    pub typ: u8,
    /// The group.
    pub group: u32,
    /// What it does.
    pub buckets: Vec<Bucket>,
}

impl GroupDesc {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "group description", 0);
        out.put_u16(0);
        out.put_u8(self.typ);
        out.put_u8(0);
        out.put_u32(self.group);
        encode_buckets(&self.buckets, out)?;
        length.close(out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut entry = super::entry(reader, "group description")?;
        let typ = entry.u8("group type")?;
        entry.skip("group padding", 1)?;
        let group = entry.u32("group")?;
        Ok(Self { typ, group, buckets: decode_buckets(&mut entry)? })
    }
}

/// What the switch can do with groups; 40 bytes. The arrays go by group type: all, select, indirect, fast failover.
///
/// Source: OpenFlow 1.3, "Group Features".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct GroupFeatures {
    /// A bit for each type there is.
    pub types: u32,
    /// Bits: 1 weights, 2 liveness, 4 chaining, 8 checks for loops.
    pub capabilities: u32,
    /// Groups there may be.
    pub max_groups: [u32; 4],
    /// A bit for each type of action that may be used.
    pub actions: [u32; 4],
}

impl GroupFeatures {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.types);
        out.put_u32(self.capabilities);
        self.max_groups.iter().chain(&self.actions).for_each(|n| out.put_u32(*n));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut features = Self {
            types: reader.u32("group types")?,
            capabilities: reader.u32("group capabilities")?,
            ..Self::default()
        };
        for n in features.max_groups.iter_mut().chain(&mut features.actions) {
            *n = reader.u32("group features")?;
        }
        Ok(features)
    }
}
