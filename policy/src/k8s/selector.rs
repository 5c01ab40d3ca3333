//! Labels and label selectors.

use serde_json::Value;

use crate::ids::Str;
use crate::labels::{LabelSelector, Labels, Requirement, Values};

use super::at::{At, Problem};

/// A map of labels. Null is the empty text, as it is to the API server.
pub(super) fn labels(at: &At<'_>) -> Result<Labels, Problem> {
    let object = at.object()?;
    let mut labels = Vec::with_capacity(object.len());
    for (key, value) in object {
        labels.push((Str::from(key.as_str()), Str::from(text(at, key, value)?)));
    }
    Ok(Labels::from(labels))
}

fn text<'v>(at: &At<'_>, key: &str, value: &'v Value) -> Result<&'v str, Problem> {
    match value {
        Value::String(s) => Ok(s),
        Value::Null => Ok(""),
        other => Err(Problem {
            field: format!("{}[{key:?}]", at.path()),
            value: other.to_string(),
            reason: "label values are text; write it in quotes".to_owned(),
        }),
    }
}

/// A label selector that is present (NP-2). What the API server would refuse is an error here: an unknown operator,
/// `In` or `NotIn` without values, `Exists` or `DoesNotExist` with them, an impossible key (NP-19).
pub(super) fn selector(at: &At<'_>) -> Result<LabelSelector, Problem> {
    at.only(&["matchLabels", "matchExpressions"])?;
    let mut out = Vec::new();
    if let Some(at) = at.field("matchLabels") {
        for (key, value) in at.object()? {
            check_key(&at, key)?;
            let value = text(&at, key, value)?;
            out.push(Requirement::In(key.as_str().into(), Values::from([value.into()])));
        }
    }
    if let Some(at) = at.field("matchExpressions") {
        for at in at.list()? {
            out.push(requirement(&at)?);
        }
    }
    Ok(LabelSelector::new(out))
}

fn requirement(at: &At<'_>) -> Result<Requirement, Problem> {
    at.only(&["key", "operator", "values"])?;
    let key = at.required_str("key")?;
    check_key(at, key)?;
    let key: Str = key.into();
    let mut values: Vec<Str> = Vec::new();
    if let Some(at) = at.field("values") {
        for at in at.list()? {
            values.push(at.str()?.into());
        }
    }
    let values = Values::from(values);
    let operator = at.required_str("operator")?;
    match (operator, values.is_empty()) {
        ("In", false) => Ok(Requirement::In(key, values)),
        ("NotIn", false) => Ok(Requirement::NotIn(key, values)),
        ("Exists", true) => Ok(Requirement::Exists(key)),
        ("DoesNotExist", true) => Ok(Requirement::DoesNotExist(key)),
        ("In" | "NotIn", true) => Err(at.problem(format!("{operator} needs values"))),
        ("Exists" | "DoesNotExist", false) => {
            Err(at.problem(format!("{operator} takes no values")))
        }
        _ => Err(at.problem(format!(
            "unknown operator {operator:?}; write In, NotIn, Exists or DoesNotExist"
        ))),
    }
}

/// `[prefix/]name` with a name of 1..=63 of `A-Za-z0-9-_.`, alphanumeric at both ends. Values are not checked: objects
/// stored by older servers carry impossible ones, which simply equal no label.
fn check_key(at: &At<'_>, key: &str) -> Result<(), Problem> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let ends = |s: &str| {
        let alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        alphanumeric(s.bytes().next()) && alphanumeric(s.bytes().last())
    };
    let name_ok = name.len() <= 63
        && ends(name)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let prefix_ok = prefix.is_none_or(|p| {
        p.len() <= 253
            && ends(p)
            && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    });
    if name_ok && prefix_ok {
        return Ok(());
    }
    Err(at.problem(format!("{key:?} cannot be a label key")))
}
