//! `weir-agent`.

use clap::Parser;
use weir_agent::app;
use weir_agent::args::{Cli, Command};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => app::run(*args).await,
    }
}
