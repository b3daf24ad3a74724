//! Environment templates: list, show, import, remove.

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
use crate::change::{Asked, Change, Changing, Keyed, answered};
use crate::dress::{At, One};
use crate::extract::{Place, Read, Reading, Reference};
use crate::listing::{Page, Paging, ReadList};
use crate::problem::{Refused, Reply};
use crate::rest::nfs::NfsServer;
use crate::rest::{self, List, Metadata};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, import)).routes(routes!(show, remove))
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
    /// The host label over whose values the swarm managers are spread; null: over none.
    spread_over: Option<String>,
    /// The largest packets between hosts; null: what the narrowest of their links carries.
    mtu: Option<u16>,
    /// Are overlay networks encrypted from host to host?
    encrypted: bool,
    /// Ranges out of which swarms take networks; empty: Docker's own.
    address_pools: Vec<String>,
    /// The prefix of each network taken out of a pool; null: Docker's own.
    subnet_size: Option<u8>,
    /// Where volumes of driver `nfs` lie; null: nowhere.
    nfs: Option<NfsServer>,
    /// Whether everybody may use it.
    public: bool,
    /// The whole as YAML; imported again it is the same.
    document: String,
}

/// A template to import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TemplateWish {
    /// The template as YAML, or an environment template of Rancher 1.6.
    document: String,
    /// Its name, if the document has none.
    #[serde(default)]
    name: Option<String>,
    /// Put it in the place of another of its name. Environments made from that one stay as they are until it is applied.
    #[serde(default)]
    replace: bool,
}

/// A template that was imported.
#[derive(Debug, Serialize, ToSchema)]
struct ImportedTemplate {
    #[serde(flatten)]
    template: Template,
    /// Parts of a foreign document that are not needed here, and why.
    notes: Vec<String>,
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
                spread_over: template.spread_over.clone(),
                mtu: template.mtu,
                encrypted: template.options.encrypted,
                address_pools: template.options.address_pools.iter().map(ToString::to_string).collect(),
                subnet_size: template.options.subnet_size,
                nfs: template.options.nfs.as_ref().map(NfsServer::from),
                public: template.public,
                document: template::write(template),
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
    params(Reading, Paging), responses((status = 200, description = "All of them",
        content((List<Template> = "application/json"), (String = "text/event-stream"))), Refused))]
async fn list(ReadList(view, listing): ReadList) -> Reply<Page> {
    let items: Vec<_> = template::list(&view)?
        .iter()
        .map(|(template, revision)| Template::new(template, *revision))
        .collect();
    listing.page(view.revision(), items, &["name"])
}

/// Shows a template.
#[utoipa::path(get, path = "/v1/templates/{template}", operation_id = "show_template",
    params(Reading, ("template" = String, Path, description = "Its name")),
    responses((status = 200, body = Template, description = "As it is"), Refused))]
async fn show(Place(name): Place<Reference>, Read(view): Read) -> Reply<One<Template>> {
    let all = template::list(&view)?;
    let found = all.iter().find(|(template, _)| template.name.as_str() == &*name);
    let missing = || Refusal::NotFound { what: "template", name: name.to_string(), scope: None };
    let (template, revision) = found.ok_or_else(missing)?;
    Ok(One(view.revision(), *revision, Template::new(template, *revision)))
}

/// Imports a template.
#[utoipa::path(post, path = "/v1/templates", operation_id = "import_template",
    params(Changing, Keyed), request_body = TemplateWish,
    responses(
    (status = 201, body = ImportedTemplate, description = "Imported"),
    (status = 200, body = ImportedTemplate, description = "Dry run: what would be imported"),
    Refused,
))]
async fn import(State(api): State<Api>, asked: Asked<TemplateWish>) -> Reply<Response> {
    let TemplateWish { document, name, replace } = &asked.wish;
    let rule = |tx: &mut skep_ledger::Tx<'_>| template::import(tx, document, name.as_deref(), *replace);
    if asked.change.is_dry_run() {
        let rehearsed = api.rehearse(&asked.change, rule).await?;
        let imported = ImportedTemplate::new(rehearsed.answer, 0);
        return Ok(At(rehearsed.revision, Json(imported)).into_response());
    }
    let committed = api.commit(&asked.change, rule).await?;
    let location = [(header::LOCATION, format!("/v1/templates/{}", committed.answer.template.name))];
    let document = Json(ImportedTemplate::new(committed.answer.clone(), committed.revision));
    Ok(answered(&committed, (StatusCode::CREATED, location, document)))
}

impl ImportedTemplate {
    fn new(imported: template::Imported, revision: Revision) -> ImportedTemplate {
        ImportedTemplate { template: Template::new(&imported.template, revision), notes: imported.notes }
    }
}

/// Removes a template. Environments that were made from it stay as they are.
#[utoipa::path(delete, path = "/v1/templates/{template}", operation_id = "remove_template",
    params(Changing, Keyed, ("template" = String, Path, description = "Its name")),
    responses((status = 200, body = Template, description = "Removed, or in a dry run: what would be removed"), Refused))]
async fn remove(State(api): State<Api>, Place(name): Place<Reference>, change: Change) -> Reply<Response> {
    let rule = |tx: &mut skep_ledger::Tx<'_>| template::remove(tx, &name);
    if change.is_dry_run() {
        let rehearsed = api.rehearse(&change, rule).await?;
        return Ok(At(rehearsed.revision, Json(Template::new(&rehearsed.answer, 0))).into_response());
    }
    let committed = api.commit(&change, rule).await?;
    let document = Json(Template::new(&committed.answer, committed.revision));
    Ok(answered(&committed, document))
}
