//! Messages of every kind, as Open vSwitch prints them.

#[path = "messages/multiparts.rs"]
mod multiparts;
#[path = "messages/packets_both_ways.rs"]
mod packets_both_ways;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rust_openflow::bundle::BundleControlType;
use rust_openflow::*;

use crate::{packets, strategy};
use multiparts::*;
use packets_both_ways::*;

/// A kind of message, as ofp-print names it, and values of it.
pub(crate) type Kind = (&'static str, BoxedStrategy<Message>);

/// A counter: small, large, unknown.
fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![0..1000_u64, any::<u64>(), Just(u64::MAX)]
}

fn nsec() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), (0..1000_u32).prop_map(|ms| ms * 1_000_000), 0..1_000_000_000_u32]
}

/// A port OVS knows: a plain one or a reserved one.
fn port_no() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1..0xff00_u32, 1 => 0xffff_fff8..=0xffff_fffe_u32, 1 => Just(port::ANY)]
}

fn plain_port() -> impl Strategy<Value = u32> {
    prop_oneof![0..20_u32, 1..0xff00_u32]
}

fn bits(n: u32) -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 0..(1_u32 << n), any::<u32>(), (0..32_u32).prop_map(|bit| 1 << bit)]
}

fn name<const N: usize>() -> impl Strategy<Value = [u8; N]> {
    let text = vec(prop_oneof![0x20..0x7f_u8, Just(b'x')], 0..N - 1);
    text.prop_map(|text| {
        let mut name = [0; N];
        name[..text.len()].copy_from_slice(&text);
        name
    })
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn matches() -> impl Strategy<Value = Match> {
    strategy::flows().prop_map(|flow| flow.match_)
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    // conjunction() is for flows alone; an empty list is `drop`.
    let set = prop_oneof![
        (1..0xff00_u32).prop_map(Action::output),
        Just(Action::output(port::LOCAL)),
        any::<u32>().prop_map(|n| Action::set_field(Field::Reg(3), n.into())),
        any::<u32>().prop_map(Action::SetQueue),
        (0..255_u8).prop_map(Action::resubmit_table),
        any::<u16>().prop_map(|max_len| Action::Output { port: port::CONTROLLER, max_len }),
    ];
    vec(set, 0..4)
}

fn flow_mods() -> BoxedStrategy<FlowMod> {
    let command = prop_oneof![
        3 => Just(FlowCommand::Add),
        1 => Just(FlowCommand::Modify),
        1 => Just(FlowCommand::ModifyStrict),
        1 => Just(FlowCommand::Delete),
        1 => Just(FlowCommand::DeleteStrict),
    ];
    let more =
        (command, prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], port_no(), any::<u8>());
    (strategy::flows(), more, option::weighted(0.1, any::<u32>()), any::<u32>())
        .prop_map(|(flow, (command, cookie_mask, out_port, table), buffer, out_group)| {
            let deletes = matches!(command, FlowCommand::Delete | FlowCommand::DeleteStrict);
            let instructions = if deletes { Vec::new() } else { flow.instructions.clone() };
            FlowMod {
                command,
                cookie_mask,
                table: if deletes { table } else { flow.table },
                out_port: if deletes { out_port } else { port::ANY },
                out_group: if deletes { out_group } else { 0xffff_ffff },
                buffer_id: buffer.filter(|_| !deletes).unwrap_or(0xffff_ffff),
                instructions,
                ..flow
            }
        })
        .boxed()
}

fn buckets(typ: u8) -> BoxedStrategy<Vec<Bucket>> {
    let weight = if typ == 1 { (1..100_u16).boxed() } else { Just(0).boxed() };
    let none = 0xffff_ffff_u32;
    // Only select and fast failover groups may watch something.
    let watch = move |values: BoxedStrategy<u32>| {
        if typ.is_multiple_of(2) {
            Just(none).boxed()
        } else {
            prop_oneof![2 => Just(none), 1 => values].boxed()
        }
    };
    let watch_port =
        if typ == 3 { (1..0xff00_u32).boxed() } else { watch((1..0xff00_u32).boxed()) };
    let bucket = (weight, watch_port, watch((0..0xffff_ff00_u32).boxed()), actions()).prop_map(
        |(weight, watch_port, watch_group, actions)| Bucket {
            weight,
            watch_port,
            watch_group,
            actions,
        },
    );
    let count = if typ == 2 { 1..2 } else { 0..4 };
    vec(bucket, count).boxed()
}

