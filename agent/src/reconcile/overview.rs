//! The agent's state as text, for `/debug/state` and `weirctl`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use rust_openflow::FlowCommand;
use tokio::time::Instant;
use weir_policy::ids::PolicyKey;

use super::{Phase, Reconciler};
use crate::mirror::FlowCounts;
use crate::ports::Ports;
use crate::seam::{Switch, Uplink};

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub bundles: u64,
    pub changes: Changes,
    /// Bundles the switch refused because of a flow.
    pub refused: u64,
    /// Bundles the switch refused as a whole.
    pub rejected: u64,
    /// Bundles of which nobody knows what became.
    pub unanswered: u64,
    /// Flows of others that were removed.
    pub foreign: u64,
    /// Flows that the regular check repaired.
    pub drift: u64,
    /// These, and flows of others that it found.
    pub repaired: Drift,
    /// What the last regular check found.
    pub found: Drift,
}

/// Flows that are not as they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    pub missing: u64,
    pub altered: u64,
    /// Ours, and not wanted any more.
    pub stale: u64,
    /// Not ours.
    pub foreign: u64,
}

impl std::ops::AddAssign for Drift {
    fn add_assign(&mut self, more: Self) {
        self.missing += more.missing;
        self.altered += more.altered;
        self.stale += more.stale;
        self.foreign += more.foreign;
    }
}

/// What flows are changed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Policies or groups changed, and perhaps others with them.
    Policy,
    /// Endpoints, profiles or ports changed.
    Endpoint,
    /// A check found them otherwise.
    Drift,
    /// A connection or a state is new, or nobody knew what was in force.
    Start,
}

impl Why {
    pub const ALL: [Self; 4] = [Self::Policy, Self::Endpoint, Self::Drift, Self::Start];

    /// As metrics have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Endpoint => "endpoint",
            Self::Drift => "drift",
            Self::Start => "start",
        }
    }
}

/// Flow changes, by what was done and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes([[u64; Why::ALL.len()]; 2]);

impl Changes {
    pub(super) fn add(&mut self, command: FlowCommand, why: Why) {
        self.0[usize::from(command != FlowCommand::Add)][why as usize] += 1;
    }

    /// `add` (which replaces, too) and `delete`, each for every reason.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Why, u64)> {
        let ops = ["add", "delete"].into_iter().zip(&self.0);
        ops.flat_map(|(op, of)| Why::ALL.into_iter().map(move |why| (op, why, of[why as usize])))
    }

    pub fn total(&self) -> u64 {
        self.0.iter().flatten().sum()
    }
}

/// Since when workload ports are there that do not carry anything yet.
#[derive(Debug, Default)]
pub(super) struct Arrivals(BTreeMap<u32, Option<Instant>>);

/// What the reconciler holds of the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchOverview {
    pub connected: bool,
    /// `following`, `holding` or what is waited for.
    pub phase: String,
    pub flows: usize,
    /// These, by table and owner.
    pub by_owner: FlowCounts,
    pub ports_ready: usize,
    pub ports_closed: usize,
}

/// The reconciler at one moment. Cheap to make: counts, and what is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    pub node: String,
    pub bridge: String,
    /// None: no state.
    pub revision: Option<u64>,
    pub stream: u64,
    pub policies: usize,
    pub groups: usize,
    pub profiles: usize,
    pub endpoints: usize,
    pub switch: SwitchOverview,
    pub ports: Arc<Ports>,
    pub gaps: Vec<String>,
    pub failures: BTreeMap<PolicyKey, Vec<String>>,
    pub counters: Counters,
}

impl<S: Switch, U: Uplink> Reconciler<S, U> {
    /// Takes the time from a port that comes to its flows in the switch. What was there before us is not counted.
    pub(super) fn time_arrivals(&mut self) {
        let Some(ports) = &self.ports else {
            return;
        };
        self.arrivals.0.retain(|number, _| ports.workloads.contains_key(number));
        let in_force = matches!(self.phase, Phase::Following) && !self.pending;
        for number in ports.workloads.keys() {
            let since = self.owned.then(Instant::now);
            let waits = self.arrivals.0.entry(*number).or_insert(since);
            let open = || self.desired.as_ref().is_some_and(|d| d.is_open(*number));
            if in_force
                && waits.is_some()
                && open()
                && let Some(since) = waits.take()
            {
                self.durations.endpoint_ready.observe(since.elapsed());
            }
        }
    }

