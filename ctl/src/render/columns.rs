//! Tables of plain text, numbers, JSON.

use serde_json::Value;

use super::push_line;

/// A column is no wider; a longer cell moves what follows it in its own row.
const WIDEST: usize = 64;

/// Rows under their heads, two blanks between columns; `right`: which columns stand to the right.
pub(crate) fn columns(heads: &[&str], rows: &[Vec<String>], right: &[bool]) -> String {
    let heads: Vec<String> = heads.iter().map(|h| (*h).to_owned()).collect();
    let all: Vec<&Vec<String>> =
        (!heads.is_empty()).then_some(&heads).into_iter().chain(rows).collect();
    let count = all.iter().map(|r| r.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|n| {
            let cells = all.iter().filter_map(|r| r.get(n)).map(|c| c.chars().count());
            cells.filter(|width| *width <= WIDEST).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in all {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(n, (cell, width))| {
                if right.get(n) == Some(&true) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            })
            .collect();
        push_line(&mut out, &cells.join("  "));
    }
    out
}

/// `1,204`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, c) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// JSON for people and programs.
pub(crate) fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        let all = [0, 999, 1_000, 1_234_567].map(thousands);
        assert_eq!(all, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["bcd".to_owned(), "22".to_owned()]];
        assert_eq!(columns(&["X", "N"], &rows, &[false, true]), "X     N\na     1\nbcd  22\n");
        assert_eq!(columns(&[], &rows, &[]), "a    1\nbcd  22\n");
    }
}
