//! weir-controller: works out what each node needs and serves it.
//!
//! One direction: a [`source`] sees an object change and yields an [`event::Event`]; the [`index`] works out what changes
//! for which node; [`publish`] owns it and hands encoded batches to the streams that [`serve`] keeps; [`status`] keeps what
//! the nodes have made of it, and writes it to a cluster while this replica holds the [`lease`]. [`certs`] keeps the
//! certificate of the listening socket, [`pki`] makes certificates where nobody else does, [`cluster`] is the way to an API
//! server, [`metrics`] is for Prometheus. [`app`] puts these together.

#![allow(
    clippy::clone_on_ref_ptr,
    reason = "`Str` is shared text; `.clone()` on it reads as what it is"
)]

/// What allocates in the program and in what measures it (`docs/decisions/an-allocator-for-the-controller.md`).
pub use mimalloc::MiMalloc as Allocator;

pub mod app;
pub mod args;
pub mod certs;
pub mod cluster;
pub mod event;
#[cfg(test)]
mod fake_client;
pub mod index;
pub mod lease;
pub mod metrics;
pub mod peers;
pub mod pki;
pub mod publish;
pub mod serve;
pub mod source;
pub mod status;
