//! A reconciler between a switch that is a table in memory, and a controller and an OVSDB that are channels.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Mutex;

use rust_openflow::{FlowCommand, FlowMod, FlowStats, PacketOut};
use weir_ovsdb::Uuid;
use weir_ovsdb::vswitch::{BridgeRow, InterfaceRow, PortRow};
use weir_policy::group::{Group, Profile};
use weir_policy::ids::{EndpointId, GroupId, RuleId};
use weir_policy::labels::Labels;
use weir_policy::port::{Protocol, Service};
use weir_policy::rule::{Action, Direction, Peers, Policy, PolicyRule, Rule, Services, Tier};
use weir_policy::state::{Endpoint, NodeInfo};
use weir_runtime::task::Task;

use super::super::*;
use crate::flow::{FlowKey, FlowTable, FlowValue};
use crate::seam::{CommitError, MockUplink, SwitchError};
use crate::store::Store;
use crate::store::disk;
use crate::uplink::Report;

pub(super) const DRIFT: Duration = Duration::from_secs(300);

/// Time stands still while anything is to be done, so this is over as soon as nothing is.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What a bundle is answered with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Take,
    /// Refuses the first addition whose cookie ends in this rule.
    RefuseCookie(u32),
    /// Refuses the first change, whatever it is.
    RefuseAny,
    /// No answer.
    Unknown {
        applied: bool,
    },
    /// No answer to anything.
    Dead,
}

/// A switch: a table, and answers as a test sets them.
pub(super) struct FakeSwitch(Mutex<Fake>);

struct Fake {
    table: FlowTable,
    always: Answer,
    once: VecDeque<Answer>,
    commits: Vec<usize>,
    dumps: usize,
    hold: Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>,
    held: Option<oneshot::Receiver<()>>,
}

impl FakeSwitch {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Fake {
            table: FlowTable::new(),
            always: Answer::Take,
            once: VecDeque::new(),
            commits: Vec::new(),
            dumps: 0,
            hold: None,
            held: None,
        })))
    }

    pub(super) fn table(&self) -> FlowTable {
        self.0.lock().unwrap().table.clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut FlowTable)) {
        change(&mut self.0.lock().unwrap().table);
    }

    /// Sizes of the bundles that arrived.
    pub(super) fn commits(&self) -> Vec<usize> {
        self.0.lock().unwrap().commits.clone()
    }

    pub(super) fn dumps(&self) -> usize {
        self.0.lock().unwrap().dumps
    }

    pub(super) fn answer_always(&self, answer: Answer) {
        self.0.lock().unwrap().always = answer;
    }

    pub(super) fn answer_once(&self, answer: Answer) {
        self.0.lock().unwrap().once.push_back(answer);
    }

    /// The next bundle is answered when the sender says so.
    pub(super) fn hold_next(&self) -> oneshot::Sender<()> {
        let (go, wait) = oneshot::channel();
        let (arrived, held) = oneshot::channel();
        let mut fake = self.0.lock().unwrap();
        fake.hold = Some((arrived, wait));
        fake.held = Some(held);
        go
    }

    /// Waits until the bundle that is held has arrived.
    pub(super) async fn held(&self) {
        let held = self.0.lock().unwrap().held.take().unwrap();
        held.await.unwrap();
    }
}

fn lost() -> SwitchError {
    SwitchError { source: "connection closed".into() }
}

impl Switch for FakeSwitch {
    async fn dump(&self) -> Result<Vec<FlowStats>, SwitchError> {
        let mut fake = self.0.lock().unwrap();
        fake.dumps += 1;
        if matches!(fake.always, Answer::Dead) {
            return Err(lost());
        }
        Ok(fake
            .table
            .iter()
            .map(|(key, value)| FlowStats {
                table: key.table,
                priority: key.priority,
                match_: key.match_.clone(),
                cookie: value.cookie,
                instructions: value.instructions.clone(),
                ..FlowStats::default()
            })
            .collect())
    }

