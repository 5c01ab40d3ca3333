//! What each command does.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command as Process, ExitCode, Stdio};
use std::time::Duration;

use crate::args::{self, Cli, Cluster, ClusterUp, Command, Mode};
use crate::bed::{self, INFRA};
use crate::cluster::weir::{self, Weir};
use crate::cluster::{KUBECONFIG, KUBECTL};
use crate::conformance::Score;
use crate::conformance::case::Case;
use crate::conformance::live::{Ground, Live};
use crate::conformance::{self, evaluator};
use crate::demo::{self, Options};
use crate::error::{During, Error, Result};
use crate::fleet::Programs;
use crate::home::{self, Home};
use crate::host::NODE;
use crate::image::{self, Image};
use crate::netns::Inside;
use crate::scenario::{self, Scenario};
use crate::{daemon, fleet, interrupt, out, require, upgrade, wait};

/// Something differs from what it should be.
const DIFFERENT: u8 = 1;
/// It could not be tried; the reason was printed.
const CANNOT_TELL: u8 = 3;
/// What shells report for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// How long the process that serves may take to start.
const SERVING: Duration = Duration::from_secs(10);

/// Runs a command. Exit code: 0 done or as expected, 1 different, 2 bad usage, 3 could not be tried.
pub fn run(cli: Cli) -> ExitCode {
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(e) => {
            out::error(&e.to_string());
            ExitCode::from(match e {
                Error::Differs { .. } | Error::Flows { .. } => DIFFERENT,
                Error::Interrupted => INTERRUPTED,
                _ => CANNOT_TELL,
            })
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { bed, scenario } => {
            interrupt::listen()?;
            up(&bed.name, &scenario)
        }
        Command::Down { bed } | Command::Cluster(Cluster::Down { bed }) => {
            require::root()?;
            let was = home::take_down(&bed.name)?;
            let how = if was { "is down" } else { "was not up" };
            out::line(&format!("testbed {} {how}", bed.name));
            Ok(ExitCode::SUCCESS)
        }
        Command::Status => status(),
        Command::Scenarios => {
            for name in scenario::names()? {
                let scenario = Scenario::read(&name)?;
                out::line(&format!("{name:<12}  {}", scenario.title));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Exec { bed, host, command } => exec(&bed.name, &host, &command),
        Command::Demo { bed, keep, scenario, report } => {
            interrupt::listen()?;
            let options = Options { name: bed.name, scenario, report };
            let played = demo::play(&options)?;
            let tally = played.tally();
            if keep {
                demo::say_what_to_try(&played);
                serve_in_background(&played.leave_up())?;
            } else {
                out::line("  `make demo KEEP=1` leaves everything running to play with.");
                played.down()?;
            }
            out::line(&format!("\n{tally}"));
            Ok(if tally.is_full() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
        }
        Command::Conformance { dir, mode, case, name } => {
            conformance(&dir, mode, case.as_deref(), name)
        }
        Command::Ctl { bed, args } => ctl(&bed.name, &args),
        Command::Cluster(Cluster::Up(up)) => {
            interrupt::listen()?;
            cluster_up(&up)
        }
        Command::Cluster(Cluster::Run(up)) => cluster_run(&up),
        Command::Cluster(Cluster::Kubectl { bed, args }) => kubectl(&bed.name, &args),
        Command::Upgrade(old) => upgrade_from(old),
        Command::Image(made) => make_image(&made),
        Command::Serve { bed } => serve(&bed.name),
    }
}

fn up(name: &str, scenario: &str) -> Result<ExitCode> {
    let fleet = demo::start(name, &Scenario::read(scenario)?)?;
    let dir = fleet.bed().dir().display().to_string();
    serve_in_background(&fleet.leave_up())?;
    out::line(&format!("testbed {name} is up; its files are in {dir}"));
    Ok(ExitCode::SUCCESS)
}

fn status() -> Result<ExitCode> {
    let beds = home::list();
    if beds.is_empty() {
        out::line("no testbed is up");
    }
    for (name, holder) in beds {
        let held = match holder {
            Some((pid, role)) => format!("held by process {pid} ({role:?})"),
            None => "left by a process that has ended; `weir-testbed down` removes it".to_owned(),
        };
        out::line(&format!("{name}: {held}"));
        for (host, saved) in bed::saved(&name).unwrap_or_default() {
            let addresses: Vec<String> = saved.addresses.iter().map(ToString::to_string).collect();
            let services: Vec<String> = saved.services.iter().map(ToString::to_string).collect();
            out::line(&format!(
                "  {host:<28} {:<4} {:<40} {}",
                saved.node.unwrap_or_default(),
                addresses.join(" "),
                services.join(" "),
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command in the namespace of a host, with our own terminal.
fn exec(name: &str, host: &str, command: &[String]) -> Result<ExitCode> {
    require::root()?;
    let saved = bed::saved(name)?;
    let place = saved.get(host).ok_or_else(|| Error::Unknown {
        kind: "host",
        name: host.to_owned(),
        bed: name.to_owned(),
    })?;
    let inside = Inside::enter(&place.namespace)?;
    let (program, args) = command.split_first().map_or(("true", &[][..]), |(p, a)| (p, a));
    let mut process = Process::new(program);
    process.args(args);
    if let Some(node) = host.strip_prefix(&format!("{NODE}/")) {
        // the tools of Open vSwitch find the switch of that node
        process.env("OVS_RUNDIR", home::dir_of(name).join(node));
    }
    let program = program.to_owned();
    let status = inside.run(move || process.status().during(|| format!("running {program}")))?;
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Runs `weirctl` as an operator, where it reaches the controller of a testbed.
fn ctl(name: &str, args: &[String]) -> Result<ExitCode> {
    let inside = Inside::enter(&home::namespace_name(name, INFRA))
        .map_err(|_| Error::NotUp(name.to_owned()))?;
    let mut process = Process::new(require::sibling("weirctl")?);
    process.args(args).envs(fleet::operator_env(&home::dir_of(name))?);
    let status = inside.run(move || process.status().during(|| "running weirctl".to_owned()))?;
    Ok(ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)))
}

/// Hands a testbed that stays up to a process of its own, which answers probes.
fn serve_in_background(home: &Home) -> Result<()> {
    let own = std::env::current_exe().during(|| "finding the own program".to_owned())?;
    let log = home.dir().join("serve.log");
    let file = std::fs::File::create(&log).during(|| format!("opening {}", log.display()))?;
    let ready = home.dir().join(SERVING_FILE);
    let _ = std::fs::remove_file(&ready);
    // children inherit this, and so the lock
    let inherited = home.hand_over()?;
    // a session of its own: the end of this terminal is not its end
    let mut child = Process::new("setsid")
        .arg(own)
        .args(["serve", "--name", home.name()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .during(|| "starting the process that serves".to_owned())?;
    drop(inherited);
    wait::until("the process that serves is ready", SERVING, || {
        if let Ok(Some(status)) = child.try_wait()
            && !status.success()
        {
            return Err(Error::Ended {
                name: "weir-testbed serve".to_owned(),
                status: status.to_string(),
                tail: daemon::tail(&log),
                log: log.clone(),
            });
        }
        Ok(ready.exists().then_some(()))
    })
}

/// Appears when the servers of a testbed that was left up are there.
const SERVING_FILE: &str = "serving";

fn serve(name: &str) -> Result<ExitCode> {
    let home = Home::adopt(name)?;
    let _serving = bed::serve_saved(name)?;
    let ready = home.dir().join(SERVING_FILE);
    std::fs::write(&ready, "").during(|| format!("writing {}", ready.display()))?;
    loop {
        // until a signal ends the process
        std::thread::park();
    }
}

fn conformance(
    dir: &Path,
    mode: Mode,
    only: Option<&str>,
    name: Option<String>,
) -> Result<ExitCode> {
    let cases = conformance::read(dir, only)?;
    let name = name.unwrap_or_else(home::test_name);
    let score = if mode.evaluator {
        conformance::play(&cases, evaluator::play)?
    } else {
        interrupt::listen()?;
        require::all()?;
        if mode.cluster {
            play_live(&cases, Live::up_cluster(&name)?)?
        } else {
            play_live(&cases, Live::up(&name)?)?
        }
    };
    Ok(if score.is_full() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

fn play_live<G: Ground>(cases: &[Case], mut live: Live<G>) -> Result<Score> {
    let score = conformance::play(cases, |case| live.play(case))?;
    live.down()?;
    Ok(score)
}

/// How long a cluster may take to come up.
const CLUSTER_UP: Duration = Duration::from_secs(300);
/// Between two looks at whether everything of a cluster still runs.
const LOOK: Duration = Duration::from_secs(1);

/// Starts a process that builds a cluster and keeps it, and waits until it is up.
fn cluster_up(up: &ClusterUp) -> Result<ExitCode> {
    let name = &up.bed.name;
    home::take_down(name)?;
    let own = std::env::current_exe().during(|| "finding the own program".to_owned())?;
    let ready = home::dir_of(name).join(SERVING_FILE);
    // a session of its own: the end of this terminal is not its end
    let mut child = Process::new("setsid")
        .arg(own)
        .args(["cluster", "run", "--name", name])
        .args(["--nodes", &up.nodes.to_string(), "--replicas", &up.replicas.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .during(|| "starting the process that keeps the cluster".to_owned())?;
    let came_up = wait::until("the cluster is up", CLUSTER_UP, || {
        match child.try_wait().during(|| "waiting for the cluster".to_owned())? {
            Some(status) => Err(Error::Ended {
                name: "weir-testbed cluster run".to_owned(),
                status: status.to_string(),
                tail: "its reason is above".to_owned(),
                log: home::dir_of(name),
            }),
            None => Ok(ready.exists().then_some(())),
        }
    });
    if let Err(e) = came_up {
        let _ = child.kill();
        let _ = child.wait();
        interrupt::ignore();
        home::take_down(name)?;
        return Err(e);
    }
    let dir = home::dir_of(name);
    out::line(&dir.join(KUBECONFIG).display().to_string());
    out::progress(&format!("{} is kubectl for it", dir.join(KUBECTL).display()));
    Ok(ExitCode::SUCCESS)
}

/// Builds a cluster and keeps it until a signal ends the process; what it leaves, `down` or the next `up` removes.
fn cluster_run(up: &ClusterUp) -> Result<ExitCode> {
    let mut weir = Weir::up(&up.bed.name, &weir::Setup::new(up.nodes, up.replicas))?;
    let dir = weir.cluster().dir();
    weir.cluster().with_bed(bed::Testbed::now_serves)?;
    let log = dir.join("cluster.log");
    let file = std::fs::File::create(&log).during(|| format!("opening {}", log.display()))?;
    nix::unistd::dup2_stderr(&file).during(|| format!("writing to {}", log.display()))?;
    let ready = dir.join(SERVING_FILE);
    std::fs::write(&ready, "").during(|| format!("writing {}", ready.display()))?;
    loop {
        weir.check()?;
        wait::pause(LOOK);
    }
}

/// Runs kubectl on the cluster of a testbed.
fn kubectl(name: &str, args: &[String]) -> Result<ExitCode> {
    let program = home::dir_of(name).join(KUBECTL);
    if !program.exists() {
        return Err(Error::NotUp(name.to_owned()));
    }
    let status =
        Process::new(program).args(args).status().during(|| "running kubectl".to_owned())?;
    Ok(ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)))
}

/// Plays an upgrade, and back.
fn upgrade_from(args: args::Upgrade) -> Result<ExitCode> {
    interrupt::listen()?;
    let args::Upgrade { old_controller, old_agent, name } = args;
    let found = |program: std::path::PathBuf| {
        // it is started elsewhere
        std::fs::canonicalize(&program).during(|| format!("looking for {}", program.display()))
    };
    let old = Programs { controller: found(old_controller)?, agent: found(old_agent)? };
    let name = name.unwrap_or_else(home::test_name);
    let upgrade::Tally { quiet, changes, records } =
        upgrade::play(&upgrade::Options { name, old })?;
    out::line(&format!(
        "\nupgrade: {quiet} restarts and moves without a flow changed, {changes} times policy changed and verdicts \
         followed, {records} records of an allowed connection and none lost"
    ));
    Ok(ExitCode::SUCCESS)
}

/// Writes an image, reads it back as an importer would, and runs what is in it.
fn make_image(made: &args::Image) -> Result<ExitCode> {
    let image =
        Image { name: &made.name, program: &made.program, user: made.user, labels: &made.labels };
    image::write(&image, &made.out)?;
    // what an importer will meet, and not what we believe to have written
    let back = image::read(&made.out)?;
    let says = image::try_out(&back)?;
    out::line(&format!("{}  {}  {}", made.out.display(), back.name, back.digest));
    out::line(&format!(
        "  {:.1} MB, runs as {} with nothing else in sight: {says}",
        megabytes(back.size),
        back.user
    ));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
