//! Packets that no probe sends: fragments, forged ICMP errors, broadcasts, segments of connections that conntrack forgot.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use support::{address, counted, counts_more, fleet};
use weir_testbed::fleet::{Fleet, IN_FORCE, Setup, pod};
use weir_testbed::{tcp, udp, wait};

/// More than two frames of the underlay hold.
const BIG: usize = 3_000;
/// A socket that heard nothing for so long after everything sent was dealt with heard nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// For one answer, where it is asked for again and again.
const QUIET: Duration = Duration::from_millis(100);

/// A datagram socket inside a pod.
fn datagrams(fleet: &Fleet, pod: &str, port: u16, v6: bool) -> UdpSocket {
    let any = if v6 { "[::]" } else { "0.0.0.0" };
    let at = format!("{any}:{port}");
    let host = fleet.bed().host(pod).unwrap();
    // a program that another test starts at this moment holds copies of our sockets until it is itself
    let socket = wait::until("a port that was closed", PATIENCE, || {
        let at = at.clone();
        host.inside.run(move || match UdpSocket::bind(at) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            bound => Ok(Some(bound.unwrap())),
        })
    });
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn fragments_follow_their_first_one() {
    let mut fleet = fleet(
        "media",
        &[
            pod("media/phone").on("n1").label("app", "phone"),
            pod("media/relay").on("n2").label("app", "relay"),
        ],
    );
    fleet
        .apply(
            "{kind: NetworkPolicy, metadata: {name: relay, namespace: media}, \
              spec: {podSelector: {matchLabels: {app: relay}}, policyTypes: [Ingress, Egress], ingress: \
              [{from: [{podSelector: {matchLabels: {app: phone}}}], \
                ports: [{protocol: UDP, port: 5000, endPort: 5010}]}]}}",
        )
        .unwrap();
    fleet.agrees().unwrap();
    for v6 in [false, true] {
        let (phone, relay) = (
            datagrams(&fleet, "media/phone", 4000, v6),
            datagrams(&fleet, "media/relay", 5005, v6),
        );
        let other = datagrams(&fleet, "media/relay", 6000, v6);
        let to = |port: u16| SocketAddr::new(address(&fleet, "media/relay", v6), port);
        let mut buffer = vec![0; BIG + 1];
        // back and forth, so that the connection is an established one too
        for round in 0..3_u8 {
            phone.send_to(&[round; BIG], to(5005)).unwrap();
            let (n, from) = relay.recv_from(&mut buffer).expect("a fragmented datagram");
            assert_eq!((n, buffer[BIG - 1]), (BIG, round));
            relay.send_to(&[round; BIG], from).unwrap();
            assert_eq!(phone.recv(&mut buffer).expect("a fragmented answer"), BIG);
        }
        // a port that no rule names: the first fragment is dropped, and nothing can be put together
        let node = fleet.bed().node("n2").unwrap();
        let drops = "priority=100,reg3=";
        let before = counted(node, 65, drops);
        phone.send_to(&[9; BIG], to(6000)).unwrap();
        counts_more(node, 65, drops, before);
        // a whole datagram of the same pair comes after it and arrives
        phone.send_to(b"small", to(5005)).unwrap();
        assert_eq!(relay.recv(&mut buffer).expect("a datagram afterwards"), 5);
        other.set_nonblocking(true).unwrap();
        other.recv(&mut buffer).expect_err("a datagram to a closed port");
    }
    fleet.down().unwrap();
}

/// A connection that is not allowed any more does not go on in fragments, whatever else is allowed between its ends.
#[test]
fn a_cut_connection_does_not_go_on_in_fragments() {
    let mut fleet = fleet(
        "media",
        &[
            pod("media/phone").on("n1").label("app", "phone"),
            pod("media/relay").on("n2").label("app", "relay").serves(&[udp(5006)]),
        ],
    );
    let policy = |last: u16| {
        format!(
            "{{kind: NetworkPolicy, metadata: {{name: relay, namespace: media}}, \
              spec: {{podSelector: {{matchLabels: {{app: relay}}}}, ingress: \
              [{{ports: [{{protocol: UDP, port: 5006, endPort: {last}}}]}}]}}}}"
        )
    };
    fleet.apply(&policy(5007)).unwrap();
    fleet.agrees().unwrap();
    for v6 in [false, true] {
        let phone = datagrams(&fleet, "media/phone", 4000, v6);
        let relay = datagrams(&fleet, "media/relay", 5007, v6);
        let to = SocketAddr::new(address(&fleet, "media/relay", v6), 5007);
        let mut buffer = vec![0; BIG + 1];
        for size in [BIG, 10, BIG] {
            phone.send_to(&vec![7; size], to).unwrap();
            let (n, from) = relay.recv_from(&mut buffer).expect("allowed");
            assert_eq!(n, size);
            relay.send_to(&buffer[..n], from).unwrap();
            assert_eq!(phone.recv(&mut buffer).expect("an answer"), size);
        }
        fleet.apply(&policy(5006)).unwrap();
        relay.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        // small ones first, until the change is there; then both kinds in turn
        wait::until("the cut", IN_FORCE, || {
            phone.send_to(b"small", to).unwrap();
            Ok(relay.recv(&mut buffer).is_err().then_some(()))
        })
        .unwrap();
        let node = fleet.bed().node("n2").unwrap();
        for _ in 0..20 {
            let drops = "priority=100,reg3=";
            let before = counted(node, 65, drops);
            phone.send_to(&[7; BIG], to).unwrap();
            counts_more(node, 65, drops, before);
            phone.send_to(b"small", to).unwrap();
        }
        relay.recv(&mut buffer).expect_err("a datagram of a cut connection");
        fleet.apply(&policy(5007)).unwrap();
        relay.set_read_timeout(Some(QUIET)).unwrap();
        wait::until("the connection", IN_FORCE, || {
            phone.send_to(&[7; BIG], to).unwrap();
            Ok(relay.recv(&mut buffer).is_ok().then_some(()))
        })
        .unwrap();
    }
    fleet.down().unwrap();
}

