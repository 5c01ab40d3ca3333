//! The arguments of `nat`.

use std::net::IpAddr;

use super::unsigned;
use crate::action::{NatAction, NatRange};

pub(super) fn nat(argument: &str) -> Option<NatAction> {
    let mut nat = NatAction::default();
    for item in argument.split(',').filter(|item| !item.is_empty()) {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        match key {
            "src" | "dst" => {
                nat.flags |= if key == "src" { 1 } else { 2 };
                if !value.is_empty() {
                    (nat.addresses, nat.ports) = nat_range(value)?;
                    // An address of zeros is none to OVS.
                    nat.addresses =
                        nat.addresses.filter(|r| r.last.is_some() || !r.first.is_unspecified());
                }
            }
            "persistent" => nat.flags |= 4,
            "hash" => nat.flags |= 8,
            "random" => nat.flags |= 0x10,
            _ => return None,
        }
    }
    Some(nat)
}

type Ports = (u16, Option<u16>);

/// `A`, `A-B`, `A:p`, `A-B:p-q`; IPv6 addresses stand in brackets where ports follow.
fn nat_range(text: &str) -> Option<(Option<NatRange>, Option<Ports>)> {
    if let Some(range) = address_range(text) {
        return Some((Some(range), None));
    }
    let (addresses, ports) = text.rsplit_once(':')?;
    let addresses = if addresses.is_empty() { None } else { Some(address_range(addresses)?) };
    let ports = match ports.split_once('-') {
        Some((first, last)) => (unsigned(first)?, Some(unsigned(last)?)),
        None => (unsigned(ports)?, None),
    };
    Some((addresses, Some(ports)))
}

/// `A` or `A-B`, with or without brackets.
fn address_range(text: &str) -> Option<NatRange> {
    let address = |text: &str| -> Option<IpAddr> {
        text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).parse().ok()
    };
    Some(match text.split_once('-') {
        Some((first, last)) => NatRange { first: address(first)?, last: Some(address(last)?) },
        None => NatRange { first: address(text)?, last: None },
    })
}
