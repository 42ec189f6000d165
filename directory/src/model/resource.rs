//! Holds a resource as it is sent, written once.

use ferrule_wire::delta::Version;
use ferrule_wire::proto::google::protobuf::Any;

/// A resource in the form in which it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    packed: Any,
    version: Version,
}

impl Resource {
    /// The resource with that content.
    pub fn new(packed: Any) -> Self {
        let version = Version::of(&packed.value);
        Self { packed, version }
    }

    /// Its content, which is shared and not copied.
    pub fn packed(&self) -> Any {
        self.packed.clone()
    }

    /// Its version.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// About how many bytes it takes in a message.
    pub fn size(&self) -> usize {
        self.packed.value.len() + OVERHEAD
    }
}

/// Name, version, type and lengths.
const OVERHEAD: usize = 128;
