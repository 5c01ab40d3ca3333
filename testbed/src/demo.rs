//! The demonstration: a scenario played from start to end, with what is expected beside what is seen.

mod report;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::bed::Layout;
use crate::error::{Error, Result};
use crate::fleet::{Fleet, IN_FORCE, Setup};
use crate::host::NODE;
use crate::matrix::{self, Cell, Observed, Verdicts};
use crate::ovs::BRIDGE;
use crate::scenario::{Change, Path, Scenario};
use crate::{home, out};

pub use report::Report;

/// Nodes of the demonstration.
const NODES: u8 = 3;
/// Each change is made and taken back so often.
const ROUNDS: usize = 12;
/// A live connection that is silent for so long has been cut.
const QUIET: Duration = Duration::from_millis(400);

/// What to play.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the testbed.
    pub name: String,
    pub scenario: String,
    /// Where the figures go.
    pub report: Option<PathBuf>,
}

/// Probes, and those that were as the policies say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub probes: usize,
    pub right: usize,
}

impl Tally {
    /// Every one was right, and there were some.
    pub const fn is_full(&self) -> bool {
        self.probes > 0 && self.probes == self.right
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "demo: {} of {} probes as the policies say", self.right, self.probes)
    }
}

/// Starts a fleet with everything of a scenario, and waits until its policies are in force.
pub fn start(name: &str, scenario: &Scenario) -> Result<Fleet> {
    let layout = Layout {
        nodes: NODES,
        outside: scenario.outside(),
        node_services: scenario.nodes_serve.clone(),
    };
    let begun = Instant::now();
    let mut fleet = Fleet::up(name, &Setup { layout, ..Setup::default() })?;
    out::line(&format!(
        "  {NODES} nodes with Open vSwitch and agent, one controller   {}",
        out::millis(begun.elapsed())
    ));
    let begun = Instant::now();
    // policies before pods: a new pod is isolated from its first packet on
    scenario.manifests.iter().try_for_each(|text| fleet.apply(text))?;
    fleet.add(&scenario.pods)?;
    out::line(&format!(
        "  {} pods, {} hosts outside                               {}",
        scenario.pods.len(),
        scenario.outside().len(),
        out::millis(begun.elapsed())
    ));
    Ok(fleet)
}

/// A played demonstration, still running.
pub struct Played {
    fleet: Fleet,
    tally: Tally,
}

impl Played {
    /// How it went.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Leaves it running.
    pub fn leave_up(self) -> home::Home {
        self.fleet.leave_up()
    }

    /// Ends it.
    pub fn down(self) -> Result<()> {
        self.fleet.down()
    }
}

/// Plays a scenario. Differences are printed and counted, they are no error.
pub fn play(options: &Options) -> Result<Played> {
    let scenario = Scenario::read(&options.scenario)?;
    out::line(&format!("\n{}\n", scenario.title));
    out::line(scenario.about.trim_end());
    let mut player = Player::start(&options.name, &scenario)?;
    player.matrix()?;
    player.paths(&scenario)?;
    player.changes(&scenario)?;
    player.live(&scenario)?;
    player.explain(&scenario)?;
    player.finish(options)
}

struct Player {
    fleet: Fleet,
    tally: Tally,
    pods: usize,
    /// From writing a change to the first packet with the right verdict.
    delays: Vec<Duration>,
}

impl Player {
    fn start(name: &str, scenario: &Scenario) -> Result<Self> {
        title("Start");
        let fleet = start(name, scenario)?;
        Ok(Self { fleet, tally: Tally::default(), pods: scenario.pods.len(), delays: Vec::new() })
    }

    /// Counts what was seen, and names each difference.
    fn count(&mut self, seen: &Observed) {
        self.tally.probes += seen.outcomes.len();
        self.tally.right += seen.outcomes.len() - seen.wrong.len();
        for difference in seen.differences() {
            out::line(&format!("  DIFFERENT  {difference}"));
        }
    }

