//! What a machine fetches that becomes a host: a script, and this program.
//!
//! Open without an API token: the registration token in the path lets in whoever has it, and only as long as a machine
//! may register with it. The script names the program's SHA-256, so everything after it is as good as its own way here,
//! which `skep host register` pins to this manager's key.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;

use aws_lc_rs::digest;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use skep_model::Refusal;
use skep_model::host::registration;
use tokio_util::io::ReaderStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::cluster::Invitation;
use crate::extract::{Place, Reference};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::session::ClientAddress;

/// Paths that begin so are open: what follows is a token.
pub(crate) const PREFIX: &str = "/join/";

/// The program that runs here. Not by its path: after an upgrade that may be another one.
const PROGRAM: &str = "/proc/self/exe";

/// Read at once: few system calls, little memory.
const CHUNK_BYTES: usize = 256 * 1024;

const SCRIPT: &str = include_str!("join/join.sh");

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(script)).routes(routes!(program))
}

/// The script that makes a machine a host.
#[utoipa::path(get, path = "/join/{token}", operation_id = "join_script",
    params(("token" = String, Path, description = "A registration token")),
    responses(
    (status = 200, description = "A shell script, to be run by root", body = String, content_type = "text/x-shellscript"),
    Refused,
))]
async fn script(
    State(api): State<Api>,
    address: Option<Extension<ClientAddress>>,
    Place(token): Place<Reference>,
) -> Reply<Response> {
    api.spend_join(address.map(|Extension(ClientAddress(address))| address), "script")?;
    let invitation = invited(&api, &token).await?;
    let hashed = tokio::task::spawn_blocking(program_sha256).await;
    let sha256 = hashed.map_err(unreadable)?.map_err(unreadable)?;
    let text = format!("{}{SCRIPT}", settings(&invitation, sha256));
    Ok(([(header::CONTENT_TYPE, "text/x-shellscript; charset=utf-8")], text).into_response())
}

/// This program, for a machine of the same architecture.
#[utoipa::path(get, path = "/join/{token}/skep", operation_id = "join_program",
    params(("token" = String, Path, description = "A registration token")),
    responses(
    (status = 200, description = "The program", body = String, content_type = "application/octet-stream"),
    Refused,
))]
async fn program(
    State(api): State<Api>,
    address: Option<Extension<ClientAddress>>,
    Place(token): Place<Reference>,
) -> Reply<Response> {
    api.spend_join(address.map(|Extension(ClientAddress(address))| address), "program")?;
    invited(&api, &token).await?;
    let file = tokio::fs::File::open(PROGRAM).await.map_err(unreadable)?;
    let bytes = file.metadata().await.map_err(unreadable)?.len();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
    ];
    let body = Body::from_stream(ReaderStream::with_capacity(file, CHUNK_BYTES));
    Ok((StatusCode::OK, headers, body).into_response())
}

/// The invitation that the token is, if a machine may still register with it.
async fn invited(api: &Api, token: &str) -> Reply<Invitation> {
    let useless = Refusal::RegistrationTokenUseless;
    let id = api.parts.cluster.invited_by(token).ok_or_else(|| useless.clone())?;
    let now = api.ledger().now();
    let known = registration::is_useful(&api.ledger().view(), &id, now)?;
    // Made a moment ago at another manager, perhaps.
    match known || registration::is_useful(&api.ledger().fresh_view().await?, &id, now)? {
        true => Ok(api.parts.cluster.invitation(&id)),
        false => Err(useless.into()),
    }
}

/// The script's first lines: everything in it that differs from one to the next.
fn settings(invitation: &Invitation, sha256: &str) -> String {
    let mut text = String::from("#!/bin/sh\n");
    for (name, value) in [
        ("url", format!("{}{PREFIX}{}", invitation.api_url, invitation.token).as_str()),
        ("pinned_key", &invitation.pinned_key),
        ("token", &invitation.token),
        ("managers", &invitation.managers.join(",")),
        ("architecture", std::env::consts::ARCH),
        ("sha256", sha256),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}='{}'", value.replace('\'', r"'\''"));
    }
    text
}

fn program_sha256() -> std::io::Result<&'static str> {
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let found = sha256_of(Path::new(PROGRAM))?;
    Ok(KNOWN.get_or_init(|| found))
}

fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> Box<Problem> {
    Problem::new(Code::ProgramUnreadable, format!("this manager cannot read its own program: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_read_is_a_problem_of_this_manager() {
        let problem = sha256_of(Path::new("/nowhere/skep")).map_err(unreadable).expect_err("is not there");
        assert_eq!((problem.code.as_str(), problem.status, problem.retryable), ("SKP-3202", 500, true));
        assert!(problem.detail.contains("No such file"), "{problem:?}");
    }

    #[test]
    fn what_the_script_is_told_cannot_become_commands() {
        let invitation = Invitation {
            token: "skh_c1.t'; rm -rf /; '".into(),
            managers: vec!["m1:8444".into(), "m2:8444".into()],
            api_url: "https://m1:8443".into(),
            pinned_key: "sha256//AAAA=".into(),
        };
        let text = settings(&invitation, "00");
        assert!(text.contains(r"token='skh_c1.t'\''; rm -rf /; '\'''"), "{text}");
        assert!(text.contains("managers='m1:8444,m2:8444'\n"), "{text}");
    }
}
