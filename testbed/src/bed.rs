//! The testbed itself: nodes joined by an underlay, pods on them, and hosts outside.
//!
//! ```text
//!  pod netns        node netns (one per node)                infra netns             world netns
//!  eth0 ======== NAME-1 - br-int - uplink ============= u-N - underlay - w-1 ======== eth0
//!                         LOCAL (the node's address)
//!                         mgmt ======================== m-N - mgmt (controller listens)
//! ```
//!
//! Every process that works on a testbed, the tools too, runs in one of its namespaces, so that none outlives them.
//!
//! `=` is a veth. The underlay floods but learns nothing: the testbed knows where every address lives and tells it, so
//! that a pod that moves leaves nothing stale behind.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::address::{self, Mac};
use crate::error::{During, Error, Result};
use crate::home::Home;
use crate::host::{Host, HostName, NODE, Outside, WORLD, Workload};
use crate::netns::{self, Inside};
use crate::ovs::{BRIDGE, Ovs, UPLINK};
use crate::probe::{Engine, Service, Serving};
use crate::{command, require};

/// What a testbed starts with.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Named n1, n2, ...
    pub nodes: u8,
    pub outside: Vec<Outside>,
    /// What every node listens on, at its own address.
    pub node_services: Vec<Service>,
}

/// A node.
pub struct Node {
    /// `n1`, `n2`, ...
    pub name: String,
    pub inside: Inside,
    pub ovs: Ovs,
    /// On its bridge.
    pub addresses: Vec<IpAddr>,
    /// The underlay's port that leads to it.
    port: String,
}

/// The part of the namespace that joins the nodes and holds the controller.
pub const INFRA: &str = "infra";
/// The file that says who is there.
const HOSTS: &str = "hosts.json";

/// A host as the file that says who is there has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    pub namespace: String,
    pub addresses: Vec<IpAddr>,
    pub services: Vec<Service>,
    /// Of pods.
    pub node: Option<String>,
}

/// Who is in a testbed that is up.
///
/// Errors: [`Error::NotUp`].
pub fn saved(name: &str) -> Result<BTreeMap<HostName, Saved>> {
    let file = crate::home::dir_of(name).join(HOSTS);
    let Ok(text) = std::fs::read(&file) else {
        return Err(Error::NotUp(name.to_owned()));
    };
    serde_json::from_slice(&text).map_err(|e| Error::Content {
        file,
        field: "hosts".to_owned(),
        reason: e.to_string(),
    })
}

/// Serves the hosts of a testbed that [`Testbed::leave_up`] left, as long as the result lives.
pub fn serve_saved(name: &str) -> Result<(Engine, Vec<Serving>)> {
    let engine = Engine::start()?;
    let serving = saved(name)?
        .iter()
        .map(|(host, saved)| engine.serve(&Inside::enter(&saved.namespace)?, host, &saved.services))
        .collect::<Result<_>>()?;
    Ok((engine, serving))
}

/// A running testbed. Dropping it takes everything down again, unless [`Self::leave_up`] was called.
pub struct Testbed {
    home: Option<Home>,
    name: String,
    infra: Inside,
    nodes: Vec<Node>,
    hosts: BTreeMap<HostName, Host>,
    engine: Engine,
    /// Numbers interfaces, so that no name comes twice.
    sequence: u32,
    /// The underlay port that each address was last seen behind.
    seen_behind: BTreeMap<Mac, String>,
}

impl Testbed {
    /// Builds one, after cleaning away whatever an earlier one of the name left.
    pub fn up(name: &str, layout: &Layout) -> Result<Self> {
        require::all()?;
        let engine = Engine::start()?;
        let home = Home::take(name)?;
        let infra = match home.claim(INFRA).and_then(|namespace| Inside::create(&namespace)) {
            Ok(infra) => infra,
            Err(e) => {
                let _ = home.remove();
                return Err(e);
            }
        };
        // from here on a failure drops the testbed, and that cleans
        let mut bed = Self {
            name: home.name().to_owned(),
            home: Some(home),
            infra,
            nodes: Vec::new(),
            hosts: BTreeMap::new(),
            engine,
            sequence: 0,
            seen_behind: BTreeMap::new(),
        };
        bed.build_infra()?;
        bed.build_nodes(layout)?;
        bed.add_outside(&layout.outside)?;
        bed.save()?;
        Ok(bed)
    }

