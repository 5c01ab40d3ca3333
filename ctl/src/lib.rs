//! `weirctl`: what operators type.
//!
//! - [`args`]: the command line; [`names`]: how ends of connections are named;
//! - [`source`]: where objects come from: `source::files` (offline) and `source::server` (a controller), one
//!   [`source::Objects`] for both;
//! - `annotate`: what flows are and whose, from the flow and the symbols of its node;
//! - `cmd`: a file per command, which turns objects into data; `render`: a file per command, which turns data into text;
//! - [`out`]: answers and remarks, safe on a closed pipe; [`exit`]: what exit codes mean.
//!
//! A new command is a variant of [`args::Command`], `cmd/NAME.rs`, `render/NAME.rs` and a line in [`run_to`].

#![allow(
    clippy::clone_on_ref_ptr,
    reason = "names are strings that happen to be counted; `.clone()` reads as for any string"
)]

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

pub mod annotate;
pub mod args;
mod cmd;
pub mod exit;
pub mod names;
pub mod out;
mod render;
pub mod source;

use args::{Cli, Command};
use exit::{Exit, Failure};
use out::Out;

/// Runs one command line on the process's own streams.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    run_to(args, &mut stdout, &mut stderr).await.into()
}

/// Runs one command line; answers go to `answers`, warnings and errors to `remarks`.
pub async fn run_to(
    args: impl IntoIterator<Item = OsString>,
    answers: &mut (dyn Write + Send),
    remarks: &mut (dyn Write + Send),
) -> Exit {
    let mut out = Out::new(answers, remarks);
    let cli = match Cli::try_parse_from(args::join_arrow(args)) {
        Ok(cli) => cli,
        Err(error) => {
            // help and version are answers, everything else is a complaint
            if error.use_stderr() {
                out.remark(error.to_string().trim_end());
                return Exit::Usage;
            }
            out.answer(&error.to_string());
            return Exit::Yes;
        }
    };
    let result = match cli.command {
        Command::Why(args) => cmd::why::run(args, &mut out).await,
        Command::Matrix(args) => cmd::matrix::run(args, &mut out).await,
        Command::Flows(args) => cmd::flows::run(*args, &mut out).await,
        Command::Status(args) => cmd::status::run(args, &mut out).await,
        Command::Policy(args) => cmd::policy::run(args, &mut out).await,
    };
    result.unwrap_or_else(|failure: Failure| {
        out.remark(&format!("error: {failure}"));
        failure.exit()
    })
}
