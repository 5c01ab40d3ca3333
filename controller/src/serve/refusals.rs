//! Who was refused: counted by reason, and logged no more often than is useful.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a refusal that was logged is no news. An agent that is refused comes again every few seconds.
const OLD_NEWS: Duration = Duration::from_secs(600);
/// Lines about one source within that time. More than there are reasons to refuse an honest one.
const PER_SOURCE: usize = 16;
/// Lines about all sources within [`MINUTE`], so that many sources fill no disk either.
const PER_MINUTE: u32 = 120;
const MINUTE: Duration = Duration::from_secs(60);
/// Sources that are remembered.
const REMEMBERED: usize = 1024;

/// Where somebody comes from, as far as limits go. Whoever has an IPv6 address has the rest of its /64, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        // a socket that takes both families shows IPv4 addresses inside of IPv6 ones, all of them in one /64
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let bits = u128::from(v6) >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from(bits))
            }
            v4 => v4,
        })
    }
}

/// What a line in the log is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum About {
    Source(Source),
    /// Somebody who has proved to be this node.
    Node(String),
}

/// Who was refused, by reason.
#[derive(Debug, Default)]
pub struct Refusals {
    /// More connections of one source than may be without identity at once.
    pub crowd: AtomicU64,
    /// No TLS connection came about: a certificate of another authority, none where one is needed, or no TLS at all.
    pub handshake: AtomicU64,
    /// A certificate of our authority that is nobody's, or an operator's where a node's is needed, or the reverse.
    pub identity: AtomicU64,
    /// A connection that did not say in time who it is.
    pub late: AtomicU64,
    /// Messages that are no protobuf, too large, or not what had to come.
    pub malformed: AtomicU64,
    /// A node that speaks for another.
    pub wrong_node: AtomicU64,
    /// A token that the API server does not take, and not for a reason below: forged, of another cluster, or its pod, node
    /// or account is gone.
    pub token: AtomicU64,
    /// A token of another ServiceAccount.
    pub token_account: AtomicU64,
    /// One more token on a connection that had one refused.
    pub token_again: AtomicU64,
    /// A token that the API server does not take and that says it is for another audience.
    pub token_audience: AtomicU64,
    /// A token that the API server does not take and that says its time is over.
    pub token_expired: AtomicU64,
    /// Neither a token nor a certificate, or a token that is none.
    pub token_missing: AtomicU64,
    /// A token that is bound to no node.
    pub token_unbound: AtomicU64,
    /// A protocol that is too old.
    pub version: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    about: HashMap<About, Said>,
    /// Lines since then.
    minute: Option<(Instant, u32)>,
    hasher: RandomState,
}

/// What was said of one.
#[derive(Debug, Default)]
struct Said {
    /// Hashes of the reasons, oldest first.
    lines: VecDeque<(u64, Instant)>,
    /// Refusals since the last line that were not said for lack of room.
    more: u64,
}

impl Refusals {
    /// Every reason with its count, in the order of names.
    pub fn counts(&self) -> [(&'static str, u64); 14] {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        [
            ("crowd", read(&self.crowd)),
            ("handshake", read(&self.handshake)),
            ("identity", read(&self.identity)),
            ("late", read(&self.late)),
            ("malformed", read(&self.malformed)),
            ("other-node", read(&self.wrong_node)),
            ("token", read(&self.token)),
            ("token-account", read(&self.token_account)),
            ("token-again", read(&self.token_again)),
            ("token-audience", read(&self.token_audience)),
            ("token-expired", read(&self.token_expired)),
            ("token-missing", read(&self.token_missing)),
            ("token-unbound", read(&self.token_unbound)),
            ("version", read(&self.version)),
        ]
    }

    /// Sorted lines, for people.
    pub fn describe(&self) -> String {
        let lines = self.counts().map(|(reason, count)| format!("refused, {reason}: {count}\n"));
        lines.concat()
    }

    /// Whether something about somebody is worth a line in the log; then it is taken to be logged now. Says how many
    /// others were left out since the last line about the same.
    pub(super) fn is_news(&self, about: About, what: &str) -> Option<u64> {
        let now = Instant::now();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = log.hasher.hash_one(what);
        if log.minute.is_none_or(|(since, _)| now.duration_since(since) >= MINUTE) {
            log.minute = Some((now, 0));
        }
        let room = log.minute.is_some_and(|(_, lines)| lines < PER_MINUTE);
        if !log.about.contains_key(&about) && log.about.len() >= REMEMBERED {
            log.forget_one();
        }
        let said = log.about.entry(about).or_default();
        while said.lines.front().is_some_and(|(_, at)| now.duration_since(*at) >= OLD_NEWS) {
            said.lines.pop_front();
        }
        if said.lines.iter().any(|(line, _)| *line == hash) {
            return None;
        }
        if said.lines.len() >= PER_SOURCE || !room {
            said.more += 1;
            return None;
        }
        said.lines.push_back((hash, now));
        let more = std::mem::take(&mut said.more);
        if let Some((_, lines)) = &mut log.minute {
            *lines += 1;
        }
        Some(more)
    }
}

impl Log {
    /// The one about whom nothing was said for the longest time.
    fn forget_one(&mut self) {
        let last = |said: &Said| said.lines.back().map(|(_, at)| *at);
        let oldest = self.about.iter().min_by_key(|(_, said)| last(said));
        if let Some(about) = oldest.map(|(about, _)| about.clone()) {
            self.about.remove(&about);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> About {
        About::Source(Source::of(text.parse().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn one_source_fills_no_log() {
        let refusals = Refusals::default();
        let said = |who: &str, range: std::ops::Range<u32>| {
            range.filter_map(|n| refusals.is_news(source(who), &n.to_string())).count()
        };
        assert_eq!(said("192.0.2.1", 0..1000), PER_SOURCE);
        // nor by the rest of its addresses, and the others still have their lines
        let six: Vec<String> = (0..1000).map(|n| format!("2001:db8::{n:x}")).collect();
        let lines = six.iter().filter_map(|ip| refusals.is_news(source(ip), ip)).count();
        assert_eq!(lines, PER_SOURCE);
        assert_eq!(said("192.0.2.2", 0..1), 1);
        // the same reason is news again after a while, and what was left out is told then
        assert_eq!(refusals.is_news(source("192.0.2.2"), "0"), None);
        tokio::time::advance(OLD_NEWS).await;
        assert_eq!(refusals.is_news(source("192.0.2.2"), "0"), Some(0));
        assert_eq!(refusals.is_news(source("192.0.2.1"), "0"), Some(1000 - PER_SOURCE as u64));
    }

    #[tokio::test(start_paused = true)]
    async fn many_sources_fill_no_log_either() {
        let refusals = Refusals::default();
        let many = |from: u32| {
            let all = (from..from + 5000).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
            all.filter_map(|ip| refusals.is_news(About::Source(Source::of(ip)), "no")).count()
        };
        assert_eq!(many(0), PER_MINUTE as usize);
        assert_eq!(many(10_000), 0);
        tokio::time::advance(MINUTE).await;
        assert_eq!(many(20_000), PER_MINUTE as usize);
        let log = refusals.log.lock().unwrap();
        assert!(log.about.len() <= REMEMBERED, "{}", log.about.len());
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("::ffff:192.0.2.1"), of("::ffff:192.0.2.2"));
    }
}
