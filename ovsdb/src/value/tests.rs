//! Tests of values.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use proptest::prelude::*;
use serde_json::json;

const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn ty(key: AtomicType, value: Option<AtomicType>, min: usize, max: Option<usize>) -> ColumnType {
    ColumnType { key, value, min, max }
}

#[test]
fn uuids() {
    let uuid: Uuid = ID.parse().unwrap();
    assert_eq!(uuid.as_u128(), 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    assert_eq!(uuid.to_string(), ID);
    assert_eq!(serde_json::to_value(uuid).unwrap(), json!(ID));
    for text in [
        "",
        "0123456789abcdef0123456789abcdef",
        "01234567-89ab-cdef-0123-456789abcde",
        "01234567-89ab-cdef-0123-456789abcdeg",
        "0123456-789ab-cdef-0123-456789abcdef",
        "01234567-89ab-cdef-0123-456789abcd\u{e9}",
    ] {
        assert_eq!(text.parse::<Uuid>(), Err(ValueError::Uuid), "{text}");
    }
}

#[test]
fn a_set_of_one_comes_bare_or_not() {
    let set = ty(AtomicType::Integer, None, 0, None);
    let one = Value::scalar(7);
    assert_eq!(Value::from_json(&set, json!(7)).unwrap(), one);
    assert_eq!(Value::from_json(&set, json!(["set", [7]])).unwrap(), one);
    assert_eq!(one.to_json(), json!(7));
    let two = Value::from_json(&set, json!(["set", [8, 7]])).unwrap();
    assert_eq!(two.to_json(), json!(["set", [7, 8]]));
    assert_eq!(Value::from_json(&set, json!(["set", []])).unwrap().to_json(), json!(["set", []]));
}

#[test]
fn integers_may_come_as_floats() {
    let integer = ColumnType::scalar(AtomicType::Integer);
    assert_eq!(Value::from_json(&integer, json!(7.0)).unwrap(), Value::scalar(7));
    for json in [json!(7.5), json!(1e300), json!(u64::MAX), json!("7"), json!(null)] {
        assert!(Value::from_json(&integer, json.clone()).is_err(), "{json}");
    }
}

#[test]
fn a_uuid_is_not_a_set() {
    let uuids = ty(AtomicType::Uuid, None, 0, None);
    let uuid: Uuid = ID.parse().unwrap();
    assert_eq!(Value::from_json(&uuids, json!(["uuid", ID])).unwrap(), Value::scalar(uuid));
    let one = json!(["set", [["uuid", ID]]]);
    assert_eq!(Value::from_json(&uuids, one).unwrap(), Value::scalar(uuid));
    assert!(Value::from_json(&uuids, json!(["named-uuid", "x"])).is_err());
}

#[test]
fn what_a_type_refuses() {
    let set = ty(AtomicType::String, None, 0, Some(2));
    let map = ty(AtomicType::String, Some(AtomicType::Integer), 0, None);
    let scalar = ColumnType::scalar(AtomicType::String);
    for (ty, json, error) in [
        (&set, json!(["set", ["a", "a"]]), ValueError::Repeated),
        (
            &set,
            json!(["set", ["a", "b", "c"]]),
            ValueError::Count { found: 3, min: 0, max: Some(2) },
        ),
        (&scalar, json!(["set", []]), ValueError::Count { found: 0, min: 1, max: Some(1) }),
        (&set, json!(["set"]), ValueError::Type { expected: "set", found: "array" }),
        (&set, json!(["map", []]), ValueError::Type { expected: "string", found: "array" }),
        (&map, json!({}), ValueError::Type { expected: "map", found: "object" }),
        (&map, json!(["map", ["a", 1]]), ValueError::Type { expected: "pair", found: "string" }),
        (&map, json!(["map", [["a"]]]), ValueError::Type { expected: "pair", found: "array" }),
        (&map, json!(["map", [["a", 1], ["a", 2]]]), ValueError::Repeated),
    ] {
        assert_eq!(Value::from_json(ty, json.clone()), Err(error), "{json}");
    }
}

#[test]
fn differences() {
    let set = ty(AtomicType::Integer, None, 0, None);
    let mut value = Value::set([1, 2]);
    value.apply(&set, Value::set([2, 3])).unwrap();
    assert_eq!(value, Value::set([1, 3]));

    let map = ty(AtomicType::String, Some(AtomicType::String), 0, None);
    let mut value = Value::map([("same", "1"), ("changed", "1"), ("gone", "1")]);
    value.apply(&map, Value::map([("changed", "2"), ("gone", "1"), ("new", "1")])).unwrap();
    assert_eq!(value, Value::map([("same", "1"), ("changed", "2"), ("new", "1")]));

    // an optional scalar takes the new value, also the same one
    let optional = ty(AtomicType::Integer, None, 0, Some(1));
    let mut value = Value::scalar(1);
    value.apply(&optional, Value::scalar(1)).unwrap();
    assert_eq!(value, Value::scalar(1));
    value.apply(&optional, Value::set(Vec::<i64>::new())).unwrap();
    assert!(value.is_empty());

    let some = ty(AtomicType::Integer, None, 1, None);
    let mut value = Value::scalar(1);
    assert!(matches!(value.apply(&some, Value::scalar(1)), Err(ValueError::Count { .. })));
}

#[test]
fn defaults() {
    let default = |key, value, min| Value::default_of(&ty(key, value, min, Some(1)));
    assert_eq!(default(AtomicType::Integer, None, 0), Value::set(Vec::<i64>::new()));
    assert_eq!(default(AtomicType::Integer, None, 1), Value::scalar(0));
    assert_eq!(default(AtomicType::String, None, 1), Value::scalar(""));
    assert_eq!(default(AtomicType::Boolean, None, 1), Value::scalar(false));
    assert_eq!(default(AtomicType::Uuid, None, 1), Value::scalar(Uuid::NIL));
    assert_eq!(default(AtomicType::Real, None, 1), Value::scalar(Atom::Real(-0.0)));
    assert_eq!(default(AtomicType::String, Some(AtomicType::Integer), 1), Value::map([("", 0)]));
}

fn atom(kind: AtomicType) -> BoxedStrategy<Atom> {
    match kind {
        AtomicType::Integer => any::<i64>().prop_map(Atom::Integer).boxed(),
        AtomicType::Real => any::<f64>()
            .prop_filter("JSON has finite numbers only", |x| x.is_finite())
            .prop_map(Atom::Real)
            .boxed(),
        AtomicType::Boolean => any::<bool>().prop_map(Atom::Boolean).boxed(),
        AtomicType::String => "(set|map|uuid|.{0,6})".prop_map(Atom::from).boxed(),
        AtomicType::Uuid => {
            any::<u128>().prop_map(|bits| Atom::Uuid(Uuid::from_u128(bits))).boxed()
        }
    }
}

fn kind() -> impl Strategy<Value = AtomicType> {
    prop::sample::select(vec![
        AtomicType::Integer,
        AtomicType::Real,
        AtomicType::Boolean,
        AtomicType::String,
        AtomicType::Uuid,
    ])
}

fn typed_value() -> impl Strategy<Value = (ColumnType, Value)> {
    let sets = kind().prop_flat_map(|key| {
        prop::collection::btree_set(atom(key), 0..4)
            .prop_map(move |set| (ty(key, None, 0, None), Value::set(set)))
    });
    let maps = (kind(), kind()).prop_flat_map(|(key, value)| {
        prop::collection::btree_map(atom(key), atom(value), 0..4)
            .prop_map(move |map| (ty(key, Some(value), 0, None), Value::map(map)))
    });
    prop_oneof![sets, maps]
}

#[test]
fn atoms_and_values_are_small() {
    // a row holds one value per column, most of them of one atom
    assert_eq!((size_of::<Atom>(), size_of::<Value>()), (24, 40));
}

#[test]
fn the_last_pair_of_a_key_counts() {
    let map: Map = [("b", 1), ("a", 1), ("b", 2), ("b", 3)].into_iter().collect();
    assert_eq!(Value::Map(map.clone()), Value::map([("a", 1), ("b", 3)]));
    assert_eq!((map.get(&"b".into()), map.get(&"c".into())), (Some(&Atom::Integer(3)), None));
    let set: Set = [3, 1, 3].into_iter().collect();
    assert_eq!(set.as_slice(), [Atom::Integer(1), Atom::Integer(3)]);
    assert!(set.contains(&3.into()) && !set.contains(&2.into()));
}

fn numbers() -> impl Strategy<Value = BTreeSet<i64>> {
    prop::collection::btree_set(0_i64..40, 0..30)
}

fn pairs() -> impl Strategy<Value = BTreeMap<i64, i64>> {
    prop::collection::btree_map(0_i64..40, 0_i64..3, 0..30)
}

proptest! {
    /// Against std's sets and maps, with differences small and large.
    #[test]
    fn a_difference_does_what_the_document_says(
        (set, other) in (numbers(), numbers()),
        (map, changes) in (pairs(), pairs()),
    ) {
        let ty = ty(AtomicType::Integer, None, 0, None);
        let mut value = Value::set(set.iter().copied());
        value.apply(&ty, Value::set(other.iter().copied())).unwrap();
        prop_assert_eq!(value, Value::set(set.symmetric_difference(&other).copied()));

        let ty = ColumnType { value: Some(AtomicType::Integer), ..ty };
        let mut expected = map.clone();
        for (key, new) in &changes {
            match map.get(key) {
                Some(old) if old == new => drop(expected.remove(key)),
                _ => drop(expected.insert(*key, *new)),
            }
        }
        let mut value = Value::map(map);
        value.apply(&ty, Value::map(changes)).unwrap();
        prop_assert_eq!(value, Value::map(expected));
    }

    #[test]
    fn values_survive_json((ty, value) in typed_value()) {
        let text = value.to_json().to_string();
        let json = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(Value::from_json(&ty, json).unwrap(), value);
    }
}
