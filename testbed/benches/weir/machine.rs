//! What the figures were measured on.

use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;
use weir_testbed::command;

/// The first line of every report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    commit: String,
    cores: usize,
    cpu: String,
    kernel: String,
    ovs: String,
    /// One-minute load average before anything was measured.
    load: f64,
}

impl Machine {
    pub(crate) fn here() -> Result<Self> {
        let first_line = |program: &str, args: &[&str]| -> Result<String> {
            let text = command::run(Command::new(program).args(args))?;
            Ok(text.lines().next().unwrap_or_default().trim().to_owned())
        };
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo
            .lines()
            .find_map(|l| l.strip_prefix("model name")?.split_once(':'))
            .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned());
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let version = first_line("ovs-vswitchd", &["--version"])?;
        Ok(Self {
            date: first_line("date", &["-u", "+%F"])?,
            // a tree without history is no error
            commit: first_line("git", &["describe", "--always", "--dirty"]).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu,
            kernel: first_line("uname", &["-r"])?,
            ovs: version.rsplit(' ').next().unwrap_or_default().to_owned(),
            load: load.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, commit, cores, cpu, kernel, ovs, load } = self;
        write!(
            f,
            "{date}, {commit}: {cores} cores ({cpu}), Linux {kernel}, Open vSwitch {ovs}, userspace datapath; load {load}"
        )?;
        if *load > 0.5 {
            write!(
                f,
                "\nOTHER PROGRAMS WERE RUNNING: compare the ratios, not the absolute figures"
            )?;
        }
        Ok(())
    }
}
