//! A small certificate authority, for where there is none: hypervisors, tests, the demo.
//!
//! One directory holds the authority (`ca.crt`, `ca.key`) and what it issued: `server.crt`, `node-NAME.crt`,
//! `operator-NAME.crt`, each with its `.key`. Private keys are readable by their owner alone.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::serve::{NODE, OPERATOR, REPLICA};

/// A day.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long an authority lasts where nothing else is said.
pub const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How long what it issues lasts. Units: days.
const CERTIFICATE_DAYS: i64 = 825;
/// Certificates count from a little before now, for clocks that are behind. Units: days.
const BACKDATED_DAYS: i64 = 1;

/// Where a server can be reached when nothing else is said, and the name that agents can ask for with `--server-name`.
pub const DEFAULT_HOSTS: [&str; 4] = ["weir-controller", "localhost", "127.0.0.1", "::1"];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    #[error("{path} exists already; --force replaces it")]
    Exists { path: PathBuf },
    #[error("{path} cannot be read; `weir-controller pki init DIR` makes an authority")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} cannot be written")]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{name:?} is no name: use letters, digits, '-', '.' and '_', and begin with a letter or digit"
    )]
    Name { name: String },
    #[error("{host:?} is neither an address nor a host name")]
    Host { host: String, source: rcgen::Error },
    #[error("the authority in {path} cannot be used")]
    Authority { path: PathBuf, source: rcgen::Error },
    #[error("the certificate cannot be made")]
    Issue(#[source] rcgen::Error),
    #[error("the clock is beyond what certificates can say")]
    Clock(#[source] jiff::Error),
}

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Files {
    fn of(directory: &Path, stem: &str) -> Self {
        Self {
            cert: directory.join(format!("{stem}.crt")),
            key: directory.join(format!("{stem}.key")),
        }
    }

    /// Where [`init`] puts the authority.
    pub fn authority(directory: &Path) -> Self {
        Self::of(directory, "ca")
    }

    /// Where [`server`] puts the controller's certificate.
    pub fn server(directory: &Path) -> Self {
        Self::of(directory, "server")
    }

    /// Where [`node`] puts a node's certificate.
    pub fn node(directory: &Path, name: &str) -> Self {
        Self::of(directory, &format!("node-{name}"))
    }

    /// Where [`operator`] puts an operator's certificate.
    pub fn operator(directory: &Path, name: &str) -> Self {
        Self::of(directory, &format!("operator-{name}"))
    }

    fn write(&self, pair: &Pair, force: bool) -> Result<(), PkiError> {
        if !force && let Some(path) = [&self.cert, &self.key].into_iter().find(|p| p.exists()) {
            return Err(PkiError::Exists { path: path.clone() });
        }
        // the key first: a certificate without its key would look complete
        write(&self.key, &pair.key, 0o600)?;
        write(&self.cert, &pair.cert, 0o644)
    }
}

/// Written aside and moved, so that no reader sees half a file and the mode is right from the start.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::Write { path: path.to_owned(), source };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&aside)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&aside, path).map_err(failed)
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The controller, reached by these names and addresses.
    Server(Vec<String>),
    Node(String),
    Operator(String),
    /// A replica of the controller, towards others.
    Replica(String),
}

/// From when until when a certificate counts, as seen from when it is issued. Both may be in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: SignedDuration,
    pub to: SignedDuration,
}

impl Validity {
    /// Units: days from now.
    pub const fn days(from: i64, to: i64) -> Self {
        Self {
            from: SignedDuration::from_hours(24 * from),
            to: SignedDuration::from_hours(24 * to),
        }
    }
}

impl Default for Validity {
    fn default() -> Self {
        Self::days(-BACKDATED_DAYS, CERTIFICATE_DAYS)
    }
}

/// An authority in memory.
#[derive(Clone)]
pub struct Authority {
    cert: String,
    key: String,
    valid: (Timestamp, Timestamp),
    issuer: Arc<Issuer<'static, KeyPair>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // no key is ever printed
        f.debug_struct("Authority").field("valid", &self.valid).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one, for ten years.
    ///
    /// Errors: [`PkiError::Issue`].
    pub fn create() -> Result<Self, PkiError> {
        Self::create_at(Timestamp::now(), AUTHORITY_LIFE)
    }

    /// A new one that lasts so long from then on. It counts from a little earlier: a day, or a tenth of its life.
    ///
    /// Errors: [`PkiError::Issue`], [`PkiError::Clock`].
    pub fn create_at(now: Timestamp, life: Duration) -> Result<Self, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished("weir", "weir authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let back = SignedDuration::try_from((life / 10).min(DAY)).map_err(PkiError::Clock)?;
        let life = SignedDuration::try_from(life).map_err(PkiError::Clock)?;
        let valid = validity(&mut params, now, Validity { from: -back, to: life }, None)?;
        let key = KeyPair::generate().map_err(PkiError::Issue)?;
        let cert = params.self_signed(&key).map_err(PkiError::Issue)?.pem();
        let text = key.serialize_pem();
        Ok(Self { cert, key: text, valid, issuer: Arc::new(Issuer::new(params, key)) })
    }

