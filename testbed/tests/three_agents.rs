//! What a change costs, counted at the programs: a controller, three agents, 1,000 policies, 3,000 pods. How the tables
//! come by their sizes is counted in the agent's own test of this.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "a test; counts are whole numbers"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rust_openflow::port::LOCAL;
use serde_json::{Value, json};
use weir_agent::desired::Desired;
use weir_agent::pipeline::{PipelineConfig, table};
use weir_agent::ports::{Ports, WorkloadPort};
use weir_policy::compile;
use weir_policy::state::Touched;
use weir_policy::world::World;
use weir_testbed::Node;
use weir_testbed::fleet::{Fleet, Setup};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const NAMESPACES: u32 = 30;
const DEPLOYMENTS: u32 = 300;
const REPLICAS: u32 = 10;
const POLICIES: u32 = 1_000;
/// Of the first picture and of any change to it.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pod that gets policies of its own.
const POD: &str = "d7-0";

fn namespace(deployment: u32) -> String {
    format!("ns{}", deployment % NAMESPACES)
}

fn pod(n: u32, labels: &Value) -> Value {
    let deployment = n / REPLICAS;
    let [_, _, high, low] = n.to_be_bytes();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": namespace(deployment), "name": name(n), "uid": format!("u{n}"), "labels": labels,
        },
        "spec": {"nodeName": node(n), "containers": [{"name": "main"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.10.{high}.{low}")}]},
    })
}

fn name(n: u32) -> String {
    format!("d{}-{}", n / REPLICAS, n % REPLICAS)
}

fn node(n: u32) -> &'static str {
    NODES[usize::try_from(n).unwrap() % NODES.len()]
}

fn policy(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    })
}

/// A policy for the pods of one deployment, or of one pod by its own label.
fn ingress(subject: &Value, from: &Value, ports: &Value) -> Value {
    json!({
        "podSelector": {"matchLabels": subject}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [from], "ports": ports}],
    })
}

/// The port of a pod as a CNI plugin makes it, with nothing behind it: a patch port without a peer.
fn plug(node: &Node, pods: &[u32]) {
    for some in pods.chunks(250) {
        let mut args = Vec::new();
        for &n in some {
            let [_, _, high, low] = n.to_be_bytes();
            args.extend(["--", "add-port", "br-int"].map(str::to_owned));
            args.extend([format!("p{n}"), "--".to_owned(), "set".to_owned()]);
            args.extend(["interface".to_owned(), format!("p{n}"), "type=patch".to_owned()]);
            args.push(format!("options:peer=none{n}"));
            args.push(format!("external_ids:iface-id={}/{}", namespace(n / REPLICAS), name(n)));
            args.push(format!("external_ids:attached-mac=\"02:00:00:00:{high:02x}:{low:02x}\""));
        }
        node.ovs.vsctl(&args).unwrap();
    }
}

/// One number of a text for Prometheus, its labels summed up; none while the series is not there.
fn number(text: &str, series: &str) -> Option<f64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(series)?;
        let value = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
        value.strip_prefix(' ')?.trim().parse::<f64>().ok()
    };
    text.lines().filter_map(value).reduce(|a, b| a + b)
}

/// What an agent has done so far, and what its switch holds.
#[derive(Debug)]
struct Agent {
    changes: f64,
    flows: Vec<String>,
}

/// How many flows each table has whose size depends on policies.
fn sizes(flows: &[String]) -> [usize; 3] {
    [table::SRC_CLASS, table::DST_CLASS, table::INGRESS_RULE].map(|t| {
        let number = format!("table={t},");
        flows.iter().filter(|f| f.starts_with(&number) || f.contains(&format!(" {number}"))).count()
    })
}

/// The same, of flows compiled from nothing for what the manifests say.
fn expected(world: &World, node: &str) -> [usize; 3] {
    let mut ports = Ports { gateways: BTreeSet::from([LOCAL]), ..Ports::default() };
    for (number, pod) in (1..).zip(world.pods.values().filter(|p| &*p.node == node)) {
        let (namespace, name) = pod.key();
        let interface = format!("p{number}").into();
        ports.workloads.insert(number, WorkloadPort { interface, namespace, name, mac: None });
    }
    let config = PipelineConfig { sctp_tracked: sctp_tracked(), ..PipelineConfig::default() };
    let mut desired = Desired::new(config, BTreeMap::new());
    desired.update(Some(&compile::node_state(world, node)), &Touched::default(), &ports);
    [table::SRC_CLASS, table::DST_CLASS, table::INGRESS_RULE]
        .map(|t| desired.flows().keys().filter(|k| k.table == t).count())
}

/// Whether this switch tracks SCTP in userspace: from 3.2 on.
fn sctp_tracked() -> bool {
    let version = weir_testbed::require::ovs_version().unwrap();
    let mut numbers = version.split('.').map(|n| n.parse::<u32>().unwrap());
    (numbers.next(), numbers.next()) >= (Some(3), Some(2))
}

