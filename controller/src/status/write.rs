//! Status as objects: one `PolicyStatus` beside each NetworkPolicy, which has no status of its own.
//!
//! Written by the replica that holds the Lease. It walks over all policies once a second, if anything happened, and writes
//! what differs from what is there; so an object is written at most once a second whatever happens in between, and the
//! API server is asked for at most [`WRITES`] things at once. An object that cannot be written is tried again later and
//! later, and holds up no other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams,
    PostParams, Preconditions,
};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use weir_policy::claim::Refusal;
use weir_policy::ids::PolicyKey;
use weir_runtime::backoff::Backoff;

use super::Progress;
use super::notices::{self, Announced, Budget, Notice};
use crate::peers::Peers;
use crate::publish::{Counters, Handle, HubGone};
use crate::source::{Code, Warning};

/// The kind of the objects; weir.io/v1alpha1.
pub const KIND: &str = "PolicyStatus";

/// Policies looked at together. It bounds how long the index is busy with it.
const PAGE: usize = 256;
/// Writes under way at once.
const WRITES: usize = 8;
/// Objects of one page of the list at the start.
const LIST: u32 = 500;
/// Late and failing nodes that are named.
const NAMED: usize = 10;
/// Pauses after failures of the API server.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Pauses before an object that could not be written is tried again.
const RETRY_ONE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// So many failures in a row that are no answer about the object in question: it is the API server that is unwell.
const UNWELL: usize = 16;

/// Writes status while this replica leads.
#[derive(Clone)]
pub struct Writer {
    pub client: Client,
    pub hub: Handle,
    pub leading: watch::Receiver<bool>,
    /// The other replicas, which know about the agents that are connected to them.
    pub peers: Option<Peers>,
    /// Between two walks. 1 s.
    pub pace: Duration,
    pub writes: Arc<Writes>,
    /// Who we are, for events.
    pub instance: String,
}

/// How writing goes.
#[derive(Debug, Default)]
pub struct Writes {
    /// Objects that could not be written, or deleted, each time.
    pub failed: AtomicU64,
    /// Objects that wait for another try.
    pub waiting: AtomicU64,
    /// Events about objects.
    pub announced: Arc<Announced>,
    /// Policies that select nothing, after the last walk to the end.
    pub idle: AtomicU64,
    /// Policies by state, after the last walk to the end; absent while this replica does not lead.
    states: Mutex<Option<BTreeMap<&'static str, u64>>>,
}

impl Writes {
    /// Policies by state, when this replica has looked at all of them.
    pub fn states(&self) -> Option<BTreeMap<&'static str, u64>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_states(&self, states: Option<BTreeMap<&'static str, u64>>) {
        *self.states.lock().unwrap_or_else(PoisonError::into_inner) = states;
    }
}

/// An object as it was last written or read.
#[derive(Clone, Debug)]
struct Written {
    /// What it says, without what changes by itself.
    essence: Value,
    /// UID of the policy it belongs to.
    owner: String,
    /// Its own UID.
    uid: String,
    /// When its conditions last changed, by type, with their status.
    since: HashMap<String, (String, String)>,
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("cannot {verb} {KIND} {name}: {source}")]
    Api { verb: &'static str, name: String, source: Box<kube::Error> },
    #[error(transparent)]
    Gone(#[from] HubGone),
}

/// An object that could not be written.
#[derive(Debug)]
struct Failing {
    /// When it is tried again.
    at: Instant,
    backoff: Backoff,
    problem: String,
}

/// What a leader knows.
#[derive(Debug, Default)]
struct Memory {
    written: HashMap<PolicyKey, Written>,
    failing: HashMap<PolicyKey, Failing>,
    /// Addresses that workloads claim in vain, as far as it was said.
    refusals: BTreeSet<Refusal>,
    budget: Budget,
}

impl Memory {
    fn waits(&self, key: &PolicyKey) -> bool {
        self.failing.get(key).is_some_and(|f| f.at > Instant::now())
    }

    fn is_due(&self) -> bool {
        let now = Instant::now();
        self.failing.values().any(|f| f.at <= now)
    }

    /// One could not be written, and waits now.
    fn failed(&mut self, key: PolicyKey, error: &WriteError) {
        let problem = error.to_string();
        let failing = self.failing.entry(key).or_insert_with(|| Failing {
            at: Instant::now(),
            backoff: Backoff::new(RETRY_ONE.0, RETRY_ONE.1),
            problem: String::new(),
        });
        if failing.problem != problem {
            tracing::warn!(error = problem, "status is not written, the others go on");
            failing.problem = problem;
        }
        failing.at = Instant::now() + failing.backoff.pause();
    }
}

/// What tells that a walk could find something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    batches: u64,
    reports: u64,
    streams: usize,
    warnings: usize,
    peers: u64,
}

