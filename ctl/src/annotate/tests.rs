use rust_openflow::text::parse_flow;

use super::*;
use crate::annotate::explain::{line, names, note};

const SYMBOLS: &str = include_str!("../../tests/example/n1.symbols.jsonl");
const FLOWS: &str = include_str!("../../tests/example/n1.flows");

fn symbols() -> Symbols {
    Symbols::read(SYMBOLS).unwrap()
}

fn what(text: &str) -> String {
    let note = annotate(&parse_flow(text).unwrap(), &symbols());
    format!("{}: {}", note.owner.as_str(), note.what)
}

/// The line of the example that all these words are in.
fn example(words: &[&str]) -> FlowText {
    let mut found = FLOWS.lines().filter(|l| words.iter().all(|w| l.contains(w)));
    let line = found.next().unwrap_or_else(|| panic!("no flow with {words:?}"));
    assert_eq!(found.next(), None, "several flows with {words:?}");
    parse_flow(line).unwrap()
}

fn explained(text: &str) -> Option<String> {
    let symbols = symbols();
    note(text, &symbols, &names(&symbols))
}

#[test]
fn every_flow_of_the_example_has_an_owner_and_a_reason() {
    let symbols = symbols();
    for text in FLOWS.lines() {
        let flow = parse_flow(text).unwrap();
        let note = annotate(&flow, &symbols);
        assert!(note.owner != Owner::Foreign && !note.what.is_empty(), "{text}");
        // nothing that the symbols could have named is left as a number
        assert!(!note.what.contains("not among"), "{text}: {}", note.what);
        if note.owner == Owner::Clause {
            assert!(!note.rules.is_empty(), "{text}");
        }
    }
}

#[test]
fn rules_clauses_and_drops() {
    let symbols = symbols();
    for (words, text) in [
        (
            &["table=65", "priority=200,reg2=0x4"][..],
            "clause: from: shop {app=api}, 1 endpoint (api-0); of shop/db-from-api ingress[0]",
        ),
        (
            &["table=65", "priority=200,reg3=0x3"],
            "clause: subject: shop {app=db}, 1 endpoint (db-0); of shop/db-from-api ingress[0]",
        ),
        (
            &["table=65", ",tcp,tp_dst=5432"],
            "clause: port: tcp/5432; of shop/db-from-api ingress[0]",
        ),
        (&["table=65", "conj_id="], "rule: shop/db-from-api ingress[0]"),
        (
            &["table=65", "priority=100,reg3=0x3"],
            "deny: a14512ee: shop/db-from-api, shop/default-deny",
        ),
        (
            &["table=65", "+est+trk,ip,reg3=0x3"],
            "deny: a14512ee: shop/db-from-api, shop/default-deny (established connections are cut)",
        ),
        (&["table=45", ",ip,nw_dst="], "clause: to: 203.0.113.0/25; of shop/web-egress egress[1]"),
        (
            &["table=45", ",tcp,tp_dst=0x20f8"],
            "clause: port: tcp/8440-8447; of shop/web-egress egress[1]",
        ),
        (
            &["table=45", ",tcp,reg3=0x4,tp_dst=8080"],
            "clause: port: tcp/8080 (http) of shop {app=api}, 1 endpoint (api-0); of shop/web-egress egress[0]",
        ),
        (
            &["table=45", "priority=200,reg2=0x2"],
            "clause: subject: shop {app=web}, 1 endpoint (web-0); of shop/web-egress egress[0], shop/web-egress egress[1]",
        ),
    ] {
        assert_eq!(annotate(&example(words), &symbols).sentence(), text);
    }
}

#[test]
fn the_fixed_part_says_whose_it_is() {
    let symbols = symbols();
    for (words, text) in [
        (&["table=0", "in_port=3"][..], "base: port 3 (db0) is shop/db-0"),
        (&["table=0", "in_port=1 "], "base: port 1 is an uplink"),
        (&["table=0", "in_port=LOCAL"], "base: the node's own port"),
        (&["table=0", "priority=0"], "base: every other port is closed"),
        (&["table=10", "in_port=3", "nw_src="], "base: shop/db-0 may send from 10.244.1.20"),
        (&["table=10", "priority=100,in_port=3"], "base: anything else from shop/db-0 is spoofed"),
        (
            &["table=30", "nw_src=10.244.2.10"],
            "base: shop/api-0 is of class 4 (shop {app=api} and shop {})",
        ),
        (&["table=30", "in_port=LOCAL"], "base: the node's own address: always gets in"),
        (
            &["table=35", "priority=110,ip"],
            "base: monitoring/probe-0 reaches itself through a Service",
        ),
        (&["table=90", "nw_dst=10.244.1.20"], "base: shop/db-0 gets packets to 10.244.1.20"),
        (&["table=100"], "base: switching is left to NORMAL"),
    ] {
        let flow = if words.contains(&"priority=110,ip") {
            parse_flow(
                FLOWS
                    .lines()
                    .find(|l| words.iter().all(|w| l.contains(w)) && l.contains("1.30"))
                    .unwrap(),
            )
            .unwrap()
        } else {
            example(words)
        };
        assert_eq!(annotate(&flow, &symbols).sentence(), text);
    }
}

