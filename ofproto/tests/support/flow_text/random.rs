//! Numbers, addresses and names in all their spellings.

/// A generator of numbers with a seed (xorshift64*): the same flows on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.bits() >> 11) % n
    }

    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    pub(super) fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A number of so many bits; small ones, zero and all ones are frequent.
    pub(super) fn number(&mut self, bits: u32) -> u128 {
        let all = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
        match self.below(6) {
            0 => u128::from(self.below(3)) & all,
            1 => all,
            2 => u128::from(self.below(1000)) & all,
            _ => (u128::from(self.bits()) << 64 | u128::from(self.bits())) & all,
        }
    }

    /// A mask of so many bits, never empty: a prefix, a run, a pattern.
    pub(super) fn mask(&mut self, bits: u32) -> u128 {
        let all = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
        let shift = self.below(bits.into()) as u32;
        let mask = match self.below(4) {
            0 => all << shift & all,
            1 => all >> shift,
            2 => 1 << shift,
            _ => self.number(bits),
        };
        if mask == 0 { 1 } else { mask }
    }

    pub(super) fn integer(&mut self, bits: u32) -> String {
        let number = self.number(bits);
        // Decimals have 64 bits at most.
        if bits <= 64 && self.chance(2) { format!("{number}") } else { format!("{number:#x}") }
    }

    /// A number of more than 16 bytes, up to the 124 of tunnel metadata, and how many.
    pub(super) fn wide(&mut self) -> (String, u64) {
        let bytes = 17 + self.below(108);
        let first = 1 + self.below(255);
        let rest = (1..bytes).map(|_| format!("{:02x}", self.number(8)));
        (format!("{first:#x}{}", rest.collect::<String>()), bytes)
    }

    /// A mask of at most so many bytes: all of them, some, or pattern.
    pub(super) fn wide_mask(&mut self, bytes: u64) -> String {
        let from = if self.chance(2) { 0 } else { self.below(bytes) };
        let pattern = self.chance(3);
        let byte = |n| match n {
            n if n < from => 0,
            _ if pattern => self.number(8),
            _ => 0xff,
        };
        let mask: String = (0..bytes).map(byte).map(|byte| format!("{byte:02x}")).collect();
        format!("0x{mask}")
    }

    /// A value with or without a mask.
    pub(super) fn masked(&mut self, bits: u32) -> String {
        // A negative number is one of 64 bits.
        if bits >= 64 && self.chance(8) {
            return format!("-{}", 1 + self.below(1 << 40));
        }
        let value = self.integer(bits);
        if self.chance(3) { format!("{value}/{:#x}", self.mask(bits)) } else { value }
    }

    pub(super) fn mac(&mut self) -> String {
        let [.., a, b, c, d, e, f] = (self.number(48) as u64).to_be_bytes();
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }

    pub(super) fn masked_mac(&mut self) -> String {
        let value = self.mac();
        if !self.chance(3) {
            return value;
        }
        let mask = self.pick(&["01:00:00:00:00:00", "ff:ff:ff:00:00:00", "00:ff:00:f0:00:01"]);
        format!("{value}/{mask}")
    }

    pub(super) fn ipv4(&mut self) -> String {
        std::net::Ipv4Addr::from(self.number(32) as u32).to_string()
    }

    pub(super) fn masked_ipv4(&mut self) -> String {
        let value = self.ipv4();
        match self.below(4) {
            0 => format!("{value}/{}", 1 + self.below(32)),
            1 => format!("{value}/{}", std::net::Ipv4Addr::from(self.mask(32) as u32)),
            _ => value,
        }
    }

    pub(super) fn ipv6(&mut self) -> String {
        std::net::Ipv6Addr::from(self.number(128)).to_string()
    }

    pub(super) fn masked_ipv6(&mut self) -> String {
        let value = self.ipv6();
        match self.below(4) {
            0 => format!("{value}/{}", 1 + self.below(128)),
            1 => {
                // A mask that begins with a decimal digit is a length to ovs-ofctl.
                let mask = self.mask(128) | 0xf << 124;
                format!("{value}/{}", std::net::Ipv6Addr::from(mask))
            }
            _ => value,
        }
    }

    pub(super) fn port(&mut self) -> String {
        match self.below(4) {
            0 => self.pick(&["LOCAL", "in_port", "IN_PORT", "local"]).to_owned(),
            _ => (1 + self.below(0xfeff)).to_string(),
        }
    }

    pub(super) fn flags(&mut self, names: &[&str]) -> String {
        if self.chance(5) {
            return names[..1 + self.below(names.len() as u64 - 1) as usize].join("|");
        }
        let mut text = String::new();
        for name in names {
            match self.below(4) {
                0 => text += &format!("+{name}"),
                1 => text += &format!("-{name}"),
                _ => {}
            }
        }
        if text.is_empty() { format!("+{}", names[0]) } else { text }
    }
}
