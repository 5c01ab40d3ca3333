//! Flows that Open vSwitch accepts, of everything this crate has a name for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rust_openflow::{
    Action, ControllerAction, CtAction, Field, FlowMod, Instruction, Match, NatAction, NatRange,
    port,
};

type Set = (Field, u128, u128);

fn exact(field: Field, values: impl Strategy<Value = u128> + 'static) -> BoxedStrategy<Vec<Set>> {
    option::of(values)
        .prop_map(move |v| v.map(|v| (field, v, field.exact_mask())).into_iter().collect())
        .boxed()
}

/// A field with any mask, often whole, sometimes a prefix, never empty.
fn masked(field: Field) -> BoxedStrategy<Vec<Set>> {
    let whole = field.exact_mask();
    // tcp_flags has twelve bits, and counts as whole with sixteen only.
    let all = if field == Field::TcpFlags { 0xfff } else { whole };
    let width = u32::from(field.bits());
    // ovs-ofctl takes an IPv6 mask that begins with a decimal digit for a prefix length.
    let readable = if width == 128 { 0xf << 124 } else { 0 };
    let mask = prop_oneof![
        3 => Just(whole),
        2 => (1..width.max(2)).prop_map(move |bits| all ^ (all.checked_shr(bits).unwrap_or(0))),
        1 => any::<u128>().prop_map(move |m| (m & all & !2 | readable).max(1)),
    ];
    let value = prop_oneof![any::<u128>(), Just(0), (0..=u128::from(u16::MAX))];
    option::of((value, mask))
        .prop_map(move |set| {
            set.map(|(value, mask)| (field, value & all, mask)).into_iter().collect()
        })
        .boxed()
}

fn join(parts: Vec<BoxedStrategy<Vec<Set>>>) -> BoxedStrategy<Vec<Set>> {
    parts.prop_map(|parts| parts.concat()).boxed()
}

fn fixed(base: Match) -> BoxedStrategy<Match> {
    Just(base).boxed()
}

fn over(base: BoxedStrategy<Match>, sets: BoxedStrategy<Vec<Set>>) -> BoxedStrategy<Match> {
    (base, sets)
        .prop_map(|(base, sets)| {
            sets.into_iter().fold(base, |m, (field, value, mask)| m.with_masked(field, value, mask))
        })
        .boxed()
}

/// Everything a match may hold whatever the protocol.
fn common() -> BoxedStrategy<Vec<Set>> {
    // OVS refuses ct(commit) in a flow that matches +inv.
    let ct_state = option::of((0..=0xff_u128, 1..=0xff_u128)).prop_map(|set| {
        set.map(|(value, mask)| (Field::CtState, value & !0x10, mask))
            .into_iter()
            .collect::<Vec<_>>()
    });
    let registers = vec((0..16_u8).prop_map(Field::Reg).prop_flat_map(masked), 0..4)
        .prop_map(|sets| sets.concat());
    let vlan = prop_oneof![
        4 => Just(vec![]),
        1 => (0..0x1000_u128).prop_map(|v| vec![(Field::VlanVid, v | 0x1000, 0x1fff)]),
        1 => (0..0x1000_u128, 0..8_u128).prop_map(|(v, p)| {
            vec![(Field::VlanVid, v | 0x1000, 0x1fff), (Field::VlanPcp, p, 7)]
        }),
        1 => Just(vec![(Field::VlanVid, 0, 0x1fff)]),
        1 => Just(vec![(Field::VlanVid, 0x1000, 0x1000)]),
    ];
    join(vec![
        exact(Field::InPort, prop_oneof![1..0xff00_u128, Just(u128::from(port::LOCAL))]),
        exact(Field::ConjId, any::<u32>().prop_map(u128::from)),
        masked(Field::EthSrc),
        masked(Field::EthDst),
        vlan.boxed(),
        masked(Field::TunId),
        registers.boxed(),
        masked(Field::PktMark),
        ct_state.boxed(),
        exact(Field::CtZone, any::<u16>().prop_map(u128::from)),
        masked(Field::CtMark),
        masked(Field::CtLabel),
        masked(Field::Metadata),
    ])
}

fn ip_fields() -> BoxedStrategy<Vec<Set>> {
    join(vec![
        exact(Field::IpDscp, 0..64_u128),
        exact(Field::IpEcn, 0..4_u128),
        exact(Field::IpTtl, 0..256_u128),
    ])
}

