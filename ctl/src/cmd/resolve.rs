//! Names -> ends of connections.

use std::net::IpAddr;

use weir_policy::eval::{self, Connection, End, L4};
use weir_policy::world::{Pod, PodKey, World};

use crate::exit::Failure;
use crate::names::{Kind, Name, Port};
use crate::source::Objects;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) ends: Vec<Candidate>,
    /// The name is a Service: what reaches it goes on to a pod (NP-30).
    pub(super) service: Option<PodKey>,
}

/// An end before it is known in which family it is asked for.
#[derive(Clone, Debug)]
pub(super) enum Candidate {
    Pod(PodKey),
    Node(String),
    Address(IpAddr),
}

pub(super) fn target(objects: &Objects, name: &Name, namespace: &str) -> Result<Target, Failure> {
    let world = &objects.world;
    let plain = |ends| Target { ends, service: None };
    match name {
        Name::Address(address) => Ok(plain(vec![Candidate::Address(*address)])),
        Name::Node(node) => {
            if !world.nodes.contains_key(node.as_str()) {
                let all = world.nodes.keys().map(|n| n.to_string());
                return Err(not_found("node", node.clone(), node, all));
            }
            Ok(plain(vec![Candidate::Node(node.clone())]))
        }
        Name::Object { namespace: typed, kind, name } => {
            let namespace = typed.as_deref().unwrap_or(namespace);
            let key: PodKey = (namespace.into(), name.as_str().into());
            let shown = format!("{namespace}/{name}");
            match kind {
                None | Some(Kind::Pod) => {
                    if world.pod(&key).is_none() {
                        let all = world.all_pods().map(|p| format!("{}/{}", p.namespace, p.name));
                        return Err(not_found("pod", shown.clone(), &shown, all));
                    }
                    Ok(plain(vec![Candidate::Pod(key)]))
                }
                Some(Kind::Service) => service(objects, key, shown),
                Some(kind) => {
                    let of = |p: &&Pod| {
                        let w = objects.workload(&p.key());
                        w.kind == *kind && *w.name == **name && *w.namespace == *namespace
                    };
                    let pods: Vec<Candidate> =
                        world.endpoints().filter(of).map(|p| Candidate::Pod(p.key())).collect();
                    if pods.is_empty() {
                        let all = world.endpoints().map(|p| objects.workload(&p.key()));
                        let all = all
                            .filter(|w| w.kind == *kind)
                            .map(|w| format!("{}/{}", w.namespace, w.name));
                        return Err(not_found(kind.as_str(), shown.clone(), &shown, all));
                    }
                    Ok(plain(pods))
                }
            }
        }
    }
}

fn service(objects: &Objects, key: PodKey, shown: String) -> Result<Target, Failure> {
    let Some(service) = objects.services.get(&key) else {
        let all = objects.services.keys().map(|(ns, n)| format!("{ns}/{n}"));
        return Err(not_found("Service", shown.clone(), &shown, all));
    };
    let Some(selector) = &service.selector else {
        return Err(Failure::Usage(format!("Service {shown} has no selector; name its endpoints")));
    };
    let picked = |p: &&Pod| p.namespace == key.0 && selector.matches(&p.labels);
    let ends: Vec<Candidate> =
        objects.world.endpoints().filter(picked).map(|p| Candidate::Pod(p.key())).collect();
    if ends.is_empty() {
        return Err(Failure::Usage(format!("Service {shown} selects no pod")));
    }
    Ok(Target { ends, service: Some(key) })
}

fn not_found(
    what: &'static str,
    name: String,
    wanted: &str,
    all: impl Iterator<Item = String>,
) -> Failure {
    // a name that differs by a few letters, or the same one elsewhere
    let tail = |s: &str| s.rsplit('/').next().unwrap_or_default().to_owned();
    let near = all
        .map(|other| {
            (if tail(&other) == tail(wanted) { 1 } else { distance(&other, wanted) }, other)
        })
        .min();
    let hint = match near {
        Some((d, other)) if d <= 3 => format!("; did you mean {other}?"),
        _ => String::new(),
    };
    Failure::NotFound { what, name, hint }
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Every address a candidate has; none where it is not known.
fn addresses(world: &World, candidate: &Candidate) -> Vec<IpAddr> {
    match candidate {
        Candidate::Address(a) => vec![*a],
        Candidate::Node(n) => world
            .nodes
            .get(n.as_str())
            .map(|n| n.addresses.iter().copied().collect())
            .unwrap_or_default(),
        Candidate::Pod(key) => world.pod(key).map(|p| p.addresses.clone()).unwrap_or_default(),
    }
}

fn end(world: &World, candidate: &Candidate, address: Option<IpAddr>) -> Option<End> {
    match candidate {
        Candidate::Pod(key) => Some(End::Pod { key: key.clone(), address }),
        Candidate::Node(name) => Some(End::Node { name: name.as_str().into(), address: address? }),
        Candidate::Address(a) => Some(eval::end(world, *a)),
    }
}

/// The connections between two candidates, one for each family that both have.
pub(super) fn connections(world: &World, src: &Candidate, dst: &Candidate) -> Vec<Connection> {
    let (from, to) = (addresses(world, src), addresses(world, dst));
    let make = |a: Option<IpAddr>, b: Option<IpAddr>| {
        let l4 = L4::ping(b.or(a).unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)));
        Some(Connection {
            src: end(world, src, a)?,
            dst: end(world, dst, b)?,
            l4,
            via_service: false,
        })
    };
    if from.is_empty() || to.is_empty() {
        return make(from.first().copied(), to.first().copied()).into_iter().collect();
    }
    [false, true]
        .into_iter()
        .filter_map(|v6| {
            let first = |list: &[IpAddr]| list.iter().copied().find(|a| a.is_ipv6() == v6);
            make(Some(first(&from)?), Some(first(&to)?))
        })
        .collect()
}

/// The protocol and port at the pod that a port of the question comes to (NP-29): a Service's port is translated.
pub(super) fn l4(
    objects: &Objects,
    service: Option<&PodKey>,
    dst: &End,
    port: Port,
) -> Result<Option<L4>, Failure> {
    let (protocol, number) = match port {
        Port::Number(protocol, number) => (protocol, number),
        Port::Ping => {
            let v6 = dst.address().is_some_and(|a| a.is_ipv6());
            return Ok(Some(L4::Other { ip_protocol: if v6 { 58 } else { 1 } }));
        }
    };
    let Some((key, service)) = service.and_then(|key| Some((key, objects.services.get(key)?)))
    else {
        return Ok(Some(L4::Port { protocol, dport: number }));
    };
    let entry =
        service.ports.iter().find(|(p, proto, _)| *p == number && proto == protocol.as_str());
    let Some((.., target)) = entry else {
        return Err(Failure::Usage(format!(
            "Service {}/{} has no port {protocol}/{number}",
            key.0, key.1
        )));
    };
    if let Some(dport) = target.as_u64().and_then(|n| u16::try_from(n).ok()) {
        return Ok(Some(L4::Port { protocol, dport }));
    }
    let (Some(name), End::Pod { key, .. }) = (target.as_str(), dst) else {
        return Ok(None);
    };
    let ports = objects.world.pod(key).into_iter().flat_map(|p| &p.named_ports);
    let found = ports.into_iter().find(|p| *p.name == *name && p.protocol == protocol);
    // a pod without that name is no endpoint of the Service for this port
    Ok(found.map(|p| L4::Port { protocol, dport: p.number }))
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances() {
        assert_eq!(distance("shop/web", "shop/wbe"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
