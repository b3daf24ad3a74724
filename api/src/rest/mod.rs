//! One file per noun; this list is the API.

pub(crate) mod audit;
pub(crate) mod cluster;
pub(crate) mod device;
pub(crate) mod diagnosis;
pub(crate) mod driver;
pub(crate) mod environment;
pub(crate) mod event;
pub(crate) mod group;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod join;
mod manager;
mod member;
pub(crate) mod meta;
pub(crate) mod metrics;
mod nfs;
pub(crate) mod operation;
mod orphan;
mod plan;
pub(crate) mod probe;
pub(crate) mod registration;
mod registry;
mod role;
pub(crate) mod session;
mod setup;
mod snapshot;
pub(crate) mod stack;
mod statistics;
pub(crate) mod swarm_keys;
mod swarm_state;
pub(crate) mod task;
pub(crate) mod template;
mod terminal;
pub(crate) mod token;
mod upgrade;
pub(crate) mod user;

use axum::Json;
use axum::http::{Method, Uri};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use skep_ledger::Revision;
use skep_model::Ruling;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation as PathOperation, Parameter, ParameterIn, PathItem};
use utoipa_axum::router::OpenApiRouter;

use crate::dress::At;
use crate::problem::{Code, Problem};
use crate::{Api, openapi};

/// One part of the API.
pub(crate) struct Resource {
    /// Its heading in the documentation.
    pub(crate) name: &'static str,
    /// One sentence about it.
    pub(crate) about: &'static str,
    /// Its routes.
    routes: fn() -> OpenApiRouter<Api>,
}

/// Everything that can be asked, in the order of the documentation.
pub(crate) const RESOURCES: &[Resource] = &[
    Resource { name: "meta", about: "The API itself, and who is asking.", routes: meta::routes },
    Resource { name: "cluster", about: "The managers.", routes: cluster::routes },
    Resource {
        name: "manager",
        about: "Managers that come, go and change their parts.",
        routes: manager::routes,
    },
    Resource { name: "template", about: "What environments start from.", routes: template::routes },
    Resource {
        name: "environment",
        about: "Isolated swarms with their hosts and stacks.",
        routes: environment::routes,
    },
    Resource {
        name: "plan",
        about: "What templates and wishes would change about environments.",
        routes: plan::routes,
    },
    Resource {
        name: "swarm-key",
        about: "Join tokens, authority and unlock key of an environment's swarm.",
        routes: swarm_keys::routes,
    },
    Resource {
        name: "swarm-state",
        about: "Backups of the state of an environment's swarm.",
        routes: swarm_state::routes,
    },
    Resource { name: "host", about: "Machines of an environment.", routes: host::routes },
    Resource {
        name: "statistics",
        about: "How busy hosts and their containers were.",
        routes: statistics::routes,
    },
    Resource {
        name: "registration-token",
        about: "With what machines register themselves as hosts.",
        routes: registration::routes,
    },
    Resource { name: "join", about: "What a machine fetches that becomes a host.", routes: join::routes },
    Resource { name: "terminal", about: "Commands and logs of hosts, live.", routes: terminal::routes },
    Resource {
        name: "registry",
        about: "Registries to which environments log in.",
        routes: registry::routes,
    },
    Resource { name: "stack", about: "Recipes that became services.", routes: stack::routes },
    Resource { name: "task", about: "What runs where, as the swarm says it now.", routes: task::routes },
    Resource { name: "image", about: "Images brought to hosts without a registry.", routes: image::routes },
    Resource {
        name: "diagnosis",
        about: "Hosts and the network between them, checked now.",
        routes: diagnosis::routes,
    },
    Resource { name: "driver", about: "Where machines come from.", routes: driver::routes },
    Resource {
        name: "orphan",
        about: "Machines with this cluster's tag that it knows nothing of.",
        routes: orphan::routes,
    },
    Resource {
        name: "operation",
        about: "Everything that takes longer than a request.",
        routes: operation::routes,
    },
    Resource { name: "event", about: "What changes, as it happens.", routes: event::routes },
    Resource { name: "setup", about: "The first administrator of a new cluster.", routes: setup::routes },
    Resource { name: "session", about: "Signing in.", routes: session::routes },
    Resource {
        name: "device-code",
        about: "Signing in on one machine with the approval of another.",
        routes: device::routes,
    },
    Resource { name: "token", about: "API keys, of users and of environments.", routes: token::routes },
    Resource { name: "user", about: "People with an account.", routes: user::routes },
    Resource { name: "group", about: "Users who have roles together.", routes: group::routes },
    Resource { name: "role", about: "Sets of permissions.", routes: role::routes },
    Resource { name: "member", about: "Who has which role, where.", routes: member::routes },
    Resource { name: "audit", about: "Who has done what.", routes: audit::routes },
    Resource { name: "metrics", about: "What a manager counts.", routes: metrics::routes },
    Resource { name: "snapshot", about: "Backups of the whole cluster.", routes: snapshot::routes },
    Resource { name: "probe", about: "For load balancers and supervisors.", routes: probe::routes },
];

