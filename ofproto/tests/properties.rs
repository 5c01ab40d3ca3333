//! What holds for every value and every input.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/strategy.rs"]
mod strategy;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use rust_openflow::text::{self, Names};
use rust_openflow::{
    Field, FlowMod, FlowStats, FlowStatsRequest, Message, MultipartBody, MultipartReply,
    MultipartRequest, bundle,
};

fn encode(message: &Message, xid: u32) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(xid, &mut out).unwrap();
    out.freeze()
}

fn stats(flow: &FlowMod) -> FlowStats {
    FlowStats {
        table: flow.table,
        duration_sec: 12,
        duration_nsec: 345_000_000,
        priority: flow.priority,
        idle_timeout: flow.idle_timeout,
        hard_timeout: flow.hard_timeout,
        flags: flow.flags,
        cookie: flow.cookie,
        packets: 7,
        bytes: 700,
        match_: flow.match_.clone(),
        instructions: flow.instructions.clone(),
    }
}

/// A frame with a right length field and any body.
fn frames() -> impl Strategy<Value = Bytes> {
    (0..35_u8, vec(any::<u8>(), 0..400)).prop_map(|(typ, body)| {
        let length = (body.len() + 8) as u16;
        let mut frame = vec![4, typ];
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 0, 9]);
        frame.extend(body);
        frame.into()
    })
}

/// A real frame with a few bytes changed: gets further than noise.
fn bent_frames() -> impl Strategy<Value = Bytes> {
    let change = vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    (strategy::flows(), any::<bool>(), change).prop_map(|(flow, dumped, changes)| {
        let message = if dumped {
            let body = MultipartBody::Flow(vec![stats(&flow), stats(&flow)]);
            Message::MultipartReply(MultipartReply { flags: 0, body })
        } else {
            Message::FlowMod(flow)
        };
        let mut bytes = encode(&message, 1).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            // Mostly behind the header, or framing refuses it at once.
            bytes[if at < 8 { 8 } else { at }] = byte;
        }
        bytes.into()
    })
}

/// Whatever was decoded has an encoding, and that decodes to the same.
fn settles(frame: &Bytes) -> Result<(), TestCaseError> {
    if let Ok((xid, message)) = Message::decode(frame) {
        let again = encode(&message, xid);
        let (_, second) = Message::decode(&again).unwrap();
        let third = encode(&second, xid);
        prop_assert_eq!(&again, &third);
    }
    Ok(())
}

