//! A manager's API played by a script, over real sockets.

#![allow(dead_code, reason = "each test file uses its part")]

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skep_cli::{ClientLine, Screen, Variables, run_until};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Longer than anything here takes, shorter than a person waits for a test run.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) key: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) last_event: Option<String>,
    pub(crate) wants_events: bool,
    pub(crate) body: Vec<u8>,
}

/// What the script answers.
pub(crate) enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    /// Something of this content type.
    Kind(u16, &'static str, &'static str),
    /// Closes the connection without an answer.
    Drop,
    /// An event stream that ends after these bytes.
    Events(Vec<String>),
    /// An event stream that says this and then stays open.
    EndlessEvents(Vec<String>),
}

/// A running server; stops when dropped.
pub(crate) struct Manager {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Manager {
    /// Starts one that answers each request as the script says; the number counts requests from 0.
    pub(crate) async fn start(script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Manager {
        Manager::start_with(None, script).await
    }

    /// As `start`, over TLS if there is an acceptor.
    pub(crate) async fn start_with(
        tls: Option<tokio_rustls::TlsAcceptor>,
        script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Manager {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Script = Arc::new(script);
        let state = Played { seen: seen.clone(), script };
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, state) = (tls.clone(), state.clone());
                tokio::spawn(async move {
                    match tls {
                        None => state.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                state.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Manager { address, seen, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }
}

type Script = Arc<dyn Fn(usize, &Seen) -> Reply + Send + Sync>;

#[derive(Clone)]
struct Played {
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Script,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Played {
    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(|request| self.clone().answer(request));
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, &'static str> {
        let header = |name: &str| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
        let mut seen = Seen {
            method: request.method().to_string(),
            target: request.uri().to_string(),
            key: header("idempotency-key"),
            token: header("authorization"),
            last_event: header("last-event-id"),
            wants_events: header("accept").as_deref() == Some("text/event-stream"),
            body: Vec::new(),
        };
        seen.body =
            request.into_body().collect().await.map_err(|_| "the body broke off")?.to_bytes().to_vec();
        let number = {
            let mut all = self.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let answer = Response::builder().header("skep-node", "m2").header("skep-request-id", "0198");
        let response = match (self.script)(number, &seen) {
            Reply::Drop => return Err("as the script says"),
            Reply::Json(status, value) => {
                answer.status(status).body(Full::new(Bytes::from(value.to_string())).boxed_unsync())
            }
            Reply::Text(status, text) => {
                answer.status(status).body(Full::new(Bytes::from(text)).boxed_unsync())
            }
            Reply::Kind(status, kind, text) => answer
                .status(status)
                .header("content-type", kind)
                .body(Full::new(Bytes::from(text)).boxed_unsync()),
            Reply::Events(frames) => {
                let frames = futures::stream::iter(frames).map(frame);
                answer
                    .header("content-type", "text/event-stream")
                    .body(StreamBody::new(frames).boxed_unsync())
            }
            Reply::EndlessEvents(frames) => {
                let frames = futures::stream::iter(frames).map(frame).chain(futures::stream::pending());
                answer
                    .header("content-type", "text/event-stream")
                    .body(StreamBody::new(frames).boxed_unsync())
            }
        };
        Ok(response.unwrap())
    }
}

fn frame(text: String) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::from(text)))
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `skep LINE` against these managers, with a token and the environment `prod`.
pub(crate) async fn skep(urls: &[String], line: &str) -> Outcome {
    let urls = urls.join(",");
    skep_with(&[("SKEP_URL", &urls), ("SKEP_TOKEN", "skp_secret"), ("SKEP_ENV", "prod")], line).await
}

/// Runs `skep LINE` with exactly these environment variables.
pub(crate) async fn skep_with(variables: &[(&str, &str)], line: &str) -> Outcome {
    skep_until(variables, line, std::future::pending()).await
}

/// As `skep_with`, until Ctrl-C comes.
pub(crate) async fn skep_until(
    variables: &[(&str, &str)],
    line: &str,
    interrupt: impl Future<Output = ()>,
) -> Outcome {
    // One without a project.
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), variables, line, interrupt).await
}

/// As `skep_with`, in a folder.
pub(crate) async fn skep_in(folder: &Path, variables: &[(&str, &str)], line: &str) -> Outcome {
    run_in(folder, variables, line, std::future::pending()).await
}

async fn run_in(
    folder: &Path,
    variables: &[(&str, &str)],
    line: &str,
    interrupt: impl Future<Output = ()>,
) -> Outcome {
    let parsed = ClientLine::try_parse_from(std::iter::once("skep").chain(line.split_whitespace())).unwrap();
    let (out, err) = (Buffer::default(), Buffer::default());
    let screen = Screen::of(out.clone(), err.clone());
    let variables = Variables::of(variables.iter().copied());
    let running = run_until(parsed.command, parsed.flags, variables, folder, screen, interrupt);
    let code = tokio::time::timeout(COMMAND_TIMEOUT, running)
        .await
        .unwrap_or_else(|_| panic!("'{line}' did not end; so far:\n{}{}", out.text(), err.text()));
    Outcome { code, out: out.text(), err: err.text() }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An operation document of one step.
pub(crate) fn operation(id: &str, target: &str, state: &str, step: &str, revision: u64) -> Value {
    json!({
        "id": id, "type": "create-host", "target": target, "env": "prod", "state": state, "message": "",
        "created_at": "2026-11-20T10:00:00Z", "started_at": "2026-11-20T10:00:01Z", "ended_at": null,
        "steps": [{"name": "machine", "state": step, "attempt": 1, "owner": "m1", "message": "",
                   "started_at": "2026-11-20T10:00:02Z", "ended_at": "2026-11-20T10:00:03Z"}],
        "parent": null, "children": [], "attempts_by_node": {"m1": 1}, "result": null, "error": null,
        "revision": revision,
    })
}

/// The frame of an operation in an event stream.
pub(crate) fn put(operation: &Value) -> String {
    format!(": heartbeat\n\nid: {}\nevent: put\ndata: {operation}\n\n", operation["revision"])
}

/// A problem document.
pub(crate) fn problem(status: u16, outcome: Option<&str>) -> Value {
    json!({"type": "about:blank", "title": "Refused", "status": status, "detail": format!("Refused with {status}."),
           "code": "SKP-1301", "reason": "REFUSED", "params": {}, "errors": [], "hint": "do otherwise",
           "retryable": false, "outcome": outcome, "request_id": "0198"})
}
