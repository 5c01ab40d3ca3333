//! Files and the objects in them: what is in force, and what changed since the last look. No file is touched here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use weir_policy::ids::{PolicyKey, Str};
use weir_policy::k8s::{self, Object};
use weir_policy::world::{Kind, PodKey};

use super::super::{Code, Warning};
use super::generation::Generations;
use crate::event::Event;

mod gone;

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    Namespace(Str),
    Node(Str),
    Pod(PodKey),
    Workload(PodKey),
    Policy(PolicyKey),
}

impl Name {
    /// Of what has addresses.
    const fn endpoint(&self) -> Option<&PodKey> {
        match self {
            Self::Pod(key) | Self::Workload(key) => Some(key),
            _ => None,
        }
    }
}

/// One object as a file has it.
#[derive(Debug, PartialEq)]
struct Entry {
    name: Name,
    object: Object,
    /// The whole manifest of a policy; nothing for the others, which their objects say all about.
    manifest: Value,
    warnings: Vec<Warning>,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Nanoseconds.
    pub(super) modified: i128,
}

/// Something in a file that could not be understood.
#[derive(Debug)]
struct Lost {
    /// Which object it is; absent where it may be any.
    name: Option<Name>,
    /// Without what it says the picture could allow too much.
    widens: bool,
    problem: Warning,
}

#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    entries: Vec<Arc<Entry>>,
    lost: Vec<Lost>,
    problems: Vec<Warning>,
    /// It could not even be opened.
    unread: bool,
    /// It is not there any more; these are the policies that stay nevertheless.
    gone: bool,
}

/// What a text says.
#[derive(Debug, Default)]
struct Parsed {
    entries: Vec<Arc<Entry>>,
    lost: Vec<Lost>,
    /// What else is wrong.
    problems: Vec<Warning>,
}

/// The directory as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// Which files have an object; the first in path order is in force.
    holders: HashMap<Name, BTreeSet<PathBuf>>,
    /// What the events so far have told.
    live: HashMap<Name, Arc<Entry>>,
    /// Pods and workloads by their UIDs; the first in order of names has it.
    uids: HashMap<Str, BTreeSet<Name>>,
    /// Objects to look at on the next commit.
    touched: BTreeSet<Name>,
    generations: Generations,
    /// What is wrong with the directory itself.
    problem: Option<Warning>,
    /// Namespaces whose labels nobody knows. Without labels a selector with `NotIn` would let their pods in; so their
    /// pods are not known either, and closed.
    unknown: BTreeSet<Str>,
    /// Directories below it that cannot be read.
    unread: BTreeMap<PathBuf, Warning>,
}

