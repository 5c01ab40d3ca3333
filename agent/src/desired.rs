//! All inputs -> the flows the bridge should have.
//!
//! Every thing that causes flows (an owner) contributes parts of flows, computed by a pure function of what it depends
//! on; a flow is the sum of its parts. An update finds the owners that a change touches, replaces their parts, and says
//! which flows came out different. Starting from nothing is the same with everything touched, and gives the same flows.

mod cells;
pub mod judge;
mod policies;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use weir_policy::ids::{ContentHash, EndpointId, GroupId, PolicyKey, ProfileId, RuleId, Str};
use weir_policy::port::{NamedPort, Protocol};
use weir_policy::rule::{Direction, isolation_set};
use weir_policy::state::{Endpoint, NodeState, Touched};

use crate::classes::{Classes, Key};
use crate::flow::{FlowKey, FlowTable};
use crate::flows::{Contribution, Part, Rank, isolation, rule};
use crate::pipeline::{FlowPair, PipelineConfig, base, endpoint, multicast, port, regs};
use crate::ports::Ports;
use cells::Cells;
use policies::Policies;

/// Who contributes flows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Owner {
    Base,
    Multicast,
    Port(u32),
    Endpoint(EndpointId),
    Isolation(u32),
    Rule(ContentHash),
}

/// Endpoints of one profile.
#[derive(Default)]
struct ProfileUse {
    endpoints: BTreeSet<EndpointId>,
    /// Those on this node.
    local: usize,
    /// Addresses of all of them.
    addresses: usize,
}

/// What one round of an update has to look at again.
#[derive(Default)]
struct Dirty {
    rules: BTreeSet<ContentHash>,
    classes: BTreeSet<u32>,
    groups: BTreeSet<GroupId>,
    profiles: BTreeSet<ProfileId>,
    endpoints: BTreeSet<EndpointId>,
    ports: BTreeSet<u32>,
    /// Classes whose members may be others: is one of them on this node?
    members: BTreeSet<u32>,
}

/// The wanted flow table and what it was made from.
pub struct Desired {
    config: PipelineConfig,
    /// Numbers of addresses that were installed when we started; used up as profiles appear.
    before: BTreeMap<IpAddr, u32>,
    started: bool,
    node: Str,
    endpoints: HashMap<EndpointId, Arc<Endpoint>>,
    by_name: HashMap<(Str, Str), BTreeSet<EndpointId>>,
    used_by: HashMap<ProfileId, ProfileUse>,
    groups_of: HashMap<ProfileId, BTreeSet<GroupId>>,
    known_groups: BTreeSet<GroupId>,
    classes: Classes,
    local: BTreeSet<u32>,
    /// Isolated local classes with the id of their isolation set.
    isolated: BTreeMap<(Direction, u32), ContentHash>,
    policies: Policies,
    failed: BTreeMap<RuleId, String>,
    ports: Ports,
    node_addresses: BTreeSet<IpAddr>,
    cells: Cells<Owner>,
    /// Rules that have more or fewer flows than when somebody asked last.
    recounted: BTreeSet<ContentHash>,
}

impl Desired {
    /// Nothing yet. `numbers`: what the installed flows say ([`crate::classes::numbers_from`]).
    pub fn new(config: PipelineConfig, numbers: BTreeMap<IpAddr, u32>) -> Self {
        Self {
            config,
            before: numbers,
            started: false,
            node: "".into(),
            endpoints: HashMap::new(),
            by_name: HashMap::new(),
            used_by: HashMap::new(),
            groups_of: HashMap::new(),
            known_groups: BTreeSet::new(),
            classes: Classes::default(),
            local: BTreeSet::new(),
            isolated: BTreeMap::new(),
            policies: Policies::default(),
            failed: BTreeMap::new(),
            ports: Ports::default(),
            node_addresses: BTreeSet::new(),
            cells: Cells::default(),
            recounted: BTreeSet::new(),
        }
    }

