//! Replies: in parts, in any order, malformed, without end; as a whole and as streams.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rust_openflow::{
    ConnError, ErrorMsg, Event, Field, FlowStats, FlowStatsRequest, Match, Message, MultipartBody,
    MultipartReply, Options,
};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use crate::peer::{options, pair, part, play};

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

/// A driver that is ahead of its caller decodes parts itself: the flows come in order all the same.
#[tokio::test]
async fn a_dump_that_comes_faster_than_it_is_taken() {
    let (mut peer, connection, mut driver, _events) = pair(options()).await;
    let switch = async {
        let (xid, _) = peer.read().await;
        for n in 0..200 {
            peer.write(xid, part(u16::from(n < 199), &[n, n])).await;
        }
    };
    let dump = connection.dump_flows(FlowStatsRequest::default());
    let (flows, ()) = play(&mut driver, dump, switch).await;
    let tables: Vec<u8> = flows.unwrap().iter().map(|flow| flow.table).collect();
    assert_eq!(tables, (0..200).flat_map(|n| [n, n]).collect::<Vec<_>>());

    // Parts of something else, at first and later on.
    let ports = || {
        Message::MultipartReply(MultipartReply { flags: 1, body: MultipartBody::PortDesc(vec![]) })
    };
    for before in [0, 1, 5] {
        let switch = async {
            let (xid, _) = peer.read().await;
            for _ in 0..before {
                peer.write(xid, part(1, &[1])).await;
            }
            peer.write(xid, ports()).await;
        };
        let dump = connection.dump_flows(FlowStatsRequest::default());
        let error = play(&mut driver, dump, switch).await.0.unwrap_err();
        match before {
            0 => assert!(matches!(error, ConnError::UnexpectedBody { .. }), "{error:?}"),
            _ => assert!(matches!(error, ConnError::Reassembly(_)), "{error:?}"),
        }
    }
    let switch = async {
        let (xid, _) = peer.read().await;
        peer.write(xid, part(1, &[1])).await;
        peer.write(xid, Message::Error(ErrorMsg::new(1, 13, Bytes::new()))).await;
    };
    let dump = connection.dump_flows(FlowStatsRequest::default());
    let error = play(&mut driver, dump, switch).await.0.unwrap_err();
    assert!(matches!(error, ConnError::Refused { .. }), "{error:?}");
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
    let (gave_up, given_up) = oneshot::channel();
    let switch = async {
        let (xid, _) = peer.read().await;
        for _ in 0..30 {
            peer.write(xid, part(1, &[1])).await;
        }
        given_up.await.unwrap();
        for _ in 0..70 {
            peer.write(xid, part(1, &[1])).await;
        }
        let (xid, _) = peer.read().await;
        peer.write(xid, Message::BarrierReply).await;
    };
    let ours = async {
        let dump = connection.dump_flows(FlowStatsRequest::default()).await;
        gave_up.send(()).unwrap();
        (dump, connection.barrier().await)
    };
    let ((dump, barrier), ()) = play(&mut driver, ours, switch).await;
    assert!(matches!(dump, Err(ConnError::Timeout { .. })), "{dump:?}");
    barrier.unwrap();
    assert_eq!(connection.late_replies(), 70);
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
