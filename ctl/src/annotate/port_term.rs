//! The port side of a clause: `tcp/5432`, `udp/8000-8063`, `sctp`.

use rust_openflow::{Field, Match};

/// The bit of `nw_frag` for an offset.
const LATER: u128 = 2;

/// Protocol and ports of a match.
pub(super) struct PortTerm {
    protocol: &'static str,
    first: u16,
    last: u16,
    /// All ports of the protocol.
    any: bool,
    /// Fragments behind the first, which have no ports.
    later: bool,
}

/// None if the match names no transport protocol.
pub(super) fn of(match_: &Match) -> Option<PortTerm> {
    // later: a fragment with an offset, see ovs-fields(7)
    let later = match_.field(Field::IpFrag).is_some_and(|f| f.value & LATER != 0);
    let (protocol, field) = match match_.exact(Field::IpProto)? {
        6 => ("tcp", Field::TcpDst),
        17 => ("udp", Field::UdpDst),
        132 => ("sctp", Field::SctpDst),
        // what OVS sees of a later fragment of IPv6
        44 if later => ("ipv6", Field::TcpDst),
        _ => return None,
    };
    let Some(port) = match_.field(field) else {
        return Some(PortTerm { protocol, first: 0, last: u16::MAX, any: true, later });
    };
    let first = u16::try_from(port.value).ok()?;
    let mask = u16::try_from(port.mask).ok()?;
    Some(PortTerm { protocol, first, last: first | !mask, any: false, later })
}

impl PortTerm {
    pub(super) fn text(&self) -> String {
        if self.later {
            return format!("later fragments of {}", self.protocol);
        }
        match (self.any, self.first == self.last) {
            (true, _) => self.protocol.to_owned(),
            (_, true) => format!("{}/{}", self.protocol, self.first),
            _ => format!("{}/{}-{}", self.protocol, self.first, self.last),
        }
    }

    /// The name that a class has for the port, among `http=8080/tcp`.
    pub(super) fn name_in<'a>(&self, ports: &'a [String]) -> Option<&'a str> {
        ports.iter().find_map(|p| {
            let (name, rest) = p.split_once('=')?;
            let (number, protocol) = rest.split_once('/')?;
            (number.parse() == Ok(self.first) && protocol == self.protocol).then_some(name)
        })
    }
}
