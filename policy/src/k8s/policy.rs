//! NetworkPolicy.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::ids::{GroupId, PolicyKey};
use crate::labels::{LabelSelector, NamespaceScope, Selector};
use crate::net::{IpBlock, Prefix};
use crate::port::{PortMatch, Service};
use crate::rule::{
    Action, Direction, PeerItem, Peers, Policy, PolicyObject, PolicyRule, Rule, RuleItems,
    Services, Tier,
};

use super::at::{At, Problem};
use super::core::{identity, port_number, protocol, uid};
use super::selector::selector;
use super::{Rejection, Warning};

pub(super) fn network_policy(root: &At<'_>) -> Result<(PolicyObject, Vec<Warning>), Rejection> {
    let id = identity(root, "NetworkPolicy")?;
    let mut reader = Reader {
        title: id.title,
        namespace: id.namespace,
        subject: Selector::in_namespace(id.namespace, LabelSelector::everything()).id(),
        selectors: BTreeMap::new(),
        warnings: Vec::new(),
    };
    let mut policy = Policy {
        key: PolicyKey::network_policy(id.namespace, id.name),
        uid: uid(root).into(),
        generation: root
            .value
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or_default(),
        subject: reader.subject,
        isolates: BTreeSet::new(),
        rules: Vec::new(),
    };
    let mut items = Vec::new();
    reader.spec(root, &mut policy, &mut items);
    let Reader { selectors, warnings, .. } = reader;
    Ok((PolicyObject { policy, selectors, items }, warnings))
}

/// In which directions a policy isolates, and of which it has rules in force.
#[derive(Default)]
struct Directions {
    isolates: BTreeSet<Direction>,
    rules: BTreeSet<Direction>,
}

struct Reader<'a> {
    title: String,
    namespace: &'a str,
    subject: GroupId,
    selectors: BTreeMap<GroupId, Selector>,
    warnings: Vec<Warning>,
}

