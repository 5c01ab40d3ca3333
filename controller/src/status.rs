//! What nodes have made of what they were told.
//!
//! A node says up to which revision its switch is right, and what it could not do. What it has not acknowledged yet is
//! kept as pending, so that memory grows with what is under way and not with policies times nodes. Latencies run from
//! the source's event to the acknowledgement, both by this process' clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use weir_api::convert::{key_from_proto, key_to_proto};
use weir_api::v1;
use weir_policy::ids::PolicyKey;
use weir_policy::state::Change;

use crate::index::{Index, Output};

/// What an agent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    pub agent_version: String,
    pub ovs_version: String,
}

/// A policy that a node was sent and has not acknowledged.
#[derive(Clone, Debug)]
struct Pending {
    revision: u64,
    since: Instant,
}

#[derive(Debug, Default)]
struct NodeProgress {
    hello: Hello,
    acknowledged: u64,
    acknowledged_at: Option<SystemTime>,
    /// The last revision that had something for it.
    sent: u64,
    /// Its stream began with a snapshot of this revision: until that is acknowledged, nothing is.
    snapshot: Option<u64>,
    pending: HashMap<PolicyKey, Pending>,
    failures: BTreeMap<PolicyKey, Vec<String>>,
    gaps: Vec<String>,
    ports_ready: u32,
    ports_closed: u32,
    flows: u32,
}

/// How long a generation of a policy took, by node. Units: microseconds.
#[derive(Debug, Default)]
struct Latencies {
    generation: i64,
    by_node: BTreeMap<u32, u64>,
}

/// Keeps what nodes say.
#[derive(Debug, Default)]
pub struct Tracker {
    nodes: HashMap<u32, NodeProgress>,
    latencies: HashMap<PolicyKey, Latencies>,
}

/// What is kept of one failure, and how many per policy: a hostile agent cannot make us keep more.
const MAX_FAILURES: usize = 16;
const MAX_FAILURE_LEN: usize = 512;
const MAX_GAPS: usize = 64;