proptest! {
    #[test]
    fn flow_mods_survive_the_wire(flow in strategy::flows(), xid in any::<u32>()) {
        let bytes = encode(&Message::FlowMod(flow.clone()), xid);
        let (got, message) = Message::decode(&bytes).unwrap();
        prop_assert_eq!(got, xid);
        prop_assert_eq!(&message, &Message::FlowMod(flow));
        prop_assert_eq!(encode(&message, xid), bytes);
    }

    #[test]
    fn dumps_survive_the_wire(flows in vec(strategy::flows(), 0..4)) {
        let body = MultipartBody::Flow(flows.iter().map(stats).collect());
        let reply = Message::MultipartReply(MultipartReply { flags: 1, body });
        let bytes = encode(&reply, 3);
        prop_assert_eq!(Message::decode(&bytes).unwrap(), (3, reply));
    }

    #[test]
    fn requests_survive_the_wire(match_ in strategy::matches(), table in any::<u8>()) {
        let request = FlowStatsRequest { table, match_, ..FlowStatsRequest::default() };
        let message = Message::MultipartRequest(MultipartRequest::Flow(request));
        let bytes = encode(&message, 3);
        prop_assert_eq!(Message::decode(&bytes).unwrap(), (3, message));
    }

    #[test]
    fn a_match_is_as_long_as_it_says(match_ in strategy::matches()) {
        let flow = FlowMod { match_: match_.clone(), ..FlowMod::default() };
        prop_assert_eq!(encode(&Message::FlowMod(flow), 1).len(), 48 + match_.encoded_len());
    }

    #[test]
    fn bundled_flow_mods_survive_the_wire(flow in strategy::flows(), xid in any::<u32>()) {
        let mut out = BytesMut::new();
        bundle::encode_add(7, 3, &flow, xid, &mut out).unwrap();
        let (_, message) = Message::decode(&out.freeze()).unwrap();
        let Message::BundleAdd(add) = message else { panic!("not a bundle add") };
        prop_assert_eq!(add.inner().unwrap(), (xid, Message::FlowMod(flow)));
    }

    #[test]
    fn text_says_all_of_a_flow(flow in strategy::flows()) {
        let text = text::flow(&stats(&flow), &Names::default());
        let read = text::parse_flow(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        prop_assert_eq!(read.stats.unwrap().packets, 7);
        // What text says in another way than the wire: see the parser for each.
        prop_assert_eq!(text::flow_mod(&read.clone().into_add(), &Names::default()),
            text::flow_mod(&flow, &Names::default()));
        prop_assert_eq!(read.match_, flow.match_, "{}", text);
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(&bytes.into());
    }

    #[test]
    fn framed_noise_settles(frame in frames()) {
        settles(&frame)?;
    }

    #[test]
    fn bent_messages_settle(frame in bent_frames()) {
        settles(&frame)?;
    }

    #[test]
    fn cut_messages_never_panic(flow in strategy::flows(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&Message::FlowMod(flow), 1);
        let mut short = bytes[..cut.index(bytes.len())].to_vec();
        prop_assert!(Message::decode(&short.clone().into()).is_err());
        // Now with a length field that agrees.
        if short.len() >= 8 {
            let length = short.len() as u16;
            short[2..4].copy_from_slice(&length.to_be_bytes());
            settles(&short.into())?;
        }
    }

    #[test]
    fn text_noise_never_panics(line in "[ -~]{0,80}") {
        let _ = text::parse_flow(&line);
        let _ = text::parse_flow(&format!("ip actions={line}"));
        let _ = text::parse_flow(&format!("{line} actions=drop"));
    }

    #[test]
    fn bent_text_never_panics(
        flow in strategy::flows(),
        at in any::<prop::sample::Index>(),
        with in "[ -~]",
    ) {
        let mut text = text::flow_mod(&flow, &Names::default());
        let at = at.index(text.len());
        text.replace_range(at..=at, &with);
        let _ = text::parse_flow(&text);
    }
}

/// A flow mod whose match is these TLVs.
fn with_fields(tlvs: &[u8]) -> Bytes {
    let length = (4 + tlvs.len()) as u16;
    let mut frame = BytesMut::from(&[4, 14, 0, 0, 0, 0, 0, 1][..]);
    frame.resize(48, 0);
    frame.extend([[0, 1], length.to_be_bytes()].concat());
    frame.extend_from_slice(tlvs);
    frame.resize(frame.len().next_multiple_of(8), 0);
    let length = (frame.len() as u16).to_be_bytes();
    frame[2..4].copy_from_slice(&length);
    frame.freeze()
}

/// A peer chooses how many fields a match has and in which order: the worst order costs little more than the best.
#[test]
fn the_order_of_fields_costs_no_time() {
    // As many as a message holds, without a value, of classes that nobody knows.
    let tlvs = (0..16_000_u32).map(|n| (0x2000 + n / 100) << 16 | (n % 100) << 9);
    let mut tlvs: Vec<[u8; 4]> = tlvs.map(u32::to_be_bytes).collect();
    let ascending = with_fields(&tlvs.concat());
    tlvs.reverse();
    let descending = with_fields(&tlvs.concat());
    assert_eq!(Message::decode(&ascending).unwrap(), Message::decode(&descending).unwrap());
    let fastest = |frame: &Bytes| {
        let took = |_| {
            let begun = std::time::Instant::now();
            assert!(Message::decode(frame).is_ok());
            begun.elapsed()
        };
        (0..5).map(took).min().unwrap()
    };
    let (best, worst) = (fastest(&ascending), fastest(&descending));
    // With one insertion for each field it was 50 times as much and more.
    assert!(worst < best * 10, "{best:?} ascending, {worst:?} descending");
}

#[test]
fn a_field_that_stands_twice_is_named_with_its_place() {
    let [reg0, reg1] = [[0, 1, 0, 4, 0, 0, 0, 5], [0, 1, 2, 4, 0, 0, 0, 6]];
    for tlvs in [[reg0, reg0, reg1], [reg1, reg0, reg1], [reg0, reg1, reg0]] {
        let error = Message::decode(&with_fields(&tlvs.concat())).unwrap_err();
        let at = if tlvs[1] == tlvs[0] { 60 } else { 68 };
        let (rust_openflow::DecodeError::DuplicateField { offset, field }, twice) =
            (error.clone(), tlvs[(at - 52) / 8])
        else {
            panic!("{error:?}")
        };
        let wanted = Field::Reg(twice[2] / 2);
        assert_eq!((offset, field), (at, wanted), "{error}");
    }
}