/// One's complement sum. Source: RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words =
        bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}

/// "Port unreachable" about a UDP datagram. Source: RFC 792.
fn unreachable(src: SocketAddr, dst: SocketAddr, secret: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(s), IpAddr::V4(d)) = (src.ip(), dst.ip()) else { panic!("IPv4") };
    let mut inner = vec![0x45, 0, 0, 60, 0, 1, 0, 0, 64, 17, 0, 0];
    inner.extend(s.octets());
    inner.extend(d.octets());
    let sum = checksum(&inner);
    inner[10..12].copy_from_slice(&sum);
    inner.extend(src.port().to_be_bytes());
    inner.extend(dst.port().to_be_bytes());
    inner.extend([0, 40, 0, 0]);
    inner.extend(secret);
    let mut icmp = vec![3, 3, 0, 0, 0, 0, 0, 0];
    icmp.extend(inner);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    icmp
}

fn raw_icmp() -> std::os::fd::OwnedFd {
    let fd =
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp).unwrap();
    let patience = TimeVal::new(i64::try_from(PATIENCE.as_secs()).unwrap(), 0);
    setsockopt(&fd, sockopt::ReceiveTimeout, &patience).unwrap();
    fd
}

#[test]
fn an_icmp_error_comes_from_an_end_of_its_connection() {
    use std::os::fd::AsRawFd;

    let mut fleet = fleet(
        "shop",
        &[
            pod("shop/web").on("n1").label("app", "web"),
            pod("shop/spy").on("n1").label("app", "spy"),
            pod("shop/db").on("n1").label("app", "db").serves(&[udp(5432)]),
        ],
    );
    fleet
        .apply(
            "{kind: NetworkPolicy, metadata: {name: silent, namespace: shop}, \
              spec: {podSelector: {matchLabels: {app: spy}}, policyTypes: [Egress]}}",
        )
        .unwrap();
    fleet.agrees().unwrap();
    // a connection of others, seen from outside as its two ends and ports
    let web = datagrams(&fleet, "shop/web", 4000, false);
    let from = SocketAddr::new(address(&fleet, "shop/web", false), 4000);
    let to = SocketAddr::new(address(&fleet, "shop/db", false), 5432);
    web.send_to(b"P12345678", to).unwrap();
    web.recv(&mut [0; 64]).expect("an answer");

    let hears = fleet.bed().host("shop/web").unwrap().inside.run(|| Ok(raw_icmp())).unwrap();
    let send = |pod: &str, secret: &'static [u8]| {
        let host = fleet.bed().host(pod).unwrap();
        let IpAddr::V4(web) = from.ip() else { panic!("IPv4") };
        host.inside
            .run(move || {
                let [a, b, c, d] = web.octets();
                let message = unreachable(from, to, secret);
                let at = SockaddrIn::new(a, b, c, d, 0);
                sendto(raw_icmp().as_raw_fd(), &message, &at, MsgFlags::empty()).unwrap();
                Ok(())
            })
            .unwrap();
    };
    let node = fleet.bed().node("n1").unwrap();
    let forged = "priority=225,";
    let before = counted(node, 25, forged);
    send("shop/spy", b"a secret");
    counts_more(node, 25, forged, before);
    // the one that comes afterwards, from the end that may say so, is the first that is heard
    send("shop/db", b"my own words");
    let mut buffer = [0; 256];
    let n = recv(hears.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("an ICMP error");
    assert!(buffer[..n].ends_with(b"my own words"), "{:?}", &buffer[..n]);
    fleet.down().unwrap();
}

