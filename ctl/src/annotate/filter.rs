//! Which flows of a dump are meant.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rust_openflow::Field;
use rust_openflow::text::FlowText;

use super::layout::{self, Cookie, Kind, Owner};
use super::symbols::{PortOwner, Symbols};
use super::{Note, conjunctions, in_port, prefix, register};

/// Flows that have seen packets, or have not. Clause flows have no counters and are neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Counters {
    Nonzero,
    Zero,
}

/// What is asked for; nothing = everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `namespace/name`.
    pub pod: Option<String>,
    /// Namespace and name.
    pub policy: Option<(String, String)>,
    pub rule: Option<u32>,
    pub class: Option<u32>,
    pub table: Option<u8>,
    pub owner: Option<Owner>,
    pub counters: Option<Counters>,
}

/// A filter made ready for one dump.
pub struct Selection<'a> {
    filter: &'a Filter,
    pod: Option<Pod>,
    /// Ids of the policy's rules and isolation sets.
    policy: BTreeSet<u32>,
}

/// Everything by which a flow can be about a workload.
#[derive(Default)]
struct Pod {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u32>,
    macs: BTreeSet<u128>,
    class: Option<u32>,
    /// Conjunctions whose subject its class is.
    rules: BTreeSet<u32>,
}

impl<'a> Selection<'a> {
    /// Looks up in the dump what the filter means there.
    pub fn new(filter: &'a Filter, symbols: &Symbols, flows: &[FlowText]) -> Self {
        let pod = filter.pod.as_ref().map(|name| Pod::new(name, symbols, flows));
        let mut policy = BTreeSet::new();
        if let Some((namespace, name)) = &filter.policy {
            let ids = symbols.rules.keys().chain(symbols.isolation.keys());
            policy.extend(ids.filter(|id| {
                let users = symbols.policies_of(**id);
                users.iter().any(|p| p.namespace == *namespace && p.name == *name)
            }));
        }
        Self { filter, pod, policy }
    }

    pub fn keeps(&self, flow: &FlowText, note: &Note) -> bool {
        let f = self.filter;
        let serves = |ids: &BTreeSet<u32>| {
            note.id.is_some_and(|id| ids.contains(&id)) || !conjunctions(flow).is_disjoint(ids)
        };
        f.table.is_none_or(|t| t == flow.table)
            && f.owner.is_none_or(|o| o == note.owner)
            && f.rule.is_none_or(|id| serves(&BTreeSet::from([id])))
            && f.class.is_none_or(|c| is_of_class(flow, c))
            && (f.policy.is_none() || serves(&self.policy))
            && self.pod.as_ref().is_none_or(|p| p.has(flow))
            && f.counters.is_none_or(|c| counted(flow, note) == Some(c == Counters::Nonzero))
    }
}

/// Whether a flow has seen packets; none where nobody counts.
fn counted(flow: &FlowText, note: &Note) -> Option<bool> {
    packets(flow, note).map(|n| n > 0)
}

/// The packets a flow has seen. Clause flows have no counters, and pasted text may have none.
pub fn packets(flow: &FlowText, note: &Note) -> Option<u64> {
    if note.owner == Owner::Clause { None } else { flow.stats.map(|s| s.packets) }
}

fn is_of_class(flow: &FlowText, class: u32) -> bool {
    let loads = matches!(flow.table, layout::SRC_CLASS | layout::DST_CLASS)
        && Cookie::read(flow.cookie).is_some_and(|c| c.kind == Kind::Base && c.id == class);
    loads
        || [layout::REG_SRC_CLASS, layout::REG_DST_CLASS]
            .iter()
            .any(|r| register(flow, *r) == Some(class))
}

/// The class of the subject that a flow of a rule table matches.
fn subject(flow: &FlowText) -> Option<u32> {
    match flow.table {
        layout::EGRESS_RULE => register(flow, layout::REG_SRC_CLASS),
        layout::INGRESS_RULE => register(flow, layout::REG_DST_CLASS),
        _ => None,
    }
}

impl Pod {
    fn new(name: &str, symbols: &Symbols, flows: &[FlowText]) -> Self {
        let mut pod = Self::default();
        // a workload that was made again may be there twice
        for e in symbols.endpoints.iter().filter(|e| e.pod == name) {
            pod.addresses.extend(&e.addresses);
            pod.class = e.class.or(pod.class);
        }
        pod.ports.extend(symbols.ports.iter().filter_map(|(n, owner)| match owner {
            PortOwner::Workload { pod, .. } if pod == name => Some(*n),
            _ => None,
        }));
        for flow in flows {
            if subject(flow).is_some_and(|c| Some(c) == pod.class) {
                pod.rules.extend(conjunctions(flow));
            }
            if flow.table == layout::FORWARD
                && prefix(flow, false).is_some_and(|(a, _)| pod.addresses.contains(&a))
            {
                pod.macs.extend(flow.match_.exact(Field::EthDst));
            }
        }
        pod
    }

    fn has(&self, flow: &FlowText) -> bool {
        if matches!(flow.table, layout::EGRESS_RULE | layout::INGRESS_RULE) {
            let conj_id = flow.match_.exact(Field::ConjId).and_then(|v| u32::try_from(v).ok());
            return self.class.is_some_and(|c| is_of_class(flow, c))
                || conj_id.is_some_and(|id| self.rules.contains(&id))
                || !conjunctions(flow).is_disjoint(&self.rules);
        }
        let address =
            |source| prefix(flow, source).is_some_and(|(a, _)| self.addresses.contains(&a));
        in_port(flow).is_some_and(|p| self.ports.contains(&p))
            || address(true)
            || address(false)
            || (flow.table == layout::FORWARD
                && flow.match_.exact(Field::EthDst).is_some_and(|m| self.macs.contains(&m)))
    }
}
