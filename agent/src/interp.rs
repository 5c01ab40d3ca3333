//! Runs a packet through a flow table the way OVS does, conjunctions and connection tracking included.
//!
//! For tests (compiled flows against the evaluator) and for tools that explain a dump. Lookup follows OVS: of each
//! priority level the plain ("hard") flow wins over conjunctions; a conjunction whose clauses are all matched at one
//! priority above the best hard flow sets `conj_id`, and the lookup runs again without conjunctions.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use rust_openflow::{Action, Field, Instruction, Match};

use crate::flow::{FlowKey, FlowTable, FlowValue};
use crate::pipeline::base::ct_state;

/// Header fields and metadata of a packet on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    fields: HashMap<Field, u128>,
}

impl Packet {
    pub fn new(in_port: u32) -> Self {
        Self::default().with(Field::InPort, u128::from(in_port))
    }

    #[must_use]
    pub fn with(mut self, field: Field, value: u128) -> Self {
        self.fields.insert(field, value);
        self
    }

    /// Source, destination and protocol. Addresses of different families make no packet: the source's is used.
    #[must_use]
    pub fn ip(self, src: IpAddr, dst: IpAddr, protocol: u8) -> Self {
        let p = match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => self
                .with(Field::EthType, 0x0800)
                .with(Field::Ipv4Src, u128::from(u32::from(s)))
                .with(Field::Ipv4Dst, u128::from(u32::from(d))),
            (IpAddr::V6(s), IpAddr::V6(d)) => self
                .with(Field::EthType, 0x86dd)
                .with(Field::Ipv6Src, u128::from(s))
                .with(Field::Ipv6Dst, u128::from(d)),
            _ => self,
        };
        p.with(Field::IpProto, u128::from(protocol))
    }

    /// Destination port of TCP, UDP or SCTP, and a source port.
    #[must_use]
    pub fn ports(self, protocol: u8, src: u16, dst: u16) -> Self {
        let (s, d) = match protocol {
            6 => (Field::TcpSrc, Field::TcpDst),
            17 => (Field::UdpSrc, Field::UdpDst),
            132 => (Field::SctpSrc, Field::SctpDst),
            _ => return self,
        };
        let packet = self.with(s, u128::from(src)).with(d, u128::from(dst));
        // what opens a connection
        if protocol == 6 { packet.with(Field::TcpFlags, SYN) } else { packet }
    }

    pub fn get(&self, field: Field) -> u128 {
        self.fields.get(&field).copied().unwrap_or(0)
    }

    /// A field that the packet's kind does not have never matches, whatever the mask; registers and metadata are zero
    /// until set.
    fn matches(&self, m: &Match) -> bool {
        m.fields().iter().all(|f| match self.fields.get(&f.field) {
            Some(v) => v & f.mask == f.value,
            None => always_there(f.field) && f.value == 0,
        })
    }
}

const fn always_there(field: Field) -> bool {
    matches!(
        field,
        Field::Reg(_)
            | Field::CtState
            | Field::CtMark
            | Field::CtLabel
            | Field::CtZone
            | Field::ConjId
            | Field::Metadata
            | Field::PktMark
            | Field::EthSrc
            | Field::EthDst
            | Field::VlanVid
            | Field::IpFrag
            | Field::NdSll
            | Field::NdTll
    )
}

/// `tcp_flags=syn`.
const SYN: u128 = 0x002;

/// What connection tracking says when a packet is sent there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// Bits of `ct_state` beside `trk`.
    pub state: u128,
    pub mark: u32,
    pub label: u128,
}

impl Tracked {
    /// The first packet of a connection.
    pub const NEW: Self = Self { state: ct_state::NEW, mark: 0, label: 0 };
}

/// A commit that the packet caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub zone: u16,
    pub mark: u32,
    pub label: u128,
}

/// Where a packet ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Ports it went out of; empty = dropped.
    pub outputs: Vec<u32>,
    pub committed: Option<Committed>,
    /// The flow that decided in each table.
    pub path: Vec<FlowKey>,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// The table of the last flow that matched.
    pub fn last_table(&self) -> Option<u8> {
        self.path.last().map(|k| k.table)
    }
}

/// A priority and its flows.
type Level<'a> = (u16, Vec<(&'a FlowKey, &'a FlowValue)>);

/// A flow table laid out for lookups.
pub struct Interpreter<'a> {
    /// Per table, the highest priority first.
    tables: BTreeMap<u8, Vec<Level<'a>>>,
}

/// More steps than any packet takes: a loop in a broken table ends here.
const MAX_STEPS: usize = 256;

impl<'a> Interpreter<'a> {
    pub fn new(flows: &'a FlowTable) -> Self {
        let mut levels: BTreeMap<u8, BTreeMap<u16, Vec<_>>> = BTreeMap::new();
        for (key, value) in flows {
            levels
                .entry(key.table)
                .or_default()
                .entry(key.priority)
                .or_default()
                .push((key, value));
        }
        let tables = levels.into_iter().map(|(t, l)| (t, l.into_iter().rev().collect())).collect();
        Self { tables }
    }

