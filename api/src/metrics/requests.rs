//! Requests: how many, and how long until their answer begins.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::Api;

/// From a read of the local state to an operation that is waited for.
const BUCKET_BOUNDS_SECONDS: [f64; 12] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];

/// The methods that are told apart; a client may invent others.
const METHODS: &[Method] =
    &[Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::OPTIONS];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limited {
    limit: &'static str,
}

/// What is counted.
#[derive(Clone)]
pub(crate) struct Requests {
    answered: Family<Answered, Counter>,
    durations: Family<Route, Histogram, fn() -> Histogram>,
    limited: Family<Limited, Counter>,
}

impl Default for Requests {
    fn default() -> Requests {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKET_BOUNDS_SECONDS);
        Requests {
            answered: Family::default(),
            durations: Family::new_with_constructor(histogram),
            limited: Family::default(),
        }
    }
}

impl Requests {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("skep_http_requests", "Requests that were answered", self.answered.clone());
        registry.register(
            "skep_http_request_duration_seconds",
            "Time until an answer began",
            self.durations.clone(),
        );
        registry.register(
            "skep_http_requests_limited",
            "Requests of those who have asked too often, or have too much open",
            self.limited.clone(),
        );
        // There from the start, so that dashboards and alerts have something to ask for.
        let route = "none".to_owned();
        drop(self.answered.get_or_create(&Answered { method: "GET", route: route.clone(), code: 404 }));
        drop(self.durations.get_or_create(&Route { route }));
        drop(self.limited.get_or_create(&Limited { limit: "reads" }));
    }

    /// Somebody has met a limit.
    pub(crate) fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&Limited { limit }).inc();
    }
}

/// Counts a request under the pattern of its path, of which there are few, not under the path itself.
pub(crate) async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = METHODS.iter().find(|known| *known == request.method()).map_or("other", method_name);
    let began = Instant::now();
    let response = next.run(request).await;
    let requests = &api.parts.metrics.requests;
    let code = response.status().as_u16();
    requests.answered.get_or_create(&Answered { method, route: route.clone(), code }).inc();
    requests.durations.get_or_create(&Route { route }).observe(began.elapsed().as_secs_f64());
    response
}

fn method_name(method: &'static Method) -> &'static str {
    method.as_str()
}