    /// The wanted flows.
    pub fn flows(&self) -> &FlowTable {
        self.cells.flows()
    }

    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The isolation sets in force: direction, class, id, and the policies behind it.
    pub fn isolation_sets(
        &self,
    ) -> impl Iterator<Item = (Direction, u32, RuleId, BTreeSet<PolicyKey>)> {
        self.isolated.iter().filter_map(|((direction, class), content)| {
            let id = self.policies.ids.get(content)?;
            let key = &self.classes.get(*class)?.key;
            Some((*direction, *class, id, self.policies.isolating(*direction, &key.groups)))
        })
    }

    /// The rules in force: id, rule, and where each stands (policy and path).
    pub fn rules(
        &self,
    ) -> impl Iterator<Item = (RuleId, &weir_policy::rule::Rule, &BTreeSet<(PolicyKey, Str)>)> {
        self.policies
            .rules()
            .filter_map(|(content, e)| Some((self.policies.ids.get(content)?, &e.rule, &e.users)))
    }

    /// Takes in what changed and returns the flows that came out different.
    ///
    /// `state` is the whole state with the changes applied, `touched` what they touched (on the first call with a state
    /// everything counts as touched). Without a state, workload ports are closed (NP-42).
    pub fn update(
        &mut self,
        state: Option<&NodeState>,
        touched: &Touched,
        ports: &Ports,
    ) -> BTreeSet<FlowKey> {
        let mut dirty = Dirty::default();
        if let Some(state) = state {
            if self.started {
                self.take_in(state, touched, &mut dirty);
            } else {
                self.started = true;
                self.take_in(state, &everything(state), &mut dirty);
            }
        }
        self.take_ports(ports, &mut dirty);
        self.spread(&mut dirty);
        self.recompute(dirty);
        self.cells.take_changed()
    }

    /// Leaves a rule out because the switch refused it; the isolation of its subjects stays.
    pub fn fail_rule(&mut self, id: RuleId, reason: String) -> BTreeSet<FlowKey> {
        self.failed.insert(id, reason);
        if let Some(content) = self.policies.ids.content(id).copied() {
            self.cells.set(Owner::Rule(content), Vec::new());
            self.recounted.insert(content);
        }
        self.cells.take_changed()
    }

    /// How many flows have a part in the rules of a policy. Those that several of its rules share count once; drops of
    /// isolated endpoints, which policies share, do not count.
    pub fn flows_of(&self, policy: &PolicyKey) -> usize {
        let rules = self.policies.rules_in(policy);
        let mut rules = rules.iter().map(|content| Owner::Rule(*content));
        let (first, second) = (rules.next(), rules.next());
        match (first, second) {
            (None, _) => 0,
            (Some(only), None) => self.cells.count(&only),
            (Some(first), Some(second)) => {
                let all: Vec<Owner> = [first, second].into_iter().chain(rules).collect();
                all.iter().flat_map(|o| self.cells.keys(o)).collect::<BTreeSet<_>>().len()
            }
        }
    }

    /// Policies with rules whose number of flows changed: those of the next few rules, and of more at the next call.
    pub fn take_recounted(&mut self) -> BTreeSet<PolicyKey> {
        /// A change of one class can touch all rules of the node; its report is not to hold up the loop.
        const POLICIES: usize = 256;
        let mut out = BTreeSet::new();
        while out.len() < POLICIES
            && let Some(content) = self.recounted.pop_first()
        {
            let users = self.policies.rule(&content).map(|entry| &entry.users);
            out.extend(users.into_iter().flatten().map(|(key, _)| key.clone()));
        }
        out
    }

