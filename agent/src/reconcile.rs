//! The single writer: takes in what changes, and keeps the bridge as it should be.
//!
//! One loop owns the state, the ports, the wanted flows and a mirror of the installed ones. Whatever came in while a
//! bundle was on its way is taken in together and becomes one bundle.
//!
//! # When the switch is touched
//!
//! Never before OVSDB has said which ports there are: without it every workload port would count as gone. With the
//! ports known, on each new connection everything installed is dumped, and then:
//!
//! - **A state is known** (from disk or from the controller): the difference is sent as one bundle, and a second dump
//!   verifies it. After a restart there usually is none, so nothing is sent and the first dump verifies it.
//! - **No state is known, and the bridge has flows that some state caused**: nothing is touched. They are the last
//!   state that was in force, which stays so (NP-42); replacing them by what little is known would cut connections
//!   that policy allows, and adding to them could open what it forbids. New ports stay closed by themselves, as
//!   nothing in the Classifier names them. The first state ends this.
//! - **No state is known, and the bridge has no such flows** (a new bridge, OVS restarted, or an earlier agent that knew
//!   no more than we do): the base is installed, with all workload ports closed. Nothing that was enforced is lost by
//!   it, and a bridge that forwards freely until a controller answers would let everything through.
//!
//! After a restart of ovs-vswitchd a bridge with `fail_mode=secure` forwards nothing until the flows are back, which is
//! one dump and one bundle after the socket is. `flow-restore-wait` would have the kernel datapath go on with its cache
//! meanwhile; it has to be set before the restart, by who restarts OVS, and is neither set nor cleared here.
//!
//! A change of `fail_mode` makes OVS delete all flows, and without `secure` put one in their place that forwards
//! everything. The bridge is compared then, again once OVS has done it, and `secure` is set again.
//!
//! # When something goes wrong
//!
//! A refused bundle changes nothing. The rules that cause the refused flow are left out, their subjects stay isolated,
//! the policies are reported by name, and the rest is sent again. Where no rule is to blame, or nobody knows what
//! became of a bundle, the switch is asked what it has, and the difference is sent.

mod names;
mod overview;
mod report;
mod sync;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weir_ovsdb::vswitch::SwitchState;
use weir_policy::ids::{Canonical, ContentHash, PolicyKey};
use weir_policy::port::Protocol;
use weir_policy::state::{Change, NodeState, Touched};
use weir_runtime::backoff::Backoff;
use weir_runtime::metrics::Seconds;
use weir_runtime::ready::{Gate, Ready};

use crate::classes::numbers_from;
use crate::conntrack::Datagrams;
use crate::desired::Desired;
use crate::desired::judge::Asked;
use crate::mirror::Mirror;
use crate::pipeline::PipelineConfig;
use crate::ports::{self, PortConfig, Ports};
use crate::seam::{Switch, Uplink};
use crate::store::Stored;
use crate::store::disk::Saver;
use crate::uplink::{EVENTS, Event, Refusal, What};

pub use names::{SECURE, keep_secure, name_tables};
pub use overview::{Counters, Drift, Overview, SwitchOverview, Why};
use report::News;

/// How the failure of a policy begins that the agent does not understand.
pub(crate) const NOT_UNDERSTOOD: &str = "not understood: ";

/// Questions that may wait for the loop.
pub const ASKS: usize = 16;
/// Symbols are written this long after the first change they do not show, so that a burst of changes writes them once.
const SYMBOLS_DELAY: Duration = Duration::from_millis(100);
/// Pauses between attempts at a switch that refuses or does not answer, while the connection stays.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What the reconciler is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    pub ports: PortConfig,
    /// Zone and node addresses; what depends on the datapath is read from OVSDB.
    pub pipeline: PipelineConfig,
    /// How often the bridge is compared with what it should be.
    pub drift: Duration,
}

/// A question about what the reconciler holds.
#[derive(Debug)]
pub enum Ask {
    /// The symbols of this node, one JSON object a line; nothing while no state is in force.
    Symbols(oneshot::Sender<String>),
    /// Which of these UDP connections the rules in force do not admit; none while it is not known what is in force.
    Denied(Vec<Datagrams>, oneshot::Sender<Vec<Datagrams>>),
    /// The state as the controller told it; none while there is none, or parts of it were not understood.
    Held(oneshot::Sender<Option<NodeState>>),
    /// Why UDP connections that only their responders use cannot be cut at the moment.
    Unswept(Option<String>),
}

