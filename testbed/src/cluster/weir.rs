//! Weir on a cluster: what `deploy/` says it may do, controllers that read the API as that service account, an agent on each
//! node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_policy::k8s;
use weir_policy::world::World;

use super::client::{self, Identity};
use super::{Account, COMES_ABOUT, Cluster};
use crate::bed::{Layout, Testbed};
use crate::daemon::{Daemon, Recipe};
use crate::error::{During, Error, Result};
use crate::fleet::{self, ADDRESS, ADMIN, IN_FORCE, PKI, Programs, STARTING};
use crate::matrix::{self, Cell, Observed, Verdicts};
use crate::netns::Inside;
use crate::ovs::Ovs;
use crate::probe::{Service, Stream, Watch};
use crate::{address, command, home, manifests, wait};

/// What `kubectl apply -f deploy/weir.yaml` makes.
pub const MANIFESTS: &str = include_str!("../../../deploy/weir.yaml");
/// Kinds of it that say what Weir is and may do. The others run programs, which the testbed does itself.
const GROUNDWORK: [&str; 7] = [
    "CustomResourceDefinition",
    "Namespace",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
];
/// The namespace of Weir's own objects.
pub const NAMESPACE: &str = "weir-system";
/// The controllers' service account.
pub const CONTROLLER: &str = "weir-controller";
/// The agents' service account.
pub const AGENT: &str = "weir-agent";
/// Whom the agents' tokens are for.
pub const AUDIENCE: &str = "weir-controller";
/// The Secret and the ConfigMap of the controllers' authority.
const AUTHORITY: &str = "weir-ca";
/// A token outlives any test. Units: seconds.
const TOKEN_SECONDS: u32 = 86_400;

/// What it starts with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub layout: Layout,
    pub replicas: u8,
    /// More arguments for every agent.
    pub agent_args: Vec<String>,
    /// More arguments for every controller.
    pub controller_args: Vec<String>,
    /// Other programs than those that lie beside this one.
    pub programs: Option<Programs>,
}

impl Setup {
    /// So many nodes and controllers, nobody outside.
    pub fn new(nodes: u8, replicas: u8) -> Self {
        Self {
            layout: Layout { nodes, ..Layout::default() },
            replicas,
            agent_args: Vec::new(),
            controller_args: Vec::new(),
            programs: None,
        }
    }
}

/// A cluster with Weir on it. Dropping it ends and removes everything.
pub struct Weir {
    agents: BTreeMap<String, Daemon>,
    controllers: Vec<Daemon>,
    addresses: Vec<String>,
    cluster: Cluster,
}

impl Weir {
    /// One with a name of its own.
    pub fn for_test(setup: &Setup) -> Result<Self> {
        Self::up(&home::test_name(), setup)
    }

    /// Builds a cluster, installs Weir's groundwork, starts controllers and agents, and waits until all are ready.
    pub fn up(name: &str, setup: &Setup) -> Result<Self> {
        let programs = setup.programs.clone().map_or_else(Programs::find, Ok)?;
        let mut cluster = Cluster::up(name, &setup.layout)?;
        install(&mut cluster, MANIFESTS)?;
        let token = cluster.dir().join("controller.token");
        write(&token, &cluster.token(&account(CONTROLLER))?)?;
        let kubeconfig = cluster.dir().join("controller.kubeconfig");
        write(&kubeconfig, &cluster.kubeconfig_inside(&Identity::TokenFile(token))?)?;
        let mut controllers = Vec::new();
        let mut addresses = Vec::new();
        for replica in 0..setup.replicas {
            let mut recipe =
                cluster.with_bed(|bed| controller_recipe(&programs, bed, replica, &kubeconfig));
            recipe.args.extend_from_slice(&setup.controller_args);
            let file = cluster.dir().join(address_file(replica.into()));
            let mut daemon = Daemon::start(recipe)?;
            let address = daemon
                .until("the controller listens", STARTING, || Ok(fleet::listen_address(&file)))?;
            // one that comes again is found where it was
            daemon.set_arg("--listen", &address);
            controllers.push(daemon);
            addresses.push(address);
        }
        let ca = trust(&mut cluster, &programs)?;
        let nodes: Vec<String> =
            cluster.with_bed(|bed| bed.nodes().iter().map(|n| n.name.clone()).collect());
        let mut agents = BTreeMap::new();
        for node in nodes {
            let token = cluster.dir().join(&node).join("agent.token");
            write(&token, &agent_token(&cluster, &node)?)?;
            let credentials = [
                ("--ca", ca.display().to_string()),
                ("--token", token.display().to_string()),
                ("--server-name", CONTROLLER.to_owned()),
            ];
            let recipe = cluster.with_bed(|bed| {
                let more = &setup.agent_args;
                fleet::agent_recipe(&programs, bed, &node, &credentials, &addresses, more)
            })?;
            agents.insert(node, Daemon::start(recipe)?);
        }
        let mut weir = Self { agents, controllers, addresses, cluster };
        weir.ready()?;
        Ok(weir)
    }

