//! Exit codes and what ends a command early.

use std::path::PathBuf;
use std::process::ExitCode;

use weir_policy::explain::Answer;

use crate::names::NameError;

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Yes, allowed, equal, done.
    Yes = 0,
    /// No, denied, different.
    No = 1,
    /// Bad usage or bad input.
    Usage = 2,
    /// Cannot tell; the reason is printed.
    Undecided = 3,
    /// No answer: connection, permission.
    NoAnswer = 4,
    /// Policies and switch disagree.
    Disagree = 5,
}

impl Exit {
    /// Of several answers: one denial denies, one doubt is a doubt.
    pub fn of(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut exit = Self::Yes;
        for answer in answers {
            match answer {
                Answer::Denied => return Self::No,
                Answer::Undecided => exit = Self::Undecided,
                Answer::Allowed => {}
            }
        }
        exit
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What ends a command early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{0}")]
    Usage(String),
    #[error("no {what} {name} among the objects read{hint}")]
    NotFound { what: &'static str, name: String, hint: String },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{count} of the objects cannot be used (see above); mend or leave them out")]
    Rejected { count: usize },
    #[error("{what}: not in this version (planned: {planned})")]
    NotYet { what: String, planned: &'static str },
    #[error("{server}: {reason}")]
    Server { server: String, reason: String },
    #[error("the answer cannot be written as {format}: {reason}")]
    Format { format: &'static str, reason: String },
}

impl Failure {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Server { .. } => Exit::NoAnswer,
            _ => Exit::Usage,
        }
    }
}
