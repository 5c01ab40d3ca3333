//! The other replicas.
//!
//! Every agent is connected to one replica only, so what a replica knows of a policy is not all. Whoever has to say how
//! far policies are (the one that writes status, the one that a tool asks) asks the others for their part. They find each
//! other by Leases, one per replica, with its address; and they know each other by certificates of the authority that
//! they share. A replica that does not answer costs its part: its nodes count as not connected.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use weir_api::convert::key_to_proto;
use weir_api::v1::replicas_client::ReplicasClient;
use weir_api::v1::{StatusReply, ToldReply, ToldRequest};
use weir_api::version::MAX_TO_AGENT;

use crate::certs::Credentials;
use crate::status::Progress;

/// Label of the Leases by which replicas find each other.
pub const LABEL: &str = "weir.io/replica";
/// Annotation with the address of the replica.
pub const ADDRESS: &str = "weir.io/address";

/// Replicas that can be known to each other. Their Leases have the numbers below this in their names, so that a Role can name
/// them.
pub const SLOTS: usize = 16;

/// A name that every replica's certificate has.
const SERVER_NAME: &str = "weir-controller";
/// For a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Policies in one question.
const QUESTION: usize = 256;

/// How replicas make themselves known.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often a replica renews its Lease and looks for others. 10 s.
    pub renew: Duration,
    /// A Lease that has not changed for so long is that of a replica that died. 40 s.
    pub duration: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { renew: Duration::from_secs(10), duration: Duration::from_secs(40) }
    }
}

/// A replica that makes itself known and finds the others.
#[derive(Clone)]
pub struct Presence {
    pub client: Client,
    pub namespace: String,
    /// Differs between replicas; the holder in the Lease.
    pub id: String,
    /// Where the others reach it: `HOST:PORT`.
    pub address: String,
    pub pace: Pace,
}

/// The others that are known now.
#[derive(Clone, Debug)]
pub struct Peers {
    addresses: watch::Receiver<Vec<String>>,
    credentials: watch::Receiver<Option<Credentials>>,
    channels: Arc<Mutex<HashMap<String, (Channel, Credentials)>>>,
}

/// A Lease as it was last seen, and since when it is so.
struct Seen {
    version: String,
    since: Instant,
}

impl Presence {
    /// Stays known and looks for others until `drain`.
    pub async fn run(self, others: watch::Sender<Vec<String>>, drain: CancellationToken) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut seen: HashMap<String, Seen> = HashMap::new();
        let mut slot = None;
        let mut problem = String::new();
        loop {
            let round = async {
                self.renew(&leases, &mut slot).await?;
                self.look(&leases, &mut seen).await
            };
            let round = tokio::select! {
                () = drain.cancelled() => break,
                round = tokio::time::timeout(self.pace.renew.max(PATIENCE), round) => round,
            };
            let error = match round {
                Ok(Ok(found)) => {
                    others.send_if_modified(|old| {
                        let changed = *old != found;
                        if changed {
                            tracing::info!(replicas = ?found, "other replicas");
                            *old = found;
                        }
                        changed
                    });
                    match slot {
                        Some(_) => String::new(),
                        None => format!("all {SLOTS} are taken, the others do not know this one"),
                    }
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            if error != problem && !error.is_empty() {
                tracing::warn!(error, "Leases of replicas in {}", self.namespace);
            }
            problem = error;
            tokio::select! {
                () = drain.cancelled() => break,
                () = tokio::time::sleep(self.pace.renew) => {}
            }
        }
        // one that stays is taken away by the others
        drop(tokio::time::timeout(PATIENCE, self.leave(&leases, slot)).await);
    }

    fn name(slot: usize) -> String {
        format!("weir-controller.{slot}")
    }

    fn lease(&self, slot: usize, version: Option<String>) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(self.id.clone()),
            lease_duration_seconds: i32::try_from(self.pace.duration.as_secs().max(1)).ok(),
            renew_time: Some(MicroTime(jiff::Timestamp::now())),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta {
            name: Some(Self::name(slot)),
            namespace: Some(self.namespace.clone()),
            labels: Some(BTreeMap::from([(LABEL.to_owned(), "true".to_owned())])),
            annotations: Some(BTreeMap::from([(ADDRESS.to_owned(), self.address.clone())])),
            resource_version: version,
            ..ObjectMeta::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref());
        holder == Some(self.id.as_str())
    }

