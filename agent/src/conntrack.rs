//! Entries of connection tracking, as `dpctl/dump-conntrack` prints them, and packets that belong to one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use crate::pipeline::regs;

/// A UDP connection that is tracked, in its original direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Datagrams {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
}

const UDP: u8 = 17;

/// The UDP connections in a dump that are not cut already. Lines of another form are passed over.
///
/// Source: ovs-dpctl(8), "dump-conntrack"; OVS `lib/ct-dpif.c`.
pub fn live_datagrams(dump: &str) -> impl Iterator<Item = Datagrams> {
    dump.lines().filter_map(read)
}

fn read(line: &str) -> Option<Datagrams> {
    let rest = line.trim().strip_prefix("udp,orig=(")?;
    let (original, rest) = rest.split_once(')')?;
    let cut = 1_u32 << regs::CT_REVOKED.offset;
    if number(rest, "mark=").unwrap_or(0) & cut != 0 {
        return None;
    }
    Some(Datagrams {
        src: word(original, "src=")?.parse().ok()?,
        dst: word(original, "dst=")?.parse().ok()?,
        sport: word(original, "sport=")?.parse().ok()?,
        dport: word(original, "dport=")?.parse().ok()?,
    })
}

fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split(',').find_map(|w| w.strip_prefix(key))
}

fn number(text: &str, key: &str) -> Option<u32> {
    let value = word(text, key)?;
    match value.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}

impl Datagrams {
    /// An empty datagram of the connection, as an Ethernet frame; none where its addresses are of two families.
    pub fn packet(&self) -> Option<Bytes> {
        let mut udp = Vec::with_capacity(8);
        udp.extend(self.sport.to_be_bytes());
        udp.extend(self.dport.to_be_bytes());
        udp.extend([0, 8, 0, 0]);
        // the addresses do not matter, nobody receives it
        let mut frame = vec![0; 12];
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend([0x08, 0x00]);
                frame.extend(ipv4(src, dst));
                frame.extend(udp);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut sum = Vec::with_capacity(48);
                sum.extend(src.octets());
                sum.extend(dst.octets());
                sum.extend([0, 0, 0, 8, 0, 0, 0, UDP]);
                sum.extend(&udp);
                let [high, low] = checksum(&sum);
                udp.truncate(6);
                // zero would say that there is none, which IPv6 does not allow
                udp.extend(if (high, low) == (0, 0) { [0xff, 0xff] } else { [high, low] });
                frame.extend([0x86, 0xdd]);
                frame.extend(ipv6(src, dst));
                frame.extend(udp);
            }
            _ => return None,
        }
        Some(frame.into())
    }
}

/// Source: RFC 791, section 3.1.
fn ipv4(src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let header = |sum: [u8; 2]| {
        let mut out = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, UDP];
        out.extend(sum);
        out.extend(src.octets());
        out.extend(dst.octets());
        out
    };
    header(checksum(&header([0, 0])))
}

/// Source: RFC 8200, section 3.
fn ipv6(src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0, 0, 8, UDP, 64];
    out.extend(src.octets());
    out.extend(dst.octets());
    out
}

/// The complement of the one's complement sum. Source: RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    };
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = u16::try_from(sum).unwrap_or(u16::MAX);
    (!sum).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    // ovs-appctl dpctl/dump-conntrack zone=65520, Open vSwitch 3.1.0
    const DUMP: &str = "\
tcp,orig=(src=10.10.1.1,dst=10.10.1.2,sport=47418,dport=5432),reply=(src=10.10.1.2,dst=10.10.1.1,sport=5432,dport=47418),zone=65520,labels=0x30df22f3,protoinfo=(state=ESTABLISHED)
udp,orig=(src=10.10.1.1,dst=10.10.1.2,sport=4000,dport=5005),reply=(src=10.10.1.2,dst=10.10.1.1,sport=5005,dport=4000),zone=65520,labels=0x30df22f3
udp,orig=(src=10.10.1.1,dst=10.10.1.3,sport=4000,dport=5005),reply=(src=10.10.1.3,dst=10.10.1.1,sport=5005,dport=4000),zone=65520,mark=1,labels=0x30df22f3
udp,orig=(src=fd00:10:10::1:1,dst=fd00:10:10::1:2,sport=1,dport=65535),reply=(src=fd00:10:10::1:2,dst=fd00:10:10::1:1,sport=65535,dport=1),zone=65520,mark=2
udp,orig=(src=10.10.1.1,dst=nonsense,sport=1,dport=2)
udp,orig=(
";

    #[test]
    fn a_dump_is_read() {
        let found: Vec<_> = live_datagrams(DUMP).collect();
        let v4 = Datagrams {
            src: "10.10.1.1".parse().unwrap(),
            dst: "10.10.1.2".parse().unwrap(),
            sport: 4000,
            dport: 5005,
        };
        let v6 = Datagrams {
            src: "fd00:10:10::1:1".parse().unwrap(),
            dst: "fd00:10:10::1:2".parse().unwrap(),
            sport: 1,
            dport: 65535,
        };
        assert_eq!(found, [v4, v6]);
    }

    #[test]
    fn checksums_add_up() {
        for d in live_datagrams(DUMP) {
            let frame = d.packet().unwrap();
            let (header, udp) = match d.src {
                IpAddr::V4(_) => (&frame[14..34], &frame[34..]),
                IpAddr::V6(_) => (&frame[14..54], &frame[54..]),
            };
            assert_eq!(udp.len(), 8);
            if d.src.is_ipv4() {
                assert_eq!(checksum(header), [0, 0]);
            } else {
                let mut sum = header[8..].to_vec();
                sum.extend([0, 0, 0, 8, 0, 0, 0, UDP]);
                sum.extend(udp);
                assert_eq!(checksum(&sum), [0, 0]);
            }
        }
    }
}
