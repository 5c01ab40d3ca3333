//! The cases on Open vSwitch: real pods on two nodes, policies as live changes, real connections.
//!
//! One testbed serves all cases. Between cases only what differs is changed, and nothing is restarted.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_policy::port::Protocol;

use crate::error::Result;
use crate::fleet::{Fleet, IN_FORCE, Setup, Spec, pod};
use crate::host::HostName;
use crate::matrix::{Cell, Observed, Verdicts};
use crate::out;
use crate::probe::Service;

use super::case::{Action, Case, Labels, Letter, Namespace, Pod};

/// Pods are spread over so many.
pub const NODES: u8 = 2;

/// Where cases are played: something that takes objects and has pods to probe. What comes back from a change to pods is true of
/// their network, too.
pub trait Ground {
    /// Creates or replaces a policy.
    fn put_policy(&mut self, policy: &Value) -> Result<()>;
    /// Deletes a policy.
    fn delete_policy(&mut self, namespace: &str, name: &str) -> Result<()>;
    /// Deletes every policy.
    fn delete_policies(&mut self) -> Result<()>;
    /// Creates a namespace or replaces its labels.
    fn put_namespace(&mut self, namespace: &Namespace) -> Result<()>;
    /// Deletes a namespace and what is in it. These pods are the ones in it.
    fn delete_namespace(&mut self, name: &str, pods: &[HostName]) -> Result<()>;
    /// Starts pods.
    fn create(&mut self, pods: &[Pod]) -> Result<()>;
    /// Ends pods.
    fn delete(&mut self, pods: &[HostName]) -> Result<()>;
    /// Replaces the labels of a pod.
    fn label(&mut self, namespace: &str, name: &str, labels: &Labels) -> Result<()>;
    /// Probes until everything is as expected, or time is up.
    fn settle(&mut self, expected: &Verdicts) -> Result<Observed>;
    /// Ends it.
    fn down(self) -> Result<()>;
}

/// Plays cases on a ground.
pub struct Live<G> {
    ground: G,
    pods: BTreeMap<HostName, Pod>,
    namespaces: BTreeMap<String, Namespace>,
    played: usize,
}

impl Live<Fleet> {
    /// Starts a fleet, whose controller reads manifests.
    pub fn up(name: &str) -> Result<Self> {
        out::progress(&format!("starting {NODES} nodes, controller and agents"));
        Ok(Self::on(Fleet::up(name, &Setup::nodes(NODES))?))
    }
}

impl<G: Ground> Live<G> {
    /// On a ground without pods and policies.
    pub const fn on(ground: G) -> Self {
        Self { ground, pods: BTreeMap::new(), namespaces: BTreeMap::new(), played: 0 }
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
            let seen = self.ground.settle(&expected)?;
            differences.extend(seen.differences().into_iter().map(|d| format!("step {n}: {d}")));
        }
        Ok(differences)
    }

    /// The world of a case, without policies.
    fn begin(&mut self, case: &Case) -> Result<()> {
        self.ground.delete_policies()?;
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
            self.delete_namespace(&name)?;
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
                self.ground.label(&pod.namespace, &pod.name, &pod.labels)?;
                self.pods.insert(pod.host(), pod);
            }
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::ApplyPolicy { policy } => self.ground.put_policy(policy),
            Action::DeletePolicy { namespace, name } => self.ground.delete_policy(namespace, name),
            Action::CreateNamespace { namespace } => self.namespace(namespace.clone()),
            Action::LabelNamespace { name, labels } => {
                self.namespace(Namespace { name: name.clone(), labels: labels.clone() })
            }
            Action::DeleteNamespace { name } => self.delete_namespace(name),
            Action::CreatePod { pod } => self.create(std::slice::from_ref(pod)),
            Action::LabelPod { namespace, name, labels } => {
                if let Some(pod) = self.pods.get_mut(&format!("{namespace}/{name}")) {
                    pod.labels.clone_from(labels);
                }
                self.ground.label(namespace, name, labels)
            }
            Action::DeletePod { namespace, name } => self.delete(&[format!("{namespace}/{name}")]),
        }
    }

    fn namespace(&mut self, namespace: Namespace) -> Result<()> {
        self.ground.put_namespace(&namespace)?;
        self.namespaces.insert(namespace.name.clone(), namespace);
        Ok(())
    }

    fn delete_namespace(&mut self, name: &str) -> Result<()> {
        let pods: Vec<HostName> =
            self.pods.values().filter(|p| p.namespace == name).map(Pod::host).collect();
        self.ground.delete_namespace(name, &pods)?;
        self.pods.retain(|_, p| p.namespace != name);
        self.namespaces.remove(name);
        Ok(())
    }

    fn create(&mut self, pods: &[Pod]) -> Result<()> {
        self.ground.create(pods)?;
        self.pods.extend(pods.iter().map(|p| (p.host(), p.clone())));
        Ok(())
    }

    fn delete(&mut self, names: &[HostName]) -> Result<()> {
        if !names.is_empty() {
            self.ground.delete(names)?;
        }
        self.pods.retain(|name, _| !names.contains(name));
        Ok(())
    }

    /// Ends the ground.
    pub fn down(self) -> Result<()> {
        self.ground.down()
    }
}

impl Ground for Fleet {
    fn put_policy(&mut self, policy: &Value) -> Result<()> {
        self.manifests_mut().put(policy.clone())
    }

    fn delete_policy(&mut self, namespace: &str, name: &str) -> Result<()> {
        self.manifests_mut().remove("NetworkPolicy", namespace, name).map(drop)
    }

    fn delete_policies(&mut self) -> Result<()> {
        self.manifests_mut().remove_all("NetworkPolicy", |_, _| true)
    }

    fn put_namespace(&mut self, namespace: &Namespace) -> Result<()> {
        self.manifests_mut().put_namespace(&namespace.name, &namespace.labels)
    }

    fn delete_namespace(&mut self, name: &str, pods: &[HostName]) -> Result<()> {
        if !pods.is_empty() {
            Ground::delete(self, pods)?;
        }
        self.manifests_mut().remove_all("NetworkPolicy", |ns, _| ns == name)?;
        self.manifests_mut().remove("Namespace", "", name).map(drop)
    }

    fn create(&mut self, pods: &[Pod]) -> Result<()> {
        self.add(&pods.iter().map(spec).collect::<Vec<_>>())
    }

    fn delete(&mut self, pods: &[HostName]) -> Result<()> {
        Self::delete(self, &pods.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn label(&mut self, namespace: &str, name: &str, labels: &Labels) -> Result<()> {
        self.manifests_mut().label("Pod", namespace, name, labels)
    }

    fn settle(&mut self, expected: &Verdicts) -> Result<Observed> {
        self.bed().settle(expected, IN_FORCE)
    }

    fn down(self) -> Result<()> {
        Self::down(self)
    }
}

fn spec(p: &Pod) -> Spec {
    let begun = pod(&p.host()).at(&[p.ip]).labels(&p.labels);
    p.ports.iter().fold(begun, |spec, port| {
        spec.names(&port.name, Service { protocol: port.protocol, port: port.port })
    })
}
