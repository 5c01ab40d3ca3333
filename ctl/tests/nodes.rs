//! `weirctl flows --server` and `weirctl status` against a controller over mutual TLS.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::ffi::OsString;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use weir_api::v1::inspection_server::{Inspection, InspectionServer};
use weir_api::v1::{
    NodePart, NodeQuery, NodeStatus, PolicyKey, PolicyStatus, StatusReply, StatusRequest,
    WorldPart, WorldRequest,
};
use weirctl::exit::Exit;

const FLOWS: &str = include_str!("example/n1.flows");
const SYMBOLS: &str = include_str!("example/n1.symbols.jsonl");

/// What the controller has.
const POLICY: &str = r#"{"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1",
    "metadata": {"namespace": "shop", "name": "db", "uid": "u", "generation": 4},
    "spec": {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}}"#;

/// A controller with one node.
struct Controller {
    realized: u32,
    /// Not before it was asked so often.
    after: u32,
    asked: AtomicU32,
}

impl Controller {
    fn with(realized: u32) -> Self {
        Self { realized, after: 0, asked: AtomicU32::new(0) }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Inspection for Controller {
    type WorldStream = Answers<WorldPart>;
    type NodeStream = Answers<NodePart>;

    async fn world(&self, _: Request<WorldRequest>) -> Result<Response<Self::WorldStream>, Status> {
        let part = WorldPart { revision: 1841, objects: vec![POLICY.to_owned()] };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(part)]))))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let realized = if asked >= self.after { self.realized } else { 0 };
        let policy = PolicyStatus {
            policy: Some(PolicyKey { kind: 1, namespace: "shop".into(), name: "db".into() }),
            generation: 4,
            nodes_desired: 1,
            nodes_realized: realized,
            pending: if realized == 1 { Vec::new() } else { vec!["n1".into()] },
            latencies_us: vec![11_200; realized as usize],
            flows_max: 9,
            flows_node: "n1".into(),
            ..PolicyStatus::default()
        };
        let node = NodeStatus {
            name: "n1".into(),
            connected: true,
            revision: 1841,
            acknowledged_ms: 1,
            ovs_version: "3.1.0".into(),
            ports_ready: 3,
            flows: 139,
            ..NodeStatus::default()
        };
        Ok(Response::new(StatusReply {
            revision: 1841,
            nodes: vec![node],
            policies: vec![policy],
            ..StatusReply::default()
        }))
    }

    async fn node(&self, query: Request<NodeQuery>) -> Result<Response<Self::NodeStream>, Status> {
        let query = query.into_inner();
        let text = match (query.node.as_str(), query.what.as_str()) {
            ("n1", "flows") => FLOWS,
            ("n1", "symbols") => SYMBOLS,
            (node, _) => return Err(Status::not_found(format!("node {node} is not connected"))),
        };
        // parts end where they end, not at lines
        let parts: Vec<_> = text
            .as_bytes()
            .chunks(1000)
            .map(|c| Ok(NodePart { data: c.to_vec().into() }))
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }
}

