//! What several tests of packets need.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::net::IpAddr;

use weir_testbed::fleet::{Fleet, IN_FORCE, Setup, Spec};
use weir_testbed::{Host, Node, wait};

/// Two nodes, and these pods of one namespace.
pub(crate) fn fleet(namespace: &str, pods: &[Spec]) -> Fleet {
    let mut fleet = Fleet::for_test(&Setup::nodes(2)).unwrap();
    fleet.namespace(namespace, &[]).unwrap();
    fleet.add(pods).unwrap();
    fleet
}

pub(crate) fn host<'a>(fleet: &'a Fleet, name: &str) -> &'a Host {
    fleet.bed().host(name).unwrap()
}

pub(crate) fn address(fleet: &Fleet, name: &str, v6: bool) -> IpAddr {
    host(fleet, name).target(v6, 0).unwrap().ip()
}

/// Packets that the flows of `table` with this text in their match have counted.
pub(crate) fn counted(node: &Node, table: u8, text: &str) -> u64 {
    let dump = node.ovs.ofctl(&["dump-flows", "br-int", &format!("table={table}")]).unwrap();
    dump.lines()
        .filter(|l| l.contains(text))
        .filter_map(|l| l.split("n_packets=").nth(1)?.split(',').next()?.parse::<u64>().ok())
        .sum()
}

/// Waits until these flows have counted another packet.
pub(crate) fn counts_more(node: &Node, table: u8, text: &str, before: u64) {
    wait::until(&format!("a packet at {text}"), IN_FORCE, || {
        Ok((counted(node, table, text) > before).then_some(()))
    })
    .unwrap();
}
