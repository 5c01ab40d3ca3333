//! Two pods on one node: new connections a second and the round-trip time of a live one, with Weir and so many policies
//! next to a bridge that does `NORMAL`. Both testbeds are up at the same time and are measured in turn.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use weir_testbed::fleet::{Fleet, Setup, pod};
use weir_testbed::netns::Inside;
use weir_testbed::ovs::BRIDGE;
use weir_testbed::{Layout, Testbed, Workload, home, out, tcp};

use crate::policy::Delays;
use crate::report::{Column, Report, Row, Samples, Table};
use crate::status::Inspector;

pub(crate) const NAMESPACE: &str = "bench";
pub(crate) const CLIENT: &str = "bench/client";
pub(crate) const GATED: &str = "bench/gated";
const SERVER: &str = "bench/server";
const NODE: &str = "n1";

const ROUNDS: usize = 9;
/// One measurement of new connections.
const WINDOW: Duration = Duration::from_millis(1500);
/// Connections under way at one moment.
const AT_ONCE: usize = 8;
/// Round trips of one measurement.
const TRIPS: usize = 2_000;
/// Bytes of a round trip.
const RECORD: usize = 64;
/// Where the server of [`Echo`] listens.
const PORT: u16 = 7000;
/// A connection that takes longer is lost.
const LOST: Duration = Duration::from_secs(5);

/// A testbed with Weir, and one without.
pub(crate) struct Beds {
    pub(crate) fleet: Fleet,
    pub(crate) plain: Testbed,
    pub(crate) inspector: Inspector,
    /// In force with Weir.
    pub(crate) policies: usize,
    pub(crate) gate_generation: i64,
    pub(crate) delays: Vec<Delays>,
    filled: Vec<Filled>,
}

/// What was measured with so many policies.
struct Filled {
    policies: usize,
    flows: u32,
    /// From the first file to the last acknowledgement. Units: seconds.
    applied: f64,
    weir: Traffic,
    plain: Traffic,
    /// With Weir by `NORMAL`, round by round: what else the machine did counts less this way.
    connection_ratio: Samples,
    trip_ratio: Samples,
}

#[derive(Default)]
struct Traffic {
    per_second: Samples,
    /// Units: microseconds.
    median_trip: Samples,
    slow_trip: Samples,
}

impl Beds {
    pub(crate) fn up() -> Result<Self> {
        out::progress("starting a testbed with Weir and one without");
        let mut fleet = Fleet::up(&home::test_name(), &Setup::nodes(2))?;
        fleet.namespace(NAMESPACE, &[("team", "bench")])?;
        fleet.add(&[
            pod(CLIENT).on(NODE).label("app", "client"),
            pod(SERVER).on(NODE).label("app", "server").serves(&[tcp(80)]),
            pod(GATED).on(NODE).label("app", "gated").serves(&[tcp(81)]),
        ])?;
        let peers: Vec<_> = (0..20)
            .map(|n| {
                pod(&format!("{NAMESPACE}/peer-{n}")).on("n2").label("app", &format!("peer-{n}"))
            })
            .collect();
        fleet.add_manifests_only(&peers)?;
        fleet.reaches(CLIENT, SERVER, tcp(80))?;

        let mut plain = Testbed::up(&home::test_name(), &Layout { nodes: 1, ..Layout::default() })?;
        let node = plain.nodes().first().context("a testbed without a node")?;
        node.ovs.ofctl(&["add-flow", BRIDGE, "priority=0,actions=NORMAL"])?;
        let hosts = fleet.bed().hosts();
        let same: Vec<Workload> = [(CLIENT, 80), (SERVER, 80), (GATED, 81)]
            .into_iter()
            .filter_map(|(name, port)| {
                Some(Workload::new(name, NODE, &hosts.get(name)?.addresses, &[tcp(port)]))
            })
            .collect();
        plain.add_pods(&same)?;
        let inspector = Inspector::of(&fleet)?;
        Ok(Self {
            fleet,
            plain,
            inspector,
            policies: 0,
            gate_generation: 0,
            delays: Vec::new(),
            filled: Vec::new(),
        })
    }

    /// Adds policies until there are so many, and waits until all are in force.
    pub(crate) fn fill(&mut self, policies: usize) -> Result<()> {
        out::progress(&format!("{policies} policies"));
        let begun = Instant::now();
        for n in self.policies..policies {
            self.fleet.apply(&background(n))?;
        }
        let status = self.inspector.in_force(policies)?;
        let applied = begun.elapsed().as_secs_f64();
        let node = status.nodes.iter().find(|n| n.name == NODE);
        self.policies = policies;
        self.filled.push(Filled {
            policies,
            flows: node.map_or(0, |n| n.flows),
            applied,
            weir: Traffic::default(),
            plain: Traffic::default(),
            connection_ratio: Samples::default(),
            trip_ratio: Samples::default(),
        });
        Ok(())
    }

