//! How many items a second go through one process of `rust-openflow`: 100,000 lines on standard input, and answers waited
//! for one by one, as by a program that has it as a co-process.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use bytes::BytesMut;
use rust_openflow::Message;
use rust_openflow::text::{self, Names};

#[path = "support/workload.rs"]
mod workload;

const ITEMS: usize = 100_000;
const ROUNDS: usize = 5;
/// Items whose answers are waited for one by one.
const ONE_BY_ONE: usize = 20_000;

fn main() {
    // cargo says so; `cargo test --all-targets` runs this program too and does not
    if !std::env::args().any(|arg| arg == "--bench") {
        return say("measures only under `cargo bench`");
    }
    let flows = workload::flows(ITEMS);
    let line = |flow| text::flow_mod(flow, &Names::default()) + "\n";
    let texts: Vec<String> = flows.iter().map(line).collect();
    let hex = |flow: &rust_openflow::FlowMod| {
        let mut out = BytesMut::new();
        Message::FlowMod(flow.clone()).encode(1, &mut out).unwrap();
        out.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n"
    };
    let hexes: Vec<String> = flows.iter().map(hex).collect();
    say(&format!("\n{:<12} {:>16} {:>16}", "items/s", "all at once", "one by one"));
    for (verb, items) in [("print", &hexes), ("reencode", &hexes), ("encode", &texts)] {
        let at_once = median(|| all_at_once(verb, items));
        let one_by_one = median(|| one_by_one(verb, &items[..ONE_BY_ONE]));
        say(&format!("{verb:<12} {at_once:>16.0} {one_by_one:>16.0}"));
    }
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn say(line: &str) {
    println!("{line}");
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut seen: Vec<f64> = (0..ROUNDS).map(|_| measure()).collect();
    seen.sort_by(f64::total_cmp);
    seen[ROUNDS / 2]
}

fn start(verb: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_rust-openflow"))
        .args([verb, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Items a second, the start of the process included.
fn all_at_once(verb: &str, items: &[String]) -> f64 {
    let input = items.concat();
    let begun = Instant::now();
    let mut child = start(verb);
    let mut stdin = child.stdin.take().unwrap();
    let answers = BufReader::new(child.stdout.take().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        let good = answers.lines().filter(|line| !line.as_ref().unwrap().starts_with("error"));
        assert_eq!(good.count(), items.len());
    });
    assert!(child.wait().unwrap().success());
    items.len() as f64 / begun.elapsed().as_secs_f64()
}

fn one_by_one(verb: &str, items: &[String]) -> f64 {
    let mut child = start(verb);
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    let mut answer = String::new();
    let begun = Instant::now();
    for item in items {
        stdin.write_all(item.as_bytes()).unwrap();
        answer.clear();
        answers.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty() && !answer.starts_with("error"), "{item}: {answer}");
    }
    let took = begun.elapsed();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    items.len() as f64 / took.as_secs_f64()
}
