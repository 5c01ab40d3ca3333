//! Properties of the crate as a whole, over generated worlds.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]
#![cfg(feature = "strategy")]

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::json;
use weir_policy::eval::{self, Connection, End, L4, Reason, Verdict};
use weir_policy::port::Protocol;
use weir_policy::rule::{Direction, Peers, PolicyObject, Services};
use weir_policy::strategy::{self, Probe};
use weir_policy::world::World;
use weir_policy::{analyze, compile, explain, k8s};

/// `PROPTEST_CASES` overrides it.
fn cases(n: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|v| v.parse().ok());
    ProptestConfig {
        cases: wanted.unwrap_or(n),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

fn connections(world: &World, probes: &[Probe]) -> Vec<Connection> {
    probes.iter().filter_map(|p| p.connection(world)).collect()
}

proptest! {
    #![proptest_config(cases(2_000))]

    /// NP-6: a policy more never cuts a connection whose ends were isolated before, and only isolated ends deny.
    #[test]
    fn policies_only_add(world in strategy::world(), extra in strategy::policy(), probes in strategy::probes(8)) {
        let mut more = world.clone();
        let replaced = more.policies.insert(extra.policy.key.clone(), extra).is_some();
        for c in connections(&world, &probes) {
            let (before, after) = (eval::verdict(&world, &c), eval::verdict(&more, &c));
            for direction in Direction::BOTH {
                let (b, a) = (before.side(direction), after.side(direction));
                if !replaced && matches!(b.reason, Reason::AllowedBy(_)) {
                    prop_assert!(a.allowed, "{c:?} {direction}: {b:?} became {a:?}");
                }
                if !b.allowed {
                    prop_assert!(matches!(b.reason, Reason::Isolated(_)), "{b:?}");
                }
            }
        }
    }

    /// The groups that policies name are defined beside them, and rules of directions not in force are not there.
    #[test]
    fn objects_are_closed(object in strategy::policy()) {
        let defined: std::collections::BTreeSet<_> = object.selectors.keys().copied().collect();
        prop_assert!(object.policy.groups().is_subset(&defined));
        for (id, selector) in &object.selectors {
            prop_assert_eq!(*id, selector.id());
        }
        prop_assert_eq!(object.items.len(), object.policy.rules.len());
        for rule in &object.policy.rules {
            prop_assert!(object.policy.isolates.contains(&rule.rule.direction));
            prop_assert_eq!(rule.rule.subject, object.policy.subject);
        }
    }

    /// NP-19: nonsense anywhere in a policy never opens what the policy, read without it, keeps closed.
    #[test]
    fn nonsense_only_narrows(
        world in strategy::world(),
        manifest in strategy::manifest(),
        at in any::<proptest::sample::Index>(),
        nonsense in proptest::sample::select(vec![json!([7.5]), json!(7.5), json!({"junk": {}}), json!(true)]),
        probes in strategy::probes(8),
    ) {
        let mut pointers = Vec::new();
        places(&manifest["spec"], "/spec", &mut pointers);
        let mut broken = manifest.clone();
        let pointer = at.get(&pointers);
        *broken.pointer_mut(pointer).unwrap() = nonsense;
        let (mut whole, mut narrowed) = (world.clone(), world);
        k8s::object(&manifest).unwrap().0.unwrap().put(&mut whole);
        let (object, warnings) = k8s::object(&broken).unwrap();
        // sections that are not in effect are not looked at (NP-9)
        let types = &manifest["spec"]["policyTypes"];
        let ignored = types.as_array().is_some_and(|t| {
            !t.is_empty() && t.iter().all(|t| !pointer.get(6..).unwrap_or_default().starts_with(&t.as_str().unwrap().to_lowercase()))
        });
        prop_assert!(!warnings.is_empty() || ignored, "{} {}", pointer, broken);
        object.unwrap().put(&mut narrowed);
        for c in connections(&whole, &probes) {
            let (before, after) = (eval::verdict(&whole, &c), eval::verdict(&narrowed, &c));
            for d in Direction::BOTH {
                prop_assert!(before.side(d).allowed || !after.side(d).allowed, "{:?}\n{}", c, broken);
            }
        }
    }

    /// A manifest read twice, or written as YAML text in between, is one policy.
    #[test]
    fn text_and_value_agree(manifest in strategy::manifest()) {
        let (direct, _) = k8s::object(&manifest).unwrap();
        let yaml = serde_saphyr::to_string(&manifest).unwrap();
        for text in [manifest.to_string(), serde_json::to_string_pretty(&manifest).unwrap(), yaml] {
            let (values, rejections) = k8s::read_documents(&format!("# first\n---\n{text}\n---\n"));
            prop_assert!(rejections.is_empty(), "{}\n{}", rejections[0], text);
            prop_assert_eq!(values.len(), 1);
            prop_assert_eq!(&k8s::object(&values[0]).unwrap().0, &direct, "{}", text);
        }
        if let Ok(typed) = serde_json::from_value::<k8s_openapi::api::networking::v1::NetworkPolicy>(manifest.clone()) {
            prop_assert_eq!(Some(k8s::Object::NetworkPolicy(k8s::network_policy(&typed).unwrap().0)), direct);
        }
    }

    /// The terms of a rule all hold exactly if the evaluator says that the rule admits the connection.
    #[test]
    fn explanations_agree_with_the_oracle(world in strategy::world(), probes in strategy::probes(12)) {
        for c in connections(&world, &probes) {
            let verdict = eval::verdict(&world, &c);
            let why = explain::why(&world, &c);
            prop_assert_eq!(why.verdict == explain::Answer::Allowed, verdict.allowed());
            for (direction, side) in [(Direction::Egress, &why.egress), (Direction::Ingress, &why.ingress)] {
                if let Reason::AllowedBy(rules) = &verdict.side(direction).reason {
                    let mut told: Vec<String> = side.allowed_by.iter().map(explain::RuleWhy::place).collect();
                    told.sort();
                    let mut wanted: Vec<String> = rules.iter().map(|(p, r)| format!("{p} {r}")).collect();
                    wanted.sort();
                    prop_assert_eq!(told, wanted, "{:?}", c);
                }
                let misses = side.nearest_miss.iter().all(|m| m.failing() > 0);
                prop_assert!(misses, "{:?}: {:?}", c, side);
            }
        }
    }

    /// What `why` suggests does admit the connection at that end, if it is pasted where it says.
    #[test]
    fn suggested_changes_admit(
        world in strategy::world(),
        manifests in proptest::collection::vec(strategy::manifest(), 1..6),
        probes in strategy::probes(8),
    ) {
        let mut world = world;
        let mut by_key = std::collections::BTreeMap::new();
        world.policies.clear();
        for manifest in manifests {
            let object = k8s::object(&manifest).unwrap().0.unwrap();
            by_key.insert(object.title(), manifest);
            object.put(&mut world);
        }
        for c in connections(&world, &probes) {
            let why = explain::why(&world, &c);
            for (direction, side, end) in
                [(Direction::Egress, &why.egress, &c.src), (Direction::Ingress, &why.ingress, &c.dst)]
            {
                let Some(change) = side.change.as_ref().filter(|ch| !ch.add.is_null()) else {
                    prop_assert!(side.change.is_some() || side.verdict == explain::Answer::Allowed);
                    continue;
                };
                let End::Pod { key, .. } = end else { panic!("{end:?}") };
                let labels: std::collections::BTreeMap<&str, &str> =
                    world.pod(key).expect("an end of this world").labels.iter().map(|(k, v)| (&**k, &**v)).collect();
                let manifest = match &change.policy {
                    Some(policy) => paste(by_key[&format!("NetworkPolicy {policy}")].clone(), change),
                    None => json!({"kind": "NetworkPolicy",
                        "metadata": {"namespace": &*key.0, "name": "new"},
                        "spec": {"podSelector": {"matchLabels": labels}, change.at.as_str(): [change.add]}}),
                };
                let mut changed = world.clone();
                k8s::object(&manifest).unwrap().0.unwrap().put(&mut changed);
                let after = eval::verdict(&changed, &c);
                prop_assert!(after.side(direction).allowed, "{:?}\n{}\n{}", c, change.text, manifest);
            }
        }
    }

    /// Sets of ports say the same as the evaluator, port by port.
    #[test]
    fn reach_is_the_oracle_at_every_port(world in strategy::world(), probes in strategy::probes(8)) {
        for c in connections(&world, &probes) {
            let reach = analyze::reach(&world, &c);
            prop_assert!(reach.is_exact());
            for protocol in Protocol::ALL {
                let ports = strategy::PORTS.iter().flat_map(|p| [p.saturating_sub(1), *p, p.saturating_add(1)]);
                for dport in ports {
                    let one = Connection { l4: L4::Port { protocol, dport }, ..c.clone() };
                    prop_assert_eq!(eval::verdict(&world, &one).allowed(), reach.surely.contains(protocol, dport),
                        "{:?} {}", one, reach.surely);
                }
            }
            let ping = Connection { l4: L4::Other { ip_protocol: 47 }, ..c };
            prop_assert_eq!(eval::verdict(&world, &ping).allowed(), reach.surely.others());
        }
    }

    /// The chosen outside addresses stand for all others.
    #[test]
    fn outside_addresses_are_enough(world in strategy::world(), probes in strategy::probes(4), address in any::<u32>(), narrow in any::<bool>()) {
        let address = std::net::Ipv4Addr::from(if narrow { 0x0a0a_0000 | (address & 0x3ff) } else { address });
        let address = std::net::IpAddr::from(address);
        if !matches!(eval::end(&world, address), End::External(_)) {
            return Ok(());
        }
        let chosen = analyze::outside_addresses(&world);
        for a in &chosen {
            prop_assert!(matches!(eval::end(&world, *a), End::External(_)), "{}", a);
        }
        for c in connections(&world, &probes) {
            let to = |a| analyze::reach(&world, &Connection { dst: End::External(a), ..c.clone() });
            let wanted = to(address);
            prop_assert!(chosen.iter().any(|a| to(*a) == wanted), "{:?} -> {}", c.src, address);
        }
    }

    /// What one node is told is enough to decide for its pods: the verdict from its state equals the oracle's.
    #[test]
    fn node_state_decides_like_the_world(world in strategy::world(), probes in strategy::probes(12)) {
        for c in connections(&world, &probes) {
            let verdict = eval::verdict(&world, &c);
            for direction in Direction::BOTH {
                let (this, other) = match direction {
                    Direction::Ingress => (&c.dst, &c.src),
                    Direction::Egress => (&c.src, &c.dst),
                };
                let End::Pod { key, .. } = this else { continue };
                let side = verdict.side(direction);
                let decided = matches!(side.reason, Reason::AllowedBy(_) | Reason::Isolated(_) | Reason::NotIsolated);
                if !decided {
                    continue;
                }
                let node = &world.pod(key).expect("an end of this world").node;
                let state = compile::node_state(&world, node);
                prop_assert_eq!(from_state(&state, &world, key, other, direction, c.l4), side.allowed,
                    "{} {:?}", direction, c);
            }
        }
    }

    /// Applying the difference of two states gives the second, and says so once.
    #[test]
    fn diff_and_apply(world in strategy::world(), changes in strategy::changes(6)) {
        let mut next = world.clone();
        for change in &changes {
            let before = next.clone();
            prop_assert_eq!(change.apply(&mut next), before != next, "{:?}", change);
        }
        for node in strategy::NODES {
            let (mut old, new) = (compile::node_state(&world, node), compile::node_state(&next, node));
            let difference = old.diff(&new);
            prop_assert_eq!(difference.is_empty(), old == new);
            let touched = old.apply(difference.clone());
            prop_assert_eq!(&old, &new);
            prop_assert_eq!(touched.is_empty(), difference.is_empty());
            prop_assert!(old.apply(difference).is_empty());
        }
    }
}

/// JSON pointers to every value below and at `value`.
fn places(value: &serde_json::Value, pointer: &str, out: &mut Vec<String>) {
    out.push(pointer.to_owned());
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                places(
                    value,
                    &format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")),
                    out,
                );
            }
        }
        serde_json::Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                places(value, &format!("{pointer}/{n}"), out);
            }
        }
        _ => {}
    }
}

