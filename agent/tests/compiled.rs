//! The compiled flow tables give the verdict of the evaluator, for random worlds and connections; so does what the agent
//! says of them.

#![expect(clippy::print_stdout, reason = "the figures of a run are for who reads its log")]

mod common;

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use weir_agent::desired::judge::Asked;
use weir_agent::inspect::verdict;
use weir_policy::eval::{self, Connection, End, L4, Verdict};
use weir_policy::strategy;
use weir_policy::world::World;

use common::Fabric;

/// Worlds per run. CI runs the full number; `WEIR_WORLDS` asks for another.
fn worlds() -> u32 {
    std::env::var("WEIR_WORLDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

/// Compares what is `said` of every connection that crosses one of our bridges with what is `wanted`: pairs of both, one
/// for each node asked. `of_world` prepares what a world needs once.
fn compare<T>(
    cases: u32,
    of_world: impl Fn(&World) -> T,
    answers: impl Fn(&World, &Fabric, &T, &Connection, &Verdict) -> Vec<(Option<bool>, bool, String)>,
) {
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/compiled.regressions"
        )))),
        ..Config::default()
    };
    let numbers = Cell::new((0_u64, 0_u64));
    let result = TestRunner::new(config).run(
        &(strategy::world(), strategy::probes(24)),
        |(world, probes)| {
            let (fabric, prepared) = (Fabric::new(&world), of_world(&world));
            for c in probes.iter().filter_map(|p| p.connection(&world)) {
                let verdict = eval::verdict(&world, &c);
                for (said, wanted, how) in answers(&world, &fabric, &prepared, &c, &verdict) {
                    prop_assert_eq!(said, Some(wanted), "{:?}\n{:?}\n{}", c, verdict, how);
                    let (decided, denied) = numbers.get();
                    numbers.set((decided + 1, denied + u64::from(!wanted)));
                }
            }
            Ok(())
        },
    );
    if let Err(e) = result {
        panic!("{e}");
    }
    let (decided, denied) = numbers.get();
    println!("{decided} connections decided, {denied} of them denied");
    assert!(denied * 10 > decided, "the worlds hardly deny anything: {denied} of {decided}");
}

/// The node whose bridge has a port for this end.
fn home<'w>(world: &'w World, fabric: &Fabric, end: &End) -> Option<&'w str> {
    let End::Pod { key, .. } = end else { return None };
    let pod = world.pod(key)?;
    (fabric.tables.contains_key(&*pod.node) && !pod.host_network).then_some(&*pod.node)
}

/// What the policies want of each node at an end of the connection.
fn wanted<'w>(
    world: &'w World,
    fabric: &Fabric,
    c: &Connection,
    verdict: &Verdict,
) -> BTreeMap<&'w str, bool> {
    let mut out = BTreeMap::new();
    for (end, side) in [(&c.src, &verdict.egress), (&c.dst, &verdict.ingress)] {
        if let Some(node) = home(world, fabric, end) {
            *out.entry(node).or_insert(true) &= side.allowed;
        }
    }
    out
}

#[test]
fn flow_tables_decide_as_the_evaluator() {
    compare(
        worlds(),
        |_| (),
        |world, fabric, (), c, verdict| {
            let found = fabric.passes(world, c).into_iter();
            found
                .map(|(passed, path)| (Some(passed), verdict.allowed(), format!("{path:?}")))
                .collect()
        },
    );
}

/// What an agent tells of its switch comes from a dump alone: ports and MAC addresses are found there.
#[test]
fn a_dump_answers_as_the_evaluator() {
    compare(
        400,
        |_| (),
        |world, fabric, (), c, verdict| {
            // an address that another pod has is not this pod's (NP-45)
            let (Some(_), Some(src), Some(dst)) =
                (fabric.passes(world, c), c.src.address(), c.dst.address())
            else {
                return Vec::new();
            };
            let (protocol, port) = match c.l4 {
                L4::Port { protocol, dport } => (protocol.number(), dport),
                L4::Other { ip_protocol } => (ip_protocol, 0),
            };
            let words = format!("{src} {dst} {protocol} {port}");
            let asked = verdict::Connection::parse(&words).expect("a connection");
            let of_node = |(node, wanted): (&str, bool)| {
                let found = verdict::follow(fabric.dump(node), asked);
                let said = found.as_ref().map(|v| v.passes);
                (said, wanted, format!("{words} on {node}: {found:?}"))
            };
            wanted(world, fabric, c, verdict).into_iter().map(of_node).collect()
        },
    );
}

/// NP-30: what a pod sent to a Service comes back through the node with the endpoint's address.
#[test]
fn what_the_node_sends_on_for_a_workload_is_judged_by_its_endpoint() {
    compare(
        600,
        |_| (),
        |world, fabric, (), c, verdict| {
            if fabric.passes(world, c).is_none() || c.src == c.dst {
                return Vec::new();
            }
            let Some(said) = fabric.sent_on(world, c) else { return Vec::new() };
            // on its own node the destination has a say; on another its node has
            let node = home(world, fabric, &c.src).unwrap_or_default();
            let all = wanted(world, fabric, c, verdict);
            let wanted = all.get(node).copied().unwrap_or(true);
            vec![(Some(said), wanted, node.to_owned())]
        },
    );
}

/// What the agent says of connections that conntrack holds.
#[test]
fn tracked_connections_are_judged_as_the_evaluator_does() {
    compare(
        600,
        |world| {
            let nodes = Fabric::new(world).tables.into_keys();
            nodes.map(|n| (n.clone(), common::desired(world, &n))).collect::<BTreeMap<_, _>>()
        },
        |world, fabric, desired, c, verdict| {
            let (Some(_), Some(src), Some(dst)) =
                (fabric.passes(world, c), c.src.address(), c.dst.address())
            else {
                return Vec::new();
            };
            let L4::Port { protocol, dport } = c.l4 else { return Vec::new() };
            let all = wanted(world, fabric, c, verdict);
            let of_node = |(node, desired): (&String, &weir_agent::desired::Desired)| {
                let said = desired.admits(&Asked { src, dst, protocol, dport });
                (Some(said), all.get(&**node).copied().unwrap_or(true), node.clone())
            };
            desired.iter().map(of_node).collect()
        },
    );
}
