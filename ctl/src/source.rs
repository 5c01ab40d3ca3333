//! Where objects come from. Both sources yield [`Objects`]; everything behind them is the same.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_policy::ids::Str;
use weir_policy::k8s;
use weir_policy::labels::LabelSelector;
use weir_policy::world::{PodKey, World};

use crate::args::SourceArgs;
use crate::exit::Failure;
use crate::names::Kind;
use crate::out::Out;

pub mod cluster;
pub mod files;
pub mod nodes;
pub mod server;
pub mod switch;

/// What a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    pub namespace: Str,
    pub name: Str,
    pub kind: Kind,
}

/// A Service as far as it stands for pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub selector: Option<LabelSelector>,
    /// Port, protocol as written, and the number or name at the pod.
    pub ports: Vec<(u16, String, Value)>,
}

/// Where the objects came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Files { names: Vec<String>, objects: usize },
    Server { revision: u64 },
}

/// Everything a command needs.
#[derive(Debug)]
pub struct Objects {
    pub world: World,
    workloads: BTreeMap<PodKey, Workload>,
    pub services: BTreeMap<PodKey, Service>,
    pub origin: Origin,
}

impl Objects {
    /// What a pod belongs to; itself, where nothing owns it.
    pub fn workload(&self, key: &PodKey) -> Workload {
        self.workloads.get(key).cloned().unwrap_or_else(|| Workload {
            namespace: key.0.clone(),
            name: key.1.clone(),
            kind: Kind::Pod,
        })
    }

    /// Those of pods that take part in policy.
    pub fn workload_count(&self) -> usize {
        let all: std::collections::BTreeSet<Workload> =
            self.world.endpoints().map(|p| self.workload(&p.key())).collect();
        all.len()
    }
}

/// Reads the source that the command line names.
pub async fn read(args: &SourceArgs, out: &mut Out<'_>) -> Result<Objects, Failure> {
    if !args.files.is_empty() {
        return files::read(&args.files, out);
    }
    match &args.server {
        Some(server) => server::read(server, args, out).await,
        None => Err(Failure::Usage(
            "name a source: -f PATH or --server HOST:PORT (a kubeconfig is not read in this version)"
                .to_owned(),
        )),
    }
}

/// Takes documents one by one and puts the world together.
#[derive(Debug, Default)]
struct Collector {
    world: World,
    workloads: BTreeMap<PodKey, Workload>,
    services: BTreeMap<PodKey, Service>,
    templates: Vec<Value>,
    objects: usize,
    rejected: usize,
}

impl Collector {
    /// One document, from `place` (a file); what is wrong with it is said at once.
    fn document(&mut self, value: Value, place: &str, out: &mut Out<'_>) {
        for value in k8s::flatten(value) {
            self.object(value, place, out);
        }
    }

    fn reject(&mut self, place: &str, reason: &dyn std::fmt::Display, out: &mut Out<'_>) {
        self.rejected += 1;
        out.remark(&format!("{place}: {reason}"));
    }

    fn object(&mut self, value: Value, place: &str, out: &mut Out<'_>) {
        let Some(kind) = value.get("kind").and_then(Value::as_str).map(str::to_owned) else {
            // values files and the like lie beside manifests
            out.remark(&format!("{place}: warning: a document without a kind is left out"));
            return;
        };
        self.objects += 1;
        match kind.as_str() {
            "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob" => {
                self.templates.push(value);
                return;
            }
            "Service" => {
                if let Some((key, service)) = service(&value) {
                    self.services.insert(key, service);
                }
                return;
            }
            _ => {}
        }
        match k8s::object(&value) {
            Ok((object, warnings)) => {
                for warning in warnings {
                    out.remark(&format!("{place}: warning: {warning}"));
                }
                let Some(object) = object else { return };
                if let k8s::Object::Pod(pod) = &object
                    && let Some(workload) = owner(&value, &pod.namespace)
                {
                    self.workloads.insert(pod.key(), workload);
                }
                object.put(&mut self.world);
            }
            Err(rejection) => self.reject(place, &rejection, out),
        }
    }

