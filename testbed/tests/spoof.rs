//! A pod sends from its own addresses only: what it sends as another arrives nowhere and is counted apart (NP-40).
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use weir_testbed::fleet::{Fleet, IN_FORCE, Setup, pod};
use weir_testbed::{Host, Node, command, udp, wait};

/// A socket that heard nothing for so long will hear nothing.
const PATIENCE: Duration = Duration::from_secs(5);
const PORT: u16 = 4567;

fn host<'a>(fleet: &'a Fleet, name: &str) -> &'a Host {
    fleet.bed().host(name).unwrap()
}

fn address(fleet: &Fleet, name: &str, v6: bool) -> IpAddr {
    host(fleet, name).target(v6, 0).unwrap().ip()
}

/// `ip` inside a pod.
fn ip(host: &Host, words: &str) {
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    host.inside.run(move || command::run(Command::new("ip").args(words)).map(drop)).unwrap();
}

fn socket(host: &Host, from: IpAddr) -> UdpSocket {
    let at = SocketAddr::new(from, PORT);
    let socket = host.inside.run(move || Ok(UdpSocket::bind(at).unwrap())).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Packets of one pod's port that the guard has dropped.
fn guarded(node: &Node) -> u64 {
    let dump = node.ovs.ofctl(&["dump-flows", "br-int", "table=10"]).unwrap();
    dump.lines()
        .filter(|l| l.contains("priority=100,in_port="))
        .filter_map(|l| l.split("n_packets=").nth(1)?.split(',').next()?.parse::<u64>().ok())
        .sum()
}

#[test]
fn what_a_pod_sends_as_another_arrives_nowhere() {
    let mut fleet = Fleet::for_test(&Setup::nodes(2)).unwrap();
    fleet.namespace("shop", &[]).unwrap();
    fleet
        .add(&[
            pod("shop/web").on("n1").label("app", "web"),
            pod("shop/spy").on("n1").label("app", "spy"),
            pod("shop/near").on("n1").label("app", "db").serves(&[udp(9)]),
            pod("shop/far").on("n2").label("app", "db").serves(&[udp(9)]),
        ])
        .unwrap();
    fleet
        .apply(
            "{kind: NetworkPolicy, metadata: {name: db, namespace: shop}, \
              spec: {podSelector: {matchLabels: {app: db}}, ingress: \
              [{from: [{podSelector: {matchLabels: {app: web}}}]}]}}",
        )
        .unwrap();
    fleet.agrees().unwrap();
    let node = fleet.bed().node("n1").unwrap();
    let spy = host(&fleet, "shop/spy");
    for v6 in [false, true] {
        let web = address(&fleet, "shop/web", v6);
        let length = if v6 { "128 nodad" } else { "32" };
        ip(spy, &format!("addr add {web}/{length} dev eth0"));
        let honest = socket(host(&fleet, "shop/web"), web);
        let forged = socket(spy, web);
        for name in ["shop/near", "shop/far"] {
            let to = SocketAddr::new(address(&fleet, name, v6), PORT);
            let hears = socket(host(&fleet, name), to.ip());
            // who is asked for where the other is must not be what stops it
            ip(spy, &format!("neigh replace {} lladdr {} dev eth0", to.ip(), mac(&fleet, name)));
            let before = guarded(node);
            forged.send_to(b"as web", to).unwrap();
            wait::until("a packet that the guard drops", IN_FORCE, || {
                Ok((guarded(node) > before).then_some(()))
            })
            .unwrap();
            honest.send_to(b"web itself", to).unwrap();
            let mut buffer = [0; 64];
            let (n, from) = hears.recv_from(&mut buffer).expect("the datagram of web itself");
            assert_eq!((&buffer[..n], from.ip()), (&b"web itself"[..], web), "{name}");
        }
        ip(spy, &format!("addr del {web}/{} dev eth0", length.split(' ').next().unwrap()));
    }
    // its own address from another MAC address is not its own either
    let own = address(&fleet, "shop/spy", false);
    ip(spy, "link set eth0 address 02:00:00:00:be:ef");
    let to = SocketAddr::new(address(&fleet, "shop/web", false), PORT);
    ip(spy, &format!("neigh replace {} lladdr {} dev eth0", to.ip(), mac(&fleet, "shop/web")));
    let before = guarded(node);
    socket(spy, own).send_to(b"from elsewhere", to).unwrap();
    wait::until("a packet that the guard drops", IN_FORCE, || {
        Ok((guarded(node) > before).then_some(()))
    })
    .unwrap();
    fleet.down().unwrap();
}

fn mac(fleet: &Fleet, name: &str) -> String {
    let inside = &host(fleet, name).inside;
    let text =
        inside.run(|| command::run(Command::new("ip").args(["-br", "link", "show", "eth0"])));
    text.unwrap().split_whitespace().nth(2).unwrap().to_owned()
}
