//! Agents with tokens of a cluster, certificates that renew themselves, and one replica that leads.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]

mod fake_api;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake_api::{FakeApi, Fault};
use futures_util::future::poll_immediate;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use support::{Agent, events};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};
use weir_controller::certs::{self, Own, Pace};
use weir_controller::event::Event;
use weir_controller::lease::{self, Candidate};
use weir_controller::pki::{Authority, Pair, Role, Validity};
use weir_controller::publish::{Handle, Hub};
use weir_controller::serve::{
    Limits, NODE_NAME, Reception, Refusals, ServeError, Tokens, serve_all,
};
use weir_controller::source::{Feed, line};
use weir_runtime::clock::SystemClock;
use weir_runtime::ready::Ready;
use weir_runtime::task::{Task, spawn};

/// Longer than any step takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const WORLD: &str = "
{kind: Namespace, metadata: {name: shop}}
---
{kind: Pod, metadata: {namespace: shop, name: db, labels: {app: db}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.0.1.1}]}}
";

fn own(client: kube::Client, pace: Pace) -> Own {
    let namespace = "weir-system".to_owned();
    Own {
        client,
        namespace,
        hosts: vec!["127.0.0.1".to_owned()],
        client_ca: None,
        pace,
        clock: SystemClock::shared(),
        leads: None,
        towards: None,
    }
}

/// A controller in a cluster: tokens, and certificates of its own.
struct Rig {
    api: FakeApi,
    hub: Handle,
    refusals: Arc<Refusals>,
    address: std::net::SocketAddr,
    ready: Ready,
    _feed: Feed,
    _tasks: (Task<()>, Task<()>, Task<Result<(), ServeError>>),
    _drain: CancellationToken,
}

impl Rig {
    async fn new(api: FakeApi, pace: Pace) -> Self {
        Self::with(api, pace, Limits::default()).await
    }

    async fn with(api: FakeApi, pace: Pace, limits: Limits) -> Self {
        let client = api.client().await;
        let (feed, intake) = line();
        let (hub, handle) = Hub::new(intake, "test");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (refusals, drain) = (Arc::new(Refusals::default()), CancellationToken::new());
        let ready = Ready::new();
        let (config, tls) = watch::channel(None);
        let certs = own(client.clone(), pace).follow(config, ready.gate("certificate"));
        let tokens = Tokens::new(client, "weir-controller", "weir-system", "weir-agent");
        let reception =
            Reception { tls, tokens: Some(tokens), peers: None, limits, sent: Arc::default() };
        let refused = Arc::clone(&refusals);
        let serving = serve_all(listener, reception, handle.clone(), refused, drain.clone());
        let tasks = (spawn("hub", hub.run()), spawn("certs", certs), spawn("serve", serving));
        let mut events = events(WORLD);
        events.push(Event::Synced);
        feed.send(tokio::time::Instant::now(), events).await.unwrap();
        Self {
            api,
            hub: handle,
            refusals,
            address,
            ready,
            _feed: feed,
            _tasks: tasks,
            _drain: drain,
        }
    }

    /// As an agent finds it.
    async fn ca(&self) -> String {
        let map = self.api.wait("ConfigMap weir-system/weir-ca", |m| m["data"].is_object()).await;
        map["data"]["ca.crt"].as_str().unwrap().to_owned()
    }

    async fn channel(&self, pair: Option<&Pair>) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.ca().await))
            .domain_name("weir-controller.weir-system.svc");
        if let Some(pair) = pair {
            tls = tls.identity(tonic::transport::Identity::from_pem(&pair.cert, &pair.key));
        }
        let url = format!("https://{}", self.address);
        Endpoint::from_shared(url)?.tls_config(tls)?.connect().await
    }

    /// A stream of node `n1`, as far as it gets.
    async fn try_stream(&self, authorization: Option<&str>) -> Result<Agent, Status> {
        let channel = self.channel(None).await.map_err(|e| Status::unknown(e.to_string()))?;
        let authorization = authorization.map(|a| a.parse().unwrap());
        let with = tonic::service::interceptor::InterceptedService::new(
            channel,
            move |mut request: Request<()>| {
                if let Some(value) = &authorization {
                    let value: &tonic::metadata::AsciiMetadataValue = value;
                    request.metadata_mut().insert("authorization", value.clone());
                }
                Ok(request)
            },
        );
        let mut agent = Agent::through(with, "n1").await?;
        agent.step().await?;
        Ok(agent)
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        self.refusals.counts().into_iter().filter(|(_, n)| *n > 0).collect()
    }
}

