//! Where machines come from, and whether that works on the answering manager.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;
use skep_drivers::{DRIVERS, DriverConfig, DriverKind};
use skep_model::Refusal;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::extract::Reading;
use crate::listing::{Listing, Page, Paging};
use crate::problem::{Refused, Reply};
use crate::rest::List;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A place where machines come from.
#[derive(Debug, Serialize, ToSchema)]
struct Driver {
    /// The word people write for it.
    name: &'static str,
    /// One sentence about it.
    description: &'static str,
    /// Whether it can work on the answering manager.
    available: bool,
    /// Why it cannot, and what to do.
    reason: Option<String>,
}

impl Driver {
    fn new(kind: &DriverKind, config: &DriverConfig) -> Driver {
        let reason = (kind.available)(config).err().map(|error| error.to_string());
        Driver { name: kind.name, description: kind.description, available: reason.is_none(), reason }
    }
}

/// Refuses what a driver could not bring about: an unknown driver, unknown options, a driver that cannot work here.
pub(crate) fn check(api: &Api, driver: &str, options: &BTreeMap<String, String>) -> Result<(), Refusal> {
    skep_drivers::check(&api.parts.drivers, driver, options)
        .map_err(|error| Refusal::Driver { detail: error.to_string() })
}

/// Lists the drivers.
#[utoipa::path(get, path = "/v1/drivers", operation_id = "list_drivers",
    params(Reading, Paging), responses((status = 200, body = List<Driver>, description = "All of them"), Refused))]
async fn list(State(api): State<Api>, listing: Listing) -> Reply<Page> {
    let revision = api.ledger().view().revision();
    let items = DRIVERS.iter().map(|kind| Driver::new(kind, &api.parts.drivers)).collect();
    listing.page(revision, items, &["name"])
}
