//! The way to a cluster's API server, and the one namespace that everything lives in.

use std::{net::IpAddr, path::Path, time::Duration};

use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject},
    client::{ClientBuilder, retry::RetryPolicy},
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
};
use tower::{buffer::BufferLayer, retry::RetryLayer};

use crate::error::{ClusterError, Result};

/// How long one answer of the API server may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection to it may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is asked again when it cannot answer just now, and the least and the longest wait before that. Who waits for
/// something asks again by itself.
const AGAIN: (u32, Duration, Duration) = (2, Duration::from_millis(200), Duration::from_secs(1));

/// Requests that may be on their way at once.
const AT_ONCE: usize = 1024;

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
    unproxied: Option<String>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads how the cluster is reached; asks it nothing. An API server is asked directly, whatever proxy the environment
    /// names: those of one's own machine and network, which is most of them, no proxy reaches.
    ///
    /// # Errors
    /// `Configuration` if that is not told anywhere, or cannot be read; `Proxied` if the kubeconfig itself names a proxy
    pub async fn connect(source: Source<'_>) -> Result<Self> {
        let options = KubeConfigOptions { context: source.context.map(str::to_owned), ..KubeConfigOptions::default() };
        let kubeconfig = match (source.kubeconfig, source.context) {
            (Some(path), _) => Some(Kubeconfig::read_from(path).map_err(unusable)?),
            (None, Some(_)) => Some(Kubeconfig::read().map_err(unusable)?),
            (None, None) => None,
        };
        let mut config = match &kubeconfig {
            Some(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await.map_err(unusable)?,
            None => Config::infer().await.map_err(unusable)?,
        };
        // Of the environment, or of the kubeconfig.
        let proxy = config.proxy_url.take();
        if let Some(proxy) = &proxy
            && let Some(kubeconfig) = kubeconfig.or_else(|| Kubeconfig::read().ok())
            && names_proxy(&kubeconfig, source.context)
        {
            return Err(ClusterError::Proxied { proxy: proxy.host().unwrap_or_default().to_owned() });
        }
        let host = config.cluster_url.host().map(|host| host.trim_start_matches('[').trim_end_matches(']'));
        let unproxied = host.filter(|host| proxy.is_some() && !is_loopback(host)).map(str::to_owned);
        let namespace = source.namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        Ok(Self { unproxied, ..Self::configured(config, &namespace)? })
    }

    /// A cluster that is reached so.
    ///
    /// # Errors
    /// `Configuration` if it cannot be
    pub fn configured(mut config: Config, namespace: &str) -> Result<Self> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        // A connection that idled between two looks has not failed to answer.
        config.reset_reader_on_write = true;
        // Otherwise one look may take minutes.
        config.default_retry = false;
        let (times, least, longest) = AGAIN;
        let again = RetryPolicy::new(least, longest, times, false).map_err(unusable)?;
        let builder = ClientBuilder::try_from(config).map_err(unusable)?;
        let client = builder.with_layer(&BufferLayer::new(AT_ONCE)).with_layer(&RetryLayer::new(again)).build();
        Ok(Self::new(client, namespace))
    }

    /// A cluster behind a client that is there already.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), unproxied: None }
    }

    /// Host of the API server, where the environment names a proxy that is not asked and might have to be.
    pub fn unproxied(&self) -> Option<&str> {
        self.unproxied.as_deref()
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

fn unusable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClusterError {
    ClusterError::Configuration { source: source.into() }
}

/// Whether the kubeconfig itself names a proxy for the cluster of this context, or of its current one.
fn names_proxy(kubeconfig: &Kubeconfig, context: Option<&str>) -> bool {
    let context = context.or(kubeconfig.current_context.as_deref());
    let named = kubeconfig.contexts.iter().find(|named| Some(named.name.as_str()) == context);
    let Some(cluster) = named.and_then(|named| named.context.as_ref()).map(|context| &context.cluster) else {
        return false;
    };
    let named = kubeconfig.clusters.iter().find(|named| named.name == *cluster);
    let proxy = named.and_then(|named| named.cluster.as_ref()?.proxy_url.as_deref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
