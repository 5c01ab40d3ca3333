//! OpenFlow: single messages, a connection, and the flow mod with everything that can be inside.

use std::cell::RefCell;

use bytes::{BufMut, Bytes, BytesMut};
use rust_openflow::conn::{ConnError, Options, connect_stream};
use rust_openflow::text::{self, Names};
use rust_openflow::{FlowStatsRequest, Message};
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, Runtime};

use crate::split::{pieces, split};

/// Bytes of a flow mod before its match, header included.
const BEFORE_MATCH: usize = 48;
/// The longest message.
const LONGEST: usize = u16::MAX as usize;
/// The longest stream that is tried: the events of it fit the queue.
const STREAM: usize = 1 << 16;

/// One message: the length is put right, or hardly any input would come past the framing.
pub fn openflow_message(data: &[u8]) {
    let _ = Message::decode(&Bytes::copy_from_slice(data));
    if data.len() >= 8 {
        settles(&framed(data));
    }
}

/// The input as a frame whose length field is right.
fn framed(data: &[u8]) -> Bytes {
    let mut frame = BytesMut::from(&data[..data.len().min(LONGEST)]);
    let length = (frame.len() as u16).to_be_bytes();
    frame[2..4].copy_from_slice(&length);
    frame.freeze()
}

/// What was decoded has an encoding, and from then on nothing changes any more.
fn settles(frame: &Bytes) {
    let Ok((xid, message)) = Message::decode(frame) else { return };
    let once = encode(&message, xid);
    let (again, second) = Message::decode(&once).expect("what was encoded can be decoded");
    assert_eq!(again, xid);
    assert_eq!(encode(&second, xid), once, "{message:?}");
    match &message {
        Message::FlowMod(flow) => says_all(flow),
        Message::BundleAdd(add) => {
            let _ = add.inner();
        }
        _ => {}
    }
}

fn encode(message: &Message, xid: u32) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(xid, &mut out).unwrap_or_else(|e| panic!("{e}: {message:?}"));
    out.freeze()
}

/// The text of a flow can be written, and what can be read back of it is the same text.
fn says_all(flow: &rust_openflow::FlowMod) {
    let line = text::flow_mod(flow, &Names::default());
    if let Ok(read) = text::parse_flow(&line) {
        let _ = text::flow_mod(&read.into_add(), &Names::default());
    }
}

/// A flow mod. The first byte chooses: a whole body behind the fixed part, or fields and actions apart, with lengths
/// and padding put right around them, which comes much deeper.
pub fn openflow_flow(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    let mut frame = BytesMut::from(&[4, 14, 0, 0, 0, 0, 0, 1][..]);
    frame.put_bytes(0, 17);
    // the command, then timeouts; priority, no buffer, any port and group
    frame.put_u8(how >> 1 & 0x3);
    frame.put_bytes(0, 4);
    frame.put_slice(&[0x80, 0]);
    frame.put_bytes(0xff, 12);
    frame.put_bytes(0, 4);
    debug_assert_eq!(frame.len(), BEFORE_MATCH);
    if how & 1 == 0 {
        frame.put_slice(rest);
    } else {
        let Some((&fields, rest)) = rest.split_first() else { return };
        let (fields, actions) = rest.split_at(usize::from(fields).min(rest.len()));
        put_match(&mut frame, fields);
        let actions = &actions[..actions.len().min(LONGEST - 1024) / 8 * 8];
        frame.put_u16(4);
        frame.put_u16((actions.len() + 8) as u16);
        frame.put_u32(0);
        frame.put_slice(actions);
    }
    settles(&framed(&frame));
}

/// The head of a flow mod that adds, up to its match.
fn head() -> BytesMut {
    let mut frame = BytesMut::from(&[4, 14, 0, 0, 0, 0, 0, 1][..]);
    frame.put_bytes(0, 22);
    frame.put_slice(&[0x80, 0]);
    frame.put_bytes(0xff, 12);
    frame.put_bytes(0, 4);
    frame
}

/// The fields of a match. What can be decoded comes back with the same fields, values and masks, whatever the order,
/// and from then on byte for byte. Nothing of it goes missing but what matches everything.
pub fn openflow_match(data: &[u8]) {
    let data = &data[..data.len().min(LONGEST - 1024)];
    let mut frame = head();
    put_match(&mut frame, data);
    let frame = framed(&frame);
    let Ok((_, message)) = Message::decode(&frame) else { return };
    let once = encode(&message, 1);
    let length = usize::from(u16::from_be_bytes([once[50], once[51]]));
    let (mut before, mut after) = (tlvs(data), tlvs(&once[52..48 + length]));
    before.retain(|tlv| !tlv.matches_everything());
    before.iter_mut().for_each(Tlv::settle);
    for tlv in &mut after {
        assert!(!tlv.matches_everything(), "{message:?}");
        let settled = tlv.clone();
        tlv.settle();
        assert_eq!(*tlv, settled, "bits outside of a mask: {message:?}");
    }
    before.sort();
    after.sort();
    assert_eq!(before.len(), after.len(), "{message:?}");
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before.covered_by(after), "{before:x?} became {after:x?}");
    }
    let (_, again) = Message::decode(&once).expect("what was encoded can be decoded");
    assert_eq!(again, message);
    assert_eq!(encode(&again, 1), once);
}

/// A field of a match, as bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tlv {
    /// Class and number.
    field: [u8; 3],
    experimenter: Vec<u8>,
    value: Vec<u8>,
    mask: Option<Vec<u8>>,
    /// Longer than any named field, of odd length, or without room for its experimenter: kept as it came.
    opaque: bool,
}

