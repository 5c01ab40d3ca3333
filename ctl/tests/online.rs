//! The same answers from a controller, over mutual TLS.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::ffi::OsString;
use std::path::Path;
use std::pin::Pin;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use weir_api::v1::inspection_server::{Inspection, InspectionServer};
use weir_api::v1::{
    NodePart, NodeQuery, NodeStatus, StatusReply, StatusRequest, WorldPart, WorldRequest,
};
use weirctl::exit::Exit;

/// A controller that has one picture, and whether n2 has everything of it.
struct Picture(Vec<String>, bool);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Inspection for Picture {
    type WorldStream = Answers<WorldPart>;
    type NodeStream = Answers<NodePart>;

    async fn world(&self, _: Request<WorldRequest>) -> Result<Response<Self::WorldStream>, Status> {
        if self.0.is_empty() {
            return Err(Status::unavailable("the source has not been read yet, try again"));
        }
        // two parts, to see that they are put together
        let (first, second) = self.0.split_at(self.0.len() / 2);
        let parts: Vec<_> = [first, second]
            .map(|objects| Ok(WorldPart { revision: 1841, objects: objects.to_vec() }))
            .into();
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let node = |name: &str, revision| NodeStatus {
            name: name.to_owned(),
            connected: true,
            revision,
            ovs_version: "3.1.0".to_owned(),
            ..NodeStatus::default()
        };
        let nodes = vec![node("n2", if self.1 { 1841 } else { 1840 })];
        Ok(Response::new(StatusReply { revision: 1841, nodes, ..StatusReply::default() }))
    }

    /// Of both nodes only n2 is connected.
    async fn node(&self, query: Request<NodeQuery>) -> Result<Response<Self::NodeStream>, Status> {
        let query = query.into_inner();
        let answer = match (query.node.as_str(), query.what.as_str()) {
            ("n2", "verdict 10.244.1.17 10.244.3.9 6 5432") => DROPPED,
            ("n2", "verdict 10.244.1.17 10.244.3.9 6 5433") => PASSED,
            ("n2", "flows") => "cookie=0x5701000000000001, table=0, priority=0 actions=drop\n",
            ("n2", "symbols") => "",
            ("n2", "state") => "node: n2\nbridge: br-int connected\n",
            (node, _) => return Err(Status::not_found(format!("node {node} is not connected"))),
        };
        let part = NodePart { data: answer.as_bytes().into() };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(part)]))))
    }
}

/// What an agent answers where the isolation of the source drops.
const DROPPED: &str = r#"{"revision":1841,"passes":false,"origin":"workload","path":[
    {"table":"Classifier","priority":100,"cookie":"0x5701000000000001","packets":80,"age":300},
    {"table":"EgressRule","priority":100,"cookie":"0x57014200e1f03c55","packets":1037,"age":240}]}"#;
/// The same, of a node that is behind and has a flow of somebody else's.
const PASSED: &str = r#"{"revision":1840,"passes":true,"origin":"workload","path":[
    {"table":"EgressRule","priority":64000,"cookie":"0x0","packets":3,"age":9}]}"#;

