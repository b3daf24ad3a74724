//! Commands and logs of hosts, live: the connection becomes a stream of frames between the client and the host's agent.
//!
//! ```text
//!   client ── HTTP/1.1, then frames ──► any manager ── passed on unread ──► agent of the host
//! ```
//! `docs/reference/terminal.md` describes the frames. Nothing is stored but a line in the manager's log.

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use skep_hub::{AskError, HostStream, Shown};
use skep_ledger::View;
use skep_model::access::Caller;
use skep_model::host::Host;
use skep_model::{environment, host};
use skep_wire::proto::agent::{LogSource, LogsRequest, RunRequest};
use tokio::io::copy_bidirectional;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;

use crate::change::Question;
use crate::extract::{Params, Place, Reference, Within};
use crate::limits::{AtOnce, Seat};
use crate::problem::{Code, Problem, Refused, Reply};

/// What the connection becomes.
const PROTOCOL: &str = "skep-frames";

/// Words of a command, and their length: what a kernel would take is far more than a person types.
const COMMAND_WORDS_MAX: usize = 1_000;
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Lines of a log that are shown at once; the rest is on the host.
const LOG_LINES_MAX: u32 = 100_000;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(exec)).routes(routes!(logs))
}

/// A command to run on a host.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Exec {
    /// The program and its arguments; no shell is in between.
    #[schema(example = json!(["df", "-h"]))]
    command: Vec<String>,
    /// With a terminal: for shells and whatever draws on the screen.
    #[serde(default)]
    terminal: Option<Terminal>,
}

/// A terminal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Terminal {
    /// What kind it is.
    #[schema(example = "xterm-256color")]
    term: String,
    /// Lines.
    rows: u16,
    /// Characters in a line.
    columns: u16,
}

/// Which log, and how much of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Logs {
    /// `engine` (the default) or `agent`
    #[serde(default)]
    #[param(inline)]
    source: Source,
    /// How many of the last lines; 100 if nothing is said
    lines: Option<u32>,
    /// Go on with new lines
    #[serde(default)]
    follow: bool,
}

/// Whose log.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Source {
    #[default]
    Engine,
    Agent,
}

/// The connection, if the client offers to speak frames on it from now on.
struct Upgrading(OnUpgrade);

impl FromRequestParts<Api> for Upgrading {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Reply<Upgrading> {
        let asked = parts.headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
        let offered = asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case(PROTOCOL));
        parts.extensions.remove::<OnUpgrade>().filter(|_| offered).map(Upgrading).ok_or_else(|| {
            let detail = format!("this needs HTTP/1.1 with 'Connection: upgrade' and 'Upgrade: {PROTOCOL}'");
            Problem::new(Code::UpgradeRequired, detail)
                .hinting("docs/reference/terminal.md describes it; skep host exec does it")
        })
    }
}

/// Runs a command on a host, as root.
#[utoipa::path(post, path = "/v1/environments/{environment}/hosts/{host}/exec", operation_id = "exec_on_host",
    params(Within, ("host" = String, Path, description = "Its name or id")), request_body = Exec,
    responses((status = 101, description = "It runs; frames follow"), Refused))]
async fn exec(
    State(api): State<Api>,
    Place(place): Place<(Reference, Reference)>,
    axum::Extension(caller): axum::Extension<Caller>,
    Upgrading(upgrading): Upgrading,
    Question(wish): Question<Exec>,
) -> Reply<Response> {
    let bytes: usize = wish.command.iter().map(String::len).sum();
    let fits = (1..=COMMAND_WORDS_MAX).contains(&wish.command.len()) && bytes <= COMMAND_BYTES_MAX;
    if !fits || wish.command.iter().any(|word| word.contains('\0')) {
        let detail = format!(
            "a command has 1 to {COMMAND_WORDS_MAX} words and at most {COMMAND_BYTES_MAX} bytes, none of them zero"
        );
        return Err(Problem::new(Code::InvalidBody, detail));
    }
    let host = found(&api.ledger().view(), &place)?;
    tracing::info!(
        host.id = %host.id, host.name = %host.name, who = caller.principal, command = wish.command[0], "a command is run on a host"
    );
    let terminal = wish.terminal.as_ref();
    let command = Shown::Command(RunRequest {
        command: wish.command,
        terminal: terminal.is_some(),
        term: terminal.map(|terminal| terminal.term.clone()).unwrap_or_default(),
        rows: terminal.map_or(0, |terminal| terminal.rows.into()),
        columns: terminal.map_or(0, |terminal| terminal.columns.into()),
    });
    connect(&api, &caller, &host, command, upgrading).await
}

/// Shows a log of a host.
#[utoipa::path(get, path = "/v1/environments/{environment}/hosts/{host}/logs", operation_id = "logs_of_host",
    params(Within, Logs, ("host" = String, Path, description = "Its name or id")),
    responses((status = 101, description = "Frames follow"), Refused))]
async fn logs(
    State(api): State<Api>,
    Place(place): Place<(Reference, Reference)>,
    axum::Extension(caller): axum::Extension<Caller>,
    Params(wish): Params<Logs>,
    Upgrading(upgrading): Upgrading,
) -> Reply<Response> {
    let host = found(&api.ledger().view(), &place)?;
    let source = match wish.source {
        Source::Engine => LogSource::Engine,
        Source::Agent => LogSource::Agent,
    };
    let lines = wish.lines.unwrap_or(100).min(LOG_LINES_MAX);
    let logs = Shown::Log(LogsRequest { source: source.into(), lines, follow: wish.follow });
    connect(&api, &caller, &host, logs, upgrading).await
}

fn found(view: &View, (environment, host): &(Reference, Reference)) -> Reply<Host> {
    let environment = environment::find(view, environment)?;
    Ok(host::find(view, &environment, host)?.record)
}

/// Starts it, and only then lets the connection become frames: until here everything that goes wrong has a status.
async fn connect(
    api: &Api,
    caller: &Caller,
    host: &Host,
    what: Shown,
    upgrading: OnUpgrade,
) -> Reply<Response> {
    let seat = api.seat(caller, AtOnce::Sessions)?;
    let stream = api.parts.hub.run(host.id.as_str(), what).await.map_err(|error| not_shown(host, &error))?;
    tokio::spawn(relay(upgrading, stream, seat));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response.into_response())
}

/// When one end goes, so does the other: the agent then ends what it runs.
async fn relay(upgrading: OnUpgrade, mut stream: HostStream, _seat: Seat<String>) {
    match upgrading.await {
        Ok(upgraded) => {
            let ended = copy_bidirectional(&mut TokioIo::new(upgraded), &mut stream).await;
            tracing::debug!(?ended, "a stream of frames has ended");
        }
        Err(error) => tracing::debug!(%error, "a connection did not become a stream of frames"),
    }
}

fn not_shown(host: &Host, error: &AskError) -> Box<Problem> {
    let code = if error.is_its_answer() { Code::NotStartedOnHost } else { Code::EngineUnreachable };
    Problem::new(code, format!("host '{}': {error}", host.name))
        .hinting(format!("see how it is: skep host inspect {}", host.name))
}
