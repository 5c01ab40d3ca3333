//! Runs the tools of the machine and keeps what they complain of.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::error::{During, Error, Result};

/// Runs a command to its end and returns what it printed.
///
/// Errors: [`Error::Command`] with the standard error of the tool when it exits with anything but 0.
pub fn run(command: &mut Command) -> Result<String> {
    run_with_input(command, "")
}

/// [`run`] with a text on standard input.
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    execute(command, input, &[0])
}

/// [`run`] for a tool some of whose exit codes other than 0 are answers.
pub fn ask(command: &mut Command, answers: &[i32]) -> Result<String> {
    execute(command, "", answers)
}

fn execute(command: &mut Command, input: &str, answers: &[i32]) -> Result<String> {
    let name = describe(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .during(|| format!("starting {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // a tool that ends before it has read everything says why on stderr
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().during(|| format!("waiting for {name}"))?;
    if output.status.code().is_some_and(|c| answers.contains(&c)) {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(Error::Command {
            command: name,
            detail: match text.trim() {
                "" => output.status.to_string(),
                text => text.to_owned(),
            },
        })
    }
}

/// Runs `ip -batch -` over these lines in the namespace of the calling thread.
pub fn ip(lines: &[String]) -> Result<()> {
    batch("ip", lines)
}

/// Runs `bridge -batch -` over these lines in the namespace of the calling thread.
pub fn bridge(lines: &[String]) -> Result<()> {
    batch("bridge", lines)
}

fn batch(tool: &str, lines: &[String]) -> Result<()> {
    let mut text = lines.join("\n");
    text.push('\n');
    run_with_input(Command::new(tool).args(["-batch", "-"]), &text).map(drop).map_err(|e| match e {
        Error::Command { detail, .. } => {
            Error::Command { command: format!("{tool} -batch"), detail: explain(&detail, lines) }
        }
        other => other,
    })
}

/// Puts the text of the failed line behind `Command failed -:3`.
fn explain(detail: &str, lines: &[String]) -> String {
    let line = detail
        .rsplit("Command failed -:")
        .next()
        .and_then(|n| n.trim().parse::<usize>().ok())
        .and_then(|n| lines.get(n.checked_sub(1)?));
    match line {
        Some(line) => format!("{} ({line})", detail.replace('\n', "; ")),
        None => detail.to_owned(),
    }
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    const LONGEST: usize = 200;
    if text.chars().count() > LONGEST {
        text = text.chars().take(LONGEST).collect();
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_batch_names_its_line() {
        let lines = ["link show lo".to_owned(), "link show nosuch0".to_owned()];
        let text = explain("Device \"nosuch0\" does not exist.\nCommand failed -:2", &lines);
        assert!(text.ends_with("(link show nosuch0)"), "{text}");
    }

    #[test]
    fn a_failed_command_keeps_its_complaint() {
        let error = run(Command::new("sh").args(["-c", "echo no >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "sh -c echo no >&2; exit 3: no");
    }
}