    async fn inject(&self, _: Vec<PacketOut>) -> Result<(), SwitchError> {
        // the sweep does that, and there is none here
        Err(lost())
    }

    async fn commit(&self, changes: Arc<Vec<FlowMod>>) -> Result<(), CommitError> {
        let hold = self.0.lock().unwrap().hold.take();
        if let Some((arrived, wait)) = hold {
            arrived.send(()).unwrap();
            wait.await.unwrap();
        }
        let mut fake = self.0.lock().unwrap();
        fake.commits.push(changes.len());
        let answer = fake.once.pop_front().unwrap_or(fake.always);
        let refused =
            |index| CommitError::Refused { index, reason: "OFPFMFC_TABLE_FULL".to_owned() };
        match answer {
            Answer::Dead | Answer::Unknown { applied: false } => return Err(lost().into()),
            Answer::RefuseAny => return Err(refused(0)),
            Answer::RefuseCookie(id) => {
                let bad = |m: &FlowMod| {
                    m.command == FlowCommand::Add && m.cookie & 0xffff_ffff == u64::from(id)
                };
                if let Some(index) = changes.iter().position(bad) {
                    return Err(refused(index));
                }
            }
            Answer::Take | Answer::Unknown { applied: true } => {}
        }
        for change in changes.iter() {
            let key = FlowKey {
                table: change.table,
                priority: change.priority,
                match_: change.match_.clone(),
            };
            match change.command {
                FlowCommand::Add => {
                    let value = FlowValue {
                        cookie: change.cookie,
                        instructions: change.instructions.clone(),
                    };
                    fake.table.insert(key, value);
                }
                FlowCommand::DeleteStrict => assert!(fake.table.remove(&key).is_some(), "{change}"),
                other => panic!("{other:?}"),
            }
        }
        match answer {
            Answer::Unknown { .. } => Err(lost().into()),
            _ => Ok(()),
        }
    }
}

#[derive(Default)]
pub(super) struct RigConfig<'a> {
    pub stored: Option<NodeState>,
    /// The state directory; else one of its own.
    pub directory: Option<&'a Path>,
}

pub(super) struct Rig {
    sessions: watch::Sender<Option<Arc<FakeSwitch>>>,
    picture: watch::Sender<Option<Arc<SwitchState>>>,
    events: mpsc::Sender<Event>,
    asks: mpsc::Sender<Ask>,
    reports: mpsc::UnboundedReceiver<Report>,
    overview: watch::Receiver<Overview>,
    pub ready: Ready,
    stop: CancellationToken,
    tasks: [Task<()>; 2],
    _directory: tempfile::TempDir,
}

impl Rig {
    /// A reconciler that has heard nothing, but for what is on disk.
    pub(super) fn start(rig: RigConfig<'_>) -> Self {
        let own = tempfile::tempdir().unwrap();
        let store = Store::open(rig.directory.unwrap_or_else(|| own.path())).unwrap();
        let stored = match rig.stored {
            Some(state) => Some(Stored { revision: 5, state }),
            None => store.load("n1").unwrap(),
        };
        let (saver, disk) = disk::pair(store, stored.clone());
        let (sessions, session) = watch::channel(None);
        let (picture, seen) = watch::channel(None);
        let (events, event) = mpsc::channel(EVENTS);
        let (asks, ask) = mpsc::channel(ASKS);
        let (told, reports) = mpsc::unbounded_channel();
        let (show, overview) = watch::channel(Overview::default());
        let mut uplink = MockUplink::new();
        // the test may have ended
        uplink.expect_report().returning(move |report| drop(told.send(report)));
        let config =
            Config { ports: port_config(), pipeline: PipelineConfig::default(), drift: DRIFT };
        let inputs = Inputs { sessions: session, picture: seen, events: event, asks: ask };
        let ready = Ready::new();
        let durations = Durations::default();
        let outputs = Outputs { uplink, saver, ready: ready.clone(), overview: show, durations };
        let stop = CancellationToken::new();
        let reconciler = Reconciler::new(config, inputs, outputs, stored);
        let tasks = [
            weir_runtime::task::spawn("reconcile", reconciler.run(stop.clone())),
            weir_runtime::task::spawn("disk", disk.run()),
        ];
        Self {
            sessions,
            picture,
            events,
            asks,
            reports,
            overview,
            ready,
            stop,
            tasks,
            _directory: own,
        }
    }