    /// Waits until the agent of every node says that it is ready.
    pub fn ready(&mut self) -> Result<()> {
        let dir = self.cluster.dir();
        self.agents.iter_mut().try_for_each(|(node, agent)| {
            let socket = dir.join(node).join(ADMIN);
            agent.until(&format!("the agent of {node} is ready"), STARTING, || {
                let answer = fleet::ask_admin(&socket, "/readyz");
                Ok(answer.is_ok_and(|(status, _)| status == 200).then_some(()))
            })
        })
    }

    /// The cluster under it.
    pub const fn cluster(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// The controllers' processes.
    pub fn controllers(&mut self) -> &mut [Daemon] {
        &mut self.controllers
    }

    /// Where agents and tools reach the controllers, `IP:PORT`.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// What the first controller tells Prometheus.
    pub fn metrics(&mut self) -> Result<String> {
        self.ask(0, "/metrics").map(|(_, body)| body)
    }

    /// Waits until a controller says that it is ready.
    pub fn serves(&mut self, controller: usize) -> Result<()> {
        wait::until(&format!("controller {controller} is ready"), COMES_ABOUT, || {
            // one that starts still has the address of the one before in its file
            let ready = self.ask(controller, "/readyz").is_ok_and(|(status, _)| status == 200);
            match (ready, self.controllers.get_mut(controller)) {
                (true, _) => Ok(Some(())),
                (false, Some(daemon)) => daemon.check().map(|()| None),
                (false, None) => Ok(None),
            }
        })
    }

    /// One question to the admin server of a controller. Units: the first part is the HTTP status.
    fn ask(&self, controller: usize, path: &'static str) -> Result<(u16, String)> {
        let file = self.cluster.dir().join(address_file(controller));
        fleet::ask_controller(&self.cluster.with_bed(|bed| bed.infra().clone()), &file, path)
    }

    /// The switch of a node.
    pub fn ovs(&self, node: &str) -> Result<Ovs> {
        self.cluster.with_bed(|bed| bed.node(node).map(|n| n.ovs.clone()))
    }

    /// Where a node's programs run.
    pub fn inside(&self, node: &str) -> Result<Inside> {
        self.cluster.with_bed(|bed| bed.node(node).map(|n| n.inside.clone()))
    }

    /// The agent process of a node.
    pub fn agent(&mut self, node: &str) -> Result<&mut Daemon> {
        self.agents.get_mut(node).ok_or_else(|| Error::Unknown {
            kind: "node",
            name: node.to_owned(),
            bed: "this cluster".to_owned(),
        })
    }

    /// The state of an agent as it tells it (`/debug/state`).
    pub fn agent_state(&self, node: &str) -> Result<AgentState> {
        let socket = self.cluster.dir().join(node).join(ADMIN);
        fleet::ask_admin(&socket, "/debug/state").map(|(_, text)| AgentState { text })
    }

    /// Waits until the agent of a node has its state from the controller at this address, by a stream that is not `before`.
    pub fn follows(&mut self, node: &str, address: &str, before: Option<u64>) -> Result<u64> {
        let what = format!("the agent of {node} follows {address}");
        wait::until(&what, COMES_ABOUT, || {
            // one that starts has no socket yet
            let Ok(state) = self.agent_state(node) else {
                return Ok(None);
            };
            let there = state.controller().is_some_and(|c| c.contains(address));
            Ok(state.stream().filter(|stream| there && *stream > 0 && Some(*stream) != before))
        })
    }

    /// Errors: [`Error::Ended`] and others when something of it does not run any more.
    pub fn check(&mut self) -> Result<()> {
        self.cluster.check()?;
        self.controllers.iter_mut().chain(self.agents.values_mut()).try_for_each(Daemon::check)
    }

    /// The picture that the evaluator reads: the API's objects as they stand, read by the same parser.
    pub fn world(&self) -> Result<World> {
        let mut world = World::default();
        for (version, kind) in [
            ("v1", "Namespace"),
            ("v1", "Node"),
            ("v1", "Pod"),
            ("networking.k8s.io/v1", "NetworkPolicy"),
        ] {
            for mut object in self.cluster.client.list(version, kind)? {
                // items of a list do not say what they are
                object["apiVersion"] = json!(version);
                object["kind"] = json!(kind);
                let (read, _) = k8s::object(&object).map_err(|e| Error::Content {
                    file: client::describe(&object).into(),
                    field: "object".to_owned(),
                    reason: e.to_string(),
                })?;
                if let Some(read) = read {
                    read.put(&mut world);
                }
            }
        }
        Ok(world)
    }

    /// Waits until every probe of the whole matrix is as the evaluator says of the API's objects.
    pub fn agrees(&self) -> Result<Observed> {
        let world = self.world()?;
        self.cluster.with_bed(|bed| {
            let expected = matrix::expected(bed, &world, &matrix::all_cells(bed))?;
            bed.sees(&expected, IN_FORCE)
        })
    }

    /// Waits until these cells are as given, or time is up.
    pub fn settle(&self, expected: &Verdicts) -> Result<Observed> {
        self.cluster.with_bed(|bed| bed.settle(expected, IN_FORCE))
    }

    /// Waits until a connection passes, in every family that both ends have.
    pub fn reaches(&self, from: &str, to: &str, service: Service) -> Result<Observed> {
        self.cluster.with_bed(|bed| bed.sees(&bed.one(from, to, service, true)?, IN_FORCE))
    }

    /// Waits until a connection does not pass, in any family that both ends have.
    pub fn cannot_reach(&self, from: &str, to: &str, service: Service) -> Result<Observed> {
        self.cluster.with_bed(|bed| bed.sees(&bed.one(from, to, service, false)?, IN_FORCE))
    }

    /// How long after `since` a connection has the given verdict (IPv4).
    pub fn takes_effect(&self, cell: &Cell, open: bool, since: Instant) -> Result<Duration> {
        self.cluster
            .with_bed(|bed| bed.engine().first_right(&bed.request(cell)?, open, since, IN_FORCE))
    }

    /// Tries a connection without pause (IPv4) and counts what gets through, while the test changes something. `each`:
    /// [`watch::SHUT`](crate::probe::watch::SHUT) or [`watch::OPEN`](crate::probe::watch::OPEN).
    pub fn watch(&self, from: &str, to: &str, service: Service, each: Duration) -> Result<Watch> {
        self.cluster.with_bed(|bed| {
            let request = bed.request(&Cell::v4(from, to, service))?;
            Ok(bed.engine().watch(&request, each))
        })
    }

    /// Opens a long-lived connection (IPv4).
    pub fn stream(&self, from: &str, to: &str, service: Service) -> Result<Stream> {
        self.cluster.with_bed(|bed| {
            let request = bed.request(&Cell::v4(from, to, service))?;
            bed.engine().stream(&request, fleet::STREAM_INTERVAL)
        })
    }

    /// The flows of every node, without their counters.
    pub fn flows(&self) -> Result<BTreeMap<String, Vec<String>>> {
        self.cluster.with_bed(|bed| {
            bed.nodes().iter().map(|n| Ok((n.name.clone(), n.ovs.flows()?))).collect()
        })
    }

    /// Ends and removes everything, and says what went wrong with it.
    pub fn down(self) -> Result<()> {
        let Self { agents, controllers, cluster, .. } = self;
        drop((agents, controllers));
        cluster.down()
    }
}

/// What an agent tells of itself: lines `key: value`.
#[derive(Clone, Debug)]
pub struct AgentState {
    text: String,
}

impl AgentState {
    fn value(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(": "))
    }

