//! The compiled flow tables give the verdict of the evaluator, for random worlds and connections.

#![expect(clippy::print_stdout, reason = "the figures of a run are for who reads its log")]

mod common;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use weir_agent::desired::judge::Asked;
use weir_agent::inspect::verdict::{self, Connection};
use weir_policy::eval::{self, End, L4};
use weir_policy::strategy;

/// Worlds per run. CI runs the full number; `WEIR_WORLDS` asks for another.
fn worlds() -> u32 {
    std::env::var("WEIR_WORLDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

#[test]
fn flow_tables_decide_as_the_evaluator() {
    let config = Config {
        cases: worlds(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/compiled.regressions"
        )))),
        ..Config::default()
    };
    let (mut decided, mut denied) = (0_u64, 0_u64);
    let counters = std::cell::RefCell::new((&mut decided, &mut denied));
    let result = TestRunner::new(config).run(
        &(strategy::world(), strategy::probes(24)),
        |(world, probes)| {
            let fabric = common::Fabric::new(&world);
            for c in probes.iter().filter_map(|p| p.connection(&world)) {
                let Some((passed, outcomes)) = fabric.passes(&world, &c) else { continue };
                let verdict = eval::verdict(&world, &c);
                prop_assert_eq!(
                    passed,
                    verdict.allowed(),
                    "{:?}\n{:?}\npath {:?}",
                    c,
                    verdict,
                    outcomes
                );
                let mut n = counters.borrow_mut();
                *n.0 += 1;
                *n.1 += u64::from(!passed);
            }
            Ok(())
        },
    );
    if let Err(e) = result {
        panic!("{e}");
    }
    println!("{decided} connections decided, {denied} of them denied");
    assert!(denied * 10 > decided, "the worlds hardly deny anything: {denied} of {decided}");
}

/// What an agent tells of its switch comes from a dump alone: ports and MAC addresses are found there.
#[test]
fn a_dump_answers_as_the_evaluator() {
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let (mut asked, mut dropped) = (0_u64, 0_u64);
    let counters = std::cell::RefCell::new((&mut asked, &mut dropped));
    let result = TestRunner::new(config).run(
        &(strategy::world(), strategy::probes(24)),
        |(world, probes)| {
            let fabric = common::Fabric::new(&world);
            for c in probes.iter().filter_map(|p| p.connection(&world)) {
                if fabric.passes(&world, &c).is_none() {
                    continue;
                }
                let (Some(src), Some(dst)) = (c.src.address(), c.dst.address()) else { continue };
                let (protocol, port) = match c.l4 {
                    L4::Port { protocol, dport } => (protocol.number(), dport),
                    L4::Other { ip_protocol } => (ip_protocol, 0),
                };
                let words = format!("{src} {dst} {protocol} {port}");
                let asked = Connection::parse(&words).expect("a connection");
                let verdict = eval::verdict(&world, &c);
                let mut wanted: BTreeMap<&str, bool> = BTreeMap::new();
                for (end, side) in [(&c.src, &verdict.egress), (&c.dst, &verdict.ingress)] {
                    // an address that another pod has is not this pod's (NP-45)
                    if let End::Pod { key, .. } = end
                        && let Some(pod) = world.pods.get(key)
                        && fabric.tables.contains_key(&*pod.node)
                        && !pod.host_network
                    {
                        *wanted.entry(&pod.node).or_insert(true) &= side.allowed;
                    }
                }
                for (node, allowed) in wanted {
                    let dump = fabric.dump(node);
                    let found = verdict::follow(dump, asked);
                    let passes = found.as_ref().map(|v| v.passes);
                    prop_assert_eq!(passes, Some(allowed), "{} on {}: {:?}", words, node, found);
                    let mut n = counters.borrow_mut();
                    *n.0 += 1;
                    *n.1 += u64::from(!allowed);
                }
            }
            Ok(())
        },
    );
    if let Err(e) = result {
        panic!("{e}");
    }
    println!("{asked} answers, {dropped} of them drops");
    assert!(dropped * 10 > asked, "hardly anything is dropped: {dropped} of {asked}");
}

