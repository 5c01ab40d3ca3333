//! Changes as they came over the wire, and what to do about those that cannot be understood.

use weir_api::convert::{ConvertError, Resource, change_from_bytes};
use weir_policy::ids::{EndpointId, PolicyKey};
use weir_policy::state::Change;

/// A part of what the controller said that this agent does not understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The policy to be refused by name, and its generation.
    pub policy: Option<(PolicyKey, i64)>,
    /// Object, field and cause in one line.
    pub reason: String,
}

/// Changes to apply, and what is missing from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    pub changes: Vec<Change>,
    pub refused: Vec<Refusal>,
}

/// Decodes each change; one that cannot be understood costs the others nothing.
///
/// A policy with a part that is not understood becomes one that isolates its subjects and allows nothing. An endpoint
/// becomes none, as what was known of it is not true any more: its port closes and no rule names it. A change of a kind
/// from after this build is passed over: controllers nack nothing and send older agents what these need.
pub fn changes<B: AsRef<[u8]>>(encoded: &[B]) -> Decoded {
    let mut out = Decoded::default();
    for bytes in encoded {
        match change_from_bytes(bytes.as_ref()) {
            Ok(change) => out.changes.push(change),
            Err(error) if error.is_unknown_change() => {
                tracing::debug!("a change of a kind that this version does not know");
            }
            Err(error) => {
                out.changes.extend(closed(&error));
                let policy = error.policy.as_ref().map(|p| (p.key.clone(), p.generation));
                out.refused.push(Refusal { policy, reason: error.sentence() });
            }
        }
    }
    out
}

/// What stands in for a change that is not understood, where it can be told what it was about.
fn closed(error: &ConvertError) -> Option<Change> {
    match (&error.policy, &error.resource) {
        (Some(policy), _) => Some(Change::Policy(policy.closed())),
        (None, Resource::Endpoint(id)) if !id.is_empty() => {
            Some(Change::RemoveEndpoint(EndpointId(id.as_str().into())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use weir_api::v1;
    use weir_policy::ids::GroupId;
    use weir_policy::rule::Direction;

    use super::*;

    fn encode(kind: v1::change::Kind) -> Vec<u8> {
        v1::Change { kind: Some(kind) }.encode_to_vec()
    }

    fn bad_policy() -> v1::Policy {
        v1::Policy {
            key: Some(v1::PolicyKey {
                kind: 1,
                namespace: "shop".to_owned(),
                name: "db".to_owned(),
            }),
            generation: 4,
            subject: 9,
            isolates_ingress: true,
            // an action from the future
            rules: vec![v1::Rule {
                path: "ingress[0]".to_owned(),
                action: 99,
                ..v1::Rule::default()
            }],
            ..v1::Policy::default()
        }
    }

    #[test]
    fn a_policy_that_is_not_understood_is_closed_and_named_and_the_others_apply() {
        let group = v1::Group { id: 9, selector: "shop {}".to_owned(), members: vec![1] };
        let decoded = changes(&[
            encode(v1::change::Kind::Policy(bad_policy())),
            encode(v1::change::Kind::Group(group)),
        ]);
        let [Change::Policy(policy), Change::Group(group)] = &decoded.changes[..] else {
            panic!("{:?}", decoded.changes);
        };
        assert_eq!(policy.subject, GroupId(9));
        assert!(policy.isolates.contains(&Direction::Ingress) && policy.rules.is_empty());
        assert_eq!(group.id, GroupId(9));
        let [refusal] = &decoded.refused[..] else {
            panic!("{:?}", decoded.refused);
        };
        assert_eq!(refusal.policy, Some((PolicyKey::network_policy("shop", "db"), 4)));
        assert!(refusal.reason.contains("shop/db"), "{}", refusal.reason);
        assert!(refusal.reason.contains("ingress[0]"), "{}", refusal.reason);
    }

    #[test]
    fn an_endpoint_that_is_not_understood_is_forgotten() {
        let endpoint = v1::Endpoint {
            id: "uid-1".to_owned(),
            namespace: "shop".to_owned(),
            name: "db-0".to_owned(),
            addresses: vec![vec![1, 2, 3].into()],
            ..v1::Endpoint::default()
        };
        let decoded = changes(&[encode(v1::change::Kind::Endpoint(endpoint))]);
        assert_eq!(decoded.changes, [Change::RemoveEndpoint(EndpointId("uid-1".into()))]);
        assert_eq!(decoded.refused[0].policy, None);
    }

    #[test]
    fn noise_is_refused_and_a_newer_kind_passed_over() {
        // field 200 of the envelope, a varint
        let newer = [0xc0, 0x0c, 0x01];
        let noise = [0xff; 7];
        let decoded = changes(&[&newer[..], &noise[..]]);
        assert!(decoded.changes.is_empty());
        assert_eq!(decoded.refused.len(), 1);
    }
}
