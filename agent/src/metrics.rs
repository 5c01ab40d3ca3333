//! What the agent tells Prometheus: its overview, read when somebody asks, and how long things take.
//!
//! `docs/metrics.md` lists them; a test compares it with what a program tells.

use tokio::sync::watch;
use weir_runtime::metrics::Metrics;

use crate::reconcile::{Drift, Durations, NOT_UNDERSTOOD, Overview};
use crate::uplink::UplinkStatus;

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn number(n: impl TryInto<u64>) -> f64 {
    n.try_into().unwrap_or(u64::MAX) as f64
}

/// All metrics of an agent. `ovsdb` tells whether there is a picture of the switch's database.
pub fn metrics(
    overview: watch::Receiver<Overview>,
    uplink: watch::Receiver<UplinkStatus>,
    ovsdb: impl Fn() -> bool + Send + Sync + 'static,
    durations: &Durations,
) -> Metrics {
    let mut metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    metrics.seconds_by(
        "weir_agent_bundle_duration_seconds",
        "From a bundle on its way to the switch's answer",
        "result",
        [("ok", durations.bundles.clone()), ("failed", durations.failed_bundles.clone())],
    );
    metrics.seconds(
        "weir_agent_endpoint_ready_duration_seconds",
        "From a new workload port seen in OVSDB to its flows in the switch",
        &durations.endpoint_ready,
    );
    metrics.at_scrape(move |samples| {
        // a copy, so that no lock is held while we write
        let overview = overview.borrow().clone();
        let (switch, c) = (&overview.switch, &overview.counters);
        let yes = |is: bool| f64::from(u8::from(is));
        let uplink = uplink.borrow().clone();
        samples.gauges(
            "weir_agent_connected",
            "1 for each peer that the agent is connected to",
            "peer",
            [
                ("controller", yes(uplink.connected)),
                ("openflow", yes(switch.connected)),
                ("ovsdb", yes(ovsdb())),
            ],
        );
        let revision = overview.revision.map_or(0.0, number);
        samples.gauge(
            "weir_agent_revision",
            "Revision of the controller's picture that the agent works from; 0 without one",
            [(&[][..], revision)],
        );
        let away = uplink.since.filter(|_| !uplink.connected).map(|since| since.elapsed());
        samples.gauge(
            "weir_agent_revision_age_seconds",
            "How long no controller has confirmed this picture; 0 while connected to one",
            [(&[][..], away.unwrap_or_default().as_secs_f64())],
        );
        samples.gauges(
            "weir_agent_state_objects",
            "What the controller has told of this node",
            "kind",
            [
                ("endpoint", number(overview.endpoints)),
                ("group", number(overview.groups)),
                ("policy", number(overview.policies)),
                ("profile", number(overview.profiles)),
            ],
        );
        let flows: Vec<([(&'static str, String); 2], f64)> = switch
            .by_owner
            .iter()
            .map(|(table, owner, n)| {
                ([("table", table.to_owned()), ("owner", owner.to_owned())], number(n))
            })
            .collect();
        samples.gauge(
            "weir_agent_flows",
            "Flows in the switch, as acknowledged or read back",
            flows.iter().map(|(labels, n)| (&labels[..], *n)),
        );
        samples.gauges(
            "weir_agent_endpoints",
            "Workload ports: ready, waiting for their endpoint and closed until then, closed as nobody knows whose they are",
            "state",
            [
                ("closed", number(overview.ports.unknown.len())),
                ("ready", number(switch.ports_ready)),
                ("waiting", number(switch.ports_closed)),
            ],
        );
        let failures = || overview.failures.values().flatten();
        let foreign_words = failures().filter(|f| f.starts_with(NOT_UNDERSTOOD)).count();
        samples.gauges(
            "weir_agent_rules_failed",
            "Rules that are not in force: the switch refused them, or the agent does not understand them",
            "reason",
            [
                ("not-understood", number(foreign_words)),
                ("switch", number(failures().count() - foreign_words)),
            ],
        );
        samples.counter("weir_agent_bundles", "Bundles that the switch took", [(&[][..], number(c.bundles))]);
        let changes: Vec<([(&'static str, String); 2], f64)> = c
            .changes
            .iter()
            .map(|(op, why, n)| {
                ([("op", op.to_owned()), ("cause", why.as_str().to_owned())], number(n))
            })
            .collect();
        samples.counter(
            "weir_agent_flow_changes",
            "Flow changes in these",
            changes.iter().map(|(labels, n)| (&labels[..], *n)),
        );
        samples.counters(
            "weir_agent_openflow_errors",
            "Bundles that failed: for one flow, as a whole, without an answer",
            "type",
            [
                ("refused-bundle", number(c.rejected)),
                ("refused-flow", number(c.refused)),
                ("unanswered", number(c.unanswered)),
            ],
        );
        let types = |d: Drift| {
            [
                ("altered", number(d.altered)),
                ("foreign", number(d.foreign)),
                ("missing", number(d.missing)),
                ("stale", number(d.stale)),
            ]
        };
        samples.gauges(
            "weir_agent_drift_flows",
            "Flows that the last regular check found otherwise than they should be",
            "type",
            types(c.found),
        );
        samples.counters(
            "weir_agent_drift_repaired",
            "Flows that regular checks found otherwise and put right",
            "type",
            types(c.repaired),
        );
        samples.counter(
            "weir_agent_foreign_flows_removed",
            "Flows of others that were removed, at whatever comparison",
            [(&[][..], number(c.foreign))],
        );
    });
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overview_as_numbers() {
        let mut seen = Overview { revision: Some(1841), ..Overview::default() };
        seen.switch.connected = true;
        seen.counters.foreign = 12;
        let (_keep, overview) = watch::channel(seen);
        let (_kept, uplink) = watch::channel(UplinkStatus::default());
        let text = metrics(overview, uplink, || true, &Durations::default()).encode();
        for line in [
            "weir_agent_connected{peer=\"openflow\"} 1",
            "weir_agent_connected{peer=\"controller\"} 0",
            "weir_agent_revision 1841",
            "weir_agent_revision_age_seconds 0",
            "weir_agent_foreign_flows_removed_total 12",
            "weir_agent_flow_changes_total{op=\"delete\",cause=\"drift\"} 0",
            "weir_agent_bundle_duration_seconds_count{result=\"ok\"} 0",
        ] {
            assert!(text.lines().any(|l| l.trim_end_matches(".0") == line), "{line}:\n{text}");
        }
    }
}
