//! Decoding that keeps what is asked for and passes over the rest.
//!
//! Of a Pod that the API server sends, Weir needs a twentieth. What is not needed is not even made: a list of 100,000
//! pods costs what stays of it. What stays is as it came, whatever its type, so that the one reader of manifests
//! (`weir_policy::k8s`) complains of a bad field by its name.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What to keep of a JSON document.
#[derive(Debug)]
pub(super) enum Shape {
    /// Everything.
    Whole,
    /// Of an object these fields; of a list, each item so. What is neither is kept.
    Fields(&'static [(&'static str, Self)]),
}

impl Shape {
    /// The shape of a field, if it is kept.
    fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Whole => Some(self),
            Self::Fields(fields) => fields.iter().find(|(n, _)| *n == name).map(|(_, shape)| shape),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Shape {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Shape {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            match self.field(&name) {
                Some(shape) => {
                    let value = map.next_value_seed(shape)?;
                    out.insert(name, value);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHAPE: Shape = Shape::Fields(&[
        ("metadata", Shape::Fields(&[("name", Shape::Whole), ("labels", Shape::Whole)])),
        ("ports", Shape::Fields(&[("name", Shape::Whole)])),
    ]);

    fn kept(text: &str) -> Value {
        SHAPE.deserialize(&mut serde_json::Deserializer::from_str(text)).unwrap()
    }

    #[test]
    fn what_is_not_named_goes() {
        let text = r#"{"metadata": {"name": "a", "labels": {"x": "y", "z": 1}, "managedFields": [{"f": {}}]},
            "spec": {"big": [1, 2]}, "ports": [{"name": "http", "number": 80}, 7, null]}"#;
        assert_eq!(
            kept(text),
            json!({"metadata": {"name": "a", "labels": {"x": "y", "z": 1}}, "ports": [{"name": "http"}, 7, null]})
        );
    }

    #[test]
    fn what_has_another_form_stays_to_be_complained_of() {
        for text in [r#"{"metadata": "none"}"#, r#"{"ports": {"name": 1.5}}"#, "[true, -3]", "null"]
        {
            assert_eq!(kept(text), serde_json::from_str::<Value>(text).unwrap());
        }
    }
}