fn frag() -> BoxedStrategy<Vec<Set>> {
    prop_oneof![
        5 => Just(vec![]),
        1 => Just(vec![(Field::IpFrag, 0, 3)]),
        1 => Just(vec![(Field::IpFrag, 1, 1)]),
        1 => Just(vec![(Field::IpFrag, 1, 3)]),
        1 => Just(vec![(Field::IpFrag, 0, 2)]),
    ]
    .boxed()
}

fn later_frag() -> BoxedStrategy<Vec<Set>> {
    prop_oneof![3 => frag(), 1 => Just(vec![(Field::IpFrag, 3, 3)])].boxed()
}

fn v4() -> BoxedStrategy<Vec<Set>> {
    join(vec![masked(Field::Ipv4Src), masked(Field::Ipv4Dst), ip_fields()])
}

fn v6() -> BoxedStrategy<Vec<Set>> {
    let flabel = masked(Field::Ipv6Flabel);
    join(vec![masked(Field::Ipv6Src), masked(Field::Ipv6Dst), flabel, ip_fields()])
}

fn l4(src: Field, dst: Field) -> BoxedStrategy<Vec<Set>> {
    let flags = if src == Field::TcpSrc { masked(Field::TcpFlags) } else { Just(vec![]).boxed() };
    join(vec![masked(src), masked(dst), flags, frag()])
}

fn icmp6() -> BoxedStrategy<Match> {
    let nd = |typ, ll| {
        let base = Match::icmp6().with(Field::Icmpv6Type, typ).with(Field::Icmpv6Code, 0);
        over(fixed(base), join(vec![masked(Field::NdTarget), masked(ll)]))
    };
    prop_oneof![
        nd(135, Field::NdSll),
        nd(136, Field::NdTll),
        over(
            fixed(Match::icmp6()),
            join(vec![
                exact(Field::Icmpv6Type, 0..135_u128),
                exact(Field::Icmpv6Code, 0..256_u128),
                frag(),
            ])
        ),
    ]
    .boxed()
}

/// A match OVS accepts. IP or not is told, as some actions need it.
pub(crate) fn matches() -> BoxedStrategy<Match> {
    let arp = join(vec![
        exact(Field::ArpOp, 0..256_u128),
        masked(Field::ArpSpa),
        masked(Field::ArpTpa),
        masked(Field::ArpSha),
        masked(Field::ArpTha),
    ]);
    let proto = || {
        (0..256_u128)
            .prop_filter("has a family of its own", |p| ![1, 2, 6, 17, 58, 132].contains(p))
    };
    let tcp = || l4(Field::TcpSrc, Field::TcpDst);
    let udp = || l4(Field::UdpSrc, Field::UdpDst);
    let sctp = || l4(Field::SctpSrc, Field::SctpDst);
    let icmp = join(vec![
        exact(Field::Icmpv4Type, 0..256_u128),
        exact(Field::Icmpv4Code, 0..256_u128),
        frag(),
    ]);
    let other = (0x600..0x800_u128).prop_map(|t| Match::new().with(Field::EthType, t));
    let base = prop_oneof![
        fixed(Match::new()),
        other.boxed(),
        over(fixed(Match::arp()), arp),
        over(fixed(Match::ip()), join(vec![v4(), exact(Field::IpProto, proto()), later_frag()])),
        over(fixed(Match::ipv6()), join(vec![v6(), exact(Field::IpProto, proto()), later_frag()])),
        over(fixed(Match::tcp()), join(vec![v4(), tcp()])),
        over(fixed(Match::tcp6()), join(vec![v6(), tcp()])),
        over(fixed(Match::udp()), join(vec![v4(), udp()])),
        over(fixed(Match::udp6()), join(vec![v6(), udp()])),
        over(fixed(Match::sctp()), join(vec![v4(), sctp()])),
        over(fixed(Match::sctp6()), join(vec![v6(), sctp()])),
        over(fixed(Match::icmp()), join(vec![v4(), icmp])),
        over(icmp6(), v6()),
    ];
    over(base.boxed(), common())
}

