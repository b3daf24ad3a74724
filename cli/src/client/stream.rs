//! Event streams: their events as they come, and the pauses between two of them.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{Answer, Call, Client, Exchange, LastSeen, Payload};
use crate::failure::Failure;
use crate::sse;

/// Managers send something every 15 s at least; a stream without anything for this long is dead.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(40);

/// Between two tries to open a stream: first, and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

impl Client {
    /// Opens an event stream that goes on after `seen`.
    pub(crate) async fn events(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        seen: Option<&str>,
    ) -> Result<EventStream, Failure> {
        let call = Call { method: reqwest::Method::GET, path, query, payload: Payload::Nothing };
        let events = Some(LastSeen(seen));
        let exchange = Exchange { client: self, call: &call, key: None, events, retry_for: Duration::ZERO };
        let request = exchange.request();
        match exchange.run().await? {
            Answer::Events { response, node } => {
                Ok(EventStream { response, node, request, parser: sse::Parser::default() })
            }
            Answer::Json(_) | Answer::File(_) | Answer::Frames(_) | Answer::Raw(_) => {
                Err(Failure::Unreadable { request, detail: "it is not an event stream".into() })
            }
        }
    }
}

/// An event stream that was opened.
pub(crate) struct EventStream {
    response: Response,
    /// The manager that serves it, if it said so.
    pub(crate) node: Option<String>,
    request: String,
    parser: sse::Parser,
}

impl EventStream {
    /// The next events; none when the stream has broken off or fallen silent.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<sse::Event>>, Failure> {
        let Ok(Ok(Some(chunk))) = timeout(SILENCE_MAX, self.response.chunk()).await else {
            return Ok(None);
        };
        let events = self.parser.push(&chunk);
        events.map(Some).map_err(|sse::TooLong| self.unreadable("an event is too long"))
    }

    /// What an event says.
    pub(crate) fn document(&self, event: &sse::Event) -> Result<Value, Failure> {
        serde_json::from_str(&event.data).map_err(|error| self.unreadable(&error.to_string()))
    }

    pub(crate) fn unreadable(&self, detail: &str) -> Failure {
        Failure::Unreadable { request: self.request.clone(), detail: detail.to_owned() }
    }
}

/// The pauses between streams, longer each time until one of them brings something.
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) fn new() -> Pauses {
        Pauses(PAUSE_FIRST)
    }

    /// Waits before the next stream is opened; `useful` says whether the last one has brought anything.
    pub(crate) async fn wait(&mut self, useful: bool) {
        let pause = if useful { PAUSE_FIRST } else { self.0 };
        self.0 = (pause * 2).min(PAUSE_MAX);
        sleep(pause).await;
    }
}
