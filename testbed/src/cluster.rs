//! A testbed whose world is a Kubernetes API: etcd, kube-apiserver and kube-controller-manager as they are released, the
//! testbed's nodes as Nodes, its pods as Pods, and the testbed itself as kubelet and scheduler.
//!
//! The servers run in the namespace that joins the nodes, with everything they write in the testbed's directory, so that they
//! go with it. [`door`] leads to the API server from this machine's loopback. [`kubelet`] says what becomes of a Pod.

pub mod binary;
pub mod client;
pub mod door;
pub mod kubelet;
pub mod pki;
pub mod servers;
pub mod shop;
pub mod weir;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{Layout, Testbed};
use crate::error::{During, Error, Result};
use crate::probe::lock;
use crate::{home, wait};
use client::{Client, Identity, kubeconfig};
use door::Door;
use kubelet::Kubelet;
use pki::Pki;
use servers::{API_SERVER, Servers};

/// A change at the API must have come about within this time, on a machine that does other things too.
pub const COMES_ABOUT: Duration = Duration::from_secs(60);
/// The administrator's kubeconfig, in the testbed's directory.
pub const KUBECONFIG: &str = "kubeconfig";
/// The real kubectl for this cluster, in the testbed's directory.
pub const KUBECTL: &str = "kubectl";

/// A cluster without Weir on it. Dropping it ends and removes everything.
pub struct Cluster {
    // what asks the servers ends before them, and they before the ground under them goes
    kubelet: Kubelet,
    client: Client,
    door: Door,
    servers: Servers,
    pki: Pki,
    bed: Arc<Mutex<Testbed>>,
}

impl Cluster {
    /// A cluster with a name of its own.
    pub fn for_test(layout: &Layout) -> Result<Self> {
        Self::up(&home::test_name(), layout)
    }

    /// Builds a testbed, starts the servers, and makes the nodes known.
    pub fn up(name: &str, layout: &Layout) -> Result<Self> {
        let binary = binary::find()?;
        let bed = Testbed::up(name, layout)?;
        let dir = bed.dir().to_owned();
        let infra = bed.infra().clone();
        let pki = Pki::create(&dir.join("kubernetes"))?;
        let (servers, client) = Servers::start(&binary, &infra, &dir, &pki)?;
        let door = Door::open(&infra, API_SERVER, 0)?;
        let identity = Identity::Certificate(pki.client("admin")?);
        let file = dir.join(KUBECONFIG);
        let config =
            kubeconfig(&format!("https://{}", door.address()), &pki.authority()?, &identity);
        std::fs::write(&file, config).during(|| format!("writing {}", file.display()))?;
        write_kubectl(&dir, &binary)?;
        let bed = Arc::new(Mutex::new(bed));
        let kubelet = Kubelet::start(&client, &bed)?;
        Ok(Self { kubelet, client, door, servers, pki, bed })
    }

    /// The administrator's connection, from where the servers are.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The servers' processes.
    pub const fn servers(&mut self) -> &mut Servers {
        &mut self.servers
    }

    /// Nodes, hosts and probes. The kubelet waits while the closure runs.
    pub fn with_bed<T>(&self, look: impl FnOnce(&Testbed) -> T) -> T {
        look(&lock(&self.bed))
    }

    /// The testbed's directory.
    pub fn dir(&self) -> PathBuf {
        self.with_bed(|bed| bed.dir().to_owned())
    }

