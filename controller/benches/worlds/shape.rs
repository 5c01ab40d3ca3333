//! The worlds: objects as a source would hand them over, made one by one.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use weir_controller::event::Event;
use weir_policy::ids::PolicyKey;
use weir_policy::k8s::{self, Object};
use weir_policy::labels::Labels;
use weir_policy::world::{Kind, Pod};

/// Nodes of every world.
pub(crate) const NODES: usize = 1_000;

/// One shape of cluster.
pub(crate) struct Shape {
    pub name: &'static str,
    namespaces: usize,
    /// Pods of a namespace, or workloads.
    pods: usize,
    kind: Kind,
    /// Distinct values of the pods' label that policies ask for.
    labels: usize,
    /// Distinct values of the namespaces' label; 0 = namespaces without labels.
    teams: usize,
    /// The policies of a namespace, by number; none where they end.
    policy: fn(&Self, usize, usize) -> Option<Event>,
    /// Seconds and megabytes that must not be exceeded.
    pub target: (f64, u64),
    /// What Antrea's controller took for the same objects on two such cores, by its own performance tests: from the
    /// start of its informers to the last computation, and the peak of its heap.
    pub antrea: (f64, u64),
}

pub(crate) const SHAPES: [Shape; 6] = [
    pods("small namespaces", [25_000, 4, 2], deny_and_by_label)
        .at_most(0.30, 200)
        .antrea(13.1, 1_920),
    pods("large namespaces", [100, 1_000, 100], deny_and_by_label)
        .at_most(0.14, 120)
        .antrea(5.6, 1_074),
    pods("one namespace", [1, 10_000, 1], all_to_all).at_most(0.10, 60).antrea(6.2, 885),
    pods("policy per pod", [1, 10_000, 10_000], one_to_another).at_most(0.10, 30).antrea(85.0, 213),
    Shape {
        kind: Kind::Workload,
        ..pods("external entities", [1, 10_000, 10_000], one_to_another)
            .at_most(0.10, 30)
            .antrea(93.0, 156)
    },
    Shape {
        teams: 100,
        ..pods("cluster scoped", [1_000, 100, 10], by_team).at_most(0.19, 140).antrea(7.7, 1_224)
    },
];

/// A world of pods: namespaces, pods of each, distinct values of their label.
const fn pods(
    name: &'static str,
    [namespaces, pods, labels]: [usize; 3],
    policy: fn(&Shape, usize, usize) -> Option<Event>,
) -> Shape {
    let kind = Kind::Pod;
    let (target, antrea) = ((0.0, 0), (0.0, 0));
    Shape { name, namespaces, pods, kind, labels, teams: 0, policy, target, antrea }
}

impl Shape {
    const fn at_most(self, seconds: f64, megabytes: u64) -> Self {
        Self { target: (seconds, megabytes), ..self }
    }

    const fn antrea(self, seconds: f64, megabytes: u64) -> Self {
        Self { antrea: (seconds, megabytes), ..self }
    }
}

/// Equal policies for all pods, with all pods for peers.
fn all_to_all(shape: &Shape, ns: usize, n: usize) -> Option<Event> {
    let all = json!({"podSelector": {}});
    (n < shape.pods).then(|| policy(ns, &format!("p{n}"), json!({}), Some(all)))
}

/// A policy for each label, with the pods of that label in the namespaces of one team for peers.
fn by_team(shape: &Shape, ns: usize, n: usize) -> Option<Event> {
    let peer = json!({
        "namespaceSelector": {"matchLabels": {"team": team(shape, ns + n)}},
        "podSelector": selector(n),
    });
    (n < shape.labels).then(|| policy(ns, &format!("p{n}"), selector(n), Some(peer)))
}

/// One policy for all pods that allows nothing, and one for each label that allows its own.
fn deny_and_by_label(shape: &Shape, ns: usize, n: usize) -> Option<Event> {
    match n.checked_sub(1) {
        None => Some(policy(ns, "deny", json!({}), None)),
        Some(l) if l < shape.labels => {
            let peer = json!({"podSelector": selector(l)});
            Some(policy(ns, &format!("p{l}"), selector(l), Some(peer)))
        }
        Some(_) => None,
    }
}

fn one_to_another(shape: &Shape, ns: usize, n: usize) -> Option<Event> {
    let peer = json!({"podSelector": selector((n + 1) % shape.labels)});
    (n < shape.labels).then(|| policy(ns, &format!("p{n}"), selector(n), Some(peer)))
}

fn selector(label: usize) -> Value {
    json!({"matchLabels": {"l": format!("v{label}")}})
}

fn team(shape: &Shape, n: usize) -> String {
    format!("t{}", n % shape.teams)
}

fn namespace(ns: usize) -> String {
    format!("ns{ns}")
}

pub(crate) fn node(n: usize) -> String {
    format!("n{n}")
}

