//! Wiring: makes the parts, connects them, and waits for a signal or for the end of any of them.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weir_runtime::admin::{Admin, Listener};
use weir_runtime::clock::SystemClock;
use weir_runtime::ready::{Gate, Ready};
use weir_runtime::task::{EndReason, TaskSet};
use weir_runtime::{limits, log, signal};

use crate::args::{Pki, Run, Source, TlsArgs};
use crate::certs::{self, Own};
use crate::cluster;
use crate::lease::{self, Candidate};
use crate::metrics::metrics;
use crate::peers::{self, Peers, Presence};
use crate::pki::{self, Files, Init};
use crate::publish::{Handle, Hub};
use crate::serve::{self, Clients, Limits, Reception, Refusals, Sent, Tokens};
use crate::source::{self, dir};
use crate::status::{Writer, Writes};

/// For streams and requests under way after a signal.
const DRAIN: Duration = Duration::from_secs(10);
/// How often certificate files are looked at.
const FILES: Duration = Duration::from_secs(10);
/// Between two walks over all policies for their status.
const STATUS: Duration = Duration::from_secs(1);
/// Weir's namespace, where nothing says otherwise.
const NAMESPACE: &str = "weir-system";

/// What a controller needs.
#[derive(Clone)]
pub struct Config {
    pub source: Source,
    /// Port 0 lets the system choose.
    pub listen: SocketAddr,
    pub certificates: Certificates,
    /// Judges agents that have no certificate.
    pub tokens: Option<Tokens>,
    /// The cluster to watch, for [`Source::Kube`].
    pub client: Option<kube::Client>,
    /// Writes status, while it holds the Lease.
    pub candidate: Option<Candidate>,
    /// Makes this replica known to others; the address may be that of `listen`, once that is known.
    pub presence: Option<Presence>,
    pub admin: Option<SocketAddr>,
}

/// Where the certificate of the listening socket comes from.
#[derive(Clone)]
pub enum Certificates {
    Files(certs::Files),
    Own(Box<Own>),
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
    let certificate_gate = ready.gate("certificate");
    let clients = if config.tokens.is_some() { Clients::Any } else { Clients::Certified };
    let (certificates, tls) = watch::channel(None);
    if let Certificates::Files(files) = &config.certificates {
        certificates.send_replace(Some(files.load(clients)?));
    }
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
    match (config.source, config.client) {
        (Source::Directory(path), _) => {
            let source = dir::run(path, dir::Options::default(), feed, source_gate);
            tasks.spawn("source", until(drain.clone(), source));
        }
        (Source::Kube, Some(client)) => {
            let source =
                source::kube::run(client, source::kube::Options::default(), feed, source_gate);
            tasks.spawn("source", until(drain.clone(), source));
        }
        (Source::Kube, None) => return Err(anyhow!("--source kube needs a cluster")),
    }
    let (leads, leading) = watch::channel(false);
    let mut towards = None;
    match config.certificates {
        Certificates::Files(files) => {
            let follow = async move {
                certificate_gate.open();
                files.follow(clients, certificates).await;
            };
            tasks.spawn("certificates", until(drain.clone(), follow));
        }
        Certificates::Own(mut own) => {
            if let Some(presence) = &config.presence {
                let (to, credentials) = watch::channel(None);
                own.towards = Some((presence.id.clone(), to));
                towards = Some(credentials);
            }
            own.leads = config.candidate.is_some().then(|| leading.clone());
            let follow = own.follow(certificates, certificate_gate);
            tasks.spawn("certificates", until(drain.clone(), follow));
        }
    }
    let mut peers = None;
    if let (Some(mut presence), Some(credentials)) = (config.presence, towards) {
        if presence.address.is_empty() && !listen.ip().is_unspecified() {
            presence.address = listen.to_string();
        }
        if presence.address.is_empty() {
            warn!(
                "other replicas cannot reach this one without --advertise, and count its nodes as away"
            );
        }
        let (found, others) = watch::channel(Vec::new());
        peers = Some(Peers::new(others, credentials));
        tasks.spawn("presence", presence.run(found, drain.clone()));
    }
    let mut leads_here = None;
    if let Some(candidate) = config.candidate {
        let writes = Arc::new(Writes::default());
        leads_here = Some((leading.clone(), Arc::clone(&writes)));
        let (client, hub) = (candidate.client.clone(), handle.clone());
        let instance = candidate.identity.clone();
        let writer = Writer {
            client,
            hub,
            leading,
            peers: peers.clone(),
            pace: STATUS,
            writes: Arc::clone(&writes),
            instance,
        };
        tasks.spawn("status", until(drain.clone(), writer.run()));
        tasks.spawn("lease", candidate.run(leads, drain.clone()));
    }
    tasks.spawn("hub", until(drain.clone(), hub.run()));
    tasks.spawn("ready", until(drain.clone(), open_when_synced(handle.clone(), serve_gate)));
    let sent = Arc::new(Sent::default());
    let reception = Reception {
        tls,
        tokens: config.tokens,
        peers,
        limits: Limits::default(),
        sent: Arc::clone(&sent),
    };
    let serving =
        serve::serve_all(listener, reception, handle.clone(), Arc::clone(&refusals), drain.clone());
    tasks.spawn_fallible("serve", async { serving.await.map_err(anyhow::Error::from) });
    if let Some(listener) = admin {
        let (hub, refusals) = (handle.clone(), Arc::clone(&refusals));
        let metrics = metrics(&hub, &refusals, &sent, leads_here);
        let admin = Admin::new(ready.clone())
            .metrics(move || metrics.encode())
            .debug_state(move || sorted(&(hub.describe() + &refusals.describe())));
        tasks.spawn("admin", admin.serve(listener, drain.clone()));
    }
    Ok(Running { addresses, hub: handle, ready, refusals, tasks, drain })
}

