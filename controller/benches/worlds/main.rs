//! What the controller's index costs in worlds of 10,000 and 100,000 pods on 1,000 nodes: from the first event to every
//! node's state encoded, and single events after that.
//!
//! `make bench-controller` prints a row for each world; `docs/benchmarks.md` says what a row means. Each world has a
//! process of its own, so that its peak memory is its own.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the result of a benchmark")]

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;
use weir_api::convert::frame_lengths;
use weir_controller::Allocator;
use weir_controller::event::Event;
use weir_controller::index::{Index, Output};

mod shape;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

use shape::{NODES, SHAPES, Shape};

/// Events that a source would hand over together while it reads everything.
const BATCH: usize = 64;

/// Single events of each kind, at most.
const SINGLES: usize = 2_000;

/// After this no more of them begin: where one policy reaches 10,000 pods, each takes its time.
const SINGLES_TIME: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match &args[..] {
        [flag, name, more @ ..] if flag == "--world" => {
            match SHAPES.iter().find(|s| s.name == name) {
                Some(shape) => {
                    let mut index = world(shape);
                    if more.is_empty() {
                        singles(shape, &mut index);
                    }
                    ExitCode::SUCCESS
                }
                None => {
                    eprintln!("no world of the name {name:?}");
                    ExitCode::from(2)
                }
            }
        }
        _ => all(&args),
    }
}

/// Every world (those whose names contain one of the words), each in a process of its own.
fn all(words: &[String]) -> ExitCode {
    println!("index: from the first event to every node's state encoded, {NODES} nodes");
    println!(
        "{:<18} {:>8} {:>8} {:>8} {:>7}   {:>17} {:>16}   {:>8} {:>9}",
        "world", "objects", "seconds", "encoding", "peak", "at most", "Antrea", "pieces", "encoded"
    );
    let mut ok = true;
    let wanted = |s: &&Shape| words.is_empty() || words.iter().any(|w| s.name.contains(w.as_str()));
    for shape in SHAPES.iter().filter(wanted) {
        let program = std::env::current_exe().expect("this program has a path");
        let status = Command::new(program).args(["--world", shape.name]).status();
        ok &= status.is_ok_and(|s| s.success());
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn world(shape: &Shape) -> Index {
    let mut index = Index::new();
    let mut events = shape.events();
    let mut objects = 0;
    let mut spent = Duration::ZERO;
    loop {
        // making the objects is not the controller's work
        let batch: Vec<Event> = events.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        objects += batch.len();
        let start = Instant::now();
        index.apply(batch);
        spent += start.elapsed();
    }
    drop(events);
    let computed = spent;
    let start = Instant::now();
    index.apply([Event::Synced]);
    let numbers: Vec<u32> = (0..NODES).map(|n| index.node_number(&shape::node(n))).collect();
    // all at once, as when every agent connects
    let snapshots: Vec<_> = numbers.iter().map(|n| index.snapshot(*n)).collect();
    spent += start.elapsed();
    let pieces: usize = snapshots.iter().map(Vec::len).sum();
    let bytes: usize = snapshots.iter().flatten().map(Bytes::len).sum();
    println!(
        "{:<18} {objects:>8} {:>6.3} s {:>6.3} s {:>4} MB   {:>5.2} s {:>6} MB {:>6.1} s {:>5} MB   {pieces:>8} {:>6} MB",
        shape.name,
        spent.as_secs_f64(),
        (spent - computed).as_secs_f64(),
        peak_mb(),
        shape.target.0,
        shape.target.1,
        shape.antrea.0,
        shape.antrea.1,
        bytes / 1_000_000,
    );
    drop(snapshots);
    index
}

/// Single events, each with its deltas encoded.
fn singles(shape: &Shape, index: &mut Index) {
    let mut kinds: Vec<(&str, Vec<Duration>, Count)> = Vec::new();
    let begin = Instant::now();
    for n in (0..SINGLES).take_while(|_| begin.elapsed() < SINGLES_TIME) {
        for (at, (name, event)) in shape.singles(n).into_iter().enumerate() {
            if kinds.len() <= at {
                kinds.push((name, Vec::new(), Count::default()));
            }
            let (_, times, count) = &mut kinds[at];
            let start = Instant::now();
            let output = index.apply([event]);
            let encoded = encode(&output);
            times.push(start.elapsed());
            count.add(encoded);
        }
    }
    for (name, mut times, count) in kinds {
        times.sort();
        let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
        println!(
            "    {name:<18} p50 {:>7.1} us  p99 {:>7.1} us   {:>6.1} changes to {:>7.1} nodes, {:>7.1} B",
            at(50),
            at(99),
            count.per(times.len(), count.changes),
            count.per(times.len(), count.nodes),
            count.per(times.len(), count.bytes),
        );
    }
}

/// What the single events of one kind sent.
#[derive(Default)]
struct Count {
    changes: usize,
    /// Changes times the nodes that they go to.
    nodes: usize,
    bytes: usize,
}

impl Count {
    fn add(&mut self, encoded: Vec<(usize, SmallVec<[Bytes; 1]>)>) {
        for (nodes, pieces) in encoded {
            self.bytes += pieces.iter().map(Bytes::len).sum::<usize>();
            let changes = pieces.iter().flat_map(|piece| frame_lengths(piece)).count();
            self.changes += changes;
            self.nodes += changes * nodes;
        }
    }

    #[expect(clippy::unused_self, clippy::cast_precision_loss, reason = "figures for people")]
    fn per(&self, events: usize, what: usize) -> f64 {
        what as f64 / events as f64
    }
}

/// To how many nodes, and what.
fn encode(output: &Output) -> Vec<(usize, SmallVec<[Bytes; 1]>)> {
    output.deliveries.iter().map(|d| (d.nodes.len() as usize, d.news.to_frames())).collect()
}

/// The most memory this process ever had. Units: MB of 1,000,000 bytes.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024 / 1_000_000
}