    /// Why policies are not wholly installed: `ingress[0]: REASON`.
    pub fn failures(&self) -> BTreeMap<PolicyKey, Vec<String>> {
        let mut out: BTreeMap<PolicyKey, Vec<String>> = BTreeMap::new();
        for (id, reason) in &self.failed {
            let entry = self.policies.ids.content(*id).and_then(|c| self.policies.rule(c));
            for (policy, path) in entry.into_iter().flat_map(|e| &e.users) {
                out.entry(policy.clone()).or_default().push(format!("{path}: {reason}"));
            }
        }
        out
    }

    /// The rules that contribute to a flow.
    pub fn rule_of(&self, key: &FlowKey) -> Vec<RuleId> {
        self.cells
            .owners(key)
            .filter_map(|o| match o {
                Owner::Rule(content) => self.policies.ids.get(content),
                _ => None,
            })
            .collect()
    }

    /// Groups, profiles, endpoints and policies, up to their classes.
    fn take_in(&mut self, state: &NodeState, touched: &Touched, dirty: &mut Dirty) {
        if self.node != state.node.name {
            self.node = Str::clone(&state.node.name);
        }
        if touched.node {
            self.node_addresses = state.node.addresses.clone();
        }
        let mut rekey: BTreeSet<ProfileId> = touched.profiles.clone();

        for id in &touched.groups {
            match state.groups.get(id) {
                Some(group) if self.known_groups.insert(*id) => {
                    for p in &group.members {
                        self.groups_of.entry(*p).or_default().insert(*id);
                    }
                    rekey.extend(&group.members);
                }
                Some(group) => {
                    for p in &touched.profiles {
                        if group.members.contains(p) {
                            self.groups_of.entry(*p).or_default().insert(*id);
                        } else if let Some(groups) = self.groups_of.get_mut(p) {
                            groups.remove(id);
                        }
                    }
                }
                None => {
                    self.known_groups.remove(id);
                    for p in &touched.profiles {
                        if let Some(groups) = self.groups_of.get_mut(p) {
                            groups.remove(id);
                        }
                    }
                }
            }
        }

        for id in &touched.endpoints {
            let new = state.endpoints.get(id).cloned().map(Arc::new);
            let old = match &new {
                Some(e) => self.endpoints.insert(id.clone(), Arc::clone(e)),
                None => self.endpoints.remove(id),
            };
            dirty.endpoints.insert(id.clone());
            for e in [&old, &new].into_iter().flatten() {
                rekey.insert(e.profile);
                dirty.profiles.insert(e.profile);
            }
            self.count_endpoint(id, old.as_deref(), new.as_deref(), dirty);
        }

        // policies: rules, isolation, and the named ports that rules ask for
        let names_before = self.policies.named_ports();
        for key in &touched.policies {
            self.policies.replace(key, state.policies.get(key), dirty);
        }
        let names = self.policies.named_ports();
        if names != names_before {
            let changed: BTreeSet<&(Str, Protocol)> =
                names.symmetric_difference(&names_before).collect();
            rekey.extend(
                state
                    .profiles
                    .iter()
                    .filter(|(_, p)| {
                        p.named_ports
                            .iter()
                            .any(|n| changed.contains(&(Str::clone(&n.name), n.protocol)))
                    })
                    .map(|(id, _)| *id),
            );
        }

        let keys: BTreeMap<ProfileId, Option<Key>> =
            rekey.into_iter().map(|p| (p, self.key_of(p, state, &names))).collect();
        let gone: Vec<ProfileId> =
            keys.keys().filter(|p| !state.profiles.contains_key(p)).copied().collect();
        let changed = self.classes.update(
            keys,
            |p| self.used_by.get(&p).map_or(0, |u| u.addresses),
            |p| {
                let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
                for id in self.used_by.get(&p).into_iter().flat_map(|u| &u.endpoints) {
                    for a in self.endpoints.get(id).into_iter().flat_map(|e| &e.addresses) {
                        if let Some(number) = self.before.get(a) {
                            *votes.entry(*number).or_default() += 1;
                        }
                    }
                }
                votes.into_iter().collect()
            },
        );
        self.before.clear();
        // A group may hold profiles that are not needed here, and so not known. When one of them is, its groups have to be.
        for p in gone {
            if self.groups_of.get(&p).is_some_and(BTreeSet::is_empty) {
                self.groups_of.remove(&p);
            }
        }
        dirty.groups.extend(&changed.groups);
        dirty.classes.extend(&changed.classes);
        dirty.profiles.extend(&changed.profiles);
        dirty.members.extend(&changed.members);
    }

