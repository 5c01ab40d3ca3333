//! A switch that takes everything ovs-ofctl sends: what no command of ovs-ofctl prints can be seen this way.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Output;

use crate::ovs;

const HELLO: u8 = 0;
const FLOW_MOD: u8 = 14;
const BARRIER_REQUEST: u8 = 20;
const BARRIER_REPLY: u8 = 21;
const METER_MOD: u8 = 29;

/// Gives flow mods and meter mods, with the xid set to 1.
fn take(mut stream: UnixStream) -> Vec<Vec<u8>> {
    let mut taken = Vec::new();
    // Whoever reads the file first and refuses it is gone by now.
    if stream.write_all(&[4, HELLO, 0, 8, 0, 0, 0, 1]).is_err() {
        return taken;
    }
    let mut head = [0; 8];
    while stream.read_exact(&mut head).is_ok() {
        let mut frame = head.to_vec();
        frame.resize(usize::from(u16::from_be_bytes([head[2], head[3]])), 0);
        stream.read_exact(&mut frame[8..]).unwrap();
        match frame[1] {
            HELLO => {}
            FLOW_MOD | METER_MOD => {
                frame[4..8].copy_from_slice(&[0, 0, 0, 1]);
                taken.push(frame);
            }
            BARRIER_REQUEST => {
                frame[1] = BARRIER_REPLY;
                stream.write_all(&frame).unwrap();
            }
            other => panic!("message of type {other}"),
        }
    }
    taken
}

/// Runs a command of ovs-ofctl on such a switch, `arguments` behind it; gives what the switch took.
pub(crate) fn run(command: &str, arguments: &[&str]) -> (Output, Vec<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("switch");
    let listener = UnixListener::bind(&socket).unwrap();
    let switch = std::thread::spawn(move || take(listener.accept().unwrap().0));
    let target = format!("unix:{}", socket.display());
    let args = ["-O", "OpenFlow13", "--no-names", "--timeout=120", command, &target];
    let output = ovs::run("ovs-ofctl", &[&args[..], arguments].concat());
    // Where it did not connect there is nothing to wait for.
    drop(UnixStream::connect(&socket));
    (output, switch.join().unwrap())
}