impl Reader<'_> {
    fn warn(&mut self, problem: Problem, effect: &str) {
        self.warnings.push(problem.warn(&self.title, effect));
    }

    fn spec(&mut self, root: &At<'_>, policy: &mut Policy, items: &mut Vec<RuleItems>) {
        let empty = Value::Object(serde_json::Map::new());
        let absent = At::root(&empty);
        let spec = root.field("spec").unwrap_or(absent);
        let mut understood = true;
        let mut unknown_field = false;
        if let Err(p) = spec.object() {
            self.warn(p, "the policy isolates every pod of its namespace and allows nothing");
            understood = false;
        } else if let Err(p) = spec.only(&["podSelector", "policyTypes", "ingress", "egress"]) {
            // perhaps a misspelt one of the four: take the strictest reading of what is then missing
            unknown_field = true;
            let effect = "what it was meant to say is missing and read in the strictest way";
            self.warn(p, effect);
        }

        let pods = match spec.field("podSelector") {
            Some(at) => selector(&at).map_err(Some),
            None if unknown_field => Err(None),
            // the field is a plain struct upstream: absent is empty, and empty is every pod (NP-1)
            None => Ok(LabelSelector::everything()),
        };
        let pods = pods.unwrap_or_else(|p| {
            understood = false;
            if let Some(p) = p {
                self.warn(p, "the policy isolates every pod of its namespace and allows nothing");
            }
            LabelSelector::everything()
        });
        let subject = self.group(Selector::in_namespace(self.namespace, pods));
        self.subject = subject;
        policy.subject = subject;

        let mut directions = self.directions(&spec);
        if unknown_field && spec.field("policyTypes").is_none() || spec.object().is_err() {
            directions.isolates = Direction::BOTH.into();
        }
        policy.isolates = directions.isolates;
        if !understood {
            return;
        }
        for direction in Direction::BOTH {
            if directions.rules.contains(&direction) {
                self.rules(&spec, direction, &mut policy.rules, items);
            }
        }
    }

    /// NP-8 and NP-9. An entry that cannot be understood isolates in both directions and opens none.
    fn directions(&mut self, spec: &At<'_>) -> Directions {
        let defaults = || {
            // a list with a rule in it, or something that was meant as one
            let egress = match spec.field("egress").map(|at| at.value) {
                None => false,
                Some(Value::Array(rules)) => !rules.is_empty(),
                Some(_) => true,
            };
            let mut set = BTreeSet::from([Direction::Ingress]);
            if egress {
                set.insert(Direction::Egress);
            }
            Directions { isolates: set.clone(), rules: set }
        };
        let Some(types) = spec.field("policyTypes") else {
            return defaults();
        };
        let mut out = Directions::default();
        let effect = "the policy isolates in both directions";
        let mut count = 0;
        match types.list() {
            Err(p) => {
                self.warn(p, effect);
                out.isolates = Direction::BOTH.into();
                return out;
            }
            Ok(items) => {
                for item in items {
                    count += 1;
                    let direction = match item.value.as_str() {
                        Some("Ingress") => Direction::Ingress,
                        Some("Egress") => Direction::Egress,
                        _ => {
                            self.warn(item.wrong("Ingress or Egress"), effect);
                            out.isolates = Direction::BOTH.into();
                            continue;
                        }
                    };
                    out.isolates.insert(direction);
                    out.rules.insert(direction);
                }
            }
        }
        if count == 0 { defaults() } else { out }
    }

    fn rules(
        &mut self,
        spec: &At<'_>,
        direction: Direction,
        rules: &mut Vec<PolicyRule>,
        items: &mut Vec<RuleItems>,
    ) {
        let Some(list) = spec.field(direction.as_str()) else {
            return;
        };
        let entries = match list.list() {
            Ok(entries) => entries,
            Err(p) => return self.warn(p, &format!("nothing is allowed for {direction}")),
        };
        for (n, entry) in entries.enumerate() {
            let (peers, services, list) = self.rule(&entry, direction);
            let rule = Rule {
                tier: Tier::NetworkPolicy,
                order: 0,
                direction,
                subject: self.subject,
                peers,
                services,
                action: Action::Allow,
            };
            if rule.universe().is_some() {
                self.group(Selector::all_pods());
            }
            rules.push(PolicyRule { path: format!("{direction}[{n}]").into(), rule });
            items.push(list);
        }
    }

    /// One rule: an entry of `ingress` or `egress` (NP-11).
    fn rule(&mut self, at: &At<'_>, direction: Direction) -> (Peers, Services, RuleItems) {
        let nothing = || Peers::Of { groups: BTreeSet::new(), blocks: BTreeSet::new() };
        let peers_field = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let mut list = RuleItems::default();
        if let Err(p) = at.only(&[peers_field, "ports"]) {
            self.warn(p, "this rule matches nothing");
            return (nothing(), Services::Of(BTreeSet::new()), list);
        }

        let peers = match at.field(peers_field).map(|at| (at, at.value.as_array())) {
            None => Peers::Any,
            Some((_, Some(entries))) if entries.is_empty() => Peers::Any,
            Some((field, _)) => {
                match field.list() {
                    Ok(entries) => {
                        for entry in entries {
                            let item = self.peer(&entry);
                            let item =
                                item.map_err(|p| self.warn(p, "this peer matches nothing")).ok();
                            list.peers.push(item);
                        }
                    }
                    Err(p) => self.warn(p, "this rule matches nothing"),
                }
                let (mut groups, mut blocks) = (BTreeSet::new(), BTreeSet::new());
                for item in list.peers.iter().flatten() {
                    match item {
                        PeerItem::Group(id) => drop(groups.insert(*id)),
                        PeerItem::Block(b) => drop(blocks.insert(b.clone())),
                    }
                }
                Peers::Of { groups, blocks }
            }
        };

        let services = match at.field("ports").map(|at| (at, at.value.as_array())) {
            None => Services::Any,
            Some((_, Some(entries))) if entries.is_empty() => Services::Any,
            Some((field, _)) => {
                match field.list() {
                    Ok(entries) => {
                        for entry in entries {
                            let item = service(&entry);
                            let item = item
                                .map_err(|p| self.warn(p, "this ports entry matches nothing"))
                                .ok();
                            list.services.push(item);
                        }
                    }
                    Err(p) => self.warn(p, "this rule matches nothing"),
                }
                Services::Of(list.services.iter().flatten().cloned().collect())
            }
        };
        (peers, services, list)
    }

    /// One entry of `from` or `to` (NP-12, NP-19).
    fn peer(&mut self, at: &At<'_>) -> Result<PeerItem, Problem> {
        at.only(&["podSelector", "namespaceSelector", "ipBlock"])?;
        let selector_of = |name: &'static str| at.field(name).map(|at| selector(&at)).transpose();
        let pods = selector_of("podSelector")?;
        let namespaces = selector_of("namespaceSelector")?;
        match (pods, namespaces, at.field("ipBlock")) {
            (None, None, None) => {
                Err(at.problem("write podSelector, namespaceSelector or ipBlock".to_owned()))
            }
            (None, None, Some(block)) => self.ip_block(&block).map(PeerItem::Block),
            (_, _, Some(_)) => Err(
                at.problem("ipBlock stands alone; write the selector as a second entry".to_owned())
            ),
            (Some(pods), None, None) => {
                Ok(PeerItem::Group(self.group(Selector::in_namespace(self.namespace, pods))))
            }
            (pods, Some(namespaces), None) => Ok(PeerItem::Group(self.group(Selector {
                namespaces: NamespaceScope::Labels(namespaces),
                pods: pods.unwrap_or_default(),
            }))),
        }
    }

    /// NP-14 to NP-17. One bad CIDR, in `except` too, and the whole block matches nothing: with an exception left out it
    /// would match more than was written.
    fn ip_block(&mut self, at: &At<'_>) -> Result<IpBlock, Problem> {
        at.only(&["cidr", "except"])?;
        let prefix = |at: &At<'_>| Prefix::parse(at.str()?).map_err(|e| at.problem(e.to_string()));
        let Some(cidr) = at.field("cidr") else {
            return Err(at.problem("cidr is missing".to_owned()));
        };
        let cidr = prefix(&cidr)?;
        let mut except = BTreeSet::new();
        if let Some(list) = at.field("except") {
            for entry in list.list()? {
                let hole = prefix(&entry)?;
                if !cidr.covers(&hole) && !hole.covers(&cidr) {
                    self.warn(
                        entry.problem(format!("lies outside {cidr}")),
                        "it takes nothing away",
                    );
                }
                except.insert(hole);
            }
        }
        Ok(IpBlock { cidr, except })
    }

    fn group(&mut self, selector: Selector) -> GroupId {
        let id = selector.id();
        self.selectors.insert(id, selector);
        id
    }
}

