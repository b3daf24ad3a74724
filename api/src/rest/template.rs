//! Environment templates: list, show, import.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_ledger::{Key, Revision, View};
use skep_model::{Refusal, Ruling, template};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Api;
use crate::change::{Asked, Changing, Keyed, answered};
use crate::dress::At;
use crate::extract::{Place, Read, Reading, Reference};
use crate::problem::{Refused, Reply};
use crate::rest::{self, List, Listed, Metadata};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, import)).routes(routes!(show))
}

/// What a new environment starts from.
#[derive(Debug, Serialize, ToSchema)]
struct Template {
    #[schema(example = "Template")]
    kind: &'static str,
    metadata: Metadata,
    spec: TemplateSpec,
}

/// What a template says.
#[derive(Debug, Serialize, ToSchema)]
struct TemplateSpec {
    /// One line for people who choose.
    description: String,
    /// How many swarm managers the environment keeps.
    swarm_managers: u8,
    /// MTU of the environment's networks; null: the engine's own.
    mtu: Option<u16>,
    /// Whether everybody may use it.
    public: bool,
}

/// A template to import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TemplateWish {
    /// The template as YAML.
    document: String,
}

impl Template {
    fn new(template: &template::Template, revision: Revision) -> Template {
        Template {
            kind: "Template",
            metadata: Metadata {
                // A template is its name; there is never another of the same.
                id: template.name.to_string(),
                name: template.name.to_string(),
                env: None,
                revision,
                created_at: template.created_at,
                updated_at: template.created_at,
            },
            spec: TemplateSpec {
                description: template.description.clone(),
                swarm_managers: template.swarm_managers,
                mtu: template.mtu,
                public: template.public,
            },
        }
    }
}

/// The template under a key, as the API shows it.
pub(crate) fn document(view: &View, key: &Key) -> Ruling<Option<(Revision, Value)>> {
    let Some(stored) = view.get::<template::Template>(&key.partition, &key.id)? else { return Ok(None) };
    rest::shown(stored.revision, &Template::new(&stored, stored.revision))
}

/// Lists the templates, built in and imported.
#[utoipa::path(get, path = "/v1/templates", operation_id = "list_templates",
    params(Reading), responses((status = 200, body = List<Template>, description = "All of them"), Refused))]
async fn list(Read(view): Read) -> Reply<Listed<Template>> {
    let items = template::list(&view)?
        .iter()
        .map(|(template, revision)| Template::new(template, *revision))
        .collect();
    Ok(List::at(view.revision(), items))
}

/// Shows a template.
#[utoipa::path(get, path = "/v1/templates/{template}", operation_id = "show_template",
    params(Reading, ("template" = String, Path, description = "Its name")),
    responses((status = 200, body = Template, description = "As it is"), Refused))]
async fn show(Place(name): Place<Reference>, Read(view): Read) -> Reply<At<Json<Template>>> {
    let all = template::list(&view)?;
    let found = all.iter().find(|(template, _)| template.name.as_str() == &*name);
    let missing = || Refusal::NotFound { what: "template", name: name.to_string(), scope: None };
    let (template, revision) = found.ok_or_else(missing)?;
    Ok(At(view.revision(), Json(Template::new(template, *revision))))
}

/// Imports a template.
#[utoipa::path(post, path = "/v1/templates", operation_id = "import_template",
    params(Changing, Keyed), request_body = TemplateWish,
    responses(
    (status = 201, body = Template, description = "Imported"),
    (status = 200, body = Template, description = "Dry run: what would be imported"),
    Refused,
))]
async fn import(State(api): State<Api>, asked: Asked<TemplateWish>) -> Reply<Response> {
    let rule = |tx: &mut skep_ledger::Tx<'_>| template::import(tx, &asked.wish.document);
    if asked.change.is_dry_run() {
        let rehearsed = api.rehearse(rule).await?;
        return Ok(At(rehearsed.revision, Json(Template::new(&rehearsed.answer, 0))).into_response());
    }
    let committed = api.commit(&asked.change, rule).await?;
    let location = [(header::LOCATION, format!("/v1/templates/{}", committed.answer.name))];
    let document = Json(Template::new(&committed.answer, committed.revision));
    Ok(answered(&committed, (StatusCode::CREATED, location, document)))
}
