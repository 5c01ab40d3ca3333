//! What it costs to write and read 100,000 flows, on one core, and how often the allocator is asked.
//!
//! Each group has its baseline in it: the same bytes copied, or only cut into frames.

use bytes::{Bytes, BytesMut};
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use rust_openflow::{FlowEntries, FlowStats, Header, Message, MultipartBody, MultipartReply};

#[path = "support/workload.rs"]
mod workload;

/// Counts what each bench allocates.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const FLOWS: usize = 100_000;
/// Flows in one part of a dump, as OVS sends them: 147 parts for 100,000.
const PER_PART: usize = 680;

fn main() {
    divan::main();
}

/// The flows as messages.
fn messages() -> Vec<Message> {
    workload::flows(FLOWS).into_iter().map(Message::FlowMod).collect()
}

fn encode_all(messages: &[Message], out: &mut BytesMut) {
    for (message, xid) in messages.iter().zip(2..) {
        message.encode(xid, out).expect("a flow mod has an encoding");
    }
}

/// The parts of a dump of the flows.
fn dump() -> Vec<Bytes> {
    let flows: Vec<FlowStats> = workload::flows(FLOWS)
        .into_iter()
        .map(|flow| FlowStats {
            table: flow.table,
            priority: flow.priority,
            cookie: flow.cookie,
            duration_sec: 12,
            duration_nsec: 345_000_000,
            match_: flow.match_,
            instructions: flow.instructions,
            ..FlowStats::default()
        })
        .collect();
    flows
        .chunks(PER_PART)
        .map(|part| {
            let mut out = BytesMut::new();
            let body = MultipartBody::Flow(part.to_vec());
            let reply = Message::MultipartReply(MultipartReply { flags: 1, body });
            reply.encode(7, &mut out).expect("a part fits");
            out.freeze()
        })
        .collect()
}

mod encode {
    use super::*;

    /// The same bytes, copied frame by frame.
    #[divan::bench]
    fn copy_baseline(bencher: Bencher<'_, '_>) {
        let mut all = BytesMut::new();
        encode_all(&messages(), &mut all);
        let all = all.freeze();
        let mut frames = Vec::new();
        let mut rest = all;
        while let Some(head) = rest.first_chunk() {
            let length = usize::from(Header::decode(*head).expect("a header").length);
            frames.push(rest.split_to(length));
        }
        let mut out = BytesMut::with_capacity(16 << 20);
        bencher.counter(ItemsCount::new(FLOWS)).bench_local(|| {
            out.clear();
            frames.iter().for_each(|frame| out.extend_from_slice(black_box(frame)));
            out.len()
        });
    }

    /// From values to bytes, into a buffer that is there.
    #[divan::bench]
    fn flow_mods(bencher: Bencher<'_, '_>) {
        let messages = messages();
        let mut out = BytesMut::with_capacity(16 << 20);
        bencher.counter(ItemsCount::new(FLOWS)).bench_local(|| {
            out.clear();
            encode_all(black_box(&messages), &mut out);
            out.len()
        });
    }

    /// From addresses and ids to values to bytes.
    #[divan::bench]
    fn build_and_encode(bencher: Bencher<'_, '_>) {
        let mut out = BytesMut::with_capacity(16 << 20);
        bencher.counter(ItemsCount::new(FLOWS)).bench_local(|| {
            out.clear();
            for (n, xid) in (0..FLOWS).zip(2..) {
                let message = Message::FlowMod(workload::flow(black_box(n)));
                message.encode(xid, &mut out).expect("a flow mod has an encoding");
            }
            out.len()
        });
    }
}

mod decode {
    use super::*;

    /// Every flow entry found by its length, and not looked at.
    #[divan::bench]
    fn lengths_baseline(bencher: Bencher<'_, '_>) {
        let parts = dump();
        bencher.counter(ItemsCount::new(FLOWS)).bench_local(|| {
            let mut found = 0;
            for part in black_box(&parts) {
                let mut rest = &part[16..];
                while let Some(length) = rest.first_chunk() {
                    found += 1;
                    rest = &rest[usize::from(u16::from_be_bytes(*length))..];
                }
            }
            assert_eq!(found, FLOWS);
        });
    }

    /// To values, all of which are there at the end.
    #[divan::bench]
    fn dump_to_values(bencher: Bencher<'_, '_>) {
        let parts = dump();
        bencher.counter(ItemsCount::new(FLOWS)).bench_local(|| {
            let decode = |part| Message::decode(part).expect("a part").1;
            black_box(&parts).iter().map(decode).collect::<Vec<_>>()
        });
    }

    /// To values, part after part, as a stream gives them.
    #[divan::bench]
    fn dump_part_by_part(bencher: Bencher<'_, '_>) {
        let parts = dump();
        bencher.counter(ItemsCount::new(FLOWS)).bench_local(|| {
            for part in black_box(&parts) {
                black_box(Message::decode(part).expect("a part"));
            }
        });
    }

    /// Entries with their cookies, and nothing else looked at.
    #[divan::bench]
    fn dump_to_entries(bencher: Bencher<'_, '_>) {
        let parts = dump();
        bencher.counter(ItemsCount::new(FLOWS)).bench_local(|| {
            let mut cookies = 0;
            for part in black_box(&parts) {
                for entry in FlowEntries::of_reply(part).expect("a part") {
                    cookies |= entry.expect("an entry").cookie();
                }
            }
            cookies
        });
    }
}
