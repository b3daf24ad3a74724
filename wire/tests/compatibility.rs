//! What others speak stays: clients the package `skep.v1`, agents of earlier versions `skep.agent.v1`.
//!
//! `proto/baseline.txt` has one line for each field, value of an enumeration and procedure. A line that is gone, or that says
//! something else now, is what old clients and agents still send; so the test fails, and no variable makes it write that
//! down. Something new is added to the file with `UPDATE_PROTO=1`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ServiceDescriptor,
};

const PACKAGES: &[&str] = &["skep.v1", "skep.agent.v1"];

fn root() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("proto")
}

#[test]
fn what_others_speak_stays() {
    let is = lines(&everything());
    let path = root().join("baseline.txt");
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let was: BTreeSet<String> = written.lines().map(str::to_owned).collect();
    let gone: Vec<_> = was.difference(&is).collect();
    assert!(
        gone.is_empty(),
        "old clients and agents still speak so; leave it, and add something new with a number of its own: {gone:#?}"
    );
    if std::env::var_os("UPDATE_PROTO").is_some() {
        let text: String = is.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let new: Vec<_> = is.difference(&was).collect();
    assert!(
        new.is_empty(),
        "from now on this stays: write it down with UPDATE_PROTO=1 cargo test -p skep-wire: {new:#?}"
    );
}

/// Nobody can speak what is in no list of the build; so each file of the public packages is in one.
#[test]
fn every_file_is_compiled() {
    let build = std::fs::read_to_string(root().join("../build.rs")).unwrap();
    // Those are imported by the others.
    let imported = ["skep/v1/common.proto", "skep/v1/route.proto"];
    for file in files().iter().filter(|file| !imported.contains(&file.as_str())) {
        assert!(build.contains(&format!("\"{file}\"")), "{file} is not in wire/build.rs");
    }
}

fn files() -> Vec<String> {
    let folders = PACKAGES.iter().map(|package| package.replace('.', "/"));
    let files = folders.flat_map(|folder| {
        let entries = std::fs::read_dir(root().join(&folder)).unwrap();
        entries.map(move |entry| format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy()))
    });
    files.filter(|file| file.ends_with(".proto")).collect()
}

fn everything() -> DescriptorPool {
    let mut compiler = protox::Compiler::new([root()]).unwrap();
    compiler.include_imports(true).open_files(files()).unwrap();
    compiler.descriptor_pool()
}

fn lines(pool: &DescriptorPool) -> BTreeSet<String> {
    let ours = |package: &str| PACKAGES.contains(&package);
    let messages =
        pool.all_messages().filter(|message| ours(message.package_name()) && !message.is_map_entry());
    let enums = pool.all_enums().filter(|it| ours(it.package_name()));
    let services = pool.services().filter(|service| ours(service.package_name()));
    let mut lines: BTreeSet<String> = messages.flat_map(of_message).collect();
    lines.extend(enums.flat_map(of_enum));
    lines.extend(services.flat_map(of_service));
    lines
}

fn of_message(message: MessageDescriptor) -> Vec<String> {
    let name = message.full_name().to_owned();
    message
        .fields()
        .map(|field| format!("{name}.{} = {} {}", field.name(), field.number(), kind(&field)))
        .collect()
}

fn of_enum(of: EnumDescriptor) -> Vec<String> {
    let name = of.full_name().to_owned();
    of.values().map(|value| format!("{name}.{} = {}", value.name(), value.number())).collect()
}

fn of_service(service: ServiceDescriptor) -> Vec<String> {
    let stream = |streams| if streams { "stream " } else { "" };
    let methods = service.methods().map(|method| {
        format!(
            "{}.{}({}{}) returns ({}{})",
            service.full_name(),
            method.name(),
            stream(method.is_client_streaming()),
            method.input().full_name(),
            stream(method.is_server_streaming()),
            method.output().full_name(),
        )
    });
    methods.collect()
}

fn kind(field: &FieldDescriptor) -> String {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        return format!("map<{}, {}>", word(&key.kind()), word(&value.kind()));
    }
    let label = match field.cardinality() {
        Cardinality::Repeated => "repeated ",
        _ if field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()) => "oneof ",
        _ if field.supports_presence() && !matches!(field.kind(), Kind::Message(_)) => "optional ",
        _ => "",
    };
    format!("{label}{}", word(&field.kind()))
}

fn word(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(of) => of.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

/// The check itself can fail: what it compares tells apart what matters on the wire.
#[test]
fn a_number_a_kind_and_a_name_are_part_of_a_line() {
    let lines = lines(&everything());
    for line in [
        "skep.v1.Key.partition = 1 string",
        "skep.v1.Write.value = 2 optional bytes",
        "skep.v1.CommitRequest.checks = 2 repeated skep.v1.Check",
        "skep.v1.Consistency.CONSISTENCY_STALE = 1",
        "skep.v1.Kv.Get(skep.v1.GetRequest) returns (skep.v1.GetReply)",
        "skep.v1.WatchService.Watch(skep.v1.WatchRequest) returns (stream skep.v1.WatchEvent)",
        "skep.v1.Operation.attempts_by_node = 8 map<string, uint32>",
    ] {
        assert!(lines.contains(line), "{line}");
    }
}
