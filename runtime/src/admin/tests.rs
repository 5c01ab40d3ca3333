//! The server over real sockets.

use super::*;
use crate::clock::TestClock;
use crate::task::{self, Task};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

struct Server {
    address: SocketAddr,
    drain: CancellationToken,
    task: Task<()>,
}

impl Server {
    async fn start(admin: Admin) -> Self {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.tcp_address().unwrap();
        let drain = CancellationToken::new();
        let task = task::spawn("admin", admin.serve(listener, drain.clone()));
        Self { address, drain, task }
    }

    async fn send(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        // some servers answer before all is written
        let _ = stream.shutdown().await;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    async fn get(&self, path: &str) -> (u16, String) {
        split(&self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await)
    }
}

fn split(response: &str) -> (u16, String) {
    let (header, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(header.contains("connection: close"));
    (header[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn ready_tells_which_gate_is_closed_and_for_how_long() {
    let clock = TestClock::new();
    let ready = Ready::with_clock(Arc::new(clock.clone()));
    let (ovsdb, switch) = (ready.gate("ovsdb"), ready.gate("switch"));
    let server = Server::start(Admin::new(ready)).await;
    clock.advance(Duration::from_secs(90));
    ovsdb.open();
    switch.close("connection refused");
    clock.advance(Duration::from_secs(5));
    let closed = "[-] switch for 95.0s: connection refused\nnot ready\n";
    assert_eq!(server.get("/readyz").await, (503, closed.to_owned()));
    let verbose = format!("[+] ovsdb for 5.0s\n{closed}");
    assert_eq!(server.get("/readyz?verbose").await, (503, verbose));
    switch.open();
    assert_eq!(server.get("/readyz").await, (200, "ready\n".to_owned()));
    let verbose = "[+] ovsdb for 5.0s\n[+] switch for 0.0s\nready\n".to_owned();
    assert_eq!(server.get("/readyz?verbose").await, (200, verbose));
}

#[tokio::test]
async fn the_closures_are_asked_at_each_request() {
    let alive = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let seen = Arc::clone(&alive);
    let admin = Admin::new(Ready::new())
        .live(move || match seen.load(std::sync::atomic::Ordering::Relaxed) {
            true => Ok(()),
            false => Err("index stuck".to_owned()),
        })
        .metrics(|| "weir_flows 7\n# EOF\n".to_owned())
        .debug_state(|| "{}\n".to_owned());
    let server = Server::start(admin).await;
    assert_eq!(server.get("/livez").await, (200, "ok\n".to_owned()));
    alive.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(server.get("/livez").await, (503, "index stuck\n".to_owned()));
    assert_eq!(server.get("/metrics").await, (200, "weir_flows 7\n# EOF\n".to_owned()));
    assert_eq!(server.get("/debug/state").await, (200, "{}\n".to_owned()));
    assert_eq!(server.get("/other").await.0, 404);
    let head = server.send(b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
    assert!(head.contains("content-length: 19\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(split(&server.send(b"POST /livez HTTP/1.1\r\n\r\n{}").await).0, 405);
}

#[tokio::test]
async fn what_is_not_set_is_not_offered() {
    let server = Server::start(Admin::new(Ready::new())).await;
    assert_eq!(server.get("/metrics").await.0, 404);
    assert_eq!(server.get("/debug/state").await.0, 404);
    assert_eq!(server.get("/readyz").await, (503, "not ready\n".to_owned()));
}

#[tokio::test]
async fn malformed_requests_get_400_and_cost_nothing_else() {
    let server = Server::start(Admin::new(Ready::new())).await;
    for request in [
        &b"nonsense\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /livez",
        b"GET  /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\xff\xfe: x\r\n\r\n",
        b"\r\n\r\n",
    ] {
        assert_eq!(split(&server.send(request).await).0, 400, "{request:?}");
        assert_eq!(server.get("/livez").await.0, 200);
    }
    let huge = format!("GET /livez HTTP/1.1\r\na: {}", "x".repeat(20_000));
    assert_eq!(split(&server.send(huge.as_bytes()).await).0, 431);
    assert!(server.send(b"").await.is_empty());
    assert_eq!(server.get("/livez").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_told_so() {
    let server = Server::start(Admin::new(Ready::new())).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /liv").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert_eq!(split(&response).0, 408);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = Server::start(Admin::new(Ready::new()).limits(limits)).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"GET /livez ").await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(b"GET /livez HTTP/1.1\r\n\r\n").await.unwrap();
    first.write_all(b"HTTP/1.1\r\n\r\n").await.unwrap();
    for stream in [&mut first, &mut second] {
        stream.shutdown().await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert_eq!(split(&response).0, 200);
    }
}

#[tokio::test]
async fn a_panicking_closure_loses_one_request() {
    let admin = Admin::new(Ready::new()).metrics(|| panic!("expected by the test"));
    let server = Server::start(admin).await;
    assert_eq!(server.send(b"GET /metrics HTTP/1.1\r\n\r\n").await, "");
    assert_eq!(server.get("/livez").await.0, 200);
}

#[tokio::test]
async fn draining_ends_the_server() {
    let server = Server::start(Admin::new(Ready::new())).await;
    assert_eq!(server.get("/livez").await.0, 200);
    server.drain.cancel();
    server.task.join().await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn serves_on_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = Listener::unix(&path).unwrap();
    assert_eq!(listener.unix_path().as_ref(), Some(&path));
    let _server =
        task::spawn("admin", Admin::new(Ready::new()).serve(listener, CancellationToken::new()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert_eq!(split(&response), (200, "ok\n".to_owned()));
}
