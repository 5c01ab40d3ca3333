//! Changes to the group table.

use bytes::{BufMut, BytesMut};

use crate::action::{self, Action};
use crate::error::{DecodeError, EncodeError};
use crate::wire::{Length, Reader};

/// No port or group to watch.
const WATCH_NONE: u32 = 0xffff_ffff;

/// `OFPT_GROUP_MOD`.
///
/// Source: OpenFlow 1.3, "Modify Group Entry Message".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct GroupMod {
    /// 0 add, 1 modify, 2 delete; 0x8000 add or modify, which only OVS has.
    pub command: u16,
    /// 0 all, 1 select, 2 indirect, 3 fast failover.
    pub typ: u8,
    /// The group; [`GROUP_ALL`](crate::types::GROUP_ALL) deletes all.
    pub group: u32,
    /// What it does.
    pub buckets: Vec<Bucket>,
}

/// One way a group may send a packet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Bucket {
    /// Share of a select group.
    pub weight: u16,
    /// Port that must be live; 0xffffffff none.
    pub watch_port: u32,
    /// Group that must be live; 0xffffffff none.
    pub watch_group: u32,
    /// What happens to the packet.
    pub actions: Vec<Action>,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { weight: 0, watch_port: WATCH_NONE, watch_group: WATCH_NONE, actions: Vec::new() }
    }
}

/// Writes buckets back to back.
pub(crate) fn encode_buckets(buckets: &[Bucket], out: &mut BytesMut) -> Result<(), EncodeError> {
    buckets.iter().try_for_each(|bucket| {
        let length = Length::open(out, "bucket", 0);
        out.put_u16(0);
        out.put_u16(bucket.weight);
        out.put_u32(bucket.watch_port);
        out.put_u32(bucket.watch_group);
        out.put_u32(0);
        action::encode_list(&bucket.actions, out)?;
        length.close_padded(out)
    })
}

/// Reads buckets up to the end of `reader`.
pub(crate) fn decode_buckets(reader: &mut Reader<'_>) -> Result<Vec<Bucket>, DecodeError> {
    let mut buckets = Vec::new();
    while !reader.is_empty() {
        let offset = reader.offset();
        let length = usize::from(reader.u16("bucket length")?);
        let Some(rest) = length.checked_sub(2) else {
            return Err(DecodeError::Length { what: "bucket", offset, length });
        };
        let mut bucket = reader.sub("bucket", rest)?;
        let weight = bucket.u16("bucket weight")?;
        let watch_port = bucket.u32("watch port")?;
        let watch_group = bucket.u32("watch group")?;
        bucket.skip("bucket padding", 4)?;
        let actions = action::decode_list(&mut bucket)?;
        buckets.push(Bucket { weight, watch_port, watch_group, actions });
    }
    Ok(buckets)
}

impl GroupMod {
    /// Adds the group.
    pub const ADD: u16 = 0;
    /// Changes the group.
    pub const MODIFY: u16 = 1;
    /// Removes the group, and every flow that uses it.
    pub const DELETE: u16 = 2;
    /// Adds or changes the group; only OVS knows this.
    pub const ADD_OR_MODIFY: u16 = 0x8000;

    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.command);
        out.put_u8(self.typ);
        out.put_u8(0);
        out.put_u32(self.group);
        encode_buckets(&self.buckets, out)
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let command = reader.u16("group mod command")?;
        let typ = reader.u8("group type")?;
        reader.skip("group mod padding", 1)?;
        let group = reader.u32("group")?;
        Ok(Self { command, typ, group, buckets: decode_buckets(reader)? })
    }
}
