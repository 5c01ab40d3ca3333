//! Every scenario on real Open vSwitch: the whole matrix, the paths that must exist and those that must not. The policies
//! that Weir was conceived from, word for word, where they lie beside the repository.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test")]

use std::path::{Path, PathBuf};

use weir_testbed::fleet::{Fleet, Setup, pod};
use weir_testbed::matrix::{Cell, Verdicts};
use weir_testbed::scenario::{self, Scenario};
use weir_testbed::{demo, home, tcp, udp};

#[test]
fn each_scenario_keeps_its_promises() {
    for name in scenario::names().unwrap() {
        let scenario = Scenario::read(&name).unwrap();
        let fleet = demo::start(&home::test_name(), &scenario).unwrap();
        let always = scenario.always.iter().map(|p| (p, true));
        let promises: Verdicts = always
            .chain(scenario.never.iter().map(|p| (p, false)))
            .flat_map(|(p, open)| {
                [false, true].map(|v6| {
                    let (from, to) = (p.from.clone(), p.to.clone());
                    (Cell { from, to, service: p.port, v6 }, open)
                })
            })
            .collect();
        fleet.sees(&promises).unwrap_or_else(|e| panic!("{name}: {e}"));
        fleet.agrees().unwrap_or_else(|e| panic!("{name}: {e}"));
        fleet.down().unwrap();
    }
}

fn shared_policies() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/policies");
    dir.is_dir().then_some(dir)
}

/// The namespaces those policies speak of, with the label they expect, and pods that they tell apart.
fn their_world() -> Fleet {
    let setup = Setup::nodes(2)
        .outside("partner", &["203.0.113.10".parse().unwrap()], &[tcp(443), tcp(80)])
        .outside("elsewhere", &["198.51.100.7".parse().unwrap()], &[tcp(443)]);
    let mut fleet = Fleet::for_test(&setup).unwrap();
    let spaces = [
        "production",
        "monitoring",
        "kube-system",
        "frontend",
        "backend",
        "database",
        "ingress-nginx",
    ];
    for name in spaces {
        fleet.namespace(name, &[("name", name)]).unwrap();
    }
    fleet
        .add(&[
            pod("production/frontend").label("app", "frontend").serves(&[tcp(8080)]),
            pod("production/backend").label("app", "backend").serves(&[tcp(8080), tcp(9090)]),
            pod("production/other").label("app", "other").serves(&[tcp(8080)]),
            pod("monitoring/prometheus").label("app", "prometheus").serves(&[tcp(9090)]),
            pod("monitoring/frontend").label("app", "frontend").serves(&[tcp(8080)]),
            pod("kube-system/dns").label("app", "dns").serves(&[tcp(53), udp(53)]),
            pod("frontend/web").label("app", "web").serves(&[tcp(80)]),
            pod("backend/api").label("app", "api").serves(&[tcp(8080)]),
            pod("database/db").label("app", "db").serves(&[tcp(5432)]),
            pod("ingress-nginx/gateway").label("app", "gateway").serves(&[tcp(80)]),
        ])
        .unwrap();
    fleet
}

#[test]
fn the_policies_weir_was_conceived_from() {
    let Some(dir) = shared_policies() else {
        println!("left out: no policies at ../shared/policies");
        return;
    };
    let mut fleet = their_world();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    fleet.apply(&read("three-tier.yaml")).unwrap();
    fleet.agrees().unwrap();
    fleet.cannot_reach("frontend/web", "database/db", tcp(5432)).unwrap();

    // "Apply one at a time"
    let text = read("or-and-any.yaml");
    for (policy, name) in text.split("\n---\n").zip(["or", "and", "any"]) {
        fleet.apply(policy).unwrap();
        fleet.agrees().unwrap_or_else(|e| panic!("{name}: {e}"));
        let last = fleet.world().policies.keys().find(|k| k.name.contains(name)).cloned().unwrap();
        fleet.delete_policy(&last.to_string()).unwrap();
    }

    fleet.apply(&read("basics.yaml")).unwrap();
    fleet.agrees().unwrap();
    fleet.cannot_reach("production/other", "production/backend", tcp(8080)).unwrap();
    fleet.apply(&read("debug.yaml")).unwrap();
    fleet.agrees().unwrap();
    fleet.label_pod("production/backend", &[("app", "backend"), ("debug", "true")]).unwrap();
    fleet.agrees().unwrap();
    fleet.reaches("monitoring/prometheus", "production/backend", tcp(8080)).unwrap();
    fleet.down().unwrap();
}
