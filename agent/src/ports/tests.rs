use weir_ovsdb::Uuid;
use weir_ovsdb::vswitch::BridgeRow;

use super::*;

/// A bridge `br-int` with its own port, to which tests add others.
struct Picture(SwitchState, u128);

impl Picture {
    fn new() -> Self {
        let mut picture = Self(SwitchState::default(), 1);
        let bridge = BridgeRow { name: "br-int".to_owned(), ..BridgeRow::default() };
        picture.0.bridges.insert("br-int".to_owned(), bridge);
        picture.add("br-int", LOCAL_OFPORT, &[], &[]);
        picture
    }

    fn add(
        &mut self,
        name: &str,
        ofport: i64,
        interface_ids: &[(&str, &str)],
        port_ids: &[(&str, &str)],
    ) -> &mut InterfaceRow {
        let ids = |pairs: &[(&str, &str)]| -> Ids {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let [port, interface] = [self.1, self.1 + 1].map(uuid);
        self.1 += 2;
        self.0.bridges.get_mut("br-int").unwrap().ports.insert(port);
        let row = PortRow {
            uuid: port,
            name: name.to_owned(),
            interfaces: BTreeSet::from([interface]),
            external_ids: ids(port_ids),
            ..PortRow::default()
        };
        self.0.ports.insert(port, row);
        let row = InterfaceRow {
            uuid: interface,
            name: name.to_owned(),
            ofport: Some(ofport),
            external_ids: ids(interface_ids),
            ..InterfaceRow::default()
        };
        self.0.interfaces.insert(interface, row);
        self.0.interfaces.get_mut(&interface).unwrap()
    }

    fn read(&self) -> Ports {
        read(&self.0, &config())
    }
}

fn uuid(n: u128) -> Uuid {
    format!("00000000-0000-0000-0000-{n:012x}").parse().unwrap()
}

fn config() -> PortConfig {
    PortConfig { bridge: "br-int".to_owned(), ..PortConfig::default() }
}

fn workload(ports: &Ports, number: u32) -> String {
    let w = &ports.workloads[&number];
    format!("{}/{} by {}", w.namespace, w.name, w.interface)
}

#[test]
fn a_bridge_without_workloads_has_its_own_port_as_gateway() {
    let ports = Picture::new().read();
    assert_eq!(ports.gateways, BTreeSet::from([0xffff_fffe]));
    assert!(ports.workloads.is_empty() && ports.uplinks.is_empty() && ports.unknown.is_empty());
}

#[test]
fn every_way_to_name_a_pod() {
    let mut p = Picture::new();
    p.add("a", 1, &[("iface-id", "shop/db-0")], &[]);
    p.add("b", 2, &[("iface-id", "shop_db_1")], &[]);
    p.add("c", 3, &[("pod-namespace", "shop"), ("pod-name", "web")], &[]);
    p.add("d", 4, &[], &[("pod-namespace", "shop"), ("pod-name", "api")]);
    p.add("e", 5, &[("pod-name", "split")], &[("pod-namespace", "shop")]);
    p.add("f", 6, &[("iface-id", "new/pod")], &[("pod-namespace", "old"), ("pod-name", "pod")]);
    // an iface-id that only looks like one, beside the pair
    p.add("g", 7, &[("iface-id", "4f1_eth0"), ("pod-namespace", "shop"), ("pod-name", "x")], &[]);
    let ports = p.read();
    let seen: Vec<String> = (1..=7).map(|n| workload(&ports, n)).collect();
    assert_eq!(
        seen,
        [
            "shop/db-0 by a",
            "shop/db_1 by b",
            "shop/web by c",
            "shop/api by d",
            "shop/split by e",
            "new/pod by f",
            "shop/x by g"
        ]
    );
}

#[test]
fn an_id_that_names_no_pod_leaves_the_port_closed_and_says_why() {
    let mut p = Picture::new();
    for (n, id) in ["0f6c9e0a-uuid", "/pod", "shop/", "_pod", "a/b/c", ""].into_iter().enumerate() {
        p.add(&format!("v{n}"), n as i64 + 1, &[("iface-id", id)], &[]);
    }
    let ports = p.read();
    assert!(ports.workloads.is_empty());
    assert_eq!(ports.unknown.len(), 6);
    assert!(ports.unknown[&1].contains("0f6c9e0a-uuid"), "{}", ports.unknown[&1]);
}

#[test]
fn a_port_without_a_number_is_no_port() {
    let mut p = Picture::new();
    p.add("failed", -1, &[("iface-id", "shop/a")], &[]);
    p.add("zero", 0, &[("iface-id", "shop/b")], &[]);
    p.add("reserved", 0xff00, &[("iface-id", "shop/c")], &[]);
    p.add("soon", 9, &[("iface-id", "shop/d")], &[]).ofport = None;
    let ports = p.read();
    assert!(ports.workloads.is_empty() && ports.unknown.is_empty(), "{ports:?}");
}

#[test]
fn the_mac_is_taken_from_either_row_and_a_bad_one_closes_the_port() {
    let mut p = Picture::new();
    p.add("a", 1, &[("iface-id", "s/a"), ("attached-mac", "0A:00:00:00:00:01")], &[]);
    p.add("b", 2, &[("iface-id", "s/b")], &[("attached-mac", "0a:00:00:00:00:02")]);
    p.add("c", 3, &[("iface-id", "s/c")], &[]);
    for (n, bad) in
        ["nonsense", "", "01:00:00:00:00:01", "00:00:00:00:00:00"].into_iter().enumerate()
    {
        let ids = [("iface-id", "s/bad"), ("attached-mac", bad)];
        p.add(&format!("bad{n}"), n as i64 + 4, &ids, &[]);
    }
    let ports = p.read();
    assert_eq!(ports.workloads[&1].mac, Some([0x0a, 0, 0, 0, 0, 1]));
    assert_eq!(ports.workloads[&2].mac, Some([0x0a, 0, 0, 0, 0, 2]));
    assert_eq!(ports.workloads[&3].mac, None);
    assert_eq!(ports.unknown.keys().copied().collect::<Vec<_>>(), [4, 5, 6, 7]);
    assert!(ports.unknown[&4].contains("attached-mac"), "{}", ports.unknown[&4]);
}

#[test]
fn uplinks_by_name_or_type_and_the_rest_is_unknown() {
    let mut p = Picture::new();
    p.add("eth1", 1, &[], &[]);
    p.add("eth2", 2, &[], &[]);
    p.add("vx0", 3, &[], &[]).type_ = "vxlan".to_owned();
    p.add("to-ex", 4, &[], &[]).type_ = "patch".to_owned();
    // marked as a workload: the stricter reading
    p.add("odd", 5, &[("iface-id", "s/odd")], &[]).type_ = "patch".to_owned();
    let config = PortConfig { uplinks: BTreeSet::from(["eth1".to_owned()]), ..config() };
    let ports = read(&p.0, &config);
    assert_eq!(ports.uplinks, BTreeSet::from([1, 3, 4]));
    assert_eq!(ports.unknown.keys().copied().collect::<Vec<_>>(), [2]);
    assert_eq!(workload(&ports, 5), "s/odd by odd");
}

#[test]
fn named_gateways_take_the_place_of_the_bridge_port() {
    let mut p = Picture::new();
    p.add("gw0", 1, &[], &[]);
    let config = PortConfig { gateways: BTreeSet::from(["gw0".to_owned()]), ..config() };
    let ports = read(&p.0, &config);
    assert_eq!(ports.gateways, BTreeSet::from([1]));
    assert_eq!(ports.unknown.keys().copied().collect::<Vec<_>>(), [0xffff_fffe]);
}

#[test]
fn two_interfaces_that_claim_one_number_close_it() {
    let mut p = Picture::new();
    p.add("old", 5, &[("iface-id", "s/old")], &[]);
    p.add("new", 5, &[("iface-id", "s/new")], &[]).ofport_request = Some(5);
    p.add("other", 6, &[("iface-id", "s/other")], &[]);
    let ports = p.read();
    assert_eq!(ports.workloads.keys().copied().collect::<Vec<_>>(), [6]);
    assert_eq!(&*ports.unknown[&5], "new and old: they claim one ofport");
}

#[test]
fn a_pod_may_have_several_ports() {
    let mut p = Picture::new();
    p.add("a", 1, &[("iface-id", "s/multi")], &[]);
    p.add("b", 2, &[("iface-id", "s/multi")], &[]);
    let ports = p.read();
    assert_eq!([workload(&ports, 1), workload(&ports, 2)], ["s/multi by a", "s/multi by b"]);
}

/// A bond of the interfaces 7 and 8 beside a pod's port.
fn bonded(change: impl Fn(&mut PortRow, [&mut InterfaceRow; 2])) -> Ports {
    let mut p = Picture::new();
    p.add("pod", 1, &[("iface-id", "s/a")], &[]);
    p.add("eth0", 7, &[], &[]);
    p.add("eth1", 8, &[], &[]);
    let row = |name: &str| p.0.interfaces.values().find(|i| i.name == name).unwrap().uuid;
    let members = ["eth0", "eth1"].map(row);
    let [bond, gone] = ["eth0", "eth1"].map(|name| {
        let mut ports = p.0.ports.values();
        ports.find(|port| port.name == name).unwrap().uuid
    });
    p.0.bridges.get_mut("br-int").unwrap().ports.remove(&gone);
    let mut first = p.0.interfaces.get(&members[0]).unwrap().clone();
    let mut second = p.0.interfaces.get(&members[1]).unwrap().clone();
    first.mac_in_use = Some("0a:00:00:00:00:a0".to_owned());
    second.mac_in_use = Some("0a:00:00:00:00:a1".to_owned());
    let mut port = p.0.ports.get(&bond).unwrap().clone();
    port.name = "bond0".to_owned();
    port.interfaces = BTreeSet::from(members);
    change(&mut port, [&mut first, &mut second]);
    p.0.interfaces.insert(members[0], first);
    p.0.interfaces.insert(members[1], second);
    p.0.ports.insert(bond, port);
    let uplinks = BTreeSet::from(["bond0".to_owned()]);
    read(&p.0, &PortConfig { uplinks, ..config() })
}

#[test]
fn one_member_of_a_bond_stands_for_it() {
    let senders = |ports: &Ports| -> Vec<u32> {
        let bonds = ports.switching.iter().filter_map(|(n, s)| Some((*n, s.bond.as_ref()?)));
        bonds.filter(|(_, b)| b.sends).map(|(n, _)| n).collect()
    };
    let receivers = |ports: &Ports| {
        ports.switching.values().filter(|s| s.bond.as_ref().unwrap().receives).count()
    };
    let ports = bonded(|_, _| {});
    assert_eq!(ports.uplinks, BTreeSet::from([7, 8]), "a bond's name is that of all its members");
    assert_eq!((senders(&ports), receivers(&ports)), (vec![7], 1));
    assert_eq!(ports.switching[&7].bond.as_ref().unwrap().others, BTreeSet::from([8]));
    let ports = bonded(|_, [_, second]| second.link_state = Some("up".to_owned()));
    assert_eq!((senders(&ports), receivers(&ports)), (vec![8], 1), "the one with a link");
    let ports = bonded(|port, [first, _]| {
        first.link_state = Some("up".to_owned());
        port.bond_active_slave = Some("0A:00:00:00:00:A1".to_owned());
    });
    assert_eq!((senders(&ports), receivers(&ports)), (vec![8], 1), "the one that OVS says");
    let ports = bonded(|port, _| port.lacp = Some("active".to_owned()));
    assert_eq!(
        (senders(&ports), receivers(&ports)),
        (vec![7], 2),
        "the other end knows of the bond"
    );
    assert!(
        bonded(|port, _| {
            port.interfaces.pop_last();
        })
        .switching
        .is_empty()
    );
}

#[test]
fn ports_of_other_bridges_and_an_absent_bridge_are_not_ours() {
    let mut p = Picture::new();
    p.add("a", 1, &[("iface-id", "s/a")], &[]);
    let config = PortConfig { bridge: "br-other".to_owned(), ..PortConfig::default() };
    assert_eq!(read(&p.0, &config), Ports::default());
}

#[test]
fn the_keys_can_be_others() {
    let mut p = Picture::new();
    p.add("a", 1, &[("vm-owner", "s/vm"), ("vm-mac", "0a:00:00:00:00:07")], &[]);
    let keys = PortKeys {
        iface_id: "vm-owner".to_owned(),
        attached_mac: "vm-mac".to_owned(),
        ..PortKeys::default()
    };
    let ports = read(&p.0, &PortConfig { keys, ..config() });
    assert_eq!(workload(&ports, 1), "s/vm by a");
    assert_eq!(ports.workloads[&1].mac, Some([0x0a, 0, 0, 0, 0, 7]));
}
