//! etcd, kube-apiserver and kube-controller-manager as processes in the namespace that joins the nodes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Identity, kubeconfig};
use super::pki::{Pki, SERVICE};
use crate::address;
use crate::daemon::{Daemon, Recipe};
use crate::error::{During, Error, Result};
use crate::netns::Inside;

/// Where the API server listens, for everyone in the testbed.
pub const API_SERVER: SocketAddrV4 = SocketAddrV4::new(address::CONTROLLER, 6443);
/// Where etcd listens, for the API server.
const ETCD: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2379);
/// What service accounts of Weir's namespace ask for is noted down, so that tests can compare it with what they may.
const AUDIT: &str = r#"{
  "apiVersion": "audit.k8s.io/v1",
  "kind": "Policy",
  "omitStages": ["RequestReceived"],
  "rules": [
    {"level": "Metadata", "userGroups": ["system:serviceaccounts:weir-system"]},
    {"level": "None"}
  ]
}
"#;
/// The file of these notes, in the testbed's directory.
pub const AUDIT_LOG: &str = "audit.log";
/// Where etcd would listen for its peers.
const ETCD_PEERS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2380);
/// The servers must be up within this time, on a machine that does other things too.
const STARTING: Duration = Duration::from_secs(120);

/// The servers of a cluster. Dropping them ends them.
#[derive(Debug)]
pub struct Servers {
    // who asks ends before who answers
    manager: Daemon,
    apiserver: Daemon,
    etcd: Daemon,
    inside: Inside,
}

impl Servers {
    /// Starts them with files below `dir` and waits until the API server is ready.
    pub fn start(binary: &Path, inside: &Inside, dir: &Path, pki: &Pki) -> Result<(Self, Client)> {
        let place = Place { binary, inside, dir, pki };
        let mut etcd = Daemon::start(place.etcd())?;
        etcd.until("etcd answers", STARTING, || {
            Ok(ask_etcd(inside, "/v3/maintenance/status", &json!({})).ok())
        })?;
        let policy = place.audit_policy();
        std::fs::write(&policy, AUDIT).during(|| format!("writing {}", policy.display()))?;
        let mut apiserver = Daemon::start(place.apiserver())?;
        let identity = Identity::Certificate(pki.client("admin")?);
        let client = Client::connect(
            inside,
            &kubeconfig(&format!("https://{API_SERVER}"), &pki.authority()?, &identity),
        )?;
        until_ready(&mut apiserver, &client)?;
        let manager = Daemon::start(place.manager()?)?;
        Ok((Self { manager, apiserver, etcd, inside: inside.clone() }, client))
    }

    /// The process of the API server. The port stays the same when it is started again.
    pub const fn apiserver(&mut self) -> &mut Daemon {
        &mut self.apiserver
    }

    /// Waits until the API server says that it is ready.
    pub fn until_ready(&mut self, client: &Client) -> Result<()> {
        until_ready(&mut self.apiserver, client)
    }

    /// Errors: [`Error::Ended`] when one of them does not run.
    pub fn check(&mut self) -> Result<()> {
        [&mut self.etcd, &mut self.apiserver, &mut self.manager]
            .into_iter()
            .try_for_each(Daemon::check)
    }

    /// Forgets the history of all objects, so that who was away can only begin anew (410 Gone). With `apiserver` running, it
    /// still remembers some by itself.
    pub fn compact(&self) -> Result<()> {
        let status = ask_etcd(&self.inside, "/v3/maintenance/status", &json!({}))?;
        let revision = status.pointer("/header/revision").cloned().unwrap_or(Value::Null);
        ask_etcd(
            &self.inside,
            "/v3/kv/compaction",
            &json!({"revision": revision, "physical": true}),
        )
        .map(drop)
    }

    /// Lets them run on.
    pub fn leave(self) {
        let Self { manager, apiserver, etcd, .. } = self;
        [manager, apiserver, etcd].into_iter().for_each(Daemon::leave);
    }
}

fn until_ready(apiserver: &mut Daemon, client: &Client) -> Result<()> {
    apiserver.until("the API server is ready", STARTING, || {
        Ok(client.text("/readyz").is_ok_and(|text| text.trim() == "ok").then_some(()))
    })
}

/// What every recipe needs.
struct Place<'a> {
    binary: &'a Path,
    inside: &'a Inside,
    dir: &'a Path,
    pki: &'a Pki,
}

