//! The tables of the `Open_vSwitch` database that describe bridges and ports, as typed rows, and safe ways to write
//! there beside others.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use weir_ovsdb::{Options, vswitch};
//!
//! let target = "unix:/var/run/openvswitch/db.sock".parse()?;
//! let (switch, driver) = vswitch::connect(target, Options::default());
//! let look = async {
//!     let mut watch = switch.watch();
//!     while watch.changed().await.is_ok() {
//!         let Some(picture) = watch.borrow_and_update().clone() else { continue };
//!         for (port, interface) in picture.interfaces_of("br-int") {
//!             println!("{}: {:?} {:?}", port.name, interface.ofport, interface.external_ids);
//!         }
//!     }
//! };
//! tokio::select! { () = driver => {} () = look => {} }
//! # Ok(()) }
//! ```

mod configure;
mod names;
mod rows;
mod shared;

use std::sync::Arc;

use tokio::sync::watch;

use crate::client::{self, Client, Driver, Observer, Options, Target};
use crate::error::{Error, Result};
use crate::op::{Operation, Outcome};
use crate::replica::{Changes, Replica};

pub use rows::{BridgeRow, FlowTableRow, InterfaceRow, PortRow, SwitchState, SystemRow, tables};
pub use shared::Rows;

/// A handle on a switch's database; cheap to clone, all clones share one connection.
#[derive(Debug, Clone)]
pub struct Vswitch {
    client: Client,
    state: watch::Receiver<Option<Arc<SwitchState>>>,
}

/// A handle on a switch's database, and the driver that connects it.
///
/// The caller spawns the [`Driver`] and owns it; nothing happens before it is polled.
pub fn connect(target: Target, opts: Options) -> (Vswitch, Driver) {
    let (publish, state) = watch::channel(None);
    let publisher = Publisher { publish };
    let (client, driver) = client::connect(target, opts, tables(), publisher);
    (Vswitch { client, state }, driver)
}

impl Vswitch {
    /// The picture of the switch, as it changes.
    ///
    /// `None` until the first full replica. While the connection is away the last picture stays; the first full one
    /// of the new connection replaces it in one step. A receiver is woken only for pictures that differ.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<SwitchState>>> {
        self.state.clone()
    }

    /// Whether there is a connection with a full replica. True comes after the picture is published.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.client.connected()
    }

    /// Why there is no connection, in one line for people; `None` while there is one and before the first attempt
    /// failed.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.client.trouble()
    }

    /// The handle beneath: locks, other methods.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs one transaction and gives one outcome per operation.
    ///
    /// When it returns, [`Vswitch::watch`] already shows what it changed in the monitored tables.
    ///
    /// Errors: [`Error::Operation`] and [`Error::Commit`] when the server refused it, [`Error::NotConnected`] when it
    /// was not sent, [`Error::Disconnected`] when its outcome is unknown.
    pub async fn transact(&self, ops: Vec<Operation>) -> Result<Vec<Outcome>> {
        self.client.transact(ops).await
    }

    /// Runs a transaction that was made from the picture, and makes it again from the next one when that was out of
    /// date; see [`Client::optimistic`].
    ///
    /// Errors: those of `plan` and of [`Vswitch::transact`], and [`Error::Contended`].
    pub async fn optimistic(
        &self,
        what: &str,
        mut plan: impl FnMut(&SwitchState) -> Result<Vec<Operation>>,
    ) -> Result<Vec<Outcome>> {
        self.client.optimistic(what, || plan(&*self.picture()?)).await
    }
}

/// Keeps the published picture like the replica.
struct Publisher {
    publish: watch::Sender<Option<Arc<SwitchState>>>,
}

impl Observer for Publisher {
    fn replaced(&mut self, replica: &Replica, _: &Changes) {
        let fresh = SwitchState::of(replica);
        self.publish.send_if_modified(|state| {
            if state.as_deref() == Some(&fresh) {
                return false;
            }
            *state = Some(Arc::new(fresh));
            true
        });
    }

    fn changed(&mut self, replica: &Replica, changes: &Changes) {
        self.publish.send_if_modified(|state| {
            let state = state.get_or_insert_default();
            let before = Arc::clone(state);
            Arc::make_mut(state).follow(replica, changes);
            *state != before
        });
    }
}

impl Vswitch {
    /// The current picture, where there is a connection.
    ///
    /// Errors: [`Error::NotConnected`].
    fn picture(&self) -> Result<Arc<SwitchState>> {
        if !*self.client.connected().borrow() {
            return Err(Error::NotConnected);
        }
        self.state.borrow().clone().ok_or(Error::NotConnected)
    }
}
