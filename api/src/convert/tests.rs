use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use prost::Message;
use weir_policy::group::{Group, Profile};
use weir_policy::ids::{EndpointId, GroupId, PolicyKey, ProfileId, Str};
use weir_policy::labels::Labels;
use weir_policy::net::{IpBlock, Prefix};
use weir_policy::port::{NamedPort, PortMatch, Protocol, Service};
use weir_policy::rule::{Action, Direction, Peers, Policy, PolicyRule, Rule, Services, Tier};
use weir_policy::state::{Change, Endpoint, NodeInfo};

use super::wire::{EndpointFrame, EndpointParts};
use super::*;

mod generated;

fn text() -> impl Strategy<Value = Str> {
    // at times long enough for a length of two bytes
    prop_oneof![9 => "[a-z0-9./=-]{1,12}", 1 => "[a-z0-9./=-]{90,140}"].prop_map(Str::from)
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), 0u8..=128).prop_map(|(a, l)| Prefix::new(a, l))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    proptest::sample::select(&Protocol::ALL[..])
}

fn service() -> impl Strategy<Value = Service> {
    let port = prop_oneof![
        Just(PortMatch::Any),
        any::<(u16, u16)>().prop_map(|(a, b)| PortMatch::Range { first: a.min(b), last: a.max(b) }),
        text().prop_map(PortMatch::Named)
    ];
    (protocol(), port).prop_map(|(protocol, port)| Service { protocol, port })
}

fn group_id() -> impl Strategy<Value = GroupId> {
    any::<u64>().prop_map(GroupId)
}

fn members() -> impl Strategy<Value = BTreeSet<ProfileId>> {
    btree_set(any::<u64>().prop_map(ProfileId), 0..5)
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    let block =
        (prefix(), btree_set(prefix(), 0..3)).prop_map(|(cidr, except)| IpBlock { cidr, except });
    let peers = prop_oneof![
        Just(Peers::Any),
        (btree_set(group_id(), 0..3), btree_set(block, 0..3))
            .prop_map(|(groups, blocks)| Peers::Of { groups, blocks })
    ];
    let services =
        prop_oneof![Just(Services::Any), btree_set(service(), 0..4).prop_map(Services::Of)];
    let tier = proptest::sample::select(&[Tier::Admin, Tier::NetworkPolicy, Tier::Baseline][..]);
    let direction = proptest::sample::select(&Direction::BOTH[..]);
    let action = proptest::sample::select(&[Action::Allow, Action::Deny, Action::Pass][..]);
    (text(), tier, any::<u32>(), direction, group_id(), peers, services, action).prop_map(
        |(path, tier, order, direction, subject, peers, services, action)| PolicyRule {
            path,
            rule: Rule { tier, order, direction, subject, peers, services, action },
        },
    )
}

fn key() -> impl Strategy<Value = PolicyKey> {
    (text(), text()).prop_map(|(ns, name)| PolicyKey::network_policy(&ns, &name))
}

fn policy() -> impl Strategy<Value = Policy> {
    (
        key(),
        text(),
        any::<i64>(),
        group_id(),
        btree_set(proptest::sample::select(&Direction::BOTH[..]), 0..=2),
        vec(rule(), 0..4),
    )
        .prop_map(|(key, uid, generation, subject, isolates, rules)| Policy {
            key,
            uid,
            generation,
            subject,
            isolates,
            rules,
        })
}

