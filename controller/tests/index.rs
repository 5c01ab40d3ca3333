//! The incremental index always equals the state computed from nothing, for every node, after every step.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]
#![allow(clippy::clone_on_ref_ptr, reason = "`Str` is shared text")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_api::convert::{change_from_bytes, frames};
use weir_controller::event::Event;
use weir_controller::index::{Delivery, Index, Output};
use weir_policy::compile::node_state;
use weir_policy::state::NodeState;
use weir_policy::strategy::{self, Mutation, NODES};
use weir_policy::world::World;

/// The events by which a source would tell of a change.
fn events_between(old: &World, new: &World) -> Vec<Event> {
    let mut out = Vec::new();
    for (name, labels) in &new.namespaces {
        if old.namespaces.get(name) != Some(labels) {
            out.push(Event::NamespaceApplied { name: name.clone(), labels: labels.clone() });
        }
    }
    for node in new.nodes.values().filter(|n| old.nodes.get(&n.name) != Some(n)) {
        out.push(Event::NodeApplied(node.clone()));
    }
    for (key, object) in &new.policies {
        if old.policies.get(key) != Some(object) {
            out.push(Event::PolicyApplied {
                object: Box::new(object.clone()),
                manifest: "{}".into(),
            });
        }
    }
    for (key, pod) in &new.pods {
        if old.pods.get(key) != Some(pod) {
            out.push(Event::PodApplied(pod.clone()));
        }
    }
    for (key, workload) in &new.workloads {
        if old.workloads.get(key) != Some(workload) {
            out.push(Event::WorkloadApplied(workload.clone()));
        }
    }
    for (key, object) in old.policies.iter().filter(|(k, _)| !new.policies.contains_key(k)) {
        out.push(Event::PolicyDeleted { key: key.clone(), uid: object.policy.uid.clone() });
    }
    for pod in old.pods.values().filter(|p| !new.pods.contains_key(&p.key())) {
        out.push(Event::PodDeleted {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        });
    }
    for workload in old.workloads.values().filter(|w| !new.workloads.contains_key(&w.key())) {
        out.push(Event::WorkloadDeleted {
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            uid: workload.uid.clone(),
        });
    }
    for name in old.nodes.keys().filter(|n| !new.nodes.contains_key(*n)) {
        out.push(Event::NodeDeleted { name: name.clone() });
    }
    for name in old.namespaces.keys().filter(|n| !new.namespaces.contains_key(*n)) {
        out.push(Event::NamespaceDeleted { name: name.clone() });
    }
    out
}

/// The agents of all nodes of the pool, as far as their state goes.
struct Agents(BTreeMap<u32, NodeState>);

impl Agents {
    fn connect(index: &mut Index) -> Self {
        let numbers: Vec<u32> = NODES.iter().map(|n| index.node_number(n)).collect();
        Self(numbers.into_iter().map(|n| (n, snapshot(index, n))).collect())
    }

    /// What each was sent changes something there, and all of it.
    fn take(&mut self, output: &Output) {
        for Delivery { news, nodes } in &output.deliveries {
            assert!(!news.to_changes().is_empty() && !nodes.is_empty(), "{news:?} to {nodes:?}");
        }
        for (number, state) in &mut self.0 {
            for delivery in output.deliveries.iter().filter(|d| d.nodes.contains(*number)) {
                for change in delivery.news.to_changes() {
                    let touched = state.apply([change.clone()]);
                    assert!(!touched.is_empty(), "{change:?} changes nothing");
                }
            }
        }
    }
}

fn snapshot(index: &Index, number: u32) -> NodeState {
    let mut state = NodeState::default();
    let changes = index.snapshot(number).into_iter().flat_map(frames);
    state.apply(changes.map(|b| change_from_bytes(&b).unwrap()));
    state
}

fn check(index: &Index, agents: &Agents, world: &World) -> Result<(), TestCaseError> {
    for (number, state) in &agents.0 {
        let wanted = node_state(world, index.node_name(*number));
        prop_assert_eq!(state, &wanted, "the node's state after the batches");
        prop_assert_eq!(&index.state(*number), &wanted, "the index's own");
        prop_assert_eq!(&snapshot(index, *number), &wanted, "a fresh snapshot");
    }
    prop_assert_eq!(index.refusals(), world.refusals());
    Ok(())
}