/// Waits until what the manifests say is in force on a node.
fn in_force(fleet: &Fleet, node: &str) -> Agent {
    let wanted = expected(&fleet.world(), node);
    let mut last = [0; 3];
    let outcome = weir_testbed::wait::until(&format!("{node} has its flows"), PATIENCE, || {
        let flows = fleet.bed().node(node)?.ovs.flows()?;
        last = sizes(&flows);
        if last != wanted {
            return Ok(None);
        }
        // the agent has heard that the switch took them
        let text = fleet.agent_metrics(node)?;
        let told = number(&text, "weir_agent_flows");
        let changes = number(&text, "weir_agent_flow_changes_total");
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let heard = told == Some(flows.len() as f64);
        Ok(heard.then_some(changes).flatten().map(|changes| Agent { changes, flows }))
    });
    outcome.unwrap_or_else(|e| {
        let metrics = fleet.agent_metrics(node).unwrap_or_default();
        panic!("{e}: {wanted:?} wanted, {last:?} found\n{metrics}")
    })
}

fn all_in_force(fleet: &Fleet) -> BTreeMap<&'static str, Agent> {
    NODES.iter().map(|&n| (n, in_force(fleet, n))).collect()
}

fn deltas(fleet: &Fleet) -> f64 {
    number(&fleet.controller_metrics().unwrap(), "weir_controller_deltas_total").unwrap_or_default()
}

#[test]
fn a_policy_costs_messages_and_flows_where_its_subject_runs_and_nowhere_else() {
    let mut fleet = Fleet::for_test(&Setup::nodes(3)).unwrap();
    for n in 0..NAMESPACES {
        fleet.namespace(&namespace(n), &[]).unwrap();
    }
    let pods = DEPLOYMENTS * REPLICAS;
    let (namespace_of_pod, mut home) = (namespace(7), "");
    for n in 0..pods {
        let mut labels = json!({"app": format!("d{}", n / REPLICAS)});
        if name(n) == POD {
            labels["pod"] = json!(POD);
            home = node(n);
        }
        fleet.manifests_mut().put(pod(n, &labels)).unwrap();
    }
    for p in 0..POLICIES {
        // both lie in one namespace: their numbers are equal modulo the number of namespaces
        let subject = p % DEPLOYMENTS;
        let peer = (subject + NAMESPACES * (1 + p / DEPLOYMENTS)) % DEPLOYMENTS;
        let spec = ingress(
            &json!({"app": format!("d{subject}")}),
            &json!({"podSelector": {"matchLabels": {"app": format!("d{peer}")}}}),
            &json!([{"port": 8000 + p % 10}]),
        );
        fleet.manifests_mut().put(policy(&namespace(subject), &format!("p{p}"), spec)).unwrap();
    }
    for name in NODES {
        let here: Vec<u32> = (0..pods).filter(|n| node(*n) == name).collect();
        plug(fleet.bed().node(name).unwrap(), &here);
    }
    let (start, sent) = (all_in_force(&fleet), deltas(&fleet));
    for (node, agent) in &start {
        println!(
            "{node}: {} flows, in {:?} of the tables that grow",
            agent.flows.len(),
            sizes(&agent.flows)
        );
    }

    // a policy for one pod: 14 flows, which the agent's own test of this counts one by one
    let subject = json!({"pod": POD});
    let spec = ingress(
        &subject,
        &json!({"podSelector": {"matchLabels": {"app": "d37"}}}),
        &json!([{"port": 9000}]),
    );
    fleet.manifests_mut().put(policy(&namespace_of_pod, "one-pod", spec)).unwrap();
    let one = compare(&fleet, &start, home);
    // a switch that does not track SCTP has two more drops for each set of isolated classes
    let wanted = if sctp_tracked() { 14.0 } else { 16.0 };
    assert_eq!((one, deltas(&fleet) - sent), (wanted, 1.0), "flow changes and messages");

    // a policy for the same pod whose peers are all pods of the cluster
    let before = all_in_force(&fleet);
    let spec = ingress(&subject, &json!({"namespaceSelector": {}}), &json!([{"port": 9001}]));
    fleet.manifests_mut().put(policy(&namespace_of_pod, "all-pods", spec)).unwrap();
    let all = compare(&fleet, &before, home);
    assert!(all > 0.0);
    assert_eq!(deltas(&fleet) - sent, 2.0, "one message, to one node");

    for name in ["one-pod", "all-pods"] {
        fleet.delete_policy(&format!("{namespace_of_pod}/{name}")).unwrap();
    }
    let end = all_in_force(&fleet);
    for (node, agent) in &start {
        if *node != home {
            assert_eq!(agent.changes, end[node].changes, "{node} was never asked to do anything");
            assert_eq!(agent.flows, end[node].flows);
        }
    }
    fleet.down().unwrap();
}

/// The flow changes of `home` since `before`; no other node has any.
fn compare(fleet: &Fleet, before: &BTreeMap<&'static str, Agent>, home: &str) -> f64 {
    let now = in_force(fleet, home);
    for (node, then) in before.iter().filter(|(n, _)| **n != home) {
        let here = in_force(fleet, node);
        assert_eq!(here.changes, then.changes, "{node} has nothing to do with it");
        assert_eq!(here.flows, then.flows, "{node}");
    }
    let changes = now.changes - before[home].changes;
    println!("{home}: {changes} flow changes, now {} flows", now.flows.len());
    changes
}
