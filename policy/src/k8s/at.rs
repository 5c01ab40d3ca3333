//! A place in a JSON document that knows its path, so that every complaint can name its field.

use serde_json::{Map, Value};

use super::{Rejection, Warning};

/// What is wrong at one place. It becomes a [`Warning`] or a [`Rejection`] once the object has a name.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) field: String,
    pub(super) value: String,
    pub(super) reason: String,
}

impl Problem {
    pub(super) fn reject(self, object: &str) -> Rejection {
        Rejection {
            object: object.to_owned(),
            field: self.field,
            value: self.value,
            reason: self.reason,
        }
    }

    /// With what it leads to: `...; this peer matches nothing`.
    pub(super) fn warn(self, object: &str, effect: &str) -> Warning {
        Warning {
            object: object.to_owned(),
            field: self.field,
            value: self.value,
            reason: format!("{}; {effect}", self.reason),
        }
    }
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

/// A value and the way to it. Children borrow their parent; the path is put together only for a complaint.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
    pub(super) value: &'a Value,
}

impl<'a> At<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { parent: None, step: Step::Root, value }
    }

    /// The field, unless it is absent or null, which are the same to the API server.
    pub(super) fn field(&'a self, name: &'a str) -> Option<Self> {
        let value = self.value.get(name).filter(|v| !v.is_null())?;
        Some(Self { parent: Some(self), step: Step::Field(name), value })
    }

    /// The fields in turn, as long as each is there.
    pub(super) fn list(&'a self) -> Result<impl Iterator<Item = Self>, Problem> {
        let Value::Array(items) = self.value else {
            return Err(self.wrong("a list"));
        };
        Ok(items.iter().enumerate().map(move |(n, value)| Self {
            parent: Some(self),
            step: Step::Index(n),
            value,
        }))
    }

    /// The items of a list field; none if the field is absent.
    pub(super) fn object(&self) -> Result<&'a Map<String, Value>, Problem> {
        self.value.as_object().ok_or_else(|| self.wrong("an object"))
    }

    /// An object with no other fields than these. One that we do not know may restrict what we would allow.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.object()?.keys().find(|k| !known.contains(&k.as_str())) {
            None => Ok(()),
            Some(field) => {
                Err(self
                    .problem(format!("unknown field {field:?}; known here: {}", known.join(", "))))
            }
        }
    }

    pub(super) fn str(&self) -> Result<&'a str, Problem> {
        self.value.as_str().ok_or_else(|| self.wrong("text (in quotes)"))
    }

    /// A text field that has to be there and not empty.
    pub(super) fn required_str(&'a self, name: &'a str) -> Result<&'a str, Problem> {
        self.object()?;
        let Some(field) = self.field(name) else {
            return Err(Problem {
                field: self.path_of(name),
                value: String::new(),
                reason: "missing; every object needs it".to_owned(),
            });
        };
        match field.str()? {
            "" => Err(field.problem("empty; every object needs it".to_owned())),
            text => Ok(text),
        }
    }

    /// An optional text field; what is no text counts as absent.
    pub(super) fn text_or<'b>(&'b self, name: &'b str, default: &'b str) -> &'b str {
        self.value.get(name).and_then(Value::as_str).unwrap_or(default)
    }

    pub(super) fn wrong(&self, wanted: &str) -> Problem {
        self.problem(format!("write {wanted}"))
    }

    pub(super) fn problem(&self, reason: String) -> Problem {
        Problem { field: self.path(), value: shown(self.value), reason }
    }

    /// `spec.ingress[0].ports[1].port`.
    pub(super) fn path(&self) -> String {
        let mut path = self.parent.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Index(n) => path.push_str(&format!("[{n}]")),
        }
        path
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        let path = self.path();
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    }
}

/// The value as one short piece of JSON: a message stays one line, whatever stands in the file.
fn shown(value: &Value) -> String {
    /// Long enough for a CIDR with its quotes or a small selector.
    const LIMIT: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LIMIT) {
        None => text,
        Some((cut, _)) => format!("{}...", &text[..cut]),
    }
}
