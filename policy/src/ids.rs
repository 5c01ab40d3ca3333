//! Identities: cheap to clone, ordered, and the same on every replica and after every restart.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An interned-style string that many objects share: names, label keys and values.
pub type Str = Arc<str>;

/// Kind of a policy object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1 NetworkPolicy`.
    NetworkPolicy,
}

impl PolicyKind {
    /// The short form that `weirctl` prints and accepts.
    pub const fn short(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "np",
        }
    }
}

/// Which policy object: kind, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyKey {
    pub kind: PolicyKind,
    pub namespace: Str,
    pub name: Str,
}

impl PolicyKey {
    /// The key of a NetworkPolicy.
    pub fn network_policy(namespace: &str, name: &str) -> Self {
        Self { kind: PolicyKind::NetworkPolicy, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Which endpoint: the UID of its object where there is one, else `namespace/name` (manifests without UIDs).
///
/// Identity follows the object, not its address (NP-45).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId(pub Str);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
    };
}

hash_id!(
    /// An address group: 64-bit hash of the canonical selector.
    GroupId
);
hash_id!(
    /// A profile: 64-bit hash of namespace, labels and named ports.
    ProfileId
);

/// The 32-bit number of a rule or an isolation set: cookie, `conj_id`, `ct_label`, log field, metric label.
///
/// Numbers below [`RuleId::FIRST`] are for local things (classes, built-ins).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleId(pub u32);

impl RuleId {
    /// The lowest number of a rule.
    pub const FIRST: u32 = 0x0100_0000;

    /// The `attempt`-th candidate of a hashed content: a clash within one node takes the next attempt.
    pub fn candidate(content: &ContentHash, attempt: u32) -> Self {
        let mut value = content.word32(attempt);
        if value < Self::FIRST {
            value |= Self::FIRST;
        }
        Self(value)
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// SHA-256 of a canonical form. Ids are cut from it, so that nobody can construct two selectors with one id cheaply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// The first 64 bits.
    pub fn word64(&self) -> u64 {
        self.0.iter().take(8).fold(0, |acc, b| (acc << 8) | u64::from(*b))
    }

    /// 32 bits: attempts 0..8 are the words of the hash, later ones hash again.
    pub fn word32(&self, attempt: u32) -> u32 {
        let (source, at) = if attempt < 8 {
            (self.0, attempt as usize * 4)
        } else {
            let mut h = Sha256::new();
            h.update(self.0);
            h.update(attempt.to_be_bytes());
            (h.finalize().into(), 0)
        };
        source.iter().skip(at).take(4).fold(0, |acc, b| (acc << 8) | u32::from(*b))
    }
}

/// Writes a canonical form into a hash: every field with a length or tag, so that no two values share bytes.
#[derive(Default)]
pub struct Canonical(Sha256);

impl Canonical {
    /// Starts the canonical form of one kind of thing; `domain` keeps kinds apart.
    pub fn new(domain: &str) -> Self {
        let mut c = Self(Sha256::new());
        c.str(domain);
        c
    }

    pub fn str(&mut self, s: &str) -> &mut Self {
        self.u64(s.len() as u64);
        self.0.update(s.as_bytes());
        self
    }

    pub fn u64(&mut self, n: u64) -> &mut Self {
        self.0.update(n.to_be_bytes());
        self
    }

    pub fn bytes(&mut self, b: &[u8]) -> &mut Self {
        self.u64(b.len() as u64);
        self.0.update(b);
        self
    }

    pub fn finish(self) -> ContentHash {
        ContentHash(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Profile;
    use crate::labels::{LabelSelector, Labels, Requirement, Selector};
    use crate::net::{IpBlock, Prefix};
    use crate::port::{NamedPort, PortMatch, Protocol, Service};
    use crate::rule::{Action, Direction, Peers, Rule, Services, Tier};

    /// Agents keep these numbers over restarts and upgrades, and tools resolve old ones. Another value here means that
    /// the domain strings (`weir/selector/1`) have to change too, and that a release note is due.
    #[test]
    fn golden_ids() {
        let db = Selector::in_namespace("shop", LabelSelector::labels([("app", "db")]));
        let blue = Selector {
            namespaces: crate::labels::NamespaceScope::Labels(LabelSelector::labels([(
                "team", "blue",
            )])),
            pods: LabelSelector::new([
                Requirement::NotIn("app".into(), ["db".into(), "api".into()].into()),
                Requirement::Exists("role".into()),
                Requirement::DoesNotExist("old".into()),
            ]),
        };
        assert_eq!(db.id().to_string(), "ab1b191e7d0cb63d");
        assert_eq!(blue.id().to_string(), "9410f933ca75dcb0");
        assert_eq!(Selector::all_pods().id().to_string(), "4f4ac85ad63b2573");
        let profile = Profile {
            namespace: "shop".into(),
            labels: Labels::from_iter([("app", "db")]),
            named_ports: [NamedPort { name: "pg".into(), protocol: Protocol::Tcp, number: 5432 }]
                .into(),
        };
        assert_eq!(profile.id().to_string(), "62a09ebbd25c209f");
        let rule = Rule {
            tier: Tier::NetworkPolicy,
            order: 0,
            direction: Direction::Ingress,
            subject: db.id(),
            peers: Peers::Of {
                groups: [blue.id()].into(),
                blocks: [IpBlock {
                    cidr: Prefix::parse("10.0.0.0/8").unwrap(),
                    except: [Prefix::parse("10.1.0.0/16").unwrap()].into(),
                }]
                .into(),
            },
            services: Services::Of(
                [
                    Service::port(Protocol::Tcp, 5432),
                    Service { protocol: Protocol::Udp, port: PortMatch::Any },
                    Service { protocol: Protocol::Tcp, port: PortMatch::Named("pg".into()) },
                ]
                .into(),
            ),
            action: Action::Allow,
        };
        assert_eq!(RuleId::candidate(&rule.content(), 0).to_string(), "e295eaed");
        assert_eq!(RuleId::candidate(&rule.content(), 9).to_string(), "110e69bb");
        let any = Rule { peers: Peers::Any, services: Services::Any, ..rule };
        assert_eq!(RuleId::candidate(&any.content(), 0).to_string(), "43e06188");
    }

    #[test]
    fn rule_ids_stay_above_the_local_numbers() {
        for n in 0..2_000_u64 {
            let mut c = Canonical::new("test");
            c.u64(n);
            let content = c.finish();
            let ids: std::collections::BTreeSet<RuleId> =
                (0..12).map(|attempt| RuleId::candidate(&content, attempt)).collect();
            assert!(ids.iter().all(|id| id.0 >= RuleId::FIRST));
            assert!(ids.len() >= 11, "attempts give other numbers");
        }
    }
}