pub(crate) fn group_mods() -> BoxedStrategy<GroupMod> {
    let command = prop_oneof![3 => Just(0_u16), 1 => Just(1), 1 => Just(0x8000)];
    let change = (command, 0..4_u8, 0..0xffff_ff00_u32).prop_flat_map(|(command, typ, group)| {
        buckets(typ).prop_map(move |buckets| GroupMod { command, typ, group, buckets })
    });
    let delete = prop_oneof![Just(0xffff_fffc_u32), 0..0xffff_ff00_u32]
        .prop_map(|group| GroupMod { command: 2, typ: 0, group, buckets: vec![] });
    prop_oneof![4 => change, 1 => delete].boxed()
}

fn band() -> impl Strategy<Value = MeterBand> {
    (any::<bool>(), 1..u32::MAX, 1..u32::MAX, 1..255_u8).prop_map(|(drop, rate, burst, level)| {
        if drop {
            MeterBand::Drop { rate, burst }
        } else {
            MeterBand::DscpRemark { rate, burst, level }
        }
    })
}

fn meter_flags() -> impl Strategy<Value = u16> {
    (any::<bool>(), 0..4_u16).prop_map(|(kbps, more)| if kbps { 1 } else { 2 } | (more << 2))
}

fn meter_no() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1..0xffff_0000_u32, 1 => 0xffff_fffd..=0xffff_ffff_u32]
}

pub(crate) fn meter_mods() -> BoxedStrategy<MeterMod> {
    let change = (0..2_u16, meter_flags(), meter_no(), vec(band(), 0..4))
        .prop_map(|(command, flags, meter, bands)| MeterMod { command, flags, meter, bands });
    let delete = meter_no().prop_map(|meter| MeterMod { command: 2, meter, ..MeterMod::default() });
    prop_oneof![4 => change, 1 => delete].boxed()
}

fn port_desc() -> BoxedStrategy<PortDesc> {
    let features = [bits(16), bits(16), bits(16), bits(16)];
    (port_no(), mac(), name(), (bits(7), bits(3)), features, any::<(u32, u32)>())
        .prop_map(|(port, hw_addr, name_bytes, (config, state), features, (curr, max))| PortDesc {
            port,
            hw_addr,
            name_bytes,
            config,
            state,
            features,
            curr_speed: curr,
            max_speed: max,
        })
        .boxed()
}

fn encoded(message: &Message, xid: u32) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(xid, &mut out).unwrap();
    out.freeze()
}

fn errors() -> BoxedStrategy<Message> {
    let named: Vec<ErrorMsg> = (0..14_u16)
        .flat_map(|typ| (0..16_u16).map(move |code| ErrorMsg::new(typ, code, Bytes::new())))
        .chain((0..2700_u16).flat_map(|code| {
            [0x2320, 0x4f4e_4600_u32].map(|experimenter| ErrorMsg {
                typ: 0xffff,
                code,
                experimenter,
                data: Bytes::new(),
            })
        }))
        .filter(|error| error.name().is_some())
        .collect();
    let inner = prop_oneof![
        flow_mods().prop_map(Message::FlowMod),
        group_mods().prop_map(Message::GroupMod),
        Just(Message::BarrierRequest),
        (any::<u8>(), any::<u32>())
            .prop_map(|(table, config)| Message::TableMod(TableMod { table, config })),
    ];
    (proptest::sample::select(named), inner, any::<u32>(), option::weighted(0.3, 0..80_usize))
        .prop_map(|(error, inner, xid, cut)| {
            let whole = encoded(&inner, xid);
            let data = match (error.typ, cut) {
                (0, _) => Bytes::from_static(b"no common version: \"1\"\\\n\x01\xff"),
                (_, Some(cut)) => whole.slice(..cut.min(whole.len())),
                (_, None) => whole,
            };
            Message::Error(ErrorMsg { data, ..error })
        })
        .boxed()
}

fn async_masks() -> BoxedStrategy<AsyncConfig> {
    let pair = |n: u32| [bits(n), bits(n)];
    (pair(3), pair(3), pair(5))
        .prop_map(|(packet_in, port_status, flow_removed)| AsyncConfig {
            packet_in,
            port_status,
            flow_removed,
        })
        .boxed()
}