/// Adds the entry to the list that a change names.
fn paste(mut manifest: serde_json::Value, change: &explain::Change) -> serde_json::Value {
    let pointer = change.at.replace('[', ".").replace(']', "").replace('.', "/");
    let spec = &mut manifest["spec"];
    if !change.at.contains('.') && spec[&change.at].is_null() {
        spec[&change.at] = json!([]);
    }
    let list = spec.pointer_mut(&format!("/{pointer}")).unwrap();
    list.as_array_mut().unwrap().push(change.add.clone());
    manifest
}

/// A second evaluator, over what a node is told.
fn from_state(
    state: &weir_policy::state::NodeState,
    world: &World,
    this: &weir_policy::world::PodKey,
    other: &End,
    direction: Direction,
    l4: L4,
) -> bool {
    let endpoint = |key: &weir_policy::world::PodKey| {
        let id = world.pod(key).expect("an end of this world").endpoint_id();
        state.endpoints.get(&id)
    };
    let subject = endpoint(this).expect("local pods are in the state of their node");
    let peer = match other {
        End::Pod { key, .. } => endpoint(key),
        _ => None,
    };
    let member =
        |group, profile| state.groups.get(&group).is_some_and(|g| g.members.contains(&profile));
    let mut isolated = false;
    for policy in state.policies.values() {
        if !policy.isolates.contains(&direction) || !member(policy.subject, subject.profile) {
            continue;
        }
        isolated = true;
        for r in policy.rules.iter().filter(|r| r.rule.direction == direction) {
            let peers = match &r.rule.peers {
                Peers::Any => true,
                Peers::Of { groups, blocks } => {
                    peer.is_some_and(|p| groups.iter().any(|g| member(*g, p.profile)))
                        || blocks
                            .iter()
                            .flat_map(|b| b.prefixes())
                            .any(|p| p.contains(other.address().unwrap()))
                }
            };
            let destination = if direction == Direction::Ingress { Some(subject) } else { peer };
            let services = match (&r.rule.services, l4) {
                (Services::Any, _) => true,
                (Services::Of(_), L4::Other { .. }) => false,
                (Services::Of(items), L4::Port { protocol, dport }) => items.iter().any(|s| {
                    use weir_policy::port::PortMatch;
                    s.protocol == protocol
                        && match &s.port {
                            PortMatch::Any => true,
                            PortMatch::Range { first, last } => {
                                weir_policy::port::range_masks(*first, *last)
                                    .iter()
                                    .any(|(value, mask)| dport & mask == *value)
                            }
                            PortMatch::Named(name) => destination
                                .and_then(|d| state.profiles.get(&d.profile))
                                .is_some_and(|p| {
                                    p.named_ports.iter().any(|n| {
                                        n.name == *name
                                            && n.protocol == protocol
                                            && n.number == dport
                                    })
                                }),
                        }
                }),
            };
            if peers && services {
                return true;
            }
        }
    }
    !isolated
}

