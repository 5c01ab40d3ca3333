//! Two programs that write the same rows at the same time.

use std::collections::BTreeMap;

use weir_ovsdb::op::{Mutation, Operation, Row};
use weir_ovsdb::vswitch::Vswitch;
use weir_ovsdb::{Error, Uuid, Value};

use crate::rig::{Ovs, has_ofport, until, until_dump, with_drivers};

/// Changes of each writer.
const ROUNDS: usize = 60;

#[tokio::test]
async fn neither_of_two_writers_loses_a_key() {
    let ovs = Ovs::start().await;
    let (first, first_driver) = ovs.client();
    let (second, second_driver) = ovs.client();
    let mut watch = first.watch();
    with_drivers([first_driver, second_driver], async {
        ovs.bridge().await;
        let state = until(&mut watch, |state| has_ofport(state, "br0")).await;
        for vswitch in [&first, &second] {
            until(&mut vswitch.watch(), |state| has_ofport(state, "br0")).await;
            vswitch.connected().wait_for(|connected| *connected).await.unwrap();
        }
        let bridge = state.bridges["br0"].uuid;
        let interface = crate::rig::interface(&state, "br0").unwrap().uuid;
        tokio::join!(
            keys(&first, interface, "a"),
            keys(&second, interface, "b"),
            names(&first, "Left", 1),
            names(&second, "Right", 101),
            count(&first, bridge),
            count(&second, bridge),
        );
        let state = until(&mut watch, |state| {
            let keys = &crate::rig::interface(state, "br0").unwrap().external_ids;
            counted(&state.bridges["br0"].other_config) == 2 * ROUNDS
                && state.bridges["br0"].flow_tables.len() == 2 * ROUNDS
                && keys.len() == ROUNDS + 2
        })
        .await;
        let keys = &state.interfaces[&interface].external_ids;
        for writer in ["a", "b"] {
            // odd ones were removed again, and each counted itself
            for round in (0..ROUNDS).step_by(2) {
                assert_eq!(keys[&format!("{writer}{round}")], format!("{round}"));
            }
            assert_eq!(keys[writer], (ROUNDS - 1).to_string());
        }
        for n in 0..ROUNDS {
            for (name, base) in [("Left", 1), ("Right", 101)] {
                let table = i64::try_from(base + n).unwrap();
                let row = &state.flow_tables[&state.bridges["br0"].flow_tables[&table]];
                assert_eq!(row.name.as_deref(), Some(format!("{name}{n}").as_str()));
            }
        }
        until_dump(&ovs, &mut watch).await;
        // a row that is gone
        assert!(
            !first
                .set_keys("Interface", Uuid::from_u128(7), "external_ids", &[("k", "v")], &[])
                .await
                .unwrap()
        );
    })
    .await;
}

async fn keys(vswitch: &Vswitch, interface: Uuid, writer: &str) {
    for round in 0..ROUNDS {
        let (text, own) = (round.to_string(), format!("{writer}{round}"));
        let put = [(own.as_str(), text.as_str()), (writer, text.as_str())];
        assert!(vswitch.set_keys("Interface", interface, "external_ids", &put, &[]).await.unwrap());
        if round % 2 == 1 {
            assert!(
                vswitch
                    .set_keys("Interface", interface, "external_ids", &[], &[&own])
                    .await
                    .unwrap()
            );
        }
    }
}

/// Each name is a transaction with a `wait` on the whole map, so the two get into each other's way.
async fn names(vswitch: &Vswitch, name: &str, base: usize) {
    for n in 0..ROUNDS {
        let table = u8::try_from(base + n).unwrap();
        let names = BTreeMap::from([(table, format!("{name}{n}"))]);
        loop {
            match vswitch.name_tables("br0", &names).await {
                Ok(()) => break,
                // fairness is not promised: a caller that insists asks again
                Err(Error::Contended { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A counter kept as text, which no mutation can count up.
async fn count(vswitch: &Vswitch, bridge: Uuid) {
    for _ in 0..ROUNDS {
        let once = || {
            vswitch.optimistic("Bridge.other_config", |state| {
                let config = &state.bridges["br0"].other_config;
                let next = (counted(config) + 1).to_string();
                let as_seen = Value::map(config.iter().map(|(k, v)| (k.as_str(), v.as_str())));
                Ok(vec![
                    Operation::unchanged(
                        "Bridge",
                        bridge,
                        Row::from([("other_config".into(), as_seen)]),
                    ),
                    Operation::mutate(
                        "Bridge",
                        bridge,
                        Mutation::put("other_config", [("count", next)]),
                    ),
                ])
            })
        };
        loop {
            match once().await {
                Ok(_) => break,
                Err(Error::Contended { what, .. }) => assert_eq!(what, "Bridge.other_config"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn counted(config: &BTreeMap<String, String>) -> usize {
    config.get("count").map_or(0, |count| count.parse().unwrap())
}
