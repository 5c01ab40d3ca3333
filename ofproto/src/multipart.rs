//! Statistics and descriptions, which may come in several parts.

mod desc;
mod entry;
mod flow;
mod group;
mod meter;
mod monitor;
mod port;
mod reassembly;
mod table;
mod table_features;

use bytes::{BufMut, Bytes, BytesMut};

pub use desc::Desc;
pub use entry::{FlowEntries, FlowEntry};
#[cfg(feature = "tokio")]
pub(crate) use flow::append_flows;
pub use flow::{AggregateStats, FlowStats, FlowStatsRequest};
pub use group::{Counters, GroupDesc, GroupFeatures, GroupStats};
pub use meter::{MeterConfig, MeterFeatures, MeterStats};
pub use monitor::{FlowChange, FlowMonitorRequest, FlowUpdate, monitor_flags};
pub use port::{PortStats, QueueStats};
pub use reassembly::{MAX_REPLY_BYTES, Reassembly, ReassemblyError};
pub use table::TableStats;
pub use table_features::{FeatureId, OxmId, TableFeatures, TableProperty};

use crate::error::{DecodeError, EncodeError};
use crate::port_status::PortDesc;
use crate::types::ONF;
use crate::wire::Reader;

/// More parts follow.
pub const MORE: u16 = 1;

/// Multipart types. Source: OpenFlow 1.3, "Multipart Messages" (`enum ofp_multipart_type`).
mod kind {
    pub(super) const DESC: u16 = 0;
    pub(super) const FLOW: u16 = 1;
    pub(super) const AGGREGATE: u16 = 2;
    pub(super) const TABLE: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const QUEUE: u16 = 5;
    pub(super) const GROUP: u16 = 6;
    pub(super) const GROUP_DESC: u16 = 7;
    pub(super) const GROUP_FEATURES: u16 = 8;
    pub(super) const METER: u16 = 9;
    pub(super) const METER_CONFIG: u16 = 10;
    pub(super) const METER_FEATURES: u16 = 11;
    pub(super) const TABLE_FEATURES: u16 = 12;
    pub(super) const PORT_DESC: u16 = 13;
    pub(super) const EXPERIMENTER: u16 = 0xffff;
}

