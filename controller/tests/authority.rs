//! The life of authorities: decades by a clock of the test's own, with replicas that come, go, lead in turn or at once, and
//! agents that read late what they are to trust.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]

mod fake_api;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fake_api::{FakeApi, Fault};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use tokio::sync::watch;
use weir_controller::certs::{Config, Credentials, Keeper, Own, Pace};
use weir_controller::pki::{Authority, Role, Validity};
use weir_runtime::clock::{Clock, TestClock};

/// Longer than any step takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const DAY: Duration = Duration::from_secs(24 * 3600);
const SECRET: &str = "Secret weir-system/weir-ca";

/// 2026, some day.
fn clock() -> TestClock {
    TestClock::at(SystemTime::UNIX_EPOCH + DAY * 20_700)
}

fn unix(clock: &TestClock) -> UnixTime {
    UnixTime::since_unix_epoch(clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap())
}

fn chain(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap()
}

fn roots(pem: &[u8]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(pem) {
        roots.add(certificate).unwrap();
    }
    Arc::new(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Whether one who trusts these takes that server now.
fn takes_server(ca: &[u8], cert: &[u8], now: UnixTime) -> Result<(), rustls::Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca), provider()).build();
    let name = "weir-controller".try_into().unwrap();
    verifier.unwrap().verify_server_cert(&chain(cert)[0], &[], &name, &[], now).map(drop)
}

/// Whether a server that trusts these takes that client now.
fn takes_client(ca: &[u8], cert: &[u8], now: UnixTime) -> Result<(), rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca), provider()).build();
    verifier.unwrap().verify_client_cert(&chain(cert)[0], &[], now).map(drop)
}

struct Replica {
    keeper: Keeper,
    config: Config,
    leads: watch::Sender<bool>,
    credentials: watch::Receiver<Option<Credentials>>,
}

impl Replica {
    async fn new(api: &FakeApi, clock: &TestClock, pace: Pace) -> Self {
        let (leads, leading) = watch::channel(false);
        let (towards, credentials) = watch::channel(None);
        let own = Own {
            client: api.client().await,
            namespace: "weir-system".to_owned(),
            hosts: Vec::new(),
            client_ca: None,
            pace,
            clock: Arc::new(clock.clone()),
            leads: Some(leading),
            towards: Some(("r".to_owned(), towards)),
        };
        let (config, _) = watch::channel(None);
        Self { keeper: Keeper::new(own), config, leads, credentials }
    }

    async fn look(&mut self) {
        self.keeper.look(&self.config).await.unwrap();
    }
}

/// What agents are to trust, as it is published.
fn published(api: &FakeApi) -> String {
    let map = api.get("ConfigMap weir-system/weir-ca").unwrap();
    map["data"]["ca.crt"].as_str().unwrap().to_owned()
}

fn text(secret: &Value, name: &str) -> Option<String> {
    let data = secret["data"].get(name)?;
    let bytes: k8s_openapi::ByteString = serde_json::from_value(data.clone()).unwrap();
    Some(String::from_utf8(bytes.0).unwrap())
}

