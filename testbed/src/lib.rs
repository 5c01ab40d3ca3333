//! Nodes, pods and real traffic on one machine, for Weir's tests and demonstration.
//!
//! Start with [`bed::Testbed`]: nodes are network namespaces with an Open vSwitch each, pods are namespaces on their
//! bridges, and [`probe`] makes real connections between them. [`home`] is why a crashed run leaves nothing behind.
//!
//! Everything is local to namespaces and one directory; several testbeds live side by side.

pub mod address;
pub mod app;
pub mod args;
pub mod bed;
pub mod cluster;
pub mod command;
pub mod conformance;
pub mod daemon;
pub mod demo;
pub mod dummy;
pub mod error;
pub mod fleet;
pub mod home;
pub mod host;
pub mod image;
pub mod interrupt;
pub mod manifests;
pub mod matrix;
pub mod netns;
pub mod out;
pub mod ovs;
pub mod probe;
pub mod require;
pub mod scenario;
pub mod upgrade;
pub mod wait;

pub use bed::{Layout, Node, Testbed};
pub use error::{Error, Result};
pub use host::{Host, Outside, PortIds, Workload};
pub use probe::{Budget, Outcome, Service, Stream, tcp, udp};
