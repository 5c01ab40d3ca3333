//! Plays the kubelets and the scheduler of a cluster: a Pod of the API becomes a namespace with a port on its node's bridge and
//! goes when it is deleted; nodes say that they are well.
//!
//! The probe server stands in for images: it listens on every port that a container declares. A Pod with the annotation
//! [`ADDRESSES`] gets these addresses, others the next free ones. What cannot be done stays undone in the Pod's status, and is
//! tried again as long as the API server is away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};

use super::client::{Client, is_missing};
use crate::address;
use crate::bed::Testbed;
use crate::error::{During, Error, Result};
use crate::host::{HostName, Workload};
use crate::out;
use crate::probe::{Service, lock};

/// The annotation that gives a Pod its addresses, with commas between.
pub const ADDRESSES: &str = "testbed.weir.io/addresses";
/// How often a node says that it is alive, as kubelets do.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// When what the API server did not take is said again.
const AGAIN: Duration = Duration::from_millis(250);

/// The kubelets at work. Dropping it ends them and leaves the pods.
pub struct Kubelet {
    orders: Sender<Order>,
    thread: Option<JoinHandle<Result<()>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

enum Order {
    Saw(Box<Event<Pod>>),
    End,
}

impl Kubelet {
    /// Makes the nodes of a testbed known to the API server and begins to follow its pods.
    pub fn start(client: &Client, bed: &Arc<Mutex<Testbed>>) -> Result<Self> {
        let nodes: BTreeMap<String, Vec<IpAddr>> =
            lock(bed).nodes().iter().map(|n| (n.name.clone(), n.addresses.clone())).collect();
        for (name, addresses) in &nodes {
            register(client, name, addresses)?;
        }
        let (orders, inbox) = mpsc::channel();
        let names: Vec<String> = nodes.keys().cloned().collect();
        let tasks = vec![
            client.runtime().spawn(follow(client.kube().clone(), orders.clone())),
            client.runtime().spawn(beat(client.kube().clone(), names)),
        ];
        let worker = Worker {
            client: client.clone(),
            bed: Arc::clone(bed),
            nodes,
            pods: BTreeMap::new(),
            listed: None,
            running: BTreeMap::new(),
            said: BTreeSet::new(),
            placed: 0,
            bound: BTreeMap::new(),
            turn: 0,
        };
        let thread = std::thread::Builder::new()
            .name("kubelet".to_owned())
            .spawn(move || worker.run(&inbox))
            .during(|| "starting a thread".to_owned())?;
        Ok(Self { orders, thread: Some(thread), tasks })
    }

    /// Errors: what made it give up, if anything did.
    pub fn check(&mut self) -> Result<()> {
        if self.thread.as_ref().is_some_and(|t| !t.is_finished()) {
            return Ok(());
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let _ = self.orders.send(Order::End);
        if let Some(Ok(Err(e))) = self.thread.take().map(JoinHandle::join) {
            out::warn(&format!("the kubelet gave up: {e}"));
        }
    }
}

/// Hands on what the API server says of pods, from the start again whenever it must.
async fn follow(kube: kube::Client, orders: Sender<Order>) {
    let pods = watcher(Api::<Pod>::all(kube), watcher::Config::default()).default_backoff();
    pin_mut!(pods);
    while let Some(event) = pods.next().await {
        // an error is followed by another try
        if let Ok(event) = event
            && orders.send(Order::Saw(Box::new(event))).is_err()
        {
            return;
        }
    }
}

/// Renews the leases of the nodes and their word that they are ready.
async fn beat(kube: kube::Client, nodes: Vec<String>) {
    let mut tick = tokio::time::interval(HEARTBEAT);
    loop {
        tick.tick().await;
        let now = Timestamp::now();
        for node in &nodes {
            // missed ones are made good by the next
            let _ = renew(&kube, node, now).await;
        }
    }
}

async fn renew(kube: &kube::Client, node: &str, now: Timestamp) -> kube::Result<()> {
    use k8s_openapi::api::coordination::v1::Lease;
    use k8s_openapi::api::core::v1::Node;
    let leases: Api<Lease> = Api::namespaced(kube.clone(), "kube-node-lease");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node},
        "spec": {
            "holderIdentity": node,
            "leaseDurationSeconds": 40,
            "renewTime": format!("{now:.6}"),
        },
    });
    let params = PatchParams::apply(FIELDS).force();
    leases.patch(node, &params, &Patch::Apply(&lease)).await?;
    let nodes: Api<Node> = Api::all(kube.clone());
    let status = json!({"status": {"conditions": [{
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "played by weir-testbed",
        "lastHeartbeatTime": seconds(now),
    }]}});
    nodes.patch_status(node, &PatchParams::default(), &Patch::Strategic(&status)).await.map(drop)
}

