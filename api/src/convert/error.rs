//! Why a message was refused.

use std::collections::BTreeSet;
use std::fmt;

use weir_policy::ids::{GroupId, PolicyKey, Str};
use weir_policy::rule::{Direction, Policy};

/// What could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// The envelope itself.
    Change,
    Node(String),
    Policy(PolicyKey),
    /// A policy whose key is not readable.
    PolicyKey,
    Group(GroupId),
    /// A profile of this namespace.
    Profile(String),
    Endpoint(String),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change => write!(f, "change"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Policy(key) => write!(f, "NetworkPolicy {key}"),
            Self::PolicyKey => write!(f, "policy"),
            Self::Group(id) => write!(f, "group {id}"),
            Self::Profile(namespace) => write!(f, "profile in {namespace}"),
            Self::Endpoint(id) => write!(f, "endpoint {id}"),
        }
    }
}

/// One cause of refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    #[error("malformed protobuf")]
    Malformed(#[source] prost::DecodeError),
    /// A newer controller speaks of something else; it is passed over.
    #[error("a kind of change this version does not know")]
    UnknownChange,
    #[error("value {0} is not known to this version")]
    UnknownValue(i64),
    #[error("an alternative this version does not know, or none")]
    NoAlternative,
    #[error("it is missing")]
    Missing,
    #[error("length {had}, which is none of {allowed:?}")]
    Length { had: usize, allowed: &'static [usize] },
    #[error("value {value} is above {limit}")]
    TooLarge { value: u64, limit: u64 },
    #[error("range {first}-{last} is empty")]
    EmptyRange { first: u32, last: u32 },
}

/// What could be read of a policy that cannot be understood: enough to close its subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPolicy {
    pub key: PolicyKey,
    pub uid: Str,
    pub generation: i64,
    pub subject: GroupId,
    /// Directions in which the policy isolates its subjects.
    pub isolates: BTreeSet<Direction>,
}

impl BadPolicy {
    /// The policy that fails closed: its subjects stay isolated as they should be, and none of its rules allows
    /// anything.
    pub fn closed(&self) -> Policy {
        Policy {
            key: self.key.clone(),
            uid: Str::clone(&self.uid),
            generation: self.generation,
            subject: self.subject,
            isolates: self.isolates.clone(),
            rules: Vec::new(),
        }
    }
}

/// A resource that this build cannot understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource}{}{field}", if field.is_empty() { "" } else { ": " })]
pub struct ConvertError {
    pub resource: Resource,
    /// Path below the resource: `rules[3] (ingress[0]).services.items[1].protocol`. Empty = the resource as a whole.
    pub field: String,
    #[source]
    pub cause: Cause,
    /// Set where the resource is a policy whose key could be read: refuse it by name and close its subjects.
    pub policy: Option<Box<BadPolicy>>,
}

impl ConvertError {
    /// The error and its cause in one line, for a nack or a log.
    pub fn sentence(&self) -> String {
        format!("{self}: {}", self.cause)
    }

    /// Nothing is wrong with the message but its age: pass over it.
    pub fn is_unknown_change(&self) -> bool {
        self.cause == Cause::UnknownChange
    }
}

/// A cause and where it stands, before the resource is known.
#[derive(Debug)]
pub(super) struct FieldError {
    field: String,
    cause: Cause,
}

impl FieldError {
    pub(super) fn new(field: impl Into<String>, cause: Cause) -> Self {
        Self { field: field.into(), cause }
    }

    /// The same one level further out.
    pub(super) fn within(mut self, outer: impl fmt::Display) -> Self {
        self.field = if self.field.is_empty() {
            outer.to_string()
        } else {
            format!("{outer}.{}", self.field)
        };
        self
    }

    pub(super) fn into_error(self, resource: &Resource) -> ConvertError {
        ConvertError {
            resource: resource.clone(),
            field: self.field,
            cause: self.cause,
            policy: None,
        }
    }
}