    /// The controller that it is connected to now.
    pub fn controller(&self) -> Option<&str> {
        self.value("controller")?.strip_suffix(" connected")
    }

    /// Which of its streams the state that is in force is from, counted from its start. 0: from disk.
    pub fn stream(&self) -> Option<u64> {
        if self.value("phase") != Some("following") {
            return None;
        }
        let (_, stream) = self.value("revision")?.split_once("(stream ")?;
        stream.trim_end_matches(')').parse().ok()
    }
}

/// A token for the API server.
fn account(name: &str) -> Account<'_> {
    Account { namespace: NAMESPACE, name, audience: None, seconds: TOKEN_SECONDS, bound: None }
}

/// What the agent of a node shows to controllers: a token that is for them alone and bound to the node.
pub fn agent_token(cluster: &Cluster, node: &str) -> Result<String> {
    let key = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
    let object = cluster.client().get(&key)?.unwrap_or(Value::Null);
    let bound = json!({
        "apiVersion": "v1", "kind": "Node", "name": node, "uid": object.pointer("/metadata/uid"),
    });
    cluster.token(&Account { audience: Some(AUDIENCE), bound: Some(&bound), ..account(AGENT) })
}

/// Waits for what the controllers publish for agents, writes it down, and makes an operator with their authority, as somebody
/// who may read the Secret would.
fn trust(cluster: &mut Cluster, programs: &Programs) -> Result<PathBuf> {
    let client = cluster.client().clone();
    let key = |kind: &str| {
        json!({
            "apiVersion": "v1", "kind": kind, "metadata": {"namespace": NAMESPACE, "name": AUTHORITY},
        })
    };
    let published = cluster.until("the controllers publish their authority", || {
        let map = client.get(&key("ConfigMap"))?;
        let text = map.as_ref().and_then(|m| m.pointer("/data/ca.crt")).and_then(Value::as_str);
        Ok(text.map(str::to_owned))
    })?;
    let dir = cluster.dir().join(PKI);
    std::fs::create_dir_all(&dir).during(|| format!("making {}", dir.display()))?;
    let ca = dir.join("ca.crt");
    write(&ca, &published)?;
    let secret = cluster.client().get(&key("Secret"))?;
    let private = secret.as_ref().and_then(|s| s.pointer("/data/tls.key")).and_then(Value::as_str);
    let private = private.and_then(client::from_base64).ok_or_else(|| Error::Content {
        file: format!("Secret {NAMESPACE}/{AUTHORITY}").into(),
        field: "data[tls.key]".to_owned(),
        reason: "is not there".to_owned(),
    })?;
    write(&dir.join("ca.key"), &String::from_utf8_lossy(&private))?;
    let mut operator = Command::new(&programs.controller);
    operator.args(["pki", "operator"]).arg(&dir).arg(fleet::OPERATOR);
    cluster
        .with_bed(|bed| bed.infra().clone())
        .run(move || command::run(&mut operator).map(drop))?;
    Ok(ca)
}

