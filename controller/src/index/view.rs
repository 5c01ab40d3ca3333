//! The picture as a value that can be read elsewhere while the index goes on.

use std::sync::Arc;

use weir_policy::ids::{PolicyKey, Str};
use weir_policy::labels::Labels;
use weir_policy::world::{Node, Pod};

use super::pod::PodRecord;
use super::policy::PolicyRecord;
use super::{Index, NodeSet};

/// A declared namespace.
#[derive(Clone, Debug)]
pub struct NamespaceView {
    pub name: Str,
    pub labels: Arc<Labels>,
}

/// Everything policy depends on at one revision. Taking it copies references only.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub revision: u64,
    pub namespaces: Vec<NamespaceView>,
    pub nodes: Vec<Arc<Node>>,
    pub pods: Vec<Arc<PodRecord>>,
    /// Workloads that have the name of a pod, and are not in force.
    pub shadowed: Vec<Pod>,
    /// Policies as their source has them, as JSON.
    pub policies: Vec<Arc<str>>,
}

impl Index {
    /// The picture as it is now.
    pub fn view(&self) -> View {
        let namespaces = self.namespaces.iter().filter_map(|ns| {
            Some(NamespaceView { name: ns.name.clone(), labels: ns.declared.clone()? })
        });
        let policies = self.policies.iter().filter_map(|(_, p)| p.as_ref());
        View {
            revision: self.revision,
            namespaces: namespaces.collect(),
            nodes: self.nodes.iter().filter_map(|(_, n)| n.object.clone()).collect(),
            pods: self.pods.iter().filter_map(|(_, p)| p.clone()).collect(),
            shadowed: self.shadowed.values().cloned().collect(),
            policies: policies.map(|p| Arc::clone(&p.manifest)).collect(),
        }
    }

    /// Each policy with its generation and the nodes it goes to.
    pub fn policies(&self) -> impl Iterator<Item = (&PolicyKey, i64, NodeSet)> {
        self.policies.iter().filter_map(|(_, record)| {
            let record = record.as_ref()?;
            let nodes = record.subject.map(|g| self.groups[g].active.bitmap());
            Some((&record.key, record.generation, nodes.unwrap_or_default()))
        })
    }

    /// Names of all nodes that were ever mentioned.
    pub fn nodes(&self) -> impl Iterator<Item = (u32, &Str)> {
        self.nodes.iter().map(|(number, record)| (number, &record.name))
    }

    /// The UID of a policy's object; empty where there is none.
    pub fn policy_uid(&self, key: &PolicyKey) -> Str {
        self.policy_record(key).map_or_else(|| "".into(), |record| record.policy().uid)
    }

    /// How many endpoints a policy selects.
    pub fn selected(&self, key: &PolicyKey) -> u64 {
        let subject = self.policy_record(key).and_then(|record| record.subject);
        let members = subject.map(|group| &self.groups[group].members);
        members.into_iter().flatten().map(|profile| self.profiles[profile].pods.len() as u64).sum()
    }

    pub fn has_policy(&self, key: &PolicyKey) -> bool {
        self.policy_record(key).is_some()
    }

    /// The generation of a policy, if a node has it.
    pub fn generation_on(&self, key: &PolicyKey, node: u32) -> Option<i64> {
        let record = self.policy_record(key)?;
        let active = &self.groups[record.subject?].active;
        active.contains(node).then_some(record.generation)
    }

    /// The number of a node, if it was ever mentioned.
    pub fn find_node(&self, name: &str) -> Option<u32> {
        self.node_numbers.get(name).copied()
    }

    fn policy_record(&self, key: &PolicyKey) -> Option<&PolicyRecord> {
        self.policies[self.find_policy(key)?].as_ref()
    }
}
