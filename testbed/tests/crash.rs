//! A testbed program that is killed leaves nothing that the next one does not clean away.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use weir_testbed::{home, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-testbed");

fn testbed(args: &[&str]) -> (bool, String) {
    let output = Command::new(PROGRAM).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Namespaces and processes that carry the name.
fn traces(name: &str) -> Vec<String> {
    let prefix = home::namespace_name(name, "");
    let namespaces = std::fs::read_dir("/run/netns")
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.starts_with(&prefix));
    let dir = home::dir_of(name).display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| {
        let command = std::fs::read(e.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        command.contains(&dir).then_some(command)
    });
    let files = home::dir_of(name).exists().then_some(dir.clone());
    namespaces.chain(processes).chain(files).collect()
}

#[test]
fn a_killed_program_leaves_nothing_that_the_next_does_not_clean() {
    // at several moments of its life: while it makes namespaces, daemons, pods, and while it probes
    for millis in [20, 150, 400, 900, 2_500] {
        let name = home::test_name();
        let mut child = Command::new(PROGRAM)
            .args(["demo", "--name", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let moment = Duration::from_millis(millis);
        wait::until("the moment to kill", Duration::from_secs(10), || {
            Ok((start.elapsed() >= moment).then_some(()))
        })
        .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let (ok, text) = testbed(&["down", "--name", &name]);
        assert!(ok, "{text}");
        assert_eq!(traces(&name), Vec::<String>::new(), "killed after {millis} ms");
    }
}

#[test]
fn up_again_replaces_what_is_up_and_down_removes_it() {
    let name = home::test_name();
    for _ in 0..2 {
        let (ok, text) = testbed(&["up", "--name", &name, "--scenario", "media"]);
        assert!(ok, "{text}");
    }
    // its pods are served by a process of their own, and tools reach controller and switch
    let (ok, text) = testbed(&["status"]);
    assert!(ok && text.contains(&format!("{name}: held by process")), "{text}");
    let question =
        "exec 3<>/dev/tcp/203.0.113.10/443; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let (ok, text) =
        testbed(&["exec", "--name", &name, "media/sender", "--", "bash", "-c", question]);
    assert!(ok && text.contains("world/turn"), "{text}");
    let dump = ["--", "ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br-int"];
    let (ok, text) = testbed(&[&["exec", "--name", &name, "node/n1"][..], &dump].concat());
    assert!(ok && text.contains("cookie=0x57"), "{text}");
    let (ok, text) = testbed(&["ctl", "--name", &name, "--", "status"]);
    assert!(ok && text.contains("n1"), "{text}");
    // the exit code of a command is its own
    let args = ["exec", "--name", &name, "media/sender", "--", "sh", "-c", "exit 7"];
    assert_eq!(Command::new(PROGRAM).args(args).status().unwrap().code(), Some(7));

    let (ok, text) = testbed(&["down", "--name", &name]);
    assert!(ok, "{text}");
    assert_eq!(traces(&name), Vec::<String>::new());
    let (_, text) = testbed(&["down", "--name", &name]);
    assert!(text.contains("was not up"), "{text}");
}

#[test]
fn a_cluster_is_kubectls_and_leaves_nothing_when_its_keeper_is_killed() {
    let name = home::test_name();
    let (ok, text) = testbed(&["cluster", "up", "--name", &name, "--replicas", "1"]);
    let kubeconfig = home::dir_of(&name).join("kubeconfig").display().to_string();
    assert!(ok && text.lines().any(|l| l == kubeconfig), "{text}");
    let (ok, text) = testbed(&["cluster", "kubectl", "--name", &name, "--", "get", "nodes"]);
    assert!(ok && text.contains("n1") && text.contains("n2"), "{text}");

    let (_, text) = testbed(&["status"]);
    let line = text.lines().find(|l| l.starts_with(&format!("{name}: "))).unwrap();
    let pid: i32 = line.split(' ').find_map(|word| word.parse().ok()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    wait::until("the keeper is gone", Duration::from_secs(10), || {
        let (_, text) = testbed(&["status"]);
        Ok(text.contains(&format!("{name}: left by a process that has ended")).then_some(()))
    })
    .unwrap();
    let (ok, text) = testbed(&["cluster", "down", "--name", &name]);
    assert!(ok, "{text}");
    assert_eq!(traces(&name), Vec::<String>::new());
}

#[test]
fn without_root_it_says_so_in_one_sentence() {
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", PROGRAM, "demo", "--name", "no"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("needs root"), "{text}");
}
