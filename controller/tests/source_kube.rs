//! Watching an API server: what lands when, whatever happens to the connection.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]

mod fake_api;

use std::time::Duration;

use fake_api::{FakeApi, Fault};
use serde_json::json;
use weir_controller::event::Event;
use weir_controller::source::kube::{self, Options};
use weir_controller::source::{Batch, Intake, line};
use weir_policy::ids::PolicyKey;
use weir_policy::k8s::Object;
use weir_policy::world::World;
use weir_runtime::ready::Ready;
use weir_runtime::task::{Task, spawn};

/// Longer than any step takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const QUICK: Options = Options {
    page: 3,
    watch_seconds: 60,
    backoff: (Duration::from_millis(1), Duration::from_millis(20)),
    absent: Duration::from_millis(20),
};

const OBJECTS: &str = "
{kind: Namespace, apiVersion: v1, metadata: {name: shop, labels: {team: blue}}}
---
{kind: Node, apiVersion: v1, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: shop, name: db, labels: {app: db}}, spec: {nodeName: n1}, status: {phase: Running, podIPs: [{ip: 10.0.1.1}, {ip: 'fd00::1'}]}}
---
{kind: Pod, apiVersion: v1, metadata: {namespace: shop, name: web, labels: {app: web}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}, status: {podIPs: [{ip: 10.0.1.2}]}}
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {namespace: shop, name: db, generation: 3}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
";

fn pod(name: &str, address: &str) -> serde_json::Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    })
}

/// A source at work, and the world as its events tell it.
struct Rig {
    api: FakeApi,
    intake: Intake,
    ready: Ready,
    world: World,
    synced: bool,
    _source: Task<()>,
}

impl Rig {
    async fn new(api: FakeApi) -> Self {
        let (feed, intake) = line();
        let ready = Ready::new();
        let source = kube::run(api.client().await, QUICK, feed, ready.gate("source"));
        let _source = spawn("source", source);
        Self { api, intake, ready, world: World::default(), synced: false, _source }
    }

    /// One that has told everything.
    async fn synced(api: FakeApi) -> Self {
        let mut rig = Self::new(api).await;
        rig.until(|rig| rig.synced).await;
        rig
    }

