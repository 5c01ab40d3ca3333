//! Scenarios: deployments with their policies, the paths that must exist, and those that must not.
//!
//! `scenarios/NAME.yaml` says what is in the world outside, what must hold and what is changed live; the manifests are
//! ordinary ones in `scenarios/NAME/`, so that `weirctl -f` reads them too. Nodes and addresses of pods are chosen when they
//! start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path as FilePath, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use weir_policy::k8s;

use crate::error::{During, Error, Result};
use crate::fleet::{Spec, pod};
use crate::host::{HostName, Outside};
use crate::probe::Service;

/// A deployment to play.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    pub title: String,
    pub about: String,
    #[serde(default)]
    outside: Vec<OutsideHost>,
    #[serde(default, deserialize_with = "services")]
    pub nodes_serve: Vec<Service>,
    /// Paths that must exist.
    pub always: Vec<Path>,
    /// Paths that must not exist.
    pub never: Vec<Path>,
    #[serde(default)]
    pub changes: Vec<Change>,
    pub live: Option<LiveCut>,
    /// The pod on whose node the flows of the live policy are shown.
    pub flows_of: Option<HostName>,
    /// Namespaces and policies, word for word.
    #[serde(skip)]
    pub manifests: Vec<String>,
    /// The pods among the manifests.
    #[serde(skip)]
    pub pods: Vec<Spec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutsideHost {
    name: String,
    addresses: Vec<IpAddr>,
    #[serde(default, deserialize_with = "services")]
    serves: Vec<Service>,
}

/// A connection, and why it matters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    pub from: HostName,
    pub to: HostName,
    #[serde(deserialize_with = "service")]
    pub port: Service,
    #[serde(default)]
    pub why: String,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}:{}", self.from, self.to, self.port)
    }
}

/// Something that is changed and changed back while everything runs, and a path whose verdict follows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub title: String,
    pub label: Option<LabelChange>,
    /// A policy `NAMESPACE/NAME`.
    pub delete: Option<String>,
    pub path: Path,
}

/// Labels that a pod gets in addition.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelChange {
    pub pod: HostName,
    pub add: BTreeMap<String, String>,
}

/// A policy whose deletion cuts a live connection, and one that must not notice.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveCut {
    pub delete: String,
    pub cut: Path,
    pub undisturbed: Path,
}

