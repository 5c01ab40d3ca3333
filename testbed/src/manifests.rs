//! The manifests that the controller reads, and the same picture for the evaluator.
//!
//! One file for each object, replaced by renaming, so that the controller never sees half of one. What people wrote by hand
//! (policies with comments) is kept word for word.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir_policy::k8s;
use weir_policy::world::World;

use crate::error::{During, Error, Result};
use crate::host::Workload;

/// Kind, namespace (empty where there is none), name.
pub type ObjectKey = (String, String, String);

/// An object and the words it stands in.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub object: Value,
    pub text: String,
}

/// A directory of manifests, and what is in it.
pub struct Manifests {
    dir: PathBuf,
    /// Where files are written before they appear. Not watched by anyone.
    workshop: PathBuf,
    objects: BTreeMap<ObjectKey, Manifest>,
    /// Makes the identity of a pod that comes again under its old name a new one.
    births: u64,
}

impl Manifests {
    /// An empty directory `manifests` below `parent`.
    pub fn create(parent: &Path) -> Result<Self> {
        let (dir, workshop) = (parent.join("manifests"), parent.join("manifests.new"));
        for d in [&dir, &workshop] {
            fs::create_dir_all(d).during(|| format!("making {}", d.display()))?;
        }
        Ok(Self { dir, workshop, objects: BTreeMap::new(), births: 0 })
    }

    /// What `--source dir:` takes.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The objects, by kind, namespace and name.
    pub const fn objects(&self) -> &BTreeMap<ObjectKey, Manifest> {
        &self.objects
    }

    /// Creates or replaces an object.
    pub fn put(&mut self, object: Value) -> Result<()> {
        let text = serde_saphyr::to_string(&object).map_err(|e| Error::Content {
            file: self.dir.clone(),
            field: "manifest".to_owned(),
            reason: e.to_string(),
        })?;
        self.write(object, &text)
    }

