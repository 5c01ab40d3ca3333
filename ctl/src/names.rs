//! How the ends of a connection are named: `[NS/]POD`, `[NS/]KIND/NAME`, `node/NAME`, an address; `:PORT[/PROTO]` behind.

use std::fmt;
use std::net::IpAddr;

use weir_policy::port::Protocol;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    #[error("{0:?}: write [NS/]POD, [NS/]KIND/NAME, node/NAME or an address")]
    Form(String),
    #[error("{0:?}: KIND is one of pod deploy sts ds job cronjob svc vm")]
    Kind(String),
    #[error(
        "{0:?}: the port is a number from 0 to 65535, perhaps with /udp or /sctp behind, or `icmp`"
    )]
    Port(String),
    #[error("{0:?}: a source has no port; policies look at destination ports only")]
    SourcePort(String),
    #[error("{0:?}: name one address of the CIDR")]
    Cidr(String),
    #[error("fqdn/{0}: names are not in this version (planned: M2)")]
    Fqdn(String),
    #[error("write SRC DST:PORT, or 'SRC -> DST:PORT' as one quoted word")]
    Ends,
    #[error("the shell took -> for a redirection; write: weirctl why '{0} -> DST:PORT'")]
    Arrow(String),
}

/// What a name can stand for besides a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
    Service,
}

impl Kind {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            // a virtual machine is read as a pod
            "pod" | "po" | "vm" => Self::Pod,
            "deploy" | "deployment" => Self::Deployment,
            "sts" | "statefulset" => Self::StatefulSet,
            "ds" | "daemonset" => Self::DaemonSet,
            "job" => Self::Job,
            "cronjob" | "cj" => Self::CronJob,
            "svc" | "service" => Self::Service,
            _ => return None,
        })
    }

    /// As manifests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::Service => "Service",
        }
    }
}

/// One end as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Address(IpAddr),
    Node(String),
    /// `kind` is `None` where a bare name was typed, which is a pod.
    Object {
        namespace: Option<String>,
        kind: Option<Kind>,
        name: String,
    },
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(a) => write!(f, "{a}"),
            Self::Node(n) => write!(f, "node/{n}"),
            Self::Object { namespace: Some(ns), name, .. } => write!(f, "{ns}/{name}"),
            Self::Object { name, .. } => f.write_str(name),
        }
    }
}

/// What is asked of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Number(Protocol, u16),
    Ping,
}

/// Source, destination, and the port if one was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub src: Name,
    pub dst: Name,
    pub port: Option<Port>,
}

impl Question {
    /// Reads `SRC DST[:PORT]` as two words or with an arrow in one.
    pub fn parse(words: &[String]) -> Result<Self, NameError> {
        let (src, dst) = match words {
            [one] => one.split_once("->").ok_or(NameError::Ends)?,
            // what is left of `a -> b:80` once the shell has taken `> b:80` for itself
            [src, dash] if dash == "-" => return Err(NameError::Arrow(src.clone())),
            [src, dst] => (src.as_str(), dst.as_str()),
            [src, dash, _] if dash == "-" => return Err(NameError::Arrow(src.clone())),
            _ => return Err(NameError::Ends),
        };
        let src = src.trim();
        let (dst, port) = destination(dst.trim())?;
        Ok(Self { src: source(src)?, dst, port })
    }
}

fn source(text: &str) -> Result<Name, NameError> {
    if text.parse::<IpAddr>().is_err()
        && text
            .rsplit_once(':')
            .is_some_and(|(name, _)| name.starts_with('[') || !name.contains(':'))
    {
        return Err(NameError::SourcePort(text.to_owned()));
    }
    name(text)
}

