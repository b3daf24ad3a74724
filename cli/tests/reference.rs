//! The pages under `docs/reference` say what the program says.
//!
//! `SKEP_UPDATE_DOCS=1 cargo test -p skep-cli --test reference` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::path::PathBuf;

use clap::CommandFactory;
use skep_cli::{ClientLine, exit_codes_page, reference_page};

fn check(page: &str, wanted: &str) {
    let path = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests"))
        .join("../docs/reference")
        .join(page);
    if std::env::var_os("SKEP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == wanted, "docs/reference/{page} is out of date: run this test with SKEP_UPDATE_DOCS=1");
}

#[test]
fn the_page_of_the_commands_is_up_to_date() {
    check("cli.md", &reference_page(ClientLine::command()));
}

#[test]
fn the_page_of_the_exit_codes_is_up_to_date() {
    check("exit-codes.md", &exit_codes_page());
}
