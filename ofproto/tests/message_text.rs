//! The text of every kind of message against `ovs-ofctl ofp-parse`, for generated values.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/messages.rs"]
mod messages;
#[path = "support/packets.rs"]
mod packets;
#[path = "support/strategy.rs"]
mod strategy;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use bytes::{Bytes, BytesMut};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rust_openflow::{Message, text};

/// Values of each kind.
const EACH: usize = 60;
/// The xid of the barriers between the messages, by which the output is taken apart.
const FENCE: u32 = 0xfe9c_e000;

fn encode(message: &Message, xid: u32) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(xid, &mut out).unwrap();
    out.freeze()
}

/// What ovs-ofctl says to each of these frames.
fn printed(frames: &[Bytes]) -> Vec<String> {
    let mut child = Command::new("ovs-ofctl")
        .args(["--no-names", "ofp-parse", "-"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test needs Open vSwitch (ovs-ofctl; Debian: openvswitch-common)");
    let mut input = child.stdin.take().unwrap();
    let fence = encode(&Message::BarrierReply, FENCE);
    let all: Vec<u8> = frames.iter().flat_map(|frame| [&frame[..], &fence[..]].concat()).collect();
    let writer = std::thread::spawn(move || input.write_all(&all));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fence = format!("OFPT_BARRIER_REPLY (OF1.3) (xid={FENCE:#x}):\n");
    let mut parts: Vec<String> = text.split(&fence).map(str::to_owned).collect();
    assert_eq!(parts.pop().as_deref(), Some(""));
    assert_eq!(parts.len(), frames.len());
    parts
}

/// The first line that differs, and the one before it.
fn difference(ours: &str, theirs: &str) -> String {
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.lines().collect(), theirs.lines().collect());
    let at = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    let line = |lines: &[&str], at| lines.get(at).copied().unwrap_or("(end)").to_owned();
    let before = at.checked_sub(1).map(|at| line(&ours, at)).unwrap_or_default();
    format!("{before}\nours:   {}\ntheirs: {}", line(&ours, at), line(&theirs, at))
}

/// Bytes to text is what ovs-ofctl prints, and bytes to value to bytes loses nothing, for every kind of message.
#[test]
fn ovs_ofctl_prints_the_same() {
    let mut runner = TestRunner::deterministic();
    let mut all = Vec::new();
    for (name, values) in messages::kinds() {
        for _ in 0..EACH {
            let message = values.new_tree(&mut runner).unwrap().current();
            assert_eq!(text::message_name(&message), Some(name));
            all.push((name, message));
        }
    }
    let frames: Vec<Bytes> = all.iter().map(|(_, m)| encode(m, messages::XID)).collect();
    let mut wrong: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (((name, message), frame), theirs) in all.iter().zip(&frames).zip(printed(&frames)) {
        assert_eq!(Message::decode(frame).unwrap(), (messages::XID, message.clone()), "{name}");
        let ours = text::print(frame).unwrap();
        if ours != theirs {
            let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            wrong.entry(*name).or_default().push(format!("{hex}\n{}", difference(&ours, &theirs)));
        }
    }
    let report: Vec<String> = wrong
        .iter()
        .map(|(name, list)| {
            format!("{name}: {} of {EACH} differ, such as\n{}", list.len(), list[0])
        })
        .collect();
    assert!(wrong.is_empty(), "{}", report.join("\n"));
}
