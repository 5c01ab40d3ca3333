//! What nodes have made of what they were told.
//!
//! A node says up to which revision its switch is right, and what it could not do. What it has not acknowledged yet is
//! kept as pending, so that memory grows with what is under way and not with policies times nodes. Latencies run from
//! the source's event to the acknowledgement, both by this process' clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use weir_api::convert::{key_from_proto, key_to_proto};
use weir_api::v1;
use weir_policy::claim::Refusal;
use weir_policy::ids::{PolicyKey, Str};
use weir_policy::state::Change;

use crate::index::{Delivery, Index, News, NodeSet, Output};

mod notices;
mod write;

pub use notices::{Announced, REPORTER};
pub use write::{KIND, Writer, Writes};

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

/// How long a policy took on the nodes that told. Units: microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
    pub slowest: (Str, u64),
}

/// How far one policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub key: PolicyKey,
    /// Empty where its source knows none.
    pub uid: Str,
    pub generation: i64,
    /// Endpoints it selects.
    pub selected: u64,
    pub desired: usize,
    pub realized: usize,
    /// Nodes with a reason why not, one entry per reason.
    pub failures: Vec<(Str, String)>,
    /// Nodes that have not said anything yet, and whether they are connected.
    pub pending: BTreeMap<Str, bool>,
    /// How long nodes took, as far as that is known. Units: microseconds.
    pub took: Vec<(Str, u64)>,
    /// The most flows that it has on a node, and that node.
    pub flows: Option<(u32, Str)>,
}

impl Progress {
    /// Adds what another replica knows from agents that are connected to it.
    pub fn merge(&mut self, connected: &[String], told: &v1::ToldPolicy) {
        for node in connected {
            if let Some(known) = self.pending.get_mut(node.as_str()) {
                *known = true;
            }
        }
        if told.generation != self.generation {
            return;
        }
        if !told.flows_node.is_empty()
            && self.flows.as_ref().is_none_or(|(most, _)| told.flows_max > *most)
        {
            self.flows = Some((told.flows_max, told.flows_node.as_str().into()));
        }
        for (position, took) in told.realized.iter().zip(&told.took_us) {
            let node = usize::try_from(*position).ok().and_then(|p| connected.get(p));
            let Some((node, _)) = node.and_then(|n| self.pending.remove_entry(n.as_str())) else {
                continue;
            };
            self.realized += 1;
            if *took > 0 {
                self.took.push((node, *took));
            }
        }
        let failing: BTreeSet<&str> = told.failures.iter().map(|f| f.node.as_str()).collect();
        for node in failing {
            let Some((name, _)) = self.pending.remove_entry(node) else {
                continue;
            };
            let reasons = told.failures.iter().filter(|f| f.node == node).take(MAX_FAILURES);
            self.failures.extend(reasons.map(|f| (name.clone(), cut(f.reason.clone()))));
        }
        self.failures.sort();
    }

    /// The latencies in short.
    pub fn latency(&self) -> Option<Latency> {
        let slowest = self.took.iter().max_by_key(|(_, took)| *took)?.clone();
        let mut sorted: Vec<u64> = self.took.iter().map(|(_, took)| *took).collect();
        sorted.sort_unstable();
        // nearest rank
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(rank).copied().unwrap_or_default()
        };
        Some(Latency { p50: at(50), p99: at(99), slowest })
    }
}

/// Some policies, in no particular order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub revision: u64,
    pub policies: Vec<Progress>,
    /// Addresses that workloads claim in vain; on the first page only.
    pub refusals: Vec<Refusal>,
    /// This was the last one.
    pub last: bool,
}

/// Keeps what nodes say.
#[derive(Debug, Default)]
pub struct Tracker {
    nodes: HashMap<u32, NodeProgress>,
    latencies: HashMap<PolicyKey, Latencies>,
    most: HashMap<PolicyKey, Most>,
}

/// The node that told the most flows of a policy. Only that one is kept, because keeping all would be policies times
/// nodes: when it tells fewer, its number counts until another tells more.
#[derive(Clone, Copy, Debug)]
struct Most {
    node: u32,
    flows: u32,
}

/// What is kept of one failure, and how many per policy: a hostile agent cannot make us keep more.
const MAX_FAILURES: usize = 16;
const MAX_FAILURE_LEN: usize = 512;
const MAX_GAPS: usize = 64;

