//! Statistics and descriptions, both ways.

use super::*;

pub(super) fn flow_request() -> BoxedStrategy<FlowStatsRequest> {
    let cookie = prop_oneof![Just((0, 0)), any::<(u64, u64)>()];
    (any::<u8>(), port_no(), any::<u32>(), cookie, matches())
        .prop_map(|(table, out_port, out_group, (cookie, cookie_mask), match_)| FlowStatsRequest {
            table,
            out_port,
            out_group,
            cookie,
            cookie_mask,
            match_,
        })
        .boxed()
}

pub(super) fn request<S: Strategy<Value = MultipartRequest> + 'static>(
    body: S,
) -> BoxedStrategy<Message> {
    body.prop_map(Message::MultipartRequest).boxed()
}

pub(super) fn reply<S: Strategy<Value = MultipartBody> + 'static>(
    body: S,
) -> BoxedStrategy<Message> {
    (prop_oneof![4 => Just(0_u16), 1 => Just(1)], body)
        .prop_map(|(flags, body)| Message::MultipartReply(MultipartReply { flags, body }))
        .boxed()
}

pub(super) fn counters() -> impl Strategy<Value = Counters> {
    (counter(), counter()).prop_map(|(packets, bytes)| Counters { packets, bytes })
}

pub(super) fn group_stats() -> BoxedStrategy<GroupStats> {
    (any::<u32>(), 0..9_u32, counters(), (any::<u32>(), nsec()), vec(counters(), 0..4))
        .prop_map(|(group, ref_count, counters, (duration_sec, duration_nsec), buckets)| {
            GroupStats { group, ref_count, counters, duration_sec, duration_nsec, buckets }
        })
        .boxed()
}

pub(super) fn group_descs() -> BoxedStrategy<GroupDesc> {
    (0..4_u8, any::<u32>())
        .prop_flat_map(|(typ, group)| {
            buckets(typ).prop_map(move |buckets| GroupDesc { typ, group, buckets })
        })
        .boxed()
}

pub(super) fn meter_stats() -> BoxedStrategy<MeterStats> {
    (meter_no(), 0..9_u32, counters(), (any::<u32>(), nsec()), vec(counters(), 0..4))
        .prop_map(|(meter, flow_count, input, (duration_sec, duration_nsec), bands)| MeterStats {
            meter,
            flow_count,
            input,
            duration_sec,
            duration_nsec,
            bands,
        })
        .boxed()
}

pub(super) fn port_stats() -> BoxedStrategy<PortStats> {
    (port_no(), [(); 12].map(|()| counter()), prop_oneof![any::<u32>(), Just(u32::MAX)], nsec())
        .prop_map(|(port, c, duration_sec, duration_nsec)| PortStats {
            port,
            rx_packets: c[0],
            tx_packets: c[1],
            rx_bytes: c[2],
            tx_bytes: c[3],
            rx_dropped: c[4],
            tx_dropped: c[5],
            rx_errors: c[6],
            tx_errors: c[7],
            rx_frame_err: c[8],
            rx_over_err: c[9],
            rx_crc_err: c[10],
            collisions: c[11],
            duration_sec,
            duration_nsec,
        })
        .boxed()
}

pub(super) fn queue_stats() -> BoxedStrategy<QueueStats> {
    (
        port_no(),
        prop_oneof![0..9_u32, Just(u32::MAX)],
        [counter(), counter(), counter()],
        (prop_oneof![any::<u32>(), Just(u32::MAX)], nsec()),
    )
        .prop_map(
            |(port, queue, [tx_bytes, tx_packets, tx_errors], (duration_sec, duration_nsec))| {
                QueueStats {
                    port,
                    queue,
                    tx_bytes,
                    tx_packets,
                    tx_errors,
                    duration_sec,
                    duration_nsec,
                }
            },
        )
        .boxed()
}

/// Fields as they stand in the table features of OVS, some with a mask.
pub(super) fn oxm_ids(masks: bool) -> BoxedStrategy<Vec<multipart::OxmId>> {
    let fields: Vec<_> = Field::table().iter().map(|info| (info.field, info.maskable)).collect();
    vec((proptest::sample::select(fields), any::<bool>()), 0..8)
        .prop_map(move |list| {
            let id = |(field, maskable, wish): (Field, bool, bool)| {
                let masked = masks && maskable && wish;
                let experimenter = (field.header() >> 16 == 0xffff).then_some(0x4f4e_4600);
                let value = u32::from(field.bytes());
                let header = if masked { (field.header() | 0x100) + value } else { field.header() };
                multipart::OxmId { header, experimenter }
            };
            list.into_iter().map(|((field, maskable), wish)| id((field, maskable, wish))).collect()
        })
        .boxed()
}

pub(super) fn ids(types: Vec<u16>) -> BoxedStrategy<Vec<multipart::FeatureId>> {
    proptest::sample::subsequence(types.clone(), 0..=types.len())
        .prop_map(|types| {
            types.into_iter().map(|typ| multipart::FeatureId { typ, body: Bytes::new() }).collect()
        })
        .boxed()
}

