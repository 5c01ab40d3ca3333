//! What weirctl knows of the flows' numbers is what the agent writes.
#![allow(clippy::unwrap_used, reason = "a test")]

use weir_agent::pipeline::cookie::{Cookie, Kind, Stage};
use weir_agent::pipeline::regs::{self, RegField};
use weir_agent::pipeline::table;
use weir_policy::ids::RuleId;
use weir_policy::rule::{Direction, Tier};
use weirctl::annotate::layout;

#[test]
fn tables() {
    let agent: Vec<(u8, &str)> = table::TABLES.iter().map(|t| (t.0, t.1)).collect();
    let ctl: Vec<(u8, &str)> = layout::TABLES.iter().map(|t| (t.0, t.1)).collect();
    assert_eq!(agent, ctl);
    assert_eq!(
        [
            layout::CLASSIFIER,
            layout::SPOOF_GUARD,
            layout::CONNTRACK_STATE,
            layout::SRC_CLASS,
            layout::DST_CLASS,
            layout::EGRESS_ADMIN,
            layout::EGRESS_RULE,
            layout::INGRESS_ADMIN,
            layout::INGRESS_RULE,
            layout::COMMIT,
            layout::FORWARD,
        ],
        [
            table::CLASSIFIER,
            table::SPOOF_GUARD,
            table::CONNTRACK_STATE,
            table::SRC_CLASS,
            table::DST_CLASS,
            table::EGRESS_ADMIN,
            table::EGRESS_RULE,
            table::INGRESS_ADMIN,
            table::INGRESS_RULE,
            table::COMMIT,
            table::FORWARD,
        ]
    );
}

#[test]
fn cookies() {
    let kinds = [
        (Kind::Base, layout::Kind::Base),
        (Kind::Allow, layout::Kind::Allow),
        (Kind::Deny, layout::Kind::Deny),
        (Kind::Clause, layout::Kind::Clause),
        (Kind::Isolation, layout::Kind::Isolation),
        (Kind::AlwaysAllowed, layout::Kind::AlwaysAllowed),
        (Kind::SpoofGuard, layout::Kind::SpoofGuard),
        (Kind::Trace, layout::Kind::Trace),
        (Kind::Staged, layout::Kind::Staged),
    ];
    let stages = [
        (Stage::NONE, None),
        (Stage::new(Tier::NetworkPolicy, Direction::Egress), Some(false)),
        (Stage::new(Tier::NetworkPolicy, Direction::Ingress), Some(true)),
        (Stage::new(Tier::Admin, Direction::Egress), Some(false)),
        (Stage::new(Tier::Baseline, Direction::Ingress), Some(true)),
    ];
    for (written, kind) in kinds {
        for (stage, ingress) in stages {
            let read = layout::Cookie::read(Cookie::encode(written, stage, 0x2c91_e07a)).unwrap();
            assert_eq!(read, layout::Cookie { kind, ingress, id: 0x2c91_e07a });
            assert_eq!(read.owner().as_str(), written.owner());
        }
    }
    assert_eq!(layout::FIRST_ID, RuleId::FIRST);
}

#[test]
fn registers() {
    let whole = |f: RegField, reg: u8| f.reg == reg && f.offset == 0 && f.bits == 32;
    assert!(whole(regs::SRC_CLASS, layout::REG_SRC_CLASS));
    assert!(whole(regs::DST_CLASS, layout::REG_DST_CLASS));
    assert!(whole(regs::EGRESS_RULE, layout::REG_EGRESS_RULE));
    assert!(whole(regs::INGRESS_RULE, layout::REG_INGRESS_RULE));
    assert_eq!(layout::MARK_REVOKED, 1 << regs::CT_REVOKED.offset);
    assert_eq!(layout::MARK_UNSURE, 1 << regs::CT_UNSURE.offset);

    let mask = |f: RegField| ((1_u128 << f.bits) - 1) << f.offset;
    let at = |f: RegField, value: u32| (mask(f), u128::from(value) << f.offset);
    let ctl: Vec<(u128, u128)> = layout::REG0.iter().map(|(m, v, _)| (*m, *v)).collect();
    assert_eq!(
        ctl,
        [
            at(regs::ORIGIN, regs::origin::WORKLOAD),
            at(regs::ORIGIN, regs::origin::UPLINK),
            at(regs::ORIGIN, regs::origin::GATEWAY),
            at(regs::ORIGIN_HERE, 1),
            at(regs::SELF_TRAFFIC, 1),
            at(regs::OWN_NODE, 1),
            at(regs::DST_LOCAL, 1),
            at(regs::SRC_LOCAL, 1),
        ]
    );
    let in_reg0 = regs::FIELDS.iter().filter(|f| f.store == regs::Store::Reg && f.reg == 0);
    assert_eq!(
        in_reg0.map(|f| mask(*f)).sum::<u128>(),
        ctl.iter().fold(0, |all, (m, _)| all | m),
        "a field of reg0 is not known to weirctl"
    );
}
