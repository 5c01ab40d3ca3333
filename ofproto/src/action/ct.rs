//! The connection tracker: `ct` and the `nat` inside it.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};

use super::nicira::{CT, NAT};
use super::{Action, Subfield, decode_nested, encode_list, open_nx};
use crate::error::{DecodeError, EncodeError};
use crate::oxm::Field;
use crate::wire::Reader;

const COMMIT: u16 = 1;
const FORCE: u16 = 2;
/// Table of a ct that does not recirculate.
const NO_TABLE: u8 = 0xff;

/// `ct(...)`: through the connection tracker.
///
/// Source: ovs-actions(7), "The ct action"; layout `struct nx_action_conntrack`, OVS `lib/ofp-actions.c`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct CtAction {
    /// Commits the connection.
    pub commit: bool,
    /// Commits it in this direction even if it exists in the other; needs `commit`.
    pub force: bool,
    /// The zone, where `zone_field` does not say it.
    pub zone: u16,
    /// Sixteen bits of a field that hold the zone: `zone=NXM_NX_REG1[0..15]`.
    pub zone_field: Option<Subfield>,
    /// The table a copy of the packet goes on in; `None` ends here with the original going on untracked.
    pub table: Option<u8>,
    /// The application-layer gateway, by its control port: 21 for ftp, 69 for tftp, 0 for none.
    pub alg: u16,
    /// `exec(...)` and `nat`: set_field, reg_load and reg_move on ct_mark and ct_label, and [`Action::Nat`].
    pub actions: Vec<Action>,
}

impl CtAction {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.table == Some(NO_TABLE) {
            let (value, limit) = (NO_TABLE.into(), (NO_TABLE - 1).into());
            return Err(EncodeError::TooLarge { what: "ct table", value, limit });
        }
        let length = open_nx(out, "ct", CT);
        let commit = if self.commit { COMMIT } else { 0 };
        out.put_u16(commit | if self.force { FORCE } else { 0 });
        match self.zone_field {
            Some(run) => {
                run.check(64)?;
                if run.field.sub_experimenter().is_some() {
                    return Err(EncodeError::NoSuchField { field: run.field });
                }
                out.put_u32(run.field.sub_header());
                out.put_u16(run.offset_bits());
            }
            None => {
                out.put_u32(0);
                out.put_u16(self.zone);
            }
        }
        out.put_u8(self.table.unwrap_or(NO_TABLE));
        out.put_bytes(0, 3);
        out.put_u16(self.alg);
        encode_list(&self.actions, out)?;
        length.close_padded(out)
    }

    pub(super) fn decode(body: &mut Reader<'_>, depth: u8) -> Result<Option<Self>, DecodeError> {
        let flags = body.u16("ct flags")?;
        let zone_field = body.u32("ct zone field")?;
        let zone = body.u16("ct zone")?;
        let table = body.u8("ct table")?;
        body.skip("ct padding", 3)?;
        let alg = body.u16("ct alg")?;
        let zone_field = (zone_field != 0).then(|| Subfield {
            field: Field::of_sub(zone_field),
            offset: zone >> 6,
            bits: (zone & 0x3f) + 1,
        });
        let written = zone_field
            .is_none_or(|run| run.check(64).is_ok() && run.field.sub_experimenter().is_none());
        if !written || flags & !(COMMIT | FORCE) != 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            commit: flags & COMMIT != 0,
            force: flags & FORCE != 0,
            zone: if zone_field.is_some() { 0 } else { zone },
            zone_field,
            table: Some(table).filter(|table| *table != NO_TABLE),
            alg,
            actions: decode_nested(body, depth + 1)?,
        }))
    }
}

/// Addresses a `nat` chooses from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NatRange {
    /// The first address.
    pub first: IpAddr,
    /// The last address, if there is more than one.
    pub last: Option<IpAddr>,
}

/// `nat(...)` inside a ct.
///
/// Source: ovs-actions(7), "The ct action"; layout `struct nx_action_nat`, OVS `lib/ofp-actions.c`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct NatAction {
    /// Bits: 1 source, 2 destination, 4 persistent, 8 hash, 0x10 random; 0 applies what the connection has.
    pub flags: u16,
    /// The addresses to choose from.
    pub addresses: Option<NatRange>,
    /// The first port and, if there is more than one, the last.
    pub ports: Option<(u16, Option<u16>)>,
}

impl NatAction {
    const V4_MIN: u16 = 0x01;
    const V4_MAX: u16 = 0x02;
    const V6_MIN: u16 = 0x04;
    const V6_MAX: u16 = 0x08;
    const PORT_MIN: u16 = 0x10;
    const PORT_MAX: u16 = 0x20;

    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = open_nx(out, "nat", NAT);
        out.put_u16(0);
        out.put_u16(self.flags);
        let mut present = 0;
        let mut values = BytesMut::new();
        let ends = self
            .addresses
            .iter()
            .flat_map(|r| std::iter::once((r.first, false)).chain(r.last.map(|last| (last, true))));
        for (address, last) in ends {
            match address {
                IpAddr::V4(a) => {
                    present |= if last { Self::V4_MAX } else { Self::V4_MIN };
                    values.put_u32(a.into());
                }
                IpAddr::V6(a) => {
                    present |= if last { Self::V6_MAX } else { Self::V6_MIN };
                    values.put_u128(a.into());
                }
            }
        }
        if let Some((first, last)) = self.ports {
            present |= Self::PORT_MIN;
            values.put_u16(first);
            if let Some(last) = last {
                present |= Self::PORT_MAX;
                values.put_u16(last);
            }
        }
        out.put_u16(present);
        out.put_slice(&values);
        length.close_padded(out)
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        body.skip("nat padding", 2)?;
        let flags = body.u16("nat flags")?;
        let present = body.u16("nat range")?;
        let has = |bit| present & bit != 0;
        let mixed = has(Self::V4_MIN | Self::V4_MAX) && has(Self::V6_MIN | Self::V6_MAX);
        let orphan = (has(Self::V4_MAX) && !has(Self::V4_MIN))
            || (has(Self::V6_MAX) && !has(Self::V6_MIN))
            || (has(Self::PORT_MAX) && !has(Self::PORT_MIN));
        if mixed || orphan || present > 0x3f {
            return Ok(None);
        }
        let addresses = if has(Self::V4_MIN) {
            let first = IpAddr::V4(body.u32("nat address")?.into());
            let last = if has(Self::V4_MAX) {
                Some(IpAddr::V4(body.u32("nat address")?.into()))
            } else {
                None
            };
            Some(NatRange { first, last })
        } else if has(Self::V6_MIN) {
            let first = IpAddr::V6(body.u128("nat address")?.into());
            let last = if has(Self::V6_MAX) {
                Some(IpAddr::V6(body.u128("nat address")?.into()))
            } else {
                None
            };
            Some(NatRange { first, last })
        } else {
            None
        };
        let ports = if has(Self::PORT_MIN) {
            let first = body.u16("nat port")?;
            let last = if has(Self::PORT_MAX) { Some(body.u16("nat port")?) } else { None };
            Some((first, last))
        } else {
            None
        };
        Ok((body.len() < 8).then_some(Self { flags, addresses, ports }))
    }
}
