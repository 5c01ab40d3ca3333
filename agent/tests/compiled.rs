//! The compiled flow tables give the verdict of the evaluator, for random worlds and connections.

#![expect(clippy::print_stdout, reason = "the figures of a run are for who reads its log")]

mod common;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use weir_policy::eval;
use weir_policy::strategy;

/// Worlds per run. CI runs the full number; `WEIR_WORLDS` asks for another.
fn worlds() -> u32 {
    std::env::var("WEIR_WORLDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

#[test]
fn flow_tables_decide_as_the_evaluator() {
    let config = Config {
        cases: worlds(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/compiled.regressions"
        )))),
        ..Config::default()
    };
    let (mut decided, mut denied) = (0_u64, 0_u64);
    let counters = std::cell::RefCell::new((&mut decided, &mut denied));
    let result = TestRunner::new(config).run(
        &(strategy::world(), strategy::probes(24)),
        |(world, probes)| {
            let fabric = common::Fabric::new(&world);
            for c in probes.iter().filter_map(|p| p.connection(&world)) {
                let Some((passed, outcomes)) = fabric.passes(&world, &c) else { continue };
                let verdict = eval::verdict(&world, &c);
                prop_assert_eq!(
                    passed,
                    verdict.allowed(),
                    "{:?}\n{:?}\npath {:?}",
                    c,
                    verdict,
                    outcomes
                );
                let mut n = counters.borrow_mut();
                *n.0 += 1;
                *n.1 += u64::from(!passed);
            }
            Ok(())
        },
    );
    if let Err(e) = result {
        panic!("{e}");
    }
    println!("{decided} connections decided, {denied} of them denied");
    assert!(denied * 10 > decided, "the worlds hardly deny anything: {denied} of {decided}");
}
