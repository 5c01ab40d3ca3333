//! Programs of Weir as real processes: started in a namespace, with a log file each, killed and started again by tests.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{During, Error, Result};
use crate::netns::Inside;
use crate::wait;

/// Time to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(15);
/// So much of a log is shown when its process ended unexpectedly. Units: lines.
const TAIL: usize = 15;

/// How a process is started, each time.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// For messages and the name of the log file.
    pub name: String,
    pub inside: Inside,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Where the log goes; later starts append.
    pub log: PathBuf,
}

/// A running process. Dropping it kills it, unless [`Self::leave`] was called.
#[derive(Debug)]
pub struct Daemon {
    recipe: Recipe,
    child: Option<Child>,
}

impl Daemon {
    /// Starts it.
    pub fn start(recipe: Recipe) -> Result<Self> {
        let child = spawn(&recipe)?;
        Ok(Self { recipe, child: Some(child) })
    }

    /// The name in messages.
    pub fn name(&self) -> &str {
        &self.recipe.name
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.recipe.log
    }

    /// Its process number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Errors: [`Error::Ended`] with the end of the log, if it does not run any more.
    pub fn check(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        match child.try_wait().during(|| format!("looking after {}", self.recipe.name))? {
            None => Ok(()),
            Some(status) => {
                self.child = None;
                Err(Error::Ended {
                    name: self.recipe.name.clone(),
                    status: status.to_string(),
                    tail: tail(&self.recipe.log),
                    log: self.recipe.log.clone(),
                })
            }
        }
    }

    /// Waits for something it does; if it ends instead, that is the error.
    pub fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(what, limit, || match condition()? {
            Some(value) => Ok(Some(value)),
            None => self.check().map(|()| None),
        })
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        // not reaped yet, so the number is still its own
        let _ = kill(pid, signal);
        let ended = wait::until(&format!("the end of {}", self.recipe.name), PATIENCE, || {
            child.try_wait().during(|| format!("waiting for {}", self.recipe.name))
        });
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended.map(drop)
    }

    /// Starts it again, after it was ended or ended by itself.
    pub fn start_again(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL)?;
        self.child = Some(spawn(&self.recipe)?);
        Ok(())
    }

    /// Changes the value of an argument for the next start.
    pub fn set_arg(&mut self, flag: &str, value: &str) {
        let at = self.recipe.args.iter().position(|a| a == flag);
        if let Some(slot) = at.and_then(|at| self.recipe.args.get_mut(at + 1)) {
            value.clone_into(slot);
        }
    }

    /// Changes the program for the next start.
    pub fn set_program(&mut self, program: &Path) {
        program.clone_into(&mut self.recipe.program);
    }

    /// Lets it run on when this is dropped.
    pub fn leave(mut self) {
        self.child = None;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.end(Signal::SIGKILL);
    }
}

fn spawn(recipe: &Recipe) -> Result<Child> {
    let open = || {
        File::options()
            .create(true)
            .append(true)
            .open(&recipe.log)
            .during(|| format!("opening {}", recipe.log.display()))
    };
    let mut command = Command::new(&recipe.program);
    command
        .args(&recipe.args)
        .envs(recipe.env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(open()?)
        .stderr(open()?);
    let name = recipe.name.clone();
    // a process belongs to the namespace of the thread that starts it
    recipe.inside.run(move || command.spawn().during(|| format!("starting {name}")))
}

/// The last lines of a file.
pub fn tail(file: &Path) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n")
}
