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

    /// The name OVS 3.1 gives the error, if it has one.
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
            (6, 2) => "OFPGMFC_WEIGHT_UNSUPPORTED",
            (6, 3) => "OFPGMFC_OUT_OF_GROUPS",
            (6, 4) => "OFPGMFC_OUT_OF_BUCKETS",
            (6, 5) => "OFPGMFC_CHAINING_UNSUPPORTED",
            (6, 6) => "OFPGMFC_WATCH_UNSUPPORTED",
            (6, 7) => "OFPGMFC_LOOP",
            (6, 8) => "OFPGMFC_UNKNOWN_GROUP",
            (6, 9) => "OFPGMFC_CHAINED_GROUP",
            (6, 10) => "OFPGMFC_BAD_TYPE",
            (6, 11) => "OFPGMFC_BAD_COMMAND",
            (6, 12) => "OFPGMFC_BAD_BUCKET",
            (6, 13) => "OFPGMFC_BAD_WATCH",
            (6, 14) => "OFPGMFC_EPERM",
            (7, 0) => "OFPPMFC_BAD_PORT",
            (7, 1) => "OFPPMFC_BAD_HW_ADDR",
            (7, 2) => "OFPPMFC_BAD_CONFIG",
            (7, 3) => "OFPPMFC_BAD_ADVERTISE",
            (7, 4) => "OFPPMFC_EPERM",
            (8, 0) => "OFPTMFC_BAD_TABLE",
            (8, 1) => "OFPTMFC_BAD_CONFIG",
            (8, 2) => "OFPTMFC_EPERM",
            (9, 0) => "OFPQOFC_BAD_PORT",
            (9, 1) => "OFPQOFC_BAD_QUEUE",
            (9, 2) => "OFPQOFC_EPERM",
            (10, 0) => "OFPSCFC_BAD_FLAGS",
            (10, 1) => "OFPSCFC_BAD_LEN",
            (10, 2) => "OFPSCFC_EPERM",
            (11, 0) => "OFPRRFC_STALE",
            (11, 1) => "OFPRRFC_UNSUP",
            (11, 2) => "OFPRRFC_BAD_ROLE",
            (12, 0) => "OFPMMFC_UNKNOWN",
            (12, 1) => "OFPMMFC_METER_EXISTS",
            (12, 2) => "OFPMMFC_INVALID_METER",
            (12, 3) => "OFPMMFC_UNKNOWN_METER",
            (12, 4) => "OFPMMFC_BAD_COMMAND",
            (12, 5) => "OFPMMFC_BAD_FLAGS",
            (12, 6) => "OFPMMFC_BAD_RATE",
            (12, 7) => "OFPMMFC_BAD_BURST",
            (12, 8) => "OFPMMFC_BAD_BAND",
            (12, 9) => "OFPMMFC_BAD_BAND_VALUE",
            (12, 10) => "OFPMMFC_OUT_OF_METERS",
            (12, 11) => "OFPMMFC_OUT_OF_BANDS",
            (13, 0) => "OFPTFFC_BAD_TABLE",
            (13, 1) => "OFPTFFC_BAD_METADATA",
            (13, 2) => "OFPBPC_BAD_TYPE",
            (13, 3) => "OFPBPC_BAD_LEN",
            (13, 4) => "OFPBPC_BAD_VALUE",
            (13, 5) => "OFPTFFC_EPERM",
            (EXPERIMENTER, code) => return experimenter_name(self.experimenter, code),
            _ => return None,
        })
    }
}

fn experimenter_name(experimenter: u32, code: u16) -> Option<&'static str> {
    Some(match (experimenter, code) {
        (NX, 2) => "NXBRC_NXM_INVALID",
        (NX, 3) => "NXBRC_NXM_BAD_TYPE",
        (NX, 4) => "NXBRC_MUST_BE_ZERO",
        (NX, 5) => "NXBRC_BAD_REASON",
        (NX, 6) => "OFPMOFC_MONITOR_EXISTS",
        (NX, 7) => "OFPMOFC_BAD_FLAGS",
        (NX, 8) => "OFPMOFC_UNKNOWN_MONITOR",
        (NX, 9) => "NXBRC_FM_BAD_EVENT",
        (NX, 10) => "NXBRC_UNENCODABLE_ERROR",
        (NX, 11) => "NXBAC_MUST_BE_ZERO",
        (NX, 12) => "NXFMFC_HARDWARE",
        (NX, 13) => "NXFMFC_BAD_TABLE_ID",
        (NX, 15) => "NXBAC_BAD_CONJUNCTION",
        (NX, 16) => "NXTTMFC_BAD_COMMAND",
        (NX, 17) => "NXTTMFC_BAD_OPT_LEN",
        (NX, 18) => "NXTTMFC_BAD_FIELD_IDX",
        (NX, 19) => "NXTTMFC_TABLE_FULL",
        (NX, 20) => "NXTTMFC_ALREADY_MAPPED",
        (NX, 21) => "NXTTMFC_DUP_ENTRY",
        (NX, 34) => "NXR_NOT_SUPPORTED",
        (NX, 35) => "NXR_STALE",
        (NX, 36) => "NXST_NOT_CONFIGURED",
        (NX, 37) => "NXFMFC_INVALID_TLV_FIELD",
        (NX, 38) => "NXTTMFC_INVALID_TLV_DEL",
        (NX, 39) => "NXBAC_BAD_HEADER_TYPE",
        (NX, 40) => "NXBAC_UNKNOWN_ED_PROP",
        (NX, 41) => "NXBAC_BAD_ED_PROP",
        (NX, 42) => "NXBAC_CT_DATAPATH_SUPPORT",
        (NX, 43) => "NXBMC_CT_DATAPATH_SUPPORT",
        (NX, 44) => "NXTFFC_DUP_TABLE",
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
        (ONF, 2360) => "OFPFMFC_BAD_PRIORITY",
        (ONF, 2370) => "OFPACFC_INVALID",
        (ONF, 2371) => "OFPACFC_UNSUPPORTED",
        (ONF, 2372) => "OFPACFC_EPERM",
        (ONF, 2600) => "OFPBIC_DUP_INST",
        (ONF, 2640) => "OFPBRC_MULTIPART_REQUEST_TIMEOUT",
        (ONF, 2641) => "OFPBRC_MULTIPART_REPLY_TIMEOUT",
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
