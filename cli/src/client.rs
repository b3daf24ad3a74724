//! One client for several managers.
//!
//! Any manager serves the whole API, so the client only needs one that answers: it stays with it and moves on when it does not.
//! What may be done after a missing answer depends on what could have happened:
//!
//! | what was seen                              | may it have been done? | then                                              |
//! |--------------------------------------------|------------------------|---------------------------------------------------|
//! | no connection                              | no                     | next manager; after one round: unreachable        |
//! | 503 `not_started`, 429                     | no                     | next manager, with pauses, for some seconds       |
//! | connection lost, no answer in time,        | yes                    | reads: next manager. Writes: next manager with    |
//! | 503 `unknown`, 502/504 of a load balancer  |                        | the same idempotency key; then: outcome unknown   |
//! | anything else                              | the answer says it     | that is the answer                                |

mod construct;
mod download;
mod frames;
mod keys;
pub(crate) mod pages;
mod raw;
mod stream;
pub(crate) mod trust;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, RETRY_AFTER,
};
use reqwest::{Method, Response, Url};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

pub(crate) use self::stream::{EventStream, Pauses};
use crate::failure::{Failure, Refusal};
use crate::flags::Consistency;
use crate::screen::Screen;

/// A manager that does not accept a connection in this time is treated as gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Managers hold a request for at most five seconds during an election; three times that is no manager any more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a request that was not started (or whose answer was lost) is tried again: an election takes one to two seconds.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// Between two rounds over all managers: first, and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Silence after which a person is told whom we wait for.
const NOTICE_AFTER: Duration = Duration::from_millis(300);

/// The largest JSON answer that is read into memory.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Asks what would be done, and nothing more.
pub(crate) const DRY_RUN: (&str, &str) = ("dry_run", "true");

/// How much of an answer that is not JSON is shown.
const EXCERPT_CHARS_MAX: usize = 200;

/// Talks to the managers. Clones share the connections and the choice of the manager.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    http: reqwest::Client,
    managers: Vec<Url>,
    /// Index of the manager to use; moves on when it does not answer.
    current: AtomicUsize,
    authorization: Option<HeaderValue>,
    consistency: Option<Consistency>,
    dry_run: bool,
    /// Of this invocation; each write takes one of its own from it.
    key: Uuid,
    writes: AtomicUsize,
    write_under_way: AtomicBool,
    /// Nobody has to be told any more whom we wait for.
    noticed: AtomicBool,
    screen: Screen,
    verbose: bool,
    retry_for: Duration,
}

/// What is asked.
struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    query: &'a [(&'a str, &'a str)],
    payload: Payload<'a>,
}

