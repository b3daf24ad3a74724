//! Registries to which an environment logs in.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bollard::errors::Error as DockerError;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use skep_ledger::View;
use skep_model::environment;
use skep_model::environment::Environment;
use skep_model::host::Host;
use skep_model::registry::{self, LoginWish, RegistryLogin};
use skep_sealing::Secret;
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::change::{Asked, Change, Changing, Keyed, answered};
use crate::dress::{At, One};
use crate::extract::{Place, Read, Reading, Reference, Within};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Code, Problem, Refused, Reply};
use crate::rest::List;
use crate::rest::swarm_keys::sealed;

/// A registry that has not said by then whether a login is right is not reached. Longer than a connection takes to fail.
const CHECK_MAX: Duration = Duration::from_secs(30);

/// Hosts that are asked one after the other to log in: one that is cut off does not speak for all.
const HOSTS_ASKED_MAX: usize = 3;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, login, logout))
}

/// A registry to which an environment logs in. The password is never shown.
#[derive(Debug, Serialize, ToSchema)]
struct Registry {
    #[schema(example = "Registry")]
    kind: &'static str,
    /// `HOST` or `HOST:PORT`, as images name it.
    server: String,
    /// The user.
    user: String,
    /// Has the registry said that user and password are right?
    checked: bool,
    /// When it was first logged in to.
    created_at: Timestamp,
    /// When user or password were given last.
    updated_at: Timestamp,
}

/// A login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RegistryWish {
    /// The user.
    user: String,
    /// The password or token: kept sealed, and never shown again.
    password: String,
    /// Ask the registry first, through a host of the environment.
    #[serde(default = "yes")]
    check: bool,
}

fn yes() -> bool {
    true
}

impl Registry {
    fn new(login: &RegistryLogin) -> Registry {
        Registry {
            kind: "Registry",
            server: login.server.clone(),
            user: login.user.clone(),
            checked: login.checked,
            created_at: login.created_at,
            updated_at: login.updated_at,
        }
    }
}

/// Lists the registries to which an environment logs in.
#[utoipa::path(get, path = "/v1/environments/{environment}/registries", operation_id = "list_registries",
    params(Reading, Paging, Within),
    responses((status = 200, body = List<Registry>, description = "All of them"), Refused))]
async fn list(Place(reference): Place<Reference>, ReadList(view, listing): ReadList) -> Reply<Page> {
    let environment = environment::find(&view, &reference)?;
    let all = view.list::<RegistryLogin>(environment.id.as_str())?;
    listing.page(view.revision(), all.iter().map(|login| Registry::new(login)).collect(), &["server"])
}

/// Shows a registry to which an environment logs in.
#[utoipa::path(get, path = "/v1/environments/{environment}/registries/{registry}", operation_id = "show_registry",
    params(Reading, Within, ("registry" = String, Path, description = "HOST or HOST:PORT")),
    responses((status = 200, body = Registry, description = "As it is"), Refused))]
async fn show(
    Place((reference, server)): Place<(Reference, Reference)>,
    Read(view): Read,
) -> Reply<One<Registry>> {
    let environment = environment::find(&view, &reference)?;
    let login = registry::find(&view, &environment, &server)?;
    Ok(One(view.revision(), login.revision, Registry::new(&login)))
}

/// Logs in to a registry, or gives another user or password. Services that use it get it without their tasks being restarted.
#[utoipa::path(put, path = "/v1/environments/{environment}/registries/{registry}", operation_id = "log_in_to_registry",
    params(Changing, Keyed, Within, ("registry" = String, Path, description = "HOST or HOST:PORT")),
    request_body = RegistryWish,
    responses(
    (status = 201, body = Registry, description = "Logged in"),
    (status = 200, body = Registry, description = "Dry run: what would be kept"),
    Refused,
))]
async fn login(
    State(api): State<Api>,
    Place((reference, server)): Place<(Reference, Reference)>,
    Asked { change, wish }: Asked<RegistryWish>,
) -> Reply<Response> {
    registry::check_server(&server)?;
    registry::check_text("the user", &wish.user)?;
    registry::check_text("the password", &wish.password)?;
    let change = change.concealed(&api.parts.sealing);
    let view = api.ledger().fresh_view().await?;
    let environment = environment::find(&view, &reference)?;
    let password = Secret::new(wish.password);
    if wish.check {
        check(&api, &view, &environment, &server, &wish.user, &password).await?;
    }
    let wish = LoginWish {
        server: server.to_string(),
        user: wish.user,
        password: sealed(&api, &registry::password_words(&environment.id, &server), &password)?,
        checked: wish.check,
    };
    let rule = |tx: &mut skep_ledger::Tx<'_>| {
        let environment = environment::usable(tx, environment.id.as_str())?;
        // What a repeated request is answered with is written down, too: not the password.
        registry::login(tx, &environment, &wish).map(|login| (login.created_at, login.updated_at))
    };
    let shown = |(created_at, updated_at): (Timestamp, Timestamp)| {
        let (server, user) = (wish.server.clone(), wish.user.clone());
        Json(Registry { kind: "Registry", server, user, checked: wish.checked, created_at, updated_at })
    };
    if change.is_dry_run() {
        let rehearsed = api.rehearse(&change, rule).await?;
        return Ok(At(rehearsed.revision, shown(rehearsed.answer)).into_response());
    }
    let committed = api.commit(&change, rule).await?;
    Ok(answered(&committed, (StatusCode::CREATED, shown(committed.answer))))
}

