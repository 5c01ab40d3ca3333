//! What it costs to put 100,000 flows into Open vSwitch and to get them back, beside the least that any client can do
//! (bytes encoded before, replies not looked at) and beside ovs-ofctl.
//!
//! Every installation is into a switch that has just been started, as what a switch held before makes it slower. All
//! ways take turns, and ratios are those of one round, so that a machine that is busy for a while is so for all of them.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rust_openflow::text::{self, Names};
use rust_openflow::{
    Connection, FlowStats, FlowStatsRequest, Header, Hello, Message, MultipartRequest, Options,
    Target, connect,
};
use tokio::runtime::{Builder, Runtime};

#[path = "../tests/support/ovs.rs"]
mod ovs;
#[path = "support/workload.rs"]
mod workload;

use ovs::Switch;

const FLOWS: usize = 100_000;
const ROUNDS: usize = 5;
/// Dumps of each kind from each switch.
const DUMPS: usize = 3;
/// The xid that ends a wait.
const LAST: u32 = 0x7fff_ffff;

fn main() {
    // cargo says so; `cargo test --all-targets` runs this program too and does not
    if !std::env::args().any(|arg| arg == "--bench") {
        return say("measures only under `cargo bench`");
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let flows = workload::flows(FLOWS);
    let mut encoded = BytesMut::new();
    for (flow, xid) in flows.iter().zip(2..) {
        Message::FlowMod(flow.clone()).encode(xid, &mut encoded).unwrap();
    }
    let text = tempfile::NamedTempFile::new().unwrap();
    let lines = flows.iter().map(|flow| text::flow_mod(flow, &Names::default()) + "\n");
    std::fs::write(text.path(), lines.collect::<String>()).unwrap();

    let mut installed = Table::new([
        "bytes encoded before, one barrier (baseline)",
        "encode, send, one barrier: Connection::batch",
        "encode and one bundle: Connection::bundle",
        "ovs-ofctl --bundle replace-flows FILE",
    ]);
    let mut dumped = Table::new([
        "bytes read, not looked at (baseline)",
        "to values, all at the end: dump_flows",
        "to values, part by part: stream_flows",
        "entries found, cookies read: stream_flow_entries",
    ]);
    for _ in 0..ROUNDS {
        let raw = on_fresh_switch(|switch| Raw::connect(switch).pipeline(&encoded));
        let batch = on_fresh_switch(|switch| {
            let took = connected(&runtime, switch, async |connection| {
                connection.batch(&flows).await.unwrap();
            });
            for _ in 0..DUMPS {
                dumped.round([
                    Raw::connect(switch).dump(),
                    connected(&runtime, switch, dump),
                    connected(&runtime, switch, stream),
                    connected(&runtime, switch, entries),
                ]);
            }
            took
        });
        let bundle = on_fresh_switch(|switch| {
            connected(&runtime, switch, async |connection| {
                connection.bundle(&flows).await.unwrap();
            })
        });
        let ofctl = on_fresh_switch(|switch| ofctl(switch, text.path()));
        installed.round([raw, batch, bundle, ofctl]);
    }
    installed.print(&format!(
        "Installing {FLOWS} 3-clause conjunctive flows, {ROUNDS} fresh switches each"
    ));
    dumped.print(&format!("Dump of {FLOWS} flows, {} times each", ROUNDS * DUMPS));
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn say(line: &str) {
    println!("{line}");
}

async fn dump(connection: Connection) -> Vec<FlowStats> {
    let flows = connection.dump_flows(FlowStatsRequest::default()).await.unwrap();
    assert_eq!(flows.len(), FLOWS);
    flows
}

async fn stream(connection: Connection) {
    let mut stream = connection.stream_flows(FlowStatsRequest::default()).await.unwrap();
    let mut flows = 0;
    while let Some(part) = stream.next().await {
        flows += part.unwrap().len();
    }
    assert_eq!(flows, FLOWS);
}

async fn entries(connection: Connection) {
    let request = FlowStatsRequest::default();
    let mut stream = connection.stream_flow_entries(request).await.unwrap();
    let (mut flows, mut cookies) = (0, 0);
    while let Some(part) = stream.next().await {
        for entry in part.unwrap() {
            flows += 1;
            cookies |= entry.unwrap().cookie();
        }
    }
    assert_eq!((flows, cookies >> 48), (FLOWS, 0x5745));
}

/// Sees that what was measured was also done.
fn on_fresh_switch(work: impl FnOnce(&Switch) -> Duration) -> Duration {
    let switch = Switch::start();
    let took = work(&switch);
    let mgmt = format!("unix:{}", switch.mgmt().display());
    let sum = ovs::must("ovs-ofctl", &["-O", "OpenFlow13", "dump-aggregate", &mgmt]);
    assert!(sum.contains(&format!("flow_count={FLOWS}")), "{sum}");
    took
}

/// The time that work over a connection takes. Connecting is not part of it, nor is what becomes of the result.
fn connected<T>(
    runtime: &Runtime,
    switch: &Switch,
    work: impl AsyncFnOnce(Connection) -> T,
) -> Duration {
    runtime.block_on(async {
        let target = Target::Unix(switch.mgmt());
        let (connection, driver, _events) = connect(&target, Options::default()).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(driver);
        let begun = Instant::now();
        let done = work(connection).await;
        let took = begun.elapsed();
        drop(done);
        tasks.shutdown().await;
        took
    })
}

/// The time of the whole process: reading the text is part of it.
fn ofctl(switch: &Switch, file: &std::path::Path) -> Duration {
    let begun = Instant::now();
    let status = Command::new("ovs-ofctl")
        .args(["-O", "OpenFlow13", "--timeout=120", "--bundle", "replace-flows"])
        .arg(format!("unix:{}", switch.mgmt().display()))
        .arg(file)
        .status()
        .unwrap();
    assert!(status.success());
    begun.elapsed()
}

/// The least an OpenFlow client can do.
struct Raw {
    stream: UnixStream,
    buffer: BytesMut,
}

impl Raw {
    fn connect(switch: &Switch) -> Self {
        let stream = UnixStream::connect(switch.mgmt()).unwrap();
        let mut raw = Self { stream, buffer: BytesMut::new() };
        let hello = encode(&Message::Hello(Hello::default()), 1);
        raw.stream.write_all(&hello).unwrap();
        raw.frame();
        raw
    }

    /// Sends bytes and a barrier while replies are read; the time until the barrier's reply.
    fn pipeline(&mut self, bytes: &[u8]) -> Duration {
        let barrier = encode(&Message::BarrierRequest, LAST);
        let mut writer = self.stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            let begun = Instant::now();
            let writing = scope.spawn(move || {
                writer.write_all(bytes).unwrap();
                writer.write_all(&barrier).unwrap();
            });
            while xid(&self.frame()) != LAST {}
            writing.join().unwrap();
            begun.elapsed()
        })
    }

    /// Asks for all flows and looks at nothing but where messages end, and which is the last.
    fn dump(&mut self) -> Duration {
        let request = MultipartRequest::Flow(FlowStatsRequest::default());
        let request = encode(&Message::MultipartRequest(request), LAST);
        let begun = Instant::now();
        self.stream.write_all(&request).unwrap();
        let mut parts = Vec::new();
        loop {
            let frame = self.frame();
            if xid(&frame) != LAST {
                continue;
            }
            let more = frame[11] & 1 == 1;
            parts.push(frame);
            if !more {
                return begun.elapsed();
            }
        }
    }

    fn frame(&mut self) -> Bytes {
        const CHUNK: usize = 128 << 10;
        loop {
            if let Some(head) = self.buffer.first_chunk() {
                let length = usize::from(Header::decode(*head).unwrap().length);
                if self.buffer.len() >= length {
                    return self.buffer.split_to(length).freeze();
                }
            }
            let had = self.buffer.len();
            self.buffer.resize(had + CHUNK, 0);
            let read = self.stream.read(&mut self.buffer[had..]).unwrap();
            assert_ne!(read, 0, "the switch hung up");
            self.buffer.truncate(had + read);
        }
    }
}