/// The owner of fields that it applies.
const FIELDS: &str = "weir-testbed-kubelet";

fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// Creates the object of a node.
fn register(client: &Client, name: &str, addresses: &[IpAddr]) -> Result<()> {
    use k8s_openapi::api::core::v1::Node;
    client.apply(&json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
        },
    }))?;
    let mut all: Vec<Value> =
        addresses.iter().map(|a| json!({"type": "InternalIP", "address": a.to_string()})).collect();
    all.push(json!({"type": "Hostname", "address": name}));
    let now = seconds(Timestamp::now());
    let room = json!({"cpu": "64", "memory": "64Gi", "pods": "1000"});
    let status = json!({"status": {
        "addresses": all,
        "capacity": room,
        "allocatable": room,
        "conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "played by weir-testbed",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }],
        "nodeInfo": {
            "architecture": "amd64",
            "bootID": "",
            "containerRuntimeVersion": "weir-testbed://0",
            "kernelVersion": "",
            "kubeProxyVersion": "",
            "kubeletVersion": concat!("v", env!("CARGO_PKG_VERSION"), "-weir-testbed"),
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "weir-testbed",
            "systemUUID": "",
        },
    }});
    let (nodes, name): (Api<Node>, _) = (Api::all(client.kube().clone()), name.to_owned());
    client.run(&format!("reporting node {name}"), async move {
        nodes
            .patch_status(&name, &PatchParams::default(), &Patch::Strategic(&status))
            .await
            .map(drop)
    })
}

/// Namespace and name.
type Key = (String, String);

