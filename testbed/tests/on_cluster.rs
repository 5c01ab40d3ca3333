//! Weir on a real kube-apiserver, with the rights that `deploy/` gives it: what is away comes again, and no flow changes that
//! policy does not ask for.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use weir_testbed::cluster::client::base64;
use weir_testbed::cluster::shop::{self, POLICY, pod};
use weir_testbed::cluster::weir::{self, Setup, Weir};
use weir_testbed::cluster::{Access, Account, pod_key};
use weir_testbed::fleet::IN_FORCE;
use weir_testbed::probe::watch::SHUT;
use weir_testbed::{tcp, udp, wait};

/// Two nodes, two controllers; web and other on n1, db on n2, which only web may reach.
fn opened() -> Weir {
    let mut weir = Weir::for_test(&Setup::new(2, 2)).unwrap();
    shop::open(&mut weir).unwrap();
    weir
}

fn policy_key() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": "db"},
    })
}

fn leader(weir: &mut Weir) -> Option<String> {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": weir::NAMESPACE, "name": weir::CONTROLLER},
    });
    let lease = weir.cluster().client().get(&lease).unwrap()?;
    lease.pointer("/spec/holderIdentity").and_then(Value::as_str).map(str::to_owned)
}

#[test]
fn the_api_server_goes_and_its_history_and_nothing_changes() {
    let mut weir = opened();
    let before = weir.flows().unwrap();
    let stream = weir.stream("shop/web", "shop/db", udp(5432)).unwrap();
    let forbidden = weir.watch("shop/other", "shop/db", tcp(5432), SHUT).unwrap();

    weir.cluster().servers().apiserver().kill().unwrap();
    stream.moves(IN_FORCE).unwrap();
    // an agent that comes again meanwhile has its state, and the controllers know it still
    weir.agent("n2").unwrap().kill().unwrap();
    weir.agent("n2").unwrap().start_again().unwrap();
    weir.ready().unwrap();
    weir.cluster().servers().compact().unwrap();
    weir.cluster().servers().apiserver().start_again().unwrap();
    let client = weir.cluster().client().clone();
    weir.cluster().servers().until_ready(&client).unwrap();
    assert_eq!(weir.flows().unwrap(), before);

    // the watches go on
    weir.cluster().apply_pod(&pod("late", "n1", "web")).unwrap();
    weir.cluster().pod_runs("shop", "late").unwrap();
    weir.reaches("shop/late", "shop/db", tcp(5432)).unwrap();
    weir.agrees().unwrap();
    assert_eq!(forbidden.finish().passed, 0);
    let end = stream.finish();
    assert_eq!((end.there.lost(), end.back.lost()), (0, 0), "{end:?}");
    client.delete(&policy_key()).unwrap();
    weir.reaches("shop/other", "shop/db", tcp(5432)).unwrap();

    // what happens while nobody looks, and whose history is lost: the watches cannot go on and say so
    signal(&mut weir, Signal::SIGSTOP);
    let seen: Vec<usize> = (0..2).map(|n| expired(&mut weir, n)).collect();
    client.delete(&pod_key("shop", "late")).unwrap();
    weir.cluster().is_gone(&pod_key("shop", "late")).unwrap();
    weir.cluster().apply_pod(&pod("later", "n2", "other")).unwrap();
    weir.cluster().pod_runs("shop", "later").unwrap();
    weir.cluster().apply(&POLICY.replace("{app: web}", "{app: other}")).unwrap();
    weir.cluster().servers().apiserver().kill().unwrap();
    weir.cluster().servers().compact().unwrap();
    weir.cluster().servers().apiserver().start_again().unwrap();
    weir.cluster().servers().until_ready(&client).unwrap();
    signal(&mut weir, Signal::SIGCONT);
    weir.reaches("shop/later", "shop/db", tcp(5432)).unwrap();
    weir.cannot_reach("shop/web", "shop/db", tcp(5432)).unwrap();
    weir.agrees().unwrap();
    for (n, seen) in seen.into_iter().enumerate() {
        let what = format!("controller {n} was told that its version is too old (410)");
        wait::until(&what, IN_FORCE, || Ok((expired(&mut weir, n) > seen).then_some(()))).unwrap();
    }
    // the state is that of a fresh start
    let after = weir.flows().unwrap();
    for controller in weir.controllers() {
        controller.kill().unwrap();
        controller.start_again().unwrap();
    }
    for node in ["n1", "n2"] {
        let agent = weir.agent(node).unwrap();
        agent.kill().unwrap();
        // nor does it know anything from before
        std::fs::remove_dir_all(weir.cluster().dir().join(node).join("state")).unwrap();
        weir.agent(node).unwrap().start_again().unwrap();
    }
    weir.ready().unwrap();
    weir.agrees().unwrap();
    assert_eq!(weir.flows().unwrap(), after);
    weir.check().unwrap();
    weir.down().unwrap();
}

