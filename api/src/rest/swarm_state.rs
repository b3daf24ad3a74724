//! The state of an environment's swarm: backed up, and restored where no manager is left to rescue the swarm.
//!
//! ```text
//!   manager of the swarm ── tar.gz ──► Skep's manager ── encrypted to the recovery keys ──► client
//!   client, who has the key ── tar.gz ──► Skep's manager ──► a host, and an operation that begins the swarm anew with it
//! ```
//! Managers have no recovery key: whoever restores decrypts. Nothing of it is kept on managers.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_backup::Recipient;
use skep_hub::{SWARM_STATE_BYTES_MAX, SwarmStateError};
use skep_model::access::Caller;
use skep_model::environment::{self, Environment};
use skep_model::host::{self, Host};
use skep_model::ids::OperationId;
use skep_model::swarm_state::{self, RestoreWish};
use skep_model::{Refusal, snapshot};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::change::{Asked, Begun, Change, Changing, Keyed, answered, hash};
use crate::dress::At;
use crate::extract::{Params, Place, Reference, Within, next_chunk};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::snapshots::SnapshotFailure;

/// What the notes look like. Raise it when earlier versions could misread them.
const FORMAT: u32 = 1;

/// The manager of the swarm whose state it is.
const SWARM_STATE_HOST: HeaderName = HeaderName::from_static("skep-swarm-state-host");

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(back_up)).routes(routes!(bring)).routes(routes!(restore))
}

/// What is written down in the archive (`skep-swarm.json`), beside the state.
#[derive(Clone, Serialize, Deserialize)]
struct Notes {
    /// See [`FORMAT`].
    format: u32,
    /// The environment's name.
    environment: String,
    /// Docker's id of the swarm.
    swarm: String,
    /// The host's name.
    host: String,
    /// The version of its engine.
    engine: String,
    /// When.
    taken_at: Timestamp,
}

/// Of which manager of the swarm.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Source {
    /// Name or id of a manager of the swarm; if nothing is said, one that does not lead
    #[param(value_type = Option<String>)]
    from: Option<Reference>,
}

/// Backs up the state of an environment's swarm: services, networks, secrets, configs, nodes and keys, as one of its managers
/// has them. Volumes and images are not in it.
///
/// Encrypted to the recovery keys of the cluster (`age`); inside is a `tar` with `gzip`. The engine of that host stands still
/// for a moment meanwhile; its containers do not.
#[utoipa::path(get, path = "/v1/environments/{environment}/swarm-state", operation_id = "back_up_swarm",
    params(Source, Within),
    responses(
        (status = 200, content_type = "application/octet-stream", description = "The encrypted archive. The header \
         Skep-Swarm-State-Host names the manager of the swarm"),
        Refused,
    ))]
async fn back_up(
    State(api): State<Api>,
    axum::Extension(caller): axum::Extension<Caller>,
    Place(reference): Place<Reference>,
    Params(source): Params<Source>,
) -> Reply<Response> {
    let view = api.ledger().fresh_view().await?;
    let environment = environment::find(&view, &reference)?.record;
    let recipients = recipients(&snapshot::recipients(&view)?)?;
    let hosts = view.list::<Host>(environment.id.as_str())?;
    let hosts: Vec<Host> = hosts.into_iter().map(|stored| stored.record).collect();
    let host = match &source.from {
        Some(from) => host::find(&view, &environment, from)?.record,
        None => spokesman(&environment, &hosts)?,
    };
    let docker = api.parts.hub.docker(host.id.as_str(), None);
    let asked = async { Ok((docker.info().await?, docker.inspect_swarm().await?)) };
    let (info, swarm) = asked.await.map_err(|error: bollard::errors::Error| {
        let detail = format!("host '{}' does not answer as a manager of the swarm: {error}", host.name);
        Problem::new(Code::EngineUnreachable, detail)
            .hinting(format!("see which hosts are: skep host ls -e {}", environment.name))
    })?;
    let encryption = swarm.spec.as_ref().and_then(|spec| spec.encryption_config.as_ref());
    // Docker begins no locked swarm anew: it asks for the unlock key then and takes none.
    if encryption.and_then(|config| config.auto_lock_managers) == Some(true) {
        return Err(Refusal::SwarmIsLocked { environment: environment.name.to_string() }.into());
    }
    let notes = Notes {
        format: FORMAT,
        environment: environment.name.to_string(),
        swarm: swarm.id.unwrap_or_default(),
        host: host.name.to_string(),
        engine: info.server_version.unwrap_or_default(),
        taken_at: api.ledger().now(),
    };
    let notes = serde_json::to_vec(&notes).map_err(|error| unreadable(&host, &error.to_string()))?;
    let read = api.parts.hub.read_swarm_state(host.id.as_str(), &notes).await;
    let archive = read.map_err(|error| not_done(&host, &error))?;
    let encrypted = skep_backup::seal(&archive, &recipients);
    let encrypted = encrypted.map_err(|error| unreadable(&host, &error.to_string()))?;
    tracing::warn!(environment.id = %environment.id, host.id = %host.id, caller.principal, "the state of a swarm was backed up");
    let mut response = ([(header::CONTENT_TYPE, "application/octet-stream")], encrypted).into_response();
    if let Ok(name) = HeaderValue::from_str(host.name.as_str()) {
        response.headers_mut().insert(SWARM_STATE_HOST, name);
    }
    Ok(response)
}

