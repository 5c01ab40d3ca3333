//! What can speak and be spoken to: pods, nodes, and hosts of the world outside.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::address::Mac;
use crate::netns::Inside;
use crate::probe::{Service, Serving};

/// The name of a host in tests, tables and answers: `NAMESPACE/POD`, `node/NAME` or `world/NAME`.
pub type HostName = String;

/// The first part of the names of nodes.
pub const NODE: &str = "node";
/// The first part of the names of hosts outside.
pub const WORLD: &str = "world";

/// How a port says which pod it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortIds {
    /// `Interface.external_ids:iface-id=NAMESPACE/POD`.
    #[default]
    IfaceIdSlash,
    /// `Interface.external_ids:iface-id=NAMESPACE_POD`.
    IfaceIdUnderscore,
    /// `Port.external_ids:pod-namespace` and `pod-name`.
    PodOnPort,
    /// Nothing: a port that nobody knows.
    None,
}

/// A pod as the network sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// `NAMESPACE/POD`.
    pub name: HostName,
    /// The node it runs on.
    pub node: String,
    /// The first of each family is the one that probes use.
    pub addresses: Vec<IpAddr>,
    /// What it listens on.
    pub services: Vec<Service>,
    pub ids: PortIds,
}

impl Workload {
    /// A pod on a node.
    pub fn new(name: &str, node: &str, addresses: &[IpAddr], services: &[Service]) -> Self {
        Self {
            name: name.to_owned(),
            node: node.to_owned(),
            addresses: addresses.to_vec(),
            services: services.to_vec(),
            ids: PortIds::default(),
        }
    }

    /// With other external ids.
    pub fn with_ids(self, ids: PortIds) -> Self {
        Self { ids, ..self }
    }

    /// Its MAC address.
    pub fn mac(&self) -> Mac {
        self.addresses.first().map_or(Mac([0x0a, 0x58, 0, 0, 0, 0]), |a| Mac::of(*a))
    }

    pub(crate) fn halves(&self) -> (&str, &str) {
        self.name.split_once('/').unwrap_or(("default", &self.name))
    }

    /// The part of its namespace's name. Pods have a dot in it, nodes and other hosts have none.
    pub(crate) fn part(&self) -> String {
        let (namespace, name) = self.halves();
        format!("{namespace}.{name}")
    }

    /// The columns of the port that `ovs-vsctl` is to set.
    pub(crate) fn port_columns(&self, interface: &str) -> Vec<String> {
        let (namespace, name) = self.halves();
        let mac = self.mac();
        let set = |table: &str, ids: &[(&str, String)]| {
            let mut out =
                vec!["--".to_owned(), "set".to_owned(), table.to_owned(), interface.to_owned()];
            out.extend(ids.iter().map(|(k, v)| format!("external_ids:{k}=\"{v}\"")));
            out
        };
        let iface_id = |value: String| {
            set("Interface", &[("iface-id", value), ("attached-mac", mac.to_string())])
        };
        match self.ids {
            PortIds::IfaceIdSlash => iface_id(format!("{namespace}/{name}")),
            PortIds::IfaceIdUnderscore => iface_id(format!("{namespace}_{name}")),
            PortIds::PodOnPort => set(
                "Port",
                &[
                    ("pod-namespace", namespace.to_owned()),
                    ("pod-name", name.to_owned()),
                    ("attached-mac", mac.to_string()),
                ],
            ),
            PortIds::None => Vec::new(),
        }
    }
}

/// A host of the world outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Without the `world/` in front.
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub services: Vec<Service>,
}

/// A running host.
pub struct Host {
    pub inside: Inside,
    pub addresses: Vec<IpAddr>,
    pub services: Vec<Service>,
    /// Empty while another process serves for it.
    pub(crate) serving: Option<Serving>,
    /// Of pods: node, bridge port.
    pub(crate) place: Option<(String, String)>,
}

impl Host {
    /// Where a probe of this family goes.
    pub fn target(&self, v6: bool, port: u16) -> Option<SocketAddr> {
        self.addresses.iter().find(|a| a.is_ipv6() == v6).map(|a| SocketAddr::new(*a, port))
    }

    /// It has an address of this family.
    pub fn speaks(&self, v6: bool) -> bool {
        self.addresses.iter().any(|a| a.is_ipv6() == v6)
    }

    /// The node it runs on, for pods.
    pub fn node(&self) -> Option<&str> {
        self.place.as_ref().map(|(node, _)| &**node)
    }

    /// Its port on the bridge, for pods.
    pub fn port(&self) -> Option<&str> {
        self.place.as_ref().map(|(_, port)| &**port)
    }
}
