//! `weirctl flows` over a real switch: private daemons on the dummy datapath, no privileges.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use weirctl::annotate::layout::TABLES;
use weirctl::exit::Exit;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/example");

/// Dropping it, in a panic too, ends the daemons and removes their files.
struct Switch {
    daemons: Vec<Child>,
    dir: TempDir,
}

impl Drop for Switch {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Switch {
    fn start() -> Self {
        assert!(
            Path::new(SCHEMA).exists(),
            "{SCHEMA} is missing: `make test` installs Open vSwitch"
        );
        let mut switch = Self { daemons: Vec::new(), dir: tempfile::tempdir().unwrap() };
        let remote = format!("unix:{}", switch.path("db.sock"));
        switch.run("ovsdb-tool", &["create", &switch.path("conf.db"), SCHEMA]);
        switch.daemon(
            "ovsdb-server",
            &[
                &switch.path("conf.db"),
                &format!("--remote=p{remote}"),
                &format!("--unixctl={}", switch.path("db.ctl")),
            ],
        );
        switch.run("ovsdb-client", &["-t", "30", "wait", &remote, "Open_vSwitch", "connected"]);
        switch.vsctl("--no-wait init");
        switch.daemon(
            "ovs-vswitchd",
            &[
                &remote,
                "--enable-dummy=override",
                "--disable-system",
                &format!("--unixctl={}", switch.path("vs.ctl")),
            ],
        );
        let mut words = String::from(
            "add-br br-int -- set bridge br-int datapath_type=dummy fail_mode=secure protocols=OpenFlow13",
        );
        for (number, name) in [(1, "uplink0"), (2, "web0"), (3, "db0"), (4, "probe0")] {
            words.push_str(&format!(
                " -- add-port br-int {name} -- set interface {name} type=dummy ofport_request={number}"
            ));
        }
        for (number, name, _) in TABLES {
            words.push_str(&format!(
                " -- --id=@t{number} create Flow_Table name={name} -- set bridge br-int flow_tables:{number}=@t{number}"
            ));
        }
        switch.vsctl(&words);
        switch
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn mgmt(&self) -> String {
        self.path("br-int.mgmt")
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let dir = self.dir.path();
        command.args(args).env("OVS_RUNDIR", dir).env("OVS_LOGDIR", dir).env("OVS_DBDIR", dir);
        command
    }

    fn daemon(&mut self, program: &str, args: &[&str]) {
        let mut command = self.command(program, args);
        command.arg("-vconsole:off").stdin(Stdio::null()).stdout(Stdio::null());
        self.daemons.push(command.stderr(Stdio::null()).spawn().unwrap());
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program, args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn vsctl(&self, words: &str) -> String {
        let database = format!("--db=unix:{}", self.path("db.sock"));
        let args: Vec<&str> = ["-t", "30", &database].into_iter().chain(words.split(' ')).collect();
        self.run("ovs-vsctl", &args)
    }

    fn ofctl(&self, words: &[&str]) -> String {
        let args: Vec<&str> = ["-O", "OpenFlow13"].iter().chain(words).copied().collect();
        self.run("ovs-ofctl", &args)
    }

    /// Flows without what changes by itself, each a line.
    fn dump(&self) -> BTreeSet<String> {
        let text = self.ofctl(&["--no-names", "--no-stats", "dump-flows", &self.mgmt()]);
        text.lines().map(|l| l.trim().to_owned()).collect()
    }

    /// `weirctl flows` on this switch with the symbols of the example.
    async fn flows(&self, args: &[&str]) -> (Exit, String, String) {
        let (target, symbols) =
            (format!("unix:{}", self.mgmt()), format!("{EXAMPLE}/n1.symbols.jsonl"));
        let fixed = ["weirctl", "flows", "--switch", &target, "--symbols", &symbols];
        weirctl(fixed.iter().chain(args).copied()).await
    }
}

async fn weirctl(args: impl Iterator<Item = &str>) -> (Exit, String, String) {
    let (mut answers, mut remarks) = (Vec::new(), Vec::new());
    let exit = weirctl::run_to(args.map(Into::into), &mut answers, &mut remarks).await;
    (exit, String::from_utf8(answers).unwrap(), String::from_utf8(remarks).unwrap())
}

#[tokio::test]
async fn a_live_switch_as_table_as_flow_text_and_back() {
    let switch = Switch::start();
    switch.ofctl(&["--bundle", "add-flows", &switch.mgmt(), &format!("{EXAMPLE}/n1.flows")]);
    let before = switch.dump();

    let (exit, table, remarks) = switch.flows(&[]).await;
    assert_eq!((exit, remarks.as_str()), (Exit::Yes, ""));
    let head = table.lines().next().unwrap();
    assert!(head.starts_with("br-int  OVS "), "{head}");
    assert!(head.ends_with(&format!("{0} of {0} flows", before.len())), "{head}");
    assert!(!table.contains("foreign"), "{table}");
    let rule = table.lines().find(|l| l.contains("conj_id 48ea032b")).unwrap();
    assert!(rule.ends_with("rule    shop/db-from-api ingress[0]"), "{rule}");

    // -o ofctl, taken back by ovs-ofctl, is the same flows
    let (_, text, _) = switch.flows(&["-o", "ofctl"]).await;
    let file = switch.path("again.flows");
    fs::write(&file, text).unwrap();
    switch.ofctl(&["del-flows", &switch.mgmt()]);
    assert!(switch.dump().len() <= 1);
    switch.ofctl(&["--bundle", "add-flows", &switch.mgmt(), &file]);
    assert_eq!(switch.dump(), before);

    // a flow of others stands out
    switch.ofctl(&["add-flow", &switch.mgmt(), "table=65,priority=65000,ip,actions=resubmit(,80)"]);
    let (_, foreign, _) = switch.flows(&["--owner", "foreign", "--no-headers"]).await;
    assert!(foreign.starts_with("IngressRule  65000  ip"), "{foreign}");
    assert!(foreign.trim_end().ends_with("foreign  not Weir's"), "{foreign}");

    let (exit, json, _) =
        switch.flows(&["-o", "json", "--pod", "shop/db-0", "--table", "65"]).await;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((exit, value["kind"].as_str()), (Exit::Yes, Some("FlowList")));
    let owners: BTreeSet<&str> =
        value["items"].as_array().unwrap().iter().filter_map(|i| i["owner"].as_str()).collect();
    assert_eq!(owners, BTreeSet::from(["clause", "deny", "rule"]));

    let (exit, _, remarks) = switch.flows(&["--class", "77"]).await;
    assert_eq!((exit, remarks.as_str()), (Exit::No, "no flow matches\n"));
    let (exit, _, remarks) = switch.flows(&["--pod", "shop/none"]).await;
    assert_eq!(exit, Exit::Usage);
    assert!(remarks.starts_with("error: no pod shop/none among the objects read"), "{remarks}");
}

#[tokio::test]
async fn pasted_text_of_a_live_switch() {
    let switch = Switch::start();
    switch.ofctl(&["--bundle", "add-flows", &switch.mgmt(), &format!("{EXAMPLE}/n1.flows")]);
    let symbols = format!("{EXAMPLE}/n1.symbols.jsonl");
    let explain = async |name: &str, text: &str| {
        let file = switch.path(name);
        fs::write(&file, text).unwrap();
        let args = ["weirctl", "flows", "--explain", &file, "--symbols", &symbols];
        let (exit, answer, remarks) = weirctl(args.into_iter()).await;
        assert_eq!((exit, remarks.as_str()), (Exit::Yes, ""));
        // nothing is lost, nothing is changed
        for (before, after) in text.lines().zip(answer.lines()) {
            assert!(after.starts_with(before.trim_end()), "{after}");
        }
        assert_eq!(text.lines().count(), answer.lines().count());
        answer
    };

    for options in [&["--names"][..], &["--no-names"], &["--names", "--no-stats"]] {
        let words: Vec<&str> = options.iter().chain(&["dump-flows"]).copied().collect();
        let mgmt = switch.mgmt();
        let dump = switch.ofctl(&[&words[..], &[mgmt.as_str()]].concat());
        let answer = explain("dump", &dump).await;
        for line in answer.lines().filter(|l| l.contains("actions=")) {
            let note = line.split_once("  # ").unwrap_or_else(|| panic!("no note: {line}")).1;
            assert!(!note.contains("foreign") && !note.contains("not among"), "{line}");
        }
        let stranger = answer.lines().find(|l| l.contains("priority=100,reg3=0x3")).unwrap();
        assert!(
            stranger.ends_with("  # deny: a14512ee: shop/db-from-api, shop/default-deny"),
            "{stranger}"
        );
    }

    let packet = "in_port=4,tcp,dl_src=02:00:00:00:01:30,dl_dst=02:00:00:00:01:20,\
                  nw_src=10.244.1.30,nw_dst=10.244.1.20,nw_ttl=64,tcp_src=40000,tcp_dst=5432";
    let ctl = switch.path("vs.ctl");
    let trace = switch.run("ovs-appctl", &["-t", &ctl, "ofproto/trace", "br-int", packet]);
    let answer = explain("trace", &trace).await;
    for end in [
        "  # base: port 4 (probe0) is monitoring/probe-0",
        "  # base: monitoring/probe-0 may send from 10.244.1.30",
        "  # base: monitoring/probe-0 is of class 1",
        "  # base: shop/db-0 is of class 3 (shop {app=db} and shop {})",
        "  # deny: a14512ee: shop/db-from-api, shop/default-deny",
    ] {
        assert!(answer.lines().any(|l| l.ends_with(end)), "no line ends with {end:?}:\n{answer}");
    }

    // a packet that is let through leaves an entry with the id of its rule
    let packet = "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:01:20),eth_type(0x0800),\
                  ipv4(src=10.244.2.10,dst=10.244.1.20,proto=6,tos=0,ttl=64,frag=no),\
                  tcp(src=40000,dst=5432),tcp_flags(syn)";
    let number = switch.run("ovs-appctl", &["-t", &ctl, "dpif/show"]);
    let uplink = number.lines().find(|l| l.contains("uplink0")).unwrap().to_owned();
    let datapath = uplink.split(['/', ':']).nth(1).unwrap().trim().to_owned();
    let packet = packet.replace("in_port(1)", &format!("in_port({datapath})"));
    switch.run("ovs-appctl", &["-t", &ctl, "netdev-dummy/receive", "uplink0", &packet]);
    let connections = switch.run("ovs-appctl", &["-t", &ctl, "dpctl/dump-conntrack"]);
    let answer = explain("connections", &connections).await;
    assert!(
        answer.contains(
            "  # shop/api-0 -> shop/db-0:5432; ingress by 48ea032b shop/db-from-api ingress[0]"
        ),
        "{answer}"
    );
}

#[tokio::test]
async fn what_cannot_be_is_said() {
    for (args, exit, text) in [
        (
            &["--switch", "unix:/nowhere/br-int.mgmt"][..],
            Exit::NoAnswer,
            "error: unix:/nowhere/br-int.mgmt: ",
        ),
        (
            &["--switch", "unix:/nowhere/br-int.mgmt", "--rule", "zz"],
            Exit::Usage,
            "error: --rule zz: write 8 hex digits",
        ),
        (&["--switch", "br-int"], Exit::Usage, "error: --switch: \"br-int\" is neither unix:PATH"),
        (&["--node", "n1"], Exit::Usage, "error: --node needs --server"),
        (&["--table", "Nowhere"], Exit::Usage, "error: invalid value 'Nowhere' for '--table"),
        (&["--policy", "x"], Exit::Usage, "error: invalid value 'x' for '--policy"),
        (&["--explain", "/nowhere"], Exit::Usage, "error: /nowhere: "),
        (&["--explain", "-", "--pod", "a"], Exit::Usage, "error: the argument '--explain"),
    ] {
        let all = ["weirctl", "flows"].into_iter().chain(args.iter().copied());
        let (got, answers, remarks) = weirctl(all).await;
        let remarks: Vec<&str> = remarks.lines().filter(|l| l.starts_with("error")).collect();
        assert_eq!((got, answers.as_str()), (exit, ""), "{args:?}");
        assert!(remarks[0].starts_with(text), "{args:?}: {remarks:?}");
    }
}
