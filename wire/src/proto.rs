//! The messages of gRPC: their definitions lie in `wire/proto`, the code is made from these.

#![allow(missing_docs, reason = "made from wire/proto, which has the comments")]
#![allow(clippy::large_enum_variant, reason = "made from wire/proto")]

/// Delta xDS.
pub mod envoy {
    pub mod service {
        pub mod discovery {
            #[rustfmt::skip]
            pub mod v3;
        }
    }
}

/// Messages that others build upon.
pub mod google {
    #[rustfmt::skip]
    pub mod protobuf;
    #[rustfmt::skip]
    pub mod rpc;
}

/// Addresses.
pub mod istio {
    #[rustfmt::skip]
    pub mod workload;
}

/// The SPIFFE Workload API, whose messages have no package.
#[rustfmt::skip]
pub mod spiffe;

/// Our own.
pub mod ferrule {
    #[rustfmt::skip]
    pub mod v1;
}
