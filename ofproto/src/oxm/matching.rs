//! The whole match, in canonical form.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};

use super::table::{Field, ones};
use super::tlv::{FieldMatch, Tlv, WideField};
use super::{eth_type, ip_proto};
use crate::error::{DecodeError, EncodeError};
use crate::wire::{Length, Reader, padding};

/// Type of an `ofp_match` that holds OXM TLVs.
const OFPMT_OXM: u16 = 1;

/// What a flow matches.
///
/// Fields stand in the order in which OVS writes them, each once, without those that match everything, and bits
/// outside a mask are zero: two matches that mean the same to OVS are equal and have the same bytes.
///
/// Source: OpenFlow 1.3, "Flow Match Structures"; order from OVS `lib/nx-match.c`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Match {
    fields: Vec<FieldMatch>,
    wide: Vec<WideField>,
}

impl Match {
    /// The match on every packet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With `field` equal to `value`. A field set before is replaced.
    #[must_use]
    pub fn with(self, field: Field, value: u128) -> Self {
        self.with_masked(field, value, field.exact_mask())
    }

    /// With `field` equal to `value` in the bits of `mask`. A field set before is replaced; an all-zero mask
    /// removes it, as it matches everything. A field made of registers (`xreg0`, `xxreg0`) sets those registers, as
    /// it does in OVS.
    #[must_use]
    pub fn with_masked(mut self, field: Field, value: u128, mask: u128) -> Self {
        let (first, registers) = match field {
            Field::XReg(n) if field.exists() => (n * 2, 2_u8),
            Field::XxReg(n) if field.exists() => (n * 4, 4),
            _ => (0, 0),
        };
        if registers > 0 {
            return (0..registers).fold(self, |match_, n| {
                let shift = 32 * u32::from(registers - 1 - n);
                let part = |number: u128| (number >> shift) & 0xffff_ffff;
                match_.with_masked(Field::Reg(first + n), part(value), part(mask))
            });
        }
        let exact = field.exact_mask();
        // An exact value is kept whole, so that one too large for its field is refused by the encoder.
        let wanted = if mask == exact {
            FieldMatch { field, value, mask }
        } else {
            FieldMatch::masked(field, value, mask)
        };
        match (self.position(field), mask) {
            (Ok(at), 0) => {
                self.fields.remove(at);
            }
            (Ok(at), _) => {
                if let Some(slot) = self.fields.get_mut(at) {
                    *slot = wanted;
                }
            }
            (Err(_), 0) => {}
            (Err(at), _) => self.fields.insert(at, wanted),
        }
        self
    }

    /// With this field even if no bit of it counts: that it is there is what is matched.
    pub(crate) fn with_present(self, field: Field) -> Self {
        self.with_present_masked(field, 0, field.exact_mask())
    }

    /// With this field, whatever its mask.
    pub(crate) fn with_present_masked(mut self, field: Field, value: u128, mask: u128) -> Self {
        let wanted = FieldMatch { field, value: value & mask, mask };
        match self.position(field) {
            Ok(at) => {
                if let Some(slot) = self.fields.get_mut(at) {
                    *slot = wanted;
                }
            }
            Err(at) => self.fields.insert(at, wanted),
        }
        self
    }

    /// Whether it says something of tunnel metadata `n`, of whatever length.
    pub(crate) fn has_tun_metadata(&self, n: u8) -> bool {
        let is = |field| matches!(field, Field::TunMetadata(m, _) if m == n);
        self.fields.iter().any(|f| is(f.field)) || self.wide.iter().any(|w| is(w.field()))
    }

    /// With a TLV that does not fit a [`FieldMatch`].
    #[must_use]
    pub fn with_wide(mut self, field: WideField) -> Self {
        let at = self.wide.partition_point(|wide| *wide < field);
        self.wide.insert(at, field);
        self
    }

    /// Without `field`.
    #[must_use]
    pub fn without(mut self, field: Field) -> Self {
        self.fields.retain(|f| f.field != field);
        self
    }

    fn position(&self, field: Field) -> Result<usize, usize> {
        self.fields.binary_search_by(|f| f.field.cmp(&field))
    }

