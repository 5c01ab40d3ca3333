//! Choice among links: `multipath`, `bundle` and `bundle_load`. Source: ovs-actions(7); layouts `struct
//! nx_action_multipath` and `struct nx_action_bundle`, OVS `lib/ofp-actions.c`.

use bytes::{BufMut, BytesMut};

use super::nicira::{BUNDLE, BUNDLE_LOAD, MULTIPATH};
use super::subfield::{Subfield, get_header, put_header};
use super::{Action, open_nx};
use crate::error::{DecodeError, EncodeError};
use crate::wire::Reader;

/// Header of the only kind of member there is, an OpenFlow port.
const MEMBER_OFPORT: u32 = 0x0000_0002;

/// `multipath(FIELDS, BASIS, ALGORITHM, N_LINKS, ARG, DST)`: a link chosen by a hash of the packet, written to a field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MultipathAction {
    /// What is hashed: 0 `eth_src`, 1 `symmetric_l4`, 2 `symmetric_l3l4`, 3 `symmetric_l3l4+udp`, 4 `nw_src`,
    /// 5 `nw_dst`, 6 `symmetric_l3`.
    pub fields: u16,
    /// The seed of the hash.
    pub basis: u16,
    /// How: 0 `modulo_n`, 1 `hash_threshold`, 2 `hrw`, 3 `iter_hash`.
    pub algorithm: u16,
    /// The number of the last link, one less than there are.
    pub max_link: u16,
    /// Argument of the algorithm.
    pub arg: u32,
    /// Where the number of the link goes, counted from 0.
    pub dst: Subfield,
}

impl MultipathAction {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.dst.check(64)?;
        let length = open_nx(out, "multipath", MULTIPATH);
        out.put_u16(self.fields);
        out.put_u16(self.basis);
        out.put_u16(0);
        out.put_u16(self.algorithm);
        out.put_u16(self.max_link);
        out.put_u32(self.arg);
        out.put_u16(0);
        out.put_u16(self.dst.offset_bits());
        put_header(out, self.dst.field);
        length.close_padded(out)
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Option<Action>, DecodeError> {
        let (fields, basis) = (body.u16("fields")?, body.u16("basis")?);
        body.skip("multipath padding", 2)?;
        let (algorithm, max_link) = (body.u16("algorithm")?, body.u16("links")?);
        let arg = body.u32("multipath argument")?;
        body.skip("multipath padding", 2)?;
        let dst = Subfield::decode_offset_bits(body)?;
        let action = Self { fields, basis, algorithm, max_link, arg, dst };
        Ok(body.is_empty().then_some(Action::Multipath(action)))
    }
}

/// `bundle(FIELDS, BASIS, ALGORITHM, ofport, members:PORTS)`: output to one of some ports; `bundle_load` writes its
/// number to a field instead. Nothing to do with the bundles of messages.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BundleAction {
    /// How: 0 `active_backup`, 1 `hrw`.
    pub algorithm: u16,
    /// What is hashed, as in [`MultipathAction::fields`].
    pub fields: u16,
    /// The seed of the hash.
    pub basis: u16,
    /// Where the port goes; `None` sends the packet there.
    pub dst: Option<Subfield>,
    /// The ports, in the 16 bits of a Nicira action.
    pub members: Vec<u16>,
}

impl BundleAction {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let count = u16::try_from(self.members.len()).map_err(|_| EncodeError::TooLong {
            what: "bundle members",
            length: self.members.len(),
            limit: u16::MAX.into(),
        })?;
        if let Some(dst) = self.dst {
            dst.check(64)?;
        }
        let subtype = if self.dst.is_some() { BUNDLE_LOAD } else { BUNDLE };
        let length = open_nx(out, "bundle", subtype);
        out.put_u16(self.algorithm);
        out.put_u16(self.fields);
        out.put_u16(self.basis);
        out.put_u32(MEMBER_OFPORT);
        out.put_u16(count);
        match self.dst {
            Some(dst) => {
                out.put_u16(dst.offset_bits());
                out.put_u32(dst.field.sub_header());
                // The rest of an experimenter's header stands where there are zeros else.
                out.put_u32(dst.field.sub_experimenter().unwrap_or_default());
            }
            None => out.put_bytes(0, 10),
        }
        for member in &self.members {
            out.put_u16(*member);
        }
        length.close_padded(out)
    }

    pub(super) fn decode(body: &mut Reader<'_>, load: bool) -> Result<Option<Action>, DecodeError> {
        let (algorithm, fields) = (body.u16("algorithm")?, body.u16("fields")?);
        let basis = body.u16("basis")?;
        if body.u32("member type")? != MEMBER_OFPORT {
            return Ok(None);
        }
        let count = body.u16("members")?;
        let mut head = body.sub("bundle destination", 10)?;
        let packed = head.clone().u16("bundle destination")?;
        let dst = if load {
            head.skip("bundle destination", 2)?;
            let field = get_header(&mut head)?;
            Some(Subfield { field, offset: packed >> 6, bits: (packed & 0x3f) + 1 })
        } else {
            None
        };
        let members = (0..count).map(|_| body.u16("member")).collect::<Result<Vec<_>, _>>()?;
        let action = Self { algorithm, fields, basis, dst, members };
        Ok((body.len() < 8).then_some(Action::Bundle(action)))
    }
}

/// Names of what a link is chosen by.
pub(crate) const HASH_FIELDS: [&str; 7] = [
    "eth_src",
    "symmetric_l4",
    "symmetric_l3l4",
    "symmetric_l3l4+udp",
    "nw_src",
    "nw_dst",
    "symmetric_l3",
];

/// Names of the algorithms of a multipath.
pub(crate) const MULTIPATH_ALGORITHMS: [&str; 4] =
    ["modulo_n", "hash_threshold", "hrw", "iter_hash"];

/// Names of the algorithms of a bundle.
pub(crate) const BUNDLE_ALGORITHMS: [&str; 2] = ["active_backup", "hrw"];
