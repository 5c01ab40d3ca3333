//! Long-lived connections: both ends send a record at an interval, each on its own account, and count what arrives.
//!
//! What a test asks: is the stream alive in each direction, when was it cut, was anything lost, how long was the longest
//! silence. TCP repairs losses, so its silence tells what its counters do not; UDP shows every loss.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use weir_policy::port::Protocol;

use super::{Request, client, lock};
use crate::error::{During, Result};
use crate::wait;

/// The streams that servers know, by number.
pub(super) type Registry = Arc<Mutex<BTreeMap<u64, Arc<State>>>>;

/// How long a new stream may take until both directions move.
const OPENING: Duration = Duration::from_secs(5);
/// Within this time everything under way has arrived, or never will.
const DRAIN: Duration = Duration::from_secs(2);
/// A record on TCP.
const RECORD: usize = 8;

/// One direction of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Records handed to the socket.
    pub sent: u64,
    /// Records that arrived at the other end.
    pub received: u64,
    /// The longest time between two arrivals.
    pub longest_silence: Duration,
    /// When the last record arrived, after the start of the stream.
    pub last_arrival: Duration,
}

impl Way {
    /// Records sent that did not arrive.
    pub const fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// Both directions of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// From the client to the server.
    pub there: Way,
    /// From the server to the client.
    pub back: Way,
}

#[derive(Default)]
struct Counter {
    sent: AtomicU64,
    received: AtomicU64,
    /// Units: microseconds since the start.
    last: AtomicU64,
    gap: AtomicU64,
}

impl Counter {
    fn arrived(&self, start: Instant, records: u64) {
        let now = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = self.last.swap(now, Ordering::Relaxed);
        if self.received.fetch_add(records, Ordering::Relaxed) > 0 {
            self.gap.fetch_max(now.saturating_sub(before), Ordering::Relaxed);
        }
    }

    fn read(&self) -> Way {
        Way {
            // received first: what arrives between the two reads must not look like more than was sent
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            longest_silence: Duration::from_micros(self.gap.load(Ordering::Relaxed)),
            last_arrival: Duration::from_micros(self.last.load(Ordering::Relaxed)),
        }
    }
}

/// What both ends of a stream share.
pub(super) struct State {
    id: u64,
    start: Instant,
    interval: Duration,
    there: Counter,
    back: Counter,
    /// No more records are sent.
    ending: AtomicBool,
    /// The server has begun to send datagrams.
    answering: AtomicBool,
}

