mod rig;

use std::collections::BTreeSet;

use rust_openflow::{Action, Instruction, Match, port};
use weir_policy::state::Change;

use super::*;
use crate::diff::diff;
use crate::flow::{FlowKey, FlowTable, FlowValue};
use crate::pipeline::cookie::{Cookie, Kind};
use rig::{
    Answer, FakeSwitch, Rig, RigConfig, endpoint, peers, picture, policy_state, rule_id,
    two_policies,
};

/// What a full computation from nothing wants for this state on these ports.
fn wanted(state: Option<&NodeState>, picture: &SwitchState) -> FlowTable {
    let ports = ports::read(picture, &rig::port_config());
    let mut desired = Desired::new(PipelineConfig::default(), BTreeMap::new());
    desired.update(state, &Touched::default(), &ports);
    desired.flows().clone()
}

fn foreign() -> (FlowKey, FlowValue) {
    let key = FlowKey { table: 0, priority: 7, match_: Match::new() };
    let normal = Action::Output { port: port::NORMAL, max_len: 0 };
    (key, FlowValue { cookie: 0, instructions: vec![Instruction::ApplyActions(vec![normal])] })
}

#[tokio::test(start_paused = true)]
async fn nothing_is_touched_before_ovsdb_and_switch_are_there() {
    let mut rig = Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
    let switch = FakeSwitch::new();
    rig.connect(&switch);
    rig.overview(|o| o.switch.connected).await;
    assert_eq!((switch.dumps(), switch.commits().len()), (0, 0));
    rig.picture(picture(&[]));
    rig.following().await;
    assert!(switch.dumps() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_state_becomes_flows_and_is_verified_and_acknowledged() {
    let mut rig = Rig::start(RigConfig::default());
    let (switch, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0"), (2, "shop/other")]));
    rig.snapshot(1, 10, policy_state()).await;
    rig.picture(ports.clone());
    rig.connect(&switch);
    let report = rig.report(|r| r.revision == 10).await;
    assert_eq!(switch.table(), wanted(Some(&policy_state()), &ports));
    assert_eq!((switch.dumps(), switch.commits().len()), (2, 1));
    assert_eq!(report.results.len(), policy_state().policies.len());
    assert!(report.results.values().all(|o| o.failures.is_empty() && o.generation == 1));
    let table = switch.table();
    let rules = table.values().filter(|v| {
        Cookie::read(v.cookie).is_some_and(|c| matches!(c.kind, Kind::Allow | Kind::Clause))
    });
    let told: u32 = report.results.values().map(|o| o.flows).sum();
    assert_eq!(told as usize, rules.count(), "flows of the only policy");
    assert_eq!((report.ports_ready, report.ports_closed), (1, 1));
    assert_eq!(report.flows as usize, switch.table().len());
    assert!(rig.ready.is_ready(), "{:?}", rig.ready.report());
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_a_state_on_disk_sends_nothing() {
    let ports = picture(&[(1, "shop/db-0")]);
    let (switch, directory) = (FakeSwitch::new(), tempfile::tempdir().unwrap());
    let mut rig =
        Rig::start(RigConfig { directory: Some(directory.path()), ..RigConfig::default() });
    rig.picture(ports.clone());
    rig.snapshot(1, 10, policy_state()).await;
    rig.connect(&switch);
    rig.report(|r| r.revision == 10).await;
    rig.delta(1, 11, vec![endpoint("shop", "db-1", "n2", "10.0.2.1", &peers())]).await;
    rig.report(|r| r.revision == 11).await;
    rig.stop().await;
    let (before, commits) = (switch.table(), switch.commits().len());

    let mut rig =
        Rig::start(RigConfig { directory: Some(directory.path()), ..RigConfig::default() });
    rig.picture(ports);
    rig.connect(&switch);
    rig.following().await;
    assert_eq!(switch.commits().len(), commits);
    assert_eq!(switch.table(), before);
    assert!(rig.ready.is_ready());
    // and the controller that comes back with the same state changes nothing either
    let mut state = policy_state();
    state.apply([endpoint("shop", "db-1", "n2", "10.0.2.1", &peers())]);
    rig.snapshot(1, 12, state).await;
    assert_eq!(rig.report(|r| r.revision == 12).await.results.len(), 1);
    assert_eq!(switch.commits().len(), commits);
}

/// What a controller is told to be held is what it told, with all that came since, or nothing.
#[tokio::test(start_paused = true)]
async fn what_is_held_is_known_exactly_or_not_told() {
    let rig = Rig::start(RigConfig::default());
    assert_eq!(rig.held().await, None);
    let mut state = policy_state();
    let more = endpoint("shop", "db-1", "n2", "10.0.2.1", &peers());
    rig.snapshot(1, 10, state.clone()).await;
    rig.delta(1, 11, vec![more.clone()]).await;
    state.apply([more]);
    assert_eq!(rig.held().await, Some(state.clone()));
    let key = state.policies.keys().next().unwrap().clone();
    for policy in [Some((key, 1)), None] {
        let refusal = Refusal { policy, reason: "of a later version".to_owned() };
        rig.snapshot_with(1, 12, state.clone(), vec![refusal]).await;
        assert_eq!(rig.held().await, None, "a part of it is closed instead");
        rig.snapshot(1, 13, state.clone()).await;
        assert_eq!(rig.held().await, Some(state.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_state_an_empty_bridge_is_closed() {
    let mut rig = Rig::start(RigConfig::default());
    let (switch, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    switch.change(|t| t.extend([foreign()]));
    rig.picture(ports.clone());
    rig.connect(&switch);
    rig.overview(|o| o.switch.phase.contains("closed")).await;
    assert_eq!(switch.table(), wanted(None, &ports));
    assert!(!rig.ready.is_ready());
    // a port that comes is closed too, one of the node is taken in
    let more = picture(&[(1, "shop/db-0"), (2, "shop/db-1")]);
    rig.picture(more.clone());
    rig.overview(|o| o.ports.workloads.len() == 2).await;
    assert_eq!(switch.table(), wanted(None, &more));
    rig.snapshot(1, 10, policy_state()).await;
    rig.report(|r| r.revision == 10).await;
    assert_eq!(switch.table(), wanted(Some(&policy_state()), &more));
}

#[tokio::test(start_paused = true)]
async fn without_a_state_flows_of_an_earlier_one_stay_until_a_state_comes() {
    let ports = picture(&[(1, "shop/db-0")]);
    let switch = FakeSwitch::new();
    switch.change(|t| {
        *t = wanted(Some(&policy_state()), &ports);
        t.extend([foreign()]);
    });
    let before = switch.table();
    let mut rig = Rig::start(RigConfig::default());
    rig.picture(ports);
    rig.connect(&switch);
    rig.overview(|o| o.switch.phase.starts_with("holding")).await;
    // neither ports nor the drift timer move it
    let more = picture(&[(1, "shop/db-0"), (2, "shop/db-1")]);
    rig.picture(more.clone());
    rig.overview(|o| o.ports.workloads.len() == 2).await;
    tokio::time::advance(rig::DRIFT * 3).await;
    rig.settle().await;
    assert_eq!(switch.table(), before);
    assert!(switch.commits().is_empty());
    assert!(!rig.ready.is_ready());

    rig.snapshot(1, 10, policy_state()).await;
    rig.report(|r| r.revision == 10).await;
    assert_eq!(switch.table(), wanted(Some(&policy_state()), &more));
    // the foreign flow, and no more: the rest was right, and the new port has no endpoint
    assert_eq!(switch.commits(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_sends_the_difference_only() {
    let mut rig = Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
    let (switch, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    rig.picture(ports.clone());
    rig.connect(&switch);
    rig.following().await;
    let full = switch.table();
    rig.disconnect();
    rig.overview(|o| !o.switch.connected).await;
    assert!(!rig.ready.is_ready());
    switch.change(|t| {
        t.pop_last();
        t.extend([foreign()]);
    });
    rig.connect(&switch);
    rig.following().await;
    assert_eq!(switch.table(), full);
    assert_eq!(switch.commits()[1..], [2]);
    // what changes meanwhile is in the difference
    rig.disconnect();
    rig.overview(|o| !o.switch.connected).await;
    rig.snapshot(1, 11, two_policies()).await;
    rig.connect(&switch);
    rig.report(|r| r.revision == 11).await;
    assert_eq!(switch.table(), wanted(Some(&two_policies()), &ports));
}

/// OVS deletes all flows at a change of `fail_mode`, some time after the database shows it.
#[tokio::test(start_paused = true)]
async fn a_changed_fail_mode_makes_the_flows_doubtful() {
    let mut rig = Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
    let (switch, secure) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    rig.picture(secure.clone());
    rig.connect(&switch);
    rig.following().await;
    let (full, began) = (switch.table(), Instant::now());
    let wipe = |t: &mut FlowTable| *t = FlowTable::from_iter([foreign()]);
    let mut open = secure.clone();
    open.bridges.get_mut("br-int").unwrap().fail_mode = None;
    switch.change(wipe);
    rig.picture(open.clone());
    let overview = rig.overview(|o| o.counters.foreign == 1).await;
    assert!(overview.gaps[0].starts_with("fail_mode of br-int is not secure"), "{overview}");
    assert_eq!(switch.table(), full);
    // later than the row, when the database says that it is done
    switch.change(wipe);
    open.system.cur_cfg = 7;
    rig.picture(open.clone());
    rig.overview(|o| o.counters.foreign == 2).await;
    assert_eq!(switch.table(), full);
    // and where it does not say so
    switch.change(wipe);
    rig.overview(|o| o.counters.foreign == 3).await;
    assert_eq!(switch.table(), full);
    assert!(began.elapsed() < Duration::from_secs(10), "long before the regular check");
    rig.picture(secure);
    rig.overview(|o| o.gaps.iter().all(|g| !g.starts_with("fail_mode"))).await;
}

#[tokio::test(start_paused = true)]
async fn an_ovs_restart_gets_everything_again() {
    let mut rig = Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
    let (old, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    rig.picture(ports.clone());
    rig.connect(&old);
    rig.following().await;
    let new = FakeSwitch::new();
    rig.connect(&new);
    rig.overview(|o| o.counters.bundles == 2).await;
    assert_eq!(new.table(), wanted(Some(&policy_state()), &ports));
}

#[tokio::test(start_paused = true)]
async fn a_refused_rule_is_named_and_the_rest_installed() {
    let mut rig = Rig::start(RigConfig::default());
    let (switch, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    let bad = rule_id(&two_policies(), "allow-b");
    switch.answer_always(Answer::RefuseCookie(bad.0));
    rig.picture(ports.clone());
    rig.connect(&switch);
    rig.snapshot(1, 10, two_policies()).await;
    let report = rig.report(|r| r.revision == 10).await;
    let failures =
        |name: &str| report.results[&PolicyKey::network_policy("shop", name)].failures.join("; ");
    assert_eq!(failures("allow-a"), "");
    assert_eq!(failures("allow-b"), "ingress[0]: the switch refused it: OFPFMFC_TABLE_FULL");
    // all but this rule is there, and its subjects stay isolated
    let mut state = two_policies();
    let mut expected = Desired::new(PipelineConfig::default(), BTreeMap::new());
    expected.update(Some(&state), &Touched::default(), &ports::read(&ports, &rig::port_config()));
    let all = expected.flows().len();
    expected.fail_rule(bad, String::new());
    assert_eq!(&switch.table(), expected.flows());
    assert!(switch.table().len() < all);

    // the policy as it can be installed is whole again, and said to be
    switch.answer_always(Answer::Take);
    let key = PolicyKey::network_policy("shop", "allow-b");
    let policy = state.policies.get_mut(&key).unwrap();
    policy.generation = 2;
    policy.rules.clear();
    rig.delta(1, 11, vec![Change::Policy(policy.clone())]).await;
    let report = rig.report(|r| r.revision == 11).await;
    assert_eq!(report.results.keys().collect::<Vec<_>>(), [&key]);
    assert!(report.results[&key].failures.is_empty() && report.results[&key].generation == 2);
    assert_eq!(switch.table(), wanted(Some(&state), &ports));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_no_rule_causes_is_reported_and_tried_again() {
    let mut rig = Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
    let (switch, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    rig.picture(ports.clone());
    rig.connect(&switch);
    rig.following().await;
    rig.snapshot(1, 10, policy_state()).await;
    rig.report(|r| r.revision == 10).await;

    switch.answer_always(Answer::RefuseAny);
    let change = endpoint("shop", "db-1", "n2", "10.0.2.1", &peers());
    rig.delta(1, 11, vec![change.clone()]).await;
    let report = rig.report(|r| !r.gaps.is_empty()).await;
    assert_eq!(report.revision, 10);
    assert!(report.gaps[0].contains("OFPFMFC_TABLE_FULL"), "{:?}", report.gaps);
    assert_eq!(switch.table(), wanted(Some(&policy_state()), &ports));
    assert!(!rig.ready.is_ready());

    switch.answer_always(Answer::Take);
    let report = rig.report(|r| r.revision == 11).await;
    assert!(report.gaps.is_empty());
    let mut state = policy_state();
    state.apply([change]);
    assert_eq!(switch.table(), wanted(Some(&state), &ports));
    assert!(rig.ready.is_ready());
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_the_switch_is_asked_what_it_has() {
    for applied in [false, true] {
        let mut rig =
            Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
        let (switch, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
        rig.picture(ports.clone());
        rig.connect(&switch);
        rig.following().await;
        let (commits, dumps) = (switch.commits().len(), switch.dumps());
        switch.answer_once(Answer::Unknown { applied });
        let mut state = policy_state();
        let change = endpoint("shop", "db-1", "n2", "10.0.2.1", &peers());
        state.apply([change.clone()]);
        rig.snapshot(1, 10, state.clone()).await;
        rig.report(|r| r.revision == 10).await;
        assert_eq!(switch.table(), wanted(Some(&state), &ports));
        assert!(switch.dumps() > dumps);
        // the one whose outcome was lost, and another only where it was not applied
        assert_eq!(switch.commits().len() - commits, if applied { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_in_a_bundle_ends_on_the_next_one() {
    let mut rig = Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
    let (old, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    rig.picture(ports.clone());
    rig.connect(&old);
    rig.following().await;
    old.answer_always(Answer::Dead);
    rig.snapshot(1, 10, two_policies()).await;
    rig.report(|r| !r.gaps.is_empty()).await;
    let new = FakeSwitch::new();
    rig.connect(&new);
    rig.report(|r| r.revision == 10 && r.gaps.is_empty()).await;
    assert_eq!(new.table(), wanted(Some(&two_policies()), &ports));
}

#[tokio::test(start_paused = true)]
async fn what_waits_while_a_bundle_is_under_way_becomes_one_bundle() {
    let mut rig = Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
    let (switch, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    rig.picture(ports.clone());
    rig.connect(&switch);
    rig.following().await;
    rig.snapshot(1, 9, policy_state()).await;
    rig.report(|r| r.revision == 9).await;
    let commits = switch.commits().len();
    let go = switch.hold_next();
    let mut state = policy_state();
    for n in 1..=5_u8 {
        let name = format!("db-{n}");
        let change = endpoint("shop", &name, "n2", &format!("10.0.2.{n}"), &peers());
        state.apply([change.clone()]);
        rig.delta(1, 9 + u64::from(n), vec![change]).await;
        if n == 1 {
            switch.held().await;
        }
    }
    go.send(()).unwrap();
    let report = rig.report(|r| r.revision == 14).await;
    assert_eq!(report.revision, 14);
    assert_eq!(switch.commits().len() - commits, 2);
    assert_eq!(switch.table(), wanted(Some(&state), &ports));
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_not_understood_is_refused_by_name_until_it_is() {
    let mut rig = Rig::start(RigConfig::default());
    let switch = FakeSwitch::new();
    rig.picture(picture(&[(1, "shop/db-0")]));
    rig.connect(&switch);
    let (a, b) = (
        PolicyKey::network_policy("shop", "allow-a"),
        PolicyKey::network_policy("shop", "allow-b"),
    );
    let refused = vec![
        Refusal { policy: Some((b.clone(), 4)), reason: "rules[0]: action 99".to_owned() },
        Refusal { policy: None, reason: "profile in shop: labels".to_owned() },
    ];
    rig.snapshot_with(1, 10, two_policies(), refused).await;
    let report = rig.report(|r| r.revision == 10).await;
    assert!(report.results[&a].failures.is_empty());
    assert_eq!(report.results[&b].failures, ["not understood: rules[0]: action 99"]);
    assert_eq!(report.results[&b].generation, 4);
    assert_eq!(report.gaps, ["not understood: profile in shop: labels"]);

    let mut policy = two_policies().policies[&b].clone();
    policy.generation = 5;
    rig.delta(1, 11, vec![Change::Policy(policy)]).await;
    let report = rig.report(|r| r.revision == 11).await;
    assert_eq!(report.results.keys().collect::<Vec<_>>(), [&b]);
    assert!(report.results[&b].failures.is_empty());
}

#[tokio::test(start_paused = true)]
async fn drift_is_found_repaired_and_counted() {
    let mut rig = Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
    let switch = FakeSwitch::new();
    rig.picture(picture(&[(1, "shop/db-0")]));
    rig.connect(&switch);
    rig.following().await;
    let (full, dumps) = (switch.table(), switch.dumps());
    tokio::time::advance(rig::DRIFT).await;
    rig.settle().await;
    // nothing to repair: one dump, no bundle
    assert_eq!((switch.dumps() - dumps, switch.commits().len()), (1, 1));
    switch.change(|t| {
        t.pop_first();
        t.extend([foreign()]);
        if let Some(mut altered) = t.last_entry() {
            altered.get_mut().cookie ^= 1;
        }
    });
    tokio::time::advance(rig::DRIFT).await;
    let seen = rig.overview(|o| o.counters.drift > 0).await;
    assert_eq!((seen.counters.drift, seen.counters.foreign), (3, 1));
    let found = Drift { missing: 1, altered: 1, stale: 0, foreign: 1 };
    assert_eq!((seen.counters.found, seen.counters.repaired), (found, found));
    let by_drift: u64 =
        seen.counters.changes.iter().filter(|(_, why, _)| *why == Why::Drift).map(|c| c.2).sum();
    assert_eq!(by_drift, 3);
    tokio::time::advance(rig::DRIFT).await;
    rig.settle().await;
    // nothing the next time
    let seen = rig.overview(|o| o.counters.found == Drift::default()).await;
    assert_eq!(seen.counters.repaired, found);
    assert_eq!(switch.table(), full);
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_is_told_everything_and_nobody_before_the_first() {
    let mut rig = Rig::start(RigConfig { stored: Some(two_policies()), ..RigConfig::default() });
    let switch = FakeSwitch::new();
    rig.picture(picture(&[(1, "shop/db-0")]));
    rig.connect(&switch);
    rig.following().await;
    assert!(rig.no_report());
    for (stream, revision) in [(1, 50), (2, 3)] {
        rig.snapshot(stream, revision, two_policies()).await;
        let report = rig.report(|r| r.stream == stream).await;
        assert_eq!((report.revision, report.results.len()), (revision, 2));
    }
    // the same words again: only the revision is news
    rig.snapshot(2, 4, two_policies()).await;
    assert!(rig.report(|r| r.revision == 4).await.results.is_empty());
    assert_eq!(switch.commits().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_datapath_without_sctp_ports_is_a_gap() {
    assert!(sctp_tracked("system", "2.17.0") && sctp_tracked("", "3.1.0"));
    assert!(sctp_tracked("netdev", "3.2.0") && sctp_tracked("netdev", "4.0.1"));
    assert!(!sctp_tracked("netdev", "3.1.9") && !sctp_tracked("netdev", "2.17.8"));
    assert!(!sctp_tracked("netdev", "") && !sctp_tracked("netdev", "three"));

    let mut rig = Rig::start(RigConfig::default());
    let (switch, mut netdev) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    netdev.bridges.get_mut("br-int").unwrap().datapath_type = "netdev".to_owned();
    netdev.system.ovs_version = "3.1.0".to_owned();
    rig.picture(netdev.clone());
    rig.connect(&switch);
    rig.snapshot(1, 10, policy_state()).await;
    let report = rig.report(|r| r.revision == 10).await;
    assert!(report.gaps[0].contains("SCTP"), "{:?}", report.gaps);
    let before = switch.table();
    netdev.system.ovs_version = "3.3.0".to_owned();
    rig.picture(netdev.clone());
    rig.report(|r| r.gaps.is_empty()).await;
    assert_ne!(switch.table(), before);
    assert_eq!(switch.table(), wanted(Some(&policy_state()), &netdev));
}

#[tokio::test(start_paused = true)]
async fn a_bridge_that_goes_and_comes_is_waited_for() {
    let mut rig = Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
    let (switch, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    rig.picture(SwitchState::default());
    rig.connect(&switch);
    rig.overview(|o| o.switch.phase.contains("bridge")).await;
    rig.picture(ports.clone());
    rig.following().await;
    rig.picture(SwitchState::default());
    rig.overview(|o| o.switch.phase.contains("bridge")).await;
    assert!(!rig.ready.is_ready());
    assert_eq!(switch.commits().len(), 1);
    rig.picture(ports);
    rig.following().await;
    assert!(rig.ready.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_delta_changes_only_the_flows_it_needs() {
    let mut rig = Rig::start(RigConfig::default());
    let (switch, ports) = (FakeSwitch::new(), picture(&[(1, "shop/db-0")]));
    rig.picture(ports.clone());
    rig.connect(&switch);
    rig.snapshot(1, 10, policy_state()).await;
    rig.report(|r| r.revision == 10).await;
    let mut state = policy_state();
    let change = endpoint("shop", "db-1", "n2", "10.0.2.1", &peers());
    state.apply([change.clone()]);
    let needed = diff(&wanted(Some(&state), &ports), &switch.table()).len();
    rig.delta(1, 11, vec![change]).await;
    rig.report(|r| r.revision == 11).await;
    assert_eq!(switch.commits()[1..], [needed]);
    assert!(needed <= 4, "{needed} flows for one address");
}

#[tokio::test(start_paused = true)]
async fn symbols_are_answered_and_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig =
        Rig::start(RigConfig { directory: Some(directory.path()), ..RigConfig::default() });
    rig.picture(picture(&[(1, "shop/db-0")]));
    rig.connect(&FakeSwitch::new());
    rig.snapshot(1, 10, two_policies()).await;
    rig.report(|r| r.revision == 10).await;
    let text = rig.symbols().await;
    assert!(text.contains("allow-a") && text.lines().count() > 1, "{text}");
    assert!(text.lines().all(|l| l.starts_with('{') && l.ends_with('}')));
    tokio::time::advance(SYMBOLS_DELAY).await;
    rig.settle().await;
    rig.stop().await;
    assert_eq!(std::fs::read_to_string(directory.path().join("symbols.jsonl")).unwrap(), text);
}

#[tokio::test(start_paused = true)]
async fn a_port_change_alone_is_followed() {
    let mut rig = Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
    let switch = FakeSwitch::new();
    rig.picture(picture(&[]));
    rig.connect(&switch);
    rig.following().await;
    let with = picture(&[(7, "shop/db-0")]);
    rig.picture(with.clone());
    rig.overview(|o| o.switch.ports_ready == 1).await;
    assert_eq!(switch.table(), wanted(Some(&policy_state()), &with));
    // the number goes to another interface
    let moved = picture(&[(9, "shop/db-0")]);
    rig.picture(moved.clone());
    rig.overview(|o| o.ports.workloads.contains_key(&9)).await;
    assert_eq!(switch.table(), wanted(Some(&policy_state()), &moved));
}

#[test]
fn rules_used_here_have_flows() {
    let ports = picture(&[(1, "shop/db-0")]);
    let flows = wanted(Some(&two_policies()), &ports);
    for name in ["allow-a", "allow-b"] {
        let id = rule_id(&two_policies(), name);
        let count = flows.values().filter(|v| v.cookie & 0xffff_ffff == u64::from(id.0)).count();
        assert!(count > 0, "{name}");
    }
    let closed: BTreeSet<_> = wanted(None, &ports).into_keys().collect();
    assert!(closed.len() < flows.len());
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_class_numbers_that_only_history_explains() {
    let ports = picture(&[(1, "shop/db-0")]);
    // whoever comes first has the lower number; from nothing it is the other way round for one of the two
    let mut histories = Vec::new();
    for first in ["shop/db-0", "shop/api-0"] {
        let switch = FakeSwitch::new();
        let mut rig = Rig::start(RigConfig::default());
        rig.picture(ports.clone());
        rig.connect(&switch);
        let mut early = policy_state();
        early.endpoints.retain(|id, _| &*id.0 == first);
        rig.snapshot(1, 1, early).await;
        rig.report(|r| r.revision == 1).await;
        rig.snapshot(1, 2, policy_state()).await;
        rig.report(|r| r.revision == 2).await;
        let (before, commits) = (switch.table(), switch.commits().len());

        let mut rig =
            Rig::start(RigConfig { stored: Some(policy_state()), ..RigConfig::default() });
        rig.picture(ports.clone());
        rig.connect(&switch);
        rig.following().await;
        assert_eq!(switch.commits().len(), commits, "{first}");
        assert_eq!(switch.table(), before);
        histories.push(before);
    }
    assert_ne!(histories[0], histories[1]);
}
