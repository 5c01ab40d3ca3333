//! Writes `corpus/`: a few small inputs per target, from what Weir itself writes and from the vectors and scenarios of
//! the tests. `cargo run --manifest-path fuzz/Cargo.toml --example seeds`; files of other names stay.

use std::fs;
use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use rust_openflow::bundle::{ATOMIC, ORDERED};
use rust_openflow::text::{self, Names};
use rust_openflow::{
    Action, BundleAdd, BundleControl, BundleControlType, ErrorMsg, Field, FlowMod, FlowStats,
    FlowStatsRequest, Hello, Instruction, Match, Message, MultipartBody, MultipartReply,
    MultipartRequest,
};
use weir_agent::store::{Store, Stored};
use weir_api::convert::change_to_bytes;
use weir_policy::compile;
use weir_policy::ids::PolicyKey;
use weir_policy::k8s;
use weir_policy::state::{Change, NodeState};
use weir_policy::world::World;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Bytes of a saved state before its body.
const STORE_HEADER: usize = 56;

const MANIFESTS: &str = include_str!("seeds/world.yaml");
const MISTAKES: &str = include_str!("seeds/mistakes.yaml");
const OVSDB: &str = include_str!("seeds/ovsdb.jsonl");

fn main() -> Result<()> {
    openflow()?;
    flow_text()?;
    ovsdb()?;
    manifests()?;
    state()
}

fn write(target: &str, name: &str, content: impl AsRef<[u8]>) -> io::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name), content)
}

fn encode(message: &Message, xid: u32) -> Result<Bytes> {
    let mut out = BytesMut::new();
    message.encode(xid, &mut out)?;
    Ok(out.freeze())
}

/// A conjunctive flow, a tracked one, one with sub-fields and a note.
fn flows() -> Result<Vec<FlowMod>> {
    [
        "cookie=0x57000001, table=30, priority=100,ip,nw_src=10.0.0.0/24 actions=conjunction(16777216,1/3),conjunction(16777217,1/2)",
        "table=45, priority=100,conj_id=16777216,ip actions=load:0x5->NXM_NX_REG5[0..15],goto_table:60",
        "table=20, priority=10,ct_state=+new-est+trk,ipv6,ipv6_dst=fd00:10:10::/64 actions=ct(commit,table=25,zone=65520,exec(load:0x1->NXM_NX_CT_LABEL[0..31],move:NXM_NX_REG1[]->NXM_NX_CT_LABEL[32..63]))",
        "table=90, priority=1,tcp,tp_dst=0x50/0xfff0 actions=note:77.65.69.72.00.00,resubmit(,100),NORMAL",
        "table=100, priority=7,reg3=0x1/0xff,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=output:NXM_NX_REG6[]",
        "table=0, priority=0 actions=drop",
    ]
    .iter()
    .map(|line| Ok(text::parse_flow(line)?.into_add()))
    .collect()
}