/// The generators reach what they are meant to reach. Fixed seed: the counts are the same on every run.
#[test]
fn generators_are_worth_their_time() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let n = 2_000;
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..n {
        let (world, probes, _changes) =
            (strategy::world(), strategy::probes(10), strategy::changes(5))
                .new_tree(&mut runner)
                .unwrap()
                .current();
        for c in connections(&world, &probes) {
            let Verdict { egress, ingress } = eval::verdict(&world, &c);
            for (name, side) in [("egress", egress), ("ingress", ingress)] {
                let reason = format!("{:?}", side.reason);
                let reason = reason.split('(').next().unwrap();
                *seen.entry(format!("{name} {reason}")).or_default() += 1;
            }
        }
        let named = |o: &PolicyObject| o.policy.rules.iter().any(|r| r.rule.universe().is_some());
        *seen.entry("universe".into()).or_default() +=
            usize::from(world.policies.values().any(named));
    }
    println!("{n} worlds: {seen:#?}");
    for wanted in ["AllowedBy", "Isolated", "NotIsolated", "NotAPod", "SamePod"] {
        for side in ["egress", "ingress"] {
            assert!(
                seen.get(&format!("{side} {wanted}")).is_some_and(|c| *c > 100),
                "{side} {wanted}"
            );
        }
    }
    assert!(seen["ingress OwnNode"] > 50);
    assert!(seen["universe"] > 50);
}