fn profile() -> impl Strategy<Value = Profile> {
    let port = (text(), protocol(), any::<u16>()).prop_map(|(name, protocol, number)| NamedPort {
        name,
        protocol,
        number,
    });
    (text(), btree_map(text(), text(), 0..4), btree_set(port, 0..3)).prop_map(
        |(namespace, labels, named_ports)| Profile {
            namespace,
            labels: Labels::from(labels),
            named_ports,
        },
    )
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (
        (text(), text(), text(), text()),
        btree_set(address(), 0..3),
        any::<Option<[u8; 6]>>(),
        any::<u64>(),
    )
        .prop_map(|((id, namespace, name, node), addresses, mac, profile)| Endpoint {
            id: EndpointId(id),
            namespace,
            name,
            node,
            addresses,
            mac,
            profile: ProfileId(profile),
        })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (text(), btree_set(address(), 0..3))
            .prop_map(|(name, addresses)| Change::Node(NodeInfo { name, addresses })),
        policy().prop_map(Change::Policy),
        key().prop_map(Change::RemovePolicy),
        (group_id(), text(), members()).prop_map(|(id, selector, members)| Change::Group(Group {
            id,
            selector,
            members
        })),
        (group_id(), members(), members()).prop_map(|(id, add, remove)| Change::GroupMembers {
            id,
            add,
            remove
        }),
        group_id().prop_map(Change::RemoveGroup),
        profile().prop_map(Change::Profile),
        any::<u64>().prop_map(|p| Change::RemoveProfile(ProfileId(p))),
        endpoint().prop_map(Change::Endpoint),
        text().prop_map(|id| Change::RemoveEndpoint(EndpointId(id))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn changes_round_trip(change in change()) {
        let bytes = change_to_bytes(&change);
        prop_assert_eq!(change_from_bytes(&bytes).unwrap(), change);
    }

    /// What is written directly is what the generated types write.
    #[test]
    fn direct_bytes_are_those_of_the_generated_types(changes in vec(change(), 1..4)) {
        let wanted: Vec<Bytes> =
            changes.iter().map(|c| generated::change(c).encode_to_vec().into()).collect();
        let direct: Vec<Bytes> = changes.iter().map(change_to_bytes).collect();
        prop_assert_eq!(&direct, &wanted);
        let mut piece = Vec::new();
        for change in &changes {
            match change {
                Change::Policy(policy) => wire::frame_policy(&mut piece, policy),
                Change::Profile(profile) => wire::frame_profile(&mut piece, profile),
                Change::Group(g) => {
                    let members: Vec<ProfileId> = g.members.iter().copied().collect();
                    wire::frame_group(&mut piece, g.id, &g.selector, members.into_iter());
                }
                Change::Endpoint(e) => {
                    let addresses: Vec<IpAddr> = e.addresses.iter().copied().collect();
                    let frame = EndpointFrame::new(&EndpointParts::of(e, &addresses));
                    prop_assert_eq!(frame.id(), &*e.id.0);
                    prop_assert_eq!((frame.name(), frame.node()), (&*e.name, &*e.node));
                    prop_assert_eq!(frame.change(), &*change_to_bytes(change));
                    piece.extend(frame.bytes());
                }
                Change::RemoveEndpoint(id) => wire::frame_endpoint_gone(&mut piece, &id.0),
                Change::RemoveProfile(id) => wire::frame_profile_gone(&mut piece, *id),
                other => wire::frame(&mut piece, other),
            }
        }
        let lengths: Vec<usize> = wanted.iter().map(Bytes::len).collect();
        prop_assert_eq!(frame_lengths(&piece).collect::<Vec<_>>(), lengths);
        prop_assert_eq!(frames(piece.into()).collect::<Vec<_>>(), wanted);
    }

    /// Of all changes of a piece, it is the endpoints that go.
    #[test]
    fn endpoints_go_as_they_came(changes in vec(change(), 0..6), cut in 0_usize..400) {
        let (mut piece, mut wanted) = (Vec::new(), Vec::new());
        for change in &changes {
            wire::frame(&mut piece, change);
            if let Change::Endpoint(e) = change {
                wanted.push(Change::RemoveEndpoint(e.id.clone()));
            }
        }
        let gone = |piece: &[u8]| -> Vec<Change> {
            let mut out = Vec::new();
            wire::frame_endpoints_gone(&mut out, piece);
            frames(out.into()).map(|bytes| change_from_bytes(&bytes).unwrap()).collect()
        };
        prop_assert_eq!(gone(&piece), &wanted[..]);
        // what is cut off costs nothing that comes before it
        piece.truncate(cut);
        let cut = gone(&piece);
        prop_assert_eq!(&cut, &wanted[..cut.len()]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = change_from_bytes(&bytes);
        wire::frame_endpoints_gone(&mut Vec::new(), &bytes);
    }

    #[test]
    fn damaged_changes_never_panic(change in change(), at in any::<usize>(), with in any::<u8>()) {
        let mut bytes = change_to_bytes(&change).to_vec();
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] ^= with;
        }
        let _ = change_from_bytes(&bytes);
    }
}

/// As of a pod of the host's network that waits for a node: nothing comes after the name.
#[test]
fn texts_that_an_endpoint_does_not_have() {
    let nothing = EndpointParts {
        id: "",
        namespace: "",
        name: "",
        node: "",
        addresses: &[],
        mac: None,
        profile: ProfileId(0),
    };
    let named = EndpointParts { id: "u", namespace: "shop", name: "db", ..nothing.clone() };
    for (parts, wanted) in [(nothing, ["", "", ""]), (named, ["u", "db", ""])] {
        let frame = EndpointFrame::new(&parts);
        assert_eq!([frame.id(), frame.name(), frame.node()], wanted);
    }
}

fn sample() -> Policy {
    Policy {
        key: PolicyKey::network_policy("shop", "db"),
        uid: "u-1".into(),
        generation: 4,
        subject: GroupId(0x1122),
        isolates: BTreeSet::from([Direction::Ingress]),
        rules: vec![PolicyRule {
            path: "ingress[0]".into(),
            rule: Rule {
                tier: Tier::NetworkPolicy,
                order: 0,
                direction: Direction::Ingress,
                subject: GroupId(0x1122),
                peers: Peers::Of {
                    groups: BTreeSet::from([GroupId(0x33)]),
                    blocks: BTreeSet::from([IpBlock {
                        cidr: Prefix::parse("10.0.0.0/8").unwrap(),
                        except: BTreeSet::from([Prefix::parse("10.1.0.0/16").unwrap()]),
                    }]),
                },
                services: Services::Of(BTreeSet::from([Service::port(Protocol::Tcp, 5432)])),
                action: Action::Allow,
            },
        }],
    }
}

