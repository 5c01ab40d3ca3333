//! Nicira actions of fixed shape. Source: OVS `lib/ofp-actions.c`.

use bytes::{BufMut, BytesMut};

use super::{
    Action, CtAction, MAX_DEPTH, NatAction, controller, decode_nested, encode_list, open_nx,
};
use crate::error::{DecodeError, EncodeError};
use crate::oxm::Field;
use crate::types::NX;
use crate::wire::Reader;

const POP_QUEUE: u16 = 5;
const REG_MOVE: u16 = 6;
const REG_LOAD: u16 = 7;
const NOTE: u16 = 8;
const RESUBMIT_TABLE: u16 = 14;
const OUTPUT_REG: u16 = 15;
const EXIT: u16 = 17;
const CONTROLLER: u16 = 20;
const CONJUNCTION: u16 = 34;
pub(super) const CT: u16 = 35;
pub(super) const NAT: u16 = 36;
const CONTROLLER2: u16 = 37;
const CLONE: u16 = 42;
const CT_CLEAR: u16 = 43;

/// Zeros that bring a note to the 6 + 8k bytes OVS keeps.
pub(super) const fn note_padding(length: usize) -> usize {
    crate::wire::padding(length + 2)
}

/// Checks that a run of bits lies in its field, and that the field has a header here.
fn check_run(field: Field, offset: u16, bits: u16) -> Result<(), EncodeError> {
    if !field.exists() || (field.info().is_none() && field.experimenter().is_some()) {
        return Err(EncodeError::NoSuchField { field });
    }
    field.check_header()?;
    let width = field.bits();
    if bits == 0 || u32::from(offset) + u32::from(bits) > u32::from(width) {
        return Err(EncodeError::BitRange { field, offset, bits, width });
    }
    Ok(())
}

/// `offset << 6 | bits - 1`, the form that several actions share; both fit six bits for a field of 64 or less, and
/// an offset takes ten.
fn offset_bits(offset: u16, bits: u16) -> u16 {
    (offset << 6) | (bits.saturating_sub(1) & 0x3f)
}

/// Writes one of the actions below; the caller has chosen by variant.
pub(super) fn encode(action: &Action, out: &mut BytesMut) -> Result<(), EncodeError> {
    match *action {
        Action::Resubmit { port, table } => {
            let length = open_nx(out, "resubmit", RESUBMIT_TABLE);
            out.put_u16(port);
            out.put_u8(table);
            length.close_padded(out)
        }
        Action::RegLoad { dst, offset, bits, value } => {
            check_run(dst, offset.into(), bits.into())?;
            if bits > 64 {
                return Err(EncodeError::BitRange {
                    field: dst,
                    offset: offset.into(),
                    bits: bits.into(),
                    width: 64,
                });
            }
            let limit = u64::MAX >> (64 - u32::from(bits));
            if value > limit {
                return Err(EncodeError::TooLarge {
                    what: "reg_load value",
                    value: value.into(),
                    limit: limit.into(),
                });
            }
            let length = open_nx(out, "reg_load", REG_LOAD);
            out.put_u16(offset_bits(offset.into(), bits.into()));
            out.put_u32(dst.sub_header());
            out.put_u64(value);
            length.close_padded(out)
        }
        Action::RegMove { bits, src, src_offset, dst, dst_offset } => {
            check_run(src, src_offset, bits)?;
            check_run(dst, dst_offset, bits)?;
            let length = open_nx(out, "reg_move", REG_MOVE);
            out.put_u16(bits);
            out.put_u16(src_offset);
            out.put_u16(dst_offset);
            out.put_u32(src.sub_header());
            out.put_u32(dst.sub_header());
            length.close_padded(out)
        }
        Action::OutputReg { src, offset, bits, max_len } => {
            check_run(src, offset, bits)?;
            if bits > 64 {
                return Err(EncodeError::BitRange { field: src, offset, bits, width: 64 });
            }
            let length = open_nx(out, "output_reg", OUTPUT_REG);
            out.put_u16(offset_bits(offset, bits));
            out.put_u32(src.sub_header());
            out.put_u16(max_len);
            out.put_bytes(0, 6);
            length.close_padded(out)
        }
        Action::Conjunction { id, clause, n_clauses } => {
            let length = open_nx(out, "conjunction", CONJUNCTION);
            out.put_u8(clause);
            out.put_u8(n_clauses);
            out.put_u32(id);
            length.close_padded(out)
        }
        Action::Note(ref text) => {
            let length = open_nx(out, "note", NOTE);
            out.put_slice(text);
            out.put_bytes(0, note_padding(text.len()));
            length.close_padded(out)
        }
        Action::Clone(ref actions) => {
            let length = open_nx(out, "clone", CLONE);
            out.put_bytes(0, 6);
            encode_list(actions, out)?;
            length.close_padded(out)
        }
        Action::CtClear => open_nx(out, "ct_clear", CT_CLEAR).close_padded(out),
        Action::PopQueue => open_nx(out, "pop_queue", POP_QUEUE).close_padded(out),
        Action::Exit => open_nx(out, "exit", EXIT).close_padded(out),
        _ => Ok(()),
    }
}