    /// As SIGTERM does: returns when everything is on disk.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.join().await.unwrap();
        }
    }

    pub(super) fn connect(&self, switch: &Arc<FakeSwitch>) {
        self.sessions.send_replace(Some(Arc::clone(switch)));
    }

    pub(super) fn disconnect(&self) {
        self.sessions.send_replace(None);
    }

    pub(super) fn picture(&self, picture: SwitchState) {
        self.picture.send_replace(Some(Arc::new(picture)));
    }

    pub(super) async fn snapshot(&self, stream: u64, revision: u64, state: NodeState) {
        self.snapshot_with(stream, revision, state, Vec::new()).await;
    }

    pub(super) async fn snapshot_with(
        &self,
        stream: u64,
        revision: u64,
        state: NodeState,
        refused: Vec<Refusal>,
    ) {
        let what = What::Snapshot { state: Box::new(state), refused };
        self.events.send(Event { stream, revision, what }).await.unwrap();
    }

    pub(super) async fn delta(&self, stream: u64, revision: u64, changes: Vec<Change>) {
        let what = What::Delta { changes, refused: Vec::new() };
        self.events.send(Event { stream, revision, what }).await.unwrap();
    }

    /// Waits for an overview.
    pub(super) async fn overview(&mut self, wanted: impl FnMut(&Overview) -> bool) -> Overview {
        let seen = tokio::time::timeout(PATIENCE, self.overview.wait_for(wanted)).await;
        let seen = seen.map(|overview| overview.unwrap().clone());
        seen.unwrap_or_else(|_| panic!("it stays:\n{}", *self.overview.borrow()))
    }

    pub(super) async fn following(&mut self) {
        self.overview(|o| o.switch.phase == "following").await;
    }

    /// Waits for a report, passing over others.
    pub(super) async fn report(&mut self, mut wanted: impl FnMut(&Report) -> bool) -> Report {
        let mut last = None;
        loop {
            let next = tokio::time::timeout(PATIENCE, self.reports.recv()).await;
            let report =
                next.unwrap_or_else(|_| panic!("no such report, the last: {last:?}")).unwrap();
            if wanted(&report) {
                return report;
            }
            last = Some(report);
        }
    }

    pub(super) fn no_report(&mut self) -> bool {
        self.reports.try_recv().is_err()
    }

    /// Waits until everything that was due is done: an answer comes after what was heard before the question.
    pub(super) async fn settle(&self) {
        for _ in 0..4 {
            self.symbols().await;
        }
    }

    pub(super) async fn held(&self) -> Option<NodeState> {
        let (reply, held) = oneshot::channel();
        self.asks.send(Ask::Held(reply)).await.unwrap();
        held.await.unwrap()
    }

    pub(super) async fn symbols(&self) -> String {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Symbols(reply)).await.unwrap();
        answer.await.unwrap()
    }
}

pub(super) fn port_config() -> PortConfig {
    PortConfig { bridge: "br-int".to_owned(), ..PortConfig::default() }
}

