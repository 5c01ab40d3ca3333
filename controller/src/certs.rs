//! Where the certificate of the listening socket comes from: from files that somebody else renews, or from an authority
//! of the controller's own, which lives in the cluster.
//!
//! All replicas share the authority (Secret `weir-ca`, made by whichever comes first) and each issues its own
//! certificate, which never leaves its memory. What agents must trust is published in the ConfigMap `weir-ca`. The replica
//! that leads replaces the authority before it ends, in steps: `certs/ring.rs`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::ServerConfig;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use weir_runtime::backoff::Backoff;
use weir_runtime::clock::Clock;
use weir_runtime::ready::Gate;

use crate::pki::{AUTHORITY_LIFE, DAY, DEFAULT_HOSTS, Pair, PkiError, Role, Validity};
use crate::serve::{Clients, Tls, TlsError};

mod ring;

use ring::Ring;

/// The Secret with the authority, and the ConfigMap with what to trust.
pub const NAME: &str = "weir-ca";
/// The certificates in the ConfigMap.
pub const CA_FILE: &str = "ca.crt";

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
        "Secret {namespace}/{NAME} has no usable {field}; delete it to have a new authority made"
    )]
    Secret { namespace: String, field: &'static str },
    #[error(
        "the authority in Secret {namespace}/{NAME} ended at {end}, and the replica that leads has made no other"
    )]
    Ended { namespace: String, end: Timestamp },
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
    pub clock: Arc<dyn Clock>,
    /// Whether this replica leads, and so replaces the authority when it is time. Absent where nobody leads: then all do,
    /// and whoever is first is the one.
    pub leads: Option<watch::Receiver<bool>>,
    /// What this replica is called towards others, and where its certificate for them goes.
    pub towards: Option<(String, watch::Sender<Option<Credentials>>)>,
}

/// How replicas know each other: a certificate of the authority that they share.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Certificates of all authorities that count, PEM.
    pub ca: String,
    pub pair: Pair,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // no key is ever printed
        f.write_str("Credentials")
    }
}

/// How long authorities and certificates live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long an authority lasts. It is replaced after two thirds of that. 3,650 days.
    pub authority: Duration,
    /// How long the next authority is announced before it signs: by then all must have taken up its certificate, those
    /// too who have it copied by hand. 30 days, or a tenth of an authority's life.
    pub announce: Duration,
    /// Of certificates, and never longer than their authority. 30 days.
    pub valid: Validity,
    /// When a new one is issued, or after two thirds of its time. 20 days.
    pub renew: Duration,
    /// How often Secret and ConfigMap are looked at. 5 minutes, or a sixtieth of an authority's life.
    pub look: Duration,
}

impl Pace {
    /// That of authorities with such a life.
    pub fn of(authority: Duration) -> Self {
        Self {
            authority,
            announce: (authority / 10).min(DAY * 30),
            valid: Validity::days(-1, 30),
            renew: DAY * 20,
            look: (authority / 60).min(Duration::from_secs(300)),
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::of(AUTHORITY_LIFE)
    }
}

/// The certificate in use.
struct Issued {
    tls: Tls,
    /// When it was issued, by both clocks, and how long after that another one is.
    at: (Instant, Timestamp),
    renew: Duration,
}

impl Issued {
    fn is_due(&self, now: (Instant, Timestamp)) -> bool {
        let by_calendar = Duration::try_from(self.at.1.duration_until(now.1));
        // a calendar that goes back says nothing of how old it is
        now.0.duration_since(self.at.0) >= self.renew
            || by_calendar.is_ok_and(|age| age >= self.renew)
    }
}

/// A replica's view of the authority, and the certificate that it has issued itself.
pub struct Keeper {
    own: Own,
    ring: Option<Ring>,
    issued: Option<Issued>,
    /// What of the Secret cannot be read, as far as it was said.
    bad: Vec<&'static str>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // no key is ever printed
        f.write_str("Keeper")
    }
}

