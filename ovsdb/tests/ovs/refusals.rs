//! Every operation, and every way in which a server refuses one.

use std::time::Duration;

use serde_json::json;
use weir_ovsdb::op::{Condition, Function, Mutation, Mutator, Operation, Outcome, Row};
use weir_ovsdb::{Error, Refusal, Uuid, Value};

use crate::rig::{Ovs, PATIENCE, add_port, has_ofport, until, until_dump, with_driver};

fn row<const N: usize>(pairs: [(&str, Value); N]) -> Row {
    pairs.into_iter().map(|(column, value)| (column.to_owned(), value)).collect()
}

#[tokio::test]
async fn every_operation() {
    let ovs = Ovs::start().await;
    let (vswitch, driver) = ovs.client();
    let mut watch = vswitch.watch();
    with_driver(driver, async {
        ovs.bridge().await;
        let state = until(&mut watch, |state| has_ofport(state, "br0")).await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();
        let bridge = state.bridges["br0"].uuid;
        let schema = vswitch.client().schema().await.unwrap();

        // insert, mutate, comment, commit; and what ovs-vswitchd makes of it
        let mut operations = add_port(bridge, "p1", 1).to_vec();
        operations.push(Operation::Comment("a port".into()));
        operations.push(Operation::Commit { durable: true });
        let outcomes = vswitch.configure(operations, PATIENCE).await.unwrap();
        assert_eq!(outcomes.len(), 5);
        let interface = outcomes[0].uuid().unwrap();
        assert_eq!(
            (outcomes[2].count(), &outcomes[3], &outcomes[4]),
            (Some(1), &Outcome::Done, &Outcome::Done)
        );
        let state = watch.borrow_and_update().clone().unwrap();
        assert!(state.bridges["br0"].ports.contains(&outcomes[1].uuid().unwrap()));
        assert!(state.interfaces[&interface].ofport.is_some_and(|ofport| ofport > 0));
        assert!(state.system.cur_cfg >= state.system.next_cfg);
        assert!(state.system.bridges.contains(&bridge));

        // update, select with typed rows
        let outcomes = vswitch
            .transact(vec![
                Operation::update(
                    "Interface",
                    interface,
                    row([("ofport_request", Value::from(77))]),
                ),
                Operation::select(
                    "Interface",
                    Condition::eq("name", "p1"),
                    &["_uuid", "name", "ofport_request"],
                ),
                Operation::select("Interface", (), &["name"]),
            ])
            .await
            .unwrap();
        let expected = row([("name", "p1".into()), ("ofport_request", 77.into())]);
        let table = &schema.tables["Interface"];
        assert_eq!(outcomes[0].count(), Some(1));
        assert_eq!(outcomes[1].read(table).unwrap(), [(Some(interface), expected)]);
        assert_eq!(outcomes[2].rows().len(), 2);

        // every comparison and every mutation, on a map's number
        let number = |mutator, value: i64| {
            Operation::mutate(
                "Interface",
                interface,
                [Mutation { column: "ofport_request".into(), mutator, value: value.into() }],
            )
        };
        let found = |function, value: i64| Operation::Select {
            table: "Interface".into(),
            conditions: vec![Condition {
                column: "ofport_request".into(),
                function,
                value: value.into(),
            }],
            columns: Some(vec!["name".into()]),
        };
        let outcomes = vswitch
            .transact(vec![
                number(Mutator::Add, 3),
                number(Mutator::Multiply, 10),
                number(Mutator::Subtract, 20),
                number(Mutator::Divide, 6),
                number(Mutator::Modulo, 100),
                found(Function::Equal, 30),
                found(Function::NotEqual, 30),
                found(Function::Less, 31),
                found(Function::LessOrEqual, 29),
                found(Function::Greater, 29),
                found(Function::GreaterOrEqual, 31),
                found(Function::Includes, 30),
                found(Function::Excludes, 30),
            ])
            .await
            .unwrap();
        // 77 -> 80 -> 800 -> 780 -> 130 -> 30; the bridge's own interface asks for no number
        let rows: Vec<usize> = outcomes[5..].iter().map(|outcome| outcome.rows().len()).collect();
        assert_eq!(rows, [1, 1, 1, 0, 1, 0, 1, 1]);

        // a wait that holds, on several columns; and one that holds only later
        let unchanged = Operation::unchanged(
            "Interface",
            interface,
            row([("name", "p1".into()), ("type", "dummy".into())]),
        );
        assert_eq!(vswitch.transact(vec![unchanged]).await.unwrap(), [Outcome::Done]);
        let later = Operation::Wait {
            timeout_ms: 20_000,
            table: "Interface".into(),
            conditions: vec![Condition::row(interface)],
            columns: vec!["mtu_request".into()],
            equal: false,
            rows: vec![row([("mtu_request", Value::empty())])],
        };
        let mtu = Operation::update("Interface", interface, row([("mtu_request", 1400.into())]));
        let (waited, done) =
            tokio::join!(vswitch.transact(vec![later]), vswitch.transact(vec![mtu]));
        assert_eq!(
            (waited.unwrap(), done.unwrap()),
            (vec![Outcome::Done], vec![Outcome::Count(1)])
        );

        // delete: the port goes when nothing refers to it
        let port = state.interfaces_of("br0").find(|(port, _)| port.name == "p1").unwrap().0.uuid;
        let outcomes = vswitch
            .configure(
                vec![
                    Operation::mutate("Bridge", bridge, [Mutation::delete("ports", port)]),
                    Operation::delete("Flow_Table", Condition::eq("name", "none")),
                ],
                PATIENCE,
            )
            .await
            .unwrap();
        assert_eq!(outcomes, [Outcome::Count(1), Outcome::Count(0)]);
        until_dump(&ovs, &mut watch).await;
        assert!(!watch.borrow().as_ref().unwrap().ports.contains_key(&port));

        // other methods
        let databases = vswitch.client().call("list_dbs", vec![]).await.unwrap();
        assert!(databases.as_array().unwrap().contains(&json!("Open_vSwitch")));
        let unknown = vswitch.client().call("nonsense", vec![]).await.unwrap_err();
        assert_eq!(unknown.refusal(), Some(Refusal::UnknownMethod));
    })
    .await;
}

