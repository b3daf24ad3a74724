//! An HTTP server on a unix socket that speaks as much of the engine's API as the byte stream has to
//! prove: a version, an upload, a download, and an exec on a hijacked connection.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::{checksum, pattern};

const DOWNLOAD_BYTES: usize = 50 * 1024 * 1024;

/// One container, of a swarm's service, and its counters: one line, as engines write them.
const CONTAINERS: &str = r#"[{"Id":"c1","Names":["/shop_web.1.t1"],"State":"running",
    "Labels":{"com.docker.swarm.service.name":"shop_web","com.docker.swarm.task.id":"t1"}}]"#;
const COUNTERS: &str = concat!(
    r#"{"cpu_stats":{"cpu_usage":{"total_usage":1000},"system_cpu_usage":100000,"online_cpus":4},"#,
    r#""memory_stats":{"usage":1000,"limit":4000,"stats":{"inactive_file":300}},"#,
    r#""networks":{"eth0":{"rx_bytes":1,"tx_bytes":2}}}"#,
);

type Body = BoxBody<Bytes, Infallible>;

pub(crate) struct Engine {
    dir: TempDir,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Engine {
    pub(crate) fn start() -> Engine {
        let engine = Engine::absent();
        engine.begin();
        engine
    }

    /// An engine that does not run yet.
    pub(crate) fn absent() -> Engine {
        Engine { dir: tempfile::tempdir().unwrap(), paths: Arc::default() }
    }

    pub(crate) fn begin(&self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let paths = self.paths.clone();
        tokio::spawn(async move {
            loop {
                let (io, _) = listener.accept().await.unwrap();
                let paths = paths.clone();
                let service = service_fn(move |request| answer(paths.clone(), request));
                let connection =
                    http1::Builder::new().half_close(true).serve_connection(TokioIo::new(io), service);
                tokio::spawn(connection.with_upgrades());
            }
        });
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The paths that were asked for, without queries.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }
}

async fn answer(
    paths: Arc<Mutex<Vec<String>>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    paths.lock().unwrap().push(path.clone());
    assert!(request.headers().contains_key("host"));
    Ok(match path.trim_start_matches("/v1.41") {
        "/version" => {
            whole(r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#.to_owned())
        }
        "/info" => whole(r#"{"DockerRootDir":"/"}"#.to_owned()),
        "/containers/json" => whole(CONTAINERS.to_owned()),
        "/containers/c1/stats" => whole(COUNTERS.to_owned()),
        "/_ping" => whole("OK".to_owned()),
        "/images/load" => loaded(request).await,
        "/images/any/get" => download(),
        "/exec/any/start" => exec(request),
        _ => {
            let mut missing = whole(r#"{"message":"page not found"}"#.to_owned());
            *missing.status_mut() = StatusCode::NOT_FOUND;
            missing
        }
    })
}

fn whole(text: String) -> Response<Body> {
    Response::new(Full::new(Bytes::from(text)).boxed())
}

async fn loaded(request: Request<Incoming>) -> Response<Body> {
    let mut body = request.into_body();
    let (mut bytes, mut sum) = (0, 0);
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        bytes += data.len();
        sum = checksum(sum, &data);
    }
    whole(format!("{{\"stream\":\"{bytes} bytes, {sum:x}\"}}\n"))
}

fn download() -> Response<Body> {
    let chunks = futures::stream::iter(pattern(DOWNLOAD_BYTES)).map(|chunk| Ok(Frame::data(chunk)));
    Response::new(BodyExt::boxed(StreamBody::new(chunks)))
}

/// Greets, reads until the caller has ended its direction, and then answers.
fn exec(mut request: Request<Incoming>) -> Response<Body> {
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrading.await.unwrap());
        io.write_all(&output("hello\n")).await.unwrap();
        let mut input = String::new();
        io.read_to_string(&mut input).await.unwrap();
        io.write_all(&output(&format!("got: {input}, bye\n"))).await.unwrap();
        io.shutdown().await.unwrap();
    });
    let mut response = whole(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.docker.multiplexed-stream"));
    response
}

/// A frame of standard output as the engine writes it.
fn output(text: &str) -> Vec<u8> {
    let mut frame = vec![1, 0, 0, 0];
    frame.extend_from_slice(&(text.len() as u32).to_be_bytes());
    frame.extend_from_slice(text.as_bytes());
    frame
}
