//! The normal form of policies and rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Canonical, ContentHash, GroupId, PolicyKey, Str};
use crate::labels::Selector;
use crate::net::IpBlock;
use crate::port::{PortMatch, Service};

/// Of a connection, initiator to responder; never of single packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where in the order of tiers a rule is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    Admin,
    NetworkPolicy,
    Baseline,
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    Allow,
    Deny,
    Pass,
}

/// The other end as a rule describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Peers {
    /// Every other end, external addresses and nodes included (NP-11).
    Any,
    /// Any one of these; both empty = nothing.
    Of { groups: BTreeSet<GroupId>, blocks: BTreeSet<IpBlock> },
}

/// Protocols and destination ports as a rule describes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Services {
    /// All ports of all protocols, protocols without ports included (NP-20).
    Any,
    /// Any one of these; empty = nothing.
    Of(BTreeSet<Service>),
}

impl Services {
    /// The named ports these services ask for.
    pub fn named(&self) -> impl Iterator<Item = (&Str, crate::port::Protocol)> {
        let items = match self {
            Self::Any => None,
            Self::Of(items) => Some(items),
        };
        items.into_iter().flatten().filter_map(|s| match &s.port {
            PortMatch::Named(name) => Some((name, s.protocol)),
            _ => None,
        })
    }
}

/// One normalised rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule {
    pub tier: Tier,
    /// Place among the rules of the tier; 0 in the NetworkPolicy tier, which has no order.
    pub order: u32,
    pub direction: Direction,
    pub subject: GroupId,
    pub peers: Peers,
    pub services: Services,
    pub action: Action,
}

impl Rule {
    /// The group whose members can be the destination of a named port although no peer names them: every pod, for an
    /// egress rule with a named port whose peers are "any" or hold a CIDR (NP-25).
    pub fn universe(&self) -> Option<GroupId> {
        let needs = self.direction == Direction::Egress
            && self.services.named().next().is_some()
            && match &self.peers {
                Peers::Any => true,
                Peers::Of { blocks, .. } => !blocks.is_empty(),
            };
        needs.then(|| Selector::all_pods().id())
    }

    /// The rule lets everything through: any other end, any port of any protocol (NP-10, NP-11).
    pub fn admits_all(&self, direction: Direction) -> bool {
        self.direction == direction
            && self.action == Action::Allow
            && self.peers == Peers::Any
            && self.services == Services::Any
    }

    /// The groups a node needs endpoints of in order to install this rule: peers and [`Self::universe`].
    pub fn peer_groups(&self) -> BTreeSet<GroupId> {
        let mut out = match &self.peers {
            Peers::Any => BTreeSet::new(),
            Peers::Of { groups, .. } => groups.clone(),
        };
        out.extend(self.universe());
        out
    }

    /// The hash that rule ids are cut from. Equal rules of several policies have equal hashes and are one.
    pub fn content(&self) -> ContentHash {
        let mut c = Canonical::new("weir/rule/1");
        c.u64(self.tier as u64).u64(u64::from(self.order)).u64(self.direction as u64);
        c.u64(self.action as u64).u64(self.subject.0);
        match &self.peers {
            Peers::Any => {
                c.u64(0);
            }
            Peers::Of { groups, blocks } => {
                c.u64(1).u64(groups.len() as u64);
                for g in groups {
                    c.u64(g.0);
                }
                c.u64(blocks.len() as u64);
                for b in blocks {
                    c.str(&b.cidr.to_string()).u64(b.except.len() as u64);
                    for e in &b.except {
                        c.str(&e.to_string());
                    }
                }
            }
        }
        match &self.services {
            Services::Any => {
                c.u64(0);
            }
            Services::Of(items) => {
                c.u64(1).u64(items.len() as u64);
                for s in items {
                    c.u64(u64::from(s.protocol.number()));
                    match &s.port {
                        PortMatch::Any => c.u64(0),
                        PortMatch::Range { first, last } => {
                            c.u64(1).u64(u64::from(*first)).u64(u64::from(*last))
                        }
                        PortMatch::Named(name) => c.u64(2).str(name),
                    };
                }
            }
        }
        c.finish()
    }
}

/// The content of an isolation set: the policies that isolate a pod in one direction. Its id names a default-deny drop.
pub fn isolation_set(direction: Direction, policies: &BTreeSet<PolicyKey>) -> ContentHash {
    let mut c = Canonical::new("weir/isolation/1");
    c.u64(direction as u64).u64(policies.len() as u64);
    for p in policies {
        c.u64(p.kind as u64).str(&p.namespace).str(&p.name);
    }
    c.finish()
}

/// A rule and where it stands in its policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// `ingress[0]`, `egress[2]`: the field path below `spec`.
    pub path: Str,
    pub rule: Rule,
}

/// A policy in normal form, as it travels: peers by group id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub key: PolicyKey,
    /// UID of the object, empty where manifests carry none.
    pub uid: Str,
    /// `metadata.generation`, or a number that grows with each change where manifests carry none.
    pub generation: i64,
    pub subject: GroupId,
    /// Directions in which its subjects are isolated (NP-8, NP-9).
    pub isolates: BTreeSet<Direction>,
    /// Rules in effect, ingress first, each in the order of the manifest. Rules of a direction not in `isolates` are
    /// not here.
    pub rules: Vec<PolicyRule>,
}

impl Policy {
    /// Every group this policy names: subject, peers, and the universe of named ports.
    pub fn groups(&self) -> BTreeSet<GroupId> {
        let mut out = BTreeSet::from([self.subject]);
        for r in &self.rules {
            out.extend(r.rule.peer_groups());
        }
        out
    }

    /// The groups whose endpoints (addresses) the nodes of this policy need.
    pub fn peer_groups(&self) -> BTreeSet<GroupId> {
        self.rules.iter().flat_map(|r| r.rule.peer_groups()).collect()
    }
}

/// One entry of a `from` or `to` list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerItem {
    Group(GroupId),
    Block(IpBlock),
}

/// The lists of one rule in the order of the manifest, for explanations that name `from[1]` or `ports[0]`. The rule
/// itself has them as sets. An entry that matches nothing is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleItems {
    pub peers: Vec<Option<PeerItem>>,
    pub services: Vec<Option<Service>>,
}

/// A policy with the definitions of the groups it names: what the controller holds and the evaluator reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyObject {
    pub policy: Policy,
    pub selectors: BTreeMap<GroupId, Selector>,
    /// One entry for each of `policy.rules`; may be shorter where nothing is to be explained.
    #[serde(default)]
    pub items: Vec<RuleItems>,
}