    /// One thing that was tried beside the matrix.
    fn count_one(&mut self, right: bool) {
        self.tally.probes += 1;
        self.tally.right += usize::from(right);
    }

    fn settle(&mut self) -> Result<(Verdicts, Observed)> {
        let expected = self.fleet.expected()?;
        let seen = self.fleet.bed().settle(&expected, IN_FORCE)?;
        self.count(&seen);
        Ok((expected, seen))
    }

    fn matrix(&mut self) -> Result<()> {
        title("Who reaches whom: what the policies say, and what real connections see");
        let (expected, seen) = self.settle()?;
        // nodes answer their own pods and are left out to keep the table narrow
        let shown = |verdicts: &Verdicts| -> Verdicts {
            let node = format!("{NODE}/");
            verdicts
                .iter()
                .filter(|(c, _)| !c.from.starts_with(&node) && !c.to.starts_with(&node))
                .map(|(c, open)| (c.clone(), *open))
                .collect()
        };
        out::line(&matrix::render(
            ("EXPECTED", &shown(&expected)),
            Some(("OBSERVED", &shown(&seen.verdicts()))),
        ));
        let open = expected.values().filter(|open| **open).count();
        out::line(&format!(
            "  {} connections over IPv4 and IPv6, nodes included: {open} open, {} closed; settled after {}",
            expected.len(),
            expected.len() - open,
            out::millis(seen.converged),
        ));
        Ok(())
    }

    fn paths(&mut self, scenario: &Scenario) -> Result<()> {
        for (heading, paths, open) in [
            ("Paths that must exist", &scenario.always, true),
            ("Paths that must not exist", &scenario.never, false),
        ] {
            title(heading);
            let mut expected = Verdicts::new();
            for path in paths {
                expected.extend(cells(path).map(|cell| (cell, open)));
            }
            let seen = self.fleet.bed().settle(&expected, IN_FORCE)?;
            for path in paths {
                let right = cells(path).all(|c| !seen.wrong.contains_key(&c));
                let verdict = match (right, open) {
                    (true, true) => "open",
                    (true, false) => "closed",
                    (false, true) => "CLOSED",
                    (false, false) => "OPEN",
                };
                out::line(&format!("  {verdict:<7} {:<52} {}", path.to_string(), path.why));
            }
            self.count(&seen);
        }
        Ok(())
    }

    fn changes(&mut self, scenario: &Scenario) -> Result<()> {
        if scenario.changes.is_empty() {
            return Ok(());
        }
        title(
            "Changes taking effect, from writing the manifest to the first connection with the right verdict",
        );
        for change in &scenario.changes {
            out::line(&format!("  {}", change.title));
            self.change(change)?;
        }
        Ok(())
    }

    /// Makes a change and takes it back, again and again, and measures each time.
    fn change(&mut self, change: &Change) -> Result<()> {
        let path = &change.path;
        let mut delays: BTreeMap<bool, Vec<Duration>> = BTreeMap::new();
        let undo = Undo::of(&self.fleet, change)?;
        for round in 0..ROUNDS {
            for step in [Step::Do, Step::Undo] {
                let since = Instant::now();
                match step {
                    Step::Do => make(&mut self.fleet, change)?,
                    Step::Undo => undo.run(&mut self.fleet)?,
                }
                let open = self.says(path)?;
                match self.fleet.takes_effect(&path.from, &path.to, path.port, open, since) {
                    Ok(delay) => {
                        self.count_one(true);
                        delays.entry(open).or_default().push(delay);
                    }
                    Err(e @ Error::Late { .. }) => {
                        self.count_one(false);
                        out::line(&format!("  DIFFERENT  {e}"));
                    }
                    Err(e) => return Err(e),
                }
                // everything else is as it should be, too
                if round == 0 {
                    self.settle()?;
                }
            }
        }
        for (open, mut delays) in delays {
            delays.sort();
            let what = if open { "opens" } else { "closes" };
            out::line(&format!(
                "    {path} {what} after {} (p50), {} (p99), {} times",
                out::millis(report::quantile(&delays, 50)),
                out::millis(report::quantile(&delays, 99)),
                delays.len()
            ));
            self.delays.extend(delays);
        }
        Ok(())
    }

