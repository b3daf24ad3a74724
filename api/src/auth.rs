//! Who is asking. Everything is closed unless it stands in [`OPEN`] or below one of [`OPEN_BELOW`].
//!
//! One layer around all routes rather than an extractor per handler, so that a new route cannot forget it. Even a
//! path that does not exist is told only to those who may come in.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use skep_model::access;

use crate::Api;
use crate::problem::{Problem, Reply};
use crate::rest::join;

/// What may be asked without a token: probes, which tell nothing, and the description of the API, which is public.
const OPEN: &[&str] = &["/livez", "/readyz", "/lbz", "/leaderz", "/v1/openapi.json"];

/// Routes below these ask for a token of their own, in the path.
const OPEN_BELOW: &[&str] = &[join::PREFIX];

/// May it be asked for without an API token?
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || OPEN_BELOW.iter().any(|prefix| path.starts_with(prefix))
}

/// Whoever the token belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Principal(pub(crate) String);

/// Lets a request pass that has a valid token, or needs none.
pub(crate) async fn require(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    match principal(&api, request.headers()).await {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// A token that this replica knows is enough, so that reads work without a leader. One that it does not know may have
/// been made a moment ago elsewhere.
pub(crate) async fn principal(api: &Api, headers: &HeaderMap) -> Reply<Principal> {
    let token = bearer(headers).filter(|token| access::parse(token).is_some());
    let token = token.ok_or_else(Problem::unauthenticated)?;
    if let Some(known) = access::principal(&api.ledger().view(), token)? {
        return Ok(Principal(known));
    }
    let fresh = api.ledger().fresh_view().await?;
    access::principal(&fresh, token)?.map(Principal).ok_or_else(Problem::unauthenticated)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_read_from_its_header_only_with_its_scheme() {
        for (value, token) in [
            ("Bearer skp_a_b", Some("skp_a_b")),
            ("bearer skp_a_b", Some("skp_a_b")),
            ("Basic skp_a_b", None),
            ("skp_a_b", None),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(bearer(&headers), token, "{value}");
        }
    }
}
