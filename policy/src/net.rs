//! The one door for addresses and CIDRs: canonical prefixes and the algebra of prefix sets.
//!
//! Nothing else in Weir parses a CIDR: `ipnetwork` keeps host bits and takes forms that Kubernetes refuses.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

/// A canonical prefix: no host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Prefix {
    network: IpNetwork,
}

/// Why a CIDR text was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("no prefix length: write ADDRESS/LENGTH")]
    NoLength,
    #[error("prefix length {0:?} is not a number from 0 to {1}")]
    BadLength(String, u8),
    #[error("{0:?} is no IPv4 or IPv6 address")]
    BadAddress(String),
    #[error("an IPv4-mapped IPv6 CIDR matches nothing; write the IPv4 CIDR")]
    Mapped,
}

impl Prefix {
    /// Host bits are cleared; a length beyond the family's width is cut to it.
    pub fn new(address: IpAddr, length: u8) -> Self {
        let network = match address {
            IpAddr::V4(a) => {
                let length = length.min(32);
                let bits = u32::from(a) & mask32(length);
                IpNetwork::V4(
                    Ipv4Network::new(Ipv4Addr::from(bits), length)
                        .expect("length was cut to at most 32"),
                )
            }
            IpAddr::V6(a) => {
                let length = length.min(128);
                let bits = u128::from(a) & mask128(length);
                IpNetwork::V6(
                    Ipv6Network::new(Ipv6Addr::from(bits), length)
                        .expect("length was cut to at most 128"),
                )
            }
        };
        Self { network }
    }

    /// One address as a prefix of full length.
    pub fn host(address: IpAddr) -> Self {
        Self::new(address, if address.is_ipv4() { 32 } else { 128 })
    }

    /// Reads `ADDRESS/LENGTH` as NP-16 and NP-17 say: host bits are masked away, decimal octets with leading zeros are
    /// decimal, IPv4-mapped IPv6 is refused, and so is everything else that is not exactly this form.
    ///
    /// Errors: [`CidrError`], one variant per cause.
    pub fn parse(text: &str) -> Result<Self, CidrError> {
        let (address, length) = text.split_once('/').ok_or(CidrError::NoLength)?;
        let address = parse_address(address)?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let bad = || CidrError::BadLength(length.to_owned(), max);
        if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let length: u8 = length.parse().map_err(|_| bad())?;
        if length > max {
            return Err(bad());
        }
        if let IpAddr::V6(a) = address
            && a.to_ipv4_mapped().is_some()
        {
            return Err(CidrError::Mapped);
        }
        Ok(Self::new(address, length))
    }

    pub fn address(&self) -> IpAddr {
        self.network.ip()
    }

    /// Units: bits.
    pub fn length(&self) -> u8 {
        self.network.prefix()
    }

    pub fn is_ipv4(&self) -> bool {
        self.network.is_ipv4()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.network.contains(address)
    }

    /// `other` lies inside (or equals) this prefix. Families never contain each other.
    pub fn covers(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4()
            && self.length() <= other.length()
            && self.contains(other.address())
    }

    /// The two halves, or none for a single address.
    fn halves(&self) -> Option<[Self; 2]> {
        let length = self.length() + 1;
        match self.address() {
            IpAddr::V4(a) if length <= 32 => {
                let high = u32::from(a) | (1 << (32 - length));
                Some([Self::new(a.into(), length), Self::new(Ipv4Addr::from(high).into(), length)])
            }
            IpAddr::V6(a) if length <= 128 => {
                let high = u128::from(a) | (1 << (128 - length));
                Some([Self::new(a.into(), length), Self::new(Ipv6Addr::from(high).into(), length)])
            }
            _ => None,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.length())
    }
}

fn mask32(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn mask128(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// Reads one address; IPv4 octets with leading zeros are decimal (NP-16).
///
/// Errors: [`CidrError::BadAddress`].
pub fn parse_address(text: &str) -> Result<IpAddr, CidrError> {
    let bad = || CidrError::BadAddress(text.to_owned());
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| bad());
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().ok_or_else(bad)?;
        if part.is_empty() || part.len() > 16 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        *octet = part
            .trim_start_matches('0')
            .parse()
            .or_else(|e| if part.bytes().all(|b| b == b'0') { Ok(0) } else { Err(e) })
            .map_err(|_| bad())?;
    }
    if parts.next().is_some() {
        return Err(bad());
    }
    Ok(IpAddr::V4(octets.into()))
}

/// `ipBlock`: a CIDR and the CIDRs taken out of it (NP-14, NP-15).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IpBlock {
    pub cidr: Prefix,
    /// Sorted, without duplicates. One that lies outside `cidr` changes nothing.
    pub except: BTreeSet<Prefix>,
}

impl IpBlock {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|e| e.contains(address))
    }

    /// The same addresses as disjoint prefixes, sorted: `cidr` less every `except`.
    pub fn prefixes(&self) -> Vec<Prefix> {
        let mut left = vec![self.cidr];
        for hole in &self.except {
            left = left.into_iter().flat_map(|p| subtract(p, hole)).collect();
        }
        left.sort();
        left
    }
}

impl fmt::Display for IpBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cidr)?;
        for (n, e) in self.except.iter().enumerate() {
            write!(f, "{}{e}", if n == 0 { " except " } else { "," })?;
        }
        Ok(())
    }
}

/// `from` less `hole`, as disjoint prefixes.
fn subtract(from: Prefix, hole: &Prefix) -> Vec<Prefix> {
    if hole.covers(&from) {
        return Vec::new();
    }
    if !from.covers(hole) {
        return vec![from];
    }
    let mut out = Vec::new();
    let mut rest = from;
    while rest != *hole {
        let Some([low, high]) = rest.halves() else {
            break;
        };
        let (keep, next) = if low.covers(hole) { (high, low) } else { (low, high) };
        out.push(keep);
        rest = next;
    }
    out
}

/// The union of prefixes as the fewest disjoint prefixes, sorted.
pub fn union(prefixes: impl IntoIterator<Item = Prefix>) -> Vec<Prefix> {
    let mut sorted: Vec<Prefix> = prefixes.into_iter().collect();
    // by family, then address, then shortest first: whatever is covered follows what covers it
    sorted.sort_by_key(|p| (!p.is_ipv4(), p.address(), p.length()));
    let mut out: Vec<Prefix> = Vec::with_capacity(sorted.len());
    for p in sorted {
        if out.last().is_some_and(|last| last.covers(&p)) {
            continue;
        }
        out.push(p);
        // two halves of one prefix become that prefix, and so on upwards
        while let [.., a, b] = out[..] {
            if a.length() != b.length() || a.length() == 0 || a.is_ipv4() != b.is_ipv4() {
                break;
            }
            let parent = Prefix::new(a.address(), a.length() - 1);
            if !parent.covers(&b) {
                break;
            }
            out.truncate(out.len() - 2);
            out.push(parent);
        }
    }
    out
}

#[cfg(test)]
mod tests;
