//! A testbed with Weir on it: a controller that reads manifests, an agent on each node, pods that come and go.
//!
//! Tests read like this:
//!
//! ```no_run
//! # fn main() -> weir_testbed::Result<()> {
//! use weir_testbed::fleet::{Fleet, Setup, pod};
//! use weir_testbed::tcp;
//!
//! let mut fleet = Fleet::for_test(&Setup::nodes(2))?;
//! fleet.namespace("shop", &[("name", "shop")])?;
//! fleet.add(&[
//!     pod("shop/web").on("n1").label("app", "web"),
//!     pod("shop/db").on("n2").label("app", "db").serves(&[tcp(5432)]),
//! ])?;
//! fleet.apply("{kind: NetworkPolicy, metadata: {name: deny, namespace: shop}, spec: {podSelector: {}}}")?;
//! fleet.cannot_reach("shop/web", "shop/db", tcp(5432))?;
//! fleet.agrees()?;
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::slice;
use std::time::{Duration, Instant};

use weir_policy::world::World;

use crate::address;
use crate::bed::{Layout, Testbed};
use crate::daemon::{Daemon, Recipe};
use crate::error::{During, Error, Result};
use crate::home;
use crate::host::{HostName, Outside, PortIds, Workload};
use crate::manifests::{Manifests, NamedPort};
use crate::matrix::{self, Cell, Observed, Verdicts};
use crate::netns::Inside;
use crate::ovs::{BRIDGE, UPLINK};
use crate::probe::{Service, Stream, Watch};
use crate::{command, require};

/// A change must be in force within this time, on a machine that does other things too.
pub const IN_FORCE: Duration = Duration::from_secs(10);
/// Programs must be up within this time.
pub(crate) const STARTING: Duration = Duration::from_secs(30);
/// Between two records of a stream.
pub(crate) const STREAM_INTERVAL: Duration = Duration::from_millis(5);

/// What a fleet starts with.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub layout: Layout,
    /// More arguments for every agent.
    pub agent_args: Vec<String>,
}

impl Setup {
    /// So many nodes, nobody outside.
    pub fn nodes(count: u8) -> Self {
        Self { layout: Layout { nodes: count, ..Layout::default() }, ..Self::default() }
    }

    /// With a host outside.
    pub fn outside(mut self, name: &str, addresses: &[IpAddr], services: &[Service]) -> Self {
        self.layout.outside.push(Outside {
            name: name.to_owned(),
            addresses: addresses.to_vec(),
            services: services.to_vec(),
        });
        self
    }

    /// With services at the nodes' own addresses.
    pub fn nodes_serve(mut self, services: &[Service]) -> Self {
        self.layout.node_services.extend_from_slice(services);
        self
    }
}

/// A pod to be: [`pod`] begins one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    name: HostName,
    node: Option<String>,
    addresses: Vec<IpAddr>,
    labels: BTreeMap<String, String>,
    ports: Vec<NamedPort>,
    also_serves: Vec<Service>,
    ids: PortIds,
}

/// A pod `NAMESPACE/NAME`. Node and addresses are chosen if nothing else is said.
pub fn pod(name: &str) -> Spec {
    Spec {
        name: name.to_owned(),
        node: None,
        addresses: Vec::new(),
        labels: BTreeMap::new(),
        ports: Vec::new(),
        also_serves: Vec::new(),
        ids: PortIds::default(),
    }
}

impl Spec {
    /// On this node.
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// With these addresses.
    pub fn at(mut self, addresses: &[IpAddr]) -> Self {
        self.addresses = addresses.to_vec();
        self
    }

    /// With a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With these labels.
    pub fn labels(mut self, labels: &BTreeMap<String, String>) -> Self {
        self.labels.extend(labels.clone());
        self
    }

    /// Declares and serves these ports, without names.
    pub fn serves(mut self, services: &[Service]) -> Self {
        self.ports.extend(services.iter().map(|s| NamedPort { name: None, service: *s }));
        self
    }

