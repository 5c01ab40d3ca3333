//! A scripted switch at the other end of a pipe: loss, truncation, silence.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "tokio")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rust_openflow::{
    BundleControl, BundleControlType, BundleError, ConnError, Connection, Driver, ErrorMsg, Event,
    FeaturesReply, Field, FlowMod, FlowStats, FlowStatsRequest, Hello, HelloElement, Match,
    Message, MultipartBody, MultipartReply, Options, connect_stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

/// The switch's end.
struct Peer {
    stream: DuplexStream,
}

impl Peer {
    async fn read(&mut self) -> (u32, Message) {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head).await.unwrap();
        let mut frame = BytesMut::from(&head[..]);
        frame.resize(usize::from(u16::from_be_bytes([head[2], head[3]])), 0);
        self.stream.read_exact(&mut frame[8..]).await.unwrap();
        Message::decode(&frame.freeze()).unwrap()
    }

    async fn write(&mut self, xid: u32, message: Message) {
        let mut out = BytesMut::new();
        message.encode(xid, &mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    async fn shake(&mut self) {
        let hello = Hello { version: 6, elements: vec![HelloElement::VersionBitmap(vec![0x7e])] };
        self.write(1, Message::Hello(hello)).await;
        assert!(matches!(self.read().await, (_, Message::Hello(hello)) if hello.offers(4)));
        let (xid, request) = self.read().await;
        assert_eq!(request, Message::FeaturesRequest);
        // Something may always come in between.
        self.write(0, Message::EchoRequest(Bytes::from_static(b"early"))).await;
        let features = FeaturesReply { datapath_id: 7, n_tables: 254, ..FeaturesReply::default() };
        self.write(xid, Message::FeaturesReply(features)).await;
        assert_eq!(self.read().await.1, Message::EchoReply(Bytes::from_static(b"early")));
        assert!(matches!(self.read().await.1, Message::SetConfig(c) if c.miss_send_len == 0xffff));
    }

    /// Reads a bundle up to its CLOSE; gives the xids of the additions.
    async fn read_bundle(&mut self) -> Vec<u32> {
        let mut xids = Vec::new();
        loop {
            match self.read().await {
                (xid, Message::BundleAdd(add)) => {
                    assert_eq!(add.inner().unwrap().0, xid);
                    xids.push(xid);
                }
                (xid, Message::BundleControl(control)) => {
                    let closes = control.typ == BundleControlType::CLOSE;
                    self.answer(xid, control).await;
                    if closes {
                        return xids;
                    }
                }
                (_, other) => panic!("{other:?}"),
            }
        }
    }

    async fn answer(&mut self, xid: u32, control: BundleControl) {
        let typ = BundleControlType(control.typ.0 + 1);
        self.write(xid, Message::BundleControl(BundleControl { typ, ..control })).await;
    }
}

fn options() -> Options {
    Options {
        request_timeout: Duration::from_secs(2),
        bundle_timeout: Duration::from_secs(2),
        echo_interval: Duration::from_secs(60),
        ..Options::default()
    }
}

async fn pair(options: Options) -> (Peer, Connection, Driver, mpsc::Receiver<Event>) {
    let (ours, theirs) = tokio::io::duplex(4096);
    let mut peer = Peer { stream: theirs };
    let (shaken, ()) = tokio::join!(connect_stream(ours, options), peer.shake());
    let (connection, driver, events) = shaken.unwrap();
    assert_eq!(connection.features().datapath_id, 7);
    (peer, connection, driver, events)
}

fn flows(n: u128) -> Vec<FlowMod> {
    (0..n).map(|n| FlowMod::add(1, 1, Match::new().with(Field::Reg(0), n), [])).collect()
}

/// The caller may run every future on any thread.
#[tokio::test]
async fn futures_are_send() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let (_peer, connection, driver, _events) = pair(options()).await;
    let mods = flows(1);
    drop(send(connection.bundle(&mods)));
    drop(send(connection.dump_flows(FlowStatsRequest::default())));
    drop(send(connection.apply(Message::BarrierRequest)));
    drop(send(driver));
    drop(send(connection));
}