    /// Renews our Lease. Without one, the first that nobody has becomes ours.
    async fn renew(
        &self,
        leases: &Api<Lease>,
        slot: &mut Option<usize>,
    ) -> Result<(), kube::Error> {
        let params = PostParams::default();
        if let Some(ours) = *slot {
            let found = leases.get_opt(&Self::name(ours)).await?;
            if let Some(found) = found.filter(|f| self.is_ours(f)) {
                let new = self.lease(ours, found.metadata.resource_version);
                return match leases.replace(&Self::name(ours), &params, &new).await {
                    // somebody takes away what looks dead: the next round makes it again
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
                    written => written.map(drop),
                };
            }
            *slot = None;
        }
        let list = leases.list(&ListParams::default().labels(&format!("{LABEL}=true"))).await?;
        for free in 0..SLOTS {
            let name = Self::name(free);
            if list.items.iter().any(|l| l.metadata.name.as_ref() == Some(&name)) {
                continue;
            }
            match leases.create(&params, &self.lease(free, None)).await {
                // another was quicker
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                made => {
                    made?;
                    *slot = Some(free);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes our Lease away.
    async fn leave(&self, leases: &Api<Lease>, slot: Option<usize>) -> Result<(), kube::Error> {
        let Some(ours) = slot else {
            return Ok(());
        };
        let Some(lease) = leases.get_opt(&Self::name(ours)).await?.filter(|l| self.is_ours(l))
        else {
            return Ok(());
        };
        delete(leases, lease.metadata).await
    }

    /// Addresses of the others, in order.
    async fn look(
        &self,
        leases: &Api<Lease>,
        seen: &mut HashMap<String, Seen>,
    ) -> Result<Vec<String>, kube::Error> {
        let list = leases.list(&ListParams::default().labels(&format!("{LABEL}=true"))).await?;
        let mut out = Vec::new();
        let mut still = HashMap::new();
        for lease in list.items {
            let name = lease.metadata.name.clone().unwrap_or_default();
            let known = (0..SLOTS).any(|slot| Self::name(slot) == name);
            if !known || self.is_ours(&lease) {
                continue;
            }
            let address = lease.metadata.annotations.as_ref().and_then(|a| a.get(ADDRESS)).cloned();
            let address = address.unwrap_or_default();
            let version = lease.metadata.resource_version.clone().unwrap_or_default();
            let since = match seen.remove(&name) {
                Some(before) if before.version == version => before.since,
                _ => Instant::now(),
            };
            if since.elapsed() < self.pace.duration {
                // one that cannot be reached has its Lease, too
                out.extend(Some(address).filter(|a| !a.is_empty()));
            } else if since.elapsed() > self.pace.duration * 4 {
                delete(leases, lease.metadata).await?;
                continue;
            }
            still.insert(name, Seen { version, since });
        }
        *seen = still;
        out.sort();
        out.dedup();
        Ok(out)
    }
}

/// Deletes a Lease as it was seen: one that was renewed just now, or that another has made meanwhile, stays.
async fn delete(leases: &Api<Lease>, seen: ObjectMeta) -> Result<(), kube::Error> {
    let ObjectMeta { name, uid, resource_version, .. } = seen;
    let params = DeleteParams::default().preconditions(Preconditions { uid, resource_version });
    match leases.delete(&name.unwrap_or_default(), &params).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        deleted => deleted.map(drop),
    }
}

impl Peers {
    /// The others at these addresses, asked with these credentials.
    pub fn new(
        addresses: watch::Receiver<Vec<String>>,
        credentials: watch::Receiver<Option<Credentials>>,
    ) -> Self {
        Self { addresses, credentials, channels: Arc::default() }
    }

    /// Another number when the others know anything new.
    pub(crate) async fn mark(&self) -> u64 {
        let replies = self.ask(&ToldRequest::default()).await;
        // a replica that comes or goes makes a difference, too
        let mix = |sum: u64, r: &ToldReply| sum.wrapping_mul(0x100_0000_01b3).wrapping_add(r.mark);
        replies.iter().fold(replies.len() as u64, mix)
    }

    /// Adds what the others know of these policies.
    pub(crate) async fn complete(&self, policies: &mut [Progress]) {
        if self.addresses.borrow().is_empty() {
            return;
        }
        // what is complete already needs no question
        let mut open: Vec<&mut Progress> =
            policies.iter_mut().filter(|p| !p.pending.is_empty()).collect();
        for some in open.chunks_mut(QUESTION) {
            let keys = some.iter().map(|p| key_to_proto(&p.key)).collect();
            for reply in self.ask(&ToldRequest { policies: keys, nodes: false }).await {
                for (progress, told) in some.iter_mut().zip(&reply.policies) {
                    progress.merge(&reply.connected, told);
                }
            }
        }
    }

    /// The same for an answer to a tool, nodes included.
    pub(crate) async fn complete_reply(&self, status: &mut StatusReply) {
        if self.addresses.borrow().is_empty() {
            return;
        }
        for reply in self.ask(&ToldRequest { policies: Vec::new(), nodes: true }).await {
            for mut node in reply.nodes {
                let Some(ours) = status.nodes.iter_mut().find(|n| n.name == node.name) else {
                    continue;
                };
                if ours.connected {
                    continue;
                }
                // revisions are counted by each replica for itself
                node.revision = match node.revision == reply.revision {
                    true => status.revision,
                    false => 0,
                };
                *ours = node;
            }
        }
        for some in status.policies.chunks_mut(QUESTION) {
            let keys = some.iter().filter_map(|p| p.policy.clone()).collect();
            for reply in self.ask(&ToldRequest { policies: keys, nodes: false }).await {
                for (policy, told) in some.iter_mut().zip(&reply.policies) {
                    if told.generation != policy.generation {
                        continue;
                    }
                    let more = policy.flows_node.is_empty() || told.flows_max > policy.flows_max;
                    if !told.flows_node.is_empty() && more {
                        policy.flows_max = told.flows_max;
                        policy.flows_node.clone_from(&told.flows_node);
                    }
                    for (position, took) in told.realized.iter().zip(&told.took_us) {
                        let position = usize::try_from(*position).ok();
                        let node = position.and_then(|p| reply.connected.get(p));
                        let at = node.and_then(|n| policy.pending.iter().position(|p| p == n));
                        let Some(at) = at else {
                            continue;
                        };
                        policy.pending.remove(at);
                        policy.nodes_realized += 1;
                        policy.latencies_us.extend((*took > 0).then_some(*took));
                    }
                    for failure in &told.failures {
                        policy.pending.retain(|node| *node != failure.node);
                        policy.failures.push(failure.clone());
                    }
                }
            }
        }
    }

    /// Asks all others at once; tells what those say that answer.
    async fn ask(&self, request: &ToldRequest) -> Vec<ToldReply> {
        let addresses = self.addresses.borrow().clone();
        let Some(credentials) = self.credentials.borrow().clone() else {
            return Vec::new();
        };
        self.channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|address, (_, of)| addresses.contains(address) && *of == credentials);
        let credentials = &credentials;
        let asked = addresses.iter().map(|address| async move {
            let channel = self.channel(address, credentials)?;
            let mut client = ReplicasClient::new(channel).max_decoding_message_size(MAX_TO_AGENT);
            let answer = tokio::time::timeout(PATIENCE, client.told(request.clone())).await;
            match answer {
                Ok(Ok(reply)) => Some(reply.into_inner()),
                Ok(Err(status)) => {
                    tracing::debug!(%address, code = ?status.code(), reason = status.message(), "replica");
                    None
                }
                Err(_) => {
                    tracing::debug!(%address, "a replica gives no answer in time");
                    None
                }
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The connection to a replica, which comes about with the first question and again after it broke.
    fn channel(&self, address: &str, credentials: &Credentials) -> Option<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((channel, _)) = channels.get(address) {
            return Some(channel.clone());
        }
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&credentials.ca))
            .identity(Identity::from_pem(&credentials.pair.cert, &credentials.pair.key))
            .domain_name(SERVER_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{address}")).ok()?;
        let channel = endpoint.tls_config(tls).ok()?.connect_timeout(PATIENCE).connect_lazy();
        channels.insert(address.to_owned(), (channel.clone(), credentials.clone()));
        Some(channel)
    }
}
