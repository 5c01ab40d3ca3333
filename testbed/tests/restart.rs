//! Whatever goes away and comes again: agents, the controller, Open vSwitch. Traffic that is allowed notices nothing of
//! the first two, and nothing is let through at any time.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use weir_testbed::fleet::{Fleet, IN_FORCE, Setup, pod};
use weir_testbed::{tcp, udp};

const ALLOW_WEB: &str = "{kind: NetworkPolicy, metadata: {name: db, namespace: shop}, spec: {\
     podSelector: {matchLabels: {app: db}}, \
     ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}, {port: 5432, protocol: UDP}]}]}}";

fn fleet() -> Fleet {
    let mut fleet = Fleet::for_test(&Setup::nodes(2)).unwrap();
    fleet.namespace("shop", &[]).unwrap();
    fleet
        .add(&[
            pod("shop/web").on("n1").label("app", "web"),
            pod("shop/other").on("n1").label("app", "other"),
            pod("shop/db").on("n2").label("app", "db").serves(&[tcp(5432), udp(5432)]),
        ])
        .unwrap();
    fleet.apply(ALLOW_WEB).unwrap();
    fleet.agrees().unwrap();
    fleet
}

/// Flows of every node without counters.
fn flows(fleet: &Fleet) -> Vec<Vec<String>> {
    fleet.bed().nodes().iter().map(|n| n.ovs.flows().unwrap()).collect()
}

/// What each flow of each node has counted: seconds since it was installed, and packets. Keyed by the flow's text.
fn counters(fleet: &Fleet) -> Vec<BTreeMap<String, (f64, u64)>> {
    let read = |line: &str| {
        let mut words: Vec<&str> = line.trim().split(", ").collect();
        let mut take = |key: &str| {
            let at = words.iter().position(|w| w.starts_with(key))?;
            Some(words.remove(at)[key.len()..].to_owned())
        };
        let age = take("duration=")?.trim_end_matches('s').parse().ok()?;
        let packets = take("n_packets=")?.parse().ok()?;
        take("n_bytes=")?;
        Some((words.join(", "), (age, packets)))
    };
    let of = |n: &weir_testbed::Node| {
        let dump = n.ovs.ofctl(&["dump-flows", "br-int"]).unwrap();
        dump.lines().filter_map(read).collect::<BTreeMap<_, _>>()
    };
    fleet.bed().nodes().iter().map(of).collect()
}

#[test]
fn agents_killed_and_started_again_change_no_flow_and_lose_no_packet() {
    let mut fleet = fleet();
    let stream = fleet.stream("shop/web", "shop/db", udp(5432)).unwrap();
    let (before, counted) = (flows(&fleet), counters(&fleet));
    for _ in 0..2 {
        for node in ["n1", "n2"] {
            fleet.agent(node).unwrap().kill().unwrap();
        }
        stream.moves(IN_FORCE).unwrap();
        for node in ["n1", "n2"] {
            fleet.agent(node).unwrap().start_again().unwrap();
        }
        fleet.ready().unwrap();
    }
    stream.moves(IN_FORCE).unwrap();
    assert_eq!(flows(&fleet), before, "a restart changes no flow");
    for (now, then) in counters(&fleet).iter().zip(&counted) {
        assert_eq!(now.len(), then.len());
        for (flow, (age, packets)) in then {
            let (age_now, packets_now) = now[flow];
            assert!(
                age_now > *age && packets_now >= *packets,
                "{flow} was installed again: {age_now} s and {packets_now} packets after {age} s and {packets}"
            );
        }
    }
    // the datapath tells its counts now and then
    let busiest = |all: &[BTreeMap<String, (f64, u64)>]| -> Vec<_> {
        all.iter().map(|n| n.values().map(|(_, packets)| *packets).max()).collect()
    };
    weir_testbed::wait::until("counters that go on", IN_FORCE, || {
        let (now, then) = (busiest(&counters(&fleet)), busiest(&counted));
        Ok(now.iter().zip(&then).all(|(now, then)| now > then).then_some(()))
    })
    .unwrap();
    let end = stream.finish();
    assert_eq!((end.there.lost(), end.back.lost()), (0, 0), "{end:?}");

    // they still follow
    fleet.delete_policy("shop/db").unwrap();
    fleet.reaches("shop/other", "shop/db", tcp(5432)).unwrap();
    fleet.down().unwrap();
}

