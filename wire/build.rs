//! Turns the protobuf files into Rust, without an installed `protoc`, and describes the services of the API.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

/// What becomes Rust.
const FILES: &[&str] = &[
    "skep/peer/v1/peer.proto",
    "skep/peer/v1/members.proto",
    "skep/agent/v1/agent.proto",
    "skep/v1/kv.proto",
];

/// What clients may call. Procedures that lead to routes of REST are found through their description, so nothing but the
/// description is made of them.
const API_FILES: &[&str] = &[
    "skep/v1/access.proto",
    "skep/v1/audit.proto",
    "skep/v1/cluster.proto",
    "skep/v1/driver.proto",
    "skep/v1/environment.proto",
    "skep/v1/host.proto",
    "skep/v1/kv.proto",
    "skep/v1/meta.proto",
    "skep/v1/operation.proto",
    "skep/v1/registry.proto",
    "skep/v1/session.proto",
    "skep/v1/snapshot.proto",
    "skep/v1/stack.proto",
    "skep/v1/template.proto",
    "skep/v1/token.proto",
    "skep/v1/watch.proto",
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
    describe_the_api()
}

/// Not from the descriptors above: those have lost our own options.
fn describe_the_api() -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([ROOT])?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(API_FILES.iter().map(|file| Path::new(ROOT).join(file)))?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("api.bin"), compiler.encode_file_descriptor_set())?;
    Ok(())
}
