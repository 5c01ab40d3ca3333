//! Monitoring a part of a table, and another part later.

use std::collections::BTreeSet;

use weir_ovsdb::client::{self, Feed, Shape, TableRequest};
use weir_ovsdb::op::Condition;
use weir_ovsdb::schema::AtomicType;
use weir_ovsdb::{Error, Refusal};

use crate::rig::{Ovs, live, with_driver};

/// The names known from the changes so far.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    async fn until(&mut self, feed: &mut Feed, expected: &[&str]) {
        while self.0.iter().ne(expected) {
            let changes = feed.next().await.unwrap();
            for (uuid, change) in changes.rows("Port") {
                if let Some(before) = change.before() {
                    assert!(self.0.remove(&before.with(uuid).string("name")));
                }
                if let Some(after) = change.after() {
                    assert!(self.0.insert(after.with(uuid).string("name")));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_part_of_a_table_and_then_another() {
    let mut ovs = Ovs::database(&[]).await;
    ovs.vsctl("--no-wait init -- add-br br0 -- add-port br0 a -- add-port br0 b -- add-port br0 c")
        .await;
    let name = |name: &str| Condition::eq("name", name);
    let columns =
        [("name", Shape::Set(AtomicType::String)), ("tag", Shape::Set(AtomicType::Integer))];
    let ports = TableRequest::required("Port", &columns).where_any(vec![name("a"), name("b")]);
    let (observer, mut feed) = client::feed();
    let (client, driver) = ovs.plain(vec![ports], observer);
    let mut names = Names::default();
    with_driver(driver, async {
        names.until(&mut feed, &["a", "b"]).await;
        live(&client).await;
        client.set_conditions("Port", vec![name("b"), name("d")]).await.unwrap();
        names.until(&mut feed, &["b"]).await;
        ovs.vsctl("--no-wait add-port br0 d -- add-port br0 e -- del-port br0 b").await;
        names.until(&mut feed, &["d"]).await;
        // a condition on another column: rows come and go as it changes
        client.set_conditions("Port", vec![Condition::eq("tag", 5)]).await.unwrap();
        ovs.vsctl("--no-wait set port a tag=5 -- set port c tag=5").await;
        names.until(&mut feed, &["a", "c"]).await;
        ovs.vsctl("--no-wait clear port a tag").await;
        names.until(&mut feed, &["c"]).await;

        let error = client.set_conditions("Bridge", vec![]).await.unwrap_err();
        assert!(matches!(&error, Error::NotMonitored(table) if table == "Bridge"), "{error:?}");
        let error = client.set_conditions("Port", vec![name("a"), Condition::eq("nonsense", 1)]);
        assert_eq!(error.await.unwrap_err().refusal(), Some(Refusal::UnknownColumn));

        // the last ones that were taken hold on the next connection
        ovs.server = None;
        client.connected().wait_for(|connected| !connected).await.unwrap();
        ovs.start_server().await;
        live(&client).await;
        ovs.vsctl("--no-wait set port e tag=5 -- set port a tag=6").await;
        names.until(&mut feed, &["c", "e"]).await;
        client.set_conditions("Port", vec![]).await.unwrap();
        names.until(&mut feed, &["a", "br0", "c", "d", "e"]).await;
    })
    .await;
}