    /// Declares and serves a port with a name.
    pub fn names(mut self, name: &str, service: Service) -> Self {
        self.ports.push(NamedPort { name: Some(name.to_owned()), service });
        self
    }

    /// Serves ports that its manifest does not tell of.
    pub fn also_serves(mut self, services: &[Service]) -> Self {
        self.also_serves.extend_from_slice(services);
        self
    }

    /// With other external ids at its port.
    pub fn ids(mut self, ids: PortIds) -> Self {
        self.ids = ids;
        self
    }

    /// What it is called.
    pub fn its_name(&self) -> &str {
        &self.name
    }

    /// Its labels.
    pub const fn its_labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The ports its manifest tells of.
    pub fn its_ports(&self) -> &[NamedPort] {
        &self.ports
    }

    /// The network side of it, on a node if it names none itself.
    pub fn workload(&self, node: &str) -> Workload {
        let node = self.node.as_deref().unwrap_or(node);
        Workload::new(&self.name, node, &self.addresses, &self.services()).with_ids(self.ids)
    }

    fn services(&self) -> Vec<Service> {
        self.ports.iter().map(|p| p.service).chain(self.also_serves.iter().copied()).collect()
    }
}

/// A testbed with Weir on it. Dropping it ends and removes everything.
pub struct Fleet {
    // programs end before the ground under them goes
    controller: Daemon,
    agents: BTreeMap<String, Daemon>,
    bed: Testbed,
    manifests: Manifests,
    pki: PathBuf,
    address: String,
    scheduled: u16,
}

impl Fleet {
    /// A fleet with a name of its own.
    pub fn for_test(setup: &Setup) -> Result<Self> {
        Self::up(&home::test_name(), setup)
    }

    /// Builds a testbed, starts controller and agents, and waits until all are ready.
    pub fn up(name: &str, setup: &Setup) -> Result<Self> {
        let programs = Programs::find()?;
        let bed = Testbed::up(name, &setup.layout)?;
        let mut manifests = Manifests::create(bed.dir())?;
        for node in bed.nodes() {
            manifests.put_node(&node.name, &node.addresses)?;
        }
        let pki = make_pki(&programs, &bed)?;
        let mut controller = Daemon::start(controller_recipe(&programs, &bed, &manifests, &pki))?;
        let address = controller_address(&mut controller, &bed)?;
        let mut agents = BTreeMap::new();
        for node in bed.nodes() {
            let recipe = agent_recipe(
                &programs,
                &bed,
                &node.name,
                &certificates(&pki, &node.name),
                slice::from_ref(&address),
                &setup.agent_args,
            )?;
            agents.insert(node.name.clone(), Daemon::start(recipe)?);
        }
        let mut fleet = Self { controller, agents, bed, manifests, pki, address, scheduled: 0 };
        fleet.ready()?;
        Ok(fleet)
    }

    /// Waits until the agent of every node says that it is ready.
    pub fn ready(&mut self) -> Result<()> {
        let names: Vec<String> = self.agents.keys().cloned().collect();
        names.iter().try_for_each(|n| self.agent_ready(n))
    }

    /// Waits until the agent of a node says that it is ready.
    pub fn agent_ready(&mut self, node: &str) -> Result<()> {
        let socket = self.bed.dir().join(node).join(ADMIN);
        let agent = self.agents.get_mut(node).ok_or_else(|| Error::Unknown {
            kind: "node",
            name: node.to_owned(),
            bed: self.bed.name().to_owned(),
        })?;
        agent.until(&format!("the agent of {node} is ready"), STARTING, || {
            Ok(ask_admin(&socket, "/readyz").is_ok_and(|(status, _)| status == 200).then_some(()))
        })
    }

    /// The state of an agent as it tells it (`/debug/state`).
    pub fn agent_state(&self, node: &str) -> Result<String> {
        let socket = self.bed.dir().join(node).join(ADMIN);
        ask_admin(&socket, "/debug/state").map(|(_, body)| body)
    }