impl Writer {
    /// Writes until the hub is gone.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut problem = String::new();
        loop {
            if self.leading.wait_for(|leading| *leading).await.is_err() {
                // nobody will ever lead: nothing to do, and no reason to end
                return std::future::pending().await;
            }
            if self.hub.synced().await.is_err() {
                return;
            }
            // whoever stops leading stops writing, whatever is under way
            let mut leading = self.leading.clone();
            let outcome = tokio::select! {
                biased;
                _ = leading.wait_for(|leading| !*leading) => Ok(()),
                outcome = self.lead(&mut backoff) => outcome,
            };
            self.writes.set_states(None);
            self.writes.waiting.store(0, Ordering::Relaxed);
            match outcome {
                Ok(()) => problem.clear(),
                Err(WriteError::Gone(_)) => return,
                Err(error) => {
                    let error = error.to_string();
                    if error != problem {
                        tracing::warn!(error, "status is not written");
                        problem = error;
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    /// Until the API server is unwell.
    async fn lead(&self, backoff: &mut Backoff) -> Result<(), WriteError> {
        let mut memory = Memory { written: self.list().await?, ..Memory::default() };
        let mut before = None;
        loop {
            let mark = self.mark().await;
            if before != Some(mark) || memory.is_due() {
                match self.walk(&mut memory).await {
                    Ok(()) => {
                        before = Some(mark);
                        backoff.reset();
                    }
                    // what is known of the others is not forgotten for that
                    Err(error @ WriteError::Api { .. }) => {
                        tracing::debug!(%error, "the API server takes no status, trying again");
                        before = None;
                        backoff.wait().await;
                    }
                    Err(error) => return Err(error),
                }
                let waiting = memory.failing.len() as u64;
                self.writes.waiting.store(waiting, Ordering::Relaxed);
            }
            tokio::time::sleep(self.pace).await;
        }
    }

    async fn mark(&self) -> Mark {
        let counters = self.hub.counters();
        Mark {
            batches: counters.batches.load(Ordering::Relaxed),
            reports: counters.reports.load(Ordering::Relaxed),
            streams: self.hub.summary().streams,
            warnings: self.hub.warnings().as_ptr() as usize,
            peers: match &self.peers {
                Some(peers) => peers.mark().await,
                None => 0,
            },
        }
    }

    /// Looks at every policy, and writes what is not there yet. One that cannot be written holds up no other.
    async fn walk(&self, memory: &mut Memory) -> Result<(), WriteError> {
        let warnings = self.hub.warnings();
        let mut by_policy: HashMap<&str, Vec<&Warning>> = HashMap::new();
        for warning in warnings.iter() {
            by_policy.entry(&warning.object).or_default().push(warning);
        }
        let mut seen = HashSet::new();
        let mut states = BTreeMap::new();
        let mut unwell = 0;
        let mut idle = 0;
        for number in 0.. {
            let mut page = self.hub.policies(number * PAGE, PAGE).await?;
            if number == 0 {
                let now: BTreeSet<Refusal> = page.refusals.drain(..).collect();
                let news = now.difference(&memory.refusals).filter_map(Notice::of_refusal);
                let news = news.collect();
                memory.refusals = now;
                self.say(memory, news).await;
            }
            if let Some(peers) = &self.peers {
                peers.complete(&mut page.policies).await;
            }
            let now = Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string();
            let mut due = Vec::new();
            // an object without a UID is none of the API server
            for progress in page.policies.into_iter().filter(|p| !p.uid.is_empty()) {
                seen.insert(progress.key.clone());
                let title = format!("NetworkPolicy {}", progress.key);
                let warnings = by_policy.get(title.as_str()).map_or(&[][..], Vec::as_slice);
                let before = memory.written.get(&progress.key);
                idle += u64::from(progress.selected == 0);
                let essence = essence(&progress, warnings);
                *states.entry(state(&essence)).or_insert(0) += 1;
                if before.is_some_and(|b| b.essence == essence && *b.owner == *progress.uid) {
                    memory.failing.remove(&progress.key);
                    continue;
                }
                if memory.waits(&progress.key) {
                    continue;
                }
                let before = before.cloned();
                due.push((progress, essence, before));
            }
            let writes = due.into_iter().map(|(progress, essence, before)| {
                let (key, now) = (progress.key.clone(), now.clone());
                let write = self.write(progress, essence, before, page.revision, now);
                write.map(|written| (key, written))
            });
            let mut writes = stream::iter(writes).buffer_unordered(WRITES);
            let mut news = Vec::new();
            while let Some((key, result)) = writes.next().await {
                match result {
                    Ok(new) => {
                        unwell = 0;
                        memory.failing.remove(&key);
                        // one of another owner is of an earlier policy of this name
                        let old = memory.written.get(&key).filter(|old| old.owner == new.owner);
                        let old = old.map(|old| &old.essence);
                        news.extend(Notice::of_policy(&key, &new.owner, old, &new.essence));
                        memory.written.insert(key, new);
                    }
                    Err(error) => unwell = self.failed(memory, key, error, unwell)?,
                }
            }
            self.say(memory, news).await;
            if page.last {
                break;
            }
        }
        self.writes.set_states(Some(states));
        self.writes.idle.store(idle, Ordering::Relaxed);
        let unseen = memory.written.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        memory.failing.retain(|key, _| seen.contains(key) || memory.written.contains_key(key));
        // the walk passes over one where others went meanwhile
        for key in self.hub.missing(unseen).await? {
            if memory.waits(&key) {
                continue;
            }
            let uid = memory.written.get(&key).map(|w| w.uid.clone()).unwrap_or_default();
            match self.delete(&key, uid).await {
                Ok(()) => {
                    memory.written.remove(&key);
                    memory.failing.remove(&key);
                }
                Err(error) => unwell = self.failed(memory, key, error, unwell)?,
            }
        }
        Ok(())
    }

    async fn say(&self, memory: &mut Memory, notices: Vec<Notice>) {
        let counts = &self.writes.announced;
        notices::say(&self.client, &self.instance, &mut memory.budget, counts, notices).await;
    }

    /// One could not be written. Gives how many failures in a row are none of the object's.
    ///
    /// Errors: the same, when the others would fare no better.
    fn failed(
        &self,
        memory: &mut Memory,
        key: PolicyKey,
        error: WriteError,
        unwell: usize,
    ) -> Result<usize, WriteError> {
        let WriteError::Api { source, .. } = &error else {
            return Err(error);
        };
        // 429 is about all of them
        let of_its_own = matches!(&**source, kube::Error::Api(status)
            if (400..500).contains(&status.code) && status.code != 429);
        self.writes.failed.fetch_add(1, Ordering::Relaxed);
        memory.failed(key, &error);
        match of_its_own {
            true => Ok(0),
            false if unwell + 1 >= UNWELL => Err(error),
            false => Ok(unwell + 1),
        }
    }

    async fn write(
        &self,
        progress: Progress,
        essence: Value,
        before: Option<Written>,
        revision: u64,
        now: String,
    ) -> Result<Written, WriteError> {
        let key = &progress.key;
        let failed =
            |verb, error| WriteError::Api { verb, name: key.to_string(), source: Box::new(error) };
        let api = self.api(&key.namespace);
        let mut before = before;
        if let Some(old) = before.take_if(|b| *b.owner != *progress.uid) {
            // of an earlier policy of this name, and soon to be collected with it
            self.delete(key, old.uid).await?;
        }
        let mut status = essence.clone();
        let since = date(&mut status, before.as_ref(), &now);
        status["revision"] = revision.into();
        Counters::add(&self.hub.counters().status_writes, 1);
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams::default();
        let there = match api.patch_status(&key.name, &params, &patch).await {
            Ok(there) => there,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let created = api.create(&PostParams::default(), &self.object(&progress)).await;
                match created {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(error) => return Err(failed("create", error)),
                }
                let patched = api.patch_status(&key.name, &params, &patch).await;
                patched.map_err(|error| failed("patch", error))?
            }
            Err(error) => return Err(failed("patch", error)),
        };
        let (owner, uid) = (progress.uid.to_string(), there.metadata.uid.unwrap_or_default());
        Ok(Written { essence, owner, uid, since })
    }

    /// Takes away the object with this UID, and no other of its name.
    async fn delete(&self, key: &PolicyKey, uid: String) -> Result<(), WriteError> {
        let only =
            Preconditions { uid: Some(uid).filter(|u| !u.is_empty()), resource_version: None };
        let params = DeleteParams::default().preconditions(only);
        let deleted = self.api(&key.namespace).delete(&key.name, &params).await;
        match deleted {
            Ok(_) => Ok(()),
            // gone already, and perhaps there is another
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(WriteError::Api {
                verb: "delete",
                name: key.to_string(),
                source: Box::new(error),
            }),
        }
    }

    /// What is there: another replica led before us, or we did before a restart.
    async fn list(&self) -> Result<HashMap<PolicyKey, Written>, WriteError> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource());
        let mut params = ListParams::default().limit(LIST);
        let mut out = HashMap::new();
        loop {
            let list = api.list(&params).await.map_err(|error| WriteError::Api {
                verb: "list",
                name: "of all namespaces".to_owned(),
                source: Box::new(error),
            })?;
            for object in list.items {
                let ObjectMeta { namespace, name, uid, owner_references, .. } = object.metadata;
                let (Some(namespace), Some(name)) = (namespace, name) else {
                    continue;
                };
                let owner = owner_references.into_iter().flatten().next();
                let owner = owner.map(|o| o.uid).unwrap_or_default();
                let status = object.data.get("status").cloned().unwrap_or_default();
                let key = PolicyKey::network_policy(&namespace, &name);
                out.insert(key, Written::read(status, owner, uid.unwrap_or_default()));
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(out),
            }
        }
    }

    fn object(&self, progress: &Progress) -> DynamicObject {
        let key = &progress.key;
        let owner = json!([{
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "name": &*key.name, "uid": &*progress.uid,
            "controller": true, "blockOwnerDeletion": false,
        }]);
        let mut object = DynamicObject::new(&key.name, &resource()).within(&key.namespace);
        // a constant of the right shape
        object.metadata.owner_references = serde_json::from_value(owner).ok();
        object
    }

    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource())
    }
}

fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("weir.io", "v1alpha1", KIND);
    ApiResource::from_gvk_with_plural(&kind, "policystatuses")
}

impl Written {
    fn read(mut status: Value, owner: String, uid: String) -> Self {
        let mut since = HashMap::new();
        let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten() {
            let text = |name: &str| condition.get(name).and_then(Value::as_str).map(str::to_owned);
            if let (Some(kind), Some(status), Some(time)) =
                (text("type"), text("status"), text("lastTransitionTime"))
            {
                since.insert(kind, (status, time));
            }
            if let Some(fields) = condition.as_object_mut() {
                fields.remove("lastTransitionTime");
            }
        }
        if let Some(fields) = status.as_object_mut() {
            fields.remove("revision");
            // absent and null are the same to the API server
            for optional in ["latency", "flowsPerNode"] {
                fields.entry(optional).or_insert(Value::Null);
            }
        }
        Self { essence: status, owner, uid, since }
    }
}

/// Says when each condition came to its present status.
fn date(
    status: &mut Value,
    before: Option<&Written>,
    now: &str,
) -> HashMap<String, (String, String)> {
    let mut since = HashMap::new();
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let text = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
        let (kind, is) = (text("type"), text("status"));
        let time = before.and_then(|b| b.since.get(&kind)).filter(|(was, _)| *was == is);
        let time = time.map_or_else(|| now.to_owned(), |(_, time)| time.clone());
        condition["lastTransitionTime"] = time.clone().into();
        since.insert(kind, (is, time));
    }
    since
}