/// The one that works: pods as the API has them on one side, what runs on the other.
struct Worker {
    client: Client,
    bed: Arc<Mutex<Testbed>>,
    nodes: BTreeMap<String, Vec<IpAddr>>,
    pods: BTreeMap<Key, Pod>,
    /// What a new list has brought so far.
    listed: Option<BTreeMap<Key, Pod>>,
    /// The uid of each pod that has a network.
    running: BTreeMap<Key, String>,
    /// The uids of pods whose status was taken.
    said: BTreeSet<String>,
    /// Addresses given so far.
    placed: u16,
    /// Where pods were bound to that the API does not show with a node yet.
    bound: BTreeMap<Key, String>,
    /// Pods scheduled so far.
    turn: usize,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Order>) -> Result<()> {
        let mut open = false;
        loop {
            let first = if open {
                match inbox.recv_timeout(AGAIN) {
                    Ok(order) => Some(order),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            } else {
                match inbox.recv() {
                    Ok(order) => Some(order),
                    Err(_) => return Ok(()),
                }
            };
            // what came together is done together
            for order in first.into_iter().chain(std::iter::from_fn(|| inbox.try_recv().ok())) {
                match order {
                    Order::Saw(event) => self.note(*event),
                    Order::End => return Ok(()),
                }
            }
            open = !self.work()?;
        }
    }

    fn note(&mut self, event: Event<Pod>) {
        match event {
            Event::Apply(pod) => {
                self.pods.insert(key_of(&pod), pod);
            }
            Event::Delete(pod) => {
                self.pods.remove(&key_of(&pod));
            }
            Event::Init => self.listed = Some(BTreeMap::new()),
            Event::InitApply(pod) => {
                self.listed.get_or_insert_default().insert(key_of(&pod), pod);
            }
            Event::InitDone => {
                if let Some(listed) = self.listed.take() {
                    self.pods = listed;
                }
            }
        }
    }

    /// Does what there is to do. False if some of it must be tried again.
    ///
    /// Errors: those of the machine; the API server's are a reason to try again.
    fn work(&mut self) -> Result<bool> {
        self.end_pods()?;
        self.start_pods()?;
        let told = [self.bind(), self.say(), self.finish()];
        Ok(told.into_iter().all(|done| done))
    }

    /// Takes the network of pods that are gone, going, or others by now.
    fn end_pods(&mut self) -> Result<()> {
        let gone: Vec<Key> = self
            .running
            .iter()
            .filter(|(key, uid)| {
                self.pods.get(key).is_none_or(|p| p.uid().as_ref() != Some(uid) || is_going(p))
            })
            .map(|(key, _)| key.clone())
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let names: Vec<HostName> = gone.iter().map(host_name).collect();
        lock(&self.bed).remove_pods(&names)?;
        for key in gone {
            if let Some(uid) = self.running.remove(&key) {
                self.said.remove(&uid);
            }
        }
        Ok(())
    }

    /// Gives a network to pods that have a node of ours and none yet.
    fn start_pods(&mut self) -> Result<()> {
        let mut bed = lock(&self.bed);
        let mut taken: BTreeSet<IpAddr> =
            bed.hosts().values().flat_map(|h| h.addresses.iter().copied()).collect();
        let mut new: Vec<(Key, String, Workload)> = Vec::new();
        for (key, pod) in &self.pods {
            let node = node_of(pod).filter(|n| self.nodes.contains_key(*n));
            let (Some(node), Some(uid)) = (node, pod.uid()) else {
                continue;
            };
            if self.running.contains_key(key) || is_going(pod) || is_host_network(pod) {
                continue;
            }
            let addresses = match given_addresses(pod) {
                Ok(Some(given)) => given,
                Ok(None) => loop {
                    self.placed = self.placed.wrapping_add(1);
                    let next = address::of_pod(self.placed);
                    if next.iter().all(|a| !taken.contains(a)) {
                        break next;
                    }
                },
                // stays pending; the annotation may be put right
                Err(_) => continue,
            };
            if addresses.iter().any(|a| taken.contains(a)) {
                continue;
            }
            taken.extend(&addresses);
            let workload = Workload::new(&host_name(key), node, &addresses, &services(pod));
            new.push((key.clone(), uid, workload));
        }
        if new.is_empty() {
            return Ok(());
        }
        let workloads: Vec<Workload> = new.iter().map(|(.., w)| w.clone()).collect();
        bed.add_pods(&workloads)?;
        drop(bed);
        self.running.extend(new.into_iter().map(|(key, uid, _)| (key, uid)));
        Ok(())
    }

    /// Gives pods without a node one, in turn among those that they may run on.
    fn bind(&mut self) -> bool {
        let mut bindings: Vec<(String, String, String)> = Vec::new();
        let pods = &self.pods;
        self.bound.retain(|key, _| pods.get(key).is_some_and(|pod| node_of(pod).is_none()));
        for ((namespace, name), pod) in &self.pods {
            let gated = pod
                .spec
                .as_ref()
                .is_some_and(|s| s.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()));
            if node_of(pod).is_some() || is_going(pod) || gated {
                continue;
            }
            // again to the same node, in case the first time failed
            if let Some(node) = self.bound.get(&(namespace.clone(), name.clone())) {
                bindings.push((namespace.clone(), name.clone(), node.clone()));
                continue;
            }
            let shunned = self.shunned(pod, &bindings);
            let fit: Vec<&String> =
                self.nodes.keys().filter(|n| may_run_on(pod, n) && !shunned.contains(*n)).collect();
            let Some(node) = fit.get(self.turn % fit.len().max(1)) else {
                continue;
            };
            self.turn += 1;
            bindings.push((namespace.clone(), name.clone(), (*node).clone()));
        }
        for (namespace, name, node) in &bindings {
            self.bound.insert((namespace.clone(), name.clone()), node.clone());
        }
        let kube = self.client.kube().clone();
        self.tell(bindings, move |(namespace, name, node)| {
            let pods: Api<Pod> = Api::namespaced(kube.clone(), &namespace);
            async move {
                let binding = json!({
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": name, "namespace": namespace},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node},
                });
                let bound: kube::Result<Value> = pods
                    .create_subresource("binding", &name, &PostParams::default(), &binding)
                    .await;
                bound.map(drop)
            }
        })
        .is_empty()
    }

    /// The nodes with a pod that this one must not share a node with.
    fn shunned(&self, pod: &Pod, bindings: &[(String, String, String)]) -> BTreeSet<String> {
        let terms = pod
            .spec
            .as_ref()
            .and_then(|s| s.affinity.as_ref())
            .and_then(|a| a.pod_anti_affinity.as_ref())
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let mut out = BTreeSet::new();
        for term in terms.into_iter().flatten() {
            let Some(wanted) = term.label_selector.as_ref().and_then(|s| s.match_labels.as_ref())
            else {
                continue;
            };
            for (key, other) in &self.pods {
                let matches = other.namespace() == pod.namespace()
                    && wanted.iter().all(|(k, v)| other.labels().get(k) == Some(v));
                if !matches {
                    continue;
                }
                let now = bindings.iter().find(|(ns, name, _)| (ns, name) == (&key.0, &key.1));
                let before = || self.bound.get(key);
                let node = node_of(other).map(str::to_owned);
                let node = node.or_else(|| now.map(|b| b.2.clone())).or_else(|| before().cloned());
                out.extend(node);
            }
        }
        out
    }

    /// Reports pods that run.
    fn say(&mut self) -> bool {
        let mut reports = Vec::new();
        let bed = lock(&self.bed);
        for (key, pod) in &self.pods {
            let Some(uid) = pod.uid().filter(|uid| !self.said.contains(uid)) else {
                continue;
            };
            if is_going(pod) {
                continue;
            }
            let Some(own) = node_of(pod).and_then(|n| self.nodes.get(n)) else {
                continue;
            };
            let addresses = if is_host_network(pod) {
                own.clone()
            } else if self.running.get(key) == Some(&uid) {
                match bed.host(&host_name(key)) {
                    Ok(host) => host.addresses.clone(),
                    Err(_) => continue,
                }
            } else {
                continue;
            };
            reports.push((key.clone(), uid, status(pod, &addresses, own)));
        }
        drop(bed);
        let uids: BTreeSet<String> = reports.iter().map(|(_, uid, _)| uid.clone()).collect();
        let kube = self.client.kube().clone();
        let failed = self.tell(reports, move |((namespace, name), _, status)| {
            let pods: Api<Pod> = Api::namespaced(kube.clone(), &namespace);
            async move {
                pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&status))
                    .await
                    .map(drop)
            }
        });
        let all_well = failed.is_empty();
        let failed: BTreeSet<String> = failed.into_iter().map(|(_, uid, _)| uid).collect();
        self.said.extend(uids.difference(&failed).cloned());
        all_well
    }

    /// Lets go of deleted pods whose network is gone.
    fn finish(&mut self) -> bool {
        let gone: Vec<(Key, String)> = self
            .pods
            .iter()
            .filter(|(key, pod)| is_going(pod) && !self.running.contains_key(*key))
            .filter(|(_, pod)| node_of(pod).is_none_or(|n| self.nodes.contains_key(n)))
            .filter_map(|(key, pod)| Some((key.clone(), pod.uid()?)))
            .collect();
        let kube = self.client.kube().clone();
        self.tell(gone, move |((namespace, name), uid)| {
            let pods: Api<Pod> = Api::namespaced(kube.clone(), &namespace);
            async move {
                let params = DeleteParams {
                    grace_period_seconds: Some(0),
                    preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
                    ..DeleteParams::default()
                };
                pods.delete(&name, &params).await.map(drop)
            }
        })
        .is_empty()
    }

    /// Makes a call for each of some items, all at once, and returns those whose call must be made again. A pod that is gone
    /// or another by now needs none.
    fn tell<T, F>(&self, items: Vec<T>, call: impl Fn(T) -> F + Send + 'static) -> Vec<T>
    where
        T: Clone + Send + 'static,
        F: Future<Output = kube::Result<()>> + Send,
    {
        if items.is_empty() {
            return Vec::new();
        }
        let told = self.client.run("reporting pods", async move {
            Ok(join_all(items.into_iter().map(|item| {
                let made = call(item.clone());
                async move {
                    match made.await {
                        Ok(()) => None,
                        Err(e) if is_missing(&e) || is_conflict(&e) => None,
                        Err(e) => {
                            out::progress(&format!("kubelet: {e}"));
                            Some(item)
                        }
                    }
                }
            }))
            .await)
        });
        told.unwrap_or_default().into_iter().flatten().collect()
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn key_of(pod: &Pod) -> Key {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

fn host_name((namespace, name): &Key) -> HostName {
    format!("{namespace}/{name}")
}

const fn is_going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
}

/// What the containers declare to listen on.
fn services(pod: &Pod) -> Vec<Service> {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let mut out: Vec<Service> = containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let protocol = p.protocol.as_deref().unwrap_or("TCP").parse().ok()?;
            Some(Service { protocol, port: u16::try_from(p.container_port).ok()? })
        })
        .collect();
    out.sort();
    out.dedup();
    out
}

