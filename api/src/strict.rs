//! Nothing of a request is skipped. Bodies and queries are read by handlers, which name what they do not know; a query that
//! no handler reads is refused here.

use std::collections::HashSet;
use std::sync::LazyLock;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::Method;

use crate::problem::{Code, Problem};
use crate::rest;

/// Method and path of every route that takes no query.
static WITHOUT_QUERY: LazyLock<HashSet<(String, String)>> =
    LazyLock::new(|| rest::documented_without_query().into_iter().collect());

/// Refuses a query where there can be none.
pub(crate) async fn require(request: Request, next: Next) -> Response {
    let first = request.uri().query().and_then(|query| query.split(['&', '=']).next());
    let Some(name) = first.filter(|name| !name.is_empty() && reads_no_query(&request)) else {
        return next.run(request).await;
    };
    let detail = format!("this takes no parameters in its query, and there is '{}'", name.escape_debug());
    Problem::new(Code::MalformedRequest, detail).into_response()
}

fn reads_no_query(request: &Request) -> bool {
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let path = request.extensions().get::<MatchedPath>();
    path.is_some_and(|path| WITHOUT_QUERY.contains(&(method.to_string(), path.as_str().to_owned())))
}
