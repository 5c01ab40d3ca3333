//! Which of those that claim an address has it (NP-45, NP-50).

use std::fmt;
use std::net::IpAddr;

use crate::ids::{EndpointId, Str};
use crate::world::{Kind, Pod, PodKey, World};

/// What a pod or workload has to show for an address that others claim as well: of several claims the greatest has it.
///
/// In this order: a pod comes before a workload, whose author may write any address; what stays before what is being
/// deleted; the newer object; the greater identity, so that there is always one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub is_pod: bool,
    pub stays: bool,
    /// Unix time in seconds; what does not say counts as the oldest.
    pub created: Option<i64>,
    pub id: EndpointId,
    pub key: PodKey,
}

impl Pod {
    pub fn claim(&self) -> Claim {
        Claim {
            is_pod: self.kind == Kind::Pod,
            stays: !self.terminating,
            created: self.created,
            id: self.endpoint_id(),
            key: self.key(),
        }
    }

    /// `Pod shop/db`, as messages write it.
    pub fn title(&self) -> String {
        format!("{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// An address that a workload says it has and does not have, because something else does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// `Workload shop/db`.
    pub object: String,
    /// Of the workload; empty where its source knows none.
    pub uid: Str,
    /// `spec.addresses[0]`.
    pub field: String,
    pub address: IpAddr,
    /// `Node n1`, `Pod shop/web`.
    pub owner: String,
}

impl Refusal {
    /// That of the `n`-th address of a workload.
    pub fn new(workload: String, uid: Str, n: usize, address: IpAddr, owner: String) -> Self {
        Self { object: workload, uid, field: format!("spec.addresses[{n}]"), address, owner }
    }

    /// What it comes to, without object and field.
    pub fn reason(&self) -> String {
        let Self { address, owner, .. } = self;
        format!("{address} is an address of {owner}, the workload does not have it")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.field, self.reason())
    }
}

impl World {
    /// Addresses that workloads in force claim and do not have, sorted. Of pods nothing is said: that an address moves
    /// from one to the next is nobody's mistake.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut out = Vec::new();
        for workload in self.endpoints().filter(|p| p.kind == Kind::Workload) {
            for (n, address) in workload.addresses.iter().enumerate() {
                let owner = match self.node_by_address(*address) {
                    Some(node) => format!("Node {}", node.name),
                    None => match self.pod_by_address(*address) {
                        Some(pod) if pod.key() != workload.key() => pod.title(),
                        _ => continue,
                    },
                };
                out.push(Refusal::new(workload.title(), workload.uid.clone(), n, *address, owner));
            }
        }
        out.sort();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Labels;
    use crate::world::Node;

    const ADDRESS: &str = "10.0.0.1";

    fn claimant(kind: Kind, name: &str) -> Pod {
        Pod {
            kind,
            namespace: "x".into(),
            name: name.into(),
            uid: "".into(),
            labels: Labels::default(),
            node: "n1".into(),
            addresses: vec![ADDRESS.parse().unwrap()],
            mac: None,
            named_ports: [].into(),
            host_network: false,
            terminal: false,
            terminating: false,
            created: None,
        }
    }

    fn world(all: &[Pod]) -> World {
        let mut world = World::default();
        for pod in all {
            match pod.kind {
                Kind::Pod => world.pods.insert(pod.key(), pod.clone()),
                Kind::Workload => world.workloads.insert(pod.key(), pod.clone()),
            };
        }
        world
    }

    fn owner(all: &[Pod]) -> Option<String> {
        world(all).pod_by_address(ADDRESS.parse().unwrap()).map(Pod::title)
    }

    /// NP-45: each step of the order decides where those before it do not, whatever those after it say.
    #[test]
    fn the_better_claim_has_the_address() {
        let pod = |name| claimant(Kind::Pod, name);
        let workload = |name| claimant(Kind::Workload, name);
        for (winner, loser) in [
            // a pod always comes before a workload
            (
                Pod { terminating: true, ..pod("a") },
                Pod { created: Some(9), uid: "z".into(), ..workload("z") },
            ),
            (
                Pod { created: Some(1), uid: "a".into(), ..pod("a") },
                Pod { terminating: true, created: Some(2), uid: "z".into(), ..pod("z") },
            ),
            (
                Pod { created: Some(2), uid: "a".into(), ..pod("a") },
                Pod { created: Some(1), uid: "z".into(), ..pod("z") },
            ),
            (Pod { created: Some(-5), ..pod("a") }, pod("z")),
            (Pod { uid: "z".into(), ..pod("a") }, Pod { uid: "a".into(), ..pod("z") }),
            (pod("z"), pod("a")),
            (Pod { created: Some(1), ..workload("a") }, workload("z")),
            // NP-44, NP-31: these have no part in it
            (workload("a"), Pod { terminal: true, ..pod("z") }),
            (workload("a"), Pod { host_network: true, ..pod("z") }),
        ] {
            assert_eq!(owner(&[winner.clone(), loser.clone()]), Some(winner.title()));
        }
    }

    /// NP-50: the address of a node is never a workload's; a workload that claims what others have is told.
    #[test]
    fn refused_addresses_are_named() {
        let mut both = world(&[claimant(Kind::Workload, "vm"), claimant(Kind::Pod, "a")]);
        let text = |world: &World| -> Vec<String> {
            world.refusals().iter().map(ToString::to_string).collect()
        };
        let of = |owner: &str| {
            format!(
                "Workload x/vm: spec.addresses[0]: 10.0.0.1 is an address of {owner}, \
                 the workload does not have it"
            )
        };
        assert_eq!(text(&both), [of("Pod x/a")]);
        both.pods.clear();
        assert_eq!(text(&both), [""; 0]);
        let addresses = [ADDRESS.parse().unwrap()].into();
        let node = Node { name: "n1".into(), labels: Labels::default(), addresses };
        both.nodes.insert("n1".into(), node);
        assert_eq!(text(&both), [of("Node n1")]);
        assert_eq!(both.pod_by_address(ADDRESS.parse().unwrap()), None);
    }
}
