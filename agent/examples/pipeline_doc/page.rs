//! The text of `docs/pipeline.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use weir_agent::desired::Desired;
use weir_agent::flows::{MAX_BANKS, RULES_PER_PRIORITY, priority};
use weir_agent::pipeline::cookie::{Cookie, Kind, Stage};
use weir_agent::pipeline::regs::{self, Store};
use weir_agent::pipeline::{PipelineConfig, table};
use weir_policy::ids::RuleId;
use weir_policy::rule::{Direction, Tier};

/// What was made and seen.
pub(crate) struct Example {
    /// Version of Open vSwitch.
    pub(crate) version: String,
    /// Flows with names, in order, each with the number of its table.
    pub(crate) dump: Vec<(u8, String)>,
    pub(crate) traces: Vec<Trace>,
    pub(crate) manifests: String,
}

/// A packet to follow.
pub(crate) struct Packet {
    pub(crate) title: &'static str,
    /// What happens to it and where to see it; `{...}` are ids and classes of the example.
    pub(crate) steps: &'static str,
    /// As `ofproto/trace` takes it.
    pub(crate) flow: &'static str,
}

pub(crate) struct Trace {
    pub(crate) packet: &'static Packet,
    pub(crate) text: String,
}

pub(crate) static PACKETS: [Packet; 3] = [
    Packet {
        title: "A connection that a rule allows: api-0 on n2 to db-0, port 5432",
        steps: "\
1. `Classifier`: the packet comes in by the uplink. `Origin` becomes {uplink}.
2. `SpoofGuard`: packets that do not come from a workload are not held to addresses; they go on.
3. `Conntrack`: the connection is looked up in zone {zone}; the packet comes back as `+new+trk`.
4. `ConntrackState`: neither invalid nor a reply, so it goes the way of all original-direction packets.
5. `SrcClass`: 10.244.2.10 is class {api} ({api_groups}); `reg2` holds it from here on.
6. `DstClass`: 10.244.1.20 is class {db} ({db_groups}) and on this node: `reg3`, and bit `DstLocal`.
7. `EgressAdmin`: the source is no workload of *this* node (its own node has judged its egress), so the packet goes to \
`IngressAdmin`, and from there, being for a workload here, to `IngressRule`.
8. `IngressRule`: three clause flows of conjunction `{db_rule}` ({db_rule_dec} in decimal) match: source class {api} (1/3), \
destination class {db} (2/3), TCP port 5432 (3/3). So the flow `conj_id={db_rule_dec}` decides: it writes the rule id to \
`reg5` and sends the packet to `Commit`. `ofproto/trace` shows this flow; before OVS 3.3 it does not show the clauses.
9. `Commit`: the connection is new, so it is stored, with the rule id in the low half of its `ct_label`.
10. `Forward`: the destination MAC address is that of db-0 and the IP address is its own, so it may be delivered.
11. `Output`: `NORMAL` switches it.",
        flow: "in_port=1,tcp,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:01:20,nw_src=10.244.2.10,nw_dst=10.244.1.20,nw_ttl=64,tcp_src=40000,tcp_dst=5432",
    },
    Packet {
        title: "A connection that nothing allows: probe-0 to db-0, both on n1",
        steps: "\
1. `Classifier`: port 4 is a workload. `Origin` becomes {workload}.
2. `SpoofGuard`: the MAC and IP addresses are those of probe-0.
3. `Conntrack`, `ConntrackState`: new, goes on.
4. `SrcClass`: 10.244.1.30 is class {probe}: no policy names probe-0 (`reg2={probe}` meets no clause). \
`DstClass`: class {db} and local.
5. `EgressAdmin`: from a workload here, so `EgressRule` judges it first. No flow of class {probe} is there: probe-0 is not \
isolated for egress, and the packet goes on to the ingress half.
6. `IngressRule`: the clauses for class {db} (2/3) and port 5432 (3/3) match, the one for the source does not, so the \
conjunction is not complete. What remains is the drop of class {db}. Its cookie ends in the isolation set {db_set}, which \
stands for every policy that isolates db-0: {db_set_policies}. Nothing is committed, so the connection table stays clean.",
        flow: "in_port=4,tcp,dl_src=02:00:00:00:01:30,dl_dst=02:00:00:00:01:20,nw_src=10.244.1.30,nw_dst=10.244.1.20,nw_ttl=64,tcp_src=40000,tcp_dst=5432",
    },
    Packet {
        title: "Egress to a network, and out of the node: web-0 to 203.0.113.7, port 8443",
        steps: "\
1. Up to `DstClass` as above. The destination is no workload that a policy names, so no flow matches and `reg3` stays 0.
2. `EgressRule`: the clauses of `{web_rule}` are the prefix 203.0.113.0/25 (what `except` leaves of the block), class {web}, \
and the port range 8440-8447, which needs no more than one value and mask. All three match; the rule id goes to `reg4`.
3. `IngressAdmin`: not for a workload of this node, so `Commit` stores the connection, with the rule id in the *upper* half \
of the low 64 bits of `ct_label`.
4. `Forward`, `Output`: `NORMAL`.",
        flow: "in_port=2,tcp,dl_src=02:00:00:00:01:10,dl_dst=02:00:00:00:00:01,nw_src=10.244.1.10,nw_dst=203.0.113.7,nw_ttl=64,tcp_src=40000,tcp_dst=8443",
    },
];

