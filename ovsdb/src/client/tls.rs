//! TLS with certificates on both sides, as ovsdb-server asks for.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom we trust, and who we are. Cheap to clone.
///
/// The server's certificate must come from one of the authorities given and be valid now. Whether it must also be for
/// the server's name is the choice between [`Tls::for_name`], the address connected to (the default) and
/// [`Tls::for_any_name`].
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    any_name: bool,
    verifier: Arc<WebPkiServerVerifier>,
    identity: Option<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
}

impl Tls {
    /// From texts in PEM form: the certificates of authorities, and, where the server wants one, our certificate with
    /// its chain and our key. Versions 1.2 and 1.3; the cryptography is ring's, whatever the process' default is.
    ///
    /// Errors: [`TlsError`].
    pub fn from_pem(
        authorities: &[u8],
        identity: Option<(&[u8], &[u8])>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authorities)? {
            roots.add(certificate).map_err(TlsError::Unusable)?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoAuthority);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| TlsError::NoAuthority)?;
        let identity = match identity {
            Some((chain, key)) => {
                let chain = certificates(chain)?;
                if chain.is_empty() {
                    return Err(TlsError::NoCertificate);
                }
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|cause| match cause {
                    rustls::pki_types::pem::Error::NoItemsFound => TlsError::NoKey,
                    other => TlsError::Pem(other.to_string()),
                })?;
                Some((chain, Arc::new(key)))
            }
            None => None,
        };
        let config = config(&verifier, identity.as_ref(), false)?;
        Ok(Self { config, name: None, any_name: false, verifier, identity })
    }

    /// The server's certificate must be for this DNS name or address in place of the address connected to.
    ///
    /// Errors: [`TlsError::Name`].
    pub fn for_name(self, name: &str) -> Result<Self, TlsError> {
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
        Ok(Self { name: Some(name), ..self })
    }

    /// The server's certificate may be for any name, as long as it comes from one of the authorities. This is all that
    /// OVS itself checks, and what suits authorities that sign for OVS alone.
    ///
    /// Errors: [`TlsError::Unusable`].
    pub fn for_any_name(self) -> Result<Self, TlsError> {
        let config = config(&self.verifier, self.identity.as_ref(), true)?;
        Ok(Self { config, any_name: true, ..self })
    }

    pub(super) async fn open(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let name = self.name.clone().unwrap_or_else(|| ServerName::from(address.ip()));
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .field("any_name", &self.any_name)
            .field("own_certificate", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|cause| TlsError::Pem(cause.to_string()))
}

fn config(
    verifier: &Arc<WebPkiServerVerifier>,
    identity: Option<&(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
    any_name: bool,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?;
    let verifier: Arc<dyn ServerCertVerifier> = if any_name {
        Arc::new(AnyName(Arc::clone(verifier)))
    } else {
        Arc::<WebPkiServerVerifier>::clone(verifier)
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(TlsError::Unusable)?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Checks all that the other one does except the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // the name is what it looks at last: this error says that all else was right
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Certificates, keys or names that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The text is no PEM.
    #[error("malformed PEM: {0}")]
    Pem(String),
    /// No certificate of an authority was given.
    #[error("no authority's certificate in the PEM text")]
    NoAuthority,
    /// No certificate of our own is in the text.
    #[error("no certificate in the PEM text")]
    NoCertificate,
    /// No private key is in the text.
    #[error("no private key in the PEM text")]
    NoKey,
    /// Neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// The certificate or key is of a kind that is not supported, or the two do not belong together.
    #[error("certificate or key cannot be used: {0}")]
    Unusable(rustls::Error),
}
