//! Every command line of ours in the documents is one that our programs take.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

/// A command line of one of our programs, and where it stands.
#[derive(Debug)]
struct Line {
    place: String,
    words: Vec<String>,
}

const PROGRAMS: [&str; 4] = ["weir-controller", "weir-agent", "weirctl", "weir-testbed"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README.md, ARCHITECTURE.md and everything below docs/.
fn documents() -> Vec<PathBuf> {
    let mut out = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                out.push(path);
            }
        }
    }
    out.sort();
    out
}

/// Words of a shell line up to the end of the command; quotes are taken off.
fn words(text: &str) -> Vec<String> {
    let (mut out, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, any) = (Some(c), true),
            (None, '|' | '>' | '<' | ';' | '&' | '#') => break,
            (None, c) if c.is_whitespace() => {
                if any || !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                    any = false;
                }
            }
            (None, c) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        out.push(word);
    }
    out
}

/// Commands of ours in one shell line, behind pipes and `sudo` too.
fn commands(text: &str, place: &str, out: &mut Vec<Line>) {
    for part in text.split(" | ") {
        let mut words = words(part.trim().trim_start_matches("$ "));
        // sudo, and variables that are set for the command
        while words.first().is_some_and(|w| w == "sudo" || w.split_once('=').is_some()) {
            words.remove(0);
        }
        if words.first().is_some_and(|w| PROGRAMS.contains(&w.as_str())) {
            out.push(Line { place: place.to_owned(), words });
        }
    }
}

/// Code blocks line by line, `\` at the end joined; and inline code with at least an argument behind the subcommand.
fn lines(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap();
    let name = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    let mut out = Vec::new();
    let mut in_code = false;
    let mut open = String::new();
    let mut prose = String::new();
    for (n, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", n + 1);
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if !in_code {
            prose.push_str(line);
            prose.push(' ');
            continue;
        }
        if let Some(begun) = line.trim_end().strip_suffix('\\') {
            open.push_str(begun);
            continue;
        }
        commands(&format!("{}{line}", std::mem::take(&mut open)), &place, &mut out);
    }
    // `\|` is how tables write |
    for (n, code) in prose.replace("\\|", "|").split('`').enumerate() {
        // a bare name of a command, or one with placeholders, is not meant to be typed
        if n % 2 == 1 && words(code).len() > 2 && !code.contains(['N', '[', '{', '*']) {
            commands(code, &format!("{name}, inline"), &mut out);
        }
    }
    out
}

fn parse(words: &[String]) -> Result<(), clap::Error> {
    match words.first().map(String::as_str) {
        Some("weir-controller") => weir_controller::args::Cli::try_parse_from(words).map(drop),
        Some("weir-agent") => weir_agent::args::Cli::try_parse_from(words).map(drop),
        Some("weirctl") => {
            let words = weirctl::args::join_arrow(words.iter().map(Into::into));
            weirctl::args::Cli::try_parse_from(words).map(drop)
        }
        _ => weir_testbed::args::Cli::try_parse_from(words).map(drop),
    }
}

#[test]
fn every_command_in_the_documents_is_one() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for path in documents() {
        for line in lines(&path) {
            count += 1;
            if let Err(error) = parse(&line.words) {
                wrong.push(format!("{}: {}\n{error}", line.place, line.words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // the reading of documents has not gone blind
    assert!(count >= 15, "only {count} commands found");
}

#[test]
fn commands_are_found() {
    let mut out = Vec::new();
    for text in [
        "$ sudo WEIR_LOG=debug weir-agent run --node n1",
        "ovs-ofctl dump-flows br-int | weirctl flows --explain - > out.txt",
        "weirctl why 'a -> b:80'   # a remark",
        "ovs-vsctl show",
    ] {
        commands(text, "here", &mut out);
    }
    let words: Vec<String> = out.iter().map(|l| l.words.join(" ")).collect();
    assert_eq!(
        words,
        ["weir-agent run --node n1", "weirctl flows --explain -", "weirctl why a -> b:80"]
    );
}
