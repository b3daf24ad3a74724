//! Backups of the whole cluster: made and streamed, kept, listed, removed; and the schedule.

use std::fs::File;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skep_backup::Recipient;
use skep_ledger::Revision;
use skep_model::{CLUSTER, Refusal, snapshot};
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::change::{Asked, Change, Changing, Keyed, answered};
use crate::dress::{At, One};
use crate::extract::{Consistency, Params, Place, Read, Reading, Reference};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::{List, Metadata};
use crate::snapshots::{MadeSnapshot, SnapshotFailure};

/// In the place of an id: the backup that is made for this request.
const NOW: &str = "now";

/// Read from the file at once: few system calls, little memory.
const CHUNK_BYTES: usize = 256 * 1024;

/// The newest change in the backup.
const SNAPSHOT_REVISION: HeaderName = HeaderName::from_static("skep-snapshot-revision");
/// The epoch that the revision belongs to.
const SNAPSHOT_EPOCH: HeaderName = HeaderName::from_static("skep-snapshot-epoch");
/// Rows in the backup.
const SNAPSHOT_ROWS: HeaderName = HeaderName::from_static("skep-snapshot-rows");
/// SHA-256 of the file, so that whoever receives it knows that it is the one that was verified.
const SNAPSHOT_SHA256: HeaderName = HeaderName::from_static("skep-snapshot-sha256");

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, keep))
        .routes(routes!(show, remove))
        .routes(routes!(content))
        .routes(routes!(list_schedules))
        .routes(routes!(show_schedule, set_schedule))
}

/// A backup that a manager keeps.
#[derive(Debug, Serialize, ToSchema)]
struct Snapshot {
    #[schema(example = "Snapshot")]
    kind: &'static str,
    metadata: Metadata,
    status: SnapshotStatus,
}

/// What is known of a backup.
#[derive(Debug, Serialize, ToSchema)]
struct SnapshotStatus {
    /// `kept`, or `going` until its manager has removed the file.
    state: &'static str,
    /// The manager that has the file.
    manager: String,
    /// Where on that manager.
    path: String,
    /// When it was read back and found to be whole.
    verified_at: Timestamp,
    /// The epoch of the cluster.
    epoch: u64,
    /// The newest change in it.
    revision: u64,
    /// Rows in it.
    rows: u64,
    /// Size of the file.
    bytes: u64,
    /// SHA-256 of the file.
    sha256: String,
}

/// When backups are taken by themselves.
#[derive(Debug, Serialize, ToSchema)]
struct SnapshotSchedule {
    #[schema(example = "SnapshotSchedule")]
    kind: &'static str,
    metadata: Metadata,
    spec: ScheduleSpec,
    status: ScheduleStatus,
}

/// What is wished.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ScheduleSpec {
    /// Are any taken?
    enabled: bool,
    /// Minutes between two: 5 to 44640.
    every_minutes: u32,
    /// How many are kept: 1 to 1000.
    keep: u32,
    /// A folder that every manager has; null: `snapshots-out` in each manager's data folder.
    directory: Option<String>,
    /// To which recovery keys backups are encrypted (`age1…`).
    recipients: Vec<String>,
}

/// How it fares.
#[derive(Debug, Serialize, ToSchema)]
struct ScheduleStatus {
    /// The last time that a backup was begun.
    last_attempt_at: Option<Timestamp>,
    /// The last one that was verified.
    last_success_at: Option<Timestamp>,
    /// The newest change in that one.
    last_success_revision: Option<u64>,
    /// Why the last attempt failed; null if it did not.
    error: Option<String>,
}

