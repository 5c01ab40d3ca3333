//! The driver: sockets, timers, and what happens between connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::client::backoff::Backoff;
use crate::client::lock::Locks;
use crate::client::session::{Alarm, Session};
use crate::client::{Observer, Options, Request, TableRequest, Target};
use crate::error::{Error, Result};
use crate::replica::{Changes, Replica};
use crate::rpc::Decoder;

/// Room made before each read. Units: bytes.
const READ: usize = 1 << 16;

/// Says false when the driver is dropped, too, and ends all waiting for locks.
pub(super) struct Connected {
    pub(super) connected: watch::Sender<bool>,
    pub(super) locks: Arc<Locks>,
}

impl Connected {
    fn set(&self, value: bool) {
        self.connected.send_if_modified(|current| std::mem::replace(current, value) != value);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.set(false);
        self.locks.stop();
    }
}

/// The replica as the observer knows it, over all connections.
pub(super) struct Shown<O> {
    pub(super) observer: O,
    /// Counts what the observer was shown.
    pub(super) count: watch::Sender<u64>,
    pub(super) replica: Replica,
}

impl<O: Observer> Shown<O> {
    pub(super) fn replaced(&mut self, replica: Replica) {
        let changes = replica.since(&self.replica);
        self.replica = replica;
        self.observer.replaced(&self.replica, &changes);
        self.count.send_modify(|count| *count += 1);
    }

    pub(super) fn changed(&mut self, changes: &Changes) {
        self.observer.changed(&self.replica, changes);
        self.count.send_modify(|count| *count += 1);
    }
}

/// What a driver works with.
pub(super) struct Setup<O> {
    pub(super) target: Target,
    pub(super) options: Options,
    pub(super) tables: Vec<TableRequest>,
    pub(super) shown: Shown<O>,
    pub(super) queue: mpsc::Receiver<Request>,
    pub(super) connected: Connected,
    pub(super) trouble: watch::Sender<Option<String>>,
}

pub(super) async fn run<O: Observer>(setup: Setup<O>) {
    let Setup { target, options, mut tables, mut shown, mut queue, connected, trouble } = setup;
    let locks = Arc::clone(&connected.locks);
    let mut backoff = Backoff::new(options.backoff_min, options.backoff_max);
    let mut last_cause = String::new();
    loop {
        let opened = until_open(&target, &options, &mut queue).await;
        let started = Instant::now();
        let mut live_since = None;
        let error = match opened {
            Ok(stream) => {
                let mut session = Session::new(&options, &mut tables, &locks, started);
                let mut link = Link {
                    stream,
                    session: &mut session,
                    shown: &mut shown,
                    locks: &locks,
                    connected: &connected,
                    trouble: &trouble,
                    live_since: &mut live_since,
                };
                let Err(error) = link.converse(&mut queue, &options).await;
                // what came before the failure is true
                session.publish(&mut shown);
                trouble.send_replace(Some(chain(&error)));
                connected.set(false);
                session.abandon();
                error
            }
            Err(error) => error,
        };
        if live_since.is_some_and(|since: Instant| since.elapsed() >= options.stable_after) {
            backoff.reset();
        }
        let pause = backoff.pause();
        let cause = chain(&error);
        // said once per cause, not at every attempt
        if live_since.is_some() || cause != last_cause {
            tracing::warn!(%target, %cause, ?pause, "no database connection, will try again");
        } else {
            tracing::debug!(%target, %cause, ?pause, "still no database connection");
        }
        trouble.send_if_modified(|told| {
            let news = told.as_ref() != Some(&cause);
            *told = Some(cause.clone());
            news
        });
        last_cause = cause;
        refusing(&mut queue, sleep(pause)).await;
    }
}

