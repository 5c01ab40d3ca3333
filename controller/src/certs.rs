//! Where the certificate of the listening socket comes from: from files that somebody else renews, or from an authority
//! of the controller's own, which lives in the cluster.
//!
//! All replicas share the authority (Secret `weir-ca`, made by whichever comes first) and each issues its own
//! certificate, which never leaves its memory. What agents must trust is published in the ConfigMap `weir-ca`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::ServerConfig;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use weir_runtime::backoff::Backoff;
use weir_runtime::ready::Gate;

use crate::pki::{Authority, DEFAULT_HOSTS, Pair, PkiError, Role, Validity};
use crate::serve::{Clients, Tls, TlsError};

/// The Secret with the authority, and the ConfigMap with its certificate alone.
pub const NAME: &str = "weir-ca";
/// The certificate in the ConfigMap.
pub const CA_FILE: &str = "ca.crt";
/// Names in the Secret, those of type `kubernetes.io/tls`.
const SECRET: (&str, &str) = ("tls.crt", "tls.key");

/// Pauses between attempts at the API server.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The configuration in use; none until there is a certificate.
pub type Config = watch::Sender<Option<Arc<ServerConfig>>>;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertsError {
    #[error("{flag} {path} cannot be read")]
    Read { flag: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot {verb} {kind} {namespace}/{NAME}")]
    Api { verb: &'static str, kind: &'static str, namespace: String, source: Box<kube::Error> },
    #[error(
        "Secret {namespace}/{NAME} has no usable tls.crt and tls.key; delete it to have a new authority made"
    )]
    Secret { namespace: String },
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// Certificate and key as files.
#[derive(Clone, Debug)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Absent: nobody comes in with a certificate.
    pub client_ca: Option<PathBuf>,
    /// How often they are looked at. 10 s.
    pub every: Duration,
}

impl Files {
    fn read(&self) -> Result<Tls, CertsError> {
        let client_ca = self.client_ca.as_ref();
        Ok(Tls {
            cert: read("--tls-cert", &self.cert)?,
            key: read("--tls-key", &self.key)?,
            client_ca: client_ca.map_or(Ok(Vec::new()), |path| read("--client-ca", path))?,
        })
    }

    /// Reads them, now.
    ///
    /// Errors: [`CertsError`].
    pub fn load(&self, clients: Clients) -> Result<Arc<ServerConfig>, CertsError> {
        Ok(self.read()?.config(clients)?)
    }

    /// Reads them again when they change. A change that cannot be used, which may be half of one, leaves things as they
    /// are.
    pub async fn follow(self, clients: Clients, config: Config) {
        let mut last = self.read().ok();
        let mut problem = String::new();
        let mut interval = tokio::time::interval(self.every);
        loop {
            interval.tick().await;
            let read = self.read();
            if let (Ok(new), Some(old)) = (&read, &last)
                && new == old
            {
                continue;
            }
            let made = read.and_then(|tls| Ok((tls.config(clients)?, tls)));
            match made {
                Ok((made, tls)) => {
                    last = Some(tls);
                    problem.clear();
                    config.send_replace(Some(made));
                    tracing::info!(cert = %self.cert.display(), "new certificate");
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    if error != problem {
                        tracing::warn!(
                            error,
                            "the new certificate cannot be used, the old one stays"
                        );
                        problem = error;
                    }
                }
            }
        }
    }
}

fn read(flag: &'static str, path: &PathBuf) -> Result<Vec<u8>, CertsError> {
    std::fs::read(path).map_err(|source| CertsError::Read { flag, path: path.clone(), source })
}

/// Certificates of our own authority.
#[derive(Clone)]
pub struct Own {
    pub client: Client,
    /// Where Secret and ConfigMap are.
    pub namespace: String,
    /// Names and addresses beside [`DEFAULT_HOSTS`].
    pub hosts: Vec<String>,
    /// Who else may sign certificates of nodes and operators, beside the authority itself.
    pub client_ca: Option<PathBuf>,
    pub pace: Pace,
    /// What this replica is called towards others, and where its certificate for them goes.
    pub towards: Option<(String, watch::Sender<Option<Credentials>>)>,
}

/// How replicas know each other: a certificate of the authority that they share.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The authority's certificate, PEM.
    pub ca: String,
    pub pair: Pair,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // no key is ever printed
        f.write_str("Credentials")
    }
}

/// How long certificates live.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// 30 days.
    pub valid: Validity,
    /// When a new one is issued. 20 days.
    pub renew: Duration,
    /// How often Secret and ConfigMap are looked at. 5 minutes.
    pub look: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            valid: Validity { from: -1, to: 30 },
            renew: 20 * DAY,
            look: Duration::from_secs(300),
        }
    }
}

