//! What the fuzz targets do with their bytes: read them as Weir reads what a switch, a database, a person or a disk
//! gives it, and check what must hold for any input.
//!
//! The programs of `fuzz_targets/` call these with whatever libFuzzer finds; `tests/corpus.rs` calls them with the
//! files of `corpus/` on every test run. A panic is the finding.

mod agent;
mod api;
mod manifests;
mod openflow;
mod ovsdb;
mod split;
mod text;

pub use agent::agent_store;
pub use api::api_change;
pub use manifests::manifests;
pub use openflow::{
    openflow_actions, openflow_flow, openflow_match, openflow_message, openflow_stream,
};
pub use ovsdb::{ovsdb_stream, ovsdb_update2, ovsdb_value};
pub use text::flow_text;

/// One target's body.
pub type Body = fn(&[u8]);

/// Every target, by the name of its program and of its directory in `corpus/`.
pub const TARGETS: [(&str, Body); 12] = [
    ("openflow_message", openflow_message),
    ("openflow_stream", openflow_stream),
    ("openflow_flow", openflow_flow),
    ("openflow_match", openflow_match),
    ("openflow_actions", openflow_actions),
    ("flow_text", flow_text),
    ("ovsdb_stream", ovsdb_stream),
    ("ovsdb_value", ovsdb_value),
    ("ovsdb_update2", ovsdb_update2),
    ("manifests", manifests),
    ("api_change", api_change),
    ("agent_store", agent_store),
];
