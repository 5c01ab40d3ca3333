//! Lists of ports for multicast are where `NORMAL` would flood, on a real switch, whatever the VLANs of the ports.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

#[allow(dead_code, reason = "this test needs no agent")]
mod support;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rust_openflow::port;
use support::{Host, run};
use tokio::task::JoinSet;
use weir_agent::diff::diff;
use weir_agent::flow::FlowTable;
use weir_agent::pipeline::multicast;
use weir_agent::ports::{PortConfig, Ports, read};
use weir_ovsdb::vswitch::{self, SwitchState, Vswitch};

/// Ports of each bridge beside its own; the last two are a bond.
const PORTS: usize = 6;
const VLANS: [u16; 4] = [10, 20, 30, 4000];

/// What `ovs-vsctl set port` is told of one port.
fn settings() -> impl Strategy<Value = String> {
    let mode = proptest::sample::select(vec![
        "",
        "vlan_mode=access",
        "vlan_mode=trunk",
        "vlan_mode=native-tagged",
        "vlan_mode=native-untagged",
    ]);
    let tag = proptest::option::of(proptest::sample::select(vec![0, 10, 20, 30]));
    let trunks = proptest::sample::subsequence(vec![0, 10, 20, 30], 0..=3);
    (mode, tag, trunks).prop_map(|(mode, tag, trunks)| {
        let tag = tag.map(|t| format!("tag={t}")).unwrap_or_default();
        let trunks: Vec<String> = trunks.iter().map(u16::to_string).collect();
        let trunks =
            if trunks.is_empty() { String::new() } else { format!("trunks={}", trunks.join(",")) };
        format!("{mode} {tag} {trunks}")
    })
}

/// Where a frame leaves, and with which tag: the datapath actions of a trace, read one after the other.
fn leaves(trace: &str, arrived: u16, bridge: &str) -> BTreeSet<(String, u16)> {
    let line = trace.lines().find_map(|l| l.strip_prefix("Datapath actions: ")).unwrap();
    let mut vlan = arrived;
    let mut out = BTreeSet::new();
    for action in line.split_inclusive([',', ')']).fold(Vec::<String>::new(), join) {
        match action.trim_end_matches(',') {
            "" | "drop" => {}
            "pop_vlan" => vlan = 0,
            push if push.starts_with("push_vlan(vid=") => {
                let vid = push["push_vlan(vid=".len()..].split([',', ')']).next().unwrap();
                vlan = vid.parse().unwrap();
            }
            name => {
                let place = name.strip_prefix(bridge).unwrap_or_else(|| panic!("{name}: {trace}"));
                assert!(out.insert((place.to_owned(), vlan)), "{name} twice: {trace}");
            }
        }
    }
    out
}

/// Puts what stands inside parentheses back together.
fn join(mut whole: Vec<String>, piece: &str) -> Vec<String> {
    match whole.last_mut() {
        Some(last) if last.matches('(').count() > last.matches(')').count() => last.push_str(piece),
        _ => whole.push(piece.to_owned()),
    }
    whole
}

/// The picture once it holds what was written last.
async fn settled(vswitch: &Vswitch, round: usize) -> Arc<SwitchState> {
    let mut watch = vswitch.watch();
    let round = round.to_string();
    let settled = watch.wait_for(|picture| {
        let keys = picture.as_ref().map(|p| &p.system.external_ids);
        keys.and_then(|k| k.get("settled")) == Some(&round)
    });
    settled.await.unwrap().clone().unwrap()
}

/// `ovs-ofctl`: the words before the bridge, and those after.
fn ofctl(host: &Host, before: &str, bridge: &str, after: &str) {
    let mgmt = format!("unix:{}", host.path(&format!("{bridge}.mgmt")).display());
    let words = before.split_whitespace();
    run(Command::new("ovs-ofctl").args(["-O", "OpenFlow13"]).args(words).args([&mgmt, after]));
}

fn appctl(host: &Host, args: &[&str]) -> String {
    run(Command::new("ovs-appctl").arg("-t").arg(host.path("vs.ctl")).args(args))
}