impl Snapshot {
    fn new(snapshot: &snapshot::Snapshot, revision: Revision) -> Snapshot {
        Snapshot {
            kind: "Snapshot",
            metadata: Metadata {
                id: snapshot.id.to_string(),
                name: snapshot.id.to_string(),
                env: None,
                revision,
                created_at: Some(snapshot.created_at),
                updated_at: Some(snapshot.created_at),
            },
            status: SnapshotStatus {
                state: if snapshot.removal { "going" } else { "kept" },
                manager: snapshot.manager.clone(),
                path: snapshot.path.clone(),
                verified_at: snapshot.verified_at,
                epoch: snapshot.epoch,
                revision: snapshot.snapshot_revision,
                rows: snapshot.rows,
                bytes: snapshot.file_bytes,
                sha256: snapshot.sha256.clone(),
            },
        }
    }
}

impl SnapshotSchedule {
    fn new(schedule: snapshot::Schedule, health: snapshot::Health, revision: Revision) -> SnapshotSchedule {
        SnapshotSchedule {
            kind: "SnapshotSchedule",
            metadata: Metadata {
                id: snapshot::DEFAULT.into(),
                name: snapshot::DEFAULT.into(),
                env: None,
                revision,
                created_at: Some(schedule.created_at),
                updated_at: Some(schedule.updated_at),
            },
            spec: ScheduleSpec {
                enabled: schedule.enabled,
                every_minutes: schedule.every_minutes,
                keep: schedule.keep,
                directory: schedule.directory,
                recipients: schedule.recipients,
            },
            status: ScheduleStatus {
                last_attempt_at: health.last_attempt_at,
                last_success_revision: health.last_success_at.map(|_| health.last_success_revision),
                last_success_at: health.last_success_at,
                error: health.error,
            },
        }
    }
}

/// Lists the backups that managers keep, newest first.
#[utoipa::path(get, path = "/v1/snapshots", operation_id = "list_snapshots",
    params(Reading, Paging),
    responses((status = 200, body = List<Snapshot>, description = "All of them"), Refused))]
async fn list(ReadList(view, listing): ReadList) -> Reply<Page> {
    let all = snapshot::list(&view)?;
    let items = all.iter().map(|(known, revision)| Snapshot::new(known, *revision)).collect();
    listing.page(view.revision(), items, &["-created_at", "id"])
}

/// A backup that would be made.
#[derive(Debug, Serialize, ToSchema)]
struct SnapshotPlan {
    /// The manager that would keep it.
    manager: String,
    /// To which recovery keys it would be encrypted.
    recipients: Vec<String>,
}

/// Makes a backup, reads it back, and keeps it on the answering manager.
#[utoipa::path(post, path = "/v1/snapshots", operation_id = "keep_snapshot", params(Changing, Keyed),
    responses(
    (status = 201, body = Snapshot, description = "Written, verified and kept"),
    (status = 200, body = SnapshotPlan, description = "Dry run: what would be made"),
    Refused,
))]
async fn keep(State(api): State<Api>, change: Change) -> Reply<Response> {
    if change.is_dry_run() {
        let view = api.ledger().fresh_view().await?;
        let recipients = snapshot::recipients(&view)?;
        if recipients.is_empty() {
            return Err(SnapshotFailure::NoRecoveryKey.into());
        }
        let plan = SnapshotPlan { manager: api.parts.cluster.node_name().to_owned(), recipients };
        return Ok(At(view.revision(), Json(plan)).into_response());
    }
    let committed = api.once(&change, async { Ok(api.parts.snapshots.keep().await?) }).await?;
    let kept = &committed.answer;
    let location = [(header::LOCATION, format!("/v1/snapshots/{}", kept.id))];
    let answer = (StatusCode::CREATED, location, Json(Snapshot::new(kept, committed.revision)));
    Ok(answered(&committed, answer))
}

/// Shows a backup.
#[utoipa::path(get, path = "/v1/snapshots/{snapshot}", operation_id = "show_snapshot",
    params(Reading, ("snapshot" = String, Path, description = "Its id")),
    responses((status = 200, body = Snapshot, description = "As it is"), Refused))]