#[tokio::test]
async fn a_bundle_that_is_committed() {
    let (mut peer, connection, driver, _events) = pair(options()).await;
    let switch = async {
        let xids = peer.read_bundle().await;
        assert_eq!(xids.len(), 100);
        let (xid, Message::BundleControl(commit)) = peer.read().await else { panic!() };
        assert_eq!(commit.typ, BundleControlType::COMMIT);
        peer.answer(xid, commit).await;
    };
    let mods = flows(100);
    tokio::select! {
        (result, ()) = async { tokio::join!(connection.bundle(&mods), switch) } => result.unwrap(),
        ended = driver => panic!("{ended:?}"),
    }
}

/// Trap: an addition that fails to decode leaves the bundle open, and the CLOSE is answered as if nothing was.
#[tokio::test]
async fn a_refused_addition_discards_the_bundle() {
    let (mut peer, connection, driver, _events) = pair(options()).await;
    let switch = async {
        let mut adds = 0;
        loop {
            match peer.read().await {
                (xid, Message::BundleAdd(add)) => {
                    if adds == 3 || adds == 5 {
                        peer.write(xid, Message::Error(ErrorMsg::new(4, 9, add.message))).await;
                    }
                    adds += 1;
                }
                (xid, Message::BundleControl(control)) => {
                    assert_ne!(control.typ, BundleControlType::COMMIT);
                    let discarded = control.typ == BundleControlType::DISCARD;
                    peer.answer(xid, control).await;
                    if discarded {
                        break;
                    }
                }
                (_, other) => panic!("{other:?}"),
            }
        }
    };
    let mods = flows(8);
    let (result, ()) = tokio::select! {
        both = async { tokio::join!(connection.bundle(&mods), switch) } => both,
        ended = driver => panic!("{ended:?}"),
    };
    let error = result.unwrap_err();
    assert!(matches!(error, BundleError::Refused { index: 3, .. }), "{error:?}");
}