fn start(world: &World, batches: usize) -> Index {
    let mut index = Index::new();
    let events = events_between(&World::default(), world);
    for chunk in events.chunks(events.len() / batches + 1) {
        assert_eq!(index.apply(chunk.to_vec()).deliveries, Vec::new());
    }
    assert_eq!(index.apply([Event::Synced]).deliveries, Vec::new());
    index
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn index_matches_oracle(
        world in strategy::world(),
        steps in proptest::collection::vec(proptest::collection::vec(strategy::mutation(), 1..4), 1..25),
    ) {
        let mut world = world;
        let mut index = start(&world, 3);
        let mut agents = Agents::connect(&mut index);
        check(&index, &agents, &world)?;
        for step in steps {
            let before = world.clone();
            let mut events = Vec::new();
            // every mutation as events of its own, all in one batch: what comes and goes in between must not show
            for mutation in &step {
                let old = world.clone();
                mutation.apply(&mut world);
                events.extend(events_between(&old, &world));
            }
            let revision = index.revision();
            let output = index.apply(events.clone());
            prop_assert_eq!(output.revision, revision + u64::from(!events.is_empty()));
            if before == world {
                prop_assert_eq!(&output.deliveries, &Vec::new(), "nothing changed");
            }
            agents.take(&output);
            check(&index, &agents, &world)?;
            // the same again changes nothing
            let again = events_between(&World::default(), &world);
            prop_assert_eq!(index.apply(again).deliveries, Vec::new());
        }
        // and at the end nothing is left
        let output = index.apply(events_between(&world, &World::default()));
        agents.take(&output);
        check(&index, &agents, &World::default())?;
        let sizes = index.sizes();
        prop_assert_eq!(
            (sizes.namespaces, sizes.pods, sizes.profiles, sizes.groups, sizes.policies, sizes.edges),
            (0, 0, 0, 0, 0, 0)
        );
    }

    /// A policy that selects no pod of a node is no message for it, whichever pods it names as peers.
    #[test]
    fn policies_elsewhere_cost_nothing(world in strategy::world(), policy in strategy::policy()) {
        let mut world = world;
        let mut index = start(&world, 1);
        let mut agents = Agents::connect(&mut index);
        let old = world.clone();
        Mutation::PutPolicy(policy.clone()).apply(&mut world);
        let output = index.apply(events_between(&old, &world));
        agents.take(&output);
        check(&index, &agents, &world)?;
        for number in agents.0.keys() {
            let name = index.node_name(*number);
            let has = |w: &World| node_state(w, name).policies.contains_key(&policy.policy.key);
            if !has(&old) && !has(&world) {
                prop_assert!(output.deliveries.iter().all(|d| !d.nodes.contains(*number)));
            }
        }
    }
}

/// Cases that name themselves.
mod cases {
    use std::collections::BTreeSet;

    use weir_policy::ids::{EndpointId, PolicyKey};
    use weir_policy::labels::Labels;
    use weir_policy::state::Change;
    use weir_policy::world::{Kind, Node, Pod};

    use super::*;

    fn pod(name: &str, uid: &str, node: &str, address: &str) -> Pod {
        Pod {
            kind: Kind::Pod,
            mac: None,
            namespace: "x".into(),
            name: name.into(),
            uid: uid.into(),
            labels: Labels::from_iter([("app", name)]),
            node: node.into(),
            addresses: vec![address.parse().unwrap()],
            named_ports: BTreeSet::new(),
            host_network: false,
            terminal: false,
            terminating: false,
            created: None,
        }
    }

    fn deleted(name: &str, uid: &str) -> Event {
        Event::PodDeleted { namespace: "x".into(), name: name.into(), uid: uid.into() }
    }

