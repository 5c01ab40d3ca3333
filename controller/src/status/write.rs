//! Status as objects: one `PolicyStatus` beside each NetworkPolicy, which has no status of its own.
//!
//! Written by the replica that holds the Lease. It walks over all policies once a second, if anything happened, and writes
//! what differs from what is there; so an object is written at most once a second whatever happens in between, and the
//! API server is asked for at most [`WRITES`] things at once.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams,
    PostParams,
};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use weir_policy::ids::PolicyKey;
use weir_runtime::backoff::Backoff;

use super::Progress;
use crate::peers::Peers;
use crate::publish::{Counters, Handle, HubGone};
use crate::source::Warning;

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
}

/// An object as it was last written or read.
#[derive(Clone, Debug)]
struct Written {
    /// What it says, without what changes by itself.
    essence: Value,
    /// UID of the policy it belongs to.
    owner: String,
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
            match self.lead(&mut backoff).await {
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

    /// Until we do not lead any more.
    async fn lead(&mut self, backoff: &mut Backoff) -> Result<(), WriteError> {
        let mut written = self.list().await?;
        let mut before = None;
        while *self.leading.borrow() {
            let mark = self.mark().await;
            if before != Some(mark) {
                self.walk(&mut written).await?;
                before = Some(mark);
                backoff.reset();
            }
            let stopped = self.leading.wait_for(|leading| !*leading);
            if tokio::time::timeout(self.pace, stopped).await.is_ok() {
                return Ok(());
            }
        }
        Ok(())
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

    /// Looks at every policy, and writes what is not there yet.
    async fn walk(&self, written: &mut HashMap<PolicyKey, Written>) -> Result<(), WriteError> {
        let warnings = self.hub.warnings();
        let mut by_policy: HashMap<&str, Vec<&Warning>> = HashMap::new();
        for warning in warnings.iter() {
            by_policy.entry(&warning.object).or_default().push(warning);
        }
        let mut seen = std::collections::HashSet::new();
        for page in 0.. {
            let mut page = self.hub.policies(page * PAGE, PAGE).await?;
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
                let before = written.get(&progress.key);
                let essence = essence(&progress, warnings);
                if before.is_some_and(|b| b.essence == essence && *b.owner == *progress.uid) {
                    continue;
                }
                let before = before.cloned();
                due.push((progress, essence, before));
            }
            let writes = due.into_iter().map(|(progress, essence, before)| {
                self.write(progress, essence, before, page.revision, now.clone())
            });
            let results: Vec<_> = stream::iter(writes).buffer_unordered(WRITES).collect().await;
            let mut failed = None;
            for result in results {
                match result {
                    Ok((key, new)) => {
                        written.insert(key, new);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if page.last {
                break;
            }
        }
        let unseen = written.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        // the walk passes over one where others went meanwhile
        for key in self.hub.missing(unseen).await? {
            self.delete(&key).await?;
            written.remove(&key);
        }
        Ok(())
    }

    async fn write(
        &self,
        progress: Progress,
        essence: Value,
        before: Option<Written>,
        revision: u64,
        now: String,
    ) -> Result<(PolicyKey, Written), WriteError> {
        let key = &progress.key;
        let failed =
            |verb, error| WriteError::Api { verb, name: key.to_string(), source: Box::new(error) };
        let api = self.api(&key.namespace);
        let mut before = before;
        if before.as_ref().is_some_and(|b| *b.owner != *progress.uid) {
            // of an earlier policy of this name, and soon to be collected with it
            self.delete(key).await?;
            before = None;
        }
        let mut status = essence.clone();
        let since = date(&mut status, before.as_ref(), &now);
        status["revision"] = revision.into();
        Counters::add(&self.hub.counters().status_writes, 1);
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams::default();
        match api.patch_status(&key.name, &params, &patch).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let created = api.create(&PostParams::default(), &self.object(&progress)).await;
                match created {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(error) => return Err(failed("create", error)),
                }
                let patched = api.patch_status(&key.name, &params, &patch).await;
                patched.map_err(|error| failed("patch", error))?;
            }
            Err(error) => return Err(failed("patch", error)),
        }
        let owner = progress.uid.to_string();
        Ok((key.clone(), Written { essence, owner, since }))
    }

    async fn delete(&self, key: &PolicyKey) -> Result<(), WriteError> {
        let deleted = self.api(&key.namespace).delete(&key.name, &DeleteParams::default()).await;
        match deleted {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
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
                let ObjectMeta { namespace, name, owner_references, .. } = object.metadata;
                let (Some(namespace), Some(name)) = (namespace, name) else {
                    continue;
                };
                let owner = owner_references.into_iter().flatten().next();
                let owner = owner.map(|o| o.uid).unwrap_or_default();
                let status = object.data.get("status").cloned().unwrap_or_default();
                let key = PolicyKey::network_policy(&namespace, &name);
                out.insert(key, Written::read(status, owner));
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
    fn read(mut status: Value, owner: String) -> Self {
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
            fields.entry("latency").or_insert(Value::Null);
        }
        Self { essence: status, owner, since }
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
    let warnings: Vec<Value> =
        warnings.iter().map(|w| json!({"path": w.field, "text": w.message})).collect();
    json!({
        "policy": {
            "kind": "NetworkPolicy", "uid": &*progress.uid, "observedGeneration": generation,
        },
        "nodes": {"desired": desired, "realized": realized, "failed": failures},
        "latency": latency,
        "selectedEndpoints": progress.selected,
        "conditions": [accepted, condition("Realized", status, reason, &message, *generation)],
        "warnings": warnings,
    })
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
