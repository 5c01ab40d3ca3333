//! `OFPT_ERROR`, with the names of what OVS sends.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::DecodeError;
use crate::types::{NX, ONF};
use crate::wire::Reader;

const EXPERIMENTER: u16 = 0xffff;

/// Why a request was refused.
///
/// Source: OpenFlow 1.3, "Error Message"; OVS `include/openvswitch/ofp-errors.h` for the names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ErrorMsg {
    /// Error type; 0xffff for one an experimenter defines.
    pub typ: u16,
    /// Error code; for type 0xffff the experimenter's own type.
    pub code: u16,
    /// Who defines the error, for type 0xffff.
    pub experimenter: u32,
    /// The refused message. OVS sends the whole of it, other switches 64 bytes or more.
    pub data: Bytes,
}

impl ErrorMsg {
    /// An error the specification defines.
    pub fn new(typ: u16, code: u16, data: Bytes) -> Self {
        Self { typ, code, experimenter: 0, data }
    }

    /// The name OVS gives the error, if it is one of those met here.
    pub fn name(&self) -> Option<&'static str> {
        Some(match (self.typ, self.code) {
            (0, 0) => "OFPHFC_INCOMPATIBLE",
            (0, 1) => "OFPHFC_EPERM",
            (1, 0) => "OFPBRC_BAD_VERSION",
            (1, 1) => "OFPBRC_BAD_TYPE",
            (1, 2) => "OFPBRC_BAD_STAT",
            (1, 3) => "OFPBRC_BAD_VENDOR",
            (1, 4) => "OFPBRC_BAD_SUBTYPE",
            (1, 5) => "OFPBRC_EPERM",
            (1, 6) => "OFPBRC_BAD_LEN",
            (1, 7) => "OFPBRC_BUFFER_EMPTY",
            (1, 8) => "OFPBRC_BUFFER_UNKNOWN",
            (1, 9) => "OFPBRC_BAD_TABLE_ID",
            (1, 10) => "OFPBRC_IS_SECONDARY",
            (1, 11) => "OFPBRC_BAD_PORT",
            (1, 12) => "OFPBRC_BAD_PACKET",
            (1, 13) => "OFPBRC_MULTIPART_BUFFER_OVERFLOW",
            (2, 0) => "OFPBAC_BAD_TYPE",
            (2, 1) => "OFPBAC_BAD_LEN",
            (2, 2) => "OFPBAC_BAD_VENDOR",
            (2, 3) => "OFPBAC_BAD_VENDOR_TYPE",
            (2, 4) => "OFPBAC_BAD_OUT_PORT",
            (2, 5) => "OFPBAC_BAD_ARGUMENT",
            (2, 6) => "OFPBAC_EPERM",
            (2, 7) => "OFPBAC_TOO_MANY",
            (2, 8) => "OFPBAC_BAD_QUEUE",
            (2, 9) => "OFPBAC_BAD_OUT_GROUP",
            (2, 10) => "OFPBAC_MATCH_INCONSISTENT",
            (2, 11) => "OFPBAC_UNSUPPORTED_ORDER",
            (2, 12) => "OFPBAC_BAD_TAG",
            (2, 13) => "OFPBAC_BAD_SET_TYPE",
            (2, 14) => "OFPBAC_BAD_SET_LEN",
            (2, 15) => "OFPBAC_BAD_SET_ARGUMENT",
            (3, 0) => "OFPBIC_UNKNOWN_INST",
            (3, 1) => "OFPBIC_UNSUP_INST",
            (3, 2) => "OFPBIC_BAD_TABLE_ID",
            (3, 3) => "OFPBIC_UNSUP_METADATA",
            (3, 4) => "OFPBIC_UNSUP_METADATA_MASK",
            (3, 5) => "OFPBIC_BAD_EXPERIMENTER",
            (3, 6) => "OFPBIC_BAD_EXP_TYPE",
            (3, 7) => "OFPBIC_BAD_LEN",
            (3, 8) => "OFPBIC_EPERM",
            (3, 9) => "OFPBIC_DUP_INST",
            (4, 0) => "OFPBMC_BAD_TYPE",
            (4, 1) => "OFPBMC_BAD_LEN",
            (4, 2) => "OFPBMC_BAD_TAG",
            (4, 3) => "OFPBMC_BAD_DL_ADDR_MASK",
            (4, 4) => "OFPBMC_BAD_NW_ADDR_MASK",
            (4, 5) => "OFPBMC_BAD_WILDCARDS",
            (4, 6) => "OFPBMC_BAD_FIELD",
            (4, 7) => "OFPBMC_BAD_VALUE",
            (4, 8) => "OFPBMC_BAD_MASK",
            (4, 9) => "OFPBMC_BAD_PREREQ",
            (4, 10) => "OFPBMC_DUP_FIELD",
            (4, 11) => "OFPBMC_EPERM",
            (5, 0) => "OFPFMFC_UNKNOWN",
            (5, 1) => "OFPFMFC_TABLE_FULL",
            (5, 2) => "OFPFMFC_BAD_TABLE_ID",
            (5, 3) => "OFPFMFC_OVERLAP",
            (5, 4) => "OFPFMFC_EPERM",
            (5, 5) => "OFPFMFC_BAD_TIMEOUT",
            (5, 6) => "OFPFMFC_BAD_COMMAND",
            (5, 7) => "OFPFMFC_BAD_FLAGS",
            (6, 0) => "OFPGMFC_GROUP_EXISTS",
            (6, 1) => "OFPGMFC_INVALID_GROUP",
            (6, 8) => "OFPGMFC_UNKNOWN_GROUP",
            (11, 0) => "OFPRRFC_STALE",
            (12, 1) => "OFPMMFC_METER_EXISTS",
            (12, 2) => "OFPMMFC_INVALID_METER",
            (12, 3) => "OFPMMFC_UNKNOWN_METER",
            (EXPERIMENTER, code) => return experimenter_name(self.experimenter, code),
            _ => return None,
        })
    }
}