/// A bridge with its own port and these workload ports.
pub(super) fn picture(workloads: &[(i64, &str)]) -> SwitchState {
    let mut state = SwitchState::default();
    state.system.ovs_version = "3.1.0".to_owned();
    let mut bridge = BridgeRow {
        uuid: uuid(1),
        name: "br-int".to_owned(),
        fail_mode: Some(SECURE.to_owned()),
        ..BridgeRow::default()
    };
    let own = (65_534, "br-int");
    for (number, owner) in workloads.iter().copied().chain([own]) {
        let [port, interface] = [1_000, 100_000].map(|base| uuid(base + number as u128));
        bridge.ports.insert(port);
        let name = if number == 65_534 { owner.to_owned() } else { format!("veth{number}") };
        let row = PortRow {
            uuid: port,
            name: name.clone(),
            interfaces: BTreeSet::from([interface]),
            ..PortRow::default()
        };
        state.ports.insert(port, row);
        let mut row =
            InterfaceRow { uuid: interface, name, ofport: Some(number), ..InterfaceRow::default() };
        if number != 65_534 {
            row.external_ids.insert("iface-id".to_owned(), owner.to_owned());
        }
        state.interfaces.insert(interface, row);
    }
    state.bridges.insert("br-int".to_owned(), bridge);
    state
}

fn uuid(n: u128) -> Uuid {
    format!("00000000-0000-0000-0000-{n:012x}").parse().unwrap()
}

const SUBJECTS: GroupId = GroupId(1);
const PEERS: GroupId = GroupId(2);

fn profile(app: &str) -> Profile {
    Profile {
        namespace: "shop".into(),
        labels: Labels::from_iter([("app", app)]),
        named_ports: BTreeSet::new(),
    }
}

/// The profile of whom the rules admit.
pub(super) fn peers() -> Profile {
    profile("api")
}

pub(super) fn endpoint(
    namespace: &str,
    name: &str,
    node: &str,
    address: &str,
    profile: &Profile,
) -> Change {
    Change::Endpoint(Endpoint {
        id: EndpointId(format!("{namespace}/{name}").into()),
        namespace: namespace.into(),
        name: name.into(),
        node: node.into(),
        addresses: BTreeSet::from([address.parse().unwrap()]),
        mac: Some([2, 0, 0, 0, 0, 1]),
        profile: profile.id(),
    })
}

fn allow(name: &str, port: u16) -> Policy {
    let rule = Rule {
        tier: Tier::NetworkPolicy,
        order: 0,
        direction: Direction::Ingress,
        subject: SUBJECTS,
        peers: Peers::Of { groups: BTreeSet::from([PEERS]), blocks: BTreeSet::new() },
        services: Services::Of(BTreeSet::from([Service::port(Protocol::Tcp, port)])),
        action: Action::Allow,
    };
    Policy {
        key: PolicyKey::network_policy("shop", name),
        uid: "".into(),
        generation: 1,
        subject: SUBJECTS,
        isolates: BTreeSet::from([Direction::Ingress]),
        rules: vec![PolicyRule { path: "ingress[0]".into(), rule }],
    }
}

/// `shop/db-0` on this node may be reached by `shop/api-0` of another node at TCP 5432.
pub(super) fn policy_state() -> NodeState {
    let mut state = NodeState::default();
    let group = |id, app| Group {
        id,
        selector: format!("shop {{app={app}}}").into(),
        members: BTreeSet::from([profile(app).id()]),
    };
    state.apply([
        Change::Node(NodeInfo {
            name: "n1".into(),
            addresses: BTreeSet::from(["192.0.2.1".parse().unwrap()]),
        }),
        Change::Profile(profile("db")),
        Change::Profile(profile("api")),
        Change::Group(group(SUBJECTS, "db")),
        Change::Group(group(PEERS, "api")),
        endpoint("shop", "db-0", "n1", "10.0.1.1", &profile("db")),
        endpoint("shop", "api-0", "n2", "10.0.2.200", &profile("api")),
        Change::Policy(allow("allow-a", 5432)),
    ]);
    state
}

/// The same with a second policy, for another port.
pub(super) fn two_policies() -> NodeState {
    let mut state = policy_state();
    state.apply([Change::Policy(allow("allow-b", 9187))]);
    state
}

/// The id of the only rule of a policy.
pub(super) fn rule_id(state: &NodeState, policy: &str) -> RuleId {
    let policy = &state.policies[&PolicyKey::network_policy("shop", policy)];
    RuleId::candidate(&policy.rules[0].rule.content(), 0)
}
