//! Old and new programs side by side, on a cluster with real switches.
//!
//! Two controllers and two agents begin as an earlier version and become, one after another, the one that lies beside this
//! program; in between everyone meets everyone, agents move from controller to controller, and policies change. A monitor
//! at each switch tells of every flow that is added, changed or deleted, also of one that is replaced by its like: while
//! nothing is asked for there must be none. Counters and ages of flows go on, a connection that is allowed loses nothing,
//! and one that is not never comes about.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::cluster::shop;
use crate::cluster::weir::{Setup, Weir};
use crate::daemon::{Daemon, Recipe};
use crate::error::{During, Error, Result};
use crate::fleet::{IN_FORCE, Programs};
use crate::matrix::Observed;
use crate::ovs::{BRIDGE, Ovs};
use crate::probe::watch::SHUT;
use crate::probe::{Stream, Watch};
use crate::{out, tcp, udp, wait};

/// The nodes.
const NODES: [&str; 2] = ["n1", "n2"];
/// A table that Weir does not use, for flows that say how far a monitor has told.
const MARK_TABLE: u8 = 250;

/// Allows what the shop's own policy denies.
const ANOTHER: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-from-other, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: other}}}]
    ports: [{port: 5432}]
";

/// What to play.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the testbed.
    pub name: String,
    /// The earlier version.
    pub old: Programs,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Restarts and moves during which no flow changed.
    pub quiet: usize,
    /// Changes of policy that were seen by both versions.
    pub changes: usize,
    /// Records of the allowed connection that came through; none was lost.
    pub records: u64,
}

/// Plays it.
///
/// Errors: [`Error::Flows`] where flows changed that nobody asked to change, [`Error::Differs`] and [`Error::Late`] where
/// verdicts are not those of the policies; those of the testbed.
pub fn play(options: &Options) -> Result<Tally> {
    let new = Programs::find()?;
    let setup = Setup { programs: Some(options.old.clone()), ..Setup::new(2, 2) };
    let mut weir = Weir::up(&options.name, &setup)?;
    shop::open(&mut weir)?;
    let mut monitors = Vec::new();
    for node in NODES {
        monitors.push(Monitor::start(&weir, node)?);
    }
    let mut player = Player {
        tally: Tally::default(),
        stream: weir.stream("shop/web", "shop/db", udp(5432))?,
        forbidden: Some(weir.watch("shop/other", "shop/db", tcp(5432), SHUT)?),
        weir,
        monitors,
    };
    player.play(options, &new)?;
    player.finish()
}

struct Player {
    // what watches ends before what it watches
    stream: Stream,
    forbidden: Option<Watch>,
    monitors: Vec<Monitor>,
    weir: Weir,
    tally: Tally,
}

impl Player {
    fn play(&mut self, options: &Options, new: &Programs) -> Result<()> {
        out::line("all old");
        self.quiet("agents move from old to old", |p| p.all_follow(0).and_then(|()| p.both()))?;
        self.changes("both controllers old")?;

        self.quiet("controller 1 becomes new", |p| p.becomes(1, new))?;
        self.quiet("old agents move to the new controller", |p| p.all_follow(1))?;
        self.quiet("old agents stay when the old one is there again", Self::both)?;
        self.changes("old and new controller side by side, old agents")?;
        self.quiet("old agents move back to the old controller", |p| {
            p.all_follow(0).and_then(|()| p.both())
        })?;

        self.quiet("agent n1 becomes new", |p| p.agent_becomes("n1", new))?;
        for (controller, what) in [(1, "new"), (0, "old"), (1, "new")] {
            let title = format!("a new and an old agent move to the {what} controller");
            self.quiet(&title, |p| p.all_follow(controller))?;
            self.changes(&format!("a new and an old agent at the {what} controller alone"))?;
            self.quiet("the other controller is there again", Self::both)?;
        }
        self.quiet("a new agent restarts among old and new", |p| p.agent_becomes("n1", new))?;

        self.quiet("agent n2 becomes new", |p| p.agent_becomes("n2", new))?;
        self.quiet("new agents move to the old controller", |p| p.all_follow(0))?;
        self.changes("new agents at the old controller alone")?;
        self.quiet("the new controller is there again", Self::both)?;
        self.quiet("controller 0 becomes new", |p| p.becomes(0, new))?;
        self.changes("all new")?;

        // and back: whoever finds fault with the new version
        self.quiet("controller 1 becomes old again", |p| p.becomes(1, &options.old))?;
        self.quiet("new agents move to it", |p| p.all_follow(1).and_then(|()| p.both()))?;
        self.quiet("agent n2 becomes old again", |p| p.agent_becomes("n2", &options.old))?;
        self.changes("some of it old again")?;
        self.quiet("agent n2 becomes new", |p| p.agent_becomes("n2", new))?;
        self.quiet("controller 1 becomes new", |p| p.becomes(1, new))?;
        self.changes("all new again")
    }

