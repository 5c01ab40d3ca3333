//! Writes `docs/pipeline.md` from the code and from a real switch, and the dump that `weirctl` is tested with.
//!
//! ```text
//! cargo run -p weir-agent --example pipeline_doc             write
//! cargo run -p weir-agent --example pipeline_doc -- --check  fail if anything would be written differently
//! ```
//!
//! It needs `ovsdb-server`, `ovs-vswitchd` and `ovs-ofctl`, and no privileges.

mod page;
mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rust_openflow::{Options, UnixCtl};
use weir_agent::desired::Desired;
use weir_agent::diff;
use weir_agent::flow::FlowTable;
use weir_agent::pipeline::{PipelineConfig, table};
use weir_agent::ports::{Ports, WorkloadPort};
use weir_agent::symbols;
use weir_policy::state::Touched;
use weir_policy::world::World;
use weir_policy::{compile, k8s};

use page::{Example, Trace};
use switch::Switch;

/// The node whose flows are shown.
const NODE: &str = "n1";
const BRIDGE: &str = "br-int";
const MANIFESTS: &str = include_str!("example.yaml");
/// The port that leads to other nodes.
const UPLINK: u32 = 1;

/// Ports of the node: number, interface, namespace, name, MAC address.
const WORKLOADS: [(u32, &str, &str, &str, [u8; 6]); 3] = [
    (2, "web0", "shop", "web-0", [2, 0, 0, 0, 1, 0x10]),
    (3, "db0", "shop", "db-0", [2, 0, 0, 0, 1, 0x20]),
    (4, "probe0", "monitoring", "probe-0", [2, 0, 0, 0, 1, 0x30]),
];

