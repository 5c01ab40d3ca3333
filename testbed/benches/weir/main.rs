//! `make bench`: what Weir costs, each figure next to a baseline that was measured in the same run.
//!
//! | part | measures | baseline |
//! |---|---|---|
//! | [`flows`] | encoding, installing and dumping 10,000 and 100,000 flows | bytes encoded before, ovs-ofctl |
//! | [`policy`] | from a written policy file to the first right packet | one flow mod by hand |
//! | [`api`] | from a policy created at a kube-apiserver to the first right packet | - |
//! | [`traffic`] | new connections a second, round-trip time | a bridge that does `NORMAL` |
//!
//! `cargo bench -p weir-testbed --bench weir -- flows policy` takes only these parts. Everything runs in namespaces and
//! directories of its own and is gone at the end.

mod api;
mod flows;
mod machine;
mod policy;
mod raw;
mod report;
mod status;
mod traffic;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use weir_testbed::{out, require};

use machine::Machine;
use report::Report;

const PARTS: [&str; 4] = ["api", "flows", "policy", "traffic"];

fn main() -> ExitCode {
    // cargo says so; `cargo test --all-targets` runs this program too and does not
    if !std::env::args().any(|arg| arg == "--bench") {
        out::line("measures only under `cargo bench`");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let asked: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("there is no part {unknown:?}; the parts are {}", PARTS.join(", "));
    }
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|a| a == part);
    require::all()?;
    require::raise_file_limit()?;
    let begun = Instant::now();
    let machine = Machine::here()?;
    out::line(&machine.to_string());
    let mut report = Report::new(machine);
    if wanted("flows") {
        flows::measure(&mut report).context("flows")?;
    }
    if wanted("api") {
        api::measure(&mut report).context("api")?;
    }
    if wanted("policy") || wanted("traffic") {
        let mut beds = traffic::Beds::up().context("starting two testbeds")?;
        for policies in [0, 50, 1000] {
            beds.fill(policies).with_context(|| format!("{policies} policies"))?;
            if wanted("traffic") {
                beds.measure().with_context(|| format!("traffic with {policies} policies"))?;
            }
            if wanted("policy") && policies != 50 {
                policy::measure(&mut beds).with_context(|| format!("changes among {policies}"))?;
            }
        }
        beds.report(&mut report);
        beds.down()?;
    }
    report.seconds = begun.elapsed().as_secs_f64();
    let file = report.write()?;
    out::line(&format!("\nbench: {:.0} s; the figures are in {}", report.seconds, file.display()));
    Ok(())
}
