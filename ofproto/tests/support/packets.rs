//! Packets of every protocol OVS looks into, whole and cut.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn raw(max: usize) -> BoxedStrategy<Vec<u8>> {
    vec(any::<u8>(), 0..max).boxed()
}

fn tcp() -> BoxedStrategy<Vec<u8>> {
    (any::<[u16; 4]>(), any::<u16>(), raw(12))
        .prop_map(|(n, flags, rest)| {
            let mut out = BytesMut::new();
            n[..2].iter().for_each(|port| out.put_u16(*port));
            out.put_u64(7);
            out.put_u16(0x5000 | flags & 0xfff);
            out.put_u16(n[2]);
            out.put_u16(n[3]);
            out.put_u16(0);
            out.put_slice(&rest);
            out.to_vec()
        })
        .boxed()
}

fn udp() -> BoxedStrategy<Vec<u8>> {
    (any::<[u16; 3]>(), raw(12))
        .prop_map(|(n, rest)| {
            let mut out = BytesMut::new();
            out.put_u16(n[0]);
            out.put_u16(n[1]);
            out.put_u16(8 + rest.len() as u16);
            out.put_u16(n[2]);
            out.put_slice(&rest);
            out.to_vec()
        })
        .boxed()
}

fn sctp() -> BoxedStrategy<Vec<u8>> {
    (any::<[u16; 2]>(), any::<(u32, u32)>(), raw(12))
        .prop_map(|(ports, (tag, sum), rest)| {
            let mut out = BytesMut::new();
            ports.iter().for_each(|port| out.put_u16(*port));
            out.put_u32(tag);
            out.put_u32(sum);
            out.put_slice(&rest);
            out.to_vec()
        })
        .boxed()
}

fn icmp() -> BoxedStrategy<Vec<u8>> {
    (prop_oneof![Just(8_u8), Just(0), any::<u8>()], any::<u8>(), raw(20))
        .prop_map(|(typ, code, rest)| [vec![typ, code, 1, 2, 0, 1, 0, 2], rest].concat())
        .boxed()
}

/// Neighbour discovery with options, or any other ICMPv6.
fn icmp6() -> BoxedStrategy<Vec<u8>> {
    let option =
        (1..4_u8, any::<[u8; 6]>()).prop_map(|(typ, mac)| [vec![typ, 1], mac.to_vec()].concat());
    let nd = (135..137_u8, any::<[u8; 16]>(), vec(option, 0..3), any::<u8>(), 0..4_u32).prop_map(
        |(typ, target, options, tail, reserved)| {
            let mut out = vec![typ, 0, 9, 9];
            out.extend((reserved << 30).to_be_bytes());
            out.extend(target);
            options.iter().for_each(|option| out.extend(option));
            if tail < 20 {
                out.push(tail);
            }
            out
        },
    );
    let other = (any::<u8>(), any::<u8>(), raw(20))
        .prop_map(|(typ, code, rest)| [vec![typ, code, 1, 2, 0, 1, 0, 2], rest].concat());
    prop_oneof![2 => nd, 1 => other].boxed()
}

fn igmp() -> BoxedStrategy<Vec<u8>> {
    (any::<u8>(), any::<u8>(), any::<u32>())
        .prop_map(|(typ, code, group)| {
            let mut out = vec![typ, code, 0, 0];
            out.extend(group.to_be_bytes());
            out
        })
        .boxed()
}

fn transport(v6: bool) -> BoxedStrategy<(u8, Vec<u8>)> {
    prop_oneof![
        3 => tcp().prop_map(|p| (6, p)),
        3 => udp().prop_map(|p| (17, p)),
        2 => sctp().prop_map(|p| (132, p)),
        2 => if v6 { icmp6().prop_map(|p| (58, p)).boxed() } else { icmp().prop_map(|p| (1, p)).boxed() },
        1 => igmp().prop_map(|p| (2, p)),
        // The control protocol of the other family.
        1 => if v6 { icmp().prop_map(|p| (1, p)).boxed() } else { icmp6().prop_map(|p| (58, p)).boxed() },
        1 => (100..120_u8, raw(30)),
    ]
    .boxed()
}

