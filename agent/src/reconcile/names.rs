//! Names for the tables, so that `ovs-ofctl --names` shows them.

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
