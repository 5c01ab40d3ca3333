//! Where controllers are: as many places as there are URLs, or addresses behind them.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use tonic::transport::Uri;
use weir_policy::ids::Canonical;

use super::{CONNECT_TIMEOUT, UplinkConfig};

/// One controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    /// As it was given.
    pub(super) url: String,
    /// The name that its certificate must have, where the URL has a name.
    pub(super) host: Option<String>,
    /// One of those that the name stands for. Absent where there is no name, or nobody knows it.
    address: Option<SocketAddr>,
}

impl Replica {
    /// What to connect to.
    pub(super) fn target(&self) -> String {
        self.address.map_or_else(|| self.url.clone(), |address| format!("https://{address}"))
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{} ({})", self.url, address.ip()),
            None => f.write_str(&self.url),
        }
    }
}

/// All controllers, in turn.
#[derive(Debug)]
pub(super) struct Replicas {
    /// Where this agent begins: agents spread over the replicas, and each begins with the same one every time.
    start: usize,
    waiting: VecDeque<Replica>,
}

impl Replicas {
    pub(super) fn new(config: &UplinkConfig) -> Self {
        let mut name = Canonical::new("weir/uplink/1");
        name.str(&config.node);
        Self { start: name.finish().word32(0) as usize, waiting: VecDeque::new() }
    }

    /// The next to be tried. Names are looked up when all were tried, for what they then stand for.
    pub(super) async fn next(&mut self, config: &UplinkConfig) -> Replica {
        loop {
            if let Some(replica) = self.waiting.pop_front() {
                return replica;
            }
            for url in &config.controllers {
                self.waiting.extend(resolve(url).await);
            }
            match self.waiting.len() {
                // nobody to ask is what the parser refuses
                0 => std::future::pending().await,
                count => self.waiting.rotate_left(self.start % count),
            }
        }
    }
}

/// The places behind a URL, in an order that all agents share.
async fn resolve(url: &str) -> Vec<Replica> {
    let unresolved = |host| vec![Replica { url: url.to_owned(), host, address: None }];
    let Ok(uri) = url.parse::<Uri>() else {
        return unresolved(None);
    };
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return unresolved(None);
    }
    let lookup = tokio::net::lookup_host((host, uri.port_u16().unwrap_or(443)));
    // a name that nobody knows is what the attempt to connect then says
    let Ok(Ok(found)) = tokio::time::timeout(CONNECT_TIMEOUT, lookup).await else {
        return unresolved(Some(host.to_owned()));
    };
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_unstable();
    addresses.dedup();
    let replica = |address| Replica {
        url: url.to_owned(),
        host: Some(host.to_owned()),
        address: Some(address),
    };
    addresses.into_iter().map(replica).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_itself_and_a_name_its_addresses() {
        for url in ["https://192.0.2.1:9443", "https://[2001:db8::1]:9443", "no url at all"] {
            let found = resolve(url).await;
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].target().as_str(), &found[0].host), (url, &None));
        }
        let found = resolve("https://localhost:9443").await;
        assert!(!found.is_empty());
        for replica in &found {
            assert_eq!(replica.host.as_deref(), Some("localhost"));
            let address: SocketAddr =
                replica.target().strip_prefix("https://").unwrap().parse().unwrap();
            assert!(address.ip().is_loopback() && address.port() == 9443, "{address}");
            assert!(replica.to_string().starts_with("https://localhost:9443 ("));
        }
        assert!(found.is_sorted_by_key(|r| r.address));
    }
}
