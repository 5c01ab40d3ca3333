//! Text -> documents -> single objects.

use serde_json::Value;

use super::Rejection;

/// The longest text that is read. Units: bytes. A dump of ten thousand pods with all their fields stays below.
pub const MAX_TEXT: usize = 256 << 20;

/// Reads a text of YAML documents, or of JSON values one after the other.
///
/// A document that cannot be read is named with its line; the others are not lost, because document markers stand
/// alone at the start of a line whatever surrounds them (YAML 1.2.2, section "Document Markers"). Empty documents are
/// left out.
pub fn read_documents(text: &str) -> (Vec<Value>, Vec<Rejection>) {
    if text.len() > MAX_TEXT {
        let rejection = Rejection {
            object: "text".to_owned(),
            field: String::new(),
            value: String::new(),
            reason: format!("{} bytes; more than {MAX_TEXT} are not read, split it", text.len()),
        };
        return (Vec::new(), vec![rejection]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(values) = json(text) {
        return (values, Vec::new());
    }
    let (mut values, mut rejections) = (Vec::new(), Vec::new());
    for (n, document) in split(text).into_iter().enumerate() {
        match serde_saphyr::from_str_with_options::<Value>(document.text, options()) {
            Ok(Value::Null) => {}
            Ok(value) => values.push(value),
            Err(error) => rejections.push(unreadable(&error, n, &document)),
        }
    }
    (values, rejections)
}

/// JSON is YAML, but the output of `kubectl get -o json` is large and this is much faster. Anything odd goes to YAML.
fn json(text: &str) -> Option<Vec<Value>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()
}

/// The single objects of a document: those of a `List`, `PodList` and the like, else the document itself. A list may hold
/// lists: no document is deeper than its reader allows, which is a hundred.
pub fn flatten(value: Value) -> Vec<Value> {
    let list_of = |value: &Value| {
        let kind = value.get("kind").and_then(Value::as_str)?.strip_suffix("List")?.to_owned();
        let version =
            value.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
        Some((kind, version))
    };
    let Some((kind, version)) = list_of(&value) else {
        return vec![value];
    };
    let Value::Object(mut list) = value else {
        return Vec::new();
    };
    let items = match list.remove("items") {
        Some(Value::Array(items)) => items,
        // how Go writes an empty one
        Some(Value::Null) => Vec::new(),
        // not a list after all; whoever reads it says what is wrong
        other => {
            list.extend(other.map(|items| ("items".to_owned(), items)));
            return vec![Value::Object(list)];
        }
    };
    let mut out = Vec::new();
    for mut item in items {
        // the items of a typed list leave out what the list says already
        if let Value::Object(fields) = &mut item
            && !kind.is_empty()
        {
            fields.entry("kind").or_insert_with(|| kind.clone().into());
            fields.entry("apiVersion").or_insert_with(|| version.clone().into());
        }
        out.extend(flatten(item));
    }
    out
}

/// A piece of the text and where it starts.
struct Document<'t> {
    text: &'t str,
    /// Lines of the whole text above it.
    lines_above: usize,
}

fn split(text: &str) -> Vec<Document<'_>> {
    let mut out = Vec::new();
    let (mut start, mut start_line) = (0, 0);
    let mut content = false;
    let mut at = 0;
    for (line_number, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        let marker = bare == "---" || line.starts_with("--- ") || line.starts_with("---\t");
        let end = bare == "..." || line.starts_with("... ");
        if marker && content {
            out.push(Document { text: &text[start..at], lines_above: start_line });
            (start, start_line) = (at, line_number);
        }
        if marker {
            content = bare.len() > 3;
        } else if !end && !bare.is_empty() && !bare.starts_with('#') && !bare.starts_with('%') {
            content = true;
        }
        at += line.len();
        if end {
            out.push(Document { text: &text[start..at], lines_above: start_line });
            (start, start_line) = (at, line_number + 1);
            content = false;
        }
    }
    if content {
        out.push(Document { text: &text[start..], lines_above: start_line });
    }
    out
}

fn unreadable(error: &serde_saphyr::Error, n: usize, document: &Document<'_>) -> Rejection {
    let line = error.location().map(|l| usize::try_from(l.line()).unwrap_or(usize::MAX));
    let text = error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
    // its own line counts from the start of the document, ours from the start of the text
    let text = text.lines().next().unwrap_or_default();
    let reason = text.rsplit_once(" at line ").map_or(text, |(reason, _)| reason);
    Rejection {
        object: format!("document {}", n + 1),
        field: line
            .map(|l| format!("line {}", l.saturating_add(document.lines_above)))
            .unwrap_or_default(),
        value: String::new(),
        reason: reason.to_owned(),
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // An alias may stand for a large value and that for others; what one text can make us build is bounded by its
        // own length (MAX_TEXT) and by this.
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 200_000,
            max_replay_stack_depth: 16,
        },
        budget: serde_saphyr::budget! {
            max_events: 100_000_000,
            max_nodes: 50_000_000,
            max_total_scalar_bytes: MAX_TEXT,
            max_depth: 100,
            max_documents: 2,
        },
        with_snippet: false,
        emit_comments: false,
        // `port: 0080` is octal to kubectl and decimal to others: text here, and thereby no port
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    }
}
