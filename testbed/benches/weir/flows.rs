//! Encoding flows, putting them into a fresh switch, and getting them back.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use rust_openflow::bundle::{ATOMIC, ORDERED};
use rust_openflow::text::{self, Names};
use rust_openflow::{
    Action, BundleControl, BundleControlType, Connection, Field, FlowMod, FlowStatsRequest,
    Instruction, Match, Message, Options, Target, bundle, connect,
};
use tokio::runtime::{Builder, Runtime};
use weir_testbed::dummy::DummySwitch;
use weir_testbed::{command, out};

use crate::raw::{Raw, encode};
use crate::report::{Column, Report, Row, Samples, Table};

/// Each on a switch that has just been started: what a switch had before makes it slower.
const ROUNDS: usize = 5;
/// Dumps of each kind from each switch.
const DUMPS: usize = 3;
const SIZES: [usize; 2] = [10_000, 100_000];

/// A flow of each of the three clauses and the flow that the conjunction ends in: 48 + 48 + 3 + 1.
const PER_CONJUNCTION: usize = 100;
const TABLE: u8 = 45;
const NEXT: u8 = 60;

/// So many conjunctions of 48 sources, 48 destinations and 3 ports.
fn workload(count: usize) -> Vec<FlowMod> {
    let mut flows = Vec::with_capacity(count);
    for n in 0..u32::try_from(count / PER_CONJUNCTION).unwrap_or(u32::MAX) {
        let id = 0x0100_0000 + n;
        let clause = |clause| Action::Conjunction { id, clause, n_clauses: 3 };
        let mut add = |match_, actions, more: &[Instruction]| {
            let instructions = [&[Instruction::ApplyActions(actions)], more].concat();
            let flow = FlowMod::add(TABLE, 100, match_, instructions);
            flows.push(flow.with_cookie(0x5745_0000_0000_0000 | u64::from(id)));
        };
        for k in 0..48 {
            let address = |net: u32| Ipv4Addr::from(net + n * 48 + k);
            add(Match::ip().ipv4_src(address(0x0a00_0000), 32), vec![clause(0)], &[]);
            add(Match::ip().ipv4_dst(address(0x0a80_0000), 32), vec![clause(1)], &[]);
        }
        for k in 0..3 {
            let port = Match::tcp().with(Field::TcpDst, u128::from(1024 + n * 3 + k));
            add(port, vec![clause(2)], &[]);
        }
        let rule = Action::RegLoad { dst: Field::Reg(5), offset: 0, bits: 32, value: id.into() };
        let end = Match::ip().with(Field::ConjId, id.into());
        add(end, vec![rule], &[Instruction::GotoTable(NEXT)]);
    }
    flows
}

/// The workload in every form that is sent.
struct Prepared {
    flows: Vec<FlowMod>,
    pipelined: BytesMut,
    bundled: BytesMut,
    text: tempfile::NamedTempFile,
}

fn encode_all(flows: &[FlowMod], out: &mut BytesMut) -> Result<()> {
    for (flow, xid) in flows.iter().zip(2..) {
        Message::FlowMod(flow.clone()).encode(xid, out)?;
    }
    Ok(())
}

impl Prepared {
    fn new(count: usize) -> Result<Self> {
        let flows = workload(count);
        let (mut pipelined, mut bundled) = (BytesMut::new(), BytesMut::new());
        encode_all(&flows, &mut pipelined)?;
        let control = |typ, xid| {
            let control = BundleControl::new(1, typ, ATOMIC | ORDERED);
            encode(&Message::BundleControl(control), xid)
        };
        bundled.extend_from_slice(&control(BundleControlType::OPEN, 2)?);
        for (flow, xid) in flows.iter().zip(3..) {
            bundle::encode_add(1, ATOMIC | ORDERED, flow, xid, &mut bundled)?;
        }
        bundled.extend_from_slice(&control(BundleControlType::CLOSE, LAST_OF_BUNDLE)?);
        bundled.extend_from_slice(&control(BundleControlType::COMMIT, LAST_OF_BUNDLE + 1)?);
        let mut lines = String::new();
        for flow in &flows {
            writeln!(lines, "{}", text::flow_mod(flow, &Names::default()))?;
        }
        let text = tempfile::NamedTempFile::new()?;
        std::fs::write(text.path(), lines)?;
        Ok(Self { flows, pipelined, bundled, text })
    }
}

const LAST_OF_BUNDLE: u32 = 0x4000_0000;

/// How flows get into a switch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Pipelined,
    Bundled,
    Ours,
    Ofctl,
}

impl Way {
    const ALL: [Self; 4] = [Self::Pipelined, Self::Bundled, Self::Ours, Self::Ofctl];

    const fn name(self) -> &'static str {
        match self {
            Self::Pipelined => "bytes encoded before, pipelined, one barrier (baseline)",
            Self::Bundled => "bytes encoded before, one bundle",
            Self::Ours => "Weir: encode and one bundle",
            Self::Ofctl => "ovs-ofctl --bundle replace-flows FILE",
        }
    }
}

#[derive(Default)]
struct Measured {
    encode: Samples,
    install: [Samples; 4],
    dump: Samples,
    dump_raw: Samples,
    decode: Samples,
    bytes: usize,
    parts: usize,
}

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for count in SIZES {
        let prepared = Prepared::new(count)?;
        let mut seen = Measured::default();
        for round in 0..ROUNDS {
            out::progress(&format!("{count} flows, round {} of {ROUNDS}", round + 1));
            time_encoding(&prepared, &mut seen)?;
            for way in Way::ALL {
                let took = install(&runtime, way, &prepared, &mut seen)
                    .with_context(|| format!("{}, {count} flows", way.name()))?;
                seen.install[way as usize].push_time(took);
            }
        }
        tables(count, &seen, report);
    }
    Ok(())
}