    /// Keeps the counts per profile and the index by name.
    fn count_endpoint(
        &mut self,
        id: &EndpointId,
        old: Option<&Endpoint>,
        new: Option<&Endpoint>,
        dirty: &mut Dirty,
    ) {
        if let Some(e) = old {
            if let Some(u) = self.used_by.get_mut(&e.profile) {
                u.endpoints.remove(id);
                u.local -= usize::from(e.node == self.node);
                u.addresses -= e.addresses.len();
                if u.endpoints.is_empty() {
                    self.used_by.remove(&e.profile);
                }
            }
            let name = (Str::clone(&e.namespace), Str::clone(&e.name));
            if let Some(set) = self.by_name.get_mut(&name) {
                set.remove(id);
                if set.is_empty() {
                    self.by_name.remove(&name);
                }
            }
        }
        if let Some(e) = new {
            let u = self.used_by.entry(e.profile).or_default();
            u.endpoints.insert(id.clone());
            u.local += usize::from(e.node == self.node);
            u.addresses += e.addresses.len();
            self.by_name
                .entry((Str::clone(&e.namespace), Str::clone(&e.name)))
                .or_default()
                .insert(id.clone());
        }
        for e in [old, new].into_iter().flatten() {
            for (number, p) in &self.ports.workloads {
                if p.namespace == e.namespace && p.name == e.name {
                    dirty.ports.insert(*number);
                }
            }
        }
    }

    fn key_of(
        &self,
        profile: ProfileId,
        state: &NodeState,
        names: &BTreeSet<(Str, Protocol)>,
    ) -> Option<Key> {
        // without an address there is nothing to classify, and no flow to read the number back from
        self.used_by.get(&profile).filter(|u| u.addresses > 0)?;
        let content = state.profiles.get(&profile)?;
        let asked = |n: &&NamedPort| names.contains(&(Str::clone(&n.name), n.protocol));
        Some(Key {
            groups: self.groups_of.get(&profile).cloned().unwrap_or_default(),
            ports: content.named_ports.iter().filter(asked).cloned().collect(),
        })
    }

    fn take_ports(&mut self, ports: &Ports, dirty: &mut Dirty) {
        for number in self.ports.workloads.keys().chain(ports.workloads.keys()) {
            if self.ports.workloads.get(number) != ports.workloads.get(number) {
                dirty.ports.insert(*number);
            }
        }
        if self.ports != *ports {
            self.ports = ports.clone();
        }
    }

    /// From classes and groups to the rules, endpoints, drops and ports that depend on them.
    fn spread(&mut self, dirty: &mut Dirty) {
        // which classes have an endpoint here
        let mut look: BTreeSet<u32> = &dirty.classes | &dirty.members;
        look.extend(dirty.profiles.iter().filter_map(|p| self.classes.of(*p)));
        for class in look {
            let here = self.classes.get(class).is_some_and(|c| {
                c.members.iter().any(|p| self.used_by.get(p).is_some_and(|u| u.local > 0))
            });
            let changed = if here { self.local.insert(class) } else { self.local.remove(&class) };
            if changed {
                dirty.classes.insert(class);
                if let Some(c) = self.classes.get(class) {
                    dirty.groups.extend(&c.key.groups);
                }
            }
        }
        for group in &dirty.groups {
            dirty.rules.extend(self.policies.rules_of(*group));
            // subjects whose policies changed
            dirty.classes.extend(self.classes.in_group(*group));
        }
        for profile in &dirty.profiles {
            let used = self.used_by.get(profile);
            dirty.endpoints.extend(used.into_iter().flat_map(|u| &u.endpoints).cloned());
        }
    }

