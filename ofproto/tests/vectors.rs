//! Bytes that ovs-ofctl and OVS wrote, both ways.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/printed.rs"]
mod printed;

use bytes::{Bytes, BytesMut};
use rust_openflow::text::{self, Names};
use rust_openflow::{
    Action, ErrorMsg, Field, FlowMod, Hello, Instruction, Match, Message, max_conjunctions,
};

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn encode(message: &Message, xid: u32) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(xid, &mut out).unwrap();
    out.freeze()
}

/// Every flow mod of the file decodes, encodes to the same bytes, and prints as ofp-print prints it. The ones that
/// hold what is kept as bytes are exempt from printing.
#[test]
fn flow_mods_both_ways() {
    let (mut checked, mut opaque, mut same) = (0, 0, 0);
    for block in include_str!("vectors/flow_mods.txt").split("\n\n").skip(1) {
        let line = |key: &str| {
            block.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_else(|| panic!("{block}"))
        };
        let (print, bytes) = (line("print ").trim(), hex(line("bytes ")));
        // Bytes of the text as it was given, and of the text as this crate prints it.
        let given = text::parse_flow_mod(line("flow "))
            .unwrap_or_else(|e| panic!("{e}: {}", line("flow ")));
        assert_eq!(encode(&Message::FlowMod(given), 1), bytes, "{block}");
        let (xid, message) = Message::decode(&bytes).unwrap_or_else(|e| panic!("{e}: {block}"));
        assert_eq!(xid, 1);
        assert_eq!(encode(&message, 1), bytes, "{block}");
        let Message::FlowMod(flow) = message else { panic!("{block}") };
        let text = printed::printed(&flow);
        if text.contains("unknown(") {
            opaque += 1;
            continue;
        }
        assert_eq!(text, print, "{block}");
        let line = text::flow_mod(&flow, &Names::default());
        let read = text::parse_flow(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let read = read.into_add();
        assert_eq!(text::flow_mod(&read, &Names::default()).trim(), line.trim());
        // Text does not say all of a flow (the max_len of an output, the words of an NSH header, the length of tunnel
        // metadata), so that bytes can differ where the texts are the same.
        same += usize::from(encode(&Message::FlowMod(read), 1) == bytes);
        checked += 1;
    }
    assert_eq!((checked, opaque, same), (325, 0, 311));
}

/// OVS 3.1.0: ovs-ofctl -O OpenFlow13 -mmmmm parse-flow 'table=45,priority=100,reg1=7 actions=conjunction(258,2/3)'
#[test]
fn conjunction() {
    let flow = FlowMod::add(
        45,
        100,
        Match::new().with(Field::Reg(1), 7),
        [Instruction::ApplyActions(vec![Action::Conjunction { id: 258, clause: 1, n_clauses: 3 }])],
    );
    assert_eq!(flow.to_string(), "table=45, priority=100,reg1=0x7 actions=conjunction(258,2/3)");
    let action = [0xff, 0xff, 0, 16, 0, 0, 0x23, 0x20, 0, 34, 1, 3, 0, 0, 1, 2];
    assert!(encode(&Message::FlowMod(flow), 1).ends_with(&action));
}

/// OVS 3.1.0: ovs-ofctl encode-hello 0x10, and 0x7e, which is what a switch with all versions sends.
#[test]
fn hello() {
    let ours = hex("04 00 00 10 00 00 00 01 00 01 00 08 00 00 00 10");
    assert_eq!(encode(&Message::Hello(Hello::default()), 1), ours);
    let theirs = hex("06 00 00 10 00 00 00 01 00 01 00 08 00 00 00 7e");
    let (_, Message::Hello(hello)) = Message::decode(&theirs).unwrap() else { panic!() };
    assert!(hello.offers(4) && hello.offers(6) && !hello.offers(7) && !hello.offers(0));
    assert_eq!(encode(&Message::Hello(hello), 1), theirs);
    // OpenFlow 1.3, "Hello": without a bitmap the header's version and all below are offered.
    let bare = hex("05 00 00 08 00 00 00 01");
    let (_, Message::Hello(hello)) = Message::decode(&bare).unwrap() else { panic!() };
    assert!(hello.offers(4) && hello.offers(5) && !hello.offers(6));
}

/// OpenFlow 1.3, "Error Message"; an experimenter's error has its number behind the type.
#[test]
fn errors() {
    let bytes = hex("04 01 00 12 00 00 00 07 ff ff 09 09 4f 4e 46 00 01 02");
    let (xid, Message::Error(error)) = Message::decode(&bytes).unwrap() else { panic!() };
    assert_eq!((xid, error.to_string().as_str()), (7, "OFPBFC_MSG_FAILED"));
    assert_eq!(encode(&Message::Error(error), 7), bytes);
    let plain = ErrorMsg::new(4, 9, Bytes::new());
    assert_eq!(plain.to_string(), "OFPBMC_BAD_PREREQ");
}

/// A frame with another version is an error, not a panic: OVS 3.1.0 answers a flow monitor request without a match
/// with 65,535 bytes that begin with 01.
#[test]
fn another_version() {
    let error = Message::decode(&hex("01 0a 00 08 00 00 00 00")).unwrap_err();
    assert_eq!(error, rust_openflow::DecodeError::Version { version: 1 });
}

/// The longest statistics entry that has an encoding is that of the flow with the most conjunctions.
#[test]
fn the_most_conjunctions() {
    let match_ = Match::tcp().with(Field::Reg(1), 7);
    let most = usize::from(max_conjunctions(match_.encoded_len() as u16));
    assert_eq!(most, 4089);
    let conjunction = Action::Conjunction { id: 1, clause: 0, n_clauses: 2 };
    let entry = |n: usize| rust_openflow::FlowStats {
        match_: match_.clone(),
        instructions: vec![Instruction::ApplyActions(vec![conjunction.clone(); n])],
        ..Default::default()
    };
    let reply = |n| {
        let body = rust_openflow::MultipartBody::Flow(vec![entry(n)]);
        let message = Message::MultipartReply(rust_openflow::MultipartReply { flags: 0, body });
        message.encode(1, &mut BytesMut::new())
    };
    assert!(reply(most).is_ok());
    assert!(reply(most + 1).is_err());
}

#[test]
fn what_has_no_encoding_is_refused_and_nothing_is_written() {
    let refused = |instructions: Vec<Action>, match_| {
        let flow = FlowMod::add(1, 1, match_, [Instruction::ApplyActions(instructions)]);
        let mut out = BytesMut::from(&b"before"[..]);
        let error = Message::FlowMod(flow).encode(1, &mut out).unwrap_err();
        assert_eq!(&out[..], b"before");
        error.to_string()
    };
    let none = Match::new;
    assert_eq!(refused(vec![], none().with(Field::Reg(16), 1)), "there is no field Reg(16)");
    assert_eq!(
        refused(vec![], none().with(Field::EthType, 0x1_0000)),
        "match field is 0x10000, the limit is 0xffff"
    );
    let unknown = |number, bytes| Field::Unknown { class: 0x9000, number, bytes };
    assert_eq!(
        refused(vec![], none().with(unknown(200, 4), 1)),
        "field number is 0xc8, the limit is 0x7f"
    );
    assert_eq!(
        refused(vec![], none().with(unknown(2, 17), 1)),
        "field length is 0x11, the limit is 0x10"
    );
    let masked = rust_openflow::FieldMatch::masked(Field::Reg(1), 1, 3);
    assert_eq!(
        refused(vec![Action::SetField(masked)], none()),
        "set_field of Reg(1) has the mask 0x3, OpenFlow 1.3 sets whole fields only"
    );
    let load = Action::RegLoad { dst: Field::Reg(1), offset: 30, bits: 3, value: 1 };
    assert_eq!(refused(vec![load], none()), "Reg(1) has 32 bits, there is no run of 3 at 30");
    let load = Action::RegLoad { dst: Field::Reg(1), offset: 0, bits: 3, value: 8 };
    assert_eq!(refused(vec![load], none()), "reg_load value is 0x8, the limit is 0x7");
    let note = Action::note(&[0; 70_000]);
    assert_eq!(refused(vec![note], none()), "note takes 70016 bytes, the limit is 65535");
}
