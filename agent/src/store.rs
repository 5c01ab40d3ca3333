//! The last good state on disk, so that a node whose agent restarts goes on with it while the controller is away
//! (NP-42).
//!
//! A file is written whole beside the old one, flushed, and renamed over it; then the directory is flushed. So after a
//! crash at any moment there is the old file or the new one. The header has the length and a checksum of the rest: a
//! torn or foreign file is an error that the caller reports and then does without, which closes ports rather than
//! opening them.
//!
//! ```text
//! magic "weirnode" | version u32 = 1 | zero u32 | length u64 | checksum 32 bytes | v1::Batch with the whole state
//! ```
//!
//! Integers are big-endian. The body is what travels on the wire, so a newer agent reads an older one's file under the
//! same promise of compatibility.

pub mod disk;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use prost::Message;
use weir_api::v1;
use weir_policy::ids::Canonical;
use weir_policy::state::NodeState;

use crate::uplink::decode;

/// Name of the state's file in the state directory.
const STATE_FILE: &str = "state.bin";
/// Name of the symbols' file in the state directory; `weirctl` reads it when the controller is away.
const SYMBOLS_FILE: &str = "symbols.jsonl";

const MAGIC: [u8; 8] = *b"weirnode";
const VERSION: u32 = 1;
const HEADER: usize = 8 + 4 + 4 + 8 + 32;
/// More than this is no state of a node: 100,000 endpoints take about 20 MiB. Units: bytes.
const MAX_FILE: u64 = 1 << 30;

/// A state and the controller's revision it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub revision: u64,
    pub state: NodeState,
}

/// Why there is no state from disk, or why it could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("{path}: {doing} failed", path = path.display())]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
    #[error("{path}: it does not begin like a state of weir-agent", path = path.display())]
    Foreign { path: PathBuf },
    #[error("{path}: layout {had}, this version reads {VERSION}", path = path.display())]
    Version { path: PathBuf, had: u32 },
    #[error("{path}: torn: {had} bytes where {wanted} should be", path = path.display())]
    Torn { path: PathBuf, had: u64, wanted: u64 },
    #[error("{path}: the checksum does not fit the content", path = path.display())]
    Checksum { path: PathBuf },
    #[error("{path}: the content cannot be read", path = path.display())]
    Malformed { path: PathBuf, source: prost::DecodeError },
    #[error("{path}: it is the state of node {had:?}, this is {wanted:?}", path = path.display())]
    OtherNode { path: PathBuf, had: String, wanted: String },
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Makes the directory where it is missing.
    ///
    /// Errors: [`StoreError::Io`].
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(io_error(directory, "making the directory"))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The file that holds the state.
    pub fn state_path(&self) -> PathBuf {
        self.directory.join(STATE_FILE)
    }

    /// The file that holds the symbols.
    pub fn symbols_path(&self) -> PathBuf {
        self.directory.join(SYMBOLS_FILE)
    }

    /// The state of `node` as it was last saved; none where there never was one.
    ///
    /// Errors: every variant of [`StoreError`]; none of them leaves anything to be used.
    pub fn load(&self, node: &str) -> Result<Option<Stored>, StoreError> {
        let path = self.state_path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, "opening")(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io_error(&path, "reading"))?;
        let stored = parse(&path, bytes.into())?;
        if &*stored.state.node.name != node {
            return Err(StoreError::OtherNode {
                path,
                had: stored.state.node.name.to_string(),
                wanted: node.to_owned(),
            });
        }
        Ok(Some(stored))
    }

    /// Replaces the saved state.
    ///
    /// Errors: [`StoreError::Io`]; the old file is then still whole.
    pub fn save(&self, stored: &Stored) -> Result<(), StoreError> {
        replace(&self.state_path(), &render(stored))
    }

    /// Removes the saved state; one that is not there is no error.
    ///
    /// Errors: [`StoreError::Io`].
    pub fn remove(&self) -> Result<(), StoreError> {
        let path = self.state_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&path, "removing")(error))
            }
            _ => Ok(()),
        }
    }

    /// Replaces the symbols.
    ///
    /// Errors: [`StoreError::Io`]; the old file is then still whole.
    pub fn save_symbols(&self, text: &[u8]) -> Result<(), StoreError> {
        replace(&self.symbols_path(), text)
    }
}

fn render(stored: &Stored) -> Vec<u8> {
    let changes = NodeState::default().diff(&stored.state);
    let body = v1::Batch {
        revision: stored.revision,
        changes: changes.iter().map(weir_api::convert::change_to_bytes).collect(),
    }
    .encode_to_vec();
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(body.len() as u64).to_be_bytes());
    out.extend_from_slice(&checksum(&body));
    out.extend_from_slice(&body);
    out
}

fn parse(path: &Path, mut bytes: Bytes) -> Result<Stored, StoreError> {
    let path = || path.to_owned();
    let had = bytes.len() as u64;
    if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
        return Err(StoreError::Foreign { path: path() });
    }
    if bytes.len() < HEADER {
        return Err(StoreError::Torn { path: path(), had, wanted: HEADER as u64 });
    }
    bytes.advance(MAGIC.len());
    let version = bytes.get_u32();
    if version != VERSION {
        return Err(StoreError::Version { path: path(), had: version });
    }
    bytes.advance(4);
    let length = bytes.get_u64();
    let wanted = bytes.split_to(32);
    if bytes.len() as u64 != length {
        let wanted = length.saturating_add(HEADER as u64);
        return Err(StoreError::Torn { path: path(), had, wanted });
    }
    if checksum(&bytes)[..] != wanted[..] {
        return Err(StoreError::Checksum { path: path() });
    }
    let batch = v1::Batch::decode(bytes)
        .map_err(|source| StoreError::Malformed { path: path(), source })?;
    // A downgraded agent may meet what it does not know, and closes it as it would had it come from the controller.
    let decoded = decode::changes(&batch.changes);
    for refusal in &decoded.refused {
        tracing::warn!(reason = %refusal.reason, "a part of the saved state is not understood");
    }
    let mut state = NodeState::default();
    state.apply(decoded.changes);
    Ok(Stored { revision: batch.revision, state })
}

/// SHA-256 over a domain and the body; against accidents, not against whoever may write to the directory.
fn checksum(body: &[u8]) -> [u8; 32] {
    let mut hash = Canonical::new("weir/store/1");
    hash.bytes(body);
    hash.finish().0
}

/// Writes a file so that after a crash there is the old content or the new.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    let written = write_and_rename(&temporary, path, bytes);
    if written.is_err() {
        // it takes up room that may be what is missing; where it was never made there is nothing to remove
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_and_rename(temporary: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = File::create(temporary).map_err(io_error(temporary, "creating"))?;
    file.write_all(bytes).map_err(io_error(temporary, "writing"))?;
    // before the rename: otherwise a crash may leave the new name on an empty file
    file.sync_all().map_err(io_error(temporary, "flushing"))?;
    drop(file);
    fs::rename(temporary, path).map_err(io_error(path, "renaming"))?;
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(io_error(directory, "flushing the directory"))
}

fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, doing, source }
}

#[cfg(test)]
mod tests;
