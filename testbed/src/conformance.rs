//! Sets of cases in the format of `networkpolicy` conformance vectors: a small world, changes, and after each change who
//! may connect to whom.

pub mod case;
pub mod cluster;
pub mod evaluator;
pub mod live;

use std::path::{Path, PathBuf};

use crate::error::{During, Error, Result};
use crate::out;
use case::Case;

/// What came of a set of cases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    pub cases: usize,
    pub passed: usize,
}

impl Score {
    /// All passed, and there were some.
    pub const fn is_full(&self) -> bool {
        self.cases > 0 && self.cases == self.passed
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "conformance: {} of {}", self.passed, self.cases)
    }
}

/// Reads every case of a directory, in the order of their names; with `only`, those whose name begins with it.
///
/// Errors: [`Error::Content`] with the file and the field for whatever is not as the format says.
pub fn read(dir: &Path, only: Option<&str>) -> Result<Vec<Case>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .during(|| format!("reading {}", dir.display()))?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .filter(|p| {
            only.is_none_or(|only| {
                p.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with(only))
            })
        })
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::Content {
            file: dir.to_owned(),
            field: "*.json".to_owned(),
            reason: match only {
                Some(only) => format!("no case begins with {only:?}"),
                None => "no cases here".to_owned(),
            },
        });
    }
    files.iter().map(|f| case::read(f)).collect()
}

/// Plays cases one after another; one line for each difference, and the score at the end.
pub fn play(cases: &[Case], mut one: impl FnMut(&Case) -> Result<Vec<String>>) -> Result<Score> {
    let mut score = Score { cases: cases.len(), passed: 0 };
    for case in cases {
        let differences = one(case)?;
        if differences.is_empty() {
            score.passed += 1;
        }
        for difference in differences {
            out::line(&format!("{}: {difference}", case.name));
        }
    }
    out::line(&score.to_string());
    Ok(score)
}
