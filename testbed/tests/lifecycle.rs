//! Pods, ports and labels that come, go and change places.
#![allow(clippy::unwrap_used, reason = "a test")]

use weir_testbed::fleet::{Fleet, Setup, Spec, pod};
use weir_testbed::probe::watch::{self, Watch};
use weir_testbed::{PortIds, tcp};

const ALLOW_CLIENTS: &str = "{kind: NetworkPolicy, metadata: {name: db, namespace: shop}, spec: {\
     podSelector: {matchLabels: {app: db}}, \
     ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]}}";

fn fleet(pods: &[Spec]) -> Fleet {
    let mut fleet = Fleet::for_test(&Setup::nodes(2)).unwrap();
    fleet.namespace("shop", &[]).unwrap();
    fleet.apply(ALLOW_CLIENTS).unwrap();
    fleet.add(&[pod("shop/db").on("n1").label("app", "db").serves(&[tcp(80)])]).unwrap();
    fleet.add(pods).unwrap();
    fleet.agrees().unwrap();
    fleet
}

#[test]
fn a_port_before_its_endpoint_carries_nothing_and_an_endpoint_before_its_port_is_ready() {
    let mut fleet = fleet(&[]);
    let open = fleet.bed().host("shop/db").unwrap().addresses.clone();
    let late = pod("shop/late").on("n2").label("role", "client").serves(&[tcp(80)]);
    fleet.add_ports_only(std::slice::from_ref(&late)).unwrap();
    // no policy isolates it, and yet neither direction passes: nothing is known of it (NP-42)
    fleet.cannot_reach("shop/late", "shop/db", tcp(80)).unwrap();
    fleet.cannot_reach("shop/db", "shop/late", tcp(80)).unwrap();
    fleet.add_manifests_only(std::slice::from_ref(&late)).unwrap();
    fleet.reaches("shop/late", "shop/db", tcp(80)).unwrap();
    fleet.reaches("shop/db", "shop/late", tcp(80)).unwrap();

    let early =
        pod("shop/early").on("n2").label("role", "client").at(&weir_testbed::address::of_pod(200));
    fleet.add_manifests_only(std::slice::from_ref(&early)).unwrap();
    fleet.add_ports_only(std::slice::from_ref(&early)).unwrap();
    fleet.reaches("shop/early", "shop/db", tcp(80)).unwrap();
    assert_eq!(fleet.bed().host("shop/db").unwrap().addresses, open);
    fleet.agrees().unwrap();
    fleet.down().unwrap();
}

#[test]
fn an_address_that_another_pod_had_says_nothing_about_its_new_owner() {
    let mut fleet = fleet(&[pod("shop/etl").on("n2").label("role", "client")]);
    fleet.reaches("shop/etl", "shop/db", tcp(80)).unwrap();
    let address = fleet.bed().host("shop/etl").unwrap().addresses.clone();
    fleet.delete(&["shop/etl"]).unwrap();
    // E11: a pod without the label, on another node, at the same address
    fleet.add(&[pod("shop/new").on("n1").at(&address)]).unwrap();
    fleet.agrees().unwrap();
    fleet.cannot_reach("shop/new", "shop/db", tcp(80)).unwrap();
    fleet.delete(&["shop/new"]).unwrap();
    // the old name again, with the label, elsewhere
    fleet.add(&[pod("shop/etl").on("n1").at(&address).label("role", "client")]).unwrap();
    fleet.reaches("shop/etl", "shop/db", tcp(80)).unwrap();
    fleet.agrees().unwrap();
    fleet.down().unwrap();
}