impl Tlv {
    fn matches_everything(&self) -> bool {
        !self.opaque
            && !self.value.is_empty()
            && self.mask.as_ref().is_some_and(|mask| mask.iter().all(|byte| *byte == 0))
    }

    /// Clears the bits outside of the mask, and drops a mask of ones alone, but not one of no bits, which says that the
    /// field has no value. Of opaque ones nothing is known.
    fn settle(&mut self) {
        let Some(mask) = self.mask.take_if(|_| !self.opaque) else {
            return;
        };
        self.value.iter_mut().zip(&mask).for_each(|(value, mask)| *value &= mask);
        if mask.is_empty() || mask.iter().any(|byte| *byte != 0xff) {
            self.mask = Some(mask);
        }
    }

    /// The same field, of which `after` matches the whole: the mask had all bits that the field has.
    fn covered_by(&self, after: &Self) -> bool {
        let ones = |mask: &Vec<u8>| {
            let number = mask.iter().fold(0_u128, |n, byte| n << 8 | u128::from(*byte));
            number & number.wrapping_add(1) == 0 && mask.first().is_some_and(|byte| *byte != 0)
        };
        (self.field, &self.experimenter, &self.value)
            == (after.field, &after.experimenter, &after.value)
            && after.mask.is_none()
            && self.mask.as_ref().is_some_and(ones)
    }
}

/// Cuts well-formed fields apart.
fn tlvs(mut data: &[u8]) -> Vec<Tlv> {
    let mut all = Vec::new();
    while let Some((head, rest)) = data.split_first_chunk::<4>() {
        let (payload, rest) = rest.split_at(usize::from(head[3]));
        let class = [head[0], head[1]];
        let (experimenter, payload) =
            payload.split_at(if class == [0xff; 2] { 4.min(payload.len()) } else { 0 });
        let masked = head[2] & 1 == 1;
        let half = if masked { payload.len() / 2 } else { payload.len() };
        let (value, mask) = payload.split_at(half);
        let short = class == [0xff; 2] && experimenter.len() < 4;
        let odd = masked && value.len() != mask.len();
        all.push(Tlv {
            field: [head[0], head[1], head[2] >> 1],
            experimenter: experimenter.to_vec(),
            value: value.to_vec(),
            mask: masked.then(|| mask.to_vec()),
            opaque: short || odd || half > 16,
        });
        data = rest;
    }
    all
}

/// A list of actions: what can be decoded has the bytes it came from.
pub fn openflow_actions(data: &[u8]) {
    let actions = &data[..data.len().min(LONGEST - 1024) / 8 * 8];
    if actions.is_empty() {
        return;
    }
    let mut frame = head();
    put_match(&mut frame, &[]);
    frame.put_u16(4);
    frame.put_u16((actions.len() + 8) as u16);
    frame.put_u32(0);
    frame.put_slice(actions);
    let frame = framed(&frame);
    let Ok((xid, message)) = Message::decode(&frame) else { return };
    assert_eq!(encode(&message, xid), frame, "{message:?}");
}

fn put_match(frame: &mut BytesMut, fields: &[u8]) {
    let length = fields.len() + 4;
    frame.put_u16(1);
    frame.put_u16(length as u16);
    frame.put_slice(fields);
    frame.put_bytes(0, length.next_multiple_of(8) - length);
}

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with_borrow_mut(|slot| {
        let runtime = slot.get_or_insert_with(|| {
            Builder::new_current_thread().enable_time().build().expect("a runtime")
        });
        runtime.block_on(future)
    })
}

/// A connection to a switch that sends these bytes and hangs up, while a dump is asked for. However the stream is cut,
/// the outcome is the same. The first bit decides whether a good handshake stands in front.
pub fn openflow_stream(data: &[u8]) {
    let (sizes, stream) = split(data);
    let stream = &stream[..stream.len().min(STREAM)];
    let mut all = BytesMut::new();
    if sizes[0].is_multiple_of(2) {
        all.put_slice(HANDSHAKE);
    }
    all.put_slice(stream);
    let cut = block_on(connection(&pieces(&sizes, &all)));
    let whole = block_on(connection(&[&all]));
    assert_eq!(cut, whole);
}

/// HELLO with a bitmap, and the answer to the features request of the handshake.
const HANDSHAKE: &[u8] = &[
    4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0x10, //
    4, 6, 0, 32, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 254, 0, 0, 0, 0, 0, 0, 0x4f, 0, 0,
    0, 0,
];

/// Everything that can be seen of a connection, as text.
async fn connection(pieces: &[&[u8]]) -> Vec<String> {
    // room for all that we send: the switch never reads
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let options = Options { event_capacity: STREAM, ..Options::default() };
    let feed = async {
        for piece in pieces {
            if theirs.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = theirs.shutdown().await;
        // kept until the end: our writes must not fail
        theirs
    };
    let talk = async {
        let (connection, driver, mut events) = match connect_stream(ours, options).await {
            Ok(connected) => connected,
            Err(error) => return vec![format!("{error:?}")],
        };
        let dump = connection.dump_flows(FlowStatsRequest::default());
        let (dump, ended) = tokio::join!(biased; dump, driver);
        let mut seen = vec![format!("{dump:?}"), format!("{ended:?}")];
        // The caller gives up at a part that it cannot take; what comes for it after that is left over or was waiting
        // already, as the driver is ahead of the caller or not.
        if !matches!(dump, Ok(_) | Err(ConnError::Closed { .. })) {
            return seen;
        }
        while let Some(event) = events.recv().await {
            seen.push(format!("{event:?}"));
        }
        seen.push(format!("{} malformed", connection.malformed_messages()));
        seen
    };
    let (seen, theirs) = tokio::join!(talk, feed);
    drop(theirs);
    seen
}
