//! The client against a real ovsdb-server and ovs-vswitchd with a dummy datapath, in a private folder.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

#[path = "ovs/churn.rs"]
mod churn;
#[path = "ovs/conditions.rs"]
mod conditions;
#[path = "ovs/locks.rs"]
mod locks;
#[path = "ovs/network.rs"]
mod network;
#[path = "ovs/refusals.rs"]
mod refusals;
#[path = "ovs/rig.rs"]
mod rig;
#[path = "ovs/writers.rs"]
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use weir_ovsdb::Error;
use weir_ovsdb::schema::Schema;
use weir_ovsdb::vswitch::SwitchState;

use crate::rig::{Ovs, SCHEMA, has_ofport, interface, until, until_dump, with_driver};

#[tokio::test]
async fn the_replica_is_what_a_dump_says() {
    let ovs = Ovs::start().await;
    let (vswitch, driver) = ovs.client();
    let mut watch = vswitch.watch();
    with_driver(driver, async {
        until(&mut watch, |_| true).await;
        ovs.bridge().await;
        for n in 1..=5 {
            ovs.vsctl(&format!(
                "add-port br0 p{n} -- set interface p{n} type=dummy external_ids:iface-id=pod{n} \
                 external_ids:attached-mac=aa:00:00:00:00:0{n} \
                 -- set port p{n} external_ids:pod-name=pod{n} tag={n}"
            ))
            .await;
        }
        let state = until(&mut watch, |state| (1..=5).all(|n| has_ofport(state, &format!("p{n}")))).await;
        let p3 = interface(&state, "p3").unwrap();
        assert_eq!(p3.external_ids["iface-id"], "pod3");
        assert!(p3.ofport.is_some_and(|ofport| ofport > 0));
        let (port, _) = state.interfaces_of("br0").find(|(port, _)| port.name == "p3").unwrap();
        assert_eq!((port.external_ids["pod-name"].as_str(), port.tag), ("pod3", Some(3)));
        assert_eq!(
            state.bridges["br0"].protocols,
            BTreeSet::from(["OpenFlow13".to_owned(), "OpenFlow14".to_owned()])
        );
        until_dump(&ovs, &mut watch).await;

        ovs.vsctl("remove interface p1 external_ids attached-mac -- set interface p1 external_ids:iface-id=other").await;
        ovs.vsctl("clear port p2 tag external_ids -- set bridge br0 protocols=OpenFlow13").await;
        ovs.vsctl("del-port p4").await;
        ovs.vsctl("del-port p5 -- add-port br0 p5 -- set interface p5 type=dummy").await;
        until_dump(&ovs, &mut watch).await;
        let state = watch.borrow().clone().unwrap();
        assert_eq!(
            interface(&state, "p1").unwrap().external_ids,
            BTreeMap::from([("iface-id".to_owned(), "other".to_owned())])
        );
        assert!(interface(&state, "p4").is_none());

        // a failure: ofport is -1 and not absent
        ovs.vsctl("--no-wait add-port br0 bad -- set interface bad type=nonsense").await;
        let failed = |state: &SwitchState| {
            interface(state, "bad").is_some_and(|interface| interface.ofport == Some(-1))
        };
        let state = until(&mut watch, failed).await;
        assert!(interface(&state, "bad").unwrap().error.is_some());
        until_dump(&ovs, &mut watch).await;
        ovs.vsctl("del-br br0").await;
        until_dump(&ovs, &mut watch).await;
        assert!(watch.borrow().as_ref().unwrap().interfaces.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_killed_server_is_found_again() {
    let mut ovs = Ovs::start().await;
    let (vswitch, driver) = ovs.client();
    let (mut watch, mut connected) = (vswitch.watch(), vswitch.connected());
    with_driver(driver, async {
        ovs.bridge().await;
        until_dump(&ovs, &mut watch).await;
        for round in 0..3 {
            connected.wait_for(|connected| *connected).await.unwrap();
            ovs.server = None;
            connected.wait_for(|connected| !connected).await.unwrap();
            assert!(matches!(vswitch.transact(vec![]).await, Err(Error::NotConnected)));
            assert!(watch.borrow().as_ref().unwrap().bridges.contains_key("br0"));
            ovs.start_server().await;
            ovs.vsctl(&format!("add-port br0 r{round} -- set interface r{round} type=dummy")).await;
            until(&mut watch, |state| has_ofport(state, &format!("r{round}"))).await;
            until_dump(&ovs, &mut watch).await;
        }
        assert_eq!(watch.borrow().as_ref().unwrap().interfaces.len(), 4);
    })
    .await;
}

#[tokio::test]
async fn names_show_in_dumps_and_other_tables_are_kept() {
    let ovs = Ovs::start().await;
    let (vswitch, driver) = ovs.client();
    let mut watch = vswitch.watch();
    let names = BTreeMap::from([
        (0, "Classify".to_owned()),
        (30, "SrcClass".to_owned()),
        (254, "Output".to_owned()),
    ]);
    with_driver(driver, async {
        ovs.bridge().await;
        // others': table 7; settings of table 30; one row for tables 0 and 8
        ovs.vsctl(
            "-- --id=@a create Flow_Table name=Others -- --id=@b create Flow_Table prefixes=ip_src \
             external_ids:k=v -- --id=@c create Flow_Table flow_limit=100000 overflow_policy=refuse \
             -- set Bridge br0 flow_tables:7=@a flow_tables:30=@b flow_tables:0=@c flow_tables:8=@c",
        )
        .await;
        until(&mut watch, |state| state.flow_tables.len() == 3).await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();
        let before = watch.borrow().clone().unwrap();
        vswitch.name_tables("br0", &names).await.unwrap();

        // the caller sees what it did
        let state = watch.borrow_and_update().clone().unwrap();
        let tables = &state.bridges["br0"].flow_tables;
        let named = |table: i64| &state.flow_tables[&tables[&table]];
        assert_eq!(tables.keys().copied().collect::<Vec<_>>(), [0, 7, 8, 30, 254]);
        assert_eq!(named(7).name.as_deref(), Some("Others"));
        assert_eq!(named(8).name, None);
        assert_eq!((named(0).name.as_deref(), named(0).flow_limit), (Some("Classify"), Some(100_000)));
        assert_eq!(named(0).overflow_policy.as_deref(), Some("refuse"));
        assert_eq!(tables[&30], before.bridges["br0"].flow_tables[&30]);
        assert_eq!(named(30).name.as_deref(), Some("SrcClass"));
        assert_eq!(named(30).prefixes, BTreeSet::from(["ip_src".to_owned()]));
        assert_eq!(named(30).external_ids["k"], "v");
        until_dump(&ovs, &mut watch).await;

        // ovs-vsctl waits for ovs-vswitchd, so the names are in force
        ovs.vsctl("set Bridge br0 other_config:x=y").await;
        let management = format!("unix:{}", ovs.path("br0.mgmt"));
        let ofctl = |args: &'static [&'static str]| {
            let (ovs, management) = (&ovs, management.clone());
            async move {
                let all: Vec<&str> = ["-O", "OpenFlow13", "--names", args[0], &management]
                    .into_iter()
                    .chain(args[1..].iter().copied())
                    .collect();
                ovs.run("ovs-ofctl", &all).await
            }
        };
        ofctl(&["add-flow", "table=SrcClass,priority=5 actions=drop"]).await;
        ofctl(&["add-flow", "table=0,priority=1 actions=goto_table:30"]).await;
        let flows = ofctl(&["dump-flows"]).await;
        for part in ["table=SrcClass", "table=Classify", "goto_table:SrcClass"] {
            assert!(flows.contains(part), "{part} is not in\n{flows}");
        }

        // again: nothing changes, not even the log of transactions
        let log = fs::metadata(ovs.path("conf.db")).unwrap().len();
        vswitch.name_tables("br0", &names).await.unwrap();
        assert_eq!(fs::metadata(ovs.path("conf.db")).unwrap().len(), log);

        // a bridge without any settings of tables
        ovs.vsctl("add-br br1 -- set bridge br1 datapath_type=dummy").await;
        until(&mut watch, |state| state.bridges.contains_key("br1")).await;
        vswitch.name_tables("br1", &names).await.unwrap();
        until_dump(&ovs, &mut watch).await;
        assert_eq!(watch.borrow().as_ref().unwrap().bridges["br1"].flow_tables.len(), 3);

        let renamed = BTreeMap::from([(30, "Source".to_owned())]);
        vswitch.name_tables("br0", &renamed).await.unwrap();
        until_dump(&ovs, &mut watch).await;
    })
    .await;
}

#[test]
fn the_installed_schema_is_read() {
    let text = fs::read_to_string(SCHEMA)
        .unwrap_or_else(|error| panic!("{SCHEMA} ({error}): these tests need Open vSwitch"));
    let schema = Schema::parse(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(schema.name, "Open_vSwitch");
    assert!(schema.tables["Bridge"].columns["ports"].is_composite());
    assert!(!schema.tables["Interface"].columns["ofport"].is_composite());
}
