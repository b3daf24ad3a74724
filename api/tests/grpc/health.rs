//! What load balancers that speak gRPC learn, without a token.

use skep_api::Readiness;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::client::{DEADLINE, POOL};
use crate::support::Door;

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

fn becomes(door: &Door, readiness: Readiness) {
    *door.manager.readiness.lock().unwrap() = readiness;
}

#[tokio::test]
async fn the_manager_and_each_service_are_as_ready_as_the_probe_says() {
    let door = Door::new().await;
    let mut health = HealthClient::new(door.router.clone());
    let mut services: Vec<String> = POOL.services().map(|service| service.full_name().to_owned()).collect();
    services.extend([String::new(), "grpc.health.v1.Health".into()]);
    for (readiness, expected) in [
        (Readiness::Serving, ServingStatus::Serving),
        (Readiness::Draining, ServingStatus::NotServing),
        (Readiness::Unusable("no leader".into()), ServingStatus::NotServing),
    ] {
        becomes(&door, readiness);
        for service in &services {
            let answer = health.check(of(service)).await.unwrap().into_inner();
            assert_eq!(answer.status(), expected, "{service}");
        }
    }
    assert_eq!(health.check(of("nobody.v1.Nothing")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_watch_tells_of_the_drain_and_stays_open_for_names_that_are_not_known() {
    let door = Door::new().await;
    let mut health = HealthClient::new(door.router.clone());
    let mut known = health.watch(of("skep.v1.HostService")).await.unwrap().into_inner();
    let mut unknown = health.watch(of("nobody.v1.Nothing")).await.unwrap().into_inner();
    assert_eq!(known.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    becomes(&door, Readiness::Draining);
    let told = tokio::time::timeout(DEADLINE, known.message()).await.expect("it is told");
    assert_eq!(told.unwrap().unwrap().status(), ServingStatus::NotServing);
    becomes(&door, Readiness::Serving);
    let told = tokio::time::timeout(DEADLINE, known.message()).await.expect("it is told");
    assert_eq!(told.unwrap().unwrap().status(), ServingStatus::Serving);
    // What was told meanwhile about the known name was no news about the other one, and no end of it.
    let open = futures::FutureExt::now_or_never(unknown.message());
    assert!(open.is_none(), "{open:?}");
}
