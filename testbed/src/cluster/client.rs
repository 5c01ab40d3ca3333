//! Talks to the API server from one of the testbed's namespaces, for callers that are no tasks.

use std::future::Future;
use std::sync::{Arc, Mutex, mpsc};

use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{self, Scope};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::pki;
use crate::error::{During, Error, Result};
use crate::netns::Inside;
use crate::probe::lock;

/// Who the testbed is to the API server: the owner of fields that it applies.
pub const MANAGER: &str = "weir-testbed";

/// How a client proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Certificate(pki::Client),
    /// A token, and later ones, from this file.
    TokenFile(std::path::PathBuf),
    Token(String),
    Nobody,
}

/// A kubeconfig for one server and one user. JSON is YAML, too.
pub fn kubeconfig(server: &str, authority: &str, identity: &Identity) -> String {
    let user = match identity {
        Identity::Certificate(pair) => json!({
            "client-certificate-data": base64(pair.cert.as_bytes()),
            "client-key-data": base64(pair.key.as_bytes()),
        }),
        Identity::TokenFile(file) => json!({"tokenFile": file}),
        Identity::Token(token) => json!({"token": token}),
        Identity::Nobody => json!({}),
    };
    let cluster =
        json!({"server": server, "certificate-authority-data": base64(authority.as_bytes())});
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": cluster}],
        "users": [{"name": "testbed", "user": user}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
        "current-context": "testbed",
    });
    format!("{config:#}\n")
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard alphabet, padded (RFC 4648, section 4).
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|n| chunk.get(n).copied().unwrap_or(0));
        let bits = u32::from_be_bytes([0, a, b, c]);
        for n in 0..4 {
            let digit = (bits >> (18 - 6 * n)) & 0x3f;
            out.push(match ALPHABET.get(digit as usize) {
                Some(c) if n <= chunk.len() => char::from(*c),
                _ => '=',
            });
        }
    }
    out
}

/// What [`base64`] was made of; nothing if it is not such a text.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let digits = text.trim_end_matches('=').as_bytes();
    for chunk in digits.chunks(4) {
        let mut bits: u32 = 0;
        for digit in chunk {
            let value = ALPHABET.iter().position(|a| a == digit)?;
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        bits <<= 6 * (4 - chunk.len());
        let bytes = bits.to_be_bytes();
        out.extend_from_slice(bytes.get(1..chunk.len())?);
    }
    Some(out)
}

/// A client in a namespace. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    runtime: Arc<Runtime>,
    kube: kube::Client,
    kinds: Arc<Mutex<Vec<Known>>>,
}

/// A kind that the server was asked about.
#[derive(Clone)]
struct Known {
    kind: GroupVersionKind,
    resource: ApiResource,
    namespaced: bool,
}

impl Client {
    /// A client that connects from a namespace.
    pub fn connect(inside: &Inside, kubeconfig: &str) -> Result<Self> {
        // threads are born into the namespace of the thread that starts them
        let runtime = inside.run(|| {
            Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("api")
                .enable_all()
                .build()
                .during(|| "starting a runtime".to_owned())
        })?;
        let runtime = Arc::new(runtime);
        let text = kubeconfig.to_owned();
        let kube = on(&runtime, async move {
            let config = Kubeconfig::from_yaml(&text)?;
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(config, &options).await?;
            kube::Client::try_from(config)
        })
        .map_err(|e| failed("making a client", e))?;
        Ok(Self { runtime, kube, kinds: Arc::default() })
    }

    /// For tasks of one's own.
    pub const fn kube(&self) -> &kube::Client {
        &self.kube
    }

