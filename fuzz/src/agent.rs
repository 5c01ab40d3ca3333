//! The agent's file, as a crash or another program may have left it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use weir_agent::store::{Store, Stored};
use weir_policy::ids::Canonical;

/// Whose state the files are.
const NODE: &str = "n1";

/// A file: as it is, and as the body behind a header that fits it. A state that loads can be saved and loads as the same.
pub fn agent_store(data: &[u8]) {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.0).expect("a directory");
    load(&store, data);
    load(&store, &with_header(data));
}

fn load(store: &Store, file: &[u8]) {
    fs::write(store.state_path(), file).expect("room for a file");
    let Ok(Some(stored)) = store.load(NODE) else { return };
    let Stored { revision, state } = &stored;
    assert_eq!(&*state.node.name, NODE, "revision {revision}");
    store.save(&stored).expect("room for a file");
    let again = store.load(NODE).expect("what was saved can be loaded");
    assert_eq!(again.as_ref(), Some(&stored));
}

/// The layout that `weir_agent::store` describes, around any body.
fn with_header(body: &[u8]) -> Vec<u8> {
    let mut hash = Canonical::new("weir/store/1");
    hash.bytes(body);
    let mut out = b"weirnode\0\0\0\x01\0\0\0\0".to_vec();
    out.extend((body.len() as u64).to_be_bytes());
    out.extend(hash.finish().0);
    out.extend(body);
    out
}

/// A directory that is gone afterwards; in memory where there is such a place.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let (pid, n) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(parent.join(format!("weir-fuzz-{pid}-{n}")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // what stays behind is a few bytes in a place for such things
        let _ = fs::remove_dir_all(&self.0);
    }
}
