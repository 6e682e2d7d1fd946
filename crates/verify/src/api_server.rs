//! Where pods find the API server, and what lets the web go there. The base's policy knows private ranges and the usual
//! ports; what is added is this cluster's own.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, Result},
    run::Run,
};

/// Where the API server is known to pods, and the name of its Service.
const PLACE: (&str, &str) = ("default", "kubernetes");

/// The kind that Cilium's own policies are of; their API server is no address but an entity.
const CILIUM: &str = "ciliumnetworkpolicies.cilium.io";

/// Such a policy, as it is shipped.
const FOR_CILIUM: &str = include_str!("../../../knative/components/cilium/network.yaml");

/// How pods reach the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServer {
    /// Addresses by port.
    pub places: BTreeMap<u16, Vec<IpAddr>>,
    /// Whether Cilium may enforce policies.
    pub has_cilium: bool,
}

impl ApiServer {
    /// Asks the cluster; what it does not tell is not there.
    pub async fn look(run: &Run) -> Self {
        let client = run.cluster.client();
        let (namespace, name) = PLACE;
        let mut found = Self::default();
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace).list(&of_service).await;
        for slice in slices.map(|list| list.items).unwrap_or_default() {
            let ports: Vec<_> = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
            found.add(slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses), &ports);
        }
        let service = Api::<Service>::namespaced(client.clone(), namespace).get_opt(name).await.ok().flatten();
        if let Some(spec) = service.and_then(|service| service.spec) {
            let ports: Vec<_> = spec.ports.iter().flatten().map(|port| port.port).collect();
            found.add(spec.cluster_ips.iter().flatten(), &ports);
        }
        let crd =
            ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
        let crds: Api<DynamicObject> = Api::all_with(client.clone(), &crd);
        found.has_cilium = matches!(crds.get_opt(CILIUM).await, Ok(Some(_)));
        found
    }

    fn add<'a>(&mut self, addresses: impl Iterator<Item = &'a String>, ports: &[i32]) {
        for address in addresses.filter_map(|address| address.parse().ok()) {
            for port in ports.iter().filter_map(|port| u16::try_from(*port).ok()) {
                let known = self.places.entry(port).or_default();
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
    }

    /// Rules of egress, in a policy of Kubernetes.
    pub fn rules(&self) -> Vec<Value> {
        let block = |address: &IpAddr| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            json!({"ipBlock": {"cidr": format!("{address}/{bits}")}})
        };
        let rule = |(port, addresses): (&u16, &Vec<IpAddr>)| json!({"to": addresses.iter().map(block).collect::<Vec<_>>(), "ports": [{"port": port}]});
        self.places.iter().map(rule).collect()
    }

    /// The policy of Cilium's own kind, where there is that kind.
    ///
    /// # Errors
    /// If what is shipped is no YAML
    pub fn own_policy(&self) -> Result<Option<Value>> {
        if !self.has_cilium {
            return Ok(None);
        }
        let policy = serde_saphyr::from_str(FOR_CILIUM);
        policy.map(Some).map_err(|error| Failure::new(format!("the policy for Cilium is no YAML: {error}")))
    }
}