#[test]
fn absent_and_empty_stay_apart() {
    for (peers, services) in [
        (Peers::Any, Services::Any),
        (
            Peers::Of { groups: BTreeSet::new(), blocks: BTreeSet::new() },
            Services::Of(BTreeSet::new()),
        ),
    ] {
        let mut p = sample();
        p.rules[0].rule.peers = peers.clone();
        p.rules[0].rule.services = services.clone();
        let bytes = change_to_bytes(&Change::Policy(p));
        let Ok(Change::Policy(back)) = change_from_bytes(&bytes) else {
            panic!("a policy comes back as a policy");
        };
        assert_eq!(back.rules[0].rule.peers, peers);
        assert_eq!(back.rules[0].rule.services, services);
    }
}

/// A policy that cannot be understood still tells whom to close.
#[test]
fn a_refused_policy_names_itself_and_whom_it_isolates() {
    type Damage = fn(&mut v1::Rule);
    let cases: [(Damage, &str); 7] = [
        (|r| r.tier = 9, "rules[0] (ingress[0]).tier: value 9"),
        (|r| r.direction = 0, "rules[0] (ingress[0]).direction: value 0"),
        (|r| r.action = -1, "rules[0] (ingress[0]).action: value -1"),
        (
            |r| r.services.as_mut().unwrap().items[0].protocol = 1,
            "rules[0] (ingress[0]).services.items[0].protocol: value 1",
        ),
        (
            |r| r.services.as_mut().unwrap().items[0].port = None,
            "rules[0] (ingress[0]).services.items[0].port: an alternative",
        ),
        (
            |r| r.peers.as_mut().unwrap().blocks[0].cidr.as_mut().unwrap().length = 33,
            "rules[0] (ingress[0]).peers.blocks[0].cidr.length: value 33 is above 32",
        ),
        (
            |r| r.peers.as_mut().unwrap().blocks[0].except[0].address = Bytes::from_static(b"abc"),
            "rules[0] (ingress[0]).peers.blocks[0].except[0].address: length 3, which is none of [4, 16]",
        ),
    ];
    for (damage, want) in cases {
        let mut p = policy_to_proto(&sample());
        damage(&mut p.rules[0]);
        let error = policy_from_proto(p).unwrap_err();
        let sentence = error.sentence();
        assert!(sentence.starts_with(&format!("NetworkPolicy shop/db: {want}")), "{sentence}");
        let closed = error.policy.unwrap().closed();
        assert_eq!(closed.key, sample().key);
        assert_eq!(closed.subject, sample().subject);
        assert_eq!(closed.generation, 4);
        assert_eq!(closed.isolates, sample().isolates);
        assert!(closed.rules.is_empty());
    }
}

#[test]
fn one_bad_change_costs_the_others_nothing() {
    let good = change_to_bytes(&Change::RemoveGroup(GroupId(7)));
    let mut bad = policy_to_proto(&sample());
    bad.rules[0].tier = 77;
    let bad = v1::Change { kind: Some(v1::change::Kind::Policy(bad)) };
    let batch =
        v1::Batch { revision: 1, changes: vec![good.clone(), bad.encode_to_vec().into(), good] };
    let (changes, errors) = batch_from_proto(&batch);
    assert_eq!(changes, vec![Change::RemoveGroup(GroupId(7)); 2]);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].resource, Resource::Policy(PolicyKey::network_policy("shop", "db")));
}

#[test]
fn a_change_of_a_later_version_is_told_apart() {
    // field 100, length-delimited, 2 bytes
    let error = change_from_bytes(&[0xa2, 0x06, 0x02, 1, 2]).unwrap_err();
    assert!(error.is_unknown_change());
    let error = change_from_bytes(&[0x12, 0xff]).unwrap_err();
    assert!(!error.is_unknown_change());
}

#[test]
fn an_unknown_kind_of_policy_is_refused() {
    let mut key = key_to_proto(&PolicyKey::network_policy("a", "b"));
    key.kind = 5;
    assert_eq!(
        key_from_proto(key).unwrap_err().sentence(),
        "policy: kind: value 5 is not known to this version"
    );
}

/// Bytes of protocol 1 as the first build wrote them: whatever changes later, they must mean the same.
#[test]
fn stored_old_bytes_still_decode() {
    let stored: &[u8] = include_bytes!("../../tests/stored/policy-1.bin");
    let change = Change::Policy(sample());
    assert_eq!(change_from_bytes(stored).unwrap(), change);
    assert_eq!(change_to_bytes(&change), stored);

    let stored: &[u8] = include_bytes!("../../tests/stored/endpoint-1.bin");
    let change = Change::Endpoint(Endpoint {
        id: EndpointId("uid-7".into()),
        namespace: "shop".into(),
        name: "db-0".into(),
        node: "n1".into(),
        addresses: BTreeSet::from(["10.244.1.7".parse().unwrap(), "fd00::7".parse().unwrap()]),
        mac: Some([2, 0, 0, 0, 0, 7]),
        profile: ProfileId(0xfeed),
    });
    assert_eq!(change_from_bytes(stored).unwrap(), change);
    assert_eq!(change_to_bytes(&change), stored);
}