#[tokio::test]
async fn nobody_meets_a_certificate_that_it_cannot_know() {
    // a year has some 50 looks here, and an authority some 6 years
    let (life, step) = (DAY * 2200, DAY * 7);
    let pace = Pace::of(life);
    assert_eq!(pace.announce, DAY * 30);
    let (api, clock) = (FakeApi::start().await, clock());
    let mut replicas =
        [Replica::new(&api, &clock, pace).await, Replica::new(&api, &clock, pace).await];
    // whoever reads what to trust reads it as it was up to three weeks ago: 28 days with the look before that
    let mut bundles: VecDeque<String> = VecDeque::new();
    // a certificate that somebody had made for a node, with the time of its end
    let mut node: Option<(Vec<u8>, UnixTime)> = None;
    let mut authorities = BTreeSet::new();
    let mut most = 0;
    for n in 0..1500_usize {
        // who leads changes, and now and then nobody does
        for (r, replica) in replicas.iter().enumerate() {
            replica.leads.send_replace(n % 5 == r || n % 11 == 3);
        }
        if n % 13 == 7 {
            replicas[n % 2] = Replica::new(&api, &clock, pace).await;
        }
        if n % 17 == 5 && api.faults_left() == 0 {
            // an answer that does not come costs one look
            api.fault("PUT", Fault::Refuse(500, "no".to_owned()));
        }
        for r in [n % 2, 1 - n % 2] {
            if replicas[r].keeper.look(&replicas[r].config).await.is_err() {
                replicas[r].look().await;
            }
        }
        let secret = api.get(SECRET).unwrap();
        authorities.insert(text(&secret, "tls.crt").unwrap());
        bundles.push_back(published(&api));
        if bundles.len() > 4 {
            bundles.pop_front();
        }
        most = most.max(chain(bundles.back().unwrap().as_bytes()).len());
        let now = unix(&clock);
        for replica in &replicas {
            let tls = replica.keeper.tls().unwrap();
            for (age, bundle) in bundles.iter().rev().enumerate() {
                let taken = takes_server(bundle.as_bytes(), &tls.cert, now);
                assert_eq!(taken, Ok(()), "look {n}, a bundle {age} looks old");
            }
            // replicas know each other
            let theirs = replica.credentials.borrow().clone().unwrap();
            for other in &replicas {
                let ours = other.keeper.tls().unwrap();
                assert_eq!(takes_client(&ours.client_ca, theirs.pair.cert.as_bytes(), now), Ok(()));
                assert_eq!(takes_server(theirs.ca.as_bytes(), &ours.cert, now), Ok(()));
            }
        }
        // a node's certificate counts to its end, whoever signs meanwhile
        match &node {
            Some((cert, end)) if now < *end => {
                for replica in &replicas {
                    let ca = &replica.keeper.tls().unwrap().client_ca;
                    assert_eq!(takes_client(ca, cert, now), Ok(()), "look {n}");
                }
            }
            _ => {
                let authority = Authority::from_pem(
                    text(&secret, "tls.crt").unwrap(),
                    text(&secret, "tls.key").unwrap(),
                );
                let now = jiff::Timestamp::try_from(clock.wall()).unwrap();
                let (authority, role) = (authority.unwrap(), Role::Node("n1".to_owned()));
                let valid = Validity::days(-1, 825);
                let pair = authority.issue_at(&role, valid, now).unwrap();
                let end = now + valid.to;
                let end = end.min(authority.valid().1).as_second();
                let end = UnixTime::since_unix_epoch(Duration::from_secs(end.unsigned_abs()));
                node = Some((pair.cert.into_bytes(), end));
            }
        }
        clock.advance(step);
    }
    // 28.7 years, and one authority after another, each after two thirds of the life of the one before and 30 days
    assert_eq!(authorities.len(), 8);
    // never more than two count at once: one that signs, and the one after or before it
    assert_eq!(most, 2);
}

#[tokio::test]
async fn two_who_lead_at_once_make_one() {
    let (api, clock) = (FakeApi::start().await, clock());
    let pace = Pace::of(DAY * 100);
    let mut replicas = Vec::new();
    for _ in 0..4 {
        let replica = Replica::new(&api, &clock, pace).await;
        replica.leads.send_replace(true);
        replicas.push(replica);
    }
    let mut seen = Vec::new();
    // made, announced and scheduled at once; promoted; the one before is over
    for (advance, names) in [
        (0, &["tls.crt", "tls.key"][..]),
        (70, &["next.crt", "next.from", "next.key", "tls.crt", "tls.key"]),
        (11, &["retired.crt", "tls.crt", "tls.key"]),
        (20, &["tls.crt", "tls.key"]),
    ] {
        clock.advance(DAY * advance);
        let puts = api.requests("PUT");
        futures_util::future::join_all(replicas.iter_mut().map(Replica::look)).await;
        let secret = api.get(SECRET).unwrap();
        let there: Vec<&String> = secret["data"].as_object().unwrap().keys().collect();
        assert_eq!(there, names);
        // all see the same, and all but one came too late for each step
        let bundle = published(&api);
        for replica in &mut replicas {
            replica.look().await;
            let trusts = replica.keeper.tls().unwrap().client_ca.clone();
            assert_eq!(String::from_utf8(trusts).unwrap(), bundle);
        }
        assert_eq!(api.get(SECRET).unwrap(), secret, "a second look changes nothing");
        seen.push((chain(bundle.as_bytes()).len(), api.requests("PUT") > puts));
    }
    assert_eq!(seen, [(1, false), (2, true), (2, true), (1, true)]);
}

