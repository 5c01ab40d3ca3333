//! What streams cost a controller: memory of an idle one, the time until all have acknowledged a change, what a thousand agents
//! that come at once take, with and without a state of their own, and what some that do not read cost the others.
//!
//! `cargo bench -p weir-controller --bench fanout [-- STREAMS]`. The controller is the program as it is released, with
//! certificates and TLS; the agents are tasks of this process that read, decode and acknowledge, on the same cores.

#![expect(clippy::print_stdout, reason = "the result of a benchmark")]

mod agents;
mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use agents::{Holds, Manner, Told, Valve, follow};
use site::{PODS, Site};

/// Changes of a kind that are timed.
const CHANGES: usize = 20;
/// Changes of the policy's peers in a row while some agents do not read, and while all do; each is a long message.
const LONG: usize = 8;
/// Changes of its port after these: with them the queue of whoever does not read runs over.
const SHORT: usize = 80;
/// How often agents are stalled, and the controller is restarted.
const ROUNDS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let number = std::env::args().skip(1).find(|a| a != "--bench");
    let streams: usize = number.map_or(Ok(1000), |n| n.parse()).context("STREAMS is a number")?;
    ensure!(streams >= 10, "10 streams at least");
    weir_runtime::limits::raise_open_files();
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!(
        "fan-out: {streams} streams over TLS, {} pods, agents on the same cores",
        streams * PODS
    );
    runtime.block_on(async {
        let mut bench = Bench::new(streams)?;
        bench.connect().await?;
        bench.changes().await?;
        bench.stalls().await?;
        bench.restarts().await
    })
}

struct Bench {
    site: Site,
    streams: usize,
    /// The last ones, a tenth of all, have a valve.
    valve: Arc<Valve>,
    agents: JoinSet<Result<()>>,
    tell: mpsc::UnboundedSender<Told>,
    told: mpsc::UnboundedReceiver<Told>,
    changes: usize,
    /// Which pods are the peers.
    peers: usize,
}

impl Bench {
    fn new(streams: usize) -> Result<Self> {
        let (tell, told) = mpsc::unbounded_channel();
        let (valve, agents) = (Arc::default(), JoinSet::new());
        Ok(Self {
            site: Site::start(streams)?,
            streams,
            valve,
            agents,
            tell,
            told,
            changes: 0,
            peers: 0,
        })
    }

    fn others(&self) -> usize {
        self.streams - self.streams / 10
    }

