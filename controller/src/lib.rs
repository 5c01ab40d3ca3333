//! weir-controller: works out what each node needs and serves it.
//!
//! One direction: a [`source`] sees an object change and yields an [`event::Event`]; the [`index`] works out what changes
//! for which node; [`publish`] owns it and hands encoded batches to the streams that [`serve`] keeps; [`status`] keeps what
//! the nodes have made of it. [`app`] puts these together, [`pki`] makes the certificates where nobody else does.

#![allow(
    clippy::clone_on_ref_ptr,
    reason = "`Str` is shared text; `.clone()` on it reads as what it is"
)]

pub mod app;
pub mod args;
pub mod event;
pub mod index;
pub mod pki;
pub mod publish;
pub mod serve;
pub mod source;
pub mod status;
