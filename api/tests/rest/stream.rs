//! Server-sent events, read one by one.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::support::{Ask, Door};

/// Far beyond what anything here takes, so that only a hang reaches it.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A stream that is being read.
pub struct Events {
    response: Response<Body>,
    text: String,
}

/// One event.
#[derive(Debug)]
pub struct Event {
    pub id: Option<u64>,
    pub name: String,
    pub data: Value,
}

impl Events {
    pub async fn open(door: &Door, path: &str, seen: Option<u64>) -> Events {
        let mut ask = Ask::new(Method::GET, path).with("accept", "text/event-stream");
        if let Some(seen) = seen {
            ask = ask.with("last-event-id", &seen.to_string());
        }
        let response = door.router.clone().oneshot(ask.request()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { response, text: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(Event::parse(&event));
            }
            let frame = tokio::time::timeout(DEADLINE, self.response.body_mut().frame());
            let bytes = frame.await.expect("the next event comes")?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

impl Event {
    fn parse(text: &str) -> Event {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let needed = |name: &str| field(name).unwrap_or_else(|| panic!("{name} in {text}"));
        Event {
            id: field("id").map(|id| id.parse().unwrap()),
            name: needed("event").to_owned(),
            data: serde_json::from_str(needed("data")).unwrap(),
        }
    }
}
