//! PolicyStatus objects: written by the one that leads, from what all replicas know.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]

mod fake_api;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake_api::{FakeApi, Fault};
use serde_json::{Value, json};
use support::{Agent, Rig};
use tokio::sync::watch;
use weir_api::convert::key_to_proto;
use weir_api::v1;
use weir_controller::certs::Credentials;
use weir_controller::peers::{ADDRESS, Pace, Peers, Presence};
use weir_controller::pki::Role;
use weir_controller::status::{Writer, Writes};
use weir_policy::ids::PolicyKey;
use weir_runtime::task::{Task, spawn};

/// Longer than any step takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const WORLD: &str = "
{kind: Namespace, metadata: {name: shop}}
---
{kind: Pod, metadata: {namespace: shop, name: a, uid: pa, labels: {app: db}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.0.1.1}]}}
---
{kind: Pod, metadata: {namespace: shop, name: b, uid: pb, labels: {app: db}}, spec: {nodeName: n2}, status: {podIPs: [{ip: 10.0.2.1}]}}
---
{kind: NetworkPolicy, metadata: {namespace: shop, name: db, uid: p1, generation: 4}, spec: {podSelector: {matchLabels: {app: db}}}}
---
{kind: NetworkPolicy, metadata: {namespace: shop, name: none, uid: p2, generation: 1}, spec: {podSelector: {matchLabels: {app: x}}}}
";

const DB: &str = "PolicyStatus shop/db";

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

fn reason(status: &Value) -> String {
    condition(status, "Realized")["reason"].as_str().unwrap_or_default().to_owned()
}

fn result(generation: i64, failures: &[&str]) -> v1::PolicyResult {
    v1::PolicyResult {
        policy: Some(key_to_proto(&PolicyKey::network_policy("shop", "db"))),
        generation,
        realized: failures.is_empty(),
        failures: failures.iter().map(|f| (*f).to_owned()).collect(),
        flows: 4,
    }
}

async fn lead(api: &FakeApi, rig: &Rig, peers: Option<Peers>) -> (watch::Sender<bool>, Task<()>) {
    let (leads, leading) = watch::channel(true);
    let (client, hub) = (api.client().await, rig.hub.clone());
    let writer = Writer {
        client,
        hub,
        leading,
        peers,
        pace: Duration::from_millis(5),
        writes: Arc::default(),
        instance: "test".to_owned(),
    };
    (leads, spawn("status", writer.run()))
}

/// An agent that has everything.
async fn synced(rig: &Rig, node: &str) -> Agent {
    let mut agent = rig.agent(node).await;
    agent.step().await.unwrap();
    agent
}