    /// What an agent tells Prometheus.
    pub fn agent_metrics(&self, node: &str) -> Result<String> {
        let socket = self.bed.dir().join(node).join(ADMIN);
        ask_admin(&socket, "/metrics").map(|(_, body)| body)
    }

    /// What the controller tells Prometheus.
    pub fn controller_metrics(&self) -> Result<String> {
        ask_controller(self.bed.infra(), &self.bed.dir().join(ADDRESS), "/metrics")
            .map(|(_, body)| body)
    }

    /// Nodes, hosts, probes.
    pub const fn bed(&self) -> &Testbed {
        &self.bed
    }

    /// The manifests as they stand.
    pub const fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// For changes that have no method here.
    pub const fn manifests_mut(&mut self) -> &mut Manifests {
        &mut self.manifests
    }

    /// The controller process.
    pub const fn controller(&mut self) -> &mut Daemon {
        &mut self.controller
    }

    /// The agent process of a node.
    pub fn agent(&mut self, node: &str) -> Result<&mut Daemon> {
        self.agents.get_mut(node).ok_or_else(|| Error::Unknown {
            kind: "node",
            name: node.to_owned(),
            bed: self.bed.name().to_owned(),
        })
    }

    /// Where agents and tools reach the controller, `IP:PORT`, from [`Testbed::infra`].
    pub fn controller_address(&self) -> &str {
        &self.address
    }

    /// Where the certificates lie.
    pub const fn pki(&self) -> &PathBuf {
        &self.pki
    }

    /// Creates or relabels a namespace.
    pub fn namespace(&mut self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        self.manifests.put_namespace(name, &owned(labels))
    }

    /// Starts pods: network and manifest. Returns when the ports are on the bridges, not when they are open.
    pub fn add(&mut self, specs: &[Spec]) -> Result<()> {
        let placed = self.place(specs)?;
        self.bed.add_pods(&placed)?;
        for (spec, workload) in specs.iter().zip(&placed) {
            self.manifests.put_pod(workload, &spec.labels, &spec.ports)?;
        }
        Ok(())
    }

    /// Starts the network of pods, but tells the controller nothing.
    pub fn add_ports_only(&mut self, specs: &[Spec]) -> Result<()> {
        let placed = self.place(specs)?;
        self.bed.add_pods(&placed)
    }

    /// Writes the manifests of pods whose network may come later, or is there already.
    pub fn add_manifests_only(&mut self, specs: &[Spec]) -> Result<()> {
        let placed = self.place(specs)?;
        for (spec, workload) in specs.iter().zip(&placed) {
            self.manifests.put_pod(workload, &spec.labels, &spec.ports)?;
        }
        Ok(())
    }

    /// Chooses what the specification leaves open: the nodes in turn, the next addresses. Pods that are there keep theirs.
    fn place(&mut self, specs: &[Spec]) -> Result<Vec<Workload>> {
        let nodes: Vec<String> = self.bed.nodes().iter().map(|n| n.name.clone()).collect();
        let mut out = Vec::new();
        for spec in specs {
            let there = self.bed.hosts().get(&spec.name);
            let turn = usize::from(self.scheduled);
            self.scheduled += 1;
            let node = spec
                .node
                .clone()
                .or_else(|| there.and_then(|h| h.node().map(str::to_owned)))
                .or_else(|| nodes.get(turn % nodes.len().max(1)).cloned())
                .ok_or_else(|| Error::Name {
                    kind: "pod",
                    name: spec.name.clone(),
                    reason: "there is no node to run on",
                })?;
            let addresses = match (spec.addresses.as_slice(), there) {
                ([], Some(host)) => host.addresses.clone(),
                ([], None) => address::of_pod(self.scheduled),
                (given, _) => given.to_vec(),
            };
            out.push(
                Workload::new(&spec.name, &node, &addresses, &spec.services()).with_ids(spec.ids),
            );
        }
        Ok(out)
    }

    /// Ends pods: network and manifest.
    pub fn delete(&mut self, names: &[&str]) -> Result<()> {
        self.bed.remove_pods(names)?;
        for name in names {
            let (namespace, name) = split(name)?;
            self.manifests.remove("Pod", namespace, name)?;
        }
        Ok(())
    }

