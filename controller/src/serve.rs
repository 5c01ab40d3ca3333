//! gRPC over TLS for agents and tools.
//!
//! Every client has a certificate of our authority, or is an agent with a token of the cluster, and gets what its identity
//! is for: a node its own span, an operator the inspection, anybody else nothing. A client that misbehaves loses its own
//! stream.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Status};
use weir_api::v1::distribution_server::DistributionServer;
use weir_api::v1::inspection_server::InspectionServer;
use weir_api::v1::replicas_server::ReplicasServer;
use weir_api::version::{MAX_TO_AGENT, MAX_TO_CONTROLLER};

use crate::peers::Peers;
use crate::publish::Handle;

mod agent;
mod body;
mod identity;
mod inspection;
mod manifest;
mod replicas;
mod tls;
mod token;

pub use identity::{Identity, IdentityError, NODE, OPERATOR, REPLICA};
pub use manifest::objects;
pub use tls::{Clients, Tls, TlsError};
pub use token::{NODE_NAME, TokenError, Tokens};

use agent::Agents;
use inspection::Tools;
use replicas::Others;

/// For a TLS handshake, and for the first message of a stream.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that does not answer a ping for the sum of both is gone.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// Streams of one connection. An agent has one, a tool a few.
const STREAMS_PER_CONNECTION: u32 = 16;
/// What a connection may have in flight before its reader must have read. Units: bytes. It bounds what a stalled agent
/// keeps in our buffers.
const WINDOW: u32 = 256 << 10;

/// How long a refusal that was logged is no news. An agent that is refused comes again every few seconds.
const OLD_NEWS: Duration = Duration::from_secs(600);
/// Refusals that are remembered for that.
const REMEMBERED: usize = 1024;
/// Connections that may wait for the server after their handshake.
const ACCEPTED: usize = 16;

/// How clients are received.
#[derive(Clone, Debug)]
pub struct Reception {
    /// Looked up for each connection. Until there is one, nobody is let in.
    pub tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    /// Absent where only certificates count.
    pub tokens: Option<Tokens>,
    /// The other replicas, for answers about agents that are connected to them.
    pub peers: Option<Peers>,
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("serving gRPC failed")]
    Serve(#[source] tonic::transport::Error),
}

/// Who was refused, by reason.
#[derive(Debug, Default)]
pub struct Refusals {
    /// No TLS connection came about: a certificate of another authority, none where one is needed, or no TLS at all.
    pub handshake: AtomicU64,
    /// A certificate of our authority that is nobody's, or an operator's where a node's is needed, or the reverse.
    pub identity: AtomicU64,
    /// A token that speaks for no node, or none and no certificate either.
    pub token: AtomicU64,
    /// A node that speaks for another.
    pub wrong_node: AtomicU64,
    /// A protocol that is too old.
    pub version: AtomicU64,
    /// Messages that are no protobuf, too large, or not what had to come.
    pub malformed: AtomicU64,
    /// What was logged, and when.
    logged: Mutex<HashMap<String, Instant>>,
}

impl Refusals {
    /// Every reason with its count, in the order of names.
    pub fn counts(&self) -> [(&'static str, u64); 6] {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        [
            ("handshake", read(&self.handshake)),
            ("identity", read(&self.identity)),
            ("malformed", read(&self.malformed)),
            ("other-node", read(&self.wrong_node)),
            ("token", read(&self.token)),
            ("version", read(&self.version)),
        ]
    }

    /// Sorted lines, for people.
    pub fn describe(&self) -> String {
        let lines = self.counts().map(|(reason, count)| format!("refused, {reason}: {count}\n"));
        lines.concat()
    }

    /// Whether something was not logged lately; then it is taken to be logged now.
    pub(crate) fn is_news(&self, what: &str) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.get(what).is_some_and(|at| now.duration_since(*at) < OLD_NEWS) {
            return false;
        }
        if logged.len() >= REMEMBERED {
            logged.retain(|_, at| now.duration_since(*at) < OLD_NEWS);
            if logged.len() >= REMEMBERED {
                logged.clear();
            }
        }
        logged.insert(what.to_owned(), now);
        true
    }
}

/// What all services share.
#[derive(Clone, Debug)]
struct Context {
    hub: Handle,
    tokens: Option<Tokens>,
    peers: Option<Peers>,
    refusals: Arc<Refusals>,
    drain: CancellationToken,
    /// What we call ourselves.
    name: Arc<str>,
}

/// What a client shows of itself.
struct Shown {
    certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
    authorization: Option<String>,
    from: Option<SocketAddr>,
}