fn given_addresses(pod: &Pod) -> Result<Option<Vec<IpAddr>>> {
    let Some(text) = pod.annotations().get(ADDRESSES) else {
        return Ok(None);
    };
    let addresses: Result<Vec<IpAddr>, _> = text.split(',').map(|a| a.trim().parse()).collect();
    addresses.map(Some).map_err(|_| Error::Content {
        file: format!("Pod {}", host_name(&key_of(pod))).into(),
        field: format!("metadata.annotations[{ADDRESSES}]"),
        reason: format!("{text:?} is no list of addresses"),
    })
}

/// What of the scheduler's rules the testbed follows: the labels of nodes that it gives them, the way a DaemonSet names the
/// node of each of its pods, and required anti-affinity by labels, with the node as its domain.
fn may_run_on(pod: &Pod, node: &str) -> bool {
    let Some(spec) = &pod.spec else {
        return false;
    };
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| match &**key {
        "kubernetes.io/hostname" => value == node,
        "kubernetes.io/os" => value == "linux",
        "kubernetes.io/arch" => value == "amd64",
        _ => false,
    });
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let named = required.is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| {
            term.match_fields.iter().flatten().all(|field| {
                field.key == "metadata.name"
                    && field.operator == "In"
                    && field.values.iter().flatten().any(|v| v == node)
            })
        })
    });
    selected && named
}