const KINDS: [(Kind, &str); 9] = [
    (Kind::Base, "fixed part of the pipeline, ports, addresses; the id is a class, or 0"),
    (Kind::Allow, "a rule allows; the id is the rule's"),
    (Kind::Deny, "a rule denies, rejects or passes on (tiers; not in this version)"),
    (
        Kind::Clause,
        "one clause of one or several conjunctions; the id is a class, a service number, or 0 for a prefix",
    ),
    (Kind::Isolation, "default drop of an isolated class; the id is the isolation set"),
    (Kind::AlwaysAllowed, "traffic of the own node, which no policy can deny"),
    (Kind::SpoofGuard, "source and delivery guard"),
    (Kind::Trace, "packets under observation (not in this version)"),
    (Kind::Staged, "staged policies (not in this version)"),
];

const PRIORITIES: [(&str, u16, &str); 5] = [
    (
        "SCTP gap",
        priority::SCTP_GAP,
        "SCTP of an isolated class where the datapath cannot track its ports: dropped",
    ),
    (
        "plain",
        priority::PLAIN,
        "a rule with neither peers nor ports: one flow per subject class, no conjunction",
    ),
    ("conjunction", priority::CONJUNCTION, "clause flows and the `conj_id` flows they end in"),
    (
        "cut",
        priority::CUT,
        "established connections of an isolated class that no rule allows (any more): marked and dropped",
    ),
    ("isolated", priority::ISOLATED, "everything else of an isolated class: dropped"),
];

/// The whole page.
pub(crate) fn page(example: &Example, desired: &Desired) -> anyhow::Result<String> {
    let mut out = String::new();
    out.push_str(HEAD);
    tables(&mut out)?;
    registers(&mut out)?;
    cookies(&mut out)?;
    priorities(&mut out)?;
    out.push_str(CONNECTIONS);
    write_example(&mut out, example, desired)?;
    let words = words(desired);
    out.push_str("\n## Packets followed by hand\n");
    for trace in &example.traces {
        writeln!(out, "\n### {}\n", trace.packet.title)?;
        writeln!(out, "{}\n", fill(trace.packet.steps, &words))?;
        writeln!(out, "```\n$ ovs-appctl ofproto/trace br-int {}", trace.packet.flow)?;
        writeln!(out, "{}\n```", trace.text.trim_end())?;
    }
    out.push_str(TAIL);
    Ok(out)
}

fn tables(out: &mut String) -> anyhow::Result<()> {
    out.push_str("## Tables\n\n| number | name | what it does |\n|---|---|---|\n");
    for (number, name, about) in table::TABLES {
        writeln!(out, "| {number} | {name} | {about} |")?;
    }
    out.push_str(
        "\nThe numbers leave gaps, and a pair of number and name is never used for anything else. The names are in the \
         switch's database, so `ovs-ofctl --names` prints them and takes them.\n\n",
    );
    Ok(())
}

