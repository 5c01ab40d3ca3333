//! What each node needs, kept up to date event by event.
//!
//! One writer: [`Index::apply`] takes what happened and tells what changes for which node; nothing is computed in full
//! but on [`Index::snapshot`], and then for one node only. The result always equals `weir_policy::compile::node_state`
//! over the same world; `tests/index.rs` holds it to that after every step of random histories.
//!
//! # How
//!
//! - Pods with equal namespace, labels and named ports share a *profile* with a dense number ([`profile`]). A pod event
//!   with a known profile costs a look-up.
//! - A selector is a *group*; its members are a bitmap of profile numbers. A new selector finds them through inverted
//!   indexes ([`labels`]), a new profile finds its selectors through what they hang on ([`anchors`]).
//! - Spans are reference counts ([`span`]): a subject group is *active* on the nodes where its members' pods run; a node
//!   needs a group that it is active for, and those which policies of an active subject name: each pair (subject group,
//!   named group) is one edge, however many policies make it.
//! - A batch writes down the old value of whatever it touches ([`journal`]); what to send is the difference ([`emit`]), for
//!   profiles and their endpoints as a whole where it can be ([`reach`]).

use std::cell::RefCell;
use std::sync::Arc;

use weir_policy::ids::Str;
use weir_policy::world::{Kind, Node, Pod, PodKey};

use crate::event::Event;

mod anchors;
mod claims;
mod counts;
mod emit;
mod encode;
mod group;
mod intern;
mod journal;
mod labels;
mod marks;
mod namespace;
mod pod;
mod policy;
mod profile;
mod reach;
mod set;
mod slots;
mod snapshot;
mod span;
mod table;
mod view;

pub use emit::{Delivery, News, Output};
pub use pod::PodRecord;
pub use roaring::RoaringBitmap as NodeSet;
pub use view::{NamespaceView, View};

use claims::Claims;
use encode::Encoder;
use group::Groups;
use intern::Interner;
use journal::Journal;
use namespace::Namespaces;
use policy::PolicyRecord;
use profile::Profiles;
use set::Set;
use slots::Slots;
use table::{Hasher, Map};

/// A node as the index knows it. It exists from its first mention on; nodes are few, and their numbers stay theirs.
#[derive(Debug)]
struct NodeRecord {
    name: Str,
    object: Option<Arc<Node>>,
    /// Endpoints that run here.
    pods: Set,
    /// Subject groups that are active here.
    subjects: Set,
}

/// Sizes, for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub namespaces: usize,
    pub nodes: usize,
    pub pods: usize,
    pub profiles: usize,
    pub groups: usize,
    pub policies: usize,
    /// Pairs of a subject group and a group that its policies name.
    pub edges: usize,
}

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    revision: u64,
    synced: bool,
    /// Something of the picture changed in this batch.
    changed: bool,
    names: Interner,
    namespaces: Namespaces,
    nodes: Slots<NodeRecord>,
    node_numbers: Map<Str, u32>,
    /// A number is a pod's name, until the batch ends in which it went.
    pods: Slots<Option<Arc<PodRecord>>>,
    /// Workloads that have the name of a pod.
    shadowed: Map<PodKey, Pod>,
    claims: Claims,
    profiles: Profiles,
    groups: Groups,
    policies: Slots<Option<PolicyRecord>>,
    /// Of the keys in the tables of each namespace.
    hasher: Hasher,
    /// Borrowed for the time of one snapshot, or of what one batch sends.
    encoder: RefCell<Encoder>,
    journal: Journal,
}

impl Index {
    /// An index of nothing, at revision 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Grows with each batch that changed the picture.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The source has told everything there is.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The number of a node in [`Delivery::nodes`]; one is given on first mention.
    pub fn node_number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.node_numbers.get(name) {
            return *number;
        }
        let name = self.names.text(name);
        let number = self.nodes.insert(NodeRecord {
            name: name.clone(),
            object: None,
            pods: Set::default(),
            subjects: Set::default(),
        });
        self.node_numbers.insert(name, number);
        number
    }

    /// The name of a node.
    pub fn node_name(&self, number: u32) -> &Str {
        &self.nodes[number].name
    }

    pub fn sizes(&self) -> Sizes {
        Sizes {
            namespaces: self.namespaces.len(),
            nodes: self.nodes.len(),
            pods: self.pods.len(),
            profiles: self.profiles.len(),
            groups: self.groups.len(),
            policies: self.policies.len(),
            edges: self.groups.edges,
        }
    }

    /// Takes what happened as one change of the picture, and tells what that changes for which nodes.
    ///
    /// Until the source has synced there is nobody to tell, and the output is empty.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Output {
        // what comes in the batch that completes the picture belongs to the picture
        let was_synced = self.synced;
        self.journal.set_on(was_synced);
        for event in events {
            match event {
                Event::NamespaceApplied { name, labels } => self.apply_namespace(name, labels),
                Event::NamespaceDeleted { name } => self.delete_namespace(&name),
                Event::PodApplied(pod) => self.apply_pod(Pod { kind: Kind::Pod, ..pod }),
                Event::PodDeleted { namespace, name, uid } => {
                    self.delete_pod(Kind::Pod, &(namespace, name), &uid);
                }
                Event::WorkloadApplied(workload) => {
                    self.apply_pod(Pod { kind: Kind::Workload, ..workload });
                }
                Event::WorkloadDeleted { namespace, name, uid } => {
                    self.delete_pod(Kind::Workload, &(namespace, name), &uid);
                }
                Event::NodeApplied(node) => self.apply_node(node),
                Event::NodeDeleted { name } => self.delete_node(&name),
                Event::PolicyApplied { object, manifest } => self.apply_policy(*object, manifest),
                Event::PolicyDeleted { key, uid } => self.delete_policy(&key, &uid),
                Event::Synced => self.synced = true,
            }
        }
        self.sweep_profiles();
        if std::mem::take(&mut self.changed) {
            self.revision += 1;
        }
        let deliveries = self.deliveries();
        self.sweep();
        if self.synced && !was_synced {
            self.encode_needed();
        }
        Output { revision: self.revision, deliveries }
    }

    fn apply_node(&mut self, node: Node) {
        let number = self.node_number(&node.name);
        if self.nodes[number].object.as_deref() == Some(&node) {
            return;
        }
        self.set_node(number, Some(Arc::new(node)));
    }

    fn delete_node(&mut self, name: &str) {
        if let Some(number) = self.node_numbers.get(name).copied()
            && self.nodes[number].object.is_some()
        {
            self.set_node(number, None);
        }
    }

    fn set_node(&mut self, number: u32, object: Option<Arc<Node>>) {
        self.changed = true;
        let before = std::mem::replace(&mut self.nodes[number].object, object);
        self.journal.node(number, before.as_deref());
        self.change_node_claims(number, before.as_deref());
    }

    /// Frees what the batch left without use. Before that, what went can still be told by name.
    fn sweep(&mut self) {
        let journal = std::mem::take(&mut self.journal);
        for (number, key) in journal.gone_pods {
            self.free_pod_if_gone(number, &key);
        }
        for (number, key) in journal.gone_policies {
            self.free_policy_if_gone(number, &key);
        }
        for number in journal.unused_groups {
            self.drop_group_if_unused(number);
        }
        for number in journal.empty_profiles {
            self.free_profile_if_empty(number);
        }
        self.names.purge();
    }
}