impl Tree {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), ..Self::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Objects in force.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn set_problem(&mut self, problem: Option<Warning>) {
        self.problem = problem;
    }

    pub(super) fn has_problem(&self, problem: &Warning) -> bool {
        self.problem.as_ref() == Some(problem)
    }

    pub(super) fn stamp(&self, path: &Path) -> Option<Stamp> {
        self.files.get(path)?.stamp
    }

    pub(super) fn paths_under(&self, directory: &Path) -> Vec<PathBuf> {
        let under = self.files.keys().filter(|p| p.starts_with(directory));
        under.cloned().collect()
    }

    /// A directory cannot be read; what is known of it stays.
    pub(super) fn set_unread(&mut self, directory: &Path, reason: String) {
        let unread = BTreeMap::from([(directory.to_owned(), reason)]);
        self.set_all_unread(directory, unread);
    }

    /// A directory and all below was looked at, and these could not be read.
    pub(super) fn set_all_unread(&mut self, directory: &Path, unread: BTreeMap<PathBuf, String>) {
        let (old, others): (BTreeMap<_, _>, _) = std::mem::take(&mut self.unread)
            .into_iter()
            .partition(|(path, _)| path.starts_with(directory));
        self.unread = others;
        for (path, message) in unread {
            let object = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
            let problem = Warning { code: Code::Unreadable, object, field: String::new(), message };
            if old.get(&path) != Some(&problem) {
                tracing::warn!("{problem}; what is known of it stays");
            }
            self.unread.insert(path, problem);
        }
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty() || self.files.values().any(|f| f.unread)
    }

    pub(super) fn unread_directories(&self) -> Vec<PathBuf> {
        self.unread.keys().cloned().collect()
    }

    /// Files that could not even be opened.
    pub(super) fn unread_files(&self) -> Vec<PathBuf> {
        self.files.iter().filter(|(_, f)| f.unread).map(|(path, _)| path.clone()).collect()
    }

    /// A file was read, or could not be: without a stamp if it could not even be opened.
    pub(super) fn set(&mut self, path: &Path, stamp: Option<Stamp>, text: Result<String, String>) {
        let shown = path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        let unread = text.is_err() && stamp.is_none();
        let Parsed { mut entries, lost, problems } = match text {
            Ok(text) => parse(&shown, &text),
            Err(message) => Parsed {
                lost: vec![Lost {
                    name: None,
                    widens: true,
                    problem: Warning {
                        code: Code::Unreadable,
                        object: shown,
                        field: String::new(),
                        message,
                    },
                }],
                ..Parsed::default()
            },
        };
        let file = self.files.entry(path.to_owned()).or_default();
        let said =
            |p: &Warning| file.problems.contains(p) || file.lost.iter().any(|l| l.problem == *p);
        for problem in lost.iter().map(|l| &l.problem).chain(&problems).filter(|p| !said(p)) {
            tracing::warn!("{}: {}: {}", problem.object, problem.field, problem.message);
        }
        file.unread = unread;
        file.gone = false;
        file.stamp = stamp;
        file.problems = problems;
        file.lost = lost;
        let old = std::mem::take(&mut file.entries);
        for entry in &old {
            // what it had may be what can no longer be read: it stays
            let may_be_lost = |l: &Lost| l.name.as_ref().is_none_or(|name| *name == entry.name);
            let replaced = entries.iter().any(|e| e.name == entry.name);
            if !replaced && file.lost.iter().any(may_be_lost) {
                entries.push(Arc::clone(entry));
            }
        }
        file.entries.clone_from(&entries);
        for entry in old.iter().chain(&entries) {
            self.touched.insert(entry.name.clone());
        }
        for entry in old {
            self.unhold(&entry.name, path);
        }
        for entry in entries {
            self.holders.entry(entry.name.clone()).or_default().insert(path.to_owned());
        }
    }

    fn unhold(&mut self, name: &Name, path: &Path) {
        if let Some(holders) = self.holders.get_mut(name) {
            holders.remove(path);
            if holders.is_empty() {
                self.holders.remove(name);
            }
        }
    }

    /// The entry in force: the first in the first file.
    fn winner(&self, name: &Name) -> Option<Arc<Entry>> {
        if name.endpoint().is_some_and(|(namespace, _)| self.unknown.contains(namespace)) {
            return None;
        }
        let file = self.files.get(self.holders.get(name)?.first()?)?;
        file.entries.iter().find(|e| e.name == *name).cloned()
    }

    /// Works out again which namespaces are there and cannot be read, and touches their pods.
    fn settle_namespaces(&mut self) {
        let lost = self.files.values().flat_map(|f| &f.lost).filter_map(|l| l.name.as_ref());
        let unknown: BTreeSet<Str> = lost
            .filter(|name| !self.holders.contains_key(name))
            .filter_map(|name| match name {
                Name::Namespace(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        if unknown == self.unknown {
            return;
        }
        let differs = |ns: &Str| unknown.contains(ns) != self.unknown.contains(ns);
        let differ = |n: &&Name| n.endpoint().is_some_and(|(namespace, _)| differs(namespace));
        let moved = self.holders.keys().filter(differ);
        self.touched.extend(moved.cloned());
        self.unknown = unknown;
    }

    /// What changed since the last commit, as events.
    pub(super) fn commit(&mut self) -> Vec<Event> {
        self.settle_gone();
        self.settle_namespaces();
        let touched = std::mem::take(&mut self.touched);
        let mut changed = BTreeMap::new();
        // a UID that changes hands touches the other pods that carry it
        let mut sharing = BTreeSet::new();
        for name in &touched {
            let new = self.winner(name);
            let old = match &new {
                Some(new) => self.live.insert(name.clone(), Arc::clone(new)),
                None => self.live.remove(name),
            };
            self.note_uid(name, old.as_deref(), new.as_deref(), &mut sharing);
            if old != new {
                changed.insert(name.clone(), (old, new));
            }
        }
        for name in sharing {
            let entry = self.live.get(&name).cloned();
            changed.entry(name).or_insert_with(|| (entry.clone(), entry));
        }
        let mut out = Vec::new();
        for (name, (old, new)) in changed {
            match (old, new) {
                (_, Some(entry)) => out.push(self.applied(&entry)),
                (Some(_), None) => out.push(deleted(name)),
                (None, None) => {}
            }
        }
        out
    }

    fn note_uid(
        &mut self,
        name: &Name,
        old: Option<&Entry>,
        new: Option<&Entry>,
        sharing: &mut BTreeSet<Name>,
    ) {
        let uid = |entry: Option<&Entry>| match entry.map(|e| &e.object) {
            Some(Object::Pod(pod) | Object::Workload(pod)) if !pod.uid.is_empty() => {
                Some(pod.uid.clone())
            }
            _ => None,
        };
        let (old, new) = (uid(old), uid(new));
        if old == new {
            return;
        }
        if let Some(uid) = old
            && let Some(keys) = self.uids.get_mut(&uid)
        {
            keys.remove(name);
            sharing.extend(keys.iter().cloned());
            if keys.is_empty() {
                self.uids.remove(&uid);
            }
        }
        if let Some(uid) = new {
            let keys = self.uids.entry(uid).or_default();
            sharing.extend(keys.iter().cloned());
            keys.insert(name.clone());
        }
    }

    fn applied(&mut self, entry: &Entry) -> Event {
        match &entry.object {
            Object::Namespace { name, labels } => {
                Event::NamespaceApplied { name: name.clone(), labels: labels.clone() }
            }
            Object::Node(node) => Event::NodeApplied(node.clone()),
            Object::Pod(pod) | Object::Workload(pod) => {
                let mut pod = pod.clone();
                let first = self.uids.get(&pod.uid).and_then(BTreeSet::first);
                if first.is_some_and(|name| *name != entry.name) {
                    // two objects cannot be one; the warning says so
                    pod.uid = "".into();
                }
                match pod.kind {
                    Kind::Pod => Event::PodApplied(pod),
                    Kind::Workload => Event::WorkloadApplied(pod),
                }
            }
            Object::NetworkPolicy(object) => {
                let mut object = Box::new(object.clone());
                let mut manifest = trimmed(&object.policy.key, &entry.manifest);
                if object.policy.generation == 0 {
                    let spec = entry.manifest.get("spec");
                    object.policy.generation = self.generations.of(&object.policy.key, spec);
                }
                manifest["metadata"]["generation"] = object.policy.generation.into();
                Event::PolicyApplied { object, manifest: manifest.to_string().into() }
            }
        }
    }

    /// Why what was read so far is not to be taken for the whole: something that cannot be understood may be a policy.
    pub(super) fn incomplete(&self) -> Option<&Warning> {
        let lost = self.files.values().flat_map(|f| &f.lost);
        self.unread.values().chain(lost.filter(|l| l.widens).map(|l| &l.problem)).next()
    }

    /// Everything that is wrong now.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let mut out: Vec<Warning> = self.problem.iter().cloned().collect();
        out.extend(self.unread.values().cloned());
        let gone = self.files.iter().filter(|(_, file)| file.gone);
        out.extend(gone.filter_map(|(path, file)| self.warn_gone(path, file)));
        for file in self.files.values() {
            out.extend(file.lost.iter().map(|l| l.problem.clone()));
            out.extend(file.problems.iter().cloned());
            out.extend(file.entries.iter().flat_map(|e| e.warnings.iter().cloned()));
        }
        out.extend(self.unknown.iter().map(|name| Warning {
            code: Code::Unreadable,
            object: format!("Namespace {name}"),
            field: String::new(),
            message: "cannot be read; its pods are not known and stay closed".to_owned(),
        }));
        let mut twice: Vec<_> = self.holders.iter().filter(|(_, files)| files.len() > 1).collect();
        twice.sort();
        for (name, files) in twice {
            let shown = |p: &PathBuf| p.strip_prefix(&self.root).unwrap_or(p).display().to_string();
            let files: Vec<String> = files.iter().map(shown).collect();
            out.push(Warning {
                code: Code::Duplicate,
                object: title(name),
                field: String::new(),
                message: format!("is in {}; the first is in force", files.join(" and ")),
            });
        }
        for (uid, names) in self.uids.iter().filter(|(_, names)| names.len() > 1) {
            for name in names.iter().skip(1) {
                out.push(Warning {
                    code: Code::Duplicate,
                    object: title(name),
                    field: "metadata.uid".to_owned(),
                    message: format!("{uid} belongs to another pod of the directory; not used"),
                });
            }
        }
        for name in self.live.keys() {
            if let Name::Workload(key) = name
                && self.live.contains_key(&Name::Pod(key.clone()))
            {
                out.push(Warning {
                    code: Code::Duplicate,
                    object: title(name),
                    field: "metadata.name".to_owned(),
                    message: "a pod of the namespace has this name; the pod is in force".to_owned(),
                });
            }
        }
        out
    }
}

fn title(name: &Name) -> String {
    match name {
        Name::Namespace(name) => format!("Namespace {name}"),
        Name::Node(name) => format!("Node {name}"),
        Name::Pod((namespace, name)) => format!("Pod {namespace}/{name}"),
        Name::Workload((namespace, name)) => format!("Workload {namespace}/{name}"),
        Name::Policy(key) => format!("NetworkPolicy {key}"),
    }
}

fn deleted(name: Name) -> Event {
    // whatever has the name goes: a directory has no second object of one name behind it
    let uid = Str::from("");
    match name {
        Name::Namespace(name) => Event::NamespaceDeleted { name },
        Name::Node(name) => Event::NodeDeleted { name },
        Name::Pod((namespace, name)) => Event::PodDeleted { namespace, name, uid },
        Name::Workload((namespace, name)) => Event::WorkloadDeleted { namespace, name, uid },
        Name::Policy(key) => Event::PolicyDeleted { key, uid },
    }
}

/// A policy's manifest without what policy does not depend on.
fn trimmed(key: &PolicyKey, manifest: &Value) -> Value {
    let mut metadata = json!({ "namespace": &*key.namespace, "name": &*key.name });
    if let Some(uid) = manifest.pointer("/metadata/uid") {
        metadata["uid"] = uid.clone();
    }
    let mut out = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
    });
    if let Some(spec) = manifest.get("spec") {
        out["spec"] = spec.clone();
    }
    out
}

