//! The program as a process: what it prints, where, and its exit code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rust-openflow"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str], input: &[u8]) -> (String, String, i32) {
    let mut child: Child = command(args).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may end before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(stdout), text(stderr), status.code().unwrap())
}

/// The flow mod of `table=1,tcp,actions=output:3`, from
/// OVS 3.1.0: ovs-ofctl -O OpenFlow13 -mmmmm parse-flow 'table=1,tcp,actions=output:3'
const FLOW: &str = "040e0058000000010000000000000000000000000000000001000000000080\
                    00ffffffffffffffffffffffff000000000001000f80000a02080080001401\
                    0600000400180000000000000010000000030000000000000000";

fn ok(text: &str) -> (String, String, i32) {
    (text.to_owned(), String::new(), 0)
}

fn bad(text: &str) -> (String, String, i32) {
    (String::new(), format!("error: {text}\n"), 1)
}

#[test]
fn one_item() {
    let printed = "OFPT_FLOW_MOD (OF1.3) (xid=0x1): ADD table:1 tcp actions=output:3\n";
    assert_eq!(run(&["print", FLOW], b""), ok(printed));
    assert_eq!(run(&["reencode", FLOW], b""), ok(&format!("{FLOW}\n")));
    assert_eq!(run(&["encode", "table=1,tcp,actions=output:3"], b""), ok(&format!("{FLOW}\n")));
    let hello = "OFPT_HELLO (OF1.3) (xid=0x1):\n version bitmap: 0x01, 0x02, 0x03, 0x04\n";
    assert_eq!(run(&["print", "0x04 00 0008 00000001"], b""), ok(hello));
    assert_eq!(run(&["print", "04", "00", "0008", "00000001"], b""), ok(hello));
}

/// The texts of parse-actions and parse-instructions of OVS 3.1.0.
#[test]
fn parts_of_messages() {
    let action = "00000010000000050000000000000000";
    assert_eq!(run(&["print", "--as", "actions", action], b""), ok("actions=output:5\n"));
    assert_eq!(run(&["reencode", "--as=actions", action], b""), ok(&format!("{action}\n")));
    assert_eq!(run(&["print", "--as", "actions", ""], b""), ok("actions=drop\n"));
    let goto = "0001000805000000";
    assert_eq!(run(&["print", "--as", "instructions", goto], b""), ok("actions=goto_table:5\n"));
    assert_eq!(run(&["reencode", "--as=instructions", goto], b""), ok(&format!("{goto}\n")));
    let whole = "0001000a80000a020800000000000000";
    for bytes in [whole, "0001000a80000a020800"] {
        assert_eq!(run(&["print", "--as", "match", bytes], b""), ok("ip\n"));
        assert_eq!(run(&["reencode", "--as", "match", bytes], b""), ok(&format!("{whole}\n")));
    }
}

#[test]
fn what_is_bad() {
    let short = bad("message at offset 0 needs 16 bytes and has 8");
    assert_eq!(run(&["print", "0400001000000001"], b""), short);
    assert_eq!(run(&["print", "04000"], b""), bad("odd number of hex digits (5)"));
    assert_eq!(run(&["reencode", "xy"], b""), bad("'x' at character 1 is no hex digit"));
    assert_eq!(run(&["encode", "tcp"], b""), bad("flow without actions="));
    let (stdout, stderr, code) = run(&["encode-file", "/no/such/file"], b"");
    assert_eq!((stdout.as_str(), code), ("", 1));
    assert!(stderr.starts_with("error: /no/such/file: No such file"), "{stderr}");
    for usage in [&["print"][..], &["paint", "00"], &[], &["print", "--as", "flow", "00"]] {
        let (stdout, stderr, code) = run(usage, b"");
        assert_eq!((stdout.as_str(), code), ("", 2), "{usage:?}");
        assert!(stderr.contains("Usage:") || stderr.contains("possible values"), "{stderr}");
    }
    assert_eq!(run(&["--help"], b"").2, 0);
}