    /// What the policies say of a path now.
    fn says(&self, path: &Path) -> Result<bool> {
        let cells: Vec<Cell> = cells(path).take(1).collect();
        let verdicts = matrix::expected(self.fleet.bed(), &self.fleet.world(), &cells)?;
        Ok(verdicts.values().all(|open| *open))
    }

    fn live(&mut self, scenario: &Scenario) -> Result<()> {
        let Some(live) = &scenario.live else {
            return Ok(());
        };
        title("A live connection when its policy goes");
        let open = |path: &Path| self.fleet.stream(&path.from, &path.to, path.port);
        let (cut, other) = (open(&live.cut)?, open(&live.undisturbed)?);
        for stream in [&cut, &other] {
            stream.moves(IN_FORCE)?;
        }
        let (namespace, name) = live.delete.split_once('/').unwrap_or(("default", &live.delete));
        let text = self.fleet.manifests().existing("NetworkPolicy", namespace, name)?.text.clone();
        let since = Instant::now();
        self.fleet.delete_policy(&live.delete)?;
        match cut.is_cut(QUIET, IN_FORCE) {
            Ok(last) => {
                self.count_one(true);
                out::line(&format!(
                    "  {} is cut in both directions {} after {} was deleted",
                    live.cut,
                    out::millis(last.saturating_duration_since(since)),
                    live.delete,
                ));
            }
            Err(e) => {
                self.count_one(false);
                out::line(&format!("  DIFFERENT  {}: {e}", live.cut));
            }
        }
        let went_on = other.moves(IN_FORCE);
        let counts = other.finish();
        let lost = counts.there.lost() + counts.back.lost();
        let silence = counts.there.longest_silence.max(counts.back.longest_silence);
        let right = went_on.is_ok() && lost == 0;
        self.count_one(right);
        out::line(&format!(
            "  {}{} goes on: {} records there, {} back, {lost} lost, longest silence {}",
            if right { "" } else { "DIFFERENT  " },
            live.undisturbed,
            counts.there.received,
            counts.back.received,
            out::millis(silence),
        ));
        drop(cut);
        self.fleet.apply(&text)?;
        self.settle()?;
        Ok(())
    }

    /// What an engineer sees who asks why, and who looks into the switch.
    fn explain(&self, scenario: &Scenario) -> Result<()> {
        if let Some(path) = scenario.never.first() {
            title(&format!("Why not? weirctl why {} {}:{}", path.from, path.to, path.port));
            self.show(&["why", &path.from, &format!("{}:{}", path.to, path.port)], 16)?;
        }
        if let (Some(pod), Some(live)) = (&scenario.flows_of, &scenario.live) {
            let node = self.fleet.bed().host(pod)?.node().unwrap_or_default();
            title(&format!("In the switch: weirctl flows --policy {} --node {node}", live.delete));
            self.show(&["flows", "--policy", &live.delete, "--node", node], 12)?;
        }
        Ok(())
    }

    /// The first lines of what `weirctl` answers.
    fn show(&self, args: &[&str], lines: usize) -> Result<()> {
        match self.fleet.weirctl(args) {
            Ok(text) => {
                for line in text.lines().take(lines) {
                    out::line(&format!("  {line}"));
                }
                let more = text.lines().count().saturating_sub(lines);
                if more > 0 {
                    out::line(&format!("  ... {more} lines more"));
                }
                Ok(())
            }
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(e) => {
                out::warn(&e.to_string());
                Ok(())
            }
        }
    }

