//! What a change costs: 3 nodes, 1,000 policies, 3,000 pods.

#![expect(clippy::print_stdout, reason = "the figures of a run are for who reads its log")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use rust_openflow::{Field, FlowMod};
use serde_json::json;
use weir_agent::desired::Desired;
use weir_agent::diff::diff_keys;
use weir_agent::flow::{FlowKey, FlowTable};
use weir_agent::pipeline::{PipelineConfig, regs, table};
use weir_agent::ports::{Ports, WorkloadPort};
use weir_policy::compile;
use weir_policy::ids::Str;
use weir_policy::k8s;
use weir_policy::labels::Labels;
use weir_policy::rule::PolicyObject;
use weir_policy::state::{NodeState, Touched};
use weir_policy::world::{Kind, Node, Pod, World};

const NODES: u32 = 3;
const DEPLOYMENTS: u32 = 300;
const REPLICAS: u32 = 10;
const POLICIES: u32 = 1_000;

fn policy(namespace: &str, name: &str, spec: serde_json::Value) -> PolicyObject {
    let manifest = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    });
    match k8s::object(&manifest) {
        Ok((Some(k8s::Object::NetworkPolicy(p)), _)) => p,
        other => panic!("{name} is no policy: {other:?}"),
    }
}

fn put(world: &mut World, p: PolicyObject) {
    world.policies.insert(p.policy.key.clone(), p);
}

fn namespace(deployment: u32) -> String {
    format!("ns{}", deployment % 30)
}

/// Deployments whose pods lie over all nodes, and policies from one deployment to another of its namespace.
fn world() -> World {
    let mut world = World::default();
    for n in 1..=NODES {
        let name: Str = format!("n{n}").into();
        let addresses = BTreeSet::from([IpAddr::from([192, 0, 2, u8::try_from(n).expect("few")])]);
        world.nodes.insert(Str::clone(&name), Node { name, labels: Labels::default(), addresses });
    }
    for d in 0..DEPLOYMENTS {
        for r in 0..REPLICAS {
            let n = d * REPLICAS + r;
            let pod = Pod {
                kind: Kind::Pod,
                mac: None,
                namespace: namespace(d).into(),
                name: format!("d{d}-{r}").into(),
                uid: "".into(),
                labels: Labels::from_iter([("app", format!("d{d}"))]),
                node: format!("n{}", n % NODES + 1).into(),
                addresses: vec![Ipv4Addr::from(0x0a0a_0000 + n).into()],
                named_ports: BTreeSet::new(),
                host_network: false,
                terminal: false,
                terminating: false,
                created: None,
            };
            world.pods.insert(pod.key(), pod);
        }
    }
    for p in 0..POLICIES {
        // subject and peer share a namespace: both numbers are equal modulo 30
        let subject = p % DEPLOYMENTS;
        let peer = (subject + 30 * (1 + p / DEPLOYMENTS)) % DEPLOYMENTS;
        let spec = json!({
            "podSelector": {"matchLabels": {"app": format!("d{subject}")}},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{"podSelector": {"matchLabels": {"app": format!("d{peer}")}}}],
                "ports": [{"port": 8000 + p % 10}],
            }],
        });
        put(&mut world, policy(&namespace(subject), &format!("p{p}"), spec));
    }
    world
}

fn ports(world: &World, node: &str) -> Ports {
    let mut out = Ports { uplinks: BTreeSet::from([1]), ..Ports::default() };
    for (pod, number) in world.pods.values().filter(|p| &*p.node == node).zip(10_u32..) {
        let [_, b, c, d] = number.to_be_bytes();
        out.workloads.insert(
            number,
            WorkloadPort {
                interface: format!("p{number}").into(),
                namespace: Str::clone(&pod.namespace),
                name: Str::clone(&pod.name),
                mac: Some([2, 0, 0, b, c, d]),
            },
        );
    }
    out
}

struct Agent {
    node: String,
    state: NodeState,
    desired: Desired,
    installed: FlowTable,
    ports: Ports,
}

impl Agent {
    fn new(world: &World, node: &str) -> Self {
        let (state, ports) = (compile::node_state(world, node), ports(world, node));
        let mut desired = Desired::new(PipelineConfig::default(), BTreeMap::new());
        desired.update(Some(&state), &Touched::default(), &ports);
        let installed = desired.flows().clone();
        Self { node: node.to_owned(), state, desired, installed, ports }
    }

    /// Messages (changes of the node's state) and flow mods that the new world costs this node.
    fn follow(&mut self, world: &World) -> (usize, Vec<FlowMod>) {
        let changes = self.state.diff(&compile::node_state(world, &self.node));
        let messages = changes.len();
        let touched = self.state.apply(changes);
        let keys = self.desired.update(Some(&self.state), &touched, &self.ports);
        let mods = diff_keys(&keys, self.desired.flows(), &self.installed);
        self.installed = self.desired.flows().clone();
        (messages, mods)
    }

