//! TLS of the listening socket. The configuration is looked up for each connection, so that new certificates need no
//! restart and no connection ends for them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{HANDSHAKE_TIMEOUT, Refusals};

/// Handshakes under way at once; more connections wait in the system's queue.
const HANDSHAKES: usize = 256;

/// Certificates and keys, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    pub cert: Vec<u8>,
    pub key: Vec<u8>,
    /// Who may sign certificates of nodes and operators. Empty, where tokens count: nobody.
    pub client_ca: Vec<u8>,
}

/// Who comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Only with a certificate.
    Certified,
    /// Also without; then a token must say who it is.
    Any,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("the {what} is not PEM as it must be")]
    Pem { what: &'static str, source: rustls::pki_types::pem::Error },
    #[error("there is no certificate in the {what}")]
    Empty { what: &'static str },
    #[error("the client CA cannot be used")]
    ClientCa(#[source] rustls::server::VerifierBuilderError),
    #[error("the {what} cannot be used")]
    Rustls { what: &'static str, source: rustls::Error },
}

impl Tls {
    /// What the listening socket does with it.
    ///
    /// Errors: [`TlsError`].
    pub fn config(&self, clients: Clients) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ClientCertVerifier> = match clients {
            Clients::Any if self.client_ca.is_empty() => WebPkiClientVerifier::no_client_auth(),
            _ => self.verifier(clients, Arc::clone(&provider))?,
        };
        let chain = certificates("certificate", &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|source| TlsError::Pem { what: "key", source })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Rustls { what: "TLS provider", source })?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|source| TlsError::Rustls { what: "certificate with its key", source })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn verifier(
        &self,
        clients: Clients,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("client CA", &self.client_ca)? {
            let added = roots.add(certificate);
            added.map_err(|source| TlsError::Rustls { what: "client CA", source })?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = match clients {
            Clients::Certified => verifier,
            Clients::Any => verifier.allow_unauthenticated(),
        };
        verifier.build().map_err(TlsError::ClientCa)
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(TlsError::Empty { what }),
        Ok(all) => Ok(all),
        Err(source) => Err(TlsError::Pem { what, source }),
    }
}

/// Takes connections and hands them on once they are encrypted, until `drain`.
pub(super) async fn accept(
    listener: TcpListener,
    mut config: watch::Receiver<Option<Arc<ServerConfig>>>,
    connections: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
    refusals: Arc<Refusals>,
    drain: CancellationToken,
) {
    // a system without file descriptors for us will not have them at once
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
    let mut handshakes = JoinSet::new();
    tokio::select! {
        () = drain.cancelled() => return,
        _ = config.wait_for(Option::is_some) => {}
    }
    loop {
        let room = handshakes.len() < HANDSHAKES;
        tokio::select! {
            () = drain.cancelled() => return,
            Some(_) = handshakes.join_next(), if !handshakes.is_empty() => {}
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, peer)) => {
                    let Some(config) = config.borrow().clone() else {
                        continue;
                    };
                    let acceptor = TlsAcceptor::from(config);
                    let (connections, refusals) = (connections.clone(), Arc::clone(&refusals));
                    handshakes.spawn(async move {
                        // small messages must not wait for the acknowledgement of earlier ones
                        drop(stream.set_nodelay(true));
                        let shaken = acceptor.accept(stream);
                        let reason = match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaken).await {
                            Ok(Ok(stream)) => {
                                // the server is gone: so is the connection
                                drop(connections.send(Ok(stream)).await);
                                return;
                            }
                            Ok(Err(error)) => error.to_string(),
                            Err(_) => "not in time".to_owned(),
                        };
                        refusals.handshake.fetch_add(1, Ordering::Relaxed);
                        if refusals.is_news(&format!("{} {reason}", peer.ip())) {
                            tracing::warn!(%peer, reason, "refused: no TLS handshake");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}