/// The status without what changes by itself: the revision of the whole picture, and times.
fn essence(progress: &Progress, warnings: &[&Warning]) -> Value {
    let Progress { generation, desired, realized, failures, pending, .. } = progress;
    let accepted = if warnings.is_empty() {
        condition("Accepted", "True", "Valid", "", *generation)
    } else {
        let fields: Vec<&str> = warnings.iter().map(|w| w.field.as_str()).collect();
        let message = format!("not in force as written: {}", some(&fields));
        condition("Accepted", "False", "Invalid", &message, *generation)
    };
    let failed: Vec<String> = failures.iter().map(|(node, why)| format!("{node}: {why}")).collect();
    let late: Vec<String> = pending
        .iter()
        .map(|(node, connected)| match connected {
            true => node.to_string(),
            false => format!("{node}: not connected"),
        })
        .collect();
    let away = pending.values().any(|connected| !connected);
    let (status, reason, message) = match (failed.is_empty(), late.is_empty()) {
        (false, _) => ("False", "NodeFailed", some(&failed)),
        (true, false) if away => ("False", "NodesLate", some(&late)),
        (true, false) => ("False", "Pending", some(&late)),
        (true, true) if progress.selected == 0 => ("True", "AllNodes", "selects no pod".to_owned()),
        (true, true) if *desired == 0 => {
            ("True", "AllNodes", "no node runs a pod it selects".to_owned())
        }
        (true, true) => ("True", "AllNodes", String::new()),
    };
    let failures: Vec<Value> = failures
        .iter()
        .take(NAMED)
        .map(|(node, reason)| json!({"node": &**node, "reason": reason}))
        .collect();
    let latency = progress.latency().map(|l| {
        json!({
            "p50": took(l.p50), "p99": took(l.p99),
            "slowest": {"node": &*l.slowest.0, "took": took(l.slowest.1)},
        })
    });
    let mut warnings: Vec<Value> = warnings
        .iter()
        .map(|w| json!({"code": w.code.as_str(), "path": w.field, "text": w.message}))
        .collect();
    if progress.selected == 0 {
        let text = "selects no pod and no workload";
        let code = Code::SelectsNothing.as_str();
        warnings.push(json!({"code": code, "path": "spec.podSelector", "text": text}));
    }
    let flows = progress.flows.as_ref().map(|(max, node)| json!({"max": max, "node": &**node}));
    json!({
        "policy": {
            "kind": "NetworkPolicy", "uid": &*progress.uid, "observedGeneration": generation,
        },
        "nodes": {"desired": desired, "realized": realized, "failed": failures},
        "latency": latency,
        "selectedEndpoints": progress.selected,
        "flowsPerNode": flows,
        "conditions": [accepted, condition("Realized", status, reason, &message, *generation)],
        "warnings": warnings,
    })
}

/// A policy in one word.
fn state(essence: &Value) -> &'static str {
    let reasons: Vec<&str> = essence["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["reason"].as_str())
        .collect();
    let is = |reason: &str| reasons.contains(&reason);
    match () {
        () if is("Invalid") => "invalid",
        () if is("NodeFailed") => "failed",
        () if is("NodesLate") => "late",
        () if is("Pending") => "pending",
        () => "realized",
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, generation: i64) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "observedGeneration": generation,
    })
}

/// A few of many, in words.
fn some(all: &[impl AsRef<str>]) -> String {
    let named: Vec<&str> = all.iter().take(NAMED).map(AsRef::as_ref).collect();
    let rest = all.len() - named.len();
    let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

/// Units: microseconds.
fn took(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        _ => format!("{}ms", us / 1000),
    }
}