impl Own {
    /// Keeps a certificate in use, for ever. The gate is open while there is one.
    pub async fn follow(self, config: Config, gate: Gate) {
        gate.close("waiting for an authority");
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut authority: Option<Authority> = None;
        let mut issued: Option<(Tls, Instant)> = None;
        let mut problem = String::new();
        loop {
            match self.round(&mut authority, &mut issued, &config).await {
                Ok(()) => {
                    gate.open();
                    problem.clear();
                    backoff.reset();
                    tokio::time::sleep(self.pace.look.min(self.pace.renew)).await;
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    if issued.is_none() {
                        gate.close(&error);
                    }
                    if error != problem {
                        tracing::warn!(error, "the authority of this controller");
                        problem = error;
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    /// One look at the cluster, and a certificate if one is due.
    async fn round(
        &self,
        authority: &mut Option<Authority>,
        issued: &mut Option<(Tls, Instant)>,
        config: &Config,
    ) -> Result<(), CertsError> {
        let found = self.authority(authority.as_ref()).await?;
        self.publish(&found).await?;
        let mut client_ca = found.certificate().as_bytes().to_vec();
        if let Some(path) = &self.client_ca {
            client_ca.extend(read("--client-ca", path)?);
        }
        let due = match &*issued {
            Some((tls, at)) => tls.client_ca != client_ca || at.elapsed() >= self.pace.renew,
            None => true,
        };
        if due {
            let mut hosts: Vec<String> = DEFAULT_HOSTS.map(str::to_owned).to_vec();
            for host in [
                format!("weir-controller.{}", self.namespace),
                format!("weir-controller.{}.svc", self.namespace),
            ]
            .iter()
            .chain(&self.hosts)
            {
                if !hosts.contains(host) {
                    hosts.push(host.clone());
                }
            }
            let pair = found.issue(&Role::Server(hosts), self.pace.valid)?;
            let tls = Tls { cert: pair.cert.into_bytes(), key: pair.key.into_bytes(), client_ca };
            config.send_replace(Some(tls.config(Clients::Any)?));
            *issued = Some((tls, Instant::now()));
            if let Some((name, to)) = &self.towards {
                let pair = found.issue(&Role::Replica(name.clone()), self.pace.valid)?;
                to.send_replace(Some(Credentials { ca: found.certificate().to_owned(), pair }));
            }
            tracing::info!("a certificate of our own authority is in use");
        }
        *authority = Some(found);
        Ok(())
    }

    /// The authority in the Secret. Where there is none, ours, or a new one, becomes it.
    async fn authority(&self, ours: Option<&Authority>) -> Result<Authority, CertsError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        loop {
            let found = secrets.get_opt(NAME).await.map_err(|e| self.failed("get", "Secret", e))?;
            if let Some(secret) = found {
                return self.read(&secret);
            }
            let new = match ours {
                Some(ours) => pair(ours),
                None => pair(&Authority::create()?),
            };
            let data = [(SECRET.0, &new.0), (SECRET.1, &new.1)];
            let secret = Secret {
                metadata: self.metadata(),
                type_: Some("kubernetes.io/tls".to_owned()),
                data: Some(
                    data.map(|(name, text)| (name.to_owned(), ByteString(text.clone().into())))
                        .into(),
                ),
                ..Secret::default()
            };
            match secrets.create(&PostParams::default(), &secret).await {
                Ok(secret) => {
                    tracing::info!(namespace = self.namespace, "made the Secret {NAME}");
                    return self.read(&secret);
                }
                // another replica was quicker: its authority is ours
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(self.failed("create", "Secret", error)),
            }
        }
    }

    fn read(&self, secret: &Secret) -> Result<Authority, CertsError> {
        let unusable = || CertsError::Secret { namespace: self.namespace.clone() };
        let text = |name: &str| {
            let bytes = secret.data.as_ref()?.get(name)?;
            String::from_utf8(bytes.0.clone()).ok()
        };
        let (cert, key) = (text(SECRET.0), text(SECRET.1));
        let (Some(cert), Some(key)) = (cert, key) else {
            return Err(unusable());
        };
        Authority::from_pem(cert, key).map_err(|_| unusable())
    }

    /// Tells agents what to trust.
    async fn publish(&self, authority: &Authority) -> Result<(), CertsError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let wanted = authority.certificate();
        loop {
            let found = maps.get_opt(NAME).await.map_err(|e| self.failed("get", "ConfigMap", e))?;
            let Some(found) = found else {
                let data = BTreeMap::from([(CA_FILE.to_owned(), wanted.to_owned())]);
                let map = ConfigMap {
                    metadata: self.metadata(),
                    data: Some(data),
                    ..ConfigMap::default()
                };
                match maps.create(&PostParams::default(), &map).await {
                    Ok(_) => return Ok(()),
                    Err(kube::Error::Api(status)) if status.code == 409 => continue,
                    Err(error) => return Err(self.failed("create", "ConfigMap", error)),
                }
            };
            let there = found.data.as_ref().and_then(|d| d.get(CA_FILE));
            if there.is_some_and(|text| text == wanted) {
                return Ok(());
            }
            let patch = Patch::Merge(json!({"data": {CA_FILE: wanted}}));
            let patched = maps.patch(NAME, &PatchParams::default(), &patch).await;
            return patched.map(drop).map_err(|e| self.failed("patch", "ConfigMap", e));
        }
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        }
    }

    fn failed(&self, verb: &'static str, kind: &'static str, error: kube::Error) -> CertsError {
        CertsError::Api { verb, kind, namespace: self.namespace.clone(), source: Box::new(error) }
    }
}

fn pair(authority: &Authority) -> (String, String) {
    (authority.certificate().to_owned(), authority.key().to_owned())
}
