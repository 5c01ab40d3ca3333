//! What OVS leaves open, the tables do not depend on: two flows of one priority that match one packet do the same.

mod common;

use proptest::prelude::*;
use rust_openflow::{Action, Field, Instruction, Match};
use weir_agent::flow::FlowTable;
use weir_agent::interp::{Interpreter, Packet, Tracked};
use weir_policy::strategy;

/// Some packet matches both, as far as single fields tell.
fn overlap(a: &Match, b: &Match) -> bool {
    a.fields().iter().all(|x| {
        b.field(x.field).is_none_or(|y| {
            let both = x.mask & y.mask;
            x.value & both == y.value & both
        })
    })
}

fn is_clause(instructions: &[Instruction]) -> bool {
    matches!(instructions, [Instruction::ApplyActions(a)]
        if a.iter().any(|a| matches!(a, Action::Conjunction { .. })))
}

fn check(flows: &FlowTable) -> Result<(), TestCaseError> {
    let mut level: Vec<(&Match, Vec<Instruction>)> = Vec::new();
    let mut at = None;
    for (key, value) in flows {
        if at != Some((key.table, key.priority)) {
            level.clear();
            at = Some((key.table, key.priority));
        }
        // a flow for a conj_id is found only when nothing else of the packet counts
        if is_clause(&value.instructions) || key.match_.field(Field::ConjId).is_some() {
            continue;
        }
        for (other, instructions) in &level {
            prop_assert!(
                !overlap(&key.match_, other) || value.instructions == *instructions,
                "table {}, priority {}: {} and {} overlap and differ",
                key.table,
                key.priority,
                key.match_,
                other
            );
        }
        level.push((&key.match_, value.instructions.clone()));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn flows_of_one_priority_that_overlap_do_the_same(world in strategy::world()) {
        for (flows, _) in common::Fabric::new(&world).tables.values() {
            check(flows)?;
        }
    }
}

#[test]
fn a_workload_cannot_choose_a_vlan_and_a_closed_port_gets_nothing() {
    use weir_agent::pipeline::{base, port, regs};
    let flows: FlowTable = base::flows(&Default::default())
        .into_iter()
        .chain(base::node_port(1, regs::origin::UPLINK, []))
        .chain(port::flows(&port::PortSpec {
            ofport: 7,
            mac: Some([0x0a, 0x58, 0, 0, 0, 7]),
            addresses: &["10.0.0.7".parse().unwrap()],
        }))
        .chain([port::closed([0x0a, 0x58, 0, 0, 0, 9])])
        .collect();
    let run = |p: Packet| Interpreter::new(&flows).run(p, Tracked::NEW).passed();
    let ip = |p: Packet, to: &str| p.ip("10.0.0.7".parse().unwrap(), to.parse().unwrap(), 17);
    let own = || ip(Packet::new(7).with(Field::EthSrc, 0x0a58_0000_0007), "10.0.0.8");
    assert!(run(own()));
    assert!(!run(own().with(Field::VlanVid, 0x1005)), "tagged");
    let from_outside = || ip(Packet::new(1).with(Field::EthSrc, 0x0200_0000_0001), "10.0.0.9");
    assert!(run(from_outside().with(Field::EthDst, 0x0a58_0000_0008)));
    assert!(!run(from_outside().with(Field::EthDst, 0x0a58_0000_0009)), "to a closed port");
}

#[test]
fn neighbour_discovery_of_a_workload_is_its_own_or_nothing() {
    let flows: FlowTable = weir_agent::pipeline::base::flows(&Default::default())
        .into_iter()
        .chain(weir_agent::pipeline::port::flows(&weir_agent::pipeline::port::PortSpec {
            ofport: 7,
            mac: Some([0x0a, 0x58, 0, 0, 0, 7]),
            addresses: &["fd00::7".parse().unwrap(), "10.0.0.7".parse().unwrap()],
        }))
        .collect();
    let send = |kind: u128, src: &str, dst: &str, target: &str, option: u128, hops: u128| {
        let field = if kind == 136 { Field::NdTll } else { Field::NdSll };
        let target: std::net::Ipv6Addr = target.parse().unwrap();
        let packet = Packet::new(7)
            .with(Field::EthSrc, 0x0a58_0000_0007)
            .ip(src.parse().unwrap(), dst.parse().unwrap(), 58)
            .with(Field::IpTtl, hops)
            .with(Field::Icmpv6Type, kind)
            .with(Field::Icmpv6Code, 0)
            .with(Field::NdTarget, target.into())
            .with(field, option);
        let whole = Interpreter::new(&flows).run(packet.clone(), Tracked::NEW).passed();
        let fragment = packet.with(Field::IpFrag, 1);
        assert!(!Interpreter::new(&flows).run(fragment, Tracked::NEW).passed(), "a fragment");
        whole
    };
    let run = |kind: u128, src: &str, target: &str, option: u128| {
        let hops = if matches!(kind, 130..=132 | 143) { 1 } else { 255 };
        send(kind, src, "ff02::1", target, option, hops)
    };
    let (own, other) = (0x0a58_0000_0007, 0x0a58_0000_0009);
    assert!(run(136, "fd00::7", "fd00::7", own), "its own address is advertised");
    assert!(run(136, "fe80::858:ff:fe00:7", "fe80::858:ff:fe00:7", own));
    assert!(!run(136, "fd00::7", "fd00::9", own), "another's address is not");
    assert!(!run(136, "fd00::7", "fd00::7", other), "nor is another's MAC");
    assert!(run(135, "fd00::7", "fd00::9", own), "another is asked for");
    assert!(!run(135, "fd00::9", "fd00::1", own), "but not in its name");
    assert!(run(135, "::", "fd00::7", 0), "duplicate address detection");
    assert!(run(133, "fe80::858:ff:fe00:7", "::", 0), "routers are asked for");
    for kind in [134, 137, 130] {
        assert!(!run(kind, "fd00::7", "fd00::7", 0), "type {kind} is for routers");
        assert!(!run(kind, "fe80::858:ff:fe00:7", "fd00::7", 0));
    }
    assert!(run(143, "fe80::858:ff:fe00:7", "::", 0), "listener reports");
    for src in ["fe80::858:ff:fe00:7", "::"] {
        assert!(!send(143, src, "fd00::9", "::", 0, 1), "a report to a station");
        assert!(!send(143, src, "ff02::16", "::", 0, 64), "a report that could be routed");
    }
    assert!(!send(135, "fd00::7", "fd00::9", "fd00::9", own, 64), "as from elsewhere");
}
