//! What the agent tells Prometheus: its overview, read when somebody asks, and how long bundles take.

use tokio::sync::watch;
use weir_runtime::metrics::{Metrics, Seconds};

use crate::reconcile::Overview;
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
    bundles: &Seconds,
) -> Metrics {
    let mut metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    metrics.seconds(
        "weir_agent_bundle_duration_seconds",
        "From a bundle on its way to the switch's answer",
        bundles,
    );
    metrics.at_scrape(move |samples| {
        // a copy, so that no lock is held while we write
        let overview = overview.borrow().clone();
        let (switch, c) = (&overview.switch, &overview.counters);
        let yes = |is: bool| f64::from(u8::from(is));
        samples.gauges(
            "weir_agent_connected",
            "1 for each peer that the agent is connected to",
            "peer",
            [
                ("controller", yes(uplink.borrow().connected)),
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
        samples.gauge(
            "weir_agent_flows",
            "Flows in the switch, as acknowledged or read back",
            [(&[][..], number(switch.flows))],
        );
        samples.gauges(
            "weir_agent_endpoints",
            "Workload ports",
            "state",
            [("closed", number(switch.ports_closed)), ("ready", number(switch.ports_ready))],
        );
        samples.gauge(
            "weir_agent_rules_failed",
            "Rules that the switch or the agent refuses",
            [(&[][..], number(overview.failures.values().map(Vec::len).sum::<usize>()))],
        );
        for (name, help, value) in [
            ("weir_agent_bundles", "Bundles that the switch took", c.bundles),
            ("weir_agent_flow_changes", "Flow changes in these", c.changes),
            ("weir_agent_openflow_errors", "Bundles that the switch refused", c.refused),
        ] {
            samples.counter(name, help, [(&[][..], number(value))]);
        }
        samples.counters(
            "weir_agent_drift_repaired",
            "Flows that were not as they should be, and were put right",
            "type",
            [("altered", number(c.drift)), ("foreign", number(c.foreign))],
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
        seen.switch.flows = 299;
        seen.switch.connected = true;
        seen.counters.changes = 12;
        let (_keep, overview) = watch::channel(seen);
        let (_kept, uplink) = watch::channel(UplinkStatus::default());
        let text = metrics(overview, uplink, || true, &Seconds::default()).encode();
        for line in [
            "weir_agent_connected{peer=\"openflow\"} 1",
            "weir_agent_connected{peer=\"controller\"} 0",
            "weir_agent_revision 1841",
            "weir_agent_flows 299",
            "weir_agent_flow_changes_total 12",
            "weir_agent_bundle_duration_seconds_count 0",
        ] {
            assert!(text.lines().any(|l| l.trim_end_matches(".0") == line), "{line}:\n{text}");
        }
    }
}