async fn show(Place(id): Place<Reference>, Read(view): Read) -> Reply<One<Snapshot>> {
    let (known, revision) = snapshot::find(&view, &id)?;
    Ok(One(view.revision(), revision, Snapshot::new(&known, revision)))
}

/// Removes a backup: its manager removes the file, and then it is not listed any more.
#[utoipa::path(delete, path = "/v1/snapshots/{snapshot}", operation_id = "remove_snapshot",
    params(Changing, Keyed, ("snapshot" = String, Path, description = "Its id")),
    responses((status = 200, body = Snapshot, description = "On its way out"), Refused))]
async fn remove(State(api): State<Api>, Place(id): Place<Reference>, change: Change) -> Reply<Response> {
    let rule = |tx: &mut skep_ledger::Tx<'_>| snapshot::remove(tx, &id);
    if change.is_dry_run() {
        let rehearsed = api.rehearse(&change, rule).await?;
        return Ok(At(rehearsed.revision, Json(Snapshot::new(&rehearsed.answer, 0))).into_response());
    }
    let committed = api.commit(&change, rule).await?;
    let document = Json(Snapshot::new(&committed.answer, committed.revision));
    Ok(answered(&committed, document))
}

/// Streams a backup: one that the answering manager keeps, or, for `now`, one that is made and verified for this
/// request. `consistency=stale` makes it of what the answering manager knows, without a leader.
#[utoipa::path(get, path = "/v1/snapshots/{snapshot}/content", operation_id = "read_snapshot",
    params(Reading, ("snapshot" = String, Path, description = "Its id, or `now`")),
    responses(
        (status = 200, content_type = "application/octet-stream", description = "An encrypted backup. The headers \
         Skep-Snapshot-Revision, -Epoch, -Rows and -Sha256 describe it"),
        Refused,
    ))]
async fn content(
    State(api): State<Api>,
    Place(id): Place<Reference>,
    Params(Reading { consistency }): Params<Reading>,
) -> Reply<Response> {
    if &*id == NOW {
        let fresh = consistency != Consistency::Stale;
        return Ok(streamed(api.parts.snapshots.make(fresh).await?));
    }
    let view = api.read(consistency).await?;
    let (known, _) = snapshot::find(&view, &id)?;
    if known.manager != api.parts.cluster.node_name() {
        let detail = format!("snapshot {} is on manager {}, not on this one", known.id, known.manager);
        return Err(Problem::new(Code::SnapshotElsewhere, detail)
            .hinting(format!("ask that manager, or copy {} from its machine", known.path)));
    }
    let file =
        api.parts.snapshots.open(&known).map_err(|error| {
            Problem::new(Code::SnapshotFailed, format!("reading {}: {error}", known.path))
        })?;
    Ok(streamed(MadeSnapshot {
        file,
        revision: known.snapshot_revision,
        epoch: known.epoch,
        rows: known.rows,
        file_bytes: known.file_bytes,
        sha256: known.sha256,
    }))
}

fn streamed(made: MadeSnapshot) -> Response {
    let body = Body::from_stream(ReaderStream::with_capacity(tokio_file(made.file), CHUNK_BYTES));
    let mut response = ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(made.file_bytes));
    headers.insert(SNAPSHOT_REVISION, HeaderValue::from(made.revision));
    headers.insert(SNAPSHOT_EPOCH, HeaderValue::from(made.epoch));
    headers.insert(SNAPSHOT_ROWS, HeaderValue::from(made.rows));
    if let Ok(sha256) = HeaderValue::from_str(&made.sha256) {
        headers.insert(SNAPSHOT_SHA256, sha256);
    }
    response
}

fn tokio_file(file: File) -> tokio::fs::File {
    tokio::fs::File::from_std(file)
}

/// Lists the schedules; there is one.
#[utoipa::path(get, path = "/v1/snapshot-schedules", operation_id = "list_snapshot_schedules",
    params(Reading, Paging),
    responses((status = 200, body = List<SnapshotSchedule>, description = "All of them"), Refused))]