fn xid(frame: &Bytes) -> u32 {
    Header::decode(*frame.first_chunk().unwrap()).unwrap().xid
}

fn encode(message: &Message, xid: u32) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(xid, &mut out).unwrap();
    out.freeze()
}

/// Rows of times, the first of which is the baseline of the others.
struct Table<const N: usize> {
    names: [&'static str; N],
    rounds: Vec<[f64; N]>,
}

impl<const N: usize> Table<N> {
    const fn new(names: [&'static str; N]) -> Self {
        Self { names, rounds: Vec::new() }
    }

    fn round(&mut self, times: [Duration; N]) {
        self.rounds.push(times.map(|time| time.as_secs_f64()));
    }

    fn print(&self, title: &str) {
        say(&format!("\n{title}"));
        say(&format!(
            "{:<48} {:>9} {:>9} {:>9} {:>11} {:>6}",
            "", "median s", "lowest", "highest", "flows/s", "ratio"
        ));
        for (n, name) in self.names.iter().enumerate() {
            let times = sorted(self.rounds.iter().map(|round| round[n]));
            let ratios = sorted(self.rounds.iter().map(|round| round[0] / round[n]));
            let (low, high) = (times[0], times[times.len() - 1]);
            let median = times[times.len() / 2];
            let flows = FLOWS as f64 / median;
            let ratio = ratios[ratios.len() / 2];
            say(&format!(
                "{name:<48} {median:>9.3} {low:>9.3} {high:>9.3} {flows:>11.0} {ratio:>6.2}"
            ));
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
