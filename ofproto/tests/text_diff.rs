//! Differences between sets of flows, against `ovs-ofctl diff-flows`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/ovs.rs"]
#[allow(dead_code, reason = "this test needs no switch")]
mod ovs;
#[path = "support/strategy.rs"]
mod strategy;

use std::io::Write as _;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rust_openflow::text::{self, Names};
use rust_openflow::{Action, FlowMod, Instruction};

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Ours against theirs; ovs-ofctl walks its classifier, so that its order of lines means nothing.
fn compare(a: &str, b: &str) -> String {
    let file = |text: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    let (x, y) = (file(a), file(b));
    let (x, y) = (x.path().display().to_string(), y.path().display().to_string());
    let output = ovs::run("ovs-ofctl", &["-O", "OpenFlow13", "diff-flows", &x, &y]);
    let refusal = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 2)), "{refusal}");
    let theirs = String::from_utf8(output.stdout).unwrap();
    let ours = text::diff(a, b).unwrap();
    assert_eq!(sorted(&ours), sorted(&theirs));
    assert_eq!(ours.is_empty(), output.status.code() == Some(0));
    ours
}

#[test]
fn each_kind_of_difference() {
    let a = "
        # what is equal in both
        table=1,priority=5,ip,nw_src=10.0.0.0/8 actions=output:1
        actions=output:1
        table=255,ip actions=output:1
        # other actions, cookie, timeouts
        tcp actions=drop
        cookie=5,udp actions=drop
        sctp,hard_timeout=4 actions=drop
        sctp,tp_dst=4,importance=3 actions=drop
        # only here
        table=3,priority=3 actions=drop
        # of two the last counts
        table=4,ip actions=output:1
        table=4,ip actions=output:2
        # flags make no difference
        table=5,send_flow_rem actions=drop
        # another spelling of the same
        table=6,xreg0=0x100000002 actions=drop
        table=7,reg0=1 actions=load:1->NXM_NX_REG0[0..1]
        ";
    let b = "
        table=1,priority=5,ip,nw_src=10.0.0.1/8 actions=1
        cookie=0x7, duration=1.5s, n_packets=1, n_bytes=2, actions=output:1
        ip actions=output:1
        tcp actions=output:5
        udp actions=drop
        sctp,idle_timeout=4 actions=drop
        sctp,tp_dst=4 actions=drop
        table=4,ip actions=output:2
        table=5 actions=
        table=6,reg0=1,reg1=2 actions=drop
        table=7,reg0=1 actions=load:0x1->reg0[0..1]
        ";
    let lines = compare(a, b);
    assert!(lines.contains("-table=3 priority=3 actions=drop\n"), "{lines}");
    assert_eq!(compare(a, a), "");
    compare(b, a);
}

#[test]
fn generated_sets() {
    let mut runner = TestRunner::deterministic();
    let mut set = |n| -> Vec<FlowMod> {
        (0..n).map(|_| strategy::flows().new_tree(&mut runner).unwrap().current()).collect()
    };
    let (a, more) = (set(300), set(100));
    let changed = a.iter().enumerate().map(|(n, flow)| {
        let mut flow = flow.clone();
        match n % 3 {
            0 => flow.cookie ^= 1,
            1 => flow.idle_timeout ^= 1,
            _ => flow.instructions = vec![Instruction::ApplyActions(vec![Action::output(7)])],
        }
        flow
    });
    let b: Vec<FlowMod> =
        a[100..].iter().cloned().chain(changed.skip(30)).chain(more.clone()).collect();
    let lines = |flows: &[FlowMod]| -> String {
        flows.iter().map(|f| text::flow_mod(f, &Names::default()) + "\n").collect()
    };
    compare(&lines(&a), &lines(&b));
}

#[test]
fn a_bad_line_is_named() {
    let error = text::diff("ip actions=drop", "\n# none\nip actions=fly").unwrap_err();
    assert_eq!(error.to_string(), "second file, line 3: unknown action \"fly\"");
    let error = text::diff("ip actions=drop\ndelete ip", "").unwrap_err();
    assert!(error.to_string().starts_with("first file, line 2: "), "{error}");
}