fn registers(out: &mut String) -> anyhow::Result<()> {
    out.push_str(
        "## Registers and conntrack bits\n\n| field | where | as ovs-ofctl writes it | what it holds |\n|---|---|---|---|\n",
    );
    for f in regs::FIELDS {
        let last = f.offset + f.bits - 1;
        let place = match f.store {
            Store::Reg => format!("reg{}", f.reg),
            Store::CtMark => "ct_mark".to_owned(),
            Store::CtLabel => "ct_label".to_owned(),
        };
        let text = match f.store {
            // 128 bits: written out, the mask says nothing to anyone
            Store::CtLabel => format!("`NXM_NX_CT_LABEL[{}..{last}]`", f.offset),
            _ => {
                let all = 1_u64 << f.bits;
                let one = f.matches(rust_openflow::Match::new(), 1).to_string();
                if all > 2 { format!("`{one}` for 1") } else { format!("`{one}`") }
            }
        };
        let bits = if last == f.offset {
            format!("bit {last}")
        } else {
            format!("bits {}..{last}", f.offset)
        };
        writeln!(out, "| {} | {place}, {bits} | {text} | {} |", f.name, f.about)?;
    }
    writeln!(
        out,
        "\nAll connections through the bridge are in conntrack zone {}. A class is a number that stands for all \
         workloads which the rules of this node cannot tell apart; it is local to the node.\n",
        PipelineConfig::ZONE
    )?;
    Ok(())
}

fn cookies(out: &mut String) -> anyhow::Result<()> {
    out.push_str(
        "## Cookies\n\nEvery flow of Weir has a cookie of this form, and any other flow on the bridge is removed as foreign:\n\n\
         ```\n57 01 KS 00 IIIIIIII     57 Weir, 01 this layout, K kind, S stage, I id\n```\n\n\
         | kind | `--owner` | example | what the flow is |\n|---|---|---|---|\n",
    );
    let stage = Stage::new(Tier::NetworkPolicy, Direction::Ingress);
    for (kind, about) in KINDS {
        let (stage, id) = match kind {
            Kind::Allow | Kind::Deny | Kind::Isolation | Kind::Staged => (stage, 0x2c91_e07a),
            Kind::Clause => (stage, 5),
            _ => (Stage::NONE, 0),
        };
        let cookie = Cookie::encode(kind, stage, id);
        writeln!(out, "| {} | {} | `0x{cookie:016x}` | {about} |", kind as u8, kind.owner())?;
    }
    out.push_str("\n| stage | tier and direction |\n|---|---|\n| 0 | none |\n");
    for direction in [Direction::Egress, Direction::Ingress] {
        for (tier, name) in [
            (Tier::Admin, "Admin"),
            (Tier::NetworkPolicy, "NetworkPolicy"),
            (Tier::Baseline, "Baseline"),
        ] {
            let cookie = Cookie::encode(Kind::Base, Stage::new(tier, direction), 0);
            writeln!(out, "| {:x} | {name}, {direction} |", (cookie >> 40) & 0xf)?;
        }
    }
    writeln!(
        out,
        "\nAn id of {:#010x} or more is a rule or an isolation set: a hash of its content, so it is the same on every node \
         and after every restart, and another one once the rule is edited. The same number is the `conj_id` of the rule \
         and stands in the `ct_label` of the connections it let through. `conj_id` and `conjunction(...)` print it in \
         decimal, cookies and labels in hex. Smaller numbers are local: classes count from 1, a service clause has \
         0x800000 plus 0x10000 for TCP, 0x20000 for UDP or 0x30000 for SCTP, plus the port.\n",
        RuleId::FIRST
    )?;
    Ok(())
}

fn priorities(out: &mut String) -> anyhow::Result<()> {
    out.push_str(
        "## Priorities in EgressRule and IngressRule\n\n| priority | name | what |\n|---|---|---|\n\
         | 65000 | self | a workload that reaches itself through a Service: NetworkPolicy does not apply |\n",
    );
    for (name, priority, about) in PRIORITIES {
        writeln!(out, "| {priority} | {name} | {about} |")?;
    }
    writeln!(
        out,
        "| 0 | | not isolated: goes on |\n\nA rule has no priority of its own, as NetworkPolicy rules have no order. Up to \
         {RULES_PER_PRIORITY} rules share priority {}; with more, rules are spread by id over 2, 4, ... up to {MAX_BANKS} \
         priorities from there on, so that no clause flow can outgrow an OpenFlow message.\n",
        priority::CONJUNCTION
    )?;
    Ok(())
}

