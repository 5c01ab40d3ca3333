//! Statistics and descriptions, which may come in several parts.

mod desc;
mod entry;
mod flow;
mod reassembly;
mod table;

use bytes::{BufMut, Bytes, BytesMut};

pub use desc::Desc;
pub use entry::{FlowEntries, FlowEntry};
pub use flow::{AggregateStats, FlowStats, FlowStatsRequest};
pub use reassembly::{MAX_REPLY_BYTES, Reassembly, ReassemblyError};
pub use table::TableStats;

use crate::error::{DecodeError, EncodeError};
use crate::port_status::PortDesc;
use crate::wire::Reader;

/// More parts follow.
pub const MORE: u16 = 1;

const DESC: u16 = 0;
const FLOW: u16 = 1;
const AGGREGATE: u16 = 2;
const TABLE: u16 = 3;
const PORT_DESC: u16 = 13;

/// `OFPT_MULTIPART_REQUEST`.
///
/// Source: OpenFlow 1.3, "Multipart Messages".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MultipartRequest {
    /// Who made the switch.
    Desc,
    /// Flows, each with its counters.
    Flow(FlowStatsRequest),
    /// The counters of flows together.
    Aggregate(FlowStatsRequest),
    /// Tables.
    Table,
    /// Ports.
    PortDesc,
    /// Any other: type, flags and body.
    Unknown {
        /// Multipart type.
        typ: u16,
        /// Bit 0: more parts follow.
        flags: u16,
        /// The body.
        body: Bytes,
    },
}

impl MultipartRequest {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let (typ, flags) = match self {
            Self::Desc => (DESC, 0),
            Self::Flow(_) => (FLOW, 0),
            Self::Aggregate(_) => (AGGREGATE, 0),
            Self::Table => (TABLE, 0),
            Self::PortDesc => (PORT_DESC, 0),
            Self::Unknown { typ, flags, .. } => (*typ, *flags),
        };
        out.put_u16(typ);
        out.put_u16(flags);
        out.put_u32(0);
        match self {
            Self::Flow(request) | Self::Aggregate(request) => request.encode(out),
            Self::Unknown { body, .. } => {
                out.put_slice(body);
                Ok(())
            }
            Self::Desc | Self::Table | Self::PortDesc => Ok(()),
        }
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let typ = reader.u16("multipart type")?;
        let flags = reader.u16("multipart flags")?;
        reader.skip("multipart padding", 4)?;
        Ok(match (typ, flags) {
            (DESC, 0) if reader.is_empty() => Self::Desc,
            (FLOW, 0) => Self::Flow(FlowStatsRequest::decode(reader)?),
            (AGGREGATE, 0) => Self::Aggregate(FlowStatsRequest::decode(reader)?),
            (TABLE, 0) if reader.is_empty() => Self::Table,
            (PORT_DESC, 0) if reader.is_empty() => Self::PortDesc,
            _ => Self::Unknown { typ, flags, body: reader.bytes() },
        })
    }
}

/// `OFPT_MULTIPART_REPLY`: one part.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MultipartReply {
    /// Bit 0: more parts follow.
    pub flags: u16,
    /// What this part says.
    pub body: MultipartBody,
}

impl MultipartReply {
    /// Whether more parts follow.
    pub const fn more(&self) -> bool {
        self.flags & MORE != 0
    }
}

/// The body of one part of a reply.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MultipartBody {
    /// Who made the switch.
    Desc(Box<Desc>),
    /// Flows.
    Flow(Vec<FlowStats>),
    /// Counters of flows together.
    Aggregate(AggregateStats),
    /// Tables.
    Table(Vec<TableStats>),
    /// Ports.
    PortDesc(Vec<PortDesc>),
    /// Any other: type and body.
    Unknown {
        /// Multipart type.
        typ: u16,
        /// The body.
        body: Bytes,
    },
}

impl MultipartReply {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let typ = match &self.body {
            MultipartBody::Desc(_) => DESC,
            MultipartBody::Flow(_) => FLOW,
            MultipartBody::Aggregate(_) => AGGREGATE,
            MultipartBody::Table(_) => TABLE,
            MultipartBody::PortDesc(_) => PORT_DESC,
            MultipartBody::Unknown { typ, .. } => *typ,
        };
        out.put_u16(typ);
        out.put_u16(self.flags);
        out.put_u32(0);
        match &self.body {
            MultipartBody::Desc(desc) => desc.encode(out),
            MultipartBody::Flow(flows) => {
                flows.iter().try_for_each(|flow| flow.encode(out))?;
            }
            MultipartBody::Aggregate(stats) => stats.encode(out),
            MultipartBody::Table(tables) => tables.iter().for_each(|table| table.encode(out)),
            MultipartBody::PortDesc(ports) => ports.iter().for_each(|port| port.encode(out)),
            MultipartBody::Unknown { body, .. } => out.put_slice(body),
        }
        Ok(())
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let typ = reader.u16("multipart type")?;
        let flags = reader.u16("multipart flags")?;
        reader.skip("multipart padding", 4)?;
        let body = match typ {
            DESC => MultipartBody::Desc(Box::new(Desc::decode(reader)?)),
            FLOW => MultipartBody::Flow(list(reader, FlowStats::decode)?),
            AGGREGATE => MultipartBody::Aggregate(AggregateStats::decode(reader)?),
            TABLE => MultipartBody::Table(list(reader, TableStats::decode)?),
            PORT_DESC => MultipartBody::PortDesc(list(reader, PortDesc::decode)?),
            _ => MultipartBody::Unknown { typ, body: reader.bytes() },
        };
        Ok(Self { flags, body })
    }
}

fn list<T>(
    reader: &mut Reader<'_>,
    decode: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut list = Vec::new();
    while !reader.is_empty() {
        list.push(decode(reader)?);
    }
    Ok(list)
}
