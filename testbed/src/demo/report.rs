//! The figures of a demonstration, for machines.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Tally;
use crate::error::{During, Result};
use crate::fleet::Fleet;

/// What `report.json` holds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub nodes: usize,
    pub pods: usize,
    pub probes: usize,
    pub mismatches: usize,
    /// Installed flows by node.
    pub flows_per_node: BTreeMap<String, usize>,
    pub policy_to_packet_ms: Quantiles,
}

/// Units: milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
}

impl Report {
    pub(super) fn of(
        fleet: &Fleet,
        pods: usize,
        tally: Tally,
        mut delays: Vec<Duration>,
    ) -> Result<Self> {
        delays.sort();
        let flows_per_node = fleet
            .bed()
            .nodes()
            .iter()
            .map(|node| Ok((node.name.clone(), node.ovs.flows()?.len())))
            .collect::<Result<_>>()?;
        Ok(Self {
            nodes: fleet.bed().nodes().len(),
            pods,
            probes: tally.probes,
            mismatches: tally.probes - tally.right,
            flows_per_node,
            policy_to_packet_ms: Quantiles {
                p50: millis(quantile(&delays, 50)),
                p99: millis(quantile(&delays, 99)),
            },
        })
    }

    pub(super) fn flows_text(&self) -> String {
        let nodes: Vec<String> =
            self.flows_per_node.iter().map(|(node, flows)| format!("{node} {flows}")).collect();
        nodes.join(", ")
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let during = || format!("writing {}", file.display());
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).during(during)?;
        }
        let mut text = serde_json::to_string_pretty(self).during(during)?;
        text.push('\n');
        std::fs::write(file, text).during(during)
    }
}

/// The smallest value that so many per cent do not exceed; zero if there is none.
pub(super) fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// Three decimals are more than the measurement has.
fn millis(d: Duration) -> f64 {
    (d.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let ms: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(quantile(&ms, 50), Duration::from_millis(100));
        assert_eq!(quantile(&ms, 99), Duration::from_millis(198));
        assert_eq!(quantile(&ms[..1], 99), Duration::from_millis(1));
        assert_eq!(quantile(&[], 50), Duration::ZERO);
        assert_eq!(millis(Duration::from_micros(4_123)), 4.123);
    }
}
