//! Real tables: what `ofproto/trace` of an Open vSwitch says about random worlds equals the evaluator.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test")]

#[path = "../../agent/tests/common/mod.rs"]
mod common;

use std::net::IpAddr;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rust_openflow::conn::{Connection, Options, connect};
use rust_openflow::unixctl::UnixCtl;
use weir_agent::diff::diff;
use weir_agent::flow::FlowTable;
use weir_policy::eval::{self, End, L4};
use weir_policy::strategy;
use weir_policy::world::World;
use weir_testbed::dummy::DummySwitch;

/// Worlds that go through a real switch.
const WORLDS: usize = 200;
/// Ports of the switch: enough for every number that `common::ports` gives.
const PORTS: u32 = 64;

#[tokio::test]
async fn a_real_switch_decides_as_the_evaluator() {
    let switch = DummySwitch::start(PORTS).expect("a private switch");
    let target = format!("unix:{}", switch.ovs().management().display()).parse().expect("target");
    let (conn, driver, _events) = connect(&target, Options::default()).await.expect("OpenFlow");
    let mut ctl = UnixCtl::connect(switch.ovs().control()).await.expect("control socket");
    let work = async {
        let mut installed = FlowTable::new();
        // one fixed seed: the worlds are the same in every run, and a failure names its number
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let (mut traced, mut denied) = (0, 0);
        for number in 0..WORLDS {
            let world = strategy::world().new_tree(&mut runner).expect("a world").current();
            let probes = strategy::probes(24).new_tree(&mut runner).expect("probes").current();
            let fabric = common::Fabric::new(&world);
            for (node, (flows, _)) in &fabric.tables {
                install(&conn, flows, &mut installed).await;
                for c in probes.iter().filter_map(|p| p.connection(&world)) {
                    let Some(expected) = expected(&world, &c, node) else { continue };
                    let Some(text) = packet(&fabric, &world, &c, node) else { continue };
                    let answer = ctl
                        .call("ofproto/trace", &["br-int", &text])
                        .await
                        .unwrap_or_else(|e| panic!("world {number}: trace {text}: {e}"));
                    let passed = passed(&answer);
                    assert_eq!(
                        passed,
                        expected,
                        "world {number}, node {node}: {c:?}\n{text}\n{answer}\n{:?}",
                        eval::verdict(&world, &c)
                    );
                    traced += 1;
                    denied += usize::from(!passed);
                }
            }
        }
        println!("{traced} packets traced through {WORLDS} worlds, {denied} of them dropped");
        assert!(traced > 2 * WORLDS && denied * 10 > traced, "the sample is too thin");
    };
    tokio::select! {
        () = work => {}
        end = driver => panic!("the connection ended: {end:?}"),
    }
}

async fn install(conn: &Connection, wanted: &FlowTable, installed: &mut FlowTable) {
    conn.bundle(&diff(wanted, installed)).await.expect("the switch takes every flow");
    *installed = wanted.clone();
}

/// What this node alone has to say: egress if the source is here, ingress if the destination is.
fn expected(world: &World, c: &eval::Connection, node: &str) -> Option<bool> {
    let here = |e: &End| match e {
        End::Pod { key, .. } => world.pod(key).is_some_and(|p| &*p.node == node),
        _ => false,
    };
    let verdict = eval::verdict(world, c);
    match (here(&c.src), here(&c.dst)) {
        (true, true) => Some(verdict.allowed()),
        (true, false) => Some(verdict.egress.allowed),
        (false, true) => Some(verdict.ingress.allowed),
        (false, false) => None,
    }
}

/// The first packet of the connection as this node's bridge sees it, in `ofproto/trace` form.
fn packet(
    fabric: &common::Fabric,
    world: &World,
    c: &eval::Connection,
    node: &str,
) -> Option<String> {
    let port = |e: &End| match e {
        End::Pod { key, .. } => {
            let node = world.pod(key).map(|p| p.node.to_string())?;
            let (_, ports) = fabric.tables.get(&node)?;
            let at = ports
                .workloads
                .iter()
                .find(|(_, p)| (&p.namespace, &p.name) == (&key.0, &key.1))?;
            Some((node, *at.0, at.1.mac?))
        }
        _ => None,
    };
    let mac = |m: [u8; 6]| m.map(|b| format!("{b:02x}")).join(":");
    let router = "02:00:00:00:00:01".to_owned();
    let from = port(&c.src).filter(|(n, ..)| n == node);
    let own = matches!(&c.src, End::Node { name, .. } if **name == *node);
    let (in_port, src_mac) = match from {
        Some((_, number, m)) => (number.to_string(), mac(m)),
        None if own => ("LOCAL".to_owned(), router.clone()),
        None => (common::UPLINK.to_string(), router.clone()),
    };
    let dst_mac = port(&c.dst).map_or(router, |(.., m)| mac(m));
    let (src, dst) = (c.src.address()?, c.dst.address()?);
    let six = if src.is_ipv6() { "6" } else { "" };
    let l4 = match c.l4 {
        L4::Port { protocol, dport } => {
            let name = protocol.lower();
            format!("{name}{six},{name}_src=40000,{name}_dst={dport}")
        }
        L4::Other { ip_protocol: 1 } => "icmp,icmp_type=8,icmp_code=0".to_owned(),
        L4::Other { ip_protocol: 58 } => "icmp6,icmpv6_type=128,icmpv6_code=0".to_owned(),
        L4::Other { ip_protocol } => {
            format!("{},nw_proto={ip_protocol}", if src.is_ipv6() { "ipv6" } else { "ip" })
        }
    };
    let addresses = match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => format!("nw_src={s},nw_dst={d}"),
        (IpAddr::V6(s), IpAddr::V6(d)) => format!("ipv6_src={s},ipv6_dst={d}"),
        _ => return None,
    };
    Some(format!("in_port={in_port},dl_src={src_mac},dl_dst={dst_mac},{l4},{addresses},nw_ttl=64"))
}

/// The packet left through some port: the last "Datapath actions" line has a port outside parentheses.
fn passed(answer: &str) -> bool {
    let actions = answer
        .lines()
        .rev()
        .find_map(|l| l.trim().strip_prefix("Datapath actions: "))
        .unwrap_or_else(|| panic!("no datapath actions in:\n{answer}"));
    let mut depth = 0;
    let outside: String = actions
        .chars()
        .filter(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            depth == 0
        })
        .collect();
    outside.split(',').any(|a| !a.is_empty() && a.bytes().all(|b| b.is_ascii_digit()))
}
