//! Tests of the message stream.

use super::*;
use proptest::prelude::*;

const LIMITS: MessageLimits = MessageLimits { bytes: 4096, depth: 8, values: 4096 };

/// All objects of a stream that comes in pieces of these sizes, in turn.
fn decode(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Json>, DecodeError> {
    let mut decoder = Decoder::new(LIMITS);
    let mut objects = Vec::new();
    let (mut rest, mut sizes) = (bytes, pieces.iter().cycle());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
        decoder.buffer().extend_from_slice(piece);
        while let Some(object) = decoder.next_object()? {
            objects.push(object);
        }
        rest = after;
    }
    decoder.finish()?;
    Ok(objects)
}

#[test]
fn several_messages_in_one_read_and_one_over_many() {
    let bytes = br#" {"a":"}\"{"} {"b":[{"c":"\\"}]}
        {"d":1}"#;
    let expected = [json!({"a": "}\"{"}), json!({"b": [{"c": "\\"}]}), json!({"d": 1})];
    for size in [1, 2, 3, 7, 1000] {
        assert_eq!(decode(bytes, &[size]).unwrap(), expected);
    }
}

#[test]
fn every_error() {
    let error = |bytes: &[u8]| decode(bytes, &[5]).unwrap_err();
    assert!(matches!(error(b"{\"a\": 1"), DecodeError::Truncated { received: 7 }));
    assert!(matches!(error(b"[]"), DecodeError::NoObject { byte: b'[' }));
    assert!(matches!(error(b"{} 7"), DecodeError::NoObject { byte: b'7' }));
    assert!(matches!(error(b"{\"a\"]"), DecodeError::Syntax { .. }));
    assert!(matches!(error(b"{\"a\": \"\xff\"}"), DecodeError::Syntax { .. }));
    assert!(matches!(error(b"{\"a\": 1e999}"), DecodeError::Syntax { .. }));
    let long = format!("{{\"a\": \"{}", "x".repeat(5000));
    assert!(matches!(error(long.as_bytes()), DecodeError::TooLong { limit: 4096 }));
    let deep = format!("{{\"a\": {}", "[".repeat(9));
    assert!(matches!(error(deep.as_bytes()), DecodeError::TooDeep { limit: 8 }));
    let rich = format!("{{\"a\": [{}", "{},".repeat(300));
    assert!(matches!(error(rich.as_bytes()), DecodeError::TooManyValues { limit: 4096 }));
}

#[test]
fn limits_are_those_of_one_message() {
    let message = format!("{{\"a\":[{}0]}}", "0,".repeat(200));
    assert_eq!(decode(message.repeat(50).as_bytes(), &[999]).unwrap().len(), 50);
}

#[test]
fn the_three_kinds_of_messages() {
    for message in [
        Message::Request { method: "echo".into(), params: json!([1]), id: json!("x") },
        Message::Notification { method: "update2".into(), params: json!([]) },
        Message::Response { id: json!(7), result: Ok(json!(null)) },
        Message::Response { id: json!(7), result: Err(json!("unknown method")) },
    ] {
        assert_eq!(Message::parse(message.to_json()).unwrap(), message);
    }
    // ovsdb-server leaves the other member out or says null
    let short = Message::parse(json!({"id": 1, "error": {"error": "x"}})).unwrap();
    assert!(matches!(short, Message::Response { result: Err(_), .. }));
}

#[test]
fn what_is_no_message() {
    for json in [
        json!([]),
        json!({}),
        json!({"method": "echo"}),
        json!({"method": 7, "params": [], "id": 1}),
        json!({"method": "echo", "params": {}, "id": 1}),
        json!({"result": 1}),
        json!({"id": 1}),
        json!({"id": 1, "error": null}),
    ] {
        assert!(matches!(Message::parse(json.clone()), Err(ProtocolError::Message(_))), "{json}");
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        ".{0,8}".prop_map(Json::from),
        r#"[\[\]{}"\\,: ]{0,8}"#.prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(".{0,4}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn objects_come_out_as_they_went_in(
        objects in prop::collection::vec(prop::collection::btree_map(".{0,4}", any_json(), 0..4), 0..6),
        pieces in prop::collection::vec(1_usize..40, 1..8),
        gap in "[ \t\r\n]{0,2}",
    ) {
        let objects: Vec<Json> = objects.into_iter().map(|map| map.into_iter().collect()).collect();
        let stream: String = objects.iter().map(|object| format!("{gap}{object}")).collect();
        prop_assert_eq!(decode(stream.as_bytes(), &pieces).unwrap(), objects);
    }

    #[test]
    fn any_bytes_are_an_error_or_objects(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(br#"{}[]",:0\ "#.to_vec())], 0..200),
        pieces in prop::collection::vec(1_usize..40, 1..4),
    ) {
        let at_once = decode(&bytes, &[bytes.len().max(1)]).map_err(|error| error.to_string());
        let in_pieces = decode(&bytes, &pieces).map_err(|error| error.to_string());
        prop_assert_eq!(at_once, in_pieces);
    }
}