impl Tracker {
    /// Batches go out because of an event at `at`, to nodes that are connected and to others that will hear of it.
    pub fn sent(&mut self, output: &Output, at: Instant, index: &Index) {
        for delivery in &output.deliveries {
            for node in &delivery.nodes {
                let progress = self.nodes.entry(node).or_default();
                progress.sent = output.revision;
                match &delivery.change {
                    Change::Policy(policy) => {
                        let pending = Pending { revision: output.revision, since: at };
                        progress.pending.insert(policy.key.clone(), pending);
                        progress.failures.remove(&policy.key);
                    }
                    Change::RemovePolicy(key) => {
                        progress.pending.remove(key);
                        progress.failures.remove(key);
                    }
                    _ => {}
                }
            }
            match &delivery.change {
                Change::Policy(policy) => {
                    let latencies = self.latencies.entry(policy.key.clone()).or_default();
                    if latencies.generation != policy.generation {
                        *latencies =
                            Latencies { generation: policy.generation, ..Default::default() };
                    }
                    for node in &delivery.nodes {
                        latencies.by_node.remove(&node);
                    }
                }
                Change::RemovePolicy(key) if !index.has_policy(key) => {
                    self.latencies.remove(key);
                }
                Change::RemovePolicy(key) => {
                    if let Some(latencies) = self.latencies.get_mut(key) {
                        for node in &delivery.nodes {
                            latencies.by_node.remove(&node);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A stream begins, or begins again, with a snapshot.
    pub fn subscribed(&mut self, node: u32, hello: Hello, revision: u64) {
        let progress = self.nodes.entry(node).or_default();
        progress.hello = hello;
        progress.acknowledged = 0;
        progress.snapshot = Some(revision);
        progress.sent = revision;
        progress.failures.clear();
    }

    /// A node reports.
    pub fn realized(&mut self, node: u32, at: Instant, report: v1::Realized, index: &Index) {
        let Some(progress) = self.nodes.get_mut(&node) else {
            return;
        };
        // what was never sent cannot be done: a number from the future would hide what is missing
        let revision = report.revision.min(progress.sent);
        progress.acknowledged = progress.acknowledged.max(revision);
        progress.acknowledged_at = Some(SystemTime::now());
        progress.gaps = report.gaps.into_iter().take(MAX_GAPS).map(cut).collect();
        progress.ports_ready = report.ports_ready;
        progress.ports_closed = report.ports_closed;
        progress.flows = report.flows;
        for result in report.results {
            let Some(Ok(key)) = result.policy.map(key_from_proto) else {
                continue;
            };
            // about another generation, or a policy that is not its affair
            if index.generation_on(&key, node) != Some(result.generation) {
                continue;
            }
            if result.realized {
                progress.failures.remove(&key);
            } else {
                let failures = result.failures.into_iter().take(MAX_FAILURES).map(cut).collect();
                progress.failures.insert(key, failures);
            }
        }
        if progress.snapshot.is_some_and(|s| s <= revision) {
            progress.snapshot = None;
        }
        let latencies = &mut self.latencies;
        let failures = &progress.failures;
        progress.pending.retain(|key, pending| {
            if pending.revision > revision {
                return true;
            }
            if !failures.contains_key(key) {
                let took = at.saturating_duration_since(pending.since).as_micros();
                let took = u64::try_from(took).unwrap_or(u64::MAX);
                if let Some(latencies) = latencies.get_mut(key) {
                    latencies.by_node.insert(node, took);
                }
            }
            false
        });
    }

    /// Everything, for tools. `connected` tells of a node's number whether it has a stream.
    pub fn status(&self, index: &Index, connected: impl Fn(u32) -> bool) -> v1::StatusReply {
        let names: BTreeMap<&str, u32> = index.nodes().map(|(n, name)| (&**name, n)).collect();
        let nodes = names.iter().map(|(name, n)| self.node(name, *n, index, connected(*n)));
        let mut policies: Vec<v1::PolicyStatus> = index
            .policies()
            .map(|(key, generation, nodes)| {
                let nodes: BTreeSet<u32> = nodes.iter().collect();
                self.policy(key, generation, &nodes, index, &connected)
            })
            .collect();
        policies.sort_by(|a, b| {
            let name = |p: &v1::PolicyStatus| p.policy.clone().map(|k| (k.namespace, k.name));
            name(a).cmp(&name(b))
        });
        v1::StatusReply {
            revision: index.revision(),
            nodes: nodes.collect(),
            policies,
            warnings: Vec::new(),
            source: String::new(),
        }
    }

    fn node(&self, name: &str, number: u32, index: &Index, connected: bool) -> v1::NodeStatus {
        let mut out = v1::NodeStatus { name: name.to_owned(), connected, ..Default::default() };
        let Some(progress) = self.nodes.get(&number) else {
            return out;
        };
        let current = connected && progress.is_current();
        // a node that lacks nothing is as far as the picture, whether or not the last changes were for it
        out.revision = if current { index.revision() } else { progress.acknowledged };
        out.acknowledged_ms = progress
            .acknowledged_at
            .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
            .and_then(|d| i64::try_from(d.as_millis()).ok())
            .unwrap_or_default();
        out.agent_version.clone_from(&progress.hello.agent_version);
        out.ovs_version.clone_from(&progress.hello.ovs_version);
        out.gaps.clone_from(&progress.gaps);
        out.ports_ready = progress.ports_ready;
        out.ports_closed = progress.ports_closed;
        out.flows = progress.flows;
        out
    }

    fn policy(
        &self,
        key: &PolicyKey,
        generation: i64,
        nodes: &BTreeSet<u32>,
        index: &Index,
        connected: &impl Fn(u32) -> bool,
    ) -> v1::PolicyStatus {
        let mut out = v1::PolicyStatus {
            policy: Some(key_to_proto(key)),
            generation,
            nodes_desired: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
            ..Default::default()
        };
        for node in nodes {
            let name = index.node_name(*node);
            match self.nodes.get(node) {
                Some(progress) if connected(*node) && progress.has(key) => {
                    match progress.failures.get(key) {
                        None => out.nodes_realized += 1,
                        Some(reasons) => {
                            out.failures.extend(reasons.iter().map(|reason| v1::PolicyFailure {
                                node: name.to_string(),
                                reason: reason.clone(),
                            }));
                        }
                    }
                }
                _ => out.pending.push(name.to_string()),
            }
        }
        out.pending.sort();
        if let Some(latencies) = self.latencies.get(key).filter(|l| l.generation == generation) {
            out.latencies_us = latencies.by_node.values().copied().collect();
        }
        out
    }
}

impl NodeProgress {
    /// It has dealt with everything it was sent.
    fn is_current(&self) -> bool {
        self.snapshot.is_none() && self.acknowledged >= self.sent
    }

    /// It has dealt with a policy, one way or the other.
    fn has(&self, key: &PolicyKey) -> bool {
        self.snapshot.is_none() && !self.pending.contains_key(key)
    }
}

fn cut(mut text: String) -> String {
    let mut end = MAX_FAILURE_LEN.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests;
