//! The client side of a probe.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use weir_policy::port::Protocol;

use super::{Budget, Outcome, Request};
use crate::error::{Error, Result};
use crate::netns::Inside;

/// Between two attempts while waiting for a verdict to change. Units: the precision of what is measured.
const PACE: Duration = Duration::from_millis(2);
/// So many attempts in a row must agree before a changed verdict counts.
const IN_A_ROW: usize = 5;

/// One exchange, with further attempts as the budget says.
pub(super) async fn exchange(request: &Request, budget: Budget) -> Outcome {
    match request.protocol {
        Protocol::Tcp => exchange_tcp(request, budget).await,
        Protocol::Udp => exchange_udp(request, budget).await,
        Protocol::Sctp => Outcome::Failed("no SCTP in this kernel".to_owned()),
    }
}

async fn exchange_tcp(request: &Request, budget: Budget) -> Outcome {
    let deadline = tokio::time::Instant::now() + budget.until;
    let mut attempts = JoinSet::new();
    for delay in std::iter::once(Duration::ZERO).chain(budget.again.iter().copied()) {
        let (from, to) = (request.from.clone(), request.to);
        attempts.spawn(async move {
            if !delay.is_zero() {
                sleep(delay).await;
            }
            ask_tcp(&from, to).await
        });
    }
    let mut last = Outcome::Silent;
    loop {
        tokio::select! {
            () = sleep_until(deadline) => return last,
            done = attempts.join_next() => match done {
                Some(Ok(outcome)) if outcome.is_open() => return outcome,
                Some(Ok(outcome)) => last = outcome,
                Some(Err(_)) => {}
                None => return last,
            },
        }
    }
}

async fn ask_tcp(from: &Inside, to: SocketAddr) -> Outcome {
    match try_tcp(from, to).await {
        Ok(name) => Outcome::Answered(name),
        Err(e) => failure(&e),
    }
}

async fn try_tcp(from: &Inside, to: SocketAddr) -> io::Result<String> {
    let mut stream = connect(from, to).await?;
    let question = question();
    stream.write_all(&question).await?;
    let mut answer = Vec::with_capacity(64);
    while answer.last() != Some(&b'\n') {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    name_in(&answer, &question)
}

/// A connection that ends with a reset, so that a thousand probes leave no waiting state behind.
pub(super) async fn connect(from: &Inside, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = from
        .ask(move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() })
        .await?;
    socket.set_zero_linger()?;
    socket.set_nodelay(true)?;
    socket.connect(to).await
}

async fn exchange_udp(request: &Request, budget: Budget) -> Outcome {
    let socket = match udp_socket(&request.from, request.to).await {
        Ok(socket) => socket,
        Err(e) => return failure(&e),
    };
    let start = tokio::time::Instant::now();
    let question = question();
    let mut buffer = [0; 128];
    let mut last = Outcome::Silent;
    let ends = budget.again.iter().copied().chain(std::iter::once(budget.until));
    for end in ends {
        if let Err(e) = socket.send(&question).await {
            last = failure(&e);
            if last.is_open() {
                return last;
            }
        }
        // until it is time to ask again
        while let Ok(received) =
            tokio::time::timeout_at(start + end, socket.recv(&mut buffer)).await
        {
            match received {
                Ok(n) => {
                    if let Ok(name) = name_in(buffer.get(..n).unwrap_or_default(), &question) {
                        return Outcome::Answered(name);
                    }
                }
                Err(e) => {
                    last = failure(&e);
                    if last.is_open() {
                        return last;
                    }
                    sleep_until(start + end).await;
                    break;
                }
            }
        }
    }
    last
}

pub(super) async fn udp_socket(from: &Inside, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = from
        .ask(move || {
            let any: SocketAddr = if to.is_ipv4() {
                (Ipv4Addr::UNSPECIFIED, 0).into()
            } else {
                (Ipv6Addr::UNSPECIFIED, 0).into()
            };
            let socket = std::net::UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            socket.connect(to)?;
            Ok(socket)
        })
        .await?;
    UdpSocket::from_std(socket)
}

