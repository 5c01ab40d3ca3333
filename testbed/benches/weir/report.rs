//! Tables, for people and as JSON: both from the same values.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use weir_testbed::out;

use crate::machine::Machine;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    tables: Vec<Table>,
    pub(crate) seconds: f64,
}

/// One table. The row that others are compared with is the one whose ratio is 1.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Row>,
}

/// A column: its heading, with the unit, and how many digits it shows.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Column(pub(crate) &'static str, #[serde(skip)] pub(crate) usize);

/// A line: what was measured, and its value in each column.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) values: Vec<Option<f64>>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        Self { name: name.into(), values: values.into_iter().map(Some).collect() }
    }
}

impl Report {
    pub(crate) const fn new(machine: Machine) -> Self {
        Self { machine, tables: Vec::new(), seconds: 0.0 }
    }

    /// Prints a table and keeps it.
    pub(crate) fn add(&mut self, table: Table) {
        out::line(&table.render());
        self.tables.push(table);
    }

    /// Writes `target/bench/report.json`.
    pub(crate) fn write(&self) -> Result<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."));
        let file = root.join("target/bench/report.json");
        let dir = file.parent().unwrap_or(root);
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        fs::write(&file, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }
}

impl Table {
    fn render(&self) -> String {
        let mut lines = vec![Vec::from([String::new()])];
        lines[0].extend(self.columns.iter().map(|c| c.0.to_owned()));
        for row in &self.rows {
            let shown = row.values.iter().zip(self.columns).map(|(value, column)| match value {
                Some(value) => number(*value, column.1),
                None => "-".to_owned(),
            });
            lines.push(std::iter::once(row.name.clone()).chain(shown).collect());
        }
        let width =
            |n: usize| lines.iter().filter_map(|l| l.get(n)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..=self.columns.len()).filter_map(width).collect();
        let mut text = format!("\n{}\n", self.title);
        for line in &lines {
            text.push_str("\n ");
            for (n, (cell, width)) in line.iter().zip(&widths).enumerate() {
                text.push_str(&match n {
                    0 => format!(" {cell:<width$}"),
                    _ => format!("  {cell:>width$}"),
                });
            }
        }
        text
    }
}

/// A number with so many digits behind the point, thousands set apart.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && digit != '-' && (whole.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// What was measured several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        let at = self.0.partition_point(|v| *v < value);
        self.0.insert(at, value);
    }

    /// Units: seconds.
    pub(crate) fn push_time(&mut self, took: Duration) {
        self.push(took.as_secs_f64());
    }

    /// Units: milliseconds.
    pub(crate) fn push_millis(&mut self, took: Duration) {
        self.push(took.as_secs_f64() * 1e3);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that so many percent do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    pub(crate) fn low(&self) -> f64 {
        self.percentile(0)
    }

    pub(crate) fn high(&self) -> f64 {
        self.percentile(100)
    }
}
