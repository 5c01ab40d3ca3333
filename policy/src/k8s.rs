//! Manifests -> normal form: Namespace, Pod, Node, NetworkPolicy and Workload as `kubectl` takes and prints them.
//!
//! One path for all sources: text is read by [`read_documents`], lists are opened by [`flatten`], and [`object`] turns
//! one document into one [`Object`]. The typed entry points ([`network_policy`] and its siblings) go the same way, so
//! that a watch of a cluster and a directory of files cannot differ.
//!
//! # What is wrong only ever narrows
//!
//! The API server fills in defaults and refuses mistakes; files come without its help. Defaults are filled in here
//! (NP-8..NP-12, NP-21). A mistake inside a NetworkPolicy takes the smallest part around it out of force, never the
//! isolation, and yields a [`Warning`] (NP-16, NP-17, NP-19, NP-23):
//!
//! | what cannot be understood | effect |
//! |---|---|
//! | an entry of `from`, `to`, `ports` | that entry matches nothing |
//! | a rule (not an object, unknown field) | that rule matches nothing |
//! | `ingress`, `egress` | isolates, allows nothing in that direction |
//! | `policyTypes` | isolates in both directions; rules only of directions that it names |
//! | `podSelector`, `spec` | isolates every pod of the namespace, allows nothing |
//!
//! Only an object without a usable kind or name is refused as a whole ([`Rejection`]), and so is a Pod, Workload, Node or
//! Namespace whose labels are not text: a pod that is not known is closed, which is safer than one with half its labels.
//! Other kinds are nobody's mistake, unless one looks like a kind of ours misspelt.

use std::fmt;

use serde_json::Value;

use crate::ids::Str;
use crate::labels::Labels;
use crate::rule::PolicyObject;
use crate::world::{Node, Pod, World};

mod at;
mod core;
mod foreign;
mod policy;
mod read;
mod selector;
mod workload;

use at::{At, Problem};
pub use read::{MAX_TEXT, flatten, read_documents};

/// An object that is not taken, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Line { object, field, value, reason })]
pub struct Rejection {
    /// `NetworkPolicy shop/db`, or which document of a text.
    pub object: String,
    /// `metadata.name`, or `line 14`. Empty for the object as a whole.
    pub field: String,
    /// What stands there, as JSON. Empty where nothing does.
    pub value: String,
    pub reason: String,
}

/// A part of an object that is not in force as written, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// `NetworkPolicy shop/db`.
    pub object: String,
    /// `spec.ingress[0].from[1].ipBlock.cidr`.
    pub field: String,
    /// What stands there, as JSON. Empty where nothing does.
    pub value: String,
    pub reason: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, field, value, reason } = self;
        Line { object, field, value, reason }.fmt(f)
    }
}

/// `object: field: value: reason`, without what is empty.
struct Line<'a> {
    object: &'a str,
    field: &'a str,
    value: &'a str,
    reason: &'a str,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        if !self.field.is_empty() {
            write!(f, "{}", self.field)?;
            if !self.value.is_empty() {
                write!(f, " {}", self.value)?;
            }
            write!(f, ": ")?;
        }
        f.write_str(self.reason)
    }
}

/// An object that Weir reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    Namespace {
        name: Str,
        labels: Labels,
    },
    Pod(Pod),
    /// Of [`crate::world::Kind::Workload`].
    Workload(Pod),
    Node(Node),
    NetworkPolicy(PolicyObject),
}

impl Object {
    /// `NetworkPolicy shop/db`: kind and name, as messages write them.
    pub fn title(&self) -> String {
        match self {
            Self::Namespace { name, .. } => format!("Namespace {name}"),
            Self::Pod(p) | Self::Workload(p) => p.title(),
            Self::Node(n) => format!("Node {}", n.name),
            Self::NetworkPolicy(p) => format!("NetworkPolicy {}", p.policy.key),
        }
    }