#[tokio::test]
async fn a_status_follows_its_policy() {
    let api = FakeApi::start().await;
    let mut rig = Rig::with(WORLD).await;
    let (leads, _writer) = lead(&api, &rig, None).await;
    let late = api.wait(DB, |s| reason(s) == "NodesLate").await;
    assert_eq!(late["metadata"]["ownerReferences"][0]["uid"], "p1");
    assert_eq!(late["metadata"]["ownerReferences"][0]["kind"], "NetworkPolicy");
    let status = &late["status"];
    assert_eq!(
        status["policy"],
        json!({"kind": "NetworkPolicy", "uid": "p1", "observedGeneration": 4})
    );
    assert_eq!(status["nodes"], json!({"desired": 2, "realized": 0, "failed": []}));
    assert_eq!(status["selectedEndpoints"], 2);
    assert_eq!(status["flowsPerNode"], Value::Null, "nobody has told any");
    assert_eq!(status["warnings"], json!([]));
    assert_eq!(condition(&late, "Accepted")["reason"], "Valid");
    let message = condition(&late, "Realized")["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "n1: not connected, n2: not connected");
    let none = api.wait("PolicyStatus shop/none", |s| reason(s) == "AllNodes").await;
    assert_eq!(none["status"]["nodes"]["desired"], 0);
    let idle = json!([{
        "code": "selects-nothing", "path": "spec.podSelector",
        "text": "selects no pod and no workload",
    }]);
    assert_eq!(none["status"]["warnings"], idle);
    assert_eq!(condition(&none, "Accepted")["status"], "True");

    let (n1, n2) = (synced(&rig, "n1").await, synced(&rig, "n2").await);
    n1.realized(vec![result(4, &[])]).await;
    let one =
        api.wait(DB, |s| reason(s) == "Pending" && s["status"]["nodes"]["realized"] == 1).await;
    assert_eq!(one["status"]["flowsPerNode"], json!({"max": 4, "node": "n1"}));
    n2.realized(vec![result(4, &["ingress[0]: OFPFMFC_TABLE_FULL"])]).await;
    let failed = api.wait(DB, |s| reason(s) == "NodeFailed").await;
    let node = json!([{"node": "n2", "reason": "ingress[0]: OFPFMFC_TABLE_FULL"}]);
    assert_eq!(failed["status"]["nodes"]["failed"], node);
    let since = condition(&failed, "Realized")["lastTransitionTime"].clone();
    assert_eq!(since, condition(&late, "Realized")["lastTransitionTime"], "it is False as before");
    n2.realized(vec![result(4, &[])]).await;
    let done = api.wait(DB, |s| reason(s) == "AllNodes").await;
    assert_eq!(condition(&done, "Realized")["status"], "True");
    assert_eq!(condition(&done, "Realized")["observedGeneration"], 4);

    let more = v1::PolicyResult { flows: 9, ..result(4, &[]) };
    n2.realized(vec![more]).await;
    api.wait(DB, |s| s["status"]["flowsPerNode"] == json!({"max": 9, "node": "n2"})).await;
    n2.realized(vec![result(4, &[])]).await;
    api.wait(DB, |s| s["status"]["flowsPerNode"] == json!({"max": 4, "node": "n2"})).await;

    // one that leads after us finds everything as it should be
    leads.send_replace(false);
    let before = api.requests("PATCH");
    let (_leads, _second) = lead(&api, &rig, None).await;
    api.wait_request("GET /apis/weir.io/v1alpha1/policystatuses", 2).await;
    rig.apply("{kind: NetworkPolicy, metadata: {namespace: shop, name: new, uid: p3, generation: 1}, spec: {podSelector: {}}}").await;
    api.wait("PolicyStatus shop/new", |s| !reason(s).is_empty()).await;
    // the new one: once in vain, once after it was made
    assert_eq!(api.requests("PATCH") - before, 2);

    let gone = weir_controller::event::Event::PolicyDeleted {
        key: PolicyKey::network_policy("shop", "db"),
        uid: "p1".into(),
    };
    rig.send(vec![gone]).await;
    api.wait_gone(DB).await;
    assert!(api.get("PolicyStatus shop/none").is_some());
}

/// Reason, type and what it is about, of all events.
fn said(api: &FakeApi) -> Vec<String> {
    let mut out: Vec<String> = api
        .all("events")
        .iter()
        .map(|e| {
            let text = |pointer: &str| e.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
            assert_eq!(text("/reportingController"), weir_controller::status::REPORTER);
            assert_eq!(e["reportingInstance"], "test");
            let about = ["kind", "namespace", "name", "uid"];
            let about = about.map(|f| text(&format!("/regarding/{f}")));
            assert_eq!(e["metadata"]["namespace"], about[1]);
            format!("{} {} {}: {}", text("/type"), text("/reason"), about.join(" "), text("/note"))
        })
        .collect();
    out.sort();
    out
}

#[tokio::test]
async fn events_say_what_became_so_once() {
    let api = FakeApi::start().await;
    let mut rig = Rig::with(WORLD).await;
    let (leads, _writer) = lead(&api, &rig, None).await;
    api.wait(DB, |s| reason(s) == "NodesLate").await;
    assert_eq!(said(&api), [""; 0], "a node that is away is no news of the policy's");
    let (n1, n2) = (synced(&rig, "n1").await, synced(&rig, "n2").await);
    n1.realized(vec![result(4, &[])]).await;
    n2.realized(vec![result(4, &["ingress[0]: OFPFMFC_TABLE_FULL"])]).await;
    let failed =
        "Warning RealizationFailed NetworkPolicy shop db p1: n2: ingress[0]: OFPFMFC_TABLE_FULL";
    api.until(|| said(&api) == [failed]).await;
    n2.realized(vec![result(4, &[])]).await;
    let realized = "Normal Realized NetworkPolicy shop db p1: in force on all 2 nodes that run a pod it selects";
    api.until(|| said(&api).len() == 2 && said(&api)[0].starts_with(realized)).await;

    // a workload that claims what a pod has
    rig.apply("{kind: Workload, apiVersion: weir.io/v1alpha1, metadata: {namespace: shop, name: vm, uid: w1}, spec: {addresses: [10.0.1.1]}}").await;
    let taken = "Warning AddressTaken Workload shop vm w1: spec.addresses[0]: 10.0.1.1 is an address of Pod shop/a, \
        the workload does not have it";
    api.until(|| said(&api).contains(&taken.to_owned())).await;

    // who leads then says nothing of it again
    leads.send_replace(false);
    let (_leads, _second) = lead(&api, &rig, None).await;
    api.wait_request("GET /apis/weir.io/v1alpha1/policystatuses", 2).await;
    rig.apply("{kind: NetworkPolicy, metadata: {namespace: shop, name: new, uid: p3, generation: 1}, spec: {podSelector: {}}}").await;
    api.wait("PolicyStatus shop/new", |s| !reason(s).is_empty()).await;
    assert_eq!(said(&api).len(), 3);
}

/// One that cannot be written costs nothing else.
#[tokio::test]
async fn events_that_are_refused_hold_up_no_status() {
    let api = FakeApi::start().await;
    let rig = Rig::with(WORLD).await;
    api.deny("/events");
    let (_leads, _writer) = lead(&api, &rig, None).await;
    let (n1, n2) = (synced(&rig, "n1").await, synced(&rig, "n2").await);
    n1.realized(vec![result(4, &[])]).await;
    n2.realized(vec![result(4, &["ingress[0]: no"])]).await;
    api.wait_request("/events", 1).await;
    n2.realized(vec![result(4, &[])]).await;
    api.wait(DB, |s| reason(s) == "AllNodes").await;
}

#[tokio::test]
async fn only_the_one_that_leads_writes_and_it_goes_on_after_trouble() {
    let api = FakeApi::start().await;
    let rig = Rig::with(WORLD).await;
    let (leads, leading) = watch::channel(false);
    let (client, hub) = (api.client().await, rig.hub.clone());
    let pace = Duration::from_millis(5);
    let writer = Writer {
        client,
        hub,
        leading,
        peers: None,
        pace,
        writes: Arc::default(),
        instance: "test".to_owned(),
    };
    let _writer = spawn("status", writer.run());
    let _n1 = synced(&rig, "n1").await;
    assert_eq!(api.requests("policystatuses"), 0);
    api.fault("PATCH", Fault::Refuse(500, "no".to_owned()));
    leads.send_replace(true);
    api.wait(DB, |s| !reason(s).is_empty()).await;
    // a name that is used again is another policy
    api.wait("PolicyStatus shop/none", |s| !reason(s).is_empty()).await;
}

#[tokio::test]
async fn what_other_replicas_know_counts() {
    let api = FakeApi::start().await;
    let (here, there) = (Rig::with(WORLD).await, Rig::with(WORLD).await);
    let (addresses, others) = watch::channel(Vec::new());
    let pair = there.issue(Role::Replica("r1".to_owned()));
    let ca = there.authority.certificate().to_owned();
    let (_keep, credentials) = watch::channel(Some(Credentials { ca, pair }));
    let peers = Peers::new(others, credentials);
    let (_leads, _writer) = lead(&api, &here, Some(peers)).await;
    let n1 = synced(&here, "n1").await;
    n1.realized(vec![result(4, &[])]).await;
    api.wait(DB, |s| s["status"]["nodes"]["realized"] == 1 && reason(s) == "NodesLate").await;
    // the other node is connected to the other replica
    let n2 = synced(&there, "n2").await;
    addresses.send_replace(vec![there.url.trim_start_matches("https://").to_owned()]);
    api.wait(DB, |s| reason(s) == "Pending").await;
    n2.realized(vec![result(4, &["ingress[0]: no"])]).await;
    let failed = api.wait(DB, |s| reason(s) == "NodeFailed").await;
    assert_eq!(failed["status"]["nodes"]["failed"][0]["node"], "n2");
    n2.realized(vec![result(4, &[])]).await;
    api.wait(DB, |s| reason(s) == "AllNodes" && s["status"]["nodes"]["realized"] == 2).await;
    // and without it they are away again
    addresses.send_replace(Vec::new());
    api.wait(DB, |s| reason(s) == "NodesLate").await;
}

#[tokio::test]
async fn replicas_find_each_other() {
    let api = FakeApi::start().await;
    let pace = Pace { renew: Duration::from_millis(10), duration: Duration::from_millis(500) };
    let mut all = Vec::new();
    for id in ["a", "b", "c"] {
        let presence = Presence {
            client: api.client().await,
            namespace: "weir-system".to_owned(),
            id: id.to_owned(),
            address: format!("10.0.0.{}:9443", all.len()),
            pace,
        };
        let (to, others) = watch::channel(Vec::new());
        let drain = tokio_util::sync::CancellationToken::new();
        all.push((spawn("presence", presence.run(to, drain.clone())), others, drain));
    }
    let [(a, others, drain), (b, ..), (_c, of_c, _)] = &mut all[..] else { unreachable!() };
    let two = ["10.0.0.1:9443", "10.0.0.2:9443"].map(str::to_owned);
    let found = others.wait_for(|o| *o == two);
    tokio::time::timeout(PATIENCE, found).await.expect("not found").unwrap();
    // one each, under names that are known beforehand
    let mut holders: Vec<(String, String)> = (0..3)
        .map(|slot| {
            let lease = api.get(&format!("Lease weir-system/weir-controller.{slot}")).unwrap();
            let text = |v: &Value| v.as_str().unwrap().to_owned();
            let address = text(&lease["metadata"]["annotations"][ADDRESS]);
            (text(&lease["spec"]["holderIdentity"]), address)
        })
        .collect();
    let slot_of = |id: &str| {
        let slot = holders.iter().position(|(holder, _)| holder == id).unwrap();
        format!("Lease weir-system/weir-controller.{slot}")
    };
    let (of_a, of_b) = (slot_of("a"), slot_of("b"));
    holders.sort();
    assert_eq!(holders[0], ("a".to_owned(), "10.0.0.0:9443".to_owned()));
    // one ends, and one dies
    drain.cancel();
    b.abort();
    let none = of_c.wait_for(Vec::is_empty);
    tokio::time::timeout(PATIENCE, none).await.expect("still there").unwrap();
    api.wait_gone(&of_a).await;
    api.wait_gone(&of_b).await;
    assert!(!a.name().is_empty());
}

#[tokio::test]
async fn one_that_cannot_be_written_holds_up_no_other() {
    let api = FakeApi::start().await;
    let mut rig = Rig::with(WORLD).await;
    api.deny("policystatuses/db");
    let (_leads, leading) = watch::channel(true);
    let writes = Arc::new(Writes::default());
    let (client, hub) = (api.client().await, rig.hub.clone());
    let (pace, peers) = (Duration::from_millis(5), None);
    let (writes_too, instance) = (Arc::clone(&writes), "test".to_owned());
    let writer = Writer { client, hub, leading, peers, pace, writes: writes_too, instance };
    let _writer = spawn("status", writer.run());
    // the other one comes, whichever is first
    api.wait("PolicyStatus shop/none", |s| reason(s) == "AllNodes").await;
    api.wait_request("policystatuses/db", 2).await;
    assert!(api.get(DB).is_none());
    assert!(writes.failed.load(Ordering::Relaxed) >= 1);
    assert_eq!(writes.waiting.load(Ordering::Relaxed), 1);
    assert_eq!(
        writes.states().unwrap().into_iter().collect::<Vec<_>>(),
        [("late", 1), ("realized", 1)]
    );
    // nor what comes last, taking away what has no policy any more
    let gone = weir_controller::event::Event::PolicyDeleted {
        key: PolicyKey::network_policy("shop", "none"),
        uid: "p2".into(),
    };
    rig.send(vec![gone]).await;
    api.wait_gone("PolicyStatus shop/none").await;
    // and it is written once it can be
    api.allow();
    api.wait(DB, |s| reason(s) == "NodesLate").await;
    while writes.waiting.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn only_the_object_that_was_meant_is_deleted() {
    let api = FakeApi::start().await;
    let mut rig = Rig::with(WORLD).await;
    let (_leads, _writer) = lead(&api, &rig, None).await;
    let mut other = api.wait(DB, |s| reason(s) == "NodesLate").await;
    api.wait("PolicyStatus shop/none", |s| !reason(s).is_empty()).await;
    // somebody makes another of that name
    api.remove(DB);
    other["metadata"]["uid"] = "another".into();
    api.put(other);
    let gone = |name: &str, uid: &str| weir_controller::event::Event::PolicyDeleted {
        key: PolicyKey::network_policy("shop", name),
        uid: uid.into(),
    };
    rig.send(vec![gone("db", "p1"), gone("none", "p2")]).await;
    api.wait_request("DELETE", 2).await;
    api.wait_gone("PolicyStatus shop/none").await;
    assert_eq!(api.get(DB).unwrap()["metadata"]["uid"], "another");
}
