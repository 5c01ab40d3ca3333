//! gRPC over TLS for agents and tools.
//!
//! Every client has a certificate of our authority, or is an agent with a token of the cluster, and gets what its identity
//! is for: a node its own span, an operator the inspection, anybody else nothing. A client that misbehaves loses its own
//! stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Server;
use weir_api::v1::distribution_server::DistributionServer;
use weir_api::v1::inspection_server::InspectionServer;
use weir_api::v1::replicas_server::ReplicasServer;
use weir_api::version::{MAX_TO_AGENT, MAX_TO_CONTROLLER};

use crate::peers::Peers;
use crate::publish::Handle;

mod agent;
mod body;
mod door;
mod gate;
mod identity;
mod inspection;
mod manifest;
mod refusals;
mod replicas;
mod tls;
mod token;

pub use door::Limits;
pub use identity::{Identity, IdentityError, NODE, OPERATOR, REPLICA};
pub use manifest::objects;
pub use refusals::Refusals;
pub use tls::{Clients, Tls, TlsError};
pub use token::{Fault, NODE_NAME, TokenError, Tokens};

use agent::Agents;
use door::{Arrival, Door};
use gate::{For, Gate};
use inspection::Tools;
use refusals::{About, Source};
use replicas::Others;

/// For the first message of a stream.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that does not answer a ping for the sum of both is gone.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// Streams of one connection. An agent has one, a tool a few.
const STREAMS_PER_CONNECTION: u32 = 16;
/// What a connection may have in flight before its reader must have read. Units: bytes. It bounds what a stalled agent
/// keeps in our buffers.
const WINDOW: u32 = 256 << 10;

/// What a tool or a replica may ask in one message: that of a replica names up to some hundred policies. Units: bytes.
const MAX_QUESTION: usize = 256 << 10;

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
    pub limits: Limits,
    pub sent: Arc<Sent>,
}

/// What agents were sent. Units: bytes of encoded messages.
#[derive(Debug, Default)]
pub struct Sent {
    pub snapshot: AtomicU64,
    pub delta: AtomicU64,
    pub query: AtomicU64,
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

/// What all services share.
#[derive(Clone, Debug)]
struct Context {
    hub: Handle,
    tokens: Option<Tokens>,
    peers: Option<Peers>,
    refusals: Arc<Refusals>,
    sent: Arc<Sent>,
    drain: CancellationToken,
    /// What we call ourselves.
    name: Arc<str>,
}

/// What strangers are told. Whoever may know more finds it in our log and metrics.
const REFUSED: &str = "refused; the controller's log says why";

impl Context {
    /// The identity behind a request, which lets its connection stay. A certificate counts before a token.
    async fn identity(
        &self,
        arrival: &Arrival,
        authorization: Option<&str>,
    ) -> Result<Identity, Status> {
        let identity = match (&arrival.certificates, authorization) {
            (None, Some(authorization)) => self.bearer(arrival, authorization).await?,
            (certificates, _) => {
                let certificates = certificates.as_deref().map(Vec::as_slice);
                Identity::of(certificates).map_err(|error| {
                    let counter = match error {
                        IdentityError::Missing => &self.refusals.token_missing,
                        _ => &self.refusals.identity,
                    };
                    self.refuse(counter, arrival, &error)
                })?
            }
        };
        arrival.standing.admit();
        Ok(identity)
    }

    /// The identity that a token stands for.
    async fn bearer(&self, arrival: &Arrival, authorization: &str) -> Result<Identity, Status> {
        let standing = &arrival.standing;
        let _one_at_a_time = standing.judging.lock().await;
        let judged = match &self.tokens {
            _ if standing.is_refused() => Err(TokenError::Again),
            Some(tokens) => tokens.node(authorization).await,
            None => Err(TokenError::NotTaken),
        };
        let error = match judged {
            Ok(node) => return Ok(Identity::Node(node)),
            Err(error) => error,
        };
        let counter = match error {
            TokenError::NoReview(_) => {
                let about = About::Source(Source::of(arrival.from.ip()));
                if let Some(more) = self.refusals.is_news(about, &error.to_string()) {
                    tracing::warn!(peer = %arrival.from, %error, more, "not let in");
                }
                return Err(Status::unavailable("tokens cannot be judged now, try again"));
            }
            TokenError::NotTaken | TokenError::Malformed => &self.refusals.token_missing,
            TokenError::Account { .. } => &self.refusals.token_account,
            TokenError::NotBound => &self.refusals.token_unbound,
            TokenError::Refused { fault: Fault::Audience, .. } => &self.refusals.token_audience,
            TokenError::Refused { fault: Fault::Expired, .. } => &self.refusals.token_expired,
            TokenError::Refused { fault: Fault::Other, .. } => &self.refusals.token,
            TokenError::Again => &self.refusals.token_again,
        };
        standing.refuse();
        Err(self.refuse(counter, arrival, &error))
    }

    /// Somebody who is known, and not what is needed here.
    fn stranger(&self, arrival: &Arrival, reason: &dyn std::fmt::Display) -> Status {
        self.refuse(&self.refusals.identity, arrival, reason);
        Status::permission_denied(reason.to_string())
    }

    /// Counts and logs why somebody is refused, which is not for them to know.
    fn refuse(
        &self,
        counter: &AtomicU64,
        arrival: &Arrival,
        reason: &dyn std::fmt::Display,
    ) -> Status {
        counter.fetch_add(1, Ordering::Relaxed);
        let about = About::Source(Source::of(arrival.from.ip()));
        if let Some(more) = self.refusals.is_news(about, &reason.to_string()) {
            tracing::warn!(peer = %arrival.from, %reason, more, "refused");
        }
        Status::permission_denied(REFUSED)
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
    let reception = Reception {
        tls: config,
        tokens: None,
        peers: None,
        limits: Limits::default(),
        sent: Arc::default(),
    };
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
    let Reception { tls, tokens, peers, limits, sent } = reception;
    let name = format!("weir-controller {}", env!("CARGO_PKG_VERSION"));
    let counted = Arc::clone(&refusals);
    let context =
        Context { hub, tokens, peers, refusals, sent, drain: drain.clone(), name: name.into() };
    let agents = DistributionServer::new(Agents::new(context.clone()))
        .max_decoding_message_size(MAX_TO_CONTROLLER)
        .max_encoding_message_size(MAX_TO_AGENT);
    let replicas = ReplicasServer::new(Others::new(context.clone()))
        .max_decoding_message_size(MAX_QUESTION)
        .max_encoding_message_size(MAX_TO_AGENT);
    let tools = InspectionServer::new(Tools::new(context.clone()))
        .max_decoding_message_size(MAX_QUESTION)
        .max_encoding_message_size(MAX_TO_AGENT);
    let (connections, incoming) = mpsc::channel(ACCEPTED);
    let accepting = async {
        tls::accept(listener, tls, Door::new(limits), connections, counted, drain.clone()).await;
        // accepting ends with the drain; streams under way then have their time
        std::future::pending::<()>().await;
    };
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(Gate::new(context.clone(), For::Nodes, agents))
        .add_service(Gate::new(context.clone(), For::Replicas, replicas))
        .add_service(Gate::new(context, For::Operators, tools))
        .serve_with_incoming_shutdown(
            ReceiverStream::new(incoming),
            drain.clone().cancelled_owned(),
        );
    tokio::select! {
        served = serving => served.map_err(ServeError::Serve),
        () = accepting => Ok(()),
    }
}
