//! gRPC over TLS for agents and tools.
//!
//! Every client has a certificate of our authority, and gets what its identity is for: a node its own span, an operator
//! the inspection, anybody else nothing. A client that misbehaves loses its own stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Server, ServerTlsConfig};
use tonic::{Request, Status};
use weir_api::v1::distribution_server::DistributionServer;
use weir_api::v1::inspection_server::InspectionServer;
use weir_api::version::{MAX_TO_AGENT, MAX_TO_CONTROLLER};

use crate::publish::Handle;

mod agent;
mod body;
mod identity;
mod inspection;
mod manifest;

pub use identity::{Identity, IdentityError, NODE, OPERATOR};
pub use manifest::objects;

use agent::Agents;
use inspection::Tools;

/// For a TLS handshake, and for the first message of a stream.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that does not answer a ping for the sum of both is gone.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// Streams of one connection. An agent has one, a tool a few.
const STREAMS_PER_CONNECTION: u32 = 16;
/// What a connection may have in flight before its reader must have read. Units: bytes. It bounds what a stalled agent
/// keeps in our buffers.
const WINDOW: u32 = 256 << 10;

/// Certificates and keys, PEM.
#[derive(Clone)]
pub struct Tls {
    pub cert: Vec<u8>,
    pub key: Vec<u8>,
    /// Who may sign certificates of nodes and operators.
    pub client_ca: Vec<u8>,
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    #[error("the certificate, key or client CA cannot be used")]
    Tls(#[source] tonic::transport::Error),
    #[error("serving gRPC failed")]
    Serve(#[source] tonic::transport::Error),
}

/// Who was refused, by reason.
#[derive(Debug, Default)]
pub struct Refusals {
    /// A certificate of our authority that is nobody's, or an operator's where a node's is needed, or the reverse.
    pub identity: AtomicU64,
    /// A node that speaks for another.
    pub wrong_node: AtomicU64,
    /// A protocol that is too old.
    pub version: AtomicU64,
    /// Messages that are no protobuf, too large, or not what had to come.
    pub malformed: AtomicU64,
}

impl Refusals {
    /// Sorted lines, for people.
    pub fn describe(&self) -> String {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        format!(
            "refused, identity: {}\nrefused, malformed: {}\nrefused, other node: {}\nrefused, version: {}\n",
            read(&self.identity),
            read(&self.malformed),
            read(&self.wrong_node),
            read(&self.version)
        )
    }
}

/// What all services share.
#[derive(Clone, Debug)]
struct Context {
    hub: Handle,
    refusals: Arc<Refusals>,
    drain: CancellationToken,
    /// What we call ourselves.
    name: Arc<str>,
}

impl Context {
    /// The identity behind a request.
    fn identity<T>(&self, request: &Request<T>) -> Result<Identity, Status> {
        let certificates = request.peer_certs();
        let certificates = certificates.as_deref().map(Vec::as_slice);
        Identity::of(certificates).map_err(|error| self.refuse(request.remote_addr(), &error))
    }

    fn refuse(&self, from: Option<SocketAddr>, reason: &dyn std::fmt::Display) -> Status {
        self.refusals.identity.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(peer = ?from, %reason, "refused");
        Status::permission_denied(reason.to_string())
    }
}

/// Serves until `drain` is cancelled; streams are told and end.
///
/// Errors: [`ServeError`].
pub async fn serve(
    listener: TcpListener,
    tls: Tls,
    hub: Handle,
    refusals: Arc<Refusals>,
    drain: CancellationToken,
) -> Result<(), ServeError> {
    let config = ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(tls.cert, tls.key))
        .client_ca_root(Certificate::from_pem(tls.client_ca))
        .timeout(HANDSHAKE_TIMEOUT);
    let name = format!("weir-controller {}", env!("CARGO_PKG_VERSION"));
    let context = Context { hub, refusals, drain: drain.clone(), name: name.into() };
    let agents = DistributionServer::new(Agents::new(context.clone()))
        .max_decoding_message_size(MAX_TO_CONTROLLER)
        .max_encoding_message_size(MAX_TO_AGENT);
    let tools = InspectionServer::new(Tools::new(context))
        .max_decoding_message_size(MAX_TO_CONTROLLER)
        .max_encoding_message_size(MAX_TO_AGENT);
    Server::builder()
        .tls_config(config)
        .map_err(ServeError::Tls)?
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(agents)
        .add_service(tools)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            drain.cancelled_owned(),
        )
        .await
        .map_err(ServeError::Serve)
}