#[tokio::test]
async fn loss_before_the_commit_changes_nothing_and_loss_after_it_is_unknown() {
    for committed in [false, true] {
        let (mut peer, connection, driver, mut events) = pair(options()).await;
        let switch = async {
            if committed {
                peer.read_bundle().await;
                assert!(matches!(peer.read().await, (_, Message::BundleControl(c))
                    if c.typ == BundleControlType::COMMIT));
            } else {
                peer.read().await;
            }
            drop(peer);
        };
        let mods = flows(100);
        let (result, (), ended) = tokio::join!(connection.bundle(&mods), switch, driver);
        let error = result.unwrap_err();
        match committed {
            false => assert!(matches!(error, BundleError::NotCommitted(_)), "{error:?}"),
            true => assert!(matches!(error, BundleError::Unknown), "{error:?}"),
        }
        assert!(ended.is_err());
        assert!(matches!(events.recv().await, Some(Event::Closed { .. })));
        assert!(events.recv().await.is_none());
        // Later requests fail at once and say why.
        let error = connection.barrier().await.unwrap_err();
        assert!(matches!(error, ConnError::Closed { .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_an_answer_is_unknown_and_a_close_without_one_is_not_committed() {
    let (mut peer, connection, mut driver, _events) = pair(options()).await;
    let mods = flows(3);
    let switch = async {
        peer.read_bundle().await;
        peer.read().await;
        std::future::pending::<()>().await;
    };
    let result = tokio::select! {
        result = connection.bundle(&mods) => result,
        () = switch => unreachable!(),
        ended = &mut driver => panic!("{ended:?}"),
    };
    assert!(matches!(result, Err(BundleError::Unknown)), "{result:?}");
    let result = tokio::select! {
        result = connection.bundle(&mods) => result,
        ended = &mut driver => panic!("{ended:?}"),
    };
    assert!(
        matches!(result, Err(BundleError::NotCommitted(ConnError::Timeout { .. }))),
        "{result:?}"
    );
}

/// A bundle that nobody waits for any more is forgotten by the switch.
#[tokio::test]
async fn a_dropped_bundle_is_discarded() {
    let (mut peer, connection, mut driver, _events) = pair(options()).await;
    let mods = flows(3);
    let until_close = async {
        // OPEN, three additions, CLOSE: none is answered.
        for _ in 0..5 {
            peer.read().await;
        }
    };
    tokio::select! {
        result = connection.bundle(&mods) => panic!("{result:?}"),
        () = until_close => {}
        ended = &mut driver => panic!("{ended:?}"),
    }
    tokio::select! {
        (_, message) = peer.read() => assert!(matches!(message, Message::BundleControl(control)
            if control.typ == BundleControlType::DISCARD)),
        ended = &mut driver => panic!("{ended:?}"),
    }
}

#[tokio::test]
async fn replies_in_parts_come_as_one_and_interleave() {
    let (mut peer, connection, driver, _events) = pair(options()).await;
    let part = |flags, tables: &[u8]| {
        let flow = |table: &u8| FlowStats { table: *table, ..FlowStats::default() };
        let body = MultipartBody::Flow(tables.iter().map(flow).collect());
        Message::MultipartReply(MultipartReply { flags, body })
    };
    let switch = async {
        let (a, _) = peer.read().await;
        let (b, _) = peer.read().await;
        peer.write(a, part(1, &[1, 2])).await;
        peer.write(b, part(1, &[7])).await;
        // A part may be empty.
        peer.write(a, part(1, &[])).await;
        peer.write(b, part(0, &[8])).await;
        peer.write(a, part(0, &[3])).await;
    };
    let all = FlowStatsRequest::default;
    let (a, b, ()) = tokio::select! {
        all = async {
            tokio::join!(connection.dump_flows(all()), connection.dump_flows(all()), switch)
        } => all,
        ended = driver => panic!("{ended:?}"),
    };
    let tables = |flows: Vec<FlowStats>| flows.iter().map(|f| f.table).collect::<Vec<_>>();
    assert_eq!((tables(a.unwrap()), tables(b.unwrap())), (vec![1, 2, 3], vec![7, 8]));
}

#[tokio::test]
async fn a_reply_cut_short_by_the_end_of_the_stream() {
    let (mut peer, connection, driver, _events) = pair(options()).await;
    let switch = async {
        let (xid, _) = peer.read().await;
        let body = MultipartBody::Flow(vec![FlowStats::default()]);
        let mut out = BytesMut::new();
        let reply = MultipartReply { flags: 1, body };
        Message::MultipartReply(reply).encode(xid, &mut out).unwrap();
        // A whole part, and half of the next.
        peer.stream.write_all(&out).await.unwrap();
        peer.stream.write_all(&out[..20]).await.unwrap();
        drop(peer);
    };
    let dump = connection.dump_flows(FlowStatsRequest::default());
    let (result, (), ended) = tokio::join!(dump, switch, driver);
    assert!(matches!(result, Err(ConnError::Closed { .. })), "{result:?}");
    assert!(matches!(ended, Err(ConnError::Eof)), "{ended:?}");
}

#[tokio::test]
async fn a_reply_with_a_lying_length_fails_its_request_alone() {
    let (mut peer, connection, driver, _events) = pair(options()).await;
    let switch = async {
        let (xid, _) = peer.read().await;
        let body = MultipartBody::Flow(vec![FlowStats::default()]);
        let mut out = BytesMut::new();
        let reply = MultipartReply { flags: 0, body };
        Message::MultipartReply(reply).encode(xid, &mut out).unwrap();
        // The length of the entry.
        out[17] = 0xff;
        peer.stream.write_all(&out).await.unwrap();
        // The frame OVS 3.1.0 sends by mistake is passed over.
        peer.stream.write_all(&[1, 10, 0, 12, 0, 0, 0, 0, 9, 9, 9, 9]).await.unwrap();
        let (xid, _) = peer.read().await;
        peer.write(xid, Message::BarrierReply).await;
    };
    let requests = async {
        let dump = connection.dump_flows(FlowStatsRequest::default()).await;
        (dump, connection.barrier().await)
    };
    let ((dump, barrier), ()) = tokio::select! {
        all = async { tokio::join!(requests, switch) } => all,
        ended = driver => panic!("{ended:?}"),
    };
    assert!(matches!(dump, Err(ConnError::Decode(_))), "{dump:?}");
    barrier.unwrap();
    assert_eq!(connection.malformed_messages(), 2);
}

#[tokio::test]
async fn a_length_below_the_header_ends_the_connection() {
    let (mut peer, _connection, driver, _events) = pair(options()).await;
    peer.stream.write_all(&[4, 2, 0, 7, 0, 0, 0, 0]).await.unwrap();
    let ended = driver.await;
    assert!(matches!(ended, Err(ConnError::Framing(_))), "{ended:?}");
}

#[tokio::test]
async fn a_switch_without_openflow_1_3() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let mut peer = Peer { stream: theirs };
    let switch = async {
        let hello = Hello { version: 1, elements: vec![] };
        peer.write(1, Message::Hello(hello)).await;
    };
    let (result, ()) = tokio::join!(connect_stream(ours, options()), switch);
    assert!(matches!(result.err(), Some(ConnError::NoCommonVersion { .. })));

    let (ours, mut theirs) = tokio::io::duplex(4096);
    let refusal = [&[1, 1, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0][..], b"nope"].concat();
    theirs.write_all(&refusal).await.unwrap();
    match connect_stream(ours, options()).await.err() {
        Some(ConnError::NoCommonVersion { reason }) => {
            assert_eq!(reason, "OFPHFC_INCOMPATIBLE (nope)");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_switch_is_given_up_after_two_echoes() {
    let patient = Options { echo_interval: Duration::from_secs(5), ..options() };
    let (mut peer, _connection, driver, _events) = pair(patient).await;
    let start = tokio::time::Instant::now();
    let switch = async {
        for _ in 0..2 {
            assert!(matches!(peer.read().await.1, Message::EchoRequest(_)));
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = driver => ended,
        () = switch => unreachable!(),
    };
    assert!(matches!(ended, Err(ConnError::Unresponsive)), "{ended:?}");
    assert_eq!(start.elapsed(), Duration::from_secs(15));
}

#[tokio::test]
async fn events_overflow_without_blocking_replies() {
    let (mut peer, connection, driver, mut events) =
        pair(Options { event_capacity: 4, ..options() }).await;
    let switch = async {
        for n in 0..20 {
            let error = ErrorMsg::new(1, 1, Bytes::new());
            peer.write(0x7000_0000 + n, Message::Error(error)).await;
        }
        let (xid, _) = peer.read().await;
        peer.write(xid, Message::BarrierReply).await;
    };
    tokio::select! {
        (result, ()) = async { tokio::join!(connection.barrier(), switch) } => result.unwrap(),
        ended = driver => panic!("{ended:?}"),
    }
    assert_eq!(connection.dropped_events(), 16);
    assert!(matches!(events.recv().await, Some(Event::Error { xid: 0x7000_0000, .. })));
}

#[tokio::test]
async fn the_connection_ends_with_its_last_handle() {
    let (mut peer, connection, driver, mut events) = pair(options()).await;
    drop(connection);
    driver.await.unwrap();
    assert!(matches!(events.recv().await, Some(Event::Closed { .. })));
    let mut rest = Vec::new();
    peer.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}
