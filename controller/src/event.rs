//! The one input of the index: what a source saw. Recordable, so that a fault seen in the field can be played again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_policy::ids::{PolicyKey, Str};
use weir_policy::labels::Labels;
use weir_policy::rule::PolicyObject;
use weir_policy::world::{Node, Pod};

/// One thing that happened to one object.
///
/// A deletion names the UID it means, where the source knows one: a late deletion of an old object must not take away
/// the new one of the same name (NP-45, NP-47).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    NamespaceApplied {
        name: Str,
        labels: Labels,
    },
    NamespaceDeleted {
        name: Str,
    },
    PodApplied(Pod),
    PodDeleted {
        namespace: Str,
        name: Str,
        /// Empty = whichever has the name.
        uid: Str,
    },
    /// A pod of [`weir_policy::world::Kind::Workload`].
    WorkloadApplied(Pod),
    WorkloadDeleted {
        namespace: Str,
        name: Str,
        /// Empty = whichever has the name.
        uid: Str,
    },
    NodeApplied(Node),
    NodeDeleted {
        name: Str,
    },
    PolicyApplied {
        object: Box<PolicyObject>,
        /// The object as its source has it, trimmed, as JSON: what tools are shown.
        manifest: Arc<str>,
    },
    PolicyDeleted {
        key: PolicyKey,
        /// Empty = whichever has the name.
        uid: Str,
    },
    /// The source has told everything that there is: from here on nodes are served.
    Synced,
}

impl Event {
    /// Of a pod or workload.
    pub const fn is_of_endpoint(&self) -> bool {
        matches!(
            self,
            Self::PodApplied(_)
                | Self::PodDeleted { .. }
                | Self::WorkloadApplied(_)
                | Self::WorkloadDeleted { .. }
        )
    }
}
