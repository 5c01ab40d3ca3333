//! Flows as a real switch gives them back: byte for byte what this crate sent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/flow_text.rs"]
mod generator;
#[path = "support/ovs.rs"]
#[allow(dead_code, reason = "this test needs no dump of ovs-ofctl's")]
mod ovs;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ovs::Switch;
use rust_openflow::{
    FlowMod, FlowStats, FlowStatsRequest, Hello, Message, MultipartBody, MultipartRequest, text,
};

const FLOWS: usize = 2_000;
const SEED: u64 = 0x0f10_5eed;

/// A connection that sends and reads whole frames.
struct Wire(UnixStream);

impl Wire {
    fn connect(switch: &Switch) -> Self {
        let stream = UnixStream::connect(switch.mgmt()).unwrap();
        // Nothing here takes long; a switch that says nothing has failed.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut wire = Self(stream);
        wire.send(&Message::Hello(Hello::default()), 1);
        wire
    }

    fn send(&mut self, message: &Message, xid: u32) {
        let mut out = BytesMut::new();
        message.encode(xid, &mut out).unwrap();
        self.0.write_all(&out).unwrap();
    }

    fn receive(&mut self) -> Bytes {
        let mut header = [0; 8];
        self.0.read_exact(&mut header).unwrap();
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let mut frame = header.to_vec();
        frame.resize(length, 0);
        self.0.read_exact(&mut frame[8..]).unwrap();
        frame.into()
    }
}

fn body(flow: &FlowMod) -> Vec<u8> {
    let mut out = BytesMut::new();
    Message::FlowMod(flow.clone()).encode(1, &mut out).unwrap();
    out[48..].to_vec()
}

#[test]
fn what_a_switch_gives_back_is_what_was_sent() {
    let mut random = generator::Random::new(SEED);
    // Groups and meters would have to exist; an unmapped option has no length in a switch; only the switch itself may
    // match dp_hash and recirc_id, and has table 254 to itself. Nothing else is left out.
    let absent =
        ["group:", "meter", "tun_metadata", "check_overlap", "recirc_id", "dp_hash", "table=254"];
    let mut flows: BTreeMap<u64, (String, FlowMod)> = BTreeMap::new();
    let mut keys = std::collections::BTreeSet::new();
    while flows.len() < FLOWS {
        let line = generator::flow(&mut random);
        if absent.iter().any(|word| line.contains(word)) {
            continue;
        }
        let mut flow = text::parse_flow_mod(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        if !keys.insert((flow.table, flow.priority, flow.match_.clone())) {
            continue;
        }
        // Timeouts would end flows while the test looks.
        (flow.idle_timeout, flow.hard_timeout) =
            (flow.idle_timeout | 0x1000, flow.hard_timeout | 0x1000);
        flow.cookie = flows.len() as u64;
        flows.insert(flow.cookie, (line, flow));
    }

    let switch = Switch::start();
    let mut wire = Wire::connect(&switch);
    let mut refused = BTreeMap::new();
    // A switch that waits with its answers reads no more, so they are read as it goes.
    for chunk in flows.values().collect::<Vec<_>>().chunks(40) {
        for (_, flow) in chunk {
            wire.send(&Message::FlowMod(flow.clone()), 100 + flow.cookie as u32);
        }
        wire.send(&Message::BarrierRequest, 2);
        loop {
            match Message::decode(&wire.receive()).unwrap() {
                (2, Message::BarrierReply) => break,
                (xid, Message::Error(error)) => {
                    refused.insert(u64::from(xid - 100), error.to_string());
                }
                _ => {}
            }
        }
    }
    let first = refused.iter().next().map(|(cookie, error)| (error, &flows[cookie].0));
    assert!(refused.is_empty(), "seed {SEED:#x}: {} flows refused: {first:?}", refused.len());

    wire.send(&Message::MultipartRequest(MultipartRequest::Flow(FlowStatsRequest::default())), 3);
    let mut dumped: Vec<FlowStats> = Vec::new();
    loop {
        let frame = wire.receive();
        let (xid, message) = Message::decode(&frame).unwrap();
        let Message::MultipartReply(reply) = &message else { continue };
        let mut again = BytesMut::new();
        message.encode(xid, &mut again).unwrap();
        assert!(again == frame, "seed {SEED:#x}: a part of the dump is not what it was");
        let more = reply.flags & 1 != 0;
        if let MultipartBody::Flow(flows) = &reply.body {
            dumped.extend(flows.iter().cloned());
        }
        if !more {
            break;
        }
    }
    assert_eq!(dumped.len(), flows.len());
    for stats in dumped {
        let (line, sent) = &flows[&stats.cookie];
        let back = FlowMod {
            match_: stats.match_,
            instructions: stats.instructions,
            ..FlowMod::default()
        };
        assert_eq!(body(&back), body(sent), "seed {SEED:#x}: {line}\n{back}");
        assert_eq!((stats.table, stats.priority), (sent.table, sent.priority), "{line}");
    }
}
