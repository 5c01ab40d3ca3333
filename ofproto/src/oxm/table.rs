//! The field table: every fact about a field in one row, in the order OVS writes fields into a match.
//!
//! Source: OVS `lib/nx-match.c` (`nx_put_raw`) for the order, `include/openvswitch/meta-flow.h` for the rest.

use std::borrow::Cow;

use crate::error::EncodeError;
use crate::types::{ERICSSON, NX, ONF};

/// How a field's value is written in flow text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Format {
    /// Decimal, the mask of a masked one in hex.
    Decimal,
    /// Hexadecimal.
    Hex,
    /// Ethernet address.
    Mac,
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// Port number or reserved name.
    Port,
    /// EtherType, four hex digits.
    EthType,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Frag,
    /// `+trk-new`.
    CtState,
    /// `+syn-ack`.
    TcpFlags,
    /// `+oam`.
    TunFlags,
    /// `(NS,TYPE)`.
    PacketType,
}

/// What a match must hold before it may hold a field.
///
/// Source: ovs-fields(7), the "Prerequisites" line of each field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Prerequisite {
    /// Nothing.
    None,
    /// `vlan_vid` with the present bit.
    Vlan,
    /// EtherType of IPv4 or IPv6.
    Ip,
    /// EtherType 0x0800.
    Ipv4,
    /// EtherType 0x86dd.
    Ipv6,
    /// EtherType 0x0806 or 0x8035.
    Arp,
    /// EtherType 0x8847 or 0x8848.
    Mpls,
    /// IP protocol 6, not a later fragment.
    Tcp,
    /// IP protocol 17, not a later fragment.
    Udp,
    /// IP protocol 132, not a later fragment.
    Sctp,
    /// IPv4 and IP protocol 1.
    Icmp,
    /// IPv6 and IP protocol 58.
    Icmpv6,
    /// ICMPv6 type 135 or 136.
    Nd,
    /// ICMPv6 type 135.
    NdSolicit,
    /// ICMPv6 type 136.
    NdAdvert,
    /// A ct_state that says more than `+trk`.
    Conntrack,
    /// EtherType, or packet type, of NSH.
    Nsh,
}

/// One row of the field table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldInfo {
    /// The field, with index 0 for a family such as the registers.
    pub field: Field,
    /// Spelling in flow text, without the index of a family.
    pub name: &'static str,
    /// Spelling behind the arrow of `set_field:VALUE->NAME`, without the index of a family.
    pub set_name: &'static str,
    /// Spelling as a sub-field of a Nicira action, without the index of a family.
    pub wire_name: &'static str,
    /// Class of the header in a match; 0xffff is that of experimenters.
    pub class: u16,
    /// Number of the header in a match (7 bits).
    pub number: u8,
    /// Class of the header as a sub-field of a Nicira action.
    pub sub_class: u16,
    /// Number of the header as a sub-field of a Nicira action.
    pub sub_number: u8,
    /// Bytes of the value.
    pub bytes: u8,
    /// Bits of the value that have a meaning.
    pub bits: u16,
    /// Whether OVS takes a mask on it.
    pub maskable: bool,
    /// What the match must hold beside it.
    pub prerequisite: Prerequisite,
    /// How its value is written.
    pub format: Format,
}

