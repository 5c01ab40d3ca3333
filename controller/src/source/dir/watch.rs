//! The file system side: inotify, and reading what it speaks of.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;

use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt};
use weir_policy::k8s::MAX_TEXT;

use super::tree::{Stamp, Tree};
use super::{DirError, Options, is_hidden, is_manifest};

/// Room for events between two reads. Units: bytes; an event takes at most 16 + 256.
const BUFFER: usize = 64 << 10;

/// The link through which all files of a mounted ConfigMap or Secret change at once.
/// Source: Kubernetes, `pkg/volume/util/atomic_writer.go`.
const CONFIGMAP_LINK: &str = "..data";

/// Directories below directories that are followed. More is a loop of links.
const MAX_DEPTH: usize = 32;

/// What the events amount to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Seen {
    /// A file's writer is done.
    Written(PathBuf),
    /// A file was away for the grace time.
    Missing(PathBuf),
    /// A directory came, or something in it happened that only a look at all of it can tell.
    Directory(PathBuf),
    /// A directory was away for the grace time.
    MissingDirectory(PathBuf),
}

/// Reads files and sets watches; may block.
#[derive(Debug)]
pub(super) struct Reader {
    watches: Watches,
    directories: HashMap<WatchDescriptor, PathBuf>,
}

/// Follows a tree of directories.
pub(super) struct Follower {
    root: PathBuf,
    options: Options,
    stream: EventStream<Vec<u8>>,
    /// Away only while a thread reads.
    reader: Option<Reader>,
    /// What went away, and until when it may come back.
    missing: BTreeMap<Seen, Instant>,
}

impl Follower {
    pub(super) fn new(root: &Path, options: Options) -> Result<Self, DirError> {
        let failed = |source| DirError::Watch { path: root.to_owned(), source };
        let inotify = Inotify::init().map_err(failed)?;
        let reader = Reader { watches: inotify.watches(), directories: HashMap::new() };
        let stream = inotify.into_event_stream(vec![0; BUFFER]).map_err(failed)?;
        Ok(Self {
            root: root.to_owned(),
            options,
            stream,
            reader: Some(reader),
            missing: BTreeMap::new(),
        })
    }

    pub(super) fn take_reader(&mut self) -> Reader {
        self.reader.take().expect("one thread reads at a time, and gives it back")
    }

    pub(super) fn put_reader(&mut self, reader: Reader) {
        self.reader = Some(reader);
    }

    /// Waits until there is something to read, and gives all there is.
    ///
    /// Errors: [`DirError::Gone`] when the root itself goes, [`DirError::Watch`].
    pub(super) async fn next(&mut self) -> Result<Vec<Seen>, DirError> {
        let mut out = Vec::new();
        while out.is_empty() {
            let grace = self.missing.values().min().copied();
            tokio::select! {
                event = self.stream.next() => self.take(event, &mut out)?,
                () = tokio::time::sleep_until(grace.unwrap_or_else(Instant::now)), if grace.is_some() => {}
            }
            // whatever else is there belongs to the same batch
            while let Some(event) = self.ready_now().await {
                self.take(Some(event), &mut out)?;
            }
            let now = Instant::now();
            let over: Vec<Seen> =
                self.missing.iter().filter(|(_, at)| **at <= now).map(|(s, _)| s.clone()).collect();
            for seen in over {
                self.missing.remove(&seen);
                out.push(seen);
            }
        }
        let mut had = HashSet::new();
        out.retain(|seen| had.insert(seen.clone()));
        Ok(out)
    }

