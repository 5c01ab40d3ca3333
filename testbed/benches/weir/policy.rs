//! From a policy file to a packet.
//!
//! A policy that lets a pod in, or nobody, replaces itself by renaming, while connections are tried every millisecond.
//! What counts is the start of the first one with the new verdict that others with it follow. The baseline is the same
//! prober watching one flow mod of our own on a bridge without Weir: less than that nobody can measure this way.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rust_openflow::{FlowCommand, FlowMod, Match, Message};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use weir_testbed::{Testbed, out};

use crate::raw::{Raw, encode};
use crate::report::Samples;
use crate::traffic::{Beds, CLIENT, GATED, NAMESPACE, connect, inside};

/// Changes measured, half of them opening. Two more come before and do not count.
const CHANGES: usize = 200;
/// Between the starts of two connections. Units: the precision of what is measured.
const PACE: Duration = Duration::from_millis(1);
/// Connections that are tried before the change is made.
const BEFORE: usize = 5;
/// So many in a row must have the new verdict before it counts.
const IN_A_ROW: usize = 5;
/// A connection that is not there after so long is shut out. Before a whole second no SYN is sent again.
const SILENT: Duration = Duration::from_millis(100);
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
        let took = first_right(beds.fleet.bed(), open, || {
            fs::rename(&draft, &file).with_context(|| format!("writing {}", file.display()))
        })?;
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
    let to = gated_address(&beds.plain)?;
    let match_ =
        Match::tcp().nw_dst(to.ip(), 32).with(rust_openflow::Field::TcpDst, u128::from(PORT));
    let shut = FlowMod::add(0, 0xf000, match_, []);
    let node = beds.plain.nodes().first().context("a testbed without a node")?;
    let mut raw = Raw::connect(&node.ovs.management())?;
    for n in 0..CHANGES + 2 {
        let open = n % 2 == 1;
        let command = if open { FlowCommand::DeleteStrict } else { FlowCommand::Add };
        let change = encode(&Message::FlowMod(FlowMod { command, ..shut.clone() }), 2)?;
        let took = first_right(&beds.plain, open, || raw.pipeline(&change).map(drop))?;
        if n >= 2 {
            if open { &mut delays.opens } else { &mut delays.closes }.push_millis(took);
        }
    }
    Ok(delays)
}

fn gated_address(bed: &Testbed) -> Result<SocketAddr> {
    bed.host(GATED)?.target(false, PORT).context("the pod has no IPv4 address")
}

/// Makes a change while connections are tried; from just before it to the start of the first connection with the new
/// verdict.
pub(crate) fn first_right(
    bed: &Testbed,
    open: bool,
    change: impl FnOnce() -> Result<()>,
) -> Result<Duration> {
    let to = gated_address(bed)?;
    let (tell, trying) = mpsc::channel();
    thread::scope(|scope| {
        let prober = scope.spawn(move || {
            inside(bed, CLIENT, move || async move {
                timeout(LIMIT, probe(to, open, tell)).await.context("no change was seen")
            })
        });
        // a prober that failed says why below
        let _ = trying.recv();
        let since = Instant::now();
        let changed = change();
        match prober.join() {
            Ok(right) => changed.and(Ok(right?.saturating_duration_since(since))),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Tries connections until the verdict has changed to `open`; when the first of them that was right began.
async fn probe(to: SocketAddr, open: bool, tell: mpsc::Sender<()>) -> Instant {
    let mut attempts = JoinSet::new();
    let mut verdicts = BTreeMap::new();
    let mut started = 0;
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let n = started;
                started += 1;
                attempts.spawn(async move {
                    let begun = Instant::now();
                    let connected = matches!(timeout(SILENT, connect(to)).await, Ok(Ok(_)));
                    (n, begun, connected)
                });
                if started == BEFORE {
                    // nobody waits any more if the change was not made
                    let _ = tell.send(());
                }
            }
            Some(Ok((n, begun, connected))) = attempts.join_next() => {
                verdicts.insert(n, (begun, connected == open));
                if let Some(begun) = settled(&verdicts) {
                    return begun;
                }
            }
        }
    }
}

/// The start of the first right attempt that enough others follow. One without a verdict holds up those after it.
fn settled(verdicts: &BTreeMap<usize, (Instant, bool)>) -> Option<Instant> {
    let mut first = None;
    let mut in_a_row = 0;
    for (expected, (n, (begun, right))) in verdicts.iter().enumerate() {
        if *n != expected {
            return None;
        }
        if *right {
            first = first.or(Some(*begun));
            in_a_row += 1;
        } else {
            (first, in_a_row) = (None, 0);
        }
        if in_a_row >= IN_A_ROW {
            return first;
        }
    }
    None
}
