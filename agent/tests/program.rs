//! The agent as a process, on a real Open vSwitch (dummy datapath) and with a controller over TLS.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use support::Host;
use support::controller::{Controller, Site};
use weir_policy::group::{Group, Profile};
use weir_policy::ids::{EndpointId, GroupId, PolicyKey};
use weir_policy::labels::Labels;
use weir_policy::port::{Protocol, Service};
use weir_policy::rule::{Action, Direction, Peers, Policy, PolicyRule, Rule, Services, Tier};
use weir_policy::state::{Change, Endpoint, NodeInfo, NodeState};

fn profile(app: &str) -> Profile {
    Profile {
        namespace: "shop".into(),
        labels: Labels::from_iter([("app", app)]),
        named_ports: BTreeSet::new(),
    }
}

fn endpoint(name: &str, node: &str, addresses: [&str; 2], app: &str) -> Change {
    Change::Endpoint(Endpoint {
        id: EndpointId(format!("shop/{name}").into()),
        namespace: "shop".into(),
        name: name.into(),
        node: node.into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        mac: None,
        profile: profile(app).id(),
    })
}

/// `shop/db-0` here may be reached by `shop/api-0` of another node at TCP 5432 and 6000 to 6999.
fn state() -> NodeState {
    let (db, api) = (GroupId(1), GroupId(2));
    let group = |id, app: &str| Group {
        id,
        selector: format!("shop {{app={app}}}").into(),
        members: BTreeSet::from([profile(app).id()]),
    };
    let range = Service {
        port: weir_policy::port::PortMatch::Range { first: 6000, last: 6999 },
        ..Service::port(Protocol::Tcp, 0)
    };
    let rule = Rule {
        tier: Tier::NetworkPolicy,
        order: 0,
        direction: Direction::Ingress,
        subject: db,
        peers: Peers::Of { groups: BTreeSet::from([api]), blocks: BTreeSet::new() },
        services: Services::Of(BTreeSet::from([Service::port(Protocol::Tcp, 5432), range])),
        action: Action::Allow,
    };
    let mut state = NodeState::default();
    state.apply([
        Change::Node(NodeInfo {
            name: "n1".into(),
            addresses: BTreeSet::from(["192.0.2.1".parse().unwrap()]),
        }),
        Change::Profile(profile("db")),
        Change::Profile(profile("api")),
        Change::Group(group(db, "db")),
        Change::Group(group(api, "api")),
        endpoint("db-0", "n1", ["10.0.1.1", "fd00:1::1"], "db"),
        endpoint("api-0", "n2", ["10.0.2.1", "fd00:2::1"], "api"),
        Change::Policy(Policy {
            key: PolicyKey::network_policy("shop", "db-from-api"),
            uid: "".into(),
            generation: 3,
            subject: db,
            isolates: BTreeSet::from([Direction::Ingress]),
            rules: vec![PolicyRule { path: "ingress[0]".into(), rule }],
        }),
    ]);
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_at_first_then_as_the_controller_says_and_so_through_every_restart() {
    let mut host = Host::start();
    let site = Site::new(&host.path("."));

    // nothing is known: the base, and the port of shop/db-0 closed
    let mut agent = host.agent(&site.url());
    let text =
        host.until("/debug/state", |_, text| text.contains("workload ports are closed")).await;
    assert!(text.contains("port 1: shop/db-0 by p1"), "{text}");
    let closed = host.flows();
    assert!(!closed.is_empty());
    let gates = host.until("/readyz?verbose", |status, _| status == 503).await;
    assert!(gates.contains("[-] state") && gates.contains("[+] ovsdb"), "{gates}");

    // the controller comes
    let mut controller = Controller::start(&site).await;
    let mut node = controller.node().await;
    node.snapshot(10, &state()).await;
    let realized = node.realized(10).await;
    assert_eq!((realized.ports_ready, realized.ports_closed), (1, 0));
    let [result] = &realized.results[..] else { panic!("{realized:?}") };
    assert!(result.realized && result.generation == 3, "{result:?}");
    let open = host.flows();
    assert_eq!(open.len(), realized.flows as usize);
    assert!(open.len() > closed.len());
    host.ready().await;
    // nothing of the agent waits for the names: they are in the database, then in the switch
    host.vsctl("wait-until bridge br-int flow_tables!={}");
    host.vsctl("set bridge br-int other_config:seen=0");
    let named = host.ofctl(&["--names", "dump-flows"]);
    assert!(named.contains("table=IngressRule"), "{named}");

    // what tools ask
    let text = node.ask("flows").await;
    let plain = |line: &str| {
        line.split(", ").filter(|w| !w.starts_with("duration")).collect::<Vec<_>>().join(", ")
    };
    let mut seen: Vec<String> = text.lines().map(|l| plain(l.trim())).collect();
    let dump = host.ofctl(&["dump-flows"]);
    let mut shown: Vec<String> =
        dump.lines().filter(|l| l.contains("actions=")).map(|l| plain(l.trim())).collect();
    seen.sort();
    shown.sort();
    assert_eq!(seen, shown);
    assert!(node.ask("symbols").await.contains("db-from-api"));
    assert!(node.ask("state").await.contains("revision: 10"));

    // a change is a few flows
    node.delta(11, &[endpoint("api-1", "n2", ["10.0.2.2", "fd00:2::2"], "api")]).await;
    node.realized(11).await;
    let full = host.flows();
    assert!(
        full.len() > open.len() && full.len() <= open.len() + 4,
        "{} {}",
        full.len(),
        open.len()
    );

    // killed and started again while the controller is away: nothing is sent
    host.stored(11).await;
    controller.stop().await;
    agent.signal("-KILL");
    agent = host.agent(&site.url());
    host.ready().await;
    let text = host.until("/debug/state", |_, text| text.contains("phase: following")).await;
    assert!(text.contains("since start: 0 bundles"), "{text}");
    assert!(text.contains("revision: 11"), "{text}");
    assert_eq!(host.flows(), full);

    // OVS restarts: everything again
    host.restart_ovs();
    let all = format!("\nflows: {}\n", full.len());
    let again = |text: &str| text.contains(&all) && !text.contains("since start: 0 bundles");
    host.until("/debug/state", |_, text| again(text)).await;
    host.ready().await;
    assert_eq!(host.flows(), full);

    // somebody else's flow stays no longer than the next comparison
    host.ofctl_add("table=0,priority=65000,actions=normal");
    assert_eq!(agent.signal("-TERM").code(), Some(0));
    assert_eq!(host.flows().len(), full.len() + 1);
    agent = host.agent(&site.url());
    host.ready().await;
    assert_eq!(host.flows(), full);

    // a controller with another picture: its difference only
    let mut controller = Controller::start(&site).await;
    let mut node = controller.node().await;
    let mut fewer = state();
    fewer.apply([Change::RemovePolicy(PolicyKey::network_policy("shop", "db-from-api"))]);
    node.snapshot(1, &fewer).await;
    assert!(node.realized(1).await.results.is_empty());
    assert!(host.flows().len() < open.len());
    assert_eq!(agent.signal("-TERM").code(), Some(0));
}

/// Flows by table and owner, as the metrics have them.
fn told(metrics: &str) -> BTreeMap<(String, String), usize> {
    let mut out = BTreeMap::new();
    for line in metrics.lines().filter_map(|l| l.strip_prefix("weir_agent_flows{")) {
        let words: Vec<&str> = line.split('"').collect();
        let [_, table, _, owner, n] = words[..] else { panic!("{line}") };
        let n: f64 = n.trim_start_matches('}').trim().parse().unwrap();
        out.insert((table.to_owned(), owner.to_owned()), n as usize);
    }
    out
}

/// The same from what the switch prints, by the names of its tables and the digits of its cookies.
fn counted(dump: &str) -> BTreeMap<(String, String), usize> {
    let mut out = BTreeMap::new();
    for line in dump.lines().filter(|l| l.contains("actions=")) {
        let value = |name: &str| {
            let rest = line.split(name).nth(1).unwrap_or_default();
            rest.split([',', ' ']).next().unwrap_or_default().to_owned()
        };
        let cookie = value("cookie=0x");
        let owner = match cookie.strip_prefix("5701").and_then(|c| c.chars().next()) {
            Some('0' | '5' | '6') => "base",
            Some('1' | '2') => "rule",
            Some('3') => "clause",
            Some('4') => "deny",
            _ => "foreign",
        };
        // a flow of the first table is printed without one
        let table = if line.contains("table=") { value("table=") } else { "Classifier".to_owned() };
        *out.entry((table, owner.to_owned())).or_default() += 1;
    }
    out
}

/// Endpoints and policies that come and go at random: after each change the numbers are those of the real dump. And the
/// program tells what the documentation lists.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_health_are_what_the_switch_and_the_documentation_say() {
    let host = Host::start();
    let site = Site::new(&host.path("."));
    let mut agent = host.agent(&site.url());
    host.until("/readyz?verbose", |status, text| status == 503 && text.contains("[-] state")).await;
    assert_eq!(host.until("/livez", |status, _| status == 200).await, "ok\n");
    let mut controller = Controller::start(&site).await;
    let mut node = controller.node().await;
    node.snapshot(1, &state()).await;
    node.realized(1).await;
    host.ready().await;
    host.vsctl("wait-until bridge br-int flow_tables!={}");
    host.vsctl("set bridge br-int other_config:seen=0");

    let policies = state().policies;
    let policy = policies.values().next().unwrap();
    let mut seed = 7_u64;
    for revision in 2..40 {
        // Knuth's MMIX
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (what, n) = (seed >> 60, (seed >> 40) % 8);
        let name = format!("api-{n}");
        let addresses = [format!("10.0.2.{}", n + 1), format!("fd00:2::{}", n + 1)];
        let change = match what {
            0..6 => endpoint(&name, "n2", [&addresses[0], &addresses[1]], "api"),
            6..10 => Change::RemoveEndpoint(EndpointId(format!("shop/{name}").into())),
            10..12 => Change::RemovePolicy(policy.key.clone()),
            _ => {
                let mut policy = policy.clone();
                policy.generation = revision;
                if n % 2 == 0 {
                    policy.rules.clear();
                }
                Change::Policy(policy)
            }
        };
        let revision = u64::try_from(revision).unwrap();
        node.delta(revision, &[change]).await;
        node.realized(revision).await;
        let dump = host.ofctl(&["--names", "dump-flows"]);
        let counted = counted(&dump);
        host.until("/metrics", |_, text| told(text) == counted).await;
    }

    let metrics = host.until("/metrics", |status, _| status == 200).await;
    assert_eq!(
        weir_runtime::metrics::markdown(&metrics),
        documented("weir-agent"),
        "docs/metrics.md lists other metrics than the program tells"
    );
    // two looks at the same are the same
    let gates = host.until("/readyz?verbose", |status, _| status == 200).await;
    let names: Vec<&str> =
        gates.lines().filter_map(|l| l.strip_prefix("[+] ")?.split(' ').next()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(names, sorted, "{gates}");
    assert_eq!(names, ["flows", "ovsdb", "state", "switch"]);
    let text = host.until("/debug/state", |_, text| text.contains("revision: 39")).await;
    assert_eq!(host.until("/debug/state", |status, _| status == 200).await, text);
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("flows in ")).collect();
    let mut sorted = lines.clone();
    sorted.sort_unstable();
    assert!(!lines.is_empty() && lines == sorted, "{text}");
    assert_eq!(agent.signal("-TERM").code(), Some(0));
}

