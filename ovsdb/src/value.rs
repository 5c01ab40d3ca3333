//! Atoms, sets, maps and UUIDs, to and from OVSDB's JSON, checked against a column's type.
//!
//! Every column is a [`Set`] or a [`Map`] here; a scalar is a set of one, an optional scalar a set of none or one.
//!
//! ```
//! use weir_ovsdb::schema::{AtomicType, ColumnType};
//! use weir_ovsdb::Value;
//!
//! let column = ColumnType { key: AtomicType::Integer, value: None, min: 0, max: None };
//! let mut trunks = Value::from_json(&column, serde_json::json!(["set", [10, 20]])).unwrap();
//! // what update2 reports when 20 goes and 30 comes
//! let difference = Value::difference_from_json(&column, serde_json::json!(["set", [20, 30]])).unwrap();
//! trunks.apply(&column, difference).unwrap();
//! assert_eq!(trunks, Value::set([10, 30]));
//! ```

mod members;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value as Json;

use crate::schema::{AtomicType, ColumnType};

pub use members::{Map, Set};

/// A row's identity.
///
/// Units: the 128 bits as the text shows them, first digit highest.
/// Source: RFC 7047, section 5.1, `<uuid>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
// halves, as a u128 would align every atom to 16 bytes
pub struct Uuid([u64; 2]);

impl Uuid {
    /// All zeros: the default of a mandatory UUID column.
    pub const NIL: Self = Self([0; 2]);

    /// A UUID of these bits.
    pub const fn from_u128(bits: u128) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the halves of 128 bits")]
        Self([(bits >> 64) as u64, bits as u64])
    }

    /// The bits.
    pub const fn as_u128(self) -> u128 {
        let Self([high, low]) = self;
        (high as u128) << 64 | low as u128
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.as_u128();
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            (bits >> 80) & 0xffff,
            (bits >> 64) & 0xffff,
            (bits >> 48) & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = ValueError;

    /// Errors: [`ValueError::Uuid`] for all but 36 characters in the form 8-4-4-4-12.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() != 36 {
            return Err(ValueError::Uuid);
        }
        let mut bits = 0_u128;
        for (at, c) in text.char_indices() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if c != '-' {
                    return Err(ValueError::Uuid);
                }
            } else {
                let digit = c.to_digit(16).ok_or(ValueError::Uuid)?;
                bits = bits << 4 | u128::from(digit);
            }
        }
        Ok(Self::from_u128(bits))
    }
}

impl serde::Serialize for Uuid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One atomic value.
#[derive(Debug, Clone)]
pub enum Atom {
    /// A 64-bit signed integer.
    Integer(i64),
    /// A floating-point number; compared by `total_cmp`, with -0 the same as 0.
    Real(f64),
    /// A truth value.
    Boolean(bool),
    /// Text.
    String(Box<str>),
    /// A reference to, or the identity of, a row.
    Uuid(Uuid),
    /// The name of a row that the same transaction inserts. Only in transactions, never from a server.
    NamedUuid(Box<str>),
}

impl Atom {
    /// The row that the same transaction inserts under this name.
    pub fn named(name: &str) -> Self {
        Self::NamedUuid(name.into())
    }

    /// The default of a mandatory column of this type.
    ///
    /// Source: RFC 7047, section 5.2.1, the default values of `insert`.
    pub fn default_of(kind: AtomicType) -> Self {
        match kind {
            AtomicType::Integer => Self::Integer(0),
            AtomicType::Real => Self::Real(0.0),
            AtomicType::Boolean => Self::Boolean(false),
            AtomicType::String => Self::String(Box::default()),
            AtomicType::Uuid => Self::Uuid(Uuid::NIL),
        }
    }

    /// Reads an atom of a type.
    ///
    /// Errors: [`ValueError::Type`] for another kind of JSON value, [`ValueError::Uuid`] for a malformed UUID.
    pub fn from_json(kind: AtomicType, json: Json) -> Result<Self, ValueError> {
        let found = json_kind(&json);
        let wrong = || ValueError::Type { expected: kind.name(), found };
        match (kind, json) {
            (AtomicType::Integer, Json::Number(number)) => {
                integer(&number).map(Self::Integer).ok_or_else(wrong)
            }
            (AtomicType::Real, Json::Number(number)) => {
                number.as_f64().map(Self::Real).ok_or_else(wrong)
            }
            (AtomicType::Boolean, Json::Bool(value)) => Ok(Self::Boolean(value)),
            (AtomicType::String, Json::String(text)) => Ok(Self::String(text.into())),
            (AtomicType::Uuid, Json::Array(pair)) => match pair.as_slice() {
                [Json::String(tag), Json::String(text)] if tag == "uuid" => {
                    text.parse().map(Self::Uuid)
                }
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }

    /// As it goes to the server.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Integer(value) => Json::from(*value),
            Self::Real(value) => Json::from(*value),
            Self::Boolean(value) => Json::from(*value),
            Self::String(text) => Json::from(&**text),
            Self::Uuid(uuid) => Json::from(vec!["uuid".to_owned(), uuid.to_string()]),
            Self::NamedUuid(name) => Json::from(vec!["named-uuid", name]),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Integer(_) => 0,
            Self::Real(_) => 1,
            Self::Boolean(_) => 2,
            Self::String(_) => 3,
            Self::Uuid(_) => 4,
            Self::NamedUuid(_) => 5,
        }
    }