/// The lines in their order, so that two states can be compared with diff.
fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.push("");
    lines.join("\n")
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
    // the library says again, for each attempt, what the source says once
    log::init(args.log_format, "info,kube_runtime=error,kube_client=error").context("logging")?;
    limits::raise_open_files();
    // one provider for all TLS; an error says that there is one already
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = configure(&args).await?;
    let drain = CancellationToken::new();
    let signals = signal::listen(drain.clone()).context("signal handlers")?;
    // not one of the tasks to wait for: it hears the second signal while they drain
    let _signals = weir_runtime::task::spawn("signals", signals);
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

/// What the arguments come to.
///
/// Errors: arguments that do not go together, a kubeconfig that cannot be used.
pub async fn configure(args: &Run) -> anyhow::Result<Config> {
    let source = args.source().map_err(|reason| anyhow!(reason))?;
    let TlsArgs { tls_cert, tls_key, client_ca, serve_host } = args.tls.clone();
    let files = tls_cert.zip(tls_key).map(|(cert, key)| {
        let client_ca = client_ca.clone();
        Certificates::Files(certs::Files { cert, key, client_ca, every: FILES })
    });
    let (listen, admin) = (args.listen, args.admin);
    if source != Source::Kube {
        let certificates = files.context("--tls-cert and --tls-key are missing")?;
        let (tokens, client, candidate, presence) = (None, None, None, None);
        let config =
            Config { source, listen, certificates, tokens, client, candidate, presence, admin };
        return Ok(config);
    }
    let client = cluster::client(args.kubeconfig.as_deref()).await?;
    let of_cluster = &args.cluster;
    let namespace = of_cluster.namespace.clone().or_else(cluster::own_namespace);
    let namespace = namespace.unwrap_or_else(|| NAMESPACE.to_owned());
    let account = of_cluster.agent_account.as_str();
    let (of, account) = account.split_once(':').unwrap_or((&namespace, account));
    let tokens = Tokens::new(client.clone(), &of_cluster.token_audience, of, account);
    let certificates = files.unwrap_or_else(|| {
        Certificates::Own(Box::new(Own {
            client: client.clone(),
            namespace: namespace.clone(),
            hosts: serve_host,
            client_ca,
            pace: certs::Pace::of(of_cluster.authority_life),
            clock: SystemClock::shared(),
            leads: None,
            towards: None,
        }))
    });
    // a replica that comes back under its old name is another one
    let id = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    let host = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = of_cluster.replica.clone().or_else(host).unwrap_or_default();
    let candidate = (!of_cluster.no_status).then(|| Candidate {
        client: client.clone(),
        namespace: namespace.clone(),
        identity: format!("{}_{id}", name.trim()),
        pace: lease::Pace::default(),
    });
    let presence = Some(Presence {
        client: client.clone(),
        namespace,
        id,
        address: of_cluster.advertise.clone().unwrap_or_default(),
        pace: peers::Pace::default(),
    });
    let (tokens, client) = (Some(tokens), Some(client));
    Ok(Config { source, listen, certificates, tokens, client, candidate, presence, admin })
}

/// Makes certificates, and says which.
///
/// Errors: those of [`pki()`].
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