    pub(crate) fn measure(&mut self) -> Result<()> {
        let Self { fleet, plain, filled, .. } = self;
        let Some(filled) = filled.last_mut() else { return Ok(()) };
        let _echoes = [Echo::start(fleet.bed())?, Echo::start(plain)?];
        for round in 0..ROUNDS {
            out::progress(&format!("traffic, round {} of {ROUNDS}", round + 1));
            let plain = |filled: &mut Filled| filled.plain.round(plain);
            let weir = |filled: &mut Filled| filled.weir.round(fleet.bed());
            let (with, without);
            if round % 2 == 0 {
                without = plain(filled)?;
                with = weir(filled)?;
            } else {
                with = weir(filled)?;
                without = plain(filled)?;
            }
            filled.connection_ratio.push(with.0 / without.0);
            filled.trip_ratio.push(with.1 / without.1);
        }
        Ok(())
    }

    pub(crate) fn report(&self, report: &mut Report) {
        if let Some(table) = delay_table(&self.delays) {
            report.add(table);
        }
        if self.filled.iter().all(|f| f.weir.per_second.len() == 0) {
            return;
        }
        let mut rows = Vec::new();
        for f in &self.filled {
            rows.push(f.plain.row(
                format!("NORMAL, beside {} policies (baseline)", f.policies),
                f,
                false,
            ));
            rows.push(f.weir.row(format!("Weir, {} policies", f.policies), f, true));
        }
        report.add(Table {
            title: format!(
                "Two pods of one node, TCP over IPv4, medians of {ROUNDS} rounds, ratios round by round: {AT_ONCE} clients that connect, send \
                 and get a byte, and reset; {TRIPS} round trips of {RECORD} bytes"
            ),
            columns: &[
                Column("connections/s", 0),
                Column("ratio", 2),
                Column("trip p50 us", 1),
                Column("ratio", 2),
                Column("trip p99 us", 1),
                Column("flows", 0),
                Column("applied in s", 2),
            ],
            rows,
        });
    }

    pub(crate) fn down(self) -> Result<()> {
        self.plain.down()?;
        Ok(self.fleet.down()?)
    }
}

/// The policies all select the server, so that every connection to it is subject to every one of them.
fn background(n: usize) -> String {
    let (peer, net, host, port) = (n % 20, 20 + n / 250, n % 250, 8000 + n);
    let rule = match n {
        // the one that the measured connections need
        0 => format!(
            "from: [{{podSelector: {{matchLabels: {{app: client}}}}}}], ports: [{{port: {PORT}}}, {{port: 80}}]"
        ),
        _ => match n % 4 {
            0 => format!(
                "from: [{{podSelector: {{matchLabels: {{app: peer-{peer}}}}}}}], ports: [{{port: {port}}}]"
            ),
            1 => format!(
                "from: [{{ipBlock: {{cidr: 10.{net}.{host}.0/24}}}}], ports: [{{port: {port}, endPort: {}}}]",
                port + 9
            ),
            2 => format!(
                "from: [{{namespaceSelector: {{matchLabels: {{team: bench}}}}, podSelector: {{matchLabels: {{app: peer-{peer}}}}}}}], ports: [{{protocol: UDP, port: {port}}}]"
            ),
            _ => format!(
                "from: [{{ipBlock: {{cidr: 172.16.{host}.0/24, except: [172.16.{host}.128/25]}}}}], ports: [{{port: {port}}}]"
            ),
        },
    };
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: other-{n}, namespace: {NAMESPACE}}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: server}}}}\n  policyTypes: [Ingress]\n  ingress: [{{{rule}}}]\n"
    )
}

fn delay_table(delays: &[Delays]) -> Option<Table> {
    let by_hand = delays.first()?;
    let mut rows = Vec::new();
    for d in delays {
        let name = match d.others {
            None => "one flow mod by hand, without Weir (baseline)".to_owned(),
            Some(others) => format!("Weir, {others} other policies"),
        };
        let all = [
            ("opens", &d.opens, Some(&by_hand.opens)),
            ("closes", &d.closes, Some(&by_hand.closes)),
            ("controller's event to acknowledgement", &d.acknowledged, None),
        ];
        for (what, samples, baseline) in all.into_iter().filter(|(_, s, _)| s.len() > 0) {
            let mut row = Row::new(
                format!("{name}: {what}"),
                [50, 90, 99, 100].map(|percent| samples.percentile(percent)),
            );
            row.values.push(baseline.map(|b| samples.median() - b.median()));
            rows.push(row);
        }
    }
    Some(Table {
        title: format!(
            "From the renaming of a policy file to the first connection with the right verdict, {} changes each",
            by_hand.opens.len() + by_hand.closes.len()
        ),
        columns: &[
            Column("p50 ms", 1),
            Column("p90", 1),
            Column("p99", 1),
            Column("highest", 1),
            Column("p50 beyond baseline", 1),
        ],
        rows,
    })
}

