//! Turns the part of etcd's interface that is measured into Rust, without an installed `protoc`.

use std::error::Error;

const FILE: &str = "proto/etcd.proto";
const ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile([FILE], [ROOT])?;
    tonic_prost_build::configure().build_server(false).bytes(".").compile_fds(descriptors)?;
    Ok(())
}