/// To all controllers.
fn signal(weir: &mut Weir, signal: Signal) {
    for controller in weir.controllers() {
        let pid = i32::try_from(controller.pid().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

/// How often a controller has said of pods that it cannot go on from where it was.
fn expired(weir: &mut Weir, controller: usize) -> usize {
    let log = std::fs::read_to_string(weir.controllers()[controller].log()).unwrap();
    log.lines().filter(|l| l.contains("cannot watch: 410") && l.contains("Pod")).count()
}

#[test]
fn controllers_are_killed_under_load_and_no_flow_notices() {
    let mut weir = opened();
    let stream = weir.stream("shop/web", "shop/db", udp(5432)).unwrap();
    let forbidden = weir.watch("shop/other", "shop/db", tcp(5432), SHUT).unwrap();

    // the one that holds the lease, while pods come and go
    let before = weir.flows().unwrap();
    let holder = leader(&mut weir).unwrap();
    let first = usize::from(holder.contains("weir-controller-1"));
    for n in 0..6 {
        weir.cluster().apply_pod(&pod(&format!("load-{n}"), "n1", "load")).unwrap();
        if n == 2 {
            weir.controllers()[first].kill().unwrap();
        }
    }
    for n in 0..6 {
        weir.cluster().pod_runs("shop", &format!("load-{n}")).unwrap();
    }
    weir.agrees().unwrap();
    for n in 0..6 {
        weir.cluster().client().delete(&pod_key("shop", &format!("load-{n}"))).unwrap();
    }
    for n in 0..6 {
        weir.cluster().is_gone(&pod_key("shop", &format!("load-{n}"))).unwrap();
    }
    weir.agrees().unwrap();
    // another holds it then
    let client = weir.cluster().client().clone();
    let key = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": weir::NAMESPACE, "name": weir::CONTROLLER},
    });
    weir.cluster()
        .until("another controller holds the lease", || {
            let now = client.get(&key)?;
            let now = now.as_ref().and_then(|l| l.pointer("/spec/holderIdentity")).cloned();
            Ok((now.is_some() && now != Some(json!(holder))).then_some(()))
        })
        .unwrap();

    // both at once
    weir.controllers()[first].start_again().unwrap();
    weir.controllers()[1 - first].kill().unwrap();
    weir.controllers()[first].kill().unwrap();
    stream.moves(IN_FORCE).unwrap();
    for controller in weir.controllers() {
        controller.start_again().unwrap();
    }
    weir.ready().unwrap();
    weir.reaches("shop/web", "shop/db", tcp(5432)).unwrap();
    // the same world as at the beginning, and the same flows
    assert_eq!(weir.flows().unwrap(), before);
    assert_eq!(forbidden.finish().passed, 0);
    let end = stream.finish();
    assert_eq!((end.there.lost(), end.back.lost()), (0, 0), "{end:?}");

    // and they still follow
    weir.cluster().client().delete(&policy_key()).unwrap();
    weir.reaches("shop/other", "shop/db", tcp(5432)).unwrap();
    weir.down().unwrap();
}

/// Verb, group and resource of everything that the roles allow.
fn granted() -> BTreeSet<(String, String, String)> {
    let mut out = BTreeSet::new();
    for object in weir::objects(weir::MANIFESTS).unwrap() {
        if !matches!(object["kind"].as_str(), Some("ClusterRole" | "Role")) {
            continue;
        }
        let texts = |v: &Value| -> Vec<String> {
            v.as_array().into_iter().flatten().map(|t| t.as_str().unwrap().to_owned()).collect()
        };
        for rule in object["rules"].as_array().unwrap() {
            for verb in texts(&rule["verbs"]) {
                for group in texts(&rule["apiGroups"]) {
                    for resource in texts(&rule["resources"]) {
                        out.insert((verb.clone(), group.clone(), resource));
                    }
                }
            }
        }
    }
    out
}

#[test]
fn the_controllers_rights_are_what_they_use() {
    let mut weir = opened();
    // a policy's status comes, changes and goes with it
    let status = json!({
        "apiVersion": "weir.io/v1alpha1",
        "kind": "PolicyStatus",
        "metadata": {"namespace": "shop", "name": "db"},
    });
    let client = weir.cluster().client().clone();
    weir.cluster().until("the policy has a status", || Ok(client.get(&status)?.map(drop))).unwrap();
    client.delete(&policy_key()).unwrap();
    weir.cluster().is_gone(&status).unwrap();
    // The next authority is announced by whoever leads when two thirds of the life of the one that is there are over, and
    // what agents trust is put right by a controller that starts. One that ends takes its Lease along.
    let day = std::time::Duration::from_secs(86_400);
    let made = jiff::Timestamp::now() - day * 70;
    let due = weir_controller::pki::Authority::create_at(made, day * 100).unwrap();
    let mut secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": weir::NAMESPACE, "name": "weir-ca"},
    });
    secret["data"] = json!({
        "tls.crt": base64(due.certificate().as_bytes()),
        "tls.key": base64(due.key().as_bytes()),
    });
    client.merge(&secret).unwrap();
    let mut map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": weir::NAMESPACE, "name": "weir-ca"},
    });
    map["data"] = json!({"ca.crt": "somebody else's"});
    client.merge(&map).unwrap();
    // and whoever begins to write status takes away what has no policy any more
    let mut orphan = status.clone();
    orphan["metadata"]["name"] = json!("ghost");
    client.apply(&orphan).unwrap();
    for n in 0..2 {
        weir.controllers()[n].stop().unwrap();
        weir.controllers()[n].start_again().unwrap();
    }
    weir.cluster().is_gone(&orphan).unwrap();
    weir.cluster()
        .until("the authority is published, and the next one with it", || {
            let map = client.get(&map)?.unwrap_or_default();
            let bundle = map["data"]["ca.crt"].as_str().unwrap_or_default();
            let next = bundle.strip_prefix(due.certificate());
            Ok(next.is_some_and(|next| next.contains("BEGIN CERTIFICATE")).then_some(()))
        })
        .unwrap();

    // what is right to do some seconds later is waited for
    let granted = granted();
    let rights = |audit: &[Access]| -> BTreeSet<(String, String, String)> {
        let asked = audit.iter().filter(|a| !a.resource.is_empty());
        asked.map(|a| (a.verb.clone(), a.group.clone(), a.resource.clone())).collect()
    };
    let cluster = weir.cluster();
    let mut superfluous = Vec::new();
    let all_used = wait::until("every right is used", IN_FORCE * 3, || {
        let used = rights(&cluster.audit()?);
        superfluous = granted.difference(&used).cloned().collect();
        Ok(superfluous.is_empty().then_some(()))
    });
    assert!(all_used.is_ok(), "rights that nothing uses: {superfluous:?}");
    let user = format!("system:serviceaccount:{}:{}", weir::NAMESPACE, weir::CONTROLLER);
    let audit = cluster.audit().unwrap();
    assert!(audit.iter().all(|a| a.user == user), "somebody else asks: {audit:?}");
    let refused: Vec<_> = audit.iter().filter(|a| a.code == Some(403)).collect();
    assert!(refused.is_empty(), "rights are missing: {refused:?}");
    weir.down().unwrap();
}

