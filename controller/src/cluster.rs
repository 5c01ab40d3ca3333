//! The way to a Kubernetes API server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// For a connection to the API server to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an API server to say something in the middle of an answer. Longer than a watch may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// Where a pod finds the namespace that it runs in.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    #[error("this is no pod of a cluster; name a cluster with --kubeconfig")]
    InCluster(#[source] kube::config::InClusterError),
    #[error("--kubeconfig {path} cannot be used")]
    Kubeconfig { path: PathBuf, source: Box<KubeconfigError> },
    #[error("the way to the API server cannot be set up")]
    Client(#[source] Box<kube::Error>),
}

/// Whether this process is a container of a pod.
pub fn is_inside() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// The namespace that this pod runs in.
pub fn own_namespace() -> Option<String> {
    let text = std::fs::read_to_string(NAMESPACE_FILE).ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

/// A client for the cluster of a kubeconfig, or for the one this pod runs in. No connection is made yet.
///
/// Errors: [`ClusterError`].
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client, ClusterError> {
    let mut config = match kubeconfig {
        None => Config::incluster().map_err(ClusterError::InCluster)?,
        Some(path) => {
            let failed = |source| ClusterError::Kubeconfig {
                path: path.to_owned(),
                source: Box::new(source),
            };
            let file = Kubeconfig::read_from(path).map_err(failed)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options).await.map_err(failed)?
        }
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| ClusterError::Client(Box::new(error)))
}
