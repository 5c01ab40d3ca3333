//! The actions OpenFlow 1.3 itself defines.

use bytes::{BufMut, BytesMut};

use super::Action;
use crate::error::{DecodeError, EncodeError};
use crate::oxm;
use crate::wire::{Length, Reader};

const OUTPUT: u16 = 0;
const SET_MPLS_TTL: u16 = 15;
const DEC_MPLS_TTL: u16 = 16;
const PUSH_VLAN: u16 = 17;
const POP_VLAN: u16 = 18;
const PUSH_MPLS: u16 = 19;
const POP_MPLS: u16 = 20;
const SET_QUEUE: u16 = 21;
const GROUP: u16 = 22;
const SET_NW_TTL: u16 = 23;
const DEC_NW_TTL: u16 = 24;
const SET_FIELD: u16 = 25;

/// Writes one of the standard actions; the caller has chosen by variant.
pub(super) fn encode(action: &Action, out: &mut BytesMut) -> Result<(), EncodeError> {
    let length = Length::open(out, "action", 2);
    let head = |out: &mut BytesMut, typ| {
        out.put_u16(typ);
        out.put_u16(0);
    };
    match action {
        Action::Output { port, max_len } => {
            head(out, OUTPUT);
            out.put_u32(*port);
            out.put_u16(*max_len);
        }
        Action::Group(group) => {
            head(out, GROUP);
            out.put_u32(*group);
        }
        Action::SetQueue(queue) => {
            head(out, SET_QUEUE);
            out.put_u32(*queue);
        }
        Action::PushVlan(eth_type) => {
            head(out, PUSH_VLAN);
            out.put_u16(*eth_type);
        }
        Action::PushMpls(eth_type) => {
            head(out, PUSH_MPLS);
            out.put_u16(*eth_type);
        }
        Action::PopMpls(eth_type) => {
            head(out, POP_MPLS);
            out.put_u16(*eth_type);
        }
        Action::SetMplsTtl(ttl) => {
            head(out, SET_MPLS_TTL);
            out.put_u8(*ttl);
        }
        Action::DecMplsTtl => {
            head(out, DEC_MPLS_TTL);
            out.put_u32(0);
        }
        Action::PopVlan => {
            head(out, POP_VLAN);
            out.put_u32(0);
        }
        Action::SetNwTtl(ttl) => {
            head(out, SET_NW_TTL);
            out.put_u8(*ttl);
        }
        Action::DecNwTtl => {
            head(out, DEC_NW_TTL);
            out.put_u32(0);
        }
        Action::SetField(field) => {
            head(out, SET_FIELD);
            oxm::encode_exact(field, out)?;
        }
        Action::SetWideField(wide) => {
            head(out, SET_FIELD);
            oxm::encode_wide(wide, false, out)?;
        }
        _ => return Ok(()),
    }
    length.close_padded(out)
}

/// Reads a standard action; `None` for one without a name here.
pub(super) fn decode(typ: u16, body: &mut Reader<'_>) -> Result<Option<Action>, DecodeError> {
    // Lengths behind the type and length fields, as OVS writes them.
    Ok(match (typ, body.len()) {
        (OUTPUT, 12) => {
            Some(Action::Output { port: body.u32("port")?, max_len: body.u16("max_len")? })
        }
        (GROUP, 4) => Some(Action::Group(body.u32("group")?)),
        (SET_QUEUE, 4) => Some(Action::SetQueue(body.u32("queue")?)),
        (PUSH_VLAN, 4) => Some(Action::PushVlan(body.u16("ethertype")?)),
        (PUSH_MPLS, 4) => Some(Action::PushMpls(body.u16("ethertype")?)),
        (POP_MPLS, 4) => Some(Action::PopMpls(body.u16("ethertype")?)),
        (SET_MPLS_TTL, 4) => Some(Action::SetMplsTtl(body.u8("ttl")?)),
        (DEC_MPLS_TTL, 4) => Some(Action::DecMplsTtl),
        (POP_VLAN, 4) => Some(Action::PopVlan),
        (SET_NW_TTL, 4) => Some(Action::SetNwTtl(body.u8("ttl")?)),
        (DEC_NW_TTL, 4) => Some(Action::DecNwTtl),
        (SET_FIELD, 4..) => {
            oxm::decode_exact(body)?.filter(|_| body.len() < 8).map(|carried| match carried {
                oxm::Carried::Field(field) => Action::SetField(field),
                oxm::Carried::Wide(wide) => Action::SetWideField(wide),
            })
        }
        _ => None,
    })
}