    fn in_table(&self, table: u8) -> usize {
        self.installed.keys().filter(|k| k.table == table).count()
    }
}

#[test]
fn a_change_costs_what_it_needs() {
    let mut world = world();
    let mut agents: Vec<Agent> =
        (1..=NODES).map(|n| Agent::new(&world, &format!("n{n}"))).collect();

    for a in &agents {
        let addresses: usize = a.state.endpoints.values().map(|e| e.addresses.len()).sum();
        let local = a.ports.workloads.len();
        let classes = a.desired.classes().iter().count();
        let rules = a.desired.rules().count();
        println!(
            "{}: {} flows: {} policies, {rules} rules, {addresses} addresses ({local} local), {classes} classes",
            a.node,
            a.installed.len(),
            a.state.policies.len()
        );
        // addresses: one flow each as source and destination, one more if the workload is here (it may reach itself)
        assert_eq!(a.in_table(table::SRC_CLASS), addresses + 1);
        assert_eq!(a.in_table(table::DST_CLASS), addresses + local + 1);
        // rules: one flow each; one clause flow per class and side, however many rules name it; ten ports, two families;
        // later fragments of the one protocol, two families; three drops per isolated class
        let field = |f: Field| {
            a.installed
                .keys()
                .filter(move |k| k.table == table::INGRESS_RULE && k.match_.field(f).is_some())
        };
        let conj = field(Field::ConjId).count();
        let sources = field(Field::Reg(regs::SRC_CLASS.reg)).count();
        let subjects = field(Field::Reg(regs::DST_CLASS.reg)).count();
        let services = field(Field::TcpDst).count();
        // the drops ask for what is no fragment
        let later = |k: &&FlowKey| k.match_.field(Field::IpFrag).is_some_and(|f| f.value != 0);
        let fragments = field(Field::IpFrag).filter(later).count();
        let isolated = a.desired.isolation_sets().count();
        assert_eq!(conj, rules);
        assert!(sources <= classes, "{sources} source clauses for {classes} classes");
        assert_eq!(subjects, isolated + 3 * isolated, "a clause and three drops for each");
        assert_eq!(services, 2 * 10);
        assert_eq!(fragments, 2);
        // two more: own traffic, and the way on to the next table
        let others = services + fragments + 2;
        assert_eq!(a.in_table(table::INGRESS_RULE), conj + sources + subjects + others);
    }

    // a policy for one pod that has a label of its own: the pod leaves its class, the rule comes
    let one = ("ns7".into(), "d7-0".into());
    let pod = world.pods.get_mut(&one).expect("a pod of deployment 7");
    let node = Str::clone(&pod.node);
    pod.labels.set("pod", "d7-0");
    for a in &mut agents {
        let (_, mods) = a.follow(&world);
        println!("{}: {} flow mods for a label that no policy asks for", a.node, mods.len());
        assert!(mods.is_empty(), "a label that no rule asks for changes no flow");
    }
    put(
        &mut world,
        policy(
            "ns7",
            "one-pod",
            json!({
                "podSelector": {"matchLabels": {"pod": "d7-0"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "d37"}}}], "ports": [{"port": 9000}]}],
            }),
        ),
    );
    for a in &mut agents {
        let (messages, mods) = a.follow(&world);
        println!(
            "{}: {messages} messages, {} flow mods for a policy of one pod",
            a.node,
            mods.len()
        );
        if *a.node == *node {
            // the pod's address: source, destination, itself; its new class: a clause as source, a clause as
            // destination, three drops (those of the old class stay); the rule: itself, its port in two families, and
            // one more conjunction at its peer's class and at later fragments in two families
            assert_eq!(mods.len(), 3 + 1 + 1 + 3 + 1 + 2 + 1 + 2);
        } else {
            assert_eq!((messages, mods.len()), (0, 0), "nobody else hears of it");
        }
    }

    // a policy whose subject runs on one node and whose peers are all pods of the cluster
    put(
        &mut world,
        policy(
            "ns7",
            "all-pods",
            json!({
                "podSelector": {"matchLabels": {"pod": "d7-0"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"namespaceSelector": {}}]}],
            }),
        ),
    );
    for a in &mut agents {
        let (messages, mods) = a.follow(&world);
        println!(
            "{}: {messages} messages, {} flow mods for a policy that names all pods",
            a.node,
            mods.len()
        );
        if *a.node == *node {
            // the rule: itself, one more conjunction at its subject's class and at each class that is a source; the
            // drops: another set of policies is behind these three
            let classes = a.desired.classes().iter().count();
            assert_eq!(mods.len(), 1 + 1 + classes + 3);
        } else {
            assert_eq!((messages, mods.len()), (0, 0), "{} has none of its subjects", a.node);
        }
    }
}