pub(super) fn emptied(property: &TableProperty) -> TableProperty {
    use TableProperty as P;
    match property {
        P::Instructions(typ, _) => P::Instructions(*typ, vec![]),
        P::NextTables(typ, _) => P::NextTables(*typ, Bytes::new()),
        P::Actions(typ, _) => P::Actions(*typ, vec![]),
        P::Fields(typ, _) => P::Fields(*typ, vec![]),
        P::Unknown { typ, .. } => P::Unknown { typ: *typ, body: Bytes::new() },
    }
}

pub(super) fn table_features() -> BoxedStrategy<TableFeatures> {
    use TableProperty as P;
    let instructions = || ids(vec![1, 2, 3, 4, 5, 6]);
    let types = || ids(vec![0, 11, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27]);
    let tables = || {
        vec(0..254_u8, 0..9).prop_map(|mut tables| {
            tables.sort_unstable();
            tables.dedup();
            Bytes::from(tables)
        })
    };
    let halves = |miss: u16| {
        (instructions(), tables(), types(), types(), oxm_ids(false), oxm_ids(false)).prop_map(
            move |(i, t, w, a, ws, as_)| {
                vec![
                    P::Instructions(miss, i),
                    P::NextTables(2 + miss, t),
                    P::Actions(4 + miss, w),
                    P::Actions(6 + miss, a),
                    P::Fields(12 + miss, ws),
                    P::Fields(14 + miss, as_),
                ]
            },
        )
    };
    let lists = (halves(0), halves(1), any::<bool>(), any::<bool>(), oxm_ids(true), oxm_ids(false));
    let head =
        (0..254_u8, prop_oneof![Just([0; 32]), name::<32>()], any::<(u64, u64)>(), any::<bool>());
    (head, 0..4_u32, any::<u32>(), lists)
        .prop_map(|((table, name_bytes, metadata, none), config, max, lists)| {
            let (flows, miss, same, equal, match_, wildcards) = lists;
            let renumbered = |list: &[P]| {
                list.iter()
                    .map(|p| match p {
                        P::Instructions(_, l) => P::Instructions(1, l.clone()),
                        P::NextTables(_, l) => P::NextTables(3, l.clone()),
                        P::Actions(n, l) => P::Actions(n + 1, l.clone()),
                        P::Fields(n, l) => P::Fields(n + 1, l.clone()),
                        P::Unknown { typ, body } => P::Unknown { typ: *typ, body: body.clone() },
                    })
                    .collect::<Vec<_>>()
            };
            let mut flows = flows;
            if equal {
                // What may be written may be applied.
                let (write, set) = (flows[2].clone(), flows[4].clone());
                if let (P::Actions(_, l), P::Fields(_, f)) = (write, set) {
                    flows[3] = P::Actions(6, l);
                    flows[5] = P::Fields(14, f);
                }
            }
            let miss = if same { renumbered(&flows) } else { miss };
            let mut properties = [flows, miss].concat();
            properties.push(P::Fields(8, match_));
            properties.push(P::Fields(10, wildcards));
            if none {
                // Every list must be there, even an empty one.
                properties = properties.iter().map(emptied).collect();
            }
            let (metadata_match, metadata_write) = if none { (0, 0) } else { metadata };
            TableFeatures {
                table,
                name_bytes,
                metadata_match,
                metadata_write,
                config,
                max_entries: max,
                properties,
            }
        })
        .boxed()
}

/// Tables of which some are like the one before.
pub(super) fn table_list() -> BoxedStrategy<Vec<TableFeatures>> {
    vec((table_features(), 0..4_u8, any::<bool>()), 1..4)
        .prop_map(|list| {
            let mut tables: Vec<TableFeatures> = Vec::new();
            for (features, copies, named) in list {
                let mut next = features;
                for _ in 0..=copies {
                    next.table = tables.len() as u8;
                    tables.push(next.clone());
                    if !named {
                        next.name_bytes = [0; 32];
                    }
                }
            }
            tables
        })
        .boxed()
}

pub(super) fn monitor_requests() -> BoxedStrategy<Vec<FlowMonitorRequest>> {
    let one = (any::<u32>(), 1..64_u16, port_no(), any::<u8>(), matches()).prop_map(
        |(id, flags, out_port, table, match_)| {
            // At least one of add, delete and modify.
            FlowMonitorRequest { id, flags: flags | 2, out_port, table, match_ }
        },
    );
    vec(one, 1..3).boxed()
}

pub(super) fn updates() -> BoxedStrategy<Vec<FlowUpdate>> {
    let full = (strategy::flows(), 0..3_u16, 0..5_u16, any::<bool>()).prop_map(
        |(flow, event, reason, actions)| {
            FlowUpdate::Full(Box::new(FlowChange {
                event,
                reason: if event == FlowChange::REMOVED { reason } else { 0 },
                priority: flow.priority,
                idle_timeout: flow.idle_timeout,
                hard_timeout: flow.hard_timeout,
                table: flow.table,
                cookie: flow.cookie,
                match_: flow.match_,
                instructions: if actions { flow.instructions } else { vec![] },
            }))
        },
    );
    let short = any::<u32>().prop_map(|xid| FlowUpdate::Abbreviated { xid });
    vec(prop_oneof![3 => full, 1 => short], 0..4).boxed()
}