    fn changes(output: &Output) -> Vec<String> {
        let show = |change: &Change| match change {
            Change::Endpoint(e) => {
                let addresses: Vec<_> = e.addresses.iter().map(ToString::to_string).collect();
                format!("+{} {} {}", e.id, e.node, addresses.join(","))
            }
            Change::RemoveEndpoint(EndpointId(id)) => format!("-{id}"),
            Change::Profile(p) => format!("+profile {}", p.labels),
            Change::RemoveProfile(_) => "-profile".to_owned(),
            other => format!("{other:?}"),
        };
        output.deliveries.iter().flat_map(|d| d.news.to_changes()).map(|c| show(&c)).collect()
    }

    fn synced(pods: impl IntoIterator<Item = Pod>) -> Index {
        let mut index = Index::new();
        index.apply(pods.into_iter().map(Event::PodApplied).chain([Event::Synced]));
        index
    }

    /// NP-45: the deletion of a pod that was replaced comes late, and is about the old one.
    #[test]
    fn late_deletions_are_about_the_old_object() {
        let mut index = synced([pod("a", "u1", "n1", "10.0.0.1")]);
        let replaced = index.apply([Event::PodApplied(pod("a", "u2", "n1", "10.0.0.1"))]);
        assert_eq!(changes(&replaced), ["+u2 n1 10.0.0.1", "-u1"]);
        assert_eq!(changes(&index.apply([deleted("a", "u1")])), [""; 0]);
        assert_eq!(index.sizes().pods, 1);
        assert_eq!(changes(&index.apply([deleted("a", "u2")])), ["-u2", "-profile"]);
        assert_eq!(changes(&index.apply([deleted("a", "")])), [""; 0]);
    }

    /// A pod of the host's network that waits for a node and an address, told twice and then changed.
    #[test]
    fn a_pod_that_has_nothing_yet() {
        let waiting =
            Pod { host_network: true, addresses: Vec::new(), ..pod("a", "u1", "", "::1") };
        let mut index = synced([waiting.clone()]);
        assert_eq!(changes(&index.apply([Event::PodApplied(waiting.clone())])), [""; 0]);
        let placed = Pod { node: "n1".into(), ..waiting };
        assert_eq!(changes(&index.apply([Event::PodApplied(placed)])), [""; 0]);
        assert_eq!(changes(&index.apply([deleted("a", "u1")])), [""; 0]);
        assert_eq!(index.sizes().pods, 0);
    }

    #[test]
    fn late_deletions_of_policies_too() {
        let object = |uid: &str| {
            let value = serde_json::json!({
                "kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "p", "uid": uid},
                "spec": {"podSelector": {}},
            });
            match weir_policy::k8s::object(&value).unwrap().0 {
                Some(weir_policy::k8s::Object::NetworkPolicy(object)) => object,
                other => panic!("{other:?}"),
            }
        };
        let apply =
            |uid| Event::PolicyApplied { object: Box::new(object(uid)), manifest: "{}".into() };
        let delete = |uid: &str| Event::PolicyDeleted {
            key: PolicyKey::network_policy("x", "p"),
            uid: uid.into(),
        };
        let mut index = synced([pod("a", "u", "n1", "10.0.0.1")]);
        index.apply([apply("1"), apply("2")]);
        assert_eq!(index.apply([delete("1")]).deliveries, []);
        assert_eq!(index.sizes().policies, 1);
        assert_eq!(index.apply([delete("2")]).deliveries.len(), 2);
        assert_eq!(index.sizes().policies, 0);
    }

    /// NP-45: an address that is used again belongs to one pod at a time, whatever the order of events.
    #[test]
    fn an_address_is_of_one_pod() {
        let mut index = synced([pod("a", "u1", "n1", "10.0.0.1")]);
        let output = index.apply([Event::PodApplied(pod("b", "u2", "n1", "10.0.0.1"))]);
        assert_eq!(changes(&output), ["+profile app=b", "+u1 n1 ", "+u2 n1 10.0.0.1"]);
        let output = index.apply([deleted("b", "u2")]);
        assert_eq!(changes(&output), ["+u1 n1 10.0.0.1", "-u2", "-profile"]);
    }

