//! A database's schema: which tables and columns a server has, and of what type.
//!
//! Only what reading and comparing rows needs is kept. Constraints on values (ranges, enumerations) are the
//! server's to enforce. A column of a type that we cannot read costs that column and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

/// The type of an atom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtomicType {
    /// 64-bit signed.
    Integer,
    /// Floating point.
    Real,
    /// True or false.
    Boolean,
    /// Text.
    String,
    /// A row's identity.
    Uuid,
}

impl AtomicType {
    /// The name in a schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Integer, Self::Real, Self::Boolean, Self::String, Self::Uuid]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// The type of a column.
///
/// Source: RFC 7047, section 3.2, `<type>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnType {
    /// The type of a scalar, a set's members or a map's keys.
    pub key: AtomicType,
    /// The type of a map's values.
    pub value: Option<AtomicType>,
    /// The fewest members, 0 or 1.
    pub min: usize,
    /// The most members; `None` is unlimited.
    pub max: Option<usize>,
}

impl ColumnType {
    /// A mandatory scalar.
    pub const fn scalar(key: AtomicType) -> Self {
        Self { key, value: None, min: 1, max: Some(1) }
    }

    /// True where a modification comes as a difference and not as the new value.
    ///
    /// Source: `ovsdb_type_is_composite`, OVS `lib/ovsdb-types.h`.
    pub fn is_composite(&self) -> bool {
        self.max.is_none_or(|max| max > 1)
    }

    fn parse(json: &Json) -> Option<Self> {
        if json.is_string() {
            return Some(Self::scalar(base(json)?));
        }
        let object = json.as_object()?;
        let count = |name: &str, default: usize| match object.get(name) {
            None => Some(default),
            Some(number) => number.as_u64().and_then(|n| usize::try_from(n).ok()),
        };
        let min = count("min", 1)?;
        let max = match object.get("max") {
            Some(Json::String(text)) if text == "unlimited" => None,
            _ => Some(count("max", 1)?),
        };
        if min > 1 || max.is_some_and(|max| max < 1 || max < min) {
            return None;
        }
        let value = match object.get("value") {
            Some(value) => Some(base(value)?),
            None => None,
        };
        Some(Self { key: base(object.get("key")?)?, value, min, max })
    }
}

fn base(json: &Json) -> Option<AtomicType> {
    let name = json.as_str().or_else(|| json.get("type")?.as_str())?;
    AtomicType::from_name(name)
}

/// The columns of a table, by name; without `_uuid` and `_version`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableSchema {
    /// Columns by name.
    pub columns: BTreeMap<String, ColumnType>,
    /// Columns whose type this crate cannot read, as of a protocol that is newer than it.
    pub unreadable: BTreeSet<String>,
}

/// A database's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// The database's name.
    pub name: String,
    /// The schema's version, three numbers with dots.
    pub version: String,
    /// Tables by name.
    pub tables: BTreeMap<String, TableSchema>,
}

impl Schema {
    /// Reads the reply to `get_schema`, which is also the content of an `.ovsschema` file.
    ///
    /// Errors: [`SchemaError`] where it does not follow RFC 7047, section 3.2.
    pub fn parse(json: &Json) -> Result<Self, SchemaError> {
        let object = json.as_object().ok_or(SchemaError::Malformed("schema is no object"))?;
        let text = |name: &str| object.get(name).and_then(Json::as_str).unwrap_or_default();
        let tables =
            member(object, "tables").ok_or(SchemaError::Malformed("schema without tables"))?;
        let mut schema = Self {
            name: text("name").to_owned(),
            version: text("version").to_owned(),
            tables: BTreeMap::new(),
        };
        for (name, table) in tables {
            let columns = table
                .as_object()
                .and_then(|table| member(table, "columns"))
                .ok_or(SchemaError::Malformed("table without columns"))?;
            let mut parsed = TableSchema::default();
            for (column, definition) in columns {
                match definition.get("type").and_then(ColumnType::parse) {
                    Some(ty) => drop(parsed.columns.insert(column.clone(), ty)),
                    None => drop(parsed.unreadable.insert(column.clone())),
                }
            }
            schema.tables.insert(name.clone(), parsed);
        }
        Ok(schema)
    }
}

fn member<'a>(object: &'a Map<String, Json>, name: &str) -> Option<&'a Map<String, Json>> {
    object.get(name)?.as_object()
}

/// The start of a name that came from the server, as an error may hold it.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A schema that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// It does not have the form of a schema.
    #[error("malformed schema: {0}")]
    Malformed(&'static str),
    /// A column that was asked for is of a type that cannot be read.
    #[error("unreadable type of column {column} in table {table}")]
    ColumnType {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A table that we cannot do without is missing.
    #[error("no table {0} in the schema")]
    MissingTable(String),
    /// A column has another type than the code expects.
    #[error("column {column} in table {table} is of an unexpected type")]
    UnexpectedType {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ty(json: Json) -> Option<ColumnType> {
        ColumnType::parse(&json)
    }

    #[test]
    fn types_of_rfc_7047() {
        assert_eq!(ty(json!("string")), Some(ColumnType::scalar(AtomicType::String)));
        assert_eq!(
            ty(json!({"key": {"type": "uuid", "refTable": "Port"}, "min": 0, "max": "unlimited"})),
            Some(ColumnType { key: AtomicType::Uuid, value: None, min: 0, max: None })
        );
        assert_eq!(
            ty(json!({"key": "string", "value": "integer", "min": 0, "max": 3})),
            Some(ColumnType {
                key: AtomicType::String,
                value: Some(AtomicType::Integer),
                min: 0,
                max: Some(3)
            })
        );
        let optional = ty(json!({"key": "integer", "min": 0, "max": 1})).unwrap();
        assert!(!optional.is_composite());
    }

    #[test]
    fn refused_types() {
        for json in [
            json!(7),
            json!("text"),
            json!({"min": 0}),
            json!({"key": "string", "min": 2}),
            json!({"key": "string", "max": 0}),
            json!({"key": "string", "min": -1}),
            json!({"key": "string", "max": "few"}),
            json!({"key": "string", "value": "text"}),
        ] {
            assert_eq!(ty(json.clone()), None, "{json}");
        }
    }

    #[test]
    fn a_column_of_an_unknown_type_costs_only_itself() {
        let newer = json!({"tables": {"T": {"columns": {
            "c": {"type": "odd"}, "d": {"type": "string"}, "e": {}}}}});
        let table = &Schema::parse(&newer).unwrap().tables["T"];
        assert_eq!(table.columns.keys().collect::<Vec<_>>(), ["d"]);
        assert_eq!(table.unreadable.iter().collect::<Vec<_>>(), ["c", "e"]);
    }

    #[test]
    fn refused_schemas() {
        assert!(matches!(Schema::parse(&json!([])), Err(SchemaError::Malformed(_))));
        assert!(matches!(Schema::parse(&json!({"tables": 3})), Err(SchemaError::Malformed(_))));
        let broken = json!({"tables": {"T": {"columns": 3}}});
        assert!(matches!(Schema::parse(&broken), Err(SchemaError::Malformed(_))));
    }
}