    /// Writes down who is there, for processes that come later.
    fn save(&self) -> Result<()> {
        let saved: BTreeMap<&HostName, Saved> = self
            .hosts
            .iter()
            .map(|(name, host)| {
                let saved = Saved {
                    namespace: host.inside.name().to_owned(),
                    addresses: host.addresses.clone(),
                    services: host.services.clone(),
                    node: host.node().map(str::to_owned),
                };
                (name, saved)
            })
            .collect();
        let file = self.home().dir().join(HOSTS);
        let text =
            serde_json::to_vec_pretty(&saved).during(|| "writing down the hosts".to_owned())?;
        std::fs::write(&file, text).during(|| format!("writing {}", file.display()))
    }

    fn home(&self) -> &Home {
        self.home.as_ref().expect("only drop and leave_up take it, and both end the testbed")
    }

    /// The name people use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory: logs, sockets, manifests.
    pub fn dir(&self) -> &std::path::Path {
        self.home().dir()
    }

    /// Runs servers, probes and streams.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The namespace in which the controller runs.
    pub const fn infra(&self) -> &Inside {
        &self.infra
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|n| n.name == name).ok_or_else(|| self.unknown("node", name))
    }

    /// Pods, nodes and hosts outside, by name.
    pub const fn hosts(&self) -> &BTreeMap<HostName, Host> {
        &self.hosts
    }

    /// A host by name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.get(name).ok_or_else(|| self.unknown("host", name))
    }

    fn unknown(&self, kind: &'static str, name: &str) -> Error {
        Error::Unknown { kind, name: name.to_owned(), bed: self.name().to_owned() }
    }

    fn build_infra(&self) -> Result<()> {
        self.infra.run(|| {
            quiet_namespace()?;
            command::ip(&[
                "link set lo up".to_owned(),
                "link add underlay type bridge stp_state 0 mcast_snooping 0".to_owned(),
                "link set underlay up".to_owned(),
                "link add mgmt type bridge stp_state 0 mcast_snooping 0".to_owned(),
                format!("addr add {}/24 dev mgmt", address::CONTROLLER),
                "link set mgmt up".to_owned(),
            ])
        })
    }

    fn build_nodes(&mut self, layout: &Layout) -> Result<()> {
        let mut links = Vec::new();
        let infra = self.infra.name().to_owned();
        for index in 1..=layout.nodes {
            let name = format!("n{index}");
            let inside = Inside::create(&self.home().claim(&name)?)?;
            let own = inside.name().to_owned();
            inside.run(quiet_namespace)?;
            links.push(format!(
                "link add u-{name} netns {infra} type veth peer name {UPLINK} netns {own}"
            ));
            links.push(format!(
                "link add m-{name} netns {infra} type veth peer name mgmt netns {own}"
            ));
            let ovs = Ovs::at(inside.clone(), self.home().dir().join(&name));
            self.nodes.push(Node {
                port: format!("u-{name}"),
                addresses: address::of_node(index),
                name,
                inside,
                ovs,
            });
        }
        self.infra.run(move || command::ip(&links))?;

        // the daemons take their time, so all nodes at once
        thread::scope(|scope| {
            let running: Vec<_> = self
                .nodes
                .iter()
                .zip(1..)
                .map(|(node, index)| scope.spawn(move || node.build(index)))
                .collect();
            running.into_iter().try_for_each(|t| join(t.join()))
        })?;

        let mut lines = Vec::new();
        for node in &self.nodes {
            let port = &node.port;
            lines.push(format!("link set {port} master underlay"));
            lines.push(format!("link set {port} type bridge_slave learning off"));
            lines.push(format!("link set {port} up"));
            lines.push(format!("link set m-{} master mgmt", node.name));
            lines.push(format!("link set m-{} up", node.name));
        }
        let devices: Vec<String> =
            self.nodes.iter().flat_map(|n| [n.port.clone(), format!("m-{}", n.name)]).collect();
        self.infra.run(move || {
            command::ip(&lines)?;
            devices.iter().try_for_each(|d| no_offload(d))
        })?;

        for n in 0..self.nodes.len() {
            let Some(node) = self.nodes.get(n) else {
                continue;
            };
            let name = format!("{NODE}/{}", node.name);
            let host = Host {
                inside: node.inside.clone(),
                addresses: node.addresses.clone(),
                services: layout.node_services.clone(),
                serving: Some(self.engine.serve(&node.inside, &name, &layout.node_services)?),
                place: None,
            };
            let (mac, port) = (mac_of(&host.addresses), node.port.clone());
            self.hosts.insert(name, host);
            self.tell_underlay(&[(mac, port)])?;
        }
        Ok(())
    }

    /// Adds hosts outside, on the underlay.
    pub fn add_outside(&mut self, hosts: &[Outside]) -> Result<()> {
        for outside in hosts {
            let name = format!("{WORLD}/{}", outside.name);
            self.sequence += 1;
            let port = format!("w-{}", self.sequence);
            let inside = Inside::create(&self.home().claim(&format!("{WORLD}-{}", outside.name))?)?;
            let link = format!(
                "link add {port} netns {} type veth peer name eth0 netns {}",
                self.infra.name(),
                inside.name()
            );
            self.infra.run(move || command::ip(&[link]))?;
            let mac = mac_of(&outside.addresses);
            set_up_eth0(&inside, mac, &outside.addresses)?;
            let device = port.clone();
            self.infra.run(move || {
                command::ip(&[
                    format!("link set {device} master underlay"),
                    format!("link set {device} type bridge_slave learning off"),
                    format!("link set {device} up"),
                ])?;
                no_offload(&device)
            })?;
            self.tell_underlay(&[(mac, port)])?;
            let serving = self.engine.serve(&inside, &name, &outside.services)?;
            self.hosts.insert(
                name,
                Host {
                    inside,
                    addresses: outside.addresses.clone(),
                    services: outside.services.clone(),
                    serving: Some(serving),
                    place: None,
                },
            );
        }
        Ok(())
    }

    /// Starts pods: namespace, addresses, servers, and at last the port on the bridge.
    pub fn add_pods(&mut self, pods: &[Workload]) -> Result<()> {
        let mut made = Vec::new();
        let mut links = Vec::new();
        for pod in pods {
            if self.hosts.contains_key(&pod.name) {
                return Err(Error::Name {
                    kind: "pod",
                    name: pod.name.clone(),
                    reason: "is there already",
                });
            }
            let node = self.node(&pod.node)?.inside.name().to_owned();
            self.sequence += 1;
            let port = port_name(pod.halves().1, self.sequence);
            let namespace = self.home().claim(&pod.part())?;
            let inside = Inside::create(&namespace)?;
            links.push(format!(
                "link add {port} netns {node} type veth peer name eth0 netns {namespace}"
            ));
            made.push((pod, inside, port));
        }
        if made.is_empty() {
            return Ok(());
        }
        self.infra.run(move || command::ip(&links))?;
        thread::scope(|scope| {
            let running: Vec<_> = made
                .iter()
                .map(|(pod, inside, _)| {
                    scope.spawn(|| set_up_eth0(inside, pod.mac(), &pod.addresses))
                })
                .collect();
            running.into_iter().try_for_each(|t| join(t.join()))
        })?;
        for (pod, inside, port) in &made {
            let serving = self.engine.serve(inside, &pod.name, &pod.services)?;
            self.hosts.insert(
                pod.name.clone(),
                Host {
                    inside: inside.clone(),
                    addresses: pod.addresses.clone(),
                    services: pod.services.clone(),
                    serving: Some(serving),
                    place: Some((pod.node.clone(), port.clone())),
                },
            );
        }
        let places: Vec<(Mac, String)> = made
            .iter()
            .map(|(pod, ..)| Ok((pod.mac(), self.node(&pod.node)?.port.clone())))
            .collect::<Result<_>>()?;
        self.tell_underlay(&places)?;
        thread::scope(|scope| {
            let running: Vec<_> = self
                .nodes
                .iter()
                .map(|node| {
                    let here: Vec<_> = made
                        .iter()
                        .filter(|(pod, ..)| pod.node == node.name)
                        .map(|(pod, _, port)| (*pod, &**port))
                        .collect();
                    scope.spawn(move || node.plug(&here))
                })
                .collect();
            running.into_iter().try_for_each(|t| join(t.join()))
        })?;
        self.save()
    }

    /// Ends pods: the port first, as a kubelet does, then the namespace with whatever runs in it.
    pub fn remove_pods<S: AsRef<str>>(&mut self, names: &[S]) -> Result<()> {
        let mut namespaces = Vec::new();
        let mut ports: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in names {
            let name = name.as_ref();
            let Some((node, port)) = self.host(name)?.place.clone() else {
                return Err(self.unknown("pod", name));
            };
            ports.entry(node).or_default().push(port);
        }
        for (node, ports) in &ports {
            self.node(node)?.unplug(ports)?;
        }
        for name in names {
            if let Some(host) = self.hosts.remove(name.as_ref()) {
                namespaces.push(host.inside.name().to_owned());
            }
        }
        netns::remove(&namespaces)?;
        self.save()
    }

    /// Gives a running pod other addresses (and so another MAC address).
    pub fn readdress(&mut self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        let host = self.host(name)?;
        let mac = mac_of(addresses);
        let mut lines = vec![
            "addr flush dev eth0 scope global".to_owned(),
            "link set eth0 down".to_owned(),
            format!("link set eth0 address {mac}"),
        ];
        lines.extend(address_lines("eth0", addresses));
        let node = host.node().map(str::to_owned);
        let port = host.port().map(str::to_owned);
        host.inside.run(move || command::ip(&lines))?;
        if let (Some(node), Some(port)) = (node, port) {
            let node = self.node(&node)?;
            let behind = node.port.clone();
            node.ovs.vsctl(&[
                "set",
                "Interface",
                &port,
                &format!("external_ids:attached-mac=\"{mac}\""),
            ])?;
            self.tell_underlay(&[(mac, behind)])?;
        }
        if let Some(host) = self.hosts.get_mut(name) {
            host.addresses = addresses.to_vec();
        }
        Ok(())
    }

    /// Tells the underlay, and the switches where something moved, behind which port an address lives.
    fn tell_underlay(&mut self, places: &[(Mac, String)]) -> Result<()> {
        let lines: Vec<String> = places
            .iter()
            .map(|(mac, port)| format!("fdb replace {mac} dev {port} master static"))
            .collect();
        let mut moved = false;
        for (mac, port) in places {
            let before = self.seen_behind.insert(*mac, port.clone());
            if let Some(before) = before
                && before != *port
            {
                let (mac, before) = (*mac, before);
                // the entry of the old port may be gone with it
                let _ = self.infra.run(move || {
                    command::bridge(&[format!("fdb del {mac} dev {before} master static")])
                });
                moved = true;
            }
        }
        self.infra.run(move || command::bridge(&lines))?;
        if moved {
            for node in &self.nodes {
                node.ovs.appctl(&["fdb/flush", BRIDGE])?;
            }
        }
        Ok(())
    }

    /// From here on the process only keeps it running: the next `up` or `down` may end it.
    pub fn now_serves(&self) -> Result<()> {
        self.home().now_serves()
    }

    /// Stops answering probes, so that another process can serve in its stead, and leaves everything up.
    pub fn leave_up(mut self) -> Home {
        for host in self.hosts.values_mut() {
            host.serving = None;
        }
        self.home.take().expect("only drop and leave_up take it, and both end the testbed")
    }

    /// Takes everything down and says what went wrong with it.
    pub fn down(mut self) -> Result<()> {
        self.hosts.clear();
        match self.home.take() {
            Some(home) => home.remove(),
            None => Ok(()),
        }
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        self.hosts.clear();
        if let Some(home) = self.home.take()
            && let Err(e) = home.remove()
        {
            crate::out::warn(&format!("testbed {} was not taken down: {e}", self.name));
        }
    }
}

