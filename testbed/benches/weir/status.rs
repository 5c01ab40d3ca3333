//! What the controller says of its nodes, asked as `weirctl` asks.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use weir_api::v1;
use weir_api::v1::inspection_client::InspectionClient;
use weir_testbed::fleet::{Fleet, operator_env};
use weir_testbed::netns::Inside;
use weir_testbed::wait;

/// Between two questions, and for how long to go on asking.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks the controller of a fleet, in whose namespace it lives.
pub(crate) struct Inspector {
    infra: Inside,
    /// What `weirctl` would be given.
    operator: BTreeMap<&'static str, String>,
}

impl Inspector {
    pub(crate) fn of(fleet: &Fleet) -> Result<Self> {
        // tonic takes the provider of the process, and a second one is refused
        drop(rustls::crypto::ring::default_provider().install_default());
        Ok(Self {
            infra: Inside::enter(fleet.bed().infra().name())?,
            operator: operator_env(fleet.bed().dir())?.into_iter().collect(),
        })
    }

    pub(crate) fn status(&self) -> Result<v1::StatusReply> {
        let operator = self.operator.clone();
        // a socket belongs to the namespace of the thread that makes it, so all of it happens there
        let reply = self.infra.run(move || Ok(ask(&operator)))?;
        reply.context("asking the controller for its status")
    }

    /// Waits until so many policies are known and in force on every node that they concern.
    pub(crate) fn in_force(&self, policies: usize) -> Result<v1::StatusReply> {
        self.until("every policy is in force", |status| {
            status.policies.len() == policies
                && status.policies.iter().all(|p| p.nodes_realized == p.nodes_desired)
        })
    }

    /// Event to acknowledgement of this generation of a policy, once every node of it has acknowledged.
    pub(crate) fn latency(&self, name: &str, generation: i64) -> Result<Duration> {
        let is_it = |p: &&v1::PolicyStatus| p.policy.as_ref().is_some_and(|key| key.name == name);
        let status = self.until("the change is acknowledged", |status| {
            status.policies.iter().find(is_it).is_some_and(|p| {
                p.generation == generation && p.nodes_desired > 0 && p.pending.is_empty()
            })
        })?;
        let slowest =
            status.policies.iter().find(is_it).and_then(|p| p.latencies_us.iter().max().copied());
        slowest.map(Duration::from_micros).context("the controller has no figure")
    }

    fn until(
        &self,
        what: &str,
        condition: impl Fn(&v1::StatusReply) -> bool,
    ) -> Result<v1::StatusReply> {
        let mut last = None;
        let found = wait::until(what, LIMIT, || {
            let status = self.status();
            let done = status.as_ref().is_ok_and(&condition);
            last = Some(status);
            Ok(done.then_some(()))
        });
        match (found, last) {
            (Ok(()), Some(status)) => status,
            (Err(e), Some(Ok(status))) => {
                let open: Vec<_> = status
                    .policies
                    .iter()
                    .filter(|p| p.nodes_realized != p.nodes_desired)
                    .take(3)
                    .collect();
                bail!("{e}; {} policies, among them {open:?}", status.policies.len())
            }
            (Err(e), Some(Err(why))) => Err(why.context(e.to_string())),
            (Err(e), None) => Err(e.into()),
            (Ok(()), None) => bail!("nothing was asked"),
        }
    }
}

fn ask(operator: &BTreeMap<&'static str, String>) -> Result<v1::StatusReply> {
    let get = |name: &str| operator.get(name).with_context(|| format!("{name} is not given"));
    let read = |name: &str| {
        let file = get(name)?;
        fs::read(file).with_context(|| format!("reading {file}"))
    };
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("WEIR_CA")?))
        .identity(Identity::from_pem(read("WEIR_CERT")?, read("WEIR_KEY")?));
    let url = format!("https://{}", get("WEIR_SERVER")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Box::pin(async move {
        let channel: Channel = Endpoint::from_shared(url)?.tls_config(tls)?.connect().await?;
        let mut client = InspectionClient::new(channel).max_decoding_message_size(64 << 20);
        Ok(client.status(v1::StatusRequest::default()).await?.into_inner())
    }))
}