    pub(super) fn publish_overview(&self) {
        let (ports_ready, ports_closed) = self.port_counts();
        let phase = match (self.phase, &self.session, &self.ports) {
            (_, None, _) => "waiting for the switch".to_owned(),
            (_, _, None) => "waiting for the bridge in OVSDB".to_owned(),
            (Phase::Holding, ..) => {
                "holding flows of an earlier state until a state comes".to_owned()
            }
            (Phase::Following, ..) if self.state.is_none() => {
                "following, without a state: workload ports are closed".to_owned()
            }
            (Phase::Following, ..) => "following".to_owned(),
            (Phase::Unsynced(cause), ..) => format!("to be compared ({cause:?})"),
        };
        let state = self.state.as_ref();
        let overview = Overview {
            node: state.map(|s| s.node.name.to_string()).unwrap_or_default(),
            bridge: self.config.ports.bridge.clone(),
            revision: state.map(|_| self.revision),
            stream: self.stream,
            policies: state.map_or(0, |s| s.policies.len()),
            groups: state.map_or(0, |s| s.groups.len()),
            profiles: state.map_or(0, |s| s.profiles.len()),
            endpoints: state.map_or(0, |s| s.endpoints.len()),
            switch: SwitchOverview {
                connected: self.session.is_some(),
                phase,
                flows: self.installed.len(),
                by_owner: self.installed.counts().clone(),
                ports_ready,
                ports_closed,
            },
            ports: self.ports.clone().unwrap_or_default(),
            gaps: self.gaps(),
            failures: self.told_failures().clone(),
            counters: self.counters,
        };
        self.overview.send_if_modified(|old| {
            let new = *old != overview;
            if new {
                *old = overview;
            }
            new
        });
    }
}

/// Sorted lines `key: value`, so that two states can be compared with diff.
impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |numbers: &BTreeSet<u32>| {
            let text: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            text.join(" ")
        };
        writeln!(f, "node: {}", self.node)?;
        match self.revision {
            Some(revision) => writeln!(f, "revision: {revision} (stream {})", self.stream)?,
            None => writeln!(f, "revision: none")?,
        }
        writeln!(
            f,
            "state: {} policies, {} groups, {} profiles, {} endpoints",
            self.policies, self.groups, self.profiles, self.endpoints
        )?;
        let s = &self.switch;
        writeln!(f, "bridge: {} {}", self.bridge, if s.connected { "connected" } else { "away" })?;
        writeln!(f, "phase: {}", s.phase)?;
        writeln!(f, "flows: {}", s.flows)?;
        for (table, owner, flows) in s.by_owner.iter() {
            writeln!(f, "flows in {table} of {owner}: {flows}")?;
        }
        writeln!(f, "workload ports: {} open, {} closed", s.ports_ready, s.ports_closed)?;
        writeln!(f, "gateway ports: {}", list(&self.ports.gateways))?;
        writeln!(f, "uplink ports: {}", list(&self.ports.uplinks))?;
        for (number, port) in &self.ports.workloads {
            writeln!(f, "port {number}: {}/{} by {}", port.namespace, port.name, port.interface)?;
        }
        for (number, why) in &self.ports.unknown {
            writeln!(f, "port {number}: carries nothing: {why}")?;
        }
        for gap in &self.gaps {
            writeln!(f, "gap: {gap}")?;
        }
        for (policy, reasons) in &self.failures {
            for reason in reasons {
                writeln!(f, "failed: {policy} {reason}")?;
            }
        }
        let c = &self.counters;
        writeln!(
            f,
            "since start: {} bundles, {} flow changes, {} refusals, {} foreign flows removed, {} flows repaired",
            c.bundles,
            c.changes.total(),
            c.refused,
            c.foreign,
            c.drift
        )
    }
}
