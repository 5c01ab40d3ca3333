//! What people must know, as Events (events.k8s.io/v1) about the object that it concerns.
//!
//! A NetworkPolicy hears that it is in force, that a node cannot put it in force, or that it is not in force as written; a
//! Workload that an address is not its own. Events come when something becomes so, not while it is so.
//!
//! There are never many: the same thing is said once in [`WINDOW`], whoever leads, because its name is a hash of what it
//! says and of the time in such windows; and all together they are [`BURST`] at once and then one a second, of which the
//! second half is kept for warnings. What is not said for that is counted, and is in the status all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_policy::claim::Refusal;
use weir_policy::ids::{Canonical, PolicyKey};

/// Who says so, in `reportingController`.
pub const REPORTER: &str = "weir.io/controller";

/// The same thing is not said twice within this.
const WINDOW: Duration = Duration::from_secs(600);
/// Events at once.
const BURST: f64 = 50.0;
/// Events a second, in the long run.
const RATE: f64 = 1.0;
/// The longest text that the API server takes. Units: bytes.
const MAX_NOTE: usize = 1024;
/// The longest name of an event before its hash. Units: bytes. A name has 253 at most.
const MAX_NAME: usize = 253 - 17;
/// The longest `reportingInstance` that the API server takes. Units: bytes.
const MAX_INSTANCE: usize = 128;

/// How announcing goes.
#[derive(Debug, Default)]
pub struct Announced {
    /// Events written.
    pub said: AtomicU64,
    /// There were too many.
    pub dropped: AtomicU64,
    /// The API server did not take them.
    pub failed: AtomicU64,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    api: &'static str,
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
}

/// Something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    about: About,
    warning: bool,
    reason: &'static str,
    note: String,
    /// What makes it the same thing when it is said again.
    same: String,
}

impl Notice {
    /// What is new about a policy, from its status before and after.
    pub(super) fn of_policy(
        key: &PolicyKey,
        uid: &str,
        old: Option<&Value>,
        new: &Value,
    ) -> Vec<Self> {
        let condition = |of: Option<&Value>, kind: &str, field: &str| -> String {
            let all = of.and_then(|s| s["conditions"].as_array()).into_iter().flatten();
            let one = all.into_iter().find(|c| c["type"] == kind);
            one.and_then(|c| c[field].as_str()).unwrap_or_default().to_owned()
        };
        let is = |kind: &str, field: &str| condition(Some(new), kind, field);
        let was = |kind: &str, field: &str| condition(old, kind, field);
        let about = || About {
            api: "networking.k8s.io/v1",
            kind: "NetworkPolicy",
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            uid: uid.to_owned(),
        };
        let say = |warning, reason, note: String| {
            let same = note.clone();
            Self { about: about(), warning, reason, note, same }
        };
        let mut out = Vec::new();
        if is("Accepted", "status") == "False"
            && is("Accepted", "message") != was("Accepted", "message")
        {
            out.push(say(true, "Invalid", is("Accepted", "message")));
        }
        let generation = |of: &Value| of["policy"]["observedGeneration"].clone();
        let again = old.is_some_and(|old| generation(old) == generation(new));
        let desired = new["nodes"]["desired"].as_u64().unwrap_or_default();
        match is("Realized", "reason").as_str() {
            "NodeFailed" if is("Realized", "message") != was("Realized", "message") => {
                out.push(say(true, "RealizationFailed", is("Realized", "message")));
            }
            // where no node has to do anything, nothing was done
            "AllNodes" if desired > 0 && !(again && was("Realized", "status") == "True") => {
                let nodes = match desired {
                    1 => "the node that runs".to_owned(),
                    n => format!("all {n} nodes that run"),
                };
                let slowest = new["latency"]["slowest"]["took"].as_str();
                let most = if desired == 1 { "" } else { " at most" };
                let took = slowest.map(|t| format!(", after {t}{most}")).unwrap_or_default();
                let note = format!("in force on {nodes} a pod it selects{took}");
                // pods come and go, and with them nodes and times
                let same = generation(new).to_string();
                out.push(Self { same, ..say(false, "Realized", note) });
            }
            _ => {}
        }
        out
    }

    /// An address that a workload claims in vain. None where there is no such object at the API server.
    pub(super) fn of_refusal(refusal: &Refusal) -> Option<Self> {
        let (kind, name) = refusal.object.split_once(' ')?;
        let (namespace, name) = name.split_once('/')?;
        if kind != "Workload" || refusal.uid.is_empty() {
            return None;
        }
        let about = About {
            api: "weir.io/v1alpha1",
            kind: "Workload",
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: refusal.uid.to_string(),
        };
        let note = format!("{}: {}", refusal.field, refusal.reason());
        let same = note.clone();
        Some(Self { about, warning: true, reason: "AddressTaken", note, same })
    }

    fn event(&self, instance: &str, now: Timestamp) -> Value {
        let About { api, kind, namespace, name, uid } = &self.about;
        let window = now.as_second().div_euclid(WINDOW.as_secs().cast_signed());
        let mut hash = Canonical::new("weir/notice/1");
        for part in [*kind, namespace, uid, self.reason, &self.same, &window.to_string()] {
            hash.bytes(part.as_bytes());
        }
        let hash = hash.finish().word64();
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "namespace": namespace,
                "name": format!("{}.{hash:016x}", cut(name, MAX_NAME).trim_end_matches(['.', '-'])),
            },
            "eventTime": format!("{now:.6}"),
            "reportingController": REPORTER,
            "reportingInstance": cut(instance, MAX_INSTANCE),
            "action": "Enforce",
            "type": if self.warning { "Warning" } else { "Normal" },
            "reason": self.reason,
            "note": cut(&self.note, MAX_NOTE),
            "regarding": {
                "apiVersion": api, "kind": kind, "namespace": namespace, "name": name, "uid": uid,
            },
        })
    }
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// How much may be said now.
#[derive(Debug)]
pub(super) struct Budget {
    left: f64,
    at: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: BURST, at: Instant::now() }
    }
}