macro_rules! fields {
    (@any $type:ty) => { _ };
    (@zero $type:ty) => { 0 };
    ($( $(#[$doc:meta])* $field:ident $(($($index:ty),+))? => $name:literal $set:literal $wire:literal
        ($class:literal, $number:literal) ($sub_class:literal, $sub_number:literal)
        $bytes:literal $bits:literal $maskable:literal $prerequisite:ident $format:ident; )*) => {
        /// A match field. The order of the variants is the order in which OVS writes them into a match.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[allow(missing_docs, reason = "rows document themselves by their names in the table")]
        pub enum Field {
            $( $(#[$doc])* $field $(($($index),+))?, )*
            /// A header this crate has no name for. `bytes` counts the value alone, without mask.
            Unknown {
                /// OXM class.
                class: u16,
                /// Field number, 7 bits.
                number: u8,
                /// Bytes of the value, at most 16.
                bytes: u8,
            },
            /// A field of the experimenter class that this crate has no name for.
            Experimenter {
                /// Who defines it.
                experimenter: u32,
                /// Field number, 7 bits.
                number: u8,
                /// Bytes of the value, without the experimenter number and mask, at most 16.
                bytes: u8,
            },
        }

        /// Positions of the rows, so that a field finds its own without a search.
        #[derive(Clone, Copy)]
        enum Row { $( $field, )* }

        const TABLE: &[FieldInfo] = &[
            $( FieldInfo {
                field: Field::$field $(($(fields!(@zero $index)),+))?,
                name: $name, set_name: $set, wire_name: $wire,
                class: $class, number: $number, sub_class: $sub_class, sub_number: $sub_number,
                bytes: $bytes, bits: $bits, maskable: $maskable,
                prerequisite: Prerequisite::$prerequisite, format: Format::$format,
            }, )*
        ];

        impl Field {
            /// The row of the field; `None` for one this crate has no name for.
            pub fn info(self) -> Option<&'static FieldInfo> {
                let row = match self {
                    $( Self::$field $(($(fields!(@any $index)),+))? => Row::$field, )*
                    Self::Unknown { .. } | Self::Experimenter { .. } => return None,
                };
                TABLE.get(row as usize)
            }
        }
    };
}

fields! {
    /// Name space (upper half) and type of the packet: (0, 0) is Ethernet.
    PacketType => "packet_type" "packet_type" "OXM_OF_PACKET_TYPE" (0x8000, 44) (0x8000, 44) 4 32 false None PacketType;
    DpHash => "dp_hash" "dp_hash" "NXM_NX_DP_HASH" (0x0001, 35) (0x0001, 35) 4 32 true None Hex;
    RecircId => "recirc_id" "recirc_id" "NXM_NX_RECIRC_ID" (0x0001, 36) (0x0001, 36) 4 32 false None Hex;
    ConjId => "conj_id" "conj_id" "NXM_NX_CONJ_ID" (0x0001, 37) (0x0001, 37) 4 32 false None Decimal;
    InPort => "in_port" "in_port_oxm" "OXM_OF_IN_PORT" (0x8000, 0) (0x8000, 0) 4 32 false None Port;
    /// The ingress port in 16 bits, as Nicira actions address it.
    NxmInPort => "in_port" "in_port" "NXM_OF_IN_PORT" (0x0000, 0) (0x0000, 0) 2 16 false None Port;
    /// The output port in the action set.
    ActsetOutput => "actset_output" "actset_output" "ONFOXM_ET_ACTSET_OUTPUT" (0xffff, 43) (0xffff, 43) 4 32 false None Port;
    EthSrc => "dl_src" "eth_src" "NXM_OF_ETH_SRC" (0x8000, 4) (0x0000, 2) 6 48 true None Mac;
    EthDst => "dl_dst" "eth_dst" "NXM_OF_ETH_DST" (0x8000, 3) (0x0000, 1) 6 48 true None Mac;
    EthType => "dl_type" "eth_type" "NXM_OF_ETH_TYPE" (0x8000, 5) (0x0000, 3) 2 16 false None EthType;
    /// 12 bits of id and the present bit 0x1000.
    VlanVid => "vlan_vid" "vlan_vid" "OXM_OF_VLAN_VID" (0x8000, 6) (0x8000, 6) 2 13 true None Decimal;
    VlanPcp => "dl_vlan_pcp" "vlan_pcp" "OXM_OF_VLAN_PCP" (0x8000, 7) (0x8000, 7) 1 3 false Vlan Decimal;
    /// The whole tag control word, as Nicira actions address it.
    NxmVlanTci => "vlan_tci" "vlan_tci" "NXM_OF_VLAN_TCI" (0x0000, 4) (0x0000, 4) 2 16 true None Hex;
    MplsTc => "mpls_tc" "mpls_tc" "OXM_OF_MPLS_TC" (0x8000, 35) (0x8000, 35) 1 3 false Mpls Decimal;
    MplsBos => "mpls_bos" "mpls_bos" "OXM_OF_MPLS_BOS" (0x8000, 36) (0x8000, 36) 1 1 false Mpls Decimal;
    MplsTtl => "mpls_ttl" "mpls_ttl" "NXM_NX_MPLS_TTL" (0x0001, 30) (0x0001, 30) 1 8 false Mpls Decimal;
    MplsLabel => "mpls_label" "mpls_label" "OXM_OF_MPLS_LABEL" (0x8000, 34) (0x8000, 34) 4 20 false Mpls Decimal;
    Ipv4Src => "nw_src" "ip_src" "NXM_OF_IP_SRC" (0x8000, 11) (0x0000, 7) 4 32 true Ipv4 Ipv4;
    Ipv4Dst => "nw_dst" "ip_dst" "NXM_OF_IP_DST" (0x8000, 12) (0x0000, 8) 4 32 true Ipv4 Ipv4;
    Ipv6Src => "ipv6_src" "ipv6_src" "NXM_NX_IPV6_SRC" (0x8000, 26) (0x0001, 19) 16 128 true Ipv6 Ipv6;
    Ipv6Dst => "ipv6_dst" "ipv6_dst" "NXM_NX_IPV6_DST" (0x8000, 27) (0x0001, 20) 16 128 true Ipv6 Ipv6;
    /// Bit 0: a fragment; bit 1: not the first one.
    IpFrag => "nw_frag" "ip_frag" "NXM_NX_IP_FRAG" (0x0001, 26) (0x0001, 26) 1 2 true Ip Frag;
    /// Six bits; flow text shows `nw_tos`, which is four times as much.
    IpDscp => "ip_dscp" "ip_dscp" "OXM_OF_IP_DSCP" (0x8000, 8) (0x8000, 8) 1 6 false Ip Decimal;
    /// The whole octet of which [`Field::IpDscp`] is the upper part, as Nicira actions address it.
    NxmIpTos => "nw_tos" "nw_tos" "NXM_OF_IP_TOS" (0x0000, 5) (0x0000, 5) 1 8 false Ip Decimal;
    IpEcn => "nw_ecn" "nw_ecn" "NXM_NX_IP_ECN" (0x8000, 9) (0x0001, 28) 1 2 false Ip Decimal;
    IpTtl => "nw_ttl" "nw_ttl" "NXM_NX_IP_TTL" (0x0001, 29) (0x0001, 29) 1 8 false Ip Decimal;
    Ipv6Flabel => "ipv6_label" "ipv6_label" "NXM_NX_IPV6_LABEL" (0x8000, 28) (0x0001, 27) 4 20 true Ipv6 Hex;
    IpProto => "nw_proto" "nw_proto" "NXM_OF_IP_PROTO" (0x8000, 10) (0x0000, 6) 1 8 false Ip Decimal;
    TcpSrc => "tcp_src" "tcp_src" "NXM_OF_TCP_SRC" (0x8000, 13) (0x0000, 9) 2 16 true Tcp Decimal;
    TcpDst => "tcp_dst" "tcp_dst" "NXM_OF_TCP_DST" (0x8000, 14) (0x0000, 10) 2 16 true Tcp Decimal;
    /// Twelve bits. In OpenFlow 1.3 OVS writes the ONF experimenter field.
    TcpFlags => "tcp_flags" "tcp_flags" "NXM_NX_TCP_FLAGS" (0xffff, 42) (0x0001, 34) 2 12 true Tcp TcpFlags;
    UdpSrc => "udp_src" "udp_src" "NXM_OF_UDP_SRC" (0x8000, 15) (0x0000, 11) 2 16 true Udp Decimal;
    UdpDst => "udp_dst" "udp_dst" "NXM_OF_UDP_DST" (0x8000, 16) (0x0000, 12) 2 16 true Udp Decimal;
    SctpSrc => "sctp_src" "sctp_src" "OXM_OF_SCTP_SRC" (0x8000, 17) (0x8000, 17) 2 16 true Sctp Decimal;
    SctpDst => "sctp_dst" "sctp_dst" "OXM_OF_SCTP_DST" (0x8000, 18) (0x8000, 18) 2 16 true Sctp Decimal;
    Icmpv4Type => "icmp_type" "icmp_type" "NXM_OF_ICMP_TYPE" (0x8000, 19) (0x0000, 13) 1 8 false Icmp Decimal;
    Icmpv4Code => "icmp_code" "icmp_code" "NXM_OF_ICMP_CODE" (0x8000, 20) (0x0000, 14) 1 8 false Icmp Decimal;
    Icmpv6Type => "icmpv6_type" "icmpv6_type" "NXM_NX_ICMPV6_TYPE" (0x8000, 29) (0x0001, 21) 1 8 false Icmpv6 Decimal;
    Icmpv6Code => "icmpv6_code" "icmpv6_code" "NXM_NX_ICMPV6_CODE" (0x8000, 30) (0x0001, 22) 1 8 false Icmpv6 Decimal;
    NdReserved => "nd_reserved" "nd_reserved" "ERICOXM_OF_ICMPV6_ND_RESERVED" (0x1000, 1) (0x1000, 1) 4 32 false Nd Decimal;
    NdTarget => "nd_target" "nd_target" "NXM_NX_ND_TARGET" (0x8000, 31) (0x0001, 23) 16 128 true Nd Ipv6;
    NdOptionsType => "nd_options_type" "nd_options_type" "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE" (0x1000, 2) (0x1000, 2) 1 8 false Nd Decimal;
    NdSll => "nd_sll" "nd_sll" "NXM_NX_ND_SLL" (0x8000, 32) (0x0001, 24) 6 48 true NdSolicit Mac;
    NdTll => "nd_tll" "nd_tll" "NXM_NX_ND_TLL" (0x8000, 33) (0x0001, 25) 6 48 true NdAdvert Mac;
    ArpOp => "arp_op" "arp_op" "NXM_OF_ARP_OP" (0x8000, 21) (0x0000, 15) 2 16 false Arp Decimal;
    ArpSpa => "arp_spa" "arp_spa" "NXM_OF_ARP_SPA" (0x8000, 22) (0x0000, 16) 4 32 true Arp Ipv4;
    ArpTpa => "arp_tpa" "arp_tpa" "NXM_OF_ARP_TPA" (0x8000, 23) (0x0000, 17) 4 32 true Arp Ipv4;
    ArpSha => "arp_sha" "arp_sha" "NXM_NX_ARP_SHA" (0x8000, 24) (0x0001, 17) 6 48 true Arp Mac;
    ArpTha => "arp_tha" "arp_tha" "NXM_NX_ARP_THA" (0x8000, 25) (0x0001, 18) 6 48 true Arp Mac;
    /// `OXM_OF_TUNNEL_ID`, which OVS calls `tun_id`.
    TunId => "tun_id" "tun_id" "NXM_NX_TUN_ID" (0x8000, 38) (0x0001, 16) 8 64 true None Hex;
    /// Bit 0: `oam`.
    TunFlags => "tun_flags" "tun_flags" "NXM_NX_TUN_FLAGS" (0x0001, 104) (0x0001, 104) 2 1 true None TunFlags;
    TunIpv4Src => "tun_src" "tun_src" "NXM_NX_TUN_IPV4_SRC" (0x0001, 31) (0x0001, 31) 4 32 true None Ipv4;
    TunIpv4Dst => "tun_dst" "tun_dst" "NXM_NX_TUN_IPV4_DST" (0x0001, 32) (0x0001, 32) 4 32 true None Ipv4;
    TunIpv6Src => "tun_ipv6_src" "tun_ipv6_src" "NXM_NX_TUN_IPV6_SRC" (0x0001, 109) (0x0001, 109) 16 128 true None Ipv6;
    TunIpv6Dst => "tun_ipv6_dst" "tun_ipv6_dst" "NXM_NX_TUN_IPV6_DST" (0x0001, 110) (0x0001, 110) 16 128 true None Ipv6;
    TunGbpId => "tun_gbp_id" "tun_gbp_id" "NXM_NX_TUN_GBP_ID" (0x0001, 38) (0x0001, 38) 2 16 true None Decimal;
    TunGbpFlags => "tun_gbp_flags" "tun_gbp_flags" "NXM_NX_TUN_GBP_FLAGS" (0x0001, 39) (0x0001, 39) 1 8 true None Hex;
    /// `tun_metadata0` to `tun_metadata63`, and how many bytes of it there are: in a match as many as the TLV map or
    /// the value says, as a sub-field of a Nicira action always 124.
    TunMetadata(u8, u8) => "tun_metadata" "tun_metadata" "NXM_NX_TUN_METADATA" (0x0001, 40) (0x0001, 40) 124 992 true None Hex;
    TunErspanIdx => "tun_erspan_idx" "tun_erspan_idx" "NXOXM_ET_ERSPAN_IDX" (0xffff, 11) (0xffff, 11) 4 20 true None Hex;
    TunErspanVer => "tun_erspan_ver" "tun_erspan_ver" "NXOXM_ET_ERSPAN_VER" (0xffff, 12) (0xffff, 12) 1 4 true None Decimal;
    TunErspanDir => "tun_erspan_dir" "tun_erspan_dir" "NXOXM_ET_ERSPAN_DIR" (0xffff, 13) (0xffff, 13) 1 1 true None Decimal;
    TunErspanHwid => "tun_erspan_hwid" "tun_erspan_hwid" "NXOXM_ET_ERSPAN_HWID" (0xffff, 14) (0xffff, 14) 1 6 true None Hex;
    TunGtpuFlags => "gtpu_flags" "tun_gtpu_flags" "NXOXM_ET_GTPU_FLAGS" (0xffff, 15) (0xffff, 15) 1 8 true None Hex;
    TunGtpuMsgtype => "gtpu_msgtype" "tun_gtpu_msgtype" "NXOXM_ET_GTPU_MSGTYPE" (0xffff, 16) (0xffff, 16) 1 8 true None Decimal;
    NshFlags => "nsh_flags" "nsh_flags" "NXOXM_NSH_FLAGS" (0xffff, 1) (0xffff, 1) 1 8 true Nsh Decimal;
    NshTtl => "nsh_ttl" "nsh_ttl" "NXOXM_NSH_TTL" (0xffff, 10) (0xffff, 10) 1 8 false Nsh Decimal;
    NshMdtype => "nsh_mdtype" "nsh_mdtype" "NXOXM_NSH_MDTYPE" (0xffff, 2) (0xffff, 2) 1 8 false Nsh Decimal;
    NshNp => "nsh_np" "nsh_np" "NXOXM_NSH_NP" (0xffff, 3) (0xffff, 3) 1 8 false Nsh Decimal;
    NshSpi => "nsh_spi" "nsh_spi" "NXOXM_NSH_SPI" (0xffff, 4) (0xffff, 4) 4 24 false Nsh Hex;
    NshSi => "nsh_si" "nsh_si" "NXOXM_NSH_SI" (0xffff, 5) (0xffff, 5) 1 8 false Nsh Decimal;
    NshC1 => "nsh_c1" "nsh_c1" "NXOXM_NSH_C1" (0xffff, 6) (0xffff, 6) 4 32 true Nsh Hex;
    NshC2 => "nsh_c2" "nsh_c2" "NXOXM_NSH_C2" (0xffff, 7) (0xffff, 7) 4 32 true Nsh Hex;
    NshC3 => "nsh_c3" "nsh_c3" "NXOXM_NSH_C3" (0xffff, 8) (0xffff, 8) 4 32 true Nsh Hex;
    NshC4 => "nsh_c4" "nsh_c4" "NXOXM_NSH_C4" (0xffff, 9) (0xffff, 9) 4 32 true Nsh Hex;
    /// `reg0` to `reg15`.
    Reg(u8) => "reg" "reg" "NXM_NX_REG" (0x0001, 0) (0x0001, 0) 4 32 true None Hex;
    /// `xreg0` to `xreg7`: two registers as one. OVS turns them into registers inside a match.
    XReg(u8) => "xreg" "xreg" "OXM_OF_PKT_REG" (0x8001, 0) (0x8001, 0) 8 64 true None Hex;
    /// `xxreg0` to `xxreg3`: four registers as one. OVS turns them into registers inside a match.
    XxReg(u8) => "xxreg" "xxreg" "NXM_NX_XXREG" (0x0001, 111) (0x0001, 111) 16 128 true None Hex;
    PktMark => "pkt_mark" "pkt_mark" "NXM_NX_PKT_MARK" (0x0001, 33) (0x0001, 33) 4 32 true None Hex;
    CtState => "ct_state" "ct_state" "NXM_NX_CT_STATE" (0x0001, 105) (0x0001, 105) 4 32 true None CtState;
    CtZone => "ct_zone" "ct_zone" "NXM_NX_CT_ZONE" (0x0001, 106) (0x0001, 106) 2 16 false None Decimal;
    CtMark => "ct_mark" "ct_mark" "NXM_NX_CT_MARK" (0x0001, 107) (0x0001, 107) 4 32 true None Hex;
    CtLabel => "ct_label" "ct_label" "NXM_NX_CT_LABEL" (0x0001, 108) (0x0001, 108) 16 128 true None Hex;
    CtNwSrc => "ct_nw_src" "ct_nw_src" "NXM_NX_CT_NW_SRC" (0x0001, 120) (0x0001, 120) 4 32 true Conntrack Ipv4;
    CtNwDst => "ct_nw_dst" "ct_nw_dst" "NXM_NX_CT_NW_DST" (0x0001, 121) (0x0001, 121) 4 32 true Conntrack Ipv4;
    CtIpv6Src => "ct_ipv6_src" "ct_ipv6_src" "NXM_NX_CT_IPV6_SRC" (0x0001, 122) (0x0001, 122) 16 128 true Conntrack Ipv6;
    CtIpv6Dst => "ct_ipv6_dst" "ct_ipv6_dst" "NXM_NX_CT_IPV6_DST" (0x0001, 123) (0x0001, 123) 16 128 true Conntrack Ipv6;
    CtNwProto => "ct_nw_proto" "ct_nw_proto" "NXM_NX_CT_NW_PROTO" (0x0001, 119) (0x0001, 119) 1 8 false Conntrack Decimal;
    CtTpSrc => "ct_tp_src" "ct_tp_src" "NXM_NX_CT_TP_SRC" (0x0001, 124) (0x0001, 124) 2 16 true Conntrack Decimal;
    CtTpDst => "ct_tp_dst" "ct_tp_dst" "NXM_NX_CT_TP_DST" (0x0001, 125) (0x0001, 125) 2 16 true Conntrack Decimal;
    Metadata => "metadata" "metadata" "OXM_OF_METADATA" (0x8000, 2) (0x8000, 2) 8 64 true None Hex;
}

/// The class of fields that carry an experimenter number.
pub(crate) const CLASS_EXPERIMENTER: u16 = 0xffff;

impl Field {
    /// Every named field, families by their first member, in the order OVS writes them into a match.
    pub fn table() -> &'static [FieldInfo] {
        TABLE
    }

    /// Position in a family such as the registers, 0 for a single field.
    pub(crate) const fn index(self) -> u8 {
        match self {
            Self::Reg(n) | Self::XReg(n) | Self::XxReg(n) | Self::TunMetadata(n, _) => n,
            _ => 0,
        }
    }

    /// Members of the family; 1 for a single field.
    const fn members(self) -> u8 {
        match self {
            Self::Reg(_) => 16,
            Self::XReg(_) => 8,
            Self::XxReg(_) => 4,
            Self::TunMetadata(..) => 64,
            _ => 1,
        }
    }

    /// The member `n` of a family; a single field is its own only member.
    const fn member(self, n: u8) -> Self {
        match self {
            Self::Reg(_) => Self::Reg(n),
            Self::XReg(_) => Self::XReg(n),
            Self::XxReg(_) => Self::XxReg(n),
            Self::TunMetadata(..) => Self::TunMetadata(n, TUN_METADATA),
            other => other,
        }
    }

    /// Whether the field exists: `reg15` does, `reg16` does not.
    pub const fn exists(self) -> bool {
        self.index() < self.members() && !matches!(self, Self::TunMetadata(_, 125..))
    }

    /// Whether no action may write to the field. ct_mark and ct_label may be written inside a ct alone.
    ///
    /// Source: ovs-fields(7), the "Access" line of each field.
    pub fn is_read_only(self) -> bool {
        matches!(
            self,
            Self::DpHash
                | Self::RecircId
                | Self::ConjId
                | Self::PacketType
                | Self::ActsetOutput
                | Self::EthType
                | Self::MplsBos
                | Self::IpFrag
                | Self::IpProto
                | Self::TcpFlags
                | Self::NshMdtype
                | Self::NshNp
                | Self::CtState
                | Self::CtZone
                | Self::CtNwSrc
                | Self::CtNwDst
                | Self::CtIpv6Src
                | Self::CtIpv6Dst
                | Self::CtNwProto
                | Self::CtTpSrc
                | Self::CtTpDst
        )
    }

    /// Bits of the value that have a meaning; a match on all of them is exact.
    pub fn bits(self) -> u16 {
        match self {
            Self::Unknown { bytes, .. }
            | Self::Experimenter { bytes, .. }
            | Self::TunMetadata(_, bytes) => u16::from(bytes) * 8,
            known => known.info().map_or(0, |info| info.bits),
        }
    }

    /// Bytes of the value on the wire.
    pub fn bytes(self) -> u8 {
        match self {
            Self::Unknown { bytes, .. }
            | Self::Experimenter { bytes, .. }
            | Self::TunMetadata(_, bytes) => bytes,
            known => known.info().map_or(0, |info| info.bytes),
        }
    }

    /// The mask that makes a match exact: ones in all of [`Field::bits`], and in the four bits above `tcp_flags`, as a
    /// match on twelve bits is another one to OVS.
    pub fn exact_mask(self) -> u128 {
        if matches!(self, Self::TcpFlags) {
            return ones(16);
        }
        ones(self.bits())
    }

    /// The field as flow text spells it. A port number is spelled with its protocol (`tcp_dst`), which
    /// ovs-ofctl reads and which is unambiguous, though it prints `tp_dst`.
    pub fn name(self) -> Cow<'static, str> {
        self.spell(|info| info.name)
    }

    /// The field as it stands behind the arrow of `set_field`.
    pub fn set_name(self) -> Cow<'static, str> {
        self.spell(|info| info.set_name)
    }

    /// The field as it stands in `load`, `move` and other Nicira actions.
    pub fn wire_name(self) -> Cow<'static, str> {
        self.spell(|info| info.wire_name)
    }

    fn spell(self, name: impl FnOnce(&'static FieldInfo) -> &'static str) -> Cow<'static, str> {
        match (self, self.info()) {
            (_, Some(info)) if self.members() > 1 => {
                format!("{}{}", name(info), self.index()).into()
            }
            (_, Some(info)) => name(info).into(),
            (Self::Unknown { class, number, .. }, _) => format!("oxm_{class:#06x}_{number}").into(),
            (Self::Experimenter { experimenter, number, .. }, _) => {
                format!("oxm_{experimenter:#010x}_{number}").into()
            }
            (_, None) => "unknown".into(),
        }
    }

    /// The field a name of flow text means, in any of its spellings (`nw_src`, `ip_src`, `NXM_OF_IP_SRC`).
    pub fn from_name(name: &str) -> Option<Self> {
        let spelled = |info: &FieldInfo, text: &str| {
            info.name == text || info.set_name == text || info.wire_name.eq_ignore_ascii_case(text)
        };
        if let Some(info) = TABLE.iter().find(|i| i.field.members() == 1 && spelled(i, name)) {
            return Some(info.field);
        }
        if let Some((_, field)) = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name))
        {
            return Some(*field);
        }
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let index: u8 = name.get(stem.len()..)?.parse().ok()?;
        let info = TABLE.iter().find(|i| i.field.members() > 1 && spelled(i, stem))?;
        Some(info.field.member(index)).filter(|field| field.exists())
    }

    /// Whether the field always stands with a mask in a match: OVS writes a mask where it has one, and only all ones in
    /// every bit of the TLV count as none.
    pub(crate) const fn is_masked_always(self) -> bool {
        matches!(
            self,
            Self::TunFlags
                | Self::TunErspanVer
                | Self::TunErspanDir
                | Self::TunErspanHwid
                | Self::TunGtpuFlags
                | Self::TunGtpuMsgtype
        )
    }

    /// Whether OVS 3.1.0 writes the value of the field in place of its mask.
    pub(crate) const fn has_value_as_mask(self) -> bool {
        self.is_masked_always() && !matches!(self, Self::TunFlags)
    }

    /// The field a name means in an action: as [`Field::from_name`] says, but for `in_port`, which is the one of 16
    /// bits there.
    pub fn from_action_name(name: &str) -> Option<Self> {
        if name == "in_port" { Some(Self::NxmInPort) } else { Self::from_name(name) }
    }

    /// The header the field has inside a match, without the mask bit. Its length is that of an exact match.
    ///
    /// Source: OpenFlow 1.3, "OXM TLV Header"; for a field of the experimenter class the length counts the
    /// experimenter number, which follows.
    pub fn header(self) -> u32 {
        match self {
            Self::Unknown { class, number, bytes } => compose(class, number, bytes),
            Self::Experimenter { number, bytes, .. } => {
                compose(CLASS_EXPERIMENTER, number, bytes.saturating_add(4))
            }
            known => known.info().map_or(0, |info| {
                let extra = if info.class == CLASS_EXPERIMENTER { 4 } else { 0 };
                let bytes = known.bytes() + extra;
                compose(info.class, info.number.wrapping_add(known.index()), bytes)
            }),
        }
    }

    /// Checks that the parts of a field without a name fit its header.
    pub(crate) fn check_header(self) -> Result<(), EncodeError> {
        let (Self::Unknown { number, bytes, .. } | Self::Experimenter { number, bytes, .. }) = self
        else {
            return Ok(());
        };
        for (what, part, limit) in [("field number", number, 0x7f), ("field length", bytes, 16)] {
            if part > limit {
                let (value, limit) = (part.into(), limit.into());
                return Err(EncodeError::TooLarge { what, value, limit });
            }
        }
        Ok(())
    }

    /// The experimenter number that follows the header inside a match.
    pub(crate) fn experimenter(self) -> Option<u32> {
        match self {
            Self::Experimenter { experimenter, .. } => Some(experimenter),
            known => known.info().filter(|i| i.class == CLASS_EXPERIMENTER).map(vendor),
        }
    }

    /// The header the field has as a sub-field of a Nicira action.
    pub(crate) fn sub_header(self) -> u32 {
        match self.info() {
            Some(info) => {
                let extra = if info.sub_class == CLASS_EXPERIMENTER { 4 } else { 0 };
                let number = info.sub_number.wrapping_add(self.index());
                compose(info.sub_class, number, info.bytes + extra)
            }
            None => self.header(),
        }
    }

    /// The experimenter number that follows the header as a sub-field of a Nicira action.
    pub(crate) fn sub_experimenter(self) -> Option<u32> {
        match self.info() {
            Some(info) => (info.sub_class == CLASS_EXPERIMENTER).then(|| vendor(info)),
            None => self.experimenter(),
        }
    }

    /// The field with this header in a match. `bytes` counts the value alone.
    pub(crate) fn of_match(class: u16, experimenter: u32, number: u8, bytes: u8) -> Self {
        if class == CLASS_EXPERIMENTER {
            return find_experimenter(experimenter, number, bytes, |info| {
                (info.class, info.number)
            });
        }
        find(&MATCH_ROWS, class, number, bytes)
    }

    /// The field of an experimenter with this header as a sub-field of a Nicira action. `bytes` counts the value alone.
    pub(crate) fn of_sub_experimenter(experimenter: u32, number: u8, bytes: u8) -> Self {
        find_experimenter(experimenter, number, bytes, |info| (info.sub_class, info.sub_number))
    }

    /// The field with this header as a sub-field of a Nicira action.
    pub(crate) fn of_sub(header: u32) -> Self {
        let [high, low, number, bytes] = header.to_be_bytes();
        find(&SUB_ROWS, u16::from_be_bytes([high, low]), number >> 1, bytes)
    }
}

