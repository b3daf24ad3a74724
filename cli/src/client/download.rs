//! Fetching files: their bytes are passed on as they arrive, and never held as a whole.

use reqwest::{Method, Response};
use tokio::time::timeout;

use super::{ANSWER_TIMEOUT, Answer, Call, Client, Exchange, Payload, header, reason};
use crate::failure::Failure;

impl Client {
    /// Begins to fetch a file. What is not sent yet may take as long as it takes to make it.
    pub(crate) async fn download(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Download, Failure> {
        if self.shared.dry_run {
            return Err(Failure::no_dry_run());
        }
        let mut query = query.to_vec();
        if query.is_empty() {
            query.extend(self.shared.consistency.map(|mode| ("consistency", mode.as_str())));
        }
        let call = Call { method: Method::GET, path, query: &query, payload: Payload::Patience };
        let retry_for = self.shared.retry_for;
        let exchange = Exchange { client: self, call: &call, key: None, events: None, retry_for };
        let request = exchange.request();
        match exchange.run().await? {
            Answer::File(response) => Ok(Download { response, request }),
            _ => Err(Failure::Unreadable { request, detail: "it is not a file".into() }),
        }
    }
}

/// A file that has begun to arrive.
pub(crate) struct Download {
    response: Response,
    request: String,
}

impl Download {
    /// What the manager says about the file; empty if it does not.
    pub(crate) fn header(&self, name: &str) -> String {
        header(&self.response, name).unwrap_or_default()
    }

    /// More of it; none at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Failure> {
        match timeout(ANSWER_TIMEOUT, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(self.unreadable(&format!("it broke off: {}", reason(&error)))),
            Err(_) => Err(self.unreadable("it stopped half-way")),
        }
    }

    pub(crate) fn unreadable(&self, detail: &str) -> Failure {
        Failure::Unreadable { request: self.request.clone(), detail: detail.to_owned() }
    }
}