/// The objects of a text, and what is wrong with it.
fn parse(file: &str, text: &str) -> Parsed {
    let (documents, rejections) = k8s::read_documents(text);
    let mut out = Parsed::default();
    if documents.is_empty() && rejections.is_empty() {
        // as a command leaves it that failed before it wrote anything; nobody deletes objects that way on purpose
        let message = "empty; delete the file to remove its objects".to_owned();
        let problem = Warning {
            code: Code::Unreadable,
            object: file.to_owned(),
            field: String::new(),
            message,
        };
        out.lost.push(Lost { name: None, widens: true, problem });
    }
    for rejection in rejections {
        out.lost.push(Lost { name: None, widens: true, problem: rejected(file, rejection) });
    }
    let Parsed { entries, lost, problems } = &mut out;
    for value in documents.into_iter().flat_map(k8s::flatten) {
        let (object, warnings) = match k8s::object(&value) {
            Ok(read) => read,
            Err(rejection) => {
                let name = name_of(&value);
                // a pod that is not known is closed, as are those of a namespace that is not; and what has none of
                // these fields is a file of some other tool
                let narrows =
                    matches!(name, Some(Name::Pod(_) | Name::Node(_) | Name::Namespace(_)));
                let widens = !narrows
                    && (!value.is_object() || MANIFEST.iter().any(|f| value.get(f).is_some()));
                lost.push(Lost { name, widens, problem: rejected(file, rejection) });
                continue;
            }
        };
        let warnings: Vec<Warning> = warnings
            .into_iter()
            .map(|w| {
                let space = if w.value.is_empty() { "" } else { ": " };
                let message = format!("{}{space}{} ({file})", w.value, w.reason);
                Warning { code: Code::InvalidField, object: w.object, field: w.field, message }
            })
            .collect();
        let Some(object) = object else {
            problems.extend(warnings);
            continue;
        };
        let (name, manifest) = match &object {
            Object::Namespace { name, .. } => (Name::Namespace(name.clone()), Value::Null),
            Object::Node(node) => (Name::Node(node.name.clone()), Value::Null),
            Object::Pod(pod) => (Name::Pod(pod.key()), Value::Null),
            Object::Workload(w) => (Name::Workload(w.key()), Value::Null),
            Object::NetworkPolicy(p) => (Name::Policy(p.policy.key.clone()), value),
        };
        if entries.iter().any(|e| e.name == name) {
            problems.push(Warning {
                code: Code::Duplicate,
                object: title(&name),
                field: String::new(),
                message: format!("is twice in {file}; the first is in force"),
            });
            continue;
        }
        entries.push(Arc::new(Entry { name, object, manifest, warnings }));
    }
    out
}