    /// Where tasks of one's own run.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Runs a future where the connections live, and waits for it.
    pub fn run<T: Send + 'static>(
        &self,
        what: &str,
        future: impl Future<Output = kube::Result<T>> + Send + 'static,
    ) -> Result<T> {
        on(&self.runtime, future).map_err(|e| failed(what, e))
    }

    /// The answer to a GET.
    pub fn text(&self, path: &str) -> Result<String> {
        let kube = self.kube.clone();
        let owned = path.to_owned();
        self.run(&format!("GET {path}"), async move {
            let request =
                http::Request::get(owned).body(Vec::new()).map_err(kube::Error::HttpError)?;
            kube.request_text(request).await
        })
    }

    /// Creates or replaces an object by server-side apply; a field that its kind does not have is an error.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        let (api, name) = self.api_of(object)?;
        let params = PatchParams { force: true, ..PatchParams::apply(MANAGER) }.validation_strict();
        let patch = object.clone();
        let what = describe(object);
        let applied = self.run(&format!("applying {what}"), async move {
            api.patch(&name, &params, &Patch::Apply(&patch)).await
        })?;
        serde_json::to_value(applied).during(|| format!("reading {what}"))
    }

    /// Changes some fields of an object (JSON merge patch).
    pub fn merge(&self, object: &Value) -> Result<()> {
        let (api, name) = self.api_of(object)?;
        let patch = object.clone();
        self.run(&format!("changing {}", describe(object)), async move {
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
        })
    }

    /// Deletes an object. True if there was one.
    pub fn delete(&self, object: &Value) -> Result<bool> {
        let (api, name) = self.api_of(object)?;
        self.run(&format!("deleting {}", describe(object)), async move {
            match api.delete(&name, &DeleteParams::background()).await {
                Ok(_) => Ok(true),
                Err(e) if is_missing(&e) => Ok(false),
                Err(e) => Err(e),
            }
        })
    }

    /// An object as it stands.
    pub fn get(&self, object: &Value) -> Result<Option<Value>> {
        let (api, name) = self.api_of(object)?;
        let what = describe(object);
        let found =
            self.run(&format!("reading {what}"), async move { api.get_opt(&name).await })?;
        found.map(serde_json::to_value).transpose().during(|| format!("reading {what}"))
    }

    /// Every object of a kind in all namespaces.
    pub fn list(&self, api_version: &str, kind: &str) -> Result<Vec<Value>> {
        let known = self.known(&json!({"apiVersion": api_version, "kind": kind}))?;
        let api: Api<DynamicObject> = Api::all_with(self.kube.clone(), &known.resource);
        let list =
            self.run(
                &format!("listing {kind}"),
                async move { api.list(&ListParams::default()).await },
            )?;
        list.items
            .into_iter()
            .map(|o| serde_json::to_value(o).during(|| format!("reading {kind}")))
            .collect()
    }

    /// The interface for the kind and namespace of an object, and its name.
    fn api_of(&self, object: &Value) -> Result<(Api<DynamicObject>, String)> {
        let known = self.known(object)?;
        let metadata =
            |key: &str| object.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str);
        let name = metadata("name").ok_or_else(|| wrong(object, "has no name"))?.to_owned();
        let api = if known.namespaced {
            let namespace = metadata("namespace").unwrap_or("default");
            Api::namespaced_with(self.kube.clone(), namespace, &known.resource)
        } else {
            Api::all_with(self.kube.clone(), &known.resource)
        };
        Ok((api, name))
    }

    fn known(&self, object: &Value) -> Result<Known> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let (version, kind) = text("apiVersion")
            .zip(text("kind"))
            .ok_or_else(|| wrong(object, "has no apiVersion or kind"))?;
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, kind);
        if let Some(known) = lock(&self.kinds).iter().find(|k| k.kind == kind) {
            return Ok(known.clone());
        }
        let (kube, asked) = (self.kube.clone(), kind.clone());
        let (resource, capabilities) = self
            .run(&format!("asking about kind {}", kind.kind), async move {
                discovery::pinned_kind(&kube, &asked).await
            })?;
        let known = Known { kind, resource, namespaced: capabilities.scope == Scope::Namespaced };
        lock(&self.kinds).push(known.clone());
        Ok(known)
    }
}

/// The server said that there is no such object.
pub fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// `Pod shop/db`.
pub fn describe(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or("object");
    let name = text("/metadata/name").unwrap_or("?");
    match text("/metadata/namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn wrong(object: &Value, reason: &str) -> Error {
    Error::Content { file: "object".into(), field: describe(object), reason: reason.to_owned() }
}

fn failed(what: &str, source: kube::Error) -> Error {
    Error::Api { what: what.to_owned(), source: Box::new(source) }
}

fn on<T: Send + 'static>(runtime: &Runtime, future: impl Future<Output = T> + Send + 'static) -> T {
    let (tell, done) = mpsc::channel();
    runtime.spawn(async move {
        let _ = tell.send(future.await);
    });
    done.recv().expect("the runtime lives as long as its client, and the future does not panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
            assert_eq!(from_base64(expected).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn what_is_no_base64_is_nothing() {
        assert_eq!(from_base64("Zm9!"), None);
    }

    #[test]
    fn objects_are_named() {
        let pod = json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": "db"}});
        assert_eq!(describe(&pod), "Pod shop/db");
        assert_eq!(describe(&json!({"kind": "Node", "metadata": {"name": "n1"}})), "Node n1");
    }
}