#[tokio::test]
async fn every_refusal_is_typed_and_changes_nothing() {
    let ovs = Ovs::start().await;
    let (vswitch, driver) = ovs.client();
    let mut watch = vswitch.watch();
    with_driver(driver, async {
        ovs.bridge().await;
        ovs.vsctl("add-port br0 p1 -- set interface p1 type=dummy").await;
        let state = until(&mut watch, |state| has_ofport(state, "p1")).await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();
        let bridge = state.bridges["br0"].uuid;
        let (p1, p1_interface) =
            state.interfaces_of("br0").find(|(port, _)| port.name == "p1").unwrap();
        until_dump(&ovs, &mut watch).await;
        let before = watch.borrow().clone();

        let first = || Operation::Comment("first".into());
        let number = |mutator, value: i64| {
            let mutation = Mutation { column: "next_cfg".into(), mutator, value: value.into() };
            Operation::mutate("Open_vSwitch", (), [mutation])
        };
        // where an operation fails: its place; at commit: none
        let cases: Vec<(&str, Vec<Operation>, Option<usize>, Refusal)> = vec![
            (
                "a name that exists",
                add_port(bridge, "p1", 1).to_vec(),
                None,
                Refusal::ConstraintViolation,
            ),
            (
                "a reference to nothing",
                vec![
                    first(),
                    Operation::mutate(
                        "Bridge",
                        bridge,
                        [Mutation::insert("ports", Uuid::from_u128(77))],
                    ),
                ],
                None,
                Refusal::ReferentialIntegrity,
            ),
            (
                "the deletion of a row that is referred to",
                vec![Operation::delete("Bridge", bridge)],
                None,
                Refusal::ReferentialIntegrity,
            ),
            (
                "a number out of range",
                vec![
                    first(),
                    Operation::update(
                        "Interface",
                        p1_interface.uuid,
                        row([("ofport_request", 70_000.into())]),
                    ),
                ],
                Some(1),
                Refusal::ConstraintViolation,
            ),
            (
                "a port without an interface",
                vec![Operation::mutate(
                    "Port",
                    p1.uuid,
                    [Mutation::delete("interfaces", p1_interface.uuid)],
                )],
                Some(0),
                Refusal::ConstraintViolation,
            ),
            (
                "a wait that does not hold",
                vec![
                    first(),
                    Operation::unchanged("Bridge", bridge, row([("name", "br1".into())])),
                    Operation::Abort,
                ],
                Some(1),
                Refusal::TimedOut,
            ),
            ("abort", vec![first(), first(), Operation::Abort], Some(2), Refusal::Aborted),
            (
                "a lock we do not hold",
                vec![Operation::Assert { lock: "a".into() }],
                Some(0),
                Refusal::NotOwner,
            ),
            (
                "an unknown table",
                vec![Operation::delete("Nonsense", ())],
                Some(0),
                Refusal::SyntaxError,
            ),
            (
                "an unknown column",
                vec![Operation::update("Bridge", bridge, row([("nonsense", 1.into())]))],
                Some(0),
                Refusal::UnknownColumn,
            ),
            (
                "a value of the wrong type",
                vec![Operation::update("Bridge", bridge, row([("fail_mode", 1.into())]))],
                Some(0),
                Refusal::SyntaxError,
            ),
            (
                "two rows of one name",
                vec![
                    Operation::insert("Flow_Table", Row::new()).named("x"),
                    Operation::insert("Flow_Table", Row::new()).named("x"),
                ],
                Some(1),
                Refusal::DuplicateUuidName,
            ),
            ("a division by zero", vec![number(Mutator::Divide, 0)], Some(0), Refusal::DomainError),
            ("an overflow", vec![number(Mutator::Add, i64::MAX)], Some(0), Refusal::RangeError),
        ];
        for (what, operations, place, refusal) in cases {
            let error = vswitch.transact(operations).await.unwrap_err();
            assert_eq!(error.refusal(), Some(refusal), "{what}: {error}");
            match (&error, place) {
                (Error::Commit { details, .. }, None) => {
                    assert!(details.is_some(), "{what}: {error}")
                }
                (Error::Operation { index, .. }, Some(place)) => {
                    assert_eq!(*index, place, "{what}: {error}")
                }
                _ => panic!("{what}: {error:?}"),
            }
        }
        // all of it undone, and the service goes on
        until_dump(&ovs, &mut watch).await;
        assert_eq!(*watch.borrow(), before);

        // an insert that nothing refers to vanishes, and says nothing
        let lost = vswitch
            .transact(vec![Operation::insert("Flow_Table", row([("name", "x".into())]))])
            .await
            .unwrap();
        assert!(lost[0].uuid().is_some());
        until_dump(&ovs, &mut watch).await;
        assert_eq!(*watch.borrow(), before);
    })
    .await;
}

#[tokio::test]
async fn a_change_that_ovs_vswitchd_does_not_take_up_is_an_error() {
    let mut ovs = Ovs::start().await;
    let (vswitch, driver) = ovs.client();
    let mut watch = vswitch.watch();
    with_driver(driver, async {
        ovs.bridge().await;
        let state = until(&mut watch, |state| has_ofport(state, "br0")).await;
        vswitch.connected().wait_for(|connected| *connected).await.unwrap();
        let bridge = state.bridges["br0"].uuid;
        ovs.vswitchd = None;
        let short = Duration::from_millis(50);
        let error = vswitch.configure(add_port(bridge, "p1", 1).to_vec(), short).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        // the database has it, and so has the picture
        let next = watch.borrow_and_update().as_ref().unwrap().system.next_cfg;
        assert!(
            crate::rig::interface(watch.borrow().as_ref().unwrap(), "p1")
                .is_some_and(|p1| p1.ofport.is_none())
        );
        ovs.start_vswitchd();
        vswitch.until_configured(next, PATIENCE).await.unwrap();
        assert!(has_ofport(watch.borrow().as_ref().unwrap(), "p1"));
    })
    .await;
}
