//! The controller, as a process with files of its own.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use weir_controller::app::Addresses;
use weir_controller::pki::{Authority, Pair, Role, Validity};

/// Pods on each node, as many of them subjects.
pub(crate) const PODS: usize = 10;

pub(crate) struct Site {
    directory: tempfile::TempDir,
    pub(crate) authority: Authority,
    /// One for each node.
    pub(crate) pairs: Vec<Pair>,
    pub(crate) controller: Controller,
}

impl Site {
    pub(crate) fn start(nodes: usize) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let authority = Authority::create()?;
        let issue = |role: Role| authority.issue(&role, Validity::default());
        let server = issue(Role::Server(vec!["localhost".to_owned()]))?;
        fs::write(path("ca.crt"), authority.certificate())?;
        fs::write(path("server.crt"), server.cert)?;
        fs::write(path("server.key"), server.key)?;
        fs::create_dir(path("manifests"))?;
        let mut text = String::from("kind: Namespace\napiVersion: v1\nmetadata: {name: shop}\n");
        for node in 0..nodes {
            writeln!(text, "---\nkind: Node\napiVersion: v1\nmetadata: {{name: n{node}}}")?;
            for number in 0..PODS {
                let address = format!("10.{}.{}.{number}", node / 256, node % 256);
                let name = format!("p{node}-{number}");
                write!(text, "---\n{}", pod(&name, number, node, &address))?;
            }
        }
        fs::write(path("manifests/world.yaml"), text)?;
        let pairs: Result<_, _> =
            (0..nodes).map(|node| issue(Role::Node(format!("n{node}")))).collect();
        let controller = Controller::start(directory.path())?;
        Ok(Self { authority, pairs: pairs?, controller, directory })
    }

    /// Another process in the place of this one.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.controller.end();
        self.controller = Controller::start(self.directory.path())?;
        Ok(())
    }

    /// A policy that concerns every node, moved into place; its peers are a tenth of all pods.
    pub(crate) fn policy(&self, peers: usize, port: usize) -> Result<()> {
        let text = format!(
            "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {{name: web, namespace: shop}}\nspec: \
             {{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: \
             {{kind: k{}}}}}}}], ports: [{{port: {port}}}]}}]}}\n",
            peers % PODS
        );
        self.put("policy.yaml", &text)
    }

    /// One more pod, which is among the peers if these are the ones of number 0.
    pub(crate) fn pod(&self, number: usize) -> Result<()> {
        let address = format!("10.200.0.{number}");
        let text = pod(&format!("more-{number}"), 0, 0, &address);
        self.put(&format!("pod-{number}.yaml"), &text)
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        let aside = self.directory.path().join("aside");
        fs::write(&aside, text)?;
        fs::rename(aside, self.directory.path().join("manifests").join(name))?;
        Ok(())
    }
}

fn pod(name: &str, kind: usize, node: usize, address: &str) -> String {
    format!(
        "kind: Pod\napiVersion: v1\nmetadata: {{name: {name}, namespace: shop, labels: {{app: web, kind: k{kind}}}}}\n\
         spec: {{nodeName: n{node}}}\nstatus: {{podIPs: [{{ip: {address}}}]}}\n"
    )
}

pub(crate) struct Controller {
    process: Child,
    addresses: Addresses,
}

impl Controller {
    fn start(directory: &Path) -> Result<Self> {
        let path = |name: &str| -> PathBuf { directory.join(name) };
        let mut process = Command::new(env!("CARGO_BIN_EXE_weir-controller"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
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
            .env_remove("WEIR_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("weir-controller")?;
        let mut log = BufReader::new(process.stderr.take().context("its log")?);
        let mut line = String::new();
        while !line.contains("listening") {
            line.clear();
            if log.read_line(&mut line)? == 0 {
                bail!("weir-controller ended: {}", process.wait()?);
            }
        }
        // whoever does not read it keeps the controller from writing
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let addresses = Addresses::read(&path("address")).context("its address")?;
        Ok(Self { process, addresses })
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.addresses.listen)
    }

    fn end(&mut self) {
        // it may have ended by itself
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Waits until it has taken so many reports of agents: nothing of them, and of what they are about, is under way then.
    pub(crate) fn took(&self, reports: u64) -> Result<()> {
        while self.metric("weir_controller_reports_total")? < reports {
            std::thread::yield_now();
        }
        Ok(())
    }

    pub(crate) fn metric(&self, name: &str) -> Result<u64> {
        let mut stream = TcpStream::connect(self.addresses.admin.context("its admin address")?)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        let value: f64 = line.with_context(|| format!("no {name}"))?.trim().parse()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        Ok(value as u64)
    }

    /// Processor time that the process has used. Units: seconds.
    pub(crate) fn processor(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // the name in parentheses may hold anything; then come the state and numbers, ticks of 10 ms among them
        let rest = text.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks =
            |at: usize| -> Result<f64> { Ok(fields.get(at).context("no figure")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }

    /// `VmRSS` or `VmHWM`. Units: bytes.
    pub(crate) fn memory(&self, what: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.id());
        let text = fs::read_to_string(path).context("the controller is gone")?;
        let line = text.lines().find_map(|l| l.strip_prefix(what)).context("no such figure")?;
        let figure = line.trim_start_matches(':').split_whitespace().next().context("no figure")?;
        Ok(figure.parse::<u64>()? * 1024)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.end();
    }
}
