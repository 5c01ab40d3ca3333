//! One connection to a server after another: schema, monitor, probes, locks, transactions.
//!
//! A [`Client`] hands requests to its [`Driver`], which alone reads and writes the socket. The driver keeps a
//! [`Replica`] of the tables asked for and shows it, with what changed, to an [`Observer`]; [`feed()`] makes one that
//! brings the changes to another task.

mod backoff;
mod drive;
mod feed;
mod lock;
mod session;
mod target;
#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, Result};
use crate::op::{Condition, Operation, OperationKind, Outcome};
use crate::replica::{Changes, Replica};
use crate::rpc::MessageLimits;
use crate::schema::{AtomicType, ColumnType, Schema, SchemaError, TableSchema};

pub use feed::{Feed, FeedObserver, feed};
use lock::Locks;
pub use lock::{Lock, LockState};
pub use target::{Target, TargetError};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};

/// What a server can make us hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// One message. The largest is the first picture: about 1.5 kB and 200 values per port, so 32 MiB and 4 Mi values are
    /// some 20,000 ports. A hostile message can take about 170 MB.
    pub message: MessageLimits,
    /// Rows of the replica. For a moment after a reconnection there are two replicas.
    pub replica_rows: usize,
    /// About what the replica takes. Units: bytes.
    pub replica_bytes: usize,
    /// What waits to be written, answers to the server's echo included. Units: bytes.
    pub output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: MessageLimits { bytes: 32 << 20, depth: 64, values: 4 << 20 },
            replica_rows: 1 << 18,
            replica_bytes: 256 << 20,
            output_bytes: 8 << 20,
        }
    }
}

/// How to connect. `Options::default()` suits ovs-vswitchd's database on the same host.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database's name, `Open_vSwitch`.
    pub database: String,
    /// For [`Target::Tls`], which cannot connect without.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
    /// What a server can make us hold.
    pub limits: Limits,
    /// For opening the socket: 5 s.
    pub connect_timeout: Duration,
    /// From the open socket to the first full replica: 30 s.
    pub handshake_timeout: Duration,
    /// Silence after which we send an echo: 5 s. `None` never probes.
    pub probe_interval: Option<Duration>,
    /// Silence after our echo that ends the connection: 10 s.
    pub probe_timeout: Duration,
    /// For the answer to a transaction: 30 s, then the connection ends.
    pub request_timeout: Duration,
    /// The first pause between two connections: 100 ms. It doubles with each failure; each is shortened by up to a half
    /// at random, so that clients do not come all at once.
    pub backoff_min: Duration,
    /// The longest pause: 5 s.
    pub backoff_max: Duration,
    /// A connection that lived this long starts again at `backoff_min`: 10 s.
    pub stable_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            database: "Open_vSwitch".to_owned(),
            #[cfg(feature = "tls")]
            tls: None,
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(30),
            probe_interval: Some(Duration::from_secs(5)),
            probe_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            stable_after: Duration::from_secs(10),
        }
    }
}

/// The kind of values a column must hold for us to read it; how many is left to the server's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A scalar, an optional scalar or a set.
    Set(AtomicType),
    /// A map.
    Map(AtomicType, AtomicType),
}

impl Shape {
    fn fits(self, ty: &ColumnType) -> bool {
        match self {
            Self::Set(key) => ty.key == key && ty.value.is_none(),
            Self::Map(key, value) => ty.key == key && ty.value == Some(value),
        }
    }
}

/// A table to monitor. Columns that the server does not have are left out, as one unknown column fails the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRequest {
    name: String,
    /// All that can be read where none are named.
    columns: Option<Vec<(String, Shape)>>,
    conditions: Vec<Condition>,
    required: bool,
}

impl TableRequest {
    /// A table we cannot do without.
    pub fn required(name: &str, columns: &[(&str, Shape)]) -> Self {
        let columns = columns.iter().map(|(name, shape)| ((*name).to_owned(), *shape)).collect();
        Self {
            name: name.to_owned(),
            columns: Some(columns),
            conditions: Vec::new(),
            required: true,
        }
    }

    /// A table that is empty for a server that does not have it.
    pub fn optional(name: &str, columns: &[(&str, Shape)]) -> Self {
        Self { required: false, ..Self::required(name, columns) }
    }

    /// A table we cannot do without, with all columns that the server has, statistics that change all the time
    /// included.
    pub fn all_columns(name: &str) -> Self {
        Self { columns: None, ..Self::required(name, &[]) }
    }

