//! Names the labels, annotations, volumes, ports that pods and programs agree on.

/// The label that opts in (`enabled`, on a namespace) or out (`disabled`, on a pod).
pub const INJECT: &str = "ferrule.dev/inject";

/// The start of every label and annotation of ours.
pub const PREFIX: &str = "ferrule.dev/";

/// The annotation that says what was injected; the CNI plugin goes by it.
pub const STATUS: &str = "ferrule.dev/status";

/// The annotation that keeps the probes as the pod declared them.
pub const PROBES: &str = "ferrule.dev/probes";

/// The sidecar's container.
pub const SIDECAR: &str = "ferrule-proxy";

/// The container that puts the redirect in place where capture is `init`.
pub const REDIRECT: &str = "ferrule-redirect";

/// The volume of the projected token that the CA is shown.
pub const TOKEN_VOLUME: &str = "ferrule-token";

/// The volume of the trust bundle.
pub const TRUST_VOLUME: &str = "ferrule-trust";

/// The volume, in memory, of what the sidecar alone may see.
pub const IDENTITY_VOLUME: &str = "ferrule-identity";

/// The ConfigMap of the trust bundle in every namespace of the mesh.
pub const TRUST_CONFIG_MAP: &str = "ferrule-trust";

/// Where the trust bundle is mounted.
pub const TRUST_FOLDER: &str = "/var/run/ferrule/trust";

/// The bundle in that folder, and its key in the ConfigMap.
pub const BUNDLE_FILE: &str = "bundle.pem";

/// Where the token is mounted.
pub const TOKEN_FOLDER: &str = "/var/run/secrets/tokens";

/// The token in that folder.
pub const TOKEN_FILE: &str = "ferrule-ca";

/// The audience of that token.
pub const TOKEN_AUDIENCE: &str = "ferrule-ca";

/// Where the identity volume is mounted.
pub const IDENTITY_FOLDER: &str = "/var/run/ferrule/identity";

/// The user, and the group, that the sidecar runs as.
pub const PROXY_USER: i64 = 2150;

/// Where captured outbound connections arrive.
pub const OUTBOUND_PORT: u16 = 15001;

/// The port of the redirect's proof.
pub const PROOF_PORT: u16 = 15002;

/// Answers the start-up probe, through the redirect alone.
pub const PROBE_PORT: u16 = 15003;

/// Where captured inbound connections arrive.
pub const INBOUND_PORT: u16 = 15006;

/// Readiness and metrics.
pub const ADMIN_PORT: u16 = 15020;

/// Asks the application what its probes would ask it.
pub const APP_PROBES_PORT: u16 = 15021;

/// The ports that the sidecar needs for itself.
pub const OWN_PORTS: [u16; 6] = [
    OUTBOUND_PORT,
    PROOF_PORT,
    PROBE_PORT,
    INBOUND_PORT,
    ADMIN_PORT,
    APP_PROBES_PORT,
];
