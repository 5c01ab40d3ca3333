//! Flows as a policy makes them: 3-clause conjunctions of 48 sources, 48 destinations and 3 ports, and the flow that
//! each ends in.

use std::net::Ipv4Addr;

use rust_openflow::{Action, Field, FlowMod, Instruction, Match};

/// 48 + 48 + 3 + 1.
const PER_CONJUNCTION: usize = 100;
const TABLE: u8 = 45;
const NEXT: u8 = 60;

/// One flow of the workload.
pub(crate) fn flow(n: usize) -> FlowMod {
    let conjunction = u32::try_from(n / PER_CONJUNCTION).expect("fewer flows");
    let id = 0x0100_0000 + conjunction;
    let k = u32::try_from(n % PER_CONJUNCTION).expect("below 100");
    let address = |net: u32, k: u32| Ipv4Addr::from(net + conjunction * 48 + k);
    let clause = |match_, clause| {
        let action = Action::Conjunction { id, clause, n_clauses: 3 };
        FlowMod::add(TABLE, 100, match_, [Instruction::ApplyActions(vec![action])])
    };
    let flow = match k {
        0..48 => clause(Match::ip().ipv4_src(address(0x0a00_0000, k), 32), 0),
        48..96 => clause(Match::ip().ipv4_dst(address(0x0a80_0000, k - 48), 32), 1),
        96..99 => {
            let port = 1024 + (conjunction * 3 + k - 96) % 64_000;
            clause(Match::tcp().with(Field::TcpDst, port.into()), 2)
        }
        _ => {
            let rule =
                Action::RegLoad { dst: Field::Reg(5), offset: 0, bits: 32, value: id.into() };
            let end = Match::ip().with(Field::ConjId, id.into());
            let then = [Instruction::ApplyActions(vec![rule]), Instruction::GotoTable(NEXT)];
            FlowMod::add(TABLE, 100, end, then)
        }
    };
    flow.with_cookie(0x5745_0000_0000_0000 | u64::from(id))
}

/// The first `count` flows.
pub(crate) fn flows(count: usize) -> Vec<FlowMod> {
    (0..count).map(flow).collect()
}
