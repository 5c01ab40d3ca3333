//! OpenFlow 1.3 as Open vSwitch speaks it: messages, match fields, actions, the Nicira and ONF extensions that a
//! flow pipeline needs (registers, connection tracking, conjunctions, bundles), the text of ovs-ofctl, and, with
//! the feature `tokio`, a connection to a switch.
//!
//! Begin with [`Message`], [`FlowMod`] and [`Match`]; with `conn::connect` for a switch.
//!
//! - Decoding reads structure and keeps what it does not know, byte for byte. It never panics.
//! - Encoding writes what OVS itself would write for the same flow, so that wanted and installed flows can be
//!   compared by value. What has no encoding is an [`EncodeError`]; nothing is cut short.
//! - Left out: other OpenFlow versions, table features, meters and queues beyond their bytes, TLS.
//!
//! ```
//! use rust_openflow::{Action, Field, FlowMod, Instruction, Match, Message};
//!
//! let flow = FlowMod::add(
//!     5,
//!     100,
//!     Match::tcp().nw_src("10.0.0.0".parse()?, 8).with(Field::TcpDst, 80),
//!     [
//!         Instruction::ApplyActions(vec![Action::set_field(Field::Reg(0), 1)]),
//!         Instruction::GotoTable(6),
//!     ],
//! );
//! let mut bytes = bytes::BytesMut::new();
//! Message::FlowMod(flow.clone()).encode(1, &mut bytes)?;
//! assert_eq!(Message::decode(&bytes.freeze())?, (1, Message::FlowMod(flow)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(missing_docs)]
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod action;
mod async_config;
pub mod bundle;
pub mod config;
#[cfg(feature = "tokio")]
pub mod conn;
mod ct_flush;
mod error;
mod error_msg;
mod features;
mod flow_mod;
mod flow_removed;
mod group_mod;
mod header;
mod hello;
mod instruction;
mod message;
mod meter_mod;
pub mod multipart;
pub mod oxm;
mod packet;
mod packet_in2;
pub mod parts;
mod port_status;
mod property;
mod queue;
mod requestforward;
mod role;
mod table_mod;
pub mod text;
mod tlv_table;
pub mod types;
#[cfg(feature = "tokio")]
pub mod unixctl;
mod wire;

pub use action::{Action, ControllerAction, CtAction, NatAction, NatRange};
pub use async_config::{AsyncConfig, AsyncConfig2, AsyncProperty};
pub use bundle::{BundleAdd, BundleControl, BundleControlType};
pub use config::SwitchConfig;
#[cfg(feature = "tokio")]
pub use conn::{
    Backoff, BatchError, BundleError, ChunkError, ConnError, Connection, Driver, Event,
    FlowEntryStream, FlowStream, Generation, MultipartStream, Options, Reconnect, Refusal, Target,
    connect, connect_stream,
};
pub use ct_flush::{CtFlush, CtFlushProperty, CtTupleProperty};
pub use error::{DecodeError, EncodeError};
pub use error_msg::ErrorMsg;
pub use features::FeaturesReply;
pub use flow_mod::{FlowCommand, FlowMod, flow_flags, max_conjunctions};
pub use flow_removed::FlowRemoved;
pub use group_mod::{Bucket, GroupMod};
pub use header::Header;
pub use hello::{Hello, HelloElement};
pub use instruction::Instruction;
pub use message::Message;
pub use meter_mod::{MeterBand, MeterMod, meter_flags, meter_id};
pub use multipart::{
    AggregateStats, Counters, Desc, FlowChange, FlowEntries, FlowEntry, FlowMonitorRequest,
    FlowStats, FlowStatsRequest, FlowUpdate, GroupDesc, GroupFeatures, GroupStats, MeterConfig,
    MeterFeatures, MeterStats, MultipartBody, MultipartReply, MultipartRequest, PortStats,
    QueueStats, TableFeatures, TableProperty, TableStats,
};
pub use oxm::{Field, FieldMatch, Match};
pub use packet::{PacketIn, PacketOut};
pub use packet_in2::{NxtPacketIn, PacketIn2, PacketInProperty};
pub use port_status::{PortDesc, PortMod, PortStatus};
pub use queue::{QueueConfig, QueueConfigReply, QueueProperty};
pub use requestforward::RequestForward;
pub use role::{Role, RoleStatus};
pub use table_mod::TableMod;
pub use tlv_table::{TlvMap, TlvTableMod, TlvTableReply};
pub use types::{MacAddr, TABLE_ALL, port};
#[cfg(feature = "tokio")]
pub use unixctl::{UnixCtl, UnixCtlError};
