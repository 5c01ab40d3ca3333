//! Policies and their status, as the API server of a cluster has them.
//!
//! The cluster is found as kubectl finds it: `--kubeconfig`, the files of `KUBECONFIG`, `~/.kube/config`, and at last the pod
//! that this runs in.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use serde_json::Value;
use weir_policy::k8s;
use weir_policy::rule::Policy;

use crate::args::policy::ClusterArgs;
use crate::exit::Failure;

/// For a connection to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer to go on.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Objects of one page of a list.
const PAGE: u32 = 500;

/// A cluster that was found. No connection is made yet.
pub struct Cluster {
    client: Client,
    server: String,
    /// Where names without a namespace are.
    pub namespace: String,
}

/// A NetworkPolicy and what is said of it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub namespace: String,
    pub name: String,
    pub generation: i64,
    /// Units: milliseconds.
    pub age_ms: Option<i64>,
    object: Value,
    /// Of the PolicyStatus beside it; absent while there is none for this very policy.
    pub status: Option<Value>,
}

impl Seen {
    fn new(policy: DynamicObject, status: Option<&DynamicObject>) -> Self {
        let meta = &policy.metadata;
        let now = Timestamp::now().as_millisecond();
        let age = meta.creation_timestamp.as_ref().map(|t| now - t.0.as_millisecond());
        // one of an earlier policy of this name says nothing of this one
        let status = status.and_then(|s| s.data.get("status")).filter(|s| {
            let of = s.pointer("/policy/uid").and_then(Value::as_str);
            of.is_some() && of == meta.uid.as_deref()
        });
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            age_ms: age,
            status: status.cloned(),
            object: serde_json::to_value(&policy).unwrap_or_default(),
        }
    }

    /// A part of the status.
    pub fn status_at(&self, pointer: &str) -> Option<&Value> {
        self.status.as_ref()?.pointer(pointer)
    }

    /// What the policy means.
    pub fn policy(&self) -> Option<Policy> {
        match k8s::object(&self.object) {
            Ok((Some(k8s::Object::NetworkPolicy(object)), _)) => Some(object.policy),
            _ => None,
        }
    }
}

impl Cluster {
    /// Finds the cluster.
    ///
    /// Errors: [`Failure::Usage`] with what is missing or cannot be used, in a sentence.
    pub async fn find(args: &ClusterArgs) -> Result<Self, Failure> {
        let mut config = config(args).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| {
            Failure::Usage(format!("the way to {server} cannot be set up: {}", chain(&error)))
        })?;
        Ok(Self { client, server, namespace })
    }

    /// All policies, or those of a namespace.
    ///
    /// Errors: [`Failure::Server`].
    pub async fn policies(&self, namespace: Option<&str>) -> Result<Vec<Seen>, Failure> {
        let statuses = self.list(&statuses(), namespace).await?;
        let key = |o: &DynamicObject| (o.metadata.namespace.clone(), o.metadata.name.clone());
        let statuses: HashMap<_, _> = statuses.iter().map(|s| (key(s), s)).collect();
        let policies = self.list(&policies(), namespace).await?;
        let seen = |p: DynamicObject| {
            let status = statuses.get(&key(&p)).copied();
            Seen::new(p, status)
        };
        Ok(policies.into_iter().map(seen).collect())
    }

    /// One policy.
    ///
    /// Errors: [`Failure::Server`].
    pub async fn policy(&self, namespace: &str, name: &str) -> Result<Option<Seen>, Failure> {
        // the status first: it may be of the policy that is seen then, and never the other way round
        let status = self.get(&statuses(), namespace, name).await?;
        let policy = self.get(&policies(), namespace, name).await?;
        Ok(policy.map(|p| Seen::new(p, status.as_ref())))
    }

    async fn get(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, Failure> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        match api.get_opt(name).await {
            // absent; or there is no such kind, which is another matter
            Ok(None) if resource.kind == STATUS => {
                self.list_page(resource, Some(namespace), &ListParams::default().limit(1)).await?;
                Ok(None)
            }
            Ok(found) => Ok(found),
            Err(error) => Err(self.failed(resource, &error)),
        }
    }

    async fn list(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
    ) -> Result<Vec<DynamicObject>, Failure> {
        let mut out = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = self.list_page(resource, namespace, &params).await?;
            out.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(out),
            }
        }
    }

    async fn list_page(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        params: &ListParams,
    ) -> Result<kube::core::ObjectList<DynamicObject>, Failure> {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        };
        api.list(params).await.map_err(|error| self.failed(resource, &error))
    }

    fn failed(&self, resource: &ApiResource, error: &kube::Error) -> Failure {
        let reason = match error {
            kube::Error::Api(status) if status.code == 404 && resource.kind == STATUS => {
                "it serves no PolicyStatus of weir.io: Weir is not installed there".to_owned()
            }
            kube::Error::Api(status) => status.message.clone(),
            error => chain(error),
        };
        Failure::Server { server: self.server.clone(), reason }
    }
}