    /// Only rows for which one of the conditions holds (all rows without any).
    ///
    /// [`Client::set_conditions`] changes them later. A server that has only `monitor` cannot do this; connecting to
    /// it fails then.
    ///
    /// Source: ovsdb-server(7), "Monitor_cond"; servers take `==`, `!=`, `includes` and `excludes`.
    #[must_use]
    pub fn where_any(self, conditions: Vec<Condition>) -> Self {
        Self { conditions, ..self }
    }
}

/// The part of a server's schema that is to be monitored.
///
/// Errors: [`SchemaError::MissingTable`], [`SchemaError::UnexpectedType`], [`SchemaError::ColumnType`].
fn wanted(schema: &Schema, requests: &[TableRequest]) -> Result<Schema, SchemaError> {
    let mut wanted =
        Schema { name: schema.name.clone(), version: schema.version.clone(), ..Schema::default() };
    for request in requests {
        let Some(table) = schema.tables.get(&request.name) else {
            if request.required {
                return Err(SchemaError::MissingTable(request.name.clone()));
            }
            continue;
        };
        let filtered = wanted.tables.entry(request.name.clone()).or_default();
        match &request.columns {
            Some(columns) => pick(table, &request.name, columns, filtered)?,
            None => filtered.columns = table.columns.clone(),
        }
    }
    Ok(wanted)
}

fn pick(
    table: &TableSchema,
    name: &str,
    columns: &[(String, Shape)],
    into: &mut TableSchema,
) -> Result<(), SchemaError> {
    for (column, shape) in columns {
        let at = || (name.to_owned(), column.clone());
        if table.unreadable.contains(column) {
            let (table, column) = at();
            return Err(SchemaError::ColumnType { table, column });
        }
        let Some(ty) = table.columns.get(column) else {
            continue;
        };
        if !shape.fits(ty) {
            let (table, column) = at();
            return Err(SchemaError::UnexpectedType { table, column });
        }
        into.columns.insert(column.clone(), ty.clone());
    }
    Ok(())
}

/// Sees the replica from within the driver. It must not block.
///
/// The change sets of all calls together, in their order, are exactly the way from an empty replica to the last one
/// shown, over any number of connections.
pub trait Observer: Send + 'static {
    /// A connection has its first full replica, which replaces that of the connection before; `changes` is the exact
    /// difference between the two, and empty where nothing happened meanwhile.
    fn replaced(&mut self, replica: &Replica, changes: &Changes);
    /// Rows changed.
    fn changed(&mut self, replica: &Replica, changes: &Changes);
}

/// Observes nothing: for transactions alone.
impl Observer for () {
    fn replaced(&mut self, _: &Replica, _: &Changes) {}
    fn changed(&mut self, _: &Replica, _: &Changes) {}
}

/// Requests that wait for the driver. A transaction waits for its answer, so this is also about how many run at
/// once; more wait in [`Client::transact`].
const QUEUE: usize = 64;

/// How often a transaction is tried when others change what it was made from.
const ATTEMPTS: u32 = 8;

/// How long to wait for the change that made a `wait` fail to show in the replica, before looking again without it.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What is on its way to the driver.
enum Request {
    Transact {
        operations: Vec<OperationKind>,
        params: Json,
        reply: oneshot::Sender<Result<Vec<Outcome>>>,
    },
    Call {
        method: String,
        params: Json,
        reply: oneshot::Sender<Result<Json>>,
    },
    Conditions {
        table: String,
        conditions: Vec<Condition>,
        reply: oneshot::Sender<Result<()>>,
    },
}

