//! What one node is told: its state, and the changes that travel to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::group::{Group, Profile};
use crate::ids::{EndpointId, GroupId, PolicyKey, ProfileId, Str};
use crate::rule::Policy;

/// A pod, VM or other workload with addresses on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: EndpointId,
    pub namespace: Str,
    pub name: Str,
    pub node: Str,
    pub addresses: BTreeSet<IpAddr>,
    /// Where the source knows it (`aa:bb:cc:dd:ee:ff`); the port's `attached-mac` comes first.
    pub mac: Option<[u8; 6]>,
    pub profile: ProfileId,
}

/// The node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    pub name: Str,
    pub addresses: BTreeSet<IpAddr>,
}

/// Everything a node needs (its span): policies whose subjects run there, the groups those name, its own endpoints and
/// those of peer groups, and their profiles. A group may hold profiles that are not among these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    pub node: NodeInfo,
    pub policies: BTreeMap<PolicyKey, Policy>,
    pub groups: BTreeMap<GroupId, Group>,
    pub profiles: BTreeMap<ProfileId, Profile>,
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
}

/// One change of a node's state. Removals name the id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Node(NodeInfo),
    Policy(Policy),
    RemovePolicy(PolicyKey),
    Group(Group),
    /// Members that come and go in a group the node has.
    GroupMembers {
        id: GroupId,
        add: BTreeSet<ProfileId>,
        remove: BTreeSet<ProfileId>,
    },
    RemoveGroup(GroupId),
    Profile(Profile),
    RemoveProfile(ProfileId),
    Endpoint(Endpoint),
    RemoveEndpoint(EndpointId),
}

/// What one event causes: applied as one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Grows with each change of the controller's picture.
    pub revision: u64,
    pub changes: Vec<Change>,
}

/// What a batch touched, for incremental work downstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub node: bool,
    pub policies: BTreeSet<PolicyKey>,
    pub groups: BTreeSet<GroupId>,
    /// Profiles that came, went, or changed group membership.
    pub profiles: BTreeSet<ProfileId>,
    pub endpoints: BTreeSet<EndpointId>,
}

impl Touched {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn merge(&mut self, other: Self) {
        self.node |= other.node;
        self.policies.extend(other.policies);
        self.groups.extend(other.groups);
        self.profiles.extend(other.profiles);
        self.endpoints.extend(other.endpoints);
    }
}

impl NodeState {
    /// Applies a batch and says what really changed: a change that repeats what is there touches nothing.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Touched {
        let mut t = Touched::default();
        for change in changes {
            match change {
                Change::Node(node) => {
                    if self.node != node {
                        self.node = node;
                        t.node = true;
                    }
                }
                Change::Policy(policy) => {
                    if self.policies.get(&policy.key) != Some(&policy) {
                        t.policies.insert(policy.key.clone());
                        self.policies.insert(policy.key.clone(), policy);
                    }
                }
                Change::RemovePolicy(key) => {
                    if self.policies.remove(&key).is_some() {
                        t.policies.insert(key);
                    }
                }
                Change::Group(group) => {
                    let old = self.groups.get(&group.id);
                    if old == Some(&group) {
                        continue;
                    }
                    t.groups.insert(group.id);
                    let none = BTreeSet::new();
                    let before = old.map_or(&none, |g| &g.members);
                    t.profiles.extend(before.symmetric_difference(&group.members));
                    self.groups.insert(group.id, group);
                }
                Change::GroupMembers { id, add, remove } => {
                    let Some(group) = self.groups.get_mut(&id) else {
                        continue;
                    };
                    for p in remove {
                        if group.members.remove(&p) {
                            t.groups.insert(id);
                            t.profiles.insert(p);
                        }
                    }
                    for p in add {
                        if group.members.insert(p) {
                            t.groups.insert(id);
                            t.profiles.insert(p);
                        }
                    }
                }
                Change::RemoveGroup(id) => {
                    if let Some(group) = self.groups.remove(&id) {
                        t.groups.insert(id);
                        t.profiles.extend(group.members);
                    }
                }
                Change::Profile(profile) => {
                    let id = profile.id();
                    if self.profiles.get(&id) != Some(&profile) {
                        self.profiles.insert(id, profile);
                        t.profiles.insert(id);
                    }
                }
                Change::RemoveProfile(id) => {
                    if self.profiles.remove(&id).is_some() {
                        t.profiles.insert(id);
                    }
                }
                Change::Endpoint(endpoint) => {
                    if self.endpoints.get(&endpoint.id) != Some(&endpoint) {
                        t.endpoints.insert(endpoint.id.clone());
                        self.endpoints.insert(endpoint.id.clone(), endpoint);
                    }
                }
                Change::RemoveEndpoint(id) => {
                    if self.endpoints.remove(&id).is_some() {
                        t.endpoints.insert(id);
                    }
                }
            }
        }
        t
    }

    /// The changes that lead from this state to `wanted`, in dependency order: what others refer to comes first and goes
    /// last.
    pub fn diff(&self, wanted: &Self) -> Vec<Change> {
        let mut out = Vec::new();
        if self.node != wanted.node {
            out.push(Change::Node(wanted.node.clone()));
        }
        fn news<'a, K: Ord, V: PartialEq>(
            old: &'a BTreeMap<K, V>,
            new: &'a BTreeMap<K, V>,
        ) -> impl Iterator<Item = &'a V> {
            new.iter().filter(|(k, v)| old.get(k) != Some(v)).map(|(_, v)| v)
        }
        fn gone<'a, K: Ord + Clone, V>(
            old: &'a BTreeMap<K, V>,
            new: &'a BTreeMap<K, V>,
        ) -> impl Iterator<Item = K> {
            old.keys().filter(|k| !new.contains_key(k)).cloned()
        }
        out.extend(news(&self.profiles, &wanted.profiles).cloned().map(Change::Profile));
        for group in news(&self.groups, &wanted.groups) {
            match self.groups.get(&group.id) {
                Some(old) if old.selector == group.selector => out.push(Change::GroupMembers {
                    id: group.id,
                    add: group.members.difference(&old.members).copied().collect(),
                    remove: old.members.difference(&group.members).copied().collect(),
                }),
                _ => out.push(Change::Group(group.clone())),
            }
        }
        out.extend(news(&self.endpoints, &wanted.endpoints).cloned().map(Change::Endpoint));
        out.extend(news(&self.policies, &wanted.policies).cloned().map(Change::Policy));
        out.extend(gone(&self.policies, &wanted.policies).map(Change::RemovePolicy));
        out.extend(gone(&self.endpoints, &wanted.endpoints).map(Change::RemoveEndpoint));
        out.extend(gone(&self.groups, &wanted.groups).map(Change::RemoveGroup));
        out.extend(gone(&self.profiles, &wanted.profiles).map(Change::RemoveProfile));
        out
    }
}
