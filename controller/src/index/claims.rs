//! Which pods claim which address, and who has it: one endpoint, or for a workload's claim a node (NP-45, NP-50).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use weir_policy::claim::Refusal;
use weir_policy::ids::ProfileId;
use weir_policy::world::{Kind, Node};

use super::Index;
use super::pod::PodRecord;
use super::slots::Slots;
use super::table::{Map, Table};

/// Claims on addresses. More than one while an address moves on, and when something is wrong.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The pods of addresses that one pod claims.
    single: Table,
    /// Those of addresses that several claim, the greatest claim first: whoever comes or goes behind it changes nothing.
    several: Map<IpAddr, Vec<u32>>,
    nodes: Map<IpAddr, SmallVec<[u32; 2]>>,
    /// Workloads that do not have all addresses which they claim.
    refused: BTreeSet<u32>,
    /// Those that lost one in this batch.
    news: BTreeSet<u32>,
}

/// The addresses that a pod claims, each once.
fn claims(pod: Option<&PodRecord>) -> SmallVec<[IpAddr; 4]> {
    let mut out = SmallVec::new();
    for address in pod.into_iter().flat_map(PodRecord::claims) {
        if !out.contains(&address) {
            out.push(address);
        }
    }
    out
}

impl Index {
    /// A pod was replaced: it may win and lose addresses, and those that had them or have them now as well.
    pub(super) fn change_claims(&mut self, number: u32, old: Option<&PodRecord>) {
        let mut touched: SmallVec<[u32; 4]> = SmallVec::new();
        // all old claims go before new ones come: in between nothing is found by what this pod claimed
        for address in claims(old) {
            self.remove_claim(address, number, &mut touched);
        }
        let new = claims(self.pods[number].as_deref());
        for address in &new {
            self.insert_claim(*address, number, &mut touched);
        }
        if self.pods[number].is_none() {
            self.claims.refused.remove(&number);
        }
        let of_node = || new.iter().any(|a| self.claims.nodes.contains_key(a));
        if touched.is_empty() && !of_node() && !self.claims.refused.contains(&number) {
            // the usual case: it has all that it claims, and nobody else is concerned
            return;
        }
        touched.push(number);
        touched.sort_unstable();
        touched.dedup();
        for pod in touched {
            self.settle_addresses(pod);
        }
    }

    /// Of an address that several claim, `touched` gets the one that had it and the one that has it.
    fn remove_claim(&mut self, address: IpAddr, number: u32, touched: &mut SmallVec<[u32; 4]>) {
        let Some(claims) = self.claims.several.get_mut(&address) else {
            self.claims.single.remove(&address, number);
            return;
        };
        touched.extend(claims.first().copied());
        claims.retain(|n| *n != number);
        touched.extend(claims.first().copied());
        if let [last] = claims[..] {
            self.claims.several.remove(&address);
            self.claims.single.insert(&address, last);
        }
    }

    /// As [`Self::remove_claim`].
    fn insert_claim(&mut self, address: IpAddr, number: u32, touched: &mut SmallVec<[u32; 4]>) {
        let claim = |number: u32| self.pods[number].as_ref().map(|pod| pod.claim());
        let Some(claims) = self.claims.several.get_mut(&address) else {
            // an address of this pod with the same hash may be there
            let other = |n| n != number && holds(&self.pods, n, address);
            let Some(other) = self.claims.single.find(&address, other) else {
                self.claims.single.insert(&address, number);
                return;
            };
            let both = if claim(other) > claim(number) {
                vec![other, number]
            } else {
                vec![number, other]
            };
            touched.extend(both.iter().copied());
            self.claims.single.remove(&address, other);
            self.claims.several.insert(address, both);
            return;
        };
        touched.extend(claims.first().copied());
        let own = claim(number);
        let at = claims.partition_point(|other| claim(*other) > own);
        claims.insert(at, number);
        touched.extend(claims.first().copied());
    }

    /// A node has other addresses, and no workload has those.
    pub(super) fn change_node_claims(&mut self, number: u32, old: Option<&Node>) {
        let new = self.nodes[number].object.clone();
        let mut touched = BTreeSet::new();
        for address in old.into_iter().flat_map(|n| &n.addresses) {
            touched.extend(self.greatest_claim(*address));
            if let Some(claims) = self.claims.nodes.get_mut(address) {
                claims.retain(|n| *n != number);
                if claims.is_empty() {
                    self.claims.nodes.remove(address);
                }
            }
        }
        for address in new.iter().flat_map(|n| &n.addresses) {
            touched.extend(self.greatest_claim(*address));
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
        let lost: Box<[IpAddr]> = pod.claims().filter(|a| self.owner(*a) != Some(number)).collect();
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
            let place = pod.place;
            let profile = place.map_or(ProfileId(0), |p| self.profiles[p.profile].id);
            let settled = Arc::new(pod.with_lost(lost, profile));
            let old = self.pods[number].replace(settled);
            self.journal.pod(number, old.as_ref());
            if let Some(place) = place {
                self.forget_encoded(place.profile);
            }
        }
    }

    fn greatest_claim(&self, address: IpAddr) -> Option<u32> {
        match self.claims.several.get(&address) {
            Some(claims) => claims.first().copied(),
            None => self.claims.single.find(&address, |n| holds(&self.pods, n, address)),
        }
    }

    /// The pod that has an address for policy: the one with the greatest claim, in whatever order they came. Pods come
    /// before workloads, so that where the first is a workload, there is no other that may have the address of a node.
    fn owner(&self, address: IpAddr) -> Option<u32> {
        let first = self.greatest_claim(address)?;
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

    /// Workloads that do not have all addresses which they claim.
    pub fn refused(&self) -> usize {
        self.claims.refused.len()
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
                out.push(Refusal::new(workload.title(), workload.uid().into(), n, *address, owner));
            }
        }
        out.sort();
        out
    }
}

/// A pod claims an address.
fn holds(pods: &Slots<Option<Arc<PodRecord>>>, number: u32, address: IpAddr) -> bool {
    pods[number].as_ref().is_some_and(|pod| pod.claims().any(|a| a == address))
}