    fn recompute(&mut self, mut dirty: Dirty) {
        let mut addresses = self.node_addresses.clone();
        addresses.extend(&self.config.node_addresses);
        let mut flows = base::flows(&self.config);
        for (set, origin) in [
            (&self.ports.gateways, regs::origin::GATEWAY),
            (&self.ports.uplinks, regs::origin::UPLINK),
        ] {
            for p in set {
                flows.extend(base::node_port(*p, origin, addresses.iter().copied()));
            }
        }
        self.cells.set(Owner::Base, whole(flows));

        let mut renamed = BTreeSet::new();
        for class in std::mem::take(&mut dirty.classes) {
            self.recompute_isolation(class, &mut renamed);
        }
        if renamed.iter().any(|c| self.policies.rule(c).is_none()) {
            // a clash of ids renamed a drop: all of them are looked at again
            let isolated: BTreeSet<u32> = self.isolated.keys().map(|(_, c)| *c).collect();
            for class in isolated {
                self.recompute_isolation(class, &mut BTreeSet::new());
            }
        }
        dirty.rules.extend(renamed);
        for id in dirty.endpoints {
            let parts = self.endpoint_parts(&id);
            self.cells.set(Owner::Endpoint(id), parts);
        }
        for number in dirty.ports {
            let parts = self.port_parts(number);
            self.cells.set(Owner::Port(number), whole(parts));
        }
        let open = self.multicast_ports();
        let flows = multicast::flows(&open, &self.ports.switching);
        self.cells.set(Owner::Multicast, whole(flows));

        let ids = &self.policies.ids;
        self.failed.retain(|id, _| ids.content(*id).is_some());
        if self.policies.spread_over_banks() {
            dirty.rules.extend(self.policies.rules().map(|(c, _)| *c));
        }
        for content in dirty.rules {
            let parts = match (self.policies.rule(&content), self.policies.ids.get(&content)) {
                (Some(entry), Some(id)) if !self.failed.contains_key(&id) => {
                    let view = rule::View {
                        classes: &self.classes,
                        local: &self.local,
                        bank: self.policies.bank(id),
                    };
                    rule::contributions(&entry.rule, id, &view)
                }
                _ => Vec::new(),
            };
            let owner = Owner::Rule(content);
            let before = self.cells.count(&owner);
            self.cells.set(owner.clone(), parts);
            if self.cells.count(&owner) != before {
                self.recounted.insert(content);
            }
        }
    }

    /// Drops of one class. `renamed` takes in the contents, other than its own, whose id a clash changed.
    fn recompute_isolation(&mut self, class: u32, renamed: &mut BTreeSet<ContentHash>) {
        let mut flows = Vec::new();
        for direction in Direction::BOTH {
            let key = self.classes.get(class).map(|c| Arc::clone(&c.key));
            let policies = match key {
                Some(key) if self.local.contains(&class) => {
                    self.policies.isolating(direction, &key.groups)
                }
                _ => BTreeSet::new(),
            };
            let new = (!policies.is_empty()).then(|| isolation_set(direction, &policies));
            let old = match new {
                Some(content) => self.isolated.insert((direction, class), content),
                None => self.isolated.remove(&(direction, class)),
            };
            if old != new {
                // add before remove, so that an id both use is never freed in between
                let ids = &mut self.policies.ids;
                let mut others: Vec<_> = new.iter().flat_map(|c| ids.add(*c)).collect();
                others.extend(old.iter().flat_map(|c| ids.remove(c)));
                renamed.extend(others.into_iter().filter(|c| Some(*c) != new));
            }
            if let Some(id) = new.and_then(|c| self.policies.ids.get(&c)) {
                flows.extend(isolation::flows(&self.config, direction, class, id));
            }
        }
        self.cells.set(Owner::Isolation(class), whole(flows));
    }