    /// NP-45, NP-50: a workload takes no pod's address and no node's, and an address leaves who leaves.
    #[test]
    fn a_workload_takes_nobody_s_address() {
        let vm = |address: &str| Pod { kind: Kind::Workload, ..pod("vm", "z", "n1", address) };
        let mut index = synced([pod("a", "u1", "n1", "10.0.0.1")]);
        let output = index.apply([Event::WorkloadApplied(vm("10.0.0.1"))]);
        assert_eq!(changes(&output), ["+profile app=vm", "+z n1 "]);
        let told = |index: &mut Index| -> Vec<String> {
            index.new_refusals().iter().map(ToString::to_string).collect()
        };
        let refused = |owner: &str| {
            vec![format!(
                "Workload x/vm: spec.addresses[0]: 10.0.0.1 is an address of {owner}, \
                 the workload does not have it"
            )]
        };
        assert_eq!(told(&mut index), refused("Pod x/a"));
        assert_eq!(told(&mut index), [""; 0], "once");
        // even if the pod goes: its address is its own until it is gone
        let leaving = Pod { terminating: true, ..pod("a", "u1", "n1", "10.0.0.1") };
        assert_eq!(changes(&index.apply([Event::PodApplied(leaving)])), [""; 0]);
        // to another pod it gives way
        let next = index.apply([Event::PodApplied(pod("b", "u0", "n1", "10.0.0.1"))]);
        assert_eq!(changes(&next), ["+profile app=b", "+u0 n1 10.0.0.1", "+u1 n1 "]);
        index.apply([deleted("a", "u1")]);
        let free = index.apply([deleted("b", "u0")]);
        assert_eq!(changes(&free), ["+z n1 10.0.0.1", "-u0", "-profile"]);
        assert_eq!(index.refusals(), []);
        let node = |addresses: &[&str]| {
            Event::NodeApplied(Node {
                name: "n1".into(),
                labels: Labels::default(),
                addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            })
        };
        let of_node = |output: &Output| {
            let all = changes(output);
            all.into_iter().filter(|c| !c.starts_with("Node")).collect::<Vec<_>>()
        };
        assert_eq!(of_node(&index.apply([node(&["10.0.0.1"])])), ["+z n1 "]);
        assert_eq!(told(&mut index), refused("Node n1"));
        assert_eq!(of_node(&index.apply([node(&["10.0.0.2"])])), ["+z n1 10.0.0.1"]);
    }

    /// NP-31: neither as a subject nor as a peer, and its address stays free for whoever has it.
    #[test]
    fn host_network_pods_are_no_endpoints() {
        let host = Pod { host_network: true, ..pod("h", "u", "n1", "192.0.2.1") };
        let mut index = synced([host.clone(), pod("a", "v", "n1", "192.0.2.1")]);
        let state = index.state(index.find_node("n1").unwrap());
        assert_eq!((state.endpoints.len(), state.profiles.len()), (1, 1));
        let plain = Pod { host_network: false, ..host };
        // the address goes to the greater id, as with any two pods
        let output = index.apply([Event::PodApplied(plain)]);
        assert_eq!(changes(&output), ["+profile app=h", "+u n1 "]);
    }

    /// NP-18: each address counts, and addresses come and go without the pod.
    #[test]
    fn pods_have_several_addresses_and_change_them() {
        let with = |addresses: &[&str]| Pod {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ..pod("a", "u", "n1", "10.0.0.1")
        };
        let mut index = synced([with(&[])]);
        let mut apply =
            |addresses| changes(&index.apply([Event::PodApplied(with(addresses))])).join(" ");
        assert_eq!(apply(&["10.0.0.2", "fd00::1"]), "+u n1 10.0.0.2,fd00::1");
        assert_eq!(apply(&["fd00::1", "10.0.0.2"]), "", "the order means nothing to agents");
        assert_eq!(apply(&["fd00::2", "10.0.0.2"]), "+u n1 10.0.0.2,fd00::2");
        assert_eq!(apply(&[]), "+u n1 ");
    }

    /// NP-47: nothing of the old addresses is left when two pods swap theirs.
    #[test]
    fn two_pods_swap_their_addresses() {
        let mut index =
            synced([pod("a", "u1", "n1", "10.0.0.1"), pod("b", "u2", "n1", "10.0.0.2")]);
        let output = index.apply([
            Event::PodApplied(pod("a", "u1", "n1", "10.0.0.2")),
            Event::PodApplied(pod("b", "u2", "n1", "10.0.0.1")),
        ]);
        assert_eq!(changes(&output), ["+u1 n1 10.0.0.2", "+u2 n1 10.0.0.1"]);
        assert_eq!(changes(&index.apply([deleted("a", "u1")])), ["-u1", "-profile"]);
    }

