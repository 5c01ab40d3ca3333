//! What is sent to the switch: the whole difference after a dump, or what changed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use rust_openflow::{FlowCommand, FlowMod, FlowStats};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};
use weir_policy::ids::RuleId;

use super::overview::{Drift, Why};
use super::{Cause, Phase, Reconciler, SYMBOLS_DELAY};
use crate::classes::numbers_from;
use crate::desired::Desired;
use crate::diff::{diff, diff_keys};
use crate::flow::{FlowKey, FlowTable, FlowValue};
use crate::mirror::Mirror;
use crate::pipeline::cookie::Cookie;
use crate::seam::{CommitError, Switch, SwitchError, Uplink, chain};

/// Flows of one comparison that the log shows in full.
const SHOWN: usize = 20;

/// Why the switch is not as it should be.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No answer, or none that says what is in force.
    Lost(SwitchError),
    /// The switch refuses something that no policy is to blame for.
    Refused { flow: String, reason: String },
    /// The bundle was taken, and a dump shows something else.
    ReadBack { flows: usize, first: String },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => f.write_str(&chain(error)),
            Self::Refused { flow, reason } => write!(f, "the switch refused {flow}: {reason}"),
            Self::ReadBack { flows, first } => {
                write!(
                    f,
                    "{flows} flows read back otherwise than they were sent, the first: {first}"
                )
            }
        }
    }
}

impl From<SwitchError> for Trouble {
    fn from(error: SwitchError) -> Self {
        Self::Lost(error)
    }
}

/// Which flows a bundle is about.
enum Extent {
    Everything,
    Keys(BTreeSet<FlowKey>),
}

impl<S: Switch, U: Uplink> Reconciler<S, U> {
    /// Asks the switch what it has, sends the difference, and asks again.
    pub(super) async fn compare(&mut self, session: &S, cause: Cause) -> Result<(), Trouble> {
        let started = Instant::now();
        let dump = session.dump().await?;
        self.installed = Mirror::new(table(&dump));
        let ports = self.ports.clone().unwrap_or_default();
        let mut desired = match self.desired.take() {
            Some(desired) => desired,
            None => {
                let mut numbers = numbers_from(&self.installed);
                if numbers.is_empty() {
                    numbers.clone_from(&self.numbers);
                }
                Desired::new(self.pipeline.clone(), numbers)
            }
        };
        let touched = std::mem::take(&mut self.touched);
        desired.update(self.state.as_ref(), &touched, &ports);
        if self.state.is_none() && !self.owned && foreign_state(&self.installed, desired.flows()) {
            info!(
                flows = self.installed.len(),
                "the bridge has flows of a state that is not known here; they stay until a state comes"
            );
            self.gates.flows.close("flows of an earlier state are in force, and no state is known");
            self.phase = Phase::Holding;
            return Ok(());
        }
        let difference = diff(desired.flows(), &self.installed);
        self.desired = Some(desired);
        self.count(cause, &difference, &dump);
        if !difference.is_empty() {
            let why = match cause {
                Cause::Drift | Cause::FailMode => Why::Drift,
                Cause::Connected | Cause::State | Cause::Datapath | Cause::Doubt => Why::Start,
            };
            self.send(session, Extent::Everything, why).await?;
            self.installed = Mirror::new(table(&session.dump().await?));
            let left = self.difference();
            if let Some(first) = left.first() {
                return Err(Trouble::ReadBack { flows: left.len(), first: first.to_string() });
            }
        }
        let (flows, sent) = (self.installed.len(), difference.len());
        let took = started.elapsed();
        if cause == Cause::Drift && sent == 0 {
            debug!(flows, ?took, "the bridge is as it should be");
        } else {
            info!(?cause, flows, sent, ?took, "the bridge is as it should be");
        }
        self.gates.flows.open();
        self.phase = Phase::Following;
        self.owned = true;
        self.pending = false;
        self.next_drift = Instant::now() + self.config.drift;
        if cause != Cause::Drift {
            self.news.tell_everything();
        }
        self.news.touched(&touched.policies);
        self.symbols_due.get_or_insert_with(|| Instant::now() + SYMBOLS_DELAY);
        Ok(())
    }

    /// Sends what came out different since the last bundle.
    pub(super) async fn follow(&mut self, session: &S) -> Result<(), Trouble> {
        let Some(desired) = &mut self.desired else {
            return self.compare(session, Cause::Doubt).await;
        };
        let touched = std::mem::take(&mut self.touched);
        let ports = self.ports.clone().unwrap_or_default();
        let keys = desired.update(self.state.as_ref(), &touched, &ports);
        self.news.touched(&touched.policies);
        let of_policy = !touched.policies.is_empty() || !touched.groups.is_empty();
        let why = if of_policy { Why::Policy } else { Why::Endpoint };
        self.send(session, Extent::Keys(keys), why).await?;
        self.pending = false;
        self.symbols_due.get_or_insert_with(|| Instant::now() + SYMBOLS_DELAY);
        Ok(())
    }

