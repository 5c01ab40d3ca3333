//! Instructions: what a flow does in its table.

use bytes::{BufMut, Bytes, BytesMut};

use crate::action::{self, Action};
use crate::error::{DecodeError, EncodeError};
use crate::wire::{Length, Reader};

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const WRITE_ACTIONS: u16 = 3;
const APPLY_ACTIONS: u16 = 4;
const CLEAR_ACTIONS: u16 = 5;
const METER: u16 = 6;

/// One instruction. No instructions at all drop the packet.
///
/// Source: OpenFlow 1.3, "Flow Instruction Structures".
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Instruction {
    /// Goes on in a later table.
    GotoTable(u8),
    /// Sets bits of the metadata field.
    WriteMetadata {
        /// The bits.
        value: u64,
        /// Which ones.
        mask: u64,
    },
    /// Adds to the action set.
    WriteActions(Vec<Action>),
    /// Carries out at once.
    ApplyActions(Vec<Action>),
    /// Empties the action set.
    ClearActions,
    /// Through a meter.
    Meter(u32),
    /// Any other instruction: type and everything behind the length.
    Unknown {
        /// Instruction type.
        typ: u16,
        /// The bytes behind type and length.
        body: Bytes,
    },
}

impl Instruction {
    /// Place in the list as OVS writes it: meter, apply, clear, write, metadata, goto.
    fn rank(&self) -> u8 {
        match self {
            Self::Meter(_) => 0,
            Self::ApplyActions(_) => 1,
            Self::ClearActions => 2,
            Self::WriteActions(_) => 3,
            Self::WriteMetadata { .. } => 4,
            Self::GotoTable(_) => 5,
            Self::Unknown { .. } => 6,
        }
    }

    /// An empty list of actions to apply or write, which OVS drops.
    fn is_nothing(&self) -> bool {
        matches!(self, Self::ApplyActions(list) | Self::WriteActions(list) if list.is_empty())
    }

    fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "instruction", 2);
        let head = |out: &mut BytesMut, typ| {
            out.put_u16(typ);
            out.put_u16(0);
        };
        match self {
            Self::GotoTable(table) => {
                head(out, GOTO_TABLE);
                out.put_u8(*table);
            }
            Self::WriteMetadata { value, mask } => {
                head(out, WRITE_METADATA);
                out.put_u32(0);
                out.put_u64(*value);
                out.put_u64(*mask);
            }
            Self::WriteActions(actions) => {
                head(out, WRITE_ACTIONS);
                out.put_u32(0);
                action::encode_list(actions, out)?;
            }
            Self::ApplyActions(actions) => {
                head(out, APPLY_ACTIONS);
                out.put_u32(0);
                action::encode_list(actions, out)?;
            }
            Self::ClearActions => {
                head(out, CLEAR_ACTIONS);
                out.put_u32(0);
            }
            Self::Meter(meter) => {
                head(out, METER);
                out.put_u32(*meter);
            }
            Self::Unknown { typ, body } => {
                if !(body.len() + 4).is_multiple_of(8) {
                    let length = body.len() + 4;
                    return Err(EncodeError::Unaligned { what: "unknown instruction", length });
                }
                head(out, *typ);
                out.put_slice(body);
            }
        }
        length.close_padded(out)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let typ = reader.u16("instruction type")?;
        let length = usize::from(reader.u16("instruction length")?);
        let Some(rest) = length.checked_sub(4).filter(|_| length >= 8 && length % 8 == 0) else {
            return Err(DecodeError::Length { what: "instruction", offset, length });
        };
        let mut body = reader.sub("instruction", rest)?;
        Ok(match (typ, rest) {
            (GOTO_TABLE, 4) => Self::GotoTable(body.u8("goto_table")?),
            (WRITE_METADATA, 20) => {
                body.skip("write_metadata padding", 4)?;
                Self::WriteMetadata { value: body.u64("metadata")?, mask: body.u64("metadata")? }
            }
            (WRITE_ACTIONS, _) => {
                body.skip("write_actions padding", 4)?;
                Self::WriteActions(action::decode_list(&mut body)?)
            }
            (APPLY_ACTIONS, _) => {
                body.skip("apply_actions padding", 4)?;
                Self::ApplyActions(action::decode_list(&mut body)?)
            }
            (CLEAR_ACTIONS, 4) => Self::ClearActions,
            (METER, 4) => Self::Meter(body.u32("meter")?),
            _ => Self::Unknown { typ, body: body.bytes() },
        })
    }
}

/// Writes a list of instructions in OVS's order, without empty lists of actions, which OVS drops.
pub(crate) fn encode_list(list: &[Instruction], out: &mut BytesMut) -> Result<(), EncodeError> {
    // The common case, which needs no second list.
    if list.is_sorted_by_key(Instruction::rank) {
        let mut written = list.iter().filter(|instruction| !instruction.is_nothing());
        return written.try_for_each(|instruction| instruction.encode(out));
    }
    canonical(list).try_for_each(|instruction| instruction.encode(out))
}

/// The instructions as OVS gives them back: in its order, without empty lists of actions.
pub(crate) fn canonical(list: &[Instruction]) -> impl Iterator<Item = &Instruction> {
    let mut sorted: Vec<&Instruction> = list.iter().filter(|i| !i.is_nothing()).collect();
    sorted.sort_by_key(|instruction| instruction.rank());
    sorted.into_iter()
}

/// As [`canonical`], in place.
pub(crate) fn make_canonical(list: &mut Vec<Instruction>) {
    list.retain(|instruction| !instruction.is_nothing());
    list.sort_by_key(Instruction::rank);
}

/// Reads instructions up to the end of `reader`, in the order they came.
pub(crate) fn decode_list(reader: &mut Reader<'_>) -> Result<Vec<Instruction>, DecodeError> {
    let mut list = Vec::with_capacity(reader.count_records(8, action::length_field));
    while !reader.is_empty() {
        list.push(Instruction::decode(reader)?);
    }
    Ok(list)
}