    /// NP-44, NP-46: what becomes terminal is no endpoint any more, and moves are one batch.
    #[test]
    fn pods_end_and_move() {
        let mut index = synced([pod("a", "u", "n1", "10.0.0.1")]);
        let output = index.apply([Event::PodApplied(pod("a", "u", "n2", "10.0.0.1"))]);
        assert_eq!(changes(&output), ["+profile app=a", "+u n2 10.0.0.1", "-u", "-profile"]);
        let ended = Pod { terminal: true, ..pod("a", "u", "n2", "10.0.0.1") };
        assert_eq!(changes(&index.apply([Event::PodApplied(ended)])), ["-u", "-profile"]);
        let host = Pod { host_network: true, ..pod("a", "u", "n2", "10.0.0.1") };
        assert_eq!(changes(&index.apply([Event::PodApplied(host)])), [""; 0]);
        assert_eq!(index.view().pods.len(), 1, "tools still see it");
    }

    /// NP-50: a workload is an endpoint as a pod is, and makes room for a pod of its name.
    #[test]
    fn a_pod_comes_before_a_workload_of_its_name() {
        let vm = || Pod {
            kind: Kind::Workload,
            labels: Labels::from_iter([("app", "vm")]),
            mac: Some([2, 0, 0, 0, 0, 1]),
            ..pod("a", "w", "n1", "10.0.0.9")
        };
        let gone = |uid: &str| Event::WorkloadDeleted {
            namespace: "x".into(),
            name: "a".into(),
            uid: uid.into(),
        };
        let both = |events: Vec<Event>| {
            let mut index = synced([]);
            index.apply(events);
            let state = index.state(index.find_node("n1").unwrap());
            state.endpoints.into_values().map(|e| (e.id.to_string(), e.mac)).collect::<Vec<_>>()
        };
        let pod_event = || Event::PodApplied(pod("a", "u", "n1", "10.0.0.1"));
        // whichever comes first
        for events in [
            vec![Event::WorkloadApplied(vm()), pod_event()],
            vec![pod_event(), Event::WorkloadApplied(vm())],
        ] {
            assert_eq!(both(events), [("u".to_owned(), None)]);
        }
        let mut index = synced([]);
        let output = index.apply([Event::WorkloadApplied(vm())]);
        assert_eq!(changes(&output), ["+profile app=vm", "+w n1 10.0.0.9"]);
        let output = index.apply([pod_event()]);
        assert_eq!(changes(&output), ["+profile app=a", "+u n1 10.0.0.1", "-w", "-profile"]);
        assert_eq!(index.view().shadowed, [vm()], "tools see it");
        let output = index.apply([deleted("a", "u")]);
        assert_eq!(changes(&output), ["+profile app=vm", "+w n1 10.0.0.9", "-u", "-profile"]);
        // deletions are about their own kind
        assert_eq!(changes(&index.apply([deleted("a", "")])), [""; 0]);
        assert_eq!(changes(&index.apply([gone("another")])), [""; 0]);
        assert_eq!(changes(&index.apply([gone("w")])), ["-w", "-profile"]);
        // and one that waits can go, too
        index.apply([pod_event(), Event::WorkloadApplied(vm()), gone("w"), deleted("a", "u")]);
        assert_eq!(index.sizes().pods, 0);
    }

