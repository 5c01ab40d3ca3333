//! What streams cost a controller: memory of an idle one, the time until all have acknowledged a change, and what a
//! thousand agents that come at once take.
//!
//! `cargo bench -p weir-controller --bench fanout [-- STREAMS]`. The controller is the program as it is released, with
//! certificates and TLS; the agents are tasks of this process that read, decode and acknowledge, on the same cores.

#![expect(clippy::print_stdout, reason = "the result of a benchmark")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use weir_api::convert::batch_from_proto;
use weir_api::v1::agent_message::Kind as FromAgent;
use weir_api::v1::controller_message::Kind as ToAgent;
use weir_api::v1::distribution_client::DistributionClient;
use weir_api::v1::{self, AgentMessage, ControllerMessage};
use weir_api::version;
use weir_controller::pki::{Authority, Pair, Role, Validity};

/// Pods on each node, as many of them subjects.
const PODS: usize = 10;
/// Policy changes that are timed.
const CHANGES: usize = 20;
/// Handshakes that this side does at once.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let number = std::env::args().skip(1).find(|a| a != "--bench");
    let streams: usize = number.map_or(Ok(1000), |n| n.parse()).context("STREAMS is a number")?;
    weir_runtime::limits::raise_open_files();
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(streams))
}

async fn run(streams: usize) -> Result<()> {
    let site = Site::start(streams)?;
    let url = site.url().await?;
    // one stream before the count, so that what comes with the first is not counted
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut agents = JoinSet::new();
    let nodes: Vec<String> = (0..streams).map(|n| format!("n{n}")).collect();
    follow(&site, &url, &nodes[..1], &tell, &mut agents).await?;
    told.recv().await.context("the first agent")?;
    settle().await;
    let before = site.resident()?;
    let began = Instant::now();
    follow(&site, &url, &nodes[1..], &tell, &mut agents).await?;
    everyone(&mut told, streams - 1).await?;
    let connected = began.elapsed();
    settle().await;
    let idle = site.resident()?.saturating_sub(before) / (streams as u64 - 1);

    // the same peers with another port: one small message for everyone; and other peers, which everyone has to be told of
    let mut rows = Vec::new();
    site.policy(0, 1)?;
    everyone(&mut told, streams).await?;
    for (what, peers) in [("port", false), ("peers", true)] {
        let mut times = Vec::new();
        for change in 0..CHANGES {
            let began = Instant::now();
            site.policy(if peers { change + 1 } else { 0 }, 1000 + change)?;
            everyone(&mut told, streams).await?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        rows.push((what, times));
    }
    let peak = site.memory("VmHWM")?;
    println!(
        "fan-out: {streams} streams over TLS, {} pods, agents on the same cores",
        streams * PODS
    );
    println!("  all connected, each with its snapshot, after {:.2} s", connected.as_secs_f64());
    println!("  an idle stream takes {:.1} KB of the controller", idle as f64 / 1e3);
    println!("  the controller takes {:.0} MB at its peak", peak as f64 / 1e6);
    for (what, times) in rows {
        println!(
            "  a policy file with other {what} written -> all have acknowledged: {:.0} ms (p50), {:.0} ms (worst of {CHANGES})",
            times[CHANGES / 2].as_secs_f64() * 1e3,
            times[CHANGES - 1].as_secs_f64() * 1e3,
        );
    }
    Ok(())
}

async fn everyone(told: &mut mpsc::UnboundedReceiver<()>, streams: usize) -> Result<()> {
    for _ in 0..streams {
        within(told.recv()).await?.context("an agent")?;
    }
    Ok(())
}

async fn within<F: Future>(future: F) -> Result<F::Output> {
    tokio::time::timeout(PATIENCE, future).await.context("nothing for a minute")
}

/// Lets buffers of the last messages go before memory is looked at.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// The controller and its files.
struct Site {
    directory: tempfile::TempDir,
    authority: Authority,
    controller: Child,
}

impl Site {
    fn start(nodes: usize) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let authority = Authority::create()?;
        let server =
            authority.issue(&Role::Server(vec!["localhost".to_owned()]), Validity::default())?;
        fs::write(path("ca.crt"), authority.certificate())?;
        fs::write(path("server.crt"), server.cert)?;
        fs::write(path("server.key"), server.key)?;
        fs::create_dir(path("manifests"))?;
        let mut text = String::from("kind: Namespace\napiVersion: v1\nmetadata: {name: shop}\n");
        for node in 0..nodes {
            writeln!(text, "---\nkind: Node\napiVersion: v1\nmetadata: {{name: n{node}}}")?;
            for pod in 0..PODS {
                let address = format!("10.{}.{}.{pod}", node / 256, node % 256);
                writeln!(
                    text,
                    "---\nkind: Pod\napiVersion: v1\nmetadata: {{name: p{node}-{pod}, namespace: shop, labels: \
                     {{app: web, kind: k{pod}}}}}\nspec: {{nodeName: n{node}}}\nstatus: {{podIPs: [{{ip: {address}}}]}}"
                )?;
            }
        }
        fs::write(path("manifests/world.yaml"), text)?;
        let controller = Command::new(env!("CARGO_BIN_EXE_weir-controller"))
            .args(["run", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .arg("--source")
            .arg(format!("dir:{}", path("manifests").display()))
            .arg("--tls-cert")
            .arg(path("server.crt"))
            .arg("--tls-key")
            .arg(path("server.key"))
            .arg("--client-ca")
            .arg(path("ca.crt"))
            .arg("--address-file")
            .arg(path("address"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(path("log"))?)
            .stderr(fs::File::create(path("errors"))?)
            .spawn()
            .context("weir-controller")?;
        Ok(Self { directory, authority, controller })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn url(&self) -> Result<String> {
        let file = self.path("address");
        let looking = async {
            loop {
                let text = fs::read_to_string(&file).unwrap_or_default();
                if let Some(address) = text.lines().find_map(|l| l.strip_prefix("listen ")) {
                    return address.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        Ok(format!("https://{}", within(looking).await?))
    }

    /// A policy that concerns every node, moved into place; its peers are a tenth of all pods.
    fn policy(&self, peers: usize, port: usize) -> Result<()> {
        let text = format!(
            "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {{name: web, namespace: shop}}\nspec: \
             {{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: \
             {{kind: k{}}}}}}}], ports: [{{port: {port}}}]}}]}}\n",
            peers % PODS
        );
        let aside = self.path("aside");
        fs::write(&aside, text)?;
        fs::rename(aside, self.path("manifests/policy.yaml"))?;
        Ok(())
    }

    fn resident(&self) -> Result<u64> {
        self.memory("VmRSS")
    }

    /// Units: bytes.
    fn memory(&self, what: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.controller.id());
        let text = fs::read_to_string(Path::new(&path)).context("the controller is gone")?;
        let line = text.lines().find_map(|l| l.strip_prefix(what)).context("no such figure")?;
        let figure = line.trim_start_matches(':').split_whitespace().next().context("no figure")?;
        Ok(figure.parse::<u64>()? * 1024)
    }

    fn issue(&self, node: &str) -> Result<Pair> {
        Ok(self.authority.issue(&Role::Node(node.to_owned()), Validity::default())?)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.controller.kill();
        let _ = self.controller.wait();
    }
}

/// Connects these nodes. Each tells when it has its snapshot, and after each batch that it acknowledged.
async fn follow(
    site: &Site,
    url: &str,
    nodes: &[String],
    tell: &mpsc::UnboundedSender<()>,
    agents: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    for node in nodes {
        let pair = site.issue(node)?;
        let ca = Certificate::from_pem(site.authority.certificate());
        let tls = ClientTlsConfig::new()
            .ca_certificate(ca)
            .domain_name("localhost")
            .identity(Identity::from_pem(&pair.cert, &pair.key));
        let endpoint = Endpoint::from_shared(url.to_owned())?.tls_config(tls)?;
        let (node, tell, slots) = (node.clone(), tell.clone(), Arc::clone(&slots));
        agents.spawn(async move {
            let slot = slots.acquire_owned().await?;
            let channel = endpoint.connect().await?;
            let (to, mut from) = hello(channel, &node).await?;
            drop(slot);
            let mut in_snapshot = false;
            while let Some(message) = from.message().await? {
                let revision = match message.kind {
                    Some(ToAgent::SnapshotBegin(_)) => {
                        in_snapshot = true;
                        continue;
                    }
                    Some(ToAgent::Batch(batch)) => {
                        let (_, errors) = batch_from_proto(&batch);
                        if !errors.is_empty() {
                            bail!("{errors:?}");
                        }
                        if in_snapshot {
                            continue;
                        }
                        batch.revision
                    }
                    Some(ToAgent::SnapshotEnd(end)) => {
                        in_snapshot = false;
                        end.revision
                    }
                    Some(ToAgent::Query(_)) | None => continue,
                };
                let report = v1::Realized { revision, ..v1::Realized::default() };
                to.send(AgentMessage { kind: Some(FromAgent::Realized(report)) }).await?;
                tell.send(())?;
            }
            Ok(())
        });
    }
    Ok(())
}

async fn hello(
    channel: Channel,
    node: &str,
) -> Result<(mpsc::Sender<AgentMessage>, Streaming<ControllerMessage>)> {
    let (to, outbound) = mpsc::channel(16);
    let hello = v1::Hello {
        node: node.to_owned(),
        agent_version: "bench".to_owned(),
        protocol: version::PROTOCOL,
        ovs_version: "3.1.0".to_owned(),
    };
    to.send(AgentMessage { kind: Some(FromAgent::Hello(hello)) }).await?;
    let mut client =
        DistributionClient::new(channel).max_decoding_message_size(version::MAX_TO_AGENT);
    let from = client.follow(ReceiverStream::new(outbound)).await?.into_inner();
    Ok((to, from))
}
