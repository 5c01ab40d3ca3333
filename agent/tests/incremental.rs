//! Following changes step by step gives the same flows as starting from nothing, and no step lets through what both
//! sides of it forbid or drops what both allow.

mod common;

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_agent::classes::numbers_from;
use weir_agent::desired::Desired;
use weir_agent::diff::{diff, diff_keys};
use weir_agent::flow::FlowTable;
use weir_agent::pipeline::PipelineConfig;
use weir_policy::compile;
use weir_policy::eval;
use weir_policy::ids::PolicyKey;
use weir_policy::rule::Direction;
use weir_policy::state::{NodeState, Touched};
use weir_policy::strategy;
use weir_policy::world::World;

/// A node that follows the world change by change, and what a switch would hold.
struct Follower {
    state: NodeState,
    desired: Desired,
    installed: FlowTable,
    /// How many flows each policy has, as far as it was said that this changed.
    told: BTreeMap<PolicyKey, usize>,
}

impl Follower {
    fn new(world: &World, node: &str) -> Self {
        let state = compile::node_state(world, node);
        let mut desired = Desired::new(PipelineConfig::default(), BTreeMap::new());
        desired.update(Some(&state), &Touched::default(), &common::ports(world, node));
        let installed = desired.flows().clone();
        let mut out = Self { state, desired, installed, told: BTreeMap::new() };
        out.recount();
        out
    }

    /// One batch: returns how many flow mods it took.
    fn follow(&mut self, world: &World, node: &str) -> usize {
        let wanted = compile::node_state(world, node);
        let touched = self.state.apply(self.state.diff(&wanted));
        assert_eq!(self.state, wanted, "the difference leads to the new state");
        let keys = self.desired.update(Some(&self.state), &touched, &common::ports(world, node));
        let mods = diff_keys(&keys, self.desired.flows(), &self.installed);
        assert_eq!(
            mods.len(),
            diff(self.desired.flows(), &self.installed).len(),
            "an update names every flow that changed"
        );
        self.installed = self.desired.flows().clone();
        // of what is gone or new the change itself tells
        self.told.retain(|key, _| wanted.policies.contains_key(key));
        for key in &touched.policies {
            if wanted.policies.contains_key(key) {
                self.told.insert(key.clone(), self.desired.flows_of(key));
            }
        }
        self.recount();
        mods.len()
    }

    fn recount(&mut self) {
        for key in self.desired.take_recounted() {
            self.told.insert(key.clone(), self.desired.flows_of(&key));
        }
    }
}

fn check_from_nothing(world: &World, node: &str, follower: &Follower) -> Result<(), TestCaseError> {
    let numbers = numbers_from(&follower.installed);
    let mut fresh = Desired::new(PipelineConfig::default(), numbers);
    fresh.update(Some(&follower.state), &Touched::default(), &common::ports(world, node));
    let mods = diff(fresh.flows(), &follower.installed);
    prop_assert!(mods.is_empty(), "node {}: a restart would change {:#?}", node, mods);
    for policy in follower.state.policies.keys() {
        let flows = fresh.flows_of(policy);
        prop_assert_eq!(follower.desired.flows_of(policy), flows, "{}", policy);
        prop_assert_eq!(follower.told.get(policy).copied().unwrap_or(0), flows, "{}", policy);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: Some(Box::new(proptest::test_runner::FileFailurePersistence::Direct(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/incremental.regressions")))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn following_changes_equals_starting_from_nothing(
        (mut world, changes) in (strategy::world(), strategy::changes(12))
    ) {
        let nodes = strategy::NODES;
        let mut followers: Vec<Follower> =
            nodes.iter().map(|n| Follower::new(&world, n)).collect();
        for change in changes {
            change.apply(&mut world);
            for (node, follower) in nodes.iter().zip(&mut followers) {
                follower.follow(&world, node);
                check_from_nothing(&world, node, follower)?;
            }
        }
    }

    /// Each node takes a change in one bundle, but nodes do not take it at the same moment: whatever subset of them
    /// already has, a direction that is closed before and after stays closed, and a path open before and after stays
    /// open.
    #[test]
    fn no_step_opens_or_closes_needlessly(
        (mut world, changes, probes) in (strategy::world(), strategy::changes(4), strategy::probes(24))
    ) {
        for change in changes {
            let old = world.clone();
            change.apply(&mut world);
            let (before, after) = (common::Fabric::new(&old), common::Fabric::new(&world));
            for c in probes.iter().filter_map(|p| p.connection(&world)) {
                let (Some(src), Some(dst)) = (c.src.address(), c.dst.address()) else { continue };
                // the same packet, whoever had its addresses before
                let then = eval::from_addresses(&old, src, dst, c.l4);
                if then.src != c.src || then.dst != c.dst {
                    continue;
                }
                let place = |w: &World, e: &eval::End| match e {
                    eval::End::Pod { key, .. } => w.pod(key).map(|p| std::sync::Arc::clone(&p.node)),
                    _ => None,
                };
                if place(&old, &c.src) != place(&world, &c.src) || place(&old, &c.dst) != place(&world, &c.dst) {
                    continue;
                }
                let (v0, v1) = (eval::verdict(&old, &c), eval::verdict(&world, &c));
                let open = v0.allowed() && v1.allowed();
                let closed = Direction::BOTH
                    .iter()
                    .any(|d| !v0.side(*d).allowed && !v1.side(*d).allowed);
                if !open && !closed {
                    continue;
                }
                for ahead in strategy::NODES {
                    let mut tables = before.tables.clone();
                    if let Some(t) = after.tables.get(ahead) {
                        tables.insert(ahead.to_owned(), t.clone());
                    }
                    let mixed = common::Fabric { tables };
                    let Some((passed, path)) = mixed.passes(&world, &c) else { continue };
                    prop_assert_eq!(passed, open, "{} ahead\n{:?}\n{:?}", ahead, c, path);
                }
            }
        }
    }
}
