//! What the API server has told of one kind, so that a new list can be taken as a difference.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use serde_json::Value;
use weir_policy::ids::PolicyKey;
use weir_policy::k8s::{self, Rejection};

use super::super::{Code, Warning};
use crate::event::Event;

/// What is kept of an object between two lists.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of its version.
    hash: u64,
    /// The list that it was last seen in, or after.
    list: u32,
    /// It was told. Not so while it cannot be understood.
    told: bool,
}

/// The objects of one kind, by `namespace/name`. It holds no object, only what tells a change.
#[derive(Debug)]
pub(super) struct Known {
    kind: &'static str,
    objects: HashMap<Box<str>, Entry>,
    list: u32,
    listing: bool,
    /// A list was read to its end, ever.
    synced: bool,
    /// What a list that is being read changes: nothing of it is told before its end.
    held: Vec<Event>,
    warnings: HashMap<Box<str>, Vec<Warning>>,
    hasher: RandomState,
}

impl Known {
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            objects: HashMap::new(),
            list: 0,
            listing: false,
            synced: false,
            held: Vec::new(),
            warnings: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// A list was read to its end, ever: from here on the picture is complete as far as this kind goes.
    pub(super) fn synced(&self) -> bool {
        self.synced
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// A list begins. One that broke off before has told nothing; what it saw is told by this one, or by a later one.
    pub(super) fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
        self.listing = true;
    }

    /// An object is there, or changed. True when its warnings changed.
    pub(super) fn apply(
        &mut self,
        key: String,
        version: &str,
        manifest: Value,
        out: &mut Vec<Event>,
    ) -> bool {
        let hash = self.hasher.hash_one(version);
        let before = self.objects.get(key.as_str()).copied();
        let told = before.is_some_and(|b| b.told);
        let same = before.is_some_and(|b| b.hash == hash && !version.is_empty());
        let mut entry = Entry { hash, list: self.list, told };
        if same {
            self.objects.insert(key.into(), entry);
            return false;
        }
        let (event, warnings) = match read(self.kind, &key, manifest) {
            Ok((event, warnings)) => {
                entry.told = event.is_some();
                (event, warnings)
            }
            // Whatever it was before, it is not that any more. Not known is closed.
            Err(warning) => {
                entry.told = false;
                (if told { self.deleted(&key, "") } else { None }, vec![warning])
            }
        };
        self.objects.insert(key.as_str().into(), entry);
        for warning in &warnings {
            tracing::warn!("{}: {}: {}", warning.object, warning.field, warning.message);
        }
        self.tell(event, out);
        let before = match warnings.is_empty() {
            true => self.warnings.remove(key.as_str()),
            false => self.warnings.insert(key.into(), warnings.clone()),
        };
        before.unwrap_or_default() != warnings
    }

    /// An object is gone. True when its warnings changed.
    pub(super) fn delete(&mut self, key: &str, uid: &str, out: &mut Vec<Event>) -> bool {
        if self.objects.remove(key).is_some_and(|entry| entry.told) {
            let event = self.deleted(key, uid);
            self.tell(event, out);
        }
        self.warnings.remove(key).is_some()
    }

    /// The list ends: what was not in it is gone, and all of it is told at once. True when warnings changed.
    pub(super) fn end(&mut self, out: &mut Vec<Event>) -> bool {
        let list = self.list;
        let mut gone: Vec<(Box<str>, bool)> = self
            .objects
            .extract_if(|_, entry| entry.list != list)
            .map(|(key, entry)| (key, entry.told))
            .collect();
        gone.sort();
        let mut changed = false;
        for (key, told) in gone {
            changed |= self.warnings.remove(&key).is_some();
            if told {
                let event = self.deleted(&key, "");
                self.held.extend(event);
            }
        }
        (self.listing, self.synced) = (false, true);
        out.append(&mut self.held);
        self.held.shrink_to_fit();
        changed
    }

    /// A list is under way, so what is not in it may be gone.
    pub(super) const fn listing(&self) -> bool {
        self.listing
    }

    pub(super) fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.values().flatten()
    }

    /// Before the first list has ended nobody is served, and what comes can go on at once.
    fn tell(&mut self, event: Option<Event>, out: &mut Vec<Event>) {
        match self.listing && self.synced {
            true => self.held.extend(event),
            false => out.extend(event),
        }
    }

    fn deleted(&self, key: &str, uid: &str) -> Option<Event> {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let uid = uid.into();
        Some(match self.kind {
            "Namespace" => Event::NamespaceDeleted { name: name.into() },
            "Node" => Event::NodeDeleted { name: name.into() },
            "Pod" => Event::PodDeleted { namespace: namespace.into(), name: name.into(), uid },
            "Workload" => {
                Event::WorkloadDeleted { namespace: namespace.into(), name: name.into(), uid }
            }
            "NetworkPolicy" => {
                Event::PolicyDeleted { key: PolicyKey::network_policy(namespace, name), uid }
            }
            _ => return None,
        })
    }
}

/// The event that an object is.
fn read(
    kind: &str,
    key: &str,
    mut manifest: Value,
) -> Result<(Option<Event>, Vec<Warning>), Warning> {
    let (object, warnings) =
        k8s::object(&manifest).map_err(|rejection| rejected(kind, key, rejection))?;
    let warnings = warnings
        .into_iter()
        .map(|w| {
            let space = if w.value.is_empty() { "" } else { ": " };
            let message = format!("{}{space}{}", w.value, w.reason);
            Warning { code: Code::InvalidField, object: w.object, field: w.field, message }
        })
        .collect();
    let event = object.map(|object| match object {
        k8s::Object::Namespace { name, labels } => Event::NamespaceApplied { name, labels },
        k8s::Object::Node(node) => Event::NodeApplied(node),
        k8s::Object::Pod(pod) => Event::PodApplied(pod),
        k8s::Object::Workload(workload) => Event::WorkloadApplied(workload),
        k8s::Object::NetworkPolicy(object) => {
            manifest["metadata"]["generation"] = object.policy.generation.into();
            let manifest = manifest.to_string().into();
            Event::PolicyApplied { object: Box::new(object), manifest }
        }
    });
    Ok((event, warnings))
}

fn rejected(kind: &str, key: &str, rejection: Rejection) -> Warning {
    let Rejection { field, value, reason, .. } = rejection;
    let space = if value.is_empty() { "" } else { ": " };
    Warning {
        code: Code::Rejected,
        object: format!("{kind} {key}"),
        field,
        message: format!("{value}{space}{reason}; not used"),
    }
}
