//! The words of a match.

use super::{CT_STATES, Flow, Kind, TCP_FLAGS};

impl Flow<'_> {
    pub(super) fn common(&mut self) {
        self.maybe(4, |r| format!("in_port={}", r.port()));
        // A packet with a type of its own has no Ethernet header.
        self.ethernet = !self.words.iter().any(|word| word.starts_with("packet_type"));
        if self.ethernet {
            self.maybe(9, |r| format!("dl_src={}", r.masked_mac()));
            self.maybe(9, |r| format!("eth_dst={}", r.masked_mac()));
        }
        if self.ethernet && self.random.chance(6) {
            let choice = self.random.below(6);
            let random = &mut *self.random;
            let word = match choice {
                0 => format!("dl_vlan={}", random.below(4096)),
                1 => format!("dl_vlan={},dl_vlan_pcp={}", random.below(4096), random.below(8)),
                2 => format!("dl_vlan_pcp={}", random.below(8)),
                3 => "vlan_tci=0x1000/0x1000".to_owned(),
                4 => {
                    format!("vlan_vid={:#x}/0x1{:03x}", random.below(4096) | 4096, random.mask(12))
                }
                _ => "vlan_tci=0".to_owned(),
            };
            self.vlans = u8::from(choice != 5);
            self.add(word);
        }
        self.maybe(15, |r| format!("dp_hash={}", r.masked(32)));
        self.maybe(15, |r| format!("recirc_id={}", r.integer(32)));
        self.maybe(9, |r| format!("conj_id={}", r.integer(32)));
        self.maybe(20, |r| format!("actset_output={}", r.port()));
        self.maybe(9, |r| format!("pkt_mark={}", r.masked(32)));
        self.maybe(9, |r| format!("metadata={}", r.masked(64)));
        for n in 0..16 {
            self.maybe(30, |r| format!("reg{n}={}", r.masked(32)));
        }
        match self.random.below(20) {
            0 => self.maybe(1, |r| format!("xreg{}={}", r.below(8), r.masked(64))),
            1 => self.maybe(1, |r| format!("xxreg{}={}", r.below(4), r.masked(128))),
            2 => self.maybe(1, |r| {
                let first = r.below(24);
                format!("reg3[{first}..{}]={}", first + 7, r.below(256))
            }),
            3 => self.maybe(1, |r| format!("NXM_NX_REG5[]={}", r.integer(32))),
            _ => {}
        }
        if self.random.chance(5) {
            self.tunnel();
        }
        self.conntrack();
    }

    pub(super) fn tunnel(&mut self) {
        self.maybe(2, |r| format!("{}={}", r.pick(&["tun_id", "tunnel_id"]), r.masked(64)));
        self.maybe(3, |r| format!("tun_src={}", r.masked_ipv4()));
        self.maybe(3, |r| format!("tun_dst={}", r.masked_ipv4()));
        self.maybe(6, |r| format!("tun_ipv6_src={}", r.masked_ipv6()));
        self.maybe(6, |r| format!("tun_ipv6_dst={}", r.masked_ipv6()));
        self.maybe(5, |r| format!("tun_flags={}oam", r.pick(&["+", "-", ""])));
        self.maybe(5, |r| format!("tun_gbp_id={}", r.masked(16)));
        self.maybe(5, |r| format!("tun_gbp_flags={}", r.masked(8)));
        self.maybe(9, |r| format!("tun_erspan_ver=1,tun_erspan_idx={}", 1 + r.below(0xf_ffff)));
        self.maybe(20, |r| {
            format!("tun_gtpu_flags={},tun_gtpu_msgtype={}", 1 + r.below(255), 1 + r.below(255))
        });
        self.maybe(6, |r| {
            let bytes = 1 + r.below(16) as u32;
            format!("tun_metadata{}={:#x}", 2 * r.below(32), r.number(bytes * 8))
        });
        self.maybe(6, |r| {
            let n = 9 + 2 * r.below(27);
            let (value, bytes) = r.wide();
            let mask = if r.chance(2) { format!("/{}", r.wide_mask(bytes)) } else { String::new() };
            format!("tun_metadata{n}={value}{mask}")
        });
        self.maybe(30, |_| "tun_metadata7".to_owned());
    }

    pub(super) fn conntrack(&mut self) {
        if !self.random.chance(3) {
            return;
        }
        if matches!(self.kind, Kind::Ipv4 | Kind::Ipv6) && self.random.chance(3) {
            let (state, v4) =
                (self.random.pick(&["+trk+est", "+est", "+trk-inv"]), self.kind == Kind::Ipv4);
            self.tuple = true;
            self.add(format!("ct_state={state}"));
            if v4 {
                self.maybe(2, |r| format!("ct_nw_src={}", r.masked_ipv4()));
                self.maybe(2, |r| format!("ct_nw_dst={}", r.masked_ipv4()));
            } else {
                self.maybe(2, |r| format!("ct_ipv6_src={}", r.masked_ipv6()));
                self.maybe(2, |r| format!("ct_ipv6_dst={}", r.masked_ipv6()));
            }
            self.maybe(2, |r| {
                let proto = r.pick(&["6", "17", "132"]);
                format!("ct_nw_proto={proto},ct_tp_src={},ct_tp_dst={}", r.masked(16), r.masked(16))
            });
        } else {
            let state = self.random.flags(&CT_STATES);
            self.invalid = !state.contains("-inv");
            self.add(format!("ct_state={state}"));
        }
        self.maybe(3, |r| format!("ct_zone={}", r.integer(16)));
        self.maybe(3, |r| format!("ct_mark={}", r.masked(32)));
        self.maybe(3, |r| format!("ct_label={}", r.masked(128)));
    }

    pub(super) fn network(&mut self) {
        self.maybe(4, |r| format!("nw_tos={}", r.below(64) * 4));
        self.maybe(9, |r| format!("ip_dscp={}", r.below(64)));
        self.maybe(5, |r| format!("nw_ecn={}", r.below(4)));
        self.maybe(5, |r| format!("nw_ttl={}", r.integer(8)));
        self.maybe(9, |r| format!("nw_frag={}", r.pick(&["no", "yes", "first", "not_later"])));
        if self.kind == Kind::Ipv4 {
            self.maybe(2, |r| format!("{}={}", r.pick(&["nw_src", "ip_src"]), r.masked_ipv4()));
            self.maybe(2, |r| format!("{}={}", r.pick(&["nw_dst", "ip_dst"]), r.masked_ipv4()));
        } else {
            self.maybe(2, |r| format!("ipv6_src={}", r.masked_ipv6()));
            self.maybe(2, |r| format!("ipv6_dst={}", r.masked_ipv6()));
            self.maybe(5, |r| format!("ipv6_label={}", r.masked(20)));
        }
    }

    pub(super) fn transport(&mut self, proto: &'static str) {
        self.proto = proto;
        for side in ["src", "dst"] {
            self.maybe(2, |r| {
                let prefix = if r.chance(2) { "tp" } else { proto };
                format!("{prefix}_{side}={}", r.masked(16))
            });
        }
        if proto == "tcp" {
            self.maybe(4, |r| match r.below(3) {
                0 => format!("tcp_flags={}", r.masked(12)),
                _ => format!("tcp_flags={}", r.flags(&TCP_FLAGS)),
            });
        }
    }

    pub(super) fn protocol(&mut self) {
        let choice = self.random.below(16);
        match choice {
            0 | 1 => {}
            2 => {
                let kind =
                    self.random.pick(&["dl_type=0x88cc", "dl_type=0x1234", "eth_type=35020"]);
                self.add(kind.to_owned());
            }
            3 => {
                self.kind = Kind::Arp;
                let word = self.random.pick(&["arp", "rarp", "dl_type=0x0806"]).to_owned();
                self.add(word);
                self.maybe(2, |r| format!("{}={}", r.pick(&["arp_op", "nw_proto"]), r.below(256)));
                self.maybe(2, |r| {
                    format!("{}={}", r.pick(&["arp_spa", "nw_src"]), r.masked_ipv4())
                });
                self.maybe(2, |r| {
                    format!("{}={}", r.pick(&["arp_tpa", "nw_dst"]), r.masked_ipv4())
                });
                self.maybe(3, |r| format!("arp_sha={}", r.masked_mac()));
                self.maybe(3, |r| format!("arp_tha={}", r.masked_mac()));
            }
            4 => {
                self.kind = Kind::Mpls;
                let word = self.random.pick(&["mpls", "mplsm"]).to_owned();
                self.add(word);
                self.maybe(2, |r| format!("mpls_label={}", r.integer(20)));
                self.maybe(2, |r| format!("mpls_tc={}", r.below(8)));
                self.maybe(2, |r| format!("mpls_ttl={}", r.below(256)));
                self.maybe(2, |r| format!("mpls_bos={}", r.below(2)));
            }
            5 => {
                self.kind = Kind::Nsh;
                let word =
                    self.random.pick(&["dl_type=0x894f", "packet_type=(1,0x894f)"]).to_owned();
                self.add(word);
                self.maybe(2, |r| format!("nsh_flags={}", r.masked(8)));
                self.maybe(2, |r| format!("nsh_ttl={}", r.below(64)));
                self.maybe(2, |_| "nsh_mdtype=1".to_owned());
                self.maybe(3, |r| format!("nsh_np={}", r.below(256)));
                self.maybe(2, |r| format!("nsh_spi={}", r.integer(24)));
                self.maybe(2, |r| format!("nsh_si={}", r.below(256)));
                for n in 1..5 {
                    self.maybe(3, |r| format!("nsh_c{n}={}", r.masked(32)));
                }
            }
            6 | 7 => {
                self.kind = if choice == 6 { Kind::Ipv4 } else { Kind::Ipv6 };
                let icmp = if choice == 6 { "icmp" } else { "icmp6" };
                self.add(icmp.to_owned());
                self.network();
                if choice == 7 && self.random.chance(2) {
                    let solicit = self.random.chance(2);
                    self.add(format!("icmp_type={},icmp_code=0", if solicit { 135 } else { 136 }));
                    self.maybe(2, |r| format!("nd_target={}", r.masked_ipv6()));
                    self.maybe(3, |r| format!("nd_reserved={}", r.integer(32)));
                    self.maybe(3, |r| format!("nd_options_type={}", r.below(256)));
                    let ll = if solicit { "nd_sll" } else { "nd_tll" };
                    self.maybe(2, |r| format!("{ll}={}", r.masked_mac()));
                } else {
                    self.maybe(2, |r| format!("icmp_type={}", r.below(130)));
                    self.maybe(2, |r| format!("icmp_code={}", r.below(256)));
                }
            }
            _ => {
                let v4 = choice.is_multiple_of(2);
                self.kind = if v4 { Kind::Ipv4 } else { Kind::Ipv6 };
                let (proto, number) = [("", 0), ("tcp", 6), ("udp", 17), ("sctp", 132)]
                    [self.random.below(4) as usize];
                let ip = if v4 { "ip" } else { "ipv6" };
                let word = match (proto, self.random.chance(3)) {
                    ("", _) => ip.to_owned(),
                    (_, true) => format!("{ip},nw_proto={number}"),
                    (_, false) => format!("{proto}{}", if v4 { "" } else { "6" }),
                };
                self.add(word);
                self.network();
                if proto.is_empty() {
                    self.maybe(3, |r| format!("nw_proto={}", 200 + r.below(50)));
                } else {
                    self.transport(proto);
                }
            }
        }
    }
}