#[tokio::test]
async fn lists_are_where_normal_floods() {
    let host = Host::start();
    let mut words = String::from("--if-exists del-br br-int");
    for bridge in ["a", "b"] {
        write!(
            words,
            " -- add-br {bridge} -- set bridge {bridge} datapath_type=dummy fail_mode=secure"
        )
        .unwrap();
        for n in 1..PORTS - 1 {
            write!(words, " -- add-port {bridge} {bridge}{n} -- set interface {bridge}{n} type=dummy ofport_request={n}").unwrap();
        }
        let (m, n) = (PORTS - 1, PORTS);
        write!(
            words,
            " -- add-bond {bridge} {bridge}bond {bridge}{m} {bridge}{n} bond_mode=active-backup"
        )
        .unwrap();
        for n in [m, n] {
            write!(words, " -- set interface {bridge}{n} type=dummy ofport_request={n}").unwrap();
        }
    }
    host.vsctl(&words);
    let target = format!("unix:{}", host.path("db.sock").display()).parse().unwrap();
    let (vswitch, driver) = vswitch::connect(target, weir_ovsdb::Options::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(driver);
    ofctl(&host, "add-flow", "a", "table=0,priority=0,actions=normal");

    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let worlds = proptest::collection::vec(settings(), PORTS - 1);
    let (mut traced, mut tagged, mut stopped) = (0, 0, 0);
    for round in 0..20 {
        let world = worlds.new_tree(&mut runner).unwrap().current();
        let mut words = String::new();
        for bridge in ["a", "b"] {
            for (n, settings) in world.iter().enumerate() {
                let name = if n + 2 == PORTS { "bond".to_owned() } else { (n + 1).to_string() };
                let port = format!("{bridge}{name}");
                write!(words, " -- clear port {port} vlan_mode tag trunks").unwrap();
                if !settings.trim().is_empty() {
                    write!(words, " -- set port {port} {settings}").unwrap();
                }
            }
        }
        // the bond is of the other kind in every second world
        let other = PORTS - round % 2;
        host.vsctl(words.trim_start_matches(" -- "));
        for bridge in ["a", "b"] {
            appctl(
                &host,
                &["bond/set-active-member", &format!("{bridge}bond"), &format!("{bridge}{other}")],
            );
        }
        let mac = host.vsctl(&format!("--bare --columns=mac_in_use list interface b{other}"));
        host.vsctl(&format!("wait-until port bbond bond_active_slave=\"{}\"", mac.trim()));
        host.vsctl(&format!("set open_vswitch . external_ids:settled={round}"));
        let picture = settled(&vswitch, round).await;
        let config = PortConfig { bridge: "b".to_owned(), ..PortConfig::default() };
        let ports: Ports = read(&picture, &config);
        let open: Vec<u32> = (1..=u32::try_from(PORTS).unwrap()).chain([port::LOCAL]).collect();
        let flows = multicast::flows(&open, &ports.switching);
        let mut text = String::from("table=0,priority=0,actions=resubmit(,90)\n");
        for flow in diff(&flows.into_iter().collect(), &FlowTable::new()) {
            writeln!(text, "{flow}").unwrap();
        }
        std::fs::write(host.path("flows"), text).unwrap();
        let file = host.path("flows").display().to_string();
        ofctl(&host, "--bundle replace-flows", "b", &file);

        for from in 1..=PORTS {
            for vlan in VLANS.into_iter().chain([0]) {
                let tag = if vlan == 0 { String::new() } else { format!("dl_vlan={vlan},") };
                let trace = |bridge: &str| {
                    appctl(
                        &host,
                        &[
                            "ofproto/trace",
                            "--names",
                            bridge,
                            &format!(
                                "in_port={bridge}{from},{tag}udp,dl_src=02:00:00:00:00:{round:02x},\
                             dl_dst=ff:ff:ff:ff:ff:ff,nw_src=10.0.0.1,nw_dst=255.255.255.255"
                            ),
                        ],
                    )
                };
                let (theirs, ours) = (trace("a"), trace("b"));
                let wanted = leaves(&theirs, vlan, "a");
                assert_eq!(leaves(&ours, vlan, "b"), wanted, "{world:#?}\n{theirs}\n{ours}");
                traced += 1;
                tagged += usize::from(wanted.iter().any(|(_, v)| *v != 0));
                stopped += usize::from(wanted.is_empty());
            }
        }
    }
    assert!(tagged > traced / 10 && stopped > traced / 20, "{traced}, {tagged}, {stopped}");
}
