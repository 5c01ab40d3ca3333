//! The picture of a switch, and how it is drawn from a replica.
//!
//! Source of the columns' meaning: ovs-vswitchd.conf.db(5).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::client::{Shape, TableRequest};
use crate::replica::{Changes, Replica, RowChange, RowRef};
use crate::schema::AtomicType;
use crate::value::Uuid;
use crate::vswitch::Rows;

/// One consistent picture of a switch: all rows are of the same moment between two transactions, or of a few
/// consecutive ones.
///
/// Shared as `Arc<SwitchState>`; a picture never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SwitchState {
    /// The row of table `Open_vSwitch`; all default, with a nil UUID, before `ovs-vsctl init`.
    pub system: SystemRow,
    /// Bridges by name.
    pub bridges: BTreeMap<String, BridgeRow>,
    /// Ports of all bridges.
    pub ports: Rows<PortRow>,
    /// Interfaces of all ports.
    pub interfaces: Rows<InterfaceRow>,
    /// Settings of flow tables, see [`BridgeRow::flow_tables`].
    pub flow_tables: Rows<FlowTableRow>,
}

/// The row of table `Open_vSwitch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SystemRow {
    /// The row.
    pub uuid: Uuid,
    /// The version, for instance `3.1.0`; empty before ovs-vswitchd first ran.
    pub ovs_version: String,
    /// The last `next_cfg` that ovs-vswitchd has put into effect.
    pub cur_cfg: i64,
    /// Counted up by whoever changes the configuration and waits for `cur_cfg`.
    pub next_cfg: i64,
    /// Its bridges.
    pub bridges: BTreeSet<Uuid>,
    /// Settings.
    pub other_config: BTreeMap<String, String>,
    /// Keys of other programs, such as `system-id`.
    pub external_ids: BTreeMap<String, String>,
}

/// A row of table `Bridge`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BridgeRow {
    /// The row.
    pub uuid: Uuid,
    /// The name, unique.
    pub name: String,
    /// 16 hexadecimal digits; `None` before ovs-vswitchd made the bridge.
    pub datapath_id: Option<String>,
    /// `system` (or empty), `netdev`, `dummy`.
    pub datapath_type: String,
    /// `secure` or `standalone`.
    pub fail_mode: Option<String>,
    /// OpenFlow versions, for instance `OpenFlow13`; empty is OVS's default.
    pub protocols: BTreeSet<String>,
    /// Its ports.
    pub ports: BTreeSet<Uuid>,
    /// Settings of flow tables by table number.
    pub flow_tables: BTreeMap<i64, Uuid>,
    /// Settings.
    pub other_config: BTreeMap<String, String>,
    /// Keys of other programs.
    pub external_ids: BTreeMap<String, String>,
}

/// A row of table `Port`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PortRow {
    /// The row.
    pub uuid: Uuid,
    /// The name, unique within a bridge.
    pub name: String,
    /// One, or several for a bond.
    pub interfaces: BTreeSet<Uuid>,
    /// The access VLAN, or the native one.
    pub tag: Option<i64>,
    /// `access`, `trunk`, `native-tagged`, `native-untagged` or `dot1q-tunnel`. None: `access` with a `tag`, else `trunk`.
    pub vlan_mode: Option<String>,
    /// The VLANs of a trunk. Empty: all.
    pub trunks: BTreeSet<i64>,
    /// `active`, `passive` or `off`. None: `off`.
    pub lacp: Option<String>,
    /// The MAC address of the member of a bond that is the active one.
    pub bond_active_slave: Option<String>,
    /// Keys of other programs; pod networks put `container-id`, `pod-name` and others here.
    pub external_ids: BTreeMap<String, String>,
}

/// A row of table `Interface`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InterfaceRow {
    /// The row; a new one when the name is deleted and added again, even in one transaction.
    pub uuid: Uuid,
    /// The name, unique.
    pub name: String,
    /// `internal`, `patch`, `vxlan`, ...; empty is `system`.
    pub type_: String,
    /// The OpenFlow port. `None` until ovs-vswitchd looked at it, **-1 after a failure** (see `error`), and it may
    /// change while the row lives.
    pub ofport: Option<i64>,
    /// The OpenFlow port that was asked for.
    pub ofport_request: Option<i64>,
    /// Keys of other programs; OVN, libvirt and NSX put `iface-id`, `attached-mac` and others here.
    pub external_ids: BTreeMap<String, String>,
    /// Options of the type.
    pub options: BTreeMap<String, String>,
    /// Why it could not be opened.
    pub error: Option<String>,
    /// The address in use.
    pub mac_in_use: Option<String>,
    /// `up` or `down`.
    pub admin_state: Option<String>,
    /// `up` or `down`.
    pub link_state: Option<String>,
    /// The kernel's number.
    pub ifindex: Option<i64>,
    /// Units: bytes.
    pub mtu: Option<i64>,
}

