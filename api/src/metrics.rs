//! What this manager counts, as text for Prometheus. Every name is explained in `docs/reference/metrics.md`.
//!
//! Requests and streams are counted here, where they pass; what the state says is read from a view when somebody asks.
//! Whoever else has something to show ([`Metrics::add`]) brings it along when the manager is put together.

mod requests;
mod state;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use skep_ledger::Ledger;

use crate::problem::{Code, Problem};
use crate::watches::Watches;

pub(crate) use requests::count;

/// The text format that the client library writes.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that one manager shows.
pub struct Metrics {
    registry: Registry,
    requests: requests::Requests,
    pub(crate) watches: Watches,
}

impl Metrics {
    /// What the doors count, and what the ledger says.
    pub fn new(ledger: Arc<dyn Ledger>) -> Metrics {
        let mut registry = Registry::default();
        let requests = requests::Requests::default();
        requests.register(&mut registry);
        let watches = Watches::default();
        registry.register_collector(Box::new(state::Streams::new(watches.clone(), ledger.clone())));
        registry.register_collector(Box::new(state::Objects::new(ledger)));
        Metrics { registry, requests, watches }
    }

    /// Shows what somebody else has counted.
    #[must_use]
    pub fn with(mut self, collector: impl Collector) -> Metrics {
        self.registry.register_collector(Box::new(collector));
        self
    }

    /// Serves nothing but `/metrics`, to everybody who reaches it.
    pub fn router(self: Arc<Metrics>) -> Router {
        Router::new().route("/metrics", get(move || async move { self.answer() }))
    }

    /// Somebody has met a limit.
    pub(crate) fn limited(&self, limit: &'static str) {
        self.requests.limited(limit);
    }

    /// The answer of `/metrics`.
    pub(crate) fn answer(&self) -> Response {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => ([(CONTENT_TYPE, FORMAT)], text).into_response(),
            // A collector that could not read its source; the detail is in the log.
            Err(_) => Problem::new(Code::StateUnreadable, "the metrics could not be read").into_response(),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Answers every request with "too many connections", for those who come when there is no place for them.
pub struct TooBusy;

impl TooBusy {
    /// The routes, which are all the same. `limit` is what is told.
    pub fn router(limit: usize) -> Router {
        let detail = format!("this manager has {limit} connections to its API port, and takes no more");
        TooBusy::saying(Code::TooManyConnections, detail, "ask another manager")
    }

    /// The same for an address that has too many connections.
    pub fn of_address(limit: u32) -> Router {
        let detail =
            format!("{limit} connections to this manager come from your address, and it takes no more");
        TooBusy::saying(
            Code::TooManyFromAddress,
            detail,
            "close some; a load balancer belongs into trusted_proxies of the manager's server.toml",
        )
    }

    fn saying(code: Code, detail: String, hint: &'static str) -> Router {
        Router::new().fallback(move || {
            let problem = Problem::new(code, detail.clone()).hinting(hint);
            let mut response = crate::dress::without_a_manager(problem);
            response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
            std::future::ready(response)
        })
    }
}
