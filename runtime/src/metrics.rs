//! Metrics for Prometheus: what is counted as it happens, and what is read when somebody asks.
//!
//! A number that some part of the program keeps anyway is read at scrape by a closure ([`Metrics::at_scrape`]); only what
//! would be lost otherwise, durations above all, is recorded ([`Seconds`]). Names carry their base unit.

mod table;

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use table::markdown;

/// Everything that one program tells.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    /// With `weir_build_info`, which says the version.
    pub fn new(version: &'static str) -> Self {
        let mut metrics = Self(Registry::default());
        metrics.at_scrape(move |samples| {
            let labels = [("version", version.to_owned())];
            samples.gauge("weir_build_info", "The version that runs", [(&labels[..], 1.0)]);
        });
        metrics
    }

    /// What `read` says is told whenever somebody asks. It runs on the connection's task: it must not block.
    pub fn at_scrape(&mut self, read: impl Fn(&mut Samples<'_>) + Send + Sync + 'static) {
        self.0.register_collector(Box::new(Scrape(read)));
    }

    /// Tells of a recorded duration. The name is to end in `_seconds`.
    pub fn seconds(&mut self, name: &str, help: &str, seconds: &Seconds) {
        self.0.register(name, help, seconds.0.clone());
    }

    /// Tells of recorded durations that differ by one label.
    pub fn seconds_by(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        members: impl IntoIterator<Item = (&'static str, Seconds)>,
    ) {
        let members = members.into_iter().collect();
        self.0.register_collector(Box::new(SecondsBy { name, help, label, members }));
    }

    /// All of it, in the text format of OpenMetrics.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        match encode(&mut out, &self.0) {
            Ok(()) => out,
            // writing to a String cannot fail; half an answer would look like a whole one
            Err(_) => String::new(),
        }
    }
}

/// Durations, counted by size: from 10 microseconds to 40 seconds, four times wider each. Clones count together.
#[derive(Clone, Debug)]
pub struct Seconds(Histogram);

impl Default for Seconds {
    fn default() -> Self {
        const BUCKETS: [f64; 12] =
            [1e-5, 4e-5, 16e-5, 64e-5, 25e-4, 1e-2, 4e-2, 16e-2, 64e-2, 2.5, 10.0, 40.0];
        Self(Histogram::new(BUCKETS))
    }
}

impl Seconds {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

/// Labels and a value, for each member of a family.
type Member<'l> = (&'l [(&'static str, String)], f64);

/// Where a closure says its numbers.
pub struct Samples<'a> {
    encoder: DescriptorEncoder<'a>,
    result: fmt::Result,
}

impl Samples<'_> {
    /// What goes up and down.
    pub fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        members: impl IntoIterator<Item = Member<'l>>,
    ) {
        self.family(name, help, MetricType::Gauge, members);
    }

    /// What only goes up. The name is without the `_total` that Prometheus sees.
    pub fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        members: impl IntoIterator<Item = Member<'l>>,
    ) {
        self.family(name, help, MetricType::Counter, members);
    }

    /// One gauge for each value of one label.
    pub fn gauges<V: Into<f64>>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        for_each(label, values, |members| self.gauge(name, help, members));
    }

    /// One counter for each value of one label.
    pub fn counters<V: Into<f64>>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        for_each(label, values, |members| self.counter(name, help, members));
    }

    fn family<'l>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        members: impl IntoIterator<Item = Member<'l>>,
    ) {
        if self.result.is_ok() {
            self.result = self.try_family(name, help, kind, members);
        }
    }

    fn try_family<'l>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        members: impl IntoIterator<Item = Member<'l>>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in members {
            match labels {
                [] => tell(&mut metric, kind, value)?,
                labels => tell(&mut metric.encode_family(&labels)?, kind, value)?,
            }
        }
        Ok(())
    }
}

fn tell(metric: &mut MetricEncoder<'_>, kind: MetricType, value: f64) -> fmt::Result {
    match kind {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, _, f64>(&value, None),
        _ => metric.encode_gauge(&value),
    }
}

fn for_each<V: Into<f64>>(
    label: &'static str,
    values: impl IntoIterator<Item = (&'static str, V)>,
    tell: impl FnOnce(Vec<Member<'_>>),
) {
    let values: Vec<([(&'static str, String); 1], f64)> =
        values.into_iter().map(|(of, value)| ([(label, of.to_owned())], value.into())).collect();
    tell(values.iter().map(|(labels, value)| (&labels[..], *value)).collect());
}

#[derive(Debug)]
struct SecondsBy {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    members: Vec<(&'static str, Seconds)>,
}

impl Collector for SecondsBy {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (value, seconds) in &self.members {
            let labels = [(self.label, *value)];
            seconds.0.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

struct Scrape<F>(F);

impl<F> fmt::Debug for Scrape<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl<F: Fn(&mut Samples<'_>) + Send + Sync + 'static> Collector for Scrape<F> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut samples = Samples { encoder, result: Ok(()) };
        (self.0)(&mut samples);
        samples.result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prometheus_reads() {
        let mut metrics = Metrics::new("1.2.3");
        metrics.at_scrape(|samples| {
            samples.gauge("weir_revision", "The revision", [(&[][..], 7.0)]);
            samples.gauges("weir_things", "Things", "kind", [("pod", 2_u32), ("node", 1)]);
            samples.counters("weir_events", "Events", "kind", [("pod", 5_u32)]);
        });
        let seconds = Seconds::default();
        metrics.seconds("weir_wait_seconds", "Waiting", &seconds);
        seconds.observe(Duration::from_millis(3));
        let (good, bad) = (Seconds::default(), Seconds::default());
        good.observe(Duration::from_secs(1));
        metrics.seconds_by("weir_try_seconds", "Trying", "result", [("good", good), ("bad", bad)]);
        let text = metrics.encode();
        for line in [
            "weir_build_info{version=\"1.2.3\"} 1",
            "# TYPE weir_revision gauge",
            "weir_revision 7",
            "weir_things{kind=\"pod\"} 2",
            "weir_things{kind=\"node\"} 1",
            "weir_events_total{kind=\"pod\"} 5",
            "weir_wait_seconds_count 1",
            "weir_wait_seconds_bucket{le=\"0.0025\"} 0",
            "weir_wait_seconds_bucket{le=\"0.01\"} 1",
            "weir_try_seconds_count{result=\"good\"} 1",
            "weir_try_seconds_bucket{le=\"2.5\",result=\"good\"} 1",
            "weir_try_seconds_count{result=\"bad\"} 0",
            "# EOF",
        ] {
            let there = text.lines().any(|l| l == line || l == format!("{line}.0"));
            assert!(there, "no {line:?} in\n{text}");
        }
        assert_eq!(text.matches("# TYPE weir_things").count(), 1);
        assert_eq!(
            markdown(&text),
            "\
| `weir_build_info` | gauge | version | The version that runs |
| `weir_events_total` | counter | kind | Events |
| `weir_revision` | gauge |  | The revision |
| `weir_things` | gauge | kind | Things |
| `weir_try_seconds` | histogram | result | Trying |
| `weir_wait_seconds` | histogram |  | Waiting |
"
        );
    }
}