/// One entry of `ports` (NP-21, NP-23).
fn service(at: &At<'_>) -> Result<Service, Problem> {
    at.only(&["protocol", "port", "endPort"])?;
    let protocol = protocol(at)?;
    let port = match (at.field("port"), at.field("endPort")) {
        (None, None) => PortMatch::Any,
        (None, Some(end)) => return Err(end.problem("endPort needs a port".to_owned())),
        (Some(port), None) if port.value.is_string() => named(&port)?,
        (Some(port), None) => {
            let number = port_number(&port)?;
            PortMatch::Range { first: number, last: number }
        }
        (Some(port), Some(_)) if port.value.is_string() => {
            return Err(port.problem("endPort needs a port that is a number".to_owned()));
        }
        (Some(port), Some(end)) => {
            let (first, last) = (port_number(&port)?, port_number(&end)?);
            if last < first {
                return Err(end.problem(format!("endPort is below port {first}")));
            }
            PortMatch::Range { first, last }
        }
    };
    Ok(Service { protocol, port })
}

/// A port name as the API server takes it: 1..=15 of `a-z0-9-`, a letter among them. `"80"` is none, and no number.
fn named(at: &At<'_>) -> Result<PortMatch, Problem> {
    let name = at.str()?;
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        return Err(
            at.problem("a number in quotes is no port name; write it without quotes".to_owned())
        );
    }
    let fits = (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.bytes().any(|b| b.is_ascii_lowercase());
    if !fits {
        return Err(at.problem("no port can have this name".to_owned()));
    }
    Ok(PortMatch::Named(name.into()))
}
