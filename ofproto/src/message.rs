//! The message, and who reads and writes which.

use bytes::{BufMut, Bytes, BytesMut};

use crate::async_config::{AsyncConfig, AsyncConfig2};
use crate::bundle::{self, BundleAdd, BundleControl};
use crate::config::SwitchConfig;
use crate::ct_flush::CtFlush;
use crate::error::{DecodeError, EncodeError};
use crate::error_msg::ErrorMsg;
use crate::features::FeaturesReply;
use crate::flow_mod::FlowMod;
use crate::flow_removed::FlowRemoved;
use crate::group_mod::GroupMod;
use crate::header::{self, framed};
use crate::hello::Hello;
use crate::meter_mod::MeterMod;
use crate::multipart::{MultipartReply, MultipartRequest};
use crate::packet::{PacketIn, PacketOut};
use crate::packet_in2::{NxtPacketIn, PacketIn2};
use crate::port_status::{PortMod, PortStatus};
use crate::queue::{self, QueueConfigReply};
use crate::requestforward::RequestForward;
use crate::role::{Role, RoleStatus};
use crate::table_mod::TableMod;
use crate::tlv_table::{TlvTableMod, TlvTableReply};
use crate::types::{NX, ONF, VERSION};
use crate::wire::Reader;

/// Message types. Source: OpenFlow 1.3, "OpenFlow Header" (`enum ofp_type`).
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 0;
    pub(crate) const ERROR: u8 = 1;
    pub(crate) const ECHO_REQUEST: u8 = 2;
    pub(crate) const ECHO_REPLY: u8 = 3;
    pub(crate) const EXPERIMENTER: u8 = 4;
    pub(crate) const FEATURES_REQUEST: u8 = 5;
    pub(crate) const FEATURES_REPLY: u8 = 6;
    pub(crate) const GET_CONFIG_REQUEST: u8 = 7;
    pub(crate) const GET_CONFIG_REPLY: u8 = 8;
    pub(crate) const SET_CONFIG: u8 = 9;
    pub(crate) const PACKET_IN: u8 = 10;
    pub(crate) const FLOW_REMOVED: u8 = 11;
    pub(crate) const PORT_STATUS: u8 = 12;
    pub(crate) const PACKET_OUT: u8 = 13;
    pub(crate) const FLOW_MOD: u8 = 14;
    pub(crate) const GROUP_MOD: u8 = 15;
    pub(crate) const PORT_MOD: u8 = 16;
    pub(crate) const TABLE_MOD: u8 = 17;
    pub(crate) const MULTIPART_REQUEST: u8 = 18;
    pub(crate) const MULTIPART_REPLY: u8 = 19;
    pub(crate) const BARRIER_REQUEST: u8 = 20;
    pub(crate) const BARRIER_REPLY: u8 = 21;
    pub(crate) const QUEUE_GET_CONFIG_REQUEST: u8 = 22;
    pub(crate) const QUEUE_GET_CONFIG_REPLY: u8 = 23;
    pub(crate) const ROLE_REQUEST: u8 = 24;
    pub(crate) const ROLE_REPLY: u8 = 25;
    pub(crate) const GET_ASYNC_REQUEST: u8 = 26;
    pub(crate) const GET_ASYNC_REPLY: u8 = 27;
    pub(crate) const SET_ASYNC: u8 = 28;
    pub(crate) const METER_MOD: u8 = 29;
}

/// Types of Nicira messages. Source: OVS `include/openvswitch/ofp-msgs.h`.
mod nx {
    pub(super) const SET_PACKET_IN_FORMAT: u32 = 16;
    pub(super) const PACKET_IN: u32 = 17;
    pub(super) const SET_ASYNC_CONFIG: u32 = 19;
    pub(super) const SET_CONTROLLER_ID: u32 = 20;
    pub(super) const TLV_TABLE_MOD: u32 = 24;
    pub(super) const TLV_TABLE_REQUEST: u32 = 25;
    pub(super) const TLV_TABLE_REPLY: u32 = 26;
    pub(super) const SET_ASYNC_CONFIG2: u32 = 27;
    pub(super) const RESUME: u32 = 28;
    pub(super) const CT_FLUSH_ZONE: u32 = 29;
    pub(super) const PACKET_IN2: u32 = 30;
    pub(super) const CT_FLUSH: u32 = 32;
}

