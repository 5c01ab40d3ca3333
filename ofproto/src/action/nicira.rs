//! Nicira actions of fixed shape. Source: OVS `lib/ofp-actions.c`.

use bytes::{BufMut, BytesMut};

use super::subfield::{Subfield, check_run, get_header, offset_bits, put_header};
use super::{
    Action, BundleAction, CtAction, EXPERIMENTER, LearnAction, MAX_DEPTH, MultipathAction,
    NatAction, SampleAction, controller, decode_nested, encap, encode_list, open_nx, write_nx,
};
use crate::error::{DecodeError, EncodeError};
use crate::oxm::{self, Field};
use crate::types::{NX, ONF};
use crate::wire::{Length, Reader};

const RESUBMIT: u16 = 1;
const SET_TUNNEL: u16 = 2;
const POP_QUEUE: u16 = 5;
const REG_MOVE: u16 = 6;
const REG_LOAD: u16 = 7;
const NOTE: u16 = 8;
const SET_TUNNEL64: u16 = 9;
pub(super) const MULTIPATH: u16 = 10;
pub(super) const BUNDLE: u16 = 12;
pub(super) const BUNDLE_LOAD: u16 = 13;
const RESUBMIT_TABLE: u16 = 14;
const OUTPUT_REG: u16 = 15;
pub(super) const LEARN: u16 = 16;
const EXIT: u16 = 17;
const FIN_TIMEOUT: u16 = 19;
const CONTROLLER: u16 = 20;
const DEC_TTL_CNT_IDS: u16 = 21;
const STACK_PUSH: u16 = 27;
const STACK_POP: u16 = 28;
pub(super) const SAMPLE: u16 = 29;
const OUTPUT_REG2: u16 = 32;
const REG_LOAD2: u16 = 33;
const CONJUNCTION: u16 = 34;
pub(super) const CT: u16 = 35;
pub(super) const NAT: u16 = 36;
const CONTROLLER2: u16 = 37;
pub(super) const SAMPLE2: u16 = 38;
const OUTPUT_TRUNC: u16 = 39;
pub(super) const SAMPLE3: u16 = 41;
const CLONE: u16 = 42;
const CT_CLEAR: u16 = 43;
const RESUBMIT_TABLE_CT: u16 = 44;
pub(super) const LEARN2: u16 = 45;
pub(super) const ENCAP: u16 = 46;
pub(super) const DECAP: u16 = 47;
const DEC_NSH_TTL: u16 = 48;
const CHECK_PKT_LARGER: u16 = 49;
const DELETE_FIELD: u16 = 50;
/// Subtype of the ONF's copy_field before it became part of OpenFlow 1.5.
const COPY_FIELD: u16 = 3200;

/// Zeros that bring a note to the 6 + 8k bytes OVS keeps.
pub(super) const fn note_padding(length: usize) -> usize {
    crate::wire::padding(length + 2)
}

