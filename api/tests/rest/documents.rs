//! What is written down about the API is what the API is.

use std::collections::BTreeSet;
use std::path::PathBuf;

use http::Method;

use crate::support::{Ask, Door};

pub fn reference(file: &str) -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("is set for tests"))
        .join("../docs/reference")
        .join(file)
}

#[test]
fn the_openapi_document_is_checked_in() {
    let path = reference("openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, skep_api::document()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == skep_api::document(),
        "docs/reference/openapi.json is out of date; write it anew: UPDATE_OPENAPI=1 cargo test -p skep-api"
    );
}

#[tokio::test]
async fn the_openapi_document_is_served() {
    let door = Door::new().await;
    let answer = door.send(&Ask::new(Method::GET, "/v1/openapi.json").without_token()).await;
    assert_eq!(answer.body, serde_json::from_str::<serde_json::Value>(skep_api::document()).unwrap());
    assert_eq!(answer.body["openapi"], "3.1.0");
}

#[test]
fn every_operation_of_the_document_has_a_summary_and_an_id_of_its_own() {
    let document: serde_json::Value = serde_json::from_str(skep_api::document()).unwrap();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path}");
            assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{method} {path}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
        }
    }
}

#[test]
fn the_document_holds_together() {
    let document: serde_json::Value = serde_json::from_str(skep_api::document()).unwrap();
    let text = skep_api::document();
    for reference in text.split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference} is nowhere");
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        for response in item.as_object().unwrap().values().flat_map(|it| it["responses"].as_object().unwrap())
        {
            assert!(response.1["description"].is_string(), "{path} {}", response.0);
        }
    }
}

#[test]
fn every_code_has_a_section() {
    let path = reference("errors.md");
    if std::env::var_os("SKEP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, skep_codes::page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == skep_codes::page(),
        "docs/reference/errors.md is out of date; write it anew: SKEP_UPDATE_DOCS=1 cargo test -p skep-api"
    );
}

#[test]
fn every_finding_of_a_diagnosis_has_a_section() {
    let path = reference("findings.md");
    if std::env::var_os("SKEP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, skep_model::doctor::kind::page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == skep_model::doctor::kind::page(),
        "docs/reference/findings.md is out of date; write it anew: SKEP_UPDATE_DOCS=1 cargo test -p skep-api"
    );
}
