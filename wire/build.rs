//! Turns the protobuf files into Rust, without an installed `protoc`.

use std::error::Error;

const FILES: &[&str] = &[
    "skep/peer/v1/peer.proto",
    "skep/peer/v1/members.proto",
    "skep/agent/v1/agent.proto",
    "skep/v1/kv.proto",
];
const ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let files = FILES.iter().map(|file| format!("{ROOT}/{file}"));
    let descriptors = protox::compile(files, [ROOT])?;
    tonic_prost_build::configure()
        // Bodies of requests and tunnelled bytes are passed on, not copied.
        .bytes(".skep.peer.v1.Payload")
        .bytes(".skep.peer.v1.Reply")
        .bytes(".skep.peer.v1.Frame")
        .bytes(".skep.v1")
        // Two equal inventories must also be equal as bytes.
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