fn destination(text: &str) -> Result<(Name, Option<Port>), NameError> {
    if let Ok(address) = text.parse() {
        return Ok((Name::Address(address), None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let form = || NameError::Form(text.to_owned());
        let (address, rest) = rest.split_once(']').ok_or_else(form)?;
        let address = Name::Address(address.parse().map_err(|_| form())?);
        return match rest.strip_prefix(':') {
            Some(p) => Ok((address, Some(port(p)?))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err(form()),
        };
    }
    match text.split_once(':') {
        Some((before, after)) => Ok((name(before)?, Some(port(after)?))),
        None => Ok((name(text)?, None)),
    }
}

fn port(text: &str) -> Result<Port, NameError> {
    if matches!(text, "icmp" | "ping") {
        return Ok(Port::Ping);
    }
    let bad = || NameError::Port(text.to_owned());
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Ok(Port::Number(protocol.parse().map_err(|_| bad())?, number.parse().map_err(|_| bad())?))
}

fn name(text: &str) -> Result<Name, NameError> {
    if let Ok(address) = text.parse() {
        return Ok(Name::Address(address));
    }
    let kind = |word: &str| Kind::parse(word).ok_or_else(|| NameError::Kind(text.to_owned()));
    let object = |namespace: Option<&str>, kind, name: &str| Name::Object {
        namespace: namespace.map(str::to_owned),
        kind,
        name: name.to_owned(),
    };
    let parts: Vec<&str> = text.split('/').collect();
    if parts.iter().any(|p| p.is_empty()) {
        return Err(NameError::Form(text.to_owned()));
    }
    if parts[0].parse::<IpAddr>().is_ok() {
        return Err(NameError::Cidr(text.to_owned()));
    }
    Ok(match parts[..] {
        ["node", name] => Name::Node(name.to_owned()),
        ["fqdn", name] => return Err(NameError::Fqdn(name.to_owned())),
        [name] => object(None, None, name),
        [first, name] => match Kind::parse(first) {
            Some(kind) => object(None, Some(kind), name),
            None => object(Some(first), None, name),
        },
        [namespace, word, name] => object(Some(namespace), Some(kind(word)?), name),
        _ => return Err(NameError::Form(text.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(words: &[&str]) -> Result<Question, NameError> {
        Question::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn forms() {
        let q = ask(&["shop/web", "shop/sts/db:5432"]).unwrap();
        assert_eq!(
            q.src,
            Name::Object { namespace: Some("shop".into()), kind: None, name: "web".into() }
        );
        let db = Name::Object {
            namespace: Some("shop".into()),
            kind: Some(Kind::StatefulSet),
            name: "db".into(),
        };
        assert_eq!(q.dst, db);
        assert_eq!(q.port, Some(Port::Number(Protocol::Tcp, 5432)));
        let q = ask(&["node/n1 -> [fd00::1]:53/udp"]).unwrap();
        assert_eq!(q.src, Name::Node("n1".into()));
        assert_eq!(q.dst, Name::Address("fd00::1".parse().unwrap()));
        assert_eq!(q.port, Some(Port::Number(Protocol::Udp, 53)));
        assert_eq!(ask(&["a", "fd00::1"]).unwrap().port, None);
        assert_eq!(ask(&["fd00::2", "a:icmp"]).unwrap().port, Some(Port::Ping));
        let deploy =
            Name::Object { namespace: None, kind: Some(Kind::Deployment), name: "web".into() };
        assert_eq!(ask(&["deploy/web", "b"]).unwrap().src, deploy);
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (words, text) in [
            (&["a"][..], "write SRC DST:PORT, or 'SRC -> DST:PORT' as one quoted word"),
            (
                &["a", "-"],
                "the shell took -> for a redirection; write: weirctl why 'a -> DST:PORT'",
            ),
            (
                &["a:80", "b:80"],
                "\"a:80\": a source has no port; policies look at destination ports only",
            ),
            (
                &["a", "b:99999"],
                "\"99999\": the port is a number from 0 to 65535, perhaps with /udp or /sctp behind, or `icmp`",
            ),
            (&["a", "10.0.0.0/8"], "\"10.0.0.0/8\": name one address of the CIDR"),
            (
                &["x/thing/y", "b"],
                "\"x/thing/y\": KIND is one of pod deploy sts ds job cronjob svc vm",
            ),
            (
                &["a", "fqdn/example.org:443"],
                "fqdn/example.org: names are not in this version (planned: M2)",
            ),
            (&["a//b", "c"], "\"a//b\": write [NS/]POD, [NS/]KIND/NAME, node/NAME or an address"),
        ] {
            assert_eq!(ask(words).unwrap_err().to_string(), text);
        }
    }
}