fn role() -> BoxedStrategy<Role> {
    (0..4_u32, prop_oneof![any::<u64>(), Just(u64::MAX)])
        .prop_map(|(role, generation_id)| Role { role, generation_id })
        .boxed()
}

fn tlv_maps() -> BoxedStrategy<Vec<TlvMap>> {
    let one = (any::<u16>(), any::<u8>(), 1..32_u8, 0..64_u16)
        .prop_map(|(class, typ, words, index)| TlvMap { class, typ, length: words * 4, index });
    vec(one, 0..4).boxed()
}

fn ct_flush() -> BoxedStrategy<CtFlush> {
    use CtTupleProperty as T;
    let address = |v6: bool| {
        any::<u128>().prop_map(move |n| {
            if v6 {
                (n | 1 << 127).into()
            } else {
                std::net::Ipv4Addr::from(n as u32 | 1 << 24).to_ipv6_mapped()
            }
        })
    };
    let tuple = move |v6: bool, icmp: bool| {
        let ports = any::<(u16, u16, u8)>().prop_map(move |(a, b, c)| {
            if icmp {
                vec![T::IcmpId(a), T::IcmpType(b as u8), T::IcmpCode(c)]
            } else {
                vec![T::SrcPort(a), T::DstPort(b)]
            }
        });
        (address(v6), address(v6), ports)
            .prop_map(|(src, dst, ports)| [vec![T::Src(src), T::Dst(dst)], ports].concat())
    };
    let proto = prop_oneof![Just(6_u8), Just(17), Just(132), Just(1), Just(58)];
    (proto, any::<bool>(), option::of(any::<u16>()), any::<(bool, bool)>())
        .prop_flat_map(move |(ip_proto, v6, zone, (first, second))| {
            let icmp = ip_proto == 1 || ip_proto == 58;
            (tuple(v6, icmp), tuple(v6, icmp)).prop_map(move |(one, other)| {
                let mut properties = Vec::new();
                if first {
                    properties.push(CtFlushProperty::Original(one));
                }
                if second {
                    properties.push(CtFlushProperty::Reply(other));
                }
                properties.extend(zone.map(CtFlushProperty::Zone));
                CtFlush { ip_proto, properties }
            })
        })
        .boxed()
}

