//! The way to a cluster's API server, and the one namespace that everything lives in.

use std::{path::Path, time::Duration};

use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject},
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
};

use crate::error::{ClusterError, Result};

/// How long one answer of the API server may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection to it may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a cluster is told of.
#[derive(Clone, Debug, Default)]
pub struct Source<'a> {
    /// A kubeconfig file; where none is named, `KUBECONFIG`, `~/.kube/config` and the pod's own service account.
    pub kubeconfig: Option<&'a Path>,
    /// A context of the kubeconfig; its current one when absent.
    pub context: Option<&'a str>,
    /// The namespace; that of the context or the pod when absent.
    pub namespace: Option<&'a str>,
}

/// A cluster's API server and a namespace.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads how the cluster is reached; asks it nothing.
    ///
    /// # Errors
    /// `Configuration` if that is not told anywhere, or cannot be read
    pub async fn connect(source: Source<'_>) -> Result<Self> {
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| ClusterError::Configuration { source };
        let options = KubeConfigOptions { context: source.context.map(str::to_owned), ..KubeConfigOptions::default() };
        let mut config = match (source.kubeconfig, source.context) {
            (Some(path), _) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|error| unusable(error.into()))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unusable(error.into()))?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|error| unusable(error.into()))?,
            (None, None) => Config::infer().await.map_err(|error| unusable(error.into()))?,
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        // A connection that idled between two looks has not failed to answer.
        config.reset_reader_on_write = true;
        let namespace = source.namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        let client = Client::try_from(config).map_err(|error| unusable(error.into()))?;
        Ok(Self { client, namespace })
    }

    /// A cluster behind a client that is there already.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// The namespace that everything lives in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The client beneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of a kind that this program has no type for, in the namespace.
    pub fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }
}