    /// Does something that must change no flow.
    fn quiet(&mut self, what: &str, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let before = self.flows()?;
        self.events()?;
        step(self)?;
        self.weir.check()?;
        self.stream.moves(IN_FORCE)?;
        let told = self.events()?;
        let after = self.flows()?;
        for (node, before) in &before {
            let mut lines = told.get(node).cloned().unwrap_or_default();
            lines.extend(before.differs(after.get(node)));
            if !lines.is_empty() {
                return Err(Error::Flows { node: node.clone(), step: what.to_owned(), lines });
            }
        }
        self.tally.quiet += 1;
        let count: usize = after.values().map(|f| f.0.len()).sum();
        out::line(&format!("  {what}: {count} flows as they were"));
        Ok(())
    }

    /// Changes policies and pods and takes the changes back; verdicts follow, and the flows are in the end what they were.
    fn changes(&mut self, what: &str) -> Result<()> {
        let before = self.flows()?;
        // it is allowed for a while
        self.forbidden_so_far()?;
        self.weir.cluster().apply(ANOTHER)?;
        self.weir.reaches("shop/other", "shop/db", tcp(5432))?;
        self.weir.cluster().apply_pod(&shop::pod("web2", "n2", "web2"))?;
        self.weir.cluster().pod_runs("shop", "web2")?;
        self.agree()?;
        let client = self.weir.cluster().client().clone();
        let key = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"namespace": "shop", "name": "db-from-other"},
        });
        client.delete(&key)?;
        self.weir.cannot_reach("shop/other", "shop/db", tcp(5432))?;
        let pod = crate::cluster::pod_key("shop", "web2");
        client.delete(&pod)?;
        self.weir.cluster().is_gone(&pod)?;
        self.agree()?;
        self.forbidden = Some(self.weir.watch("shop/other", "shop/db", tcp(5432), SHUT)?);
        // what is right is there; what is needed no more goes when it goes
        let mut lines = Vec::new();
        let settled = wait::until(&format!("{what}: the flows from before"), IN_FORCE, || {
            let now = self.flows()?;
            lines = before.iter().flat_map(|(node, flows)| flows.others(now.get(node))).collect();
            Ok(lines.is_empty().then_some(()))
        });
        if let Err(e) = settled {
            return match e {
                Error::Late { .. } => {
                    Err(Error::Flows { node: "both".to_owned(), step: what.to_owned(), lines })
                }
                other => Err(other),
            };
        }
        // and the monitors are awake: where the pods of these policies are, flows came and went
        if self.events()?.get("n2").is_none_or(Vec::is_empty) {
            let lines = vec!["the monitor told nothing of what had to change".to_owned()];
            return Err(Error::Flows { node: "n2".to_owned(), step: what.to_owned(), lines });
        }
        self.stream.moves(IN_FORCE)?;
        self.tally.changes += 1;
        out::line(&format!("  {what}: two changes and back, verdicts as the policies say"));
        Ok(())
    }

    fn agree(&self) -> Result<Observed> {
        self.weir.agrees()
    }

    /// Errors: what got through that must not.
    fn forbidden_so_far(&mut self) -> Result<()> {
        let Some(watch) = self.forbidden.take() else {
            return Ok(());
        };
        let seen = watch.finish();
        if seen.passed == 0 {
            return Ok(());
        }
        Err(Error::Differs {
            probes: usize::try_from(seen.tried).unwrap_or(usize::MAX),
            lines: vec![format!("shop/other to shop/db: {} connections passed", seen.passed)],
        })
    }

    /// A controller ends, and starts as another version.
    fn becomes(&mut self, controller: usize, programs: &Programs) -> Result<()> {
        let others: Vec<(&str, u64)> = self.streams()?;
        let address = self.weir.addresses()[1 - controller].clone();
        let own = self.weir.addresses()[controller].clone();
        let moves: Vec<(&str, u64)> = others
            .into_iter()
            .filter(|(node, _)| {
                self.weir
                    .agent_state(node)
                    .is_ok_and(|s| s.controller().is_some_and(|c| c.contains(&own)))
            })
            .collect();
        let daemon = &mut self.weir.controllers()[controller];
        daemon.stop()?;
        daemon.set_program(&programs.controller);
        for (node, stream) in moves {
            self.weir.follows(node, &address, Some(stream))?;
        }
        self.weir.controllers()[controller].start_again()?;
        self.weir.serves(controller)
    }

    /// Every agent has its state from this controller; the other one is gone then.
    fn all_follow(&mut self, controller: usize) -> Result<()> {
        self.both()?;
        let streams = self.streams()?;
        let address = self.weir.addresses()[controller].clone();
        let moved: Vec<bool> = streams
            .iter()
            .map(|(node, _)| {
                Ok(!self.weir.agent_state(node)?.controller().is_some_and(|c| c.contains(&address)))
            })
            .collect::<Result<_>>()?;
        self.weir.controllers()[1 - controller].stop()?;
        for ((node, stream), moved) in streams.into_iter().zip(moved) {
            self.weir.follows(node, &address, moved.then_some(stream))?;
        }
        Ok(())
    }

    /// Both controllers run and serve.
    fn both(&mut self) -> Result<()> {
        for controller in 0..2 {
            if self.weir.controllers()[controller].pid().is_none() {
                self.weir.controllers()[controller].start_again()?;
            }
            self.weir.serves(controller)?;
        }
        Ok(())
    }

    fn agent_becomes(&mut self, node: &str, programs: &Programs) -> Result<()> {
        let agent = self.weir.agent(node)?;
        agent.stop()?;
        agent.set_program(&programs.agent);
        agent.start_again()?;
        self.weir.ready()?;
        // from whichever controller
        self.weir.follows(node, "https://", None).map(drop)
    }

    fn streams(&self) -> Result<Vec<(&'static str, u64)>> {
        NODES
            .into_iter()
            .map(|node| Ok((node, self.weir.agent_state(node)?.stream().unwrap_or_default())))
            .collect()
    }

    /// What the monitors have told since the last time.
    fn events(&mut self) -> Result<BTreeMap<String, Vec<String>>> {
        self.monitors.iter_mut().map(|m| Ok((m.node.clone(), m.events()?))).collect()
    }

    fn flows(&self) -> Result<BTreeMap<String, Flows>> {
        NODES
            .into_iter()
            .map(|node| {
                let ovs = self.weir.ovs(node)?;
                Ok((node.to_owned(), Flows::read(&ovs.ofctl(&["dump-flows", BRIDGE])?)))
            })
            .collect()
    }

    fn finish(mut self) -> Result<Tally> {
        self.forbidden_so_far()?;
        self.stream.moves(IN_FORCE)?;
        let Self { stream, monitors, weir, mut tally, .. } = self;
        let end = stream.finish();
        let lost = end.there.lost() + end.back.lost();
        if lost > 0 {
            let line = format!("shop/web to shop/db: {lost} records lost: {end:?}");
            return Err(Error::Differs { probes: 1, lines: vec![line] });
        }
        tally.records = end.there.received + end.back.received;
        drop(monitors);
        weir.down()?;
        Ok(tally)
    }
}