impl Place<'_> {
    fn recipe(&self, name: &str, args: &[(&str, String)]) -> Recipe {
        let args = args.iter().map(|(flag, value)| format!("--{flag}={value}"));
        Recipe {
            name: name.to_owned(),
            inside: self.inside.clone(),
            program: self.binary.to_owned(),
            args: std::iter::once(name.to_owned()).chain(args).collect(),
            env: Vec::new(),
            log: self.dir.join(format!("{name}.log")),
        }
    }

    fn file(&self, name: &str) -> String {
        text(&self.pki.file(name))
    }

    fn audit_policy(&self) -> PathBuf {
        self.pki.file("audit.json")
    }

    fn etcd(&self) -> Recipe {
        let (clients, peers) = (format!("http://{ETCD}"), format!("http://{ETCD_PEERS}"));
        self.recipe(
            "etcd",
            &[
                ("name", "testbed".to_owned()),
                ("data-dir", text(&self.dir.join("etcd"))),
                ("listen-client-urls", clients.clone()),
                ("advertise-client-urls", clients),
                ("listen-peer-urls", peers.clone()),
                ("initial-advertise-peer-urls", peers.clone()),
                ("initial-cluster", format!("testbed={peers}")),
                ("log-level", "warn".to_owned()),
                // it lives as long as the testbed, and no crash of the machine is survived
                ("unsafe-no-fsync", "true".to_owned()),
            ],
        )
    }

    fn apiserver(&self) -> Recipe {
        self.recipe(
            "kube-apiserver",
            &[
                ("etcd-servers", format!("http://{ETCD}")),
                ("bind-address", API_SERVER.ip().to_string()),
                ("advertise-address", API_SERVER.ip().to_string()),
                ("secure-port", API_SERVER.port().to_string()),
                ("tls-cert-file", self.file("apiserver.crt")),
                ("tls-private-key-file", self.file("apiserver.key")),
                ("client-ca-file", self.file("ca.crt")),
                ("external-hostname", API_SERVER.ip().to_string()),
                ("authorization-mode", "Node,RBAC".to_owned()),
                ("enable-admission-plugins", "NodeRestriction".to_owned()),
                ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
                ("service-account-key-file", self.file("tokens.pub")),
                ("service-account-signing-key-file", self.file("tokens.key")),
                ("service-cluster-ip-range", format!("{SERVICE}/16")),
                ("audit-policy-file", text(&self.audit_policy())),
                ("audit-log-path", text(&self.dir.join(AUDIT_LOG))),
                // the one server is the one endpoint; it need not say so every ten seconds
                ("endpoint-reconciler-type", "none".to_owned()),
            ],
        )
    }

    fn manager(&self) -> Result<Recipe> {
        let file = self.dir.join("manager.kubeconfig");
        let identity = Identity::Certificate(self.pki.client("manager")?);
        let config =
            kubeconfig(&format!("https://{API_SERVER}"), &self.pki.authority()?, &identity);
        std::fs::write(&file, config).during(|| format!("writing {}", file.display()))?;
        Ok(self.recipe(
            "kube-controller-manager",
            &[
                ("kubeconfig", text(&file)),
                ("use-service-account-credentials", "true".to_owned()),
                ("service-account-private-key-file", self.file("tokens.key")),
                ("root-ca-file", self.file("ca.crt")),
                // one alone needs no election, and one that was killed would keep its successor waiting
                ("leader-elect", "false".to_owned()),
                ("bind-address", Ipv4Addr::LOCALHOST.to_string()),
                ("node-monitor-grace-period", "120s".to_owned()),
            ],
        ))
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// One call of etcd's interface in JSON.
fn ask_etcd(inside: &Inside, path: &str, body: &Value) -> Result<Value> {
    let request = format!(
        "POST {path} HTTP/1.0\r\nhost: etcd\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.to_string().len()
    );
    let answer = inside.run(move || {
        let during = || "asking etcd".to_owned();
        let mut stream = TcpStream::connect(ETCD).during(during)?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).during(during)?;
        stream.write_all(request.as_bytes()).during(during)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).during(during)?;
        Ok(answer)
    })?;
    let wrong = |reason: &str| Error::Content {
        file: PathBuf::from(format!("http://{ETCD}{path}")),
        field: "answer".to_owned(),
        reason: format!("{reason}: {answer}"),
    };
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| wrong("no HTTP"))?;
    if head.split_whitespace().nth(1) != Some("200") {
        return Err(wrong("refused"));
    }
    serde_json::from_str(body).map_err(|e| wrong(&e.to_string()))
}
