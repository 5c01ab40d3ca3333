//! Generators of worlds, connections and changes, for the property tests of every crate.
//!
//! Pools of names, labels, ports and addresses are small, so that selectors hit, names meet their ports and addresses
//! come back. Policies are written as manifests and read through [`crate::k8s`], which is thereby part of every test
//! that uses a world.
//!
//! ```ignore
//! proptest! {
//!     #[test]
//!     fn fast_path_matches_oracle((world, probes) in (strategy::world(), strategy::probes(20))) {
//!         for c in probes.iter().filter_map(|p| p.connection(&world)) { /* compare with eval::verdict */ }
//!     }
//! }
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::ids::Str;
use crate::labels::Labels;
use crate::port::{NamedPort, Protocol};
use crate::rule::PolicyObject;
use crate::world::{Kind as PodKind, Node, Pod, PodKey, World};

mod change;
mod policy;
mod probe;

pub use change::{Mutation, changes, mutation};
pub use policy::{manifest, policy};
pub use probe::{Probe, probe, probes};

/// Names of namespaces.
pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
/// Names of pods; each namespace may have one of each.
pub const PODS: [&str; 4] = ["a", "b", "c", "d"];
/// Names of nodes.
pub const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];
/// Names of policies; each namespace may have one of each.
pub const POLICIES: [&str; 3] = ["p", "q", "r"];
/// Label keys with their values, of pods and namespaces alike.
pub const LABELS: [(&str, &[&str]); 3] =
    [("app", &["web", "api", "db"]), ("role", &["client", "server"]), ("team", &["blue", "red"])];
/// Names of container ports.
pub const PORT_NAMES: [&str; 3] = ["http", "dns", "metrics"];
/// Ports that rules, containers and connections use: neighbours, ends of aligned blocks, ends of the range.
pub const PORTS: [u16; 20] = [
    1, 2, 53, 79, 80, 81, 83, 84, 443, 1023, 1024, 7999, 8000, 8008, 8010, 8011, 8080, 32768,
    65534, 65535,
];
/// An address of nobody.
pub const OUTSIDE: [&str; 4] = ["203.0.113.7", "198.51.100.1", "2001:db8::7", "192.0.2.200"];
/// How many addresses of each family pods share.
const ADDRESSES: u8 = 24;

/// The `n`-th IPv4 address that pods may have.
pub fn v4(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 10, n / 8, 8 + n % 8).into()
}

/// The `n`-th IPv6 address that pods may have.
pub fn v6(n: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, u16::from(n / 8), u16::from(8 + n % 8)).into()
}

/// The addresses of a node of the pool.
pub fn node_addresses(n: usize) -> [IpAddr; 2] {
    let n = u8::try_from(n).unwrap_or(u8::MAX);
    [
        Ipv4Addr::new(192, 0, 2, n.saturating_add(1)).into(),
        Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, u16::from(n) + 1).into(),
    ]
}

/// A world of up to three namespaces, four nodes, twelve pods and eight policies.
///
/// Live pods have addresses of their own; terminal ones may still show that of a live one (NP-44).
pub fn world() -> impl Strategy<Value = World> {
    let namespaces = btree_map(select(&NAMESPACES[..]), labels(), 0..=3);
    let nodes = vec(node_families(), 1..=NODES.len());
    let pods = btree_map(
        (select(&NAMESPACES[..]), select(&PODS[..])),
        (pod_seed(), any::<Index>()),
        3..=12,
    );
    let policies = vec(policy(), 0..=8);
    (namespaces, nodes, pods, policies, 0..ADDRESSES).prop_map(
        |(namespaces, nodes, pods, policies, shift)| {
            let mut world = World::default();
            for (name, labels) in namespaces {
                world.namespaces.insert(name.into(), labels);
            }
            let count = nodes.len();
            for (n, families) in nodes.into_iter().enumerate() {
                let node = node(n, families);
                world.nodes.insert(node.name.clone(), node);
            }
            for (order, ((namespace, name), (seed, at))) in pods.into_iter().enumerate() {
                let own = u8::try_from(order).unwrap_or_default().saturating_add(shift) % ADDRESSES;
                let pod = seed.pod(namespace, name, at.index(count), own);
                put_pod(&mut world, pod);
            }
            for object in policies {
                world.policies.insert(object.policy.key.clone(), object);
            }
            world
        },
    )
}

/// Labels out of [`LABELS`].
pub fn labels() -> impl Strategy<Value = Labels> {
    vec(proptest::option::of(any::<Index>()), LABELS.len()).prop_map(|picks| {
        LABELS
            .iter()
            .zip(picks)
            .filter_map(|((key, values), pick)| Some((*key, *pick?.get(values))))
            .collect()
    })
}

/// Which address families something has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Families {
    V4,
    V6,
    Dual,
}

impl Families {
    fn pick(self, v4: IpAddr, v6: IpAddr) -> Vec<IpAddr> {
        match self {
            Self::V4 => vec![v4],
            Self::V6 => vec![v6],
            Self::Dual => vec![v4, v6],
        }
    }
}