/// Experimenter multipart of flow monitors.
const FLOW_MONITOR: u32 = 1870;

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
    /// Counters of a port, or of all with [`port::ANY`](crate::types::port::ANY).
    Port(u32),
    /// Counters of queues.
    Queue {
        /// The port, or [`port::ANY`](crate::types::port::ANY).
        port: u32,
        /// The queue; all ones for all.
        queue: u32,
    },
    /// Counters of a group, or of all with [`GROUP_ALL`](crate::types::GROUP_ALL).
    Group(u32),
    /// All groups as they are configured.
    GroupDesc,
    /// What the switch can do with groups.
    GroupFeatures,
    /// Counters of a meter, or of all with [`meter_id::ALL`](crate::meter_id::ALL).
    Meter(u32),
    /// A meter as it is configured, or all with [`meter_id::ALL`](crate::meter_id::ALL).
    MeterConfig(u32),
    /// What the switch can do with meters.
    MeterFeatures,
    /// What tables can do; with a list, what they are to be able to do, which OVS refuses.
    TableFeatures {
        /// Bit 0: more parts follow.
        flags: u16,
        /// The tables.
        tables: Vec<TableFeatures>,
    },
    /// Ports.
    PortDesc,
    /// Asks to be told of changes to flows.
    FlowMonitor(Vec<FlowMonitorRequest>),
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
    /// Multipart type on the wire.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Desc => kind::DESC,
            Self::Flow(_) => kind::FLOW,
            Self::Aggregate(_) => kind::AGGREGATE,
            Self::Table => kind::TABLE,
            Self::Port(_) => kind::PORT,
            Self::Queue { .. } => kind::QUEUE,
            Self::Group(_) => kind::GROUP,
            Self::GroupDesc => kind::GROUP_DESC,
            Self::GroupFeatures => kind::GROUP_FEATURES,
            Self::Meter(_) => kind::METER,
            Self::MeterConfig(_) => kind::METER_CONFIG,
            Self::MeterFeatures => kind::METER_FEATURES,
            Self::TableFeatures { .. } => kind::TABLE_FEATURES,
            Self::PortDesc => kind::PORT_DESC,
            Self::FlowMonitor(_) => kind::EXPERIMENTER,
            Self::Unknown { typ, .. } => *typ,
        }
    }

    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.kind());
        out.put_u16(match self {
            Self::TableFeatures { flags, .. } | Self::Unknown { flags, .. } => *flags,
            _ => 0,
        });
        out.put_u32(0);
        match self {
            Self::Flow(request) | Self::Aggregate(request) => request.encode(out)?,
            Self::Port(n) | Self::Group(n) | Self::Meter(n) | Self::MeterConfig(n) => {
                out.put_u32(*n);
                out.put_u32(0);
            }
            Self::Queue { port, queue } => {
                out.put_u32(*port);
                out.put_u32(*queue);
            }
            Self::TableFeatures { tables, .. } => {
                tables.iter().try_for_each(|table| table.encode(out))?;
            }
            Self::FlowMonitor(requests) => {
                out.put_u32(ONF);
                out.put_u32(FLOW_MONITOR);
                requests.iter().try_for_each(|request| request.encode(out))?;
            }
            Self::Unknown { body, .. } => out.put_slice(body),
            Self::Desc
            | Self::Table
            | Self::GroupDesc
            | Self::GroupFeatures
            | Self::MeterFeatures
            | Self::PortDesc => {}
        }
        Ok(())
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let typ = reader.u16("multipart type")?;
        let flags = reader.u16("multipart flags")?;
        reader.skip("multipart padding", 4)?;
        let number = |reader: &mut Reader<'_>| {
            let number = reader.u32("multipart request")?;
            reader.skip("multipart padding", 4).map(|()| number)
        };
        Ok(match (typ, flags) {
            (kind::DESC, 0) if reader.is_empty() => Self::Desc,
            (kind::FLOW, 0) => Self::Flow(FlowStatsRequest::decode(reader)?),
            (kind::AGGREGATE, 0) => Self::Aggregate(FlowStatsRequest::decode(reader)?),
            (kind::TABLE, 0) if reader.is_empty() => Self::Table,
            (kind::PORT, 0) => Self::Port(number(reader)?),
            (kind::QUEUE, 0) => {
                Self::Queue { port: reader.u32("port")?, queue: reader.u32("queue")? }
            }
            (kind::GROUP, 0) => Self::Group(number(reader)?),
            (kind::GROUP_DESC, 0) if reader.is_empty() => Self::GroupDesc,
            (kind::GROUP_FEATURES, 0) if reader.is_empty() => Self::GroupFeatures,
            (kind::METER, 0) => Self::Meter(number(reader)?),
            (kind::METER_CONFIG, 0) => Self::MeterConfig(number(reader)?),
            (kind::METER_FEATURES, 0) if reader.is_empty() => Self::MeterFeatures,
            (kind::TABLE_FEATURES, _) => {
                Self::TableFeatures { flags, tables: list(reader, TableFeatures::decode)? }
            }
            (kind::PORT_DESC, 0) if reader.is_empty() => Self::PortDesc,
            (kind::EXPERIMENTER, 0) if is_monitor(reader) => {
                Self::FlowMonitor(list(reader, FlowMonitorRequest::decode)?)
            }
            _ => Self::Unknown { typ, flags, body: reader.bytes() },
        })
    }
}

/// Whether this is the experimenter multipart of flow monitors; if so, passes over its numbers.
fn is_monitor(reader: &mut Reader<'_>) -> bool {
    let mut ahead = reader.clone();
    let numbers = (ahead.u32("experimenter"), ahead.u32("experimenter type"));
    let monitor = numbers == (Ok(ONF), Ok(FLOW_MONITOR));
    if monitor {
        *reader = ahead;
    }
    monitor
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
    /// Counters of ports.
    Port(Vec<PortStats>),
    /// Counters of queues.
    Queue(Vec<QueueStats>),
    /// Counters of groups.
    Group(Vec<GroupStats>),
    /// Groups.
    GroupDesc(Vec<GroupDesc>),
    /// What the switch can do with groups.
    GroupFeatures(GroupFeatures),
    /// Counters of meters.
    Meter(Vec<MeterStats>),
    /// Meters.
    MeterConfig(Vec<MeterConfig>),
    /// What the switch can do with meters.
    MeterFeatures(MeterFeatures),
    /// What tables can do.
    TableFeatures(Vec<TableFeatures>),
    /// Ports.
    PortDesc(Vec<PortDesc>),
    /// Changes to flows. With xid 0 it is an event, not the part of a reply.
    FlowMonitor(Vec<FlowUpdate>),
    /// Any other: type and body.
    Unknown {
        /// Multipart type.
        typ: u16,
        /// The body.
        body: Bytes,
    },
}