fn judged(user: &str, node: Option<&str>) -> Value {
    let mut extra = json!({});
    if let Some(node) = node {
        extra[NODE_NAME] = json!([node]);
    }
    json!({
        "authenticated": true, "audiences": ["weir-controller"],
        "user": {"username": user, "uid": "1", "extra": extra},
    })
}

const ACCOUNT: &str = "system:serviceaccount:weir-system:weir-agent";

#[tokio::test]
async fn a_token_speaks_for_the_node_it_is_bound_to() {
    let api = FakeApi::start().await;
    api.token("good", judged(ACCOUNT, Some("n1")));
    api.token("other-node", judged(ACCOUNT, Some("n2")));
    api.token("unbound", judged(ACCOUNT, None));
    api.token("somebody", judged("system:serviceaccount:shop:default", Some("n1")));
    let mut elsewhere = judged(ACCOUNT, Some("n1"));
    elsewhere["audiences"] = json!(["https://kubernetes.default.svc"]);
    api.token("other-audience", elsewhere);
    let second = |payload: &str| format!("e30.{payload}.c2ln");
    // {"exp":1}, {"aud":["another"]}
    let (expired, another) = (second("eyJleHAiOjF9"), second("eyJhdWQiOlsiYW5vdGhlciJdfQ"));
    for token in [&expired, &another] {
        api.token(token, json!({"authenticated": false, "error": "invalid bearer token"}));
    }
    let rig = Rig::new(api, Pace::default()).await;

    let agent = rig.try_stream(Some("Bearer good")).await.unwrap();
    assert_eq!(&*agent.state.node.name, "n1");
    assert_eq!(rig.counts(), []);
    // what a stranger is told, and what is counted
    let cases = [
        (None, "token-missing"),
        (Some("Basic good"), "token-missing"),
        (Some("Bearer unknown"), "token"),
        (Some(&*format!("Bearer {expired}")), "token-expired"),
        (Some(&*format!("Bearer {another}")), "token-audience"),
        (Some("Bearer other-audience"), "token"),
        (Some("Bearer somebody"), "token-account"),
        (Some("Bearer unbound"), "token-unbound"),
        (Some("Bearer other-node"), "other-node"),
    ];
    let mut expected = std::collections::BTreeMap::new();
    for (authorization, counter) in cases {
        let status = rig.try_stream(authorization).await.err().unwrap();
        assert_eq!(status.code(), Code::PermissionDenied, "{authorization:?}: {status:?}");
        let words = match counter {
            // it has proved to be a node, and may know what is wrong with what it says
            "other-node" => "the credentials are those of node n2, hello says \"n1\"",
            _ => "refused; the controller's log says why",
        };
        assert_eq!(status.message(), words, "{authorization:?}");
        *expected.entry(counter).or_insert(0) += 1;
        let expected: Vec<_> = expected.clone().into_iter().collect();
        assert_eq!(rig.counts(), expected, "{authorization:?}");
    }
    // a judgement is kept for a while, a good one and a bad one
    let reviews = rig.api.requests("tokenreviews");
    rig.try_stream(Some("Bearer good")).await.unwrap();
    rig.try_stream(Some(&format!("Bearer {expired}"))).await.err().unwrap();
    assert_eq!(rig.api.requests("tokenreviews"), reviews);
    drop(agent);
}

/// TLS, and then silence.
async fn silent(rig: &Rig) -> std::io::Result<impl tokio::io::AsyncRead + use<>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(rig.ca().await.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(rig.address).await?;
    connector.connect("weir-controller".try_into().unwrap(), stream).await
}

/// Until the other side closes.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    use tokio::io::AsyncReadExt;
    let mut buffer = [0; 1024];
    let closed = async { while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
    tokio::time::timeout(PATIENCE, closed).await.expect("still open");
}

