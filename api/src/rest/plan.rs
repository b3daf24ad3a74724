//! What would change about an environment: by its template as it is now, and by what is wished for it already.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use skep_ledger::{Revision, View};
use skep_model::differences::{self, Difference};
use skep_model::host::Host;
use skep_model::ids::OperationId;
use skep_model::{Ruling, environment, template};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::Api;
use crate::change::{Asked, Begun, Changing, Keyed};
use crate::dress::At;
use crate::extract::{Place, Read, Reading, Reference, Within};
use crate::problem::{Refused, Reply};
use crate::rest::nfs;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(apply))
}

/// How an environment differs from its template as it is now, and its swarm from its wishes.
#[derive(Debug, Serialize, ToSchema)]
struct Plan {
    #[schema(example = "Plan")]
    kind: &'static str,
    /// The environment's name.
    environment: String,
    /// The template's name.
    template: String,
    /// Is there still such a template? Without it only the swarm is compared.
    template_exists: bool,
    /// The newest change that the plan contains; `if_revision` when it is applied.
    #[schema(value_type = u64)]
    revision: Revision,
    /// Everything that differs.
    differences: Vec<PlannedDifference>,
}

/// One thing that differs.
#[derive(Debug, Serialize, ToSchema)]
struct PlannedDifference {
    /// An option as templates call it, or a network of the swarm.
    what: String,
    /// How it is.
    is: String,
    /// How it would be.
    would_be: String,
    /// `live` (applying does it), `next-join` (when a host joins again), `rebuild` (somebody has to make something anew) or
    /// `kept` (it was said for the environment itself).
    way: String,
    /// In words.
    how: String,
}

impl From<Difference> for PlannedDifference {
    fn from(difference: Difference) -> PlannedDifference {
        let Difference { what, is, would_be, way, how } = difference;
        PlannedDifference { what, is, would_be, way: way.to_string(), how }
    }
}

fn plan(view: &View, reference: &str) -> Ruling<Plan> {
    let environment = environment::find(view, reference)?;
    let templates = template::list(view)?;
    let template =
        templates.into_iter().map(|(template, _)| template).find(|one| one.name == environment.template);
    let hosts: Vec<Host> =
        view.list::<Host>(environment.id.as_str())?.into_iter().map(|stored| stored.record).collect();
    Ok(Plan {
        kind: "Plan",
        environment: environment.name.to_string(),
        template: environment.template.to_string(),
        template_exists: template.is_some(),
        revision: view.revision(),
        differences: differences::plan(&environment, template.as_ref(), &hosts)
            .into_iter()
            .map(PlannedDifference::from)
            .collect(),
    })
}

/// Shows what applying would do.
#[utoipa::path(get, path = "/v1/environments/{environment}/plan", operation_id = "plan_environment",
    params(Reading, Within),
    responses((status = 200, body = Plan, description = "What differs; nothing is changed"), Refused))]
async fn show(Place(reference): Place<Reference>, Read(view): Read) -> Reply<At<Json<Plan>>> {
    Ok(At(view.revision(), Json(plan(&view, &reference)?)))
}

/// Takes over what the template says now, and brings about what is not so yet.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct ApplyWish {
    /// Only if neither environment nor template has changed since this revision, for instance that of a plan.
    if_revision: Option<u64>,
    /// Options, as templates call them, that were said for the environment itself and are to follow the template again.
    follow: BTreeSet<String>,
}

/// Applies the plan.
#[utoipa::path(post, path = "/v1/environments/{environment}/actions/apply", operation_id = "apply_environment",
    params(Changing, Keyed, Within), request_body = ApplyWish, responses(Begun))]
async fn apply(
    State(api): State<Api>,
    Place(reference): Place<Reference>,
    Asked { change, wish }: Asked<ApplyWish>,
) -> Reply<Response> {
    // The template's server is tried before it is taken over, like one that is wished for the environment itself.
    let view = api.ledger().fresh_view().await?;
    let environment = environment::find(&view, &reference)?;
    let template = template::list(&view)?.into_iter().find(|(one, _)| one.name == environment.template);
    let wished = template.and_then(|(template, _)| template.options.nfs);
    if let Some(wished) = wished.filter(|wished| environment.options.nfs.as_ref() != Some(wished)) {
        nfs::usable(&api, &reference, &wished).await?;
    }
    let id = OperationId::new(Uuid::now_v7());
    api.start(&change, |tx| {
        Ok(differences::apply(tx, &reference, &wish.follow, wish.if_revision, id.clone())?.into())
    })
    .await
}
