//! A Docker client for any host, one stream of its own for every request.
//!
//! One stream per request, because a hijacked connection (attach, exec) can serve no second request,
//! and because a stream costs one round trip to the host, much less than what the request does there.

use std::io;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use http::header::{CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Response, Uri};
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::{Hub, HubError};

/// How long an engine may take to begin its answer to an ordinary request. Joining a swarm, pulling the
/// digest of an image or stopping a stubborn container take most of it.
const ANSWER_MAX: Duration = Duration::from_secs(5 * 60);

/// The same for a request that brings a body along as a stream: the answer to a loaded image begins
/// only after the image has arrived, over whatever line the host has.
const UPLOAD_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Where a login to a registry stands in a request.
const REGISTRY_LOGIN: &str = "x-registry-auth";

/// The longest answer to a call that bollard does not know: a key, or why there is none.
const CALL_ANSWER_BYTES_MAX: usize = 64 * 1024;

impl Hub {
    /// A Docker client for the host's engine. Nothing is connected before the first request. Requests
    /// carry the term, if there is one, and a host that has obeyed a higher one refuses them.
    pub fn docker(&self, host: &str, term: Option<u64>) -> Docker {
        let (hub, host) = (self.clone(), host.to_owned());
        let transport = move |request: BollardRequest| {
            let (hub, host) = (hub.clone(), host.clone());
            async move { hub.send(&host, term, request).await }
        };
        // The address is never dialled; the longest of our own limits is bollard's.
        Docker::connect_with_custom_transport(
            transport,
            Some("http://engine.skep.internal"),
            UPLOAD_MAX.as_secs(),
            API_DEFAULT_VERSION,
        )
        .expect("bollard takes every custom transport")
    }

    /// Asks the host's engine for something that bollard does not know, or has it done with a body. Body and answer are
    /// JSON.
    pub async fn call(
        &self,
        host: &str,
        term: Option<u64>,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, Error> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Either::Left(Full::new(body.unwrap_or_default().into())))?;
        let answer = self.send(host, term, request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), CALL_ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Error::IOError { err: io::Error::other(error) })?.to_bytes();
        match status.is_success() {
            true => Ok(body.into()),
            false => Err(Error::DockerResponseServerError {
                status_code: status.as_u16(),
                message: complaint(&body),
            }),
        }
    }

    async fn send(
        &self,
        host: &str,
        term: Option<u64>,
        request: BollardRequest,
    ) -> Result<Response<Incoming>, Error> {
        let stream = self.open(host, term).await.map_err(to_bollard)?;
        let Some(version) = common_version(stream.engine_api()) else {
            let message = format!("it does not say which API it speaks ({:?})", stream.engine_api());
            return Err(to_bollard(HubError::Engine { host: host.to_owned(), message }));
        };
        let patience = match request.body() {
            Either::Left(_) => ANSWER_MAX,
            Either::Right(_) => UPLOAD_MAX,
        };
        let request = address(request, &version)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // The request's caller sees the same error; this is for the log only.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to an engine has failed");
            }
        });
        let answer = tokio::time::timeout(patience, sender.send_request(request));
        Ok(answer.await.map_err(|_| Error::RequestTimeoutError)??)
    }
}

/// What an engine says in an answer that is none.
fn complaint(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Complaint {
        message: String,
    }
    let complaint = serde_json::from_slice::<Complaint>(body).map(|complaint| complaint.message);
    complaint.unwrap_or_else(|_| String::from_utf8_lossy(body).trim().to_owned())
}

/// The hub's own error inside an error of a client made by [`Hub::docker`], if that is what it was.
pub fn hub_error(error: &Error) -> Option<&HubError> {
    match error {
        Error::IOError { err } => err.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn to_bollard(error: HubError) -> Error {
    Error::IOError { err: io::Error::other(error) }
}

/// A request for an absolute address becomes one for a path of this connection, with the version that
/// both sides speak. Without a version the engine would answer in its newest dialect.
fn address(request: BollardRequest, version: &str) -> Result<BollardRequest, Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    parts.uri = Uri::try_from(format!("/v{version}{}", without_version(path)))?;
    parts.headers.insert(HOST, HeaderValue::from_static("docker"));
    if let Some(login) = parts.headers.get_mut(REGISTRY_LOGIN) {
        *login = for_urls(login);
    }
    Ok(BollardRequest::from_parts(parts, body))
}

/// Engines read logins in the alphabet for URLs, and bollard writes them in the other one. They stay out of whatever prints
/// requests.
fn for_urls(login: &HeaderValue) -> HeaderValue {
    let text = String::from_utf8_lossy(login.as_bytes()).replace('+', "-").replace('/', "_");
    let mut login = HeaderValue::from_str(&text).unwrap_or_else(|_| login.clone());
    login.set_sensitive(true);
    login
}

/// The path without a leading `/v1.NN`, in case bollard adds the one it was made with.
fn without_version(path: &str) -> &str {
    let Some((segment, rest)) = path.strip_prefix("/v").and_then(|path| path.split_once('/')) else {
        return path;
    };
    if parse_version(segment).is_some() { &path[path.len() - rest.len() - 1..] } else { path }
}

/// The engine's version, or the newest that bollard knows if that is older.
fn common_version(engine_api: &str) -> Option<String> {
    let ours = (API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version);
    let (major, minor) = parse_version(engine_api)?.min(ours);
    Some(format!("{major}.{minor}"))
}

fn parse_version(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_of_two_versions_is_spoken() {
        assert_eq!(common_version("1.41").as_deref(), Some("1.41"));
        assert_eq!(common_version("1.9").as_deref(), Some("1.9"));
        assert_eq!(
            common_version("9.0"),
            Some(format!("{}.{}", API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version))
        );
        assert_eq!(common_version(""), None);
        assert_eq!(common_version("new"), None);
    }

    #[test]
    fn a_login_is_written_as_engines_read_it_and_is_not_printed() {
        let login = for_urls(&HeaderValue::from_static("eyJ+/w=="));
        assert_eq!(login.as_bytes(), b"eyJ-_w==");
        assert!(!format!("{login:?}").contains("eyJ"), "{login:?}");
    }

    #[test]
    fn a_version_in_the_path_is_taken_out_and_nothing_else() {
        for (path, expected) in [
            ("/v1.53/info", "/info"),
            ("/info", "/info"),
            ("/version", "/version"),
            ("/volumes/v1.2", "/volumes/v1.2"),
            ("/v1.53", "/v1.53"),
            ("/vault/x", "/vault/x"),
        ] {
            assert_eq!(without_version(path), expected);
        }
    }
}