/// One answer a line, also to what is bad; line breaks inside an answer are two characters.
#[test]
fn lines() {
    let input = format!("{FLOW}\r\n\nzz\n0400000800000001\n\u{fffd}\n");
    let mut input = input.into_bytes();
    input.extend(b"\xff\n0405000800000002");
    let (stdout, stderr, code) = run(&["print", "-"], &input);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert_eq!(
        lines,
        [
            "OFPT_FLOW_MOD (OF1.3) (xid=0x1): ADD table:1 tcp actions=output:3",
            "error: header at offset 0 needs 8 bytes and has 0",
            "error: 'z' at character 1 is no hex digit",
            "OFPT_HELLO (OF1.3) (xid=0x1):\\n version bitmap: 0x01, 0x02, 0x03, 0x04",
            "error: '\u{fffd}' at character 1 is no hex digit",
            "error: line is not UTF-8",
            "OFPT_FEATURES_REQUEST (OF1.3) (xid=0x2):",
        ]
    );
    let flows = b"table=1,tcp,actions=output:3\nactions=paint\n";
    for verb in ["encode", "encode-file"] {
        let (stdout, _, code) = run(&[verb, "-"], flows);
        let mut answers = stdout.lines();
        assert_eq!((answers.next(), code), (Some(FLOW), 0));
        assert!(answers.next().unwrap().starts_with("error: "));
        assert_eq!(answers.next(), None);
    }
}

/// An answer comes before the next line is there, also when that has begun.
#[test]
fn lines_one_by_one() {
    let mut child = command(&["reencode", "-"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for hex in [FLOW, "0414000800000009"] {
        writeln!(stdin, "{hex}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{hex}\n"));
    }
    let (begun, rest) = FLOW.split_at(20);
    let (mut before, mut line) = (String::new(), String::new());
    write!(stdin, "{FLOW}\n{begun}").unwrap();
    stdout.read_line(&mut before).unwrap();
    writeln!(stdin, "{rest}").unwrap();
    stdout.read_line(&mut line).unwrap();
    assert_eq!((before, line), (format!("{FLOW}\n"), format!("{FLOW}\n")));
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

/// A reader that has had enough is no error.
#[test]
fn a_closed_pipe() {
    let mut child = command(&["print", "-"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let writer = std::thread::spawn(move || {
        let line = format!("{FLOW}\n").repeat(1000);
        // Until the program is gone; 2,000 times is more than any pipe holds.
        (0..2000).take_while(|_| stdin.write_all(line.as_bytes()).is_ok()).count()
    });
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    assert!(writer.join().unwrap() < 2000);
}

#[test]
fn files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();

    let flows =
        "# a comment\n\ntable=1,tcp,actions=output:3\n  table=1 tcp actions=output:3 # again\n";
    write("flows", flows.as_bytes());
    assert_eq!(run(&["encode-file", &path("flows")], b""), ok(&format!("{FLOW}\n{FLOW}\n")));
    write("bad", b"actions=drop\nactions=paint\n");
    let (stdout, stderr, code) = run(&["encode-file", &path("bad")], b"");
    assert_eq!((stdout.as_str(), code), ("", 1));
    assert!(stderr.starts_with("error: ") && stderr.contains("bad: line 2"), "{stderr}");

    write("a", b"table=1,tcp,actions=output:3\ntable=2,actions=drop\n");
    write("b", b" table=1, n_packets=4, tcp actions=output:4\ntable=2,actions=drop\n");
    let difference = "-table=1 tcp actions=output:3\n+table=1 tcp actions=output:4\n";
    assert_eq!(run(&["diff", &path("a"), &path("b")], b""), ok(difference));
    assert_eq!(run(&["diff", &path("a"), &path("a")], b""), ok(""));
    let b = std::fs::read(dir.path().join("b")).unwrap();
    assert_eq!(run(&["diff", &path("a"), "-"], &b), ok(difference));
    assert_eq!(run(&["diff", "-", "-"], b"").2, 1);

    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    };
    // Of another version: named, passed over.
    let stream = [bytes(FLOW), bytes("0110000800000005"), bytes("0415000800000007")].concat();
    write("stream", &stream);
    let mut printed = String::new();
    writeln!(printed, "OFPT_FLOW_MOD (OF1.3) (xid=0x1): ADD table:1 tcp actions=output:3").unwrap();
    writeln!(printed, "OFPT_BARRIER_REPLY (OF1.3) (xid=0x7):").unwrap();
    for (args, input) in
        [(["print-stream", &path("stream")], &[][..]), (["print-stream", "-"], &stream)]
    {
        let (stdout, stderr, code) = run(&args, input);
        assert_eq!((stdout.as_str(), code), (printed.as_str(), 1));
        assert!(stderr.contains("message at 88: frame of OpenFlow version 0x01"), "{stderr}");
    }
    let (stdout, stderr, code) = run(&["print-stream", "-"], &stream[..stream.len() - 3]);
    assert!(stdout.starts_with("OFPT_FLOW_MOD") && code == 1);
    assert!(stderr.ends_with("error: -: 5 bytes of a header at 96\n"), "{stderr}");
}
