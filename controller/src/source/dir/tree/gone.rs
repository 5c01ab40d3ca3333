//! Files that are gone, and policies of theirs that are not: a file that was renamed, or taken into another one, with a
//! mistake made on the way, looks like one that was deleted beside one that cannot be read.

use std::path::{Path, PathBuf};

use super::{Entry, File, Name, Tree};
use crate::source::{Code, Warning};

impl Tree {
    /// A file is gone. Its objects are, too, but for policies that may be in what cannot be read: without those, more
    /// would be let through than either content says. They go when it can be read, or is deleted.
    pub(in super::super) fn remove(&mut self, path: &Path) {
        let Some(mut file) = self.files.remove(path) else {
            return;
        };
        let entries = std::mem::take(&mut file.entries);
        let (stay, go): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| self.may_be_elsewhere(entry, path));
        for entry in go {
            self.touched.insert(entry.name.clone());
            self.unhold(&entry.name, path);
        }
        if stay.is_empty() {
            return;
        }
        let first_time = !file.gone;
        let gone = File { entries: stay, gone: true, ..File::default() };
        if first_time && let Some(warning) = self.warn_gone(path, &gone) {
            tracing::warn!("{warning}");
        }
        self.files.insert(path.to_owned(), gone);
    }

    /// Looks again at what stayed of files that are gone.
    pub(super) fn settle_gone(&mut self) {
        let gone = self.files.iter().filter(|(_, file)| file.gone).map(|(path, _)| path.clone());
        for path in gone.collect::<Vec<PathBuf>>() {
            self.remove(&path);
        }
    }

    /// A policy of this path, which is gone, that nothing readable has, and something unreadable may have.
    fn may_be_elsewhere(&self, entry: &Entry, path: &Path) -> bool {
        let elsewhere = || {
            self.holders.get(&entry.name).is_some_and(|holders| holders.iter().any(|h| h != path))
        };
        matches!(entry.name, Name::Policy(_)) && !elsewhere() && self.hides(&entry.name).is_some()
    }

    /// What cannot be read or understood and may be this object.
    fn hides(&self, name: &Name) -> Option<&Warning> {
        let lost = self.files.values().flat_map(|file| &file.lost);
        let may_be = lost.filter(|l| l.widens && l.name.as_ref().is_none_or(|n| n == name));
        self.unread.values().chain(may_be.map(|l| &l.problem)).next()
    }

    /// What there is to say of a file that is gone and stays.
    pub(super) fn warn_gone(&self, path: &Path, file: &File) -> Option<Warning> {
        let entry = file.entries.first()?;
        let hidden = self.hides(&entry.name)?;
        let names: Vec<String> = file.entries.iter().map(|e| super::title(&e.name)).collect();
        Some(Warning {
            code: Code::Kept,
            object: path.strip_prefix(&self.root).unwrap_or(path).display().to_string(),
            field: String::new(),
            message: format!(
                "is gone; {} stays in force, as it may be in what cannot be read until that is mended or deleted: {hidden}",
                names.join(", ")
            ),
        })
    }
}
