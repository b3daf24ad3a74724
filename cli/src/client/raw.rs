//! Calls as a person writes them: any path, any body, and the answer as it comes.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response};
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use tokio::time::timeout;

use super::stream::SILENCE_MAX;
use super::{Answer, Call, Client, Exchange, Payload, header, reason};
use crate::failure::Failure;

impl Client {
    /// Asks for a path with headers of one's own. A change gets an idempotency key and is sent again like any other.
    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        headers: &HeaderMap,
        body: Option<&str>,
    ) -> Result<RawAnswer, Failure> {
        let key = (method != Method::GET).then(|| self.next_key());
        let mut query = query.to_vec();
        if key.is_none() && !query.iter().any(|(name, _)| *name == "consistency") {
            query.extend(self.shared.consistency.map(|mode| ("consistency", mode.as_str())));
        }
        let call = Call { method, path, query: &query, payload: Payload::Raw { headers, body } };
        let retry_for = self.shared.retry_for;
        let exchange = Exchange { client: self, call: &call, key, events: None, retry_for };
        let request = exchange.request();
        self.shared.write_under_way.store(key.is_some(), Ordering::SeqCst);
        let answered = exchange.run().await;
        self.shared.write_under_way.store(false, Ordering::SeqCst);
        match answered? {
            Answer::Raw(response) => Ok(RawAnswer { response, request }),
            _ => Err(Failure::Unreadable { request, detail: "it is not an answer".into() }),
        }
    }
}

/// An answer that has begun to arrive.
pub(crate) struct RawAnswer {
    response: Response,
    request: String,
}

impl RawAnswer {
    /// The status and the headers, a line each, and an empty one.
    pub(crate) fn head(&self) -> String {
        let mut text = format!("{:?} {}\n", self.response.version(), self.response.status());
        for (name, value) in self.response.headers() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        text.push('\n');
        text
    }

    pub(crate) fn is_json(&self) -> bool {
        let kind = header(&self.response, CONTENT_TYPE.as_str()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind == "application/json" || kind.ends_with("+json")
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(&self.response, name)
    }

    /// The whole of it, if it is JSON.
    pub(crate) async fn json(self) -> Result<Value, Failure> {
        let request = self.request.clone();
        let body = self.body().await?;
        serde_json::from_slice(&body).map_err(|error| unreadable(&request, &error.to_string()))
    }

    /// The whole of it, as text.
    pub(crate) async fn text(self) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&self.body().await?).into_owned())
    }

    async fn body(mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > super::ANSWER_BYTES_MAX {
                return Err(unreadable(&self.request, "it is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// More of it; none at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        match timeout(SILENCE_MAX, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(unreadable(&self.request, &format!("it broke off: {}", reason(&error)))),
            Err(_) => Err(unreadable(&self.request, "it stopped half-way")),
        }
    }
}

fn unreadable(request: &str, detail: &str) -> Failure {
    Failure::Unreadable { request: request.to_owned(), detail: detail.to_owned() }
}