/// Writes one of the actions below; the caller has chosen by variant.
pub(super) fn encode(action: &Action, out: &mut BytesMut) -> Result<(), EncodeError> {
    match *action {
        Action::Resubmit { port, table } => write_nx(out, "resubmit", RESUBMIT_TABLE, |out| {
            out.put_u16(port);
            out.put_u8(table);
        }),
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
            if dst.sub_experimenter().is_some() {
                return Err(EncodeError::NoSuchField { field: dst });
            }
            write_nx(out, "reg_load", REG_LOAD, |out| {
                out.put_u16(offset_bits(offset.into(), bits.into()));
                out.put_u32(dst.sub_header());
                out.put_u64(value);
            })
        }
        Action::RegMove { bits, src, src_offset, dst, dst_offset } => {
            check_run(src, src_offset, bits)?;
            check_run(dst, dst_offset, bits)?;
            write_nx(out, "reg_move", REG_MOVE, |out| {
                out.put_u16(bits);
                out.put_u16(src_offset);
                out.put_u16(dst_offset);
                put_header(out, src);
                put_header(out, dst);
            })
        }
        Action::OutputReg { src, offset, bits, max_len } => {
            Subfield { field: src, offset, bits }.check(64)?;
            let packed = offset_bits(offset, bits);
            if src.sub_experimenter().is_some() {
                return write_nx(out, "output_reg", OUTPUT_REG2, |out| {
                    out.put_u16(packed);
                    out.put_u16(max_len);
                    put_header(out, src);
                });
            }
            write_nx(out, "output_reg", OUTPUT_REG, |out| {
                out.put_u16(packed);
                out.put_u32(src.sub_header());
                out.put_u16(max_len);
                out.put_bytes(0, 6);
            })
        }
        Action::Conjunction { id, clause, n_clauses } => {
            write_nx(out, "conjunction", CONJUNCTION, |out| {
                out.put_u8(clause);
                out.put_u8(n_clauses);
                out.put_u32(id);
            })
        }
        Action::Note(ref text) => write_nx(out, "note", NOTE, |out| {
            out.put_slice(text);
            out.put_bytes(0, note_padding(text.len()));
        }),
        Action::Clone(ref actions) => {
            let length = open_nx(out, "clone", CLONE);
            out.put_bytes(0, 6);
            encode_list(actions, out)?;
            length.close_padded(out)
        }
        Action::ResubmitCt { port, table } => write_nx(out, "resubmit", RESUBMIT_TABLE_CT, |out| {
            out.put_u16(port);
            out.put_u8(table);
        }),
        Action::ResubmitPort(port) => write_nx(out, "resubmit", RESUBMIT, |out| {
            out.put_u16(port);
        }),
        Action::OutputTrunc { port, max_len } => {
            write_nx(out, "output_trunc", OUTPUT_TRUNC, |out| {
                out.put_u16(port);
                out.put_u32(max_len);
            })
        }
        Action::SetTunnel(id) => write_nx(out, "set_tunnel", SET_TUNNEL, |out| {
            out.put_u16(0);
            out.put_u32(id);
        }),
        Action::SetTunnel64(id) => write_nx(out, "set_tunnel64", SET_TUNNEL64, |out| {
            out.put_bytes(0, 6);
            out.put_u64(id);
        }),
        Action::DecNwTtlIds(ref ids) => {
            let count = u16::try_from(ids.len()).map_err(|_| EncodeError::TooLong {
                what: "dec_ttl",
                length: ids.len(),
                limit: u16::MAX.into(),
            })?;
            write_nx(out, "dec_ttl", DEC_TTL_CNT_IDS, |out| {
                out.put_u16(count);
                out.put_u32(0);
                ids.iter().for_each(|id| out.put_u16(*id));
            })
        }
        Action::FinTimeout { idle, hard } => write_nx(out, "fin_timeout", FIN_TIMEOUT, |out| {
            out.put_u16(idle);
            out.put_u16(hard);
        }),
        Action::RegLoad2(ref field) => {
            let length = open_nx(out, "reg_load2", REG_LOAD2);
            field.encode(out)?;
            length.close_padded(out)
        }
        Action::RegLoad2Wide(ref wide) => {
            let length = open_nx(out, "reg_load2", REG_LOAD2);
            oxm::encode_wide(wide, true, out)?;
            length.close_padded(out)
        }
        Action::Push(run) => encode_stack(run, "push", STACK_PUSH, out),
        Action::Pop(run) => encode_stack(run, "pop", STACK_POP, out),
        Action::DeleteField(field) => {
            if !field.exists() {
                return Err(EncodeError::NoSuchField { field });
            }
            field.check_header()?;
            let length = open_nx(out, "delete_field", DELETE_FIELD);
            put_header(out, field);
            fill(out, &length, 24);
            length.close_padded(out)
        }
        Action::CheckPktLarger { length: size, dst } => {
            dst.check(1)?;
            let length = open_nx(out, "check_pkt_larger", CHECK_PKT_LARGER);
            out.put_u16(size);
            out.put_u16(dst.offset);
            put_header(out, dst.field);
            fill(out, &length, 24);
            length.close_padded(out)
        }
        Action::CopyField { src, dst } => {
            src.check(src.bits)?;
            Subfield { bits: src.bits, ..dst }.check(src.bits)?;
            let length = Length::open(out, "copy_field", 2);
            out.put_u16(EXPERIMENTER);
            out.put_u16(0);
            out.put_u32(ONF);
            out.put_u16(COPY_FIELD);
            out.put_u16(0);
            out.put_u16(src.bits);
            out.put_u16(src.offset);
            out.put_u16(dst.offset);
            out.put_u16(0);
            for field in [src.field, dst.field] {
                out.put_u32(field.header());
                if let Some(experimenter) = field.experimenter() {
                    out.put_u32(experimenter);
                }
            }
            length.close_padded(out)
        }
        Action::DecNshTtl => open_nx(out, "dec_nsh_ttl", DEC_NSH_TTL).close_padded(out),
        Action::CtClear => open_nx(out, "ct_clear", CT_CLEAR).close_padded(out),
        Action::PopQueue => open_nx(out, "pop_queue", POP_QUEUE).close_padded(out),
        Action::Exit => open_nx(out, "exit", EXIT).close_padded(out),
        _ => Ok(()),
    }
}

