//! As much of a Kubernetes API server as the controller uses, in this process: objects of any kind with versions and
//! conflicts, lists in pages, watches with a history that can be forgotten, and failures on demand.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use weir_runtime::task::{Task, TaskSet, spawn};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What happens to one request instead of an answer, or to its answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This code with this message.
    Refuse(u16, String),
    /// The connection is cut after so many bytes of the body.
    Cut(usize),
    /// The connection is cut after so many whole lines of the body and so many bytes of the next one.
    CutLine(usize, usize),
    /// In place of the answer's body: these lines, and the end.
    Lines(String),
    /// The connection is closed before an answer.
    Close,
}

/// Where an object is: `apis/networking.k8s.io/v1`, `networkpolicies`, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    api: String,
    resource: String,
    namespace: String,
    name: String,
}

struct Change {
    version: u64,
    what: &'static str,
    place: Place,
    object: Value,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Place, Value>,
    history: Vec<Change>,
    /// History up to here is forgotten.
    compacted: u64,
    faults: VecDeque<(String, Fault)>,
    /// Whatever contains this is refused.
    denied: Vec<String>,
    /// Resources of weir.io that are not served.
    uninstalled: Vec<String>,
    tokens: HashMap<String, Value>,
    requests: Vec<String>,
    /// Resources of which a list or a watch was told that its version is too old, once for each time.
    expired: Vec<String>,
}

impl State {
    fn record(&mut self, what: &'static str, place: Place, object: Value) {
        self.history.push(Change { version: self.version, what, place, object });
    }
}

struct Shared {
    state: Mutex<State>,
    moved: watch::Sender<u64>,
    /// Watches begun before this number end.
    cut: watch::Sender<u64>,
}