#[test]
fn a_cut_connection_that_conntrack_forgot_stays_cut() {
    let mut fleet = fleet(
        "shop",
        &[
            pod("shop/web").on("n1").label("app", "web"),
            pod("shop/other").on("n1").label("app", "other"),
            pod("shop/db").on("n2").label("app", "db").serves(&[tcp(5432)]),
        ],
    );
    let policy = |from: &str| {
        format!(
            "{{kind: NetworkPolicy, metadata: {{name: db, namespace: shop}}, spec: {{\
             podSelector: {{matchLabels: {{app: db}}}}, ingress: [{from}]}}}}"
        )
    };
    fleet.agrees().unwrap();
    let cut = fleet.stream("shop/web", "shop/db", tcp(5432)).unwrap();
    let stays = fleet.stream("shop/other", "shop/db", tcp(5432)).unwrap();
    fleet.apply(&policy("{from: [{podSelector: {matchLabels: {app: other}}}]}")).unwrap();
    cut.is_cut(Duration::from_millis(300), IN_FORCE).unwrap();
    let before = cut.counts();
    stays.moves(IN_FORCE).unwrap();

    for name in ["n1", "n2"] {
        let node = fleet.bed().node(name).unwrap();
        node.ovs.stop_switch(Signal::SIGKILL).unwrap();
        node.ovs.start_switch().unwrap();
    }
    // both ends go on trying: what is allowed goes on, although nobody remembers who began it
    stays.moves(Duration::from_secs(60)).unwrap();
    // the other's segments meet a conntrack that does not know them, in whichever direction comes first, and are judged
    let node = fleet.bed().node("n2").unwrap();
    let web = address(&fleet, "shop/web", false);
    wait::until("the drop of a segment of the cut connection", Duration::from_secs(60), || {
        Ok((counted(node, 65, "priority=100,reg3=") + counted(node, 65, "priority=110,") > 0)
            .then_some(()))
    })
    .unwrap();
    cut.is_cut(Duration::from_secs(3), Duration::from_secs(60)).unwrap();
    let now = cut.counts();
    assert_eq!(now.there.received, before.there.received, "nothing of {web} got in");
    fleet.cannot_reach("shop/web", "shop/db", tcp(5432)).unwrap();
    // and it can still be revoked
    fleet.apply(&policy("")).unwrap();
    stays.is_cut(Duration::from_secs(1), IN_FORCE).unwrap();
    fleet.down().unwrap();
}

/// A socket for broadcasts inside a pod.
fn broadcasts(fleet: &Fleet, pod: &str) -> UdpSocket {
    let socket = datagrams(fleet, pod, 4567, false);
    socket.set_broadcast(true).unwrap();
    socket
}

#[test]
fn broadcasts_keep_to_their_vlan_and_to_who_lets_them_in() {
    let mut fleet = Fleet::for_test(&Setup::nodes(1)).unwrap();
    fleet.namespace("lan", &[]).unwrap();
    let names = ["lan/a", "lan/b", "lan/c", "lan/shut", "lan/open"];
    let label = |name: &'static str| name.split_once('/').unwrap().1;
    fleet.add(&names.map(|n| pod(n).label("app", label(n)).serves(&[udp(9)]))).unwrap();
    for (name, rules) in [("shut", ""), ("open", "{}")] {
        fleet
            .apply(&format!(
                "{{kind: NetworkPolicy, metadata: {{name: {name}, namespace: lan}}, \
                  spec: {{podSelector: {{matchLabels: {{app: {name}}}}}, ingress: [{rules}]}}}}"
            ))
            .unwrap();
    }
    fleet.agrees().unwrap();
    let sockets = names.map(|n| broadcasts(&fleet, n));
    let everyone = SocketAddr::new(Ipv4Addr::BROADCAST.into(), 4567);
    let hear = |n: usize| {
        let mut buffer = [0; 64];
        sockets[n].recv(&mut buffer).map(|n| buffer[..n].to_vec())
    };
    sockets[0].send_to(b"one", everyone).unwrap();
    for n in [1, 2, 4] {
        assert_eq!(hear(n).unwrap(), b"one", "{}", names[n]);
    }

    // a and b on one VLAN, c on another
    let node = fleet.bed().node("n1").unwrap();
    for (name, tag) in [("lan/a", 10), ("lan/b", 10), ("lan/c", 20)] {
        let port = fleet.bed().host(name).unwrap().port().unwrap();
        node.ovs.vsctl(&["set", "port", port, &format!("tag={tag}")]).unwrap();
    }
    wait::until("flows that know the VLANs", IN_FORCE, || {
        let flows = node.ovs.flows()?;
        Ok((flows.iter().filter(|f| f.contains("dl_vlan=20")).count() >= 2).then_some(()))
    })
    .unwrap();
    sockets[0].send_to(b"ten", everyone).unwrap();
    assert_eq!(hear(1).unwrap(), b"ten");
    sockets[2].send_to(b"twenty", everyone).unwrap();
    sockets[0].send_to(b"ten again", everyone).unwrap();
    assert_eq!(hear(1).unwrap(), b"ten again", "of the other VLAN nothing came in between");
    for (n, name) in names.iter().enumerate().skip(2) {
        sockets[n].set_nonblocking(true).unwrap();
        // its own kernel may give a broadcast back to who sent it
        while let Ok(heard) = hear(n) {
            assert!(*name == "lan/c" && heard == b"twenty", "{name} heard {heard:?}");
        }
    }
    fleet.down().unwrap();
}