/// The status of a pod that runs.
fn status(pod: &Pod, addresses: &[IpAddr], node: &[IpAddr]) -> Value {
    let now = seconds(Timestamp::now());
    let ips = |list: &[IpAddr]| -> Vec<Value> {
        list.iter().map(|a| json!({"ip": a.to_string()})).collect()
    };
    let first = |list: &[IpAddr]| list.first().map(ToString::to_string);
    let containers: &[Container] = pod.spec.as_ref().map_or(&[], |s| &s.containers);
    let running: Vec<Value> = containers
        .iter()
        .map(|c| {
            json!({
                "name": c.name,
                "image": c.image.as_deref().unwrap_or_default(),
                "imageID": "weir-testbed",
                "ready": true,
                "started": true,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            })
        })
        .collect();
    let conditions: Vec<Value> =
        ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"]
            .iter()
            .map(|t| json!({"type": t, "status": "True", "lastTransitionTime": now}))
            .collect();
    json!({
        "metadata": {"uid": pod.uid()},
        "status": {
            "phase": "Running",
            "startTime": now,
            "hostIP": first(node),
            "hostIPs": ips(node),
            "podIP": first(addresses),
            "podIPs": ips(addresses),
            "conditions": conditions,
            "containerStatuses": running,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{tcp, udp};

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn declared_ports_are_served() {
        let pod = pod(json!({"spec": {"containers": [
            {"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]},
            {"name": "b", "ports": [{"containerPort": 80}]},
        ]}}));
        let services = services(&pod);
        assert_eq!(services.len(), 2);
        assert!(services.contains(&tcp(80)) && services.contains(&udp(53)));
    }

    #[test]
    fn nodes_are_chosen_as_pods_say() {
        let any = pod(json!({"spec": {"containers": []}}));
        assert!(may_run_on(&any, "n1"));
        let daemon = pod(json!({"spec": {"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]}}}}}));
        assert!(!may_run_on(&daemon, "n1") && may_run_on(&daemon, "n2"));
        let picky = pod(json!({"spec": {"containers": [], "nodeSelector": {"disk": "fast"}}}));
        assert!(!may_run_on(&picky, "n1"));
    }

    #[test]
    fn addresses_can_be_asked_for() {
        let asks = |text: &str| {
            given_addresses(&pod(json!({"metadata": {"annotations": {ADDRESSES: text}}})))
        };
        assert_eq!(asks("10.10.0.1, fd00::1").unwrap().unwrap().len(), 2);
        let error = asks("10.10.0").unwrap_err().to_string();
        assert!(error.contains(ADDRESSES), "{error}");
        assert_eq!(given_addresses(&Pod::default()).unwrap(), None);
    }

    #[test]
    fn times_are_as_the_api_wants_them() {
        let time: Timestamp = "2026-01-02T03:04:05.678901234Z".parse().unwrap();
        assert_eq!(seconds(time), "2026-01-02T03:04:05Z");
        assert_eq!(format!("{time:.6}"), "2026-01-02T03:04:05.678901Z");
    }
}