impl Tracker {
    /// Batches go out because of an event at `at`, to nodes that are connected and to others that will hear of it.
    pub fn sent(&mut self, output: &Output, at: Instant, index: &Index) {
        let mut told = NodeSet::new();
        for delivery in &output.deliveries {
            told |= &delivery.nodes;
        }
        for node in told {
            self.nodes.entry(node).or_default().sent = output.revision;
        }
        for Delivery { news, nodes } in &output.deliveries {
            match news {
                News::Change(Change::Policy(policy)) => {
                    let latencies = self.latencies.entry(policy.key.clone()).or_default();
                    if latencies.generation != policy.generation {
                        *latencies =
                            Latencies { generation: policy.generation, ..Default::default() };
                    }
                    for node in nodes {
                        latencies.by_node.remove(&node);
                        let progress = self.nodes.entry(node).or_default();
                        let pending = Pending { revision: output.revision, since: at };
                        progress.pending.insert(policy.key.clone(), pending);
                        progress.failures.remove(&policy.key);
                    }
                }
                News::Change(Change::RemovePolicy(key)) => {
                    for node in nodes {
                        let progress = self.nodes.entry(node).or_default();
                        progress.pending.remove(key);
                        progress.failures.remove(key);
                    }
                    if !index.has_policy(key) {
                        self.latencies.remove(key);
                        self.most.remove(key);
                        continue;
                    }
                    if self.most.get(key).is_some_and(|most| nodes.contains(most.node)) {
                        self.most.remove(key);
                    }
                    if let Some(latencies) = self.latencies.get_mut(key) {
                        for node in nodes {
                            latencies.by_node.remove(&node);
                        }
                    }
                }
                News::Change(_) | News::Frames(_) => {}
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

    /// A node reports. Tells how long the policies took that it has now.
    pub fn realized(
        &mut self,
        node: u32,
        at: Instant,
        report: v1::Realized,
        index: &Index,
    ) -> Vec<Duration> {
        let mut all = Vec::new();
        let Some(progress) = self.nodes.get_mut(&node) else {
            return all;
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
            let most = self.most.entry(key.clone()).or_insert(Most { node, flows: 0 });
            if most.node == node || result.flows > most.flows {
                *most = Most { node, flows: result.flows };
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
                let took = at.saturating_duration_since(pending.since);
                all.push(took);
                let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                if let Some(latencies) = latencies.get_mut(key) {
                    latencies.by_node.insert(node, took);
                }
            }
            false
        });
        all
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

    /// Some of the policies: `limit` from the `from`th on. A walk over all of them sees every policy that is there all
    /// the time; one that comes meanwhile is seen by the next.
    pub fn page(
        &self,
        index: &Index,
        from: usize,
        limit: usize,
        connected: impl Fn(u32) -> bool,
    ) -> Page {
        let policies: Vec<Progress> = index
            .policies()
            .skip(from)
            .take(limit)
            .map(|(key, generation, nodes)| {
                self.progress(key, generation, nodes.iter(), index, &connected)
            })
            .collect();
        let last = policies.len() < limit;
        let refusals = if from == 0 { index.refusals() } else { Vec::new() };
        Page { revision: index.revision(), policies, refusals, last }
    }

    fn progress(
        &self,
        key: &PolicyKey,
        generation: i64,
        nodes: impl Iterator<Item = u32>,
        index: &Index,
        connected: &impl Fn(u32) -> bool,
    ) -> Progress {
        let mut out = Progress {
            key: key.clone(),
            uid: index.policy_uid(key),
            generation,
            selected: index.selected(key),
            desired: 0,
            realized: 0,
            failures: Vec::new(),
            pending: BTreeMap::new(),
            took: Vec::new(),
            flows: self.most.get(key).map(|most| (most.flows, index.node_name(most.node).clone())),
        };
        for node in nodes {
            out.desired += 1;
            let (name, connected) = (index.node_name(node), connected(node));
            match self.nodes.get(&node) {
                Some(progress) if connected && progress.has(key) => {
                    match progress.failures.get(key) {
                        None => out.realized += 1,
                        Some(reasons) => {
                            let reasons = reasons.iter().map(|r| (name.clone(), r.clone()));
                            out.failures.extend(reasons);
                        }
                    }
                }
                _ => {
                    out.pending.insert(name.clone(), connected);
                }
            }
        }
        out.failures.sort();
        let latencies = self.latencies.get(key).filter(|l| l.generation == generation);
        for (node, took) in latencies.iter().flat_map(|l| &l.by_node) {
            out.took.push((index.node_name(*node).clone(), *took));
        }
        out
    }

    /// What connected nodes have made of these policies, for another replica.
    pub fn told(
        &self,
        index: &Index,
        keys: &[PolicyKey],
        with_nodes: bool,
        connected: &BTreeSet<u32>,
    ) -> v1::ToldReply {
        let mut out = v1::ToldReply { revision: index.revision(), ..v1::ToldReply::default() };
        let mut position = HashMap::new();
        for (at, node) in (0..).zip(connected) {
            position.insert(*node, at);
            out.connected.push(index.node_name(*node).to_string());
            if with_nodes {
                out.nodes.push(self.node(index.node_name(*node), *node, index, true));
            }
        }
        for key in keys {
            let mut told = v1::ToldPolicy { generation: -1, ..v1::ToldPolicy::default() };
            for node in connected {
                let Some(generation) = index.generation_on(key, *node) else {
                    continue;
                };
                told.generation = generation;
                if let Some(most) = self.most.get(key).filter(|most| most.node == *node) {
                    told.flows_max = most.flows;
                    told.flows_node = index.node_name(*node).to_string();
                }
                let Some(progress) = self.nodes.get(node).filter(|p| p.has(key)) else {
                    continue;
                };
                if let Some(reasons) = progress.failures.get(key) {
                    let node = index.node_name(*node).to_string();
                    let failure = |reason: &String| v1::PolicyFailure {
                        node: node.clone(),
                        reason: reason.clone(),
                    };
                    told.failures.extend(reasons.iter().map(failure));
                    continue;
                }
                let latencies = self.latencies.get(key).filter(|l| l.generation == generation);
                let took = latencies.and_then(|l| l.by_node.get(node)).copied();
                told.realized.push(position[node]);
                told.took_us.push(took.unwrap_or_default());
            }
            out.policies.push(told);
        }
        out
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
        if let Some(most) = self.most.get(key) {
            out.flows_max = most.flows;
            out.flows_node = index.node_name(most.node).to_string();
        }
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
