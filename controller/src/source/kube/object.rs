//! Objects as the API server sends them, trimmed on arrival, and the kinds that are watched.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::DynamicResourceScope;
use serde::de::{DeserializeSeed, Deserializer};
use serde_json::{Map, Value};

use super::shape::Shape;

/// A kind that is watched.
pub(super) trait Kind: Send + Sync + Unpin + 'static {
    const NAME: &'static str;
    const GROUP: &'static str;
    const VERSION: &'static str;
    /// As it stands in URLs and in RBAC rules.
    const PLURAL: &'static str;
    /// What policy depends on.
    const SHAPE: Shape;
    /// A server that knows no such kind, and says so when it is asked what it knows, has none of it.
    const OPTIONAL: bool = false;
    /// While it cannot be followed, pods wait.
    const GUARDS: bool = false;
}

/// Name, labels, identity.
const METADATA: Shape = Shape::Fields(&[
    ("name", Shape::Whole),
    ("namespace", Shape::Whole),
    ("uid", Shape::Whole),
    ("resourceVersion", Shape::Whole),
    ("labels", Shape::Whole),
    ("creationTimestamp", Shape::Whole),
    ("deletionTimestamp", Shape::Whole),
]);

const CONTAINERS: Shape =
    Shape::Fields(&[("ports", Shape::Whole), ("restartPolicy", Shape::Whole)]);

pub(super) struct Namespaces;

impl Kind for Namespaces {
    const NAME: &'static str = "Namespace";
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const PLURAL: &'static str = "namespaces";
    const SHAPE: Shape = Shape::Fields(&[("metadata", METADATA)]);
    const GUARDS: bool = true;
}

pub(super) struct Nodes;

impl Kind for Nodes {
    const NAME: &'static str = "Node";
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const PLURAL: &'static str = "nodes";
    const SHAPE: Shape = Shape::Fields(&[
        ("metadata", METADATA),
        ("status", Shape::Fields(&[("addresses", Shape::Whole)])),
    ]);
}

pub(super) struct Pods;

impl Kind for Pods {
    const NAME: &'static str = "Pod";
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const PLURAL: &'static str = "pods";
    const SHAPE: Shape = Shape::Fields(&[
        ("metadata", METADATA),
        (
            "spec",
            Shape::Fields(&[
                ("nodeName", Shape::Whole),
                ("hostNetwork", Shape::Whole),
                ("containers", CONTAINERS),
                ("initContainers", CONTAINERS),
            ]),
        ),
        (
            "status",
            Shape::Fields(&[
                ("phase", Shape::Whole),
                ("podIP", Shape::Whole),
                ("podIPs", Shape::Whole),
            ]),
        ),
    ]);
}

/// Machines that are no pods. Their kind is Weir's own, and may not be installed.
pub(super) struct Workloads;

impl Kind for Workloads {
    const NAME: &'static str = "Workload";
    const GROUP: &'static str = "weir.io";
    const VERSION: &'static str = "v1alpha1";
    const PLURAL: &'static str = "workloads";
    const SHAPE: Shape = Shape::Fields(&[("metadata", METADATA), ("spec", Shape::Whole)]);
    const OPTIONAL: bool = true;
}

pub(super) struct NetworkPolicies;

impl Kind for NetworkPolicies {
    const NAME: &'static str = "NetworkPolicy";
    const GROUP: &'static str = "networking.k8s.io";
    const VERSION: &'static str = "v1";
    const PLURAL: &'static str = "networkpolicies";
    const SHAPE: Shape = Shape::Fields(&[
        (
            "metadata",
            Shape::Fields(&[
                ("name", Shape::Whole),
                ("namespace", Shape::Whole),
                ("uid", Shape::Whole),
                ("generation", Shape::Whole),
                ("resourceVersion", Shape::Whole),
            ]),
        ),
        ("spec", Shape::Whole),
    ]);
    const GUARDS: bool = true;
}

/// An object of a kind, without what is not needed.
pub(super) struct Object<K> {
    /// As much as the watcher wants to see: name, namespace, UID, version.
    meta: ObjectMeta,
    /// The object with its kind, as a manifest has it, and without its version.
    pub(super) manifest: Value,
    kind: PhantomData<fn() -> K>,
}

impl<K> Object<K> {
    /// `namespace/name`, or the name of what has no namespace.
    pub(super) fn key(&self) -> String {
        let name = self.meta.name.as_deref().unwrap_or_default();
        match &self.meta.namespace {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        }
    }

    /// The version of this content. Opaque; equal means the same.
    pub(super) fn version(&self) -> &str {
        self.meta.resource_version.as_deref().unwrap_or_default()
    }
}

impl<K> Clone for Object<K> {
    fn clone(&self) -> Self {
        Self { meta: self.meta.clone(), manifest: self.manifest.clone(), kind: PhantomData }
    }
}

impl<K: Kind> fmt::Debug for Object<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", K::NAME, self.key())
    }
}

impl<'de, K: Kind> serde::Deserialize<'de> for Object<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut manifest = K::SHAPE.deserialize(deserializer)?;
        let text = |name: &str| {
            let value = manifest.pointer(&format!("/metadata/{name}"))?.as_str()?;
            Some(value.to_owned())
        };
        let meta = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
        }
        // items of a list do not say what they are
        let version = match K::GROUP {
            "" => K::VERSION.to_owned(),
            group => format!("{group}/{}", K::VERSION),
        };
        match manifest.as_object_mut() {
            Some(fields) => {
                fields.insert("apiVersion".to_owned(), version.into());
                fields.insert("kind".to_owned(), K::NAME.into());
            }
            None => manifest = Value::Object(Map::new()),
        }
        Ok(Self { meta, manifest, kind: PhantomData })
    }
}

impl<K: Kind> Resource for Object<K> {
    type DynamicType = ();
    type Scope = DynamicResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::NAME.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        K::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_keeps_what_policy_depends_on() {
        let text = json!({
            "metadata": {"name": "db", "namespace": "shop", "uid": "u1", "resourceVersion": "7",
                "labels": {"app": "db"}, "annotations": {"a": "b"}, "managedFields": [{}],
                "creationTimestamp": "2026-11-25T20:59:41Z", "deletionTimestamp": "2026-11-25T21:00:11Z"},
            "spec": {"nodeName": "n1", "volumes": [{"name": "v"}],
                "containers": [{"name": "c", "image": "i", "ports": [{"name": "sql", "containerPort": 5432}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{}]},
        });
        let pod: Object<Pods> = serde_json::from_value(text).unwrap();
        assert_eq!((pod.key().as_str(), pod.version()), ("shop/db", "7"));
        assert_eq!(
            pod.manifest,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "db", "namespace": "shop", "uid": "u1", "labels": {"app": "db"},
                    "creationTimestamp": "2026-11-25T20:59:41Z", "deletionTimestamp": "2026-11-25T21:00:11Z"},
                "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "sql", "containerPort": 5432}]}]},
                "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
            })
        );
    }

    #[test]
    fn anything_decodes_so_that_one_bad_object_spoils_no_list() {
        for bad in [json!(7), json!({"metadata": 1}), json!({"metadata": {"name": ["x"]}})] {
            let object: Object<NetworkPolicies> = serde_json::from_value(bad).unwrap();
            assert_eq!(object.key(), "");
        }
    }
}