/// Writes zeros up to a length of `size` bytes.
fn fill(out: &mut BytesMut, length: &Length, size: usize) {
    out.put_bytes(0, size.saturating_sub(length.written(out)));
}

fn encode_stack(
    run: Subfield,
    what: &'static str,
    subtype: u16,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    run.check(run.bits)?;
    let length = open_nx(out, what, subtype);
    out.put_u16(run.offset);
    put_header(out, run.field);
    out.put_u16(run.bits);
    fill(out, &length, 24);
    length.close_padded(out)
}

fn decode_stack(body: &mut Reader<'_>) -> Result<Option<Subfield>, DecodeError> {
    let offset = body.u16("stack offset")?;
    let field = get_header(body)?;
    let run = Subfield { field, offset, bits: body.u16("stack bits")? };
    Ok(run.check(run.bits).is_ok().then_some(run))
}

/// Reads the ONF's copy_field behind its experimenter number.
fn decode_copy_field(body: &mut Reader<'_>) -> Result<Option<Action>, DecodeError> {
    if body.u16("action subtype")? != COPY_FIELD {
        return Ok(None);
    }
    body.skip("copy_field padding", 2)?;
    let bits = body.u16("copy_field bits")?;
    let (src_offset, dst_offset) = (body.u16("copy_field offset")?, body.u16("copy_field offset")?);
    body.skip("copy_field padding", 2)?;
    let mut run = |offset| {
        oxm::decode_header(body).map(|field| field.map(|field| Subfield { field, offset, bits }))
    };
    let (Some(src), Some(dst)) = (run(src_offset)?, run(dst_offset)?) else { return Ok(None) };
    let fits = src.check(bits).is_ok() && dst.check(bits).is_ok();
    Ok((fits && body.len() < 8).then_some(Action::CopyField { src, dst }))
}