/// Types of ONF messages. Source: OVS `include/openvswitch/ofp-msgs.h`.
mod onf {
    pub(super) const FLOW_MONITOR_CANCEL: u32 = 1870;
    pub(super) const FLOW_MONITOR_PAUSED: u32 = 1871;
    pub(super) const FLOW_MONITOR_RESUMED: u32 = 1872;
    pub(super) const ROLE_STATUS: u32 = 1911;
    pub(super) const REQUESTFORWARD: u32 = 2350;
}

/// One OpenFlow message, without its xid.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Message {
    /// Which versions the sender speaks.
    Hello(Hello),
    /// A refusal.
    Error(ErrorMsg),
    /// Are you there?
    EchoRequest(Bytes),
    /// Here, with the same bytes.
    EchoReply(Bytes),
    /// What are you?
    FeaturesRequest,
    /// What the switch is.
    FeaturesReply(FeaturesReply),
    /// How are you configured?
    GetConfigRequest,
    /// How the switch is configured.
    GetConfigReply(SwitchConfig),
    /// Configures.
    SetConfig(SwitchConfig),
    /// A packet for the controller.
    PacketIn(PacketIn),
    /// The end of a flow.
    FlowRemoved(FlowRemoved),
    /// A change to a port.
    PortStatus(PortStatus),
    /// A packet from the controller.
    PacketOut(PacketOut),
    /// Changes flows.
    FlowMod(FlowMod),
    /// Changes groups.
    GroupMod(GroupMod),
    /// Changes a port.
    PortMod(PortMod),
    /// Changes how a table treats a miss.
    TableMod(TableMod),
    /// Asks for statistics or descriptions.
    MultipartRequest(MultipartRequest),
    /// A part of the answer.
    MultipartReply(MultipartReply),
    /// Finish what came before.
    BarrierRequest,
    /// Finished.
    BarrierReply,
    /// Which queues has a port, or all with [`port::ANY`](crate::types::port::ANY)?
    QueueGetConfigRequest(u32),
    /// Queues.
    QueueGetConfigReply(QueueConfigReply),
    /// Asks for a role, or only which one it is.
    RoleRequest(Role),
    /// The role.
    RoleReply(Role),
    /// Which asynchronous messages does this connection get?
    GetAsyncRequest,
    /// Those.
    GetAsyncReply(AsyncConfig),
    /// Chooses the asynchronous messages.
    SetAsync(AsyncConfig),
    /// Changes meters.
    MeterMod(MeterMod),
    /// The form of packet-ins: 0 standard, 1 [`NxtPacketIn`], 2 [`PacketIn2`] (NX 16).
    SetPacketInFormat(u32),
    /// A packet for the controller, in the older Nicira form (NX 17).
    NxtPacketIn(NxtPacketIn),
    /// As [`Message::SetAsync`] (NX 19).
    SetAsyncConfig(AsyncConfig),
    /// The id by which `controller(id=N)` finds this connection (NX 20).
    SetControllerId(u16),
    /// Changes which tunnel option is which field (NX 24).
    TlvTableMod(TlvTableMod),
    /// Which tunnel option is which field? (NX 25)
    TlvTableRequest,
    /// Those (NX 26).
    TlvTableReply(TlvTableReply),
    /// Chooses single kinds of asynchronous messages (NX 27).
    SetAsyncConfig2(AsyncConfig2),
    /// Lets a paused packet go on; see [`PacketIn2::to_resume`] (NX 28).
    Resume(PacketIn2),
    /// Forgets the connections of a zone (NX 29).
    CtFlushZone(u16),
    /// A packet for the controller, with what is needed to resume it (NX 30).
    PacketIn2(PacketIn2),
    /// Forgets connections (NX 32).
    CtFlush(CtFlush),
    /// Ends a flow monitor (ONF 1870).
    FlowMonitorCancel(u32),
    /// The flow monitors of this connection pause, as too much is unread (ONF 1871).
    FlowMonitorPaused,
    /// They go on; what was missed has been sent (ONF 1872).
    FlowMonitorResumed,
    /// The switch changed this connection's role (ONF 1911).
    RoleStatus(RoleStatus),
    /// What another controller changed (ONF 2350).
    RequestForward(RequestForward),
    /// Opens, closes, commits, discards a bundle, or confirms it.
    BundleControl(BundleControl),
    /// Adds to a bundle.
    BundleAdd(BundleAdd),
    /// Any other extension.
    Experimenter {
        /// Who defines it.
        experimenter: u32,
        /// The experimenter's own type.
        typ: u32,
        /// The body.
        body: Bytes,
    },
    /// Any other message.
    Unknown {
        /// Message type.
        typ: u8,
        /// Everything behind the header.
        body: Bytes,
    },
}

