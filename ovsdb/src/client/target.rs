//! Where a server listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a server listens. The text is that of OVS: `unix:/path`, `tcp:ip:port` or `ssl:ip:port`, IPv6 in brackets.
///
/// ```
/// use weir_ovsdb::Target;
///
/// let target: Target = "tcp:[::1]:6640".parse().unwrap();
/// assert_eq!(target.to_string(), "tcp:[::1]:6640");
/// assert!("/var/run/openvswitch/db.sock".parse::<Target>().is_err());
/// ```
///
/// Source: ovsdb(7), "Connection Methods", "Active".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// A socket in the file system.
    Unix(PathBuf),
    /// An address and port.
    Tcp(SocketAddr),
    /// An address and port, with TLS as set in `Options::tls`. Connecting fails without feature `tls`.
    Tls(SocketAddr),
}

impl FromStr for Target {
    type Err = TargetError;

    /// Errors: [`TargetError`].
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let address = |text: &str| text.parse().map_err(|_| TargetError::Address(text.to_owned()));
        match text.split_once(':') {
            Some(("unix", "")) => Err(TargetError::EmptyPath),
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp", rest)) => address(rest).map(Self::Tcp),
            Some(("ssl", rest)) => address(rest).map(Self::Tls),
            _ => Err(TargetError::Scheme(text.to_owned())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Tls(address) => write!(f, "ssl:{address}"),
        }
    }
}

/// A text that names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It begins with neither `unix:`, `tcp:` nor `ssl:`.
    #[error("{0:?} is neither unix:/path, tcp:ip:port nor ssl:ip:port")]
    Scheme(String),
    /// `unix:` without a path.
    #[error("unix: needs a path")]
    EmptyPath,
    /// `tcp:` or `ssl:` without address and port; names are not looked up.
    #[error("{0:?} is not ip:port")]
    Address(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_as_ovs_spells_them() {
        for text in [
            "unix:/var/run/openvswitch/db.sock",
            "tcp:127.0.0.1:6640",
            "tcp:[::1]:6640",
            "ssl:192.0.2.1:6640",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("unix:".parse::<Target>(), Err(TargetError::EmptyPath));
        assert!(matches!("tcp:host:1".parse::<Target>(), Err(TargetError::Address(_))));
        assert!(matches!("ssl:127.0.0.1".parse::<Target>(), Err(TargetError::Address(_))));
        assert!(matches!("pssl:0:127.0.0.1".parse::<Target>(), Err(TargetError::Scheme(_))));
        assert!(matches!("/db.sock".parse::<Target>(), Err(TargetError::Scheme(_))));
    }
}
