//! Lines that begin with a command, as files for `ovs-ofctl add-flows` hold them, against the bytes ovs-ofctl sends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/flow_text.rs"]
mod generator;
#[path = "support/ovs.rs"]
#[allow(dead_code, reason = "this test needs no switch")]
mod ovs;
#[path = "support/taker.rs"]
mod taker;

use std::io::Write as _;
use std::process::Output;

use bytes::BytesMut;
use generator::Random;
use rust_openflow::{Message, text};

const LINES: usize = 3_000;
const SEED: u64 = 0x5eed_c0de;

/// What a deletion has no use for.
const NOT_OF_DELETIONS: [&str; 7] = [
    "send_flow_rem",
    "check_overlap",
    "reset_counts",
    "no_packet_counts",
    "no_byte_counts",
    "idle_timeout=",
    "hard_timeout=",
];

/// A generated flow as a line with one of the five commands.
fn line(random: &mut Random) -> String {
    let flow = generator::flow(random);
    let (head, actions) = flow.split_once(" actions=").unwrap();
    let command = ["add", "modify", "modify_strict", "delete", "delete_strict"];
    let command = command[random.below(5) as usize];
    let deletes = command.starts_with("delete");
    let (mask, tables, group) =
        (random.bits() & random.bits(), random.chance(2), random.below(0xffff_ff00));
    let word = |word: &str| match word {
        _ if deletes && NOT_OF_DELETIONS.iter().any(|other| word.starts_with(other)) => None,
        _ if command == "delete" && word.starts_with("priority=") => None,
        _ if deletes && tables && word.starts_with("table=") => None,
        // Of a modification, a cookie without a mask says nothing.
        _ if word.starts_with("cookie=") && (deletes || (command != "add" && tables)) => {
            Some(format!("{word}/{mask:#x}"))
        }
        _ => Some(word.to_owned()),
    };
    let mut words: Vec<String> = head.split([',', ' ']).filter_map(word).collect();
    words.retain(|word| !word.is_empty());
    if !deletes {
        return format!("{command} {} actions={actions}", words.join(","));
    }
    if random.chance(3) {
        words.push(format!("out_port={}", ["LOCAL", "7", "controller", "any"][mask as usize % 4]));
    }
    if random.chance(3) {
        words.push(match group % 4 {
            0 => "out_group=any".to_owned(),
            _ => format!("out_group={group}"),
        });
    }
    format!("{command} {}", words.join(","))
}

/// Gives a file to ovs-ofctl, and what it sends to a switch.
fn add_flows(lines: &str) -> (Output, Vec<Vec<u8>>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.as_bytes()).unwrap();
    taker::run("add-flows", &[&file.path().display().to_string()])
}

#[test]
fn each_command_becomes_the_bytes_that_ovs_ofctl_sends() {
    let mut random = Random::new(SEED);
    let lines: Vec<String> = (0..LINES).map(|_| line(&mut random)).collect();
    let (output, theirs) = add_flows(&lines.join("\n"));
    let refusal = String::from_utf8_lossy(&output.stderr);
    let at = refusal.lines().find(|line| line.starts_with("ovs-ofctl"));
    let at = at.and_then(|line| line.split(':').nth(2)).and_then(|n| n.parse::<usize>().ok());
    let refused = at.and_then(|n| lines.get(n - 1));
    assert!(output.status.success(), "seed {SEED:#x}: ovs-ofctl refused {refused:?}: {refusal}");
    assert_eq!(theirs.len(), lines.len());
    for (line, bytes) in lines.iter().zip(&theirs) {
        let flow = text::parse_flow_mod(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let mut ours = BytesMut::new();
        Message::FlowMod(flow).encode(1, &mut ours).unwrap();
        assert_eq!(ours, *bytes, "seed {SEED:#x}: {line}");
    }
    // The same as a file.
    let flows = text::parse_flows(&lines.join("\n")).unwrap();
    assert_eq!(flows.len(), lines.len());
}

#[test]
fn commands_take_what_is_theirs() {
    for (line, word) in [
        ("delete ip,actions=drop", "actions"),
        ("delete priority=5,ip", "priority"),
        ("delete cookie=5", "cookie=5/-1"),
        ("delete_strict ip,idle_timeout=5", "idle_timeout"),
        ("add cookie=5/-1,actions=drop", "cookie"),
        ("modify ip", "actions="),
        ("modify out_port=5,actions=drop", "out_port"),
        ("paint ip,actions=drop", "paint"),
        ("add", "actions="),
    ] {
        let (output, sent) = add_flows(line);
        assert!(!output.status.success() && sent.is_empty(), "ovs-ofctl takes {line}");
        let error = text::parse_flow_mod(line).err().unwrap_or_else(|| panic!("we take {line}"));
        assert!(error.to_string().contains(word), "{line}: {error}");
    }
}
