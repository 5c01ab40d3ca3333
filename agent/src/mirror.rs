//! What is installed, as last acknowledged or read back, and how many flows that is by table and owner.
//!
//! The numbers are kept as flows come and go, so that telling them costs nothing however many flows there are. There are
//! few of them: tables times owners, whatever the policies.

use std::collections::BTreeMap;
use std::ops::Deref;

use crate::flow::{FlowKey, FlowTable, FlowValue};
use crate::pipeline::cookie::Cookie;
use crate::pipeline::table;

/// The owner of flows that are not ours, or of a layout of cookies that this version does not know.
pub const FOREIGN: &str = "foreign";
/// The table of flows in tables that are not ours.
const ELSEWHERE: &str = "other";

/// How many flows there are, by the name of the table and the owner. Nothing that is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts(BTreeMap<(&'static str, &'static str), usize>);

impl FlowCounts {
    /// Counts one by one.
    pub fn of(flows: &FlowTable) -> Self {
        let mut counts = Self::default();
        for (key, value) in flows {
            counts.add(key, value);
        }
        counts
    }

    /// Sorted: table, owner, number.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, usize)> {
        self.0.iter().map(|((table, owner), n)| (*table, *owner, *n))
    }

    fn add(&mut self, key: &FlowKey, value: &FlowValue) {
        *self.0.entry(place(key, value)).or_default() += 1;
    }

    fn remove(&mut self, key: &FlowKey, value: &FlowValue) {
        let place = place(key, value);
        if let Some(n) = self.0.get_mut(&place) {
            *n -= 1;
            if *n == 0 {
                self.0.remove(&place);
            }
        }
    }
}

fn place(key: &FlowKey, value: &FlowValue) -> (&'static str, &'static str) {
    let table = table::TABLES.iter().find(|(number, ..)| *number == key.table);
    let table = table.map_or(ELSEWHERE, |(_, name, _)| *name);
    (table, Cookie::read(value.cookie).map_or(FOREIGN, |c| c.kind.owner()))
}

/// The flows of the bridge, which can be read like any table.
#[derive(Debug, Default)]
pub struct Mirror {
    flows: FlowTable,
    counts: FlowCounts,
}

impl Mirror {
    /// As a dump shows it.
    pub fn new(flows: FlowTable) -> Self {
        Self { counts: FlowCounts::of(&flows), flows }
    }

    pub fn counts(&self) -> &FlowCounts {
        &self.counts
    }

    /// Puts a flow in the place of whatever has this key.
    pub fn insert(&mut self, key: FlowKey, value: FlowValue) {
        self.counts.add(&key, &value);
        if let Some(old) = self.flows.insert(key.clone(), value) {
            self.counts.remove(&key, &old);
        }
    }

    pub fn remove(&mut self, key: &FlowKey) {
        if let Some(old) = self.flows.remove(key) {
            self.counts.remove(key, &old);
        }
    }

    /// Knows nothing any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Deref for Mirror {
    type Target = FlowTable;

    fn deref(&self) -> &FlowTable {
        &self.flows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_openflow::Match;
    use weir_policy::rule::{Direction, Tier};

    use super::*;
    use crate::pipeline::cookie::{Kind, Stage};

    fn flow(table: u8, priority: u16, cookie: u64) -> (FlowKey, FlowValue) {
        let key = FlowKey { table, priority, match_: Match::new() };
        (key, FlowValue { cookie, instructions: Vec::new() })
    }

    fn cookie(kind: u8) -> u64 {
        let stage = Stage::new(Tier::NetworkPolicy, Direction::Ingress);
        match kind {
            0 => Cookie::base(3),
            1 => Cookie::encode(Kind::Allow, stage, 7),
            2 => Cookie::encode(Kind::Clause, stage, 0),
            3 => Cookie::encode(Kind::Isolation, stage, 9),
            4 => Cookie::encode(Kind::SpoofGuard, Stage::NONE, 0),
            // of nobody, and of a later layout
            5 => 0,
            _ => Cookie::base(0) ^ 1 << 48,
        }
    }

    proptest! {
        /// Whatever came and went, the numbers are those of a count.
        #[test]
        fn what_is_kept_is_what_a_count_gives(
            steps in prop::collection::vec((any::<bool>(), 0_u8..4, 0_u16..4, 0_u8..7), 0..200),
        ) {
            let mut mirror = Mirror::default();
            for (insert, table, priority, kind) in steps {
                let table = [table::CLASSIFIER, table::INGRESS_RULE, table::OUTPUT, 77][usize::from(table)];
                let (key, value) = flow(table, priority, cookie(kind));
                match insert {
                    true => mirror.insert(key, value),
                    false => mirror.remove(&key),
                }
                prop_assert_eq!(mirror.counts(), &FlowCounts::of(&mirror));
                let sum: usize = mirror.counts().iter().map(|(.., n)| n).sum();
                prop_assert_eq!(sum, mirror.len());
            }
        }
    }

    #[test]
    fn owners_have_the_names_that_tools_use() {
        let flows: FlowTable = (0..7).map(|n| flow(65, n.into(), cookie(n))).collect();
        let counts: Vec<_> = FlowCounts::of(&flows).iter().collect();
        assert_eq!(
            counts,
            [
                ("IngressRule", "base", 2),
                ("IngressRule", "clause", 1),
                ("IngressRule", "deny", 1),
                ("IngressRule", FOREIGN, 2),
                ("IngressRule", "rule", 1),
            ]
        );
    }
}