/// Logs out of a registry. Services that use it get no password any more; tasks that run go on.
#[utoipa::path(delete, path = "/v1/environments/{environment}/registries/{registry}",
    operation_id = "log_out_of_registry",
    params(Changing, Keyed, Within, ("registry" = String, Path, description = "HOST or HOST:PORT")),
    responses((status = 200, body = Registry, description = "Logged out; as it was"), Refused))]
async fn logout(
    State(api): State<Api>,
    Place((reference, server)): Place<(Reference, Reference)>,
    change: Change,
) -> Reply<Response> {
    let view = api.ledger().fresh_view().await?;
    let environment = environment::find(&view, &reference)?;
    let known = Registry::new(&registry::find(&view, &environment, &server)?.record);
    let rule = |tx: &mut skep_ledger::Tx<'_>| {
        let environment = environment::named(tx, environment.id.as_str())?;
        registry::logout(tx, &environment, &server).map(drop)
    };
    if change.is_dry_run() {
        let rehearsed = api.rehearse(&change, rule).await?;
        return Ok(At(rehearsed.revision, Json(known)).into_response());
    }
    let committed = api.commit(&change, rule).await?;
    Ok(answered(&committed, Json(known)))
}

/// Lets hosts of the environment log in, until one of them has the registry's answer.
async fn check(
    api: &Api,
    view: &View,
    environment: &Environment,
    server: &str,
    user: &str,
    password: &Secret,
) -> Reply<()> {
    let hosts = view.list::<Host>(environment.id.as_str())?;
    let ready: Vec<_> = hosts.iter().filter(|host| host.is_ready()).take(HOSTS_ASKED_MAX).collect();
    if ready.is_empty() {
        let detail = "no host of the environment can be asked whether the login is right";
        return Err(Problem::new(Code::NoActiveHost, detail).hinting(UNCHECKED_HINT));
    }
    let body = json!({"username": user, "password": password.reveal(), "serveraddress": server}).to_string();
    let mut said = vec![];
    for host in ready {
        let asked = api.parts.hub.call(host.id.as_str(), None, "/auth", Some(body.clone().into_bytes()));
        match timeout(CHECK_MAX, asked).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(DockerError::DockerResponseServerError { status_code, message }))
                if is_refusal(status_code, &message) =>
            {
                let detail = format!("registry {server} does not let '{user}' in with this password");
                return Err(Problem::new(Code::LoginRefused, detail));
            }
            Ok(Err(DockerError::DockerResponseServerError { message, .. })) => {
                said.push(format!("{}: {message}", host.name));
            }
            Ok(Err(error)) => said.push(format!("{}: {error}", host.name)),
            Err(_) => said.push(format!("{}: no answer within {} s", host.name, CHECK_MAX.as_secs())),
        }
    }
    let detail =
        format!("registry {server} could not be asked whether the login is right: {}", said.join("; "));
    Err(Problem::new(Code::RegistryUnreachable, detail).hinting(UNCHECKED_HINT))
}

/// Has the registry said no? Engines answer with its own status only for registries that give out tokens; for those that ask
/// for user and password themselves, they fail and quote it.
fn is_refusal(status: u16, message: &str) -> bool {
    status == 401 || message.contains("failed with status: 401")
}

const UNCHECKED_HINT: &str = "to keep it without asking: skep registry login --no-check";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_lets_nobody_in_is_told_from_one_that_cannot_be_asked() {
        let quoted = "login attempt to http://10.0.0.1:5000/v2/ failed with status: 401 Unauthorized";
        assert!(is_refusal(500, quoted) && is_refusal(401, "unauthorized: incorrect username or password"));
        assert!(!is_refusal(500, "Get \"http://10.0.0.1:5000/v2/\": connection refused"));
        assert!(!is_refusal(500, "login attempt to http://10.0.0.1:5000/v2/ failed with status: 503"));
    }
}