/// The fields by which a document is meant for Kubernetes.
const MANIFEST: [&str; 3] = ["kind", "metadata", "spec"];

/// Which object a document is that is not taken; absent where that cannot be told.
fn name_of(value: &Value) -> Option<Name> {
    let name = Str::from(value.pointer("/metadata/name")?.as_str()?);
    let namespace = match value.pointer("/metadata/namespace") {
        None | Some(Value::Null) => "default",
        Some(namespace) => namespace.as_str()?,
    };
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    match value.get("kind").and_then(Value::as_str)? {
        "Namespace" => Some(Name::Namespace(name)),
        "Node" => Some(Name::Node(name)),
        "Pod" => Some(Name::Pod((namespace.into(), name))),
        "NetworkPolicy" => Some(Name::Policy(PolicyKey::network_policy(namespace, &name))),
        // a kind misspelt: any of the above
        _ => None,
    }
}

fn rejected(file: &str, rejection: k8s::Rejection) -> Warning {
    let k8s::Rejection { object, field, value, reason } = rejection;
    let colon = if field.is_empty() { "" } else { ": " };
    let space = if value.is_empty() { "" } else { ": " };
    Warning {
        code: Code::Rejected,
        object: file.to_owned(),
        field: format!("{object}{colon}{field}"),
        message: format!("{value}{space}{reason}"),
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