    /// Runs the packet from table 0; `tracked` is what `ct` finds.
    pub fn run(&self, packet: Packet, tracked: Tracked) -> Outcome {
        let mut out = Outcome::default();
        let mut packet = packet;
        let mut next = Some(0);
        for _ in 0..MAX_STEPS {
            let Some(table) = next else { break };
            let Some((key, value)) = self.lookup(table, &mut packet) else {
                break;
            };
            out.path.push(key.clone());
            next = self.execute(value, &mut packet, tracked, &mut out);
        }
        out
    }

    /// The flow a packet hits in one table.
    pub fn lookup(&self, table: u8, packet: &mut Packet) -> Option<(&'a FlowKey, &'a FlowValue)> {
        let levels = self.tables.get(&table)?;
        for (_, flows) in levels {
            let mut soft = Vec::new();
            for (key, value) in flows {
                if !packet.matches(&key.match_) {
                    continue;
                }
                match conjunctions(value) {
                    Some(list) => soft.push(list),
                    None => return Some((key, value)),
                }
            }
            if let Some(id) = complete(&soft) {
                packet.fields.insert(Field::ConjId, u128::from(id));
                let found = levels.iter().flat_map(|(_, flows)| flows).find(|(key, value)| {
                    conjunctions(value).is_none() && packet.matches(&key.match_)
                });
                packet.fields.remove(&Field::ConjId);
                return found.copied();
            }
        }
        None
    }

    fn execute(
        &self,
        value: &FlowValue,
        packet: &mut Packet,
        tracked: Tracked,
        out: &mut Outcome,
    ) -> Option<u8> {
        let mut next = None;
        for instruction in &value.instructions {
            match instruction {
                Instruction::GotoTable(t) => next = Some(*t),
                Instruction::ApplyActions(actions) => {
                    for action in actions {
                        if let Some(t) = apply(action, packet, tracked, out) {
                            // ct(table=T) hands the packet over: what follows in this flow works on the original
                            return Some(t);
                        }
                    }
                }
                _ => {}
            }
        }
        next
    }
}

fn apply(action: &Action, packet: &mut Packet, tracked: Tracked, out: &mut Outcome) -> Option<u8> {
    match action {
        // OVS never sends a packet back out of the port it came from
        Action::Output { port, .. } if u128::from(*port) != packet.get(Field::InPort) => {
            out.outputs.push(*port);
        }
        Action::RegLoad { dst, offset, bits, value } => {
            put(packet, *dst, *offset, *bits, u128::from(*value));
        }
        Action::RegMove { bits, src, src_offset, dst, dst_offset } => {
            let bits = u8::try_from(*bits).unwrap_or(128);
            let value = (packet.get(*src) >> src_offset) & mask(bits);
            put(packet, *dst, u8::try_from(*dst_offset).unwrap_or(0), bits, value);
        }
        Action::SetField(f) => {
            packet.fields.insert(f.field, f.value);
        }
        Action::Ct(ct) => {
            if let Some(table) = ct.table {
                packet.fields.insert(Field::CtState, tracked.state | ct_state::TRK);
                packet.fields.insert(Field::CtMark, u128::from(tracked.mark));
                packet.fields.insert(Field::CtLabel, tracked.label);
                return Some(table);
            }
            if ct.commit {
                let mut inner = packet.clone();
                for a in &ct.actions {
                    apply(a, &mut inner, tracked, &mut Outcome::default());
                }
                out.committed = Some(Committed {
                    zone: ct.zone,
                    mark: u32::try_from(inner.get(Field::CtMark)).unwrap_or(0),
                    label: inner.get(Field::CtLabel),
                });
            }
        }
        _ => {}
    }
    None
}

const fn mask(bits: u8) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

fn put(packet: &mut Packet, field: Field, offset: u8, bits: u8, value: u128) {
    let m = mask(bits) << offset;
    let old = packet.get(field);
    packet.fields.insert(field, (old & !m) | ((value << offset) & m));
}

type Clauses = Vec<(u32, u8, u8)>;

/// The conjunction actions of a flow, if it is a clause flow.
fn conjunctions(value: &FlowValue) -> Option<Clauses> {
    let [Instruction::ApplyActions(actions)] = &value.instructions[..] else {
        return None;
    };
    let list: Clauses = actions
        .iter()
        .filter_map(|a| match a {
            Action::Conjunction { id, clause, n_clauses } => Some((*id, *clause, *n_clauses)),
            _ => None,
        })
        .collect();
    (!list.is_empty()).then_some(list)
}

/// The least id all of whose clauses are there. OVS says nothing about which of several wins.
fn complete(soft: &[Clauses]) -> Option<u32> {
    let mut seen: BTreeMap<(u32, u8), u64> = BTreeMap::new();
    for (id, clause, n) in soft.iter().flatten() {
        *seen.entry((*id, *n)).or_default() |= 1 << clause.min(&63);
    }
    seen.into_iter()
        .find(|((_, n), bits)| *bits == u64::MAX >> (64 - u32::from((*n).clamp(1, 64))))
        .map(|((id, _), _)| id)
}
