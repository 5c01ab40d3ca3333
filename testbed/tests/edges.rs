//! Which crate may use which: the arrows of ARCHITECTURE.md.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A crate of ours, and the crates of ours that its programs and libraries may be made of.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("weir-policy", &[]),
    ("rust-openflow", &[]),
    ("weir-ovsdb", &[]),
    ("weir-runtime", &[]),
    ("weir-api", &["weir-policy"]),
    ("weir-controller", &["weir-api", "weir-policy", "weir-runtime"]),
    ("weir-agent", &["weir-api", "weir-policy", "weir-runtime", "rust-openflow", "weir-ovsdb"]),
    ("weirctl", &["weir-api", "weir-policy", "rust-openflow", "weir-ovsdb"]),
    (
        "weir-testbed",
        &[
            "weir-policy",
            "rust-openflow",
            "weir-ovsdb",
            "weir-runtime",
            "weir-api",
            "weir-controller",
            "weir-agent",
            "weirctl",
        ],
    ),
];

/// Libraries that stay out of a crate: no I/O in the core, Kubernetes only where clusters are read.
const NEVER: [(&str, &[&str]); 6] = [
    ("weir-policy", &["tokio", "tonic", "prost", "kube"]),
    ("rust-openflow", &["tonic", "prost", "kube", "k8s-openapi"]),
    ("weir-ovsdb", &["tonic", "prost", "kube", "k8s-openapi"]),
    ("weir-runtime", &["tonic", "prost", "kube", "k8s-openapi"]),
    ("weir-controller", &["rust-openflow", "weir-ovsdb"]),
    ("weir-agent", &["kube", "k8s-openapi"]),
];

/// Dependencies of every member, those of tests left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |v: &Value| v["name"].as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            let all = p["dependencies"].as_array().unwrap().iter();
            (name(p), all.filter(|d| d["kind"] != "dev").map(name).collect())
        })
        .collect()
}

#[test]
fn arrows_point_one_way() {
    let dependencies = dependencies();
    let ours: BTreeSet<&str> = dependencies.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours, known, "a crate without a line here");
    for (name, may_use) in MAY_USE {
        let uses = dependencies[name].iter().map(String::as_str).filter(|d| ours.contains(d));
        for used in uses {
            assert!(may_use.contains(&used), "{name} may not use {used}");
        }
    }
    for (name, never) in NEVER {
        for used in never {
            assert!(!dependencies[name].contains(*used), "{name} may not use {used}");
        }
    }
}

/// Crates for whoever has never heard of Weir, with the name each has in its own examples.
const FOR_ANYONE: &[(&str, &str)] = &[("ofproto", "rust_openflow"), ("ovsdb", "weir_ovsdb")];

/// Names of Weir, of what it carries out and for whom: in no word at all.
const NAMES: &[&str] = &["weir", "kubernetes", "networkpolic"];
/// Words of Weir. (`overflow_policy` is a column of Open vSwitch.)
const WORDS: &[&str] = &["policy", "policies", "reconciler", "testbed"];

/// Neither names nor documentation of the crates for anyone have a word of Weir in them.
#[test]
fn crates_for_anyone_speak_of_nothing_else() {
    for (directory, name) in FOR_ANYONE {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory).join("src");
        let mut files = 0;
        let mut open = vec![src];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap().replace(name, "");
            for (line, n) in text.lines().zip(1..) {
                let line = line.to_ascii_lowercase();
                let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let found = words.find(|word| {
                    WORDS.contains(word) || NAMES.iter().any(|name| word.contains(name))
                });
                assert_eq!(found, None, "{}:{n}: {line}", path.display());
            }
        }
        assert!(files > 20, "{directory}: {files} files");
    }
}
