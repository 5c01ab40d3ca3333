//! Matches and actions for people: registers and ids by their names, the rest as ovs-ofctl writes it.

use rust_openflow::text::{self, Names};
use rust_openflow::{Action, Field, Instruction, Match, port};

use super::layout;

/// `tcp dport 5432`, `src=class 5`, `conj_id 2c91e07a`; `any` for a match on everything.
pub fn matching(match_: &Match) -> String {
    let text = text::matching(match_, &Names::default());
    let words: Vec<String> =
        split(&text).into_iter().map(|word| match_word(word, match_)).collect();
    if words.is_empty() { "any".to_owned() } else { words.join(" ") }
}

/// Splits at commas that are in no brackets.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .filter(|word| !word.is_empty())
    .collect()
}

fn match_word(word: &str, match_: &Match) -> String {
    let Some((key, value)) = word.split_once('=') else {
        return word.to_owned();
    };
    match key {
        "reg0" => reg0(match_).unwrap_or_else(|| word.to_owned()),
        "reg2" => register(value, "src=class ", false),
        "reg3" => register(value, "dst=class ", false),
        "reg4" => register(value, "egress rule ", true),
        "reg5" => register(value, "ingress rule ", true),
        "conj_id" => register(value, "conj_id ", true),
        "ct_mark" => mark(match_).unwrap_or_else(|| word.to_owned()),
        "nw_frag" if value == "later" => "later fragments".to_owned(),
        "nw_src" | "ipv6_src" => format!("src={value}"),
        "nw_dst" | "ipv6_dst" => format!("dst={value}"),
        "tp_dst" => format!("dport {}", range(value)),
        "tp_src" => format!("sport {}", range(value)),
        "dl_dst" if value == "01:00:00:00:00:00/01:00:00:00:00:00" => "multicast".to_owned(),
        _ => word.to_owned(),
    }
}

/// The bits of `ct_mark` in words, if there is a word for each that is asked for.
fn mark(match_: &Match) -> Option<String> {
    let f = match_.field(Field::CtMark)?;
    let known = [(layout::MARK_REVOKED, "cut"), (layout::MARK_UNSURE, "unsure")];
    let words = known.iter().filter(|(bit, _)| f.value & bit != 0);
    let words: Vec<&str> = words.map(|(_, word)| *word).collect();
    (f.mask == f.value && f.value & !(layout::MARK_REVOKED | layout::MARK_UNSURE) == 0)
        .then(|| words.join(" "))
}

fn reg0(match_: &Match) -> Option<String> {
    let f = match_.field(Field::Reg(0))?;
    let mut rest = f.mask;
    let mut words = Vec::new();
    for (mask, value, word) in layout::REG0 {
        if rest & mask == mask && f.value & mask == value {
            rest &= !mask;
            words.push(word);
        }
    }
    (rest == 0).then(|| words.join(" "))
}

/// The value of a whole register; a part of one stays as it is.
fn register(value: &str, name: &str, id: bool) -> String {
    let number = match value.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    };
    match number {
        Some(n) if id => format!("{name}{n:08x}"),
        Some(n) => format!("{name}{n}"),
        None => format!("{name}{value}"),
    }
}

/// `0x1f80/0xff80` as the ports it covers.
fn range(value: &str) -> String {
    let number = |text: &str| u16::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let covered = value.split_once('/').and_then(|(v, m)| {
        let (first, mask) = (number(v)?, number(m)?);
        // a run of ports only if the mask is one block of ones at the top
        ((!mask).wrapping_add(1) & !mask == 0).then(|| format!("{first}-{}", first | !mask))
    });
    covered.unwrap_or_else(|| value.to_owned())
}

/// `conj 2c91e07a 1/3`, `allow -> Commit`, `class 5 -> DstClass`, `drop`.
pub fn actions(instructions: &[Instruction]) -> String {
    if instructions.is_empty() {
        return "drop".to_owned();
    }
    let mut done = Vec::new();
    let mut goto = None;
    for i in instructions {
        match i {
            Instruction::ApplyActions(list) => done.extend(apply(list)),
            Instruction::GotoTable(table) => goto = Some(*table),
            other => {
                done.push(text::instructions(std::slice::from_ref(other), &Names::default()));
            }
        }
    }
    let done = done.join(", ");
    match goto {
        Some(t) if done.is_empty() => format!("-> {}", layout::table_name(t)),
        Some(t) => format!("{done} -> {}", layout::table_name(t)),
        None => done,
    }
}

fn apply(list: &[Action]) -> Vec<String> {
    let mut out = Vec::new();
    let mut conjunctions = Vec::new();
    for action in list {
        match action {
            Action::Conjunction { id, clause, n_clauses } => {
                conjunctions.push(format!("{id:08x} {}/{n_clauses}", u32::from(*clause) + 1));
            }
            other => out.push(one(other)),
        }
    }
    if !conjunctions.is_empty() {
        out.push(format!("conj {}", conjunctions.join(", ")));
    }
    out
}

