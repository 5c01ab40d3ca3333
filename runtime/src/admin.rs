//! Health, metrics and state over HTTP/1.1, for kubelet, Prometheus and people.
//!
//! One GET (or HEAD) per connection. A request has a size limit and a time limit, connections have a number limit, and
//! whatever is malformed gets its 400 and nothing else.

mod http;

use std::fmt;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ready::Ready;

/// What the server takes. `Limits::default()` suits a health port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more wait in the system's queue. 32.
    pub connections: usize,
    /// The request line and header. Units: bytes. 8 KiB.
    pub request_bytes: usize,
    /// For the request to arrive. 5 s.
    pub read_timeout: Duration,
    /// For the response to leave. 30 s.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 32,
            request_bytes: 8 << 10,
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
        }
    }
}

type Source = Arc<dyn Fn() -> String + Send + Sync>;

/// What the server shows. Closures run on the connection's task: they must not block, and read what is there.
#[derive(Clone)]
pub struct Admin {
    limits: Limits,
    ready: Ready,
    live: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    metrics: Option<Source>,
    state: Option<Source>,
}

impl Admin {
    /// `/livez` that always says yes, as it depends on no peer, and `/readyz` of these gates.
    pub fn new(ready: Ready) -> Self {
        Self {
            limits: Limits::default(),
            ready,
            live: Arc::new(|| Ok(())),
            metrics: None,
            state: None,
        }
    }

    /// Other limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// `GET /livez`: 503 with the reason on an error.
    pub fn live(mut self, live: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.live = Arc::new(live);
        self
    }

    /// `GET /metrics`: the text format of OpenMetrics.
    pub fn metrics(mut self, metrics: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Arc::new(metrics));
        self
    }

    /// `GET /debug/state`: text or JSON, sorted.
    pub fn debug_state(mut self, state: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.state = Some(Arc::new(state));
        self
    }

    /// Serves until `drain` is cancelled; requests under way then have until their time limit.
    ///
    /// The future is to be spawned by the caller. Dropping it closes all connections.
    pub async fn serve(self, listener: Listener, drain: CancellationToken) {
        // a system without file descriptors for us will not have them at once
        const PAUSE: Duration = Duration::from_millis(100);
        let mut connections = JoinSet::new();
        loop {
            let room = connections.len() < self.limits.connections;
            tokio::select! {
                () = drain.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => note(ended),
                accepted = listener.accept(), if room => match accepted {
                    Ok(stream) => {
                        let admin = self.clone();
                        connections.spawn(async move { admin.answer_one(stream).await });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept an admin connection");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    }

    async fn answer_one(&self, mut stream: Box<dyn Stream>) {
        let request = http::read(&mut stream, self.limits.request_bytes, self.limits.read_timeout);
        let response = match request.await {
            Ok(request) => {
                let mut response = self.respond(&request);
                response.head_only = request.head_only;
                response
            }
            Err(http::ReadError::Gone) => return,
            Err(http::ReadError::Malformed) => Response::text(400, "malformed request\n"),
            Err(http::ReadError::TooLarge) => Response::text(431, "request too large\n"),
            Err(http::ReadError::Timeout) => Response::text(408, "no request in time\n"),
        };
        http::write(&mut stream, &response, self.limits.write_timeout).await;
    }

    fn respond(&self, request: &http::Request) -> Response {
        let source = |source: &Option<Source>, content_type| match source {
            Some(source) => Response { content_type, ..Response::text(200, source()) },
            None => Response::text(404, "not offered by this program\n"),
        };
        if !request.known_method {
            return Response::text(405, "only GET and HEAD\n");
        }
        match request.path.as_str() {
            "/livez" => match (self.live)() {
                Ok(()) => Response::text(200, "ok\n"),
                Err(reason) => Response::text(503, format!("{reason}\n")),
            },
            "/readyz" => self.readyz(request.flag("verbose")),
            "/metrics" => source(&self.metrics, METRICS),
            "/debug/state" => source(&self.state, TEXT),
            _ => Response::text(404, "try /livez /readyz?verbose /metrics /debug/state\n"),
        }
    }

    fn readyz(&self, verbose: bool) -> Response {
        let gates = self.ready.report();
        let ready = !gates.is_empty() && gates.iter().all(|gate| gate.open);
        let mut body = String::new();
        for gate in &gates {
            if gate.open && !verbose {
                continue;
            }
            let (mark, age) = (if gate.open { '+' } else { '-' }, gate.age.as_secs_f64());
            // writing to a String cannot fail
            let _ = match gate.reason.as_str() {
                "" => writeln!(body, "[{mark}] {} for {age:.1}s", gate.name),
                reason => writeln!(body, "[{mark}] {} for {age:.1}s: {reason}", gate.name),
            };
        }
        body.push_str(if ready { "ready\n" } else { "not ready\n" });
        Response::text(if ready { 200 } else { 503 }, body)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an admin request failed");
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct Response {
    status: u16,
    content_type: &'static str,
    body: String,
    head_only: bool,
}

impl Response {
    fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: TEXT, body: body.into(), head_only: false }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A socket to serve on.
#[derive(Debug)]
pub enum Listener {
    /// An address and port.
    Tcp(TcpListener),
    /// A socket in the file system.
    Unix(UnixListener),
}

impl Listener {
    /// Listens on an address; port 0 lets the system choose.
    ///
    /// Errors: those of the system.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::Tcp)
    }

    /// Listens on a path, which must not exist.
    ///
    /// Errors: those of the system.
    pub fn unix(path: impl AsRef<Path>) -> io::Result<Self> {
        UnixListener::bind(path).map(Self::Unix)
    }

    /// The address and port, also the one that the system chose; `None` for a path.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// The path; `None` for an address.
    pub fn unix_path(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(listener) => listener.local_addr().ok()?.as_pathname().map(Path::to_owned),
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

#[cfg(test)]
mod tests;
