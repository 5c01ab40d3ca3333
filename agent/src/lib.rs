//! The agent of one node: from the node's state and its ports to the flows on its bridge.
//!
//! ```text
//! uplink -> NodeState --+
//! ports  -> Ports ------+-> classes -> desired -> diff -> switch: one bundle
//! ```
//!
//! The middle is pure: [`classes`], [`flows`], [`desired`], [`diff`] and the [`pipeline`] they write are functions of
//! their inputs; [`interp`] runs packets through a flow table as OVS does, for tests and tools. The edges own the
//! connections: [`ports`] reads OVSDB, [`uplink`] follows the controller, [`switch`] talks OpenFlow, and [`reconcile`] is
//! the single writer that ties them together. [`metrics`] is for Prometheus.

pub mod app;
pub mod args;
pub mod classes;
pub mod conntrack;
pub mod desired;
pub mod diff;
pub mod flow;
pub mod flows;
pub mod inspect;
pub mod interp;
pub mod metrics;
pub mod mirror;
pub mod pipeline;
pub mod ports;
pub mod reconcile;
pub mod seam;
pub mod store;
pub mod sweep;
pub mod switch;
pub mod symbols;
pub mod uplink;
