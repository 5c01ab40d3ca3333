//! From a policy at the API server to a packet.
//!
//! As [`crate::policy`], with a real kube-apiserver and two controllers that watch it: the policy is created and deleted there,
//! so that the clock also sees the request itself, etcd, the watch, and the way of JSON.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_testbed::cluster::weir::{Setup, Weir};
use weir_testbed::out;

use crate::policy::first_right;
use crate::report::{Column, Report, Row, Samples, Table};
use crate::traffic::{CLIENT, GATED, NAMESPACE};

/// Policies created, and deleted again. Two more come before and do not count.
const TIMES: usize = 200;
/// Units: milliseconds.
const COLUMNS: &[Column] = &[Column("p50 ms", 1), Column("p99 ms", 1), Column("max ms", 1)];

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    out::progress(&format!("{TIMES} policies created at a kube-apiserver"));
    let mut weir = Weir::for_test(&Setup::new(2, 2))?;
    let cluster = weir.cluster();
    cluster
        .apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"))?;
    for host in [CLIENT, GATED] {
        cluster.apply_pod(&pod(host))?;
    }
    for host in [CLIENT, GATED] {
        let (namespace, name) = host.split_once('/').context("a host without a namespace")?;
        cluster.pod_runs(namespace, name)?;
    }
    weir.reaches(CLIENT, GATED, weir_testbed::tcp(81))?;

    let client = weir.cluster().client().clone();
    let deny = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "gate", "namespace": NAMESPACE},
        "spec": {"podSelector": {"matchLabels": {"app": "gated"}}, "policyTypes": ["Ingress"]},
    });
    let (mut created, mut deleted) = (Samples::default(), Samples::default());
    for n in 0..TIMES + 2 {
        for (open, samples) in [(false, &mut created), (true, &mut deleted)] {
            let took = weir.cluster().with_bed(|bed| {
                first_right(bed, open, || {
                    if open {
                        client.delete(&deny).map(drop)?;
                    } else {
                        client.apply(&deny).map(drop)?;
                    }
                    Ok(())
                })
            })?;
            if n >= 2 {
                samples.push_millis(took);
            }
        }
    }
    weir.down()?;
    let row = |name: &str, samples: &Samples| {
        Row::new(
            format!("{name}, {} times", samples.len()),
            [samples.median(), samples.percentile(99), samples.high()],
        )
    };
    report.add(Table {
        title: "From a request to the API server to the first connection with the right verdict"
            .into(),
        columns: COLUMNS,
        rows: vec![
            row("policy created, a pod closes", &created),
            row("policy deleted, it opens", &deleted),
        ],
    });
    Ok(())
}

fn pod(host: &str) -> Value {
    let (namespace, name) = host.split_once('/').unwrap_or(("default", host));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": [
            {"name": "server", "image": "weir-testbed", "ports": [{"containerPort": 81}]},
        ]},
    })
}