    /// Puts the object into a world; it replaces the one of its name.
    pub fn put(self, world: &mut World) {
        match self {
            Self::Namespace { name, labels } => {
                world.namespaces.insert(name, labels);
            }
            Self::Pod(pod) => {
                world.pods.insert(pod.key(), pod);
            }
            Self::Workload(workload) => {
                world.workloads.insert(workload.key(), workload);
            }
            Self::Node(node) => {
                world.nodes.insert(node.name.clone(), node);
            }
            Self::NetworkPolicy(object) => {
                world.policies.insert(object.policy.key.clone(), object);
            }
        }
    }
}

/// Reads one object. `None` is an object of a kind that Weir does not read.
///
/// Errors: [`Rejection`] for an object without a usable kind or name, for a Pod, Workload, Node or Namespace whose labels
/// are not text, and for one of a kind or version that nothing else has and that looks like one of these misspelt. A
/// NetworkPolicy with a name is always taken; what is wrong in it is narrowed with a warning.
pub fn object(value: &Value) -> Result<(Option<Object>, Vec<Warning>), Rejection> {
    let root = At::root(value);
    let anonymous = |p: Problem| p.reject("object");
    let kind = root.required_str("kind").map_err(anonymous)?;
    let version = match root.field("apiVersion") {
        Some(v) => v.str().map_err(|p| p.reject(kind))?,
        // files often leave it out; the kinds below are told apart without it
        None => "",
    };
    match (kind, version) {
        ("Namespace", "v1" | "") => core::namespace(&root)
            .map(|(name, labels)| (Some(Object::Namespace { name, labels }), Vec::new())),
        ("Node", "v1" | "") => core::node(&root).map(|(o, w)| (Some(Object::Node(o)), w)),
        ("Pod", "v1" | "") => core::pod(&root).map(|(o, w)| (Some(Object::Pod(o)), w)),
        ("NetworkPolicy", "networking.k8s.io/v1" | "") => {
            policy::network_policy(&root).map(|(o, w)| (Some(Object::NetworkPolicy(o)), w))
        }
        ("Workload", workload::API_VERSION) => {
            workload::workload(&root).map(|(o, w)| (Some(Object::Workload(o)), w))
        }
        _ => foreign::object(&root, kind, version)
            .map(|warning| (None, warning.into_iter().collect())),
    }
}

/// Reads a typed NetworkPolicy.
///
/// Errors: as [`object`].
pub fn network_policy(
    policy: &k8s_openapi::api::networking::v1::NetworkPolicy,
) -> Result<(PolicyObject, Vec<Warning>), Rejection> {
    policy::network_policy(&At::root(&typed(policy)?))
}

/// Reads a typed Pod.
///
/// Errors: as [`object`].
pub fn pod(pod: &k8s_openapi::api::core::v1::Pod) -> Result<(Pod, Vec<Warning>), Rejection> {
    core::pod(&At::root(&typed(pod)?))
}

/// Reads a Workload, which is a custom resource: as JSON. `kind` and `apiVersion` are not looked at.
///
/// Errors: as [`object`].
pub fn workload(value: &Value) -> Result<(Pod, Vec<Warning>), Rejection> {
    workload::workload(&At::root(value))
}

/// Reads a typed Namespace: its name and labels.
///
/// Errors: as [`object`].
pub fn namespace(
    namespace: &k8s_openapi::api::core::v1::Namespace,
) -> Result<(Str, Labels), Rejection> {
    core::namespace(&At::root(&typed(namespace)?))
}

/// Reads a typed Node.
///
/// Errors: as [`object`].
pub fn node(node: &k8s_openapi::api::core::v1::Node) -> Result<(Node, Vec<Warning>), Rejection> {
    core::node(&At::root(&typed(node)?))
}

/// The JSON of a typed object. It cannot fail for the types above; a message beats a panic all the same.
fn typed(value: &impl serde::Serialize) -> Result<Value, Rejection> {
    serde_json::to_value(value).map_err(|e| Rejection {
        object: "object".to_owned(),
        field: String::new(),
        value: String::new(),
        reason: format!("cannot be written as JSON: {e}"),
    })
}

#[cfg(test)]
mod tests;
