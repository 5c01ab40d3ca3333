//! The text of `weirctl status`.

use std::time::{SystemTime, UNIX_EPOCH};

use weir_api::v1::{NodeStatus, StatusReply};

use super::columns::{columns, thousands};
use crate::cmd::policy::Row;

pub(crate) fn text(status: &StatusReply) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.ok().and_then(|d| i64::try_from(d.as_millis()).ok()).unwrap_or(0);
    at(status, now)
}

/// The text as of a time. Units: milliseconds since 1970.
fn at(status: &StatusReply, now: i64) -> String {
    let mut out = format!("revision {}", status.revision);
    if !status.source.is_empty() {
        out.push_str(&format!("  source {}", status.source));
    }
    out.push_str("\n\n");
    let rows: Vec<Vec<String>> = status.nodes.iter().map(|n| node(n, status, now)).collect();
    let heads = ["NODE", "STATE", "REVISION", "LAST-ACK", "FLOWS", "PORTS", "OVS", "AGENT"];
    let right = [false, false, true, true, true, false, false, false];
    out.push_str(&columns(&heads, &rows, &right));
    for n in &status.nodes {
        for gap in &n.gaps {
            out.push_str(&format!("gap      {}: {gap}\n", n.name));
        }
    }
    out.push('\n');
    let rows: Vec<Row> = status.policies.iter().map(|p| Row::told(p, &status.nodes)).collect();
    out.push_str(&policies(&rows, true));
    if !status.warnings.is_empty() {
        out.push('\n');
    }
    for w in &status.warnings {
        let field = if w.field.is_empty() { String::new() } else { format!(" {}", w.field) };
        // a controller of an earlier version tells none
        let code = if w.code.is_empty() { String::new() } else { format!(" ({})", w.code) };
        out.push_str(&format!("warning  {}{field}: {}{code}\n", w.object, w.message));
    }
    out
}

/// The table of policies. Where nobody told the age of any, it has no column.
pub(crate) fn policies(rows: &[Row], headers: bool) -> String {
    let aged = rows.iter().any(|row| row.age_ms.is_some());
    let mut heads =
        vec!["NAMESPACE", "NAME", "KIND", "GEN", "REALIZED", "P50", "P99", "FLOWS/NODE", "STATE"];
    let mut right = vec![false, false, false, true, true, true, true, true, false];
    if aged {
        heads.insert(heads.len() - 1, "AGE");
        right.insert(right.len() - 1, true);
    }
    let cells: Vec<Vec<String>> = rows.iter().map(|row| cells(row, aged)).collect();
    columns(if headers { &heads } else { &[] }, &cells, &right)
}

fn cells(row: &Row, aged: bool) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut out = vec![
        row.namespace.clone(),
        row.name.clone(),
        "NP".to_owned(),
        row.generation.to_string(),
        format!("{}/{}", row.realized, row.desired),
        or_dash(row.p50.clone()),
        or_dash(row.p99.clone()),
        or_dash(
            row.flows.as_ref().map(|(n, _)| thousands(usize::try_from(*n).unwrap_or(usize::MAX))),
        ),
    ];
    if aged {
        out.push(or_dash(row.age_ms.map(age)));
    }
    out.push(row.state.clone());
    out
}

fn node(n: &NodeStatus, status: &StatusReply, now: i64) -> Vec<String> {
    let state = match (n.connected, n.revision == status.revision) {
        (false, _) => "away",
        (true, true) => "current",
        (true, false) => "behind",
    };
    let ports = match n.ports_closed {
        0 => format!("{} open", n.ports_ready),
        closed => format!("{} open, {closed} closed", n.ports_ready),
    };
    let ago = match n.acknowledged_ms {
        0 => "never".to_owned(),
        then => age(now.saturating_sub(then)),
    };
    let known = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        n.name.clone(),
        state.to_owned(),
        n.revision.to_string(),
        ago,
        thousands(usize::try_from(n.flows).unwrap_or(usize::MAX)),
        ports,
        known(&n.ovs_version),
        known(&n.agent_version),
    ]
}

/// Units: microseconds.
pub(crate) fn milliseconds(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        _ => format!("{}ms", us / 1000),
    }
}

