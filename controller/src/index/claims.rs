//! Which pods claim which address, and who has it: one endpoint, or for a workload's claim a node (NP-45, NP-50).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use weir_policy::claim::Refusal;
use weir_policy::world::{Kind, Node};

use super::Index;
use super::pod::PodRecord;

/// Claims on addresses. More than one while an address moves on, and when something is wrong.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The greatest claim first: whoever else comes or goes changes nothing for those behind.
    pods: HashMap<IpAddr, SmallVec<[u32; 2]>>,
    nodes: HashMap<IpAddr, SmallVec<[u32; 2]>>,
    /// Workloads that do not have all addresses which they claim.
    refused: BTreeSet<u32>,
    /// Those that lost one in this batch.
    news: BTreeSet<u32>,
}

impl Index {
    /// A pod was replaced: it may win and lose addresses, and those that had them or have them now as well.
    pub(super) fn change_claims(&mut self, number: u32, old: Option<&PodRecord>) {
        let new = self.pods[number].clone();
        let mut touched = BTreeSet::new();
        for address in old.into_iter().flat_map(PodRecord::claims) {
            touched.extend(self.owner(address));
            if let Some(claims) = self.claims.pods.get_mut(&address) {
                claims.retain(|p| *p != number);
                if claims.is_empty() {
                    self.claims.pods.remove(&address);
                }
            }
            touched.extend(self.owner(address));
        }
        for address in new.iter().flat_map(|p| p.claims()) {
            touched.extend(self.owner(address));
            self.insert_claim(address, number);
            touched.extend(self.owner(address));
        }
        if new.is_none() {
            self.claims.refused.remove(&number);
        }
        // who has all that it claims, and had before, is not touched by others
        touched.insert(number);
        for pod in touched {
            self.settle_addresses(pod);
        }
    }

    fn insert_claim(&mut self, address: IpAddr, number: u32) {
        let claims = self.claims.pods.entry(address).or_default();
        if claims.is_empty() {
            claims.push(number);
            return;
        }
        let claim = |number: u32| self.pods[number].as_ref().map(|pod| pod.claim());
        let own = claim(number);
        let at = claims.partition_point(|other| claim(*other) > own);
        // one that names an address twice claims it once
        if claims.get(at) != Some(&number) {
            claims.insert(at, number);
        }
    }

    /// A node has other addresses, and no workload has those.
    pub(super) fn change_node_claims(&mut self, number: u32, old: Option<&Node>) {
        let new = self.nodes[number].object.clone();
        let mut touched = BTreeSet::new();
        for address in old.into_iter().flat_map(|n| &n.addresses) {
            touched.extend(self.first_claim(*address));
            if let Some(claims) = self.claims.nodes.get_mut(address) {
                claims.retain(|n| *n != number);
                if claims.is_empty() {
                    self.claims.nodes.remove(address);
                }
            }
        }
        for address in new.iter().flat_map(|n| &n.addresses) {
            touched.extend(self.first_claim(*address));
            self.claims.nodes.entry(*address).or_default().push(number);
        }
        for pod in touched {
            self.settle_addresses(pod);
        }
    }

    /// Works out again which of its addresses are a pod's own.
    fn settle_addresses(&mut self, number: u32) {
        let Some(pod) = &self.pods[number] else {
            return;
        };
        let lost: Vec<IpAddr> = pod.claims().filter(|a| self.owner(*a) != Some(number)).collect();
        match pod.kind == Kind::Workload && !lost.is_empty() {
            true if lost != pod.lost || !self.claims.refused.contains(&number) => {
                self.claims.refused.insert(number);
                self.claims.news.insert(number);
            }
            true => {}
            false => {
                self.claims.refused.remove(&number);
            }
        }
        if lost != pod.lost {
            let settled = Arc::new(pod.with_lost(lost));
            let old = self.pods[number].replace(settled);
            self.journal.pod(number, old.as_ref());
        }
    }

    fn first_claim(&self, address: IpAddr) -> Option<u32> {
        self.claims.pods.get(&address)?.first().copied()
    }

    /// The pod that has an address for policy: the one with the greatest claim, in whatever order they came. Pods come
    /// before workloads, so that where the first is a workload, there is no other that may have the address of a node.
    fn owner(&self, address: IpAddr) -> Option<u32> {
        let first = self.first_claim(address)?;
        let is_pod = || self.pods[first].as_ref().is_some_and(|p| p.kind == Kind::Pod);
        (!self.claims.nodes.contains_key(&address) || is_pod()).then_some(first)
    }

    /// Addresses that workloads claim and do not have, as far as they are new since the last time.
    pub fn new_refusals(&mut self) -> Vec<Refusal> {
        let news = std::mem::take(&mut self.claims.news);
        self.refusals_of(news.intersection(&self.claims.refused))
    }

    /// Addresses that workloads claim and do not have, sorted.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.refusals_of(&self.claims.refused)
    }

    fn refusals_of<'a>(&self, workloads: impl IntoIterator<Item = &'a u32>) -> Vec<Refusal> {
        let mut out = Vec::new();
        for number in workloads {
            let Some(workload) = &self.pods[*number] else {
                continue;
            };
            let lost = workload.addresses.iter().enumerate();
            for (n, address) in lost.filter(|(_, a)| workload.lost.contains(a)) {
                let nodes = self.claims.nodes.get(address).into_iter().flatten();
                let owner = match nodes.map(|n| self.node_name(*n)).min() {
                    Some(node) => format!("Node {node}"),
                    None => self
                        .owner(*address)
                        .and_then(|pod| self.pods[pod].as_ref())
                        .map_or_else(String::new, |pod| pod.title()),
                };
                out.push(Refusal::new(workload.title(), n, *address, owner));
            }
        }
        out.sort();
        out
    }
}
