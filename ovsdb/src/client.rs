//! One connection to a server after another: schema, monitor, probes, transactions.
//!
//! A [`Client`] hands requests to its [`Driver`], which alone reads and writes the socket. The driver keeps a
//! [`Replica`] of the tables asked for and shows it to an [`Observer`].

mod backoff;
mod drive;
mod session;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, Result};
use crate::op::Operation;
use crate::replica::{Changes, Replica};
use crate::rpc::MessageLimits;
use crate::schema::{AtomicType, ColumnType, Schema, SchemaError};

/// Where a server listens. The text is that of OVS: `unix:/path` or `tcp:ip:port`, IPv6 in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A socket in the file system.
    Unix(PathBuf),
    /// An address and port.
    Tcp(SocketAddr),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.split_once(':') {
            Some(("unix", "")) => Err(TargetError::EmptyPath),
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => {
                address.parse().map(Self::Tcp).map_err(|_| TargetError::Address(address.to_owned()))
            }
            _ => Err(TargetError::Scheme(text.to_owned())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// A text that names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It begins with neither `unix:` nor `tcp:`.
    #[error("{0:?} is neither unix:/path nor tcp:ip:port")]
    Scheme(String),
    /// `unix:` without a path.
    #[error("unix: needs a path")]
    EmptyPath,
    /// `tcp:` without address and port; names are not looked up.
    #[error("{0:?} is not ip:port")]
    Address(String),
}

/// What a server can make us hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// One message. The largest is the first picture: about 1.5 kB and 200 values per port, so 32 MiB and 4 Mi values are
    /// some 20,000 ports. A hostile message can take about 170 MB.
    pub message: MessageLimits,
    /// Rows of the replica.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The database's name, `Open_vSwitch`.
    pub database: String,
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
    name: &'static str,
    columns: Vec<(&'static str, Shape)>,
    required: bool,
}

impl TableRequest {
    /// A table we cannot do without.
    pub fn required(name: &'static str, columns: &[(&'static str, Shape)]) -> Self {
        Self { name, columns: columns.to_vec(), required: true }
    }

    /// A table that is empty for a server that does not have it.
    pub fn optional(name: &'static str, columns: &[(&'static str, Shape)]) -> Self {
        Self { name, columns: columns.to_vec(), required: false }
    }
}

/// The part of a server's schema that is to be monitored.
///
/// Errors: [`SchemaError::MissingTable`], [`SchemaError::UnexpectedType`].
fn wanted(schema: &Schema, requests: &[TableRequest]) -> Result<Schema, SchemaError> {
    let mut wanted =
        Schema { name: schema.name.clone(), version: schema.version.clone(), ..Schema::default() };
    for request in requests {
        let Some(table) = schema.tables.get(request.name) else {
            if request.required {
                return Err(SchemaError::MissingTable(request.name.to_owned()));
            }
            continue;
        };
        let filtered = wanted.tables.entry(request.name.to_owned()).or_default();
        for (column, shape) in &request.columns {
            let Some(ty) = table.columns.get(*column) else {
                continue;
            };
            if !shape.fits(ty) {
                return Err(SchemaError::UnexpectedType {
                    table: request.name.to_owned(),
                    column: (*column).to_owned(),
                });
            }
            filtered.columns.insert((*column).to_owned(), ty.clone());
        }
    }
    Ok(wanted)
}

/// Sees the replica from within the driver. It must not block.
pub trait Observer: Send + 'static {
    /// A connection has its first full replica, which replaces that of the connection before.
    fn replaced(&mut self, replica: &Replica);
    /// Rows changed.
    fn changed(&mut self, replica: &Replica, changes: &Changes);
}

/// Requests that wait for the driver. A transaction waits for its answer, so this is also about how many run at
/// once; more wait in [`Client::transact`].
const QUEUE: usize = 64;

/// A transaction on its way to the driver.
struct Request {
    operations: usize,
    params: Json,
    reply: oneshot::Sender<Result<Vec<Json>>>,
}

/// A handle on a database; cheap to clone, all clones share one connection.
#[derive(Debug, Clone)]
pub struct Client {
    database: String,
    requests: mpsc::Sender<Request>,
    connected: watch::Receiver<bool>,
    trouble: watch::Receiver<Option<String>>,
}

/// A handle on a database, and the driver that connects it and shows `observer` the tables asked for.
pub fn connect(
    target: Target,
    options: Options,
    tables: Vec<TableRequest>,
    observer: impl Observer,
) -> (Client, Driver) {
    let (requests, queue) = mpsc::channel(QUEUE);
    let (publish, connected) = watch::channel(false);
    let (complain, trouble) = watch::channel(None);
    let client = Client { database: options.database.clone(), requests, connected, trouble };
    let future = drive::run(target, options, tables, observer, queue, publish, complain);
    (client, Driver { future: Box::pin(future) })
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

    /// Runs one transaction and gives one result per operation. What it changed in monitored tables was shown to the
    /// observer before this returns.
    ///
    /// Errors: [`Error::Operation`] and [`Error::Commit`] when the server refused it, [`Error::NotConnected`] when it
    /// was not sent, [`Error::Disconnected`] when its outcome is unknown, [`Error::RequestTooLarge`],
    /// [`Error::Stopped`].
    pub async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<Json>> {
        if !*self.connected.borrow() {
            return Err(if self.requests.is_closed() {
                Error::Stopped
            } else {
                Error::NotConnected
            });
        }
        let params: Vec<Json> = std::iter::once(Json::from(self.database.as_str()))
            .chain(operations.iter().map(Operation::to_json))
            .collect();
        let (reply, answer) = oneshot::channel();
        let request = Request { operations: operations.len(), params: params.into(), reply };
        self.requests.send(request).await.map_err(|_| Error::Stopped)?;
        answer.await.unwrap_or(Err(Error::Stopped))
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
    fn targets_as_ovs_spells_them() {
        for text in ["unix:/var/run/openvswitch/db.sock", "tcp:127.0.0.1:6640", "tcp:[::1]:6640"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("unix:".parse::<Target>(), Err(TargetError::EmptyPath));
        assert!(matches!("tcp:host:1".parse::<Target>(), Err(TargetError::Address(_))));
        assert!(matches!("ssl:127.0.0.1:1".parse::<Target>(), Err(TargetError::Scheme(_))));
        assert!(matches!("/db.sock".parse::<Target>(), Err(TargetError::Scheme(_))));
    }

    #[test]
    fn only_known_columns_of_the_right_type_are_wanted() {
        let schema = Schema::parse(&serde_json::json!({"name": "D", "tables": {
            "A": {"columns": {"x": {"type": "string"}, "y": {"type": "integer"}}},
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
    }
}