/// Every kind of message OVS prints in OpenFlow 1.3 and this crate has a name for.
pub(crate) fn kinds() -> Vec<Kind> {
    use MultipartBody as B;
    use MultipartRequest as R;
    let desc = (name::<256>(), name::<256>(), name::<256>(), name::<32>(), name::<256>()).prop_map(
        |(manufacturer_bytes, hardware_bytes, software_bytes, serial_bytes, datapath_bytes)| {
            B::Desc(Box::new(Desc {
                manufacturer_bytes,
                hardware_bytes,
                software_bytes,
                serial_bytes,
                datapath_bytes,
            }))
        },
    );
    let hello = prop_oneof![
        Just(Hello::default()),
        (1..0x7f_u32).prop_map(|bits| Hello {
            version: 4,
            elements: vec![HelloElement::VersionBitmap(vec![bits << 1])],
        }),
        Just(Hello { version: 4, elements: vec![] }),
    ];
    let features = (any::<u64>(), any::<u32>(), any::<u8>(), any::<u8>(), bits(9)).prop_map(
        |(datapath_id, n_buffers, n_tables, auxiliary_id, capabilities)| FeaturesReply {
            datapath_id,
            n_buffers,
            n_tables,
            auxiliary_id,
            capabilities,
            reserved: 0,
        },
    );
    let config = || {
        (0..4_u16, any::<u16>())
            .prop_map(|(flags, miss_send_len)| SwitchConfig { flags, miss_send_len })
    };
    let removed = (strategy::flows(), 0..7_u8, any::<u32>(), nsec(), any::<(u64, u64)>()).prop_map(
        |(flow, reason, duration_sec, duration_nsec, (packets, bytes))| FlowRemoved {
            cookie: flow.cookie,
            priority: flow.priority,
            reason,
            table: flow.table,
            duration_sec,
            duration_nsec,
            idle_timeout: flow.idle_timeout,
            hard_timeout: flow.hard_timeout,
            packets,
            bytes,
            match_: flow.match_,
        },
    );
    let port_mod = (plain_port(), mac(), bits(7), bits(7), bits(16)).prop_map(
        |(port, hw_addr, config, mask, advertise)| PortMod {
            port,
            hw_addr,
            config,
            mask,
            advertise,
        },
    );
    let queue_property = prop_oneof![
        (0..1200_u16).prop_map(QueueProperty::MinRate),
        (0..1200_u16).prop_map(QueueProperty::MaxRate),
    ];
    let queues =
        (prop_oneof![Just(0), plain_port()], vec((any::<u32>(), vec(queue_property, 0..3)), 0..3))
            .prop_map(|(port, queues)| {
                let queue = |(queue, properties)| QueueConfig { queue, port, properties };
                QueueConfigReply { port, queues: queues.into_iter().map(queue).collect() }
            });
    let flow_stats = (strategy::flows(), any::<u32>(), nsec(), counter(), counter()).prop_map(
        |(flow, duration_sec, duration_nsec, packets, bytes)| FlowStats {
            table: flow.table,
            duration_sec,
            duration_nsec,
            priority: flow.priority,
            idle_timeout: flow.idle_timeout,
            hard_timeout: flow.hard_timeout,
            flags: flow.flags,
            cookie: flow.cookie,
            packets,
            bytes,
            match_: flow.match_,
            instructions: flow.instructions,
        },
    );
    let table_stats = (0..254_u8, any::<u32>(), any::<(u64, u64)>()).prop_map(
        |(table, active, (lookups, matched))| TableStats { table, active, lookups, matched },
    );
    let table_stats = vec(table_stats, 0..5).prop_map(|list| {
        let mut tables: Vec<TableStats> = Vec::new();
        for stats in list {
            for _ in 0..(stats.active % 3) + 1 {
                tables.push(TableStats { table: tables.len() as u8, ..stats });
            }
        }
        B::Table(tables)
    });
    let group_features =
        (0..16_u32, bits(4), any::<[u32; 4]>(), [bits(28), bits(28), bits(28), bits(28)]).prop_map(
            |(types, capabilities, max_groups, actions)| {
                B::GroupFeatures(GroupFeatures { types, capabilities, max_groups, actions })
            },
        );
    let meter_configs = (meter_flags(), meter_no(), vec(band(), 0..4))
        .prop_map(|(flags, meter, bands)| MeterConfig { flags, meter, bands });
    let meter_features = (any::<u32>(), bits(3), bits(4), any::<(u8, u8)>()).prop_map(
        |(max_meter, band_types, capabilities, (max_bands, max_color))| {
            B::MeterFeatures(MeterFeatures {
                max_meter,
                band_types,
                capabilities,
                max_bands,
                max_color,
            })
        },
    );
    let aggregate = any::<(u64, u64, u32)>()
        .prop_map(|(packets, bytes, flows)| B::Aggregate(AggregateStats { packets, bytes, flows }));
    let async2 = vec((0..12_u16, any::<u32>()), 0..6).prop_map(|list| {
        // OVS refuses bits beyond these.
        let allowed = [0x07, 0x07, 0x3f, 0x07, 0x18, 0x03];
        let mask = |(typ, mask): (u16, u32)| AsyncProperty::Mask {
            typ,
            mask: mask & allowed[usize::from(typ / 2)],
        };
        Message::SetAsyncConfig2(AsyncConfig2 { properties: list.into_iter().map(mask).collect() })
    });
    let control = (any::<u32>(), 0..8_u16, 0..4_u16).prop_map(|(id, typ, flags)| {
        Message::BundleControl(BundleControl::new(id, BundleControlType(typ), flags))
    });
    let bundled = prop_oneof![
        flow_mods().prop_map(Message::FlowMod),
        group_mods().prop_map(Message::GroupMod),
        packet_out().prop_map(Message::PacketOut),
    ];
    let add = (any::<u32>(), 0..4_u16, bundled).prop_map(|(id, flags, inner)| {
        Message::BundleAdd(BundleAdd::new(id, flags, &inner, XID).unwrap())
    });
    let forward = prop_oneof![
        group_mods().prop_map(Message::GroupMod),
        meter_mods().prop_map(Message::MeterMod),
    ]
    .prop_map(|inner| Message::RequestForward(RequestForward { message: encoded(&inner, 7) }));
    let role_status =
        (0..4_u32, 0..3_u8, any::<u64>()).prop_map(|(role, reason, generation_id)| {
            Message::RoleStatus(RoleStatus { role, reason, generation_id })
        });
    let just = |message: Message| Just(message).boxed();
    vec![
        ("OFPT_HELLO", hello.prop_map(Message::Hello).boxed()),
        ("OFPT_ERROR", errors()),
        ("OFPT_ECHO_REQUEST", bytes(40).prop_map(Message::EchoRequest).boxed()),
        ("OFPT_ECHO_REPLY", bytes(40).prop_map(Message::EchoReply).boxed()),
        ("OFPT_FEATURES_REQUEST", just(Message::FeaturesRequest)),
        ("OFPT_FEATURES_REPLY", features.prop_map(Message::FeaturesReply).boxed()),
        ("OFPT_GET_CONFIG_REQUEST", just(Message::GetConfigRequest)),
        ("OFPT_GET_CONFIG_REPLY", config().prop_map(Message::GetConfigReply).boxed()),
        ("OFPT_SET_CONFIG", config().prop_map(Message::SetConfig).boxed()),
        ("OFPT_PACKET_IN", packet_in().prop_map(Message::PacketIn).boxed()),
        ("OFPT_FLOW_REMOVED", removed.prop_map(Message::FlowRemoved).boxed()),
        (
            "OFPT_PORT_STATUS",
            (0..3_u8, port_desc())
                .prop_map(|(reason, port)| Message::PortStatus(PortStatus { reason, port }))
                .boxed(),
        ),
        ("OFPT_PACKET_OUT", packet_out().prop_map(Message::PacketOut).boxed()),
        ("OFPT_FLOW_MOD", flow_mods().prop_map(Message::FlowMod).boxed()),
        ("OFPT_GROUP_MOD", group_mods().prop_map(Message::GroupMod).boxed()),
        ("OFPT_PORT_MOD", port_mod.prop_map(Message::PortMod).boxed()),
        (
            "OFPT_TABLE_MOD",
            (any::<u8>(), 0..4_u32)
                .prop_map(|(table, config)| Message::TableMod(TableMod { table, config }))
                .boxed(),
        ),
        ("OFPST_DESC request", request(Just(R::Desc))),
        ("OFPST_DESC reply", reply(desc)),
        ("OFPST_FLOW request", request(flow_request().prop_map(R::Flow))),
        ("OFPST_FLOW reply", reply(vec(flow_stats, 0..4).prop_map(B::Flow))),
        ("OFPST_AGGREGATE request", request(flow_request().prop_map(R::Aggregate))),
        ("OFPST_AGGREGATE reply", reply(aggregate)),
        ("OFPST_TABLE request", request(Just(R::Table))),
        ("OFPST_TABLE reply", reply(table_stats)),
        ("OFPST_PORT request", request(port_no().prop_map(R::Port))),
        ("OFPST_PORT reply", reply(vec(port_stats(), 0..4).prop_map(B::Port))),
        (
            "OFPST_QUEUE request",
            request(
                (port_no(), prop_oneof![0..9_u32, Just(u32::MAX)])
                    .prop_map(|(port, queue)| R::Queue { port, queue }),
            ),
        ),
        ("OFPST_QUEUE reply", reply(vec(queue_stats(), 0..4).prop_map(B::Queue))),
        (
            "OFPST_GROUP request",
            request(
                prop_oneof![any::<u32>(), Just(0xffff_fffc), Just(u32::MAX)].prop_map(R::Group),
            ),
        ),
        ("OFPST_GROUP reply", reply(vec(group_stats(), 0..4).prop_map(B::Group))),
        ("OFPST_GROUP_DESC request", request(Just(R::GroupDesc))),
        ("OFPST_GROUP_DESC reply", reply(vec(group_descs(), 0..4).prop_map(B::GroupDesc))),
        ("OFPST_GROUP_FEATURES request", request(Just(R::GroupFeatures))),
        ("OFPST_GROUP_FEATURES reply", reply(group_features)),
        ("OFPST_METER request", request(meter_no().prop_map(R::Meter))),
        ("OFPST_METER reply", reply(vec(meter_stats(), 0..4).prop_map(B::Meter))),
        ("OFPST_METER_CONFIG request", request(meter_no().prop_map(R::MeterConfig))),
        ("OFPST_METER_CONFIG reply", reply(vec(meter_configs, 0..4).prop_map(B::MeterConfig))),
        ("OFPST_METER_FEATURES request", request(Just(R::MeterFeatures))),
        ("OFPST_METER_FEATURES reply", reply(meter_features)),
        (
            "OFPST_TABLE_FEATURES request",
            request(
                prop_oneof![Just(vec![]), table_list()]
                    .prop_map(|tables| R::TableFeatures { flags: 0, tables }),
            ),
        ),
        ("OFPST_TABLE_FEATURES reply", reply(table_list().prop_map(B::TableFeatures))),
        ("OFPST_PORT_DESC request", request(Just(R::PortDesc))),
        ("OFPST_PORT_DESC reply", reply(vec(port_desc(), 0..4).prop_map(B::PortDesc))),
        ("ONFST_FLOW_MONITOR request", request(monitor_requests().prop_map(R::FlowMonitor))),
        ("ONFST_FLOW_MONITOR reply", reply(updates().prop_map(B::FlowMonitor))),
        ("OFPT_BARRIER_REQUEST", just(Message::BarrierRequest)),
        ("OFPT_BARRIER_REPLY", just(Message::BarrierReply)),
        (
            "OFPT_QUEUE_GET_CONFIG_REQUEST",
            prop_oneof![plain_port(), Just(port::ANY)]
                .prop_map(Message::QueueGetConfigRequest)
                .boxed(),
        ),
        ("OFPT_QUEUE_GET_CONFIG_REPLY", queues.prop_map(Message::QueueGetConfigReply).boxed()),
        ("OFPT_ROLE_REQUEST", role().prop_map(Message::RoleRequest).boxed()),
        ("OFPT_ROLE_REPLY", role().prop_map(Message::RoleReply).boxed()),
        ("OFPT_GET_ASYNC_REQUEST", just(Message::GetAsyncRequest)),
        ("OFPT_GET_ASYNC_REPLY", async_masks().prop_map(Message::GetAsyncReply).boxed()),
        ("OFPT_SET_ASYNC", async_masks().prop_map(Message::SetAsync).boxed()),
        ("OFPT_METER_MOD", meter_mods().prop_map(Message::MeterMod).boxed()),
        ("NXT_SET_PACKET_IN_FORMAT", (0..3_u32).prop_map(Message::SetPacketInFormat).boxed()),
        ("NXT_PACKET_IN", nxt_packet_in().prop_map(Message::NxtPacketIn).boxed()),
        ("NXT_SET_ASYNC_CONFIG", async_masks().prop_map(Message::SetAsyncConfig).boxed()),
        ("NXT_SET_CONTROLLER_ID", any::<u16>().prop_map(Message::SetControllerId).boxed()),
        (
            "NXT_TLV_TABLE_MOD",
            (0..3_u16, tlv_maps())
                .prop_map(|(command, maps)| Message::TlvTableMod(TlvTableMod { command, maps }))
                .boxed(),
        ),
        ("NXT_TLV_TABLE_REQUEST", just(Message::TlvTableRequest)),
        (
            "NXT_TLV_TABLE_REPLY",
            (any::<u32>(), any::<u16>(), tlv_maps())
                .prop_map(|(max_option_space, max_fields, maps)| {
                    Message::TlvTableReply(TlvTableReply { max_option_space, max_fields, maps })
                })
                .boxed(),
        ),
        ("NXT_SET_ASYNC_CONFIG2", async2.boxed()),
        ("NXT_RESUME", resume().prop_map(Message::Resume).boxed()),
        ("NXT_CT_FLUSH_ZONE", any::<u16>().prop_map(Message::CtFlushZone).boxed()),
        ("NXT_PACKET_IN2", packet_in2().prop_map(Message::PacketIn2).boxed()),
        ("NXT_CT_FLUSH", ct_flush().prop_map(Message::CtFlush).boxed()),
        ("ONFT_FLOW_MONITOR_CANCEL", any::<u32>().prop_map(Message::FlowMonitorCancel).boxed()),
        ("ONFT_FLOW_MONITOR_PAUSED", just(Message::FlowMonitorPaused)),
        ("ONFT_FLOW_MONITOR_RESUMED", just(Message::FlowMonitorResumed)),
        ("ONFT_ROLE_STATUS", role_status.boxed()),
        ("ONFT_REQUESTFORWARD", forward.boxed()),
        ("ONFT_BUNDLE_CONTROL", control.boxed()),
        ("ONFT_BUNDLE_ADD_MESSAGE", add.boxed()),
    ]
}

/// The xid of every message, which that of a bundled one must equal.
pub(crate) const XID: u32 = 0x1a2b_3c4d;
