//! The first SIGTERM or SIGINT drains, the second aborts.

use std::future::Future;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Takes over SIGTERM and SIGINT at once, and gives the future that waits for them: to be spawned by the caller.
///
/// The first signal cancels `drain`; the second aborts the process, whatever it does. The future never ends.
///
/// Errors: those of the system when a handler cannot be installed.
pub fn listen(drain: CancellationToken) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let mut draining = false;
        loop {
            let name = tokio::select! {
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                // the runtime shuts down
                else => std::future::pending().await,
            };
            if draining {
                tracing::error!(signal = name, "second signal, aborting");
                std::process::abort();
            }
            tracing::info!(signal = name, "signal, draining; a second one aborts");
            draining = true;
            drain.cancel();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    const CHILD: &str = "WEIR_TEST_SIGNAL_CHILD";

    /// The body of the processes that the other tests start; does nothing by itself.
    #[test]
    fn child() {
        let Ok(mode) = std::env::var(CHILD) else {
            return;
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let drain = CancellationToken::new();
            let _signals = crate::task::spawn("signals", listen(drain.clone()).unwrap());
            say("listening");
            drain.cancelled().await;
            say("draining");
            if mode == "stuck" {
                std::future::pending::<()>().await;
            }
        });
    }

    /// Not `println!`, which the test harness keeps.
    fn say(word: &str) {
        let mut out = io::stdout();
        writeln!(out, "\n{word}").unwrap();
        out.flush().unwrap();
    }

    struct Process(Child);

    impl Process {
        fn start(mode: &str) -> (Self, impl Iterator<Item = String>) {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "signal::tests::child", "--nocapture"])
                .env(CHILD, mode)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let out = BufReader::new(child.stdout.take().unwrap());
            (Self(child), out.lines().map_while(Result::ok))
        }

        fn signal(&self, signal: &str) {
            let status =
                Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
            assert!(status.success());
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn the_first_signal_drains() {
        for signal in ["-TERM", "-INT"] {
            let (mut process, mut lines) = Process::start("drains");
            assert!(lines.any(|line| line == "listening"));
            process.signal(signal);
            assert!(lines.any(|line| line == "draining"));
            assert!(process.0.wait().unwrap().success());
        }
    }

    #[test]
    fn the_second_signal_aborts() {
        let (mut process, mut lines) = Process::start("stuck");
        assert!(lines.any(|line| line == "listening"));
        process.signal("-TERM");
        assert!(lines.any(|line| line == "draining"));
        process.signal("-INT");
        const SIGABRT: i32 = 6;
        assert_eq!(process.0.wait().unwrap().signal(), Some(SIGABRT));
    }
}