/// Where the reconciler hears from.
#[derive(Debug)]
pub struct Inputs<S> {
    /// The connection to the switch, while there is one.
    pub sessions: watch::Receiver<Option<Arc<S>>>,
    pub picture: watch::Receiver<Option<Arc<SwitchState>>>,
    pub events: mpsc::Receiver<Event>,
    pub asks: mpsc::Receiver<Ask>,
}

/// Where it is told.
#[derive(Debug)]
pub struct Outputs<U> {
    pub uplink: U,
    pub saver: Saver,
    pub ready: Ready,
    pub overview: watch::Sender<Overview>,
    pub durations: Durations,
}

/// How long things take.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    /// Bundles that the switch took.
    pub bundles: Seconds,
    /// Those that it did not.
    pub failed_bundles: Seconds,
    /// From a workload's port seen in OVSDB to its flows in the switch.
    pub endpoint_ready: Seconds,
}

/// Why the switch is to be dumped and compared as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A new connection.
    Connected,
    /// The first state, after flows of an unknown one were left alone.
    State,
    /// The datapath is another.
    Datapath,
    /// `fail_mode` changed, by which OVS deletes all flows.
    FailMode,
    /// Something went wrong.
    Doubt,
    /// Time for the regular check.
    Drift,
}

/// What the mirror is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing: the switch has to be asked.
    Unsynced(Cause),
    /// The bridge has flows of a state that is not known here, and they stay.
    Holding,
    /// The mirror is the bridge; only what changes is sent.
    Following,
}

/// When a bridge is compared again after its `fail_mode` changed: ovs-vswitchd deletes the flows some time after the
/// database shows it. `cur_cfg` tells when, if whoever changed it counted up `next_cfg`, as ovs-vsctl does.
const FAIL_MODE_DOUBTS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(3)];

/// Names for what must hold before the agent counts as ready.
struct Gates {
    ovsdb: Gate,
    switch: Gate,
    state: Gate,
    flows: Gate,
}

impl Gates {
    fn new(ready: &Ready) -> Self {
        let [ovsdb, switch, state, flows] =
            ["ovsdb", "switch", "state", "flows"].map(|n| ready.gate(n));
        ovsdb.close("no picture from OVSDB yet");
        switch.close("no OpenFlow connection yet");
        state.close("no state from disk, none from a controller yet");
        flows.close("no full comparison with the bridge yet");
        Self { ovsdb, switch, state, flows }
    }
}

/// Parts of what the controller said that were not understood.
#[derive(Default)]
struct Refusals {
    policies: BTreeMap<PolicyKey, (i64, String)>,
    /// Those that name no policy. Units: at most [`MAX_OTHERS`], the rest are counted by the log alone.
    others: BTreeSet<String>,
}

/// Enough to show what is wrong; a controller that speaks nonsense must not fill memory.
const MAX_OTHERS: usize = 8;

impl Refusals {
    fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.others.is_empty()
    }

    fn add(&mut self, refused: Vec<Refusal>) {
        for refusal in refused {
            warn!(reason = %refusal.reason, "a part of what the controller said is not understood");
            match refusal.policy {
                Some((key, generation)) => {
                    self.policies.insert(key, (generation, refusal.reason));
                }
                None if self.others.len() < MAX_OTHERS => {
                    self.others.insert(refusal.reason);
                }
                None => {}
            }
        }
    }
}

/// See the module.
pub struct Reconciler<S, U> {
    config: Config,
    inputs: Inputs<S>,
    uplink: U,
    saver: Saver,
    gates: Gates,
    durations: Durations,
    overview: watch::Sender<Overview>,

    // what was heard
    session: Option<Arc<S>>,
    /// None while OVSDB does not show the bridge.
    ports: Option<Arc<Ports>>,
    /// Of the bridge.
    fail_mode: Option<String>,
    cur_cfg: i64,
    state: Option<NodeState>,
    revision: u64,
    /// The stream that said so; 0 = the disk.
    stream: u64,
    refusals: Refusals,