    /// About what this atom takes in memory besides itself. Units: bytes.
    fn text_weight(&self) -> usize {
        // an allocator's own share of a small block
        const BLOCK: usize = 16;
        match self {
            Self::String(text) | Self::NamedUuid(text) if !text.is_empty() => BLOCK + text.len(),
            _ => 0,
        }
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            // adding 0 turns -0 into 0
            (Self::Real(a), Self::Real(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) | (Self::NamedUuid(a), Self::NamedUuid(b)) => {
                a.cmp(b)
            }
            (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Atom {}

impl From<i64> for Atom {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Atom {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<&str> for Atom {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Atom {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Uuid> for Atom {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

/// The value of a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A scalar, an optional scalar or a set.
    Set(Set),
    /// A map.
    Map(Map),
}

impl Value {
    /// A scalar.
    pub fn scalar(atom: impl Into<Atom>) -> Self {
        Self::Set(Set::of(atom.into()))
    }

    /// A set.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        Self::Set(atoms.into_iter().map(Into::into).collect())
    }

    /// A set without members: what clears an optional column.
    pub fn empty() -> Self {
        Self::Set(Set::default())
    }

    /// A map; of pairs with the same key the last one counts.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// What a column holds that nobody has set, and that updates therefore leave out.
    pub fn default_of(ty: &ColumnType) -> Self {
        match (&ty.value, ty.min) {
            (None, 0) => Self::empty(),
            (None, _) => Self::scalar(Atom::default_of(ty.key)),
            (Some(_), 0) => Self::Map(Map::default()),
            (Some(value), _) => Self::map([(Atom::default_of(ty.key), Atom::default_of(*value))]),
        }
    }

    /// Reads a column's value.
    ///
    /// Errors: a [`ValueError`] for another type, a repeated member, or more or fewer members than the type has.
    /// Source: RFC 7047, section 5.1, `<value>`; a set of one comes bare or as `["set", [x]]`.
    pub fn from_json(ty: &ColumnType, json: Json) -> Result<Self, ValueError> {
        let value = Self::members(ty, json)?;
        let found = value.len();
        if found < ty.min || ty.max.is_some_and(|max| found > max) {
            return Err(ValueError::Count { found, min: ty.min, max: ty.max });
        }
        Ok(value)
    }

    /// Reads a column of an `update2` modification: for sets and maps a difference, of any number of members.
    ///
    /// Errors: as [`Value::from_json`].
    pub fn difference_from_json(ty: &ColumnType, json: Json) -> Result<Self, ValueError> {
        if ty.is_composite() { Self::members(ty, json) } else { Self::from_json(ty, json) }
    }

    /// Applies a difference of `update2`.
    ///
    /// A set with room for more than one member takes the symmetric difference; a map takes new and changed pairs
    /// and loses repeated ones; all else takes the new value.
    ///
    /// Errors: [`ValueError::Count`] where the outcome has more or fewer members than the type allows.
    /// Source: ovsdb-server(7), section 4.1.15; `ovsdb_datum_apply_diff`, OVS `lib/ovsdb-data.c`.
    pub fn apply(&mut self, ty: &ColumnType, difference: Self) -> Result<(), ValueError> {
        if !ty.is_composite() {
            *self = difference;
            return Ok(());
        }
        match (&mut *self, difference) {
            (Self::Set(members), Self::Set(difference)) => members.toggle(difference),
            (Self::Map(pairs), Self::Map(difference)) => pairs.apply(difference),
            (Self::Set(_), Self::Map(_)) => {
                return Err(ValueError::Type { expected: "set", found: "map" });
            }
            (Self::Map(_), Self::Set(_)) => {
                return Err(ValueError::Type { expected: "map", found: "set" });
            }
        }
        let found = self.len();
        if found < ty.min || ty.max.is_some_and(|max| found > max) {
            return Err(ValueError::Count { found, min: ty.min, max: ty.max });
        }
        Ok(())
    }

    fn members(ty: &ColumnType, json: Json) -> Result<Self, ValueError> {
        match ty.value {
            Some(value) => {
                let list = tagged("map", json)?;
                let mut pairs = Vec::with_capacity(list.len());
                for pair in list {
                    let Json::Array(pair) = pair else {
                        return Err(ValueError::Type { expected: "pair", found: json_kind(&pair) });
                    };
                    let Ok([k, v]) = <[Json; 2]>::try_from(pair) else {
                        return Err(ValueError::Type { expected: "pair", found: "array" });
                    };
                    pairs.push((Atom::from_json(ty.key, k)?, Atom::from_json(value, v)?));
                }
                Map::unique(pairs).map(Self::Map)
            }
            None if is_tagged("set", &json) => {
                let list = tagged("set", json)?;
                let atoms = list.into_iter().map(|atom| Atom::from_json(ty.key, atom));
                Set::unique(atoms.collect::<Result<_, _>>()?).map(Self::Set)
            }
            None => Atom::from_json(ty.key, json).map(Self::scalar),
        }
    }

    /// As it goes to the server.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Set(members) => match members.as_slice() {
                [atom] => atom.to_json(),
                _ => {
                    let list: Vec<Json> = members.iter().map(Atom::to_json).collect();
                    Json::from(vec![Json::from("set"), Json::from(list)])
                }
            },
            Self::Map(pairs) => {
                let list: Vec<Json> =
                    pairs.iter().map(|(k, v)| Json::from(vec![k.to_json(), v.to_json()])).collect();
                Json::from(vec![Json::from("map"), Json::from(list)])
            }
        }
    }

    /// Members of the set, or pairs of the map.
    pub fn len(&self) -> usize {
        match self {
            Self::Set(members) => members.len(),
            Self::Map(pairs) => pairs.len(),
        }
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members of a set, in their order; none for a map.
    pub fn atoms(&self) -> &[Atom] {
        match self {
            Self::Set(members) => members.as_slice(),
            Self::Map(_) => &[],
        }
    }

    /// The pairs of a map, in the order of their keys; none for a set.
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        match self {
            Self::Set(_) => &[],
            Self::Map(pairs) => pairs.as_slice(),
        }
    }

    /// About what this value takes in memory. Units: bytes.
    pub(crate) fn weight(&self) -> usize {
        let (members, text) = match self {
            Self::Set(set) => (set.heap_weight(), set.iter().map(Atom::text_weight).sum::<usize>()),
            Self::Map(map) => {
                let text = map.iter().map(|(k, v)| k.text_weight() + v.text_weight()).sum();
                (map.heap_weight(), text)
            }
        };
        size_of::<Self>() + members + text
    }
}

impl<A: Into<Atom>> From<A> for Value {
    fn from(atom: A) -> Self {
        Self::scalar(atom)
    }
}

/// A JSON value that is not what the column's type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Another kind of value.
    #[error("expected {expected}, found {found}")]
    Type {
        /// The kind the type asks for.
        expected: &'static str,
        /// The kind that came.
        found: &'static str,
    },
    /// A UUID that is not 8-4-4-4-12 hexadecimal digits.
    #[error("malformed UUID")]
    Uuid,
    /// A set member or map key that appears twice.
    #[error("repeated member")]
    Repeated,
    /// Too few or too many members.
    #[error("{found} members where {min} to {} are allowed", upper(max))]
    Count {
        /// How many came.
        found: usize,
        /// The lower limit.
        min: usize,
        /// The upper limit, if there is one.
        max: Option<usize>,
    },
}

impl From<Set> for Value {
    fn from(set: Set) -> Self {
        Self::Set(set)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

fn upper(max: &Option<usize>) -> String {
    max.map_or_else(|| "any number".to_owned(), |max| max.to_string())
}

fn is_tagged(tag: &str, json: &Json) -> bool {
    json.as_array().and_then(|list| list.first()).and_then(Json::as_str) == Some(tag)
}

fn tagged(tag: &'static str, json: Json) -> Result<Vec<Json>, ValueError> {
    if !is_tagged(tag, &json) {
        return Err(ValueError::Type { expected: tag, found: json_kind(&json) });
    }
    let found = json_kind(&json);
    match json {
        Json::Array(list) => match <[Json; 2]>::try_from(list) {
            Ok([_, Json::Array(members)]) => Ok(members),
            _ => Err(ValueError::Type { expected: tag, found }),
        },
        _ => Err(ValueError::Type { expected: tag, found }),
    }
}

/// OVS prints integers as such, other servers as 7.0.
fn integer(number: &serde_json::Number) -> Option<i64> {
    // beyond 2^53 a float no longer names one integer
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64)
    })
}

/// The name of a JSON value's kind, for errors that do not repeat what came.
pub(crate) fn json_kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests;