    fn endpoint_parts(&self, id: &EndpointId) -> Vec<Contribution> {
        let Some(e) = self.endpoints.get(id) else {
            return Vec::new();
        };
        let Some(class) = self.classes.of(e.profile) else {
            return Vec::new();
        };
        let own: Vec<IpAddr> = e.addresses.iter().copied().collect();
        let local = e.node == self.node;
        // two that claim one address: the greater id has it, as in the evaluator
        let rank = Rank(0, Str::clone(&id.0));
        own.iter()
            .flat_map(|a| endpoint::flows(*a, class, local, &own))
            .map(|(key, value)| (key, Part::Whole { rank: rank.clone(), value }))
            .collect()
    }

    /// The endpoint of a workload port: of that name, on this node.
    fn endpoint_of_port(&self, number: u32) -> Option<&Arc<Endpoint>> {
        let p = self.ports.workloads.get(&number)?;
        let ids = self.by_name.get(&(Str::clone(&p.namespace), Str::clone(&p.name)))?;
        ids.iter().rev().filter_map(|id| self.endpoints.get(id)).find(|e| e.node == self.node)
    }

    fn port_parts(&self, number: u32) -> Vec<FlowPair> {
        let port = self.ports.workloads.get(&number);
        let Some(e) = self.endpoint_of_port(number) else {
            return port.and_then(|p| p.mac).map(port::closed).into_iter().collect();
        };
        let addresses: Vec<IpAddr> = e.addresses.iter().copied().collect();
        let mac = port.and_then(|p| p.mac).or(e.mac);
        port::flows(&port::PortSpec { ofport: number, mac, addresses: &addresses })
    }

    /// Ports that IP multicast and broadcast may reach.
    fn multicast_ports(&self) -> Vec<u32> {
        let opened = self.policies.rules().filter(|(content, entry)| {
            entry.rule.admits_all(Direction::Ingress)
                && self.policies.ids.get(content).is_some_and(|id| !self.failed.contains_key(&id))
        });
        let opened: BTreeSet<GroupId> = opened.map(|(_, entry)| entry.rule.subject).collect();
        let lets_in_all = |class: u32| {
            !self.isolated.contains_key(&(Direction::Ingress, class))
                || self.classes.get(class).is_some_and(|c| !c.key.groups.is_disjoint(&opened))
        };
        let open = self.ports.workloads.keys().filter(|n| {
            let endpoint = self.endpoint_of_port(**n);
            endpoint.and_then(|e| self.classes.of(e.profile)).is_some_and(lets_in_all)
        });
        let node = self.ports.gateways.iter().chain(&self.ports.uplinks);
        let mut out: Vec<u32> = open.chain(node).copied().collect();
        out.sort_unstable();
        out
    }

    /// The endpoint of a workload port is known, so that the port is not closed.
    pub fn is_open(&self, number: u32) -> bool {
        self.endpoint_of_port(number).is_some()
    }

    /// Workload ports whose endpoint is known, and those that are closed because it is not.
    pub fn port_counts(&self) -> (usize, usize) {
        let ready =
            self.ports.workloads.keys().filter(|n| self.endpoint_of_port(**n).is_some()).count();
        (ready, self.ports.workloads.len() - ready)
    }
}

fn everything(state: &NodeState) -> Touched {
    Touched {
        node: true,
        policies: state.policies.keys().cloned().collect(),
        groups: state.groups.keys().copied().collect(),
        profiles: state.profiles.keys().copied().collect(),
        endpoints: state.endpoints.keys().cloned().collect(),
    }
}

fn whole(flows: Vec<FlowPair>) -> Vec<Contribution> {
    let part = |(key, value): FlowPair| (key, Part::Whole { rank: Rank::default(), value });
    flows.into_iter().map(part).collect()
}
