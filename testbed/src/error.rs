//! What can go wrong, one variant per cause.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An error of the testbed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine lacks something; the text is the whole sentence for people.
    #[error("{0}")]
    Missing(String),
    /// A tool ended with an error.
    #[error("{command}: {detail}")]
    Command { command: String, detail: String },
    /// A system call or file operation failed.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// The API server of a cluster refused something, or did not answer.
    #[error("{what}: {source}")]
    Api { what: String, source: Box<kube::Error> },
    /// Something did not happen in time.
    #[error("{what}: not after {}", crate::out::millis(*after))]
    Late { what: String, after: Duration },
    /// A signal asked for the end.
    #[error("interrupted")]
    Interrupted,
    /// Another process uses the testbed of this name.
    #[error(
        "testbed {name} is in use by process {holder}; end it, or choose another name with --name"
    )]
    Busy { name: String, holder: String },
    /// There is no testbed of this name.
    #[error("testbed {0} is not up; `weir-testbed up` starts it")]
    NotUp(String),
    /// Something was asked of a host, node or pod that is not there.
    #[error("{kind} {name:?} is not part of testbed {bed}")]
    Unknown { kind: &'static str, name: String, bed: String },
    /// A file does not hold what it should.
    #[error("{}: {field}: {reason}", file.display())]
    Content { file: PathBuf, field: String, reason: String },
    /// Probes saw something else than the policies say; one line each.
    #[error("{} of {probes} probes are not as the policies say:\n{}", lines.len(), lines.join("\n"))]
    Differs { probes: usize, lines: Vec<String> },
    /// Flows changed that nobody asked to change; one line each.
    #[error("{step}: {} flows of {node} changed without need:\n{}", lines.len(), lines.join("\n"))]
    Flows { node: String, step: String, lines: Vec<String> },
    /// A process that should run has ended.
    #[error("{name} ended ({status}); the end of its log {}:\n{tail}", log.display())]
    Ended { name: String, status: String, log: PathBuf, tail: String },
    /// A name that cannot be used.
    #[error("{kind} {name:?}: {reason}")]
    Name { kind: &'static str, name: String, reason: &'static str },
}

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was being done when an I/O error came.
pub trait During<T> {
    /// The error with `what` in front.
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::Io { what: what(), source: e.into() })
    }
}
