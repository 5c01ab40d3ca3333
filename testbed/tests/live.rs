//! Live connections under changing policy: cut both ways when no rule allows them, undisturbed while one does.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_testbed::fleet::{Fleet, IN_FORCE, Setup, pod};
use weir_testbed::{home, probe, tcp, udp, wait};

/// A stream sends a record every 5 ms: so long a silence is a cut.
const QUIET: Duration = Duration::from_millis(300);
/// A busy machine may be late with a record; only a lost packet makes TCP wait so long.
const DISTURBED: Duration = Duration::from_secs(1);
/// Records between two sockets at any moment.
const UNDER_WAY: u64 = 5;

fn policy(name: &str, from: &str) -> String {
    format!(
        "{{kind: NetworkPolicy, metadata: {{name: {name}, namespace: shop}}, \
          spec: {{podSelector: {{matchLabels: {{app: db}}}}, policyTypes: [Ingress], ingress: [{from}]}}}}"
    )
}

fn fleet() -> Fleet {
    let mut fleet = Fleet::for_test(&Setup::nodes(2)).unwrap();
    fleet.namespace("shop", &[]).unwrap();
    let services = [tcp(5432), udp(5432)];
    fleet
        .add(&[
            pod("shop/web").on("n1").label("app", "web"),
            pod("shop/near").on("n2").label("app", "web"),
            pod("shop/db").on("n2").label("app", "db").serves(&services),
        ])
        .unwrap();
    fleet
}

#[test]
fn a_live_connection_is_cut_both_ways_and_goes_on_while_any_rule_allows_it() {
    let mut fleet = fleet();
    let web = "{from: [{podSelector: {matchLabels: {app: web}}}]}";
    fleet.apply(&policy("first", web)).unwrap();
    fleet.agrees().unwrap();
    let streams: Vec<_> =
        [("shop/web", tcp(5432)), ("shop/web", udp(5432)), ("shop/near", tcp(5432))]
            .into_iter()
            .map(|(from, service)| fleet.stream(from, "shop/db", service).unwrap())
            .collect();

    // another policy allows the same, the first goes: E9 step 3
    fleet.apply(&policy("second", "{ports: [{port: 5432}, {port: 5432, protocol: UDP}]}")).unwrap();
    fleet.agrees().unwrap();
    fleet.delete_policy("shop/first").unwrap();
    fleet.agrees().unwrap();
    for s in &streams {
        s.moves(IN_FORCE).unwrap();
        let (there, back) = (s.counts().there, s.counts().back);
        assert!(
            there.longest_silence < DISTURBED && back.longest_silence < DISTURBED,
            "an allowed connection was disturbed: {there:?} {back:?}"
        );
    }
    // datagrams show every loss; what is under way has not arrived yet
    let datagrams = streams[1].counts();
    assert!(
        datagrams.there.lost() <= UNDER_WAY && datagrams.back.lost() <= UNDER_WAY,
        "{datagrams:?}"
    );

    // nothing allows it any more: both directions fall silent
    fleet.apply(&policy("second", "")).unwrap();
    fleet.cannot_reach("shop/web", "shop/db", tcp(5432)).unwrap();
    for s in &streams {
        s.is_cut(QUIET, IN_FORCE).unwrap();
    }
    let cut: Vec<_> = streams.iter().map(probe::Stream::counts).collect();

    // allowed again: what still tries goes on
    fleet.apply(&policy("second", web)).unwrap();
    for (s, before) in streams.iter().zip(cut) {
        s.moves(IN_FORCE).unwrap();
        let now = s.counts();
        assert!(now.there.received > before.there.received);
    }
    fleet.down().unwrap();
}

#[test]
fn egress_revoked_at_the_source_cuts_too() {
    let mut fleet = fleet();
    fleet.agrees().unwrap();
    let stream = fleet.stream("shop/web", "shop/db", tcp(5432)).unwrap();
    let near = fleet.stream("shop/near", "shop/db", tcp(5432)).unwrap();
    fleet
        .apply(
            "{kind: NetworkPolicy, metadata: {name: out, namespace: shop}, \
              spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}}",
        )
        .unwrap();
    for s in [&stream, &near] {
        s.is_cut(QUIET, IN_FORCE).unwrap();
    }
    fleet.down().unwrap();
}

#[test]
fn a_responder_that_alone_goes_on_sending_is_cut_too() {
    let mut fleet = fleet();
    fleet.agrees().unwrap();
    for v6 in [false, true] {
        let socket = |pod: &str, port: u16| {
            let at = SocketAddr::new(
                if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() },
                port,
            );
            let host = fleet.bed().host(pod).unwrap();
            let socket = host.inside.run(move || Ok(UdpSocket::bind(at).unwrap())).unwrap();
            socket.set_read_timeout(Some(QUIET)).unwrap();
            socket
        };
        let (viewer, source) = (socket("shop/web", 7000), socket("shop/db", 7001));
        let to = fleet.bed().host("shop/db").unwrap().target(v6, 7001).unwrap();
        viewer.send_to(b"subscribe", to).unwrap();
        let (_, from) = source.recv_from(&mut [0; 64]).expect("the subscription");
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        // a record every millisecond, on and on
        let sender = std::thread::spawn(move || {
            let pace = source.try_clone().unwrap();
            pace.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            while !ended.load(Ordering::Relaxed) {
                source.send_to(b"record", from).unwrap();
                // nobody sends anything here: this waits
                let _ = pace.recv(&mut [0; 1]);
            }
        });
        let hears = || viewer.recv(&mut [0; 64]).is_ok();
        assert!(hears(), "the stream runs");
        fleet.apply(&policy("closed", "")).unwrap();
        wait::until("silence", IN_FORCE, || Ok((!hears()).then_some(()))).unwrap();
        // allowed again, and the viewer asks again
        fleet.delete_policy("shop/closed").unwrap();
        wait::until("the stream", IN_FORCE, || {
            viewer.send_to(b"subscribe", to).unwrap();
            Ok(hears().then_some(()))
        })
        .unwrap();
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap();
    }
    fleet.down().unwrap();
}

#[test]
fn a_denied_connection_leaves_no_conntrack_entry() {
    let mut fleet = fleet();
    fleet.apply(&policy("closed", "")).unwrap();
    fleet.cannot_reach("shop/web", "shop/db", tcp(5432)).unwrap();
    fleet.cannot_reach("shop/near", "shop/db", udp(5432)).unwrap();
    let node = fleet.bed().node("n2").unwrap();
    let address = fleet.bed().host("shop/db").unwrap().addresses[0].to_string();
    let entries = |n: &weir_testbed::Node| {
        let all = n.ovs.connections().unwrap();
        all.into_iter().filter(|l| l.contains(&format!("dst={address},"))).collect::<Vec<_>>()
    };
    assert_eq!(entries(node), Vec::<String>::new(), "denied connections are not committed");

    // the same look finds the entry of a connection that is allowed
    fleet.delete_policy("shop/closed").unwrap();
    fleet.reaches("shop/web", "shop/db", tcp(5432)).unwrap();
    let node = fleet.bed().node("n2").unwrap();
    wait::until("an entry of an allowed connection", IN_FORCE, || {
        Ok((!entries(node).is_empty()).then_some(()))
    })
    .unwrap();
    fleet.down().unwrap();
}

#[test]
fn nothing_of_this_is_left_behind() {
    let name = home::test_name();
    let fleet = Fleet::up(&name, &Setup::nodes(1)).unwrap();
    let dir = fleet.bed().dir().to_owned();
    drop(fleet);
    assert!(!dir.exists(), "{} is left", dir.display());
}
