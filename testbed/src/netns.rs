//! Network namespaces, as `ip netns` knows them, and threads that live in them.
//!
//! A thread enters a namespace once and stays: [`Inside`] is its mailbox. Sockets and processes made there belong to the
//! namespace for good, so that everything else (polling, answering) can happen on any thread.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{During, Error, Result};
use crate::wait;

/// Where `ip netns` keeps its names.
const DIR: &str = "/run/netns";

type Job = Box<dyn FnOnce() + Send>;

/// A thread inside a namespace. Clones share it; it ends with the last of them.
#[derive(Clone)]
pub struct Inside {
    name: Arc<str>,
    jobs: mpsc::Sender<Job>,
}

impl Inside {
    /// Makes a namespace of this name and enters it.
    pub fn create(name: &str) -> Result<Self> {
        let file = path(name);
        fs::create_dir_all(DIR).during(|| format!("making {DIR}"))?;
        File::create_new(&file).during(|| format!("making {}", file.display()))?;
        let made = Self::start(name, move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let none: Option<&str> = None;
            mount(Some("/proc/thread-self/ns/net"), &file, none, MsFlags::MS_BIND, none)
        });
        if made.is_err() {
            // the name without a namespace behind it
            let _ = fs::remove_file(path(name));
        }
        made
    }

    /// Enters an existing namespace.
    pub fn enter(name: &str) -> Result<Self> {
        let file = File::open(path(name)).during(|| format!("namespace {name}"))?;
        Self::start(name, move || setns(file, CloneFlags::CLONE_NEWNET))
    }

    /// The namespace that this process is in already.
    pub fn here() -> Result<Self> {
        Self::start("here", || Ok(()))
    }

    fn start(
        name: &str,
        go_there: impl FnOnce() -> nix::Result<()> + Send + 'static,
    ) -> Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tell, arrived) = mpsc::channel();
        thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                let result = go_there();
                let there = result.is_ok();
                let _ = tell.send(result);
                if there {
                    while let Ok(job) = inbox.recv() {
                        job();
                    }
                }
            })
            .during(|| "starting a thread".to_owned())?;
        arrived
            .recv()
            .unwrap_or(Err(nix::Error::ESRCH))
            .during(|| format!("entering namespace {name}"))?;
        Ok(Self { name: name.into(), jobs })
    }

    /// The name that `ip netns exec` takes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs something in the namespace and waits for it.
    ///
    /// Errors: what it returns; [`Error::Io`] when it panicked.
    pub fn run<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tell, done) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = tell.send(f());
        });
        let gone = || Error::Io {
            what: format!("the thread in namespace {}", self.name),
            source: nix::Error::ESRCH.into(),
        };
        self.jobs.send(job).map_err(|_| gone())?;
        done.recv().map_err(|_| gone())?
    }

    /// [`Self::run`] for tasks: waits without holding a thread up.
    pub async fn ask<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, done) = tokio::sync::oneshot::channel();
        let job: Job = Box::new(move || {
            let _ = tell.send(f());
        });
        let gone = || io::Error::from(nix::Error::ESRCH);
        self.jobs.send(job).map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inside({})", self.name)
    }
}

/// The file of a namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// There is a namespace of this name.
pub fn exists(name: &str) -> bool {
    path(name).exists()
}

/// Ends every process in these namespaces, deletes the namespaces, and waits for both. Missing ones are no error.
///
/// A process counts as inside by what the kernel says of it, so it makes no difference who started it and whether a pid
/// file was written. The calling process is never touched, though some of its threads may be inside.
pub fn remove(names: &[String]) -> Result<()> {
    let inodes: Vec<(u64, u64)> = names
        .iter()
        .filter_map(|n| fs::metadata(path(n)).ok())
        .map(|m| (m.dev(), m.ino()))
        .collect();
    wait::until("the end of the processes in the namespaces", Duration::from_secs(10), || {
        let left = processes(&inodes);
        for pid in &left {
            // it may end by itself meanwhile
            let _ = kill(*pid, Signal::SIGKILL);
        }
        Ok(left.is_empty().then_some(()))
    })?;
    for name in names {
        let file = path(name);
        if file.exists() {
            // a name whose namespace was never mounted is a plain file
            let _ = umount2(&file, MntFlags::MNT_DETACH);
            fs::remove_file(&file).during(|| format!("removing {}", file.display()))?;
        }
    }
    Ok(())
}

/// The processes whose network namespace is one of these, zombies and ourselves left out.
fn processes(inodes: &[(u64, u64)]) -> Vec<Pid> {
    if inodes.is_empty() {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| Pid::from_raw(*pid) != Pid::this())
        // a zombie has no namespace any more, so it is not found
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|m| inodes.contains(&(m.dev(), m.ino())))
        })
        .map(Pid::from_raw)
        .collect()
}
