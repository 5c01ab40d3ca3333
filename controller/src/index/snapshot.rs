//! Everything one node needs, encoded once for all nodes.

use bytes::Bytes;
use weir_api::convert::wire;
use weir_policy::state::{Change, NodeState};

use super::Index;
use super::marks::Marks;
use super::policy::SINGLE;

impl Index {
    /// All of a node's state in dependency order: pieces that are frames ([`weir_api::convert::frames`]) of encoded
    /// changes, one after the other. What several nodes need is encoded when the first of them does, and its bytes are
    /// shared from then on.
    pub fn snapshot(&self, node: u32) -> Vec<Bytes> {
        let span = self.span(node);
        let subjects = &self.nodes[node].subjects;
        let policies: usize =
            subjects.iter().map(|g| self.groups[g].policies.len().min(SINGLE)).sum();
        let mut out = Vec::with_capacity(1 + span.reached.len() + span.groups.len() + policies);
        let encoder = &mut *self.encoder.borrow_mut();
        out.push(encoder.encode(|out| {
            wire::frame(out, &Change::Node(self.node_info(node)));
            // what only this node needs: pods of its own that no rule here can meet from elsewhere
            let mut known = None;
            for (profile, pod) in &span.apart {
                let record = &self.profiles[*profile];
                if known.replace(*profile) != Some(*profile) {
                    out.extend_from_slice(&record.frame);
                }
                if let Some(pod) = &self.pods[*pod] {
                    out.extend_from_slice(pod.frame());
                }
            }
        }));
        for profile in span.reached.iter() {
            out.extend_from_slice(self.profile_encoded(profile, encoder));
        }
        for group in span.groups.iter() {
            out.push(self.group_encoded(group, encoder));
        }
        for group in subjects {
            self.policies_encoded(group, encoder, &mut out);
        }
        out
    }

    /// Encodes what any node needs, in the order in which it lies in memory: every agent asks soon after the picture is
    /// complete, and node by node it would be met in no order at all.
    pub(super) fn encode_needed(&self) {
        let encoder = &mut *self.encoder.borrow_mut();
        for (number, profile) in self.profiles.iter() {
            if profile.groups.iter().any(|g| self.groups[*g].has_peers()) {
                self.profile_encoded(number, encoder);
            }
        }
        for (number, group) in self.groups.iter() {
            if group.is_needed() {
                self.group_encoded(number, encoder);
            }
        }
    }

    /// What [`Self::snapshot`] encodes, as a value.
    pub fn state(&self, node: u32) -> NodeState {
        let span = self.span(node);
        let mut state = NodeState { node: self.node_info(node), ..NodeState::default() };
        let mut add = |number: u32, pods: &mut dyn Iterator<Item = u32>| {
            let record = &self.profiles[number];
            state.profiles.insert(record.id, (*record.content).clone());
            for pod in pods.filter_map(|n| self.pods[n].as_ref()) {
                let endpoint = pod.endpoint(record.id);
                state.endpoints.insert(endpoint.id.clone(), endpoint);
            }
        };
        for profile in span.reached.iter() {
            add(profile, &mut self.profiles[profile].pods.iter());
        }
        for (profile, pod) in &span.apart {
            add(*profile, &mut std::iter::once(*pod));
        }
        state.groups = span.groups.iter().map(|n| (self.groups[n].id, self.group(n))).collect();
        for group in &self.nodes[node].subjects {
            let records =
                self.groups[group].policies.iter().filter_map(|n| self.policies[n].as_ref());
            state.policies.extend(records.map(|r| (r.key.clone(), r.policy())));
        }
        state
    }

    fn span(&self, node: u32) -> Span {
        let record = &self.nodes[node];
        let mut span = Span {
            groups: Marks::new(self.groups.end()),
            reached: Marks::new(self.profiles.end()),
            apart: Vec::new(),
        };
        let mut peers = Marks::new(self.groups.end());
        for subject in &record.subjects {
            span.groups.insert(subject);
            for (named, edge) in &self.groups[subject].edges {
                span.groups.insert(*named);
                if edge.as_peer > 0 && peers.insert(*named) {
                    for profile in &self.groups[*named].members {
                        span.reached.insert(profile);
                    }
                }
            }
        }
        for pod in &record.pods {
            if let Some(place) = self.pods[pod].as_ref().and_then(|p| p.place)
                && !span.reached.contains(place.profile)
            {
                span.apart.push((place.profile, pod));
            }
        }
        span.apart.sort_unstable();
        span
    }
}

/// Numbers of what a node needs, apart from its policies: those are the ones of its subject groups.
#[derive(Debug)]
struct Span {
    groups: Marks,
    /// Profiles that a peer group holds: with all their endpoints.
    reached: Marks,
    /// Other pods that run here, with their profiles; sorted.
    apart: Vec<(u32, u32)>,
}