/// Bytes of tunnel metadata as a sub-field of a Nicira action.
const TUN_METADATA: u8 = 124;

/// Who numbers the fields of an experimenter's class.
///
/// Source: OVS `include/openvswitch/meta-flow.h` and `include/openflow/openflow-common.h`.
fn vendor(info: &FieldInfo) -> u32 {
    match info.field {
        Field::TcpFlags | Field::ActsetOutput => ONF,
        _ if info.prerequisite == Prerequisite::Nsh => ERICSSON,
        _ => NX,
    }
}

/// The named field of an experimenter.
fn find_experimenter(
    experimenter: u32,
    number: u8,
    bytes: u8,
    header: impl Fn(&FieldInfo) -> (u16, u8),
) -> Field {
    TABLE
        .iter()
        .find(|info| {
            header(info) == (CLASS_EXPERIMENTER, number)
                && info.bytes == bytes
                && vendor(info) == experimenter
        })
        .map_or(Field::Experimenter { experimenter, number, bytes }, |info| info.field)
}

/// Further spellings of fields that ovs-ofctl reads. Source: ovs-fields(7), the "Name" and "OXM", "NXM" lines.
const ALIASES: &[(&str, Field)] = &[
    ("tunnel_id", Field::TunId),
    ("ip_ecn", Field::IpEcn),
    ("ip_proto", Field::IpProto),
    ("icmpv4_type", Field::Icmpv4Type),
    ("icmpv4_code", Field::Icmpv4Code),
    ("nw_tos_shifted", Field::IpDscp),
    ("tun_gtpu_flags", Field::TunGtpuFlags),
    ("tun_gtpu_msgtype", Field::TunGtpuMsgtype),
    ("OXM_OF_ETH_SRC", Field::EthSrc),
    ("OXM_OF_ETH_DST", Field::EthDst),
    ("OXM_OF_ETH_TYPE", Field::EthType),
    ("OXM_OF_IPV4_SRC", Field::Ipv4Src),
    ("OXM_OF_IPV4_DST", Field::Ipv4Dst),
    ("OXM_OF_IPV6_SRC", Field::Ipv6Src),
    ("OXM_OF_IPV6_DST", Field::Ipv6Dst),
    ("OXM_OF_IPV6_FLABEL", Field::Ipv6Flabel),
    ("OXM_OF_IP_ECN", Field::IpEcn),
    ("OXM_OF_IP_PROTO", Field::IpProto),
    ("OXM_OF_TCP_SRC", Field::TcpSrc),
    ("OXM_OF_TCP_DST", Field::TcpDst),
    ("OXM_OF_TCP_FLAGS", Field::TcpFlags),
    ("ONFOXM_ET_TCP_FLAGS", Field::TcpFlags),
    ("OXM_OF_UDP_SRC", Field::UdpSrc),
    ("OXM_OF_UDP_DST", Field::UdpDst),
    ("OXM_OF_ICMPV4_TYPE", Field::Icmpv4Type),
    ("OXM_OF_ICMPV4_CODE", Field::Icmpv4Code),
    ("OXM_OF_ICMPV6_TYPE", Field::Icmpv6Type),
    ("OXM_OF_ICMPV6_CODE", Field::Icmpv6Code),
    ("OXM_OF_IPV6_ND_TARGET", Field::NdTarget),
    ("OXM_OF_IPV6_ND_SLL", Field::NdSll),
    ("OXM_OF_IPV6_ND_TLL", Field::NdTll),
    ("OXM_OF_ARP_OP", Field::ArpOp),
    ("OXM_OF_ARP_SPA", Field::ArpSpa),
    ("OXM_OF_ARP_TPA", Field::ArpTpa),
    ("OXM_OF_ARP_SHA", Field::ArpSha),
    ("OXM_OF_ARP_THA", Field::ArpTha),
    ("OXM_OF_TUNNEL_ID", Field::TunId),
    ("OXM_OF_ACTSET_OUTPUT", Field::ActsetOutput),
];

