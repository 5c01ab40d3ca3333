//! One connection's protocol, without its socket: messages in, bytes and changes out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::client::drive::Shown;
use crate::client::lock::{LockState, Locks};
use crate::client::{Observer, Options, Request, TableRequest, wanted};
use crate::error::{Error, ProtocolError, Result};
use crate::monitor::{self, Method, TableUpdates};
use crate::op::{self, Condition, OperationKind, Outcome};
use crate::replica::{Changes, Replica};
use crate::rpc::Message;
use crate::schema::Schema;

/// The name of our monitor; one per connection.
const MONITOR: &str = "replica";

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

/// A request whose answer somebody waits for.
struct Pending {
    answer: Answer,
    since: Instant,
}

/// What is to be done with an answer.
enum Answer {
    Transact { operations: Vec<OperationKind>, reply: oneshot::Sender<Result<Vec<Outcome>>> },
    Call { method: String, reply: oneshot::Sender<Result<Json>> },
    Conditions { table: String, conditions: Vec<Condition>, reply: oneshot::Sender<Result<()>> },
    Lock { name: String, generation: u64 },
    Unlock { done: Option<oneshot::Sender<()>> },
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
    tables: &'a mut [TableRequest],
    locks: &'a Locks,
    pub(super) output: BytesMut,
    phase: Phase,
    last_id: u64,
    /// The request whose answer does not matter.
    aware: u64,
    probe: Option<(u64, Instant)>,
    pending: BTreeMap<u64, Pending>,
    /// Locks asked for on this connection, with the generation of the handle.
    asked: BTreeMap<String, u64>,
    changes: Changes,
    started: Instant,
    heard: Instant,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        options: &'a Options,
        tables: &'a mut [TableRequest],
        locks: &'a Locks,
        now: Instant,
    ) -> Self {
        let mut session = Self {
            options,
            tables,
            locks,
            output: BytesMut::new(),
            phase: Phase::Schema { id: 0 },
            last_id: 0,
            aware: 0,
            probe: None,
            pending: BTreeMap::new(),
            asked: BTreeMap::new(),
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
                let fail = Alarm::Fail { what: "answer to a request", after: request_timeout };
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

    /// Sends a caller's request.
    pub(super) fn submit(&mut self, request: Request, now: Instant) {
        let before = self.output.len();
        let (id, answer) = match request {
            Request::Transact { operations, params, reply } => {
                (self.request("transact", &params), Answer::Transact { operations, reply })
            }
            Request::Call { method, params, reply } => {
                (self.request(&method, &params), Answer::Call { method, reply })
            }
            Request::Conditions { table, conditions, reply } => {
                if let Some(error) = self.cannot_change(&table) {
                    // the caller may have gone
                    let _ = reply.send(Err(error));
                    return;
                }
                let params = monitor::change_request(MONITOR, &table, &conditions);
                let id = self.request("monitor_cond_change", &params);
                (id, Answer::Conditions { table, conditions, reply })
            }
        };
        let (size, limit) = (self.output.len() - before, self.options.limits.output_bytes);
        if size > limit {
            self.output.truncate(before);
            answer.fail(Error::RequestTooLarge { size, limit });
            return;
        }
        self.pending.insert(id, Pending { answer, since: now });
    }

    /// Why a table's conditions cannot be changed.
    fn cannot_change(&self, table: &str) -> Option<Error> {
        if !self.tables.iter().any(|request| request.name == table) {
            return Some(Error::NotMonitored(table.to_owned()));
        }
        match self.phase {
            Phase::Live { method: Method::MonitorCond } => None,
            _ => Some(Error::NoConditions(table.to_owned())),
        }
    }

    /// Asks for the locks that are wanted and not asked for yet, and gives back those that are no longer wanted.
    pub(super) fn settle_locks(&mut self, now: Instant) {
        if !self.is_live() {
            return;
        }
        let locks = self.locks;
        let mut wanted = locks.wanted();
        for (name, generation, done) in std::mem::take(&mut wanted.released) {
            // a handle that was never asked for here is free already
            if self.asked.get(&name) == Some(&generation) {
                self.asked.remove(&name);
                let id = self.request("unlock", &json!([name]));
                self.pending.insert(id, Pending { answer: Answer::Unlock { done }, since: now });
            }
        }
        for (name, slot) in &wanted.slots {
            if self.asked.contains_key(name) {
                continue;
            }
            let id = self.request(if slot.steal { "steal" } else { "lock" }, &json!([name]));
            self.asked.insert(name.clone(), slot.generation);
            let answer = Answer::Lock { name: name.clone(), generation: slot.generation };
            self.pending.insert(id, Pending { answer, since: now });
        }
    }

    /// Takes one message.
    pub(super) fn receive<O: Observer>(&mut self, json: Json, shown: &mut Shown<O>) -> Result<()> {
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
            Message::Notification { method, params } => self.notified(&method, params, shown),
            Message::Response { id, result } => {
                let id = id.as_u64().ok_or(ProtocolError::UnknownId)?;
                self.answered(id, result, shown)
            }
        }
    }

    /// Shows the observer what has changed since the last time.
    pub(super) fn publish<O: Observer>(&mut self, shown: &mut Shown<O>) {
        if !self.changes.is_empty() {
            shown.changed(&std::mem::take(&mut self.changes));
        }
    }

    /// Tells those who wait for an answer that none will come.
    pub(super) fn abandon(self) {
        for (_, pending) in self.pending {
            pending.answer.fail(Error::Disconnected);
        }
        self.locks.lost();
    }

    fn notified<O: Observer>(
        &mut self,
        method: &str,
        params: Json,
        shown: &mut Shown<O>,
    ) -> Result<()> {
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
                let updates = TableUpdates::parse(ours, updates)?;
                self.changes.merge(shown.replica.apply(updates)?);
                Ok(())
            }
            "locked" | "stolen" => {
                let name = params.get(0).and_then(Json::as_str);
                let name = name.ok_or(ProtocolError::Params("a lock's notification"))?;
                // of one that was given back meanwhile there is nobody to tell
                if let Some(generation) = self.asked.get(name) {
                    let held = method == "locked";
                    let state = if held { LockState::Held } else { LockState::Stolen };
                    self.locks.tell(name, *generation, state);
                }
                Ok(())
            }
            "monitor_canceled" => Err(Error::MonitorCancelled),
            other => {
                tracing::debug!(method = %crate::schema::short(other), "notification not known here");
                Ok(())
            }
        }
    }

    fn answered<O: Observer>(
        &mut self,
        id: u64,
        result: Result<Json, Json>,
        shown: &mut Shown<O>,
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
            self.publish(shown);
            return self.settle(pending.answer, result);
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
                    let limits = &self.options.limits;
                    let mut replica =
                        Replica::new(wanted).with_limits(limits.replica_rows, limits.replica_bytes);
                    replica.apply(TableUpdates::parse(method, updates)?)?;
                    self.phase = Phase::Live { method };
                    shown.replaced(replica);
                    Ok(())
                }
                Err(error) if method == Method::MonitorCond && is_unknown_method(&error) => {
                    if let Some(table) = self.tables.iter().find(|t| !t.conditions.is_empty()) {
                        return Err(Error::NoConditions(table.name.clone()));
                    }
                    self.monitor(Method::Monitor, wanted);
                    Ok(())
                }
                Err(error) => Err(refused(method.name(), &error)),
            },
            _ => Err(ProtocolError::UnknownId.into()),
        }
    }

    /// Gives an answer to who asked.
    fn settle(&mut self, answer: Answer, result: Result<Json, Json>) -> Result<()> {
        // callers may have gone
        match answer {
            Answer::Transact { operations, reply } => {
                let outcome = match result {
                    Ok(json) => op::outcomes(&operations, json),
                    Err(error) => Err(refused("transact", &error)),
                };
                // an answer we cannot read leaves the caller in doubt, and us as well
                let doubt = match &outcome {
                    Err(Error::Protocol(cause)) => Err(cause.clone().into()),
                    _ => Ok(()),
                };
                let _ = reply.send(outcome);
                return doubt;
            }
            Answer::Call { method, reply } => {
                let _ = reply.send(result.map_err(|error| refused(&method, &error)));
            }
            Answer::Conditions { table, conditions, reply } => {
                let outcome = result.map_err(|error| refused("monitor_cond_change", &error));
                if outcome.is_ok() {
                    for request in self.tables.iter_mut().filter(|request| request.name == table) {
                        request.conditions.clone_from(&conditions);
                    }
                }
                let _ = reply.send(outcome.map(drop));
            }
            Answer::Lock { name, generation } => {
                let state = match result {
                    Ok(reply) => match reply.get("locked").and_then(Json::as_bool) {
                        Some(true) => LockState::Held,
                        Some(false) => LockState::Waiting,
                        None => return Err(ProtocolError::Results("lock without locked").into()),
                    },
                    Err(error) => {
                        let (error, details) = words(&error);
                        LockState::Refused { error, details }
                    }
                };
                self.locks.tell(&name, generation, state);
            }
            Answer::Unlock { done } => {
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
        }
        Ok(())
    }

    fn monitor(&mut self, method: Method, wanted: Schema) {
        let conditions = |table: &str| -> &[Condition] {
            let request = self.tables.iter().find(|request| request.name == table);
            request.map_or(&[], |request| &request.conditions)
        };
        let params = monitor::request(&self.options.database, MONITOR, &wanted, conditions);
        let id = self.request(method.name(), &params);
        self.phase = Phase::Monitor { id, method, wanted };
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

impl Answer {
    /// Tells the caller, who may have gone, that it failed.
    fn fail(self, error: Error) {
        match self {
            Self::Transact { reply, .. } => drop(reply.send(Err(error))),
            Self::Call { reply, .. } => drop(reply.send(Err(error))),
            Self::Conditions { reply, .. } => drop(reply.send(Err(error))),
            Self::Lock { .. } | Self::Unlock { .. } => {}
        }
    }
}

fn refused(method: &str, error: &Json) -> Error {
    let (error, details) = words(error);
    Error::Refused { method: method.to_owned(), error, details }
}

/// A refusal's words, which come bare or within an object.
fn words(error: &Json) -> (String, Option<String>) {
    match error {
        Json::Object(object) => {
            op::error_text(object.get("error").unwrap_or(&Json::Null), object.get("details"))
        }
        text => op::error_text(text, None),
    }
}

/// OVS says it as a bare string or within an object, depending on the version.
fn is_unknown_method(error: &Json) -> bool {
    let text = error.as_str().or_else(|| error.get("error")?.as_str());
    text == Some("unknown method")
}
