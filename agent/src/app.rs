//! Wiring: makes the parts, connects them, and waits for a signal or for the end of any of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rust_openflow::conn::Target;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use weir_ovsdb::op::{Condition, Mutation, Operation, Row};
use weir_ovsdb::vswitch::{self, Vswitch};
use weir_runtime::admin::{Admin, Listener};
use weir_runtime::ready::Ready;
use weir_runtime::task::{EndReason, TaskSet};
use weir_runtime::{log, signal};

use crate::args::{AdminAddress, Run};
use crate::inspect::{Inspector, state_text};
use crate::metrics::metrics;
use crate::pipeline::{PipelineConfig, table};
use crate::reconcile::{
    ASKS, Config, Durations, Inputs, Outputs, Overview, Reconciler, SECURE, keep_secure,
    name_tables,
};
use crate::seam::{Ovsdb, chain};
use crate::store::{Store, disk};
use crate::sweep::Sweep;
use crate::switch::{self, Session};
use crate::uplink::{EVENTS, Outbox, QUERIES, Uplink, UplinkConfig, UplinkStatus};

/// Pauses between attempts at a controller.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// For a bundle under way and the last file to be finished after a signal.
const DRAIN: Duration = Duration::from_secs(10);

impl Ovsdb for Vswitch {
    async fn name_tables(
        &self,
        bridge: &str,
        names: &std::collections::BTreeMap<u8, String>,
    ) -> Result<(), weir_ovsdb::Error> {
        Self::name_tables(self, bridge, names).await
    }

    async fn make_secure(&self, bridge: &str) -> Result<(), weir_ovsdb::Error> {
        let operations = vec![
            Operation::Update {
                table: "Bridge".to_owned(),
                conditions: vec![Condition::eq("name", bridge)],
                row: Row::from([("fail_mode".to_owned(), SECURE.into())]),
            },
            // as ovs-vsctl does: `cur_cfg` then says when ovs-vswitchd has done it
            Operation::Mutate {
                table: "Open_vSwitch".to_owned(),
                conditions: Vec::new(),
                mutations: vec![Mutation::add("next_cfg", 1)],
            },
            Operation::Comment(format!("weir: fail_mode of {bridge}")),
        ];
        self.transact(operations).await.map(drop)
    }
}