    /// Creates or replaces the objects of a text, each with its own words and comments.
    pub fn put_text(&mut self, text: &str) -> Result<()> {
        for document in documents(text) {
            let content = |reason: String| Error::Content {
                file: self.dir.clone(),
                field: "manifest".to_owned(),
                reason,
            };
            let (values, rejections) = k8s::read_documents(document);
            if let Some(r) = rejections.first() {
                return Err(content(r.to_string()));
            }
            for value in values {
                let objects = k8s::flatten(value);
                if let [object] = objects.as_slice() {
                    self.write(object.clone(), document)?;
                } else {
                    objects.into_iter().try_for_each(|o| self.put(o))?;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, object: Value, text: &str) -> Result<()> {
        let key = key_of(&object).ok_or_else(|| Error::Content {
            file: self.dir.clone(),
            field: "manifest".to_owned(),
            reason: format!("an object without kind or name: {object}"),
        })?;
        // a mistake here would be the testbed's own; the controller would only warn of it
        let (read, warnings) = k8s::object(&object).map_err(|e| Error::Content {
            file: file_name(&key).into(),
            field: "manifest".to_owned(),
            reason: e.to_string(),
        })?;
        if let Some(reason) = warnings
            .first()
            .map(ToString::to_string)
            .or_else(|| read.is_none().then(|| "a kind that Weir does not read".to_owned()))
        {
            return Err(Error::Content {
                file: file_name(&key).into(),
                field: "manifest".to_owned(),
                reason,
            });
        }
        let name = file_name(&key);
        let (draft, file) = (self.workshop.join(&name), self.dir.join(&name));
        fs::write(&draft, text).during(|| format!("writing {}", draft.display()))?;
        fs::rename(&draft, &file).during(|| format!("renaming to {}", file.display()))?;
        self.objects.insert(key, Manifest { object, text: text.to_owned() });
        Ok(())
    }

    /// Deletes an object. True if there was one.
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) -> Result<bool> {
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        let was = self.objects.remove(&key).is_some();
        if was {
            let file = self.dir.join(file_name(&key));
            fs::remove_file(&file).during(|| format!("removing {}", file.display()))?;
        }
        Ok(was)
    }

    /// Deletes every object of a kind for which `which` holds.
    pub fn remove_all(&mut self, kind: &str, which: impl Fn(&str, &str) -> bool) -> Result<()> {
        let keys: Vec<ObjectKey> = self
            .objects
            .keys()
            .filter(|(k, namespace, name)| k == kind && which(namespace, name))
            .cloned()
            .collect();
        keys.iter().try_for_each(|(k, namespace, name)| self.remove(k, namespace, name).map(drop))
    }

    /// An object that is there.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Manifest> {
        self.objects.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned()))
    }

    /// An object that must be there.
    ///
    /// Errors: [`Error::Content`].
    pub fn existing(&self, kind: &str, namespace: &str, name: &str) -> Result<&Manifest> {
        self.get(kind, namespace, name).ok_or_else(|| Error::Content {
            file: self.dir.clone(),
            field: format!("{kind} {namespace}/{name}"),
            reason: "is not there".to_owned(),
        })
    }

    /// Replaces the labels of an object.
    pub fn label(
        &mut self,
        kind: &str,
        namespace: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        let mut object = self.existing(kind, namespace, name)?.object.clone();
        if let Some(metadata) = object.get_mut("metadata") {
            metadata["labels"] = json!(labels);
        }
        self.put(object)
    }

    /// A running pod with its addresses, as a kubelet would report it. The ports are those of `template`, if given.
    pub fn put_pod(
        &mut self,
        pod: &Workload,
        labels: &BTreeMap<String, String>,
        ports: &[NamedPort],
    ) -> Result<()> {
        self.births += 1;
        let (namespace, name) = pod.halves();
        let ips: Vec<Value> = pod.addresses.iter().map(|a| json!({"ip": a.to_string()})).collect();
        let ports: Vec<Value> = ports
            .iter()
            .map(|p| match &p.name {
                Some(name) => {
                    json!({"name": name, "containerPort": p.service.port, "protocol": p.service.protocol.as_str()})
                }
                None => json!({"containerPort": p.service.port, "protocol": p.service.protocol.as_str()}),
            })
            .collect();
        self.put(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": namespace,
                "name": name,
                "uid": format!("00000000-0000-4000-8000-{:012x}", self.births),
                "labels": labels,
            },
            "spec": {"nodeName": pod.node, "containers": [{"name": "server", "ports": ports}]},
            "status": {
                "phase": "Running",
                "podIP": pod.addresses.first().map(ToString::to_string),
                "podIPs": ips,
            },
        }))
    }

    /// A namespace with exactly these labels.
    pub fn put_namespace(&mut self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        self.put(json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }))
    }

    /// A node with its addresses.
    pub fn put_node(&mut self, name: &str, addresses: &[std::net::IpAddr]) -> Result<()> {
        let addresses: Vec<Value> = addresses
            .iter()
            .map(|a| json!({"type": "InternalIP", "address": a.to_string()}))
            .collect();
        self.put(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {"addresses": addresses},
        }))
    }

    /// The picture that the evaluator reads: the same objects, read by the same parser.
    pub fn world(&self) -> World {
        let mut world = World::default();
        for manifest in self.objects.values() {
            // writing them has shown that they can be read
            if let Ok((Some(object), _)) = k8s::object(&manifest.object) {
                object.put(&mut world);
            }
        }
        world
    }
}

/// A port as a container declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    pub name: Option<String>,
    pub service: crate::probe::Service,
}

fn key_of(object: &Value) -> Option<ObjectKey> {
    let text = |v: Option<&Value>| v.and_then(Value::as_str).map(str::to_owned);
    let kind = text(object.get("kind"))?;
    let metadata = object.get("metadata")?;
    let namespace = match &*kind {
        "Namespace" | "Node" => String::new(),
        _ => text(metadata.get("namespace")).unwrap_or_else(|| "default".to_owned()),
    };
    Some((kind, namespace, text(metadata.get("name"))?))
}