    /// Creates or replaces the objects of a text: NetworkPolicies, Namespaces.
    pub fn apply(&mut self, text: &str) -> Result<()> {
        self.manifests.put_text(text)
    }

    /// Deletes the policy `NAMESPACE/NAME`.
    pub fn delete_policy(&mut self, name: &str) -> Result<()> {
        let (namespace, name) = split(name)?;
        if self.manifests.remove("NetworkPolicy", namespace, name)? {
            Ok(())
        } else {
            Err(Error::Unknown {
                kind: "policy",
                name: format!("{namespace}/{name}"),
                bed: self.bed.name().to_owned(),
            })
        }
    }

    /// Replaces the labels of a pod.
    pub fn label_pod(&mut self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        let (namespace, name) = split(name)?;
        self.manifests.label("Pod", namespace, name, &owned(labels))
    }

    /// Replaces the labels of a namespace.
    pub fn label_namespace(&mut self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        self.manifests.label("Namespace", "", name, &owned(labels))
    }

    /// The picture that the evaluator reads.
    pub fn world(&self) -> World {
        self.manifests.world()
    }

    /// What the policies say of every pair of hosts.
    pub fn expected(&self) -> Result<Verdicts> {
        matrix::expected(&self.bed, &self.world(), &matrix::all_cells(&self.bed))
    }

    /// Waits until every probe of the whole matrix is as the evaluator says.
    ///
    /// Errors: [`Error::Differs`] when it is not within [`IN_FORCE`].
    pub fn agrees(&self) -> Result<Observed> {
        self.sees(&self.expected()?)
    }

    /// Waits until these cells are as given.
    pub fn sees(&self, expected: &Verdicts) -> Result<Observed> {
        self.bed.sees(expected, IN_FORCE)
    }

    /// Waits until a connection passes, in every family that both ends have.
    pub fn reaches(&self, from: &str, to: &str, service: Service) -> Result<Observed> {
        self.sees(&self.bed.one(from, to, service, true)?)
    }

    /// Waits until a connection does not pass, in any family that both ends have.
    pub fn cannot_reach(&self, from: &str, to: &str, service: Service) -> Result<Observed> {
        self.sees(&self.bed.one(from, to, service, false)?)
    }

    /// How long after `since` a connection has the given verdict, by connections tried every few milliseconds (IPv4).
    pub fn takes_effect(
        &self,
        from: &str,
        to: &str,
        service: Service,
        open: bool,
        since: Instant,
    ) -> Result<Duration> {
        let request = self.bed.request(&Cell::v4(from, to, service))?;
        self.bed.engine().first_right(&request, open, since, IN_FORCE)
    }

    /// Opens a long-lived connection (IPv4).
    pub fn stream(&self, from: &str, to: &str, service: Service) -> Result<Stream> {
        let request = self.bed.request(&Cell::v4(from, to, service))?;
        self.bed.engine().stream(&request, STREAM_INTERVAL)
    }

    /// Tries a connection without pause (IPv4) and counts what gets through, while the test changes something. `each`:
    /// [`watch::SHUT`](crate::probe::watch::SHUT) or [`watch::OPEN`](crate::probe::watch::OPEN).
    pub fn watch(&self, from: &str, to: &str, service: Service, each: Duration) -> Result<Watch> {
        let request = self.bed.request(&Cell::v4(from, to, service))?;
        Ok(self.bed.engine().watch(&request, each))
    }

    /// Runs `weirctl` as an operator, where it reaches the controller. "No" and "the switch disagrees" are answers, too
    /// (exit codes 1 and 5).
    pub fn weirctl(&self, args: &[&str]) -> Result<String> {
        let mut c = Command::new(require::sibling("weirctl")?);
        c.args(args).envs(operator_env(self.bed.dir())?);
        self.bed.infra().run(move || command::ask(&mut c, &[0, 1, 5]))
    }

