//! The text of every kind of message against `ovs-ofctl ofp-parse`, for generated values.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/messages.rs"]
mod messages;
#[path = "support/packets.rs"]
mod packets;
#[path = "support/strategy.rs"]
mod strategy;

use std::collections::{BTreeMap, BTreeSet};
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

/// What a kind is on the wire: message type; experimenter and type, or multipart type and (of an experimenter's) those.
type Wire = (u8, u32, u32);

/// Every message of OpenFlow 1.3, every multipart both ways, and the extensions OVS has in OpenFlow 1.3 (those of
/// OpenFlow 1.0 that it still reads, such as `NXT_FLOW_AGE`, aside).
#[test]
fn every_kind_is_there() {
    const NX: u32 = 0x2320;
    const ONF: u32 = 0x4f4e_4600;
    let plain = (0..=29_u8).filter(|typ| !matches!(typ, 4 | 18 | 19)).map(|typ| (typ, 0, 0));
    let multiparts = (0..=13_u32).flat_map(|typ| [(18_u8, typ, 0), (19, typ, 0)]);
    let monitors = [(18, 0xffff, 1870), (19, 0xffff, 1870)];
    let nicira = [16, 17, 19, 20, 24, 25, 26, 27, 28, 29, 30, 32].map(|typ| (4, NX, typ));
    let onf = [1870, 1871, 1872, 1911, 2300, 2301, 2350].map(|typ| (4, ONF, typ));
    let expected: BTreeSet<Wire> =
        plain.chain(multiparts).chain(monitors).chain(nicira).chain(onf).collect();

    let mut runner = TestRunner::deterministic();
    let covered = messages::kinds().into_iter().map(|(_, values)| {
        let frame = encode(&values.new_tree(&mut runner).unwrap().current(), 1);
        let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        match frame[1] {
            4 => (4, number(8), number(12)),
            typ @ (18 | 19) => match number(8) >> 16 {
                0xffff => (typ, 0xffff, number(20)),
                multipart => (typ, multipart, 0),
            },
            typ => (typ, 0, 0),
        }
    });
    assert_eq!(covered.collect::<BTreeSet<Wire>>(), expected);
}

/// A message OVS has no name for is shown as the bytes it is, and keeps them.
#[test]
fn unknown_messages() {
    let unknown = [
        "041e000c0000000101020304",
        "0404001400000001000023200000270f01020304",
        "0404001400000001123456780000000101020304",
        "041200180000000100630000000000000102030405060708",
        "041300180000000100630000000000000102030405060708",
        "0413002000000001 ffff0000000000001234567800000001 0102030405060708",
        "0412002000000001 ffff00000000000000002320 0000270f 0102030405060708",
    ];
    let bytes = |hex: &str| -> Bytes {
        let hex: String = hex.split_whitespace().collect();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    };
    let frames: Vec<Bytes> = unknown.iter().map(|hex| bytes(hex)).collect();
    for (frame, theirs) in frames.iter().zip(printed(&frames)) {
        let (xid, message) = Message::decode(frame).unwrap();
        assert_eq!(text::message_name(&message), None);
        assert_eq!(encode(&message, xid), *frame);
        assert_eq!(text::print(frame).unwrap(), theirs);
    }
}
