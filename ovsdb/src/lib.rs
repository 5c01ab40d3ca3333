//! A client for OVSDB, the database protocol of Open vSwitch (RFC 7047 and ovsdb-server(7)).
//!
//! Covers: JSON-RPC 1.0 on an unframed stream, the server's schema, `monitor_cond` with `update2` (and `monitor` for
//! servers without it), a local replica, and transactions. Leaves out: clustering (leader choice,
//! `monitor_cond_since`), TLS, and changing a monitor's conditions while it runs.
//!
//! Start at [`vswitch::connect`]: it gives a handle with the few `Open_vSwitch` tables Weir reads, and a
//! [`Driver`] that the caller spawns. [`client::connect`] is the same for any database and any set of tables.
//!
//! Layers, bottom up: [`value`] and [`schema`] (typed columns), [`rpc`] (bytes to messages), [`op`] (what a
//! transaction says), [`monitor`] (what a server reports), [`replica`] (rows and change sets), [`client`] (one
//! connection after another), [`vswitch`] (typed rows).
//!
//! The library spawns nothing. All that a server can make it allocate has a limit, see [`Limits`].

#![warn(missing_docs)]

pub mod client;
mod error;
pub mod monitor;
pub mod op;
pub mod replica;
pub mod rpc;
pub mod schema;
pub mod value;
pub mod vswitch;

pub use client::{Driver, Limits, Options, Target, TargetError};
pub use error::{Error, ProtocolError, Result};
pub use value::{Atom, Uuid, Value};
