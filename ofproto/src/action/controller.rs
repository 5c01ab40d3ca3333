//! Packets to the controller: the short Nicira form, and the one made of properties.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Action, open_nx};
use crate::error::{DecodeError, EncodeError};
use crate::wire::{Length, Reader, padding};

const SHORT: u16 = 20;
const PROPERTIES: u16 = 37;

const MAX_LEN: u16 = 0;
const CONTROLLER_ID: u16 = 1;
const REASON: u16 = 2;
const USERDATA: u16 = 3;
const PAUSE: u16 = 4;
const METER: u16 = 5;

/// The reason a controller action gives when it names none: an explicit action.
const REASON_ACTION: u8 = 1;

/// `controller(...)`: to the controllers that have this id.
///
/// Source: ovs-actions(7), "The controller action"; OVS `lib/ofp-actions.c` (`encode_CONTROLLER`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ControllerAction {
    /// Bytes of the packet the packet-in carries; 0xffff the whole.
    pub max_len: u16,
    /// Which connections get it.
    pub controller_id: u16,
    /// The reason the packet-in gives: 0 no match, 1 action, 2 invalid ttl.
    pub reason: u8,
    /// Bytes the packet-in gives back.
    pub userdata: Option<Bytes>,
    /// Whether the packet may be resumed.
    pub pause: bool,
    /// The meter that limits it (OVS 2.11).
    pub meter: Option<u32>,
}

impl Default for ControllerAction {
    fn default() -> Self {
        Self {
            max_len: u16::MAX,
            controller_id: 0,
            reason: REASON_ACTION,
            userdata: None,
            pause: false,
            meter: None,
        }
    }
}

impl ControllerAction {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.userdata.is_none() && !self.pause && self.meter.is_none() {
            let length = open_nx(out, "controller", SHORT);
            out.put_u16(self.max_len);
            out.put_u16(self.controller_id);
            out.put_u8(self.reason);
            return length.close_padded(out);
        }
        let action = open_nx(out, "controller", PROPERTIES);
        out.put_bytes(0, 6);
        if self.max_len != u16::MAX {
            property(out, MAX_LEN, |out| {
                out.put_u16(self.max_len);
                out.put_u16(0);
            })?;
        }
        if self.controller_id != 0 {
            property(out, CONTROLLER_ID, |out| {
                out.put_u16(self.controller_id);
                out.put_u16(0);
            })?;
        }
        if self.reason != REASON_ACTION {
            property(out, REASON, |out| out.put_u8(self.reason))?;
        }
        if let Some(userdata) = &self.userdata {
            property(out, USERDATA, |out| out.put_slice(userdata))?;
        }
        if self.pause {
            property(out, PAUSE, |_| {})?;
        }
        if let Some(meter) = self.meter {
            property(out, METER, |out| out.put_u32(meter))?;
        }
        action.close_padded(out)
    }
}

fn property(
    out: &mut BytesMut,
    typ: u16,
    body: impl FnOnce(&mut BytesMut),
) -> Result<(), EncodeError> {
    let length = Length::open(out, "controller property", 2);
    out.put_u16(typ);
    out.put_u16(0);
    body(out);
    length.close(out)?;
    length.pad(out);
    Ok(())
}

pub(super) fn decode_short(body: &mut Reader<'_>) -> Result<Option<Action>, DecodeError> {
    let (max_len, controller_id) = (body.u16("max_len")?, body.u16("controller id")?);
    let reason = body.u8("reason")?;
    let defaults = ControllerAction::default();
    let action = ControllerAction { max_len, controller_id, reason, ..defaults };
    Ok(Some(Action::Controller(action)))
}

/// Reads the properties; `None` for any OVS would not write so, to keep the bytes.
pub(super) fn decode_properties(body: &mut Reader<'_>) -> Result<Option<Action>, DecodeError> {
    body.skip("controller padding", 6)?;
    let mut action = ControllerAction::default();
    let mut last = None;
    while !body.is_empty() {
        let typ = body.u16("controller property")?;
        let length = usize::from(body.u16("controller property length")?);
        let Some(rest) = length.checked_sub(4) else {
            return Ok(None);
        };
        let mut value = body.sub("controller property", rest)?;
        body.skip("controller property padding", padding(length))?;
        if last.replace(typ).is_some_and(|last| last >= typ) {
            return Ok(None);
        }
        match (typ, rest) {
            (MAX_LEN, 4) => action.max_len = value.u16("max_len")?,
            (CONTROLLER_ID, 4) => action.controller_id = value.u16("controller id")?,
            (REASON, 1) => action.reason = value.u8("reason")?,
            (USERDATA, _) => action.userdata = Some(value.bytes()),
            (PAUSE, 0) => action.pause = true,
            (METER, 4) => action.meter = Some(value.u32("meter")?),
            _ => return Ok(None),
        }
    }
    let long = action.userdata.is_some() || action.pause || action.meter.is_some();
    Ok(long.then_some(Action::Controller(action)))
}
