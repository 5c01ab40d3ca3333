//! Where IP multicast and broadcast go.

use std::collections::{BTreeMap, BTreeSet};

use rust_openflow::{Action, Field, Match};

use super::cookie::Cookie;
use super::{FlowPair, base, families, flow, table};
use crate::ports::switching::{Leaves, Switching, Tagged};

/// The Ethernet type of a VLAN tag.
const ETH_P_8021Q: u16 = 0x8100;

/// How a frame came.
#[derive(Clone, Copy)]
enum Came {
    /// Without a tag, on a port whose untagged frames are on this VLAN; 0 is none.
    Untagged(u16),
    /// With a tag that only says a priority: as without one.
    Priority(u16),
    Tagged(u16),
    /// With a tag that no port names.
    Other,
}

/// IP multicast and broadcast reach only these ports: the node's, the uplinks, and workloads that let everything in.
/// `NORMAL` would flood them into isolated workloads too. Neighbour discovery does not come this way.
///
/// `switching`: the ports of the bridge, open or not, that are something else than a trunk of all VLANs by themselves.
pub fn flows(open: &[u32], switching: &BTreeMap<u32, Switching>) -> Vec<FlowPair> {
    let lists = Lists { open, switching };
    let named: BTreeSet<u16> = switching.values().flat_map(|s| s.vlans.named()).collect();
    let nobody = BTreeSet::new();
    let mut out = Vec::new();
    for family in families() {
        let any = family.with_masked(Field::EthDst, base::GROUP_BIT, base::GROUP_BIT);
        let mut add = |priority, m, actions| {
            out.push(flow(table::FORWARD, priority, m, Cookie::base(0), actions, None));
        };
        add(190, any.clone(), lists.actions(Came::Other, &nobody));
        if !switching.is_empty() {
            for (m, came) in untagged(&any, 0) {
                add(191, m, lists.actions(came, &nobody));
            }
        }
        for vlan in &named {
            add(192, tagged(&any, *vlan), lists.actions(Came::Tagged(*vlan), &nobody));
        }
        for (number, port) in switching {
            let here = any.clone().with(Field::InPort, u128::from(*number));
            let others = port.bond.as_ref().map_or(&nobody, |b| &b.others);
            if port.bond.as_ref().is_some_and(|b| !b.receives) {
                add(195, here, Vec::new());
                continue;
            }
            if let Some(vlan) = port.vlans.untagged {
                for (m, came) in untagged(&here, vlan) {
                    add(196, m, lists.actions(came, others));
                }
            }
            // the rest comes as on any other port, or not at all
            let (own, rest) = match &port.vlans.tagged {
                Tagged::Only(vlans) => (vlans, Vec::new()),
                Tagged::All if port.bond.is_some() => (&named, lists.actions(Came::Other, others)),
                Tagged::All => continue,
            };
            for vlan in own {
                add(196, tagged(&here, *vlan), lists.actions(Came::Tagged(*vlan), others));
            }
            add(195, here, rest);
        }
    }
    out
}

/// The two kinds of frames that are on a port's untagged VLAN.
fn untagged(m: &Match, vlan: u16) -> [(Match, Came); 2] {
    [
        (m.clone().with(Field::VlanVid, 0), Came::Untagged(vlan)),
        (m.clone().with(Field::VlanVid, base::VLAN_PRESENT), Came::Priority(vlan)),
    ]
}

fn tagged(m: &Match, vlan: u16) -> Match {
    m.clone().with(Field::VlanVid, u128::from(vlan) | base::VLAN_PRESENT)
}

struct Lists<'a> {
    open: &'a [u32],
    switching: &'a BTreeMap<u32, Switching>,
}

impl Lists<'_> {
    /// Out of every open port that carries the VLAN, but for those of `others`; each with the tag it wants.
    fn actions(&self, came: Came, others: &BTreeSet<u32>) -> Vec<Action> {
        let (mut bare, mut with_tag) = (Vec::new(), Vec::new());
        for port in self.open {
            match self.leaves(*port, came) {
                Some(_) if others.contains(port) => {}
                Some(Leaves::Untagged) => bare.push(Action::Output { port: *port, max_len: 0 }),
                Some(Leaves::Tagged) => with_tag.push(Action::Output { port: *port, max_len: 0 }),
                None => {}
            }
        }
        let mut actions = Vec::new();
        match came {
            Came::Untagged(vlan) | Came::Priority(vlan) => {
                if matches!(came, Came::Priority(_)) && !(bare.is_empty() && with_tag.is_empty()) {
                    actions.push(Action::PopVlan);
                }
                actions.append(&mut bare);
                if !with_tag.is_empty() {
                    actions.push(Action::PushVlan(ETH_P_8021Q));
                    let vid = u128::from(vlan) | base::VLAN_PRESENT;
                    actions.push(Action::set_field(Field::VlanVid, vid));
                    actions.append(&mut with_tag);
                }
            }
            Came::Tagged(_) | Came::Other => {
                actions.append(&mut with_tag);
                if !bare.is_empty() {
                    actions.push(Action::PopVlan);
                    actions.append(&mut bare);
                }
            }
        }
        actions
    }

    fn leaves(&self, port: u32, came: Came) -> Option<Leaves> {
        // as it came: also where nothing on this bridge knows of VLANs
        let Some(port) = self.switching.get(&port) else {
            return Some(match came {
                Came::Untagged(0) | Came::Priority(0) => Leaves::Untagged,
                _ => Leaves::Tagged,
            });
        };
        if port.bond.as_ref().is_some_and(|b| !b.sends) {
            return None;
        }
        match came {
            Came::Untagged(vlan) | Came::Priority(vlan) | Came::Tagged(vlan) => {
                port.vlans.leaves(vlan)
            }
            Came::Other => matches!(port.vlans.tagged, Tagged::All).then_some(Leaves::Tagged),
        }
    }
}