    /// Leaves everything running; the result must be handed to a process that serves.
    pub fn leave_up(self) -> home::Home {
        self.controller.leave();
        self.agents.into_values().for_each(Daemon::leave);
        self.bed.leave_up()
    }

    /// Ends and removes everything, and says what went wrong with it.
    pub fn down(self) -> Result<()> {
        let Self { controller, agents, bed, .. } = self;
        drop(agents);
        drop(controller);
        bed.down()
    }
}

/// The variables with which `weirctl` reaches the controller of the testbed in `dir`.
pub fn operator_env(dir: &std::path::Path) -> Result<Vec<(&'static str, String)>> {
    let file = dir.join(ADDRESS);
    let address = listen_address(&file).ok_or_else(|| Error::Content {
        file,
        field: "listen".to_owned(),
        reason: "no address of a controller".to_owned(),
    })?;
    let pki = dir.join(PKI);
    Ok(vec![
        ("WEIR_SERVER", address),
        ("WEIR_CA", text(&pki.join("ca.crt"))),
        ("WEIR_CERT", text(&pki.join(format!("operator-{OPERATOR}.crt")))),
        ("WEIR_KEY", text(&pki.join(format!("operator-{OPERATOR}.key")))),
    ])
}

/// The line `listen IP:PORT` of the controller's address file.
pub(crate) fn listen_address(file: &std::path::Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|l| l.strip_prefix("listen ")).map(str::to_owned)
}

/// One question to the admin server of the controller whose address file this is. Units: the first part is the HTTP status.
pub(crate) fn ask_controller(
    infra: &Inside,
    file: &std::path::Path,
    path: &'static str,
) -> Result<(u16, String)> {
    let text = std::fs::read_to_string(file).during(|| format!("reading {}", file.display()))?;
    let admin = text.lines().find_map(|l| l.strip_prefix("admin ")?.trim().parse().ok());
    let admin: std::net::SocketAddr = admin.ok_or_else(|| Error::Content {
        file: file.to_owned(),
        field: "admin".to_owned(),
        reason: "is not there".to_owned(),
    })?;
    let during = move || format!("asking {admin}");
    infra.run(move || ask(std::net::TcpStream::connect(admin).during(during)?, path, during))
}

/// Where the controller writes down where it listens.
pub(crate) const ADDRESS: &str = "controller.address";
/// Where the certificates lie.
pub(crate) const PKI: &str = "pki";
/// The name in the operator's certificate.
pub(crate) const OPERATOR: &str = "testbed";
/// The admin socket of an agent, in the directory of its node.
pub(crate) const ADMIN: &str = "admin.sock";

/// The programs that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    pub controller: PathBuf,
    pub agent: PathBuf,
}

impl Programs {
    /// Those that lie beside this one.
    ///
    /// Errors: [`Error::Missing`].
    pub fn find() -> Result<Self> {
        Ok(Self {
            controller: require::sibling("weir-controller")?,
            agent: require::sibling("weir-agent")?,
        })
    }
}

pub(crate) fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// One authority, a certificate for the controller, for each node, and for the operator.
fn make_pki(programs: &Programs, bed: &Testbed) -> Result<PathBuf> {
    let dir = bed.dir().join(PKI);
    let run = |args: &[&str]| {
        let (verb, rest) = args.split_first().unwrap_or((&"", &[]));
        let mut c = Command::new(&programs.controller);
        c.args(["pki", verb]).arg(&dir).args(rest);
        bed.infra().run(move || command::run(&mut c).map(drop))
    };
    run(&["init"])?;
    run(&["server", "--host", &address::CONTROLLER.to_string()])?;
    for node in bed.nodes() {
        run(&["node", &node.name])?;
    }
    run(&["operator", OPERATOR])?;
    Ok(dir)
}