/// `n` ones, at the right.
pub(crate) const fn ones(n: u16) -> u128 {
    if n >= 128 { u128::MAX } else { (1_u128 << n) - 1 }
}

const fn compose(class: u16, number: u8, bytes: u8) -> u32 {
    ((class as u32) << 16) | (((number & 0x7f) as u32) << 9) | bytes as u32
}

/// Classes that have named fields, as indexes of the look-up tables below.
const CLASSES: [u16; 5] = [0x0000, 0x0001, 0x8000, 0x8001, 0x1000];
/// No row.
const NONE: u8 = 0xff;

type Rows = [[u8; 128]; 5];

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "runs at compile time, where a wrong index does not compile"
)]
const fn rows(sub: bool) -> Rows {
    let mut rows = [[NONE; 128]; 5];
    let mut row = 0;
    while row < TABLE.len() {
        let info = &TABLE[row];
        let (class, number) =
            if sub { (info.sub_class, info.sub_number) } else { (info.class, info.number) };
        let mut c = 0;
        while c < CLASSES.len() {
            if CLASSES[c] == class {
                let mut member = 0;
                while member < info.field.members() {
                    rows[c][(number + member) as usize] = row as u8;
                    member += 1;
                }
            }
            c += 1;
        }
        row += 1;
    }
    rows
}