fn write_example(out: &mut String, example: &Example, desired: &Desired) -> anyhow::Result<()> {
    write!(
        out,
        "## An example\n\nNode n1 runs web-0 on port 2, db-0 on port 3 and probe-0 on port 4; port 1 leads to the other \
         node, where api-0 runs.\n\n```yaml\n{}```\n\n",
        example.manifests
    )?;
    out.push_str("Classes on n1 (endpoints that no policy names share one, too):\n\n| class | endpoints | groups it is in | named ports |\n|---|---|---|---|\n");
    for c in classes(desired) {
        writeln!(out, "| {} | {} | {} | {} |", c.number, c.endpoints, c.groups, c.ports)?;
    }
    out.push_str("\nRules and isolation sets on n1:\n\n| id | decimal | what |\n|---|---|---|\n");
    for (id, what) in rules(desired) {
        writeln!(out, "| {id} | {} | {what} |", id.0)?;
    }
    writeln!(
        out,
        "\n### The flows\n\n`ovs-ofctl -O OpenFlow13 --names --no-stats dump-flows br-int`, from Open vSwitch {}, sorted by \
         table and priority ({} flows):",
        example.version,
        example.dump.len()
    )?;
    let mut by_table: BTreeMap<u8, Vec<&str>> = BTreeMap::new();
    for (number, line) in &example.dump {
        by_table.entry(*number).or_default().push(line);
    }
    for (number, lines) in by_table {
        writeln!(out, "\n{} ({number}):\n\n```", table::name(number))?;
        for line in lines {
            writeln!(out, "{line}")?;
        }
        out.push_str("```\n");
    }
    Ok(())
}

/// A class in words.
struct Class {
    number: u32,
    endpoints: String,
    groups: String,
    ports: String,
}

fn classes(desired: &Desired) -> Vec<Class> {
    let state = crate::compile::node_state(&crate::world().unwrap_or_default(), crate::NODE);
    let list =
        |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join("; ") };
    desired
        .classes()
        .iter()
        .map(|(number, class)| Class {
            number,
            endpoints: list(
                state
                    .endpoints
                    .values()
                    .filter(|e| class.members.contains(&e.profile))
                    .map(|e| format!("{}/{}", e.namespace, e.name))
                    .collect(),
            ),
            groups: list(
                class
                    .key
                    .groups
                    .iter()
                    .filter_map(|g| state.groups.get(g))
                    .map(|g| format!("`{}`", g.selector))
                    .collect(),
            ),
            ports: list(
                class
                    .key
                    .ports
                    .iter()
                    .map(|p| format!("{}={}/{}", p.name, p.number, p.protocol))
                    .collect(),
            ),
        })
        .collect()
}

fn rules(desired: &Desired) -> BTreeMap<RuleId, String> {
    let mut out = BTreeMap::new();
    for (id, _, users) in desired.rules() {
        let users: Vec<String> =
            users.iter().map(|(policy, path)| format!("{policy} {path}")).collect();
        out.insert(id, format!("rule {}", users.join(", ")));
    }
    for (direction, _, id, policies) in desired.isolation_sets() {
        let names: Vec<String> = policies.iter().map(ToString::to_string).collect();
        out.insert(id, format!("isolated for {direction} by {}", names.join(", ")));
    }
    out
}

/// What stands for `{...}` in the steps.
fn words(desired: &Desired) -> BTreeMap<&'static str, String> {
    let mut out = BTreeMap::from([
        ("zone", PipelineConfig::ZONE.to_string()),
        ("workload", regs::origin::WORKLOAD.to_string()),
        ("uplink", regs::origin::UPLINK.to_string()),
    ]);
    for c in classes(desired) {
        for (pod, number, groups) in [
            ("shop/web-0", "web", "web_groups"),
            ("shop/db-0", "db", "db_groups"),
            ("shop/api-0", "api", "api_groups"),
            ("monitoring/probe-0", "probe", "probe_groups"),
        ] {
            if c.endpoints == pod {
                out.insert(number, c.number.to_string());
                out.insert(groups, c.groups.clone());
            }
        }
    }
    for (id, what) in rules(desired) {
        if what == "rule shop/db-from-api ingress[0]" {
            out.insert("db_rule", id.to_string());
            out.insert("db_rule_dec", id.0.to_string());
        } else if what == "rule shop/web-egress egress[1]" {
            out.insert("web_rule", id.to_string());
        } else if let Some(policies) = what.strip_prefix("isolated for ingress by ")
            && what.contains("db-from-api")
        {
            out.insert("db_set", id.to_string());
            out.insert("db_set_policies", policies.to_owned());
        }
    }
    out
}