    /// The next word of an agent. One that ends says why.
    async fn next(&mut self) -> Result<Told> {
        let next = async {
            tokio::select! {
                told = self.told.recv() => told.context("no agent is left"),
                Some(ended) = self.agents.join_next() => {
                    ended??;
                    anyhow::bail!("the stream of an agent ended")
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.context("nothing for a minute")?
    }

    /// Waits for one word of each of these agents; gives the bytes they took, and the time of the last of the first
    /// `timed`.
    async fn everyone(&mut self, nodes: usize, timed: usize, from: Instant) -> Result<Round> {
        let (mut seen, mut waiting) = (BTreeSet::new(), timed);
        let mut round = Round { took: Duration::ZERO, bytes: 0, revision: 0 };
        while seen.len() < nodes {
            let told = self.next().await?;
            ensure!(told.node < nodes && seen.insert(told.node), "node {} spoke twice", told.node);
            (round.bytes, round.revision) = (round.bytes + told.bytes, told.revision);
            if told.node < timed {
                waiting -= 1;
                if waiting == 0 {
                    round.took = from.elapsed();
                }
            }
        }
        Ok(round)
    }

    async fn connect(&mut self) -> Result<()> {
        let (others, streams, valve) = (self.others(), self.streams, Arc::clone(&self.valve));
        let manner = |node| {
            let valve = (node >= others).then(|| Arc::clone(&valve));
            (node, Manner { keeps: valve.is_some(), valve, ..Manner::default() })
        };
        // one stream before the count, so that what comes with the first is not counted
        follow(&self.site, [manner(0)], &self.tell, &mut self.agents)?;
        self.everyone(1, 1, Instant::now()).await?;
        self.site.controller.took(1)?;
        let before = self.site.controller.memory("VmRSS")?;
        let began = Instant::now();
        follow(&self.site, (1..streams).map(manner), &self.tell, &mut self.agents)?;
        for _ in 1..streams {
            self.next().await?;
        }
        let connected = began.elapsed();
        self.site.controller.took(streams as u64)?;
        let idle = self.site.controller.memory("VmRSS")?.saturating_sub(before);
        println!("  all connected, each with its snapshot, after {:.2} s", connected.as_secs_f64());
        println!(
            "  an idle stream takes {:.1} KB of the controller",
            idle as f64 / (streams as f64 - 1.0) / 1e3
        );
        Ok(())
    }

    /// The same policy with another port: one small message for everyone.
    async fn port(&mut self, nodes: usize) -> Result<Round> {
        self.changes += 1;
        let began = Instant::now();
        self.site.policy(self.peers, 1000 + self.changes)?;
        self.everyone(nodes, self.others().min(nodes), began).await
    }

    /// The same policy with other peers, of which everyone has to be told.
    async fn peers(&mut self, nodes: usize) -> Result<Round> {
        (self.changes, self.peers) = (self.changes + 1, self.peers + 1);
        let began = Instant::now();
        self.site.policy(self.peers, 1000 + self.changes)?;
        self.everyone(nodes, self.others().min(nodes), began).await
    }

    async fn changes(&mut self) -> Result<()> {
        let all = self.streams;
        // a controller whose buffers have grown to what they have to be
        self.port(all).await?;
        let mut rounds = Vec::new();
        for _ in 0..CHANGES {
            rounds.push(self.port(all).await?);
        }
        print("a policy file with another port written -> all have acknowledged", &rounds);
        rounds.clear();
        for number in 0..CHANGES {
            let began = Instant::now();
            self.site.pod(number)?;
            rounds.push(self.everyone(all, all, began).await?);
        }
        print("a pod that is everyone's peer added -> all have acknowledged", &rounds);
        let bytes = rounds.iter().map(|round| round.bytes).max().unwrap_or_default();
        println!("    {} bytes a stream, {bytes} in all", bytes / all);
        rounds.clear();
        for _ in 0..CHANGES {
            rounds.push(self.peers(all).await?);
        }
        print("a policy file with other peers written -> all have acknowledged", &rounds);
        let peak = self.site.controller.memory("VmHWM")?;
        println!("  the controller takes {:.0} MB at its peak", peak as f64 / 1e6);
        Ok(())
    }

    /// A tenth of the agents does not read, and then reads again.
    async fn stalls(&mut self) -> Result<()> {
        let (all, others) = (self.streams, self.others());
        let mut times: BTreeMap<(&str, bool), Vec<Round>> = BTreeMap::new();
        let (mut snapshots, mut grown, mut caught_up) = (0, 0, Duration::ZERO);
        let mut right = BTreeMap::new();
        for _ in 0..ROUNDS {
            let mut before = 0;
            for stalled in [false, true] {
                let nodes = if stalled { others } else { all };
                if stalled {
                    before = self.site.controller.memory("VmRSS")?;
                    self.valve.shut();
                }
                for _ in 0..LONG {
                    let round = self.peers(nodes).await?;
                    times.entry(("peers", stalled)).or_default().push(round);
                }
                for _ in 0..SHORT {
                    let round = self.port(nodes).await?;
                    times.entry(("port", stalled)).or_default().push(round);
                }
            }
            let after = self.site.controller.memory("VmRSS")?;
            grown = after.saturating_sub(before).max(grown);
            let last = times[&("port", true)].last().context("a round")?.revision;
            let began = Instant::now();
            self.valve.check(true);
            self.valve.open();
            let mut states = BTreeMap::new();
            while states.len() < all - others {
                let told = self.next().await?;
                snapshots += usize::from(told.snapshot);
                if told.revision == last {
                    states.insert(told.node, told.digest);
                }
            }
            caught_up = began.elapsed().max(caught_up);
            self.valve.check(false);
            right = states;
        }
        let stalled = all - others;
        println!(
            "  {stalled} of {all} do not read their sockets, {ROUNDS} times; the others acknowledge"
        );
        for (what, long) in
            [("peers", "a policy with other peers"), ("port", "one with another port")]
        {
            for (is, word) in [(false, "all read"), (true, "they do not")] {
                print(&format!("  {long}, {word}"), &times[&(what, is)]);
            }
        }
        println!(
            "    resident memory grew by {:.1} MB; reading again, all were right after {:.0} ms with {snapshots} snapshots",
            grown as f64 / 1e6,
            caught_up.as_secs_f64() * 1e3,
        );
        // what these agents hold is what new streams are told
        self.leave().await;
        let manner = |node| (node, Manner { keeps: true, ..Manner::default() });
        follow(&self.site, (others..all).map(manner), &self.tell, &mut self.agents)?;
        for _ in others..all {
            let told = self.next().await?;
            ensure!(right.remove(&told.node) == Some(told.digest), "node {} is wrong", told.node);
        }
        self.leave().await;
        Ok(())
    }

    /// All agents go.
    async fn leave(&mut self) {
        self.agents.shutdown().await;
        while self.told.try_recv().is_ok() {}
    }

    /// All agents come to a new controller: first without anything, then each with the state that it has.
    async fn restarts(&mut self) -> Result<()> {
        let mut rows: BTreeMap<bool, Vec<(Duration, f64, usize, usize)>> = BTreeMap::new();
        let mut held: Vec<Option<Holds>> = vec![None; self.streams];
        // the first time is for the agents to make up what they tell later, which takes this side's time
        for round in 0..1 + 2 * ROUNDS {
            let (first, again) = (round == 0, round > 0 && round % 2 == 0);
            self.site.restart()?;
            let questions: usize = match again {
                true => held.iter().flatten().map(|h| h.holdings.digests.len()).sum(),
                false => 0,
            };
            let manner = |node: usize| {
                let holds = held[node].clone().filter(|_| again);
                (node, Manner { hashes: first, holds, ..Manner::default() })
            };
            let nodes: Vec<_> = (0..self.streams).map(manner).collect();
            let began = Instant::now();
            follow(&self.site, nodes, &self.tell, &mut self.agents)?;
            let mut bytes = 0;
            for _ in 0..self.streams {
                let told = self.next().await?;
                bytes += told.bytes;
                if told.holds.is_some() {
                    held[told.node] = told.holds;
                }
            }
            if !first {
                let took = began.elapsed();
                self.site.controller.took(self.streams as u64)?;
                let processor = self.site.controller.processor()?;
                rows.entry(again).or_default().push((took, processor, bytes, questions));
            }
            if again {
                let partial =
                    self.site.controller.metric("weir_controller_snapshots_partial_total")?;
                ensure!(partial == self.streams as u64, "{partial} were told what differs");
            }
            self.leave().await;
        }
        println!("  all come to a controller that has just started, {ROUNDS} times each:");
        for (again, word) in
            [(false, "with nothing"), (true, "each with its state, of which nothing has changed")]
        {
            let rounds = &rows[&again];
            let least = rounds.iter().map(|r| r.0).min().unwrap_or_default();
            let processor = rounds.iter().map(|r| r.1).fold(f64::INFINITY, f64::min);
            let (_, _, bytes, questions) = rounds[rounds.len() - 1];
            println!(
                "    {word}: {:.2} s, {processor:.2} s of the controller's processor, {:.3} MB told, {:.3} MB asked",
                least.as_secs_f64(),
                bytes as f64 / 1e6,
                questions as f64 / 1e6,
            );
        }
        Ok(())
    }
}

/// A change that everyone acknowledged.
#[derive(Clone, Copy, Debug)]
struct Round {
    took: Duration,
    /// In all.
    bytes: usize,
    revision: u64,
}

fn print(what: &str, rounds: &[Round]) {
    let mut times: Vec<Duration> = rounds.iter().map(|round| round.took).collect();
    times.sort_unstable();
    println!(
        "  {what}: {:.0} ms (p50), {:.0} ms (worst of {})",
        times[times.len() / 2].as_secs_f64() * 1e3,
        times[times.len() - 1].as_secs_f64() * 1e3,
        times.len(),
    );
}