impl Node {
    /// Addresses, switch, bridge, uplink.
    fn build(&self, index: u8) -> Result<()> {
        self.ovs.start(mac_of(&self.addresses))?;
        self.ovs.vsctl(&["add-port", BRIDGE, UPLINK])?;
        let mut lines = vec![
            "link set lo up".to_owned(),
            format!("link set {UPLINK} arp off up"),
            format!("addr add {}/24 dev mgmt", address::of_management(index)),
            "link set mgmt up".to_owned(),
        ];
        lines.extend(address_lines(BRIDGE, &self.addresses));
        self.inside.run(move || {
            prepare_interface(BRIDGE, true)?;
            command::ip(&lines)?;
            [UPLINK, "mgmt", BRIDGE].iter().try_for_each(|d| no_offload(d))
        })
    }

    /// Puts the host ends of pods on the bridge.
    fn plug(&self, pods: &[(&Workload, &str)]) -> Result<()> {
        if pods.is_empty() {
            return Ok(());
        }
        let ports: Vec<String> = pods.iter().map(|(_, p)| (*p).to_owned()).collect();
        self.inside.run(move || {
            let lines: Vec<String> =
                ports.iter().map(|p| format!("link set {p} arp off up")).collect();
            command::ip(&lines)?;
            ports.iter().try_for_each(|p| no_offload(p))
        })?;
        let mut args: Vec<String> = Vec::new();
        for (pod, port) in pods {
            if !args.is_empty() {
                args.push("--".to_owned());
            }
            args.extend(["add-port", BRIDGE, port].map(str::to_owned));
            args.extend(pod.port_columns(port));
        }
        self.ovs.vsctl(&args).map(drop)
    }