fn ipv4() -> BoxedStrategy<Vec<u8>> {
    let fragment = prop_oneof![
        5 => Just(0x4000_u16),
        1 => Just(0x2000),
        1 => Just(0x2004),
        1 => Just(0x0004),
    ];
    let head = (any::<u8>(), any::<u8>(), fragment, any::<(u32, u32)>(), 0..3_u8);
    (head, transport(false))
        .prop_map(|((tos, ttl, fragment, (src, dst), options), (proto, payload))| {
            let mut out = BytesMut::new();
            out.put_u8(0x45 + options);
            out.put_u8(tos);
            out.put_u16(20 + 4 * u16::from(options) + payload.len() as u16);
            out.put_u16(7);
            out.put_u16(fragment);
            out.put_u8(ttl);
            out.put_u8(proto);
            out.put_u16(0);
            out.put_u32(src);
            out.put_u32(dst);
            out.put_bytes(1, 4 * usize::from(options));
            out.put_slice(&payload);
            out.to_vec()
        })
        .boxed()
}

fn ipv6() -> BoxedStrategy<Vec<u8>> {
    let fragment = option::weighted(0.2, prop_oneof![Just(0_u16), Just(1), Just(0x21), Just(0x20)]);
    let head = (any::<(u8, u32)>(), any::<u8>(), any::<(u128, u128)>(), fragment, any::<bool>());
    (head, transport(true), 0..4_u8)
        .prop_map(|(((class, label), ttl, (src, dst), fragment, _), (proto, payload), extra)| {
            let mut extensions = BytesMut::new();
            let mut first = proto;
            if let Some(fragment) = fragment {
                extensions.put_u8(proto);
                extensions.put_u8(0);
                extensions.put_u16(fragment);
                extensions.put_u32(99);
                first = 44;
            }
            if extra == 0 {
                let mut outer = BytesMut::new();
                outer.put_u8(first);
                outer.put_u8(0);
                outer.put_slice(&[1, 4, 0, 0, 0, 0]);
                outer.put_slice(&extensions);
                extensions = outer;
                first = 0;
            }
            let mut out = BytesMut::new();
            out.put_u32(6 << 28 | u32::from(class) << 20 | label & 0xf_ffff);
            out.put_u16((extensions.len() + payload.len()) as u16);
            out.put_u8(first);
            out.put_u8(ttl);
            out.put_u128(src);
            out.put_u128(dst);
            out.put_slice(&extensions);
            out.put_slice(&payload);
            out.to_vec()
        })
        .boxed()
}

fn arp() -> BoxedStrategy<Vec<u8>> {
    (prop_oneof![Just(1_u16), Just(2), any::<u16>()], any::<[u8; 20]>())
        .prop_map(|(op, addresses)| {
            let mut out = vec![0, 1, 8, 0, 6, 4];
            out.extend(op.to_be_bytes());
            out.extend(addresses);
            out
        })
        .boxed()
}

fn mpls() -> BoxedStrategy<Vec<u8>> {
    (vec(any::<u32>(), 0..3), any::<u32>())
        .prop_map(|(labels, last)| {
            let mut out = Vec::new();
            labels.iter().for_each(|label| out.extend((label & !0x100).to_be_bytes()));
            out.extend((last | 0x100).to_be_bytes());
            out
        })
        .boxed()
}

/// Ethernet frames.
pub(crate) fn packets() -> BoxedStrategy<Bytes> {
    let payload = prop_oneof![
        6 => ipv4().prop_map(|p| (0x0800_u16, p)),
        5 => ipv6().prop_map(|p| (0x86dd, p)),
        1 => arp().prop_map(|p| (0x0806, p)),
        1 => arp().prop_map(|p| (0x8035, p)),
        1 => mpls().prop_map(|p| (0x8847, p)),
        1 => mpls().prop_map(|p| (0x8848, p)),
        1 => (0x9000..0xffff_u16, raw(30)),
        1 => (0..0x5ff_u16, raw(30)),
    ];
    let tags = vec((prop_oneof![Just(0x8100_u16), Just(0x88a8)], any::<u16>()), 0..2);
    let tags =
        prop_oneof![3 => Just(vec![]), 1 => tags, 1 => vec((Just(0x8100_u16), any::<u16>()), 2..4)];
    let cut = option::weighted(0.15, any::<prop::sample::Index>());
    (any::<[u8; 12]>(), tags, payload, cut)
        .prop_map(|(addresses, tags, (eth_type, payload), cut)| {
            let mut out = BytesMut::from(&addresses[..]);
            for (tpid, tci) in tags {
                out.put_u16(tpid);
                out.put_u16(tci);
            }
            out.put_u16(eth_type);
            out.put_slice(&payload);
            let length = out.len();
            if let Some(cut) = cut {
                out.truncate(14 + cut.index(length - 13));
            }
            out.freeze()
        })
        .boxed()
}
