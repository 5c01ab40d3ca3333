//! What Kubernetes policies mean, without any input or output.
//!
//! Everything that decides or explains a verdict in Weir stands on this crate:
//!
//! - [`labels`], [`net`], [`port`], [`rule`], [`group`]: the normal form of policies and of what they select;
//! - [`world`]: an immutable picture of namespaces, pods, nodes and policies;
//! - [`eval`] and [`explain`]: the oracle (world + connection -> verdict with its reasons), written for clarity;
//! - [`analyze`]: everything one end may open to another, as exact sets of ports;
//! - [`state`]: what one node is told, and the changes that travel on the wire;
//! - [`compile`]: world -> the state of one node, from nothing (the incremental path must equal it);
//! - `k8s` (feature): manifests -> normal form; `strategy` (feature): generators for tests.
//!
//! # The semantics in short
//!
//! A policy *selects* pods of its own namespace and *isolates* them in one or both directions. An isolated pod may use
//! what the *union* of all rules of all policies that select it allows, and nothing else; a pod that nothing isolates
//! may use everything. A connection needs the egress side of its source and the ingress side of its destination. There
//! is no order and no deny. Rules are for initiators: replies follow the connection. The numbered rules (NP-n) that
//! comments cite are listed in `docs/semantics.md`.

#![allow(
    clippy::clone_on_ref_ptr,
    reason = "`Str` is a string that happens to be counted; `.clone()` reads as for any string"
)]

pub mod analyze;
pub mod claim;
pub mod compile;
pub mod eval;
pub mod explain;
pub mod group;
pub mod ids;
#[cfg(feature = "k8s")]
pub mod k8s;
pub mod labels;
pub mod net;
pub mod port;
pub mod rule;
pub mod state;
#[cfg(feature = "strategy")]
pub mod strategy;
pub mod world;
