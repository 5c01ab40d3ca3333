use std::collections::BTreeSet;
use std::net::IpAddr;

use bytes::Bytes;
use proptest::prelude::*;
use weir_policy::group::{Group, Profile};
use weir_policy::labels::Labels;
use weir_policy::rule::{Direction, Policy};
use weir_policy::state::Endpoint;

use super::*;
use crate::convert::{change_from_bytes, change_to_bytes};

/// Some object; another version of it has the same identity where its kind allows that.
fn object(number: u16, version: u8) -> Change {
    let profile = Profile {
        namespace: "shop".into(),
        labels: Labels::from_iter([("app", format!("a{number}").as_str())]),
        named_ports: BTreeSet::new(),
    };
    match number % 4 {
        0 => Change::Profile(profile),
        1 => Change::Group(Group {
            id: GroupId(number.into()),
            selector: format!("shop {{app=a{number}}}").into(),
            members: (0..version).map(|n| ProfileId(n.into())).collect(),
        }),
        2 => Change::Endpoint(Endpoint {
            id: EndpointId(format!("uid-{number}").into()),
            namespace: "shop".into(),
            name: format!("pod-{number}").into(),
            node: "n1".into(),
            addresses: [IpAddr::from([
                10,
                version,
                number.to_be_bytes()[0],
                number.to_be_bytes()[1],
            ])]
            .into(),
            mac: None,
            profile: profile.id(),
        }),
        _ => Change::Policy(Policy {
            key: PolicyKey::network_policy("shop", &format!("p{number}")),
            uid: "".into(),
            generation: version.into(),
            subject: GroupId(number.into()),
            isolates: [Direction::Ingress].into(),
            rules: Vec::new(),
        }),
    }
}

fn state(objects: impl IntoIterator<Item = (u16, u8)>) -> NodeState {
    let mut state = NodeState::default();
    state.node.name = "n1".into();
    state.apply(objects.into_iter().map(|(number, version)| object(number, version)));
    state
}

/// What a controller sends.
fn encoded(state: &NodeState) -> Vec<Bytes> {
    let node = Change::Node(state.node.clone());
    let empty = NodeState { node: state.node.clone(), ..NodeState::default() };
    let changes = empty.diff(state);
    std::iter::once(node).chain(changes).map(|change| change_to_bytes(&change)).collect()
}

/// Both ends: an agent that says to hold one state and holds another, and a controller. Gives what came of it, if that is
/// what the controller says that it should be, and the changes sent.
fn resync(said: &Held, held: Held, wanted: &NodeState) -> (Option<NodeState>, Vec<Bytes>) {
    let objects = encoded(wanted);
    let hashes: Hashes = objects.iter().map(|object| ObjectHash::of(object)).collect();
    let difference = hashes.compare(&said.to_proto()).unwrap();
    let sent: Vec<Bytes> =
        objects.into_iter().filter(|o| difference.holds(&ObjectHash::of(o))).collect();
    let Ok(mut state) = held.without(&difference.to_proto()) else {
        return (None, sent);
    };
    state.apply(sent.iter().map(|bytes| change_from_bytes(bytes).unwrap()));
    let same = Hashes::of(&state).digest() == hashes.digest();
    (same.then_some(state), sent)
}

fn objects_of(state: &NodeState) -> BTreeSet<ObjectHash> {
    objects(state, |hash, _| hash).into_iter().collect()
}

type Pick = Vec<Option<u8>>;

fn pick() -> impl Strategy<Value = Pick> {
    proptest::collection::vec(proptest::option::of(0..3_u8), 0..200)
}

fn picked(pick: &Pick) -> NodeState {
    state((0..).zip(pick).filter_map(|(number, version)| Some((number, (*version)?))))
}

/// The first, and the first with some changes.
fn similar() -> impl Strategy<Value = (NodeState, NodeState)> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (pick(), changes).prop_map(|(first, changes)| {
        let mut second = first.clone();
        for (at, to) in changes {
            if !second.is_empty() {
                let at = at.index(second.len());
                second[at] = (to % 4 > 0).then_some(to % 4);
            }
        }
        (picked(&first), picked(&second))
    })
}