fn one(action: &Action) -> String {
    match action {
        Action::RegLoad { dst: Field::Reg(reg), offset, bits, value } => {
            load(*reg, *offset, *bits, *value)
        }
        Action::Ct(ct) if !ct.commit && ct.actions.is_empty() => {
            let to = ct.table.map(|t| format!(" -> {}", layout::table_name(t)));
            format!("track in zone {}{}", ct.zone, to.unwrap_or_default())
        }
        Action::Ct(ct) if ct.commit && ct.table.is_none() => match &ct.actions[..] {
            [Action::RegLoad { dst: Field::CtMark, offset: 0, bits: 1, value }] => {
                (if *value == 1 { "mark as cut, drop" } else { "mark as live" }).to_owned()
            }
            [Action::RegMove { dst: Field::CtLabel, .. }, ..] => {
                "store with the ids of its rules".to_owned()
            }
            _ => text::action(action, &Names::default()),
        },
        Action::Output { port: port::NORMAL, .. } => "NORMAL".to_owned(),
        other => text::action(other, &Names::default()),
    }
}

fn load(reg: u8, offset: u8, bits: u8, value: u64) -> String {
    match (reg, offset, bits) {
        (layout::REG_SRC_CLASS | layout::REG_DST_CLASS, 0, 32) => format!("class {value}"),
        (layout::REG_EGRESS_RULE | layout::REG_INGRESS_RULE, 0, 32) => "allow".to_owned(),
        (0, ..) => {
            let mask = (1_u128 << bits.min(32)).saturating_sub(1) << offset.min(32);
            let value_there = u128::from(value) << offset.min(32);
            layout::REG0
                .iter()
                .find(|(m, v, _)| *m == mask && *v == value_there)
                .map_or_else(|| format!("reg0[{offset}]={value}"), |(.., word)| (*word).to_owned())
        }
        _ => format!("reg{reg}={value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(text: &str) -> (String, String) {
        let flow = text::parse_flow(text).unwrap();
        (matching(&flow.match_), actions(&flow.instructions))
    }

    #[test]
    fn flows_in_words() {
        for (text, match_, action) in [
            ("reg2=0x5 actions=conjunction(747757690,1/3)", "src=class 5", "conj 2c91e07a 1/3"),
            (
                "reg3=0x12 actions=conjunction(747757690,2/3),conjunction(1090117201,2/3)",
                "dst=class 18",
                "conj 2c91e07a 2/3, 40f9de51 2/3",
            ),
            ("tcp,tp_dst=5432 actions=conjunction(1,3/3)", "tcp dport 5432", "conj 00000001 3/3"),
            ("tcp6,tp_dst=0x20f8/0xfff8 actions=drop", "tcp6 dport 8440-8447", "drop"),
            (
                "conj_id=747757690 actions=load:0x2c91e07a->NXM_NX_REG5[],goto_table:80",
                "conj_id 2c91e07a",
                "allow -> Commit",
            ),
            (
                "ip,nw_dst=10.0.0.1 actions=load:0x12->NXM_NX_REG3[],load:0x1->NXM_NX_REG0[6],goto_table:40",
                "ip dst=10.0.0.1",
                "class 18, local -> EgressAdmin",
            ),
            ("ip actions=ct(table=25,zone=65520)", "ip", "track in zone 65520 -> ConntrackState"),
            (
                "ct_state=+est+trk,ip,reg3=0x12 actions=ct(commit,zone=65520,exec(load:0x1->NXM_NX_CT_MARK[0]))",
                "ct_state=+est+trk ip dst=class 18",
                "mark as cut, drop",
            ),
            ("ct_state=+rpl+trk,ct_mark=0x1/0x1 actions=drop", "ct_state=+rpl+trk cut", "drop"),
            (
                "ct_state=+est+trk,ct_mark=0x3/0x3 actions=drop",
                "ct_state=+est+trk cut unsure",
                "drop",
            ),
            (
                "udp,nw_frag=later actions=conjunction(1,3/3)",
                "udp later fragments",
                "conj 00000001 3/3",
            ),
            ("reg0=0x11/0x1f actions=goto_table:45", "from workload self", "-> EgressRule"),
            ("ip,reg0=0x1/0x1 actions=goto_table:40", "ip from this node", "-> EgressAdmin"),
            ("reg0=0x100/0x100 actions=goto_table:45", "reg0=0x100/0x100", "-> EgressRule"),
            ("actions=NORMAL", "any", "NORMAL"),
            ("in_port=3 actions=output:7", "in_port=3", "output:7"),
        ] {
            assert_eq!(flow(text), (match_.to_owned(), action.to_owned()), "{text}");
        }
    }

    #[test]
    fn ranges_are_ranges_only_where_masks_say_so() {
        assert_eq!(range("0x1f80/0xff80"), "8064-8191");
        assert_eq!(range("0x1/0x1"), "0x1/0x1");
        assert_eq!(range("80"), "80");
    }
}
