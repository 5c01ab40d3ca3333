//! Whole command lines on manifests, as people see them. `BLESS=1` writes the golden files again.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::ffi::OsString;
use std::path::Path;

use weirctl::exit::Exit;

/// Exit code, answers, remarks. `-f NAME` is below `tests/`.
async fn run(line: &[&str]) -> (Exit, String, String) {
    let mut args: Vec<OsString> = vec!["weirctl".into()];
    for (n, word) in line.iter().enumerate() {
        if n > 0 && line[n - 1] == "-f" && *word != "-" {
            args.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(word).into());
        } else {
            args.push(word.into());
        }
    }
    let (mut answers, mut remarks) = (Vec::new(), Vec::new());
    let exit = weirctl::run_to(args, &mut answers, &mut remarks).await;
    let text = |bytes| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/"), "")
    };
    (exit, text(answers), text(remarks))
}

async fn golden(name: &str, line: &[&str], wanted: Exit) {
    let (exit, answers, remarks) = run(line).await;
    let words: Vec<String> = line
        .iter()
        .map(|w| if w.contains(' ') { format!("'{w}'") } else { (*w).to_owned() })
        .collect();
    let got = format!("$ weirctl {}\n{answers}{remarks}exit {}\n", words.join(" "), exit as u8);
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, kept, "{name}: BLESS=1 writes it again");
    assert_eq!(exit, wanted, "{name}");
}

macro_rules! goldens {
    ($($name:ident: $exit:ident, [$($word:literal),* $(,)?];)*) => {
        $(#[tokio::test]
        async fn $name() {
            golden(stringify!($name), &[$($word),*], Exit::$exit).await;
        })*
    };
}

goldens! {
    why_denied: No, ["why", "-f", "shop", "shop/web-6d4f9", "shop/db-0:5432"];
    why_allowed: Yes, ["why", "-f", "shop", "shop/api-58c7b", "shop/db-0:5432"];
    why_arrow_ipv6: No, ["why", "-f", "shop", "shop/web-6d4f9 -> [fd00::39]:5432"];
    why_both_sides: No, ["why", "-f", "shop", "-n", "shop", "db-0", "deploy/web:8080"];
    why_egress: No, ["why", "-f", "shop", "shop/web-6d4f9", "203.0.113.7:443"];
    why_outside: Yes, ["why", "-f", "shop", "203.0.113.7", "shop/web-6d4f9:8080"];
    why_ping: No, ["why", "-f", "shop", "shop/api-58c7b", "shop/db-0:icmp"];
    why_own_node: Yes, ["why", "-f", "shop", "node/n5", "shop/db-0:22"];
    why_workloads: No, ["why", "-f", "shop", "shop/deploy/web", "shop/sts/db:5432"];
    why_service: Yes, ["why", "-f", "shop", "shop/api-58c7b", "shop/svc/db:15432"];
    why_all: No, ["why", "-f", "shop", "--all", "shop/web-6d4f9", "shop/api-58c7b:1"];
    why_ports: Yes, ["why", "-f", "shop", "shop/api-58c7b", "shop/sts/db"];
    why_no_ports: No, ["why", "-f", "shop", "shop/api-58c7b", "shop/web-6d4f9"];
    why_json: No, ["why", "-f", "shop", "-o", "json", "shop/web-6d4f9", "shop/db-0:5432"];
    why_yaml_ports: Yes, ["why", "-f", "shop", "-o", "yaml", "shop/api-58c7b", "shop/db-0"];
    why_templates: Yes, ["why", "-f", "templates", "shop/deploy/web", "shop/sts/db:5432"];
    why_undecided: Undecided, ["why", "-f", "templates", "shop/deploy/web", "shop/sts/db:9187"];
    why_told_address: Yes, ["why", "-f", "templates", "--ip", "shop/deploy/web=10.1.2.3", "shop/deploy/web", "shop/sts/db:9187"];
    why_unknown_name: Usage, ["why", "-f", "shop", "shop/wbe-6d4f9", "shop/db-0:5432"];
    why_lone_dash: Usage, ["why", "-f", "shop", "shop/web-6d4f9", "-"];
    why_no_source: Usage, ["why", "a", "b:80"];
    why_no_file: Usage, ["why", "-f", "nowhere", "a", "b:80"];
    matrix_txt: Yes, ["matrix", "-f", "shop"];
    matrix_pods: Yes, ["matrix", "-f", "shop", "--by", "pod", "-n", "shop"];
    matrix_namespaces: Yes, ["matrix", "-f", "shop", "--by", "namespace"];
    matrix_csv: Yes, ["matrix", "-f", "shop", "-o", "csv"];
    matrix_md: Yes, ["matrix", "-f", "templates", "-o", "md"];
    matrix_json: Yes, ["matrix", "-f", "shop", "--by", "namespace", "-o", "json"];
    matrix_undecided: Yes, ["matrix", "-f", "templates"];
}

/// The arrow as a word of its own is the arrow inside one.
#[tokio::test]
async fn arrow_words() {
    let one = run(&["why", "-f", "shop", "shop/web-6d4f9 -> shop/db-0:5432"]).await;
    let three = run(&["why", "-f", "shop", "shop/web-6d4f9", "->", "shop/db-0:5432"]).await;
    assert_eq!(one, three);
}

#[tokio::test]
async fn broken_manifests_are_named_and_end_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml");
    std::fs::write(&file, "kind: Pod\nmetadata: {name: a}\n---\nkind: NetworkPolicy\nspec: [\n")
        .unwrap();
    let (exit, answers, remarks) =
        run(&["why", "-f", file.to_str().unwrap(), "default/a", "10.0.0.1:80"]).await;
    assert_eq!(exit, Exit::Usage);
    assert!(answers.is_empty());
    assert!(remarks.contains("p.yaml: document 2: line 5:"), "{remarks}");
    // a document without a kind is not a manifest, and no reason to stop
    std::fs::write(&file, "kind: Pod\nmetadata: {name: a}\n---\nreplicas: 3\n").unwrap();
    let (exit, ..) = run(&["why", "-f", file.to_str().unwrap(), "a", "10.0.0.1:80"]).await;
    assert_eq!(exit, Exit::Yes);
}

#[tokio::test]
async fn nobody_answers() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none.pem");
    let none = none.to_str().unwrap();
    let (exit, _, remarks) =
        run(&["matrix", "--server", "127.0.0.1:1", "--ca", none, "--cert", none, "--key", none])
            .await;
    assert_eq!(exit, Exit::Usage, "{remarks}");
    let (exit, _, remarks) = run(&["matrix", "--server", "127.0.0.1:1"]).await;
    assert_eq!(exit, Exit::Usage);
    assert_eq!(remarks, "error: --server needs --ca, --cert and --key\n");
}

#[tokio::test]
async fn help_is_an_answer() {
    let (exit, answers, remarks) = run(&["why", "--help"]).await;
    assert_eq!(exit, Exit::Yes);
    assert!(answers.contains("Examples:") && remarks.is_empty());
    let (exit, answers, remarks) = run(&["wyh"]).await;
    assert_eq!(exit, Exit::Usage);
    assert!(answers.is_empty() && remarks.contains("wyh"), "{remarks}");
}
