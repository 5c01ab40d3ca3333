//! TLS of the listening socket. The configuration is looked up for each connection, so that new certificates need no
//! restart and no connection ends for them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Refusals;
use super::door::{Door, Guarded};
use super::refusals::{About, Source};

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
        // A resumed session shows no certificate again, and would go on with one that has expired or is signed by an
        // authority that counts no more. Agents connect rarely: each handshake is a whole one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
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
    door: Arc<Door>,
    connections: mpsc::Sender<io::Result<Guarded>>,
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
        let room = tokio::select! {
            () = drain.cancelled() => return,
            room = door.room() => room,
        };
        let accepted = loop {
            tokio::select! {
                () = drain.cancelled() => return,
                Some(_) = handshakes.join_next(), if !handshakes.is_empty() => {}
                accepted = listener.accept() => break accepted,
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let until = Instant::now() + door.limits.patience;
        let about = About::Source(Source::of(peer.ip()));
        let Some(place) = door.enter(peer, room) else {
            refusals.crowd.fetch_add(1, Ordering::Relaxed);
            if let Some(more) = refusals.is_news(about, "crowd") {
                tracing::warn!(%peer, more, "refused: too many connections that say not who they are");
            }
            continue;
        };
        let Some(config) = config.borrow().clone() else {
            continue;
        };
        let acceptor = TlsAcceptor::from(config);
        let (connections, refusals) = (connections.clone(), Arc::clone(&refusals));
        handshakes.spawn(async move {
            // small messages must not wait for the acknowledgement of earlier ones
            drop(stream.set_nodelay(true));
            let shaken = acceptor.accept(stream);
            let reason = match tokio::time::timeout_at(until, shaken).await {
                Ok(Ok(stream)) => {
                    let guarded = Guarded::new(stream, peer, place, until, refusals);
                    // the server is gone: so is the connection
                    drop(connections.send(Ok(guarded)).await);
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "not in time".to_owned(),
            };
            refusals.handshake.fetch_add(1, Ordering::Relaxed);
            if let Some(more) = refusals.is_news(about, &reason) {
                tracing::warn!(%peer, reason, more, "refused: no TLS handshake");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use rustls::client::Resumption;
    use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion, version};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::pki::{Authority, Role, Validity};

    /// How each of two handshakes of one client goes.
    async fn handshakes(version: &'static SupportedProtocolVersion) -> [HandshakeKind; 2] {
        let authority = Authority::create().unwrap();
        let of = |role| authority.issue(&role, Validity::default()).unwrap();
        let server = of(Role::Server(vec!["weir".to_owned()]));
        let node = of(Role::Node("n1".to_owned()));
        let tls = Tls {
            cert: server.cert.into_bytes(),
            key: server.key.into_bytes(),
            client_ca: authority.certificate().as_bytes().to_vec(),
        };
        let acceptor = TlsAcceptor::from(tls.config(Clients::Certified).unwrap());
        let mut roots = RootCertStore::empty();
        roots
            .add(certificates("CA", authority.certificate().as_bytes()).unwrap().remove(0))
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                certificates("node", node.cert.as_bytes()).unwrap(),
                PrivateKeyDer::from_pem_slice(node.key.as_bytes()).unwrap(),
            )
            .unwrap();
        config.resumption = Resumption::in_memory_sessions(8);
        let connector = TlsConnector::from(Arc::new(config));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let serve = async {
                let mut stream = acceptor.accept(theirs).await.unwrap();
                stream.write_all(b"x").await.unwrap();
                stream.shutdown().await.unwrap();
            };
            let connect = async {
                let mut stream = connector.connect("weir".try_into().unwrap(), ours).await.unwrap();
                // tickets come before the first byte
                assert_eq!(stream.read_u8().await.unwrap(), b'x');
                stream.get_ref().1.handshake_kind().unwrap()
            };
            kinds.push(tokio::join!(serve, connect).1);
        }
        [kinds[0], kinds[1]]
    }

    #[tokio::test]
    async fn no_session_outlives_its_certificate() {
        for version in [&version::TLS12, &version::TLS13] {
            assert_eq!(handshakes(version).await, [HandshakeKind::Full; 2], "{version:?}");
        }
    }
}