fn settable() -> BoxedStrategy<Field> {
    prop_oneof![
        (0..16_u8).prop_map(Field::Reg),
        (0..8_u8).prop_map(Field::XReg),
        (0..4_u8).prop_map(Field::XxReg),
        Just(Field::TunId),
        Just(Field::PktMark),
        Just(Field::Metadata),
        Just(Field::EthSrc),
        Just(Field::EthDst),
    ]
    .boxed()
}

fn set_field(fields: BoxedStrategy<Field>) -> BoxedStrategy<Action> {
    (fields, prop_oneof![any::<u128>(), Just(0)])
        .prop_map(|(field, value)| Action::set_field(field, value & field.exact_mask()))
        .boxed()
}

fn reg_load(fields: BoxedStrategy<Field>) -> BoxedStrategy<Action> {
    (fields, any::<u16>(), any::<u16>(), any::<u64>())
        .prop_map(|(dst, offset, bits, value)| {
            let offset = offset % dst.bits();
            let bits = 1 + bits % (dst.bits() - offset).min(64);
            let value = value & (u64::MAX >> (64 - bits));
            Action::RegLoad { dst, offset: offset as u8, bits: bits as u8, value }
        })
        .boxed()
}

fn reg_move(dst: BoxedStrategy<Field>) -> BoxedStrategy<Action> {
    (settable(), dst, any::<(u16, u16, u16)>())
        .prop_map(|(src, dst, (a, b, n))| {
            let (src_offset, dst_offset) = (a % src.bits(), b % dst.bits());
            let room = (src.bits() - src_offset).min(dst.bits() - dst_offset);
            Action::RegMove { bits: 1 + n % room, src, src_offset, dst, dst_offset }
        })
        .boxed()
}

fn nat(ipv6: bool) -> BoxedStrategy<NatAction> {
    let address = move |n: u128| {
        if ipv6 {
            IpAddr::V6(Ipv6Addr::from(0xfd00_u128 << 112 | n | 1))
        } else {
            IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + (n & 0xffff) as u32))
        }
    };
    let range = (0..1000_u128, option::of(1..1000_u128)).prop_map(move |(first, more)| NatRange {
        first: address(first << 4),
        last: more.map(|more| address((first + more) << 4)),
    });
    let ports = (1..1000_u16, option::of(1..1000_u16))
        .prop_map(|(first, more)| (first, more.map(|more| first + more)));
    prop_oneof![
        Just(NatAction::default()),
        (1..3_u16, 0..3_u16, option::of(range), option::of(ports)).prop_map(
            |(direction, how, addresses, ports)| {
                let ports = ports.filter(|_| addresses.is_some());
                let how = if addresses.is_some() { [0, 8, 0x10][usize::from(how)] } else { 0 };
                NatAction { flags: direction | how, addresses, ports }
            }
        ),
    ]
    .boxed()
}

fn ct(ipv6: bool) -> BoxedStrategy<Action> {
    let ct_field = prop_oneof![Just(Field::CtMark), Just(Field::CtLabel)].boxed();
    let exec = vec(
        prop_oneof![set_field(ct_field.clone()), reg_load(ct_field.clone()), reg_move(ct_field),],
        0..4,
    );
    let committed =
        (any::<bool>(), any::<u16>(), option::of(0..255_u8), exec, option::of(nat(ipv6))).prop_map(
            |(force, zone, table, mut actions, nat)| {
                if let Some(nat) = nat {
                    actions.insert(0, Action::Nat(nat));
                }
                CtAction { commit: true, force, zone, table, actions, ..CtAction::default() }
            },
        );
    let looked_up = (any::<u16>(), option::of(0..255_u8)).prop_map(|(zone, table)| CtAction {
        zone,
        table,
        ..CtAction::default()
    });
    prop_oneof![committed, looked_up].prop_map(Action::Ct).boxed()
}

fn note() -> BoxedStrategy<Action> {
    vec(any::<u8>(), 0..40).prop_map(|text| Action::note(&text)).boxed()
}

fn outputs() -> BoxedStrategy<Action> {
    prop_oneof![
        (1..0xff00_u32).prop_map(Action::output),
        Just(Action::output(port::NORMAL)),
        Just(Action::output(port::LOCAL)),
        Just(Action::output(port::IN_PORT)),
        Just(Action::output(port::FLOOD)),
        Just(Action::output(port::ALL)),
        any::<u16>().prop_map(|max_len| Action::Output { port: port::CONTROLLER, max_len }),
        (0..16_u8, 1..=16_u16).prop_map(|(n, bits)| Action::OutputReg {
            src: Field::Reg(n),
            offset: 16 - bits,
            bits,
            max_len: u16::MAX,
        }),
    ]
    .boxed()
}