    fn finish(self, options: &Options) -> Result<Played> {
        let report = Report::of(&self.fleet, self.pods, self.tally, self.delays)?;
        if let Some(file) = &options.report {
            report.write(file)?;
        }
        title("Where to look next");
        out::line(&format!("  flows on the nodes: {}", report.flows_text()));
        out::line(
            "  README.md for the commands, docs/pipeline.md to follow a packet through the tables by hand,",
        );
        out::line("  testbed/scenarios/ for these policies.");
        Ok(Played { fleet: self.fleet, tally: self.tally })
    }
}

#[derive(Clone, Copy)]
enum Step {
    Do,
    Undo,
}

fn make(fleet: &mut Fleet, change: &Change) -> Result<()> {
    if let Some(label) = &change.label {
        let (namespace, name) = label.pod.split_once('/').unwrap_or(("default", &label.pod));
        let mut labels = labels_of(fleet, namespace, name)?;
        labels.extend(label.add.clone());
        fleet.manifests_mut().label("Pod", namespace, name, &labels)?;
    }
    if let Some(policy) = &change.delete {
        fleet.delete_policy(policy)?;
    }
    Ok(())
}

fn labels_of(fleet: &Fleet, namespace: &str, name: &str) -> Result<BTreeMap<String, String>> {
    let manifest = fleet.manifests().existing("Pod", namespace, name)?;
    Ok(manifest
        .object
        .get("metadata")
        .and_then(|m| serde_json::from_value(m.get("labels")?.clone()).ok())
        .unwrap_or_default())
}

/// What a change replaces or removes, word for word.
struct Undo {
    texts: Vec<String>,
}

impl Undo {
    fn of(fleet: &Fleet, change: &Change) -> Result<Self> {
        let pod = change.label.as_ref().map(|l| ("Pod", &l.pod));
        let policy = change.delete.as_ref().map(|p| ("NetworkPolicy", p));
        let texts = pod
            .into_iter()
            .chain(policy)
            .map(|(kind, name)| {
                let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
                fleet.manifests().existing(kind, namespace, name).map(|m| m.text.clone())
            })
            .collect::<Result<_>>()?;
        Ok(Self { texts })
    }

    fn run(&self, fleet: &mut Fleet) -> Result<()> {
        self.texts.iter().try_for_each(|text| fleet.apply(text))
    }
}

fn cells(path: &Path) -> impl Iterator<Item = Cell> {
    [false, true].into_iter().map(|v6| Cell {
        from: path.from.clone(),
        to: path.to.clone(),
        service: path.port,
        v6,
    })
}

fn title(text: &str) {
    out::line(&format!("\n{text}"));
}

/// For whoever keeps the testbed running.
pub fn say_what_to_try(played: &Played) {
    let bed = played.fleet.bed();
    let (name, dir) = (bed.name(), bed.dir().display());
    let program = std::env::current_exe()
        .map_or_else(|_| "weir-testbed".to_owned(), |p| p.display().to_string());
    title("It keeps running. Try:");
    let pod = bed.hosts().iter().find(|(_, h)| h.node().is_some()).map_or("", |(n, _)| n);
    for (command, what) in [
        (format!("{program} status"), "nodes, pods, addresses, ports"),
        (
            format!("{program} exec --name {name} {pod} -- curl -sm1 http://ADDRESS:PORT"),
            "a connection from a pod; the server answers with its name",
        ),
        (
            format!(
                "{program} exec --name {name} node/n1 -- ovs-ofctl -O OpenFlow13 --names dump-flows {BRIDGE}"
            ),
            "the flows of a node",
        ),
        (format!("{program} ctl --name {name} -- status"), "weirctl on this controller"),
        (format!("$EDITOR {dir}/manifests/"), "policies and labels; saving a file is enough"),
        (
            format!("less {dir}/weir-controller.log"),
            "what the controller does; the agents log beside it",
        ),
        (format!("{program} down --name {name}"), "ends it"),
    ] {
        out::line(&format!("  {command}\n      {what}"));
    }
}