impl Own {
    /// Keeps a certificate in use, for ever. The gate is open while there is one.
    pub async fn follow(self, config: Config, gate: Gate) {
        gate.close("waiting for an authority");
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut leads = self.leads.clone();
        let pause = self.pace.look.min(self.pace.renew);
        let mut keeper = Keeper::new(self);
        let mut problem = String::new();
        loop {
            match keeper.look(&config).await {
                Ok(()) => {
                    gate.open();
                    problem.clear();
                    backoff.reset();
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        // whoever leads from now on does what is due
                        () = changes(&mut leads) => {}
                    }
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    if keeper.issued.is_none() {
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

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn now(&self) -> Timestamp {
        Timestamp::try_from(self.clock.wall()).unwrap_or(Timestamp::MAX)
    }

    /// Tells agents what to trust.
    async fn publish(&self, wanted: &str) -> Result<(), CertsError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
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

    /// The names of the certificate for the listening socket.
    fn server(&self) -> Role {
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
        Role::Server(hosts)
    }
}

/// Until it is another one who leads.
async fn changes(leads: &mut Option<watch::Receiver<bool>>) {
    if let Some(leads) = leads
        && leads.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

impl Keeper {
    /// One that has not looked yet.
    pub fn new(own: Own) -> Self {
        Self { own, ring: None, issued: None, bad: Vec::new() }
    }

    /// What the listening socket shows, and whom it trusts.
    pub fn tls(&self) -> Option<&Tls> {
        self.issued.as_ref().map(|issued| &issued.tls)
    }

    /// One look at the cluster. Whoever leads takes the steps that are due, and a certificate is issued if one is.
    ///
    /// Errors: [`CertsError`]; a certificate that is in use stays so.
    pub async fn look(&mut self, config: &Config) -> Result<(), CertsError> {
        let (mut ring, secret) = self.read_or_create().await?;
        let mut problem = self.own.publish(&ring.bundle()).await.err();
        if self.issued.is_none()
            && let Some(error) = problem
        {
            // agents could not know whom to trust
            return Err(error);
        }
        let leads = self.own.leads.as_ref().is_none_or(|leads| *leads.borrow());
        if leads && problem.is_none() {
            let stepped = self.steps(&mut ring, secret).await;
            problem = stepped.err();
        }
        self.ring = Some(ring);
        self.issue(config)?;
        problem.map_or(Ok(()), Err)
    }

    /// Takes all steps that are due, as far as nobody else takes them.
    async fn steps(&mut self, ring: &mut Ring, mut secret: Secret) -> Result<(), CertsError> {
        while let Some(step) = ring.step(self.own.now(), true, &self.own.pace) {
            let next = ring.clone().after(step, self.own.now(), &self.own.pace)?;
            let data = secret.data.get_or_insert_default();
            data.retain(|name, _| !Ring::names(name));
            data.extend(next.data());
            // with the version that was read: of two who do this at once, one has done nothing
            let put = self.own.secrets().replace(NAME, &PostParams::default(), &secret).await;
            (*ring, secret) = match put {
                Ok(secret) => {
                    tracing::info!(namespace = self.own.namespace, "{step}");
                    (next, secret)
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    self.read_or_create().await?
                }
                Err(error) => return Err(self.own.failed("update", "Secret", error)),
            };
            // the next step may count on it
            self.own.publish(&ring.bundle()).await?;
        }
        Ok(())
    }

    /// Issues a certificate, if one is due.
    fn issue(&mut self, config: &Config) -> Result<(), CertsError> {
        let (own, Some(ring)) = (&self.own, &self.ring) else {
            return Ok(());
        };
        let ca = ring.bundle();
        let mut client_ca = ca.as_bytes().to_vec();
        if let Some(path) = &own.client_ca {
            if !client_ca.ends_with(b"\n") {
                client_ca.push(b'\n');
            }
            client_ca.extend(read("--client-ca", path)?);
        }
        let now = (own.clock.now(), own.now());
        let fresh = self
            .issued
            .as_ref()
            .is_some_and(|issued| issued.tls.client_ca == client_ca && !issued.is_due(now));
        if fresh {
            return Ok(());
        }
        let end = ring.current.valid().1;
        let rest = Duration::try_from(now.1.duration_until(end)).unwrap_or_default();
        if rest.is_zero() {
            return Err(CertsError::Ended { namespace: own.namespace.clone(), end });
        }
        let issue = |role: &Role| ring.current.issue_at(role, own.pace.valid, now.1);
        let pair = issue(&own.server())?;
        let tls = Tls { cert: pair.cert.into_bytes(), key: pair.key.into_bytes(), client_ca };
        config.send_replace(Some(tls.config(Clients::Any)?));
        let renew = own.pace.renew.min(rest * 2 / 3);
        if let Some((name, to)) = &own.towards {
            let pair = issue(&Role::Replica(name.clone()))?;
            to.send_replace(Some(Credentials { ca, pair }));
        }
        self.issued = Some(Issued { tls, at: now, renew });
        tracing::info!("a certificate of our own authority is in use");
        Ok(())
    }

    /// The authorities in the Secret. Where there is none, ours, or a new one, becomes it.
    async fn read_or_create(&mut self) -> Result<(Ring, Secret), CertsError> {
        let secrets = self.own.secrets();
        loop {
            let found =
                secrets.get_opt(NAME).await.map_err(|e| self.own.failed("get", "Secret", e))?;
            if let Some(secret) = found {
                return self.read(secret);
            }
            let ring = match &self.ring {
                Some(ring) => ring.clone(),
                None => Ring::create(self.own.now(), self.own.pace.authority)?,
            };
            let secret = Secret {
                metadata: self.own.metadata(),
                type_: Some("kubernetes.io/tls".to_owned()),
                data: Some(ring.data()),
                ..Secret::default()
            };
            match secrets.create(&PostParams::default(), &secret).await {
                Ok(secret) => {
                    tracing::info!(namespace = self.own.namespace, "made the Secret {NAME}");
                    return self.read(secret);
                }
                // another replica was quicker: its authority is ours
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(self.own.failed("create", "Secret", error)),
            }
        }
    }

    fn read(&mut self, secret: Secret) -> Result<(Ring, Secret), CertsError> {
        let namespace = &self.own.namespace;
        let none = BTreeMap::new();
        let (ring, bad) = Ring::read(secret.data.as_ref().unwrap_or(&none))
            .map_err(|field| CertsError::Secret { namespace: namespace.clone(), field })?;
        for field in bad.iter().filter(|field| !self.bad.contains(field)) {
            tracing::warn!(namespace, field, "a part of the Secret {NAME} cannot be read");
        }
        self.bad = bad;
        Ok((ring, secret))
    }
}
