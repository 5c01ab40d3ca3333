use rust_openflow::text::parse_flow_with;

use super::*;
use crate::annotate::filter::Counters;
use crate::annotate::layout::Owner;

const SYMBOLS: &str = include_str!("../../../tests/example/n1.symbols.jsonl");
const FLOWS: &str = include_str!("../../../tests/example/n1.flows");

fn listing(filter: &Filter) -> Listing {
    let symbols = Symbols::read(SYMBOLS).unwrap();
    let mut flows: Vec<FlowText> = FLOWS.lines().map(|l| parse_flow(l).unwrap()).collect();
    // some traffic
    for (n, flow) in (1000..).zip(&mut flows) {
        if let Some(stats) = &mut flow.stats
            && n % 3 == 0
        {
            (stats.packets, stats.bytes) = (n, n * 74);
        }
    }
    let all = flows.len();
    let lines = lines(flows, &symbols, filter);
    Listing {
        node: Some("n1".to_owned()),
        bridge: Some("br-int".to_owned()),
        ovs: Some("3.1.0".to_owned()),
        revision: Some(1841),
        all,
        lines,
    }
}

/// Compares with a file; `BLESS=1` writes it.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/example").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "{} (BLESS=1 rewrites it)", path.display());
}

fn table(filter: &Filter) -> String {
    render::flows::table(&listing(filter), true)
}

#[test]
fn the_table_keeps_its_look() {
    golden("all.txt", &table(&Filter::default()));
    let pod = Filter {
        pod: Some("shop/db-0".to_owned()),
        table: Some(layout::INGRESS_RULE),
        ..Filter::default()
    };
    golden("pod.txt", &table(&pod));
    let policy =
        Filter { policy: Some(("shop".to_owned(), "web-egress".to_owned())), ..Filter::default() };
    golden("policy.txt", &table(&policy));
    golden("policy.ofctl.txt", &render::flows::ofctl(&listing(&policy)));
    let rule = Filter { rule: Some(0x48ea_032b), ..Filter::default() };
    golden("rule.json", &render::columns::json(&data(&listing(&rule))));
}

#[test]
fn filters_meet() {
    let count = |filter: Filter| listing(&filter).lines.len();
    let all = count(Filter::default());
    assert_eq!(all, FLOWS.lines().count());
    let by_owner: usize = [Owner::Base, Owner::Rule, Owner::Clause, Owner::Deny]
        .map(|o| count(Filter { owner: Some(o), ..Filter::default() }))
        .iter()
        .sum();
    assert_eq!(by_owner, all);
    // counters: clause flows have none and are neither
    let which = |c| count(Filter { counters: Some(c), ..Filter::default() });
    let clauses = count(Filter { owner: Some(Owner::Clause), ..Filter::default() });
    assert_eq!(which(Counters::Nonzero) + which(Counters::Zero) + clauses, all);
    assert!(which(Counters::Nonzero) > 0 && which(Counters::Zero) > 0);
    // a class: its address flows and what matches it
    let class = listing(&Filter { class: Some(4), ..Filter::default() });
    let tables: Vec<u8> = class.lines.iter().map(|l| l.flow.table).collect();
    // as a peer, its named port and later fragments in both families
    assert_eq!(tables, [30, 35, 45, 45, 45, 45, 45, 65]);
    assert_eq!(count(Filter { rule: Some(1), ..Filter::default() }), 0);
}

#[test]
fn a_pod_has_its_port_its_addresses_and_the_rules_it_is_subject_of() {
    let of = |pod: &str, table| {
        listing(&Filter { pod: Some(pod.to_owned()), table, ..Filter::default() })
    };
    let seen: std::collections::BTreeSet<u8> =
        of("shop/db-0", None).lines.iter().map(|l| l.flow.table).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 10, 25, 30, 35, 65, 90]);
    // api-0 is a peer of rules here and a subject of none
    let api = of("shop/api-0", Some(layout::INGRESS_RULE));
    assert_eq!(api.lines.len(), 1);
    assert_eq!(api.lines[0].note.peer.as_deref(), Some("shop {app=api}"));
    assert!(of("monitoring/probe-0", Some(layout::INGRESS_RULE)).lines.is_empty());
}

#[test]
fn ofctl_text_is_the_same_flow() {
    for line in listing(&Filter::default()).lines {
        let text = line.ofctl();
        let (flow, comment) = text.split_once(explain::MARK).unwrap();
        assert_eq!(comment, line.note.sentence());
        let mut read = parse_flow_with(flow, &table_names()).unwrap();
        if let (Some(a), Some(b)) = (&mut read.stats, line.flow.stats) {
            a.duration_sec = b.duration_sec;
            a.duration_nsec = b.duration_nsec;
        }
        assert_eq!(read, line.flow, "{text}");
    }
}