/// As long as the API server makes them, and as random: what is sorted by them is in no order.
fn uid(kind: &str, a: usize, b: usize) -> String {
    let x = mix((a as u64) << 32 | b as u64) ^ mix(kind.len() as u64);
    let y = mix(x);
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        x >> 32,
        x >> 16 & 0xffff,
        x & 0xfff,
        y >> 48,
        y & 0xffff_ffff_ffff
    )
}

/// The finaliser of MurmurHash3: spread evenly, and the same in each run.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

fn policy(ns: usize, name: &str, subject: Value, peer: Option<Value>) -> Event {
    let mut spec = json!({"podSelector": subject, "policyTypes": ["Ingress", "Egress"]});
    if let Some(peer) = peer {
        spec["ingress"] = json!([{"from": [peer]}]);
    }
    let manifest = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "namespace": namespace(ns),
            "name": name,
            "uid": uid(name, ns, name.len()),
            "generation": 1,
        },
        "spec": spec,
    });
    match k8s::object(&manifest) {
        Ok((Some(Object::NetworkPolicy(object)), _)) => {
            Event::PolicyApplied { object: Box::new(object), manifest: manifest.to_string().into() }
        }
        other => panic!("{other:?}"),
    }
}

impl Shape {
    /// Every object, namespace by namespace.
    pub(crate) fn events(&self) -> impl Iterator<Item = Event> {
        (0..self.namespaces).flat_map(move |ns| {
            let pods = (0..self.pods).map(move |n| applied(self.pod(ns, n)));
            let policies = (0..).map_while(move |n| (self.policy)(self, ns, n));
            std::iter::once(self.namespace(ns, ns)).chain(pods).chain(policies)
        })
    }

    fn namespace(&self, ns: usize, label: usize) -> Event {
        let labels = match self.teams {
            0 => Labels::default(),
            _ => Labels::from_iter([("team", team(self, label))]),
        };
        Event::NamespaceApplied { name: namespace(ns).into(), labels }
    }

    fn pod(&self, ns: usize, n: usize) -> Pod {
        let number = ns * self.pods + n;
        let [_, a, b, c] = u32::try_from(number).unwrap_or_default().to_be_bytes();
        let random = usize::try_from(mix(number as u64) % NODES as u64).unwrap_or_default();
        Pod {
            kind: self.kind,
            namespace: namespace(ns).into(),
            name: format!("app-6d4f9c7b8-{n:05}").into(),
            uid: uid("pod", ns, n).into(),
            labels: Labels::from_iter([("app", "x"), ("l", &format!("v{}", n % self.labels))]),
            node: node(random).into(),
            addresses: vec![Ipv4Addr::new(10, a, b, c).into()],
            mac: None,
            named_ports: BTreeSet::new(),
            host_network: false,
            terminal: false,
            terminating: false,
            created: Some(1_795_640_381 + i64::try_from(number).unwrap_or_default()),
        }
    }

    /// The `n`-th round of single events: each takes back what another one did.
    pub(crate) fn singles(&self, n: usize) -> Vec<(&'static str, Event)> {
        let ns = usize::try_from(mix(n as u64)).unwrap_or_default() % self.namespaces;
        let mut new = self.pod(ns, n % self.pods);
        let [.., high, low] = u32::try_from(n).unwrap_or_default().to_be_bytes();
        new.name = format!("new-6d4f9c7b8-{n:05}").into();
        new.uid = uid("single", ns, n).into();
        new.addresses = vec![Ipv4Addr::new(11, 0, high, low).into()];
        let mut relabelled = new.clone();
        relabelled.labels.set("l", &format!("v{}", (n + 1) % self.labels));
        let label = n % self.labels;
        let peer = json!({"podSelector": {"matchLabels": {"app": "x"}}});
        let key = PolicyKey::network_policy(&namespace(ns), "single");
        let mut out = vec![
            ("pod add", applied(new.clone())),
            ("pod relabel", applied(relabelled)),
            ("pod delete", deleted(new)),
            ("policy add", policy(ns, "single", selector(label), Some(peer))),
            ("policy delete", Event::PolicyDeleted { key, uid: "".into() }),
        ];
        if self.teams > 0 {
            out.push(("namespace relabel", self.namespace(ns, ns + 1)));
            out.push(("and back", self.namespace(ns, ns)));
        } else {
            let labels = Labels::from_iter([("team", "blue")]);
            let name = namespace(ns);
            out.push((
                "namespace relabel",
                Event::NamespaceApplied { name: name.as_str().into(), labels },
            ));
            out.push(("and back", self.namespace(ns, ns)));
        }
        out
    }
}

fn applied(pod: Pod) -> Event {
    match pod.kind {
        Kind::Pod => Event::PodApplied(pod),
        Kind::Workload => Event::WorkloadApplied(pod),
    }
}

fn deleted(pod: Pod) -> Event {
    let Pod { kind, namespace, name, uid, .. } = pod;
    match kind {
        Kind::Pod => Event::PodDeleted { namespace, name, uid },
        Kind::Workload => Event::WorkloadDeleted { namespace, name, uid },
    }
}
