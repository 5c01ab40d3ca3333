//! The directory of a testbed: who holds it, and what must be cleaned away when nobody does.
//!
//! ```text
//! /run/weir-testbed/.lock          held while a directory is made or removed
//! /run/weir-testbed/NAME/lock      held as long as the testbed is in use; pid and role of the holder inside
//! /run/weir-testbed/NAME/journal   one namespace a line, written before the namespace is made
//! ```
//!
//! Locks are the kernel's, so a killed holder leaves none. Everything a testbed makes lies in its directory or in its
//! namespaces (interfaces, processes), so the journal is all that cleaning up needs.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{During, Error, Result};
use crate::{interrupt, netns, wait};

/// The variable that names another place than [`BASE`].
const BASE_VARIABLE: &str = "WEIR_TESTBED_DIR";
/// Where testbeds live. Short, because socket paths below it may have 107 bytes only.
const BASE: &str = "/run/weir-testbed";
/// Room for interface and namespace names built from it.
const LONGEST_NAME: usize = 24;

/// What the process that holds a testbed is doing with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It builds, plays or tests; nobody else may touch the testbed.
    Play,
    /// It keeps servers running for a testbed that was left up; the next `up` or `down` may end it.
    Serve,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Play => "play",
            Self::Serve => "serve",
        }
    }
}

/// A testbed's directory, held by this process.
#[derive(Debug)]
pub struct Home {
    name: String,
    dir: PathBuf,
    journal: File,
    /// The lock lives as long as this is open, here or in a child process.
    lock: File,
}

impl Home {
    /// Takes a fresh, empty directory, after cleaning away what an earlier holder of the name left, and every other
    /// testbed that nobody holds.
    ///
    /// Errors: [`Error::Busy`] when somebody plays with the testbed of this name at this moment.
    pub fn take(name: &str) -> Result<Self> {
        check_name(name)?;
        let base = base();
        let dir = base.join(name);
        evict_server(&dir)?;
        let _guard = Guard::take(&base)?;
        sweep(&base)?;
        if dir.exists() {
            return Err(Error::Busy {
                name: name.to_owned(),
                holder: holder(&dir).map_or_else(|| "?".to_owned(), |(pid, _)| pid.to_string()),
            });
        }
        fs::create_dir(&dir).during(|| format!("making {}", dir.display()))?;
        let lock = open_lock(&dir)?;
        // others only look at it for an instant, and those that make or remove directories wait for the guard
        wait::until("the lock of a new directory", Duration::from_secs(1), || {
            Ok(lock.try_lock().ok())
        })?;
        Self::with_lock(name, dir, lock, Role::Play)
    }

    /// Goes on with a testbed whose holder called [`Self::hand_over`] and started this process.
    ///
    /// Errors: [`Error::NotUp`] when it is not up, or when this process was not given its lock.
    pub fn adopt(name: &str) -> Result<Self> {
        check_name(name)?;
        let dir = base().join(name);
        if is_free(&dir) {
            return Err(Error::NotUp(name.to_owned()));
        }
        let lock = open_lock(&dir)?;
        Self::with_lock(name, dir, lock, Role::Serve)
    }

    /// Says that from now on the holder only keeps things running, so that the next `up` or `down` may end it.
    pub fn now_serves(&self) -> Result<()> {
        self.sign(Role::Serve)
    }

    fn sign(&self, role: Role) -> Result<()> {
        let mut lock = &self.lock;
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{} {}", std::process::id(), role.as_str()))
            .during(|| format!("writing the lock of {}", self.name))
    }

    /// A handle of the lock that child processes inherit. The testbed stays held as long as one of them lives.
    pub fn hand_over(&self) -> Result<File> {
        let during = || "handing over the lock".to_owned();
        let file = self.lock.try_clone().during(during)?;
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).during(during)?;
        Ok(file)
    }

    fn with_lock(name: &str, dir: PathBuf, lock: File, role: Role) -> Result<Self> {
        let path = dir.join("journal");
        let journal = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .during(|| format!("opening {}", path.display()))?;
        let home = Self { name: name.to_owned(), dir, journal, lock };
        home.sign(role)?;
        Ok(home)
    }

    /// The name people use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything of this testbed that is a file.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of one of its namespaces, noted down so that it will be cleaned away.
    pub fn claim(&self, part: &str) -> Result<String> {
        let name = namespace_name(&self.name, part);
        let mut journal = &self.journal;
        journal
            .write_all(format!("{name}\n").as_bytes())
            .during(|| "writing the journal".to_owned())?;
        Ok(name)
    }

    /// Ends its processes and removes its namespaces and files.
    pub fn remove(self) -> Result<()> {
        interrupt::ignore();
        let _guard = Guard::take(&base())?;
        wipe(&self.dir)
    }
}