    /// The administrator's kubeconfig, for this machine.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join(KUBECONFIG)
    }

    /// Where this machine finds the API server.
    pub fn address(&self) -> std::net::SocketAddr {
        self.door.address()
    }

    /// A kubeconfig for programs inside the testbed.
    pub fn kubeconfig_inside(&self, identity: &Identity) -> Result<String> {
        Ok(kubeconfig(&format!("https://{API_SERVER}"), &self.pki.authority()?, identity))
    }

    /// A connection of somebody else, from where the servers are.
    pub fn client_as(&self, identity: &Identity) -> Result<Client> {
        let infra = self.with_bed(|bed| bed.infra().clone());
        Client::connect(&infra, &self.kubeconfig_inside(identity)?)
    }

    /// A token of a service account, as a kubelet would fetch it. `bound` is the Pod or Node it ends with.
    pub fn token(&self, account: &Account<'_>) -> Result<String> {
        let Account { namespace, name, audience, seconds, bound } = *account;
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audience.into_iter().collect::<Vec<_>>(),
                "expirationSeconds": seconds,
                "boundObjectRef": bound,
            },
        });
        use k8s_openapi::api::core::v1::ServiceAccount;
        let accounts: kube::Api<ServiceAccount> =
            kube::Api::namespaced(self.client.kube().clone(), namespace);
        let name = name.to_owned();
        let what = format!("a token of {namespace}/{name}");
        let answer: Value = self.client.run(&what, async move {
            let params = kube::api::PostParams::default();
            accounts.create_subresource("token", &name, &params, &request).await
        })?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        token.map(str::to_owned).ok_or_else(|| Error::Content {
            file: what.into(),
            field: "status.token".to_owned(),
            reason: "is not there".to_owned(),
        })
    }

    /// What the service accounts of Weir's namespace have asked the API server for so far.
    pub fn audit(&self) -> Result<Vec<Access>> {
        let file = self.dir().join(servers::AUDIT_LOG);
        let text =
            std::fs::read_to_string(&file).during(|| format!("reading {}", file.display()))?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).map_err(|e| Error::Content {
                    file: file.clone(),
                    field: "event".to_owned(),
                    reason: e.to_string(),
                })?;
                let text = |pointer: &str| {
                    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
                };
                let resource = match &*text("/objectRef/subresource") {
                    "" => text("/objectRef/resource"),
                    sub => format!("{}/{sub}", text("/objectRef/resource")),
                };
                Ok(Access {
                    user: text("/user/username"),
                    verb: text("/verb"),
                    group: text("/objectRef/apiGroup"),
                    resource,
                    namespace: text("/objectRef/namespace"),
                    name: text("/objectRef/name"),
                    path: text("/requestURI"),
                    code: event.pointer("/responseStatus/code").and_then(Value::as_u64),
                })
            })
            .collect()
    }

    /// Errors: [`Error::Ended`] and others when something of it does not run any more.
    pub fn check(&mut self) -> Result<()> {
        self.kubelet.check()?;
        self.servers.check()
    }

    /// Creates or replaces the objects of a YAML text, with strict validation of fields.
    pub fn apply(&self, text: &str) -> Result<()> {
        for document in crate::manifests::documents(text) {
            let value: Value = serde_saphyr::from_str(document).map_err(|e| Error::Content {
                file: "manifest".into(),
                field: "document".to_owned(),
                reason: e.to_string(),
            })?;
            if !value.is_null() {
                self.client.apply(&value)?;
            }
        }
        Ok(())
    }

    /// Creates or replaces a pod. A namespace's service account comes a moment after the namespace, and pods wait for it.
    pub fn apply_pod(&mut self, pod: &Value) -> Result<()> {
        let client = self.client.clone();
        self.until("the API takes the pod", || match client.apply(pod) {
            Ok(_) => Ok(Some(())),
            Err(Error::Api { source, .. }) if is_without_account(&source) => Ok(None),
            Err(e) => Err(e),
        })
    }

    /// Waits until a pod runs and says so.
    pub fn pod_runs(&mut self, namespace: &str, name: &str) -> Result<()> {
        let client = self.client.clone();
        let pod = pod_key(namespace, name);
        self.until(&format!("pod {namespace}/{name} runs"), || {
            let phase = client.get(&pod)?.and_then(|p| p.pointer("/status/phase").cloned());
            Ok((phase == Some(json!("Running"))).then_some(()))
        })
    }

    /// Waits until an object is gone.
    pub fn is_gone(&mut self, object: &Value) -> Result<()> {
        let client = self.client.clone();
        let what = format!("{} is gone", client::describe(object));
        self.until(&what, || Ok(client.get(object)?.is_none().then_some(())))
    }

    /// Waits for something that the cluster does; if a part of it ends instead, that is the error.
    pub fn until<T>(
        &mut self,
        what: &str,
        mut condition: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(what, COMES_ABOUT, || match condition()? {
            Some(value) => Ok(Some(value)),
            None => self.check().map(|()| None),
        })
    }

    /// Ends and removes everything, and says what went wrong with it.
    pub fn down(self) -> Result<()> {
        let Self { kubelet, client, door, servers, bed, .. } = self;
        drop((kubelet, client, door, servers));
        match Arc::into_inner(bed) {
            Some(bed) => bed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).down(),
            // somebody still holds it, and its end removes it
            None => Ok(()),
        }
    }
}

/// Something that was asked of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    pub verb: String,
    pub group: String,
    /// `pods`, `pods/status`; empty for what is no resource.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    /// Path and query.
    pub path: String,
    /// The HTTP status; none for what was cut off.
    pub code: Option<u64>,
}

/// Whose token, for whom.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// `None` is the API server itself.
    pub audience: Option<&'a str>,
    /// Units: seconds; the API server takes no less than 600.
    pub seconds: u32,
    /// `{kind, apiVersion, name, uid}` of a Pod or Node.
    pub bound: Option<&'a Value>,
}

/// A Pod as far as reading and deleting it needs.
pub fn pod_key(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name}})
}

fn is_without_account(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if status.code == 403 && status.message.contains("service account"))
}

/// A script that is kubectl for this cluster.
fn write_kubectl(dir: &std::path::Path, binary: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let file = dir.join(KUBECTL);
    let script = format!(
        "#!/bin/sh\nKUBECONFIG='{}' exec '{}' kubectl \"$@\"\n",
        dir.join(KUBECONFIG).display(),
        binary.display()
    );
    std::fs::write(&file, script)
        .and_then(|()| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)))
        .during(|| format!("writing {}", file.display()))
}