fn main() -> anyhow::Result<()> {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => bail!("{other:?} is not known; there is --check"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let files = runtime.block_on(files())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut different = Vec::new();
    for (name, text) in files {
        let path = root.join(&name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if !check {
            let dir = path.parent().unwrap_or(&root);
            fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        different.push(name.display().to_string());
    }
    if check && !different.is_empty() {
        bail!(
            "not what the code says: {}; `cargo run -p weir-agent --example pipeline_doc` writes them",
            different.join(", ")
        );
    }
    Ok(())
}

/// All files, by their path from the root of the repository.
async fn files() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let state = compile::node_state(&world()?, NODE);
    let ports = ports();
    let mut desired = Desired::new(PipelineConfig::default(), BTreeMap::new());
    desired.update(Some(&state), &Touched::default(), &ports);

    let switch = bridge()?;
    install(&switch, desired.flows()).await?;
    let dump = dump(&switch, &["--names", "--no-stats"])?;
    let plain = dump_as_is(&switch)?;
    let example = Example {
        version: version(&switch)?,
        dump,
        traces: traces(&switch).await?,
        manifests: MANIFESTS.to_owned(),
    };
    let mut names = String::new();
    for symbol in symbols::symbols(&desired, &state, &ports) {
        writeln!(names, "{symbol}")?;
    }
    Ok(vec![
        ("docs/pipeline.md".into(), page::page(&example, &desired)?),
        ("ctl/tests/example/n1.flows".into(), plain),
        ("ctl/tests/example/n1.symbols.jsonl".into(), names),
    ])
}

fn world() -> anyhow::Result<World> {
    let (documents, rejected) = k8s::read_documents(MANIFESTS);
    if let Some(r) = rejected.first() {
        bail!("example.yaml: {r}");
    }
    let mut world = World::default();
    for document in documents.into_iter().flat_map(k8s::flatten) {
        let (object, warnings) = k8s::object(&document)?;
        if let Some(w) = warnings.first() {
            bail!("example.yaml: {w}");
        }
        if let Some(object) = object {
            object.put(&mut world);
        }
    }
    Ok(world)
}

fn ports() -> Ports {
    let workload =
        |(_, interface, namespace, name, mac): (u32, &str, &str, &str, [u8; 6])| WorkloadPort {
            interface: interface.into(),
            namespace: namespace.into(),
            name: name.into(),
            mac: Some(mac),
        };
    Ports {
        workloads: WORKLOADS.into_iter().map(|w| (w.0, workload(w))).collect(),
        gateways: BTreeSet::from([rust_openflow::port::LOCAL]),
        uplinks: BTreeSet::from([UPLINK]),
        switching: BTreeMap::new(),
        unknown: BTreeMap::new(),
    }
}

/// A switch with the ports above and named tables.
fn bridge() -> anyhow::Result<Switch> {
    let switch = Switch::start()?;
    let mut words: Vec<String> = ["add-br", BRIDGE, "--", "set", "bridge", BRIDGE]
        .into_iter()
        .chain(["datapath_type=dummy", "fail_mode=secure", "protocols=OpenFlow13"])
        .map(str::to_owned)
        .collect();
    for (number, name) in table::names() {
        words.extend(["--".to_owned(), format!("--id=@t{number}"), "create".to_owned()]);
        words.extend(["Flow_Table".to_owned(), format!("name={name}")]);
        words.extend(["--", "set", "bridge", BRIDGE].map(str::to_owned));
        words.push(format!("flow_tables:{number}=@t{number}"));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    switch.vsctl(&words)?;
    let uplink = (UPLINK, "uplink0");
    // one after another, so that the datapath numbers them in this order
    for (number, name) in [uplink].into_iter().chain(WORKLOADS.iter().map(|w| (w.0, w.1))) {
        let request = format!("ofport_request={number}");
        let interface = ["set", "interface", name, "type=dummy", &request];
        switch.vsctl(&[&["add-port", BRIDGE, name, "--"][..], &interface].concat())?;
    }
    Ok(switch)
}

/// One bundle, as the agent does it.
async fn install(switch: &Switch, flows: &FlowTable) -> anyhow::Result<()> {
    let target = format!("unix:{}", switch.path(&format!("{BRIDGE}.mgmt")).display()).parse()?;
    let (connection, driver, _events) = rust_openflow::connect(&target, Options::default()).await?;
    let changes = diff::diff(flows, &FlowTable::new());
    tokio::select! {
        ended = driver => bail!("the switch left: {ended:?}"),
        done = connection.bundle(&changes) => done.context("installing the flows"),
    }
}

/// `ovs-ofctl dump-flows`, in the order in which packets meet the flows.
fn dump(switch: &Switch, options: &[&str]) -> anyhow::Result<Vec<(u8, String)>> {
    let mgmt = switch.path(&format!("{BRIDGE}.mgmt")).display().to_string();
    let names: BTreeMap<String, u8> = table::names().into_iter().map(|(n, s)| (s, n)).collect();
    let args: Vec<&str> =
        ["-O", "OpenFlow13"].iter().chain(options).copied().chain(["dump-flows", &mgmt]).collect();
    let mut flows = Vec::new();
    for line in switch.run("ovs-ofctl", &args)?.lines() {
        if !line.contains("actions=") {
            continue;
        }
        // how long a flow has been there differs from run to run
        let words = line.trim().split(", ").filter(|w| !w.starts_with("duration="));
        let line = words.collect::<Vec<_>>().join(", ");
        let value = |key: &str| {
            let rest = line.split_once(key)?.1;
            rest.split([',', ' ']).next()
        };
        let table = value("table=").unwrap_or("0");
        let table = match table.parse() {
            Ok(number) => number,
            Err(_) => *names.get(table).with_context(|| format!("table {table}"))?,
        };
        let priority: u16 = value("priority=").unwrap_or("32768").parse()?;
        flows.push(((table, u16::MAX - priority, line), table));
    }
    flows.sort();
    Ok(flows.into_iter().map(|((_, _, line), table)| (table, line)).collect())
}

/// The dump without names and with counters, which are all zero here.
fn dump_as_is(switch: &Switch) -> anyhow::Result<String> {
    let mut text = String::new();
    for (_, line) in dump(switch, &["--no-names"])? {
        writeln!(text, " {line}")?;
    }
    Ok(text)
}

fn version(switch: &Switch) -> anyhow::Result<String> {
    let text = switch.run("ovs-vswitchd", &["--version"])?;
    let first = text.lines().next().unwrap_or_default();
    Ok(first.rsplit(' ').next().unwrap_or_default().to_owned())
}

/// The packets that the page follows.
async fn traces(switch: &Switch) -> anyhow::Result<Vec<Trace>> {
    let mut ctl = UnixCtl::connect(switch.ctl("vs")).await?;
    let mut out = Vec::new();
    for packet in &page::PACKETS {
        let text = ctl.call("ofproto/trace", &[BRIDGE, packet.flow]).await?;
        out.push(Trace { packet, text });
    }
    Ok(out)
}