fn recipients(keys: &[String]) -> Reply<Vec<Recipient>> {
    let known: Result<Vec<Recipient>, _> = keys.iter().map(|key| key.parse()).collect();
    match known {
        Ok(known) if !known.is_empty() => Ok(known),
        Ok(_) => Err(SnapshotFailure::NoRecoveryKey.into()),
        // Left out, somebody could not read a backup who counts on it.
        Err(error) => Err(SnapshotFailure::Failed(format!("a recovery key of the cluster: {error}")).into()),
    }
}

/// One that does not lead, if there is one: the others do not wait for it.
fn spokesman(environment: &Environment, hosts: &[Host]) -> Reply<Host> {
    let can = |host: &&Host| host.is_swarm_manager() && host.is_active();
    let leads = |host: &&Host| host.membership.as_ref().is_some_and(|node| node.leader);
    let found = hosts.iter().filter(can).min_by_key(leads);
    found.cloned().ok_or_else(|| {
        let detail = format!("no manager of the swarm of environment '{}' can be reached", environment.name);
        Problem::new(Code::NoActiveHost, detail).hinting("see what its hosts lack: skep host ls")
    })
}

/// A backup that was brought to a host.
#[derive(Debug, Serialize, ToSchema)]
struct SwarmState {
    #[schema(example = "SwarmState")]
    kind: &'static str,
    /// Docker's id of the swarm.
    swarm: String,
    /// The environment that it was the swarm of.
    environment: String,
    /// The manager of the swarm that it was read from.
    host: String,
    /// The version of that one's engine.
    engine_version: String,
    /// When.
    taken_at: Timestamp,
}

/// Brings a backup of a swarm's state to a host, where the swarm can be restored from it. It replaces what was brought there
/// before; nothing else is changed.
///
/// The body is the archive that is inside of the backup: whoever restores has the recovery key and decrypts.
#[utoipa::path(put, path = "/v1/environments/{environment}/hosts/{host}/swarm-state", operation_id = "bring_swarm_state",
    params(Changing, Keyed, Within, ("host" = String, Path, description = "Its name or id")),
    request_body(content = String, content_type = "application/gzip", description = "The archive, at most 64 MiB"),
    responses(
    (status = 200, body = SwarmState, description = "What was brought"),
    (status = 204, description = "Dry run: it would be brought to the host, which says then whether it can be read"),
    Refused,
))]
async fn bring(
    State(api): State<Api>,
    Place((environment, host)): Place<(Reference, Reference)>,
    change: Change,
    body: Body,
) -> Reply<Response> {
    let view = api.ledger().fresh_view().await?;
    let environment = environment::find(&view, &environment)?.record;
    let host = host::find(&view, &environment, &host)?.record;
    let archive = received(body).await?;
    if change.is_dry_run() {
        return Ok(At(view.revision(), StatusCode::NO_CONTENT).into_response());
    }
    let change = change.with_body(hash(&archive));
    let bringing = async {
        let brought = api.parts.hub.bring_swarm_state(host.id.as_str(), &archive).await;
        understood(&brought.map_err(|error| not_done(&host, &error))?)
    };
    let committed = api.once(&change, bringing).await?;
    let notes = committed.answer.clone();
    let document = SwarmState {
        kind: "SwarmState",
        swarm: notes.swarm,
        environment: notes.environment,
        host: notes.host,
        engine_version: notes.engine,
        taken_at: notes.taken_at,
    };
    Ok(answered(&committed, Json(document)))
}

