//! The outermost layer: every answer leaves with the headers that every answer has, and problems get their body here.

use axum::Json;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use skep_ledger::Revision;
use uuid::Uuid;

use crate::problem::{Code, Problem};
use crate::rest::join;
use crate::{Api, freshness, precondition};

/// The newest change that the answer knows of.
const REVISION: HeaderName = HeaderName::from_static("skep-revision");
/// Revisions are comparable within one epoch; a new one begins when a cluster is recovered or restored.
const EPOCH: HeaderName = HeaderName::from_static("skep-epoch");
/// The manager that answered.
const NODE: HeaderName = HeaderName::from_static("skep-node");
/// Finds the request in that manager's log.
const REQUEST_ID: HeaderName = HeaderName::from_static("skep-request-id");

/// What browsers and caches are told: answers are nobody else's, nothing of them is run, shown in a frame or guessed at, and this
/// name is asked over TLS only (OWASP, "REST Security Cheat Sheet").
const GUARDS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "private, no-cache"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// The path with its query: names have at most 63 characters, and nothing larger belongs into a query (RFC 9110, 4.1).
const URI_BYTES_MAX: usize = 8_000;

/// Finds the request in the manager's log.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// An answer that is true at a revision.
pub(crate) struct At<T>(pub(crate) Revision, pub(crate) T);

impl<T: IntoResponse> IntoResponse for At<T> {
    fn into_response(self) -> Response {
        let At(revision, answer) = self;
        ([(REVISION, HeaderValue::from(revision))], answer).into_response()
    }
}

/// One object, true at a revision, with the tag of its own.
pub(crate) struct One<T>(pub(crate) Revision, pub(crate) Revision, pub(crate) T);

impl<T: Serialize> IntoResponse for One<T> {
    fn into_response(self) -> Response {
        let One(at, own, document) = self;
        At(at, ([(header::ETAG, precondition::tag(own))], Json(document))).into_response()
    }
}

/// The path as it may be shown: where a token is part of it, the pattern that it fits.
pub(crate) fn shown_path(request: &Request) -> String {
    let path = request.uri().path();
    let pattern = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    match path.starts_with(join::PREFIX) {
        true => pattern.unwrap_or(join::PREFIX).to_owned(),
        false => path.to_owned(),
    }
}

fn too_long(request: &Request) -> Option<Box<Problem>> {
    let bytes = request.uri().path_and_query().map_or(0, |asked| asked.as_str().len());
    let detail = || format!("the path with its query has {bytes} bytes, and may have {URI_BYTES_MAX}");
    (bytes > URI_BYTES_MAX).then(|| Problem::new(Code::UriTooLong, detail()))
}

/// Gives the request an id and the answer its headers.
pub(crate) async fn dress(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let known = request.headers().get(header::IF_NONE_MATCH).filter(|_| request.method().is_safe()).cloned();
    let (method, path) = (request.method().clone(), shown_path(&request));
    let mut response = match too_long(&request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    if let Some(mut problem) = response.extensions_mut().remove::<Box<Problem>>() {
        problem.request_id = Some(id.clone());
        if problem.status >= 500 {
            tracing::warn!(
                request.id = id, %method, path, code = problem.code, detail = problem.detail,
                "a request could not be answered"
            );
        }
        write(&mut response, &problem);
    }
    precondition::spare_what_is_known(known.as_ref(), &mut response);
    tracing::debug!(request.id = id, %method, path, status = response.status().as_u16(), "a request was answered");
    let headers = response.headers_mut();
    if !headers.contains_key(REVISION) {
        headers.insert(REVISION, HeaderValue::from(*api.ledger().feed().latest().borrow()));
    }
    for (name, value) in GUARDS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert(EPOCH, HeaderValue::from(api.parts.cluster.epoch()));
    freshness::describe(&api, headers);
    // Both are plain words; one that cannot be a header is left out rather than failing the answer.
    for (name, value) in [(NODE, api.parts.cluster.node_name()), (REQUEST_ID, &id)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// An answer of a manager that is too busy to do more than say so.
pub(crate) fn without_a_manager(problem: Box<Problem>) -> Response {
    let mut response = problem.clone().into_response();
    write(&mut response, &problem);
    response
}

fn write(response: &mut Response, problem: &Problem) {
    // Strings and numbers only: nothing in a problem can fail to serialize.
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::from(body);
}
