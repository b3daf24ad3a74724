//! Who is asking. Everything is closed unless [`access`](crate::access) says that it is open.
//!
//! One layer around all routes rather than an extractor per handler, so that a new route cannot forget it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use skep_ledger::View;
use skep_model::access::{self, Caller};

use crate::limits::Standing;
use crate::problem::{Problem, Reply};
use crate::{Api, access as who, cookie};

/// Lets a request pass that may be asked, with whoever asks.
pub(crate) async fn require(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let admitted = who::admit(&api, &mut parts).await;
    let standing = parts.extensions.remove::<Standing>();
    let mut response = match admitted {
        Ok(caller) => {
            if let Some(caller) = caller {
                parts.extensions.insert(Arc::unwrap_or_clone(caller));
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    };
    if let Some(standing) = standing {
        standing.tell(response.headers_mut());
    }
    response
}

/// Whose token the header `Authorization` has.
pub(crate) async fn caller(api: &Api, headers: &HeaderMap) -> Reply<Arc<Caller>> {
    known(api, token(headers)).await
}

/// Whoever asks with a browser: whose session the cookie has, with its token. A request that names another token in its header
/// does not mean the cookie.
pub(crate) async fn browser(api: &Api, headers: &HeaderMap) -> Reply<Option<(Arc<Caller>, String)>> {
    let Some(token) = cookie::token(headers).filter(|_| !headers.contains_key(AUTHORIZATION)) else {
        return Ok(None);
    };
    let caller = known(api, Some(token.clone())).await?;
    // A key is for programs; in a cookie it would last for ever.
    if !caller.has_session {
        return Err(Problem::unauthenticated());
    }
    Ok(Some((caller, token)))
}

/// A token that this replica knows is enough, so that reads work without a leader. One that it does not know may have
/// been made a moment ago elsewhere.
async fn known(api: &Api, token: Option<String>) -> Reply<Arc<Caller>> {
    let token = token.ok_or_else(Problem::unauthenticated)?;
    let now = api.ledger().now();
    let caller = match api.callers.find(&token, now, || api.ledger().view())? {
        Some(known) => known,
        None if access::parse(&token).is_none() => return Err(Problem::unauthenticated()),
        None => {
            let fresh = api.ledger().fresh_view().await?;
            Arc::new(access::caller(&fresh, &token, now)?.ok_or_else(Problem::unauthenticated)?)
        }
    };
    api.notes.used(&caller, now);
    Ok(caller)
}

/// Whoever asks, as far as this manager knows by itself: a probe waits for nobody.
pub(crate) fn known_here(api: &Api, headers: &HeaderMap) -> Option<Arc<Caller>> {
    api.callers.find(&token(headers)?, api.ledger().now(), || api.ledger().view()).ok()?
}

/// The same caller with what it may at another time.
pub(crate) fn again(api: &Api, view: &View, caller: &Caller) -> Reply<Caller> {
    access::again(view, caller, api.ledger().now())?.ok_or_else(Problem::unauthenticated)
}

/// The token of a request: `Bearer skp_ID_SECRET`, or the same as `Basic` with the id as the user and the secret as the
/// password, as `curl -u` sends it.
fn token(headers: &HeaderMap) -> Option<String> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.to_owned());
    }
    let pair = BASE64_STANDARD.decode(credentials).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (id, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(format!("{}{id}_{secret}", access::TOKEN_PREFIX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_read_from_its_header_only_with_its_scheme() {
        for (value, expected) in [
            ("Bearer skp_a_b", Some("skp_a_b")),
            ("bearer skp_a_b", Some("skp_a_b")),
            // "a:b"
            ("Basic YTpi", Some("skp_a_b")),
            // "ab"
            ("Basic YWI=", None),
            ("Basic skp_a_b", None),
            ("skp_a_b", None),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(token(&headers).as_deref(), expected, "{value}");
        }
    }
}
