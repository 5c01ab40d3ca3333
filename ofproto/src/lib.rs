//! OpenFlow 1.3 as Open vSwitch speaks it: every message and multipart, match fields and actions, the Nicira and ONF
//! extensions, the text of ovs-ofctl, and, with the feature `tokio`, a connection to a switch.
//!
//! # Where to start
//!
//! | for | see |
//! |---|---|
//! | bytes to a message and back | [`Message::decode`], [`Message::encode`] |
//! | a flow | [`FlowMod`], [`Match`], [`Action`], [`Instruction`] |
//! | groups, meters | [`GroupMod`], [`MeterMod`] |
//! | what a switch has and counts | [`MultipartRequest`], [`MultipartBody`]; [`multipart::Reassembly`] for long replies |
//! | packets to the controller | [`PacketIn`], [`PacketIn2`] with userdata, [`Message::Resume`] |
//! | changes to flows as they happen | [`FlowMonitorRequest`], [`FlowUpdate`] |
//! | all or nothing | [`bundle`] |
//! | text as ovs-ofctl writes and reads it | [`text`] |
//! | a switch | `conn::connect` (feature `tokio`) |
//! | a shell | the program `rust-openflow` (feature `cli`, on by default) |
//!
//! # What holds
//!
//! - Decoding reads structure and keeps what it does not know, byte for byte. It never panics, and never allocates
//!   more than a few times the bytes it was given. A [`DecodeError`] says what, where, and how many bytes.
//! - Encoding writes what OVS itself would write for the same flow, so that wanted and installed flows can be
//!   compared by value. What has no encoding is an [`EncodeError`]; nothing is cut short.
//! - Text is that of OVS 3.1, tested against `ovs-ofctl` for every kind of message.
//! - Left out: other OpenFlow versions, TLS, and the rules a switch has beyond structure (prerequisites of fields are
//!   there as data, [`oxm::FieldInfo`]).
//!
//! # Examples
//!
//! A flow to bytes and back:
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
//!
//! Text both ways, of flows and of messages:
//!
//! ```
//! use rust_openflow::{Message, text};
//!
//! let flow = text::parse_flow("table=5,priority=100,tcp,nw_src=10.0.0.0/8 actions=goto_table:6")?.into_add();
//! assert_eq!(flow.to_string(), "table=5, priority=100,tcp,nw_src=10.0.0.0/8 actions=goto_table:6");
//!
//! let mut bytes = bytes::BytesMut::new();
//! Message::FlowMod(flow).encode(7, &mut bytes)?;
//! assert_eq!(
//!     text::print(&bytes.freeze())?,
//!     "OFPT_FLOW_MOD (OF1.3) (xid=0x7): ADD table:5 priority=100,tcp,nw_src=10.0.0.0/8 actions=goto_table:6\n",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What came from a switch:
//!
//! ```
//! use rust_openflow::{Message, MultipartBody};
//!
//! // A part of a reply: the counters of flows together.
//! let frame = bytes::Bytes::from_static(&[
//!     4, 19, 0, 40, 0, 0, 0, 9, 0, 2, 0, 0, 0, 0, 0, 0, // header, multipart header
//!     0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 44, 0, 0, 0, 2, 0, 0, 0, 0,
//! ]);
//! let (9, Message::MultipartReply(reply)) = Message::decode(&frame)? else { panic!() };
//! let MultipartBody::Aggregate(total) = reply.body else { panic!() };
//! assert_eq!((total.packets, total.bytes, total.flows), (5, 300, 2));
//! # Ok::<(), rust_openflow::DecodeError>(())
//! ```
#![cfg_attr(
    feature = "tokio",
    doc = r##"
A bundle over a connection. The driver is the caller's to poll, beside whatever else it does:

```no_run
use rust_openflow::{FlowMod, Match, Options, Target, connect, text};

# async fn run() -> Result<(), Box<dyn std::error::Error>> {
let target: Target = "unix:/run/openvswitch/br0.mgmt".parse()?;
let (connection, driver, _events) = connect(&target, Options::default()).await?;
let work = async {
    let add = text::parse_flow("table=5,priority=100,tcp actions=normal")?.into_add();
    let remove = FlowMod::delete_strict(5, 90, Match::ip());
    // All of it or nothing; the error names the flow that was refused.
    connection.bundle(&[add, remove]).await?;
    Ok(())
};
tokio::select! {
    done = work => done,
    ended = driver => Err(format!("connection ended: {ended:?}").into()),
}
# }
```
"##
)]
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

pub use action::{
    Action, BundleAction, ControllerAction, CtAction, EncapAction, EncapProperty, LearnAction,
    LearnSource, LearnSpec, LearnTarget, MultipathAction, NatAction, NatRange, SampleAction,
    Subfield,
};
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