    /// The one in a directory.
    ///
    /// Errors: [`PkiError::Read`], [`PkiError::Authority`].
    pub fn load(directory: &Path) -> Result<Self, PkiError> {
        let files = Files::authority(directory);
        let read = |path: &PathBuf| {
            fs::read_to_string(path).map_err(|source| PkiError::Read { path: path.clone(), source })
        };
        let (cert, key) = (read(&files.cert)?, read(&files.key)?);
        Self::from_pem(cert, key)
            .map_err(|source| PkiError::Authority { path: directory.to_owned(), source })
    }

    /// The one with this certificate and key, PEM.
    ///
    /// Errors: those of the library, when one of them cannot be read.
    pub fn from_pem(cert: String, key: String) -> Result<Self, rcgen::Error> {
        let pair = KeyPair::from_pem(&key)?;
        let issuer = Arc::new(Issuer::from_ca_cert_pem(&cert, pair)?);
        let der = CertificateDer::from_pem_slice(cert.as_bytes());
        let valid = der.ok().and_then(|der| validity_of(&der));
        let valid = valid.ok_or(rcgen::Error::CouldNotParseCertificate)?;
        Ok(Self { cert, key, valid, issuer })
    }

    /// From when until when it counts.
    pub fn valid(&self) -> (Timestamp, Timestamp) {
        self.valid
    }

    /// Its certificate, PEM: what the other side must trust.
    pub fn certificate(&self) -> &str {
        &self.cert
    }

    /// Its key, PEM: whoever has it is the authority.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A certificate of this authority, as of now. It ends with the authority at the latest.
    ///
    /// Errors: [`PkiError::Name`], [`PkiError::Host`], [`PkiError::Issue`].
    pub fn issue(&self, role: &Role, valid: Validity) -> Result<Pair, PkiError> {
        self.issue_at(role, valid, Timestamp::now())
    }

    /// The same at another time.
    ///
    /// Errors: those of [`Self::issue`], [`PkiError::Clock`].
    pub fn issue_at(&self, role: &Role, valid: Validity, now: Timestamp) -> Result<Pair, PkiError> {
        let (organisation, name, usage) = match role {
            Role::Server(_) => ("weir", "weir-controller", ExtendedKeyUsagePurpose::ServerAuth),
            Role::Node(name) => (NODE, named(name)?, ExtendedKeyUsagePurpose::ClientAuth),
            Role::Operator(name) => (OPERATOR, named(name)?, ExtendedKeyUsagePurpose::ClientAuth),
            Role::Replica(name) => (REPLICA, named(name)?, ExtendedKeyUsagePurpose::ClientAuth),
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(organisation, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        if let Role::Server(hosts) = role {
            params.subject_alt_names =
                hosts.iter().map(|h| alternative(h)).collect::<Result<_, _>>()?;
        }
        validity(&mut params, now, valid, Some(self.valid.1))?;
        let key = KeyPair::generate().map_err(PkiError::Issue)?;
        let cert = params.signed_by(&key, &*self.issuer).map_err(PkiError::Issue)?;
        Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
    }
}

fn distinguished(organisation: &str, name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    out.push(DnType::OrganizationName, organisation);
    out.push(DnType::CommonName, name);
    out
}

fn named(name: &str) -> Result<&str, PkiError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    // a name becomes part of a path; 253 is the longest name of a Kubernetes node
    let fine = name.len() <= 253
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(good);
    if fine { Ok(name) } else { Err(PkiError::Name { name: name.to_owned() }) }
}

fn alternative(host: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let name = host.try_into();
    name.map(SanType::DnsName).map_err(|source| PkiError::Host { host: host.to_owned(), source })
}

/// Sets from when until when, in whole seconds and no longer than until `limit`; gives both.
fn validity(
    params: &mut CertificateParams,
    now: Timestamp,
    valid: Validity,
    limit: Option<Timestamp>,
) -> Result<(Timestamp, Timestamp), PkiError> {
    let at = |after: SignedDuration| -> Result<Timestamp, PkiError> {
        let at = now.checked_add(after).map_err(PkiError::Clock)?;
        // certificates of this kind know no time before 1970
        Timestamp::from_second(at.as_second().max(0)).map_err(PkiError::Clock)
    };
    let (from, to) = (at(valid.from)?, at(valid.to)?);
    let to = limit.map_or(to, |limit| to.min(limit));
    let date = |at: Timestamp| {
        date_time_ymd(1970, 1, 1) + Duration::from_secs(at.as_second().unsigned_abs())
    };
    params.not_before = date(from);
    params.not_after = date(to);
    Ok((from, to))
}

fn validity_of(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let valid = certificate.validity();
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((at(valid.not_before)?, at(valid.not_after)?))
}

/// The certificates of a PEM text, each as a text of its own with its end. None when one of them cannot be read.
pub(crate) fn certificates(text: &str) -> Option<Vec<(String, Timestamp)>> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut out = Vec::new();
    for part in text.split_inclusive(END).filter(|part| !part.trim().is_empty()) {
        let der = CertificateDer::from_pem_slice(part.as_bytes()).ok()?;
        out.push((format!("{}\n", part.trim_start()), validity_of(&der)?.1));
    }
    Some(out)
}