    /// One bundle, and another without the rules at fault for each one that is refused. Keeps the mirror.
    async fn send(&mut self, session: &S, mut extent: Extent, why: Why) -> Result<(), Trouble> {
        let mut left_out: BTreeSet<RuleId> = BTreeSet::new();
        loop {
            let Some(desired) = &mut self.desired else {
                return Ok(());
            };
            let changes = Arc::new(match &extent {
                Extent::Everything => diff(desired.flows(), &self.installed),
                Extent::Keys(keys) => diff_keys(keys, desired.flows(), &self.installed),
            });
            if changes.is_empty() {
                return Ok(());
            }
            let start = Instant::now();
            let committed = session.commit(Arc::clone(&changes)).await;
            let took = if committed.is_ok() {
                &self.durations.bundles
            } else {
                &self.durations.failed_bundles
            };
            took.observe(start.elapsed());
            let (index, reason) = match committed {
                Ok(()) => {
                    self.counters.bundles += 1;
                    for change in changes.iter() {
                        self.counters.changes.add(change.command, why);
                        mirror(&mut self.installed, desired.flows(), change);
                    }
                    return Ok(());
                }
                Err(CommitError::Unknown(lost)) => {
                    self.counters.unanswered += 1;
                    return Err(lost.into());
                }
                Err(CommitError::Rejected { reason }) => {
                    self.counters.rejected += 1;
                    let flow = format!("a bundle of {} changes", changes.len());
                    return Err(Trouble::Refused { flow, reason });
                }
                Err(CommitError::Refused { index, reason }) => (index, reason),
            };
            self.counters.refused += 1;
            let Some(change) = changes.get(index) else {
                let flow = format!("change {index} of {}", changes.len());
                return Err(Trouble::Refused { flow, reason });
            };
            let mut rules = desired.rule_of(&key(change));
            // a rule that was left out already is not to blame again, so this ends
            rules.retain(|rule| left_out.insert(*rule));
            if rules.is_empty() {
                return Err(Trouble::Refused { flow: change.to_string(), reason });
            }
            for rule in rules {
                error!(%rule, flow = %change, %reason, "the switch refused a flow of this rule; it is left out");
                let why = format!("the switch refused it: {reason}");
                let changed = desired.fail_rule(rule, why);
                if let Extent::Keys(keys) = &mut extent {
                    keys.extend(changed);
                }
            }
        }
    }

    fn difference(&self) -> Vec<FlowMod> {
        self.desired.as_ref().map_or_else(Vec::new, |d| diff(d.flows(), &self.installed))
    }

    /// Logs and counts what a dump showed that should not be there, before it is repaired.
    fn count(&mut self, cause: Cause, difference: &[FlowMod], dump: &[FlowStats]) {
        let foreign: Vec<&FlowStats> = dump.iter().filter(|f| !Cookie::is_ours(f.cookie)).collect();
        self.counters.foreign += foreign.len() as u64;
        let checked = matches!(cause, Cause::Drift | Cause::FailMode);
        if checked {
            let mut found = Drift { foreign: foreign.len() as u64, ..Drift::default() };
            for change in difference {
                let there = self.installed.get(&key(change));
                match (change.command, there) {
                    (FlowCommand::Add, None) => found.missing += 1,
                    (FlowCommand::Add, Some(_)) => found.altered += 1,
                    (_, Some(flow)) if !Cookie::is_ours(flow.cookie) => {}
                    _ => found.stale += 1,
                }
            }
            self.counters.found = found;
            self.counters.repaired += found;
        }
        for flow in foreign.iter().take(SHOWN) {
            warn!(%flow, "a flow that is not ours is removed");
        }
        if foreign.len() > SHOWN {
            warn!(more = foreign.len() - SHOWN, "flows that are not ours are removed");
        }
        if checked && !difference.is_empty() {
            self.counters.drift += difference.len() as u64;
            for change in difference.iter().take(SHOWN) {
                warn!(%change, "the bridge is not as it was left; repaired");
            }
            if difference.len() > SHOWN {
                warn!(
                    more = difference.len() - SHOWN,
                    "the bridge is not as it was left; repaired"
                );
            }
        }
    }
}

/// A dump as the diff compares it.
pub(super) fn table(dump: &[FlowStats]) -> FlowTable {
    dump.iter()
        .map(|flow| {
            let lasting = flow.idle_timeout == 0 && flow.hard_timeout == 0;
            let key =
                FlowKey { table: flow.table, priority: flow.priority, match_: flow.match_.clone() };
            let value = FlowValue {
                // one that will end by itself is never the one that is wanted
                cookie: if lasting { flow.cookie } else { 0 },
                instructions: flow.instructions.clone(),
            };
            (key, value)
        })
        .collect()
}

fn key(change: &FlowMod) -> FlowKey {
    FlowKey { table: change.table, priority: change.priority, match_: change.match_.clone() }
}

/// Does to the mirror what the switch did. A change whose flow is not wanted is a deletion.
fn mirror(installed: &mut Mirror, wanted: &FlowTable, change: &FlowMod) {
    let key = key(change);
    match wanted.get(&key) {
        Some(value) => installed.insert(key, value.clone()),
        None => installed.remove(&key),
    }
}

/// The bridge has a flow of ours that the base does not: some state caused it.
fn foreign_state(installed: &FlowTable, base: &FlowTable) -> bool {
    installed.iter().any(|(key, value)| Cookie::is_ours(value.cookie) && !base.contains_key(key))
}
