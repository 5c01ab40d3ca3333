//! Bytes and text against ovs-ofctl, for generated flows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/ovs.rs"]
#[allow(dead_code, reason = "this test needs no switch")]
mod ovs;
#[path = "support/printed.rs"]
mod printed;
#[path = "support/strategy.rs"]
mod strategy;

use std::io::Write as _;

use bytes::BytesMut;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rust_openflow::text::{self, Names};
use rust_openflow::{FlowMod, Message};

const FLOWS: usize = 600;

/// The messages in the output of `ovs-ofctl -mmmmm parse-flows`: what it says and the bytes.
fn messages(output: &str) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for line in output.lines() {
        if line.starts_with("OFPT_FLOW_MOD") {
            let text = line.split_once("): ").unwrap().1;
            all.push((text.to_owned(), Vec::new()));
        } else if line.get(8..10) == Some("  ") && !all.is_empty() {
            let hex = line[10..].split('|').next().unwrap().replace('-', " ");
            let bytes = hex.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap());
            all.last_mut().unwrap().1.extend(bytes);
        }
    }
    all
}

fn encode(flow: &FlowMod, xid: u32) -> Vec<u8> {
    let mut out = BytesMut::new();
    Message::FlowMod(flow.clone()).encode(xid, &mut out).unwrap();
    out.to_vec()
}

#[test]
fn ovs_ofctl_writes_the_same_bytes_and_text() {
    let mut runner = TestRunner::deterministic();
    let flows: Vec<FlowMod> =
        (0..FLOWS).map(|_| strategy::flows().new_tree(&mut runner).unwrap().current()).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for flow in &flows {
        writeln!(file, "{}", text::flow_mod(flow, &Names::default())).unwrap();
    }
    let path = file.path().display().to_string();
    let output = ovs::run("ovs-ofctl", &["-O", "OpenFlow13", "-mmmmm", "parse-flows", &path]);
    let refusal = String::from_utf8_lossy(&output.stderr);
    let line = refusal.split(':').nth(2).and_then(|n| n.parse::<usize>().ok());
    let refused = line.and_then(|n| flows.get(n - 1)).map(ToString::to_string);
    assert!(output.status.success(), "ovs-ofctl refused {refused:?}: {refusal}");
    let theirs = messages(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(theirs.len(), flows.len());
    for (n, (flow, (text, bytes))) in flows.iter().zip(&theirs).enumerate() {
        let xid = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
        assert_eq!(printed::printed(flow), *text, "flow {n}");
        assert_eq!(encode(flow, xid), *bytes, "flow {n}: {text}");
        let (_, message) = Message::decode(&bytes.clone().into()).unwrap();
        assert_eq!(message, Message::FlowMod(flow.clone()), "flow {n}: {text}");
    }
}
