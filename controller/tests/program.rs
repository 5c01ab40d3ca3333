//! The program as it is started: arguments, address file, readiness, signals.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::Agent;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use weir_controller::app::Addresses;
use weir_policy::ids::PolicyKey;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-controller");

const POLICY: &str = "
kind: Pod
metadata: {namespace: shop, name: db}
spec: {nodeName: n1}
status: {podIPs: [{ip: 10.0.1.1}]}
---
kind: NetworkPolicy
metadata: {namespace: shop, name: db}
spec: {podSelector: {}}
";

fn pki(dir: &Path, args: &[&str]) {
    let mut command = Command::new(PROGRAM);
    command.arg("pki").arg(args[0]).arg(dir).args(&args[1..]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains(".crt"));
}

struct Program {
    child: Child,
    log: BufReader<ChildStderr>,
    /// What of it was read.
    said: String,
    addresses: Addresses,
}

impl Program {
    /// Starts it, and waits until it says that it listens.
    fn start(dir: &Path, listen: &str) -> Self {
        let mut child = command(dir, listen).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("listening") {
            assert!(log.read_line(&mut said).unwrap() > 0, "it ended: {:?}", child.wait());
        }
        let addresses = Addresses::read(&dir.join("address")).unwrap();
        Self { child, log, said, addresses }
    }

    /// Waits until its log has these words; they may come before it listens.
    fn says(&mut self, words: &str) {
        while !self.said.contains(words) {
            assert!(self.log.read_line(&mut self.said).unwrap() > 0, "it ended: {}", self.said);
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.addresses.admin.unwrap()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Ends it by a signal; gives its exit code and the rest of its log.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

fn command(dir: &Path, listen: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["run", "--source", &format!("dir:{}", dir.join("manifests").display())])
        .args(["--listen", listen, "--admin", "127.0.0.1:0"])
        .arg("--tls-cert")
        .arg(dir.join("pki/server.crt"))
        .arg("--tls-key")
        .arg(dir.join("pki/server.key"))
        .arg("--client-ca")
        .arg(dir.join("pki/ca.crt"))
        .arg("--address-file")
        .arg(dir.join("address"))
        .env_remove("WEIR_LOG");
    command
}

async fn agent(dir: &Path, addresses: Addresses) -> Agent {
    let read = |name: &str| std::fs::read_to_string(dir.join("pki").join(name)).unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.crt")))
        .identity(Identity::from_pem(read("node-n1.crt"), read("node-n1.key")))
        .domain_name("weir-controller");
    let endpoint = Endpoint::from_shared(format!("https://{}", addresses.listen)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    Agent::connect(channel, "n1").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_restarts_and_drains() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pki(&dir.join("pki"), &["init"]);
    pki(&dir.join("pki"), &["init"]);
    pki(&dir.join("pki"), &["server", "--host", "10.1.1.1"]);
    pki(&dir.join("pki"), &["node", "n1"]);
    pki(&dir.join("pki"), &["operator", "admin"]);
    std::fs::create_dir(dir.join("manifests")).unwrap();
    std::fs::write(dir.join("manifests/a.yaml"), POLICY).unwrap();

    let first = Program::start(dir, "127.0.0.1:0");
    let mut n1 = agent(dir, first.addresses).await;
    n1.step().await.unwrap();
    let key = PolicyKey::network_policy("shop", "db");
    assert_eq!(n1.state.policies[&key].generation, 1);
    let before = n1.state.clone();
    assert!(first.get("/livez").ends_with("ok\n"));
    let readyz = first.get("/readyz?verbose");
    assert!(readyz.contains("[+] source") && readyz.contains("[+] serve"), "{readyz}");
    let body = |text: &str| text.split_once("\r\n\r\n").unwrap().1.to_owned();
    let gates = body(&readyz);
    let names = gates.lines().filter_map(|l| l.strip_prefix("[+] ")?.split(' ').next());
    assert_eq!(names.collect::<Vec<_>>(), ["certificate", "serve", "source"], "{gates}");
    let state = first.get("/debug/state");
    assert!(body(&state).lines().is_sorted() && state.ends_with('\n'), "{state}");
    assert_eq!(body(&state), body(&first.get("/debug/state")));
    assert!(state.contains("policies: 1\n") && state.contains("streams: 1\n"), "{state}");
    let metrics = first.get("/metrics");
    for line in ["weir_controller_index_objects{kind=\"policy\"} 1", "weir_controller_events_total"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // every one of them is in the documentation, as it is told; who leads tells some more
    let listed = include_str!("../../docs/metrics.md");
    let rows = weir_runtime::metrics::markdown(&body(&metrics));
    assert!(rows.lines().count() > 20, "{rows}");
    for row in rows.lines() {
        assert!(listed.lines().any(|l| l == row), "docs/metrics.md has no {row}");
    }
    // a file that changes reaches the agent
    std::fs::write(dir.join("manifests/b.yaml"), POLICY.replace("name: db", "name: x")).unwrap();
    while n1.state.policies.len() < 2 {
        n1.step().await.unwrap();
    }
    std::fs::remove_file(dir.join("manifests/b.yaml")).unwrap();
    while n1.state != before {
        n1.step().await.unwrap();
    }

    let listen = first.addresses.listen.to_string();
    let ending = tokio::task::spawn_blocking(move || first.end(Signal::SIGTERM));
    n1.end().await;
    drop(n1);
    let (code, rest) = ending.await.unwrap();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("stopped"), "{rest}");

    // another one in its place tells the same
    let second = Program::start(dir, &listen);
    let mut n1 = agent(dir, second.addresses).await;
    n1.step().await.unwrap();
    assert_eq!(n1.state, before);

    // two cannot have one address
    let output = command(dir, &listen).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("choose another --listen"), "{message}");
    second.end(Signal::SIGKILL);
}

/// A policy that was in force and can no longer be read is not told away by a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_beside_a_broken_file_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pki(&dir.join("pki"), &["init"]);
    pki(&dir.join("pki"), &["server"]);
    pki(&dir.join("pki"), &["node", "n1"]);
    std::fs::create_dir(dir.join("manifests")).unwrap();
    let file = dir.join("manifests/a.yaml");
    std::fs::write(&file, POLICY.replace("spec: {podSelector", "spec:\n\t{podSelector")).unwrap();

    let mut program = Program::start(dir, "127.0.0.1:0");
    program.says("nobody is told anything");
    let readyz = program.get("/readyz?verbose");
    assert!(readyz.contains("[-] source") && readyz.contains("a.yaml: document 2"), "{readyz}");
    let mut n1 = agent(dir, program.addresses).await;
    std::fs::write(&file, POLICY).unwrap();
    // the first thing that it hears is the whole
    n1.step().await.unwrap();
    assert!(n1.state.policies.contains_key(&PolicyKey::network_policy("shop", "db")));
    assert!(program.get("/readyz?verbose").contains("[+] source"));
    program.end(Signal::SIGKILL);
}

#[test]
fn what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path(), "127.0.0.1:0").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("--tls-cert") && message.contains("cannot be read"), "{message}");
    // files that are there and no certificates
    std::fs::create_dir(dir.path().join("pki")).unwrap();
    for name in ["server.crt", "server.key", "ca.crt"] {
        std::fs::write(dir.path().join("pki").join(name), "x").unwrap();
    }
    let output = command(dir.path(), "127.0.0.1:0").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("no certificate in the client CA"), "{message}");

    let pki =
        Command::new(PROGRAM).args(["pki", "node"]).arg(dir.path()).arg("n1").output().unwrap();
    assert_eq!(pki.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&pki.stderr).contains("pki init"));
}