/// The directory of a testbed that is up or was.
pub fn dir_of(name: &str) -> PathBuf {
    base().join(name)
}

/// The namespace of a part of a testbed.
pub fn namespace_name(bed: &str, part: &str) -> String {
    format!("weir-{bed}-{part}")
}

/// Takes down a testbed, whoever left it. True if there was one.
///
/// Errors: [`Error::Busy`] when somebody plays with it at this moment.
pub fn take_down(name: &str) -> Result<bool> {
    check_name(name)?;
    let base = base();
    let dir = base.join(name);
    evict_server(&dir)?;
    let _guard = Guard::take(&base)?;
    let was = dir.exists();
    sweep(&base)?;
    if dir.exists() {
        return Err(Error::Busy {
            name: name.to_owned(),
            holder: holder(&dir).map_or_else(|| "?".to_owned(), |(pid, _)| pid.to_string()),
        });
    }
    Ok(was)
}

/// The testbeds there are, with the process that holds each.
pub fn list() -> Vec<(String, Option<(i32, Role)>)> {
    let mut out: Vec<_> = directories(&base())
        .into_iter()
        .map(|dir| {
            let name =
                dir.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            let held = !is_free(&dir);
            (name, holder(&dir).filter(|_| held))
        })
        .collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// A name that no other testbed has, whatever process makes it.
pub fn test_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn base() -> PathBuf {
    std::env::var_os(BASE_VARIABLE).map_or_else(|| BASE.into(), PathBuf::from)
}

fn check_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() || name.len() > LONGEST_NAME {
        "between 1 and 24 characters"
    } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        || name.starts_with('-')
    {
        "lower-case letters, digits and dashes, no dash first"
    } else {
        return Ok(());
    };
    Err(Error::Name { kind: "testbed", name: name.to_owned(), reason })
}

/// Held while directories come and go, so that nobody sweeps one that has no lock yet.
struct Guard {
    _file: File,
}

impl Guard {
    fn take(base: &Path) -> Result<Self> {
        fs::create_dir_all(base).during(|| format!("making {}", base.display()))?;
        let path = base.join(".lock");
        let file = File::create(&path).during(|| format!("opening {}", path.display()))?;
        file.lock().during(|| format!("locking {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// Removes every testbed that nobody holds. The caller has the [`Guard`].
fn sweep(base: &Path) -> Result<()> {
    for dir in directories(base) {
        if is_free(&dir) {
            wipe(&dir)?;
        }
    }
    Ok(())
}

fn directories(base: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(base) else {
        return Vec::new();
    };
    entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

fn open_lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .during(|| format!("opening {}", path.display()))
}

fn is_free(dir: &Path) -> bool {
    match File::open(dir.join("lock")) {
        Ok(lock) => lock.try_lock_shared().is_ok(),
        // nobody came as far as locking it
        Err(_) => true,
    }
}

fn wipe(dir: &Path) -> Result<()> {
    let journal = fs::read_to_string(dir.join("journal")).unwrap_or_default();
    let mut names: Vec<String> = journal
        .split_inclusive('\n')
        // a torn last line: its namespace was not made
        .filter_map(|l| l.strip_suffix('\n'))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    netns::remove(&names)?;
    fs::remove_dir_all(dir).during(|| format!("removing {}", dir.display()))
}

/// Who wrote itself into the lock file.
fn holder(dir: &Path) -> Option<(i32, Role)> {
    let mut text = String::new();
    File::open(dir.join("lock")).ok()?.read_to_string(&mut text).ok()?;
    let (pid, role) = text.trim().split_once(' ')?;
    let role = [Role::Play, Role::Serve].into_iter().find(|r| r.as_str() == role)?;
    Some((pid.parse().ok()?, role))
}

/// Ends the process that keeps a left-up testbed running, and waits until it has let go.
fn evict_server(dir: &Path) -> Result<()> {
    if is_free(dir) {
        return Ok(());
    }
    let Some((pid, Role::Serve)) = holder(dir) else {
        return Ok(());
    };
    // it holds the lock, so the number is its own; a last look in case it ended this instant
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if String::from_utf8_lossy(&command).contains("weir-testbed") {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    wait::until(
        &format!("the end of process {pid}, which keeps the testbed up"),
        Duration::from_secs(10),
        || Ok(is_free(dir).then_some(())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_namespace_names() {
        for good in ["demo", "t12-3", "a"] {
            check_name(good).unwrap();
        }
        for bad in ["", "A", "a/b", "-a", "a.b", "aaaaaaaaaaaaaaaaaaaaaaaaa"] {
            check_name(bad).unwrap_err();
        }
    }

    #[test]
    fn test_names_differ() {
        assert_ne!(test_name(), test_name());
        check_name(&test_name()).unwrap();
    }
}
