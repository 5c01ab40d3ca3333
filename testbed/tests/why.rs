//! `weirctl why` online: what the policies say beside what the switches do.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use support::fleet;
use weir_testbed::fleet::pod;
use weir_testbed::tcp;

#[test]
fn the_switch_line_speaks_of_the_live_switch() {
    let mut fleet = fleet(
        "shop",
        &[
            pod("shop/web").on("n1").label("app", "web"),
            pod("shop/near").on("n2").label("app", "near"),
            pod("shop/db").on("n2").label("app", "db").serves(&[tcp(5432)]),
        ],
    );
    fleet
        .apply(
            "{kind: NetworkPolicy, metadata: {name: db, namespace: shop}, \
              spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], \
                     ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}}",
        )
        .unwrap();
    fleet.agrees().unwrap();

    // connections were made just now, so the rule's flow has counted packets
    let allowed = fleet.weirctl(&["why", "shop/web", "shop/db:5432"]).unwrap();
    let line = switch_line(&allowed);
    assert!(line.starts_with("switch  n2 agrees: allowed by "), "{allowed}");
    assert!(line.contains(" in IngressRule, ") && !line.contains(", 0 packets"), "{allowed}");

    let denied = fleet.weirctl(&["why", "shop/near", "shop/db:5432"]).unwrap();
    let line = switch_line(&denied);
    assert!(line.starts_with("switch  n2 agrees: dropped by isolation set "), "{denied}");
    assert!(line.contains(" in IngressRule, ") && !line.contains(", 0 packets"), "{denied}");

    // somebody opens the database by hand
    let ovs = &fleet.bed().node("n2").unwrap().ovs;
    ovs.ofctl(&[
        "add-flow",
        "br-int",
        "table=65,priority=64000,tcp,tp_dst=5432,actions=goto_table:80",
    ])
    .unwrap();
    let answer = fleet.weirctl(&["why", "shop/near", "shop/db:5432"]).unwrap();
    assert!(answer.starts_with("DENIED"), "{answer}");
    let line = switch_line(&answer);
    assert!(line.starts_with("switch  n2 DISAGREES: passes"), "{answer}");
    assert!(line.contains("a flow that is not Weir's"), "{answer}");
    fleet.down().unwrap();
}

fn switch_line(text: &str) -> &str {
    text.lines()
        .find(|l| l.starts_with("switch"))
        .unwrap_or_else(|| panic!("no switch line: {text}"))
}