/// Certificates in `dir`: `ca.pem`, and `server` and `operator` with `.pem` and `.key`.
fn certificates(dir: &Path) {
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    for name in ["server", "operator"] {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), name.to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

async fn ask(controller: Controller, line: &[&str]) -> (Exit, String, String) {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("server.pem"), read("server.key")))
        .client_ca_root(Certificate::from_pem(read("ca.pem")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::builder()
        .tls_config(tls)
        .unwrap()
        .add_service(InspectionServer::new(controller))
        .serve_with_incoming(TcpListenerStream::new(listener));

    let mut args: Vec<OsString> = ["weirctl"].iter().chain(line).map(OsString::from).collect();
    for (flag, file) in [("--ca", "ca.pem"), ("--cert", "operator.pem"), ("--key", "operator.key")]
    {
        args.extend([flag.into(), dir.path().join(file).into()]);
    }
    args.extend(["--server".into(), format!("127.0.0.1:{port}").into()]);
    args.extend(["--server-name".into(), "localhost".into()]);
    let (mut answers, mut remarks) = (Vec::new(), Vec::new());
    let exit = tokio::select! {
        result = server => panic!("{result:?}"),
        exit = weirctl::run_to(args, &mut answers, &mut remarks) => exit,
    };
    (exit, String::from_utf8(answers).unwrap(), String::from_utf8(remarks).unwrap())
}

#[tokio::test]
async fn flows_of_a_node() {
    let line = ["flows", "--node", "n1", "--rule", "48ea032b"];
    let (exit, text, remarks) = ask(Controller::with(1), &line).await;
    assert_eq!((exit, remarks.as_str()), (Exit::Yes, ""));
    let all = FLOWS.lines().count();
    let head = format!("NODE n1  OVS 3.1.0  revision 1841  7 of {all} flows");
    assert_eq!(text.lines().next(), Some(head.as_str()));
    assert!(text.contains("from: shop {app=api}, 1 endpoint (api-0)"), "{text}");

    let (exit, text, remarks) = ask(Controller::with(1), &["flows", "--node", "n9"]).await;
    assert_eq!((exit, text.as_str()), (Exit::NoAnswer, ""));
    assert!(remarks.contains("node n9 is not connected"), "{remarks}");

    let (exit, _, remarks) = ask(Controller::with(1), &["flows"]).await;
    assert_eq!(exit, Exit::Usage);
    assert!(remarks.starts_with("error: --server needs --node"), "{remarks}");
}

#[tokio::test]
async fn status_of_all() {
    let (exit, text, _) = ask(Controller::with(1), &["status"]).await;
    assert_eq!(exit, Exit::Yes);
    assert!(text.contains("n1    current      1841"), "{text}");
    assert!(
        text.contains("shop       db    NP      4       1/1  11ms  11ms           9  Realized\n"),
        "{text}"
    );

    // a policy that is late: not everything is in force
    let (exit, text, _) = ask(Controller::with(0), &["status", "-o", "json"]).await;
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(exit, Exit::No);
    assert_eq!(value["policies"][0]["state"], "Realizing (n1)");
    assert_eq!(value["policies"][0]["flowsPerNode"]["max"], 9);
    assert_eq!(value["nodes"][0]["flows"], 139);
}

#[tokio::test]
async fn policies_and_waiting_for_them() {
    let (exit, text, _) = ask(Controller::with(1), &["policy", "status", "-n", "shop"]).await;
    assert_eq!(exit, Exit::Yes);
    let row = "shop       db    NP      4       1/1  11ms  11ms           9  Realized";
    assert_eq!(text.lines().nth(1), Some(row), "{text}");
    let (exit, text, _) = ask(Controller::with(0), &["policy", "status", "-o", "json"]).await;
    assert_eq!(exit, Exit::No);
    assert!(text.contains("\"name\": \"db\""), "{text}");

    // it takes a while
    let slow = Controller { after: 2, ..Controller::with(1) };
    let wait = ["policy", "wait", "np/db", "-n", "shop"];
    let (exit, text, _) = ask(slow, &wait).await;
    assert_eq!((exit, text.as_str()), (Exit::Yes, "1 policy in force\n"));
    let soon = |more: &[&'static str]| [&["policy", "wait", "--timeout", "0ms"], more].concat();
    for (line, words) in [
        (soon(&["db", "-n", "shop"]), "shop/db: 0/1 Realizing (n1)"),
        (soon(&["db", "-n", "shop", "--generation", "5"]), "has generation 4"),
        (soon(&["db"]), "default/db: not known to the controller"),
    ] {
        let (exit, text, _) = ask(Controller::with(0), &line).await;
        assert_eq!(exit, Exit::No);
        assert!(text.contains(words), "{text}");
    }
    let (exit, _, remarks) = ask(Controller::with(0), &["policy", "wait"]).await;
    assert_eq!(exit, Exit::Usage, "{remarks}");
}

#[tokio::test]
async fn waiting_for_a_manifest_is_for_what_stands_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db.yaml");
    let policy = |app: &str| {
        format!(
            "kind: NetworkPolicy\nmetadata: {{namespace: shop, name: db}}\n\
             spec: {{podSelector: {{matchLabels: {{app: {app}}}}}, policyTypes: [Ingress]}}\n"
        )
    };
    let path = path.to_str().unwrap();
    let wait = ["policy", "wait", "-f", path, "--timeout", "0ms"];
    std::fs::write(path, policy("db")).unwrap();
    let (exit, text, remarks) = ask(Controller::with(1), &wait).await;
    assert_eq!((exit, text.as_str()), (Exit::Yes, "1 policy in force\n"), "{remarks}");
    std::fs::write(path, policy("other")).unwrap();
    let (exit, text, _) = ask(Controller::with(1), &wait).await;
    assert_eq!(exit, Exit::No);
    assert!(text.contains("the controller has another version of it"), "{text}");
}