    // what was made of it
    pipeline: PipelineConfig,
    desired: Option<Desired>,
    /// The class numbers of the last connection, for a switch that comes back without flows.
    numbers: BTreeMap<IpAddr, u32>,
    installed: Mirror,
    phase: Phase,
    /// What is installed is of our making: this connection was brought in line at least once.
    owned: bool,
    /// Heard and not yet made flows.
    touched: Touched,
    pending: bool,
    /// What keeps the switch from being as it should be.
    trouble: Option<String>,
    /// What keeps the sweep from looking at connections.
    unswept: Option<String>,
    news: News,
    symbols: Option<ContentHash>,

    // times
    next_drift: Instant,
    retry: Option<Instant>,
    backoff: Backoff,
    symbols_due: Option<Instant>,
    /// When the flows may have been deleted.
    doubts: VecDeque<Instant>,
    counters: Counters,
    arrivals: overview::Arrivals,
}

impl<S: Switch, U: Uplink> Reconciler<S, U> {
    /// `stored` is the state from disk.
    pub fn new(
        config: Config,
        inputs: Inputs<S>,
        outputs: Outputs<U>,
        stored: Option<Stored>,
    ) -> Self {
        let gates = Gates::new(&outputs.ready);
        let (revision, state) = stored.map_or((0, None), |s| (s.revision, Some(s.state)));
        if state.is_some() {
            gates.state.open();
        }
        Self {
            pipeline: config.pipeline.clone(),
            next_drift: Instant::now() + config.drift,
            config,
            inputs,
            uplink: outputs.uplink,
            saver: outputs.saver,
            gates,
            durations: outputs.durations,
            overview: outputs.overview,
            session: None,
            ports: None,
            fail_mode: None,
            cur_cfg: 0,
            state,
            revision,
            stream: 0,
            refusals: Refusals::default(),
            desired: None,
            numbers: BTreeMap::new(),
            installed: Mirror::default(),
            phase: Phase::Unsynced(Cause::Connected),
            owned: false,
            touched: Touched::default(),
            pending: false,
            trouble: None,
            unswept: None,
            news: News::default(),
            symbols: None,
            retry: None,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            symbols_due: None,
            doubts: VecDeque::new(),
            counters: Counters::default(),
            arrivals: overview::Arrivals::default(),
        }
    }

