//! The ConfigMap `config-features`: what Knative allows only where a cluster says so.
//!
//! # Source
//! `pkg/apis/config/features.go` of Knative Serving.

use super::ConfigMapData;

/// Whether a feature is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// For everybody.
    Enabled,
    /// For those who ask.
    Allowed,
    /// For nobody.
    Disabled,
}

impl Flag {
    /// Whether the feature is on for everybody.
    pub fn is_enabled(self) -> bool {
        self == Self::Enabled
    }

    /// Whether the feature is on for those who ask, at least.
    pub fn is_allowed(self) -> bool {
        self != Self::Disabled
    }

    fn parse(text: &str) -> Option<Self> {
        [("enabled", Self::Enabled), ("allowed", Self::Allowed), ("disabled", Self::Disabled)]
            .into_iter()
            .find_map(|(name, flag)| text.eq_ignore_ascii_case(name).then_some(flag))
    }
}

/// Whether containers get few rights unless they ask for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurePodDefaults {
    /// No.
    Disabled,
    /// Yes, but they may run as root.
    AllowRootBounded,
    /// Yes.
    Enabled,
}

impl SecurePodDefaults {
    /// Whether containers get few rights.
    pub fn is_on(self) -> bool {
        self != Self::Disabled
    }

    fn parse(text: &str) -> Option<Self> {
        [("disabled", Self::Disabled), ("allowrootbounded", Self::AllowRootBounded), ("enabled", Self::Enabled)]
            .into_iter()
            .find_map(|(name, value)| text.eq_ignore_ascii_case(name).then_some(value))
    }
}

macro_rules! flags {
    ($($(#[$doc:meta])* $field:ident = $key:literal, $default:ident;)*) => {
        /// Which features are on. Each field has the key of its name.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Features {
            $($(#[$doc])* pub $field: Flag,)*
            /// Rights of containers that do not ask for any.
            pub secure_pod_defaults: SecurePodDefaults,
        }

        impl Default for Features {
            fn default() -> Self {
                Self { $($field: Flag::$default,)* secure_pod_defaults: SecurePodDefaults::Disabled }
            }
        }

        impl Features {
            /// Reads the `data` of a ConfigMap; absent keys and unknown values keep their defaults.
            pub fn from_config_map(data: &ConfigMapData) -> Self {
                let default = Self::default();
                let flag = |key: &str| data.get(key).and_then(|text| Flag::parse(text));
                Self {
                    $($field: flag($key).unwrap_or(default.$field),)*
                    secure_pod_defaults: data
                        .get("secure-pod-defaults")
                        .and_then(|text| SecurePodDefaults::parse(text))
                        .unwrap_or(default.secure_pod_defaults),
                }
            }
        }
    };
}

flags! {
    /// Several containers in a pod.
    multi_container = "multi-container", Enabled;
    /// Probes of containers that take no requests.
    multi_container_probing = "multi-container-probing", Disabled;
    /// Choosing a tag by header.
    tag_header_based_routing = "tag-header-based-routing", Disabled;
    /// Capabilities beside the usual ones.
    container_spec_add_capabilities = "kubernetes.containerspec-addcapabilities", Disabled;
    /// `affinity`
    pod_spec_affinity = "kubernetes.podspec-affinity", Disabled;
    /// `dnsConfig`
    pod_spec_dns_config = "kubernetes.podspec-dnsconfig", Disabled;
    /// `dnsPolicy`
    pod_spec_dns_policy = "kubernetes.podspec-dnspolicy", Disabled;
    /// Variables from fields of the pod.
    pod_spec_field_ref = "kubernetes.podspec-fieldref", Disabled;
    /// `hostAliases`
    pod_spec_host_aliases = "kubernetes.podspec-hostaliases", Disabled;
    /// `hostIPC`
    pod_spec_host_ipc = "kubernetes.podspec-hostipc", Disabled;
    /// `hostNetwork`
    pod_spec_host_network = "kubernetes.podspec-hostnetwork", Disabled;
    /// `hostPID`
    pod_spec_host_pid = "kubernetes.podspec-hostpid", Disabled;
    /// `initContainers`
    pod_spec_init_containers = "kubernetes.podspec-init-containers", Disabled;
    /// `nodeSelector`
    pod_spec_node_selector = "kubernetes.podspec-nodeselector", Disabled;
    /// Persistent volumes.
    pod_spec_persistent_volume_claim = "kubernetes.podspec-persistent-volume-claim", Disabled;
    /// Persistent volumes that may be written.
    pod_spec_persistent_volume_write = "kubernetes.podspec-persistent-volume-write", Disabled;
    /// `priorityClassName`
    pod_spec_priority_class_name = "kubernetes.podspec-priorityclassname", Disabled;
    /// `runtimeClassName`
    pod_spec_runtime_class_name = "kubernetes.podspec-runtimeclassname", Disabled;
    /// `schedulerName`
    pod_spec_scheduler_name = "kubernetes.podspec-schedulername", Disabled;
    /// `securityContext` of the pod
    pod_spec_security_context = "kubernetes.podspec-securitycontext", Disabled;
    /// `shareProcessNamespace`
    pod_spec_share_process_namespace = "kubernetes.podspec-shareprocessnamespace", Disabled;
    /// `tolerations`
    pod_spec_tolerations = "kubernetes.podspec-tolerations", Disabled;
    /// `topologySpreadConstraints`
    pod_spec_topology_spread_constraints = "kubernetes.podspec-topologyspreadconstraints", Disabled;
    /// Volumes of CSI drivers.
    pod_spec_volumes_csi = "kubernetes.podspec-volumes-csi", Disabled;
    /// Volumes that live as long as the pod.
    pod_spec_volumes_empty_dir = "kubernetes.podspec-volumes-emptydir", Enabled;
    /// Claims that live as long as the pod.
    pod_spec_volumes_ephemeral = "kubernetes.podspec-volumes-ephemeral", Disabled;
    /// Folders of the node.
    pod_spec_volumes_host_path = "kubernetes.podspec-volumes-hostpath", Disabled;
    /// Files of images.
    pod_spec_volumes_image = "kubernetes.podspec-volumes-image", Disabled;
    /// Propagation of mounts.
    pod_spec_volumes_mount_propagation = "kubernetes.podspec-volumes-mount-propagation", Disabled;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, value: &str, wanted: Features) {
        assert_eq!(Features::from_config_map(&[(key.to_owned(), value.to_owned())].into()), wanted);
    }

    #[test]
    fn flags_are_read_in_any_case_and_unknown_values_change_nothing() {
        let default = Features::default;
        let tag_header = |flag| Features { tag_header_based_routing: flag, ..default() };
        check("tag-header-based-routing", "enabled", tag_header(Flag::Enabled));
        check("tag-header-based-routing", "Allowed", tag_header(Flag::Allowed));
        check("tag-header-based-routing", "on", default());
        check("multi-container", "DISABLED", Features { multi_container: Flag::Disabled, ..default() });
        check("no-such-flag", "enabled", default());
    }

    #[test]
    fn secure_defaults_have_a_third_way() {
        let secure = |value| Features { secure_pod_defaults: value, ..Features::default() };
        check("secure-pod-defaults", "AllowRootBounded", secure(SecurePodDefaults::AllowRootBounded));
        check("secure-pod-defaults", "Enabled", secure(SecurePodDefaults::Enabled));
        check("secure-pod-defaults", "Allowed", Features::default());
    }
}
