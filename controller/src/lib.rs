//! weir-controller: works out what each node needs and serves it.
//!
//! One direction: a source sees an object change and yields an [`event::Event`]; the [`index`] works out what changes
//! for which node.

pub mod event;
pub mod index;
