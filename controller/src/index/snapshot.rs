//! Everything one node needs, encoded once for all nodes.

use bytes::Bytes;
use roaring::RoaringBitmap;
use weir_api::convert::change_to_bytes;
use weir_policy::state::{Change, NodeState};

use super::Index;

impl Index {
    /// All of a node's state as encoded changes, in dependency order. Each object is encoded when a node first needs it,
    /// and the bytes are shared from then on.
    pub fn snapshot(&self, node: u32) -> Vec<Bytes> {
        let span = self.span(node);
        let mut out = vec![change_to_bytes(&Change::Node(self.node_info(node)))];
        for number in &span.profiles {
            let record = &self.profiles[number];
            let encode = || change_to_bytes(&Change::Profile((*record.content).clone()));
            out.push(record.encoded.get_or_init(encode).clone());
        }
        for number in &span.groups {
            let encode = || change_to_bytes(&Change::Group(self.group(number)));
            out.push(self.groups[number].encoded.get_or_init(encode).clone());
        }
        for number in &span.pods {
            let Some(pod) = &self.pods[number] else {
                continue;
            };
            let Some(place) = pod.place else {
                continue;
            };
            let profile = self.profiles[place.profile].id;
            let encode = || change_to_bytes(&Change::Endpoint(pod.endpoint(profile)));
            out.push(pod.encoded.get_or_init(encode).clone());
        }
        for number in &span.policies {
            let Some(record) = &self.policies[number] else {
                continue;
            };
            let encode = || change_to_bytes(&Change::Policy((*record.policy).clone()));
            out.push(record.encoded.get_or_init(encode).clone());
        }
        out
    }

    /// The same as a value.
    pub fn state(&self, node: u32) -> NodeState {
        let span = self.span(node);
        let profile = |n| {
            let record = &self.profiles[n];
            (record.id, (*record.content).clone())
        };
        let endpoints = span.pods.iter().filter_map(|n| {
            let pod = self.pods[n].as_ref()?;
            let endpoint = pod.endpoint(self.profiles[pod.place?.profile].id);
            Some((endpoint.id.clone(), endpoint))
        });
        let policies = span.policies.iter().filter_map(|n| {
            let policy = &self.policies[n].as_ref()?.policy;
            Some((policy.key.clone(), (**policy).clone()))
        });
        NodeState {
            node: self.node_info(node),
            policies: policies.collect(),
            groups: span.groups.iter().map(|n| (self.groups[n].id, self.group(n))).collect(),
            profiles: span.profiles.iter().map(profile).collect(),
            endpoints: endpoints.collect(),
        }
    }

    fn span(&self, node: u32) -> Span {
        let record = &self.nodes[node];
        let mut span = Span { pods: record.pods.clone(), ..Span::default() };
        let mut reached = RoaringBitmap::new();
        for subject in &record.subjects {
            let group = &self.groups[subject];
            span.groups.insert(subject);
            span.policies |= &group.policies;
            for (named, edge) in &group.edges {
                span.groups.insert(*named);
                if edge.as_peer > 0 {
                    reached |= &self.groups[*named].members;
                }
            }
        }
        for group in &span.groups {
            span.profiles |= &self.groups[group].members;
        }
        for profile in &reached {
            span.pods |= &self.profiles[profile].pods;
        }
        for pod in &record.pods {
            let place = self.pods[pod].as_ref().and_then(|p| p.place);
            span.profiles.extend(place.map(|p| p.profile));
        }
        span
    }
}

/// Numbers of what a node needs.
#[derive(Debug, Default)]
struct Span {
    policies: RoaringBitmap,
    groups: RoaringBitmap,
    profiles: RoaringBitmap,
    pods: RoaringBitmap,
}