/// An error with its sources, on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Waits for `until`, answering requests meanwhile that there is no connection.
async fn refusing<F: Future>(queue: &mut mpsc::Receiver<Request>, until: F) -> F::Output {
    let mut until = pin!(until);
    loop {
        tokio::select! {
            output = &mut until => return output,
            Some(request) = queue.recv() => {
                request.fail(Error::NotConnected);
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn open(target: &Target, options: &Options) -> Result<Box<dyn Stream>> {
    let failed = |source| Error::Connect { target: target.to_string(), source };
    Ok(match target {
        Target::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            Box::new(stream)
        }
        Target::Tls(address) => secured(*address, options).await?,
    })
}

#[cfg(feature = "tls")]
async fn secured(address: SocketAddr, options: &Options) -> Result<Box<dyn Stream>> {
    let target = || Target::Tls(address).to_string();
    let tls = options.tls.as_ref().ok_or_else(|| Error::NoTls(target()))?;
    let stream = tls.open(address).await;
    Ok(Box::new(stream.map_err(|source| Error::Connect { target: target(), source })?))
}

#[cfg(not(feature = "tls"))]
async fn secured(address: SocketAddr, _: &Options) -> Result<Box<dyn Stream>> {
    Err(Error::NoTls(Target::Tls(address).to_string()))
}

async fn until_open(
    target: &Target,
    options: &Options,
    queue: &mut mpsc::Receiver<Request>,
) -> Result<Box<dyn Stream>> {
    let after = options.connect_timeout;
    match refusing(queue, timeout(after, open(target, options))).await {
        Ok(opened) => opened,
        Err(_) => Err(Error::Timeout { what: "connection", after }),
    }
}

/// Writes what the socket takes, or makes sure that nothing is held back on the way to it. May be dropped at any time.
async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    output: &mut BytesMut,
    unflushed: &mut bool,
) -> Result<()> {
    if output.is_empty() {
        writer.flush().await?;
        *unflushed = false;
    } else if writer.write_buf(output).await? == 0 {
        return Err(Error::Closed);
    } else {
        *unflushed = true;
    }
    Ok(())
}

/// One open connection.
struct Link<'a, 'o, O> {
    stream: Box<dyn Stream>,
    session: &'a mut Session<'o>,
    shown: &'a mut Shown<O>,
    locks: &'a Locks,
    connected: &'a Connected,
    trouble: &'a watch::Sender<Option<String>>,
    live_since: &'a mut Option<Instant>,
}

impl<O: Observer> Link<'_, '_, O> {
    /// Reads, writes and watches the clock until something fails. Writing never keeps us from reading, or we and a
    /// server that writes as well would wait for each other.
    async fn converse(
        &mut self,
        queue: &mut mpsc::Receiver<Request>,
        options: &Options,
    ) -> Result<Infallible> {
        let mut decoder = Decoder::new(options.limits.message);
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        // TLS keeps what the socket does not take at once
        let mut unflushed = false;
        loop {
            let (at, alarm) = self.session.deadline();
            decoder.buffer().reserve(READ);
            let sending = unflushed || !self.session.output.is_empty();
            // before the replica is full requests are refused, not kept
            let accepting = self.session.accepts() || !self.session.is_live();
            tokio::select! {
                read = reader.read_buf(decoder.buffer()) => {
                    if read? == 0 {
                        decoder.finish()?;
                        return Err(Error::Closed);
                    }
                    self.session.heard(Instant::now());
                    while let Some(json) = decoder.next_object()? {
                        let was_live = self.session.is_live();
                        self.session.receive(json, self.shown)?;
                        if !was_live && self.session.is_live() {
                            tracing::info!("database connected, replica full");
                            *self.live_since = Some(Instant::now());
                            self.trouble.send_replace(None);
                            self.connected.set(true);
                            self.session.settle_locks(Instant::now());
                        }
                    }
                    self.session.publish(self.shown);
                }
                sent = send(&mut writer, &mut self.session.output, &mut unflushed), if sending => sent?,
                Some(request) = queue.recv(), if accepting => {
                    if self.session.is_live() {
                        self.session.submit(request, Instant::now());
                    } else {
                        request.fail(Error::NotConnected);
                    }
                }
                () = self.locks.changed.notified() => self.session.settle_locks(Instant::now()),
                () = sleep_until(at) => match alarm {
                    Alarm::Probe => self.session.probe(Instant::now()),
                    Alarm::Fail { what, after } => return Err(Error::Timeout { what, after }),
                },
            }
        }
    }
}
