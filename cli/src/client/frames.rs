//! Connections that become streams of frames: commands and logs of hosts.

use std::time::Duration;

use reqwest::header::{CONNECTION, HeaderValue, UPGRADE};
use reqwest::{Method, RequestBuilder, Upgraded, Version};
use serde_json::Value;

use super::{Answer, Call, Client, Exchange, Payload, reason};
use crate::failure::Failure;

/// What the connection is to become.
const PROTOCOL: HeaderValue = HeaderValue::from_static("skep-frames");

impl Client {
    /// Asks a manager for frames. Never asked twice: what is asked for may have begun.
    pub(crate) async fn frames(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Upgraded, Failure> {
        let call = Call { method, path, query, payload: Payload::Frames(body) };
        let exchange =
            Exchange { client: self, call: &call, key: None, events: None, retry_for: Duration::ZERO };
        let unreadable = |detail: String| Failure::Unreadable { request: exchange.request(), detail };
        match exchange.run().await? {
            Answer::Frames(response) => response.upgrade().await.map_err(|error| unreadable(reason(&error))),
            _ => Err(unreadable("the manager does not speak frames".into())),
        }
    }
}

pub(super) fn ask(request: RequestBuilder, body: Option<&Value>) -> RequestBuilder {
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    request
        .version(Version::HTTP_11)
        .header(CONNECTION, HeaderValue::from_static("upgrade"))
        .header(UPGRADE, PROTOCOL)
}