/// NP-30: what a pod sent to a Service comes back through the node with the endpoint's address.
#[test]
fn what_the_node_sends_on_for_a_workload_is_judged_by_its_endpoint() {
    let config = Config { cases: 600, failure_persistence: None, ..Config::default() };
    let numbers = std::cell::Cell::new((0_u64, 0_u64));
    let result = TestRunner::new(config).run(
        &(strategy::world(), strategy::probes(24)),
        |(world, probes)| {
            let fabric = common::Fabric::new(&world);
            for c in probes.iter().filter_map(|p| p.connection(&world)) {
                if fabric.passes(&world, &c).is_none() || c.src == c.dst {
                    continue;
                }
                let Some(passed) = fabric.sent_on(&world, &c) else { continue };
                let verdict = eval::verdict(&world, &c);
                let here = |end: &End| match end {
                    End::Pod { key, .. } => world.pods.get(key).map(|p| p.node.to_string()),
                    _ => None,
                };
                // on its own node the destination has a say; on another its node has
                let local = here(&c.dst).is_some() && here(&c.src) == here(&c.dst);
                let wanted = verdict.egress.allowed && (!local || verdict.ingress.allowed);
                prop_assert_eq!(passed, wanted, "{:?}", c);
                let (asked, dropped) = numbers.get();
                numbers.set((asked + 1, dropped + u64::from(!wanted)));
            }
            Ok(())
        },
    );
    if let Err(e) = result {
        panic!("{e}");
    }
    let (asked, dropped) = numbers.get();
    println!("{asked} connections, {dropped} of them denied");
    assert!(dropped * 10 > asked, "hardly anything is dropped: {dropped} of {asked}");
}

/// What the agent says of connections that conntrack holds.
#[test]
fn tracked_connections_are_judged_as_the_evaluator_does() {
    let config = Config { cases: 600, failure_persistence: None, ..Config::default() };
    let numbers = std::cell::Cell::new((0_u64, 0_u64));
    let result = TestRunner::new(config).run(
        &(strategy::world(), strategy::probes(24)),
        |(world, probes)| {
            let fabric = common::Fabric::new(&world);
            let nodes: BTreeMap<&String, _> =
                fabric.tables.keys().map(|n| (n, common::desired(&world, n))).collect();
            for c in probes.iter().filter_map(|p| p.connection(&world)) {
                let (Some(src), Some(dst)) = (c.src.address(), c.dst.address()) else { continue };
                let L4::Port { protocol, dport } = c.l4 else { continue };
                // an address that another pod has is not this pod's (NP-45)
                if fabric.passes(&world, &c).is_none() || src.is_ipv4() != dst.is_ipv4() {
                    continue;
                }
                let verdict = eval::verdict(&world, &c);
                for (node, desired) in &nodes {
                    let here = |end: &End| match end {
                        End::Pod { key, .. } => {
                            world.pods.get(key).is_some_and(|p| p.node[..] == node[..])
                        }
                        _ => false,
                    };
                    let wanted = (!here(&c.src) || verdict.egress.allowed)
                        && (!here(&c.dst) || verdict.ingress.allowed);
                    let said = desired.admits(&Asked { src, dst, protocol, dport });
                    prop_assert_eq!(said, wanted, "{} on {}: {:?}", node, node, c);
                    let (asked, denied) = numbers.get();
                    numbers.set((asked + 1, denied + u64::from(!wanted)));
                }
            }
            Ok(())
        },
    );
    if let Err(e) = result {
        panic!("{e}");
    }
    let (asked, denied) = numbers.get();
    println!("{asked} connections, {denied} of them denied");
    assert!(denied * 10 > asked, "hardly anything is denied: {denied} of {asked}");
}
