//! Wiring: makes the parts, connects them, and waits for a signal or for the end of any of them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weir_runtime::admin::{Admin, Listener};
use weir_runtime::ready::{Gate, Ready};
use weir_runtime::task::{EndReason, TaskSet};
use weir_runtime::{log, signal};

use crate::args::{Pki, Run, Source};
use crate::pki::{self, Files, Init};
use crate::publish::{Handle, Hub};
use crate::serve::{self, Refusals, Tls};
use crate::source::{self, dir};

/// For streams and requests under way after a signal.
const DRAIN: Duration = Duration::from_secs(10);

/// What a controller needs.
#[derive(Clone)]
pub struct Config {
    pub source: Source,
    /// Port 0 lets the system choose.
    pub listen: SocketAddr,
    pub tls: Tls,
    pub admin: Option<SocketAddr>,
}

/// The addresses in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub listen: SocketAddr,
    pub admin: Option<SocketAddr>,
}

impl Addresses {
    /// Writes them for other programs, in one step.
    ///
    /// Errors: those of the system.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = format!("listen {}\n", self.listen);
        if let Some(admin) = self.admin {
            text += &format!("admin {admin}\n");
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        fs::write(&aside, text)?;
        fs::rename(&aside, path)
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// Errors: those of the system; invalid data for anything else than such a file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let of = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
        let missing =
            || io::Error::new(io::ErrorKind::InvalidData, "no line with `listen ADDRESS`");
        Ok(Self { listen: of("listen ").ok_or_else(missing)?, admin: of("admin ") })
    }
}

/// A controller at work. Dropping it ends it at once; [`Running::wait`] sees it through.
pub struct Running {
    pub addresses: Addresses,
    pub hub: Handle,
    pub ready: Ready,
    pub refusals: Arc<Refusals>,
    tasks: TaskSet,
    drain: CancellationToken,
}

/// Starts a controller, which ends when `drain` is cancelled.
///
/// Errors: an address that cannot be had.
pub async fn start(config: Config, drain: CancellationToken) -> anyhow::Result<Running> {
    let ready = Ready::new();
    let (source_gate, serve_gate) = (ready.gate("source"), ready.gate("serve"));
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another --listen", config.listen))?;
    let listen = listener.local_addr().context("the listening socket has no address")?;
    let admin = match config.admin {
        None => None,
        Some(address) => Some(
            Listener::tcp(address)
                .await
                .with_context(|| format!("cannot listen on {address}; choose another --admin"))?,
        ),
    };
    let addresses = Addresses { listen, admin: admin.as_ref().and_then(Listener::tcp_address) };

    let mut tasks = TaskSet::new();
    let (feed, intake) = source::line();
    let (hub, handle) = Hub::new(intake, &config.source.to_string());
    let refusals = Arc::new(Refusals::default());
    match config.source {
        Source::Directory(path) => {
            tasks.spawn(
                "source",
                until(drain.clone(), dir::run(path, dir::Options::default(), feed, source_gate)),
            );
        }
    }
    tasks.spawn("hub", until(drain.clone(), hub.run()));
    tasks.spawn("ready", until(drain.clone(), open_when_synced(handle.clone(), serve_gate)));
    let serving =
        serve::serve(listener, config.tls, handle.clone(), Arc::clone(&refusals), drain.clone());
    tasks.spawn_fallible("serve", async { serving.await.map_err(anyhow::Error::from) });
    if let Some(listener) = admin {
        let (hub, refusals) = (handle.clone(), Arc::clone(&refusals));
        let admin = Admin::new(ready.clone())
            .debug_state(move || format!("{}{}", hub.describe(), refusals.describe()));
        tasks.spawn("admin", admin.serve(listener, drain.clone()));
    }
    Ok(Running { addresses, hub: handle, ready, refusals, tasks, drain })
}

/// Ready means: a stream that comes now is served from a complete picture.
async fn open_when_synced(hub: Handle, gate: Gate) {
    gate.close("waiting for the source");
    if hub.synced().await.is_ok() {
        gate.open();
    }
    // a gate that is dropped closes
    std::future::pending().await
}

impl Running {
    /// Waits for the end: of the drain, which is a success, or of a part that should not end.
    ///
    /// Errors: the part that ended and why.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            () = self.drain.cancelled() => {}
            end = self.tasks.failed() => {
                // both may be true at once: a task that ends because of the signal is no failure
                if !self.drain.is_cancelled() {
                    return Err(anyhow!("{end}"));
                }
            }
        }
        for end in self.tasks.drain(DRAIN).await {
            if end.reason != EndReason::Ended {
                warn!("{end}");
            }
        }
        info!("stopped");
        Ok(())
    }
}

/// Runs the controller until a signal ends it, which is a success, or a part of it fails, which is an error.
///
/// Errors: arguments that cannot be used, an address that cannot be had, the end of a task.
pub async fn run(args: Run) -> anyhow::Result<()> {
    log::init(args.log_format, "info").context("logging")?;
    let read = |path: &PathBuf, flag: &str| {
        fs::read(path).with_context(|| format!("{flag} {} cannot be read", path.display()))
    };
    let tls = Tls {
        cert: read(&args.tls_cert, "--tls-cert")?,
        key: read(&args.tls_key, "--tls-key")?,
        client_ca: read(&args.client_ca, "--client-ca")?,
    };
    let drain = CancellationToken::new();
    let signals = signal::listen(drain.clone()).context("signal handlers")?;
    // not one of the tasks to wait for: it hears the second signal while they drain
    let _signals = weir_runtime::task::spawn("signals", signals);
    let config = Config { source: args.source, listen: args.listen, tls, admin: args.admin };
    info!(source = %config.source, version = env!("CARGO_PKG_VERSION"), "starting");
    let running = start(config, drain).await?;
    let Addresses { listen, admin } = running.addresses;
    if let Some(path) = &args.address_file {
        let written = running.addresses.write(path);
        written.with_context(|| format!("--address-file {} cannot be written", path.display()))?;
    }
    info!(%listen, admin = admin.map(|a| a.to_string()), "listening");
    running.wait().await
}

/// Makes certificates, and says which.
///
/// Errors: those of [`pki`].
pub fn pki(command: &Pki) -> anyhow::Result<String> {
    let made = |files: Files| format!("{}\n{}\n", files.cert.display(), files.key.display());
    Ok(match command {
        Pki::Init { directory, force } => {
            let files = Files::authority(directory);
            match pki::init(directory, *force)? {
                Init::Created => made(files),
                Init::Kept => format!("{} is there and stays\n", files.cert.display()),
            }
        }
        Pki::Server { directory, host, force } => made(pki::server(directory, host, *force)?),
        Pki::Node { directory, name, force } => made(pki::node(directory, name, *force)?),
        Pki::Operator { directory, name, force } => made(pki::operator(directory, name, *force)?),
    })
}

/// A future that is dropped at the signal.
async fn until(drain: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = drain.cancelled() => {}
        () = work => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_from_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("address");
        for admin in [None, Some("127.0.0.1:9".parse().unwrap())] {
            let addresses = Addresses { listen: "[::1]:7".parse().unwrap(), admin };
            addresses.write(&path).unwrap();
            assert_eq!(Addresses::read(&path).unwrap(), addresses);
        }
        fs::write(&path, "something else").unwrap();
        assert!(Addresses::read(&path).is_err());
    }
}
