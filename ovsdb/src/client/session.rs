//! One connection's protocol, without its socket: messages in, bytes and changes out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::client::{Observer, Options, Request, TableRequest, wanted};
use crate::error::{Error, ProtocolError, Result};
use crate::monitor::{self, Method, TableUpdates};
use crate::op;
use crate::replica::{Changes, Replica, ReplicaError};
use crate::rpc::Message;
use crate::schema::Schema;

/// The name of our monitor; one per connection.
const MONITOR: &str = "weir";

/// Output beyond which no further transaction is taken from the queue. Units: bytes.
const BUSY: usize = 1 << 16;

enum Phase {
    /// Waits for the reply to `get_schema`.
    Schema { id: u64 },
    /// Waits for the reply to the monitor request.
    Monitor { id: u64, method: Method, wanted: Schema },
    /// Follows updates.
    Live { method: Method },
}

struct Pending {
    request: Request,
    since: Instant,
}

/// What the driver does next when no message comes.
pub(super) enum Alarm {
    /// Send a probe.
    Probe,
    /// Give up.
    Fail { what: &'static str, after: Duration },
}

pub(super) struct Session<'a> {
    options: &'a Options,
    tables: &'a [TableRequest],
    pub(super) output: BytesMut,
    phase: Phase,
    last_id: u64,
    /// The request whose answer does not matter.
    aware: u64,
    probe: Option<(u64, Instant)>,
    pending: BTreeMap<u64, Pending>,
    replica: Replica,
    changes: Changes,
    started: Instant,
    heard: Instant,
}

impl<'a> Session<'a> {
    pub(super) fn new(options: &'a Options, tables: &'a [TableRequest], now: Instant) -> Self {
        let mut session = Self {
            options,
            tables,
            output: BytesMut::new(),
            phase: Phase::Schema { id: 0 },
            last_id: 0,
            aware: 0,
            probe: None,
            pending: BTreeMap::new(),
            replica: Replica::default(),
            changes: Changes::default(),
            started: now,
            heard: now,
        };
        // without it the server drops us whenever a database is added, removed or converted
        session.aware = session.request("set_db_change_aware", &json!([true]));
        session.phase =
            Phase::Schema { id: session.request("get_schema", &json!([options.database])) };
        session
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }

