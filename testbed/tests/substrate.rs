//! The ground that all other tests stand on: with `NORMAL` everything passes, without a flow nothing does, and nothing
//! is left behind.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use weir_testbed::matrix::{self, Verdicts};
use weir_testbed::ovs::BRIDGE;
use weir_testbed::probe::Request;
use weir_testbed::{Budget, Layout, Outcome, Outside, Testbed, Workload, home, netns, tcp, udp};

fn layout(nodes: u8) -> Layout {
    Layout {
        nodes,
        outside: vec![Outside {
            name: "client".into(),
            addresses: vec!["203.0.113.10".parse().unwrap(), "fd00:203:113::10".parse().unwrap()],
            services: vec![tcp(443), udp(53)],
        }],
        node_services: vec![tcp(10250)],
    }
}

fn pods(count: u16, nodes: u16) -> Vec<Workload> {
    (0..count)
        .map(|n| {
            Workload::new(
                &format!("x/p{n}"),
                &format!("n{}", n % nodes + 1),
                &weir_testbed::address::of_pod(n + 1),
                &[tcp(80), tcp(81), udp(80), udp(81)],
            )
        })
        .collect()
}

fn set_flow(bed: &Testbed, actions: &str) {
    for node in bed.nodes() {
        node.ovs.ofctl(&["del-flows", BRIDGE]).unwrap();
        if !actions.is_empty() {
            let flow = format!("actions={actions}");
            node.ovs.ofctl(&["add-flow", BRIDGE, &flow]).unwrap();
        }
    }
}

/// Waits until every pair of hosts has the same verdict, and says how long one look at all of them took.
fn everything_is(bed: &Testbed, open: bool) {
    let expected: Verdicts = matrix::all_cells(bed).into_iter().map(|c| (c, open)).collect();
    let start = Instant::now();
    let seen = bed.settle(&expected, Duration::from_secs(20)).unwrap();
    let (all, took) = (expected.len(), start.elapsed());
    eprintln!("{all} cells, open: {open}: {} probes in {took:?}", seen.probes);
    assert!(seen.wrong.is_empty(), "{}", seen.differences().join("\n"));
}

#[test]
fn normal_passes_everything_and_no_flow_nothing() {
    let start = Instant::now();
    let mut bed = Testbed::up(&home::test_name(), &layout(3)).unwrap();
    eprintln!("3 nodes: {:?}", start.elapsed());
    let start = Instant::now();
    bed.add_pods(&pods(12, 3)).unwrap();
    eprintln!("12 pods: {:?}", start.elapsed());
    for (actions, open) in [("NORMAL", true), ("", false), ("NORMAL", true)] {
        set_flow(&bed, actions);
        everything_is(&bed, open);
    }
    let start = Instant::now();
    bed.down().unwrap();
    eprintln!("down: {:?}", start.elapsed());
}

#[test]
fn pods_come_go_move_and_inherit_addresses() {
    let mut bed = Testbed::up(&home::test_name(), &layout(2)).unwrap();
    set_flow(&bed, "NORMAL");
    let mut pods = pods(3, 2);
    bed.add_pods(&pods).unwrap();
    let ask = |bed: &Testbed, from: &str, to: IpAddr| {
        bed.engine()
            .probe(
                vec![Request {
                    from: bed.host(from).unwrap().inside.clone(),
                    to: (to, 80).into(),
                    protocol: tcp(80).protocol,
                }],
                Budget::PATIENT,
            )
            .remove(0)
    };
    let address = pods[1].addresses[0];
    assert_eq!(ask(&bed, "x/p0", address), Outcome::Answered("x/p1".into()));

    // the address goes to a pod of another name on another node
    bed.remove_pods(&["x/p1"]).unwrap();
    assert_eq!(ask(&bed, "x/p0", address), Outcome::Silent);
    pods[1].name = "x/heir".into();
    pods[1].node = "n1".into();
    bed.add_pods(&pods[1..2]).unwrap();
    for from in ["x/p0", "x/p2", "node/n2", "world/client"] {
        assert_eq!(ask(&bed, from, address), Outcome::Answered("x/heir".into()));
    }

    // and the pod to another address
    let fresh: IpAddr = "10.10.0.77".parse().unwrap();
    bed.readdress("x/heir", &[fresh]).unwrap();
    assert_eq!(ask(&bed, "x/p2", fresh), Outcome::Answered("x/heir".into()));
    assert_eq!(ask(&bed, "x/p2", address), Outcome::Silent);
    bed.down().unwrap();
}

#[test]
fn streams_count_each_direction_and_notice_a_cut() {
    let mut bed = Testbed::up(&home::test_name(), &layout(2)).unwrap();
    set_flow(&bed, "NORMAL");
    bed.add_pods(&pods(2, 2)).unwrap();
    for service in [tcp(80), udp(80)] {
        let request = Request {
            from: bed.host("x/p0").unwrap().inside.clone(),
            to: bed.host("x/p1").unwrap().target(false, 80).unwrap(),
            protocol: service.protocol,
        };
        let open = || bed.engine().stream(&request, Duration::from_millis(2)).unwrap();
        let stream = open();
        for _ in 0..5 {
            stream.moves(Duration::from_secs(2)).unwrap();
        }
        let counts = stream.finish();
        assert_eq!(counts.there.lost() + counts.back.lost(), 0, "{counts:?}");
        assert!(counts.there.received > 4 && counts.back.received > 4);

        let stream = open();
        let changed = Instant::now();
        set_flow(&bed, "");
        let last = stream.is_cut(Duration::from_millis(300), Duration::from_secs(5)).unwrap();
        eprintln!("cut after {:?}", last.saturating_duration_since(changed));
        stream.moves(Duration::from_millis(300)).unwrap_err();
        set_flow(&bed, "NORMAL");
        stream.moves(Duration::from_secs(5)).unwrap();
    }
    bed.down().unwrap();
}

#[test]
fn the_moment_of_a_change_is_measured() {
    let mut bed = Testbed::up(&home::test_name(), &layout(1)).unwrap();
    bed.add_pods(&pods(2, 1)).unwrap();
    for service in [tcp(80), udp(80)] {
        let request = Request {
            from: bed.host("x/p0").unwrap().inside.clone(),
            to: bed.host("x/p1").unwrap().target(false, 80).unwrap(),
            protocol: service.protocol,
        };
        for (flow, open) in [("NORMAL", true), ("", false)] {
            let since = Instant::now();
            set_flow(&bed, flow);
            let took =
                bed.engine().first_right(&request, open, since, Duration::from_secs(5)).unwrap();
            eprintln!("{service} open={open}: {took:?}");
        }
    }
}

#[test]
fn what_a_dropped_testbed_made_is_gone() {
    let name = home::test_name();
    let mut bed = Testbed::up(&name, &layout(1)).unwrap();
    bed.add_pods(&pods(2, 1)).unwrap();
    let infra = home::namespace_name(&name, "infra");
    assert!(netns::exists(&infra));
    assert!(home::list().iter().any(|(n, holder)| *n == name && holder.is_some()));
    // while it is held, nobody else gets it
    Testbed::up(&name, &layout(1)).map(drop).unwrap_err();
    home::take_down(&name).unwrap_err();
    drop(bed);
    assert!(!netns::exists(&infra));
    assert!(!home::list().iter().any(|(n, _)| *n == name));
}
