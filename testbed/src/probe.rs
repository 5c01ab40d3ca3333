//! Real connections: servers in every pod, clients, and long-lived streams.
//!
//! [`Engine`] runs them all, whatever namespace their sockets belong to: a socket keeps the namespace it was made in, so
//! one process serves every pod. A probe is a whole exchange: the client sends a number, the server sends it back with its
//! own name, so that an answer from the wrong pod is noticed.
//!
//! The kernel sends a lost SYN again after a whole second. A probe therefore opens further connections after a few
//! dozen milliseconds ([`Budget`]) and believes the first that is answered.

pub mod client;
pub mod server;
pub mod stream;
pub mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use weir_policy::port::Protocol;

use crate::error::{During, Result};
use crate::netns::Inside;
use crate::require;

pub use server::Serving;
pub use stream::Stream;
pub use watch::{Attempts, Watch};

/// Probes under way at one moment; each is a handful of sockets, and more would only queue in the switch.
const AT_ONCE: usize = 512;

/// Something that a pod serves: protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Service {
    pub protocol: Protocol,
    pub port: u16,
}

/// TCP on a port.
pub const fn tcp(port: u16) -> Service {
    Service { protocol: Protocol::Tcp, port }
}

/// UDP on a port.
pub const fn udp(port: u16) -> Service {
    Service { protocol: Protocol::Udp, port }
}

/// The number alone for TCP, `53/udp` for others, as `weirctl matrix` prints it.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => write!(f, "{}", self.port),
            other => write!(f, "{}/{other}", self.port),
        }
    }
}

/// What [`fmt::Display`] writes.
impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let port = port.parse().map_err(|_| format!("{text:?} is not PORT or PORT/PROTOCOL"))?;
        Ok(Self { protocol: protocol.parse()?, port })
    }
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The exchange was completed; the name is the server's own.
    Answered(String),
    /// A reset or "port unreachable": the packet arrived, but nobody listens.
    Refused,
    /// Nothing came back in time.
    Silent,
    /// The client could not even send.
    Failed(String),
}

impl Outcome {
    /// The packet got through, and back. A policy never refuses, it is silent (NP-41).
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Answered(_) | Self::Refused)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(who) => write!(f, "answered by {who}"),
            Self::Refused => f.write_str("refused: nobody listens"),
            Self::Silent => f.write_str("no answer"),
            Self::Failed(why) => write!(f, "could not send: {why}"),
        }
    }
}

/// How patient a probe is.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// When, after the start, the client tries again.
    pub again: &'static [Duration],
    /// When it gives up.
    pub until: Duration,
}

impl Budget {
    /// A first look: on an idle machine an answer takes a few milliseconds, many at once some dozens.
    pub const QUICK: Self = Self {
        again: &[Duration::from_millis(40), Duration::from_millis(110), Duration::from_millis(200)],
        until: Duration::from_millis(300),
    };
    /// A second look at what surprised, with room for a busy machine.
    pub const PATIENT: Self = Self {
        again: &[
            Duration::from_millis(60),
            Duration::from_millis(150),
            Duration::from_millis(300),
            Duration::from_millis(500),
        ],
        until: Duration::from_millis(700),
    };
    /// One attempt: for measuring the moment at which a verdict changes.
    pub const SINGLE: Self = Self { again: &[], until: Duration::from_millis(150) };
}

/// One exchange to try.
#[derive(Clone, Debug)]
pub struct Request {
    pub from: Inside,
    pub to: SocketAddr,
    pub protocol: Protocol,
}

/// Runs servers, probes and streams.
pub struct Engine {
    runtime: Runtime,
    streams: stream::Registry,
}

impl Engine {
    /// Starts the threads that wait for sockets.
    pub fn start() -> Result<Self> {
        require::raise_file_limit()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("probe")
            .enable_all()
            .build()
            .during(|| "starting the probe threads".to_owned())?;
        Ok(Self { runtime, streams: Arc::new(Mutex::new(BTreeMap::new())) })
    }

    /// Serves `services` in a namespace under a name, until the result is dropped. SCTP is left out: it is for flow-level
    /// tests, as few kernels carry it.
    ///
    /// Errors: [`Error::Io`](crate::Error::Io) when a port is taken.
    pub fn serve(&self, inside: &Inside, name: &str, services: &[Service]) -> Result<Serving> {
        let _entered = self.runtime.enter();
        server::serve(inside, name, services, &self.streams)
    }

    /// Tries all of these at once; the outcomes are in the order of the requests.
    pub fn probe(&self, requests: Vec<Request>, budget: Budget) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::Silent; requests.len()];
        self.runtime.block_on(async {
            let room = Arc::new(Semaphore::new(AT_ONCE));
            let mut running = JoinSet::new();
            for (n, request) in requests.into_iter().enumerate() {
                let room = Arc::clone(&room);
                running.spawn(async move {
                    let _permit = room.acquire_owned().await;
                    (n, client::exchange(&request, budget).await)
                });
            }
            while let Some(done) = running.join_next().await {
                match done {
                    Ok((n, outcome)) => {
                        if let Some(slot) = outcomes.get_mut(n) {
                            *slot = outcome;
                        }
                    }
                    Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                    Err(_) => {}
                }
            }
        });
        outcomes
    }

    /// Tries again and again, a new connection each time, until the verdict is `open` and stays so; the result is how long
    /// after `since` the first attempt with the right verdict began.
    ///
    /// Errors: [`Error::Late`](crate::Error::Late) after `limit`.
    pub fn first_right(
        &self,
        request: &Request,
        open: bool,
        since: std::time::Instant,
        limit: Duration,
    ) -> Result<Duration> {
        self.runtime.block_on(client::first_right(request, open, since, limit))
    }

    /// Opens a connection on which both ends send small records at an interval, each on its own account.
    ///
    /// Errors: [`Error::Late`](crate::Error::Late) when it does not get through both ways.
    pub fn stream(&self, request: &Request, interval: Duration) -> Result<Stream> {
        stream::open(&self.runtime, &self.streams, request, interval)
    }

    /// Tries again and again, a new connection every few milliseconds, each for as long, until told to finish.
    pub fn watch(&self, request: &Request, each: Duration) -> Watch {
        watch::start(&self.runtime, request, each)
    }
}

/// The content of a lock, also after a holder panicked: counters and maps are right at every moment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