/// Runs the agent until a signal ends it, which is a success, or a part of it fails, which is an error.
///
/// Errors: arguments that cannot be used, a socket or directory that cannot be had, the end of a task.
pub async fn run(args: Run) -> anyhow::Result<()> {
    log::init(args.log_format, "info").context("logging")?;
    // one provider for all TLS; an error says that there is one already
    drop(rustls::crypto::ring::default_provider().install_default());
    info!(
        node = args.node,
        bridge = args.bridge.bridge,
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );

    let mgmt = args.bridge.mgmt();
    let mgmt: Target = mgmt.parse().with_context(|| format!("--bridge-mgmt {mgmt}"))?;
    let ovsdb =
        args.bridge.ovsdb.parse().with_context(|| format!("--ovsdb {}", args.bridge.ovsdb))?;
    let store = Store::open(&args.state_dir).context("--state-dir")?;
    let stored = store.load(&args.node).unwrap_or_else(|error| {
        // closed, not open: without a state only what is installed stays, and new ports are shut
        error!(error = chain(&error), "the saved state cannot be used");
        None
    });
    match &stored {
        Some(s) => {
            info!(revision = s.revision, policies = s.state.policies.len(), "state from disk")
        }
        None => info!("no state from disk"),
    }

    let drain = CancellationToken::new();
    let mut tasks = TaskSet::new();
    let signals = signal::listen(drain.clone()).context("signal handlers")?;
    // not one of the tasks to wait for: it hears the second signal while they drain
    let _signals = weir_runtime::task::spawn("signals", signals);

    let (vswitch, driver) = vswitch::connect(ovsdb, weir_ovsdb::Options::default());
    tasks.spawn("ovsdb", until(drain.clone(), driver));
    let names =
        name_tables(vswitch.clone(), vswitch.watch(), args.bridge.bridge.clone(), table::names());
    tasks.spawn("table-names", until(drain.clone(), names));
    let secure = keep_secure(vswitch.clone(), vswitch.watch(), args.bridge.bridge.clone());
    tasks.spawn("fail-mode", until(drain.clone(), secure));

    let (sessions, session) = watch::channel::<Option<Arc<Session>>>(None);
    let (saver, disk) = disk::pair(store, stored.clone());
    tasks.spawn("disk", disk.run());

    let (events, event) = mpsc::channel(EVENTS);
    let (queries, query) = mpsc::channel(QUERIES);
    let (asks, ask) = mpsc::channel(ASKS);
    let (overview, seen) = watch::channel(Overview::default());
    let (status, uplink_seen) = watch::channel(UplinkStatus::default());
    let outbox = Outbox::default();
    let ready = Ready::new();

    let config = Config {
        ports: args.bridge.ports(),
        pipeline: PipelineConfig {
            node_addresses: args.bridge.addresses(),
            ..PipelineConfig::default()
        },
        drift: args.bridge.drift_interval,
    };
    let inputs =
        Inputs { sessions: session.clone(), picture: vswitch.watch(), events: event, asks: ask };
    let durations = Durations::default();
    let outputs = Outputs {
        uplink: outbox.clone(),
        saver,
        ready: ready.clone(),
        overview,
        durations: durations.clone(),
    };
    let reconciler = Reconciler::new(config, inputs, outputs, stored);
    tasks.spawn("reconcile", reconciler.run(drain.clone()));
    tasks.spawn("openflow", until(drain.clone(), switch::keep(mgmt, sessions)));

    let credentials = args.controller.credentials();
    let credentials = credentials.context("--cert and --key are missing, or --token")?;
    let uplink = Uplink {
        config: UplinkConfig {
            node: args.node.clone(),
            controllers: args.controller.controller.clone(),
            ca: args.controller.ca.clone(),
            credentials,
            server_name: args.controller.server_name.clone(),
            backoff: BACKOFF,
        },
        events,
        queries,
        asks: asks.clone(),
        outbox,
        picture: vswitch.watch(),
        status,
    };
    tasks.spawn("uplink", uplink.run(drain.clone()));
    let sweep = Sweep {
        control: args.bridge.control(),
        bridge: args.bridge.bridge.clone(),
        zone: PipelineConfig::ZONE,
        picture: vswitch.watch(),
        sessions: session.clone(),
        overview: seen.clone(),
        asks: asks.clone(),
    };
    tasks.spawn("sweep", until(drain.clone(), sweep.run()));
    let inspector = Inspector {
        queries: query,
        sessions: session,
        asks,
        overview: seen.clone(),
        uplink: uplink_seen.clone(),
    };
    tasks.spawn("inspect", until(drain.clone(), inspector.run()));

    if let Some(address) = &args.admin {
        let listener = listen(address).await.with_context(|| format!("--admin {address:?}"))?;
        let picture = vswitch.watch();
        let ovsdb = move || picture.borrow().is_some();
        let metrics = metrics(seen.clone(), uplink_seen.clone(), ovsdb, &durations);
        let admin = Admin::new(ready)
            .metrics(move || metrics.encode())
            .debug_state(move || state_text(&seen, &uplink_seen));
        tasks.spawn("admin", admin.serve(listener, drain.clone()));
    }

    wait(tasks, drain).await
}

/// Waits for the signal, then for all tasks to finish; or for one that ends too early.
async fn wait(mut tasks: TaskSet, drain: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        () = drain.cancelled() => {}
        end = tasks.failed() => {
            // both may be true at once: a task that ends because of the signal is no failure
            if !drain.is_cancelled() {
                return Err(anyhow!("{end}; the flows stay as they are"));
            }
        }
    }
    for end in tasks.drain(DRAIN).await {
        match end.reason {
            EndReason::Ended => {}
            _ => warn!("{end}"),
        }
    }
    info!("stopped; the flows stay as they are");
    Ok(())
}

/// A future that is dropped at the signal.
async fn until(drain: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = drain.cancelled() => {}
        () = work => {}
    }
}

async fn listen(address: &AdminAddress) -> std::io::Result<Listener> {
    match address {
        AdminAddress::Tcp(address) => Listener::tcp(*address).await,
        AdminAddress::Unix(path) => {
            // what a crashed agent left; a socket in use by another is found by that other's clients
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Listener::unix(path),
            }
        }
    }
}
