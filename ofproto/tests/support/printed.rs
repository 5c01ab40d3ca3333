//! What ofp-print says of a flow mod.

use std::fmt::Write as _;

use rust_openflow::text::{self, Names};
use rust_openflow::{FlowMod, flow_flags};

/// The text of a flow mod that adds, without xid and message name.
pub(crate) fn printed(flow: &FlowMod) -> String {
    let mut line = "ADD ".to_owned();
    if flow.table != 0 {
        write!(line, "table:{} ", flow.table).unwrap();
    }
    let match_ = flow.match_.to_string();
    match (flow.priority, match_.is_empty()) {
        (0x8000, true) => {}
        (0x8000, false) => write!(line, "{match_} ").unwrap(),
        (priority, true) => write!(line, "priority={priority} ").unwrap(),
        (priority, false) => write!(line, "priority={priority},{match_} ").unwrap(),
    }
    // All ones are what a modification has that leaves the cookie as it is.
    if flow.cookie != 0 && flow.cookie != u64::MAX {
        write!(line, "cookie:{:#x} ", flow.cookie).unwrap();
    }
    if flow.idle_timeout != 0 {
        write!(line, "idle:{} ", flow.idle_timeout).unwrap();
    }
    if flow.hard_timeout != 0 {
        write!(line, "hard:{} ", flow.hard_timeout).unwrap();
    }
    for (bit, name) in flow_flags::NAMES.iter().enumerate() {
        if flow.flags >> bit & 1 == 1 {
            write!(line, "{name} ").unwrap();
        }
    }
    let actions = text::instructions(&flow.instructions, &Names::default());
    write!(line, "actions={actions}").unwrap();
    line
}