const STATUS: &str = "PolicyStatus";

fn statuses() -> ApiResource {
    let kind = GroupVersionKind::gvk("weir.io", "v1alpha1", STATUS);
    ApiResource::from_gvk_with_plural(&kind, "policystatuses")
}

fn policies() -> ApiResource {
    let kind = GroupVersionKind::gvk("networking.k8s.io", "v1", "NetworkPolicy");
    ApiResource::from_gvk_with_plural(&kind, "networkpolicies")
}

async fn config(args: &ClusterArgs) -> Result<Config, Failure> {
    let (files, shown) = files(args);
    let unusable = |reason: String| Failure::Usage(format!("kubeconfig {shown}: {reason}"));
    let mut kubeconfig: Option<Kubeconfig> = None;
    for file in &files {
        let read = match Kubeconfig::read_from(file) {
            Ok(read) => read,
            // of the files that were not named with a flag, those that are not there do not count
            Err(_) if args.kubeconfig.is_none() && !file.exists() => continue,
            Err(error) => return Err(unusable(chain(&error))),
        };
        kubeconfig = Some(match kubeconfig {
            None => read,
            Some(first) => first.merge(read).map_err(|error| unusable(chain(&error)))?,
        });
    }
    let Some(kubeconfig) = kubeconfig else {
        if args.context.is_none()
            && let Ok(config) = Config::incluster()
        {
            return Ok(config);
        }
        return Err(Failure::Usage(format!(
            "no cluster and no controller is named: {shown} is not there, this is no pod; name one with \
             --kubeconfig or --server"
        )));
    };
    let contexts: Vec<String> = kubeconfig.contexts.iter().map(|c| c.name.clone()).collect();
    let current = args.context.clone().or_else(|| kubeconfig.current_context.clone());
    match current.filter(|name| !name.is_empty()) {
        None => {
            return Err(unusable("has no current context; choose one with --context".to_owned()));
        }
        Some(name) if !contexts.contains(&name) => {
            let there = match contexts.is_empty() {
                true => "has none".to_owned(),
                false => format!("has {}", contexts.join(", ")),
            };
            return Err(unusable(format!("no context {name:?}; it {there}")));
        }
        Some(_) => {}
    }
    let options = KubeConfigOptions { context: args.context.clone(), ..Default::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| unusable(chain(&e)))
}

/// The files that count, and how to speak of them.
fn files(args: &ClusterArgs) -> (Vec<PathBuf>, String) {
    if let Some(file) = &args.kubeconfig {
        return (vec![file.clone()], file.display().to_string());
    }
    let variable = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
    if let Some(value) = variable {
        let files = std::env::split_paths(&value).filter(|p| !p.as_os_str().is_empty());
        return (files.collect(), format!("{} (KUBECONFIG)", value.display()));
    }
    let home = std::env::home_dir().map(|home| home.join(".kube/config"));
    (home.into_iter().collect(), "~/.kube/config".to_owned())
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        let c_text = c.to_string();
        if !text.contains(&c_text) {
            text = format!("{text}: {c_text}");
        }
        cause = c.source();
    }
    text
}