#[tokio::test]
async fn a_connection_without_identity_is_closed_in_time() {
    let api = FakeApi::start().await;
    api.token("good", judged(ACCOUNT, Some("n1")));
    let limits = Limits { patience: Duration::from_secs(1), ..Limits::default() };
    let rig = Rig::with(api, Pace::default(), limits).await;
    let mut agent = rig.try_stream(Some("Bearer good")).await.unwrap();
    // one that has shown nothing, and one that has shown something bad
    let bad = rig.channel(None).await.unwrap();
    let status = Agent::connect(bad.clone(), "n1").await.err().unwrap();
    assert_eq!(status.code(), Code::PermissionDenied);
    closed(silent(&rig).await.unwrap()).await;
    while rig.refusals.late.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    // who has shown an identity stays beyond that
    let event = events(
        "{kind: NetworkPolicy, metadata: {namespace: shop, name: p, uid: u, generation: 1}, spec: {podSelector: {}}}",
    );
    rig._feed.send(tokio::time::Instant::now(), event).await.unwrap();
    agent.step().await.unwrap();
    assert_eq!(agent.state.policies.len(), 1);
    drop(bad);
}

#[tokio::test]
async fn one_source_cannot_take_all_places() {
    let api = FakeApi::start().await;
    api.token("good", judged(ACCOUNT, Some("n1")));
    let limits = Limits { per_source: 2, patience: PATIENCE, ..Limits::default() };
    let rig = Rig::with(api, Pace::default(), limits).await;
    rig.ca().await;
    let places = [silent(&rig).await.unwrap(), silent(&rig).await.unwrap()];
    // a third one is closed before a handshake
    let stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    closed(stream).await;
    assert_eq!(rig.refusals.crowd.load(Ordering::Relaxed), 1);
    assert!(silent(&rig).await.is_err());
    // whoever shows an identity gives its place back, and so does whoever goes
    drop(places);
    let agent = async {
        loop {
            if let Ok(agent) = rig.try_stream(Some("Bearer good")).await {
                return agent;
            }
        }
    };
    let _first = tokio::time::timeout(PATIENCE, agent).await.expect("no place");
    for _ in 0..3 {
        rig.try_stream(Some("Bearer good")).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_has_one_try_with_a_token() {
    let api = FakeApi::start().await;
    api.token("good", judged(ACCOUNT, Some("n1")));
    let rig = Rig::new(api, Pace::default()).await;
    let channel = rig.channel(None).await.unwrap();
    let mut client = weir_api::v1::distribution_client::DistributionClient::new(channel);
    for token in ["bad-1", "bad-2", "good"] {
        let mut request = Request::new(tokio_stream::pending());
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        let status = client.follow(request).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{token}: {status:?}");
    }
    assert_eq!(rig.api.requests("tokenreviews"), 1);
    assert_eq!(rig.counts(), [("token", 1), ("token-again", 2)]);
    rig.try_stream(Some("Bearer good")).await.unwrap();
}

#[tokio::test]
async fn an_api_server_that_is_away_refuses_nobody() {
    let api = FakeApi::start().await;
    api.token("good", judged(ACCOUNT, Some("n1")));
    let rig = Rig::new(api, Pace::default()).await;
    rig.ca().await;
    rig.api.fault("tokenreviews", Fault::Refuse(500, "no".to_owned()));
    let status = rig.try_stream(Some("Bearer good")).await.err().unwrap();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.message(), "tokens cannot be judged now, try again");
    assert_eq!(rig.counts(), []);
    // and nothing of it is kept
    rig.try_stream(Some("Bearer good")).await.unwrap();
}

#[tokio::test]
async fn a_certificate_counts_as_without_a_cluster() {
    let rig = Rig::new(FakeApi::start().await, Pace::default()).await;
    rig.ca().await;
    let secret = rig.api.get("Secret weir-system/weir-ca").unwrap();
    let authority = authority(&secret);
    let node = |name: &str| authority.issue(&Role::Node(name.to_owned()), Validity::default());
    let channel = rig.channel(Some(&node("n1").unwrap())).await.unwrap();
    let mut agent = Agent::connect(channel, "n1").await.unwrap();
    agent.step().await.unwrap();
    // of another node, and of another authority
    let channel = rig.channel(Some(&node("n2").unwrap())).await.unwrap();
    let mut agent = Agent::connect(channel, "n1").await.unwrap();
    assert_eq!(agent.end().await.code(), Code::PermissionDenied);
    assert_eq!(rig.refusals.wrong_node.load(Ordering::Relaxed), 1);
    let stranger = Authority::create().unwrap();
    let pair = stranger.issue(&Role::Node("n1".to_owned()), Validity::default()).unwrap();
    if let Ok(channel) = rig.channel(Some(&pair)).await {
        let refused = match Agent::connect(channel, "n1").await {
            Ok(mut agent) => agent.end().await,
            Err(status) => status,
        };
        assert_ne!(refused.code(), Code::Ok);
    }
    assert_eq!(rig.refusals.handshake.load(Ordering::Relaxed), 1, "{:?}", rig.counts());
}

fn authority(secret: &Value) -> Authority {
    let text = |name: &str| {
        let data: k8s_openapi::ByteString =
            serde_json::from_value(secret["data"][name].clone()).unwrap();
        String::from_utf8(data.0).unwrap()
    };
    Authority::from_pem(text("tls.crt"), text("tls.key")).unwrap()
}

#[tokio::test]
async fn replicas_agree_on_one_authority() {
    let api = FakeApi::start().await;
    let mut followers = Vec::new();
    for _ in 0..4 {
        let ready = Ready::new();
        let (config, seen) = watch::channel(None);
        let follow = own(api.client().await, Pace::default()).follow(config, ready.gate("c"));
        followers.push((spawn("certs", follow), seen, ready));
    }
    for (_, seen, ready) in &mut followers {
        seen.wait_for(Option::is_some).await.unwrap();
        ready.wait_ready().await;
    }
    assert!(api.requests("POST /api/v1/namespaces/weir-system/secrets") >= 1);
    let secret = api.get("Secret weir-system/weir-ca").unwrap();
    let map = api.get("ConfigMap weir-system/weir-ca").unwrap();
    assert_eq!(map["data"]["ca.crt"], authority(&secret).certificate());
}

#[tokio::test]
async fn nothing_is_served_before_there_is_a_certificate() {
    let api = FakeApi::start().await;
    api.deny("secrets");
    let rig = Rig::new(api, Pace::default()).await;
    rig.api.wait_request("secrets", 1).await;
    assert!(!rig.ready.is_ready());
    // the refusal has come, and the gate says so with the next step of that task
    while !rig.ready.report()[0].reason.contains("cannot get Secret weir-system/weir-ca") {
        tokio::task::yield_now().await;
    }
    rig.api.allow();
    rig.ready.wait_ready().await;
    rig.channel(None).await.unwrap();
}

#[tokio::test]
async fn certificates_are_renewed_under_the_streams() {
    let api = FakeApi::start().await;
    api.token("good", judged(ACCOUNT, Some("n1")));
    let pace = Pace {
        renew: Duration::from_millis(20),
        look: Duration::from_millis(5),
        ..Pace::default()
    };
    let rig = Rig::new(api, pace).await;
    let mut agent = rig.try_stream(Some("Bearer good")).await.unwrap();
    let mut certificates = std::collections::BTreeSet::new();
    while certificates.len() < 3 {
        certificates.insert(served(&rig).await);
    }
    // the stream from before still works
    rig._feed
        .send(
            tokio::time::Instant::now(),
            events(
                "{kind: NetworkPolicy, metadata: {namespace: shop, name: p, uid: u, generation: 1}, spec: {podSelector: {}}}",
            ),
        )
        .await
        .unwrap();
    agent.step().await.unwrap();
    assert_eq!(agent.state.policies.len(), 1);
    assert_eq!(rig.hub.summary().streams, 1);
    // a Secret that goes comes back as it was
    let before = rig.ca().await;
    rig.api.remove("Secret weir-system/weir-ca");
    rig.api.wait("Secret weir-system/weir-ca", |_| true).await;
    assert_eq!(rig.ca().await, before);
}

/// The certificate that a new connection is shown.
async fn served(rig: &Rig) -> Vec<u8> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(rig.ca().await.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let name = "weir-controller".try_into().unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

// the clock is the test's own, and so is every look
#[tokio::test(start_paused = true)]
async fn files_are_read_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create().unwrap();
    let files = certs::Files {
        cert: dir.path().join("server.crt"),
        key: dir.path().join("server.key"),
        client_ca: Some(dir.path().join("ca.crt")),
        every: Duration::from_millis(5),
    };
    let write = |pair: &Pair| {
        std::fs::write(&files.key, &pair.key).unwrap();
        std::fs::write(&files.cert, &pair.cert).unwrap();
    };
    let issue = || authority.issue(&Role::Server(vec!["a".to_owned()]), Validity::default());
    std::fs::write(dir.path().join("ca.crt"), authority.certificate()).unwrap();
    assert!(files.load(weir_controller::serve::Clients::Certified).is_err());
    write(&issue().unwrap());
    let clients = weir_controller::serve::Clients::Certified;
    let first = files.load(clients).unwrap();
    let (config, mut seen) = watch::channel(Some(Arc::clone(&first)));
    let mut follow = std::pin::pin!(files.clone().follow(clients, config));
    let mut looks = async || {
        // reading files waits for nothing: a look is over when the next one is waited for
        tokio::time::advance(files.every).await;
        assert!(poll_immediate(follow.as_mut()).await.is_none());
    };
    looks().await;
    // half of a change is none
    std::fs::write(&files.key, issue().unwrap().key).unwrap();
    looks().await;
    assert!(Arc::ptr_eq(seen.borrow_and_update().as_ref().unwrap(), &first));
    write(&issue().unwrap());
    looks().await;
    assert!(seen.has_changed().unwrap());
    assert!(!Arc::ptr_eq(seen.borrow().as_ref().unwrap(), &first));
}

const QUICK: lease::Pace =
    lease::Pace { duration: Duration::from_secs(1), renew: Duration::from_millis(50) };

struct Replica {
    leading: watch::Receiver<bool>,
    drain: CancellationToken,
    task: Task<()>,
}

async fn replica(api: &FakeApi, identity: &str) -> Replica {
    let candidate = Candidate {
        client: api.client().await,
        namespace: "weir-system".to_owned(),
        identity: identity.to_owned(),
        pace: QUICK,
    };
    let (holds, leading) = watch::channel(false);
    let drain = CancellationToken::new();
    Replica { leading, task: spawn("lease", candidate.run(holds, drain.clone())), drain }
}

impl Replica {
    async fn leads(&mut self) {
        let leads = self.leading.wait_for(|l| *l);
        tokio::time::timeout(PATIENCE, leads).await.expect("does not lead").unwrap();
    }
}

#[tokio::test]
async fn one_replica_leads_and_another_takes_over() {
    let api = FakeApi::start().await;
    let mut a = replica(&api, "a").await;
    a.leads().await;
    let mut b = replica(&api, "b").await;
    api.wait_request("leases/weir-controller", 6).await;
    assert!(!*b.leading.borrow());
    let holder = |lease: &Value| lease["spec"]["holderIdentity"].as_str().map(str::to_owned);
    assert_eq!(holder(&api.get("Lease weir-system/weir-controller").unwrap()).unwrap(), "a");
    // one that is asked to end gives it up
    a.drain.cancel();
    a.task.join().await.unwrap();
    assert!(!*a.leading.borrow());
    b.leads().await;
    // one that dies has it as long as it says
    let mut c = replica(&api, "c").await;
    drop(b.task);
    c.leads().await;
    let lease = api.get("Lease weir-system/weir-controller").unwrap();
    assert_eq!(holder(&lease).unwrap(), "c");
    assert_eq!(lease["spec"]["leaseTransitions"], 3);
}

#[tokio::test]
async fn one_that_cannot_renew_stops_leading() {
    let api = FakeApi::start().await;
    let mut a = replica(&api, "a").await;
    a.leads().await;
    api.deny("leases");
    let lost = a.leading.wait_for(|l| !*l);
    tokio::time::timeout(PATIENCE, lost).await.expect("still leads").unwrap();
    api.allow();
    a.leads().await;
}
