//! Lines that begin with a command, as files for `ovs-ofctl add-flows` hold them, against the bytes ovs-ofctl sends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/flow_text.rs"]
mod generator;
#[path = "support/ovs.rs"]
#[allow(dead_code, reason = "this test needs no switch")]
mod ovs;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use bytes::BytesMut;
use generator::Random;
use rust_openflow::{Message, text};

const LINES: usize = 3_000;
const SEED: u64 = 0x5eed_c0de;

const HELLO: u8 = 0;
const FLOW_MOD: u8 = 14;
const BARRIER_REQUEST: u8 = 20;
const BARRIER_REPLY: u8 = 21;

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

/// Plays a switch that takes everything; gives the flow mods, with the xid set to 1.
fn take(mut stream: UnixStream) -> Vec<Vec<u8>> {
    let mut taken = Vec::new();
    // Whoever reads the file first and refuses it is gone by now.
    if stream.write_all(&[4, HELLO, 0, 8, 0, 0, 0, 1]).is_err() {
        return taken;
    }
    let mut head = [0; 8];
    while stream.read_exact(&mut head).is_ok() {
        let mut frame = head.to_vec();
        frame.resize(usize::from(u16::from_be_bytes([head[2], head[3]])), 0);
        stream.read_exact(&mut frame[8..]).unwrap();
        match frame[1] {
            HELLO => {}
            FLOW_MOD => {
                frame[4..8].copy_from_slice(&[0, 0, 0, 1]);
                taken.push(frame);
            }
            BARRIER_REQUEST => {
                frame[1] = BARRIER_REPLY;
                stream.write_all(&frame).unwrap();
            }
            other => panic!("message of type {other}"),
        }
    }
    taken
}

/// Gives a file to ovs-ofctl, and what it sends to a switch.
fn add_flows(lines: &str) -> (std::process::Output, Vec<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let (file, socket) = (dir.path().join("flows"), dir.path().join("switch"));
    std::fs::write(&file, lines).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let switch = std::thread::spawn(move || take(listener.accept().unwrap().0));
    let (target, file) = (format!("unix:{}", socket.display()), file.display().to_string());
    let args = ["-O", "OpenFlow13", "--no-names", "--timeout=120", "add-flows", &target, &file];
    let output = ovs::run("ovs-ofctl", &args);
    // Where it did not connect there is nothing to wait for.
    drop(UnixStream::connect(&socket));
    (output, switch.join().unwrap())
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