fn controller_recipe(
    programs: &Programs,
    bed: &Testbed,
    manifests: &Manifests,
    pki: &std::path::Path,
) -> Recipe {
    Recipe {
        name: "weir-controller".to_owned(),
        inside: bed.infra().clone(),
        program: programs.controller.clone(),
        args: vec![
            "run".to_owned(),
            "--source".to_owned(),
            format!("dir:{}", manifests.dir().display()),
            "--listen".to_owned(),
            format!("{}:0", address::CONTROLLER),
            "--admin".to_owned(),
            format!("{}:0", address::CONTROLLER),
            "--address-file".to_owned(),
            text(&bed.dir().join(ADDRESS)),
            "--tls-cert".to_owned(),
            text(&pki.join("server.crt")),
            "--tls-key".to_owned(),
            text(&pki.join("server.key")),
            "--client-ca".to_owned(),
            text(&pki.join("ca.crt")),
        ],
        env: Vec::new(),
        log: bed.dir().join("weir-controller.log"),
    }
}

/// After the first start the port is fixed, so that a controller that comes again is found where it was.
fn controller_address(controller: &mut Daemon, bed: &Testbed) -> Result<String> {
    let file = bed.dir().join(ADDRESS);
    let address =
        controller.until("the controller listens", STARTING, || Ok(listen_address(&file)))?;
    controller.set_arg("--listen", &address);
    Ok(address)
}

/// What a node has from [`make_pki`].
fn certificates(pki: &std::path::Path, node: &str) -> [(&'static str, String); 3] {
    [
        ("--ca", text(&pki.join("ca.crt"))),
        ("--cert", text(&pki.join(format!("node-{node}.crt")))),
        ("--key", text(&pki.join(format!("node-{node}.key")))),
    ]
}

pub(crate) fn agent_recipe(
    programs: &Programs,
    bed: &Testbed,
    node: &str,
    credentials: &[(&'static str, String)],
    controllers: &[String],
    more: &[String],
) -> Result<Recipe> {
    let place = bed.node(node)?;
    let dir = bed.dir().join(node);
    let state = dir.join("state");
    std::fs::create_dir_all(&state).during(|| format!("making {}", state.display()))?;
    let mut args: Vec<String> = [
        ("--node", node.to_owned()),
        ("--ovsdb", place.ovs.database()),
        ("--bridge", BRIDGE.to_owned()),
        ("--bridge-mgmt", format!("unix:{}", place.ovs.management().display())),
        ("--vswitchd-control", text(&place.ovs.control())),
        ("--uplink", UPLINK.to_owned()),
        ("--gateway", BRIDGE.to_owned()),
        ("--state-dir", text(&state)),
        ("--admin", format!("unix:{}", dir.join(ADMIN).display())),
    ]
    .into_iter()
    .chain(credentials.iter().cloned())
    .chain(controllers.iter().map(|c| ("--controller", format!("https://{c}"))))
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect();
    args.insert(0, "run".to_owned());
    args.extend_from_slice(more);
    Ok(Recipe {
        name: format!("weir-agent-{node}"),
        inside: place.inside.clone(),
        program: programs.agent.clone(),
        args,
        env: Vec::new(),
        log: bed.dir().join(format!("weir-agent-{node}.log")),
    })
}

/// One question to an admin server. Units: the first part is the HTTP status.
pub(crate) fn ask_admin(socket: &std::path::Path, path: &str) -> Result<(u16, String)> {
    let during = || format!("asking {}", socket.display());
    let stream = std::os::unix::net::UnixStream::connect(socket).during(during)?;
    let limit = Some(Duration::from_secs(5));
    stream.set_read_timeout(limit).and_then(|()| stream.set_write_timeout(limit)).during(during)?;
    ask(stream, path, during)
}

/// One GET on a connection that closes with its answer.
pub(crate) fn ask(
    mut stream: impl std::io::Read + std::io::Write,
    path: &str,
    during: impl Fn() -> String,
) -> Result<(u16, String)> {
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .during(&during)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).during(&during)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

fn split(name: &str) -> Result<(&str, &str)> {
    name.split_once('/').ok_or_else(|| Error::Name {
        kind: "object",
        name: name.to_owned(),
        reason: "is not NAMESPACE/NAME",
    })
}

fn owned(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}