    async fn ready_now(&mut self) -> Option<io::Result<EventOwned>> {
        poll_fn(|cx| match Pin::new(&mut self.stream).poll_next(cx) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn take(
        &mut self,
        event: Option<io::Result<EventOwned>>,
        out: &mut Vec<Seen>,
    ) -> Result<(), DirError> {
        let failed = |source| DirError::Watch { path: self.root.clone(), source };
        let event = event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
        let event = event.map_err(failed)?;
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            tracing::warn!(directory = %self.root.display(), "events were lost, looking at all of it");
            out.push(Seen::Directory(self.root.clone()));
            return Ok(());
        }
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        let Some(directory) = reader.directories.get(&event.wd).cloned() else {
            return Ok(());
        };
        let Some(name) = event.name else {
            // about the directory itself; its parent tells the same, but the root has none
            let gone = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
            if directory == self.root && event.mask.intersects(gone) {
                return Err(DirError::Gone { path: directory });
            }
            if event.mask.contains(EventMask::IGNORED) {
                reader.directories.remove(&event.wd);
            }
            return Ok(());
        };
        let path = directory.join(name);
        let came = event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO);
        let went = event.mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM);
        if is_hidden(&path) {
            if event.mask.contains(EventMask::MOVED_TO) && path.ends_with(CONFIGMAP_LINK) {
                out.push(Seen::Directory(directory));
            }
            return Ok(());
        }
        // a link to a directory comes and goes without the mark of one
        let is_directory = event.mask.contains(EventMask::ISDIR)
            || (!is_manifest(&path) && (went || path.is_dir()));
        match (is_directory, is_manifest(&path)) {
            (true, _) if came => {
                self.missing.remove(&Seen::MissingDirectory(path.clone()));
                out.push(Seen::Directory(path));
            }
            (true, _) if went => self.miss(Seen::MissingDirectory(path)),
            (false, true) if went => self.miss(Seen::Missing(path)),
            (false, true) => {
                let done = event.mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO);
                // a link has no writer, so that nothing else would follow
                if done || (came && is_link(&path)) {
                    self.missing.remove(&Seen::Missing(path.clone()));
                    out.push(Seen::Written(path));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn miss(&mut self, seen: Seen) {
        self.missing.insert(seen, Instant::now() + self.options.removal_grace);
    }
}

/// A symbolic link, or a further name of a file that exists already.
fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink() || m.nlink() > 1)
}

impl Reader {
    /// Watches a directory and all below, and reads what is not known as it is.
    ///
    /// Errors: [`DirError::Open`], [`DirError::Watch`] for the directory itself; one below that cannot be read is
    /// reported and passed over.
    pub(super) fn scan(&mut self, tree: &mut Tree, directory: &Path) -> Result<(), DirError> {
        let mut found = HashSet::new();
        self.walk(tree, directory, 0, &mut found)?;
        for path in tree.paths_under(directory) {
            if !found.contains(&path) {
                tree.remove(&path);
            }
        }
        Ok(())
    }

    fn walk(
        &mut self,
        tree: &mut Tree,
        directory: &Path,
        depth: usize,
        found: &mut HashSet<PathBuf>,
    ) -> Result<(), DirError> {
        let open = |source| DirError::Open { path: directory.to_owned(), source };
        // watched before listed: what changes in between is then seen twice instead of never
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let watch = self.watches.add(directory, mask).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => open(source),
            _ => DirError::Watch { path: directory.to_owned(), source },
        })?;
        self.directories.insert(watch, directory.to_owned());
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).map_err(open)? {
            paths.push(entry.map_err(open)?.path());
        }
        paths.sort();
        for path in paths {
            if is_hidden(&path) {
                continue;
            }
            if path.is_dir() {
                if depth >= MAX_DEPTH {
                    tracing::warn!(path = %path.display(), "too deep, not read");
                } else if let Err(error) = self.walk(tree, &path, depth + 1, found) {
                    tracing::warn!(%error, "not read");
                }
            } else if is_manifest(&path) {
                if tree.stamp(&path).is_none() || tree.stamp(&path) != stamp(&path) {
                    self.read(tree, &path);
                }
                found.insert(path);
            }
        }
        Ok(())
    }

    /// Reads one file.
    pub(super) fn read(&self, tree: &mut Tree, path: &Path) {
        // before the text: if it changes in between, the next look sees another stamp
        let stamp = stamp(path);
        let too_long = stamp.is_some_and(|s| s.size > MAX_TEXT as u64);
        let text = if too_long {
            Err(format!("more than {MAX_TEXT} bytes are not read, split it"))
        } else {
            match fs::read(path) {
                Ok(bytes) => String::from_utf8(bytes)
                    .map_err(|e| format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to())),
                // its own event says so, after the time of grace
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(error) => Err(format!("cannot be read: {error}")),
            }
        };
        tree.set(path, stamp, text);
    }

    /// Forgets a file, unless it is there after all: then it is on its way, or was read already.
    pub(super) fn drop_if_gone(&self, tree: &mut Tree, path: &Path) {
        if fs::symlink_metadata(path).is_err() {
            tree.remove(path);
        }
    }

    /// Forgets what a directory held, unless it is there after all.
    pub(super) fn drop_under_if_gone(&mut self, tree: &mut Tree, directory: &Path) {
        if fs::metadata(directory).is_ok() {
            return;
        }
        for path in tree.paths_under(directory) {
            tree.remove(&path);
        }
        // one that was moved elsewhere is still watched, under a name that is wrong now
        let moved: Vec<WatchDescriptor> = self
            .directories
            .iter()
            .filter(|(_, path)| path.starts_with(directory))
            .map(|(watch, _)| watch.clone())
            .collect();
        for watch in moved {
            self.directories.remove(&watch);
            // it fails where the directory is deleted, and the watch with it
            let _ = self.watches.remove(watch);
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
    })
}
