//! What the agent keeps in OVSDB: names for the tables, so that `ovs-ofctl --names` shows them, and `fail_mode`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};
use weir_ovsdb::vswitch::SwitchState;
use weir_runtime::backoff::Backoff;

use crate::seam::{Ovsdb, chain};

/// Names the tables of a bridge each time it appears. Apart from the reconciler, as nothing waits for names.
pub async fn name_tables<O: Ovsdb>(
    ovsdb: O,
    mut picture: watch::Receiver<Option<Arc<SwitchState>>>,
    bridge: String,
    names: BTreeMap<u8, String>,
) {
    let mut named = None;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        let appeared = picture
            .borrow_and_update()
            .as_ref()
            .and_then(|p| p.bridges.get(&bridge).map(|b| b.uuid));
        if appeared.is_some() && appeared != named {
            if let Err(error) = ovsdb.name_tables(&bridge, &names).await {
                warn!(bridge, error = chain(&error), "tables could not be named; trying again");
                backoff.wait().await;
                continue;
            }
            info!(bridge, tables = names.len(), "tables have their names");
            backoff.reset();
        }
        named = appeared;
        if picture.changed().await.is_err() {
            return;
        }
    }
}

/// The `fail_mode` in which a bridge forwards nothing by itself.
pub const SECURE: &str = "secure";

/// Makes a bridge secure each time it is not: otherwise it forwards everything whenever it has lost its flows. Apart
/// from the reconciler, which compares the flows once the database shows the change.
pub async fn keep_secure<O: Ovsdb>(
    ovsdb: O,
    mut picture: watch::Receiver<Option<Arc<SwitchState>>>,
    bridge: String,
) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        let found = picture
            .borrow_and_update()
            .as_ref()
            .and_then(|p| p.bridges.get(&bridge).map(|b| b.fail_mode.clone()));
        if let Some(mode) = found.filter(|mode| mode.as_deref() != Some(SECURE)) {
            let mode = mode.unwrap_or_else(|| "not set".to_owned());
            if let Err(error) = ovsdb.make_secure(&bridge).await {
                warn!(bridge, error = chain(&error), "fail_mode cannot be set; trying again");
                backoff.wait().await;
                continue;
            }
            warn!(bridge, was = mode, "fail_mode is set to secure");
            backoff.reset();
        }
        if picture.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use mockall::Sequence;
    use weir_ovsdb::vswitch::BridgeRow;

    use super::*;
    use crate::seam::MockOvsdb;

    fn picture(uuid: &str) -> Option<Arc<SwitchState>> {
        let mut state = SwitchState::default();
        let uuid = format!("00000000-0000-0000-0000-{uuid}").parse().unwrap();
        let row = BridgeRow { uuid, name: "br-int".to_owned(), ..BridgeRow::default() };
        state.bridges.insert("br-int".to_owned(), row);
        Some(Arc::new(state))
    }

    #[tokio::test(start_paused = true)]
    async fn tables_are_named_once_per_bridge_and_after_a_failure_again() {
        let mut ovsdb = MockOvsdb::new();
        let (named, mut calls) = tokio::sync::mpsc::unbounded_channel();
        let mut order = Sequence::new();
        for ok in [false, true, true] {
            let named = named.clone();
            ovsdb.expect_name_tables().times(1).in_sequence(&mut order).returning(
                move |bridge, names| {
                    named.send((bridge.to_owned(), names.len())).unwrap();
                    Box::pin(async move {
                        if ok { Ok(()) } else { Err(weir_ovsdb::Error::NotConnected) }
                    })
                },
            );
        }
        let (show, pictures) = watch::channel(None);
        let names = BTreeMap::from([(0, "Classifier".to_owned())]);
        let task = weir_runtime::task::spawn(
            "names",
            name_tables(ovsdb, pictures, "br-int".to_owned(), names),
        );
        // refused, then taken; the same bridge is not named again, a new one of that name is
        show.send_replace(picture("000000000001"));
        assert_eq!(calls.recv().await, Some(("br-int".to_owned(), 1)));
        assert_eq!(calls.recv().await, Some(("br-int".to_owned(), 1)));
        show.send_replace(picture("000000000001"));
        show.send_replace(picture("000000000002"));
        assert_eq!(calls.recv().await, Some(("br-int".to_owned(), 1)));
        drop(show);
        task.join().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_bridge_is_made_secure_whenever_it_is_not() {
        let mut ovsdb = MockOvsdb::new();
        let (made, mut calls) = tokio::sync::mpsc::unbounded_channel();
        let mut order = Sequence::new();
        for ok in [false, true, true] {
            let made = made.clone();
            ovsdb.expect_make_secure().times(1).in_sequence(&mut order).returning(move |bridge| {
                made.send(bridge.to_owned()).unwrap();
                Box::pin(
                    async move { if ok { Ok(()) } else { Err(weir_ovsdb::Error::NotConnected) } },
                )
            });
        }
        let with = |mode: Option<&str>| {
            let mut state = SwitchState::clone(&picture("000000000001").unwrap());
            state.bridges.get_mut("br-int").unwrap().fail_mode = mode.map(str::to_owned);
            Some(Arc::new(state))
        };
        let (show, pictures) = watch::channel(with(Some(SECURE)));
        let task = weir_runtime::task::spawn(
            "fail-mode",
            keep_secure(ovsdb, pictures, "br-int".to_owned()),
        );
        show.send_replace(with(None));
        assert_eq!(calls.recv().await.unwrap(), "br-int");
        assert_eq!(calls.recv().await.unwrap(), "br-int");
        show.send_replace(with(Some(SECURE)));
        show.send_replace(with(Some("standalone")));
        assert_eq!(calls.recv().await.unwrap(), "br-int");
        drop(show);
        task.join().await.unwrap();
    }
}
