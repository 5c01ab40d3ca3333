//! The certificates and keys of a cluster's servers, made anew for each cluster.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::address;
use crate::error::{During, Error, Result};

/// The first address of the services' range, behind which pods find the API server.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Names by which the API server is known inside a cluster.
const NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];
/// Everything ends together, and far beyond the life of a testbed. Units: days.
const DAYS: i64 = 365;

/// The files, all in one directory.
#[derive(Clone, Debug)]
pub struct Pki {
    dir: PathBuf,
}

/// Somebody who shows a certificate to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// PEM.
    pub cert: String,
    /// PEM.
    pub key: String,
}

impl Pki {
    /// Makes an authority, the API server's certificate, the key that signs tokens of service accounts, and certificates for
    /// the administrator and the controller manager.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).during(|| format!("making {}", dir.display()))?;
        let pki = Self { dir: dir.to_owned() };
        let (issuer, ca) = authority().map_err(failed)?;
        pki.write("ca.crt", &ca)?;
        let server = issue(&issuer, "weir-testbed", "kube-apiserver", true).map_err(failed)?;
        pki.write_pair("apiserver", &server)?;
        for (stem, organisation, name) in [
            ("admin", "system:masters", "weir-testbed"),
            ("manager", "weir-testbed", "system:kube-controller-manager"),
        ] {
            pki.write_pair(stem, &issue(&issuer, organisation, name, false).map_err(failed)?)?;
        }
        let tokens = KeyPair::generate().map_err(failed)?;
        pki.write("tokens.key", &tokens.serialize_pem())?;
        pki.write("tokens.pub", &tokens.public_key_pem())?;
        Ok(pki)
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The certificate that others must trust, PEM.
    pub fn authority(&self) -> Result<String> {
        self.read("ca.crt")
    }

    /// Certificate and key of a client.
    pub fn client(&self, stem: &str) -> Result<Client> {
        Ok(Client {
            cert: self.read(&format!("{stem}.crt"))?,
            key: self.read(&format!("{stem}.key"))?,
        })
    }

    fn read(&self, name: &str) -> Result<String> {
        let file = self.file(name);
        fs::read_to_string(&file).during(|| format!("reading {}", file.display()))
    }

    fn write_pair(&self, stem: &str, pair: &Client) -> Result<()> {
        self.write(&format!("{stem}.key"), &pair.key)?;
        self.write(&format!("{stem}.crt"), &pair.cert)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.file(name);
        let write = || {
            let mut out = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&file)?;
            out.write_all(text.as_bytes())
        };
        write().during(|| format!("writing {}", file.display()))
    }
}

fn failed(error: rcgen::Error) -> Error {
    Error::Io { what: "making certificates".to_owned(), source: std::io::Error::other(error) }
}

fn authority() -> Result<(Issuer<'static, KeyPair>, String), rcgen::Error> {
    let mut params = begin("weir-testbed", "cluster authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), cert))
}

fn issue(
    issuer: &Issuer<'static, KeyPair>,
    organisation: &str,
    name: &str,
    server: bool,
) -> Result<Client, rcgen::Error> {
    let mut params = begin(organisation, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    if server {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let addresses = [Ipv4Addr::LOCALHOST, address::CONTROLLER, SERVICE];
        params.subject_alt_names =
            addresses.into_iter().map(|a| SanType::IpAddress(IpAddr::V4(a))).collect();
        for host in NAMES {
            params.subject_alt_names.push(SanType::DnsName(host.try_into()?));
        }
    } else {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, issuer)?.pem();
    Ok(Client { cert, key: key.serialize_pem() })
}

fn begin(organisation: &str, name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, name);
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let day = |days: i64| {
        let date = today.saturating_add(days.days());
        date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(-1);
    params.not_after = day(DAYS);
    params
}
