//! Who may ask for what: one table, and the one place that decides.
//!
//! A route that is missing here is closed to everybody, and a test that walks the API's description says so.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use axum::RequestPartsExt as _;
use axum::extract::{MatchedPath, RawPathParams};
use http::request::Parts;
use http::{HeaderMap, Method};
use skep_ledger::View;
use skep_model::access::Permission::{self, *};
use skep_model::access::{Caller, Scope, Verdict};
use skep_model::{CLUSTER, Refusal, environment, operation};

use crate::audit::Trail;
use crate::limits::Class;
use crate::problem::{Code, Problem, Reply};
use crate::{Api, auth, cookie, rest};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the port: it tells nothing, or asks for a secret of its own.
    Open,
    /// Whoever is signed in. What they get is chosen by what they may see.
    SignedIn,
    /// Whoever may do that in the cluster.
    Cluster(Permission),
    /// Whoever may do that in the environment that the path names.
    Environment(Permission),
    /// Whoever may see what the operation in the path is about.
    SeeOperation,
    /// Whoever may change what the operation in the path is about.
    ChangeOperation,
}

use Access::{ChangeOperation, Cluster, Environment, Open, SeeOperation, SignedIn};

/// Every route, in the order of the paths.
pub const ROUTES: &[(&str, &str, Access)] = &[
    ("GET", "/join/{token}", Open),
    ("GET", "/join/{token}/skep", Open),
    ("GET", "/lbz", Open),
    ("GET", "/leaderz", Open),
    ("GET", "/livez", Open),
    ("GET", "/metrics", Cluster(ViewCluster)),
    ("GET", "/readyz", Open),
    ("GET", "/v1/audit", Cluster(ViewAudit)),
    ("GET", "/v1/audit/seals", Cluster(ViewAudit)),
    ("GET", "/v1/auth-providers", Open),
    ("GET", "/v1/cluster", Cluster(ViewCluster)),
    ("POST", "/v1/cluster/actions/rotate-certificates", Cluster(ManageCluster)),
    ("POST", "/v1/cluster/actions/transfer-leader", Cluster(ManageCluster)),
    ("GET", "/v1/cluster/autopilot", Cluster(ViewCluster)),
    ("PUT", "/v1/cluster/autopilot", Cluster(ManageCluster)),
    ("GET", "/v1/cluster/sans", Cluster(ViewCluster)),
    ("PUT", "/v1/cluster/sans", Cluster(ManageCluster)),
    ("GET", "/v1/cluster/join-tokens", Cluster(ManageCluster)),
    ("POST", "/v1/cluster/join-tokens", Cluster(ManageCluster)),
    ("DELETE", "/v1/cluster/join-tokens/{token}", Cluster(ManageCluster)),
    ("GET", "/v1/cluster/members", Cluster(ViewCluster)),
    ("POST", "/v1/cluster/members/{member}/actions/drain", Cluster(ManageCluster)),
    ("POST", "/v1/cluster/members/{member}/actions/promote", Cluster(ManageCluster)),
    ("POST", "/v1/cluster/members/{member}/actions/remove", Cluster(ManageCluster)),
    ("POST", "/v1/cluster/members/{member}/actions/resume", Cluster(ManageCluster)),
    ("POST", "/v1/device-codes", Open),
    ("POST", "/v1/device-codes/actions/exchange", Open),
    ("GET", "/v1/device-codes/{user_code}", SignedIn),
    ("POST", "/v1/device-codes/{user_code}/actions/approve", SignedIn),
    ("POST", "/v1/device-codes/{user_code}/actions/deny", SignedIn),
    ("GET", "/v1/drivers", Cluster(ViewDriver)),
    ("GET", "/v1/drivers/{driver}/orphans", Cluster(ViewCluster)),
    ("DELETE", "/v1/drivers/{driver}/orphans/{host}", Cluster(ManageCluster)),
    ("GET", "/v1/environments", SignedIn),
    ("POST", "/v1/environments", Cluster(CreateEnvironment)),
    ("GET", "/v1/environments/{environment}", Environment(ViewEnvironment)),
    ("PATCH", "/v1/environments/{environment}", Environment(ManageEnvironment)),
    ("DELETE", "/v1/environments/{environment}", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/actions/apply", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/actions/diagnose", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/actions/pause", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/actions/rescue", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/actions/restore", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/actions/resume", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/actions/rotate-ca", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/actions/rotate-tokens", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/actions/rotate-unlock-key", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/actions/show-unlock-key", Environment(ViewSecret)),
    ("POST", "/v1/environments/{environment}/actions/unlock", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/actions/upgrade", Environment(ManageEnvironment)),
    ("GET", "/v1/environments/{environment}/hosts", Environment(ViewHost)),
    ("POST", "/v1/environments/{environment}/hosts", Environment(ManageHost)),
    ("GET", "/v1/environments/{environment}/hosts/{host}", Environment(ViewHost)),
    ("PATCH", "/v1/environments/{environment}/hosts/{host}", Environment(ManageHost)),
    ("DELETE", "/v1/environments/{environment}/hosts/{host}", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/hosts/{host}/actions/check", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/hosts/{host}/actions/cordon", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/hosts/{host}/actions/evacuate", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/hosts/{host}/actions/let-go", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/hosts/{host}/actions/replace", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/hosts/{host}/actions/reprovision", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/hosts/{host}/actions/uncordon", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/hosts/{host}/actions/upgrade", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/hosts/{host}/exec", Environment(UseHost)),
    ("GET", "/v1/environments/{environment}/hosts/{host}/logs", Environment(ViewLog)),
    ("GET", "/v1/environments/{environment}/hosts/{host}/stats", Environment(ViewHost)),
    ("PUT", "/v1/environments/{environment}/hosts/{host}/swarm-state", Environment(ManageEnvironment)),
    ("POST", "/v1/environments/{environment}/images", Environment(ManageImage)),
    ("GET", "/v1/environments/{environment}/members", Environment(ViewMember)),
    ("PUT", "/v1/environments/{environment}/members/{kind}/{member}", Environment(ManageMember)),
    ("DELETE", "/v1/environments/{environment}/members/{kind}/{member}", Environment(ManageMember)),
    ("GET", "/v1/environments/{environment}/plan", Environment(ViewEnvironment)),
    ("GET", "/v1/environments/{environment}/registration-tokens", Environment(ManageHost)),
    ("POST", "/v1/environments/{environment}/registration-tokens", Environment(ManageHost)),
    ("DELETE", "/v1/environments/{environment}/registration-tokens/{token}", Environment(ManageHost)),
    ("GET", "/v1/environments/{environment}/registries", Environment(ViewRegistry)),
    ("GET", "/v1/environments/{environment}/registries/{registry}", Environment(ViewRegistry)),
    ("PUT", "/v1/environments/{environment}/registries/{registry}", Environment(ManageRegistry)),
    ("DELETE", "/v1/environments/{environment}/registries/{registry}", Environment(ManageRegistry)),
    ("GET", "/v1/environments/{environment}/stacks", Environment(ViewStack)),
    ("GET", "/v1/environments/{environment}/stacks/{stack}", Environment(ViewStack)),
    ("PUT", "/v1/environments/{environment}/stacks/{stack}", Environment(ManageStack)),
    ("DELETE", "/v1/environments/{environment}/stacks/{stack}", Environment(ManageStack)),
    ("GET", "/v1/environments/{environment}/stacks/{stack}/tasks", Environment(ViewStack)),
    ("GET", "/v1/environments/{environment}/swarm-state", Environment(ViewSecret)),
    ("GET", "/v1/environments/{environment}/tasks", Environment(ViewStack)),
    ("GET", "/v1/environments/{environment}/tokens", Environment(ViewToken)),
    ("POST", "/v1/environments/{environment}/tokens", Environment(ManageToken)),
    ("DELETE", "/v1/environments/{environment}/tokens/{token}", Environment(ManageToken)),
    ("POST", "/v1/environments/{environment}/tokens/{token}/actions/rotate", Environment(ManageToken)),
    ("GET", "/v1/events", SignedIn),
    ("GET", "/v1/groups", Cluster(ViewUser)),
    ("POST", "/v1/groups", Cluster(ManageUser)),
    ("GET", "/v1/groups/{group}", Cluster(ViewUser)),
    ("DELETE", "/v1/groups/{group}", Cluster(ManageUser)),
    ("PUT", "/v1/groups/{group}/members/{user}", Cluster(ManageUser)),
    ("DELETE", "/v1/groups/{group}/members/{user}", Cluster(ManageUser)),
    ("GET", "/v1/meta", SignedIn),
    ("GET", "/v1/openapi.json", Open),
    ("GET", "/v1/operations", SignedIn),
    ("GET", "/v1/operations/{operation}", SeeOperation),
    ("POST", "/v1/operations/{operation}/actions/cancel", ChangeOperation),
    ("POST", "/v1/operations/{operation}/actions/pause", ChangeOperation),
    ("POST", "/v1/operations/{operation}/actions/resume", ChangeOperation),
    ("POST", "/v1/operations/{operation}/actions/retry", ChangeOperation),
    ("GET", "/v1/operations/{operation}/logs", SeeOperation),
    ("GET", "/v1/role-bindings", Cluster(ViewUser)),
    ("PUT", "/v1/role-bindings/{kind}/{member}", Cluster(ManageUser)),
    ("DELETE", "/v1/role-bindings/{kind}/{member}", Cluster(ManageUser)),
    ("GET", "/v1/roles", SignedIn),
    ("GET", "/v1/roles/{role}", SignedIn),
    ("PUT", "/v1/roles/{role}", Cluster(ManageUser)),
    ("DELETE", "/v1/roles/{role}", Cluster(ManageUser)),
    ("GET", "/v1/sessions", SignedIn),
    ("POST", "/v1/sessions", Open),
    ("GET", "/v1/sessions/{session}", SignedIn),
    ("DELETE", "/v1/sessions/{session}", SignedIn),
    ("POST", "/v1/setup", Open),
    ("GET", "/v1/snapshot-schedules", Cluster(ManageSnapshot)),
    ("GET", "/v1/snapshot-schedules/{schedule}", Cluster(ManageSnapshot)),
    ("PUT", "/v1/snapshot-schedules/{schedule}", Cluster(ManageSnapshot)),
    ("GET", "/v1/snapshots", Cluster(ManageSnapshot)),
    ("POST", "/v1/snapshots", Cluster(ManageSnapshot)),
    ("GET", "/v1/snapshots/{snapshot}", Cluster(ManageSnapshot)),
    ("DELETE", "/v1/snapshots/{snapshot}", Cluster(ManageSnapshot)),
    ("GET", "/v1/snapshots/{snapshot}/content", Cluster(ManageSnapshot)),
    ("GET", "/v1/templates", Cluster(ViewTemplate)),
    ("POST", "/v1/templates", Cluster(ManageTemplate)),
    ("GET", "/v1/templates/{template}", Cluster(ViewTemplate)),
    ("DELETE", "/v1/templates/{template}", Cluster(ManageTemplate)),
    ("GET", "/v1/tokens", SignedIn),
    ("POST", "/v1/tokens", SignedIn),
    ("DELETE", "/v1/tokens/{token}", SignedIn),
    ("POST", "/v1/tokens/{token}/actions/rotate", SignedIn),
    ("GET", "/v1/users", Cluster(ViewUser)),
    ("POST", "/v1/users", Cluster(ManageUser)),
    ("GET", "/v1/users/{user}", Cluster(ViewUser)),
    ("DELETE", "/v1/users/{user}", Cluster(ManageUser)),
    ("POST", "/v1/users/{user}/actions/disable", Cluster(ManageUser)),
    ("POST", "/v1/users/{user}/actions/enable", Cluster(ManageUser)),
    ("PUT", "/v1/users/{user}/password", SignedIn),
    ("GET", "/v1/whoami", SignedIn),
];

/// Every service of gRPC whose procedures lead to no routes, with who may call it, in the order of the names.
pub const SERVICES: &[(&str, Access)] = &[
    ("grpc.health.v1.Health", Open),
    ("grpc.reflection.v1.ServerReflection", SignedIn),
    ("skep.v1.Kv", Cluster(UseStore)),
];

/// Every route that there is, with who may ask; nobody, where the table does not say.
static KNOWN: LazyLock<HashMap<(String, String), Option<Access>>> = LazyLock::new(|| {
    let listed = |method: &str, path: &str| {
        let entry = ROUTES.iter().find(|(known, at, _)| (*known, *at) == (method, path));
        entry.map(|(.., access)| *access)
    };
    let routes = rest::documented().into_iter();
    routes
        .map(|(method, path)| {
            let access = listed(&method, &path);
            ((method, path), access)
        })
        .collect()
});

/// May it be asked for without a token?
pub(crate) fn is_open(method: &Method, path: &str) -> bool {
    access(method, path) == Some(Some(Access::Open))
}

/// Who may ask; `None` if there is no such route, which the router tells better.
fn access(method: &Method, path: &str) -> Option<Option<Access>> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    KNOWN.get(&(method.as_str().to_owned(), path.to_owned())).copied()
}

/// Lets a request pass, or says why not. The caller, if there is one.
pub(crate) async fn admit(api: &Api, parts: &mut Parts) -> Reply<Option<Arc<Caller>>> {
    let matched = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let access = matched.as_deref().and_then(|path| access(&parts.method, path));
    // That a public path does not take a method is no secret either.
    let is_public =
        || ROUTES.iter().any(|(_, path, access)| *access == Open && matched.as_deref() == Some(*path));
    if access == Some(Some(Access::Open)) || (access.is_none() && is_public()) {
        return Ok(None);
    }
    let browser = auth::browser(api, &parts.headers).await?;
    let (caller, cookie) = match browser {
        Some((caller, token)) => (caller, Some(token)),
        None => (auth::caller(api, &parts.headers).await?, None),
    };
    if let Some(trail) = parts.extensions.get::<Arc<Trail>>() {
        trail.is_of(&caller);
    }
    if let Some(token) = cookie {
        cookie::ensure_own_page(parts, &token)?;
    }
    // Before anything is looked up for the answer: whoever may not do it is counted as well.
    let (standing, spent) = api.spend(&caller, Class::of(&parts.method));
    if let Some(standing) = standing {
        parts.extensions.insert(standing);
    }
    spent?;
    match access {
        // Even that a path does not exist is told only to those who may come in.
        None | Some(Some(Access::SignedIn)) => Ok(Some(caller)),
        Some(None) => Err(forbidden("nobody may ask for this")),
        Some(Some(access)) => {
            let names = parts.extract::<RawPathParams>().await.ok();
            let named = |what: &str| {
                let mut names = names.iter().flatten();
                names.find(|(name, _)| *name == what).map(|(_, value)| value.to_owned())
            };
            let (environment, operation) = (named("environment"), named("operation"));
            let place = environment.or(operation).unwrap_or_default();
            permitted(api, access, &place, caller).await.map(Some)
        }
    }
}

/// Lets a call of a service that has no routes pass, or says why not.
pub(crate) async fn admit_to_service(
    api: &Api,
    service: &str,
    class: Class,
    headers: &HeaderMap,
) -> Reply<()> {
    let access = SERVICES.iter().find(|(name, _)| *name == service).map(|(_, access)| *access);
    if access == Some(Access::Open) {
        return Ok(());
    }
    let caller = auth::caller(api, headers).await?;
    api.spend(&caller, class).1?;
    match access {
        Some(access) => permitted(api, access, "", caller).await.map(drop),
        None => Err(forbidden("nobody may ask for this")),
    }
}

impl Access {
    /// May the caller do it wherever it is? Then they need not be asked where; whether there is such a place the handler tells.
    fn is_given_everywhere(&self, caller: &Caller) -> bool {
        let enough: &[Permission] = match self {
            Access::Open | Access::SignedIn => &[],
            Access::Cluster(permission) | Access::Environment(permission) => std::slice::from_ref(permission),
            Access::SeeOperation => &[ViewEnvironment, ViewCluster],
            Access::ChangeOperation => &[ManageEnvironment, ManageHost, ManageStack, ManageCluster],
        };
        enough.iter().all(|permission| caller.grants.has_everywhere(*permission))
    }
}

/// Whoever asks, if they may.
async fn permitted(api: &Api, access: Access, place: &str, caller: Arc<Caller>) -> Reply<Arc<Caller>> {
    if access.is_given_everywhere(&caller) {
        return Ok(caller);
    }
    // What this manager knows is enough for a yes; for a no it may be too old.
    if decide(&api.ledger().view(), access, place, &caller).is_ok() {
        return Ok(caller);
    }
    let Ok(fresh) = api.ledger().fresh_view().await else {
        return decide(&api.ledger().view(), access, place, &caller).map(|()| caller);
    };
    let caller = Arc::new(auth::again(api, &fresh, &caller)?);
    decide(&fresh, access, place, &caller).map(|()| caller)
}

fn decide(view: &View, access: Access, place: &str, caller: &Caller) -> Reply<()> {
    if access.is_given_everywhere(caller) {
        return Ok(());
    }
    // It would tear keys apart; see `Reference`.
    if place.chars().any(char::is_control) {
        return Err(Problem::new(Code::MalformedRequest, "a name has no control characters"));
    }
    let (permission, scope) = match access {
        Access::Open | Access::SignedIn => return Ok(()),
        Access::Cluster(permission) => (permission, Scope::Cluster),
        Access::Environment(permission) => match environment::find(view, place) {
            Ok(environment) => (permission, Scope::from(&environment.record)),
            // Told in the same words as one that is hidden.
            Err(refusal) => return Err(refusal.into()),
        },
        Access::SeeOperation | Access::ChangeOperation => {
            let Some(stored) = view.get::<operation::Operation>(CLUSTER, place)? else {
                return Err(hidden("operation", place));
            };
            (permission_about(&stored, access), scope_of(&stored))
        }
    };
    match caller.grants.verdict(permission, &scope) {
        Verdict::Allow => Ok(()),
        Verdict::Hide if matches!(access, Access::Environment(_)) => Err(hidden("environment", place)),
        Verdict::Hide => Err(hidden("operation", place)),
        Verdict::Forbid => {
            Err(forbidden(&format!("{} is not allowed to {}", caller.principal, permission.as_str())))
        }
    }
}

/// Where an operation happens.
pub(crate) fn scope_of(operation: &operation::Operation) -> Scope {
    operation.environment.as_ref().map_or(Scope::Cluster, |(id, _)| Scope::Environment(id.clone()))
}

/// May the caller see it?
pub(crate) fn sees_operation(caller: &Caller, operation: &operation::Operation) -> bool {
    caller.grants.has(permission_about(operation, Access::SeeOperation), &scope_of(operation))
}

fn permission_about(operation: &operation::Operation, access: Access) -> Permission {
    match (operation.environment.is_some(), access, operation.subject.kind.as_str()) {
        (true, Access::ChangeOperation, "host" | "machine" | "replacement") => ManageHost,
        (true, Access::ChangeOperation, "stack") => ManageStack,
        (true, Access::ChangeOperation, _) => ManageEnvironment,
        (true, ..) => ViewEnvironment,
        (false, Access::ChangeOperation, _) => ManageCluster,
        (false, ..) => ViewCluster,
    }
}

/// What the caller may not even know of is not there.
pub(crate) fn hidden(what: &'static str, name: &str) -> Box<Problem> {
    Refusal::NotFound { what, name: name.to_owned(), scope: None }.into()
}

fn forbidden(detail: &str) -> Box<Problem> {
    Problem::new(Code::Forbidden, detail).hinting(
        "see what you may do: skep whoami; whoever owns the environment, or an administrator, can give more",
    )
}