/// Where the scenarios lie: in the source tree that this was built from.
fn folder() -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The names of all scenarios.
pub fn names() -> Result<Vec<String>> {
    let folder = folder();
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .during(|| format!("reading {}", folder.display()))?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .filter_map(|p| Some(p.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

impl Scenario {
    /// Reads one, with its manifests.
    ///
    /// Errors: [`Error::Name`] when there is none of the name; [`Error::Content`].
    pub fn read(name: &str) -> Result<Self> {
        let file = folder().join(format!("{name}.yaml"));
        if name.contains('/') || !file.is_file() {
            return Err(Error::Name {
                kind: "scenario",
                name: name.to_owned(),
                reason: "is not one of those that `weir-testbed scenarios` lists",
            });
        }
        let text =
            std::fs::read_to_string(&file).during(|| format!("reading {}", file.display()))?;
        let mut scenario: Self = serde_saphyr::from_str(&text).map_err(|e| Error::Content {
            file: file.clone(),
            field: "scenario".to_owned(),
            reason: e.to_string(),
        })?;
        let manifests = folder().join(name);
        let mut files: Vec<PathBuf> = std::fs::read_dir(&manifests)
            .during(|| format!("reading {}", manifests.display()))?
            .flatten()
            .map(|e| e.path())
            .collect();
        files.sort();
        for file in files {
            scenario.take_manifests(&file)?;
        }
        Ok(scenario)
    }

    fn take_manifests(&mut self, file: &FilePath) -> Result<()> {
        let text =
            std::fs::read_to_string(file).during(|| format!("reading {}", file.display()))?;
        let content = |field: &str, reason: String| Error::Content {
            file: file.to_owned(),
            field: field.to_owned(),
            reason,
        };
        for document in crate::manifests::documents(&text) {
            let (values, rejections) = k8s::read_documents(document);
            if let Some(rejection) = rejections.first() {
                return Err(content("manifest", rejection.to_string()));
            }
            let mut other = false;
            for value in values {
                if value.get("kind").and_then(Value::as_str) == Some("Pod") {
                    let spec = pod_of(&value)
                        .ok_or_else(|| content("Pod", format!("not understood: {value}")))?;
                    self.pods.push(spec);
                } else {
                    other = true;
                }
            }
            if other {
                self.manifests.push(document.to_owned());
            }
        }
        Ok(())
    }

    /// The hosts outside.
    pub fn outside(&self) -> Vec<Outside> {
        self.outside
            .iter()
            .map(|o| Outside {
                name: o.name.clone(),
                addresses: o.addresses.clone(),
                services: o.serves.clone(),
            })
            .collect()
    }
}

/// A pod as its manifest describes it: labels, ports, and the node if one is named.
fn pod_of(value: &Value) -> Option<Spec> {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let metadata = value.get("metadata")?;
    let namespace = metadata.get("namespace").and_then(text).unwrap_or_else(|| "default".into());
    let mut spec = pod(&format!("{namespace}/{}", metadata.get("name").and_then(text)?));
    for (key, value) in metadata.get("labels").and_then(Value::as_object).into_iter().flatten() {
        spec = spec.label(key, value.as_str()?);
    }
    let body = value.get("spec")?;
    if let Some(node) = body.get("nodeName").and_then(Value::as_str) {
        spec = spec.on(node);
    }
    let containers = body.get("containers").and_then(Value::as_array).into_iter().flatten();
    for port in containers.filter_map(|c| c.get("ports")?.as_array()).flatten() {
        let service = Service {
            port: port.get("containerPort")?.as_u64()?.try_into().ok()?,
            protocol: port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").parse().ok()?,
        };
        spec = match port.get("name").and_then(Value::as_str) {
            Some(name) => spec.names(name, service),
            None => spec.serves(&[service]),
        };
    }
    Some(spec)
}

fn service<'de, D: Deserializer<'de>>(reader: D) -> Result<Service, D::Error> {
    String::deserialize(reader)?.parse().map_err(serde::de::Error::custom)
}

fn services<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<Service>, D::Error> {
    Vec::<String>::deserialize(reader)?
        .iter()
        .map(|s| s.parse().map_err(serde::de::Error::custom))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weir_policy::eval::{self, L4};
    use weir_policy::world::World;

    use super::*;
    use crate::address;
    use crate::manifests::Manifests;

    /// The world of a scenario, with addresses as a fleet would choose them.
    fn world(scenario: &Scenario) -> (World, BTreeMap<HostName, Vec<IpAddr>>) {
        let parent = tempfile::tempdir().unwrap();
        let mut manifests = Manifests::create(parent.path()).unwrap();
        manifests.put_node("n1", &address::of_node(1)).unwrap();
        let mut addresses: BTreeMap<HostName, Vec<IpAddr>> = scenario
            .outside()
            .into_iter()
            .map(|o| (format!("world/{}", o.name), o.addresses))
            .collect();
        for text in &scenario.manifests {
            manifests.put_text(text).unwrap();
        }
        for (spec, n) in scenario.pods.iter().zip(1..) {
            let workload = spec.clone().at(&address::of_pod(n)).workload("n1");
            manifests.put_pod(&workload, spec.its_labels(), spec.its_ports()).unwrap();
            addresses.insert(workload.name.clone(), workload.addresses.clone());
        }
        (manifests.world(), addresses)
    }

    #[test]
    fn the_policies_say_what_each_scenario_promises() {
        let names = names().unwrap();
        assert_eq!(names, ["card-data", "media", "tenants", "three-tier", "trading"]);
        for name in names {
            let scenario = Scenario::read(&name).unwrap();
            let (world, addresses) = world(&scenario);
            let paths = scenario
                .always
                .iter()
                .map(|p| (p, true))
                .chain(scenario.never.iter().map(|p| (p, false)));
            for (path, open) in paths {
                for v6 in [false, true] {
                    let address =
                        |n: &str| *addresses[n].iter().find(|a| a.is_ipv6() == v6).unwrap();
                    let l4 = L4::Port { protocol: path.port.protocol, dport: path.port.port };
                    let connection =
                        eval::from_addresses(&world, address(&path.from), address(&path.to), l4);
                    let verdict = eval::verdict(&world, &connection);
                    assert_eq!(
                        verdict.allowed(),
                        open,
                        "{name}: {path} ({}): {verdict:?}",
                        path.why
                    );
                }
            }
        }
    }

    #[test]
    fn every_path_leads_to_a_port_that_is_served() {
        for name in names().unwrap() {
            let scenario = Scenario::read(&name).unwrap();
            let served: BTreeSet<(HostName, Service)> = scenario
                .pods
                .iter()
                .map(|s| s.clone().at(&address::of_pod(1)).workload("n1"))
                .flat_map(|w| w.services.clone().into_iter().map(move |s| (w.name.clone(), s)))
                .chain(scenario.outside().into_iter().flat_map(|o| {
                    let name = format!("world/{}", o.name);
                    o.services.into_iter().map(move |s| (name.clone(), s))
                }))
                .collect();
            let live = scenario.live.iter().flat_map(|l| [&l.cut, &l.undisturbed]);
            let changes = scenario.changes.iter().map(|c| &c.path);
            for path in scenario.always.iter().chain(&scenario.never).chain(live).chain(changes) {
                assert!(served.contains(&(path.to.clone(), path.port)), "{name}: {path}");
            }
        }
    }

    #[test]
    fn an_unknown_scenario_is_refused() {
        for name in ["nonesuch", "../scenarios/media"] {
            assert!(Scenario::read(name).is_err());
        }
    }
}