impl Request {
    /// Tells the caller, who may have gone, that it failed.
    fn fail(self, error: Error) {
        match self {
            Self::Transact { reply, .. } => drop(reply.send(Err(error))),
            Self::Call { reply, .. } => drop(reply.send(Err(error))),
            Self::Conditions { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// A handle on a database; cheap to clone, all clones share one connection.
#[derive(Debug, Clone)]
pub struct Client {
    database: String,
    requests: mpsc::Sender<Request>,
    connected: watch::Receiver<bool>,
    trouble: watch::Receiver<Option<String>>,
    revision: watch::Receiver<u64>,
    locks: Arc<Locks>,
}

/// A handle on a database, and the driver that connects it and shows `observer` the tables asked for.
///
/// The caller spawns the [`Driver`] and owns it; nothing happens before it is polled.
pub fn connect(
    target: Target,
    options: Options,
    tables: Vec<TableRequest>,
    observer: impl Observer,
) -> (Client, Driver) {
    let (requests, queue) = mpsc::channel(QUEUE);
    let (publish, connected) = watch::channel(false);
    let (complain, trouble) = watch::channel(None);
    let (count, revision) = watch::channel(0);
    let locks = Arc::new(Locks::default());
    let database = options.database.clone();
    let client = Client { database, requests, connected, trouble, revision, locks };
    let setup = drive::Setup {
        target,
        options,
        tables,
        shown: drive::Shown { observer, count, replica: Replica::default() },
        queue,
        connected: drive::Connected { connected: publish, locks: Arc::clone(&client.locks) },
        trouble: complain,
    };
    (client, Driver { future: Box::pin(drive::run(setup)) })
}

impl Client {
    /// Whether there is a connection with a full replica; true comes after the observer saw it.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Why the last connection ended or could not be made, in one line for people; `None` while connected and before
    /// the first attempt failed.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }

    /// Counts how often the observer was shown something; changes just after it was.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }

    /// Runs one transaction and gives one outcome per operation. What it changed in monitored tables was shown to the
    /// observer before this returns.
    ///
    /// Dropping the future does not take a transaction back that was sent.
    ///
    /// ```no_run
    /// # async fn example(client: weir_ovsdb::client::Client, bridge: weir_ovsdb::Uuid) -> weir_ovsdb::Result<()> {
    /// use weir_ovsdb::op::{Mutation, Operation, Row};
    /// use weir_ovsdb::{Atom, Error, Refusal};
    ///
    /// let interface = Row::from([("name".into(), "p1".into()), ("type".into(), "internal".into())]);
    /// let port = Row::from([("name".into(), "p1".into()), ("interfaces".into(), Atom::named("i").into())]);
    /// let outcome = client
    ///     .transact(vec![
    ///         Operation::insert("Interface", interface).named("i"),
    ///         Operation::insert("Port", port).named("p"),
    ///         Operation::mutate("Bridge", bridge, vec![Mutation::insert("ports", Atom::named("p"))]),
    ///     ])
    ///     .await;
    /// match outcome {
    ///     Ok(outcomes) => println!("the port's row is {:?}", outcomes[1].uuid()),
    ///     Err(error) if error.refusal() == Some(Refusal::ConstraintViolation) => println!("p1 exists"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// Errors: [`Error::Operation`] and [`Error::Commit`] when the server refused it, [`Error::NotConnected`] when it
    /// was not sent, [`Error::Disconnected`] when its outcome is unknown, [`Error::RequestTooLarge`],
    /// [`Error::Stopped`].
    pub async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<Outcome>> {
        let params: Vec<Json> = std::iter::once(Json::from(self.database.as_str()))
            .chain(operations.iter().map(Operation::to_json))
            .collect();
        let operations = operations.iter().map(Operation::kind).collect();
        self.ask(|reply| Request::Transact { operations, params: params.into(), reply }).await
    }

    /// Runs a transaction that was made from what the replica showed, and makes it again when that was out of date.
    ///
    /// `plan` makes the operations, among them [`Operation::unchanged`] for whatever they rest on; these must be
    /// monitored columns. No operations means that there is nothing to do. `what` names the contended thing for the
    /// error.
    ///
    /// Errors: those of `plan` and of [`Client::transact`], and [`Error::Contended`] after eight attempts.
    pub async fn optimistic(
        &self,
        what: &str,
        mut plan: impl FnMut() -> Result<Vec<Operation>>,
    ) -> Result<Vec<Outcome>> {
        let mut revision = self.revision();
        for _ in 0..ATTEMPTS {
            if !*self.connected.borrow() {
                return Err(self.not_connected());
            }
            // before the look, so that a change after it is not missed
            revision.mark_unchanged();
            let operations = plan()?;
            if operations.is_empty() {
                return Ok(Vec::new());
            }
            let waits: Vec<bool> =
                operations.iter().map(|op| matches!(op, Operation::Wait { .. })).collect();
            match self.transact(operations).await {
                Err(Error::Operation { index, error, .. })
                    if error == crate::error::TIMED_OUT && waits.get(index) == Some(&true) =>
                {
                    // somebody was faster; what they did is on its way to us
                    let mut connected = self.connected();
                    tokio::select! {
                        changed = revision.changed() => changed.map_err(|_| Error::Stopped)?,
                        _ = connected.wait_for(|connected| !connected) => {
                            return Err(self.not_connected());
                        }
                        () = tokio::time::sleep(CATCH_UP) => {}
                    }
                }
                outcome => return outcome,
            }
        }
        Err(Error::Contended { what: what.to_owned(), attempts: ATTEMPTS })
    }

    /// Monitors other rows of a table from now on: those for which one of the conditions holds, or all without any.
    /// Rows that come or go thereby are shown to the observer as changes. It holds for later connections, too.
    ///
    /// Errors: [`Error::Refused`] for conditions or a table that the server does not take, [`Error::NotMonitored`],
    /// [`Error::NoConditions`] where the server has only `monitor`, [`Error::NotConnected`], [`Error::Disconnected`]
    /// (the old conditions hold then), [`Error::Stopped`].
    pub async fn set_conditions(&self, table: &str, conditions: Vec<Condition>) -> Result<()> {
        let table = table.to_owned();
        self.ask(|reply| Request::Conditions { table, conditions, reply }).await
    }

    /// Any other method, for instance `list_dbs`.
    ///
    /// Errors: [`Error::Refused`], [`Error::NotConnected`], [`Error::Disconnected`], [`Error::Stopped`].
    pub async fn call(&self, method: &str, params: Vec<Json>) -> Result<Json> {
        let (method, params) = (method.to_owned(), params.into());
        self.ask(|reply| Request::Call { method, params, reply }).await
    }

    /// Asks for the whole schema of the database.
    ///
    /// Errors: [`Error::Schema`], and those of [`Client::call`].
    pub async fn schema(&self) -> Result<Schema> {
        let json = self.call("get_schema", vec![self.database.as_str().into()]).await?;
        Ok(Schema::parse(&json)?)
    }

    /// Asks for a lock, and waits in the server's queue for it. One handle for each name at a time.
    ///
    /// ```no_run
    /// # async fn example(client: weir_ovsdb::client::Client) -> weir_ovsdb::Result<()> {
    /// use weir_ovsdb::op::Operation;
    ///
    /// let lock = client.lock("leader")?;
    /// lock.held().await?;
    /// let operations = vec![Operation::Assert { lock: "leader".into() }, Operation::Comment("hello".into())];
    /// client.transact(operations).await?;
    /// lock.release().await;
    /// # Ok(()) }
    /// ```
    ///
    /// Errors: [`Error::LockInUse`].
    pub fn lock(&self, name: &str) -> Result<Lock> {
        self.locks.want(name, false, self.connected())
    }

    /// Takes a lock from whoever holds it. After a reconnection it is asked for, not stolen again.
    ///
    /// Errors: [`Error::LockInUse`].
    pub fn steal(&self, name: &str) -> Result<Lock> {
        self.locks.want(name, true, self.connected())
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
    ) -> Result<T> {
        if !*self.connected.borrow() {
            return Err(self.not_connected());
        }
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| Error::Stopped)?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    fn not_connected(&self) -> Error {
        if self.requests.is_closed() { Error::Stopped } else { Error::NotConnected }
    }
}

/// Connects, and connects again, for ever; to be spawned and owned by the caller. Dropping it closes the connection.
#[must_use = "nothing happens unless the driver is polled"]
pub struct Driver {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Driver {
    /// Never comes.
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.future.as_mut().poll(context)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_columns_of_the_right_type_are_wanted() {
        let schema = Schema::parse(&serde_json::json!({"name": "D", "tables": {
            "A": {"columns": {"x": {"type": "string"}, "y": {"type": "integer"}, "z": {"type": "odd"}}},
            "Z": {"columns": {}},
        }}))
        .unwrap();
        let text = Shape::Set(AtomicType::String);
        let a = TableRequest::required("A", &[("x", text), ("new", text)]);
        let gone = TableRequest::optional("B", &[("x", text)]);
        let filtered = wanted(&schema, &[a.clone(), gone]).unwrap();
        assert_eq!(filtered.tables.keys().collect::<Vec<_>>(), ["A"]);
        assert_eq!(filtered.tables["A"].columns.keys().collect::<Vec<_>>(), ["x"]);

        let missing = TableRequest::required("B", &[]);
        assert_eq!(wanted(&schema, &[a, missing]), Err(SchemaError::MissingTable("B".to_owned())));
        let odd = TableRequest::required("A", &[("y", text)]);
        assert!(matches!(wanted(&schema, &[odd]), Err(SchemaError::UnexpectedType { .. })));
        let newer = TableRequest::required("A", &[("z", text)]);
        assert!(matches!(wanted(&schema, &[newer]), Err(SchemaError::ColumnType { .. })));
        let all = wanted(&schema, &[TableRequest::all_columns("A")]).unwrap();
        assert_eq!(all.tables["A"].columns.keys().collect::<Vec<_>>(), ["x", "y"]);
    }
}
