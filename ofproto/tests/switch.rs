//! A real Open vSwitch on its dummy datapath.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "tokio")]

#[path = "support/ovs.rs"]
mod ovs;
#[path = "support/strategy.rs"]
mod strategy;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ovs::Switch;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rust_openflow::bundle::{ATOMIC, ORDERED};
use rust_openflow::text::{self, Names};
use rust_openflow::{
    Action, Backoff, BatchError, BundleControl, BundleControlType, BundleError, Connection, Event,
    Field, FlowChange, FlowMod, FlowStats, FlowStatsRequest, FlowUpdate, Header, Instruction,
    Match, Message, MultipartRequest, Options, PacketInProperty, Reconnect, Target, UnixCtl,
    UnixCtlError, connect, connect_stream, flow_flags, max_conjunctions, port,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Runs a test against a fresh switch, with its connection driven beside it.
async fn with_switch<T>(test: impl AsyncFnOnce(&Switch, Connection) -> T) -> T {
    let switch = Switch::start();
    let target = Target::Unix(switch.mgmt());
    let (connection, driver, _events) = connect(&target, Options::default()).await.unwrap();
    tokio::select! {
        result = test(&switch, connection) => result,
        ended = driver => panic!("connection ended: {ended:?}"),
    }
}

/// What makes a flow the flow it is, for comparison with what was installed.
type Key = (u8, u16, Match);

fn generated(n: usize) -> Vec<FlowMod> {
    let mut runner = TestRunner::deterministic();
    let flows = strategy::flows();
    let mut by_key: BTreeMap<Key, FlowMod> = BTreeMap::new();
    while by_key.len() < n {
        let mut flow = flows.new_tree(&mut runner).unwrap().current();
        // Timeouts would end flows while the test looks; groups and meters do not exist.
        (flow.idle_timeout, flow.hard_timeout) =
            (flow.idle_timeout | 0x100, flow.hard_timeout | 0x100);
        // A conjunction may stand in a flow only with conjunctions, and pop of a queue needs none: all are fine.
        by_key.insert((flow.table, flow.priority, flow.match_.clone()), flow);
    }
    by_key.into_values().collect()
}

fn installed(dump: Vec<FlowStats>) -> BTreeMap<Key, FlowStats> {
    dump.into_iter().map(|f| ((f.table, f.priority, f.match_.clone()), f)).collect()
}

#[tokio::test]
async fn what_was_installed_is_what_a_dump_shows() {
    let flows = generated(300);
    with_switch(async |switch, connection| {
        connection.bundle(&flows).await.unwrap();
        let dump = connection.dump_flows(FlowStatsRequest::default()).await.unwrap();
        assert_eq!(dump.len(), flows.len());
        let found = installed(dump.clone());
        for flow in &flows {
            let key = (flow.table, flow.priority, flow.match_.clone());
            let Some(got) = found.get(&key) else { panic!("missing: {flow}") };
            assert_eq!(got.instructions, flow.instructions, "{flow}");
            assert_eq!(got.cookie, flow.cookie);
            assert_eq!(
                (got.idle_timeout, got.hard_timeout),
                (flow.idle_timeout, flow.hard_timeout)
            );
            assert_eq!(got.flags, flow.flags, "{flow}");
        }
        // The text of every flow is ovs-ofctl's, with numbers and with names.
        let mut ours: Vec<String> =
            dump.iter().map(|f| text::flow_without_stats(f, &Names::default())).collect();
        let mut theirs = switch.dump(&["--no-names", "--no-stats"]);
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
        for line in &theirs {
            let read = text::parse_flow(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let got = &found[&(read.table, read.priority, read.match_)];
            assert_eq!(text::flow_without_stats(got, &Names::default()), *line);
        }
        // Deleting by cookie leaves nothing.
        connection.bundle(&[FlowMod::delete_by_cookie(0, 0)]).await.unwrap();
        assert_eq!(connection.dump_flows(FlowStatsRequest::default()).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn names_of_tables_and_ports_print_and_parse_as_ovs_ofctl_does() {
    with_switch(async |switch, connection| {
        let table = |name: &str, id: &str| {
            let set = format!("flow_tables:{id}=@t");
            let create = format!("name=\"{name}\"");
            switch.vsctl(&[
                "--id=@t",
                "create",
                "Flow_Table",
                &create,
                "--",
                "set",
                "Bridge",
                "br0",
                &set,
            ]);
        };
        table("Classifier", "0");
        table("src-class", "30");
        for (n, name) in ["p1", "veth-a", "2nd"].iter().enumerate() {
            let ofport = format!("ofport_request={}", n + 1);
            switch.vsctl(&[
                "add-port",
                "br0",
                name,
                "--",
                "set",
                "interface",
                name,
                "type=dummy",
                &ofport,
            ]);
        }
        let ports = connection.port_desc().await.unwrap();
        let names = Names {
            tables: [(0, "Classifier".to_owned()), (30, "src-class".to_owned())].into(),
            ports: ports
                .iter()
                .filter(|p| p.port < port::MAX)
                .map(|p| (p.port, p.name().into_owned()))
                .collect(),
        };
        assert_eq!(names.ports.values().collect::<Vec<_>>(), ["p1", "veth-a", "2nd"]);
        let apply = |actions: Vec<Action>| Instruction::ApplyActions(actions);
        connection
            .bundle(&[
                FlowMod::add(
                    0,
                    5,
                    Match::new().with(Field::InPort, 1),
                    [Instruction::GotoTable(30)],
                ),
                FlowMod::add(
                    0,
                    0x8000,
                    Match::ip().with(Field::InPort, 2),
                    [apply(vec![
                        Action::output(3),
                        Action::Resubmit { port: 2, table: 30 },
                        Action::resubmit_table(1),
                        Action::output(port::LOCAL),
                    ])],
                ),
                FlowMod::add(30, 0, Match::new(), []),
                FlowMod::add(
                    31,
                    1,
                    Match::new().with(Field::InPort, u128::from(port::LOCAL)),
                    [apply(vec![Action::output(1)])],
                ),
            ])
            .await
            .unwrap();
        let dump = connection.dump_flows(FlowStatsRequest::default()).await.unwrap();
        let mut ours: Vec<String> =
            dump.iter().map(|f| text::flow_without_stats(f, &names)).collect();
        let mut theirs = switch.dump(&["--names", "--no-stats"]);
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
        let found = installed(dump);
        for line in switch.dump(&["--names"]) {
            let read = text::parse_flow_with(&line, &names).unwrap();
            let got = &found[&(read.table, read.priority, read.match_)];
            assert_eq!(got.instructions, read.instructions);
            assert!(read.stats.is_some());
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_flow_is_named_by_its_index_and_nothing_changes() {
    with_switch(async |_, connection| {
        let good = |n: u128| FlowMod::add(1, 10, Match::new().with(Field::Reg(0), n), []);
        connection.bundle(&[good(1)]).await.unwrap();
        let mut mods: Vec<FlowMod> = (2..2000).map(good).collect();
        // Fails to decode: a port match without its protocol.
        mods.insert(1234, FlowMod::add(1, 10, Match::new().with(Field::TcpDst, 80), []));
        mods.push(FlowMod::add(1, 10, Match::new().with(Field::UdpDst, 80), []));
        let error = connection.bundle(&mods).await.unwrap_err();
        let BundleError::Refused { index, error } = error else { panic!("{error:?}") };
        assert_eq!((index, error.name()), (1234, Some("OFPBMC_BAD_PREREQ")));
        let (_, refused) = Message::decode(&error.data).unwrap();
        let Message::BundleAdd(add) = refused else { panic!("{refused:?}") };
        assert_eq!(add.inner().unwrap().1, Message::FlowMod(mods[1234].clone()));
        let left = connection.dump_flows(FlowStatsRequest::default()).await.unwrap();
        assert_eq!(left.len(), 1);
        // The connection is as good as before.
        mods.truncate(1234);
        connection.bundle(&mods).await.unwrap();
        let stats = connection.aggregate(FlowStatsRequest::default()).await.unwrap();
        assert_eq!(stats.flows, 1235);
    })
    .await;
}

#[tokio::test]
async fn a_flow_refused_at_commit_is_named_by_its_index() {
    with_switch(async |_, connection| {
        let overlap = |n: u128, mask| {
            let match_ = Match::new().with_masked(Field::Reg(0), n, mask);
            FlowMod { flags: flow_flags::CHECK_OVERLAP, ..FlowMod::add(1, 10, match_, []) }
        };
        let mods = [overlap(1, 0xff), overlap(2, 0xff), overlap(0, 0xf00)];
        let error = connection.bundle(&mods).await.unwrap_err();
        let BundleError::Refused { index, error } = error else { panic!("{error:?}") };
        assert_eq!((index, error.name()), (2, Some("OFPFMFC_OVERLAP")));
        assert_eq!(connection.dump_flows(FlowStatsRequest::default()).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_flow_without_encoding_costs_the_switch_nothing() {
    with_switch(async |_, connection| {
        let mods = [
            FlowMod::add(1, 10, Match::new(), []),
            FlowMod::add(1, 10, Match::new().with(Field::Reg(99), 1), []),
        ];
        let error = connection.bundle(&mods).await.unwrap_err();
        assert!(matches!(error, BundleError::Encode { index: 1, .. }), "{error:?}");
        assert_eq!(connection.dump_flows(FlowStatsRequest::default()).await.unwrap(), []);
        assert!(connection.bundle(&[]).await.is_ok());
    })
    .await;
}

/// More than the socket and OVS's queue hold: a client that writes before it reads stops here for good.
#[tokio::test]
async fn large_bundles_and_dumps_do_not_block() {
    with_switch(async |_, connection| {
        let mods: Vec<FlowMod> = (0..20_000_u128)
            .map(|n| {
                let match_ = Match::tcp().with(Field::Reg(0), n).with(Field::TcpDst, n & 0xfff);
                FlowMod::add(1, 10, match_, [Instruction::GotoTable(2)]).with_cookie(7)
            })
            .collect();
        connection.bundle(&mods).await.unwrap();
        let all = FlowStatsRequest::default;
        let (a, b, c) = tokio::join!(
            connection.dump_flows(all()),
            connection.dump_flows(FlowStatsRequest { cookie: 8, cookie_mask: u64::MAX, ..all() }),
            connection.table_stats(),
        );
        assert_eq!((a.unwrap().len(), b.unwrap().len()), (20_000, 0));
        let tables = c.unwrap();
        assert_eq!(tables[1].active, 20_000);
    })
    .await;
}

#[tokio::test]
async fn the_most_conjunctions_show_in_a_dump_and_one_more_does_not() {
    let flow = |match_: &Match, n: u16| {
        let one = |id| Action::Conjunction { id, clause: 0, n_clauses: 2 };
        let actions = (0..u32::from(n)).map(one).collect();
        FlowMod::add(1, 10, match_.clone(), [Instruction::ApplyActions(actions)])
    };
    // Padded to 16 and to 24 bytes: where the last unit of 16 ends makes the difference.
    for match_ in [Match::ip(), Match::ip().with(Field::Reg(1), 7)] {
        with_switch(async |_, connection| {
            let most = max_conjunctions(match_.encoded_len() as u16);
            connection.bundle(&[flow(&match_, most)]).await.unwrap();
            let dump = connection.dump_flows(FlowStatsRequest::default()).await.unwrap();
            assert_eq!(dump[0].instructions, flow(&match_, most).instructions);
            let error = connection.bundle(&[flow(&match_, most + 1)]).await.unwrap_err();
            assert!(matches!(error, BundleError::Encode { index: 0, .. }), "{error:?}");
        })
        .await;
    }
    with_switch(async |_, connection| {
        let match_ = Match::ip().with(Field::Reg(1), 7);
        let more = flow(&match_, max_conjunctions(match_.encoded_len() as u16) + 1);
        connection.apply(Message::FlowMod(more)).await.unwrap();
        assert_eq!(connection.dump_flows(FlowStatsRequest::default()).await.unwrap(), []);
        // Taken, though not shown.
        assert_eq!(connection.table_stats().await.unwrap()[1].active, 1);
    })
    .await;
}

#[tokio::test]
async fn requests_that_are_not_bundles() {
    with_switch(async |_, connection| {
        assert_eq!(connection.features().n_tables, 254);
        assert!(connection.desc().await.unwrap().hardware().contains("Open vSwitch"));
        let flow = FlowMod::add(1, 10, Match::new(), []);
        connection.apply(Message::FlowMod(flow)).await.unwrap();
        let bad = FlowMod::add(1, 10, Match::new().with(Field::TcpDst, 80), []);
        let error = connection.apply(Message::FlowMod(bad)).await.unwrap_err();
        assert!(error.to_string().contains("OFPBMC_BAD_PREREQ"), "{error}");
        connection.barrier().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn events_come_from_a_service_connection() {
    let switch = Switch::start();
    let target = Target::Unix(switch.mgmt());
    let (connection, driver, mut events) = connect(&target, Options::default()).await.unwrap();
    let test = async {
        let flow = FlowMod {
            flags: flow_flags::SEND_FLOW_REM,
            ..FlowMod::add(1, 10, Match::new().with(Field::Reg(0), 1), []).with_cookie(5)
        };
        connection.bundle(std::slice::from_ref(&flow)).await.unwrap();
        let delete = FlowMod::delete_strict(1, 10, flow.match_.clone());
        connection.bundle(&[delete]).await.unwrap();
        let removed = loop {
            match events.recv().await {
                Some(Event::FlowRemoved(removed)) => break removed,
                Some(_) => {}
                None => panic!("no flow removed"),
            }
        };
        assert_eq!((removed.cookie, removed.table, removed.match_), (5, 1, flow.match_));
        switch.vsctl(&["add-port", "br0", "p1", "--", "set", "interface", "p1", "type=dummy"]);
        loop {
            match events.recv().await {
                Some(Event::PortStatus(status)) if status.port.name() == "p1" => break,
                Some(_) => {}
                None => panic!("no port status"),
            }
        }
    };
    tokio::select! {
        () = test => {}
        ended = driver => panic!("connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn control_sockets() {
    let switch = Switch::start();
    let mut ctl = UnixCtl::connect(switch.path("vs.ctl")).await.unwrap();
    assert!(ctl.call("version", &[]).await.unwrap().contains("Open vSwitch"));
    let trace = ctl.call("ofproto/trace", &["br0", "in_port=1,tcp"]).await.unwrap();
    assert!(trace.contains("Datapath actions: drop"), "{trace}");
    let error = ctl.call("ofproto/trace", &["no-such-bridge", ""]).await.unwrap_err();
    assert!(matches!(error, UnixCtlError::Failed { .. }), "{error:?}");
    assert!(ctl.call("list-commands", &[]).await.unwrap().contains("fdb/show"));
}

/// The ONF, which defines the errors of bundles and flow monitors.
const ONF: u32 = 0x4f4e_4600;

fn numbered(n: u32) -> Vec<FlowMod> {
    (0..n).map(|n| FlowMod::add(1, 10, Match::new().with(Field::Reg(0), n.into()), [])).collect()
}

async fn count(switch: &Switch) -> usize {
    let target = Target::Unix(switch.mgmt());
    let (connection, driver, _events) = connect(&target, Options::default()).await.unwrap();
    tokio::select! {
        flows = connection.dump_flows(FlowStatsRequest::default()) => flows.unwrap().len(),
        ended = driver => panic!("connection ended: {ended:?}"),
    }
}

/// Neither an empty list of actions to apply nor one to write is in a dump, and neither is in what is encoded.
#[tokio::test]
async fn empty_lists_of_actions_disappear() {
    with_switch(async |switch, connection| {
        let lists = [Instruction::WriteActions(vec![]), Instruction::ApplyActions(vec![])];
        for (n, list) in lists.into_iter().enumerate() {
            let reg = Match::new().with(Field::Reg(0), n as u128);
            // As it would go onto the wire if it were kept: type, length, padding.
            let typ = if matches!(list, Instruction::WriteActions(_)) { 3 } else { 4 };
            let mut frame = BytesMut::new();
            Message::FlowMod(FlowMod::add(1, 10, reg.clone(), [])).encode(0, &mut frame).unwrap();
            frame.put_slice(&[0, typ, 0, 8, 0, 0, 0, 0]);
            let length = u16::try_from(frame.len()).unwrap().to_be_bytes();
            frame[2..4].copy_from_slice(&length);
            let body = frame.freeze().slice(8..);
            connection.apply(Message::Unknown { typ: 14, body }).await.unwrap();
            let dump = connection.dump_flows(FlowStatsRequest::default()).await.unwrap();
            assert_eq!(dump[n].instructions, []);
            assert_eq!(FlowMod::add(1, 10, reg, [list]).instructions, []);
        }
        assert_eq!(count(switch).await, 2);
    })
    .await;
}

/// To a group that does not exist, which OVS sees only at the commit.
#[tokio::test]
async fn a_missing_group_at_commit_leaves_nothing_of_flows_and_groups() {
    with_switch(async |switch, connection| {
        let to_group = |group, n: u128| {
            let actions = vec![Action::Group(group)];
            let match_ = Match::new().with(Field::Reg(0), n);
            FlowMod::add(1, 10, match_, [Instruction::ApplyActions(actions)])
        };
        let group = |id: u32| {
            // An empty group of type all: command, type, id.
            let mut body = BytesMut::new();
            body.put_slice(&[0, 0, 0, 0]);
            body.put_u32(id);
            let mut frame = BytesMut::from(&[4, 15, 0, 16, 0, 0, 0, 0][..]);
            frame.put_slice(&body);
            Message::decode(&frame.freeze()).unwrap().1
        };
        let flow = |flow: FlowMod| Message::FlowMod(flow);
        let groups = || {
            let mgmt = format!("unix:{}", switch.mgmt().display());
            let text = ovs::must("ovs-ofctl", &["-O", "OpenFlow13", "dump-groups", &mgmt]);
            text.lines().filter(|l| l.contains("group_id=")).count()
        };

        let bad = [flow(to_group(5, 1)), group(5), flow(to_group(5, 2))];
        let error = connection.bundle_messages(&bad).await.unwrap_err();
        assert!(error.unchanged());
        let BundleError::Refused { index, error } = error else { panic!("{error:?}") };
        assert_eq!((index, error.name()), (0, Some("OFPBAC_BAD_OUT_GROUP")));
        assert_eq!((count(switch).await, groups()), (0, 0));

        let good = [group(5), flow(to_group(5, 1)), flow(to_group(5, 2))];
        connection.bundle_messages(&good).await.unwrap();
        assert_eq!((count(switch).await, groups()), (2, 1));

        // The same group again, behind a flow that would do.
        let again = [flow(to_group(5, 3)), group(5)];
        let error = connection.bundle_messages(&again).await.unwrap_err();
        let BundleError::Refused { index, error } = error else { panic!("{error:?}") };
        assert_eq!((index, error.name()), (1, Some("OFPGMFC_GROUP_EXISTS")));
        assert_eq!((count(switch).await, groups()), (2, 1));

        // What does not go into a bundle at all.
        let error = connection.bundle_messages(&[Message::BarrierRequest]).await.unwrap_err();
        let BundleError::Refused { index: 0, error } = error else { panic!("{error:?}") };
        assert_eq!(error.name(), Some("OFPBFC_MSG_UNSUP"));
    })
    .await;
}

/// An open of a bundle that is open deletes it: whatever the other one was, both are gone.
#[tokio::test]
async fn a_bundle_of_the_same_id_fails_both() {
    with_switch(async |switch, connection| {
        // The id of a bundle is its first xid; the first of all is 0x100, and each of these takes one.
        for id in 0x104..0x10c {
            let open = BundleControl::new(id, BundleControlType::OPEN, ATOMIC | ORDERED);
            connection.send(Message::BundleControl(open)).await.unwrap();
        }
        let error = connection.bundle(&numbered(200)).await.unwrap_err();
        assert!(error.unchanged());
        let BundleError::Failed { error } = error else { panic!("{error:?}") };
        assert_eq!(error.name(), Some("OFPBFC_BAD_ID"));
        assert_eq!(count(switch).await, 0);
        connection.bundle(&numbered(10)).await.unwrap();
        assert_eq!(count(switch).await, 10);
    })
    .await;
}

/// Reads one frame of a stream; `None` at its end.
async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Bytes> {
    let mut head = [0; Header::LEN];
    stream.read_exact(&mut head).await.ok()?;
    let length = usize::from(Header::decode(head).unwrap().length);
    let mut frame = BytesMut::from(&head[..]);
    frame.resize(length, 0);
    stream.read_exact(&mut frame[Header::LEN..]).await.ok()?;
    Some(frame.freeze())
}

/// What stands between client and switch.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    /// Cut when so many messages of the bundle have passed.
    Cut(usize),
    /// Cut when so many have passed and the switch has answered the last of them; the answer does not pass.
    CutAnswered(usize),
    /// Passes no more until the switch has sent an error, then everything.
    Hold(usize),
}

/// Carries out a bundle of these flows over a connection with a fault.
async fn with_fault(switch: &Switch, fault: Fault, mods: &[FlowMod]) -> Result<(), BundleError> {
    let (ours, middle) = tokio::io::duplex(1 << 16);
    let theirs = UnixStream::connect(switch.mgmt()).await.unwrap();
    let (mut from_client, mut to_client) = tokio::io::split(middle);
    let (mut from_switch, mut to_switch) = tokio::io::split(theirs);
    let (errors, mut error_seen) = tokio::sync::mpsc::channel(16);
    let (answers, mut answered) = tokio::sync::mpsc::channel(16);
    let (withhold, withheld) = tokio::sync::watch::channel(false);
    let requests = async move {
        // HELLO, features, configuration.
        for _ in 0..3 {
            to_switch.write_all(&frame(&mut from_client).await?).await.ok()?;
        }
        let mut passed = 0;
        loop {
            match fault {
                Fault::Cut(n) if passed == n => return None,
                Fault::CutAnswered(n) if passed == n => {
                    answered.recv().await;
                    return None::<()>;
                }
                Fault::Hold(n) if passed == n => {
                    error_seen.recv().await;
                }
                _ => {}
            }
            let next = frame(&mut from_client).await?;
            if matches!(fault, Fault::CutAnswered(n) if passed + 1 == n) {
                withhold.send_replace(true);
            }
            to_switch.write_all(&next).await.ok()?;
            passed += 1;
        }
    };
    let replies = async move {
        loop {
            let next = frame(&mut from_switch).await?;
            match Message::decode(&next) {
                Ok((_, Message::Error(_))) => {
                    // Nobody may listen.
                    let _ = errors.try_send(());
                }
                Ok((_, Message::BundleControl(_))) if *withheld.borrow() => {
                    let _ = answers.try_send(());
                    continue;
                }
                _ => {}
            }
            if to_client.write_all(&next).await.is_err() {
                return None::<()>;
            }
        }
    };
    // Owns both ends of both, so that they are closed when it is done.
    let between = async move {
        tokio::select! {
            _ = requests => {}
            _ = replies => {}
        }
    };
    let bundle = async {
        let (connection, mut driver, _events) =
            connect_stream(ours, Options::default()).await.unwrap();
        let mut bundle = std::pin::pin!(connection.bundle(mods));
        tokio::select! {
            outcome = &mut bundle => outcome,
            _ = &mut driver => bundle.await,
        }
    };
    tokio::join!(between, bundle).1
}

#[tokio::test]
async fn a_connection_lost_at_each_point_leaves_all_or_nothing_and_the_caller_knows() {
    const FLOWS: u32 = 4;
    const CLOSED: usize = FLOWS as usize + 2;
    const COMMITTED: usize = CLOSED + 1;
    let switch = Switch::start();
    let faults = (0..=COMMITTED)
        .map(Fault::Cut)
        .chain([1, CLOSED, COMMITTED].into_iter().map(Fault::CutAnswered));
    for fault in faults {
        let outcome = with_fault(&switch, fault, &numbered(FLOWS)).await;
        let there = count(&switch).await;
        let case = format!("{fault:?}: {there} flows, {outcome:?}");
        assert!(there == 0 || there == FLOWS as usize, "{case}");
        let error = outcome.as_ref().expect_err("the answer to the commit never passes");
        if error.unchanged() {
            assert_eq!(there, 0, "{case}");
        }
        match fault {
            // Not even the switch's own end of it matters: it had not been told to commit.
            Fault::Cut(n) | Fault::CutAnswered(n) if n < COMMITTED => {
                assert_eq!(there, 0, "{case}");
                assert!(error.unchanged(), "{case}");
            }
            Fault::CutAnswered(_) => {
                assert_eq!(there, FLOWS as usize, "{case}");
                assert!(matches!(error, BundleError::Unknown), "{case}");
            }
            _ => assert!(matches!(error, BundleError::Unknown), "{case}"),
        }
        with_bare(&switch, async |connection| {
            connection.apply(Message::FlowMod(FlowMod::delete_by_cookie(0, 0))).await.unwrap();
        })
        .await;
    }
}

/// As [`with_switch`], with a switch that is there.
async fn with_bare<T>(switch: &Switch, test: impl AsyncFnOnce(Connection) -> T) -> T {
    let target = Target::Unix(switch.mgmt());
    let (connection, driver, _events) = connect(&target, Options::default()).await.unwrap();
    tokio::select! {
        result = test(connection) => result,
        ended = driver => panic!("connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn a_bundle_that_the_switch_gave_up_waiting_for_changes_nothing() {
    let switch = Switch::start();
    switch.vsctl(&["set", "Open_vSwitch", ".", "other_config:bundle-idle-timeout=1"]);
    // After the OPEN, after some additions, before the CLOSE.
    for passed in [1, 3, 5] {
        let error = with_fault(&switch, Fault::Hold(passed), &numbered(4)).await.unwrap_err();
        assert!(error.unchanged());
        let BundleError::Failed { error } = error else { panic!("{error:?}") };
        assert_eq!(error.name(), Some("OFPBFC_TIMEOUT"));
        assert_eq!(count(&switch).await, 0);
    }
}

#[tokio::test]
async fn streams_batches_and_chunks() {
    with_switch(async |switch, connection| {
        let mut mods = numbered(20_000);
        connection.batch(&mods).await.unwrap();
        let mut stream = connection.stream_flows(FlowStatsRequest::default()).await.unwrap();
        let (mut parts, mut flows) = (0, 0);
        while let Some(part) = stream.next().await {
            parts += 1;
            flows += part.unwrap().len();
        }
        assert_eq!(flows, 20_000);
        assert!(parts > 10, "{parts}");
        let cleared = [FlowMod::delete_by_cookie(0, 0)];
        connection.bundle(&cleared).await.unwrap();

        // All but what was refused.
        mods.truncate(3000);
        let bad = || FlowMod::add(1, 10, Match::new().with(Field::TcpDst, 80), []);
        (mods[1500], mods[2999]) = (bad(), bad());
        let BatchError::Refused { refused, total: 2 } = connection.batch(&mods).await.unwrap_err()
        else {
            panic!()
        };
        assert_eq!(refused.iter().map(|r| r.index).collect::<Vec<_>>(), [1500, 2999]);
        assert_eq!(refused[0].error.name(), Some("OFPBMC_BAD_PREREQ"));
        assert_eq!(count(switch).await, 2998);
        connection.bundle(&cleared).await.unwrap();

        // The chunks before the one with the mistake.
        let size = NonZeroUsize::new(1000).unwrap();
        let error = connection.bundles(&mods, size).await.unwrap_err();
        assert_eq!((error.committed, error.tried), (1000, 1000));
        assert!(matches!(error.source, BundleError::Refused { index: 1500, .. }));
        assert_eq!(count(switch).await, 1000);
    })
    .await;
}

/// The first part of a flow monitor request; `with_match` is false for what makes OVS send its memory.
fn monitor(with_match: bool) -> Message {
    let mut body = BytesMut::new();
    body.put_u32(ONF);
    body.put_u32(1870);
    body.put_u32(7);
    // add, delete, modify, actions, own
    body.put_u16(0x3e);
    body.put_u16(4);
    body.put_u32(port::ANY);
    body.put_slice(&[0xff, 0, 0, 0]);
    if with_match {
        body.put_slice(&[0, 1, 0, 4, 0, 0, 0, 0]);
    }
    let body = body.freeze();
    Message::MultipartRequest(MultipartRequest::Unknown { typ: 0xffff, flags: 0, body })
}

/// Updates of a flow monitor have xid 0 and come while requests wait for answers.
#[tokio::test]
async fn updates_of_a_flow_monitor_are_events() {
    let switch = Switch::start();
    let target = Target::Unix(switch.mgmt());
    let (connection, driver, mut events) = connect(&target, Options::default()).await.unwrap();
    let test = async {
        connection.request(monitor(true)).await.unwrap();
        for flow in numbered(3) {
            let (added, dumped) = tokio::join!(
                connection.apply(Message::FlowMod(flow)),
                connection.dump_flows(FlowStatsRequest::default()),
            );
            added.unwrap();
            dumped.unwrap();
        }
        let mut updates = 0;
        while updates < 3 {
            match events.recv().await.unwrap() {
                Event::FlowMonitor(changes) => {
                    let [FlowUpdate::Full(change)] = &changes[..] else { panic!("{changes:?}") };
                    assert_eq!((change.event, change.table), (FlowChange::ADDED, 1));
                    updates += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(connection.dropped_events(), 0);
    };
    tokio::select! {
        () = test => {}
        ended = driver => panic!("connection ended: {ended:?}"),
    }
}

/// A request that OVS 3.1.0 answers with 65,535 bytes of its memory, under another version: passed over.
#[tokio::test]
async fn bytes_of_the_switchs_memory_are_survived() {
    with_switch(async |_, connection| {
        connection.send(monitor(false)).await.unwrap();
        connection.barrier().await.unwrap();
        connection.bundle(&numbered(10)).await.unwrap();
        let flows = connection.dump_flows(FlowStatsRequest::default()).await.unwrap();
        assert_eq!(flows.len(), 10);
    })
    .await;
}

/// A packet that waits for us, with what the flow gave along and what the switch needs to go on.
#[tokio::test]
async fn a_paused_packet_comes_with_userdata_and_continuation() {
    let switch = Switch::start();
    switch.vsctl(&["add-port", "br0", "p1", "--", "set", "interface", "p1", "type=dummy"]);
    let target = Target::Unix(switch.mgmt());
    let options = Options { packet_in2: true, controller_id: 9, ..Options::default() };
    let (connection, driver, mut events) = connect(&target, options).await.unwrap();
    let test = async {
        let line =
            "table=0,priority=1,ip actions=controller(id=9,userdata=c0.ff.ee.57.65.69.72,pause)";
        let flow = text::parse_flow(line).unwrap().into_add();
        connection.bundle(&[flow]).await.unwrap();
        let mut ctl = UnixCtl::connect(switch.path("vs.ctl")).await.unwrap();
        let packet = "in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0800),\
            ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)";
        ctl.call("netdev-dummy/receive", &["p1", packet]).await.unwrap();
        let packet = loop {
            match events.recv().await.unwrap() {
                Event::PacketIn2(packet) => break packet,
                Event::PortStatus(_) => {}
                other => panic!("{other:?}"),
            }
        };
        let has = |wanted: fn(&PacketInProperty) -> bool| packet.properties.iter().any(wanted);
        assert!(has(|p| matches!(p, PacketInProperty::UserData(data)
            if data[..] == [0xc0, 0xff, 0xee, 0x57, 0x65, 0x69, 0x72])));
        assert!(has(|p| matches!(p, PacketInProperty::Continuation(bytes) if !bytes.is_empty())));
        // The switch takes its continuation back.
        connection.apply(Message::Resume(packet.to_resume())).await.unwrap();
    };
    tokio::select! {
        () = test => {}
        ended = driver => panic!("connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn a_restarted_switch_is_another_generation_without_flows() {
    let switch = Switch::start();
    let backoff = Backoff { first: Duration::from_millis(5), ..Backoff::default() };
    let mut connections = Reconnect::new(Target::Unix(switch.mgmt()), Options::default(), backoff);
    for number in 1..=3 {
        let generation = connections.next().await;
        assert_eq!(generation.number, number);
        let connection = generation.connection;
        let mut driver = generation.driver;
        let work = async {
            assert_eq!(connection.dump_flows(FlowStatsRequest::default()).await.unwrap(), []);
            connection.bundle(&numbered(10)).await.unwrap();
        };
        tokio::select! {
            () = work => {}
            ended = &mut driver => panic!("connection ended: {ended:?}"),
        }
        switch.restart();
        assert!(driver.await.is_err());
    }
}
