//! TCP, and TLS with certificates on both sides, to a real server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use weir_ovsdb::client::{self, TableRequest};
use weir_ovsdb::op::Operation;
use weir_ovsdb::{Error, Options, Target, Tls, TlsError};

use crate::rig::{Ovs, live, options, with_driver};

#[tokio::test]
async fn tcp() {
    let ovs = Ovs::database(&["--remote=ptcp:0:127.0.0.1"]).await;
    let target = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, ovs.listening_port())));
    let tables = vec![TableRequest::all_columns("Bridge")];
    let (client, driver) = client::connect(target, options(), tables, ());
    with_driver(driver, async {
        live(&client).await;
        client.transact(vec![Operation::Comment("over TCP".into())]).await.unwrap();
    })
    .await;
}

/// An authority with the files of one server and one client.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for these names.
    fn sign(&self, common: &str, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A server with a certificate for these names, that trusts clients of the authority.
async fn server(authority: &Authority, names: &[&str]) -> Ovs {
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.sign("ovsdb", names);
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = (write("cert.pem", &certificate), write("key.pem", &key));
    let authority = write("ca.pem", &authority.pem);
    let argument = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let arguments = [
        "--remote=pssl:0:127.0.0.1".to_owned(),
        argument("certificate", &certificate),
        argument("private-key", &key),
        argument("ca-cert", &authority),
    ];
    // the server has read them by the time it answers
    Ovs::database(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
}

fn tls(trusted: &Authority, (certificate, key): &(String, String)) -> Tls {
    Tls::from_pem(trusted.pem.as_bytes(), Some((certificate.as_bytes(), key.as_bytes()))).unwrap()
}

/// How a client with these settings fares: connected, or what the trouble is.
async fn fares(ovs: &Ovs, tls: Option<Tls>) -> Result<(), String> {
    let target = Target::Tls(SocketAddr::from((Ipv4Addr::LOCALHOST, ovs.listening_port())));
    let options = Options { tls, ..options() };
    let tables = vec![TableRequest::all_columns("Bridge")];
    let (client, driver) = client::connect(target, options, tables, ());
    let mut outcome = Ok(());
    with_driver(driver, async {
        let (mut connected, mut trouble) = (client.connected(), client.trouble());
        outcome = tokio::select! {
            _ = connected.wait_for(|connected| *connected) => Ok(()),
            told = trouble.wait_for(Option::is_some) => Err(told.unwrap().clone().unwrap()),
        };
        if outcome.is_ok() {
            client.transact(vec![Operation::Comment("over TLS".into())]).await.unwrap();
            // more than sockets hold: what TLS keeps back goes out as well
            client.transact(vec![Operation::Comment("x".repeat(7 << 20))]).await.unwrap();
        }
    })
    .await;
    outcome
}

#[tokio::test]
async fn tls_with_certificates_of_both() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let identity = ours.sign("client", &["client"]);
    let ovs = server(&ours, &["127.0.0.1", "db.example"]).await;
    assert_eq!(fares(&ovs, Some(tls(&ours, &identity))).await, Ok(()));
    assert_eq!(
        fares(&ovs, Some(tls(&ours, &identity).for_name("db.example").unwrap())).await,
        Ok(())
    );

    let refused = |outcome: Result<(), String>, what: &str| {
        let trouble = outcome.expect_err(what);
        assert!(trouble.to_lowercase().contains(what), "{trouble:?} does not tell of {what:?}");
    };
    // the server is not who we think
    let wrong = tls(&ours, &identity).for_name("other.example").unwrap();
    refused(fares(&ovs, Some(wrong)).await, "not valid for name");
    refused(fares(&ovs, Some(tls(&other, &identity))).await, "invalid peer certificate");
    // we are not who the server wants, or nobody
    refused(fares(&ovs, Some(tls(&ours, &other.sign("client", &["client"])))).await, "alert");
    let nobody = Tls::from_pem(ours.pem.as_bytes(), None).unwrap();
    refused(fares(&ovs, Some(nobody)).await, "alert");
    refused(fares(&ovs, None).await, "no tls settings for ssl:127.0.0.1");

    // a certificate as OVS itself is content with: for no address at all
    let ovs = server(&ours, &["db"]).await;
    refused(fares(&ovs, Some(tls(&ours, &identity))).await, "not valid for name");
    assert_eq!(fares(&ovs, Some(tls(&ours, &identity).for_any_name().unwrap())).await, Ok(()));
    let stranger = tls(&other, &identity).for_any_name().unwrap();
    refused(fares(&ovs, Some(stranger)).await, "invalid peer certificate");
}

#[test]
fn certificates_that_cannot_be_used() {
    let authority = Authority::new("ours");
    let (certificate, key) = authority.sign("client", &["client"]);
    let (_, other_key) = authority.sign("client", &["client"]);
    let error = |ca: &str, identity: Option<(&str, &str)>| {
        Tls::from_pem(ca.as_bytes(), identity.map(|(c, k)| (c.as_bytes(), k.as_bytes())))
            .unwrap_err()
    };
    let ca = &authority.pem;
    assert_eq!(error("", None), TlsError::NoAuthority);
    assert_eq!(error(ca, Some(("", &key))), TlsError::NoCertificate);
    assert_eq!(error(ca, Some((&certificate, &certificate))), TlsError::NoKey);
    assert!(matches!(error("-----BEGIN CERTIFICATE-----\nx", None), TlsError::Pem(_)));
    assert!(matches!(error(ca, Some((&certificate, &other_key))), TlsError::Unusable(_)));
    let tls = Tls::from_pem(ca.as_bytes(), Some((certificate.as_bytes(), key.as_bytes()))).unwrap();
    assert!(matches!(tls.clone().for_name("not a name"), Err(TlsError::Name(_))));
    // what is logged of it is no secret
    assert!(!format!("{tls:?}").contains("PRIVATE"));
    let error = Error::NoTls("ssl:192.0.2.1:6640".into());
    assert_eq!(error.to_string(), "no TLS settings for ssl:192.0.2.1:6640");
}