impl Shown {
    fn of<T>(request: &Request<T>) -> Self {
        let authorization = request.metadata().get("authorization");
        Self {
            certificates: request.peer_certs(),
            // what is no text is no token, and will be told so
            authorization: authorization.map(|a| a.to_str().unwrap_or_default().to_owned()),
            from: request.remote_addr(),
        }
    }
}

impl Context {
    /// The identity behind a request. A certificate counts before a token.
    async fn identity(&self, shown: Shown) -> Result<Identity, Status> {
        let authorization = match (&shown.certificates, shown.authorization) {
            (None, Some(authorization)) => authorization,
            (certificates, _) => {
                let certificates = certificates.as_deref().map(Vec::as_slice);
                return Identity::of(certificates).map_err(|error| {
                    let counter = match error {
                        IdentityError::Missing => &self.refusals.token,
                        _ => &self.refusals.identity,
                    };
                    self.refuse(counter, shown.from, &error)
                });
            }
        };
        let judged = match &self.tokens {
            Some(tokens) => tokens.node(&authorization).await,
            None => Err(TokenError::NotTaken),
        };
        match judged {
            Ok(node) => Ok(Identity::Node(node)),
            Err(error @ TokenError::NoReview(_)) => {
                if self.refusals.is_news(&error.to_string()) {
                    tracing::warn!(peer = ?shown.from, %error, "not let in");
                }
                Err(Status::unavailable(error.to_string()))
            }
            Err(error) => Err(self.refuse(&self.refusals.token, shown.from, &error)),
        }
    }

    /// Somebody who is not what is needed here.
    fn stranger(&self, from: Option<SocketAddr>, reason: &dyn std::fmt::Display) -> Status {
        self.refuse(&self.refusals.identity, from, reason)
    }

    fn refuse(
        &self,
        counter: &AtomicU64,
        from: Option<SocketAddr>,
        reason: &dyn std::fmt::Display,
    ) -> Status {
        counter.fetch_add(1, Ordering::Relaxed);
        let ip = from.map(|f| f.ip().to_string()).unwrap_or_default();
        if self.refusals.is_news(&format!("{ip} {reason}")) {
            tracing::warn!(peer = ?from, %reason, "refused");
        }
        Status::permission_denied(reason.to_string())
    }
}

/// Serves clients with certificates, as [`serve_all`] does.
///
/// Errors: [`ServeError`].
pub async fn serve(
    listener: TcpListener,
    tls: Tls,
    hub: Handle,
    refusals: Arc<Refusals>,
    drain: CancellationToken,
) -> Result<(), ServeError> {
    let (_keep, config) = watch::channel(Some(tls.config(Clients::Certified)?));
    let reception = Reception { tls: config, tokens: None, peers: None };
    serve_all(listener, reception, hub, refusals, drain).await
}

/// Serves until `drain` is cancelled; streams are told and end.
///
/// Errors: [`ServeError`].
pub async fn serve_all(
    listener: TcpListener,
    reception: Reception,
    hub: Handle,
    refusals: Arc<Refusals>,
    drain: CancellationToken,
) -> Result<(), ServeError> {
    let Reception { tls, tokens, peers } = reception;
    let name = format!("weir-controller {}", env!("CARGO_PKG_VERSION"));
    let counted = Arc::clone(&refusals);
    let context = Context { hub, tokens, peers, refusals, drain: drain.clone(), name: name.into() };
    let agents = DistributionServer::new(Agents::new(context.clone()))
        .max_decoding_message_size(MAX_TO_CONTROLLER)
        .max_encoding_message_size(MAX_TO_AGENT);
    let replicas = ReplicasServer::new(Others::new(context.clone()))
        .max_decoding_message_size(MAX_TO_CONTROLLER)
        .max_encoding_message_size(MAX_TO_AGENT);
    let tools = InspectionServer::new(Tools::new(context))
        .max_decoding_message_size(MAX_TO_CONTROLLER)
        .max_encoding_message_size(MAX_TO_AGENT);
    let (connections, incoming) = mpsc::channel(ACCEPTED);
    let accepting = async {
        tls::accept(listener, tls, connections, counted, drain.clone()).await;
        // accepting ends with the drain; streams under way then have their time
        std::future::pending::<()>().await;
    };
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(agents)
        .add_service(replicas)
        .add_service(tools)
        .serve_with_incoming_shutdown(
            ReceiverStream::new(incoming),
            drain.clone().cancelled_owned(),
        );
    tokio::select! {
        served = serving => served.map_err(ServeError::Serve),
        () = accepting => Ok(()),
    }
}