    /// The fields in canonical order.
    pub fn fields(&self) -> &[FieldMatch] {
        &self.fields
    }

    /// TLVs too wide for a [`FieldMatch`], as they came. Tunnel metadata is written in its place, all others behind what
    /// is known.
    pub fn wide_fields(&self) -> &[WideField] {
        &self.wide
    }

    /// What the match says about `field`.
    pub fn field(&self, field: Field) -> Option<FieldMatch> {
        self.position(field).ok().and_then(|at| self.fields.get(at)).copied()
    }

    /// The value of `field`, if the whole of it is matched.
    pub fn exact(&self, field: Field) -> Option<u128> {
        self.field(field).filter(FieldMatch::is_exact).map(|f| f.value)
    }

    /// Whether it matches every packet.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.wide.is_empty()
    }

    /// IPv4.
    pub fn ip() -> Self {
        Self::new().with(Field::EthType, eth_type::IPV4)
    }

    /// IPv6.
    pub fn ipv6() -> Self {
        Self::new().with(Field::EthType, eth_type::IPV6)
    }

    /// ARP.
    pub fn arp() -> Self {
        Self::new().with(Field::EthType, eth_type::ARP)
    }

    /// TCP over IPv4.
    pub fn tcp() -> Self {
        Self::ip().with(Field::IpProto, ip_proto::TCP)
    }

    /// TCP over IPv6.
    pub fn tcp6() -> Self {
        Self::ipv6().with(Field::IpProto, ip_proto::TCP)
    }

    /// UDP over IPv4.
    pub fn udp() -> Self {
        Self::ip().with(Field::IpProto, ip_proto::UDP)
    }

    /// UDP over IPv6.
    pub fn udp6() -> Self {
        Self::ipv6().with(Field::IpProto, ip_proto::UDP)
    }

    /// SCTP over IPv4.
    pub fn sctp() -> Self {
        Self::ip().with(Field::IpProto, ip_proto::SCTP)
    }

    /// SCTP over IPv6.
    pub fn sctp6() -> Self {
        Self::ipv6().with(Field::IpProto, ip_proto::SCTP)
    }

    /// ICMP over IPv4.
    pub fn icmp() -> Self {
        Self::ip().with(Field::IpProto, ip_proto::ICMP)
    }

    /// ICMPv6.
    pub fn icmp6() -> Self {
        Self::ipv6().with(Field::IpProto, ip_proto::ICMPV6)
    }

    /// Source prefix. Units: `prefix` in bits, 32 and more is one address, 0 any.
    #[must_use]
    pub fn ipv4_src(self, address: Ipv4Addr, prefix: u8) -> Self {
        self.ipv4(Field::Ipv4Src, address, prefix)
    }

    /// Destination prefix. Units: `prefix` in bits, 32 and more is one address, 0 any.
    #[must_use]
    pub fn ipv4_dst(self, address: Ipv4Addr, prefix: u8) -> Self {
        self.ipv4(Field::Ipv4Dst, address, prefix)
    }

    /// Source prefix. Units: `prefix` in bits, 128 and more is one address, 0 any.
    #[must_use]
    pub fn ipv6_src(self, address: Ipv6Addr, prefix: u8) -> Self {
        self.v6(Field::Ipv6Src, address, prefix)
    }

    /// Destination prefix. Units: `prefix` in bits, 128 and more is one address, 0 any.
    #[must_use]
    pub fn ipv6_dst(self, address: Ipv6Addr, prefix: u8) -> Self {
        self.v6(Field::Ipv6Dst, address, prefix)
    }

    /// Source prefix of either family; the EtherType becomes that of the address.
    #[must_use]
    pub fn nw_src(self, address: IpAddr, prefix: u8) -> Self {
        match address {
            IpAddr::V4(a) => self.with(Field::EthType, eth_type::IPV4).ipv4_src(a, prefix),
            IpAddr::V6(a) => self.with(Field::EthType, eth_type::IPV6).ipv6_src(a, prefix),
        }
    }

    /// Destination prefix of either family; the EtherType becomes that of the address.
    #[must_use]
    pub fn nw_dst(self, address: IpAddr, prefix: u8) -> Self {
        match address {
            IpAddr::V4(a) => self.with(Field::EthType, eth_type::IPV4).ipv4_dst(a, prefix),
            IpAddr::V6(a) => self.with(Field::EthType, eth_type::IPV6).ipv6_dst(a, prefix),
        }
    }

    fn ipv4(self, field: Field, address: Ipv4Addr, prefix: u8) -> Self {
        let value = u128::from(u32::from(address));
        self.with_masked(field, value, prefix_mask(32, prefix))
    }

    fn v6(self, field: Field, address: Ipv6Addr, prefix: u8) -> Self {
        self.with_masked(field, u128::from(address), prefix_mask(128, prefix))
    }

    /// Bytes of the `ofp_match`, padding included.
    pub fn encoded_len(&self) -> usize {
        let length = 4
            + self.fields.iter().map(FieldMatch::encoded_len).sum::<usize>()
            + self.wide.iter().map(|w| 4 + w.payload.len()).sum::<usize>();
        length + padding(length)
    }

    /// Writes the `ofp_match` with its padding, which its length does not count.
    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "match", 2);
        out.put_u16(OFPMT_OXM);
        out.put_u16(0);
        let mut wide = self.wide.iter().peekable();
        for field in &self.fields {
            // Tunnel metadata has its place whatever its length.
            while let Some(wide) = wide.next_if(|wide| wide.field() < field.field) {
                wide.encode(out)?;
            }
            field.encode(out)?;
        }
        wide.try_for_each(|wide| wide.encode(out))?;
        length.close(out)?;
        length.pad(out);
        Ok(())
    }

    /// Reads an `ofp_match` with its padding.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let kind = reader.u16("match type")?;
        if kind != OFPMT_OXM {
            return Err(DecodeError::Value { what: "match type", offset, value: kind.into() });
        }
        let length = usize::from(reader.u16("match length")?);
        let Some(body) = length.checked_sub(4) else {
            return Err(DecodeError::Length { what: "match", offset, length });
        };
        let mut tlvs = reader.sub("match", body)?;
        reader.skip("match padding", padding(length))?;
        let length_of = |[.., length]: [u8; 4]| 4 + usize::from(length);
        let fields = Vec::with_capacity(tlvs.count_records(4, length_of));
        let mut decoded = Self { fields, wide: Vec::new() };
        let (whole, mut sorted) = (tlvs.clone(), true);
        while !tlvs.is_empty() {
            match Tlv::decode(&mut tlvs)? {
                Tlv::Wide(wide) => decoded.wide.push(wide),
                Tlv::Field(field) if matches_everything(&field) => {}
                Tlv::Field(field) => {
                    sorted &= decoded.fields.last().is_none_or(|last| last.field < field.field);
                    decoded.fields.push(field);
                }
            }
        }
        if !sorted {
            // All at once: a peer chooses the order, and one by one would take a time that grows with the square.
            decoded.fields.sort_by_key(|field| field.field);
            if !decoded.fields.is_sorted_by(|one, other| one.field < other.field) {
                return Err(duplicate(whole));
            }
        }
        decoded.wide.sort();
        Ok(decoded)
    }
}

/// OVS drops a zero mask; a value of no bytes is not masked at all.
fn matches_everything(field: &FieldMatch) -> bool {
    field.mask == 0 && !field.is_exact()
}

/// The error for a field that stands twice: where it does for the first time.
fn duplicate(mut tlvs: Reader<'_>) -> DecodeError {
    let mut seen = BTreeSet::new();
    loop {
        let offset = tlvs.offset();
        match Tlv::decode(&mut tlvs) {
            Ok(Tlv::Field(field)) if !matches_everything(&field) && !seen.insert(field.field) => {
                return DecodeError::DuplicateField { offset, field: field.field };
            }
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

/// A mask of `prefix` ones at the left of `width` bits.
fn prefix_mask(width: u16, prefix: u8) -> u128 {
    ones(width) ^ ones(width.saturating_sub(prefix.into()))
}
