//! A pod sends from its own addresses only, and gets what is for its own: the rest arrives nowhere and is counted apart
//! (NP-40).
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use support::{address, counted, counts_more, fleet, host};
use weir_testbed::fleet::{Fleet, pod};
use weir_testbed::{Host, Node, command, udp};

/// A socket that heard nothing for so long will hear nothing.
const PATIENCE: Duration = Duration::from_secs(5);
const PORT: u16 = 4567;

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

/// Packets that pods' ports sent and the guard dropped.
const SENT: (u8, &str) = (10, "priority=100,in_port=");
/// Packets that would have been delivered to a pod that has not their address.
const DELIVERED: (u8, &str) = (90, "priority=150,");

/// Sends something, and waits until the guard has dropped it.
fn is_dropped(node: &Node, guard: (u8, &str), send: impl FnOnce() -> io::Result<usize>) {
    let (table, text) = guard;
    let before = counted(node, table, text);
    send().unwrap();
    counts_more(node, table, text, before);
}

#[test]
fn what_a_pod_sends_as_another_arrives_nowhere() {
    let mut fleet = fleet(
        "shop",
        &[
            pod("shop/web").on("n1").label("app", "web"),
            pod("shop/spy").on("n1").label("app", "spy"),
            pod("shop/near").on("n1").label("app", "db").serves(&[udp(9)]),
            pod("shop/far").on("n2").label("app", "db").serves(&[udp(9)]),
        ],
    );
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
            is_dropped(node, SENT, || forged.send_to(b"as web", to));
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
    let outside = socket(spy, own);
    is_dropped(node, SENT, || outside.send_to(b"from elsewhere", to));
    fleet.down().unwrap();
}

/// Rules go by IP address, delivery by MAC address: a packet for a pod that is open must not reach one that is not.
#[test]
fn what_was_judged_as_one_pods_is_not_delivered_to_another() {
    let mut fleet = fleet(
        "shop",
        &[
            pod("shop/open").on("n1").label("app", "open").serves(&[udp(9)]),
            pod("shop/shut").on("n1").label("app", "shut").serves(&[udp(9)]),
            pod("shop/near").on("n1").label("app", "spy"),
            pod("shop/far").on("n2").label("app", "spy"),
        ],
    );
    fleet
        .apply(
            "{kind: NetworkPolicy, metadata: {name: shut, namespace: shop}, \
              spec: {podSelector: {matchLabels: {app: shut}}, policyTypes: [Ingress]}}",
        )
        .unwrap();
    fleet.agrees().unwrap();
    let node = fleet.bed().node("n1").unwrap();
    let (open, shut) = (host(&fleet, "shop/open"), host(&fleet, "shop/shut"));
    for v6 in [false, true] {
        let address = address(&fleet, "shop/open", v6);
        // it would take the packet if it got one
        let length = if v6 { "128 nodad" } else { "32" };
        ip(shut, &format!("addr add {address}/{length} dev lo"));
        let (hears, not) = (socket(open, address), socket(shut, address));
        for name in ["shop/near", "shop/far"] {
            let spy = host(&fleet, name);
            let from = socket(spy, support::address(&fleet, name, v6));
            let to = SocketAddr::new(address, PORT);
            let neighbour =
                |mac: String| ip(spy, &format!("neigh replace {address} lladdr {mac} dev eth0"));
            neighbour(mac(&fleet, "shop/shut"));
            is_dropped(node, DELIVERED, || from.send_to(b"to the wrong one", to));
            neighbour(mac(&fleet, "shop/open"));
            from.send_to(b"to the right one", to).unwrap();
            let mut buffer = [0; 64];
            let n = hears.recv(&mut buffer).expect("a datagram for the open pod");
            assert_eq!(&buffer[..n], b"to the right one", "{name}");
        }
        not.set_nonblocking(true).unwrap();
        not.recv(&mut [0; 64]).expect_err("a datagram for another pod");
    }
    fleet.down().unwrap();
}

fn mac(fleet: &Fleet, name: &str) -> String {
    let inside = &host(fleet, name).inside;
    let text =
        inside.run(|| command::run(Command::new("ip").args(["-br", "link", "show", "eth0"])));
    text.unwrap().split_whitespace().nth(2).unwrap().to_owned()
}
