//! The text of groups and meters, both ways, against what ovs-ofctl shows of groups and sends of meters.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/messages.rs"]
#[allow(dead_code, reason = "this test needs groups and meters only")]
mod messages;
#[path = "support/ovs.rs"]
#[allow(dead_code, reason = "this test needs no switch")]
mod ovs;
#[path = "support/packets.rs"]
#[allow(dead_code, reason = "as above")]
mod packets;
#[path = "support/strategy.rs"]
#[allow(dead_code, reason = "as above")]
mod strategy;
#[path = "support/taker.rs"]
mod taker;

use bytes::BytesMut;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rust_openflow::text::{self, Names};
use rust_openflow::{GroupMod, Message, MeterMod};

/// Groups, each a process of ovs-ofctl.
const GROUPS: usize = 150;
/// Meters, of 500, that are a process of ovs-ofctl each: one in so many.
const EVERY: usize = 5;

fn encode(group: &GroupMod) -> Vec<u8> {
    let mut out = BytesMut::new();
    Message::GroupMod(group.clone()).encode(1, &mut out).unwrap();
    out.to_vec()
}

/// The bytes that `ovs-ofctl -mmmmm parse-group` shows.
fn theirs(text: &str) -> Vec<u8> {
    let args = ["-O", "OpenFlow13", "--no-names", "-mmmmm", "parse-group", text];
    let output = ovs::must("ovs-ofctl", &args);
    let dump = output.lines().filter(|line| line.get(8..10) == Some("  "));
    dump.flat_map(|line| {
        let hex = line[10..].split('|').next().unwrap().replace('-', " ");
        let bytes = hex.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap());
        bytes.collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn groups_have_the_bytes_ovs_ofctl_gives_them() {
    let mut runner = TestRunner::deterministic();
    let mut checked = 0;
    while checked < GROUPS {
        let group = messages::group_mods().new_tree(&mut runner).unwrap().current();
        let text = text::group_mod(&group, &Names::default());
        assert_eq!(text::parse_group(&text).as_ref(), Ok(&group), "{text}");
        if group.command == GroupMod::ADD {
            assert_eq!(encode(&group), theirs(&text), "{text}");
            checked += 1;
        }
    }
}

/// Spellings that ovs-ofctl(8), "Group Syntax", allows beside those it prints.
#[test]
fn spellings_of_groups() {
    let spellings = [
        "group_id=7,type=all,bucket=output:1,bucket=actions=output:2,group:3",
        "group_id=0x7 type=ff bucket=watch_port:2,actions=output:2 bucket=watch_group=9,actions=drop",
        "type=select,group_id=7,bucket=actions=set_field:1->reg0,output:2,weight:5",
        "group_id=7,type=fast_failover,bucket=watch_port=5,output:5",
        "group_id=7,type=indirect,bucket=actions=ct(commit,zone=4,exec(load:1->NXM_NX_CT_MARK[])),output:1",
    ];
    for text in spellings {
        let group = text::parse_group(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(encode(&group), theirs(text), "{text}");
    }
    let refused = [
        ("group_id=7,type=ff,bucket=actions=output:1", "field \"watch_port\" has no value"),
        ("group_id=7,type=some,bucket=output:1", "field \"type\" cannot be \"some\""),
        ("type=all,bucket=output:1", "field \"group_id\" has no value"),
        ("group_id=4294967295,type=all", "field \"group_id\" cannot be \"4294967295\""),
        ("group_id=7,type=all,bucket=weight:1", "field \"actions\" has no value"),
        ("group_id=7,type=all,colour=red", "unknown field \"colour\""),
        ("delete group_id=7,type=all", "unknown field \"type\""),
    ];
    for (text, why) in refused {
        assert_eq!(text::parse_group(text).unwrap_err().to_string(), why, "{text}");
    }
    let all = text::parse_group("delete").unwrap();
    assert_eq!(all, text::parse_group("delete group_id=all").unwrap());
    assert_eq!((all.command, all.group), (GroupMod::DELETE, 0xffff_fffc));
}

#[test]
fn meters_both_ways() {
    let mut runner = TestRunner::deterministic();
    for n in 0..500 {
        let mut meter = messages::meter_mods().new_tree(&mut runner).unwrap().current();
        if meter.command != MeterMod::DELETE && meter.bands.is_empty() {
            // ovs-ofctl reads no meter without a band.
            continue;
        }
        if meter.flags & 4 == 0 {
            for band in &mut meter.bands {
                if let rust_openflow::MeterBand::Drop { burst, .. }
                | rust_openflow::MeterBand::DscpRemark { burst, .. } = band
                {
                    *burst = 0;
                }
            }
        }
        let text = text::meter_mod(&meter);
        assert_eq!(text::parse_meter(&text).as_ref(), Ok(&meter), "{text}");
        if n % EVERY == 0 {
            let (command, bare) = match text.split_once(' ') {
                Some(("modify", bare)) => ("mod-meter", bare),
                Some(("delete", bare)) => ("del-meter", bare),
                _ => ("add-meter", text.as_str()),
            };
            let mut ours = BytesMut::new();
            Message::MeterMod(meter).encode(1, &mut ours).unwrap();
            let (output, theirs) = taker::run(command, &[bare]);
            assert!(output.status.success(), "{text}: {output:?}");
            assert_eq!(theirs, [ours], "{text}");
        }
    }
    let refused = [
        ("meter=1 kbps", "field \"bands\" has no value"),
        ("meter=0 kbps bands=type=drop rate=1", "field \"meter\" cannot be \"0\""),
        ("kbps bands=type=drop rate=1", "field \"meter\" has no value"),
        ("meter=1 bands=type=drop rate=1", "field \"kbps\" has no value"),
        ("meter=1 kbps bands=rate=1", "field \"type\" has no value"),
        ("meter=1 kbps bands=type=drop", "field \"rate\" has no value"),
        ("meter=1 kbps bands=type=dscp_remark rate=1", "field \"prec_level\" has no value"),
        ("meter=1 kbps,burst bands=type=drop rate=1", "field \"burst_size\" has no value"),
        ("meter=1 kbps bands=type=paint rate=1", "field \"type\" cannot be \"paint\""),
    ];
    for (text, why) in refused {
        assert_eq!(text::parse_meter(text).unwrap_err().to_string(), why, "{text}");
        let (output, sent) = taker::run("add-meter", &[text]);
        assert!(!output.status.success() && sent.is_empty(), "ovs-ofctl takes {text}");
    }
}
