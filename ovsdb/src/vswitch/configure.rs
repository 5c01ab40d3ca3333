//! Changes that ovs-vswitchd has to put into effect, and keys beside those of others.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::op::{Mutation, Operation, Outcome};
use crate::value::Uuid;
use crate::vswitch::Vswitch;

/// The table of the one row that has `next_cfg`.
const SYSTEM: &str = "Open_vSwitch";

impl Vswitch {
    /// Runs a transaction and waits until ovs-vswitchd has put it into effect, as `ovs-vsctl` does.
    ///
    /// It counts `next_cfg` up in the same transaction and waits for `cur_cfg` to reach it, also over a reconnection.
    /// What became of single ports is then in their `ofport` and `error`, which [`Vswitch::watch`] shows already.
    /// Gives the outcomes of `operations` alone.
    ///
    /// Units: `within` counts from the answer of the database.
    /// Errors: those of [`Vswitch::transact`]; [`Error::NotInitialised`]; [`Error::Timeout`] where the database has the
    /// change and ovs-vswitchd has not taken it up, for instance as it does not run.
    /// Source: ovs-vswitchd.conf.db(5), table `Open_vSwitch`, "Configuration Tracking".
    pub async fn configure(
        &self,
        mut operations: Vec<Operation>,
        within: Duration,
    ) -> Result<Vec<Outcome>> {
        let own = operations.len();
        operations.push(Operation::mutate(SYSTEM, (), [Mutation::add("next_cfg", 1)]));
        operations.push(Operation::select(SYSTEM, (), &["next_cfg"]));
        let mut outcomes = self.transact(operations).await?;
        let next =
            outcomes.pop().and_then(|outcome| outcome.rows().first()?.get("next_cfg")?.as_i64());
        outcomes.truncate(own);
        self.until_configured(next.ok_or(Error::NotInitialised)?, within).await?;
        Ok(outcomes)
    }

    /// Waits until `cur_cfg` has reached a number.
    ///
    /// Errors: [`Error::Timeout`], [`Error::Stopped`].
    pub async fn until_configured(&self, next_cfg: i64, within: Duration) -> Result<()> {
        let mut watch = self.watch();
        let reached =
            watch.wait_for(|state| state.as_ref().is_some_and(|s| s.system.cur_cfg >= next_cfg));
        match tokio::time::timeout(within, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => {
                Err(Error::Timeout { what: "word of ovs-vswitchd on the change", after: within })
            }
        }
    }

    /// Sets and removes keys of a map such as `external_ids` of one row, and leaves all other keys to those who wrote
    /// them: two programs that do this at the same time both have their way.
    ///
    /// Gives whether the row is there.
    ///
    /// Errors: those of [`Vswitch::transact`], with
    /// [`Refusal::UnknownColumn`](crate::Refusal::UnknownColumn) where the table has no such column.
    pub async fn set_keys(
        &self,
        table: &str,
        row: Uuid,
        column: &str,
        put: &[(&str, &str)],
        remove: &[&str],
    ) -> Result<bool> {
        let mut mutations = vec![Mutation::remove(column, remove.iter().copied())];
        mutations.extend(Mutation::put(column, put.iter().copied()));
        let outcomes = self.transact(vec![Operation::mutate(table, row, mutations)]).await?;
        Ok(outcomes.first().and_then(Outcome::count).is_some_and(|count| count > 0))
    }
}
