//! `rust-openflow`: OpenFlow bytes to text and back, in the shell.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
