//! Ctrl-C and SIGTERM: the program stops what it does, cleans up, and says so. A second one ends it at once.
//!
//! Only the program listens. Tests are ended by the signal, and what they leave is cleaned away by the next run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::{Signal, raise};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{During, Error, Result};
use crate::out;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Errors: [`Error::Interrupted`] after a signal.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Cleaning up waits, too: from here on signals are not seen by [`check`].
pub fn ignore() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

/// Listens for signals as long as the process lives.
pub fn listen() -> Result<()> {
    let during = || "listening for signals".to_owned();
    let runtime = Builder::new_current_thread().enable_all().build().during(during)?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).during(during)?;
    let mut terminate = signal(SignalKind::terminate()).during(during)?;
    drop(entered);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let mut seen = false;
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if seen {
                        // the next run cleans what this one cannot any more
                        let _ = raise(Signal::SIGKILL);
                    }
                    seen = true;
                    INTERRUPTED.store(true, Ordering::Relaxed);
                    out::progress(
                        "\ninterrupted: taking everything down (once more ends it at once)",
                    );
                }
            });
        })
        .during(during)
        .map(drop)
}
