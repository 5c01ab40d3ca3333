//! Flow text over all fields and actions, both ways, against ovs-ofctl.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/flow_text.rs"]
mod generator;
#[path = "support/ovs.rs"]
#[allow(dead_code, reason = "this test needs no switch")]
mod ovs;
#[path = "support/printed.rs"]
mod printed;

use std::io::Write as _;

use bytes::BytesMut;
use rust_openflow::{FlowMod, Message, text};

const FLOWS: usize = 20_000;
/// `WEIR_FLOW_SEED`, a number, tries others.
const SEED: u64 = 0x5eed_f10e;

fn seed() -> u64 {
    std::env::var("WEIR_FLOW_SEED").map_or(SEED, |seed| seed.parse().unwrap())
}

fn encode(flow: &FlowMod) -> Vec<u8> {
    let mut out = BytesMut::new();
    Message::FlowMod(flow.clone()).encode(1, &mut out).unwrap();
    out.to_vec()
}

/// The messages in the output of `ovs-ofctl -mmmmm parse-flows`, with the xid set to 1.
fn messages(output: &str) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for line in output.lines() {
        if line.starts_with("OFPT_FLOW_MOD") {
            all.push(Vec::new());
        } else if let (Some("  "), Some(bytes)) = (line.get(8..10), all.last_mut()) {
            let hex = line[10..].split('|').next().unwrap().replace('-', " ");
            bytes.extend(hex.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap()));
        }
    }
    for bytes in &mut all {
        bytes[4..8].copy_from_slice(&[0, 0, 0, 1]);
    }
    all
}

#[test]
fn generated_flows_become_the_bytes_and_the_text_of_ovs_ofctl() {
    let seed = seed();
    let mut random = generator::Random::new(seed);
    let lines: Vec<String> = (0..FLOWS).map(|_| generator::flow(&mut random)).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.join("\n").as_bytes()).unwrap();
    let path = file.path().display().to_string();
    let output = ovs::run("ovs-ofctl", &["-O", "OpenFlow13", "-mmmmm", "parse-flows", &path]);
    let refusal = String::from_utf8_lossy(&output.stderr);
    let at = refusal.lines().find(|l| l.starts_with("ovs-ofctl"));
    let line = at.and_then(|l| l.split(':').nth(2)).and_then(|n| n.parse::<usize>().ok());
    let refused = line.and_then(|n| lines.get(n - 1));
    assert!(output.status.success(), "seed {seed:#x}: ovs-ofctl refused {refused:?}: {refusal}");
    let theirs = messages(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(theirs.len(), lines.len());

    // Text to bytes.
    for (line, bytes) in lines.iter().zip(&theirs) {
        let flow = text::parse_flow_mod(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(encode(&flow), *bytes, "seed {seed:#x}: {line}");
    }

    // Bytes to text, and bytes to bytes.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&theirs.concat()).unwrap();
    let path = file.path().display().to_string();
    let output = ovs::must("ovs-ofctl", &["--no-names", "ofp-parse", &path]);
    let texts: Vec<&str> = output.lines().filter(|l| l.starts_with("OFPT_FLOW_MOD")).collect();
    assert_eq!(texts.len(), lines.len());
    for ((line, bytes), text) in lines.iter().zip(&theirs).zip(texts) {
        let text = text.split_once("): ").unwrap().1;
        let (_, message) = Message::decode(&bytes.clone().into()).unwrap();
        let Message::FlowMod(flow) = message else { panic!("{line}") };
        assert_eq!(encode(&flow), *bytes, "{line}");
        assert_eq!(printed::printed(&flow), text, "seed {seed:#x}: {line}");
        // What is printed is read again, as the same bytes but for spellings that both have.
        let printed = text::flow_mod(&flow, &text::Names::default());
        let again = text::parse_flow_mod(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"));
        assert_eq!(text::flow_mod(&again, &text::Names::default()), printed, "{line}");
    }
}