/// Reads an experimenter action from its experimenter number on; `None` for one without a name here, or not in the
/// form OVS writes.
pub(super) fn decode(body: &mut Reader<'_>, depth: u8) -> Result<Option<Action>, DecodeError> {
    let experimenter = body.u32("action experimenter")?;
    if experimenter == ONF {
        return decode_copy_field(body);
    }
    if experimenter != NX || depth >= MAX_DEPTH {
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
        (RESUBMIT_TABLE_CT, 6) => {
            Some(Action::ResubmitCt { port: body.u16("port")?, table: body.u8("table")? })
        }
        (RESUBMIT, 6) => Some(Action::ResubmitPort(body.u16("port")?)),
        (OUTPUT_TRUNC, 6) => {
            Some(Action::OutputTrunc { port: body.u16("port")?, max_len: body.u32("max_len")? })
        }
        (SET_TUNNEL, 6) => {
            body.skip("set_tunnel padding", 2)?;
            Some(Action::SetTunnel(body.u32("tunnel id")?))
        }
        (SET_TUNNEL64, 14) => {
            body.skip("set_tunnel padding", 6)?;
            Some(Action::SetTunnel64(body.u64("tunnel id")?))
        }
        (MULTIPATH, 22..) => MultipathAction::decode(body)?.filter(encodes),
        (BUNDLE, 22..) => BundleAction::decode(body, false)?,
        (BUNDLE_LOAD, 22..) => BundleAction::decode(body, true)?.filter(encodes),
        (LEARN, 22..) => LearnAction::decode(body, false)?,
        (LEARN2, 30..) => LearnAction::decode(body, true)?.filter(encodes),
        (FIN_TIMEOUT, 6) => {
            Some(Action::FinTimeout { idle: body.u16("timeout")?, hard: body.u16("timeout")? })
        }
        (DEC_TTL_CNT_IDS, 6..) => {
            let count = body.u16("controllers")?;
            body.skip("dec_ttl padding", 4)?;
            let ids = (0..count).map(|_| body.u16("controller id")).collect::<Result<_, _>>()?;
            (body.len() < 8).then_some(Action::DecNwTtlIds(ids))
        }
        (STACK_PUSH, 14) => decode_stack(body)?.map(Action::Push),
        (STACK_POP, 14) => decode_stack(body)?.map(Action::Pop),
        (SAMPLE, 14) | (SAMPLE2 | SAMPLE3, 22) => SampleAction::decode(body, subtype)?,
        (OUTPUT_REG2, 14) => {
            let packed = body.u16("output_reg bits")?;
            let max_len = body.u16("output_reg max_len")?;
            let (offset, bits) = split(packed);
            let src = get_header(body)?;
            Some(Action::OutputReg { src, offset, bits, max_len }).filter(encodes)
        }
        (REG_LOAD2, 6..) => {
            let carried = oxm::decode_any(body)?.filter(|_| body.len() < 8);
            let action = carried.map(|carried| match carried {
                oxm::Carried::Field(field) => Action::RegLoad2(field),
                oxm::Carried::Wide(wide) => Action::RegLoad2Wide(wide),
            });
            action.filter(encodes)
        }
        (ENCAP, 6..) => encap::EncapAction::decode(body)?,
        (DECAP, 6) => encap::decode_decap(body)?,
        (DEC_NSH_TTL, 6) => Some(Action::DecNshTtl),
        (CHECK_PKT_LARGER, 14) => {
            let length = body.u16("packet length")?;
            let offset = body.u16("check_pkt_larger offset")?;
            let dst = Subfield { field: get_header(body)?, offset, bits: 1 };
            Some(Action::CheckPktLarger { length, dst }).filter(encodes)
        }
        (DELETE_FIELD, 14) => Some(Action::DeleteField(get_header(body)?)).filter(encodes),
        (REG_MOVE, 14..) => {
            let bits = body.u16("reg_move bits")?;
            let src_offset = body.u16("reg_move offset")?;
            let dst_offset = body.u16("reg_move offset")?;
            let (src, dst) = (get_header(body)?, get_header(body)?);
            let action = Action::RegMove { bits, src, src_offset, dst, dst_offset };
            Some(action).filter(|action| body.len() < 8 && encodes(action))
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

/// Whether a decoded action is one this crate would write.
fn encodes(action: &Action) -> bool {
    match *action {
        Action::RegLoad { dst, offset, bits, value } => {
            check_run(dst, offset.into(), bits.into()).is_ok()
                && dst.sub_experimenter().is_none()
                && value <= u64::MAX >> (64 - u32::from(bits))
        }
        Action::RegMove { bits, src, src_offset, dst, dst_offset } => {
            check_run(src, src_offset, bits).is_ok() && check_run(dst, dst_offset, bits).is_ok()
        }
        Action::OutputReg { src, offset, bits, .. } => check_run(src, offset, bits).is_ok(),
        Action::Multipath(multipath) => multipath.dst.check(64).is_ok(),
        Action::Bundle(ref bundle) => bundle.dst.is_none_or(|dst| dst.check(64).is_ok()),
        Action::Learn(ref learn) => learn.result.is_none_or(|dst| dst.check(1).is_ok()),
        Action::CheckPktLarger { dst, .. } => dst.check(1).is_ok(),
        Action::DeleteField(field) => field.exists() && field.check_header().is_ok(),
        Action::RegLoad2(field) => field.field.exists(),
        _ => true,
    }
}
