//! The cases on Open vSwitch: real pods on two nodes, policies as live changes, real connections.
//!
//! One fleet serves all cases. Between cases only what differs is changed, and nothing is restarted.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::fleet::{Fleet, IN_FORCE, Setup, Spec, pod};
use crate::host::HostName;
use crate::matrix::{Cell, Verdicts};
use crate::out;
use crate::probe::Service;
use weir_policy::port::Protocol;

use super::case::{Action, Case, Letter, Namespace, Pod};

/// Pods are spread over so many.
const NODES: u8 = 2;

/// A fleet that plays cases.
pub struct Live {
    fleet: Fleet,
    pods: BTreeMap<HostName, Pod>,
    namespaces: BTreeMap<String, Namespace>,
    played: usize,
}

impl Live {
    /// Starts the fleet.
    pub fn up(name: &str) -> Result<Self> {
        out::progress(&format!("starting {NODES} nodes, controller and agents"));
        Ok(Self {
            fleet: Fleet::up(name, &Setup::nodes(NODES))?,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            played: 0,
        })
    }

    /// Plays a case; one line for each cell that differs.
    pub fn play(&mut self, case: &Case) -> Result<Vec<String>> {
        self.played += 1;
        out::progress(&format!("{:>4} {}", self.played, case.title));
        self.begin(case)?;
        let mut differences = Vec::new();
        for (n, step) in case.steps.iter().enumerate() {
            for action in &step.actions {
                self.act(action)?;
            }
            let expected: Verdicts = step
                .expect
                .cells()
                .filter(|cell| cell.service.protocol != Protocol::Sctp)
                .map(|cell| {
                    let open = cell.letter == Letter::Open;
                    (Cell { from: cell.from, to: cell.to, service: cell.service, v6: false }, open)
                })
                .collect();
            let seen = self.fleet.bed().settle(&expected, IN_FORCE)?;
            differences.extend(seen.differences().into_iter().map(|d| format!("step {n}: {d}")));
        }
        Ok(differences)
    }

    /// The world of a case, without policies.
    fn begin(&mut self, case: &Case) -> Result<()> {
        self.fleet.manifests_mut().remove_all("NetworkPolicy", |_, _| true)?;
        let pods: BTreeMap<HostName, Pod> =
            case.world.pods.iter().map(|p| (p.host(), p.clone())).collect();
        let namespaces: BTreeMap<String, Namespace> =
            case.world.namespaces.iter().map(|n| (n.name.clone(), n.clone())).collect();

        // pods whose network differs come anew, those whose labels differ keep their network
        let gone: Vec<HostName> = self
            .pods
            .values()
            .filter(|old| {
                pods.get(&old.host()).is_none_or(|p| p.ip != old.ip || p.ports != old.ports)
            })
            .map(Pod::host)
            .collect();
        self.delete(&gone)?;
        let old: Vec<String> =
            self.namespaces.keys().filter(|n| !namespaces.contains_key(*n)).cloned().collect();
        for name in old {
            self.fleet.manifests_mut().remove("Namespace", "", &name)?;
            self.namespaces.remove(&name);
        }
        for namespace in namespaces.into_values() {
            if self.namespaces.get(&namespace.name) != Some(&namespace) {
                self.namespace(namespace)?;
            }
        }
        let new: Vec<Pod> =
            pods.values().filter(|p| !self.pods.contains_key(&p.host())).cloned().collect();
        self.create(&new)?;
        for pod in pods.into_values() {
            if self.pods.get(&pod.host()).is_some_and(|old| old.labels != pod.labels) {
                self.fleet.manifests_mut().label("Pod", &pod.namespace, &pod.name, &pod.labels)?;
                self.pods.insert(pod.host(), pod);
            }
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::ApplyPolicy { policy } => self.fleet.manifests_mut().put(policy.clone()),
            Action::DeletePolicy { namespace, name } => {
                self.fleet.manifests_mut().remove("NetworkPolicy", namespace, name).map(drop)
            }
            Action::CreateNamespace { namespace } => self.namespace(namespace.clone()),
            Action::LabelNamespace { name, labels } => {
                self.namespace(Namespace { name: name.clone(), labels: labels.clone() })
            }
            Action::DeleteNamespace { name } => {
                let pods: Vec<HostName> =
                    self.pods.values().filter(|p| p.namespace == *name).map(Pod::host).collect();
                self.delete(&pods)?;
                self.fleet.manifests_mut().remove_all("NetworkPolicy", |ns, _| ns == name)?;
                self.namespaces.remove(name);
                self.fleet.manifests_mut().remove("Namespace", "", name).map(drop)
            }
            Action::CreatePod { pod } => self.create(std::slice::from_ref(pod)),
            Action::LabelPod { namespace, name, labels } => {
                if let Some(pod) = self.pods.get_mut(&format!("{namespace}/{name}")) {
                    pod.labels.clone_from(labels);
                }
                self.fleet.manifests_mut().label("Pod", namespace, name, labels)
            }
            Action::DeletePod { namespace, name } => self.delete(&[format!("{namespace}/{name}")]),
        }
    }

    fn namespace(&mut self, namespace: Namespace) -> Result<()> {
        self.fleet.manifests_mut().put_namespace(&namespace.name, &namespace.labels)?;
        self.namespaces.insert(namespace.name.clone(), namespace);
        Ok(())
    }

    fn create(&mut self, pods: &[Pod]) -> Result<()> {
        let specs: Vec<Spec> = pods.iter().map(spec).collect();
        self.fleet.add(&specs)?;
        self.pods.extend(pods.iter().map(|p| (p.host(), p.clone())));
        Ok(())
    }

    fn delete(&mut self, names: &[HostName]) -> Result<()> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if !names.is_empty() {
            self.fleet.delete(&names)?;
        }
        for name in names {
            self.pods.remove(name);
        }
        Ok(())
    }

    /// Ends the fleet.
    pub fn down(self) -> Result<()> {
        self.fleet.down()
    }
}

fn spec(p: &Pod) -> Spec {
    let begun = pod(&p.host()).at(&[p.ip]).labels(&p.labels);
    p.ports.iter().fold(begun, |spec, port| {
        spec.names(&port.name, Service { protocol: port.protocol, port: port.port })
    })
}
