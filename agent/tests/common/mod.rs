//! A world as flow tables: every node compiled, packets run through the tables of the nodes they cross.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rust_openflow::{Field, FlowStats};
use weir_agent::desired::Desired;
use weir_agent::flow::{FlowKey, FlowTable, FlowValue};
use weir_agent::interp::{Interpreter, Outcome, Packet, Tracked};
use weir_agent::pipeline::PipelineConfig;
use weir_agent::ports::{Ports, WorkloadPort};
use weir_policy::compile;
use weir_policy::eval::{Connection, End, L4};
use weir_policy::ids::Str;
use weir_policy::state::Touched;
use weir_policy::strategy;
use weir_policy::world::World;

pub(crate) const GATEWAY: u32 = 0xffff_fffe;
pub(crate) const UPLINK: u32 = 1;
const ROUTER_MAC: u128 = 0x02_00_00_00_00_01;

/// Ports of a node: one per pod that runs there, the same number whatever other pods there are.
pub(crate) fn ports(world: &World, node: &str) -> Ports {
    let mut ports = Ports {
        gateways: BTreeSet::from([GATEWAY]),
        uplinks: BTreeSet::from([UPLINK]),
        ..Ports::default()
    };
    for pod in world.all_pods() {
        if &*pod.node == node && !pod.host_network {
            let at = |all: &[&str], name: &str| {
                all.iter().position(|n| *n == name).expect("a name of the pool")
            };
            let n = at(&strategy::NAMESPACES, &pod.namespace) * 16 + at(&strategy::PODS, &pod.name);
            let n = u8::try_from(n).expect("few pods");
            ports.workloads.insert(
                10 + u32::from(n),
                WorkloadPort {
                    interface: format!("p{n}").into(),
                    namespace: Str::clone(&pod.namespace),
                    name: Str::clone(&pod.name),
                    mac: Some([2, 0, 0, 1, 0, n]),
                },
            );
        }
    }
    ports
}

pub(crate) fn desired(world: &World, node: &str) -> Desired {
    let state = compile::node_state(world, node);
    let mut desired = Desired::new(PipelineConfig::default(), BTreeMap::new());
    desired.update(Some(&state), &Touched::default(), &ports(world, node));
    desired
}

pub(crate) struct Fabric {
    pub(crate) tables: BTreeMap<String, (FlowTable, Ports)>,
}

impl Fabric {
    pub(crate) fn new(world: &World) -> Self {
        let nodes: BTreeSet<&str> =
            world.nodes.keys().map(|n| &**n).chain(world.all_pods().map(|p| &*p.node)).collect();
        let tables = nodes
            .into_iter()
            .map(|n| (n.to_owned(), (desired(world, n).flows().clone(), ports(world, n))))
            .collect();
        Self { tables }
    }

    /// The flows of a node as its switch would tell them.
    pub(crate) fn dump(&self, node: &str) -> Vec<FlowStats> {
        let (flows, _) = &self.tables[node];
        let stats = |(key, value): (&FlowKey, &FlowValue)| FlowStats {
            table: key.table,
            priority: key.priority,
            match_: key.match_.clone(),
            cookie: value.cookie,
            instructions: value.instructions.clone(),
            ..FlowStats::default()
        };
        flows.iter().map(stats).collect()
    }

    fn run(&self, node: &str, packet: Packet) -> Outcome {
        let (flows, _) = &self.tables[node];
        Interpreter::new(flows).run(packet, Tracked::NEW)
    }

    /// Does a new connection pass? `None`: no packet of it would ever cross a bridge of ours (neither end is a workload
    /// port here, or the source has no port it could be sent from).
    pub(crate) fn passes(&self, world: &World, c: &Connection) -> Option<(bool, Vec<Outcome>)> {
        let (src, dst) = (c.src.address()?, c.dst.address()?);
        let home = |end: &End| match end {
            End::Pod { key, .. } => {
                let pod = world.pod(key).expect("an end of this world");
                let (_, ports) = self.tables.get(&*pod.node)?;
                let at = ports
                    .workloads
                    .iter()
                    .find(|(_, p)| (&p.namespace, &p.name) == (&key.0, &key.1))?;
                Some((pod.node.to_string(), *at.0, at.1.mac?))
            }
            _ => None,
        };
        let (from, to) = (home(&c.src), home(&c.dst));
        let mac = |m: [u8; 6]| m.iter().fold(0, |acc, b| (acc << 8) | u128::from(*b));
        let packet = |in_port: u32, eth_src: u128| {
            let p = Packet::new(in_port)
                .with(Field::EthSrc, eth_src)
                .with(Field::EthDst, to.as_ref().map_or(ROUTER_MAC, |(.., m)| mac(*m)));
            fill(p, src, dst, c.l4)
        };
        let mut outcomes = Vec::new();
        if let Some((node, port, m)) = &from {
            let out = self.run(node, packet(*port, mac(*m)));
            let passed = out.passed();
            outcomes.push(out);
            if !passed || to.as_ref().is_none_or(|(n, ..)| n == node) {
                return Some((passed, outcomes));
            }
        }
        let (node, ..) = to.as_ref()?;
        let own = matches!(&c.src, End::Node { name, .. } if **name == **node);
        let out = self.run(node, packet(if own { GATEWAY } else { UPLINK }, ROUTER_MAC));
        let passed = out.passed();
        outcomes.push(out);
        Some((passed, outcomes))
    }
}

impl Fabric {
    /// What a node does with a connection of one of its pods that the node itself sends on, a Service's address having
    /// been replaced by its endpoint's. `None`: the source is no workload port of that node.
    pub(crate) fn sent_on(&self, world: &World, c: &Connection) -> Option<bool> {
        let End::Pod { key, .. } = &c.src else { return None };
        let pod = world.pod(key).filter(|p| !p.host_network)?;
        self.tables.get(&*pod.node)?;
        let mac_of = |end: &End| match end {
            End::Pod { key, .. } => {
                let to = world.pod(key).expect("an end of this world");
                let (_, ports) = self.tables.get(&*to.node)?;
                let mut all = ports.workloads.values();
                let at = all.find(|p| (&p.namespace, &p.name) == (&key.0, &key.1))?;
                Some(at.mac?.iter().fold(0, |acc, b| (acc << 8) | u128::from(*b)))
            }
            _ => None,
        };
        let packet = Packet::new(GATEWAY)
            .with(Field::EthSrc, ROUTER_MAC)
            .with(Field::EthDst, mac_of(&c.dst).unwrap_or(ROUTER_MAC));
        let packet = fill(packet, c.src.address()?, c.dst.address()?, c.l4);
        Some(self.run(&pod.node, packet).passed())
    }
}

/// Addresses and ports of a connection's first packet.
pub(crate) fn fill(packet: Packet, src: IpAddr, dst: IpAddr, l4: L4) -> Packet {
    match l4 {
        L4::Port { protocol, dport } => {
            packet.ip(src, dst, protocol.number()).ports(protocol.number(), 40_000, dport)
        }
        L4::Other { ip_protocol } => match ip_protocol {
            1 => packet.ip(src, dst, 1).with(Field::Icmpv4Type, 8).with(Field::Icmpv4Code, 0),
            58 => packet.ip(src, dst, 58).with(Field::Icmpv6Type, 128).with(Field::Icmpv6Code, 0),
            n => packet.ip(src, dst, n),
        },
    }
}