/// A row of table `Flow_Table`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FlowTableRow {
    /// The row.
    pub uuid: Uuid,
    /// The table's name.
    pub name: Option<String>,
    /// The most flows it takes.
    pub flow_limit: Option<i64>,
    /// What happens beyond `flow_limit`: `refuse` or `evict`.
    pub overflow_policy: Option<String>,
    /// Fields that flows are grouped by for eviction.
    pub groups: BTreeSet<String>,
    /// Fields with prefix tracking.
    pub prefixes: BTreeSet<String>,
    /// Keys of other programs.
    pub external_ids: BTreeMap<String, String>,
}

impl SwitchState {
    /// The ports of a bridge with their interfaces, in the order of their UUIDs; none for an unknown bridge.
    pub fn interfaces_of<'a>(
        &'a self,
        bridge: &str,
    ) -> impl Iterator<Item = (&'a PortRow, &'a InterfaceRow)> + use<'a> {
        self.bridges
            .get(bridge)
            .into_iter()
            .flat_map(|bridge| &bridge.ports)
            .filter_map(|port| self.ports.get(port))
            .flat_map(move |port| {
                port.interfaces
                    .iter()
                    .filter_map(move |uuid| Some((port, self.interfaces.get(uuid)?)))
            })
    }

    /// Draws a replica; what it does not have reads as its default.
    pub fn of(replica: &Replica) -> Self {
        let mut state = Self::default();
        for (_, row) in replica.rows("Open_vSwitch") {
            state.system = SystemRow::of(row);
        }
        for (_, row) in replica.rows("Bridge") {
            let row = BridgeRow::of(row);
            state.bridges.insert(row.name.clone(), row);
        }
        state.ports = replica.rows("Port").map(|(uuid, row)| (uuid, PortRow::of(row))).collect();
        state.interfaces =
            replica.rows("Interface").map(|(uuid, row)| (uuid, InterfaceRow::of(row))).collect();
        state.flow_tables =
            replica.rows("Flow_Table").map(|(uuid, row)| (uuid, FlowTableRow::of(row))).collect();
        state
    }

    /// Draws the changed rows again, so that the picture is as [`SwitchState::of`] would draw it.
    pub fn follow(&mut self, replica: &Replica, changes: &Changes) {
        for (table, rows) in changes.tables() {
            match table {
                "Open_vSwitch" => {
                    self.system = replica
                        .rows(table)
                        .map(|(_, row)| SystemRow::of(row))
                        .last()
                        .unwrap_or_default();
                }
                // few, and keyed by a name that a removed row no longer tells
                "Bridge" => {
                    self.bridges = replica
                        .rows(table)
                        .map(|(_, row)| BridgeRow::of(row))
                        .map(|row| (row.name.clone(), row))
                        .collect();
                }
                "Port" => redraw(&mut self.ports, replica, table, rows, PortRow::of),
                "Interface" => redraw(&mut self.interfaces, replica, table, rows, InterfaceRow::of),
                "Flow_Table" => {
                    redraw(&mut self.flow_tables, replica, table, rows, FlowTableRow::of)
                }
                _ => {}
            }
        }
    }
}