#[test]
fn labels_move_pods_between_groups() {
    let mut fleet =
        fleet(&[pod("shop/a").on("n1"), pod("shop/b").on("n2").label("role", "client")]);
    for _ in 0..2 {
        fleet.cannot_reach("shop/a", "shop/db", tcp(80)).unwrap();
        fleet.reaches("shop/b", "shop/db", tcp(80)).unwrap();
        fleet.label_pod("shop/a", &[("role", "client")]).unwrap();
        fleet.label_pod("shop/b", &[]).unwrap();
        fleet.reaches("shop/a", "shop/db", tcp(80)).unwrap();
        fleet.cannot_reach("shop/b", "shop/db", tcp(80)).unwrap();
        fleet.label_pod("shop/b", &[("role", "client")]).unwrap();
        fleet.label_pod("shop/a", &[]).unwrap();
    }
    // the namespace, as a peer
    fleet.namespace("blue", &[]).unwrap();
    fleet.add(&[pod("blue/c").on("n2")]).unwrap();
    fleet
        .apply(
            "{kind: NetworkPolicy, metadata: {name: team, namespace: shop}, spec: {podSelector: {matchLabels: \
             {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]}}",
        )
        .unwrap();
    fleet.cannot_reach("blue/c", "shop/db", tcp(80)).unwrap();
    fleet.label_namespace("blue", &[("team", "blue")]).unwrap();
    fleet.reaches("blue/c", "shop/db", tcp(80)).unwrap();
    fleet.label_namespace("blue", &[]).unwrap();
    fleet.cannot_reach("blue/c", "shop/db", tcp(80)).unwrap();
    fleet.agrees().unwrap();
    fleet.down().unwrap();
}

#[test]
fn ports_are_known_by_either_form_of_external_ids() {
    let pods: Vec<Spec> = [PortIds::IfaceIdSlash, PortIds::IfaceIdUnderscore, PortIds::PodOnPort]
        .iter()
        .enumerate()
        .map(|(n, ids)| pod(&format!("shop/p{n}")).ids(*ids).label("role", "client"))
        .collect();
    let fleet = fleet(&pods);
    for p in &pods {
        fleet.reaches(p.its_name(), "shop/db", tcp(80)).unwrap();
    }
    fleet.down().unwrap();
}

#[test]
fn no_attempt_passes_or_fails_needlessly_while_a_policy_is_rewritten() {
    let mut fleet = fleet(&[
        pod("shop/stranger").on("n2"),
        pod("shop/client").on("n2").label("role", "client"),
    ]);
    let stream = fleet.stream("shop/client", "shop/db", tcp(80)).unwrap();
    let shut = fleet.watch("shop/stranger", "shop/db", tcp(80), watch::SHUT).unwrap();
    let open = fleet.watch("shop/client", "shop/db", tcp(80), watch::OPEN).unwrap();
    let enough = |w: &Watch| w.tried() > 100;
    let mut round = 0;
    while round < 100 || !(enough(&shut) && enough(&open)) {
        round += 1;
        // other words, other names, other ports; never the stranger, always the client
        let rule = match round % 4 {
            0 => "{from: [{podSelector: {matchLabels: {role: client}}}], ports: [{port: 80}]}",
            1 => "{from: [{podSelector: {matchExpressions: [{key: role, operator: Exists}]}}]}",
            2 => {
                "{from: [{podSelector: {matchLabels: {role: client}}}], ports: [{port: 1, endPort: 100}]}"
            }
            _ => {
                "{from: [{podSelector: {matchLabels: {role: client}}}, {ipBlock: {cidr: 192.0.2.0/24}}]}"
            }
        };
        fleet
            .apply(&format!(
                "{{kind: NetworkPolicy, metadata: {{name: db, namespace: shop}}, spec: {{\
                  podSelector: {{matchLabels: {{app: db}}}}, ingress: [{rule}]}}}}"
            ))
            .unwrap();
        fleet.label_pod("shop/stranger", &[("round", &round.to_string())]).unwrap();
        fleet.reaches("shop/client", "shop/db", tcp(80)).unwrap();
    }
    stream.moves(weir_testbed::fleet::IN_FORCE).unwrap();
    let (shut, open) = (shut.finish(), open.finish());
    assert_eq!((shut.passed, open.passed), (0, open.tried), "{shut:?} {open:?}");
    let quiet = stream.counts();
    assert!(quiet.there.longest_silence < std::time::Duration::from_secs(1), "{quiet:?}");
    fleet.down().unwrap();
}