/// All routes with their description.
pub(crate) fn routes() -> OpenApiRouter<Api> {
    RESOURCES.iter().fold(OpenApiRouter::with_openapi(openapi::empty()), |all, resource| {
        let mut routes = (resource.routes)();
        for item in routes.get_openapi_mut().paths.paths.values_mut() {
            for operation in operations(item) {
                operation.tags = Some(vec![resource.name.to_owned()]);
            }
        }
        all.merge(routes)
    })
}

/// Method and path of everything that is described.
pub(crate) fn documented() -> Vec<(String, String)> {
    documented_where(|_| true)
}

/// Method and path of everything that is described without a parameter in its query.
pub(crate) fn documented_without_query() -> Vec<(String, String)> {
    let in_query = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query);
    documented_where(|operation| !operation.parameters.iter().flatten().any(in_query))
}

fn documented_where(wanted: impl Fn(&PathOperation) -> bool) -> Vec<(String, String)> {
    let (_, document) = routes().split_for_parts();
    let mut documented = vec![];
    for (path, item) in document.paths.paths {
        for (method, operation) in [
            ("GET", item.get),
            ("PUT", item.put),
            ("POST", item.post),
            ("PATCH", item.patch),
            ("DELETE", item.delete),
        ] {
            documented.extend(operation.filter(&wanted).map(|_| (method.to_owned(), path.clone())));
        }
    }
    documented
}

pub(crate) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut PathOperation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

pub(crate) async fn unknown_route(method: Method, uri: Uri) -> Box<Problem> {
    Problem::new(Code::UnknownRoute, format!("there is nothing at {method} {}", uri.path()))
        .hinting("GET /v1/openapi.json describes the API")
}

pub(crate) async fn unknown_method(method: Method, uri: Uri) -> Box<Problem> {
    Problem::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}

/// Several of a kind; complete, unless there is a cursor.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// In a stable order.
    pub(crate) items: Vec<T>,
    /// The newest change that the list contains.
    #[schema(value_type = u64)]
    pub(crate) revision: Revision,
    /// There are more: ask again with this as `cursor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
    /// How many there are of all that match, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<usize>,
}

/// An object that was found, as the API shows it.
pub(crate) fn shown(revision: Revision, document: &impl Serialize) -> Ruling<Option<(Revision, Value)>> {
    let document = serde_json::to_value(document).map_err(skep_ledger::ReadError::new)?;
    Ok(Some((revision, document)))
}

/// A list as it is answered.
pub(crate) type Listed<T> = At<Json<List<T>>>;

impl<T> List<T> {
    /// The answer that is this list, as it was at a revision.
    pub(crate) fn at(revision: Revision, items: Vec<T>) -> Listed<T> {
        List::page_at(revision, items, None)
    }

    /// As it is answered.
    pub(crate) fn answer(self) -> Listed<T> {
        At(self.revision, Json(self))
    }

    /// A part of a list; if there is more, with the cursor that leads on.
    pub(crate) fn page_at(revision: Revision, items: Vec<T>, next_cursor: Option<String>) -> Listed<T> {
        List { items, revision, next_cursor, count: None }.answer()
    }
}

/// What every stored object has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Metadata {
    /// Never given to anything else.
    pub(crate) id: String,
    /// Unique in its environment, or in the cluster.
    pub(crate) name: String,
    /// The environment's name, for what belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) env: Option<String>,
    /// The object's last change; zero for what is built in.
    #[schema(value_type = u64)]
    pub(crate) revision: Revision,
    /// Null for what is built in.
    pub(crate) created_at: Option<Timestamp>,
    /// When somebody last wished something else; null for what is built in.
    pub(crate) updated_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Two that were called the same would be described as one of them.
    #[test]
    fn no_two_forms_of_a_document_have_one_name() {
        let mut known = BTreeMap::new();
        for resource in RESOURCES {
            let components = (resource.routes)().get_openapi().components.clone().unwrap_or_default();
            for (name, schema) in components.schemas {
                let schema = serde_json::to_value(schema).expect("is JSON");
                let before = known.insert(name.clone(), schema.clone());
                assert!(before.is_none_or(|before| before == schema), "{name}");
            }
        }
    }
}