pub(crate) struct FakeApi {
    shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    serving: Option<Task<()>>,
    files: tempfile::TempDir,
}

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { version: 1, ..State::default() }),
            moved: watch::Sender::new(1),
            cut: watch::Sender::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Some(spawn("api", serve(listener, Arc::clone(&shared))));
        Self { shared, address, serving, files: tempfile::tempdir().unwrap() }
    }

    /// A kubeconfig for it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "nobody"}}],
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "nobody", "user": {}}],
        });
        let path = self.files.path().join("kubeconfig");
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    pub(crate) async fn client(&self) -> kube::Client {
        weir_controller::cluster::client(Some(&self.kubeconfig())).await.unwrap()
    }

    /// The process ends: all connections break and nobody listens.
    pub(crate) fn stop(&mut self) {
        self.serving = None;
    }

    /// And is there again, at the same address with the same objects.
    pub(crate) async fn restart(&mut self) {
        self.serving = None;
        let listener = loop {
            // the old socket goes with its task
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.serving = Some(spawn("api", serve(listener, Arc::clone(&self.shared))));
    }

    /// Puts an object, whatever was there before.
    pub(crate) fn put(&self, object: Value) {
        let place = place_of(&object);
        self.shared.put(place, object);
    }

    pub(crate) fn put_yaml(&self, text: &str) {
        let (documents, rejections) = weir_policy::k8s::read_documents(text);
        assert_eq!(rejections, []);
        for document in documents {
            self.put(document);
        }
    }

    /// Takes an object away, by `NetworkPolicy shop/db`.
    pub(crate) fn remove(&self, title: &str) {
        let (kind, key) = title.split_once(' ').unwrap();
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let object = json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}});
        self.shared.remove(&place_of(&object));
    }

    pub(crate) fn get(&self, title: &str) -> Option<Value> {
        let (kind, key) = title.split_once(' ').unwrap();
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let object = json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}});
        let state = self.shared.state.lock().unwrap();
        state.objects.get(&place_of(&object)).cloned()
    }

    /// All objects of a resource.
    pub(crate) fn all(&self, resource: &str) -> Vec<Value> {
        let state = self.shared.state.lock().unwrap();
        let of = state.objects.iter().filter(|(place, _)| place.resource == resource);
        of.map(|(_, object)| object.clone()).collect()
    }

    /// Waits until something is so, looking after each request.
    pub(crate) async fn until(&self, so: impl Fn() -> bool) {
        let mut moved = self.shared.moved.subscribe();
        let seen = async {
            loop {
                moved.borrow_and_update();
                if so() {
                    return;
                }
                moved.changed().await.unwrap();
            }
        };
        tokio::time::timeout(crate::PATIENCE, seen).await.expect("it does not come to be so");
    }

    /// Waits until an object is as wanted, and gives it.
    pub(crate) async fn wait(&self, title: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut moved = self.shared.moved.subscribe();
        let found = async {
            loop {
                moved.borrow_and_update();
                if let Some(object) = self.get(title)
                    && wanted(&object)
                {
                    return object;
                }
                moved.changed().await.unwrap();
            }
        };
        let found = tokio::time::timeout(crate::PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("{title} is {:?}", self.get(title)))
    }

    /// Waits until an object is gone.
    pub(crate) async fn wait_gone(&self, title: &str) {
        let mut moved = self.shared.moved.subscribe();
        let gone = async {
            while self.get(title).is_some() {
                moved.changed().await.unwrap();
            }
        };
        tokio::time::timeout(crate::PATIENCE, gone).await.expect(title);
    }

    /// Waits until a request came that contains this; gives how many did.
    pub(crate) async fn wait_request(&self, part: &str, at_least: usize) {
        let mut moved = self.shared.moved.subscribe();
        let seen = async {
            while self.requests(part) < at_least {
                moved.changed().await.unwrap();
            }
        };
        tokio::time::timeout(crate::PATIENCE, seen).await.expect(part);
    }

    pub(crate) fn requests(&self, part: &str) -> usize {
        self.shared.state.lock().unwrap().requests.iter().filter(|r| r.contains(part)).count()
    }

    /// The next request that contains `part` fares so.
    pub(crate) fn fault(&self, part: &str, fault: Fault) {
        self.shared.state.lock().unwrap().faults.push_back((part.to_owned(), fault));
    }

    /// Of which resources somebody was told that what he would go on from is forgotten (410).
    pub(crate) fn expired(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().expired.clone()
    }

    pub(crate) fn faults_left(&self) -> usize {
        self.shared.state.lock().unwrap().faults.len()
    }

    /// Requests that contain `part` are forbidden, until [`Self::allow`].
    pub(crate) fn deny(&self, part: &str) {
        self.shared.state.lock().unwrap().denied.push(part.to_owned());
    }

    pub(crate) fn allow(&self) {
        self.shared.state.lock().unwrap().denied.clear();
    }

    /// Takes a kind of weir.io away, with its objects, as deleting its CustomResourceDefinition does.
    pub(crate) fn uninstall(&self, resource: &str) {
        let mut state = self.shared.state.lock().unwrap();
        state.uninstalled.push(resource.to_owned());
        state.objects.retain(|place, _| place.resource != resource);
    }

    pub(crate) fn install(&self, resource: &str) {
        self.shared.state.lock().unwrap().uninstalled.retain(|r| r != resource);
    }

    /// Forgets the history, as a compaction of etcd does.
    pub(crate) fn compact(&self) {
        let mut state = self.shared.state.lock().unwrap();
        state.compacted = state.version;
        state.history.clear();
    }

    /// Ends all watches in the middle of what they say.
    pub(crate) fn cut_watches(&self) {
        self.shared.cut.send_modify(|n| *n += 1);
    }

    /// What a TokenReview says of a token; of others it says that they are nobody's.
    pub(crate) fn token(&self, token: &str, status: Value) {
        self.shared.state.lock().unwrap().tokens.insert(token.to_owned(), status);
    }
}

