//! Who is at the other end, as its certificate tells.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Organisation of nodes; the common name is the node's.
pub const NODE: &str = "weir:node";
/// Organisation of operators and their tools.
pub const OPERATOR: &str = "weir:operator";

/// Organisation of replicas of the controller.
pub const REPLICA: &str = "weir:controller";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Node(String),
    Operator(String),
    Replica(String),
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Operator(name) => write!(f, "operator {name}"),
            Self::Replica(name) => write!(f, "replica {name}"),
        }
    }
}

/// Why a certificate, signed by our authority though it is, opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("neither a client certificate nor a token")]
    Missing,
    #[error("the client certificate cannot be read")]
    Malformed,
    #[error("the client certificate does not have exactly one organisation and one common name")]
    Ambiguous,
    #[error("the organisation of the client certificate is none of {NODE}, {OPERATOR}, {REPLICA}")]
    Stranger,
}

impl Identity {
    /// The identity in the first of a peer's certificates; TLS has verified the chain.
    ///
    /// Errors: [`IdentityError`].
    pub fn of(certificates: Option<&[CertificateDer<'_>]>) -> Result<Self, IdentityError> {
        let leaf = certificates.and_then(<[_]>::first).ok_or(IdentityError::Missing)?;
        let (_, certificate) =
            X509Certificate::from_der(leaf).map_err(|_| IdentityError::Malformed)?;
        let subject = certificate.subject();
        let organisation = only(subject.iter_organization().map(|a| a.as_str()))?;
        let name = only(subject.iter_common_name().map(|a| a.as_str()))?;
        if name.is_empty() {
            return Err(IdentityError::Ambiguous);
        }
        match organisation {
            NODE => Ok(Self::Node(name.to_owned())),
            OPERATOR => Ok(Self::Operator(name.to_owned())),
            REPLICA => Ok(Self::Replica(name.to_owned())),
            _ => Err(IdentityError::Stranger),
        }
    }
}

/// The single item. With two, who is meant would depend on who reads.
fn only<'a, E>(
    mut items: impl Iterator<Item = Result<&'a str, E>>,
) -> Result<&'a str, IdentityError> {
    match (items.next(), items.next()) {
        (Some(Ok(item)), None) => Ok(item),
        _ => Err(IdentityError::Ambiguous),
    }
}
