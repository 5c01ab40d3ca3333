//! From a policy file to a packet.
//!
//! A policy that lets a pod in, or nobody, replaces itself by renaming; from that instant on, connections are tried
//! every two milliseconds until the verdict is the new one and stays so. The baseline is the same prober watching one
//! flow mod of our own on a bridge without Weir: less than that nobody can measure this way.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rust_openflow::{FlowCommand, FlowMod, Match, Message};
use weir_testbed::out;
use weir_testbed::probe::Request;
use weir_testbed::tcp;

use crate::raw::{Raw, encode};
use crate::report::Samples;
use crate::traffic::{Beds, CLIENT, GATED, NAMESPACE};

/// Changes measured, half of them opening. Two more come before and do not count.
const CHANGES: usize = 60;
/// A change that takes longer is an error.
const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 81;
const GATE: &str = "gate";

/// What was measured among so many other policies; `None`: by hand, without Weir.
#[derive(Default)]
pub(crate) struct Delays {
    pub(crate) others: Option<usize>,
    /// Units: milliseconds.
    pub(crate) opens: Samples,
    pub(crate) closes: Samples,
    pub(crate) acknowledged: Samples,
}

pub(crate) fn measure(beds: &mut Beds) -> Result<()> {
    if beds.delays.is_empty() {
        let by_hand = by_hand(beds).context("one flow mod by hand")?;
        beds.delays.push(by_hand);
    }
    let delays = by_policy(beds)?;
    beds.delays.push(delays);
    Ok(())
}

fn by_policy(beds: &mut Beds) -> Result<Delays> {
    out::progress(&format!("{CHANGES} changes of a policy among {} others", beds.policies));
    let mut delays = Delays { others: Some(beds.policies), ..Delays::default() };
    let dir = beds.fleet.manifests().dir().to_owned();
    let (file, draft) = (dir.join("gate.yaml"), dir.with_extension("draft"));
    for n in 0..CHANGES + 2 {
        let open = n % 2 == 0;
        fs::write(&draft, gate(open)).with_context(|| format!("writing {}", draft.display()))?;
        let since = Instant::now();
        fs::rename(&draft, &file).with_context(|| format!("writing {}", file.display()))?;
        let took = beds.fleet.takes_effect(CLIENT, GATED, tcp(PORT), open, since)?;
        beds.gate_generation += 1;
        let acknowledged = beds.inspector.latency(GATE, beds.gate_generation)?;
        if n < 2 {
            continue;
        }
        if open { &mut delays.opens } else { &mut delays.closes }.push_millis(took);
        delays.acknowledged.push_millis(acknowledged);
    }
    fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    beds.inspector.in_force(beds.policies)?;
    Ok(delays)
}

/// The text is as a person would write it.
fn gate(open: bool) -> String {
    let rules = if open {
        format!(
            "[{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}], ports: [{{port: {PORT}}}]}}]"
        )
    } else {
        "[]".to_owned()
    };
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {GATE}, namespace: {NAMESPACE}}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: gated}}}}\n  policyTypes: [Ingress]\n  ingress: {rules}\n"
    )
}

/// The same on the plain bridge: a drop flow that comes and goes.
fn by_hand(beds: &Beds) -> Result<Delays> {
    out::progress(&format!("{CHANGES} changes of one flow by hand"));
    let mut delays = Delays::default();
    let (client, gated) = (beds.plain.host(CLIENT)?, beds.plain.host(GATED)?);
    let to = gated.target(false, PORT).context("the pod has no IPv4 address")?;
    let request = Request { from: client.inside.clone(), to, protocol: tcp(PORT).protocol };
    let match_ =
        Match::tcp().nw_dst(to.ip(), 32).with(rust_openflow::Field::TcpDst, u128::from(PORT));
    let drop = FlowMod::add(0, 0xf000, match_, []);
    let node = beds.plain.nodes().first().context("a testbed without a node")?;
    let mut raw = Raw::connect(&node.ovs.management())?;
    for n in 0..CHANGES + 2 {
        let open = n % 2 == 1;
        let command = if open { FlowCommand::DeleteStrict } else { FlowCommand::Add };
        let change = encode(&Message::FlowMod(FlowMod { command, ..drop.clone() }), 2)?;
        let since = Instant::now();
        raw.pipeline(&change)?;
        let took = beds.plain.engine().first_right(&request, open, since, LIMIT)?;
        if n >= 2 {
            if open { &mut delays.opens } else { &mut delays.closes }.push_millis(took);
        }
    }
    Ok(delays)
}