/// What became of `pki init`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    Created,
    /// There was one, and it is as it was.
    Kept,
}

/// Makes an authority in a directory, which is made as well; one that is there is kept, unless `force` says otherwise.
///
/// Errors: [`PkiError`].
pub fn init(directory: &Path, force: bool) -> Result<Init, PkiError> {
    fs::create_dir_all(directory)
        .map_err(|source| PkiError::Write { path: directory.to_owned(), source })?;
    let files = Files::authority(directory);
    if !force && files.cert.exists() && files.key.exists() {
        Authority::load(directory)?;
        return Ok(Init::Kept);
    }
    let authority = Authority::create()?;
    let pair = Pair { cert: authority.cert, key: authority.key };
    files.write(&pair, force)?;
    Ok(Init::Created)
}

/// Issues the controller's certificate for these hosts, and [`DEFAULT_HOSTS`] in any case.
///
/// Errors: [`PkiError`].
pub fn server(directory: &Path, hosts: &[String], force: bool) -> Result<Files, PkiError> {
    let mut all: Vec<String> = hosts.to_vec();
    for host in DEFAULT_HOSTS {
        if !all.iter().any(|h| h == host) {
            all.push(host.to_owned());
        }
    }
    write_new(directory, Files::server(directory), &Role::Server(all), force)
}

/// Issues a node's certificate.
///
/// Errors: [`PkiError`].
pub fn node(directory: &Path, name: &str, force: bool) -> Result<Files, PkiError> {
    named(name)?;
    write_new(directory, Files::node(directory, name), &Role::Node(name.to_owned()), force)
}

/// Issues an operator's certificate.
///
/// Errors: [`PkiError`].
pub fn operator(directory: &Path, name: &str, force: bool) -> Result<Files, PkiError> {
    named(name)?;
    write_new(directory, Files::operator(directory, name), &Role::Operator(name.to_owned()), force)
}

fn write_new(directory: &Path, files: Files, role: &Role, force: bool) -> Result<Files, PkiError> {
    let pair = Authority::load(directory)?.issue(role, Validity::default())?;
    files.write(&pair, force)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn issues_and_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        assert!(matches!(node(&pki, "n1", false), Err(PkiError::Read { .. })));
        assert_eq!(init(&pki, false).unwrap(), Init::Created);
        let ca = fs::read(Files::authority(&pki).cert).unwrap();
        assert_eq!(init(&pki, false).unwrap(), Init::Kept);
        assert_eq!(fs::read(Files::authority(&pki).cert).unwrap(), ca);

        let files = node(&pki, "n1", false).unwrap();
        let before = fs::read(&files.cert).unwrap();
        assert!(matches!(node(&pki, "n1", false), Err(PkiError::Exists { .. })));
        assert_eq!(fs::read(&files.cert).unwrap(), before);
        node(&pki, "n1", true).unwrap();
        assert_ne!(fs::read(&files.cert).unwrap(), before);
        server(&pki, &["10.0.0.1".into(), "weir.example".into()], false).unwrap();
        operator(&pki, "admin", false).unwrap();

        for entry in fs::read_dir(&pki).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let key = entry.path().extension().unwrap() == "key";
            assert_eq!(mode, if key { 0o600 } else { 0o644 }, "{:?}", entry.path());
        }
    }

    #[test]
    fn names_stay_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), false).unwrap();
        for name in ["", "../n1", "a/b", ".hidden", "ü", "a b"] {
            assert!(
                matches!(node(dir.path(), name, false), Err(PkiError::Name { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn an_authority_made_elsewhere_is_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.crt"), "no certificate").unwrap();
        fs::write(dir.path().join("ca.key"), "no key").unwrap();
        assert!(matches!(init(dir.path(), false), Err(PkiError::Authority { .. })));
        assert_eq!(init(dir.path(), true).unwrap(), Init::Created);
        node(dir.path(), "n1", false).unwrap();
    }
}