fn families() -> impl Strategy<Value = Families> {
    prop_oneof![3 => Just(Families::V4), 1 => Just(Families::V6), 3 => Just(Families::Dual)]
}

fn node_families() -> impl Strategy<Value = Families> {
    prop_oneof![1 => Just(Families::V4), 4 => Just(Families::Dual)]
}

fn node(n: usize, families: Families) -> Node {
    let [v4, v6] = node_addresses(n);
    Node {
        name: NODES[n % NODES.len()].into(),
        labels: Labels::default(),
        addresses: families.pick(v4, v6).into_iter().collect(),
    }
}

/// What a pod is apart from its name, node and address.
#[derive(Clone, Debug)]
struct PodSeed {
    labels: Labels,
    families: Families,
    named_ports: BTreeSet<NamedPort>,
    kind: Kind,
    /// Which life of a pod of this name it is; 0 has no UID.
    life: u8,
    created: Option<i64>,
    terminating: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    HostNetwork,
    Terminal,
    NoAddress,
    /// A machine that is no pod, on a node or on none (NP-50).
    Workload,
    Elsewhere,
    /// A workload that claims the addresses of a node.
    Impostor,
}

/// Puts a pod or workload into a world; says whether that changes something.
fn put_pod(world: &mut World, pod: Pod) -> bool {
    let of_kind = match pod.kind {
        PodKind::Pod => &mut world.pods,
        PodKind::Workload => &mut world.workloads,
    };
    of_kind.insert(pod.key(), pod.clone()).as_ref() != Some(&pod)
}

impl PodSeed {
    fn pod(self, namespace: &str, name: &str, node: usize, address: u8) -> Pod {
        let addresses = match self.kind {
            Kind::Plain | Kind::Workload | Kind::Elsewhere => {
                self.families.pick(v4(address), v6(address))
            }
            // the address of the node is the address of the pod (NP-31)
            Kind::HostNetwork | Kind::Impostor => node_addresses(node).to_vec(),
            // an address that a live pod may have by now (NP-44)
            Kind::Terminal => self.families.pick(v4(address / 2), v6(address / 2)),
            Kind::NoAddress => Vec::new(),
        };
        let is_workload = matches!(self.kind, Kind::Workload | Kind::Elsewhere | Kind::Impostor);
        Pod {
            kind: if is_workload { PodKind::Workload } else { PodKind::Pod },
            mac: is_workload.then_some([2, 0, 0, 9, self.life, address]),
            namespace: namespace.into(),
            name: name.into(),
            uid: match self.life {
                0 => "".into(),
                n => format!("uid-{namespace}-{name}-{n}").into(),
            },
            labels: self.labels,
            node: match self.kind {
                Kind::Elsewhere => "".into(),
                _ => NODES[node % NODES.len()].into(),
            },
            addresses,
            named_ports: self.named_ports,
            host_network: self.kind == Kind::HostNetwork,
            terminal: self.kind == Kind::Terminal,
            terminating: self.terminating,
            created: self.created,
        }
    }
}

fn pod_seed() -> impl Strategy<Value = PodSeed> {
    let kind = prop_oneof![
        17 => Just(Kind::Plain),
        1 => Just(Kind::HostNetwork),
        1 => Just(Kind::Terminal),
        1 => Just(Kind::NoAddress),
        2 => Just(Kind::Workload),
        1 => Just(Kind::Elsewhere),
        1 => Just(Kind::Impostor)
    ];
    let ports = btree_set(named_port(), 0..=3);
    (labels(), families(), ports, kind, 0u8..3, age()).prop_map(
        |(labels, families, named_ports, kind, life, (created, terminating))| PodSeed {
            labels,
            families,
            named_ports,
            kind,
            life,
            created,
            terminating,
        },
    )
}

/// When a pod was made, often at the same time as another, and whether it is being deleted.
fn age() -> impl Strategy<Value = (Option<i64>, bool)> {
    (proptest::option::of(1i64..4), proptest::bool::weighted(0.2))
}

/// One name may have several numbers and protocols on one pod (NP-26).
fn named_port() -> impl Strategy<Value = NamedPort> {
    (select(&PORT_NAMES[..]), protocol(), port()).prop_map(|(name, protocol, number)| NamedPort {
        name: name.into(),
        protocol,
        number,
    })
}

/// TCP twice as often as the others.
pub fn protocol() -> impl Strategy<Value = Protocol> {
    select(&[Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp][..])
}

/// A port of [`PORTS`], rarely any other.
pub fn port() -> impl Strategy<Value = u16> {
    prop_oneof![15 => select(&PORTS[..]), 1 => 1u16..]
}

fn pod_key() -> impl Strategy<Value = PodKey> {
    (select(&NAMESPACES[..]), select(&PODS[..])).prop_map(|(ns, n)| (Str::from(ns), Str::from(n)))
}