#[test]
fn what_is_not_known_stays_a_number() {
    for (flow, text) in [
        (
            "cookie=0x57011a0011111111, table=65, conj_id=286331153 actions=goto_table:80",
            "rule: rule 11111111, not among the symbols",
        ),
        (
            "cookie=0x57014a0011111111, table=65, reg3=0x63 actions=drop",
            "deny: 11111111: isolation set, not among the symbols",
        ),
        (
            "cookie=0x57013a0000000063, table=65, reg3=0x63 actions=conjunction(286331153,1/2)",
            "clause: subject: class 99",
        ),
        (
            "cookie=0x5701000000000000, table=90, priority=200,dl_dst=02:00:00:00:01:99 actions=drop",
            "base: a port whose workload is not known: nothing is delivered",
        ),
        (
            "cookie=0x5701600000000000, table=10, priority=65000,reg0=0x1/0xf,vlan_tci=0x1000/0x1000 actions=drop",
            "base: a workload does not choose a VLAN: spoofed",
        ),
        ("cookie=0x5, table=65 actions=drop", "foreign: not Weir's"),
        (
            "cookie=0x5702000000000000, table=65 actions=drop",
            "foreign: a cookie layout that this weirctl does not know",
        ),
    ] {
        assert_eq!(what(flow), text);
    }
}

#[test]
fn lines_of_other_tools() {
    let db = "48ea032b rule shop/db-from-api ingress[0]: allow tcp/5432 from shop {app=api}";
    for (text, expected) in [
        // dump-flows of other versions, with names of tables and ports
        (
            " cookie=0x57011a0048ea032b, duration=3.2s, table=IngressRule, n_packets=1, n_bytes=2, idle_age=1, hard_age=3, priority=200,conj_id=1223295787 actions=load:0x48ea032b->NXM_NX_REG5[],goto_table:Commit",
            Some("rule: shop/db-from-api ingress[0]"),
        ),
        (
            " cookie=0x5701000000000000, table=Classifier, priority=200,in_port=db0 actions=goto_table:SpoofGuard",
            Some("base: port 3 (db0) is shop/db-0"),
        ),
        // actions from after our time: the cookie says enough
        (
            " cookie=0x57014a00a14512ee, table=IngressRule, priority=100,reg3=0x3 actions=brand_new(1)",
            Some("deny: a14512ee: shop/db-from-api, shop/default-deny"),
        ),
        ("OFPST_FLOW reply (OF1.3) (xid=0x2):", None),
        // ofproto/trace
        (
            "65. conj_id=1223295787, priority 200, cookie 0x57011a0048ea032b",
            Some("rule: shop/db-from-api ingress[0]"),
        ),
        (
            " 0. in_port=3, priority 200, cookie 0x5701000000000000",
            Some("base: port 3 (db0) is shop/db-0"),
        ),
        (
            "10. in_port=3, priority 100, cookie 0x5701600000000000",
            Some("base: anything else from shop/db-0 is spoofed"),
        ),
        (
            "90. ip,dl_dst=02:00:00:00:01:20, priority 150, cookie 0x5701600000000000",
            Some("base: a packet with a workload's MAC address and not its IP address"),
        ),
        ("    load:0x48ea032b->NXM_NX_REG5[]", Some(db)),
        ("    goto_table:65", None),
        // dump-conntrack
        (
            "tcp,orig=(src=10.244.2.10,dst=10.244.1.20,sport=40000,dport=5432),reply=(src=10.244.1.20,dst=10.244.2.10,sport=5432,dport=40000),zone=65520,mark=1,labels=0x48ea032b,protoinfo=(state=ESTABLISHED)",
            Some(
                "shop/api-0 -> shop/db-0:5432; ingress by 48ea032b shop/db-from-api ingress[0]; cut by a policy change",
            ),
        ),
        (
            "tcp,orig=(src=10.244.1.10,dst=203.0.113.7,sport=1,dport=8443),reply=(src=203.0.113.7,dst=10.244.1.10,sport=8443,dport=1),zone=65520,labels=0xdeebd51b00000000",
            Some("shop/web-0 -> 203.0.113.7:8443; egress by deebd51b shop/web-egress egress[1]"),
        ),
        // words alone, and in logs
        ("48ea032b", Some(db)),
        ("1223295787", Some(db)),
        ("a14512ee", Some("a14512ee isolated for ingress by shop/db-from-api, shop/default-deny")),
        (
            "ct_label=0xdeebd51b48ea032b",
            Some(
                "ingress by 48ea032b shop/db-from-api ingress[0]; egress by deebd51b shop/web-egress egress[1]",
            ),
        ),
        ("0x57014a00a14512ee", Some("deny: a14512ee: shop/db-from-api, shop/default-deny")),
        ("deadbeef", Some("deadbeef not among the symbols")),
        (
            "2026-11-22 DROPPED tcp id=a14512ee n=37",
            Some("a14512ee isolated for ingress by shop/db-from-api, shop/default-deny"),
        ),
        ("nothing to see here at 12345678", None),
        ("", None),
    ] {
        assert_eq!(explained(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn annotating_twice_is_annotating_once() {
    let symbols = symbols();
    let names = names(&symbols);
    for text in FLOWS.lines() {
        let once = line(text, &symbols, &names);
        assert!(once.starts_with(text) && once.contains("  # "), "{once}");
        assert_eq!(line(&once, &symbols, &names), once);
    }
    assert_eq!(line("left as it is", &symbols, &names), "left as it is");
}
