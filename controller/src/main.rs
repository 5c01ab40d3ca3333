//! `weir-controller`.

use std::io::{self, Write};

use clap::Parser;
use weir_controller::args::{Cli, Command};
use weir_controller::{Allocator, app};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => app::run(*args).await,
        Command::Pki(command) => {
            let made = app::pki(&command)?;
            io::stdout().write_all(made.as_bytes())?;
            Ok(())
        }
    }
}