    fn unplug(&self, ports: &[String]) -> Result<()> {
        let mut args: Vec<&str> = Vec::new();
        for port in ports {
            if !args.is_empty() {
                args.push("--");
            }
            args.extend(["--if-exists", "del-port", BRIDGE, port]);
        }
        self.ovs.vsctl(&args)?;
        let lines: Vec<String> = ports.iter().map(|p| format!("link del {p}")).collect();
        self.inside.run(move || command::ip(&lines))
    }
}

/// No address of its own for any interface to come, and no filter on where packets come from. The kernel sees what
/// arrives at the switch's ports, too, and must not answer for the node there.
fn quiet_namespace() -> Result<()> {
    for (key, value) in [
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv4/conf/all/arp_ignore", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
    ] {
        sysctl(key, value)?;
    }
    Ok(())
}

/// Addresses of an interface that has its own namespace are usable at once, and losing the first neighbour request costs
/// no second.
fn prepare_interface(device: &str, v6: bool) -> Result<()> {
    sysctl(&format!("ipv6/conf/{device}/disable_ipv6"), if v6 { "0" } else { "1" })?;
    for (key, value) in [
        ("ipv6/conf/*/accept_dad", "0"),
        ("ipv6/conf/*/accept_ra", "0"),
        ("ipv6/conf/*/router_solicitations", "0"),
        ("ipv6/conf/*/ndisc_notify", "1"),
        ("ipv4/conf/*/arp_notify", "1"),
        ("ipv4/conf/*/rp_filter", "0"),
        ("ipv4/neigh/*/retrans_time_ms", "50"),
        ("ipv6/neigh/*/retrans_time_ms", "50"),
        // a neighbour that answered does so for the whole run: addresses and MACs go together
        ("ipv4/neigh/*/base_reachable_time_ms", "3600000"),
        ("ipv6/neigh/*/base_reachable_time_ms", "3600000"),
    ] {
        sysctl(&key.replace('*', device), value)?;
    }
    Ok(())
}