/// The rows of a program's table in the documentation.
fn documented(program: &str) -> String {
    let text = include_str!("../../docs/metrics.md");
    let section = text.split("\n## ").find(|s| s.starts_with(program)).unwrap();
    let rows = section.lines().filter(|l| l.starts_with("| `weir_"));
    rows.map(|l| format!("{l}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_state_file_leaves_the_bridge_as_it_is() {
    let host = Host::start();
    let site = Site::new(&host.path("."));
    let mut controller = Controller::start(&site).await;
    let mut agent = host.agent(&site.url());
    let mut node = controller.node().await;
    node.snapshot(10, &state()).await;
    node.realized(10).await;
    let full = host.flows();
    controller.stop().await;
    // a drain writes what is not yet on disk
    assert_eq!(agent.signal("-TERM").code(), Some(0));
    let file = host.path("state/state.bin");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();

    let mut agent = host.agent(&site.url());
    host.until("/debug/state", |_, text| text.contains("phase: holding")).await;
    let gates = host.until("/readyz?verbose", |status, _| status == 503).await;
    assert!(gates.contains("[-] flows"), "{gates}");
    assert_eq!(host.flows(), full);
    let mut controller = Controller::start(&site).await;
    let mut node = controller.node().await;
    node.snapshot(12, &state()).await;
    node.realized(12).await;
    host.ready().await;
    assert_eq!(host.flows(), full);
    assert_eq!(agent.signal("-TERM").code(), Some(0));
}

#[test]
fn what_cannot_work_ends_with_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let run = |more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir-agent"))
            .args([
                "run",
                "--node",
                "n1",
                "--controller",
                "https://c:1",
                "--ca",
                "a",
                "--cert",
                "b",
            ])
            .args(["--key", "c"])
            .args(more)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let text = run(&["--state-dir", file.to_str().unwrap()]);
    assert!(text.contains("--state-dir"), "{text}");
    let text = run(&["--ovsdb", "nowhere", "--state-dir", directory.path().to_str().unwrap()]);
    assert!(text.contains("--ovsdb nowhere"), "{text}");
}