impl MultipartBody {
    /// Multipart type on the wire.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Desc(_) => kind::DESC,
            Self::Flow(_) => kind::FLOW,
            Self::Aggregate(_) => kind::AGGREGATE,
            Self::Table(_) => kind::TABLE,
            Self::Port(_) => kind::PORT,
            Self::Queue(_) => kind::QUEUE,
            Self::Group(_) => kind::GROUP,
            Self::GroupDesc(_) => kind::GROUP_DESC,
            Self::GroupFeatures(_) => kind::GROUP_FEATURES,
            Self::Meter(_) => kind::METER,
            Self::MeterConfig(_) => kind::METER_CONFIG,
            Self::MeterFeatures(_) => kind::METER_FEATURES,
            Self::TableFeatures(_) => kind::TABLE_FEATURES,
            Self::PortDesc(_) => kind::PORT_DESC,
            Self::FlowMonitor(_) => kind::EXPERIMENTER,
            Self::Unknown { typ, .. } => *typ,
        }
    }
}

impl MultipartReply {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.body.kind());
        out.put_u16(self.flags);
        out.put_u32(0);
        match &self.body {
            MultipartBody::Desc(desc) => desc.encode(out),
            MultipartBody::Flow(list) => list.iter().try_for_each(|item| item.encode(out))?,
            MultipartBody::Aggregate(stats) => stats.encode(out),
            MultipartBody::Table(list) => list.iter().for_each(|item| item.encode(out)),
            MultipartBody::Port(list) => list.iter().for_each(|item| item.encode(out)),
            MultipartBody::Queue(list) => list.iter().for_each(|item| item.encode(out)),
            MultipartBody::Group(list) => list.iter().try_for_each(|item| item.encode(out))?,
            MultipartBody::GroupDesc(list) => list.iter().try_for_each(|item| item.encode(out))?,
            MultipartBody::GroupFeatures(features) => features.encode(out),
            MultipartBody::Meter(list) => list.iter().try_for_each(|item| item.encode(out))?,
            MultipartBody::MeterConfig(list) => {
                list.iter().try_for_each(|item| item.encode(out))?;
            }
            MultipartBody::MeterFeatures(features) => features.encode(out),
            MultipartBody::TableFeatures(list) => {
                list.iter().try_for_each(|item| item.encode(out))?;
            }
            MultipartBody::PortDesc(list) => list.iter().for_each(|item| item.encode(out)),
            MultipartBody::FlowMonitor(list) => {
                out.put_u32(ONF);
                out.put_u32(FLOW_MONITOR);
                list.iter().try_for_each(|item| item.encode(out))?;
            }
            MultipartBody::Unknown { body, .. } => out.put_slice(body),
        }
        Ok(())
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let typ = reader.u16("multipart type")?;
        let flags = reader.u16("multipart flags")?;
        reader.skip("multipart padding", 4)?;
        let body = match typ {
            kind::DESC => MultipartBody::Desc(Box::new(Desc::decode(reader)?)),
            kind::FLOW => MultipartBody::Flow(flow::decode_list(reader)?),
            kind::AGGREGATE => MultipartBody::Aggregate(AggregateStats::decode(reader)?),
            kind::TABLE => MultipartBody::Table(list(reader, TableStats::decode)?),
            kind::PORT => MultipartBody::Port(list(reader, PortStats::decode)?),
            kind::QUEUE => MultipartBody::Queue(list(reader, QueueStats::decode)?),
            kind::GROUP => MultipartBody::Group(list(reader, GroupStats::decode)?),
            kind::GROUP_DESC => MultipartBody::GroupDesc(list(reader, GroupDesc::decode)?),
            kind::GROUP_FEATURES => MultipartBody::GroupFeatures(GroupFeatures::decode(reader)?),
            kind::METER => MultipartBody::Meter(list(reader, MeterStats::decode)?),
            kind::METER_CONFIG => MultipartBody::MeterConfig(list(reader, MeterConfig::decode)?),
            kind::METER_FEATURES => MultipartBody::MeterFeatures(MeterFeatures::decode(reader)?),
            kind::TABLE_FEATURES => {
                MultipartBody::TableFeatures(list(reader, TableFeatures::decode)?)
            }
            kind::PORT_DESC => MultipartBody::PortDesc(list(reader, PortDesc::decode)?),
            kind::EXPERIMENTER if is_monitor(reader) => {
                MultipartBody::FlowMonitor(list(reader, FlowUpdate::decode)?)
            }
            _ => MultipartBody::Unknown { typ, body: reader.bytes() },
        };
        Ok(Self { flags, body })
    }
}

/// Reads items up to the end of `reader`.
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

/// Bounds a reader to an item that begins with its length, and passes over the length.
fn entry<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<Reader<'a>, DecodeError> {
    let offset = reader.offset();
    let length = usize::from(reader.u16(what)?);
    let Some(rest) = length.checked_sub(2) else {
        return Err(DecodeError::Length { what, offset, length });
    };
    reader.sub(what, rest)
}