fn place_of(object: &Value) -> Place {
    let text = |pointer: &str| {
        object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (api, resource) = match text("/kind").as_str() {
        "Namespace" => ("api/v1", "namespaces"),
        "Node" => ("api/v1", "nodes"),
        "Pod" => ("api/v1", "pods"),
        "Secret" => ("api/v1", "secrets"),
        "ConfigMap" => ("api/v1", "configmaps"),
        "NetworkPolicy" => ("apis/networking.k8s.io/v1", "networkpolicies"),
        "Lease" => ("apis/coordination.k8s.io/v1", "leases"),
        "Event" => ("apis/events.k8s.io/v1", "events"),
        "PolicyStatus" => ("apis/weir.io/v1alpha1", "policystatuses"),
        "Workload" => ("apis/weir.io/v1alpha1", "workloads"),
        other => panic!("{other:?} is not known here"),
    };
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    Place { api: api.to_owned(), resource: resource.to_owned(), namespace, name }
}

impl Shared {
    fn put(&self, place: Place, mut object: Value) -> Value {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        let before = state.objects.get(&place);
        let uid = before.and_then(|b| b.pointer("/metadata/uid")).cloned();
        let metadata = object["metadata"].as_object_mut().expect("objects have metadata");
        metadata.insert("resourceVersion".to_owned(), version.to_string().into());
        metadata.insert("name".to_owned(), place.name.clone().into());
        if !place.namespace.is_empty() {
            metadata.insert("namespace".to_owned(), place.namespace.clone().into());
        }
        let uid = uid.unwrap_or_else(|| format!("uid-{version}").into());
        metadata.entry("uid").or_insert(uid);
        metadata.insert("managedFields".to_owned(), json!([{"manager": "test"}]));
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        state.objects.insert(place.clone(), object.clone());
        state.record(what, place, object.clone());
        drop(state);
        self.moved.send_replace(version);
        object
    }

    fn remove(&self, place: &Place) -> Option<Value> {
        let mut state = self.state.lock().unwrap();
        let mut object = state.objects.remove(place)?;
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        state.record("DELETED", place.clone(), object.clone());
        drop(state);
        self.moved.send_replace(version);
        Some(object)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = TaskSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                let shared = Arc::clone(&shared);
                connections.spawn("connection", async move {
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    // a connection that breaks is what the tests are about
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
            _ = connections.failed() => {}
        }
    }
}

fn full(code: u16, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|e: Infallible| match e {});
    let response = Response::builder().status(code).header("content-type", "application/json");
    response.body(body.boxed_unsync()).unwrap()
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    full(code, &body)
}

fn not_found() -> Response<Body> {
    status(404, "NotFound", "not found")
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let line = format!("{} {}", parts.method, parts.uri);
    let fault = {
        let mut state = shared.state.lock().unwrap();
        state.requests.push(line.clone());
        let denied = state.denied.iter().any(|d| line.contains(d.as_str()));
        let at = state.faults.iter().position(|(part, _)| line.contains(part.as_str()));
        match at {
            _ if denied => Some(Fault::Refuse(403, format!("{line} is forbidden"))),
            Some(at) => state.faults.remove(at).map(|(_, fault)| fault),
            None => None,
        }
    };
    shared.moved.send_modify(|_| {});
    match fault {
        Some(Fault::Refuse(code, message)) => return Ok(status(code, "Refused", &message)),
        Some(Fault::Close) => return Err(io::Error::other("closed")),
        Some(Fault::Lines(text)) => {
            let body = Full::new(Bytes::from(text)).map_err(|e: Infallible| match e {});
            return Ok(Response::new(body.boxed_unsync()));
        }
        Some(Fault::Cut(after)) => {
            let response = respond(&shared, &parts.method, &parts.uri, &body);
            return Ok(response.map(|body| cut(body, after)));
        }
        Some(Fault::CutLine(lines, bytes)) => {
            let response = respond(&shared, &parts.method, &parts.uri, &body);
            return Ok(response.map(|body| cut_line(body, lines, bytes)));
        }
        None => {}
    }
    Ok(respond(&shared, &parts.method, &parts.uri, &body))
}

/// The body up to some byte, and then an error.
fn cut(body: Body, after: usize) -> Body {
    let frames = stream::unfold((body, Some(after)), |(mut body, left)| async move {
        let left = left?;
        if left == 0 {
            return Some((Err(io::Error::other("cut")), (body, None)));
        }
        let frame = body.frame().await?.ok()?.into_data().ok()?;
        let take = left.min(frame.len());
        Some((Ok(Frame::data(frame.slice(..take))), (body, Some(left - take))))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The body up to so many lines and some bytes of the next one, and then an error.
fn cut_line(body: Body, lines: usize, bytes: usize) -> Body {
    // what is left of lines, and then of bytes; none: it was cut
    let frames = stream::unfold((body, Some((lines, bytes))), |(mut body, left)| async move {
        let (mut lines, mut bytes) = left?;
        if (lines, bytes) == (0, 0) {
            return Some((Err(io::Error::other("cut")), (body, None)));
        }
        let frame = body.frame().await?.ok()?.into_data().ok()?;
        let mut take = 0;
        for byte in &frame {
            match (lines, bytes) {
                (0, 0) => break,
                (0, _) => bytes -= 1,
                _ => lines -= usize::from(*byte == b'\n'),
            }
            take += 1;
        }
        Some((Ok(Frame::data(frame.slice(..take))), (body, Some((lines, bytes)))))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn respond(
    shared: &Arc<Shared>,
    method: &Method,
    uri: &hyper::Uri,
    body: &Bytes,
) -> Response<Body> {
    let query: HashMap<&str, &str> =
        uri.query().unwrap_or_default().split('&').filter_map(|p| p.split_once('=')).collect();
    let body = || serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    let segments: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    if segments == ["apis"] {
        let group = |name: &str, version: &str| {
            let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        };
        let groups = json!([group("networking.k8s.io", "v1"), group("weir.io", "v1alpha1")]);
        return full(200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}));
    }
    if segments == ["apis", "weir.io", "v1alpha1"] {
        let gone = shared.state.lock().unwrap().uninstalled.clone();
        let served =
            ["workloads", "policystatuses"].into_iter().filter(|r| !gone.iter().any(|g| g == r));
        let resources: Vec<Value> = served
            .map(|r| json!({"name": r, "singularName": "", "namespaced": true, "kind": r, "verbs": []}))
            .collect();
        return full(
            200,
            &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "weir.io/v1alpha1", "resources": resources}),
        );
    }
    if shared.state.lock().unwrap().uninstalled.iter().any(|r| segments.contains(&r.as_str())) {
        return status(404, "NotFound", "the server could not find the requested resource");
    }
    let (api, rest) = match segments.split_first() {
        Some((&"api", _)) => segments.split_at(2),
        _ => segments.split_at(segments.len().min(3)),
    };
    let api = api.join("/");
    if api == "apis/authentication.k8s.io/v1" {
        return token_review(shared, body());
    }
    let (namespace, rest) = match rest {
        ["namespaces", namespace, resource, ..] if *resource != "status" => {
            (*namespace, &rest[2..])
        }
        _ => ("", rest),
    };
    let place = |resource: &str, name: &str| Place {
        api: api.clone(),
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let current = |place: &Place| shared.state.lock().unwrap().objects.get(place).cloned();
    match (method.as_str(), rest) {
        ("GET", [resource]) if query.contains_key("watch") => {
            let from = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
            watching(shared, place(resource, ""), from)
        }
        ("GET", [resource]) => list(shared, &place(resource, ""), &query),
        ("GET", [resource, name]) => match current(&place(resource, name)) {
            Some(object) => full(200, &object),
            None => not_found(),
        },
        ("POST", [resource]) => {
            let object = body();
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            let place = place(resource, name.unwrap_or_default());
            match current(&place) {
                Some(_) => status(409, "AlreadyExists", "already exists"),
                None => full(201, &shared.put(place, object)),
            }
        }
        ("PUT" | "PATCH", [resource, name, sub @ ..]) => {
            let (place, new) = (place(resource, name), body());
            let Some(old) = current(&place) else {
                return not_found();
            };
            let version = new.pointer("/metadata/resourceVersion").filter(|v| !v.is_null());
            if version.is_some_and(|v| Some(v) != old.pointer("/metadata/resourceVersion")) {
                return status(409, "Conflict", "the object has been modified");
            }
            let mut object = old;
            match (method.as_str(), sub) {
                (_, ["status"]) => object["status"] = new["status"].clone(),
                ("PUT", _) => {
                    let uid = object["metadata"]["uid"].clone();
                    object = new;
                    object["metadata"]["uid"] = uid;
                }
                _ => merge(&mut object, new),
            }
            full(200, &shared.put(place, object))
        }
        ("DELETE", [resource, name]) => {
            let (place, options) = (place(resource, name), body());
            let met = |field: &str| {
                let wanted = options.pointer(&format!("/preconditions/{field}"));
                let there = current(&place).and_then(|o| o["metadata"].get(field).cloned());
                wanted.is_none_or(|w| w.is_null() || there.is_none_or(|t| t == *w))
            };
            if !met("uid") || !met("resourceVersion") {
                return status(409, "Conflict", "the precondition is not met");
            }
            match shared.remove(&place) {
                Some(object) => full(200, &object),
                None => not_found(),
            }
        }
        _ => not_found(),
    }
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                match value {
                    Value::Null => {
                        into.remove(&name);
                    }
                    value => merge(into.entry(name).or_insert(Value::Null), value),
                }
            }
        }
        (into, patch) => *into = patch,
    }
}

fn matches(place: &Place, collection: &Place) -> bool {
    place.api == collection.api
        && place.resource == collection.resource
        && (collection.namespace.is_empty() || collection.namespace == place.namespace)
}

fn list(shared: &Shared, collection: &Place, query: &HashMap<&str, &str>) -> Response<Body> {
    let mut state = shared.state.lock().unwrap();
    // a token is where to go on and the version of the list
    let token = query.get("continue").and_then(|t| t.split_once('.'));
    let (skip, version) = match token {
        Some((skip, version)) => (skip.parse().unwrap(), version.parse().unwrap()),
        None => (0_usize, state.version),
    };
    if version < state.compacted {
        state.expired.push(collection.resource.clone());
        return status(410, "Expired", "the provided continue parameter is too old");
    }
    let limit = query.get("limit").map_or(usize::MAX, |l| l.parse().unwrap());
    let all: Vec<&Value> =
        state.objects.iter().filter(|(p, _)| matches(p, collection)).map(|(_, o)| o).collect();
    let items: Vec<&Value> = all.iter().skip(skip).take(limit).copied().collect();
    let next = skip + items.len();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if next < all.len() {
        metadata["continue"] = format!("{next}.{version}").into();
    }
    full(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
}

fn watching(shared: &Arc<Shared>, collection: Place, from: u64) -> Response<Body> {
    struct Watch {
        shared: Arc<Shared>,
        collection: Place,
        at: u64,
        moved: watch::Receiver<u64>,
        cut: watch::Receiver<u64>,
    }
    let begun = Watch {
        shared: Arc::clone(shared),
        collection,
        at: from,
        moved: shared.moved.subscribe(),
        cut: shared.cut.subscribe(),
    };
    let frames = stream::unfold(Some(begun), |watch| async move {
        let mut watch = watch?;
        loop {
            watch.moved.borrow_and_update();
            let (lines, gone) = {
                let mut state = watch.shared.state.lock().unwrap();
                let gone = watch.at < state.compacted;
                if gone {
                    state.expired.push(watch.collection.resource.clone());
                }
                let new = state
                    .history
                    .iter()
                    .filter(|c| c.version > watch.at && matches(&c.place, &watch.collection));
                let lines: String = new
                    .map(|c| json!({"type": c.what, "object": c.object}).to_string() + "\n")
                    .collect();
                if !gone {
                    watch.at = state.version;
                }
                (lines, gone)
            };
            if gone {
                let error = json!({"type": "ERROR", "object": {
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "too old resource version", "reason": "Expired", "code": 410}});
                let frame = Frame::data(Bytes::from(error.to_string() + "\n"));
                return Some((Ok(frame), None));
            }
            if !lines.is_empty() {
                return Some((Ok(Frame::data(Bytes::from(lines))), Some(watch)));
            }
            tokio::select! {
                _ = watch.moved.changed() => {}
                _ = watch.cut.changed() => return Some((Err(io::Error::other("cut")), None)),
            }
        }
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn token_review(shared: &Shared, mut review: Value) -> Response<Body> {
    let token = review.pointer("/spec/token").and_then(Value::as_str).unwrap_or_default();
    let known = shared.state.lock().unwrap().tokens.get(token).cloned();
    let mut answer = known.unwrap_or_else(|| json!({"error": "token is nobody's"}));
    // a token counts for the audiences that it was made for
    let asked = review.pointer("/spec/audiences").cloned().unwrap_or_default();
    let overlap = answer["audiences"].as_array().is_some_and(|list| {
        list.iter().any(|a| asked.as_array().is_some_and(|asked| asked.contains(a)))
    });
    if !overlap {
        answer["authenticated"] = false.into();
    }
    review["status"] = answer;
    full(201, &review)
}
