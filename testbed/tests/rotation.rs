//! The authority of the controllers' certificates is replaced while everything runs, by the programs as they are.
#![allow(clippy::unwrap_used, reason = "a test")]

use serde_json::{Value, json};
use weir_testbed::cluster::client::from_base64;
use weir_testbed::cluster::shop::{self, POLICY};
use weir_testbed::cluster::weir::{self, Setup, Weir};
use weir_testbed::fleet::IN_FORCE;
use weir_testbed::probe::watch::SHUT;
use weir_testbed::{tcp, udp};

fn authority(weir: &mut Weir, kind: &str) -> Option<Value> {
    let key = json!({
        "apiVersion": "v1", "kind": kind, "metadata": {"namespace": weir::NAMESPACE, "name": "weir-ca"},
    });
    weir.cluster().client().get(&key).unwrap()
}

/// What agents are to trust.
fn published(weir: &mut Weir) -> String {
    let map = authority(weir, "ConfigMap").unwrap();
    map["data"]["ca.crt"].as_str().unwrap().to_owned()
}

/// The certificate of who signs.
fn signs(weir: &mut Weir) -> String {
    let secret = authority(weir, "Secret").unwrap();
    let text = from_base64(secret["data"]["tls.crt"].as_str().unwrap()).unwrap();
    String::from_utf8(text).unwrap()
}

fn count(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}

/// Waits until the bundle is so, and brings it to the agents as a kubelet does.
fn bundle(weir: &mut Weir, what: &str, wanted: impl Fn(&str) -> bool) -> String {
    let client = weir.cluster().client().clone();
    let key = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": weir::NAMESPACE, "name": "weir-ca"},
    });
    let bundle = weir.cluster().until(what, || {
        let map = client.get(&key)?.unwrap_or_default();
        let text = map["data"]["ca.crt"].as_str().unwrap_or_default().to_owned();
        Ok(wanted(&text).then_some(text))
    });
    let bundle = bundle.unwrap();
    let dir = weir.cluster().dir().join("pki");
    std::fs::write(dir.join("ca.new"), &bundle).unwrap();
    std::fs::rename(dir.join("ca.new"), dir.join("ca.crt")).unwrap();
    bundle
}

/// An agent that starts anew finds a controller that it trusts, and so does one of each controller.
fn connects_anew(weir: &mut Weir) {
    for node in ["n1", "n2"] {
        weir.agent(node).unwrap().kill().unwrap();
        weir.agent(node).unwrap().start_again().unwrap();
    }
    let addresses = weir.addresses().to_vec();
    for node in ["n1", "n2"] {
        // whichever it is
        weir.follows(node, addresses[0].split(':').next().unwrap(), None).unwrap();
    }
}

#[test]
fn the_authority_is_replaced_and_no_stream_notices() {
    let mut setup = Setup::new(2, 2);
    setup.controller_args = ["--authority-life", "60s"].map(str::to_owned).to_vec();
    let mut weir = Weir::for_test(&setup).unwrap();
    shop::open(&mut weir).unwrap();
    let before = weir.flows().unwrap();
    let stream = weir.stream("shop/web", "shop/db", udp(5432)).unwrap();
    let forbidden = weir.watch("shop/other", "shop/db", tcp(5432), SHUT).unwrap();
    let first = signs(&mut weir);
    let streams =
        |weir: &Weir| ["n1", "n2"].map(|node| weir.agent_state(node).unwrap().stream().unwrap());
    let followed = streams(&weir);

    // announced: trusted, and not in use
    let both = bundle(&mut weir, "the next authority is announced", |b| count(b) == 2);
    assert!(both.starts_with(&first), "{both}");
    let second = both.strip_prefix(&first).unwrap().to_owned();
    assert_eq!(signs(&mut weir), first);
    // it signs, and both are trusted
    let client = weir.cluster().client().clone();
    let key = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"namespace": weir::NAMESPACE, "name": "weir-ca"},
    });
    weir.cluster()
        .until("the next authority signs", || {
            let secret = client.get(&key)?.unwrap_or_default();
            let now = from_base64(secret["data"]["tls.crt"].as_str().unwrap_or_default());
            Ok((now.as_deref() == Some(second.as_bytes())).then_some(()))
        })
        .unwrap();
    assert_eq!(count(&published(&mut weir)), 2);
    let used = |n: usize, weir: &mut Weir| {
        let log = std::fs::read_to_string(weir.controllers()[n].log()).unwrap();
        log.matches("a certificate of our own authority is in use").count()
    };
    // every controller has one of the new authority: that of the start, that with both, and this
    for n in 0..2 {
        weir.cluster().check().unwrap();
        weir_testbed::wait::until("a new certificate", IN_FORCE, || {
            Ok((used(n, &mut weir) >= 3).then_some(()))
        })
        .unwrap();
    }
    // the streams go on
    assert_eq!(streams(&weir), followed);
    connects_anew(&mut weir);

    // the first one is over
    let one = bundle(&mut weir, "the first authority is forgotten", |b| count(b) == 1);
    assert_eq!(one, second);
    connects_anew(&mut weir);
    assert_eq!(weir.flows().unwrap(), before);
    stream.moves(IN_FORCE).unwrap();
    assert_eq!(forbidden.finish().passed, 0);
    let end = stream.finish();
    assert_eq!((end.there.lost(), end.back.lost()), (0, 0), "{end:?}");
    weir.cluster().apply(&POLICY.replace("app: web", "app: other")).unwrap();
    weir.reaches("shop/other", "shop/db", tcp(5432)).unwrap();
    weir.cannot_reach("shop/web", "shop/db", tcp(5432)).unwrap();
    // of those who were refused none had anything to do with it
    let metrics = weir.metrics().unwrap();
    let line = metrics.lines().find(|l| l.contains("refused_total{reason=\"handshake\"}"));
    assert!(line.is_some_and(|l| l.ends_with(" 0") || l.ends_with(" 0.0")), "{line:?}");
    weir.down().unwrap();
}
