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

/// What a look at a directory and all below came upon.
#[derive(Debug, Default)]
struct Found {
    files: HashSet<PathBuf>,
    /// Directories that could not be read, and why.
    unread: BTreeMap<PathBuf, String>,
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

    /// What to read again of what could not be read, as no event tells when it can.
    pub(super) fn again(&mut self, tree: &Tree) -> Vec<Seen> {
        let mut out = Vec::new();
        for path in tree.unread_directories() {
            if is_gone(&path) {
                self.miss(Seen::MissingDirectory(path));
            } else {
                out.push(Seen::Directory(path));
            }
        }
        for path in tree.unread_files() {
            if is_gone(&path) {
                self.miss(Seen::Missing(path));
            } else {
                out.push(Seen::Written(path));
            }
        }
        out
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
        let until = Instant::now() + self.options.removal_grace;
        self.missing.entry(seen).or_insert(until);
    }
}

/// A symbolic link, or a further name of a file that exists already.
fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink() || m.nlink() > 1)
}

impl Reader {
    /// Watches a directory and all below, and reads what is not known as it is. What is below a directory that cannot
    /// be read stays as it was; the tree knows such a directory then.
    ///
    /// Errors: [`DirError::Open`], [`DirError::Watch`] for the root itself.
    pub(super) fn scan(&mut self, tree: &mut Tree, directory: &Path) -> Result<(), DirError> {
        let mut found = Found::default();
        match self.walk(tree, directory, 0, &mut found) {
            Err(error) if directory != tree.root() => {
                // one that is gone by now has an event of its own, after the time of grace
                if !is_gone(directory) {
                    tree.set_unread(directory, error.reason());
                }
                return Ok(());
            }
            result => result?,
        }
        for path in tree.paths_under(directory) {
            if !found.files.contains(&path) && !found.unread.keys().any(|d| path.starts_with(d)) {
                tree.remove(&path);
            }
        }
        tree.set_all_unread(directory, found.unread);
        Ok(())
    }

    fn walk(
        &mut self,
        tree: &mut Tree,
        directory: &Path,
        depth: usize,
        found: &mut Found,
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
            let is_dir = match fs::metadata(&path) {
                Ok(metadata) => Ok(metadata.is_dir()),
                // a link that leads nowhere
                Err(error) if is_absence(&error) => Ok(false),
                Err(error) => Err(format!("cannot be read: {error}")),
            };
            match is_dir {
                Ok(true) if depth >= MAX_DEPTH => {
                    tracing::warn!(path = %path.display(), "too deep, not read");
                }
                Ok(true) => match self.walk(tree, &path, depth + 1, found) {
                    Ok(()) => {}
                    Err(_) if is_gone(&path) => {}
                    Err(error) => {
                        found.unread.insert(path, error.reason());
                    }
                },
                _ if is_manifest(&path) => {
                    if tree.stamp(&path).is_none() || tree.stamp(&path) != stamp(&path) {
                        self.read(tree, &path);
                    }
                    found.files.insert(path);
                }
                Ok(false) => {}
                Err(reason) => {
                    found.unread.insert(path, reason);
                }
            }
        }
        Ok(())
    }

    /// Reads one file.
    pub(super) fn read(&self, tree: &mut Tree, path: &Path) {
        // before the text: if it changes in between, the next look sees another stamp
        let mut stamp = stamp(path);
        let too_long = stamp.is_some_and(|s| s.size > MAX_TEXT as u64);
        let text = if too_long {
            Err(format!("more than {MAX_TEXT} bytes are not read, split it"))
        } else {
            match fs::read(path) {
                Ok(bytes) => String::from_utf8(bytes)
                    .map_err(|e| format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to())),
                // its own event says so, after the time of grace
                Err(error) if is_absence(&error) => return,
                Err(error) => {
                    // the next look tries again, whatever it sees: permissions change without a change of the file
                    stamp = None;
                    Err(format!("cannot be read: {error}"))
                }
            }
        };
        tree.set(path, stamp, text);
    }

    /// Forgets a file, unless it is there after all: then it is on its way, or was read already.
    pub(super) fn drop_if_gone(&self, tree: &mut Tree, path: &Path) {
        match fs::symlink_metadata(path) {
            Ok(_) => {}
            Err(error) if is_absence(&error) => tree.remove(path),
            // nobody can tell; what it had stays
            Err(_) => self.read(tree, path),
        }
    }

    /// Forgets what a directory held, unless it is there after all.
    pub(super) fn drop_under_if_gone(&mut self, tree: &mut Tree, directory: &Path) {
        match fs::metadata(directory) {
            Ok(_) => return,
            Err(error) if is_absence(&error) => {}
            Err(error) => {
                return tree.set_unread(directory, format!("cannot be read: {error}"));
            }
        }
        tree.set_all_unread(directory, BTreeMap::new());
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

/// Nothing is there, which is not the same as that nobody can tell.
fn is_gone(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| is_absence(&error))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
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
