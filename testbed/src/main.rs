//! `weir-testbed`: parses, runs, and says how it went.

use std::process::ExitCode;

use clap::Parser;
use weir_testbed::app;
use weir_testbed::args::Cli;

fn main() -> ExitCode {
    app::run(Cli::parse())
}
