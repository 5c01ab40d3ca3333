//! The command lines of the systemd units are ones that our programs take.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;

use clap::Parser;

/// What a host writes into the environment files that `deploy/README.md` shows.
const VARIABLES: [(&str, &str); 5] = [
    ("${WEIR_NODE}", "n1"),
    ("${WEIR_CONTROLLER}", "https://weir.example.org:9443"),
    ("${WEIR_UPLINK}", "eth1"),
    ("${WEIR_MANIFESTS}", "/etc/weir/manifests"),
    ("${WEIR_LISTEN}", "0.0.0.0:9443"),
];

#[test]
fn the_units_start_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    let mut started = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("ExecStart=")).collect();
        assert_eq!(lines.len(), 1, "{}", path.display());
        let line = VARIABLES.iter().fold(lines[0].to_owned(), |l, (name, v)| l.replace(name, v));
        assert!(!line.contains('$'), "{}: an unknown variable in {line}", path.display());
        let words: Vec<&str> = line.split_whitespace().collect();
        let program = words[0].rsplit('/').next().unwrap().to_owned();
        let parsed = match program.as_str() {
            "weir-controller" => weir_controller::args::Cli::try_parse_from(&words).map(drop),
            "weir-agent" => weir_agent::args::Cli::try_parse_from(&words).map(drop),
            other => panic!("{}: {other} is none of our programs", path.display()),
        };
        parsed.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        started.push(program);
    }
    started.sort();
    assert_eq!(started, ["weir-agent", "weir-controller"]);
}