#[test]
fn tokens_that_are_not_a_nodes_own_open_nothing() {
    let mut weir = opened();
    let good = weir::agent_token(weir.cluster(), "n1").unwrap();
    let other = weir::agent_token(weir.cluster(), "n2").unwrap();
    let unbound = Account {
        namespace: weir::NAMESPACE,
        name: weir::AGENT,
        audience: Some(weir::AUDIENCE),
        seconds: 600,
        bound: None,
    };
    let unbound_token = weir.cluster().token(&unbound).unwrap();
    let wrong_audience = weir.cluster().token(&Account { audience: None, ..unbound }).unwrap();
    let stranger =
        weir.cluster().token(&Account { namespace: "shop", name: "default", ..unbound }).unwrap();
    // in the middle of the signature: of the last letter only two bits count
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other_letter = if &signature[40..41] == "A" { "B" } else { "A" };
    let forged = format!("{signed}.{}{other_letter}{}", &signature[..40], &signature[41..]);
    let key = std::fs::read_to_string(weir.cluster().dir().join("kubernetes/tokens.key")).unwrap();
    let same = support::signed_anew(&good, &key, |_| {});
    let expired = support::signed_anew(&good, &key, |claims| {
        for claim in ["iat", "nbf", "exp"] {
            claims[claim] = json!(claims[claim].as_i64().unwrap() - 2 * 86_400);
        }
    });

    for token in [&good, &same] {
        assert_eq!(support::follow(&mut weir, "n1", Some(token)), Ok(()));
    }
    let mut counted = support::refused(&mut weir);
    for (what, token, counter, reason) in [
        ("another node's", Some(&other), "other-node", "credentials are those of node n2"),
        ("not bound to a node", Some(&unbound_token), "token-unbound", "not bound to a node"),
        (
            "for another audience",
            Some(&wrong_audience),
            "token-audience",
            "for audience weir-controller: it was made for another audience: ",
        ),
        (
            "another account's",
            Some(&stranger),
            "token-account",
            "system:serviceaccount:shop:default",
        ),
        ("forged", Some(&forged), "token", "for audience weir-controller: forged, of another"),
        ("expired", Some(&expired), "token-expired", "weir-controller: it has expired: "),
        ("none", None, "token-missing", "neither a client certificate nor a token"),
    ] {
        let seen = support::follow(&mut weir, "n1", token.map(String::as_str)).unwrap_err();
        // only a node, even if another one, learns why
        let told = seen.contains(reason);
        assert_eq!(told, counter == "other-node", "{what}: {seen}");
        // it is said in the log, and counted
        let log = std::fs::read_to_string(weir.controllers()[0].log()).unwrap();
        assert!(log.contains("refused") && log.contains(reason), "{what}: {log}");
        *counted.entry(counter.to_owned()).or_default() += 1;
        assert_eq!(support::refused(&mut weir), counted, "{what}");
    }
    // and a certificate of another node, of an authority that counts here
    let pki = weir.cluster().dir().join("pki");
    weir_controller::pki::node(&pki, "n2", true).unwrap();
    let seen = support::follow_certified(&mut weir, "n1", &pki.join("node-n2")).unwrap_err();
    assert!(seen.contains("credentials are those of node n2"), "{seen}");
    *counted.entry("other-node".to_owned()).or_default() += 1;
    assert_eq!(support::refused(&mut weir), counted);
    weir.down().unwrap();
}

