//! How a port takes part in switching: its VLANs, and the bond it belongs to. `NORMAL` minds this by itself; an `output`
//! action does not, so lists of ports must.
//!
//! Source: ovs-vswitchd.conf.db(5), table Port, `vlan_mode`, `tag`, `trunks`, `lacp`, `bond_active_slave`.

use std::collections::{BTreeMap, BTreeSet};

use weir_ovsdb::vswitch::{InterfaceRow, PortRow};

/// How frames enter and leave by a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switching {
    pub vlans: Vlans,
    /// None: the port is its only member.
    pub bond: Option<Bond>,
}

/// The VLANs of a port. The default is a trunk of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// What comes without a tag is on this VLAN; 0 is what belongs to none. None: such frames are not taken.
    pub untagged: Option<u16>,
    /// That VLAN leaves with its tag all the same.
    pub native_tagged: bool,
    /// What is on no VLAN leaves.
    pub bare: bool,
    /// What may come and go with a tag.
    pub tagged: Tagged,
}

/// Which tags a port takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tagged {
    All,
    /// Units: VLAN id, 1 to 4095. Empty: none.
    Only(BTreeSet<u16>),
}

/// How a frame of one VLAN leaves by a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    Untagged,
    Tagged,
}

/// One member of a bond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bond {
    /// The other members, by OpenFlow port: nothing that came by one of them goes out by another.
    pub others: BTreeSet<u32>,
    /// It is the one that frames for many leave by.
    pub sends: bool,
    /// Frames for many that come by it count. The switch at the other end sends them to each member, unless LACP tells
    /// it that the members are one.
    pub receives: bool,
}

impl Default for Vlans {
    fn default() -> Self {
        Self { untagged: Some(0), native_tagged: false, bare: true, tagged: Tagged::All }
    }
}

impl Tagged {
    fn has(&self, vlan: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only(vlans) => vlans.contains(&vlan),
        }
    }
}

impl Vlans {
    /// What OVS makes of the columns. A port with `dot1q-tunnel` takes part in nothing here: what it carries are frames
    /// within frames.
    pub fn of(port: &PortRow) -> Self {
        let id = |v: i64| u16::try_from(v).ok().filter(|v| *v <= 4095);
        let tag = port.tag.and_then(id);
        let trunks: BTreeSet<u16> = port.trunks.iter().filter_map(|v| id(*v)).collect();
        let native = tag.unwrap_or(0);
        let default = if tag.is_some() { "access" } else { "trunk" };
        let bare = trunks.is_empty() || trunks.contains(&0);
        let none = Self {
            untagged: None,
            native_tagged: false,
            bare: false,
            tagged: Tagged::Only(BTreeSet::new()),
        };
        let named = || trunks.iter().copied().filter(|v| *v != 0);
        match port.vlan_mode.as_deref().unwrap_or(default) {
            "access" => Self { untagged: Some(native), bare: native == 0, ..none },
            mode @ ("native-tagged" | "native-untagged") => Self {
                untagged: Some(native),
                native_tagged: mode == "native-tagged" && native != 0,
                bare: native == 0 && bare,
                tagged: if trunks.is_empty() {
                    Tagged::All
                } else {
                    Tagged::Only(named().chain((native != 0).then_some(native)).collect())
                },
            },
            "dot1q-tunnel" => none,
            _ if trunks.is_empty() => Self::default(),
            _ => Self {
                untagged: bare.then_some(0),
                bare,
                tagged: Tagged::Only(named().collect()),
                ..none
            },
        }
    }

    /// Whether and how a frame of this VLAN leaves; 0 is a frame of none.
    pub fn leaves(&self, vlan: u16) -> Option<Leaves> {
        if vlan == 0 {
            return self.bare.then_some(Leaves::Untagged);
        }
        if self.untagged == Some(vlan) {
            return Some(if self.native_tagged { Leaves::Tagged } else { Leaves::Untagged });
        }
        self.tagged.has(vlan).then_some(Leaves::Tagged)
    }

    /// The VLANs that it names.
    pub fn named(&self) -> impl Iterator<Item = u16> {
        let only = match &self.tagged {
            Tagged::All => None,
            Tagged::Only(vlans) => Some(vlans),
        };
        only.into_iter().flatten().copied().chain(self.untagged).filter(|v| *v != 0)
    }
}

/// The members of a port by number, each as part of the bond. A single one is no bond.
pub fn bond(port: &PortRow, members: &BTreeMap<u32, &InterfaceRow>) -> BTreeMap<u32, Bond> {
    if members.len() < 2 {
        return BTreeMap::new();
    }
    let active = |i: &&InterfaceRow| {
        let mac = port.bond_active_slave.as_deref();
        mac.is_some_and(|mac| i.mac_in_use.as_deref().is_some_and(|m| m.eq_ignore_ascii_case(mac)))
    };
    let up = |i: &&InterfaceRow| i.link_state.as_deref() == Some("up");
    let first = |wanted: &dyn Fn(&&InterfaceRow) -> bool| {
        members.iter().find(|(_, i)| wanted(i)).map(|(number, _)| *number)
    };
    let sender = first(&active).or_else(|| first(&up)).or_else(|| first(&|_| true));
    let one = matches!(port.lacp.as_deref(), Some("active" | "passive"));
    let member = |number: u32| {
        let sends = Some(number) == sender;
        let others = members.keys().copied().filter(|n| *n != number).collect();
        (number, Bond { others, sends, receives: sends || one })
    };
    members.keys().copied().map(member).collect()
}
