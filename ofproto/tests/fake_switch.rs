//! A scripted switch at the other end of a pipe: loss, truncation, silence.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "tokio")]

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rust_openflow::{
    Backoff, BatchError, BundleControl, BundleControlType, BundleError, ConnError, Connection,
    Driver, ErrorMsg, Event, FeaturesReply, Field, FlowMod, FlowStats, FlowStatsRequest, Hello,
    HelloElement, Match, Message, MultipartBody, MultipartReply, Options, Reconnect, Target,
    connect_stream,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// The ONF, which defines the errors of bundles.
const ONF: u32 = 0x4f4e_4600;

/// The switch's end.
struct Peer<S = DuplexStream> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
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

/// A refusal defined by the ONF.
fn onf_error(code: u16, data: Bytes) -> Message {
    Message::Error(ErrorMsg { typ: 0xffff, code, experimenter: ONF, data })
}

fn part(flags: u16, tables: &[u8]) -> Message {
    let flow = |table: &u8| FlowStats { table: *table, ..FlowStats::default() };
    let body = MultipartBody::Flow(tables.iter().map(flow).collect());
    Message::MultipartReply(MultipartReply { flags, body })
}

/// Runs both ends and the connection between them, until both are done.
async fn play<A, B>(
    driver: &mut Driver,
    ours: impl Future<Output = A>,
    switch: impl Future<Output = B>,
) -> (A, B) {
    tokio::select! {
        both = async { tokio::join!(ours, switch) } => both,
        ended = driver => panic!("{ended:?}"),
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

/// Whoever takes events sees where some are missing, before the next one that is not.
#[tokio::test]
async fn lost_events_are_told_in_their_place() {
    let (mut peer, connection, mut driver, mut events) =
        pair(Options { event_capacity: 2, ..options() }).await;
    let error = || Message::Error(ErrorMsg::new(1, 1, Bytes::new()));
    let answer = async |peer: &mut Peer| {
        let (xid, _) = peer.read().await;
        peer.write(xid, Message::BarrierReply).await;
    };
    let first = async {
        for xid in 1..=5 {
            peer.write(0x7000_0000 + xid, error()).await;
        }
        answer(&mut peer).await;
    };
    play(&mut driver, connection.barrier(), first).await.0.unwrap();
    for n in 1..=2 {
        assert!(
            matches!(events.recv().await, Some(Event::Error { xid, .. }) if xid == 0x7000_0000 + n)
        );
    }
    // Any frame at all is enough to be told, an event is not needed.
    play(&mut driver, connection.barrier(), answer(&mut peer)).await.0.unwrap();
    let later = async {
        peer.write(0x7000_0006, error()).await;
        answer(&mut peer).await;
    };
    play(&mut driver, connection.barrier(), later).await.0.unwrap();
    assert!(matches!(events.recv().await, Some(Event::Lost { count: 3 })));
    assert!(matches!(events.recv().await, Some(Event::Error { xid: 0x7000_0006, .. })));
    assert_eq!(connection.dropped_events(), 3);
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

/// A switch that carries out bundles until it has read `cut` messages, and then is gone; it may answer the last one.
/// Gives the flows it has.
async fn until(mut peer: Peer, cut: usize, answer_last: bool) -> usize {
    let (mut staged, mut installed) = (0, 0);
    for n in 1..=cut {
        match peer.read().await {
            (_, Message::BundleAdd(_)) => staged += 1,
            (xid, Message::BundleControl(control)) => {
                if control.typ == BundleControlType::COMMIT {
                    installed = staged;
                }
                if n < cut || answer_last {
                    peer.answer(xid, control).await;
                }
            }
            (_, other) => panic!("{other:?}"),
        }
    }
    installed
}

#[tokio::test]
async fn a_bundle_cut_after_each_of_its_messages_is_never_told_wrongly() {
    const FLOWS: usize = 5;
    // OPEN, additions, CLOSE.
    const CLOSED: usize = FLOWS + 2;
    const COMMITTED: usize = CLOSED + 1;
    for cut in 0..=COMMITTED {
        for answered in [false, true] {
            let (peer, connection, driver, _events) = pair(options()).await;
            let mods = flows(FLOWS as u128);
            let (result, installed, ended) =
                tokio::join!(connection.bundle(&mods), until(peer, cut, answered), driver);
            assert!(ended.is_err());
            let case =
                format!("cut after {cut}, answered: {answered}, {installed} flows: {result:?}");
            match &result {
                Ok(()) => assert_eq!(installed, FLOWS, "{case}"),
                Err(error) if error.unchanged() => assert_eq!(installed, 0, "{case}"),
                Err(_) => {}
            }
            // As much as can be known is known.
            match (cut, answered) {
                (COMMITTED, true) => assert!(result.is_ok(), "{case}"),
                (COMMITTED, false) => {
                    assert!(matches!(result, Err(BundleError::Unknown)), "{case}")
                }
                (CLOSED, true) => assert!(result.is_err(), "{case}"),
                _ => assert!(matches!(result, Err(BundleError::NotCommitted(_))), "{case}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_the_same_connection_tells() {
    let (mut peer, connection, mut driver, mut events) = pair(options()).await;
    let mods = flows(3);
    let switch = async {
        peer.read_bundle().await;
        let (late, Message::BundleControl(commit)) = peer.read().await else { panic!() };
        let (xid, _) = peer.read().await;
        peer.write(xid, part(0, &[1, 1, 1])).await;
        peer.answer(late, commit).await;
        let (xid, _) = peer.read().await;
        peer.write(xid, Message::BarrierReply).await;
    };
    let ours = async {
        let error = connection.bundle(&mods).await.unwrap_err();
        assert!(!error.unchanged(), "{error:?}");
        let dump = connection.dump_flows(FlowStatsRequest::default()).await.unwrap();
        connection.barrier().await.unwrap();
        dump.len()
    };
    assert_eq!(play(&mut driver, ours, switch).await.0, 3);
    // The late answer is an event, as it says something that nobody knew.
    assert!(
        matches!(events.recv().await, Some(Event::Other { message: Message::BundleControl(c), .. })
        if c.typ == BundleControlType::COMMIT_REPLY)
    );
}

#[tokio::test]
async fn a_bundle_whose_open_is_refused_or_that_times_out_fails_as_a_whole() {
    for code in [2302, 2303, 2314] {
        let (mut peer, connection, mut driver, _events) = pair(options()).await;
        let mods = flows(3);
        let switch = async {
            let (open, message) = peer.read().await;
            assert!(matches!(message, Message::BundleControl(_)));
            if code != 2314 {
                peer.write(open, onf_error(code, Bytes::new())).await;
            }
            loop {
                match peer.read().await {
                    // A switch that has no such bundle refuses what comes behind.
                    (xid, Message::BundleAdd(_)) if code != 2314 => {
                        peer.write(xid, onf_error(2302, Bytes::new())).await;
                    }
                    (_, Message::BundleAdd(_)) => {}
                    (xid, Message::BundleControl(control)) => {
                        assert_ne!(control.typ, BundleControlType::COMMIT);
                        if control.typ == BundleControlType::CLOSE {
                            if code == 2314 {
                                peer.write(open, onf_error(2314, Bytes::new())).await;
                            }
                            peer.write(xid, onf_error(2302, Bytes::new())).await;
                        } else {
                            peer.answer(xid, control).await;
                            break;
                        }
                    }
                    (_, other) => panic!("{other:?}"),
                }
            }
        };
        let (result, ()) = play(&mut driver, connection.bundle(&mods), switch).await;
        let error = result.unwrap_err();
        assert!(error.unchanged());
        let BundleError::Failed { error } = error else { panic!("{error:?}") };
        assert_eq!((error.experimenter, error.code), (ONF, code));
    }
}

#[tokio::test]
async fn a_refusal_with_a_few_bytes_of_data_is_tied_to_its_flow_by_the_xid() {
    let (mut peer, connection, mut driver, _events) = pair(options()).await;
    let mods = flows(4);
    let switch = async {
        let xids = peer.read_bundle().await;
        let (commit, _) = peer.read().await;
        // At the commit: first the flow mod, then the bundle.
        peer.write(xids[2], Message::Error(ErrorMsg::new(5, 3, Bytes::from_static(&[4, 14]))))
            .await;
        peer.write(commit, onf_error(2313, Bytes::new())).await;
    };
    let (result, ()) = play(&mut driver, connection.bundle(&mods), switch).await;
    match result.unwrap_err() {
        BundleError::Refused { index: 2, error } => {
            assert_eq!((error.name(), &error.data[..]), (Some("OFPFMFC_OVERLAP"), &[4, 14][..]));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bundles_in_chunks_tell_how_far_they_came() {
    let (mut peer, connection, mut driver, _events) = pair(options()).await;
    let mods = flows(10);
    let switch = async {
        for n in 0..3 {
            let xids = peer.read_bundle().await;
            let (xid, Message::BundleControl(commit)) = peer.read().await else { panic!() };
            if n < 2 {
                assert_eq!(xids.len(), 4);
                peer.answer(xid, commit).await;
            } else {
                assert_eq!(xids.len(), 2);
                peer.write(xids[1], Message::Error(ErrorMsg::new(5, 3, Bytes::new()))).await;
                peer.write(xid, onf_error(2313, Bytes::new())).await;
            }
        }
    };
    let ours = connection.bundles(&mods, NonZeroUsize::new(4).unwrap());
    let error = play(&mut driver, ours, switch).await.0.unwrap_err();
    assert_eq!((error.committed, error.tried), (8, 2));
    assert!(matches!(error.source, BundleError::Refused { index: 9, .. }), "{error:?}");
}

#[tokio::test]
async fn a_batch_names_what_was_refused_and_knows_when_it_cannot_know() {
    let (mut peer, connection, mut driver, _events) = pair(options()).await;
    let mods = flows(600);
    let switch = async {
        let mut xids = Vec::new();
        let barrier = loop {
            match peer.read().await {
                (xid, Message::FlowMod(_)) => xids.push(xid),
                (xid, Message::BarrierRequest) => break xid,
                (_, other) => panic!("{other:?}"),
            }
        };
        // Refusals come in whatever order, and for more flows than are kept.
        assert_eq!(xids.len(), 600);
        for xid in xids.iter().skip(5).rev() {
            let error = ErrorMsg::new(4, 9, Bytes::new());
            peer.write(*xid, Message::Error(error)).await;
        }
        peer.write(barrier, Message::BarrierReply).await;
        peer
    };
    let (result, peer) = play(&mut driver, connection.batch(&mods), switch).await;
    let BatchError::Refused { refused, total } = result.unwrap_err() else { panic!() };
    assert_eq!(total, 595);
    let indexes: Vec<usize> = refused.iter().map(|r| r.index).collect();
    assert_eq!(indexes, (5..5 + BatchError::MAX_REFUSALS).collect::<Vec<_>>());

    let switch = async { drop(peer) };
    let (result, (), _) = tokio::join!(connection.batch(&mods), switch, driver);
    assert!(matches!(result, Err(BatchError::Unknown(ConnError::Closed { .. }))), "{result:?}");
    assert!(connection.batch(&[]).await.is_ok());
}

#[tokio::test]
async fn replies_in_any_order_find_their_requests() {
    let (mut peer, connection, mut driver, mut events) = pair(options()).await;
    let switch = async {
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.push(peer.read().await);
        }
        // What was not asked for comes in between, also under the xid of nobody.
        peer.write(0, part(0, &[9])).await;
        peer.write(0x6000_0000, Message::Error(ErrorMsg::new(1, 6, Bytes::new()))).await;
        // As OVS 3.1.0 sends by mistake: another version, under the xid of somebody.
        let mut foreign = vec![1, 18, 0, 12];
        foreign.extend(asked[0].0.to_be_bytes());
        foreign.extend([9; 4]);
        peer.stream.write_all(&foreign).await.unwrap();
        for (xid, request) in asked.into_iter().rev() {
            let reply = match request {
                Message::BarrierRequest => Message::BarrierReply,
                Message::MultipartRequest(_) => part(0, &[1, 2]),
                Message::GetConfigRequest => Message::Error(ErrorMsg::new(1, 1, Bytes::new())),
                other => panic!("{other:?}"),
            };
            peer.write(xid, reply).await;
        }
    };
    let ours = async {
        tokio::join!(
            biased;
            connection.dump_flows(FlowStatsRequest::default()),
            connection.barrier(),
            connection.request(Message::GetConfigRequest),
        )
    };
    let ((flows, barrier, config), ()) = play(&mut driver, ours, switch).await;
    assert_eq!(flows.unwrap().len(), 2);
    barrier.unwrap();
    assert!(matches!(config, Err(ConnError::Refused { request: 7, .. })), "{config:?}");
    assert!(matches!(events.recv().await, Some(Event::Update(update)) if !update.more()));
    assert!(matches!(events.recv().await, Some(Event::Error { xid: 0x6000_0000, .. })));
    assert_eq!(connection.malformed_messages(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reply_without_end_is_given_up_and_what_comes_later_is_no_event() {
    let (mut peer, connection, mut driver, mut events) = pair(options()).await;
    let switch = async {
        let (xid, _) = peer.read().await;
        for _ in 0..100 {
            peer.write(xid, part(1, &[1])).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (xid, _) = peer.read().await;
        peer.write(xid, Message::BarrierReply).await;
    };
    let ours = async {
        let dump = connection.dump_flows(FlowStatsRequest::default()).await;
        // Longer than a request may take, but the switch is at it.
        let patient = async {
            while connection.late_replies() < 70 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        patient.await;
        (dump, connection.barrier().await)
    };
    let ((dump, barrier), ()) = play(&mut driver, ours, switch).await;
    assert!(matches!(dump, Err(ConnError::Timeout { .. })), "{dump:?}");
    barrier.unwrap();
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn a_stream_gives_each_part_before_the_next_one_is_sent() {
    let (mut peer, connection, mut driver, _events) = pair(options()).await;
    let (took, mut taken) = mpsc::channel(1);
    let switch = async {
        let (xid, _) = peer.read().await;
        for (flags, tables) in [(1, &[1, 2][..]), (1, &[]), (0, &[3])] {
            peer.write(xid, part(flags, tables)).await;
            taken.recv().await.unwrap();
        }
        // The next one is refused half way.
        let (xid, _) = peer.read().await;
        peer.write(xid, part(1, &[4])).await;
        peer.write(xid, Message::Error(ErrorMsg::new(1, 13, Bytes::new()))).await;
    };
    let ours = async {
        let mut stream = connection.stream_flows(FlowStatsRequest::default()).await.unwrap();
        let mut tables = Vec::new();
        while let Some(flows) = stream.next().await {
            tables.extend(flows.unwrap().iter().map(|f| f.table));
            took.send(()).await.unwrap();
        }
        assert_eq!(tables, [1, 2, 3]);
        let mut stream = connection.stream_flows(FlowStatsRequest::default()).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().len(), 1);
        let error = stream.next().await.unwrap();
        assert!(matches!(error, Err(ConnError::Refused { .. })), "{error:?}");
        assert!(stream.next().await.is_none());
    };
    play(&mut driver, ours, switch).await;
}

/// Not decoded, but with the same flows and the same errors.
#[tokio::test]
async fn a_stream_of_entries_reads_where_it_is_looked_at() {
    let (mut peer, connection, mut driver, _events) = pair(options()).await;
    let flow = |n: u16| FlowStats {
        table: 3,
        priority: n,
        cookie: 0x1234_5678_9abc_def0,
        packets: 7,
        bytes: 700,
        flags: 4,
        match_: Match::tcp().with(Field::TcpDst, n.into()),
        instructions: vec![rust_openflow::Instruction::GotoTable(4)],
        ..FlowStats::default()
    };
    let reply = |flags, flows: Vec<FlowStats>| {
        let body = MultipartBody::Flow(flows);
        Message::MultipartReply(MultipartReply { flags, body })
    };
    let switch = async {
        let (xid, _) = peer.read().await;
        peer.write(xid, reply(1, vec![flow(1), flow(2)])).await;
        peer.write(xid, reply(1, vec![])).await;
        peer.write(xid, reply(0, vec![flow(3)])).await;
        // The length of the second entry lies.
        let (xid, _) = peer.read().await;
        let mut out = BytesMut::new();
        reply(0, vec![flow(1), flow(2)]).encode(xid, &mut out).unwrap();
        let second = 16 + usize::from(out[17]);
        out[second + 1] = 0xf8;
        peer.stream.write_all(&out).await.unwrap();
        // Ports are not flows.
        let (xid, _) = peer.read().await;
        let body = MultipartBody::PortDesc(vec![]);
        peer.write(xid, Message::MultipartReply(MultipartReply { flags: 1, body })).await;
    };
    let all = FlowStatsRequest::default;
    let ours = async {
        let mut stream = connection.stream_flow_entries(all()).await.unwrap();
        let mut entries = Vec::new();
        while let Some(part) = stream.next().await {
            entries.extend(part.unwrap().map(Result::unwrap));
        }
        assert_eq!(entries.len(), 3);
        for (entry, n) in entries.iter().zip(1..) {
            let flow = flow(n);
            assert_eq!(entry.decode().unwrap(), flow);
            assert_eq!((entry.table(), entry.priority(), entry.cookie()), (3, n, flow.cookie));
            assert_eq!((entry.packets(), entry.byte_count(), entry.flags()), (7, 700, 4));
            assert_eq!(entry.match_bytes().len(), flow.match_.encoded_len());
            assert_eq!(entry.instruction_bytes(), [0, 1, 0, 8, 4, 0, 0, 0]);
        }
        let mut stream = connection.stream_flow_entries(all()).await.unwrap();
        let mut lying = stream.next().await.unwrap().unwrap();
        assert!(lying.next().unwrap().is_ok());
        assert!(lying.next().unwrap().is_err());
        assert!(lying.next().is_none());
        let mut stream = connection.stream_flow_entries(all()).await.unwrap();
        let error = stream.next().await.unwrap();
        assert!(matches!(error, Err(ConnError::Decode(_))), "{error:?}");
        assert!(stream.next().await.is_none());
    };
    play(&mut driver, ours, switch).await;
}

/// Memory for a few parts and no more; and other requests have their answers after a while.
#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_takes_from_is_given_up() {
    let impatient = Options { echo_interval: Duration::from_secs(1), ..options() };
    let (mut peer, connection, mut driver, mut events) = pair(impatient).await;
    let switch = async {
        let (xid, _) = peer.read().await;
        for _ in 0..1000 {
            peer.write(xid, part(1, &[1, 2, 3])).await;
        }
        loop {
            match peer.read().await {
                (xid, Message::BarrierRequest) => {
                    break peer.write(xid, Message::BarrierReply).await;
                }
                (_, Message::EchoRequest(_)) => {}
                (_, other) => panic!("{other:?}"),
            }
        }
    };
    let ours = async {
        let mut stream = connection.stream_flows(FlowStatsRequest::default()).await.unwrap();
        connection.barrier().await.unwrap();
        let mut parts = 0;
        loop {
            match stream.next().await {
                Some(Ok(_)) => parts += 1,
                Some(Err(error)) => break (parts, error),
                None => panic!("no reason"),
            }
        }
    };
    let ((parts, error), ()) = play(&mut driver, ours, switch).await;
    assert!((1..20).contains(&parts), "{parts}");
    assert!(matches!(error, ConnError::NotTaken), "{error:?}");
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn a_dropped_stream_and_a_lost_connection() {
    let (mut peer, connection, mut driver, mut events) = pair(options()).await;
    let switch = async {
        let (xid, _) = peer.read().await;
        peer.write(xid, part(1, &[1])).await;
        let (barrier, _) = peer.read().await;
        for _ in 0..100 {
            peer.write(xid, part(1, &[2])).await;
        }
        peer.write(barrier, Message::BarrierReply).await;
        peer
    };
    let ours = async {
        let mut stream = connection.stream_flows(FlowStatsRequest::default()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        drop(stream);
        connection.barrier().await.unwrap();
    };
    let ((), mut peer) = play(&mut driver, ours, switch).await;
    assert_eq!(connection.late_replies(), 100);
    assert!(events.try_recv().is_err());

    let switch = async {
        let (xid, _) = peer.read().await;
        peer.write(xid, part(1, &[1])).await;
        drop(peer);
    };
    let ours = async {
        let mut stream = connection.stream_flows(FlowStatsRequest::default()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        stream.next().await.unwrap().unwrap_err()
    };
    let (error, (), _) = tokio::join!(ours, switch, driver);
    assert!(matches!(error, ConnError::Closed { .. }), "{error:?}");
}

#[tokio::test]
async fn packet_in_format_and_controller_id_are_part_of_the_handshake() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let mut peer = Peer { stream: theirs };
    let options = Options { packet_in2: true, controller_id: 0x102, ..options() };
    let (shaken, ()) = tokio::join!(connect_stream(ours, options), peer.shake());
    let (_connection, driver, _events) = shaken.unwrap();
    let seen = async {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut out = BytesMut::new();
            let (xid, message) = peer.read().await;
            message.encode(xid, &mut out).unwrap();
            seen.push(out[8..].to_vec());
        }
        seen
    };
    let seen = tokio::select! {
        seen = seen => seen,
        ended = driver => panic!("{ended:?}"),
    };
    assert_eq!(seen[0], [0, 0, 0x23, 0x20, 0, 0, 0, 16, 0, 0, 0, 2]);
    assert_eq!(seen[1], [0, 0, 0x23, 0x20, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 1, 2]);
}

#[tokio::test]
async fn one_connection_after_another_with_pauses_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("br0.mgmt");
    let backoff = Backoff {
        first: Duration::from_millis(2),
        longest: Duration::from_millis(8),
        stable: Duration::from_secs(3600),
    };
    let mut switch = Reconnect::new(Target::Unix(path.clone()), options(), backoff);
    for _ in 0..3 {
        let refused = switch.attempt().await.err();
        assert!(matches!(refused, Some(ConnError::Connect { .. })), "{refused:?}");
    }
    let listener = UnixListener::bind(&path).unwrap();
    for number in 1..=3 {
        let accept = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut peer: Peer<UnixStream> = Peer { stream };
            peer.shake().await;
            peer
        };
        let (generation, mut peer) = tokio::join!(switch.next(), accept);
        assert_eq!(generation.number, number);
        assert_eq!(generation.failures, if number == 1 { 3 } else { 0 });
        let answer = async {
            let (xid, _) = peer.read().await;
            peer.write(xid, Message::BarrierReply).await;
            drop(peer);
        };
        let (result, (), ended) =
            tokio::join!(generation.connection.barrier(), answer, generation.driver);
        result.unwrap();
        assert!(matches!(ended, Err(ConnError::Eof)), "{ended:?}");
    }
}
