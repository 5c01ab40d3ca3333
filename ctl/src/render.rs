//! A file per command: data becomes text.

pub(crate) mod columns;
pub(crate) mod flows;
pub(crate) mod matrix;
pub(crate) mod status;
pub(crate) mod why;

/// Text padded on the right; what is longer stays whole.
fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

/// Lines without blanks at their ends.
fn push_line(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}