mod support {
    //! One stream to a controller, by hand.

    use std::collections::BTreeMap;
    use std::path::Path;

    use rcgen::{KeyPair, SigningKey};
    use serde_json::Value;
    use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
    use weir_api::v1::{self, agent_message, distribution_client::DistributionClient};
    use weir_api::version;
    use weir_testbed::cluster::client::{base64, from_base64};
    use weir_testbed::cluster::weir::Weir;

    /// A token with other claims, signed by the key that the API server signs with (ES256, RFC 7518, section 3.4).
    pub(crate) fn signed_anew(token: &str, key: &str, change: impl FnOnce(&mut Value)) -> String {
        let parts: Vec<&str> = token.split('.').collect();
        let bytes = from_base64(&parts[1].replace('-', "+").replace('_', "/")).unwrap();
        let mut claims: Value = serde_json::from_slice(&bytes).unwrap();
        change(&mut claims);
        let url = |bytes: &[u8]| {
            base64(bytes).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
        };
        let signed = format!("{}.{}", parts[0], url(claims.to_string().as_bytes()));
        let der = KeyPair::from_pem(key).unwrap().sign(signed.as_bytes()).unwrap();
        // SEQUENCE { INTEGER r, INTEGER s }, and wanted are 32 bytes of each
        let mut raw = Vec::new();
        let mut at = 2;
        for _ in 0..2 {
            let length = usize::from(der[at + 1]);
            let number = &der[at + 2..at + 2 + length];
            let number = &number[number.len().saturating_sub(32)..];
            raw.resize(raw.len() + 32 - number.len(), 0);
            raw.extend_from_slice(number);
            at += 2 + length;
        }
        format!("{signed}.{}", url(&raw))
    }

