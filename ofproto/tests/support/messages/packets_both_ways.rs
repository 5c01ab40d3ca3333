//! Packets to the controller and from it.

use super::*;

/// Metadata of a packet-in: fields that are no part of the packet.
pub(super) fn metadata() -> BoxedStrategy<Match> {
    let field = prop_oneof![
        (0..16_u8, any::<u32>()).prop_map(|(n, v)| (Field::Reg(n), v.into())),
        (1..0xff00_u32).prop_map(|n| (Field::InPort, n.into())),
        any::<u64>().prop_map(|n| (Field::Metadata, n.into())),
        any::<u64>().prop_map(|n| (Field::TunId, n.into())),
        any::<u32>().prop_map(|n| (Field::TunIpv4Src, n.into())),
        any::<u32>().prop_map(|n| (Field::TunIpv4Dst, n.into())),
        any::<u32>().prop_map(|n| (Field::PktMark, n.into())),
        (0..256_u32).prop_map(|n| (Field::CtState, n.into())),
        any::<u16>().prop_map(|n| (Field::CtZone, n.into())),
        any::<u32>().prop_map(|n| (Field::CtMark, n.into())),
        any::<u128>().prop_map(|n| (Field::CtLabel, n)),
    ];
    vec(field, 0..6)
        .prop_map(|list: Vec<(Field, u128)>| {
            list.into_iter().fold(Match::new(), |m, (field, value)| m.with(field, value))
        })
        .boxed()
}

/// The TLVs of a match, without its header and padding.
pub(super) fn tlvs(match_: &Match) -> Bytes {
    let removed = FlowRemoved {
        cookie: 0,
        priority: 0,
        reason: 0,
        table: 0,
        duration_sec: 0,
        duration_nsec: 0,
        idle_timeout: 0,
        hard_timeout: 0,
        packets: 0,
        bytes: 0,
        match_: match_.clone(),
    };
    let mut out = BytesMut::new();
    Message::FlowRemoved(removed).encode(0, &mut out).unwrap();
    let out = out.freeze();
    let length = usize::from(u16::from_be_bytes([out[50], out[51]]));
    out.slice(52..48 + length)
}

pub(super) fn packet_in() -> BoxedStrategy<PacketIn> {
    let head = (any::<u8>(), prop_oneof![Just(u64::MAX), any::<u64>()], 0..3_u8);
    (head, metadata(), packets::packets(), 0..3_u16, option::weighted(0.2, any::<u32>()))
        .prop_map(|((table, cookie, reason), match_, data, more, buffer)| PacketIn {
            buffer_id: buffer.unwrap_or(0xffff_ffff),
            total_len: data.len() as u16 + more,
            reason,
            table,
            cookie,
            match_,
            data,
        })
        .boxed()
}

pub(super) fn packet_in2() -> BoxedStrategy<PacketIn2> {
    use PacketInProperty as P;
    let options = (option::of(0..100_u32), option::of(any::<u64>()), option::of(any::<u32>()));
    let userdata = option::of(bytes(20));
    (packets::packets(), any::<u8>(), 0..6_u8, metadata(), options, userdata, bytes(20))
        .prop_map(|(packet, table, reason, metadata, (more, cookie, buffer), userdata, rest)| {
            let length = packet.len() as u32;
            let mut properties = vec![P::Packet(packet)];
            properties.extend(more.map(|more| P::FullLen(length + more)));
            properties.push(P::Table(table));
            properties.extend(buffer.filter(|n| n % 4 == 0).map(P::BufferId));
            properties.extend(cookie.map(P::Cookie));
            properties.push(P::Reason(reason));
            properties.push(P::Metadata(tlvs(&metadata)));
            properties.extend(userdata.filter(|u| !u.is_empty()).map(P::UserData));
            if rest.len() % 2 == 0 {
                // The private part of a continuation: its stack, here.
                let mut property = BytesMut::new();
                property.put_u16(0x8001);
                property.put_u16(8);
                property.put_u32(rest.len() as u32);
                properties.push(P::Continuation(property.freeze()));
            }
            PacketIn2 { properties }
        })
        .boxed()
}

pub(super) fn resume() -> BoxedStrategy<PacketIn2> {
    packet_in2().prop_map(|packet| packet.to_resume()).boxed()
}

pub(super) fn nxt_packet_in() -> BoxedStrategy<NxtPacketIn> {
    packet_in()
        .prop_map(|packet| {
            let mut metadata = BytesMut::new();
            let match_ = packet.match_.clone().without(Field::InPort).without(Field::TunId);
            if let Some(port) = packet.match_.exact(Field::InPort) {
                metadata.put_u32(2);
                metadata.put_u16(port as u16);
            }
            if let Some(id) = packet.match_.exact(Field::TunId) {
                metadata.put_u32(0x0001_2008);
                metadata.put_u64(id as u64);
            }
            metadata.put_slice(&tlvs(&match_));
            NxtPacketIn {
                buffer_id: packet.buffer_id,
                total_len: packet.total_len,
                reason: packet.reason,
                table: packet.table,
                cookie: packet.cookie,
                metadata: metadata.freeze(),
                data: packet.data,
            }
        })
        .boxed()
}

pub(super) fn packet_out() -> BoxedStrategy<PacketOut> {
    let in_port =
        prop_oneof![1..0xff00_u32, Just(port::LOCAL), Just(port::CONTROLLER), Just(port::ANY)];
    let data = prop_oneof![4 => packets::packets(), 1 => Just(Bytes::new())];
    (in_port, actions(), data, option::weighted(0.2, any::<u32>()))
        .prop_map(|(in_port, actions, data, buffer)| PacketOut {
            buffer_id: buffer.unwrap_or(0xffff_ffff),
            in_port,
            actions,
            data: if buffer.is_some_and(|b| b != u32::MAX) { Bytes::new() } else { data },
        })
        .boxed()
}
