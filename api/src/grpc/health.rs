//! Health as gRPC's load balancers ask for it (`grpc.health.v1`): every service is as ready as the manager.
//!
//! By hand, on the messages of tonic: what the manager is, nobody tells; it is looked at. And a watch of a name that is
//! not known stays open, as the protocol says.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::rpc;
use crate::Api;
use crate::access::SERVICES;
use crate::cluster::Readiness;

/// Half as often as load balancers ask probes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches at one time. Nobody needs a token for them, and a load balancer has one or two.
const HEALTH_WATCHES_MAX: usize = 256;

/// How long a watch of a manager that drains stays open; so the manager need not wait for it when it stops.
const DRAINING_MAX: Duration = Duration::from_secs(10);

/// The service.
pub(super) struct HealthDoor {
    api: Api,
    places: Arc<Semaphore>,
}

impl HealthDoor {
    pub(super) fn new(api: Api) -> HealthDoor {
        HealthDoor { api, places: Arc::new(Semaphore::new(HEALTH_WATCHES_MAX)) }
    }
}

#[tonic::async_trait]
impl Health for HealthDoor {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match status(&self.api, &request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("there is no such service")),
            status => Ok(Response::new(answer(status))),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            let detail = format!("this manager serves {HEALTH_WATCHES_MAX} watches of health, and no more");
            Status::resource_exhausted(detail)
        })?;
        let mut due = interval(LOOK_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let service = request.into_inner().service;
        let watcher =
            Watcher { api: self.api.clone(), service, due, told: None, draining: None, _place: place };
        let stream = stream::unfold(watcher, |mut watcher| async move {
            let status = watcher.next().await?;
            Some((Ok(answer(status)), watcher))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Who wants to know when it changes.
struct Watcher {
    api: Api,
    service: String,
    due: Interval,
    told: Option<ServingStatus>,
    draining: Option<Instant>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// What is not told yet; nothing more, if the manager is about to stop.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            self.due.tick().await;
            match self.api.parts.cluster.readiness() {
                Readiness::Draining => {
                    let since = *self.draining.get_or_insert_with(Instant::now);
                    if since.elapsed() >= DRAINING_MAX {
                        return None;
                    }
                }
                _ => self.draining = None,
            }
            let status = status(&self.api, &self.service);
            if self.told.replace(status) != Some(status) {
                return Some(status);
            }
        }
    }
}

/// The manager as a whole has the empty name.
fn status(api: &Api, service: &str) -> ServingStatus {
    let own = SERVICES.iter().any(|(name, _)| *name == service);
    let known = service.is_empty() || own || rpc::services().any(|name| name == service);
    match (known, api.parts.cluster.readiness()) {
        (false, _) => ServingStatus::ServiceUnknown,
        (true, Readiness::Serving) => ServingStatus::Serving,
        (true, _) => ServingStatus::NotServing,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
