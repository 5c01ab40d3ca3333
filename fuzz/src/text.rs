//! Flow text, as people paste it.

use bytes::BytesMut;
use rust_openflow::Message;
use rust_openflow::text::{self, Names};

/// Lines of flow text. What was read can be written, and reading that changes nothing any more.
pub fn flow_text(data: &[u8]) {
    let Ok(lines) = std::str::from_utf8(data) else { return };
    for line in lines.lines() {
        let Ok(flow) = text::parse_flow(line) else { continue };
        let flow = flow.into_add();
        // numbers too large for their field have text but no encoding: an error, not a panic
        let _ = Message::FlowMod(flow.clone()).encode(1, &mut BytesMut::new());
        let once = text::flow_mod(&flow, &Names::default());
        let Ok(again) = text::parse_flow(&once) else { panic!("{line:?} became {once:?}") };
        let twice = text::flow_mod(&again.into_add(), &Names::default());
        assert_eq!(once, twice, "{line:?}");
    }
}