    /// NP-50: without a node a workload is a peer and nobody's subject.
    #[test]
    fn a_workload_elsewhere_is_a_peer() {
        let vm = Pod { kind: Kind::Workload, ..pod("vm", "w", "", "10.0.0.9") };
        let policy = weir_policy::k8s::object(&serde_json::json!({
            "kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "p"},
            "spec": {"podSelector": {}, "ingress": [{"from": [
                {"podSelector": {"matchLabels": {"app": "vm"}}}
            ]}]},
        }));
        let Some(weir_policy::k8s::Object::NetworkPolicy(object)) = policy.unwrap().0 else {
            panic!("a policy")
        };
        let mut index = synced([pod("a", "u", "n1", "10.0.0.1")]);
        index.apply([
            Event::WorkloadApplied(vm),
            Event::PolicyApplied { object: Box::new(object), manifest: "{}".into() },
        ]);
        let state = index.state(index.find_node("n1").unwrap());
        let names: Vec<&str> = state.endpoints.values().map(|e| &*e.name).collect();
        assert_eq!(names, ["a", "vm"]);
        assert_eq!(index.policies().next().unwrap().2.len(), 1, "n1 alone");
    }

    /// Namespaces have their names as labels (NP-3), declared or not, and selectors may ask for those in every way.
    #[test]
    fn namespaces_are_picked_by_name() {
        let key = weir_policy::labels::METADATA_NAME;
        let named = |operator: &str, values: &[&str]| {
            let mut requirement = serde_json::json!({"key": key, "operator": operator});
            if !values.is_empty() {
                requirement["values"] = serde_json::json!(values);
            }
            requirement
        };
        let team = serde_json::json!({"key": "team", "operator": "In", "values": ["blue"]});
        let mut world = World::default();
        world.namespaces.insert("x".into(), Labels::from_iter([("team", "blue")]));
        world.namespaces.insert("y".into(), Labels::from_iter([(key, "y")]));
        // as nobody declares it, and no selector believes it
        world.namespaces.insert("z".into(), Labels::from_iter([(key, "x"), ("team", "blue")]));
        for (n, namespace) in ["x", "y", "z", "undeclared"].into_iter().enumerate() {
            let name = format!("p{n}");
            let node = NODES[n % NODES.len()];
            let pod = pod(&name, &name, node, &format!("10.0.0.{n}"));
            let pod = Pod { namespace: namespace.into(), ..pod };
            world.pods.insert(pod.key(), pod);
        }
        let selectors = [
            vec![named("In", &["x"])],
            vec![named("In", &["y", "undeclared", "nowhere"])],
            vec![named("NotIn", &["y"])],
            vec![named("NotIn", &["y"]), team.clone()],
            vec![named("In", &["x", "y"]), named("NotIn", &["x"])],
            vec![named("Exists", &[])],
            vec![named("Exists", &[]), team.clone()],
            vec![named("DoesNotExist", &[])],
            vec![named("In", &["z"]), team],
        ];
        for selector in selectors {
            let mut world = world.clone();
            let mut index = start(&world, 1);
            let mut agents = Agents::connect(&mut index);
            let old = world.clone();
            let policy = weir_policy::k8s::object(&serde_json::json!({
                "kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "p"},
                "spec": {"podSelector": {}, "ingress": [{"from": [
                    {"namespaceSelector": {"matchExpressions": selector}}
                ]}]},
            }));
            let Some(weir_policy::k8s::Object::NetworkPolicy(object)) = policy.unwrap().0 else {
                panic!("a policy")
            };
            world.policies.insert(object.policy.key.clone(), object);
            let output = index.apply(events_between(&old, &world));
            agents.take(&output);
            check(&index, &agents, &world).unwrap();
            // and the same when pods and policies are there from the start
            let mut index = start(&world, 5);
            let agents = Agents::connect(&mut index);
            check(&index, &agents, &world).unwrap();
        }
    }

    /// A UID that comes under another name is one endpoint throughout.
    #[test]
    fn an_object_may_change_its_name() {
        let mut index = synced([pod("a", "u", "n1", "10.0.0.1")]);
        let events = [deleted("a", ""), Event::PodApplied(pod("b", "u", "n1", "10.0.0.1"))];
        let output = index.apply(events);
        assert_eq!(changes(&output), ["+profile app=b", "+u n1 10.0.0.1", "-profile"]);
    }

    #[test]
    fn events_are_recordable() {
        let events = vec![
            Event::PodApplied(pod("a", "u", "n1", "10.0.0.1")),
            deleted("a", "u"),
            Event::NamespaceDeleted { name: "x".into() },
            Event::Synced,
        ];
        let text = serde_json::to_string(&events).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Event>>(&text).unwrap(), events);
    }
}
