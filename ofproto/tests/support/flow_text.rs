//! Flow text over every match field, action and instruction that ovs-ofctl 3.1 knows in OpenFlow 1.3. The text is what
//! is generated, not this crate's types, so that spellings are tested that this crate never writes.

#[path = "flow_text/actions.rs"]
mod actions;
#[path = "flow_text/fields.rs"]
mod fields;
#[path = "flow_text/random.rs"]
mod random;

pub(crate) use random::Random;

/// What a flow's packets are, as far as actions ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    Ipv4,
    Ipv6,
    Arp,
    Mpls,
    Nsh,
}

struct Flow<'a> {
    random: &'a mut Random,
    kind: Kind,
    proto: &'static str,
    /// VLAN tags the packet is known to have.
    vlans: u8,
    ethernet: bool,
    /// Whether the connection tracker's tuple is there.
    tuple: bool,
    invalid: bool,
    words: Vec<String>,
}

const CT_STATES: [&str; 8] = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
const TCP_FLAGS: [&str; 9] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];

impl Flow<'_> {
    fn add(&mut self, word: String) {
        self.words.push(word);
    }

    /// A field now and then.
    fn maybe(&mut self, one_in: u64, make: impl FnOnce(&mut Random) -> String) {
        if self.random.chance(one_in) {
            let word = make(self.random);
            self.add(word);
        }
    }
}

/// One flow to add.
pub(crate) fn flow(random: &mut Random) -> String {
    let table = random.below(255);
    let mut words = Vec::new();
    let mut maybe = |random: &mut Random, word: String| {
        if random.chance(3) {
            words.push(word);
        }
    };
    let (cookie, priority) = (random.bits(), random.below(65_536));
    let (idle, hard) = (random.below(65_536), random.below(65_536));
    maybe(random, format!("cookie={cookie:#x}"));
    maybe(random, format!("priority={priority}"));
    maybe(random, format!("idle_timeout={idle}"));
    maybe(random, format!("hard_timeout={hard}"));
    for flag in
        ["send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts"]
    {
        if random.chance(9) {
            words.push(flag.to_owned());
        }
    }
    words.push(format!("table={table}"));
    let mut flow = Flow {
        random,
        kind: Kind::Any,
        proto: "",
        vlans: 0,
        ethernet: true,
        tuple: false,
        invalid: false,
        words,
    };
    flow.protocol();
    flow.common();
    let actions = flow.instructions(table);
    let separator = if flow.random.chance(2) { "," } else { ", " };
    format!("{} actions={actions}", flow.words.join(separator))
}
