//! Profiles and address groups.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{Canonical, GroupId, ProfileId, Str};
use crate::labels::Labels;
use crate::port::NamedPort;

/// What endpoints share that a selector or a named port can ask about. The pods of a ReplicaSet share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Profile {
    pub namespace: Str,
    pub labels: Labels,
    pub named_ports: BTreeSet<NamedPort>,
}

impl Profile {
    /// Hash of the content; no policy has a part in it.
    pub fn id(&self) -> ProfileId {
        let mut c = Canonical::new("weir/profile/1");
        c.str(&self.namespace).u64(self.labels.len() as u64);
        for (k, v) in self.labels.iter() {
            c.str(k).str(v);
        }
        c.u64(self.named_ports.len() as u64);
        for p in &self.named_ports {
            c.str(&p.name).u64(u64::from(p.protocol.number())).u64(u64::from(p.number));
        }
        ProfileId(c.finish().word64())
    }
}

/// The profiles that a selector picks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub id: GroupId,
    /// The selector as people read it.
    pub selector: Str,
    pub members: BTreeSet<ProfileId>,
}
