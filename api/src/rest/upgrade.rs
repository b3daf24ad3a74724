//! Other engines: what is asked for, and what a dry run says.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use skep_ledger::Tx;
use skep_model::host::Host;
use skep_model::operation::Operation;
use skep_model::{Ruling, upgrade};
use utoipa::ToSchema;

use crate::Api;
use crate::change::Change;
use crate::dress::At;
use crate::problem::Reply;

/// Which engine.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpgradeWish {
    /// As the engine itself says it; null: the newest that a host of the environment has.
    #[serde(default)]
    #[schema(example = "29.1.2")]
    pub(crate) version: Option<String>,
}

/// What an upgrade would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UpgradePlan {
    /// The version that hosts would get.
    version: String,
    /// In the order in which they would get it.
    hosts: Vec<PlannedHost>,
}

/// What would be done about one host.
#[derive(Debug, Serialize, ToSchema)]
struct PlannedHost {
    /// Its name.
    host: String,
    /// `worker`, `manager` or `leader`; null if it is no node.
    swarm: Option<&'static str>,
    /// The engine's version now; null if it is not known.
    from: Option<String>,
    /// What is done, or why nothing is.
    what: String,
}

/// Begins an upgrade, or says what it would do about the hosts that are `concerned`.
pub(crate) async fn answer(
    api: &Api,
    change: &Change,
    mut rule: impl FnMut(&mut Tx<'_>) -> Ruling<(String, Operation)> + Send,
    concerned: impl Fn(&str) -> bool + Send,
) -> Reply<Response> {
    if !change.is_dry_run() {
        return api.start(change, |tx| Ok(rule(tx)?.1.into())).await;
    }
    let rehearsed = api
        .rehearse(change, |tx| {
            let (version, operation) = rule(tx)?;
            let place = operation.environment.as_ref().map_or("", |(id, _)| id.as_str());
            let hosts: Vec<Host> = tx.list::<Host>(place)?.into_iter().map(|stored| stored.record).collect();
            Ok((version, hosts))
        })
        .await?;
    let (version, hosts) = rehearsed.answer;
    let planned = upgrade::plan(&hosts, &version).into_iter().filter(|planned| concerned(&planned.host));
    let hosts = planned.map(PlannedHost::new).collect();
    Ok(At(rehearsed.revision, Json(UpgradePlan { version, hosts })).into_response())
}

impl PlannedHost {
    fn new(planned: upgrade::Planned) -> PlannedHost {
        PlannedHost {
            host: planned.host,
            swarm: Some(planned.part).filter(|part| !part.is_empty()),
            from: Some(planned.from).filter(|version| !version.is_empty()),
            what: planned.what,
        }
    }
}