static MATCH_ROWS: Rows = rows(false);
static SUB_ROWS: Rows = rows(true);

fn find(rows: &'static Rows, class: u16, number: u8, bytes: u8) -> Field {
    let sub = std::ptr::eq(rows, &SUB_ROWS);
    let slot = match class {
        0x0000 => 0,
        0x0001 => 1,
        0x8000 => 2,
        0x8001 => 3,
        0x1000 => 4,
        _ => rows.len(),
    };
    rows.get(slot)
        .and_then(|class| class.get(usize::from(number)))
        .and_then(|row| TABLE.get(usize::from(*row)))
        .filter(|info| {
            info.bytes == bytes || (!sub && matches!(info.field, Field::TunMetadata(..)))
        })
        .map_or(Field::Unknown { class, number, bytes }, |info| {
            let first = if sub { info.sub_number } else { info.number };
            match info.field.member(number.wrapping_sub(first)) {
                Field::TunMetadata(n, _) => Field::TunMetadata(n, bytes),
                field => field,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_field_its_headers_and_its_names() {
        for info in TABLE {
            for n in 0..info.field.members() {
                let field = info.field.member(n);
                assert_eq!(field.info(), Some(info));
                let [high, low, number, _] = field.header().to_be_bytes();
                let class = u16::from_be_bytes([high, low]);
                let by = field.experimenter().unwrap_or_default();
                assert_eq!(Field::of_match(class, by, number >> 1, info.bytes), field);
                match field.sub_experimenter() {
                    None => assert_eq!(Field::of_sub(field.sub_header()), field),
                    Some(by) => {
                        let [.., number, _] = field.sub_header().to_be_bytes();
                        let found = Field::of_sub_experimenter(by, number >> 1, info.bytes);
                        assert_eq!(found, field);
                    }
                }
                if field != Field::NxmInPort {
                    assert_eq!(Field::from_name(&field.name()), Some(field));
                }
                assert_eq!(Field::from_name(&field.wire_name()), Some(field));
            }
            assert!(!info.field.member(info.field.members()).exists() || info.field.members() == 1);
        }
    }

    #[test]
    fn a_register_beyond_the_last_does_not_exist() {
        assert!(Field::Reg(15).exists());
        assert!(!Field::Reg(16).exists());
        assert_eq!(Field::from_name("reg16"), None);
        assert_eq!(Field::from_name("xxreg3"), Some(Field::XxReg(3)));
    }
}
