//! What a directory tells: the names and types of its resources, and their checked forms.

pub mod address;
pub mod report;
pub mod rule;
pub mod trust;

use prost::Message;

use crate::proto::google::protobuf::Any;

/// `istio.workload.Address`: who lives where.
pub const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
/// `ferrule.v1.Rule`: a rule document.
pub const RULE: &str = "type.googleapis.com/ferrule.v1.Rule";
/// `ferrule.v1.Mesh`: the mesh's ranges.
pub const MESH: &str = "type.googleapis.com/ferrule.v1.Mesh";
/// `ferrule.v1.Bundle`: the authorities.
pub const BUNDLE: &str = "type.googleapis.com/ferrule.v1.Bundle";
/// `ferrule.v1.DenyList`: whom nobody may trust any more.
pub const DENY_LIST: &str = "type.googleapis.com/ferrule.v1.DenyList";
/// `ferrule.v1.Reach`: how an address is reached.
pub const REACH: &str = "type.googleapis.com/ferrule.v1.Reach";

/// The path of the call that carries delta xDS.
pub const DELTA_CALL: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// The path of the call that lists the proxies.
pub const PROXIES_CALL: &str = "/ferrule.v1.Directory/Proxies";
/// The path of the call by which a host says what runs on it.
pub const ANNOUNCE_CALL: &str = "/ferrule.v1.Directory/Announce";

/// The account by whose identity a host speaks for a namespace: whoever may ask for `ns/NAMESPACE/sa/ferrule-host` may
/// say who lives in that namespace.
pub const HOST_ACCOUNT: &str = "ferrule-host";

/// `message` with the name of its type.
pub fn pack(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec().into(),
    }
}

/// The message in `packed`, when it is of this type.
///
/// # Errors
/// When it is of another type, missing or cannot be read.
pub fn unpack<M: Message + Default>(type_url: &'static str, packed: Option<&Any>) -> Result<M, UnpackError> {
    let packed = packed.ok_or(UnpackError::Missing { wanted: type_url })?;
    if packed.type_url != type_url {
        return Err(UnpackError::OtherType {
            wanted: type_url,
            found: packed.type_url.chars().take(128).collect(),
        });
    }
    M::decode(packed.value.clone()).map_err(|source| UnpackError::Decode {
        wanted: type_url,
        source,
    })
}

/// Why a packed message is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// There is none.
    #[error("there is no {wanted}")]
    Missing {
        /// What should be there.
        wanted: &'static str,
    },
    /// It is something else.
    #[error("there is a {found:?} where a {wanted} should be")]
    OtherType {
        /// What should be there.
        wanted: &'static str,
        /// What is there, cut short.
        found: String,
    },
    /// Its bytes are not a message of that type.
    #[error("the {wanted} cannot be read")]
    Decode {
        /// What it should be.
        wanted: &'static str,
        /// Why.
        source: prost::DecodeError,
    },
}