/// Flows by everything but their counters, and their age with the packets that they have seen.
struct Flows(BTreeMap<String, (Duration, u64)>);

impl Flows {
    /// Reads the output of `ovs-ofctl dump-flows`.
    fn read(text: &str) -> Self {
        let flows = text.lines().filter(|l| l.contains("cookie=")).map(|line| {
            let (mut age, mut packets) = (Duration::ZERO, 0);
            let mut key = Vec::new();
            for part in line.trim().split(", ") {
                if let Some(seconds) = part.strip_prefix("duration=") {
                    let seconds = seconds.trim_end_matches('s').parse().unwrap_or(0.0);
                    age = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                } else if let Some(count) = part.strip_prefix("n_packets=") {
                    packets = count.parse().unwrap_or(0);
                } else if !part.starts_with("n_bytes=") {
                    key.push(part);
                }
            }
            (key.join(", "), (age, packets))
        });
        Self(flows.collect())
    }

    /// What is not as it was, and what began again.
    fn differs(&self, now: Option<&Self>) -> Vec<String> {
        let mut lines = self.others(now);
        for (flow, (age, packets)) in &self.0 {
            let Some((older, more)) = now.and_then(|now| now.0.get(flow)) else {
                continue;
            };
            if older < age || more < packets {
                lines.push(format!("began again: {flow}"));
            }
        }
        lines
    }

    /// Flows that only one of both has.
    fn others(&self, now: Option<&Self>) -> Vec<String> {
        let none = BTreeMap::new();
        let now = now.map_or(&none, |now| &now.0);
        let gone = self.0.keys().filter(|f| !now.contains_key(*f)).map(|f| format!("gone: {f}"));
        let new = now.keys().filter(|f| !self.0.contains_key(*f)).map(|f| format!("new: {f}"));
        gone.chain(new).collect()
    }
}