fn time_encoding(prepared: &Prepared, seen: &mut Measured) -> Result<()> {
    let messages: Vec<Message> = prepared.flows.iter().cloned().map(Message::FlowMod).collect();
    for _ in 0..3 {
        let mut out = BytesMut::new();
        let begun = Instant::now();
        for (message, xid) in messages.iter().zip(2..) {
            message.encode(xid, &mut out)?;
        }
        seen.encode.push_time(begun.elapsed());
        ensure!(out == prepared.pipelined, "the same flows have other bytes");
    }
    Ok(())
}

/// Starts a switch, puts the flows in, and sees that all are there. The connection is made before the clock starts,
/// except by ovs-ofctl.
fn install(
    runtime: &Runtime,
    way: Way,
    prepared: &Prepared,
    seen: &mut Measured,
) -> Result<Duration> {
    let switch = DummySwitch::start(0)?;
    let socket = switch.ovs().management();
    let took = match way {
        Way::Pipelined => Raw::connect(&socket)?.pipeline(&prepared.pipelined)?,
        Way::Bundled => Raw::connect(&socket)?.pipeline(&prepared.bundled)?,
        Way::Ours => runtime.block_on(connected(&socket, async |connection| {
            let begun = Instant::now();
            connection.bundle(&prepared.flows).await?;
            Ok(begun.elapsed())
        }))?,
        Way::Ofctl => {
            let begun = Instant::now();
            command::run(
                Command::new("ovs-ofctl")
                    .args(["-O", "OpenFlow13", "--timeout=120", "--bundle", "replace-flows"])
                    .arg(format!("unix:{}", socket.display()))
                    .arg(prepared.text.path()),
            )?;
            begun.elapsed()
        }
    };
    let there = runtime.block_on(connected(&socket, async |connection| {
        Ok(connection.aggregate(FlowStatsRequest::default()).await?.flows)
    }))?;
    ensure!(there as usize == prepared.flows.len(), "{there} flows are there");
    if way == Way::Ours {
        dumps(runtime, &socket, prepared.flows.len(), seen)?;
    }
    Ok(took)
}

/// Dumps by us and of raw bytes in turn.
fn dumps(runtime: &Runtime, socket: &Path, count: usize, seen: &mut Measured) -> Result<()> {
    let mut raw = Raw::connect(socket)?;
    for _ in 0..DUMPS {
        let (took, parts) = raw.dump()?;
        seen.dump_raw.push_time(took);
        (seen.parts, seen.bytes) = (parts.len(), parts.iter().map(bytes::Bytes::len).sum());
        let begun = Instant::now();
        for part in &parts {
            Message::decode(part)?;
        }
        seen.decode.push_time(begun.elapsed());
        let (took, flows) = runtime.block_on(connected(socket, async |connection| {
            let begun = Instant::now();
            let flows = connection.dump_flows(FlowStatsRequest::default()).await?;
            Ok((begun.elapsed(), flows.len()))
        }))?;
        ensure!(flows == count, "the dump has {flows} flows");
        seen.dump.push_time(took);
    }
    Ok(())
}

/// Runs something over a connection of ours.
async fn connected<T>(socket: &Path, work: impl AsyncFnOnce(Connection) -> Result<T>) -> Result<T> {
    let target = Target::Unix(socket.to_owned());
    let (connection, driver, _events) = connect(&target, Options::default()).await?;
    // a task of its own, as in the agent
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(driver);
    let done = work(connection).await;
    tasks.shutdown().await;
    done
}

const COLUMNS: &[Column] = &[
    Column("median s", 4),
    Column("lowest", 4),
    Column("highest", 4),
    Column("flows/s", 0),
    Column("ratio", 2),
];

fn tables(count: usize, seen: &Measured, report: &mut Report) {
    let [baseline, ..] = &seen.install;
    let row = |name: &str, samples: &Samples, baseline: &Samples| {
        let (median, flows) = (samples.median(), count as f64);
        let (low, high) = (samples.low(), samples.high());
        Row::new(name, [median, low, high, flows / median, baseline.median() / median])
    };
    let installed = Way::ALL.into_iter().zip(&seen.install);
    let mut rows: Vec<Row> = installed.map(|(way, s)| row(way.name(), s, baseline)).collect();
    rows.push(row("Weir: encode alone, nothing sent", &seen.encode, baseline));
    report.add(Table {
        title: format!(
            "Installing {count} 3-clause conjunctive flows into an empty switch, {ROUNDS} fresh switches each"
        ),
        columns: COLUMNS,
        rows,
    });
    report.add(Table {
        title: format!(
            "Dump of {count} flows ({} parts, {:.1} MB), {} times each",
            seen.parts,
            seen.bytes as f64 / 1e6,
            seen.dump.len(),
        ),
        columns: COLUMNS,
        rows: vec![
            row("bytes read, not looked at (baseline)", &seen.dump_raw, &seen.dump_raw),
            row("Weir: dump, decoded", &seen.dump, &seen.dump_raw),
            row("Weir: decode alone", &seen.decode, &seen.dump_raw),
        ],
    });
}