impl Message {
    /// Appends the message to `out`.
    ///
    /// Errors: [`EncodeError`]; `out` is then as before.
    pub fn encode(&self, xid: u32, out: &mut BytesMut) -> Result<(), EncodeError> {
        let version = match self {
            Self::Hello(hello) => hello.version,
            _ => VERSION,
        };
        framed(out, version, self.kind(), xid, |out| self.encode_body(out))
    }

    /// Message type on the wire.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Error(_) => kind::ERROR,
            Self::EchoRequest(_) => kind::ECHO_REQUEST,
            Self::EchoReply(_) => kind::ECHO_REPLY,
            Self::FeaturesRequest => kind::FEATURES_REQUEST,
            Self::FeaturesReply(_) => kind::FEATURES_REPLY,
            Self::GetConfigRequest => kind::GET_CONFIG_REQUEST,
            Self::GetConfigReply(_) => kind::GET_CONFIG_REPLY,
            Self::SetConfig(_) => kind::SET_CONFIG,
            Self::PacketIn(_) => kind::PACKET_IN,
            Self::FlowRemoved(_) => kind::FLOW_REMOVED,
            Self::PortStatus(_) => kind::PORT_STATUS,
            Self::PacketOut(_) => kind::PACKET_OUT,
            Self::FlowMod(_) => kind::FLOW_MOD,
            Self::GroupMod(_) => kind::GROUP_MOD,
            Self::PortMod(_) => kind::PORT_MOD,
            Self::MultipartRequest(_) => kind::MULTIPART_REQUEST,
            Self::MultipartReply(_) => kind::MULTIPART_REPLY,
            Self::BarrierRequest => kind::BARRIER_REQUEST,
            Self::BarrierReply => kind::BARRIER_REPLY,
            Self::TableMod(_) => kind::TABLE_MOD,
            Self::QueueGetConfigRequest(_) => kind::QUEUE_GET_CONFIG_REQUEST,
            Self::QueueGetConfigReply(_) => kind::QUEUE_GET_CONFIG_REPLY,
            Self::RoleRequest(_) => kind::ROLE_REQUEST,
            Self::RoleReply(_) => kind::ROLE_REPLY,
            Self::GetAsyncRequest => kind::GET_ASYNC_REQUEST,
            Self::GetAsyncReply(_) => kind::GET_ASYNC_REPLY,
            Self::SetAsync(_) => kind::SET_ASYNC,
            Self::MeterMod(_) => kind::METER_MOD,
            Self::SetPacketInFormat(_)
            | Self::NxtPacketIn(_)
            | Self::SetAsyncConfig(_)
            | Self::SetControllerId(_)
            | Self::TlvTableMod(_)
            | Self::TlvTableRequest
            | Self::TlvTableReply(_)
            | Self::SetAsyncConfig2(_)
            | Self::Resume(_)
            | Self::CtFlushZone(_)
            | Self::PacketIn2(_)
            | Self::CtFlush(_)
            | Self::FlowMonitorCancel(_)
            | Self::FlowMonitorPaused
            | Self::FlowMonitorResumed
            | Self::RoleStatus(_)
            | Self::RequestForward(_)
            | Self::BundleControl(_)
            | Self::BundleAdd(_)
            | Self::Experimenter { .. } => kind::EXPERIMENTER,
            Self::Unknown { typ, .. } => *typ,
        }
    }

    /// Experimenter number and type of an experimenter message whose body does not write them itself.
    fn experimenter(&self) -> Option<(u32, u32)> {
        Some(match self {
            Self::SetPacketInFormat(_) => (NX, nx::SET_PACKET_IN_FORMAT),
            Self::NxtPacketIn(_) => (NX, nx::PACKET_IN),
            Self::SetAsyncConfig(_) => (NX, nx::SET_ASYNC_CONFIG),
            Self::SetControllerId(_) => (NX, nx::SET_CONTROLLER_ID),
            Self::TlvTableMod(_) => (NX, nx::TLV_TABLE_MOD),
            Self::TlvTableRequest => (NX, nx::TLV_TABLE_REQUEST),
            Self::TlvTableReply(_) => (NX, nx::TLV_TABLE_REPLY),
            Self::SetAsyncConfig2(_) => (NX, nx::SET_ASYNC_CONFIG2),
            Self::Resume(_) => (NX, nx::RESUME),
            Self::CtFlushZone(_) => (NX, nx::CT_FLUSH_ZONE),
            Self::PacketIn2(_) => (NX, nx::PACKET_IN2),
            Self::CtFlush(_) => (NX, nx::CT_FLUSH),
            Self::FlowMonitorCancel(_) => (ONF, onf::FLOW_MONITOR_CANCEL),
            Self::FlowMonitorPaused => (ONF, onf::FLOW_MONITOR_PAUSED),
            Self::FlowMonitorResumed => (ONF, onf::FLOW_MONITOR_RESUMED),
            Self::RoleStatus(_) => (ONF, onf::ROLE_STATUS),
            Self::RequestForward(_) => (ONF, onf::REQUESTFORWARD),
            Self::Experimenter { experimenter, typ, .. } => (*experimenter, *typ),
            _ => return None,
        })
    }

    fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if let Some((experimenter, typ)) = self.experimenter() {
            out.put_u32(experimenter);
            out.put_u32(typ);
        }
        match self {
            Self::Hello(hello) => hello.encode_body(out)?,
            Self::Error(error) => error.encode_body(out),
            Self::EchoRequest(bytes) | Self::EchoReply(bytes) => out.put_slice(bytes),
            Self::FeaturesReply(features) => features.encode_body(out),
            Self::GetConfigReply(config) | Self::SetConfig(config) => config.encode_body(out),
            Self::PacketIn(packet) => packet.encode_body(out)?,
            Self::FlowRemoved(removed) => removed.encode_body(out)?,
            Self::PortStatus(status) => status.encode_body(out),
            Self::PacketOut(packet) => packet.encode_body(out)?,
            Self::FlowMod(flow_mod) => flow_mod.encode_body(out)?,
            Self::GroupMod(group_mod) => group_mod.encode_body(out)?,
            Self::PortMod(port_mod) => port_mod.encode_body(out),
            Self::MultipartRequest(request) => request.encode_body(out)?,
            Self::MultipartReply(reply) => reply.encode_body(out)?,
            Self::BundleControl(control) => control.encode_body(out),
            Self::BundleAdd(add) => add.encode_body(out),
            Self::TableMod(table_mod) => table_mod.encode_body(out),
            Self::QueueGetConfigRequest(port) => queue::encode_request(*port, out),
            Self::QueueGetConfigReply(reply) => reply.encode_body(out)?,
            Self::RoleRequest(role) | Self::RoleReply(role) => role.encode_body(out),
            Self::GetAsyncReply(config) | Self::SetAsync(config) | Self::SetAsyncConfig(config) => {
                config.encode_body(out);
            }
            Self::MeterMod(meter_mod) => meter_mod.encode_body(out)?,
            Self::SetPacketInFormat(n) | Self::FlowMonitorCancel(n) => out.put_u32(*n),
            Self::SetControllerId(n) | Self::CtFlushZone(n) => {
                out.put_bytes(0, 6);
                out.put_u16(*n);
            }
            Self::NxtPacketIn(packet) => packet.encode_body(out)?,
            Self::TlvTableMod(table_mod) => table_mod.encode_body(out),
            Self::TlvTableReply(reply) => reply.encode_body(out),
            Self::SetAsyncConfig2(config) => config.encode_body(out)?,
            Self::Resume(packet) | Self::PacketIn2(packet) => packet.encode_body(out)?,
            Self::CtFlush(flush) => flush.encode_body(out)?,
            Self::RoleStatus(status) => status.encode_body(out),
            Self::RequestForward(forward) => out.put_slice(&forward.message),
            Self::Experimenter { body, .. } | Self::Unknown { body, .. } => out.put_slice(body),
            Self::FeaturesRequest
            | Self::GetAsyncRequest
            | Self::TlvTableRequest
            | Self::FlowMonitorPaused
            | Self::FlowMonitorResumed
            | Self::GetConfigRequest
            | Self::BarrierRequest
            | Self::BarrierReply => {}
        }
        Ok(())
    }

    /// Reads one whole frame. Values this crate has no name for stay as they came; only structure is checked.
    ///
    /// Errors: [`DecodeError`]; [`DecodeError::Version`] for any message but HELLO that is not of OpenFlow 1.3.
    pub fn decode(frame: &Bytes) -> Result<(u32, Self), DecodeError> {
        let (header, mut body) = header::open(frame)?;
        let reader = &mut body;
        if header.version != VERSION && header.typ != kind::HELLO {
            return Err(DecodeError::Version { version: header.version });
        }
        let message = match header.typ {
            kind::HELLO => Self::Hello(Hello::decode_body(header.version, reader)?),
            kind::ERROR => Self::Error(ErrorMsg::decode_body(reader)?),
            kind::ECHO_REQUEST => Self::EchoRequest(reader.bytes()),
            kind::ECHO_REPLY => Self::EchoReply(reader.bytes()),
            kind::EXPERIMENTER => Self::decode_experimenter(reader)?,
            kind::FEATURES_REQUEST => Self::FeaturesRequest,
            kind::FEATURES_REPLY => Self::FeaturesReply(FeaturesReply::decode_body(reader)?),
            kind::GET_CONFIG_REQUEST => Self::GetConfigRequest,
            kind::GET_CONFIG_REPLY => Self::GetConfigReply(SwitchConfig::decode_body(reader)?),
            kind::SET_CONFIG => Self::SetConfig(SwitchConfig::decode_body(reader)?),
            kind::PACKET_IN => Self::PacketIn(PacketIn::decode_body(reader)?),
            kind::FLOW_REMOVED => Self::FlowRemoved(FlowRemoved::decode_body(reader)?),
            kind::PORT_STATUS => Self::PortStatus(PortStatus::decode_body(reader)?),
            kind::PACKET_OUT => Self::PacketOut(PacketOut::decode_body(reader)?),
            kind::FLOW_MOD => Self::FlowMod(FlowMod::decode_body(reader)?),
            kind::GROUP_MOD => Self::GroupMod(GroupMod::decode_body(reader)?),
            kind::PORT_MOD => Self::PortMod(PortMod::decode_body(reader)?),
            kind::MULTIPART_REQUEST => {
                Self::MultipartRequest(MultipartRequest::decode_body(reader)?)
            }
            kind::MULTIPART_REPLY => Self::MultipartReply(MultipartReply::decode_body(reader)?),
            kind::BARRIER_REQUEST => Self::BarrierRequest,
            kind::BARRIER_REPLY => Self::BarrierReply,
            kind::TABLE_MOD => Self::TableMod(TableMod::decode_body(reader)?),
            kind::QUEUE_GET_CONFIG_REQUEST => {
                Self::QueueGetConfigRequest(queue::decode_request(reader)?)
            }
            kind::QUEUE_GET_CONFIG_REPLY => {
                Self::QueueGetConfigReply(QueueConfigReply::decode_body(reader)?)
            }
            kind::ROLE_REQUEST => Self::RoleRequest(Role::decode_body(reader)?),
            kind::ROLE_REPLY => Self::RoleReply(Role::decode_body(reader)?),
            kind::GET_ASYNC_REQUEST => Self::GetAsyncRequest,
            kind::GET_ASYNC_REPLY => Self::GetAsyncReply(AsyncConfig::decode_body(reader)?),
            kind::SET_ASYNC => Self::SetAsync(AsyncConfig::decode_body(reader)?),
            kind::METER_MOD => Self::MeterMod(MeterMod::decode_body(reader)?),
            typ => Self::Unknown { typ, body: reader.bytes() },
        };
        reader.finish("message")?;
        Ok((header.xid, message))
    }

    fn decode_experimenter(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let experimenter = reader.u32("experimenter")?;
        let typ = reader.u32("experimenter type")?;
        let number = |reader: &mut Reader<'_>| {
            reader.skip("zeros", 6)?;
            reader.u16("number")
        };
        Ok(match (experimenter, typ) {
            (ONF, bundle::CONTROL) => Self::BundleControl(BundleControl::decode_body(reader)?),
            (ONF, bundle::ADD) => Self::BundleAdd(BundleAdd::decode_body(reader)?),
            (ONF, onf::FLOW_MONITOR_CANCEL) => Self::FlowMonitorCancel(reader.u32("monitor id")?),
            (ONF, onf::FLOW_MONITOR_PAUSED) => Self::FlowMonitorPaused,
            (ONF, onf::FLOW_MONITOR_RESUMED) => Self::FlowMonitorResumed,
            (ONF, onf::ROLE_STATUS) => Self::RoleStatus(RoleStatus::decode_body(reader)?),
            (ONF, onf::REQUESTFORWARD) => {
                Self::RequestForward(RequestForward { message: reader.bytes() })
            }
            (NX, nx::SET_PACKET_IN_FORMAT) => {
                Self::SetPacketInFormat(reader.u32("packet-in format")?)
            }
            (NX, nx::PACKET_IN) => Self::NxtPacketIn(NxtPacketIn::decode_body(reader)?),
            (NX, nx::SET_ASYNC_CONFIG) => Self::SetAsyncConfig(AsyncConfig::decode_body(reader)?),
            (NX, nx::SET_CONTROLLER_ID) => Self::SetControllerId(number(reader)?),
            (NX, nx::TLV_TABLE_MOD) => Self::TlvTableMod(TlvTableMod::decode_body(reader)?),
            (NX, nx::TLV_TABLE_REQUEST) => Self::TlvTableRequest,
            (NX, nx::TLV_TABLE_REPLY) => Self::TlvTableReply(TlvTableReply::decode_body(reader)?),
            (NX, nx::SET_ASYNC_CONFIG2) => {
                Self::SetAsyncConfig2(AsyncConfig2::decode_body(reader)?)
            }
            (NX, nx::RESUME) => Self::Resume(PacketIn2::decode_body(reader)?),
            (NX, nx::CT_FLUSH_ZONE) => Self::CtFlushZone(number(reader)?),
            (NX, nx::PACKET_IN2) => Self::PacketIn2(PacketIn2::decode_body(reader)?),
            (NX, nx::CT_FLUSH) => Self::CtFlush(CtFlush::decode_body(reader)?),
            _ => Self::Experimenter { experimenter, typ, body: reader.bytes() },
        })
    }
}