async fn list_schedules(ReadList(view, listing): ReadList) -> Reply<Page> {
    let known = view.get::<snapshot::Schedule>(CLUSTER, snapshot::DEFAULT).map_err(Refusal::from)?;
    let health = snapshot::health(&view)?;
    let items = known.map(|known| SnapshotSchedule::new(known.record, health, known.revision));
    listing.page(view.revision(), items.into_iter().collect(), &["name"])
}

/// Shows a schedule and how it fares.
#[utoipa::path(get, path = "/v1/snapshot-schedules/{schedule}", operation_id = "show_snapshot_schedule",
    params(Reading, ("schedule" = String, Path, description = "`default`")),
    responses((status = 200, body = SnapshotSchedule, description = "As it is"), Refused))]
async fn show_schedule(Place(name): Place<Reference>, Read(view): Read) -> Reply<At<Json<SnapshotSchedule>>> {
    the_only_one(&name)?;
    let document =
        SnapshotSchedule::new(snapshot::schedule(&view)?, snapshot::health(&view)?, view.revision());
    Ok(At(view.revision(), Json(document)))
}

/// Changes a schedule.
#[utoipa::path(put, path = "/v1/snapshot-schedules/{schedule}", operation_id = "set_snapshot_schedule",
    params(Changing, Keyed, ("schedule" = String, Path, description = "`default`")),
    request_body = ScheduleSpec,
    responses((status = 200, body = SnapshotSchedule, description = "As it is now"), Refused))]
async fn set_schedule(
    State(api): State<Api>,
    Place(name): Place<Reference>,
    asked: Asked<ScheduleSpec>,
) -> Reply<Response> {
    the_only_one(&name)?;
    let wish = wish(&asked.wish)?;
    let rule = |tx: &mut skep_ledger::Tx<'_>| snapshot::set_schedule(tx, &wish);
    let health = snapshot::health(&api.ledger().view())?;
    if asked.change.is_dry_run() {
        let rehearsed = api.rehearse(&asked.change, rule).await?;
        let document = SnapshotSchedule::new(rehearsed.answer, health, 0);
        return Ok(At(rehearsed.revision, Json(document)).into_response());
    }
    let committed = api.commit(&asked.change, rule).await?;
    let document = SnapshotSchedule::new(committed.answer.clone(), health, committed.revision);
    Ok(answered(&committed, Json(document)))
}

fn the_only_one(name: &Reference) -> Reply<()> {
    match &**name == snapshot::DEFAULT {
        true => Ok(()),
        false => {
            Err(Refusal::NotFound { what: "snapshot schedule", name: name.to_string(), scope: None }.into())
        }
    }
}

fn wish(spec: &ScheduleSpec) -> Reply<snapshot::ScheduleWish> {
    for (text, number) in spec.recipients.iter().zip(1..) {
        text.parse::<Recipient>().map_err(|_| Refusal::InvalidValue {
            what: "recipients",
            // Not what was sent: it may be the other half of the key.
            value: format!("what number {number} is"),
            allowed: "public keys of the form age1…".into(),
        })?;
    }
    Ok(snapshot::ScheduleWish {
        enabled: spec.enabled,
        every_minutes: spec.every_minutes,
        keep: spec.keep,
        directory: spec.directory.clone(),
        recipients: spec.recipients.clone(),
    })
}

impl From<SnapshotFailure> for Box<Problem> {
    fn from(failure: SnapshotFailure) -> Box<Problem> {
        let detail = failure.to_string();
        match failure {
            SnapshotFailure::Unavailable(unavailable) => unavailable.into(),
            SnapshotFailure::NoRecoveryKey => Problem::new(Code::NoRecoveryKey, detail)
                .hinting("make one and keep it safe: skep snapshot new-key FILE"),
            SnapshotFailure::Failed(_) => Problem::new(Code::SnapshotFailed, detail)
                .hinting("another manager may have room for it; the manager's log tells more"),
        }
    }
}
