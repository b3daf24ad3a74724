//! The generated messages and services. Their documentation is in `proto/`.

/// Between managers.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod peer {
    tonic::include_proto!("skep.peer.v1");
}

/// Between an agent and a manager.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod agent {
    tonic::include_proto!("skep.agent.v1");
}

/// Between clients and a manager.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("skep.v1");
}

/// The services of the package `skep.v1` with their messages and options, as an encoded `FileDescriptorSet`.
pub const API_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.bin"));