fn fill(text: &str, words: &BTreeMap<&'static str, String>) -> String {
    words
        .iter()
        .fold(text.to_owned(), |text, (key, value)| text.replace(&format!("{{{key}}}"), value))
}

const HEAD: &str = "\
<!-- Made by `cargo run -p weir-agent --example pipeline_doc`. Edit agent/examples/pipeline_doc/ and the code it reads. -->

# The pipeline

What Weir's agent installs on the bridge of a node, for people who read it with `ovs-ofctl`. Tables, registers, cookies and
priorities on this page are printed from the code, the flows and traces from a real switch.

```
Classifier -> SpoofGuard -> Conntrack -> ConntrackState -> SrcClass -> DstClass
  -> EgressAdmin -> EgressRule -> EgressBaseline          source is a workload of this node
  -> IngressAdmin -> IngressRule -> IngressBaseline       destination is a workload of this node
  -> Commit -> Forward -> Output
```

A packet between two nodes is judged twice: for egress on the node of its source, for ingress on the node of its
destination. Each node does the half that it has the policies for. A drop is made where it is decided; no verdict is carried
on to a later table. ARP and neighbour discovery go from `SpoofGuard` straight to `Output`.

";

const CONNECTIONS: &str = "\
## Connections

- Every packet of the *original* direction goes through the rules, of established connections too. That costs nothing per
  packet (the datapath caches the outcome and revalidates it when flows change), and a policy change reaches live connections
  at once.
- Replies, and ICMP errors that belong to a connection, skip the rules: `ConntrackState` sends them to `Forward`. An ICMP
  error that a workload sends about a connection that is not its own is dropped.
- A TCP connection that is met without its SYN, because conntrack lost its entry or never had one, is committed as `Unsure`:
  either end may have begun it, so packets of both directions go through the rules, and once it is cut it stays cut.
- Fragments: the agent sets the bridge to `nx-match`, so a first fragment has its ports, and the rules judge it. The userspace
  datapath shows the later ones one by one, without ports: each service has a clause flow for them (`nw_frag=later`).
- An established connection that no rule allows any more meets the `cut` flow of its class: its packets drop, and the flow
  sets `Revoked` in the connection's `ct_mark`. From then on `ConntrackState` drops its replies too. If the connection is
  allowed again later, `Commit` clears the bit.
- A new connection that is denied is dropped without a commit, so it leaves no entry.

";

const TAIL: &str = "
## With ovs-ofctl alone

`2c91e07a` stands for the id of a rule, 747757690 for the same id in decimal.

| to see | command |
|---|---|
| one table, with names | `ovs-ofctl -O OpenFlow13 --names dump-flows br-int table=IngressRule` |
| the flow that decides for a rule | `ovs-ofctl -O OpenFlow13 --names dump-flows br-int cookie=0x2c91e07a/0xffffffff` |
| the clauses of a rule | `ovs-ofctl -O OpenFlow13 --names dump-flows br-int \\| grep 'conjunction(747757690'` |
| all default drops for ingress, with counters | `ovs-ofctl -O OpenFlow13 dump-flows br-int cookie=0x57014a0000000000/0xffffff0000000000` |
| what the spoof guard dropped | `ovs-ofctl -O OpenFlow13 dump-flows br-int cookie=0x5701600000000000/0xfffff00000000000` |
| connections that were cut | `ovs-appctl dpctl/dump-conntrack zone=65520 \\| grep -E 'mark=[13]'` |
| which rules let a connection through | `labels=` in the same dump: the low 8 hex digits are the ingress rule, the next 8 the egress rule |

Clause flows have no counters in Open vSwitch: packets are counted by the `conj_id` flow. `weirctl flows --explain - --symbols
/var/lib/weir/symbols.jsonl` annotates what any of these commands prints.
";