    /// Runs until `stop`, or until one of the inputs is gone for good. A bundle under way is finished first. No flow is
    /// removed at the end: the bridge goes on as it is.
    pub async fn run(mut self, stop: CancellationToken) {
        self.inputs.sessions.mark_changed();
        self.inputs.picture.mark_changed();
        loop {
            self.hear();
            // here and not in the branch below, as under a steady stream of events that one is never taken
            self.on_time();
            self.act().await;
            self.publish();
            let timer = self.timer();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.inputs.sessions.changed() => match changed {
                    Ok(()) => self.inputs.sessions.mark_changed(),
                    Err(_) => return,
                },
                changed = self.inputs.picture.changed() => match changed {
                    Ok(()) => self.inputs.picture.mark_changed(),
                    Err(_) => return,
                },
                event = self.inputs.events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                ask = self.inputs.asks.recv() => match ask {
                    Some(ask) => self.answer(ask),
                    None => return,
                },
                // it is among the gaps
                () = self.saver.trouble_changed() => {}
                () = sleep_until(timer) => {}
            }
        }
    }

    /// Takes in everything that waits, so that it becomes one bundle.
    fn hear(&mut self) {
        if self.inputs.sessions.has_changed().unwrap_or(false) {
            let session = self.inputs.sessions.borrow_and_update().clone();
            self.connection(session);
        }
        if self.inputs.picture.has_changed().unwrap_or(false) {
            let picture = self.inputs.picture.borrow_and_update().clone();
            if let Some(picture) = picture {
                self.picture(&picture);
            }
        }
        // bounded, as a controller may speak faster than we apply
        for _ in 0..EVENTS {
            let Ok(event) = self.inputs.events.try_recv() else {
                break;
            };
            self.event(event);
        }
        while let Ok(ask) = self.inputs.asks.try_recv() {
            self.answer(ask);
        }
    }

    fn connection(&mut self, session: Option<Arc<S>>) {
        match &session {
            Some(_) => {
                info!("connected to the switch");
                self.gates.switch.open();
            }
            None if self.session.is_some() => {
                warn!("the connection to the switch is lost; its flows stay as they are");
                self.gates.switch.close("the OpenFlow connection is lost");
                self.gates.flows.close("the OpenFlow connection is lost");
                self.trouble = Some("no OpenFlow connection".to_owned());
            }
            None => {}
        }
        self.session = session;
        // The tables behind a new connection may be other ones, so nothing is kept of what was known of the old. A new
        // Desired also gives rules a second chance that the old switch refused.
        if let Some(desired) = self.desired.take() {
            self.numbers = numbers_from(desired.flows());
        }
        self.installed.clear();
        self.owned = false;
        self.phase = Phase::Unsynced(Cause::Connected);
        self.retry = None;
        self.backoff.reset();
    }

    fn picture(&mut self, picture: &SwitchState) {
        let Some(bridge) = picture.bridges.get(&self.config.ports.bridge) else {
            let why = format!("OVSDB has no bridge {}", self.config.ports.bridge);
            if self.ports.take().is_some() {
                warn!(bridge = self.config.ports.bridge, "the bridge is gone");
                self.phase = Phase::Unsynced(Cause::Connected);
                self.desired = None;
            }
            self.gates.ovsdb.close(&why);
            return;
        };
        self.gates.ovsdb.open();
        if self.fail_mode != bridge.fail_mode {
            self.fail_mode.clone_from(&bridge.fail_mode);
            // not the first look, after which everything is compared anyway
            if self.ports.is_some() {
                warn!(fail_mode = ?self.fail_mode, "fail_mode changed, the bridge is compared as a whole");
                let now = Instant::now();
                self.doubts = FAIL_MODE_DOUBTS.iter().map(|after| now + *after).collect();
                self.phase = Phase::Unsynced(Cause::FailMode);
            }
        }
        if self.cur_cfg != picture.system.cur_cfg {
            self.cur_cfg = picture.system.cur_cfg;
            if !self.doubts.is_empty() {
                self.phase = Phase::Unsynced(Cause::FailMode);
            }
        }
        let ports = ports::read(picture, &self.config.ports);
        if self.ports.as_deref() != Some(&ports) {
            for (number, why) in &ports.unknown {
                let known = self.ports.as_ref().and_then(|p| p.unknown.get(number));
                if known != Some(why) {
                    info!(number, %why, "a port that carries nothing");
                }
            }
            self.ports = Some(Arc::new(ports));
            self.pending = true;
        }
        let tracked = sctp_tracked(&bridge.datapath_type, &picture.system.ovs_version);
        if self.pipeline.sctp_tracked != tracked {
            self.pipeline.sctp_tracked = tracked;
            self.desired = None;
            self.phase = Phase::Unsynced(Cause::Datapath);
        }
    }

    fn event(&mut self, event: Event) {
        if event.stream != self.stream {
            self.stream = event.stream;
            // this controller has heard nothing from us
            self.news.tell_everything();
        }
        self.revision = event.revision;
        match event.what {
            What::Snapshot { state, refused } => {
                self.refusals = Refusals::default();
                self.refusals.add(refused);
                self.saver.replace(event.revision, &state);
                let old = self.state.get_or_insert_default();
                let changes = old.diff(&state);
                let touched = old.apply(changes);
                self.touched.merge(touched);
                if matches!(self.phase, Phase::Holding) {
                    self.phase = Phase::Unsynced(Cause::State);
                }
                self.gates.state.open();
            }
            What::Delta { changes, refused } => {
                let Some(state) = &mut self.state else {
                    // the uplink lets no delta pass before a snapshot
                    return;
                };
                for change in &changes {
                    if let Change::Policy(weir_policy::rule::Policy { key, .. })
                    | Change::RemovePolicy(key) = change
                    {
                        self.refusals.policies.remove(key);
                    }
                }
                self.refusals.add(refused);
                let touched = state.apply(changes.iter().cloned());
                self.touched.merge(touched);
                self.saver.follow(event.revision, changes, state);
            }
        }
        self.pending = true;
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            // the asker may have given up
            Ask::Symbols(reply) => drop(reply.send(self.symbols_text().unwrap_or_default())),
            Ask::Denied(connections, reply) => drop(reply.send(self.denied(connections))),
            Ask::Held(reply) => {
                let understood = self.refusals.is_empty();
                drop(reply.send(self.state.clone().filter(|_| understood)));
            }
            Ask::Unswept(why) => self.unswept = why,
        }
    }

    /// Brings the switch in line with what was heard, as far as that is possible now.
    async fn act(&mut self) {
        if self.retry.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.retry = None;
        let (Some(session), true) = (self.session.clone(), self.ports.is_some()) else {
            return;
        };
        let mut outcome = match self.phase {
            Phase::Following if self.pending => self.follow(&*session).await,
            Phase::Unsynced(cause) => self.compare(&*session, cause).await,
            Phase::Following | Phase::Holding => return,
        };
        if let (Err(trouble), Phase::Following) = (&outcome, self.phase) {
            warn!(%trouble, "the bridge is compared as a whole");
            outcome = self.compare(&*session, Cause::Doubt).await;
        }
        match outcome {
            Ok(()) => {
                self.trouble = None;
                self.backoff.reset();
            }
            Err(trouble) => {
                let pause = self.backoff.pause();
                warn!(%trouble, ?pause, "the bridge is not as it should be; trying again");
                self.gates.flows.close(&trouble.to_string());
                self.trouble = Some(trouble.to_string());
                self.phase = Phase::Unsynced(Cause::Doubt);
                self.retry = Some(Instant::now() + pause);
            }
        }
    }

    fn denied(&self, connections: Vec<Datagrams>) -> Vec<Datagrams> {
        let Some(desired) = self.desired.as_ref().filter(|_| self.phase == Phase::Following) else {
            return Vec::new();
        };
        let denied = |d: &Datagrams| {
            let (src, dst, dport) = (d.src, d.dst, d.dport);
            !desired.admits(&Asked { src, dst, protocol: Protocol::Udp, dport })
        };
        connections.into_iter().filter(denied).collect()
    }

    fn timer(&self) -> Instant {
        let doubt = self.doubts.front().copied();
        let others = [self.retry, self.symbols_due, doubt].into_iter().flatten();
        others.fold(self.next_drift, Instant::min)
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.next_drift <= now {
            self.next_drift = now + self.config.drift;
            if matches!(self.phase, Phase::Following) {
                self.phase = Phase::Unsynced(Cause::Drift);
            }
        }
        while self.doubts.front().is_some_and(|at| *at <= now) {
            self.doubts.pop_front();
            self.phase = Phase::Unsynced(Cause::FailMode);
        }
        if self.symbols_due.is_some_and(|at| at <= now) {
            self.symbols_due = None;
            self.save_symbols();
        }
    }

    fn symbols_text(&self) -> Option<String> {
        let (desired, state, ports) =
            (self.desired.as_ref()?, self.state.as_ref()?, self.ports.as_ref()?);
        let mut text = String::new();
        for line in crate::symbols::symbols(desired, state, ports) {
            text.push_str(&line.to_string());
            text.push('\n');
        }
        Some(text)
    }

    fn save_symbols(&mut self) {
        let Some(text) = self.symbols_text() else {
            return;
        };
        let mut hash = Canonical::new("weir/symbols/1");
        hash.bytes(text.as_bytes());
        let hash = hash.finish();
        if self.symbols != Some(hash) && self.saver.symbols(text.into_bytes()) {
            self.symbols = Some(hash);
        }
    }
}

/// Whether connection tracking knows SCTP ports: the kernel's always, the userspace one (of tests too) since OVS 3.2. A version that
/// cannot be read counts as old, as that only gives up what is not certain.
fn sctp_tracked(datapath_type: &str, ovs_version: &str) -> bool {
    if !matches!(datapath_type, "netdev" | "dummy") {
        return true;
    }
    let mut numbers = ovs_version.split('.').map(|n| n.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= (3, 2),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
