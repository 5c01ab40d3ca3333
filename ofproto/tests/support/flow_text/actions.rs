//! Actions and instructions.

use super::{Flow, Kind, Random};

impl Flow<'_> {
    /// A run of bits of a field that may be written.
    pub(super) fn run(&mut self, bits: u64) -> String {
        let random = &mut *self.random;
        let (name, width) = match random.below(8) {
            0 => (format!("NXM_NX_REG{}", random.below(16)), 32),
            1 => (format!("xreg{}", random.below(8)), 64),
            2 => (format!("NXM_NX_XXREG{}", random.below(4)), 128),
            3 => ("OXM_OF_METADATA".to_owned(), 64),
            4 if self.ethernet => ("NXM_OF_ETH_SRC".to_owned(), 48),
            5 => ("tun_id".to_owned(), 64),
            6 => ("pkt_mark".to_owned(), 32),
            _ => (format!("reg{}", random.below(16)), 32),
        };
        let first = random.below(width - bits + 1);
        match bits {
            1 => format!("{name}[{first}]"),
            _ if bits == width => format!("{name}[]"),
            _ => format!("{name}[{first}..{}]", first + bits - 1),
        }
    }

    pub(super) fn set_field(&mut self) -> String {
        let ip = matches!(self.kind, Kind::Ipv4 | Kind::Ipv6);
        let ports = ip && !self.proto.is_empty();
        let (kind, proto) = (self.kind, self.proto);
        let vlan = self.ethernet && self.vlans > 0;
        let ethernet = self.ethernet;
        let random = &mut *self.random;
        match random.below(18) {
            0 if ethernet => format!(
                "set_field:{}->{}",
                random.masked_mac(),
                random.pick(&["eth_src", "dl_dst"])
            ),
            1 => format!("set_field:{}->tun_id", random.masked(64)),
            2 => format!("set_field:{}->tun_src", random.masked_ipv4()),
            3 => format!("set_field:{}->tun_ipv6_dst", random.ipv6()),
            4 => format!("set_field:{}->metadata", random.masked(64)),
            5 => format!("set_field:{}->xxreg{}", random.masked(128), random.below(4)),
            6 => format!("set_field:{}->xreg{}", random.masked(64), random.below(8)),
            7 => format!("set_field:{}->pkt_mark", random.masked(32)),
            8 if kind == Kind::Ipv4 => format!("set_field:{}->ip_src", random.masked_ipv4()),
            8 if kind == Kind::Ipv6 => format!("set_field:{}->ipv6_dst", random.ipv6()),
            9 if ip => format!("set_field:{}->nw_ttl", random.below(256)),
            10 if ip => format!("set_field:{}->ip_dscp", random.below(64)),
            11 if ip => format!("set_field:{}->nw_ecn", random.below(4)),
            12 if ports => format!("set_field:{}->{proto}_dst", random.integer(16)),
            13 if kind == Kind::Arp => format!("set_field:{}->arp_spa", random.ipv4()),
            13 if kind == Kind::Arp => format!("set_field:{}->arp_op", random.below(3)),
            14 if kind == Kind::Mpls => format!("set_field:{}->mpls_label", random.integer(20)),
            15 if vlan => format!("set_field:{}->vlan_vid", random.below(4096) | 4096),
            15 if kind == Kind::Nsh => match random.below(2) {
                // ovs-ofctl sends bits outside a mask here, which a switch refuses: there are none.
                0 => format!("set_field:{:#x}/0xff->nsh_c1", random.below(256)),
                _ => format!("set_field:{}->nsh_c{}", random.integer(32), 1 + random.below(4)),
            },
            16 if random.chance(2) => {
                let (value, bytes) = random.wide();
                // As above: all bits of the value count.
                let mask = if random.chance(2) { "/0x" } else { "" };
                let mask = mask.to_owned()
                    + &"ff".repeat(if mask.is_empty() { 0 } else { bytes as usize });
                format!("set_field:{value}{mask}->tun_metadata{}", random.below(64))
            }
            16 => format!(
                "set_field:{:#x}->tun_metadata{}",
                random.below(1 << 40) * random.below(9).min(1),
                random.below(64)
            ),
            _ => format!("set_field:{}->reg{}", random.masked(32), random.below(16)),
        }
    }

    pub(super) fn ct(&mut self) -> String {
        let mut parts = Vec::new();
        let (v4, proto) = (self.kind == Kind::Ipv4, self.proto);
        let commit = self.random.chance(2);
        let zone = if self.random.chance(4) { self.run(16) } else { self.random.integer(16) };
        let random = &mut *self.random;
        if commit {
            parts.push("commit".to_owned());
            if random.chance(4) {
                parts.push("force".to_owned());
            }
        }
        if random.chance(2) {
            parts.push(format!("table={}", random.below(255)));
        }
        if random.chance(2) {
            parts.push(format!("zone={zone}"));
        }
        if commit && random.chance(3) {
            let exec = match random.below(5) {
                0 => format!("set_field:{}->ct_mark", random.masked(32)),
                1 => format!("set_field:{}->ct_label", random.masked(128)),
                2 => format!("load:{}->NXM_NX_CT_MARK[3..10]", random.below(256)),
                3 => "move:NXM_NX_REG0[]->NXM_NX_CT_LABEL[32..63]".to_owned(),
                _ => "load:1->ct_mark[0],set_field:0x5/0xf->ct_label".to_owned(),
            };
            parts.push(format!("exec({exec})"));
        }
        if commit && random.chance(9) {
            match proto {
                "tcp" => parts.push("alg=ftp".to_owned()),
                "udp" => parts.push("alg=tftp".to_owned()),
                _ => {}
            }
        }
        match random.below(6) {
            0 => parts.push("nat".to_owned()),
            1 if commit => {
                let side = random.pick(&["src", "dst"]);
                let n = random.below(100);
                let addresses = if v4 {
                    let last = if random.chance(2) {
                        format!("-10.1.1.{}", n + 100)
                    } else {
                        String::new()
                    };
                    format!("10.1.1.{n}{last}")
                } else {
                    let last = if random.chance(2) {
                        format!("-fd00::{:x}", n + 100)
                    } else {
                        String::new()
                    };
                    format!("fd00::{n:x}{last}")
                };
                let ports = if random.chance(3) {
                    let first = 1 + random.below(1000);
                    let last =
                        if random.chance(2) { format!("-{}", first + 100) } else { String::new() };
                    format!(":{first}{last}")
                } else {
                    String::new()
                };
                let addresses = match (v4, ports.is_empty()) {
                    (false, false) => addresses
                        .split('-')
                        .map(|address| format!("[{address}]"))
                        .collect::<Vec<_>>()
                        .join("-"),
                    _ => addresses,
                };
                let how = random.pick(&["", ",persistent", ",random", ",hash", ",persistent,hash"]);
                parts.push(match random.below(4) {
                    0 => format!("nat({side})"),
                    _ => format!("nat({side}={addresses}{ports}{how})"),
                });
            }
            _ => {}
        }
        if parts.is_empty() && random.chance(2) {
            return "ct".to_owned();
        }
        format!("ct({})", parts.join(","))
    }

    pub(super) fn learn(&mut self) -> String {
        let ip = self.kind == Kind::Ipv4;
        let result = self.run(1);
        let random = &mut *self.random;
        let mut parts = Vec::new();
        let mut maybe = |random: &mut Random, part: String| {
            if random.chance(3) {
                parts.push(part);
            }
        };
        let n = |random: &mut Random| 1 + random.below(65_535);
        for name in
            ["idle_timeout", "hard_timeout", "fin_idle_timeout", "fin_hard_timeout", "priority"]
        {
            let value = n(random);
            maybe(random, format!("{name}={value}"));
        }
        let (table, cookie, limit) = (random.below(255), random.bits(), n(random));
        maybe(random, format!("table={table}"));
        maybe(random, format!("cookie={cookie:#x}"));
        maybe(random, format!("limit={limit}"));
        maybe(random, "send_flow_rem".to_owned());
        maybe(random, "delete_learned".to_owned());
        maybe(random, format!("result_dst={result}"));
        maybe(random, "NXM_OF_VLAN_TCI[0..11]".to_owned());
        maybe(random, "NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]".to_owned());
        maybe(random, "eth_dst=eth_src".to_owned());
        let (a, b, mac) = (random.integer(32), random.below(16), random.mac());
        maybe(random, format!("reg{b}={a}"));
        maybe(random, format!("eth_src={mac}"));
        maybe(random, format!("in_port={}", 1 + table));
        maybe(random, "load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]".to_owned());
        maybe(random, format!("load:{}->NXM_NX_REG{b}[0..7]", table & 0xff));
        maybe(random, format!("reg7[3..9]={}", table & 0x7f));
        maybe(random, "reg1[0..15]=reg2[16..31]".to_owned());
        maybe(random, "tun_id".to_owned());
        maybe(random, "metadata=OXM_OF_METADATA[]".to_owned());
        if ip {
            maybe(random, "eth_type=0x800,nw_proto=6,NXM_OF_IP_SRC[]=NXM_OF_IP_DST[]".to_owned());
            maybe(random, "dl_type=0x800,ip_dst=10.0.0.1".to_owned());
        }
        maybe(random, "output:NXM_OF_IN_PORT[]".to_owned());
        maybe(random, "output:reg3[0..15]".to_owned());
        format!("learn({})", parts.join(","))
    }

    pub(super) fn action(&mut self, depth: u32) -> String {
        let ip = matches!(self.kind, Kind::Ipv4 | Kind::Ipv6);
        let ports = ip && !self.proto.is_empty();
        let fields = self.random.pick(&[
            "eth_src",
            "symmetric_l4",
            "symmetric_l3l4",
            "symmetric_l3l4+udp",
            "nw_src",
            "nw_dst",
            "symmetric_l3",
        ]);
        match self.random.below(48) {
            0 => format!("output:{}", self.random.port()),
            1 => self
                .random
                .pick(&["NORMAL", "FLOOD", "ALL", "LOCAL", "IN_PORT", "7", "table"])
                .to_owned(),
            2 => format!(
                "output(port={},max_len={})",
                self.random.port(),
                14 + self.random.below(9000)
            ),
            3 => {
                let bits = 1 + self.random.below(32);
                format!("output:{}", self.run(bits))
            }
            4 => format!("group:{}", self.random.below(10_000)),
            5 => format!("enqueue:{}:{}", 1 + self.random.below(100), self.random.below(100)),
            6 => format!("set_queue:{}", self.random.integer(32)),
            7 => {
                self.random.pick(&["pop_queue", "exit", "ct_clear", "decap", "decap()"]).to_owned()
            }
            8 if self.ethernet && self.vlans < 2 => {
                self.vlans += 1;
                format!("push_vlan:{}", self.random.pick(&["0x8100", "0x88a8"]))
            }
            9 if self.vlans > 0 => {
                self.vlans -= 1;
                self.random.pick(&["strip_vlan", "pop_vlan"]).to_owned()
            }
            10 if self.ethernet => {
                self.vlans = self.vlans.max(1);
                format!("mod_vlan_vid:{}", self.random.below(4096))
            }
            11 if self.ethernet => {
                self.vlans = self.vlans.max(1);
                format!("mod_vlan_pcp:{}", self.random.below(8))
            }
            12 if self.ethernet => format!("mod_dl_src:{}", self.random.mac()),
            13 if self.kind == Kind::Ipv4 => format!("mod_nw_dst:{}", self.random.ipv4()),
            14 if ip => format!("mod_nw_tos:{}", self.random.below(64) * 4),
            15 if ip => format!("mod_nw_ecn:{}", self.random.below(4)),
            16 if ip => format!("mod_nw_ttl:{}", self.random.below(256)),
            17 if ports => format!("mod_tp_src:{}", self.random.below(65_536)),
            18 if ip => self
                .random
                .pick(&["dec_ttl", "dec_ttl(1,2)", "dec_ttl(3)", "dec_ttl(1,2,3,4,5)"])
                .to_owned(),
            19 if self.proto == "tcp" => self
                .random
                .pick(&[
                    "fin_timeout(idle_timeout=5)",
                    "fin_timeout(hard_timeout=6,idle_timeout=7)",
                ])
                .to_owned(),
            20 => format!("set_tunnel:{}", self.random.integer(64)),
            21 => format!("resubmit:{}", 1 + self.random.below(0xfeff)),
            22 => format!("resubmit(,{})", self.random.below(255)),
            23 => format!("resubmit({},{})", self.random.port(), self.random.below(255)),
            24 if ip && self.tuple => {
                format!("resubmit({},{},ct)", self.random.port(), self.random.below(255))
            }
            25 => {
                let length = 2 * self.random.below(20);
                format!(
                    "note:{}",
                    (0..length).map(|_| format!("{:x}", self.random.below(16))).collect::<String>()
                )
            }
            26 => {
                let random = &mut *self.random;
                format!(
                    "{}:{}",
                    random.pick(&["CONTROLLER", "controller"]),
                    random
                        .integer(16)
                        .replace("0x", "")
                        .replace(|c: char| !c.is_ascii_digit(), "1")
                        .chars()
                        .take(4)
                        .collect::<String>()
                )
            }
            27 => {
                let random = &mut *self.random;
                let mut parts = vec![format!("max_len={}", random.below(65_536))];
                for part in [
                    format!("reason={}", random.pick(&["no_match", "action", "invalid_ttl"])),
                    format!("id={}", random.below(65_536)),
                    "userdata=01.02.a0".to_owned(),
                    "pause".to_owned(),
                    format!("meter_id={}", 1 + random.below(100)),
                ] {
                    if random.chance(3) {
                        parts.push(part);
                    }
                }
                format!("controller({})", parts.join(","))
            }
            28 | 29 => {
                let bits = 1 + self.random.below(32);
                let run = self.run(bits);
                let mask = (1_u128 << bits) - 1;
                format!("load:{:#x}->{run}", self.random.number(32) & mask)
            }
            30 | 31 => {
                let bits = 1 + self.random.below(32);
                format!("move:{}->{}", self.run(bits), self.run(bits))
            }
            32 => {
                let bits = 1 + self.random.below(32);
                format!("{}:{}", self.random.pick(&["push", "pop"]), self.run(bits))
            }
            33 => {
                let dst = self.run(16);
                let random = &mut *self.random;
                let how = random.pick(&["modulo_n", "hash_threshold", "hrw", "iter_hash"]);
                format!(
                    "multipath({fields},{},{how},{},{},{dst})",
                    random.below(65_536),
                    1 + random.below(65_536),
                    random.below(100)
                )
            }
            34 => {
                let random = &mut *self.random;
                let how = random.pick(&["active_backup", "hrw"]);
                let word = random.pick(&["members", "slaves"]);
                format!(
                    "bundle({fields},{},{how},ofport,{word}:{})",
                    random.below(65_536),
                    random.pick(&["1", "1,2,3", "4,LOCAL,5,6,7", ""])
                )
            }
            35 => {
                let dst = self.run(16);
                format!(
                    "bundle_load({fields},{},hrw,ofport,{dst},members:1,2)",
                    self.random.below(65_536)
                )
            }
            36 => {
                let random = &mut *self.random;
                let more =
                    random.pick(&["", ",sampling_port=5", ",sampling_port=6,egress", ",ingress"]);
                format!(
                    "sample(probability={},collector_set_id={},obs_domain_id={},obs_point_id={}{more})",
                    1 + random.below(65_535),
                    random.integer(32),
                    random.integer(32),
                    random.integer(32)
                )
            }
            37 if depth < 2 => {
                let vlans = self.vlans;
                let inner: Vec<String> =
                    (0..1 + self.random.below(3)).map(|_| self.simple(depth + 1)).collect();
                self.vlans = vlans;
                format!("clone({})", inner.join(","))
            }
            38 if self.kind == Kind::Nsh => "dec_nsh_ttl".to_owned(),
            39 => format!("check_pkt_larger({})->{}", self.random.below(65_536), self.run(1)),
            40 => format!("delete_field:tun_metadata{}", self.random.below(64)),
            41 if self.ethernet => self.learn(),
            42 if self.kind == Kind::Mpls => self
                .random
                .pick(&["set_mpls_ttl(5)", "dec_mpls_ttl", "set_mpls_tc:3", "set_mpls_label:7"])
                .to_owned(),
            43 | 44 if ip && !self.invalid => self.ct(),
            _ => self.set_field(),
        }
    }

    /// An action that leaves the packet what it is: `decap` and the like come last in a list only.
    pub(super) fn simple(&mut self, depth: u32) -> String {
        loop {
            let action = self.action(depth);
            if !action.starts_with("decap") {
                return action;
            }
        }
    }

    pub(super) fn instructions(&mut self, table: u64) -> String {
        let mut parts = Vec::new();
        if self.random.chance(12) {
            return "drop".to_owned();
        }
        if self.random.chance(10) {
            let random = &mut *self.random;
            return (0..1 + random.below(4))
                .map(|_| {
                    let n = 2 + random.below(63);
                    format!("conjunction({},{}/{n})", random.integer(32), 1 + random.below(n))
                })
                .collect::<Vec<_>>()
                .join(",");
        }
        if self.random.chance(9) {
            parts.push(format!("meter:{}", 1 + self.random.below(1000)));
        }
        for _ in 0..self.random.below(5) {
            parts.push(self.simple(0));
        }
        if self.ethernet && self.random.chance(12) {
            // What changes the packet's kind stands last, as nothing else may follow that asks for one.
            parts.push(
                self.random
                    .pick(&[
                        "encap(nsh(md_type=1))",
                        "encap(nsh(md_type=2,tlv(0x1000,10,0x12345678),tlv(0x2000,20,0xfedcba9876543210)))",
                        "encap(ethernet)",
                        "encap(mpls)",
                        "encap(nsh)",
                        "decap",
                        "decap(packet_type(ns=0,type=0))",
                        "decap(packet_type(ns=1,type=0x894f))",
                        "push_mpls:0x8847,set_mpls_ttl(3),pop_mpls:0x0800",
                        "push_mpls:0x8848",
                    ])
                    .to_owned(),
            );
        }
        if self.random.chance(12) {
            parts.push("clear_actions".to_owned());
        }
        if self.random.chance(12) {
            let action = self.random.pick(&[
                "output:5",
                "group:7",
                "set_queue:5,output:LOCAL",
                "set_field:0x5->tun_id,output:1",
                "drop",
            ]);
            parts.push(format!("write_actions({action})"));
        }
        if self.random.chance(12) {
            parts.push(format!("write_metadata:{}", self.random.masked(64)));
        }
        if self.random.chance(3) && table < 254 {
            parts.push(format!("goto_table:{}", table + 1 + self.random.below(254 - table)));
        }
        parts.join(",")
    }
}
