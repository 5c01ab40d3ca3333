//! A client for OVSDB, the database protocol of Open vSwitch (RFC 7047 and ovsdb-server(7)).
//!
//! Covers: JSON-RPC 1.0 on an unframed stream over unix sockets, TCP and (feature `tls`) TLS, the server's schema,
//! `monitor_cond` with `update2` and conditions that change (and `monitor` for servers without it), a local replica
//! with exact change sets, transactions, locks, and one connection after another. Leaves out clustering: the choice of
//! a leader, and `monitor_cond_since`, which a stand-alone database answers with everything.
//!
//! # A tour
//!
//! [`vswitch::connect`] gives a handle on a switch's database, with typed rows for bridges and ports;
//! [`client::connect`] is the same for any database and tables. Either comes with a [`Driver`], a future that the
//! caller spawns and owns: it alone reads and writes the socket, and connects again for ever.
//!
//! **Watching.** The replica begins with all rows and follows updates. What changed comes as [`Changes`]: each changed
//! row as it was and as it is. After a lost connection the new rows are compared with the old ones, so that the sets
//! still add up, and nothing is told that did not happen:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use weir_ovsdb::client::{self, Shape, TableRequest};
//! use weir_ovsdb::replica::ChangeKind;
//! use weir_ovsdb::schema::AtomicType;
//! use weir_ovsdb::Options;
//!
//! let columns = [
//!     ("name", Shape::Set(AtomicType::String)),
//!     ("external_ids", Shape::Map(AtomicType::String, AtomicType::String)),
//! ];
//! let (observer, mut feed) = client::feed();
//! let (client, driver) = client::connect(
//!     "unix:/var/run/openvswitch/db.sock".parse()?,
//!     Options::default(),
//!     vec![TableRequest::required("Port", &columns)],
//!     observer,
//! );
//! let ports = async {
//!     while let Some(changes) = feed.next().await {
//!         for (uuid, change) in changes.rows("Port") {
//!             if let (ChangeKind::Inserted, Some(row)) = (change.kind(), change.after()) {
//!                 let port = row.with(uuid);
//!                 println!("{} is of {:?}", port.string("name"), port.key("external_ids", "iface-id"));
//!             }
//!         }
//!     }
//! };
//! tokio::select! { () = driver => {} () = ports => {} }
//! # drop(client); Ok(()) }
//! ```
//!
//! **Changing.** [`Client::transact`](client::Client::transact) runs [`op::Operation`]s, all or nothing, and says by
//! [`Refusal`] why not. When it returns, the observer has seen what it changed. Beside other writers, three tools: a
//! `mutate` touches single keys and members ([`op::Mutation::put`], [`vswitch::Vswitch::set_keys`]); a `wait` makes sure
//! that what was looked at is still so ([`op::Operation::unchanged`]), and
//! [`Client::optimistic`](client::Client::optimistic) looks again when it is not; a lock with
//! [`op::Operation::Assert`] keeps out those who ask for it ([`Client::lock`](client::Client::lock)).
//!
//! ```no_run
//! # async fn example(switch: weir_ovsdb::vswitch::Vswitch) -> weir_ovsdb::Result<()> {
//! use std::time::Duration;
//! use weir_ovsdb::Error;
//! use weir_ovsdb::op::{Mutation, Operation, Row};
//! use weir_ovsdb::Atom;
//!
//! // a port as ovs-vsctl adds it: one transaction, then ovs-vswitchd's word on it
//! let picture = switch.watch().borrow().clone().ok_or(Error::NotConnected)?;
//! let bridge = picture.bridges.get("br-int").ok_or_else(|| Error::NoBridge("br-int".into()))?;
//! let interface = Row::from([("name".into(), "p1".into()), ("type".into(), "internal".into())]);
//! let port = Row::from([("name".into(), "p1".into()), ("interfaces".into(), Atom::named("i").into())]);
//! let outcomes = switch
//!     .configure(
//!         vec![
//!             Operation::insert("Interface", interface).named("i"),
//!             Operation::insert("Port", port).named("p"),
//!             Operation::mutate("Bridge", bridge.uuid, [Mutation::insert("ports", Atom::named("p"))]),
//!         ],
//!         Duration::from_secs(5),
//!     )
//!     .await?;
//! let picture = switch.watch().borrow().clone().ok_or(Error::NotConnected)?;
//! let made = outcomes[0].uuid().and_then(|uuid| picture.interfaces.get(&uuid));
//! println!("OpenFlow port {:?}", made.and_then(|interface| interface.ofport));
//!
//! // keys of our own, beside those of others
//! switch.set_keys("Open_vSwitch", picture.system.uuid, "external_ids", &[("checked", "yes")], &[]).await?;
//! # Ok(()) }
//! ```
//!
//! **Elsewhere.** A server on another host, with certificates on both sides:
//!
//! ```no_run
//! # #[cfg(feature = "tls")]
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use weir_ovsdb::{Options, Tls, vswitch};
//!
//! let (ca, cert, key) = (std::fs::read("ca.pem")?, std::fs::read("cert.pem")?, std::fs::read("key.pem")?);
//! let tls = Tls::from_pem(&ca, Some((&cert, &key)))?;
//! let options = Options { tls: Some(tls), ..Options::default() };
//! let (switch, driver) = vswitch::connect("ssl:192.0.2.7:6640".parse()?, options);
//! # drop((switch, driver)); Ok(()) }
//! ```
//!
//! # Layers
//!
//! Bottom up: [`value`] and [`schema`] (typed columns), [`rpc`] (bytes to messages), [`op`] (what a transaction says),
//! [`monitor`] (what a server reports), [`replica`] (rows and change sets), [`client`] (one connection after another),
//! [`vswitch`] (typed rows). Those up to [`replica`] do no I/O and can be used alone.
//!
//! The library spawns nothing. All that a server can make it allocate has a limit, see [`Limits`]; whatever breaks a
//! limit or the protocol ends that connection with a reason ([`Client::trouble`](client::Client::trouble)) and leaves
//! the replica as it was before.
//!
//! # Features
//!
//! `tls`: [`Target::Tls`] (`ssl:`), with rustls and ring.

#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::cast_possible_truncation))]

pub mod client;
mod error;
pub mod monitor;
pub mod op;
pub mod replica;
pub mod rpc;
pub mod schema;
pub mod value;
pub mod vswitch;

pub use client::{Client, Driver, Limits, Options, Target, TargetError};
#[cfg(feature = "tls")]
pub use client::{Tls, TlsError};
pub use error::{Error, ProtocolError, Refusal, Result};
pub use replica::{Changes, Replica};
pub use value::{Atom, Uuid, Value};