fn controller() -> BoxedStrategy<Action> {
    let userdata = option::of(vec(any::<u8>(), 1..20));
    (any::<u16>(), any::<u16>(), 0..3_u8, userdata, any::<bool>())
        .prop_map(|(max_len, controller_id, reason, userdata, pause)| {
            Action::Controller(ControllerAction {
                max_len,
                controller_id,
                reason,
                userdata: userdata.map(Bytes::from),
                pause,
                meter: None,
            })
        })
        .boxed()
}

fn resubmit() -> BoxedStrategy<Action> {
    prop_oneof![
        any::<u8>().prop_filter("table 255", |t| *t != 255).prop_map(Action::resubmit_table),
        (1..0xff00_u16, any::<u8>()).prop_map(|(port, table)| Action::Resubmit { port, table }),
    ]
    .boxed()
}

fn actions(match_: &Match) -> BoxedStrategy<Vec<Action>> {
    let kind = match_.exact(Field::EthType);
    let mut choice = vec![
        outputs(),
        set_field(settable()),
        reg_load(settable()),
        reg_move(settable()),
        resubmit(),
        note(),
        controller(),
        Just(Action::CtClear).boxed(),
        Just(Action::PopQueue).boxed(),
        any::<u32>().prop_map(Action::SetQueue).boxed(),
        set_field(settable()).prop_map(|a| Action::Clone(vec![a])).boxed(),
    ];
    if kind == Some(0x0800) || kind == Some(0x86dd) {
        choice.push(ct(kind == Some(0x86dd)));
        choice.push(ct(kind == Some(0x86dd)));
        choice.push(Just(Action::DecNwTtl).boxed());
        choice.push(any::<u8>().prop_map(Action::SetNwTtl).boxed());
    }
    vec(proptest::strategy::Union::new(choice), 1..5).boxed()
}

fn conjunctions() -> BoxedStrategy<Vec<Action>> {
    let one = (any::<u32>(), 2..=64_u8, any::<u8>()).prop_map(|(id, n_clauses, clause)| {
        Action::Conjunction { id, clause: clause % n_clauses, n_clauses }
    });
    vec(one, 1..6).boxed()
}

fn instructions(table: u8, match_: &Match) -> BoxedStrategy<Vec<Instruction>> {
    let goto = option::of((table + 1)..=254_u8)
        .prop_map(|t| t.map(Instruction::GotoTable).into_iter().collect::<Vec<_>>());
    let apply = actions(match_).prop_map(|list| vec![Instruction::ApplyActions(list)]);
    let metadata = option::of((any::<u64>(), any::<u64>())).prop_map(|m| {
        m.map(|(value, mask)| Instruction::WriteMetadata { value: value & mask, mask })
            .into_iter()
            .collect::<Vec<_>>()
    });
    let clear =
        any::<bool>().prop_map(|yes| if yes { vec![Instruction::ClearActions] } else { vec![] });
    prop_oneof![
        1 => Just(vec![]),
        2 => conjunctions().prop_map(|list| vec![Instruction::ApplyActions(list)]),
        2 => goto.clone(),
        4 => (apply.clone(), goto.clone()).prop_map(|(a, g)| [a, g].concat()),
        1 => (apply, clear, metadata, goto).prop_map(|(a, c, m, g)| [a, c, m, g].concat()),
    ]
    .boxed()
}

/// A flow OVS accepts, to be added.
pub(crate) fn flows() -> BoxedStrategy<FlowMod> {
    let head = (0..254_u8, any::<u16>(), any::<u64>(), any::<(u16, u16)>(), 0..32_u16);
    (head, matches(), any::<bool>())
        .prop_flat_map(|((table, priority, cookie, (idle, hard), flags), match_, plain)| {
            instructions(table, &match_).prop_map(move |list| {
                let flow = FlowMod::add(table, priority, match_.clone(), list);
                if plain {
                    return flow;
                }
                // check_overlap may refuse a flow for the sake of another.
                FlowMod {
                    cookie,
                    idle_timeout: idle,
                    hard_timeout: hard,
                    flags: flags & !2,
                    ..flow
                }
            })
        })
        .boxed()
}