/// Where a swarm is restored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Restoring {
    /// Name or id of the host to which the backup was brought; it becomes the swarm's first manager.
    #[schema(value_type = String)]
    to: Reference,
    /// Also if managers of the swarm can be reached: they leave it, with everything that only they know.
    #[serde(default)]
    replace: bool,
}

/// Begins an environment's swarm anew from the backup that was brought to a host, and takes the others in again.
///
/// Nodes that were part of the swarm join it anew, so tasks on them begin anew. Services are as they were when the backup was
/// made.
#[utoipa::path(post, path = "/v1/environments/{environment}/actions/restore", operation_id = "restore_swarm",
    params(Changing, Keyed, Within), request_body = Restoring, responses(Begun))]
async fn restore(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    Asked { change, wish }: Asked<Restoring>,
) -> Reply<Response> {
    let view = api.ledger().fresh_view().await?;
    let environment = environment::find(&view, &reference)?.record;
    let host = host::find(&view, &environment, &wish.to)?.record;
    let brought = api.parts.hub.swarm_state_notes(host.id.as_str()).await;
    understood(&brought.map_err(|error| not_done(&host, &error))?)?;
    let wish = RestoreWish { environment: &reference, to: &wish.to, replace: wish.replace };
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| Ok(swarm_state::restore(tx, &wish, id.clone())?.into())).await
}

async fn received(body: Body) -> Reply<Vec<u8>> {
    let (mut archive, mut chunks) = (vec![], body.into_data_stream());
    while let Some(chunk) = next_chunk(&mut chunks).await? {
        let chunk = chunk.map_err(|error| {
            let detail = format!("the archive broke off after {} bytes: {error}", archive.len());
            Problem::new(Code::MalformedRequest, detail)
        })?;
        if archive.len() + chunk.len() > SWARM_STATE_BYTES_MAX {
            let detail = format!("an archive has at most {} MiB", SWARM_STATE_BYTES_MAX / 1024 / 1024);
            return Err(Problem::new(Code::InvalidBody, detail));
        }
        archive.extend_from_slice(&chunk);
    }
    Ok(archive)
}

fn understood(notes: &[u8]) -> Reply<Notes> {
    let unknown = |why: &str| {
        Problem::new(Code::InvalidBody, format!("what is written down in the archive is not known: {why}"))
            .hinting("it may be of a newer version of Skep")
    };
    let notes: Notes = serde_json::from_slice(notes).map_err(|error| unknown(&error.to_string()))?;
    match notes.format {
        FORMAT => Ok(notes),
        other => Err(unknown(&format!("it is in format {other}"))),
    }
}

fn not_done(host: &Host, error: &SwarmStateError) -> Box<Problem> {
    let code = match error {
        SwarmStateError::Agent(error) if error.is_its_answer() => Code::NotStartedOnHost,
        SwarmStateError::Agent(_) | SwarmStateError::Engine(_) | SwarmStateError::Late => {
            Code::EngineUnreachable
        }
        SwarmStateError::Failed { .. } | SwarmStateError::NoRoot | SwarmStateError::TooLarge => {
            Code::NotStartedOnHost
        }
    };
    Problem::new(code, format!("host '{}': {error}", host.name))
        .hinting(format!("see how it is: skep host inspect {}", host.name))
}

fn unreadable(host: &Host, why: &str) -> Box<Problem> {
    Problem::new(Code::SnapshotFailed, format!("backing up the state of the swarm on '{}': {why}", host.name))
}