/// `P` and a number that nobody else uses.
fn question() -> [u8; super::server::REQUEST] {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let mut out = [b'P'; super::server::REQUEST];
    if let Some(nonce) = out.get_mut(1..) {
        nonce.copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    }
    out
}

/// The name behind the number, if the number is the one asked with.
fn name_in(answer: &[u8], question: &[u8]) -> io::Result<String> {
    answer
        .strip_prefix(question.get(1..).unwrap_or_default())
        .map(|name| String::from_utf8_lossy(name).trim_end().to_owned())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"))
}

fn failure(e: &io::Error) -> Outcome {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => Outcome::Refused,
        // neighbour resolution failed: nobody answered for that address
        io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => Outcome::Silent,
        // answered and then cut, or an answer cut short
        _ => Outcome::Failed(e.to_string()),
    }
}

/// See [`super::Engine::first_right`].
pub(super) async fn first_right(
    request: &Request,
    open: bool,
    since: Instant,
    limit: Duration,
) -> Result<Duration> {
    // attempts overlap: each has its own start, and silence takes its time to be one
    let mut running = JoinSet::new();
    let mut verdicts: BTreeMap<usize, (Duration, bool)> = BTreeMap::new();
    let mut started = 0_usize;
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        tokio::select! {
            () = sleep_until(deadline) => {
                return Err(Error::Late {
                    what: format!(
                        "{} {} {}",
                        request.from.name(),
                        if open { "reaches" } else { "no longer reaches" },
                        request.to
                    ),
                    after: limit,
                });
            }
            () = sleep(PACE) => {
                let request = request.clone();
                let n = started;
                started += 1;
                running.spawn(async move {
                    let begun = since.elapsed();
                    let outcome = timeout(
                        Budget::SINGLE.until,
                        exchange(&request, Budget::SINGLE),
                    )
                    .await
                    .unwrap_or(Outcome::Silent);
                    (n, begun, outcome.is_open())
                });
            }
            Some(Ok((n, begun, verdict))) = running.join_next() => {
                verdicts.insert(n, (begun, verdict));
                if let Some(found) = settled(&verdicts, open) {
                    return Ok(found);
                }
            }
        }
    }
}

/// The start of the first attempt that was right and was followed by others that were.
fn settled(verdicts: &BTreeMap<usize, (Duration, bool)>, open: bool) -> Option<Duration> {
    let mut right = Vec::new();
    for (expected, (n, (begun, verdict))) in verdicts.iter().enumerate() {
        // an attempt without a verdict yet holds up all that came after it
        if *n != expected {
            return None;
        }
        if *verdict == open {
            right.push(*begun);
        } else {
            right.clear();
        }
        if right.len() >= IN_A_ROW {
            return right.first().copied();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_verdict_counts_from_its_first_attempt() {
        let ms = Duration::from_millis;
        let mut verdicts: BTreeMap<usize, (Duration, bool)> =
            (0..10).map(|n| (n, (ms(n as u64), n >= 3))).collect();
        assert_eq!(settled(&verdicts, true), Some(ms(3)));
        assert_eq!(settled(&verdicts, false), None);
        // one wrong one in between starts the count anew
        verdicts.insert(5, (ms(5), false));
        assert_eq!(settled(&verdicts, true), None);
        for n in 10..12 {
            verdicts.insert(n, (ms(n as u64), true));
        }
        assert_eq!(settled(&verdicts, true), Some(ms(6)));
        // and one that is not known yet holds everything up
        verdicts.remove(&1);
        assert_eq!(settled(&verdicts, true), None);
    }

    #[test]
    fn answers_to_other_questions_do_not_count() {
        let q = question();
        assert_eq!(name_in(&[&q[1..], b"x/a\n"].concat(), &q).unwrap(), "x/a");
        name_in(b"01234567x/a\n", &q).unwrap_err();
    }
}