/// Tells of every change of a switch's flows.
struct Monitor {
    node: String,
    ovs: Ovs,
    daemon: Daemon,
    log: PathBuf,
    /// Marks so far, and where to go on in the log. Units of the second: bytes.
    marks: u64,
    read: usize,
}

impl Monitor {
    fn start(weir: &Weir, node: &str) -> Result<Self> {
        let ovs = weir.ovs(node)?;
        let log = ovs.dir().join("flow-monitor.log");
        let recipe = Recipe {
            name: format!("ovs-ofctl monitor at {node}"),
            inside: weir.inside(node)?,
            program: "ovs-ofctl".into(),
            args: ["-O", "OpenFlow13", "monitor", BRIDGE, "watch:!initial"]
                .map(str::to_owned)
                .to_vec(),
            env: vec![("OVS_RUNDIR".to_owned(), ovs.dir().display().to_string())],
            log: log.clone(),
        };
        let daemon = Daemon::start(recipe)?;
        let mut monitor = Self { node: node.to_owned(), ovs, daemon, log, marks: 0, read: 0 };
        // the first marks may come before it watches
        wait::until(&format!("the monitor of {node} tells"), IN_FORCE, || {
            monitor.daemon.check()?;
            monitor.mark()?;
            Ok(monitor.text()?.contains("event=").then_some(()))
        })?;
        monitor.events()?;
        Ok(monitor)
    }

    fn text(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).during(|| format!("reading {}", self.log.display()))
    }

    /// Adds a flow of our own and takes it away: what comes after it in the log came after it at the switch.
    fn mark(&mut self) -> Result<String> {
        self.marks += 1;
        let cookie = format!("0x{:x}", 0xa11_0000 + self.marks);
        let flow = format!("table={MARK_TABLE},cookie={cookie},priority=1,actions=drop");
        self.ovs.ofctl(&["add-flow", BRIDGE, &flow])?;
        let flow = format!("table={MARK_TABLE},cookie={cookie}/-1");
        self.ovs.ofctl(&["del-flows", BRIDGE, &flow])?;
        Ok(format!("event=DELETED reason=delete table={MARK_TABLE} cookie={cookie}"))
    }

    /// What was told since the last time, our own flows left out.
    fn events(&mut self) -> Result<Vec<String>> {
        let mark = self.mark()?;
        let what = format!("the monitor of {} has told all", self.node);
        let text = wait::until(&what, IN_FORCE, || {
            self.daemon.check()?;
            let text = self.text()?;
            // the whole line, so that nothing of it is told the next time
            let at = text.find(&mark).and_then(|at| Some(at + text[at..].find('\n')? + 1));
            Ok(at.map(|at| text[..at].to_owned()))
        })?;
        let own = format!("table={MARK_TABLE} ");
        let lines = text[self.read.min(text.len())..]
            .lines()
            .filter(|l| l.contains("event=") && !l.contains(&own))
            .map(|l| l.trim().to_owned())
            .collect();
        self.read = text.len();
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "OFPST_FLOW reply (OF1.3) (xid=0x2):
 cookie=0x57, duration=12.5s, table=0, n_packets=5, n_bytes=420, priority=9,ip,in_port=1 actions=goto_table:5
 cookie=0x58, duration=3.25s, table=5, n_packets=0, n_bytes=0, priority=0 actions=drop
";

    #[test]
    fn flows_are_told_apart_from_their_counters() {
        let before = Flows::read(DUMP);
        assert_eq!(before.0.len(), 2);
        let on = DUMP.replace("12.5s", "14s").replace("n_packets=5", "n_packets=7");
        assert_eq!(before.differs(Some(&Flows::read(&on))), Vec::<String>::new());
        for (part, other, says) in [
            ("duration=12.5s", "duration=0.1s", "began again: cookie=0x57, table=0, priority=9,ip"),
            ("n_packets=5", "n_packets=4", "began again: cookie=0x57"),
            ("cookie=0x58", "cookie=0x59", "gone: cookie=0x58"),
            (
                "actions=drop",
                "actions=output:1",
                "new: cookie=0x58, table=5, priority=0 actions=output:1",
            ),
        ] {
            let lines = before.differs(Some(&Flows::read(&DUMP.replace(part, other))));
            assert!(lines.iter().any(|l| l.starts_with(says)), "{part}: {lines:?}");
        }
        assert_eq!(before.differs(None).len(), 2);
    }
}