/// `12s`, `3m`, `5h`, `2d`. Units: milliseconds.
pub(super) fn age(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match s {
        0..120 => format!("{s}s"),
        120..7200 => format!("{}m", s / 60),
        7200..172_800 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use weir_api::v1::{PolicyFailure, PolicyKey, PolicyStatus, Warning};

    use super::*;

    fn policy(name: &str, desired: u32, realized: u32, latencies: &[u64]) -> PolicyStatus {
        let key = PolicyKey { kind: 1, namespace: "shop".into(), name: name.into() };
        PolicyStatus {
            policy: Some(key),
            generation: 4,
            nodes_desired: desired,
            nodes_realized: realized,
            latencies_us: latencies.to_vec(),
            ..PolicyStatus::default()
        }
    }

    #[test]
    fn the_look_is_kept() {
        let node = |name: &str| NodeStatus {
            name: name.into(),
            connected: true,
            revision: 1841,
            acknowledged_ms: 1_000_000 - 15_000,
            agent_version: "0.1.0".into(),
            ovs_version: "3.1.0".into(),
            ports_ready: 3,
            flows: 1204,
            ..NodeStatus::default()
        };
        let mut late = policy("web-from-lb", 6, 5, &[14_200, 9_100]);
        late.pending = vec!["n7".into()];
        let mut failed = policy("big-allow", 1, 0, &[]);
        failed.failures = vec![PolicyFailure {
            node: "n5".into(),
            reason: "ingress[0]: switch refused it: OFPFMFC_TABLE_FULL".into(),
        }];
        let status = StatusReply {
            revision: 1841,
            source: "dir:/etc/weir/manifests".into(),
            nodes: vec![
                node("n5"),
                NodeStatus {
                    connected: false,
                    revision: 1779,
                    ports_closed: 1,
                    gaps: vec!["no SCTP ports in its connection tracking".into()],
                    ..node("n7")
                },
            ],
            policies: vec![
                PolicyStatus {
                    flows_max: 1204,
                    flows_node: "n5".into(),
                    ..policy("db-from-api", 2, 2, &[11_000, 19_400])
                },
                late,
                failed,
                policy("old-batch", 0, 0, &[]),
            ],
            warnings: vec![Warning {
                object: "NetworkPolicy shop/legacy".into(),
                field: "spec.ingress[0].from[1].ipBlock.cidr".into(),
                message: "not a CIDR: this peer matches nothing".into(),
                code: "invalid-field".into(),
            }],
        };
        assert_eq!(
            at(&status, 1_000_000),
            "\
revision 1841  source dir:/etc/weir/manifests

NODE  STATE    REVISION  LAST-ACK  FLOWS  PORTS             OVS    AGENT
n5    current      1841       15s  1,204  3 open            3.1.0  0.1.0
n7    away         1779       15s  1,204  3 open, 1 closed  3.1.0  0.1.0
gap      n7: no SCTP ports in its connection tracking

NAMESPACE  NAME         KIND  GEN  REALIZED    P50   P99  FLOWS/NODE  STATE
shop       db-from-api  NP      4       2/2   11ms  19ms       1,204  Realized
shop       web-from-lb  NP      4       5/6  9.1ms  14ms           -  Realizing (n7: not connected)
shop       big-allow    NP      4       0/1      -     -           -  Failed (n5: ingress[0]: switch refused it: OFPFMFC_TABLE_FULL)
shop       old-batch    NP      4       0/0      -     -           -  Realized (no node runs a pod it selects)

warning  NetworkPolicy shop/legacy spec.ingress[0].from[1].ipBlock.cidr: not a CIDR: this peer matches nothing (invalid-field)
"
        );
        assert_eq!(crate::cmd::status::exit(&status), crate::exit::Exit::No);
        let mut only = status;
        crate::cmd::status::keep(&mut only, Some("elsewhere"));
        assert!(only.policies.is_empty() && only.warnings.is_empty() && only.nodes.len() == 2);
    }

    #[test]
    fn times() {
        assert_eq!([age(900), age(119_000), age(121_000)], ["0s", "119s", "2m"]);
        assert_eq!([age(7_200_000), age(172_800_000)], ["2h", "2d"]);
        assert_eq!([milliseconds(940), milliseconds(11_900)], ["0.9ms", "11ms"]);
    }
}