proptest! {
    #[test]
    fn what_is_sent_leads_to_what_is_wanted((held, wanted) in similar()) {
        let held = Held::new(held);
        let (state, _) = resync(&held.clone(), held, &wanted);
        prop_assert_eq!(state, Some(wanted));
    }

    #[test]
    fn from_anywhere_to_anywhere(held in pick(), wanted in pick()) {
        let (held, wanted) = (Held::new(picked(&held)), picked(&wanted));
        let (state, _) = resync(&held.clone(), held, &wanted);
        prop_assert_eq!(state, Some(wanted));
    }

    /// Nothing is sent but what shares a bucket with something that differs.
    #[test]
    fn what_is_sent_is_what_differs_and_its_neighbours((held, wanted) in similar()) {
        let (ours, theirs) = (objects_of(&wanted), objects_of(&held));
        let held = Held::new(held);
        let bits = held.bits;
        let buckets: BTreeSet<usize> =
            ours.symmetric_difference(&theirs).map(|hash| hash.bucket(bits)).collect();
        let (_, sent) = resync(&held.clone(), held, &wanted);
        let sent: BTreeSet<ObjectHash> = sent.iter().map(|o| ObjectHash::of(o)).collect();
        let near = ours.iter().filter(|hash| buckets.contains(&hash.bucket(bits)));
        prop_assert_eq!(sent, near.copied().collect());
    }

    /// Whoever says to hold something else than it does has the right state in the end, or knows that it has not.
    #[test]
    fn who_lies_notices((held, said) in similar(), other in pick(), wanted in pick()) {
        for said in [said, picked(&other)] {
            let (state, _) = resync(&Held::new(said), Held::new(held.clone()), &picked(&wanted));
            prop_assert!(state.is_none_or(|state| state == picked(&wanted)));
        }
    }

    #[test]
    fn holdings_that_are_none_are_compared_with_nothing(
        digests in proptest::collection::vec(any::<u8>(), 0..300),
        form in 0..3_u32,
    ) {
        let count = digests.len() / DIGEST;
        let good = digests.len() == count * DIGEST && count.is_power_of_two() && form == FORM;
        let holdings = v1::Holdings { form, digests: digests.into() };
        let difference = Hashes::of(&picked(&vec![Some(1); 40])).compare(&holdings);
        prop_assert_eq!(difference.is_some(), good);
    }
}

#[test]
fn a_large_state_costs_what_differs() {
    let numbers = || 0..20_000_u16;
    let held = Held::new(state(numbers().map(|n| (n, 1))));
    let hello = held.to_proto().digests.len();
    assert_eq!(hello, 8192 * DIGEST);
    for changed in [0, 1, 10, 100] {
        // endpoints with another address
        let version = |n: u16| if n % 4 == 2 && n / 4 < changed { 2 } else { 1 };
        let wanted = state(numbers().map(|n| (n, version(n))));
        let (state, sent) = resync(&held, held.clone(), &wanted);
        assert_eq!(state, Some(wanted));
        // the buckets of the object before and after
        let most = usize::from(changed) * 2 * 2 * SHARE;
        assert!(sent.len() <= most, "{} objects for {changed}", sent.len());
        assert!(sent.len() >= usize::from(changed));
    }
}

#[test]
fn the_question_has_a_limit() {
    let held = Held::new(state((0..60_000).map(|n| (n, 1))));
    assert_eq!(held.to_proto().digests.len(), MAX_BUCKETS * DIGEST);
    let more = v1::Holdings { form: FORM, digests: vec![0; 2 * MAX_BUCKETS * DIGEST].into() };
    assert_eq!(Hashes::default().compare(&more), None);
    let none = Held::new(NodeState::default());
    assert_eq!(none.to_proto().digests.len(), DIGEST);
    let beyond = v1::Buckets { numbers: vec![1] };
    assert_eq!(none.without(&beyond), Err(NoBucket { number: 1, count: 1 }));
}

/// Agents of other releases have these bytes: other values mean that [`FORM`] has to be another. The digest is not what came
/// out, but was made by another program from the rules of protocol buffers and of docs/protocol.md.
#[test]
fn golden() {
    let mut state = state([(0, 1), (1, 2), (2, 1), (3, 7)]);
    state.node.addresses.insert(IpAddr::from([192, 0, 2, 1]));
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let held = Held::new(state.clone());
    assert_eq!((FORM, held.bits), (1, 0));
    let digest = "408caacd722b58e832d034291d18e752b968d488d15d09e329ca1d891d137f39";
    assert_eq!(hex(&held.to_proto().digests), digest[..16]);
    assert_eq!(hex(&Hashes::of(&state).digest()), digest);
}