/// The only interface of a pod or of a host outside.
fn set_up_eth0(inside: &Inside, mac: Mac, addresses: &[IpAddr]) -> Result<()> {
    let v6 = addresses.iter().any(IpAddr::is_ipv6);
    let mut lines = vec!["link set lo up".to_owned(), format!("link set eth0 address {mac}")];
    lines.extend(address_lines("eth0", addresses));
    inside.run(move || {
        prepare_interface("eth0", v6)?;
        no_offload("eth0")?;
        command::ip(&lines)
    })
}

/// Addresses, and everything else on the link too.
fn address_lines(device: &str, addresses: &[IpAddr]) -> Vec<String> {
    let mut lines: Vec<String> = addresses
        .iter()
        .map(|a| {
            let nodad = if a.is_ipv6() { " nodad" } else { "" };
            format!("addr add {a}/{} dev {device}{nodad}", address::width(*a))
        })
        .collect();
    lines.push(format!("link set {device} up"));
    for (everything, v6) in [("0.0.0.0/0", false), ("::/0", true)] {
        if addresses.iter().any(|a| a.is_ipv6() == v6) {
            lines.push(format!("route replace {everything} dev {device}"));
        }
    }
    lines
}

/// The userspace datapath does not finish checksums that the kernel left to the hardware.
fn no_offload(device: &str) -> Result<()> {
    command::run(Command::new("ethtool").args(["-K", device, "tx", "off"])).map(drop)
}

fn sysctl(key: &str, value: &str) -> Result<()> {
    let file = format!("/proc/sys/net/{key}");
    std::fs::write(&file, value).during(|| format!("writing {file}"))
}

fn mac_of(addresses: &[IpAddr]) -> Mac {
    addresses.first().map_or(Mac([0x0a, 0x58, 0, 0, 0, 0]), |a| Mac::of(*a))
}

/// At most 15 bytes, telling, and never twice.
fn port_name(pod: &str, sequence: u32) -> String {
    let short: String = pod.chars().filter(char::is_ascii_alphanumeric).take(9).collect();
    format!("{short}-{sequence}")
}

fn join<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_fit() {
        assert_eq!(port_name("web", 7), "web-7");
        assert!(port_name("a-very-long-pod-name-5d4f", 99_999).len() <= 15);
    }
}
