//! What the controller tells Prometheus. `docs/metrics.md` lists it; a test compares the two.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use weir_runtime::metrics::Metrics;

use crate::event::Event;
use crate::publish::Handle;
use crate::serve::{Refusals, Sent};
use crate::source::Code;
use crate::status::Writes;

/// The kind of object that an event is about.
pub(crate) fn kind(event: &Event) -> &'static str {
    match event {
        Event::NamespaceApplied { .. } | Event::NamespaceDeleted { .. } => "namespace",
        Event::PodApplied(_) | Event::PodDeleted { .. } => "pod",
        Event::NodeApplied(_) | Event::NodeDeleted { .. } => "node",
        Event::PolicyApplied { .. } | Event::PolicyDeleted { .. } => "policy",
        Event::WorkloadApplied(_) | Event::WorkloadDeleted { .. } => "workload",
        Event::Synced => "other",
    }
}

/// Events by kind.
#[derive(Debug, Default)]
pub struct EventCounts {
    counts: [AtomicU64; KINDS.len()],
}

const KINDS: [&str; 6] = ["namespace", "node", "other", "pod", "policy", "workload"];

impl EventCounts {
    pub(crate) fn add(&self, event: &Event) {
        let kind = kind(event);
        for (name, count) in KINDS.iter().zip(&self.counts) {
            if *name == kind {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn read(&self) -> Vec<(&'static str, f64)> {
        KINDS.into_iter().zip(self.counts.iter().map(read)).collect()
    }
}

fn read(counter: &AtomicU64) -> f64 {
    as_float(counter.load(Ordering::Relaxed))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn as_float(number: u64) -> f64 {
    number as f64
}

/// All metrics of a controller. `leadership` is absent where no status is written.
pub fn metrics(
    hub: &Handle,
    refusals: &Arc<Refusals>,
    sent: &Arc<Sent>,
    leadership: Option<(watch::Receiver<bool>, Arc<Writes>)>,
) -> Metrics {
    let mut metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let counters = hub.counters();
    metrics.seconds(
        "weir_controller_event_duration_seconds",
        "From a change seen by the source to its deltas in the queues of the streams",
        &counters.event_duration,
    );
    metrics.seconds(
        "weir_controller_compute_duration_seconds",
        "Computing what one batch of events changes for which nodes",
        &counters.compute_duration,
    );
    metrics.seconds(
        "weir_policy_realization_duration_seconds",
        "From a change of a policy seen by the source to the acknowledgement of one node's switch",
        &counters.realization,
    );
    let (hub, refusals, sent) = (hub.clone(), Arc::clone(refusals), Arc::clone(sent));
    metrics.at_scrape(move |samples| {
        let (summary, counters) = (hub.summary(), hub.counters());
        let (sizes, size) = (summary.sizes, |n: usize| as_float(n as u64));
        samples.gauges(
            "weir_controller_index_objects",
            "Objects in the index",
            "kind",
            [
                ("edge", size(sizes.edges)),
                ("group", size(sizes.groups)),
                ("namespace", size(sizes.namespaces)),
                ("node", size(sizes.nodes)),
                ("pod", size(sizes.pods)),
                ("policy", size(sizes.policies)),
                ("profile", size(sizes.profiles)),
            ],
        );
        let gone = sizes.nodes.saturating_sub(summary.streams);
        samples.gauges(
            "weir_controller_agents",
            "Nodes by how their agent is connected to this replica",
            "state",
            [
                ("behind", size(summary.behind)),
                ("current", size(summary.streams.saturating_sub(summary.behind))),
                ("gone", size(gone)),
            ],
        );
        samples.gauges(
            "weir_controller_queue",
            "What waits for the task that owns the index",
            "queue",
            [("batches", size(summary.waiting)), ("requests", size(hub.waiting()))],
        );
        for (name, help, value) in [
            ("weir_controller_revision", "Revision of the picture", as_float(summary.revision)),
            (
                "weir_controller_synced",
                "1 when the source has told everything",
                f64::from(u8::from(summary.synced)),
            ),
        ] {
            samples.gauge(name, help, [(&[][..], value)]);
        }
        let warnings = hub.warnings();
        let idle = leadership.as_ref().filter(|(leading, _)| *leading.borrow());
        let idle = idle.map_or(0.0, |(_, writes)| read(&writes.idle));
        samples.gauges(
            "weir_policy_warnings",
            "What objects do not mean as written, by code (docs/warnings.md); selects-nothing is told by the replica that writes status",
            "code",
            Code::ALL.map(|code| {
                let count = match code {
                    Code::AddressTaken => size(summary.refused),
                    Code::SelectsNothing => idle,
                    _ => size(warnings.iter().filter(|w| w.code == code).count()),
                };
                (code.as_str(), count)
            }),
        );
        if let Some((leading, writes)) = &leadership {
            let leads = f64::from(u8::from(*leading.borrow()));
            let help = "1 when this replica holds the Lease and writes status";
            samples.gauge("weir_controller_leader", help, [(&[][..], leads)]);
            samples.counter(
                "weir_controller_status_writes_failed",
                "Objects of kind PolicyStatus that could not be written, each time",
                [(&[][..], read(&writes.failed))],
            );
            samples.gauge(
                "weir_controller_status_waiting",
                "Objects of kind PolicyStatus that could not be written and wait for another try",
                [(&[][..], read(&writes.waiting))],
            );
            samples.counters(
                "weir_controller_announcements",
                "Events about policies and workloads: written, left out as there were too many, not taken by the API server",
                "result",
                [
                    ("dropped", read(&writes.announced.dropped)),
                    ("failed", read(&writes.announced.failed)),
                    ("said", read(&writes.announced.said)),
                ],
            );
            // one replica tells, and so each policy counts once
            if let Some(states) = writes.states() {
                let members = ["failed", "invalid", "late", "pending", "realized"].map(|state| {
                    let labels =
                        [("kind", "NetworkPolicy".to_owned()), ("state", state.to_owned())];
                    (labels, as_float(states.get(state).copied().unwrap_or_default()))
                });
                samples.gauge(
                    "weir_policies",
                    "Policies by how far they are in force; told by the replica that writes status",
                    members.iter().map(|(labels, n)| (&labels[..], *n)),
                );
            }
        }
        samples.counters(
            "weir_controller_stream_bytes",
            "Bytes of messages to agents, as they are encoded",
            "kind",
            [
                ("delta", read(&sent.delta)),
                ("query", read(&sent.query)),
                ("snapshot", read(&sent.snapshot)),
            ],
        );
        samples.counters(
            "weir_controller_events",
            "Events of the source",
            "kind",
            counters.events.read(),
        );
        samples.counters(
            "weir_controller_snapshots",
            "Snapshots for streams",
            "reason",
            [
                ("behind", read(&counters.snapshots_slow)),
                ("doubted", read(&counters.snapshots_doubted)),
                ("new", read(&counters.snapshots_new)),
            ],
        );
        samples.counter(
            "weir_controller_snapshots_partial",
            "Snapshots for new streams that told only what differs from what the agent held",
            [(&[][..], read(&counters.snapshots_partial))],
        );
        samples.counters(
            "weir_controller_refused",
            "Clients that were not let in",
            "reason",
            refusals.counts().map(|(reason, count)| (reason, as_float(count))),
        );
        for (name, help, counter) in [
            ("weir_controller_batches", "Batches of events", &counters.batches),
            ("weir_controller_deltas", "Deltas handed to streams", &counters.deltas_sent),
            (
                "weir_controller_encoded_changes",
                "Changes made ready for streams, once for each set of nodes",
                &counters.changes_encoded,
            ),
            ("weir_controller_encoded_bytes", "Bytes of these", &counters.bytes_encoded),
            ("weir_controller_reports", "Reports of agents", &counters.reports),
            ("weir_controller_status_writes", "Writes of PolicyStatus", &counters.status_writes),
            (
                "weir_controller_streams_behind",
                "Times a stream fell behind",
                &counters.streams_behind,
            ),
        ] {
            samples.counter(name, help, [(&[][..], read(counter))]);
        }
    });
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::Hub;
    use crate::source::line;

    #[test]
    fn the_documentation_lists_what_there_is() {
        let (_feed, intake) = line();
        let (_hub, handle) = Hub::new(intake, "test");
        let (_leads, leading) = watch::channel(true);
        let writes = Arc::new(Writes::default());
        writes.set_states(Some(std::collections::BTreeMap::new()));
        let all = metrics(&handle, &Arc::default(), &Arc::default(), Some((leading, writes)));
        let rows = weir_runtime::metrics::markdown(&all.encode());
        let text = include_str!("../../docs/metrics.md");
        let section = text.split("\n## ").find(|s| s.starts_with("weir-controller")).unwrap();
        let listed = section.lines().filter(|l| l.starts_with("| `weir_"));
        let listed: String = listed.map(|l| format!("{l}\n")).collect();
        assert_eq!(rows, listed, "docs/metrics.md lists other metrics than there are");
    }

    #[test]
    fn every_refusal_and_every_kind_of_message_has_its_number() {
        let (_feed, intake) = line();
        let (_hub, handle) = Hub::new(intake, "test");
        let (refusals, sent) = (Arc::new(Refusals::default()), Arc::new(Sent::default()));
        refusals.token_unbound.store(3, Ordering::Relaxed);
        sent.delta.store(77, Ordering::Relaxed);
        let text = metrics(&handle, &refusals, &sent, None).encode();
        for line in [
            "weir_controller_refused_total{reason=\"token-unbound\"} 3",
            "weir_controller_refused_total{reason=\"crowd\"} 0",
            "weir_controller_stream_bytes_total{kind=\"delta\"} 77",
            "weir_controller_stream_bytes_total{kind=\"snapshot\"} 0",
        ] {
            assert!(text.lines().any(|l| l.trim_end_matches(".0") == line), "{line}:\n{text}");
        }
    }
}
