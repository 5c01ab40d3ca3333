//! Bundles and batches: refusals, silence, loss at every point.

use std::num::NonZeroUsize;

use bytes::Bytes;
use rust_openflow::{
    BatchError, BundleControlType, BundleError, ConnError, ErrorMsg, Event, FlowStatsRequest,
    Message,
};
use tokio::io::AsyncWriteExt;

use crate::peer::{ONF, Peer, flows, onf_error, options, pair, part, play};

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

/// Takes a bundle up to the request that discards it, and says something of each addition by its place in the bundle.
async fn until_discarded(
    peer: &mut Peer,
    mut answer: impl AsyncFnMut(&mut Peer, usize, u32, Bytes),
) {
    let mut adds = 0;
    loop {
        match peer.read().await {
            (xid, Message::BundleAdd(add)) => {
                answer(peer, adds, xid, add.message).await;
                adds += 1;
            }
            (xid, Message::BundleControl(control)) => {
                assert_ne!(control.typ, BundleControlType::COMMIT);
                let discarded = control.typ == BundleControlType::DISCARD;
                peer.answer(xid, control).await;
                if discarded {
                    return;
                }
            }
            (_, other) => panic!("{other:?}"),
        }
    }
}

/// Trap: an addition that fails to decode leaves the bundle open, and the CLOSE is answered as if nothing was.
#[tokio::test]
async fn a_refused_addition_discards_the_bundle() {
    let (mut peer, connection, driver, _events) = pair(options()).await;
    let switch = until_discarded(&mut peer, async |peer, nth, xid, message| {
        if nth == 3 || nth == 5 {
            peer.write(xid, Message::Error(ErrorMsg::new(4, 9, message))).await;
        }
    });
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

/// A refusal that cannot be decoded is one all the same: it must not pass for none.
#[tokio::test]
async fn a_malformed_refusal_discards_the_bundle_and_leaves_a_batch_in_doubt() {
    let (mut peer, connection, mut driver, _events) = pair(options()).await;
    // An error without its code.
    let malformed = |xid: u32| [&[4, 1, 0, 10][..], &xid.to_be_bytes(), &[0, 4]].concat();
    let mods = flows(4);
    let switch = until_discarded(&mut peer, async |peer, nth, xid, _| {
        if nth == 1 {
            peer.stream.write_all(&malformed(xid)).await.unwrap();
        }
    });
    let (result, ()) = play(&mut driver, connection.bundle(&mods), switch).await;
    assert!(matches!(result, Err(BundleError::NotCommitted(ConnError::Decode(_)))), "{result:?}");

    let switch = async {
        loop {
            match peer.read().await {
                (xid, Message::FlowMod(flow)) if flow.match_ == mods[2].match_ => {
                    peer.stream.write_all(&malformed(xid)).await.unwrap();
                }
                (_, Message::FlowMod(_)) => {}
                (xid, _) => break peer.write(xid, Message::BarrierReply).await,
            }
        }
    };
    let (result, ()) = play(&mut driver, connection.batch(&mods), switch).await;
    assert!(matches!(result, Err(BatchError::Unknown(ConnError::Decode(_)))), "{result:?}");
    assert_eq!(connection.malformed_messages(), 2);
}