impl Budget {
    fn take(&mut self, warning: bool) -> bool {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left, self.at) = ((self.left + passed * RATE).min(BURST), now);
        let kept = if warning { 0.0 } else { BURST / 2.0 };
        if self.left < kept + 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

/// Says what is to be said, as far as there is room. A failure is counted and holds up nothing.
pub(super) async fn say(
    client: &Client,
    instance: &str,
    budget: &mut Budget,
    counts: &Arc<Announced>,
    notices: Vec<Notice>,
) {
    let kind = GroupVersionKind::gvk("events.k8s.io", "v1", "Event");
    let resource = ApiResource::from_gvk_with_plural(&kind, "events");
    for notice in notices {
        if !budget.take(notice.warning) {
            counts.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &notice.about.namespace, &resource);
        let event = notice.event(instance, Timestamp::now());
        // a constant of the right shape
        let Ok(event) = serde_json::from_value::<DynamicObject>(event) else {
            continue;
        };
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => counts.said.fetch_add(1, Ordering::Relaxed),
            // said already, by us or by who led before
            Err(kube::Error::Api(status)) if status.code == 409 => 0,
            Err(error) => {
                tracing::debug!(%error, reason = notice.reason, "an event is not written");
                counts.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(generation: i64, desired: u64, accepted: &str, realized: (&str, &str)) -> Value {
        let truth = |yes: bool| if yes { "True" } else { "False" };
        json!({
            "policy": {"observedGeneration": generation},
            "nodes": {"desired": desired},
            "latency": {"slowest": {"took": "19ms"}},
            "conditions": [
                {"type": "Accepted", "status": truth(accepted.is_empty()), "message": accepted},
                {"type": "Realized", "status": truth(realized.0 == "AllNodes"),
                 "reason": realized.0, "message": realized.1},
            ],
        })
    }

    fn said(old: Option<&Value>, new: &Value) -> Vec<String> {
        let key = PolicyKey::network_policy("shop", "db");
        let notices = Notice::of_policy(&key, "u1", old, new);
        notices.iter().map(|n| format!("{}: {}", n.reason, n.note)).collect()
    }

    #[test]
    fn what_becomes_so_is_said_and_what_is_so_is_not() {
        let none: [&str; 0] = [];
        let done = status(4, 2, "", ("AllNodes", ""));
        let in_force =
            "Realized: in force on all 2 nodes that run a pod it selects, after 19ms at most";
        assert_eq!(said(None, &done), [in_force]);
        assert_eq!(said(Some(&done), &done), none);
        let pending = status(4, 2, "", ("Pending", "n1"));
        assert_eq!(said(Some(&done), &pending), none);
        assert_eq!(said(Some(&pending), &done), [in_force]);
        // another generation that was there before anybody looked
        assert_eq!(said(Some(&done), &status(5, 2, "", ("AllNodes", ""))), [in_force]);
        assert_eq!(said(None, &status(1, 0, "", ("AllNodes", "no node"))), none);
        let failed = status(4, 2, "", ("NodeFailed", "n2: ingress[0]: no"));
        assert_eq!(said(Some(&pending), &failed), ["RealizationFailed: n2: ingress[0]: no"]);
        assert_eq!(said(Some(&failed), &failed), none);
        let narrow = "not in force as written: spec.ingress[0]";
        let invalid = status(4, 1, narrow, ("AllNodes", ""));
        assert_eq!(
            said(Some(&failed), &invalid),
            [
                "Invalid: not in force as written: spec.ingress[0]",
                "Realized: in force on the node that runs a pod it selects, after 19ms",
            ]
        );
    }

    #[test]
    fn an_event_has_one_name_for_ten_minutes_and_fits() {
        let long = "x".repeat(253);
        let about = About {
            api: "networking.k8s.io/v1",
            kind: "NetworkPolicy",
            namespace: "shop".to_owned(),
            name: long,
            uid: "u1".to_owned(),
        };
        let note = "ö".repeat(2000);
        let notice = Notice { about, warning: true, reason: "Invalid", same: note.clone(), note };
        let at = |second: i64| notice.event("me", Timestamp::from_second(second).unwrap());
        let name = |event: &Value| event["metadata"]["name"].as_str().unwrap().to_owned();
        assert_eq!(name(&at(1200)), name(&at(1799)));
        assert_ne!(name(&at(1200)), name(&at(1800)));
        assert_eq!(name(&at(0)).len(), 253);
        assert_eq!(at(0)["note"].as_str().unwrap().len(), MAX_NOTE);
        assert_eq!(at(0)["eventTime"], "1970-01-01T00:00:00.000000Z");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_many_and_warnings_come_first() {
        let mut budget = Budget::default();
        let mut taken = |warning: bool| (0..1000).filter(|_| budget.take(warning)).count();
        assert_eq!(taken(false), 25);
        assert_eq!(taken(true), 25);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(taken(false), 0);
        assert_eq!(taken(true), 10);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(taken(false), 25);
    }
}