fn openflow() -> Result<()> {
    let flows = flows()?;
    let stats = |flow: &FlowMod| FlowStats {
        table: flow.table,
        priority: flow.priority,
        cookie: flow.cookie,
        packets: 3,
        bytes: 300,
        match_: flow.match_.clone(),
        instructions: flow.instructions.clone(),
        ..FlowStats::default()
    };
    let reply = |flags: u16, flows: &[FlowMod]| {
        let body = MultipartBody::Flow(flows.iter().map(stats).collect());
        Message::MultipartReply(MultipartReply { flags, body })
    };
    let inner = Message::FlowMod(flows[0].clone());
    let add = BundleAdd::new(7, ATOMIC | ORDERED, &inner, 9)?;
    let control = BundleControl::new(7, BundleControlType::OPEN, ATOMIC | ORDERED);
    let messages = [
        ("hello", Message::Hello(Hello::default())),
        ("error", Message::Error(ErrorMsg::new(4, 9, Bytes::from_static(&[4, 14, 0, 8])))),
        ("echo", Message::EchoRequest(Bytes::from_static(b"ping"))),
        (
            "dump_request",
            Message::MultipartRequest(MultipartRequest::Flow(FlowStatsRequest {
                match_: Match::tcp().with(Field::TcpDst, 80),
                ..FlowStatsRequest::default()
            })),
        ),
        ("dump_reply", reply(0, &flows)),
        ("bundle_open", Message::BundleControl(control)),
        ("bundle_add", Message::BundleAdd(add)),
        ("flow_mod", inner),
    ];
    for (name, message) in &messages {
        write("openflow_message", name, encode(message, 9)?)?;
    }
    // whole bodies, and fields and actions apart
    for (n, flow) in flows.iter().enumerate() {
        let frame = encode(&Message::FlowMod(flow.clone()), 1)?;
        let body = &frame[48..];
        write("openflow_flow", &format!("whole_{n}"), [&[0], body].concat())?;
        let fields = usize::from(u16::from_be_bytes([body[2], body[3]])) - 4;
        let actions: Vec<u8> = flow
            .instructions
            .iter()
            .find_map(|i| match i {
                Instruction::ApplyActions(_) => Some(&body[flow.match_.encoded_len() + 8..]),
                _ => None,
            })
            .unwrap_or_default()
            .to_vec();
        let apart = [&[1, fields as u8], &body[4..4 + fields], &actions].concat();
        write("openflow_flow", &format!("apart_{n}"), apart)?;
        if fields > 0 {
            write("openflow_match", &format!("flow_{n}"), &body[4..4 + fields])?;
        }
        if !actions.is_empty() {
            write("openflow_actions", &format!("flow_{n}"), &actions)?;
        }
    }
    let odd = FlowMod::add(1, 1, Match::new(), [Instruction::ApplyActions(vec![Action::Exit])]);
    write(
        "openflow_flow",
        "whole_exit",
        [&[0], &encode(&Message::FlowMod(odd), 1)?[48..]].concat(),
    )?;

    // the first request behind the handshake has xid 0x100
    let two_parts = [
        encode(&reply(1, &flows[..2]), 0x100)?,
        encode(&messages[2].1, 5)?,
        encode(&reply(0, &flows[2..]), 0x100)?,
        encode(&messages[1].1, 77)?,
    ]
    .concat();
    write("openflow_stream", "dump_in_two_parts", [&[0, 7, 60, 3], &two_parts[..]].concat())?;
    let refused = encode(&messages[1].1, 0x100)?;
    write("openflow_stream", "dump_refused", [&[10, 10, 10, 10], &refused[..]].concat())?;
    let bare = encode(&messages[0].1, 1)?;
    write("openflow_stream", "hello_only", [&[1, 1, 1, 1], &bare[..]].concat())?;
    let bad = [4, 19, 0, 7, 0, 0, 1, 0];
    write("openflow_stream", "length_below_header", [&[4, 4, 4, 4], &bad[..]].concat())?;
    Ok(())
}

fn flow_text() -> Result<()> {
    let names = Names::default();
    let lines: Vec<String> = flows()?.iter().map(|f| text::flow_mod(f, &names)).collect();
    write("flow_text", "pipeline", lines.join("\n"))?;
    let vectors = include_str!("../../ofproto/tests/vectors/flow_mods.txt");
    let texts: Vec<&str> =
        vectors.lines().filter_map(|line| line.strip_prefix("flow ")).map(str::trim).collect();
    for (n, some) in texts.chunks(18).enumerate() {
        write("flow_text", &format!("vectors_{n}"), some.join("\n"))?;
    }
    let dumped = " cookie=0x0, duration=12.345s, table=5, n_packets=7, n_bytes=700, idle_timeout=3, send_flow_rem priority=3,in_port=LOCAL,vlan_tci=0x1000/0x1000 actions=CONTROLLER:65535";
    write("flow_text", "dumped", dumped)?;
    Ok(())
}