/// Applies the parts of Weir's manifests that run no programs, and waits until its kinds are served.
pub fn install(cluster: &mut Cluster, manifests: &str) -> Result<()> {
    let mut kinds = Vec::new();
    for object in objects(manifests)? {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        if GROUNDWORK.contains(&kind) {
            cluster.client().apply(&object)?;
        }
        if kind == "CustomResourceDefinition" {
            kinds.push(object);
        }
    }
    let client = cluster.client().clone();
    cluster.until("the API serves Weir's kinds", || {
        for kind in &kinds {
            let conditions =
                client.get(kind)?.and_then(|k| k.pointer("/status/conditions").cloned());
            let served = conditions.as_ref().and_then(Value::as_array).is_some_and(|all| {
                all.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
            });
            if !served {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// The objects of a YAML text.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    let documents = manifests::documents(text).into_iter().map(|document| {
        serde_saphyr::from_str(document).map_err(|e| Error::Content {
            file: "deploy/weir.yaml".into(),
            field: "document".to_owned(),
            reason: e.to_string(),
        })
    });
    let objects: Result<Vec<Value>> = documents.collect();
    Ok(objects?.into_iter().filter(|o| !o.is_null()).collect())
}

fn write(file: &std::path::Path, text: &str) -> Result<()> {
    std::fs::write(file, text).during(|| format!("writing {}", file.display()))
}

fn address_file(replica: usize) -> String {
    match replica {
        // where tools look for it
        0 => ADDRESS.to_owned(),
        n => format!("controller-{n}.address"),
    }
}

fn controller_recipe(
    programs: &Programs,
    bed: &Testbed,
    replica: u8,
    kubeconfig: &std::path::Path,
) -> Recipe {
    let name = format!("weir-controller-{replica}");
    let text = |path: PathBuf| path.display().to_string();
    let args = [
        ("--source", "kube".to_owned()),
        ("--kubeconfig", kubeconfig.display().to_string()),
        ("--listen", format!("{}:0", address::CONTROLLER)),
        ("--admin", format!("{}:0", address::CONTROLLER)),
        ("--address-file", text(bed.dir().join(address_file(replica.into())))),
        ("--namespace", NAMESPACE.to_owned()),
        ("--replica", name.clone()),
        ("--serve-host", address::CONTROLLER.to_string()),
    ];
    Recipe {
        inside: bed.infra().clone(),
        program: programs.controller.clone(),
        args: std::iter::once("run".to_owned())
            .chain(args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]))
            .collect(),
        env: Vec::new(),
        log: bed.dir().join(format!("{name}.log")),
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_an_agent() {
        let text = "node: n1\nrevision: 12 (stream 3)\nphase: following\nsince start: 5 bundles, 42 flow changes, 0 refusals\n\
                    controller: https://10.0.0.1:9443 connected\n";
        let state = AgentState { text: text.to_owned() };
        assert_eq!(state.controller(), Some("https://10.0.0.1:9443"));
        assert_eq!(state.stream(), Some(3));
        let away = AgentState { text: text.replace("connected", "away") };
        assert_eq!(away.controller(), None);
        let late = AgentState { text: text.replace("following", "to be compared (Doubt)") };
        assert_eq!(late.stream(), None);
        assert_eq!(AgentState { text: "revision: none\n".to_owned() }.stream(), None);
    }
}