impl State {
    fn ticker(&self) -> tokio::time::Interval {
        let mut ticker = interval(self.interval);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticker
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    pub(super) async fn run_server(self: Arc<Self>, socket: TcpStream) {
        if socket.set_nodelay(true).is_err() {
            return;
        }
        let (read, write) = socket.into_split();
        tokio::select! {
            () = self.receive(read, &self.there) => {}
            () = self.send(write, &self.back) => {}
        }
    }

    async fn receive(&self, mut read: OwnedReadHalf, counter: &Counter) {
        let mut buffer = [0; 512];
        let mut bytes = 0;
        while let Ok(n) = read.read(&mut buffer).await {
            if n == 0 {
                return;
            }
            bytes += n;
            let records = bytes / RECORD;
            bytes %= RECORD;
            if records > 0 {
                counter.arrived(self.start, records as u64);
            }
        }
    }

    async fn send(&self, mut write: OwnedWriteHalf, counter: &Counter) {
        let mut ticker = self.ticker();
        while !self.is_ending() {
            ticker.tick().await;
            let n = counter.sent.load(Ordering::Relaxed);
            if write.write_all(&n.to_be_bytes()).await.is_err() {
                return;
            }
            counter.sent.fetch_add(1, Ordering::Relaxed);
        }
        // the connection stays open until the reader of the other side is done with it
        std::future::pending::<()>().await;
    }

    /// True for the first one, when the server shall begin to send.
    pub(super) fn datagram_arrived(&self) -> bool {
        self.there.arrived(self.start, 1);
        !self.answering.swap(true, Ordering::Relaxed)
    }

    pub(super) async fn send_datagrams(self: Arc<Self>, socket: Arc<UdpSocket>, peer: SocketAddr) {
        let mut ticker = self.ticker();
        while !self.is_ending() {
            ticker.tick().await;
            if socket.send_to(&self.id.to_be_bytes(), peer).await.is_ok() {
                self.back.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn run_udp_client(self: Arc<Self>, socket: UdpSocket) {
        let record = [&b"S"[..], &self.id.to_be_bytes()].concat();
        let mut ticker = self.ticker();
        let mut buffer = [0; 64];
        loop {
            tokio::select! {
                _ = ticker.tick() => {
                    if !self.is_ending() && socket.send(&record).await.is_ok() {
                        self.there.sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
                received = socket.recv(&mut buffer) => if received.is_ok() {
                    self.back.arrived(self.start, 1);
                },
            }
        }
    }
}

/// The stream of a number as it stands in a request.
pub(super) fn find(streams: &Registry, id: &[u8]) -> Option<Arc<State>> {
    let id = u64::from_be_bytes(id.try_into().ok()?);
    lock(streams).get(&id).map(Arc::clone)
}

/// A live connection between two pods. Dropping it ends it with a reset.
pub struct Stream {
    state: Arc<State>,
    streams: Registry,
    _client: JoinSet<()>,
}

/// Opens a stream and waits until both directions move.
pub(super) fn open(
    runtime: &Runtime,
    streams: &Registry,
    request: &Request,
    interval: Duration,
) -> Result<Stream> {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let state = Arc::new(State {
        id: COUNT.fetch_add(1, Ordering::Relaxed),
        start: Instant::now(),
        interval,
        there: Counter::default(),
        back: Counter::default(),
        ending: AtomicBool::new(false),
        answering: AtomicBool::new(false),
    });
    lock(streams).insert(state.id, Arc::clone(&state));
    let mut stream =
        Stream { state: Arc::clone(&state), streams: Arc::clone(streams), _client: JoinSet::new() };
    let what = || format!("a stream from {} to {}", request.from.name(), request.to);
    let client = &mut stream._client;
    runtime
        .block_on(async {
            let begin = async {
                match request.protocol {
                    Protocol::Tcp => {
                        let mut socket = client::connect(&request.from, request.to).await?;
                        let hello = [&b"S"[..], &state.id.to_be_bytes()].concat();
                        socket.write_all(&hello).await?;
                        let (read, write) = socket.into_split();
                        client.spawn(async move {
                            tokio::select! {
                                () = state.receive(read, &state.back) => {}
                                () = state.send(write, &state.there) => {}
                            }
                        });
                    }
                    Protocol::Udp | Protocol::Sctp => {
                        let socket = client::udp_socket(&request.from, request.to).await?;
                        client.spawn(state.run_udp_client(socket));
                    }
                }
                Ok::<(), std::io::Error>(())
            };
            timeout(OPENING, begin)
                .await
                .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        })
        .during(what)?;
    wait::until(&what(), OPENING, || {
        let counts = stream.counts();
        Ok((counts.there.received > 1 && counts.back.received > 1).then_some(()))
    })?;
    Ok(stream)
}

impl Stream {
    /// How it stands now.
    pub fn counts(&self) -> Counts {
        Counts { there: self.state.there.read(), back: self.state.back.read() }
    }

    /// When the stream was begun; the times in [`Way`] count from here.
    pub fn start(&self) -> Instant {
        self.state.start
    }

    /// Waits until a record has arrived in each direction that was sent after this call.
    ///
    /// Errors: [`Error::Late`](crate::Error::Late) after `limit`.
    pub fn moves(&self, limit: Duration) -> Result<()> {
        let before = self.counts();
        wait::until("a live connection moves in both directions", limit, || {
            let now = self.counts();
            // one record may have been under way, the second one was not
            Ok((now.there.received > before.there.received + 1
                && now.back.received > before.back.received + 1)
                .then_some(()))
        })
    }

    /// Waits until nothing has arrived in either direction for `quiet`, and returns when the last record came.
    ///
    /// Errors: [`Error::Late`](crate::Error::Late) when something still arrives after `limit`.
    pub fn is_cut(&self, quiet: Duration, limit: Duration) -> Result<Instant> {
        wait::until("a live connection is cut in both directions", limit, || {
            let now = self.counts();
            let last = now.there.last_arrival.max(now.back.last_arrival);
            let last = self.state.start + last;
            Ok((last.elapsed() >= quiet).then_some(last))
        })
    }

    /// Sends no more, waits until all that was sent has arrived or cannot arrive any more, and returns the final counts.
    pub fn finish(self) -> Counts {
        self.state.ending.store(true, Ordering::Relaxed);
        let complete = wait::until("the last records", DRAIN, || {
            let now = self.counts();
            Ok((now.there.lost() == 0 && now.back.lost() == 0).then_some(now))
        });
        complete.unwrap_or_else(|_| self.counts())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.state.ending.store(true, Ordering::Relaxed);
        lock(&self.streams).remove(&self.state.id);
    }
}