    async fn next(&mut self) -> Batch {
        let batch = tokio::time::timeout(PATIENCE, self.intake.batches.recv()).await;
        let batch = batch.expect("nothing comes").expect("the source is gone");
        for event in batch.events.clone() {
            self.apply(event);
        }
        batch
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.next().await;
        }
    }

    fn apply(&mut self, event: Event) {
        let world = &mut self.world;
        match event {
            Event::NamespaceApplied { name, labels } => {
                Object::Namespace { name, labels }.put(world);
            }
            Event::PodApplied(pod) => Object::Pod(pod).put(world),
            Event::WorkloadApplied(workload) => Object::Workload(workload).put(world),
            Event::WorkloadDeleted { namespace, name, .. } => {
                world.workloads.remove(&(namespace, name)).expect("was there");
            }
            Event::NodeApplied(node) => Object::Node(node).put(world),
            Event::PolicyApplied { object, manifest } => {
                let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
                assert!(manifest["metadata"].get("managedFields").is_none());
                Object::NetworkPolicy(*object).put(world);
            }
            Event::NamespaceDeleted { name } => {
                world.namespaces.remove(&name).expect("was there");
            }
            Event::PodDeleted { namespace, name, .. } => {
                world.pods.remove(&(namespace, name)).expect("was there");
            }
            Event::NodeDeleted { name } => {
                world.nodes.remove(&name).expect("was there");
            }
            Event::PolicyDeleted { key, .. } => {
                world.policies.remove(&key).expect("was there");
            }
            Event::Synced => {
                assert!(!self.synced, "told twice");
                self.synced = true;
            }
        }
    }

    fn has(&self, pod: &str) -> bool {
        self.world.pods.contains_key(&("shop".into(), pod.into()))
    }

    /// What one who starts now sees of the same server.
    async fn fresh(&self) -> World {
        let (feed, intake) = line();
        let ready = Ready::new();
        let source = kube::run(self.api.client().await, QUICK, feed, ready.gate("source"));
        let api = FakeApi::start().await;
        let _source = spawn("fresh", source);
        let mut rig = Self { api, intake, ready, world: World::default(), synced: false, _source };
        rig.until(|rig| rig.synced).await;
        rig.world
    }

    fn why_not_ready(&self) -> String {
        self.ready.report().into_iter().map(|g| g.reason).collect()
    }

    async fn not_ready_because(&self, words: &[&str]) {
        let said = async {
            while !words.iter().all(|w| self.why_not_ready().contains(w)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let said = tokio::time::timeout(PATIENCE, said).await;
        said.unwrap_or_else(|_| panic!("{words:?}: {}", self.why_not_ready()));
    }

    async fn warning(&mut self, words: &str) {
        let said = self.intake.warnings.wait_for(|w| {
            w.iter().any(|w| format!("{}: {}: {}", w.object, w.field, w.message).contains(words))
        });
        if tokio::time::timeout(PATIENCE, said).await.is_err() {
            panic!("not {words:?}: {:?}", self.intake.warnings.borrow());
        }
    }

    async fn no_warning(&mut self) {
        let none = self.intake.warnings.wait_for(|w| w.is_empty());
        tokio::time::timeout(PATIENCE, none).await.expect("warnings stay").unwrap();
    }
}

async fn api() -> FakeApi {
    let api = FakeApi::start().await;
    api.put_yaml(OBJECTS);
    api
}

#[tokio::test]
async fn what_is_there_and_what_changes() {
    let api = api().await;
    for n in 0..7 {
        api.put(pod(&format!("p{n}"), &format!("10.0.2.{n}")));
    }
    let mut rig = Rig::synced(api).await;
    assert_eq!(rig.why_not_ready(), "");
    assert_eq!(rig.world.pods.len(), 9, "three pages and more");
    let db = &rig.world.pods[&("shop".into(), "db".into())];
    assert_eq!((db.addresses.len(), &*db.node), (2, "n1"));
    assert!(!db.uid.is_empty());
    let web = &rig.world.pods[&("shop".into(), "web".into())];
    assert_eq!(web.named_ports.len(), 1);
    assert_eq!(rig.world.nodes["n1"].addresses.len(), 1);
    let policy = &rig.world.policies[&PolicyKey::network_policy("shop", "db")].policy;
    assert_eq!(policy.generation, 3);

    // a new address, host network, an end, and a deletion
    rig.api.put(pod("p1", "10.0.9.1"));
    rig.until(|r| {
        r.world.pods[&("shop".into(), "p1".into())].addresses[0].to_string() == "10.0.9.1"
    })
    .await;
    let mut host = pod("p2", "192.0.2.1");
    host["spec"]["hostNetwork"] = true.into();
    rig.api.put(host);
    rig.until(|r| r.world.pods[&("shop".into(), "p2".into())].host_network).await;
    let mut ended = pod("p3", "10.0.2.3");
    ended["status"]["phase"] = "Succeeded".into();
    rig.api.put(ended);
    rig.until(|r| r.world.pods[&("shop".into(), "p3".into())].terminal).await;
    // on its way out it keeps its address until it is gone (NP-44)
    let mut leaving = pod("p4", "10.0.2.4");
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    leaving["metadata"]["labels"]["app"] = "leaving".into();
    rig.api.put(leaving);
    rig.until(|r| r.world.pods[&("shop".into(), "p4".into())].labels.get("app") == Some("leaving"))
        .await;
    assert!(rig.world.pods[&("shop".into(), "p4".into())].is_endpoint());
    rig.api.remove("Pod shop/p4");
    rig.until(|r| !r.has("p4")).await;
    rig.api.remove("NetworkPolicy shop/db");
    rig.until(|r| r.world.policies.is_empty()).await;
    assert_eq!(rig.world, rig.fresh().await);
}

#[tokio::test]
async fn only_the_end_of_every_list_is_complete() {
    let api = api().await;
    api.deny("/pods");
    let mut rig = Rig::new(api).await;
    rig.until(|r| !r.world.policies.is_empty() && !r.world.nodes.is_empty()).await;
    let why = ["waiting for Pod (cannot list: 403", "/pods", "is forbidden"];
    rig.not_ready_because(&why).await;
    rig.warning("Pod: : cannot list: 403").await;
    assert!(!rig.synced && !rig.why_not_ready().contains("Node"));
    rig.api.allow();
    rig.until(|r| r.synced).await;
    assert!(rig.has("db") && rig.has("web"));
    rig.no_warning().await;
    assert!(rig.ready.is_ready());
}

#[tokio::test]
async fn a_list_after_a_gap_lands_at_once() {
    let mut rig = Rig::synced(api().await).await;
    let listed = |rig: &Rig| rig.api.requests("/pods?&limit");
    // the server is away: a pod goes, one comes again under its name, four are new
    rig.api.stop();
    rig.warning("Pod: : cannot watch").await;
    rig.api.remove("Pod shop/web");
    rig.api.remove("Pod shop/db");
    rig.api.put(pod("db", "10.0.7.7"));
    for n in 0..4 {
        rig.api.put(pod(&format!("p{n}"), &format!("10.0.2.{n}")));
    }
    rig.api.compact();
    let before = listed(&rig);
    rig.api.restart().await;
    let batch = rig.next().await;
    // pages of three, and one batch all the same
    assert!(listed(&rig) > before + 1, "{:?}", listed(&rig));
    assert_eq!(batch.events.len(), 6, "{:?}", batch.events);
    assert!(!rig.has("web"));
    assert_eq!(rig.world, rig.fresh().await);
    rig.no_warning().await;
}

#[tokio::test]
async fn a_list_that_breaks_off_tells_nothing_and_loses_nothing() {
    let mut rig = Rig::synced(api().await).await;
    rig.api.stop();
    rig.warning("Pod: : cannot watch").await;
    rig.api.remove("Pod shop/web");
    for n in 0..4 {
        rig.api.put(pod(&format!("p{n}"), &format!("10.0.2.{n}")));
    }
    rig.api.compact();
    // the first page comes, the second does not; what the first said is not said by the list after it
    rig.api.fault("continue=", Fault::Refuse(500, "no".to_owned()));
    rig.api.fault("continue=", Fault::Cut(40));
    rig.api.fault("continue=", Fault::Refuse(410, "expired".to_owned()));
    rig.api.restart().await;
    let batch = rig.next().await;
    assert_eq!(rig.api.faults_left(), 0);
    assert_eq!(batch.events.len(), 5, "{:?}", batch.events);
    assert_eq!(rig.world, rig.fresh().await);
}

#[tokio::test]
async fn the_connection_breaks_at_every_byte() {
    // what a watch says of three changes, and a list of what is there, are cut at each byte in turn
    let whole = 2600;
    for after in (0..whole).step_by(23) {
        let api = api().await;
        api.fault("/pods?", Fault::Cut(after));
        let mut rig = Rig::synced(api).await;
        rig.api.fault("/pods?&watch", Fault::Cut(after));
        rig.api.cut_watches();
        rig.api.put(pod("db", "10.0.8.1"));
        rig.api.remove("Pod shop/web");
        rig.api.put(pod("new", "10.0.8.2"));
        rig.until(|r| r.has("new") && !r.has("web")).await;
        assert_eq!(rig.world, rig.fresh().await, "cut after {after} bytes");
    }
}

/// Each kind, as requests name it.
const KINDS: [(&str, &str); 5] = [
    ("Namespace", "/namespaces?"),
    ("Node", "/nodes?"),
    ("NetworkPolicy", "/networkpolicies?"),
    ("Pod", "/pods?"),
    ("Workload", "/workloads?"),
];

/// Those which are listed again after any error: what is new of pods waits for them.
const GUARDS: [&str; 2] = ["Namespace", "NetworkPolicy"];

/// One object of a kind, in one of its states.
fn object(kind: &str, name: &str, state: u8) -> serde_json::Value {
    let mut object = match kind {
        "Namespace" => json!({"apiVersion": "v1", "metadata": {}}),
        "Node" => json!({"apiVersion": "v1", "metadata": {}, "status": {
            "addresses": [{"type": "InternalIP", "address": format!("192.0.2.{state}")}]}}),
        "NetworkPolicy" => json!({"apiVersion": "networking.k8s.io/v1",
            "metadata": {"namespace": "shop", "generation": state},
            "spec": {"podSelector": {"matchLabels": {"state": state.to_string()}}}}),
        "Pod" => pod(name, &format!("10.0.5.{state}")),
        _ => json!({"apiVersion": "weir.io/v1alpha1", "metadata": {"namespace": "shop"},
            "spec": {"addresses": [format!("10.0.6.{state}")], "node": "n1"}}),
    };
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    object["metadata"]["labels"] = json!({"state": state.to_string()});
    object
}

fn title(kind: &str, name: &str) -> String {
    match kind {
        "Namespace" | "Node" => format!("{kind} {name}"),
        _ => format!("{kind} shop/{name}"),
    }
}

impl Rig {
    fn knows(&self, kind: &str, name: &str) -> bool {
        let in_shop = ("shop".into(), name.into());
        match kind {
            "Namespace" => self.world.namespaces.contains_key(name),
            "Node" => self.world.nodes.contains_key(name),
            "NetworkPolicy" => {
                self.world.policies.contains_key(&PolicyKey::network_policy("shop", name))
            }
            "Pod" => self.world.pods.contains_key(&in_shop),
            _ => self.world.workloads.contains_key(&in_shop),
        }
    }
}

/// Some of each kind: three pages.
async fn pages() -> FakeApi {
    let api = api().await;
    for (kind, _) in KINDS {
        for n in 1..=7 {
            api.put(object(kind, &format!("o{n}"), n));
        }
    }
    api
}

/// What happens to objects of a kind, in so many events of its watch: every kind of change, one object more than once.
const CHANGES: usize = 6;

fn change(api: &FakeApi, kind: &str, n: usize) {
    match n {
        0 => api.put(object(kind, "new", 1)),
        1 => api.put(object(kind, "o1", 101)),
        2 => api.remove(&title(kind, "o2")),
        3 => api.put(object(kind, "new", 2)),
        4 => api.put(object(kind, "o2", 102)),
        _ => api.remove(&title(kind, "o3")),
    }
}

#[tokio::test]
async fn a_list_is_cut_at_every_point() {
    for (kind, requests) in KINDS {
        // each of three pages: before an answer, in front of it, in its first object, before its end; or it is refused
        for page in 0..3 {
            for fault in [
                Fault::Close,
                Fault::Cut(0),
                Fault::Cut(200),
                Fault::Cut(900),
                Fault::Refuse(410, "expired".to_owned()),
                Fault::Refuse(500, "no".to_owned()),
            ] {
                let api = pages().await;
                let part = match page {
                    0 => format!("{requests}&limit=3"),
                    n => format!("{requests}&limit=3&continue={}.", n * 3),
                };
                api.fault(&part, fault.clone());
                let mut rig = Rig::new(api).await;
                rig.until(|rig| rig.synced).await;
                assert_eq!(rig.api.faults_left(), 0, "{kind}, page {page}: {fault:?} at {part}");
                assert_eq!(rig.world, rig.fresh().await, "{kind}, page {page}: {fault:?}");
            }
        }
        // all pages came, and the watch that follows does not
        for fault in [Fault::Close, Fault::Cut(0), Fault::Refuse(503, "no".to_owned())] {
            let api = pages().await;
            api.fault(&format!("{requests}&watch"), fault.clone());
            let mut rig = Rig::synced(api).await;
            for n in 0..CHANGES {
                change(&rig.api, kind, n);
            }
            rig.until(|rig| !rig.knows(kind, "o3")).await;
            assert_eq!(rig.api.faults_left(), 0, "{kind}: {fault:?}");
            assert_eq!(rig.world, rig.fresh().await, "{kind}: {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_watch_is_cut_at_every_point() {
    for (kind, requests) in KINDS {
        let watch = format!("{requests}&watch");
        for whole in 0..CHANGES {
            // between two events, after the first byte of one, and in the middle of one
            for bytes in [0, 1, 150] {
                let mut rig = Rig::synced(pages().await).await;
                let before = rig.api.requests(&watch);
                rig.api.fault(&watch, Fault::CutLine(whole, bytes));
                rig.api.cut_watches();
                rig.api.wait_request(&watch, before + 1).await;
                for n in 0..CHANGES {
                    change(&rig.api, kind, n);
                }
                rig.until(|rig| !rig.knows(kind, "o3")).await;
                assert_eq!(rig.api.faults_left(), 0, "{kind}");
                // it was cut, and so there comes another
                rig.api.wait_request(&watch, before + 2).await;
                let fresh = rig.fresh().await;
                assert_eq!(rig.world, fresh, "{kind} after {whole} events and {bytes} bytes");
                assert_eq!(rig.api.expired(), [""; 0]);
            }
        }
    }
}

#[tokio::test]
async fn history_is_lost_after_every_event() {
    for (kind, requests) in KINDS {
        for seen in 0..=CHANGES {
            let mut rig = Rig::synced(pages().await).await;
            let lists = rig.api.requests(&format!("{requests}&limit"));
            // what was seen, and a mark behind it
            for n in 0..seen {
                change(&rig.api, kind, n);
            }
            rig.api.put(object(kind, "mark", 9));
            rig.until(|rig| rig.knows(kind, "mark")).await;
            rig.api.stop();
            rig.warning(&format!("{kind}: : cannot")).await;
            for n in seen..CHANGES {
                change(&rig.api, kind, n);
            }
            rig.api.remove(&title(kind, "mark"));
            rig.api.compact();
            assert_eq!(rig.api.expired(), [""; 0]);
            rig.api.restart().await;
            rig.until(|rig| !rig.knows(kind, "mark")).await;
            // it went on from there, was told that this is forgotten, and listed again; what guards lists after any error
            let resource = requests.trim_matches(['/', '?']);
            let told = rig.api.expired().iter().any(|r| r == resource);
            assert_eq!(
                told,
                !GUARDS.contains(&kind),
                "{kind} after {seen} events: {:?}",
                rig.api.expired()
            );
            assert!(rig.api.requests(&format!("{requests}&limit")) > lists);
            assert!(!rig.knows(kind, "o3"));
            assert_eq!(rig.world, rig.fresh().await, "{kind} after {seen} events");
        }
    }
}

#[tokio::test]
async fn history_that_is_gone_is_listed_again() {
    for code in [200, 410] {
        let mut rig = Rig::synced(api().await).await;
        let before = rig.api.requests("/pods?&limit");
        if code == 410 {
            // the other way to say so: no stream at all
            rig.api.fault("/pods?&watch", Fault::Refuse(410, "too old".to_owned()));
        }
        rig.api.put(pod("one", "10.0.3.1"));
        rig.until(|r| r.has("one")).await;
        rig.api.remove("Pod shop/one");
        rig.api.put(pod("two", "10.0.3.2"));
        rig.api.compact();
        rig.api.cut_watches();
        rig.until(|r| r.has("two") && !r.has("one")).await;
        assert_eq!(rig.world, rig.fresh().await);
        // by a watch that goes on from what is forgotten, or by one that is not even begun
        assert!(code == 410 || rig.api.expired().iter().any(|r| r == "pods"));
        assert!(rig.api.requests("/pods?&limit") > before, "{code}");
    }
}

/// Said by a watch that has begun.
#[tokio::test]
async fn every_kind_is_listed_again_when_its_watch_says_that_history_is_gone() {
    let expired = json!({"type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410}});
    for (kind, requests) in KINDS {
        let mut rig = Rig::synced(api().await).await;
        let (list, watch) = (format!("{requests}&limit"), format!("{requests}&watch"));
        rig.api.put(object(kind, "old", 1));
        rig.until(|rig| rig.knows(kind, "old")).await;
        let (lists, watches) = (rig.api.requests(&list), rig.api.requests(&watch));
        rig.api.fault(&watch, Fault::Lines(format!("{expired}\n")));
        rig.api.cut_watches();
        // the watch that says so, and the one that goes on from the list
        rig.api.wait_request(&watch, watches + 2).await;
        assert!(rig.api.requests(&list) > lists, "{kind}");
        rig.api.remove(&title(kind, "old"));
        rig.until(|rig| !rig.knows(kind, "old")).await;
        assert_eq!(rig.api.faults_left(), 0, "{kind}");
        assert_eq!(rig.world, rig.fresh().await, "{kind}");
    }
}

#[tokio::test]
async fn bookmarks_and_lines_that_are_none() {
    let mut rig = Rig::synced(api().await).await;
    let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1",
        "metadata": {"resourceVersion": "2"}}});
    let lines = format!("{bookmark}\nthis is no event\n");
    rig.api.fault("/pods?&watch", Fault::Lines(lines));
    rig.api.cut_watches();
    // something may have been missed: everything is read again
    rig.warning("Pod: : cannot watch").await;
    rig.api.put(pod("new", "10.0.8.2"));
    rig.until(|r| r.has("new")).await;
    assert_eq!(rig.world, rig.fresh().await);
}

#[tokio::test]
async fn a_bad_object_is_named_and_costs_only_itself() {
    let api = api().await;
    let mut bad = pod("bad", "10.0.4.1");
    bad["metadata"]["labels"]["app"] = json!(7);
    api.put(bad.clone());
    api.put(pod("good", "10.0.4.2"));
    let mut rig = Rig::synced(api).await;
    assert!(rig.has("good") && !rig.has("bad"));
    rig.warning("Pod shop/bad: metadata.labels[\"app\"]: 7: ").await;
    rig.api.put(pod("bad", "10.0.4.1"));
    rig.until(|r| r.has("bad")).await;
    rig.no_warning().await;
    // it was good, and is not any more: not known is closed
    rig.api.put(bad);
    rig.until(|r| !r.has("bad")).await;
    rig.warning("Pod shop/bad").await;
    rig.api.remove("Pod shop/bad");
    rig.no_warning().await;
    // a policy with a mistake is taken, narrowed
    rig.api.put(json!({"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"namespace": "shop", "name": "wrong", "generation": 1},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}]}}));
    rig.warning("NetworkPolicy shop/wrong: spec.ingress[0].from[0].ipBlock.cidr").await;
    rig.until(|r| r.world.policies.len() == 2).await;
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let mut api = api().await;
    api.stop();
    let mut rig = Rig::new(api).await;
    rig.not_ready_because(&["Namespace (cannot list", "Node (", "NetworkPolicy (", "Pod ("]).await;
    rig.api.restart().await;
    rig.until(|r| r.synced).await;
    assert!(rig.ready.is_ready());
    // later it changes nothing: the picture stays, and what is wrong is said
    rig.api.stop();
    rig.warning("Pod: : cannot watch").await;
    assert!(rig.ready.is_ready());
    rig.api.put(pod("new", "10.0.8.2"));
    rig.api.restart().await;
    rig.until(|r| r.has("new")).await;
}

/// A pod that agents hear of before its policy would be open until that comes.
#[tokio::test]
async fn no_pod_is_told_while_policies_cannot_be_followed() {
    let mut rig = Rig::synced(api().await).await;
    rig.api.deny("/networkpolicies?");
    rig.api.cut_watches();
    rig.warning("NetworkPolicy: : cannot").await;
    rig.api.put(json!({"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"namespace": "shop", "name": "new"}, "spec": {"podSelector": {}}}));
    rig.api.put(pod("new", "10.0.8.2"));
    rig.api.remove("Pod shop/web");
    // what the same watches bring after them comes, and they do not
    rig.api.put(json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "later"}}));
    rig.until(|r| r.world.nodes.contains_key("later")).await;
    let followed = rig.api.requests("/pods?");
    rig.api.cut_watches();
    rig.api.wait_request("/pods?", followed + 1).await;
    assert!(!rig.has("new") && rig.has("web"));
    rig.api.allow();
    while !rig.has("new") {
        assert!(rig.has("web"));
        rig.next().await;
    }
    assert!(rig.world.policies.keys().any(|k| &*k.name == "new"), "its policy first");
    assert!(!rig.has("web"));
    rig.no_warning().await;
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_empty_until_it_is() {
    let api = api().await;
    api.uninstall("workloads");
    let mut rig = Rig::synced(api).await;
    assert!(rig.world.workloads.is_empty());
    rig.no_warning().await;
    rig.api.install("workloads");
    rig.api.put(workload());
    rig.until(|r| !r.world.workloads.is_empty()).await;
    rig.api.remove("Workload shop/vm");
    rig.until(|r| r.world.workloads.is_empty()).await;
    // of the other kinds none may be missing
    assert!(rig.has("db"));
}

fn workload() -> serde_json::Value {
    json!({"kind": "Workload", "apiVersion": "weir.io/v1alpha1",
        "metadata": {"namespace": "shop", "name": "vm", "labels": {"app": "vm"}},
        "spec": {"addresses": ["10.0.9.9"], "node": "n1"}})
}

/// Something between us and the server has no page of that name: that is no word of the server.
#[tokio::test]
async fn a_kind_that_is_not_found_is_not_empty_for_that() {
    let api = api().await;
    api.put(workload());
    let mut rig = Rig::synced(api).await;
    for _ in 0..4 {
        rig.api.fault("/workloads?", Fault::Refuse(404, "no such page".to_owned()));
    }
    rig.api.cut_watches();
    rig.warning("Workload: : cannot").await;
    rig.no_warning().await;
    assert_eq!(rig.api.faults_left(), 0);
    rig.api.put(json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "later"}}));
    rig.until(|r| {
        assert!(!r.world.workloads.is_empty());
        r.world.nodes.contains_key("later")
    })
    .await;
}

#[tokio::test]
async fn a_kind_that_is_taken_away_is_said_to_be() {
    let api = api().await;
    api.put(workload());
    let mut rig = Rig::synced(api).await;
    rig.api.uninstall("workloads");
    rig.api.cut_watches();
    rig.warning("Workload: : workloads.weir.io is not served any more; what is known stays").await;
    assert!(!rig.world.workloads.is_empty());
    rig.until(|r| r.world.workloads.is_empty()).await;
    rig.warning("its CustomResourceDefinition is gone: all Workloads count as deleted").await;
    assert!(rig.has("db"));
    rig.api.install("workloads");
    rig.api.put(workload());
    rig.until(|r| !r.world.workloads.is_empty()).await;
    rig.no_warning().await;
}
