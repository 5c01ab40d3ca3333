//! The message, and who reads and writes which.

use bytes::{BufMut, Bytes, BytesMut};

use crate::bundle::{self, BundleAdd, BundleControl};
use crate::config::SwitchConfig;
use crate::error::{DecodeError, EncodeError};
use crate::error_msg::ErrorMsg;
use crate::features::FeaturesReply;
use crate::flow_mod::FlowMod;
use crate::flow_removed::FlowRemoved;
use crate::group_mod::GroupMod;
use crate::header::{self, framed};
use crate::hello::Hello;
use crate::multipart::{MultipartReply, MultipartRequest};
use crate::packet::{PacketIn, PacketOut};
use crate::port_status::{PortMod, PortStatus};
use crate::types::{ONF, VERSION};

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
    pub(crate) const MULTIPART_REQUEST: u8 = 18;
    pub(crate) const MULTIPART_REPLY: u8 = 19;
    pub(crate) const BARRIER_REQUEST: u8 = 20;
    pub(crate) const BARRIER_REPLY: u8 = 21;
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
    /// Asks for statistics or descriptions.
    MultipartRequest(MultipartRequest),
    /// A part of the answer.
    MultipartReply(MultipartReply),
    /// Finish what came before.
    BarrierRequest,
    /// Finished.
    BarrierReply,
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
            Self::BundleControl(_) | Self::BundleAdd(_) | Self::Experimenter { .. } => {
                kind::EXPERIMENTER
            }
            Self::Unknown { typ, .. } => *typ,
        }
    }

    fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
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
            Self::Experimenter { experimenter, typ, body } => {
                out.put_u32(*experimenter);
                out.put_u32(*typ);
                out.put_slice(body);
            }
            Self::Unknown { body, .. } => out.put_slice(body),
            Self::FeaturesRequest
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
            kind::EXPERIMENTER => {
                let experimenter = reader.u32("experimenter")?;
                let typ = reader.u32("experimenter type")?;
                match (experimenter, typ) {
                    (ONF, bundle::CONTROL) => {
                        Self::BundleControl(BundleControl::decode_body(reader)?)
                    }
                    (ONF, bundle::ADD) => Self::BundleAdd(BundleAdd::decode_body(reader)?),
                    _ => Self::Experimenter { experimenter, typ, body: reader.bytes() },
                }
            }
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
            typ => Self::Unknown { typ, body: reader.bytes() },
        };
        reader.finish("message")?;
        Ok((header.xid, message))
    }
}
