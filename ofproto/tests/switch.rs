//! A real Open vSwitch on its dummy datapath.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(feature = "tokio")]

#[path = "support/ovs.rs"]
mod ovs;
#[path = "support/strategy.rs"]
mod strategy;

use std::collections::BTreeMap;

use ovs::Switch;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rust_openflow::text::{self, Names};
use rust_openflow::{
    Action, BundleError, Connection, Event, Field, FlowMod, FlowStats, FlowStatsRequest,
    Instruction, Match, Message, Options, Target, UnixCtl, UnixCtlError, connect, flow_flags,
    max_conjunctions, port,
};

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