fn ovsdb() -> Result<()> {
    for (n, line) in OVSDB.lines().enumerate() {
        write(
            "ovsdb_stream",
            &format!("message_{n}"),
            [b"\x07\x00\x40\x03", line.as_bytes()].concat(),
        )?;
    }
    for (n, value) in [
        r#"["set",[["uuid","00000000-0000-4000-8000-000000000001"],["uuid","00000000-0000-4000-8000-000000000002"]]]"#,
        r#"["map",[["iface-id","pod"],["attached-mac","0a:58:0a:00:00:01"]]]"#,
        r#"["map",[[30,["uuid","00000000-0000-4000-8000-000000000001"]]]]"#,
        r#""br-int""#,
        "7.0",
        "true",
        r#"["set",[]]"#,
    ]
    .iter()
    .enumerate()
    {
        write("ovsdb_value", &format!("value_{n}"), value)?;
    }
    // Kind, row and two arguments each.
    let insert = [0, 1, 3, 1];
    write(
        "ovsdb_update2",
        "insert_modify_delete",
        [insert, [3, 1, 6, 0], [2, 1, 9, 0], [1, 1, 0, 0]].concat(),
    )?;
    write("ovsdb_update2", "pairs", [insert, [5, 1, 0, 1], [5, 1, 0, 2], [5, 1, 0, 2]].concat())?;
    write("ovsdb_update2", "out_of_step", [insert, insert, [4, 2, 1, 1], [1, 3, 0, 0]].concat())?;
    write("ovsdb_stream", "all", [b"\x30\x01\xff\x10", OVSDB.as_bytes()].concat())?;
    Ok(())
}

fn manifests() -> Result<()> {
    write("manifests", "world.yaml", MANIFESTS)?;
    write("manifests", "mistakes.yaml", MISTAKES)?;
    let scenario = |name: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testbed/scenarios");
        fs::read_to_string(root.join(name))
    };
    write("manifests", "ports.yaml", scenario("three-tier/production-ports.yaml")?)?;
    write("manifests", "peers.yaml", scenario("three-tier/production-peers.yaml")?)?;
    let (values, _) = k8s::read_documents(MANIFESTS);
    let list = serde_json::json!({"kind": "List", "apiVersion": "v1", "items": values});
    write("manifests", "list.json", serde_json::to_string(&list)?)?;
    Ok(())
}

/// Changes and files of the state that a node has in the world of `seeds/world.yaml`.
fn state() -> Result<()> {
    let mut world = World::default();
    for value in k8s::read_documents(MANIFESTS).0.into_iter().flat_map(k8s::flatten) {
        if let (Some(object), _) = k8s::object(&value)? {
            object.put(&mut world);
        }
    }
    let state = compile::node_state(&world, "n1");
    let changes = NodeState::default().diff(&state);
    let mut kept = std::collections::BTreeMap::new();
    for change in &changes {
        let kind = match change {
            Change::Node(_) => "node",
            Change::Policy(_) => "policy",
            Change::Group(_) => "group",
            Change::Profile(_) => "profile",
            Change::Endpoint(_) => "endpoint",
            _ => "other",
        };
        let n: &mut usize = kept.entry(kind).or_default();
        *n += 1;
        if *n <= 3 {
            write("api_change", &format!("{kind}_{n}"), change_to_bytes(change))?;
        }
    }
    let removal = Change::RemovePolicy(PolicyKey::network_policy("shop", "db"));
    write("api_change", "remove_policy", change_to_bytes(&removal))?;

    let dir = std::env::temp_dir().join(format!("weir-seeds-{}", std::process::id()));
    let store = Store::open(&dir)?;
    for (name, state) in [
        ("empty", NodeState { node: state.node.clone(), ..NodeState::default() }),
        ("world", state),
    ] {
        store.save(&Stored { revision: 1841, state })?;
        let file = fs::read(store.state_path())?;
        write("agent_store", &format!("{name}_file"), &file)?;
        write("agent_store", &format!("{name}_body"), &file[STORE_HEADER..])?;
    }
    fs::remove_dir_all(dir)?;
    Ok(())
}