impl Traffic {
    /// Measures once; gives connections a second and the median round trip.
    fn round(&mut self, bed: &Testbed) -> Result<(f64, f64)> {
        let per_second = connections(bed)?;
        let trips = round_trips(bed)?;
        self.per_second.push(per_second);
        self.median_trip.push(trips.median());
        self.slow_trip.push(trips.percentile(99));
        Ok((per_second, trips.median()))
    }

    fn row(&self, name: String, filled: &Filled, weir: bool) -> Row {
        let ratio = |samples: &Samples| if weir { samples.median() } else { 1.0 };
        let mut row = Row::new(
            name,
            [
                self.per_second.median(),
                ratio(&filled.connection_ratio),
                self.median_trip.median(),
                ratio(&filled.trip_ratio),
                self.slow_trip.median(),
            ],
        );
        row.values.push(weir.then_some(f64::from(filled.flows)));
        row.values.push(weir.then_some(filled.applied).filter(|_| filled.policies > 0));
        row
    }
}

fn server_address(bed: &Testbed) -> Result<SocketAddr> {
    bed.host(SERVER)?.target(false, PORT).context("the server has no IPv4 address")
}

/// Runs a task in the namespace of a pod, on a thread of its own. The thread's stack is small, hence the box.
pub(crate) fn inside<T, F>(
    bed: &Testbed,
    host: &str,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let thread = Inside::enter(bed.host(host)?.inside.name())?;
    thread.run(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(Box::pin(work()))))
    })?
}

/// New connections a second: each is made, carries a byte there and back, and is reset.
fn connections(bed: &Testbed) -> Result<f64> {
    let to = server_address(bed)?;
    inside(bed, CLIENT, move || async move {
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..AT_ONCE {
            clients.spawn(async move {
                let mut made = 0_u32;
                while begun.elapsed() < WINDOW {
                    tokio::time::timeout(LOST, one_connection(to)).await??;
                    made += 1;
                }
                anyhow::Ok(made)
            });
        }
        let mut made = 0;
        while let Some(client) = clients.join_next().await {
            made += client??;
        }
        ensure!(made > 0, "no connection was made");
        Ok(f64::from(made) / begun.elapsed().as_secs_f64())
    })
}

pub(crate) async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // a reset at the end: ports are free again at once
    socket.set_zero_linger()?;
    socket.set_nodelay(true)?;
    Ok(socket.connect(to).await?)
}

async fn one_connection(to: SocketAddr) -> Result<()> {
    let mut stream = connect(to).await?;
    stream.write_all(b"x").await?;
    stream.read_exact(&mut [0]).await?;
    Ok(())
}

/// Round trips over one connection. Units: microseconds.
fn round_trips(bed: &Testbed) -> Result<Samples> {
    let to = server_address(bed)?;
    inside(bed, CLIENT, move || async move {
        let mut stream = connect(to).await?;
        let mut record = [7; RECORD];
        let mut trips = Vec::with_capacity(TRIPS);
        for _ in 0..TRIPS {
            let begun = Instant::now();
            stream.write_all(&record).await?;
            tokio::time::timeout(LOST, stream.read_exact(&mut record)).await??;
            trips.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        let mut samples = Samples::default();
        trips.into_iter().for_each(|trip| samples.push(trip));
        Ok(samples)
    })
}

/// A server in the pod that sends back whatever comes. It ends when this is dropped.
struct Echo {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Echo {
    fn start(bed: &Testbed) -> Result<Self> {
        let pod = Inside::enter(bed.host(SERVER)?.inside.name())?;
        let (stop, stopped) = oneshot::channel();
        let (tell, ready) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("echo".to_owned()).spawn(move || {
            let served = pod.run(move || {
                let runtime = Builder::new_current_thread().enable_all().build();
                let served = runtime.and_then(|runtime| {
                    runtime.block_on(Box::pin(async {
                        let listener = listen()?;
                        let _ = tell.send(());
                        tokio::select! {
                            _ = stopped => Ok(()),
                            never = serve(listener) => never,
                        }
                    }))
                });
                Ok(served)
            });
            if let Err(e) | Ok(Err(e)) =
                served.map(|s| s.map_err(Into::into)).map_err(anyhow::Error::from)
            {
                out::error(&format!("the server of the bench: {e:#}"));
            }
        })?;
        ready.recv().context("the server of the bench did not start")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn listen() -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([0, 0, 0, 0], PORT).into())?;
    socket.listen(1024)
}

async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                clients.spawn(echo(stream));
            }
            Some(_) = clients.join_next() => {}
        }
    }
}

/// Ends with the client.
async fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    let _ = stream.set_nodelay(true);
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(buffer.get(..n).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}