    /// Whether a transaction may be taken from the queue.
    pub(super) fn accepts(&self) -> bool {
        self.is_live() && self.output.len() < BUSY
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When to wake without a message, and for what.
    pub(super) fn deadline(&self) -> (Instant, Alarm) {
        let Options { handshake_timeout, probe_timeout, request_timeout, .. } = *self.options;
        if !self.is_live() {
            let fail = Alarm::Fail { what: "full replica", after: handshake_timeout };
            return (self.started + handshake_timeout, fail);
        }
        let mut first = match (self.probe, self.options.probe_interval) {
            (Some((_, sent)), _) => {
                let fail = Alarm::Fail { what: "answer to a probe", after: probe_timeout };
                Some((sent.max(self.heard) + probe_timeout, fail))
            }
            (None, Some(interval)) => Some((self.heard + interval, Alarm::Probe)),
            (None, None) => None,
        };
        if let Some(oldest) = self.pending.values().next() {
            let at = oldest.since + request_timeout;
            if first.as_ref().is_none_or(|(due, _)| at < *due) {
                let fail = Alarm::Fail { what: "answer to a transaction", after: request_timeout };
                first = Some((at, fail));
            }
        }
        // nothing to wait for: look again after a while
        first.unwrap_or_else(|| (self.heard.max(Instant::now()) + probe_timeout, Alarm::Probe))
    }

    pub(super) fn probe(&mut self, now: Instant) {
        if self.options.probe_interval.is_some() && self.probe.is_none() {
            self.probe = Some((self.request("echo", &json!([])), now));
        }
    }

    /// Sends a transaction.
    pub(super) fn submit(&mut self, request: Request, now: Instant) {
        let before = self.output.len();
        let id = self.request("transact", &request.params);
        let (size, limit) = (self.output.len() - before, self.options.limits.output_bytes);
        if size > limit {
            self.output.truncate(before);
            // the caller may have gone
            let _ = request.reply.send(Err(Error::RequestTooLarge { size, limit }));
            return;
        }
        self.pending.insert(id, Pending { request, since: now });
    }

    /// Takes one message.
    pub(super) fn receive(&mut self, json: Json, observer: &mut impl Observer) -> Result<()> {
        match Message::parse(json)? {
            Message::Request { method, params, id } => {
                let result = match method.as_str() {
                    "echo" => Ok(params),
                    _ => Err(json!({"error": "unknown method"})),
                };
                self.send(&Message::Response { id, result });
                let limit = self.options.limits.output_bytes;
                if self.output.len() > limit {
                    return Err(ProtocolError::OutputOverflow { limit }.into());
                }
                Ok(())
            }
            Message::Notification { method, params } => self.notified(&method, params),
            Message::Response { id, result } => {
                let id = id.as_u64().ok_or(ProtocolError::UnknownId)?;
                self.answered(id, result, observer)
            }
        }
    }

    /// Shows the observer what has changed since the last time.
    pub(super) fn publish(&mut self, observer: &mut impl Observer) {
        if !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes);
            observer.changed(&self.replica, &changes);
        }
    }

    /// Tells those who wait for an answer that none will come.
    pub(super) fn abandon(self) {
        for (_, pending) in self.pending {
            // the caller may have gone
            let _ = pending.request.reply.send(Err(Error::Disconnected));
        }
    }

    fn notified(&mut self, method: &str, params: Json) -> Result<()> {
        match method {
            "update" | "update2" => {
                let Phase::Live { method: ours } = self.phase else {
                    return Err(ProtocolError::UnknownMonitor.into());
                };
                let Json::Array(params) = params else {
                    return Err(ProtocolError::Params("update").into());
                };
                let Ok([monitor, updates]) = <[Json; 2]>::try_from(params) else {
                    return Err(ProtocolError::Params("update").into());
                };
                if monitor != MONITOR || method != ours.update() {
                    return Err(ProtocolError::UnknownMonitor.into());
                }
                let changes = self.apply(ours, updates)?;
                self.changes.merge(changes);
                Ok(())
            }
            "monitor_canceled" => Err(Error::MonitorCancelled),
            other => {
                tracing::debug!(method = %crate::schema::short(other), "notification not known here");
                Ok(())
            }
        }
    }

    fn answered(
        &mut self,
        id: u64,
        result: Result<Json, Json>,
        observer: &mut impl Observer,
    ) -> Result<()> {
        if id == self.aware {
            // servers before OVS 2.9 do not know it, and do not convert schemas under us
            self.aware = 0;
            return Ok(());
        }
        if self.probe.is_some_and(|(probe, _)| probe == id) {
            self.probe = None;
            return Ok(());
        }
        if let Some(pending) = self.pending.remove(&id) {
            // the caller finds its own changes in the replica
            self.publish(observer);
            let answer = match result {
                Ok(reply) => op::results(pending.request.operations, reply),
                Err(error) => Err(refused("transact", &error)),
            };
            // an answer we cannot read leaves the caller in doubt, and us as well
            let doubt = match &answer {
                Err(Error::Protocol(cause)) => Err(cause.clone().into()),
                _ => Ok(()),
            };
            // the caller may have gone
            let _ = pending.request.reply.send(answer);
            return doubt;
        }
        match std::mem::replace(&mut self.phase, Phase::Schema { id: 0 }) {
            Phase::Schema { id: expected } if id == expected && id != 0 => {
                let json = result.map_err(|error| refused("get_schema", &error))?;
                let wanted = wanted(&Schema::parse(&json)?, self.tables)?;
                self.monitor(Method::MonitorCond, wanted);
                Ok(())
            }
            Phase::Monitor { id: expected, method, wanted } if id == expected => match result {
                Ok(updates) => {
                    self.replica = Replica::new(wanted);
                    self.apply(method, updates)?;
                    self.phase = Phase::Live { method };
                    observer.replaced(&self.replica);
                    Ok(())
                }
                Err(error) if method == Method::MonitorCond && is_unknown_method(&error) => {
                    self.monitor(Method::Monitor, wanted);
                    Ok(())
                }
                Err(error) => Err(refused(method.name(), &error)),
            },
            _ => Err(ProtocolError::UnknownId.into()),
        }
    }

    fn monitor(&mut self, method: Method, wanted: Schema) {
        let params = monitor::request(&self.options.database, MONITOR, &wanted);
        let id = self.request(method.name(), &params);
        self.phase = Phase::Monitor { id, method, wanted };
    }

    fn apply(&mut self, method: Method, updates: Json) -> Result<Changes> {
        let changes = self.replica.apply(TableUpdates::parse(method, updates)?)?;
        let limits = &self.options.limits;
        if self.replica.len() > limits.replica_rows {
            return Err(ReplicaError::Rows { limit: limits.replica_rows }.into());
        }
        if self.replica.weight() > limits.replica_bytes {
            return Err(ReplicaError::Weight { limit: limits.replica_bytes }.into());
        }
        Ok(changes)
    }

    fn request(&mut self, method: &str, params: &Json) -> u64 {
        self.last_id += 1;
        let message = json!({"method": method, "params": params, "id": self.last_id});
        self.write(&message);
        self.last_id
    }

    fn send(&mut self, message: &Message) {
        self.write(&message.to_json());
    }

    fn write(&mut self, json: &Json) {
        // Display of a JSON value cannot fail, nor can writing to memory
        self.output.put_slice(json.to_string().as_bytes());
    }
}

fn refused(method: &str, error: &Json) -> Error {
    let (text, details) = match error {
        Json::Object(object) => {
            op::error_text(object.get("error").unwrap_or(&Json::Null), object.get("details"))
        }
        text => op::error_text(text, None),
    };
    Error::Refused { method: method.to_owned(), error: text, details }
}

/// OVS says it as a bare string or within an object, depending on the version.
fn is_unknown_method(error: &Json) -> bool {
    let text = error.as_str().or_else(|| error.get("error")?.as_str());
    text == Some("unknown method")
}