/// `networkpolicy_shop_db.yaml`. No part of a Kubernetes name has an underscore.
fn file_name((kind, namespace, name): &ObjectKey) -> String {
    let kind = kind.to_lowercase();
    if namespace.is_empty() {
        format!("{kind}_{name}.yaml")
    } else {
        format!("{kind}_{namespace}_{name}.yaml")
    }
}

/// The documents of a YAML text, with their comments. A marker stands alone at the start of a line.
pub(crate) fn documents(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut begin, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        if line.trim_end() == "---" {
            out.push(text.get(begin..at).unwrap_or_default());
            begin = end;
        }
        at = end;
    }
    out.push(text.get(begin..).unwrap_or_default());
    out.retain(|d| !d.trim().is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tcp;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn objects_become_files_and_the_same_world() {
        let parent = tempfile::tempdir().unwrap();
        let mut m = Manifests::create(parent.path()).unwrap();
        m.put_namespace("shop", &labels(&[("team", "a")])).unwrap();
        m.put_node("n1", &["10.10.240.1".parse().unwrap()]).unwrap();
        let pod = Workload::new("shop/db", "n1", &["10.10.1.1".parse().unwrap()], &[tcp(5432)]);
        let ports = [NamedPort { name: Some("sql".into()), service: tcp(5432) }];
        m.put_pod(&pod, &labels(&[("app", "db")]), &ports).unwrap();
        m.put_text(
            "# why\nkind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: deny, namespace: shop}\n\
             spec: {podSelector: {}}\n---\nkind: Namespace\nmetadata: {name: other}\n",
        )
        .unwrap();

        let world = m.world();
        assert_eq!((world.pods.len(), world.policies.len(), world.namespaces.len()), (1, 1, 2));
        assert_eq!(world.pods.values().next().unwrap().named_ports.len(), 1);
        let text = fs::read_to_string(m.dir().join("networkpolicy_shop_deny.yaml")).unwrap();
        assert!(text.starts_with("# why\n"), "comments are kept");
        assert_eq!(fs::read_dir(m.dir()).unwrap().count(), 5);

        // what is on disk reads back to the same world
        let mut back = World::default();
        for entry in fs::read_dir(m.dir()).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            for value in k8s::read_documents(&text).0 {
                k8s::object(&value).unwrap().0.unwrap().put(&mut back);
            }
        }
        assert_eq!(back, world);

        m.label("Pod", "shop", "db", &labels(&[("app", "x")])).unwrap();
        assert_eq!(m.world().pods.values().next().unwrap().labels.get("app"), Some("x"));
        assert!(m.remove("NetworkPolicy", "shop", "deny").unwrap());
        assert!(!m.remove("NetworkPolicy", "shop", "deny").unwrap());
        assert!(m.world().policies.is_empty());
    }

    #[test]
    fn a_pod_that_comes_again_is_another() {
        let parent = tempfile::tempdir().unwrap();
        let mut m = Manifests::create(parent.path()).unwrap();
        let pod = Workload::new("x/a", "n1", &["10.10.0.10".parse().unwrap()], &[]);
        let mut ids = Vec::new();
        for _ in 0..2 {
            m.put_pod(&pod, &BTreeMap::new(), &[]).unwrap();
            ids.push(m.world().pods.values().next().unwrap().endpoint_id());
        }
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn mistakes_in_manifests_are_named() {
        let parent = tempfile::tempdir().unwrap();
        let mut m = Manifests::create(parent.path()).unwrap();
        for (text, part) in [
            (
                "kind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0}}]}]}\n",
                "cidr",
            ),
            ("kind: Deployment\nmetadata: {name: p}\n", "does not read"),
            ("kind: Pod\n", "without kind or name"),
            ("kind: [\n", "manifest"),
        ] {
            let error = m.put_text(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(fs::read_dir(m.dir()).unwrap().count(), 0);
    }
}