    /// Workloads without pods of their own stand in with pods made from their template.
    fn finish(mut self, origin: Origin, out: &mut Out<'_>) -> Objects {
        for value in std::mem::take(&mut self.templates) {
            let Some((workload, pods)) = template(&value) else {
                out.remark("warning: a workload without a usable name is left out");
                continue;
            };
            if self.workloads.values().any(|w| *w == workload) {
                continue;
            }
            for pod in pods {
                match k8s::object(&pod) {
                    Ok((Some(k8s::Object::Pod(pod)), _)) => {
                        self.workloads.insert(pod.key(), workload.clone());
                        self.world.pods.entry(pod.key()).or_insert(pod);
                    }
                    Ok(_) => {}
                    Err(rejection) => out.remark(&format!("warning: {rejection}")),
                }
            }
        }
        for refusal in self.world.refusals() {
            out.remark(&format!("warning: {refusal}"));
        }
        let Self { world, workloads, services, .. } = self;
        Objects { world, workloads, services, origin }
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|s| !s.is_empty())
}

fn kind_of(word: &str) -> Option<Kind> {
    Some(match word {
        "Deployment" => Kind::Deployment,
        "StatefulSet" => Kind::StatefulSet,
        "DaemonSet" => Kind::DaemonSet,
        "Job" => Kind::Job,
        "CronJob" => Kind::CronJob,
        _ => return None,
    })
}

/// The workload of a pod by its controlling owner; a ReplicaSet belongs to the Deployment whose name it extends.
fn owner(pod: &Value, namespace: &Str) -> Option<Workload> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners
        .iter()
        .find(|o| o.get("controller") == Some(&Value::Bool(true)))
        .or_else(|| owners.first())?;
    let (kind, name) = (text(owner, "/kind")?, text(owner, "/name")?);
    let (kind, name) = match kind_of(kind) {
        Some(kind) => (kind, name),
        None if kind == "ReplicaSet" => {
            let hash = text(pod, "/metadata/labels/pod-template-hash")?;
            (Kind::Deployment, name.strip_suffix(hash)?.strip_suffix('-')?)
        }
        None => return None,
    };
    Some(Workload { namespace: namespace.clone(), name: name.into(), kind })
}

/// Pods as a workload would make them: two where it makes several, so that they may meet each other.
fn template(value: &Value) -> Option<(Workload, Vec<Value>)> {
    let kind = kind_of(text(value, "/kind")?)?;
    let name = text(value, "/metadata/name")?;
    let namespace = text(value, "/metadata/namespace").unwrap_or("default");
    let path = match kind {
        Kind::CronJob => "/spec/jobTemplate/spec/template",
        _ => "/spec/template",
    };
    let several = match kind {
        Kind::DaemonSet => true,
        Kind::Deployment | Kind::StatefulSet => {
            value.pointer("/spec/replicas").and_then(Value::as_u64).is_some_and(|n| n > 1)
        }
        _ => false,
    };
    let template = value.pointer(path)?;
    let make = |name: String| {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "labels": template.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({})),
            },
            "spec": template.get("spec").cloned().unwrap_or_else(|| json!({})),
        })
    };
    let mut pods = vec![make(name.to_owned())];
    if several {
        pods.push(make(format!("{name}-2")));
    }
    Some((Workload { namespace: namespace.into(), name: name.into(), kind }, pods))
}

fn service(value: &Value) -> Option<(PodKey, Service)> {
    let name = text(value, "/metadata/name")?;
    let namespace = text(value, "/metadata/namespace").unwrap_or("default");
    let selector =
        value.pointer("/spec/selector").and_then(Value::as_object).filter(|s| !s.is_empty());
    let selector = selector.map(|s| {
        LabelSelector::labels(s.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())))
    });
    let ports = value.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    let ports = ports
        .filter_map(|p| {
            let number = p.get("port")?.as_u64().and_then(|n| u16::try_from(n).ok())?;
            let protocol = text(p, "/protocol").unwrap_or("TCP").to_owned();
            let target = p.get("targetPort").cloned().unwrap_or_else(|| number.into());
            Some((number, protocol, target))
        })
        .collect();
    Some(((namespace.into(), name.into()), Service { selector, ports }))
}
