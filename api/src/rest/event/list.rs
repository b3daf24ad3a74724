//! Lists as streams: a list that is asked for as server-sent events is followed, as `GET /v1/events` follows its topic.

use axum::Extension;
use axum::RequestPartsExt as _;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::Method;
use http::request::Parts;
use skep_model::access::Caller;

use super::{Following, follow};
use crate::Api;
use crate::extract::Params;
use crate::problem::{Code, Problem, Reply};
use crate::rest::operation::follow::wants_events;

/// Every list whose objects can be followed, and the kind of its topic.
const FOLLOWED: &[(&str, &str)] = &[
    ("/v1/audit", "audit"),
    ("/v1/environments", "environment"),
    ("/v1/environments/{environment}/hosts", "host"),
    ("/v1/environments/{environment}/stacks", "stack"),
    ("/v1/operations", "operation"),
    ("/v1/templates", "template"),
];

/// Answers with a stream where one is asked for and there is one.
pub(crate) async fn follow_lists(State(api): State<Api>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let followed = FOLLOWED.iter().find(|(list, _)| path == Some(list));
    match followed.filter(|_| request.method() == Method::GET && wants_events(request.headers())) {
        Some((_, kind)) => {
            let (parts, _) = request.into_parts();
            stream(api, parts, kind).await.unwrap_or_else(|problem| problem.into_response())
        }
        None => next.run(request).await,
    }
}

async fn stream(api: Api, mut parts: Parts, kind: &str) -> Reply<Response> {
    if let Some(query) = parts.uri.query().filter(|query| !query.is_empty()) {
        let detail = format!("a list that is followed is followed as a whole, and there is '?{query}'");
        return Err(Problem::new(Code::MalformedRequest, detail).hinting(format!(
            "leave the query out, or follow a part of it: GET /v1/events?topics={kind}:…"
        )));
    }
    let places = parts.extract::<RawPathParams>().await.ok();
    let environment = places.iter().flatten().find(|(name, _)| *name == "environment");
    let topic = match environment {
        Some((_, environment)) => format!("{kind}:{environment}/*"),
        None => format!("{kind}:*"),
    };
    let caller = parts.extensions.remove::<Caller>().ok_or_else(Problem::unauthenticated)?;
    let following = Following { topics: Some(topic), ..Following::default() };
    follow(State(api), Extension(caller), Params(following), parts.headers).await
}