/// Reads an experimenter action from its experimenter number on; `None` for one without a name here, or not in the
/// form OVS writes.
pub(super) fn decode(body: &mut Reader<'_>, depth: u8) -> Result<Option<Action>, DecodeError> {
    if body.u32("action experimenter")? != NX || depth >= MAX_DEPTH {
        return Ok(None);
    }
    let subtype = body.u16("action subtype")?;
    // Lengths behind the subtype, as OVS writes them.
    Ok(match (subtype, body.len()) {
        (RESUBMIT_TABLE, 6) => {
            Some(Action::Resubmit { port: body.u16("port")?, table: body.u8("table")? })
        }
        (REG_LOAD, 14) => {
            let (offset, bits) = split(body.u16("reg_load bits")?);
            let dst = Field::of_sub(body.u32("reg_load field")?);
            let value = body.u64("reg_load value")?;
            let (Ok(offset), Ok(bits)) = (u8::try_from(offset), u8::try_from(bits)) else {
                return Ok(None);
            };
            Some(Action::RegLoad { dst, offset, bits, value }).filter(encodes)
        }
        (REG_MOVE, 14) => {
            let bits = body.u16("reg_move bits")?;
            let src_offset = body.u16("reg_move offset")?;
            let dst_offset = body.u16("reg_move offset")?;
            let src = Field::of_sub(body.u32("reg_move field")?);
            let dst = Field::of_sub(body.u32("reg_move field")?);
            Some(Action::RegMove { bits, src, src_offset, dst, dst_offset }).filter(encodes)
        }
        (OUTPUT_REG, 14) => {
            let (offset, bits) = split(body.u16("output_reg bits")?);
            let src = Field::of_sub(body.u32("output_reg field")?);
            let max_len = body.u16("output_reg max_len")?;
            Some(Action::OutputReg { src, offset, bits, max_len }).filter(encodes)
        }
        (CONJUNCTION, 6) => {
            let (clause, n_clauses) = (body.u8("clause")?, body.u8("clauses")?);
            Some(Action::Conjunction { id: body.u32("conjunction id")?, clause, n_clauses })
        }
        (NOTE, _) => Some(Action::Note(body.bytes())),
        (CLONE, 6..) => {
            body.skip("clone padding", 6)?;
            Some(Action::Clone(decode_nested(body, depth + 1)?))
        }
        (CT, _) => CtAction::decode(body, depth)?.map(Action::Ct),
        (NAT, _) => NatAction::decode(body)?.map(Action::Nat),
        (CT_CLEAR, 6) => Some(Action::CtClear),
        (POP_QUEUE, 6) => Some(Action::PopQueue),
        (EXIT, 6) => Some(Action::Exit),
        (CONTROLLER, 6) => controller::decode_short(body)?,
        (CONTROLLER2, _) => controller::decode_properties(body)?,
        _ => None,
    })
}

fn split(offset_bits: u16) -> (u16, u16) {
    (offset_bits >> 6, (offset_bits & 0x3f) + 1)
}

/// Whether a decoded run of bits is one this crate would write.
fn encodes(action: &Action) -> bool {
    match *action {
        Action::RegLoad { dst, offset, bits, value } => {
            check_run(dst, offset.into(), bits.into()).is_ok()
                && value <= u64::MAX >> (64 - u32::from(bits))
        }
        Action::RegMove { bits, src, src_offset, dst, dst_offset } => {
            check_run(src, src_offset, bits).is_ok() && check_run(dst, dst_offset, bits).is_ok()
        }
        Action::OutputReg { src, offset, bits, .. } => check_run(src, offset, bits).is_ok(),
        _ => true,
    }
}
