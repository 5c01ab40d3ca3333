//! The directory source on a real file system.

#![allow(clippy::unwrap_used, reason = "a failure of the rig is a failure of the test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_controller::event::Event;
use weir_controller::source::{Intake, dir, line};
use weir_runtime::ready::Ready;
use weir_runtime::task::{Task, spawn};

fn namespace(name: &str) -> String {
    format!("---\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

struct Rig {
    dir: tempfile::TempDir,
    intake: Intake,
    ready: Ready,
    _task: Task<()>,
}

impl Rig {
    /// Follows `root` below a new directory.
    fn at(root: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::with(root, dir::Options::default(), prepare)
    }

    fn with(root: &str, options: dir::Options, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let (feed, intake) = line();
        let ready = Ready::new();
        let task =
            spawn("source", dir::run(dir.path().join(root), options, feed, ready.gate("source")));
        Self { dir, intake, ready, _task: task }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The next batch, as `+ns -ns ...`.
    async fn batch(&mut self) -> String {
        let batch = self.intake.batches.recv().await.expect("the source goes on");
        let show = |event: &Event| match event {
            Event::NamespaceApplied { name, labels } if labels.is_empty() => format!("+{name}"),
            Event::NamespaceApplied { name, labels } => format!("+{name}({labels})"),
            Event::NamespaceDeleted { name } => format!("-{name}"),
            Event::Synced => "synced".to_owned(),
            other => format!("{other:?}"),
        };
        batch.events.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    /// Waits until the warnings are these many, and gives them.
    async fn warnings(&mut self, count: usize) -> Vec<String> {
        let warnings = self.intake.warnings.wait_for(|w| w.len() == count).await.unwrap();
        warnings.iter().map(|w| format!("{}: {}: {}", w.object, w.field, w.message)).collect()
    }
}

#[tokio::test]
async fn files_come_change_and_go() {
    let mut rig = Rig::at("", |dir| fs::write(dir.join("a.yaml"), namespace("a")).unwrap());
    assert_eq!(rig.batch().await, "+a synced");
    assert!(rig.ready.is_ready());
    rig.write("b.yml", &namespace("b"));
    assert_eq!(rig.batch().await, "+b");
    rig.write("notes.txt", &namespace("x"));
    rig.write(".hidden.yaml", &namespace("x"));
    rig.write("b.yml", "kind: Namespace\nmetadata: {name: b, labels: {k: v}}\n");
    assert_eq!(rig.batch().await, "+b(k=v)");
    fs::remove_file(rig.path("a.yaml")).unwrap();
    assert_eq!(rig.batch().await, "-a");
    // moved within: the same objects, no event but for the new one
    fs::rename(rig.path("b.yml"), rig.path("c.json")).unwrap();
    rig.write("d.yaml", &namespace("d"));
    assert_eq!(rig.batch().await, "+d");
    fs::rename(rig.path("d.yaml"), rig.path("d.yaml~")).unwrap();
    assert_eq!(rig.batch().await, "-d");
}

#[tokio::test]
async fn editors_save_in_their_own_ways() {
    // longer than this machine can be busy with other things between two of the steps
    let options = dir::Options { removal_grace: Duration::from_secs(60) };
    let mut rig =
        Rig::with("", options, |dir| fs::write(dir.join("a.yaml"), namespace("a")).unwrap());
    assert_eq!(rig.batch().await, "+a synced");
    // write aside, rename over
    rig.write("a.yaml.tmp", &format!("{}{}", namespace("a"), namespace("b")));
    fs::rename(rig.path("a.yaml.tmp"), rig.path("a.yaml")).unwrap();
    assert_eq!(rig.batch().await, "+b");
    // move the old one away, write anew: its objects are not missing in between
    fs::rename(rig.path("a.yaml"), rig.path("a.yaml~")).unwrap();
    rig.write("a.yaml", &format!("{}{}", namespace("a"), namespace("c")));
    assert_eq!(rig.batch().await, "-b +c");
    // delete and create again
    fs::remove_file(rig.path("a.yaml")).unwrap();
    rig.write("a.yaml", &format!("{}{}", namespace("a"), namespace("d")));
    assert_eq!(rig.batch().await, "-c +d");
}

/// A file that is being written is left alone until its writer closes it.
#[tokio::test]
async fn half_a_file_is_no_file() {
    use std::io::Write;
    let both = format!("{}{}", namespace("a"), namespace("b"));
    let mut rig = Rig::at("", |dir| fs::write(dir.join("a.yaml"), &both).unwrap());
    assert_eq!(rig.batch().await, "+a +b synced");
    let mut file = fs::File::create(rig.path("a.yaml")).unwrap();
    file.write_all(namespace("a").as_bytes()).unwrap();
    file.flush().unwrap();
    // something else is seen meanwhile, in this directory and below
    rig.write("other.yaml", &namespace("o"));
    assert_eq!(rig.batch().await, "+o");
    fs::create_dir(rig.path("sub")).unwrap();
    rig.write("sub/s.yaml", &namespace("s"));
    assert_eq!(rig.batch().await, "+s");
    file.write_all(namespace("c").as_bytes()).unwrap();
    drop(file);
    assert_eq!(rig.batch().await, "-b +c");
}

#[tokio::test]
async fn directories_come_and_go() {
    let mut rig = Rig::at("", |dir| {
        fs::create_dir_all(dir.join("x/y")).unwrap();
        fs::write(dir.join("x/y/a.yaml"), namespace("a")).unwrap();
    });
    assert_eq!(rig.batch().await, "+a synced");
    fs::write(rig.path("x/y/b.yaml"), namespace("b")).unwrap();
    assert_eq!(rig.batch().await, "+b");
    // a whole tree at once
    fs::create_dir_all(rig.path("new/deep")).unwrap();
    fs::write(rig.path("new/deep/c.yaml"), namespace("c")).unwrap();
    assert_eq!(rig.batch().await, "+c");
    fs::write(rig.path("new/deep/c.yaml"), namespace("d")).unwrap();
    assert_eq!(rig.batch().await, "-c +d");
    // moved out, changed there, moved back
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(rig.path("new"), elsewhere.path().join("new")).unwrap();
    assert_eq!(rig.batch().await, "-d");
    fs::write(elsewhere.path().join("new/deep/c.yaml"), namespace("e")).unwrap();
    fs::rename(elsewhere.path().join("new"), rig.path("back")).unwrap();
    assert_eq!(rig.batch().await, "+e");
    fs::remove_dir_all(rig.path("x")).unwrap();
    let mut gone = rig.batch().await;
    // two files, one after the other
    if gone != "-a -b" {
        gone = format!("{gone} {}", rig.batch().await);
    }
    assert!(gone == "-a -b" || gone == "-b -a", "{gone}");
}

/// How the kubelet updates a mounted ConfigMap: files are links through `..data`, which is swapped.
#[tokio::test]
async fn configmaps_change_at_once() {
    let fill = |dir: &Path, version: &str, files: &[(&str, &str)]| {
        let data = dir.join(format!("..{version}"));
        fs::create_dir(&data).unwrap();
        for (name, text) in files {
            fs::write(data.join(name), namespace(text)).unwrap();
        }
        symlink(format!("..{version}"), dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    let mut rig = Rig::at("", |dir| {
        fill(dir, "1", &[("a.yaml", "a1"), ("b.yaml", "b1")]);
        symlink("..data/a.yaml", dir.join("a.yaml")).unwrap();
        symlink("..data/b.yaml", dir.join("b.yaml")).unwrap();
    });
    assert_eq!(rig.batch().await, "+a1 +b1 synced");
    fill(rig.dir.path(), "2", &[("a.yaml", "a2"), ("b.yaml", "b2")]);
    assert_eq!(rig.batch().await, "-a1 +a2 -b1 +b2");
    fs::remove_dir_all(rig.path("..1")).unwrap();
    // a key goes, another comes
    fill(rig.dir.path(), "3", &[("a.yaml", "a3"), ("c.yaml", "c3")]);
    fs::remove_file(rig.path("b.yaml")).unwrap();
    symlink("..data/c.yaml", rig.path("c.yaml")).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(rig.batch().await.split(' ').map(str::to_owned));
    }
    seen.sort();
    assert_eq!(seen, ["+a3", "+c3", "-a2", "-b2"]);
}

#[tokio::test]
async fn a_directory_that_is_not_there_yet_is_waited_for() {
    let mut rig = Rig::at("later", |_| {});
    let warnings = rig.warnings(1).await;
    assert!(
        warnings[0].contains("later cannot be read; create it, or correct --source"),
        "{warnings:?}"
    );
    assert!(!rig.ready.is_ready());
    assert!(rig.ready.report()[0].reason.contains("cannot be read"));
    // moved into place, so that it is whole when it is found
    fs::create_dir(rig.path("other")).unwrap();
    rig.write("other/a.yaml", &namespace("a"));
    fs::rename(rig.path("other"), rig.path("later")).unwrap();
    assert_eq!(rig.batch().await, "+a synced");
    rig.warnings(0).await;
    assert!(rig.ready.is_ready());

    // it vanishes: what it held stays, and it is followed again when it is back
    fs::rename(rig.path("later"), rig.path("away")).unwrap();
    let warnings = rig.warnings(1).await;
    assert!(warnings[0].contains("gone") || warnings[0].contains("cannot be read"), "{warnings:?}");
    rig.write("away/b.yaml", &namespace("b"));
    fs::rename(rig.path("away"), rig.path("later")).unwrap();
    assert_eq!(rig.batch().await, "+b");
    rig.warnings(0).await;
    rig.write("later/c.yaml", &namespace("c"));
    assert_eq!(rig.batch().await, "+c");
}

#[tokio::test]
async fn bad_files_are_named() {
    let mut rig = Rig::at("", |dir| {
        fs::write(dir.join("a.yaml"), namespace("a")).unwrap();
        fs::write(dir.join("bad.yaml"), "kind: {").unwrap();
        fs::write(dir.join("latin.yaml"), b"kind: Namespace # \xe4\n").unwrap();
    });
    assert_eq!(rig.batch().await, "+a");
    let warnings = rig.warnings(2).await;
    assert!(warnings[0].starts_with("bad.yaml: document 1: line 1"), "{warnings:?}");
    assert_eq!(warnings[1], "latin.yaml: : is not UTF-8 at byte 18");
    rig.write("bad.yaml", &namespace("b"));
    assert_eq!(rig.batch().await, "+b");
    rig.write("latin.yaml", &namespace("l"));
    assert_eq!(rig.batch().await, "+l synced");
    rig.warnings(0).await;
    // broken again: what it had stays
    rig.write("bad.yaml", "kind: {");
    rig.warnings(1).await;
    rig.write("a.yaml", &namespace("c"));
    assert_eq!(rig.batch().await, "-a +c");
    assert!(rig.ready.is_ready());
}

/// What a file says that cannot be read is not known at the start: nobody may be told that it says nothing.
#[tokio::test]
async fn a_bad_file_at_the_start_holds_back_the_picture() {
    for (text, reason) in [
        ("kind: {", "bad.yaml: document 1: line 1"),
        ("kind: NetworkPolicy\nmetadata: {nme: db}\n", "bad.yaml: NetworkPolicy: metadata.name"),
        ("kid: NetworkPolicy\nmetadata: {name: db}\n", "bad.yaml: object: kind: missing"),
        ("policies\n", "bad.yaml: object"),
    ] {
        for mended in [true, false] {
            let mut rig = Rig::at("", |dir| {
                fs::write(dir.join("a.yaml"), namespace("a")).unwrap();
                fs::write(dir.join("bad.yaml"), text).unwrap();
            });
            assert_eq!(rig.batch().await, "+a", "{text}");
            let said = rig.intake.waits_for.wait_for(|r| !r.is_empty()).await.unwrap().clone();
            assert!(said.starts_with(reason), "{said}");
            assert_eq!(rig.ready.report()[0].reason, said);
            if mended {
                rig.write("bad.yaml", &namespace("b"));
                assert_eq!(rig.batch().await, "+b synced");
            } else {
                fs::remove_file(rig.path("bad.yaml")).unwrap();
                assert_eq!(rig.batch().await, "synced");
            }
            assert!(rig.ready.is_ready());
            assert_eq!(*rig.intake.waits_for.borrow(), "");
        }
    }
}

/// These can only close something, or are not meant for Kubernetes.
#[tokio::test]
async fn what_only_narrows_holds_back_nothing() {
    let mut rig = Rig::at("", |dir| {
        let policy = "kind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: 5}\n";
        fs::write(dir.join("policy.yaml"), policy).unwrap();
        let pod = "kind: Pod\nmetadata: {name: p, labels: {on: true}}\n";
        fs::write(dir.join("pod.yaml"), pod).unwrap();
        fs::write(dir.join("kustomization.yaml"), "resources: [pod.yaml]\n").unwrap();
    });
    let batch = rig.batch().await;
    assert!(batch.starts_with("PolicyApplied") && batch.ends_with("synced"), "{batch}");
    rig.warnings(3).await;
}

/// What makes a directory unreadable to everybody: a link that leads to itself. It takes the place of `name` at once.
fn make_unreadable(root: &Path, name: &str) {
    symlink(name, root.join(".new")).unwrap();
    fs::rename(root.join(".new"), root.join(name)).unwrap();
}

/// A directory that cannot be read says nothing, and in particular not that it is empty.
#[tokio::test]
async fn an_unreadable_directory_keeps_what_it_had() {
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().to_owned();
    fs::create_dir(outside.join("policies")).unwrap();
    fs::write(outside.join("policies/a.yaml"), namespace("a")).unwrap();
    symlink("policies", outside.join("way")).unwrap();
    let mut rig = Rig::at("", |dir| {
        symlink(outside.join("way"), dir.join("sub")).unwrap();
        fs::write(dir.join("o.yaml"), namespace("o")).unwrap();
    });
    assert_eq!(rig.batch().await, "+a +o synced");
    make_unreadable(&outside, "way");
    // the look at everything that lost events and a swapped ConfigMap lead to
    rig.write("..data_tmp", "");
    rig.write("b.yaml", &namespace("b"));
    assert_eq!(rig.batch().await, "+b");
    fs::rename(rig.path("..data_tmp"), rig.path("..data")).unwrap();
    let warnings = rig.warnings(1).await;
    assert!(warnings[0].starts_with("sub: : cannot be read: "), "{warnings:?}");
    rig.write("b.yaml", &namespace("c"));
    assert_eq!(rig.batch().await, "-b +c");
    // readable again, of which no event tells
    fs::write(outside.join("policies/a.yaml"), namespace("d")).unwrap();
    symlink("policies", outside.join("new")).unwrap();
    fs::rename(outside.join("new"), outside.join("way")).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(rig.batch().await.split(' ').map(str::to_owned));
    }
    assert_eq!(seen, ["-a", "+d"]);
    rig.warnings(0).await;
}

#[tokio::test]
async fn an_unreadable_directory_or_file_at_the_start_holds_back_the_picture() {
    for name in ["sub", "sub.yaml"] {
        let mut rig = Rig::at("", |dir| {
            fs::write(dir.join("o.yaml"), namespace("o")).unwrap();
            make_unreadable(dir, name);
        });
        assert_eq!(rig.batch().await, "+o");
        let said = rig.intake.waits_for.wait_for(|r| !r.is_empty()).await.unwrap().clone();
        assert!(said.starts_with(&format!("{name}: cannot be read: ")), "{said}");
        fs::remove_file(rig.path(name)).unwrap();
        assert_eq!(rig.batch().await, "synced");
        rig.warnings(0).await;
    }
}
