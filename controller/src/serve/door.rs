//! Connections before anybody knows whose they are.
//!
//! Whoever can reach the port can open connections. So those that have not proved anything yet are few, few from any one
//! source, and of short life: a place is taken before the TLS handshake and held until a request has shown who asks.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::Refusals;
use super::refusals::{About, Source};

/// What is granted to connections that have shown no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All of them; more wait in the system's queue. 256.
    pub newcomers: usize,
    /// Those of one IPv4 address or one IPv6 /64; more are closed. 16.
    pub per_source: usize,
    /// For the handshake and the first request with an identity, together. 10 s.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { newcomers: 256, per_source: 16, patience: Duration::from_secs(10) }
    }
}

/// Counts who is there without identity.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) limits: Limits,
    room: Arc<Semaphore>,
    sources: Mutex<HashMap<Source, usize>>,
}

/// A connection's place among those without identity, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    door: Arc<Door>,
    source: Source,
    _room: OwnedSemaphorePermit,
}

impl Door {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(limits.newcomers));
        Arc::new(Self { limits, room, sources: Mutex::default() })
    }

    /// Waits until there is room for one more.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        let room = Arc::clone(&self.room).acquire_owned();
        room.await.expect("nobody closes this semaphore")
    }

    /// A place for a connection, if its source has not too many.
    pub(super) fn enter(
        self: &Arc<Self>,
        from: SocketAddr,
        room: OwnedSemaphorePermit,
    ) -> Option<Place> {
        let source = Source::of(from.ip());
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_default();
        if *count >= self.limits.per_source {
            return None;
        }
        *count += 1;
        Some(Place { door: Arc::clone(self), source, _room: room })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sources = self.door.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// What requests know of their connection.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) from: SocketAddr,
    pub(super) certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
    pub(super) standing: Arc<Standing>,
}

/// How far a connection has come with its identity.
#[derive(Debug)]
pub(super) struct Standing {
    known: AtomicBool,
    refused: AtomicBool,
    place: Mutex<Option<Place>>,
    /// One token is judged at a time.
    pub(super) judging: tokio::sync::Mutex<()>,
}

impl Standing {
    /// A request has shown who asks: the connection may stay, and its place is free for another.
    pub(super) fn admit(&self) {
        self.known.store(true, Ordering::Release);
        self.leave();
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// A token was refused. One try is enough: the next needs a new connection, and so a place.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Release);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    fn leave(&self) {
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// A connection that ends when nobody has said in time whose it is.
pub(super) struct Guarded {
    stream: TlsStream<TcpStream>,
    from: SocketAddr,
    standing: Arc<Standing>,
    refusals: Arc<Refusals>,
    /// Absent once the identity is known.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        from: SocketAddr,
        place: Place,
        until: Instant,
        refusals: Arc<Refusals>,
    ) -> Self {
        let standing = Standing {
            known: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            place: Mutex::new(Some(place)),
            judging: tokio::sync::Mutex::default(),
        };
        let deadline = Some(Box::pin(tokio::time::sleep_until(until)));
        Self { stream, from, standing: Arc::new(standing), refusals, deadline }
    }

    /// The error that ends the connection, once its time is over. The caller polls this whenever it is polled itself, so
    /// that neither a peer that sends nothing nor one that reads nothing keeps the connection.
    fn overdue(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(deadline) = &mut self.deadline else {
            return Ok(());
        };
        if self.standing.is_known() {
            self.deadline = None;
            return Ok(());
        }
        if deadline.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        if self.standing.place.lock().is_ok_and(|mut place| place.take().is_some()) {
            self.refusals.late.fetch_add(1, Ordering::Relaxed);
            let about = About::Source(Source::of(self.from.ip()));
            if let Some(more) = self.refusals.is_news(about, "late") {
                tracing::warn!(peer = %self.from, more, "closed: did not say in time who it is");
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "no identity in time"))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // a request under way may keep the rest a little longer
        self.standing.leave();
    }
}

impl Connected for Guarded {
    type ConnectInfo = Arrival;

    fn connect_info(&self) -> Arrival {
        let (_, session) = self.stream.get_ref();
        let certificates = session.peer_certificates().map(|all| Arc::new(all.to_vec()));
        Arrival { from: self.from, certificates, standing: Arc::clone(&self.standing) }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.overdue(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.overdue(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.overdue(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.overdue(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.overdue(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