fn experimenter_name(experimenter: u32, code: u16) -> Option<&'static str> {
    Some(match (experimenter, code) {
        (NX, 15) => "NXBAC_BAD_CONJUNCTION",
        (ONF, 2300) => "OFPBFC_UNKNOWN",
        (ONF, 2301) => "OFPBFC_EPERM",
        (ONF, 2302) => "OFPBFC_BAD_ID",
        (ONF, 2303) => "OFPBFC_BUNDLE_EXIST",
        (ONF, 2304) => "OFPBFC_BUNDLE_CLOSED",
        (ONF, 2305) => "OFPBFC_OUT_OF_BUNDLES",
        (ONF, 2306) => "OFPBFC_BAD_TYPE",
        (ONF, 2307) => "OFPBFC_BAD_FLAGS",
        (ONF, 2308) => "OFPBFC_MSG_BAD_LEN",
        (ONF, 2309) => "OFPBFC_MSG_BAD_XID",
        (ONF, 2310) => "OFPBFC_MSG_UNSUP",
        (ONF, 2311) => "OFPBFC_MSG_CONFLICT",
        (ONF, 2312) => "OFPBFC_MSG_TOO_MANY",
        (ONF, 2313) => "OFPBFC_MSG_FAILED",
        (ONF, 2314) => "OFPBFC_TIMEOUT",
        (ONF, 2315) => "OFPBFC_BUNDLE_IN_PROGRESS",
        _ => return None,
    })
}

impl ErrorMsg {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u16(self.typ);
        out.put_u16(self.code);
        if self.typ == EXPERIMENTER {
            out.put_u32(self.experimenter);
        }
        out.put_slice(&self.data);
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let typ = reader.u16("error type")?;
        let code = reader.u16("error code")?;
        let experimenter = if typ == EXPERIMENTER { reader.u32("error experimenter")? } else { 0 };
        Ok(Self { typ, code, experimenter, data: reader.bytes() })
    }
}

impl fmt::Display for ErrorMsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { typ, code, experimenter, data } = self;
        match self.name() {
            Some(name) => f.write_str(name)?,
            None if *typ == EXPERIMENTER => {
                write!(f, "error {code} of experimenter {experimenter:#010x}")?;
            }
            None => write!(f, "error type {typ} code {code}")?,
        }
        // A peer that speaks no common version says why in words.
        if *typ == 0 && !data.is_empty() {
            write!(f, " ({})", String::from_utf8_lossy(data).escape_debug())?;
        }
        Ok(())
    }
}