/// Certificates in `dir`: `ca.pem`, `server.pem` and `.key`, `operator.pem` and `.key`.
fn certificates(dir: &Path) {
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    for name in ["server", "operator"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Runs a command line against a server of this picture.
async fn ask(objects: Vec<String>, line: &[&str]) -> (Exit, String, String) {
    ask_of(Picture(objects, false), line).await
}

async fn ask_of(picture: Picture, line: &[&str]) -> (Exit, String, String) {
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
        .add_service(InspectionServer::new(picture))
        .serve_with_incoming(TcpListenerStream::new(listener));

    let mut args: Vec<OsString> = vec!["weirctl".into()];
    args.extend(line.iter().map(OsString::from));
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

fn shop() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shop");
    let mut out = Vec::new();
    for file in ["pods.yaml", "policies.yaml"] {
        let text = std::fs::read_to_string(dir.join(file)).unwrap();
        let (values, rejections) = weir_policy::k8s::read_documents(&text);
        assert!(rejections.is_empty());
        let objects = values.into_iter().flat_map(weir_policy::k8s::flatten);
        out.extend(objects.map(|v| v.to_string()));
    }
    out
}

#[tokio::test]
async fn why_says_what_it_says_offline() {
    let line = ["why", "shop/web-6d4f9", "shop/db-0:5432"];
    let (exit, answers, remarks) = ask(shop(), &line).await;
    assert_eq!(exit, Exit::No, "{remarks}");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/why_denied.txt");
    let golden = std::fs::read_to_string(golden).unwrap();
    let wanted: Vec<&str> = golden
        .lines()
        .filter(|l| !l.starts_with('$') && !l.starts_with("offline") && !l.starts_with("exit"))
        .collect();
    let (switches, rest): (Vec<&str>, _) = answers.lines().partition(|l| l.starts_with("switch"));
    assert_eq!(rest, wanted);
    assert_eq!(switches.len(), 2, "{answers}");
    let dropped = "dropped by isolation set e1f03c55 in EgressRule, 1,037 packets in 4m";
    assert_eq!(switches[0], format!("switch  n2 agrees: {dropped}"));
    assert!(switches[1].starts_with("switch  n5 was not asked: "), "{answers}");
    assert!(switches[1].contains("node n5 is not connected"), "{answers}");

    let (_, answers, _) =
        ask(shop(), &["why", "-o", "json", "shop/web-6d4f9", "shop/db-0:5432"]).await;
    let value: serde_json::Value = serde_json::from_str(&answers).unwrap();
    assert_eq!((value["revision"].as_u64(), value["offline"].as_bool()), (Some(1841), Some(false)));
}

#[tokio::test]
async fn a_switch_that_disagrees_is_said() {
    let (exit, answers, _) = ask(shop(), &["why", "shop/web-6d4f9", "shop/db-0:5433"]).await;
    assert_eq!(exit, Exit::Disagree);
    let line = answers.lines().find(|l| l.starts_with("switch")).unwrap();
    let passes = "switch  n2 DISAGREES: passes, nothing isolates it there";
    let why =
        "by way of a flow that is not Weir's (the node is at revision 1840, this answer is not)";
    assert_eq!(line, format!("{passes}, {why}"));

    let line = ["why", "-o", "json", "shop/web-6d4f9", "shop/db-0:5433"];
    let (exit, answers, _) = ask(shop(), &line).await;
    assert_eq!(exit, Exit::Disagree);
    let value: serde_json::Value = serde_json::from_str(&answers).unwrap();
    let switch = &value["switch"];
    assert_eq!((&switch["node"], &switch["agrees"]), (&"n2".into(), &false.into()), "{answers}");
}

/// What came after a node's last change did not concern it.
#[tokio::test]
async fn a_node_that_has_everything_is_not_called_behind() {
    let line = ["why", "shop/web-6d4f9", "shop/db-0:5433"];
    let (exit, answers, _) = ask_of(Picture(shop(), true), &line).await;
    assert_eq!(exit, Exit::Disagree);
    assert!(answers.contains("switch  n2 DISAGREES") && !answers.contains("1840"), "{answers}");
}

#[tokio::test]
async fn flows_of_a_node_say_whose_they_are() {
    let (_, answers, remarks) = ask(shop(), &["flows", "--node", "n2"]).await;
    let header = answers.lines().next().unwrap_or(&remarks);
    assert!(header.starts_with("NODE n2  br-int  OVS 3.1.0  "), "{header}");
}

#[tokio::test]
async fn matrix_of_a_controller() {
    let (exit, answers, remarks) = ask(shop(), &["matrix", "-n", "shop"]).await;
    assert_eq!(exit, Exit::Yes, "{remarks}");
    assert!(answers.starts_with("FROM \\ TO"), "{answers}");
}

#[tokio::test]
async fn a_controller_that_is_not_ready_is_no_answer() {
    let (exit, answers, remarks) = ask(Vec::new(), &["matrix"]).await;
    assert_eq!(exit, Exit::NoAnswer);
    assert!(answers.is_empty());
    assert!(remarks.contains("has not been read yet"), "{remarks}");
}
