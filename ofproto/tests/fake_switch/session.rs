//! How a connection begins, ends and is made again; what a switch sends of its own accord.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rust_openflow::{
    Backoff, BatchError, BundleError, ConnError, ErrorMsg, Event, FlowStatsRequest, Hello, Message,
    Options, Reconnect, Target, connect_stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::peer::{Peer, flows, options, pair, play};

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

/// The switch lives, as what it sends shows, but does not read: neither a bundle nor a request waits for it without end.
#[tokio::test(start_paused = true)]
async fn a_switch_that_does_not_read_is_not_waited_for_without_end() {
    let lively = Options { echo_interval: Duration::from_secs(1), ..options() };
    let (mut peer, connection, mut driver, _events) = pair(lively).await;
    let switch = async {
        loop {
            peer.write(0, Message::EchoReply(Bytes::new())).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let start = tokio::time::Instant::now();
    let mods = flows(200_000);
    let ours = async {
        let bundle = connection.bundle(&mods).await;
        let dump = connection.dump_flows(FlowStatsRequest::default()).await;
        (bundle, dump, connection.barrier().await, connection.batch(&mods).await)
    };
    let (bundle, dump, barrier, batch) = tokio::select! {
        done = ours => done,
        () = switch => unreachable!(),
        ended = &mut driver => panic!("{ended:?}"),
    };
    assert!(
        matches!(bundle, Err(BundleError::NotCommitted(ConnError::Timeout { .. }))),
        "{bundle:?}"
    );
    assert!(matches!(dump, Err(ConnError::Timeout { .. })), "{dump:?}");
    assert!(matches!(barrier, Err(ConnError::Timeout { .. })), "{barrier:?}");
    assert!(matches!(batch, Err(BatchError::Unknown(ConnError::Timeout { .. }))), "{batch:?}");
    // Two for the bundle: up to its CLOSE, and for the room to discard it.
    assert!(start.elapsed() <= Duration::from_secs(5 * 2), "{:?}", start.elapsed());
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