    /// Whom the first controller has refused, by reason.
    pub(crate) fn refused(weir: &mut Weir) -> BTreeMap<String, u64> {
        let text = weir.metrics().unwrap();
        let lines = text.lines().filter_map(|l| {
            let rest = l.strip_prefix("weir_controller_refused_total{reason=\"")?;
            let (reason, count) = rest.split_once("\"} ")?;
            let count = count.trim_end_matches(".0").parse().unwrap();
            (count > 0).then(|| (reason.to_owned(), count))
        });
        lines.collect()
    }

    /// Says hello as a node with the certificate of these files, and waits for the first answer.
    pub(crate) fn follow_certified(weir: &mut Weir, node: &str, pair: &Path) -> Result<(), String> {
        let read = |end: &str| std::fs::read_to_string(pair.with_extension(end)).unwrap();
        let identity = Identity::from_pem(read("crt"), read("key"));
        run(weir, node, None, Some(identity))
    }

    /// Says hello as a node with a token, and waits for the first answer.
    pub(crate) fn follow(weir: &mut Weir, node: &str, token: Option<&str>) -> Result<(), String> {
        run(weir, node, token, None)
    }

    fn run(
        weir: &mut Weir,
        node: &str,
        token: Option<&str>,
        identity: Option<Identity>,
    ) -> Result<(), String> {
        let url = format!("https://{}", weir.addresses()[0]);
        let ca = std::fs::read_to_string(weir.cluster().dir().join("pki/ca.crt")).unwrap();
        let (node, token) = (node.to_owned(), token.map(str::to_owned));
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .domain_name("weir-controller");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        weir.cluster()
            .client()
            .run("a stream", async move { Ok(stream(&url, tls, &node, token).await) })
            .unwrap()
    }

    async fn stream(
        url: &str,
        tls: ClientTlsConfig,
        node: &str,
        token: Option<String>,
    ) -> Result<(), String> {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap().tls_config(tls).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let hello = v1::Hello {
            node: node.to_owned(),
            agent_version: "test".to_owned(),
            protocol: version::PROTOCOL,
            ovs_version: "3.1.0".to_owned(),
            holdings: None,
        };
        let hello = v1::AgentMessage { kind: Some(agent_message::Kind::Hello(hello)) };
        let mut request = tonic::Request::new(tokio_stream::once(hello));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut client =
            DistributionClient::new(channel).max_decoding_message_size(version::MAX_TO_AGENT);
        let mut answers =
            client.follow(request).await.map_err(|s| s.message().to_owned())?.into_inner();
        answers.message().await.map(drop).map_err(|s| s.message().to_owned())
    }
}