fn redraw<T>(
    drawn: &mut Rows<T>,
    replica: &Replica,
    table: &str,
    rows: &BTreeMap<Uuid, RowChange>,
    of: fn(RowRef<'_>) -> T,
) {
    for uuid in rows.keys() {
        match replica.row(table, *uuid) {
            Some(row) => drawn.insert(*uuid, of(row)),
            None => drop(drawn.remove(uuid)),
        }
    }
}

impl SystemRow {
    fn of(row: RowRef<'_>) -> Self {
        Self {
            uuid: row.uuid(),
            ovs_version: row.string("ovs_version"),
            cur_cfg: row.integer("cur_cfg"),
            next_cfg: row.integer("next_cfg"),
            bridges: row.uuid_set("bridges"),
            other_config: row.string_map("other_config"),
            external_ids: row.string_map("external_ids"),
        }
    }
}

impl BridgeRow {
    fn of(row: RowRef<'_>) -> Self {
        Self {
            uuid: row.uuid(),
            name: row.string("name"),
            datapath_id: row.optional_string("datapath_id"),
            datapath_type: row.string("datapath_type"),
            fail_mode: row.optional_string("fail_mode"),
            protocols: row.string_set("protocols"),
            ports: row.uuid_set("ports"),
            flow_tables: row.integer_to_uuid("flow_tables"),
            other_config: row.string_map("other_config"),
            external_ids: row.string_map("external_ids"),
        }
    }
}

impl PortRow {
    fn of(row: RowRef<'_>) -> Self {
        Self {
            uuid: row.uuid(),
            name: row.string("name"),
            interfaces: row.uuid_set("interfaces"),
            tag: row.optional_integer("tag"),
            vlan_mode: row.optional_string("vlan_mode"),
            trunks: row.integer_set("trunks"),
            lacp: row.optional_string("lacp"),
            bond_active_slave: row.optional_string("bond_active_slave"),
            external_ids: row.string_map("external_ids"),
        }
    }
}

impl InterfaceRow {
    fn of(row: RowRef<'_>) -> Self {
        Self {
            uuid: row.uuid(),
            name: row.string("name"),
            type_: row.string("type"),
            ofport: row.optional_integer("ofport"),
            ofport_request: row.optional_integer("ofport_request"),
            external_ids: row.string_map("external_ids"),
            options: row.string_map("options"),
            error: row.optional_string("error"),
            mac_in_use: row.optional_string("mac_in_use"),
            admin_state: row.optional_string("admin_state"),
            link_state: row.optional_string("link_state"),
            ifindex: row.optional_integer("ifindex"),
            mtu: row.optional_integer("mtu"),
        }
    }
}

impl FlowTableRow {
    fn of(row: RowRef<'_>) -> Self {
        Self {
            uuid: row.uuid(),
            name: row.optional_string("name"),
            flow_limit: row.optional_integer("flow_limit"),
            overflow_policy: row.optional_string("overflow_policy"),
            groups: row.string_set("groups"),
            prefixes: row.string_set("prefixes"),
            external_ids: row.string_map("external_ids"),
        }
    }
}

/// What to monitor for a [`SwitchState`]. Never statistics or status: they change every five seconds.
pub fn tables() -> Vec<TableRequest> {
    const INTEGER: Shape = Shape::Set(AtomicType::Integer);
    const STRING: Shape = Shape::Set(AtomicType::String);
    const UUID: Shape = Shape::Set(AtomicType::Uuid);
    const STRINGS: Shape = Shape::Map(AtomicType::String, AtomicType::String);
    const TABLE_ROWS: Shape = Shape::Map(AtomicType::Integer, AtomicType::Uuid);
    vec![
        TableRequest::required(
            "Open_vSwitch",
            &[
                ("ovs_version", STRING),
                ("cur_cfg", INTEGER),
                ("next_cfg", INTEGER),
                ("bridges", UUID),
                ("other_config", STRINGS),
                ("external_ids", STRINGS),
            ],
        ),
        TableRequest::required(
            "Bridge",
            &[
                ("name", STRING),
                ("datapath_id", STRING),
                ("datapath_type", STRING),
                ("fail_mode", STRING),
                ("protocols", STRING),
                ("ports", UUID),
                ("flow_tables", TABLE_ROWS),
                ("other_config", STRINGS),
                ("external_ids", STRINGS),
            ],
        ),
        TableRequest::required(
            "Port",
            &[
                ("name", STRING),
                ("interfaces", UUID),
                ("tag", INTEGER),
                ("vlan_mode", STRING),
                ("trunks", INTEGER),
                ("lacp", STRING),
                ("bond_active_slave", STRING),
                ("external_ids", STRINGS),
            ],
        ),
        TableRequest::required(
            "Interface",
            &[
                ("name", STRING),
                ("type", STRING),
                ("ofport", INTEGER),
                ("ofport_request", INTEGER),
                ("external_ids", STRINGS),
                ("options", STRINGS),
                ("error", STRING),
                ("mac_in_use", STRING),
                ("admin_state", STRING),
                ("link_state", STRING),
                ("ifindex", INTEGER),
                ("mtu", INTEGER),
            ],
        ),
        TableRequest::optional(
            "Flow_Table",
            &[
                ("name", STRING),
                ("flow_limit", INTEGER),
                ("overflow_policy", STRING),
                ("groups", STRING),
                ("prefixes", STRING),
                ("external_ids", STRINGS),
            ],
        ),
    ]
}