/// What is sent along.
pub(crate) enum Payload<'a> {
    Nothing,
    /// Nothing, and the answer may take as long as the work does.
    Patience,
    Json(&'a Value),
    /// Only if the object is still of this revision; `None`: only if it is not there.
    JsonIf(&'a Value, Option<u64>),
    /// Perhaps something, and the connection becomes frames.
    Frames(Option<&'a Value>),
    /// As it was given, with these headers besides ours; the answer is taken as it comes.
    Raw {
        headers: &'a HeaderMap,
        body: Option<&'a str>,
    },
    /// Opened anew for each try; the answer may take as long as the work does.
    Stream(&'a (dyn Fn() -> io::Result<reqwest::Body> + Sync)),
}

impl Client {
    /// Reads an object or a list.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Failure> {
        self.read(path, query, self.shared.consistency, self.shared.retry_for).await
    }

    /// Reads what any manager knows by itself, without a leader and without patience.
    pub(crate) async fn get_stale(&self, path: &[&str]) -> Result<Value, Failure> {
        self.read(path, &[], Some(Consistency::Stale), Duration::ZERO).await
    }

    /// As [`Client::get`], but asks every manager at most once.
    pub(crate) async fn get_at_once(&self, path: &[&str]) -> Result<Value, Failure> {
        self.read(path, &[], self.shared.consistency, Duration::ZERO).await
    }

    async fn read(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        consistency: Option<Consistency>,
        retry_for: Duration,
    ) -> Result<Value, Failure> {
        let mut query = query.to_vec();
        query.extend(consistency.map(|mode| ("consistency", mode.as_str())));
        let call = Call { method: Method::GET, path, query: &query, payload: Payload::Nothing };
        let exchange = Exchange { client: self, call: &call, key: None, events: None, retry_for };
        exchange.run().await?.into_json()
    }

    /// Sends a change. It is done at most once, however often it has to be sent.
    pub(crate) async fn write(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        payload: Payload<'_>,
    ) -> Result<Value, Failure> {
        let call = Call { method, path, query, payload };
        let key = self.next_key();
        self.shared.write_under_way.store(true, Ordering::SeqCst);
        let exchange = Exchange {
            client: self,
            call: &call,
            key: Some(key),
            events: None,
            retry_for: self.shared.retry_for,
        };
        let answered = exchange.run().await;
        // Not reached on Ctrl-C: then the flag says that a write was cut off.
        self.shared.write_under_way.store(false, Ordering::SeqCst);
        answered?.into_json()
    }

    /// Leaves the current manager; used when its stream broke off.
    pub(crate) fn move_on(&self) {
        self.move_on_from(self.shared.current.load(Ordering::SeqCst));
    }

    /// Moves on unless somebody else who saw the same has done so already.
    fn move_on_from(&self, index: usize) {
        let next = (index + 1) % self.shared.managers.len();
        let _ = self.shared.current.compare_exchange(index, next, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Tells a person whom we wait for if the first answer takes long.
    async fn noticed<F: Future>(&self, url: &Url, sending: F) -> F::Output {
        tokio::pin!(sending);
        if self.shared.screen.is_watched() && !self.shared.noticed.swap(true, Ordering::SeqCst) {
            tokio::select! {
                biased;
                output = &mut sending => return output,
                () = sleep(NOTICE_AFTER) => {
                    let host = url.host_str().unwrap_or_default();
                    self.shared.screen.note(&format!("Connecting to {host}…"));
                }
            }
        }
        sending.await
    }
}

/// Asks for events, after the one with this id.
#[derive(Clone, Copy)]
struct LastSeen<'a>(Option<&'a str>);

/// One call with all its tries.
struct Exchange<'a> {
    client: &'a Client,
    call: &'a Call<'a>,
    /// Set for writes.
    key: Option<Uuid>,
    events: Option<LastSeen<'a>>,
    retry_for: Duration,
}

/// How one try at one manager ended.
enum Try {
    Answered(Answer),
    /// Refused for good.
    Refused(Box<Refusal>),
    /// Not started; another manager or a later moment may do.
    NotNow(Box<Refusal>, Option<Duration>),
    /// Nothing was sent.
    NotSent(String),
    /// Sent, and no usable answer came.
    Lost(String),
    /// Cannot succeed anywhere.
    Broken(Failure),
}

/// A 2xx answer.
enum Answer {
    Json(Value),
    Events {
        response: Response,
        /// The manager that serves it, if it said so.
        node: Option<String>,
    },
    File(Response),
    Frames(Response),
    Raw(Response),
}

impl Exchange<'_> {
    async fn run(&self) -> Result<Answer, Failure> {
        let began = Instant::now();
        let mut pause = PAUSE_FIRST;
        let mut lost = None;
        loop {
            let mut tried = Vec::new();
            let mut refused = None;
            let mut asked_to_wait = None;
            for _ in 0..self.client.shared.managers.len() {
                let index = self.client.shared.current.load(Ordering::SeqCst);
                let url = &self.client.shared.managers[index];
                match self.one_try(url, lost.is_some()).await {
                    Try::Answered(answer) => return Ok(answer),
                    Try::Refused(refusal) => return Err(Failure::Refused(refusal)),
                    // What cannot be sent a second time may have arrived the first time.
                    Try::Broken(_) if lost.is_some() => return Err(self.verdict(lost, None, tried)),
                    Try::Broken(failure) => return Err(failure),
                    Try::NotNow(refusal, wait) => {
                        refused = Some(refusal);
                        // Managers count by themselves: the one that is ready first decides.
                        asked_to_wait = [asked_to_wait, wait].into_iter().flatten().min();
                    }
                    Try::NotSent(why) => tried.push(format!("{} {why}", origin(url))),
                    Try::Lost(why) => {
                        tried.push(format!("{} {why}", origin(url)));
                        lost = Some(format!("{}: {why}", origin(url)));
                    }
                }
                self.client.move_on_from(index);
            }
            let hopeless = refused.is_none() && lost.is_none();
            // Whoever asks before the time that was named only makes it longer.
            let wait = asked_to_wait.unwrap_or(pause);
            if hopeless || began.elapsed() + asked_to_wait.unwrap_or_default() >= self.retry_for {
                return Err(self.verdict(lost, refused, tried));
            }
            sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Nobody answered: the worst that may have happened decides.
    fn verdict(&self, lost: Option<String>, refused: Option<Box<Refusal>>, tried: Vec<String>) -> Failure {
        match (self.key, lost, refused) {
            // The key of the invocation, not of this write: the whole command is what people repeat.
            (Some(_), Some(last), _) => {
                Failure::OutcomeUnknown { request: self.request(), key: self.client.shared.key, last }
            }
            (_, _, Some(refusal)) => Failure::Refused(refusal),
            (_, _, None) => Failure::Unreachable { tried },
        }
    }

    async fn one_try(&self, manager: &Url, sent_before: bool) -> Try {
        let shared = &self.client.shared;
        let request = match self.build(manager) {
            Ok(request) => request,
            Err(failure) => return Try::Broken(failure),
        };
        let began = Instant::now();
        let sending = self.client.noticed(manager, shared.http.execute(request));
        let response = match self.answer_timeout() {
            Some(limit) => timeout(limit, sending).await,
            None => Ok(sending.await),
        };
        match &response {
            Ok(Ok(response)) => {
                self.trace(manager, began, &format!("{}", response.status().as_u16()), response.headers())
            }
            Ok(Err(error)) => self.trace(manager, began, &reason(error), &HeaderMap::new()),
            Err(_) => self.trace(manager, began, "no answer", &HeaderMap::new()),
        }
        match response {
            Ok(Ok(response)) => self.judge(response, sent_before).await,
            Ok(Err(error)) if error.is_connect() => Try::NotSent(reason(&error)),
            Ok(Err(error)) if matches!(self.call.payload, Payload::Frames(_)) => Try::Broken(
                self.unreadable(&format!("{}; whether it has begun is not known", reason(&error))),
            ),
            Ok(Err(error)) => Try::Lost(reason(&error)),
            Err(_) => Try::Lost(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        }
    }

    /// An upload is answered when every host has it, a backup when it was verified: only their connections can time
    /// out.
    fn answer_timeout(&self) -> Option<Duration> {
        (!matches!(self.call.payload, Payload::Stream(_) | Payload::Patience)).then_some(ANSWER_TIMEOUT)
    }

    fn build(&self, manager: &Url) -> Result<reqwest::Request, Failure> {
        let shared = &self.client.shared;
        let url = address(manager, self.call.path);
        let mut request = shared.http.request(self.call.method.clone(), url);
        if !self.call.query.is_empty() {
            request = request.query(self.call.query);
        }
        // Here, where every request passes. A route that cannot be rehearsed does not know the parameter and refuses.
        if shared.dry_run && self.call.method != Method::GET && !self.call.query.contains(&DRY_RUN) {
            request = request.query(&[DRY_RUN]);
        }
        if let Some(authorization) = &shared.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(key) = self.key {
            request = request.header("idempotency-key", key.to_string());
        }
        request = match self.events {
            None => request.header(ACCEPT, "application/json"),
            Some(LastSeen(None)) => request.header(ACCEPT, "text/event-stream"),
            Some(LastSeen(Some(id))) => {
                request.header(ACCEPT, "text/event-stream").header("last-event-id", id)
            }
        };
        request = match &self.call.payload {
            Payload::Nothing | Payload::Patience => request,
            Payload::Frames(body) => frames::ask(request, *body),
            Payload::Json(value) => request.json(value),
            Payload::Raw { body: None, .. } => request,
            Payload::Raw { body: Some(body), .. } => {
                request.header(CONTENT_TYPE, "application/json").body((*body).to_owned())
            }
            Payload::JsonIf(value, Some(revision)) => {
                request.header(IF_MATCH, format!("\"{revision}\"")).json(value)
            }
            Payload::JsonIf(value, None) => request.header(IF_NONE_MATCH, "*").json(value),
            Payload::Stream(open) => {
                let body = open()
                    .map_err(|source| Failure::File { doing: "read the file to send".into(), source })?;
                request.header(CONTENT_TYPE, "application/x-tar").body(body)
            }
        };
        let mut request = request.build().map_err(|error| {
            Failure::usage(format!("the request cannot be built: {}", reason(&error)), "")
        })?;
        if let Payload::Raw { headers, .. } = &self.call.payload {
            request.headers_mut().extend((*headers).clone());
        }
        Ok(request)
    }

    async fn judge(&self, response: Response, sent_before: bool) -> Try {
        let status = response.status().as_u16();
        if status == 101 {
            return Try::Answered(Answer::Frames(response));
        }
        if matches!(self.call.payload, Payload::Raw { .. }) && status < 400 {
            return Try::Answered(Answer::Raw(response));
        }
        let node = header(&response, "skep-node");
        if response.status().is_success() && self.events.is_some() {
            let is_stream =
                header(&response, "content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
            return match is_stream {
                true => Try::Answered(Answer::Events { response, node }),
                false => Try::Broken(self.unreadable("it is not an event stream")),
            };
        }
        let wait = header(&response, RETRY_AFTER.as_str())
            .and_then(|text| text.parse().ok())
            .map(Duration::from_secs);
        let success = response.status().is_success();
        let is_file =
            header(&response, "content-type").is_some_and(|kind| kind == "application/octet-stream");
        if success && is_file {
            return Try::Answered(Answer::File(response));
        }
        let body = match self.body(response).await {
            Ok(body) => body,
            Err(why) => return Try::Lost(why),
        };
        if success {
            return self.success(&body);
        }
        let problem: Option<Value> = serde_json::from_slice(&body).ok().filter(Value::is_object);
        let by_skep = problem.is_some();
        let problem = problem.unwrap_or_else(|| foreign_problem(status, &body));
        let refusal = Box::new(Refusal { status, problem, write: self.key.is_some(), node });
        // Our own earlier try may still be running under this key; its result will be the answer.
        let own_first_try = status == 409 && sent_before && refusal.problem["retryable"] == true;
        match status {
            _ if refusal.outcome() == Some("unknown") => {
                Try::Lost(format!("answered {status}: outcome unknown"))
            }
            429 | 503 => Try::NotNow(refusal, wait),
            502 | 504 if !by_skep => Try::Lost(format!("a load balancer answered {status}")),
            _ if own_first_try => Try::NotNow(refusal, wait),
            _ => Try::Refused(refusal),
        }
    }

    fn success(&self, body: &[u8]) -> Try {
        if body.is_empty() {
            return Try::Answered(Answer::Json(Value::Null));
        }
        match serde_json::from_slice(body) {
            Ok(value) => Try::Answered(Answer::Json(value)),
            Err(error) => Try::Broken(self.unreadable(&error.to_string())),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let chunk = match timeout(ANSWER_TIMEOUT, response.chunk()).await {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(error)) => return Err(format!("the answer broke off: {}", reason(&error))),
                Err(_) => return Err("the answer stopped half-way".to_owned()),
            };
            let Some(chunk) = chunk else { return Ok(body) };
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err("the answer is too long".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn unreadable(&self, detail: &str) -> Failure {
        Failure::Unreadable { request: self.request(), detail: detail.to_owned() }
    }

    /// The request as people write it. Never with headers: the token is one.
    fn request(&self) -> String {
        format!("{} /{}", self.call.method, self.call.path.join("/"))
    }

    fn trace(&self, manager: &Url, began: Instant, outcome: &str, headers: &HeaderMap) {
        if !self.client.shared.verbose {
            return;
        }
        let query: Vec<String> =
            self.call.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let mut line = format!(
            "{} {}{query} -> {outcome} in {} ms",
            self.request(),
            origin(manager),
            began.elapsed().as_millis()
        );
        for name in ["skep-node", "skep-revision", "skep-request-id"] {
            if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        self.client.shared.screen.note(&line);
    }
}

impl Answer {
    fn into_json(self) -> Result<Value, Failure> {
        match self {
            Answer::Json(value) => Ok(value),
            Answer::Events { .. } | Answer::File(_) | Answer::Frames(_) | Answer::Raw(_) => {
                Err(Failure::Unreadable { request: "a request".into(), detail: "it is not JSON".into() })
            }
        }
    }
}

/// The manager's address with the path's segments, each percent-encoded: a name can never become a path.
fn address(manager: &Url, path: &[&str]) -> Url {
    let mut url = manager.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// `https://m1:8443`, without path and without user information.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn header(response: &Response, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// An answer that does not come from Skep, in the form of one that does.
fn foreign_problem(status: u16, body: &[u8]) -> Value {
    let text = String::from_utf8_lossy(body);
    let excerpt: String = text.trim().chars().take(EXCERPT_CHARS_MAX).collect();
    let title = format!("the server answered {status}");
    let detail = if excerpt.is_empty() { title.clone() } else { format!("{title}: {excerpt}") };
    json!({"title": title, "detail": detail, "status": status})
}

/// The innermost cause: the outer ones only say that a request failed, and repeat its address.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match error.is_timeout() {
        true => "no connection in time".to_owned(),
        false => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_segment() {
        let manager = Url::parse("https://m1:8443/base/").expect("an address");
        let url = address(&manager, &["v1", "environments", "../a b?c#d/é"]);
        assert_eq!(url.as_str(), "https://m1:8443/base/v1/environments/..%2Fa%20b%3Fc%23d%2F%C3%A9");
    }

    #[test]
    fn an_answer_of_something_else_is_shown_in_part() {
        let problem = foreign_problem(502, &[b'x'; 1000]);
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.starts_with("the server answered 502: xxx"), "{detail}");
        assert!(detail.len() < 250);
        assert_eq!(foreign_problem(502, b"")["detail"], "the server answered 502");
    }
}