#[tokio::test]
async fn only_the_one_that_leads_writes() {
    let (api, clock) = (FakeApi::start().await, clock());
    let pace = Pace::of(DAY * 100);
    let mut replica = Replica::new(&api, &clock, pace).await;
    replica.look().await;
    clock.advance(DAY * 90);
    replica.look().await;
    assert_eq!(api.requests("PUT"), 0);
    // its certificates end with the authority, and then it says what is missing
    clock.advance(DAY * 10);
    let error = replica.keeper.look(&replica.config).await.unwrap_err().to_string();
    assert!(error.contains("has made no other"), "{error}");
    replica.leads.send_replace(true);
    replica.look().await;
    let now = unix(&clock);
    let tls = replica.keeper.tls().unwrap();
    assert_eq!(takes_server(published(&api).as_bytes(), &tls.cert, now), Ok(()));
}

/// What cannot be written costs no certificate.
#[tokio::test]
async fn a_missing_right_is_said_and_certificates_go_on() {
    let (api, clock) = (FakeApi::start().await, clock());
    let mut replica = Replica::new(&api, &clock, Pace::of(DAY * 100)).await;
    replica.leads.send_replace(true);
    replica.look().await;
    let before = replica.keeper.tls().unwrap().cert.clone();
    clock.advance(DAY * 70);
    api.deny("PUT");
    let error = replica.keeper.look(&replica.config).await.unwrap_err().to_string();
    assert_eq!(error, "cannot update Secret weir-system/weir-ca");
    assert_ne!(replica.keeper.tls().unwrap().cert, before);
    // nor is a bundle scheduled that nobody can read
    api.allow();
    api.deny("PATCH");
    let error = replica.keeper.look(&replica.config).await.unwrap_err().to_string();
    assert_eq!(error, "cannot patch ConfigMap weir-system/weir-ca");
    let secret = api.get(SECRET).unwrap();
    assert!(text(&secret, "next.crt").is_some() && text(&secret, "next.from").is_none());
    clock.advance(DAY * 20);
    replica.keeper.look(&replica.config).await.unwrap_err();
    assert_eq!(text(&api.get(SECRET).unwrap(), "next.from"), None);
    // the wait counts from when it can be read
    api.allow();
    replica.look().await;
    let from: jiff::Timestamp =
        text(&api.get(SECRET).unwrap(), "next.from").unwrap().parse().unwrap();
    let now = jiff::Timestamp::try_from(clock.wall()).unwrap();
    assert_eq!(now.duration_until(from).as_secs(), 10 * 24 * 3600);
}

#[tokio::test]
async fn what_is_wrong_with_the_secret_is_named() {
    let (api, clock) = (FakeApi::start().await, clock());
    let mut replica = Replica::new(&api, &clock, Pace::default()).await;
    replica.look().await;
    let good = api.get(SECRET).unwrap();
    let mut bad = good.clone();
    bad["data"]["tls.key"] = "bm8ga2V5".into();
    api.put(bad);
    let error = replica.keeper.look(&replica.config).await.unwrap_err().to_string();
    assert!(error.contains("Secret weir-system/weir-ca has no usable tls.crt"), "{error}");
    api.put(good);
    replica.look().await;
}