#[test]
fn without_a_controller_the_last_state_stays_even_through_a_restart_of_the_agents() {
    let mut fleet = fleet();
    let stream = fleet.stream("shop/web", "shop/db", udp(5432)).unwrap();
    let before = flows(&fleet);
    fleet.controller().kill().unwrap();
    for node in ["n1", "n2"] {
        fleet.agent(node).unwrap().kill().unwrap();
        fleet.agent(node).unwrap().start_again().unwrap();
    }
    fleet.ready().unwrap();
    assert_eq!(flows(&fleet), before, "the state on disk is the state in force");
    fleet.cannot_reach("shop/other", "shop/db", tcp(5432)).unwrap();
    fleet.reaches("shop/web", "shop/db", tcp(5432)).unwrap();
    let end = stream.finish();
    assert_eq!((end.there.lost(), end.back.lost()), (0, 0), "{end:?}");

    // what changed meanwhile comes with the controller
    fleet.delete_policy("shop/db").unwrap();
    fleet.controller().start_again().unwrap();
    fleet.reaches("shop/other", "shop/db", tcp(5432)).unwrap();
    fleet.down().unwrap();
}

#[test]
fn an_agent_without_state_and_controller_leaves_what_is_in_force() {
    let mut fleet = fleet();
    let before = flows(&fleet);
    fleet.controller().kill().unwrap();
    fleet.agent("n2").unwrap().kill().unwrap();
    let state = fleet.bed().dir().join("n2").join("state");
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::create_dir_all(&state).unwrap();
    fleet.agent("n2").unwrap().start_again().unwrap();
    fleet.cannot_reach("shop/other", "shop/db", tcp(5432)).unwrap();
    fleet.reaches("shop/web", "shop/db", tcp(5432)).unwrap();
    assert_eq!(flows(&fleet), before);
    fleet.controller().start_again().unwrap();
    fleet.ready().unwrap();
    assert_eq!(flows(&fleet), before);
    fleet.down().unwrap();
}

#[test]
fn open_vswitch_restarted_is_right_again() {
    let mut fleet = fleet();
    let before = flows(&fleet);
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGKILL] {
        let node = fleet.bed().node("n2").unwrap();
        node.ovs.stop_switch(signal).unwrap();
        node.ovs.start_switch().unwrap();
        fleet.agrees().unwrap();
        assert_eq!(flows(&fleet), before, "after {signal}");
    }
    // the database too: ports are learned anew
    let node = fleet.bed().node("n2").unwrap();
    node.ovs.stop_database(nix::sys::signal::Signal::SIGKILL).unwrap();
    node.ovs.start_database().unwrap();
    fleet.agrees().unwrap();
    fleet.add(&[pod("shop/late").on("n2").label("app", "web")]).unwrap();
    fleet.reaches("shop/late", "shop/db", tcp(5432)).unwrap();
    fleet.agrees().unwrap();
    fleet.down().unwrap();
}

#[test]
fn flows_changed_by_others_are_put_right() {
    let mut fleet = Fleet::for_test(&Setup {
        agent_args: vec!["--drift-interval".to_owned(), "1".to_owned()],
        ..Setup::nodes(1)
    })
    .unwrap();
    fleet.namespace("shop", &[]).unwrap();
    fleet.add(&[pod("shop/web"), pod("shop/db").label("app", "db").serves(&[tcp(5432)])]).unwrap();
    fleet.apply("{kind: NetworkPolicy, metadata: {name: deny, namespace: shop}, spec: {podSelector: {}}}").unwrap();
    fleet.agrees().unwrap();
    let before = flows(&fleet);
    let node = fleet.bed().node("n1").unwrap();
    node.ovs.ofctl(&["add-flow", "br-int", "table=0,priority=60000,actions=NORMAL"]).unwrap();
    node.ovs.ofctl(&["--strict", "del-flows", "br-int", "table=100,priority=0"]).unwrap();
    weir_testbed::wait::until("the flows are put right", IN_FORCE + Duration::from_secs(5), || {
        Ok((flows(&fleet) == before).then_some(()))
    })
    .unwrap();
    fleet.agrees().unwrap();
    fleet.down().unwrap();
}

/// OVS deletes all flows then, and forwards everything until it has them again.
#[test]
fn a_bridge_that_is_made_insecure_is_right_again_at_once() {
    let fleet = fleet();
    let before = flows(&fleet);
    for node in fleet.bed().nodes() {
        node.ovs.vsctl(&["clear", "bridge", "br-int", "fail_mode"]).unwrap();
    }
    // the regular check comes after five minutes
    let secure = |node: &weir_testbed::Node| {
        Ok::<_, weir_testbed::Error>(
            node.ovs.vsctl(&["get", "bridge", "br-int", "fail_mode"])?.trim() == "secure",
        )
    };
    weir_testbed::wait::until("secure and as before", Duration::from_secs(10), || {
        let mut all = true;
        for node in fleet.bed().nodes() {
            all &= secure(node)?;
        }
        Ok((all && flows(&fleet) == before).then_some(()))
    })
    .unwrap();
    fleet.agrees().unwrap();
    assert_eq!(flows(&fleet), before);
    fleet.down().unwrap();
}
