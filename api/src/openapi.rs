//! The description of the API, made from the same list that the router is made from.

use std::sync::LazyLock;

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderName, Method};
use utoipa::openapi::path::PathItem;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, OpenApiVersion, RefOr};

use crate::change::Known;
use crate::{access, precondition, rest};

/// How clients say who they are.
const BEARER: &str = "token";

static TEXT: LazyLock<String> = LazyLock::new(text);

/// The OpenAPI document (3.1), as served under `/v1/openapi.json`.
pub fn document() -> &'static str {
    &TEXT
}

/// Where the collected routes are written into.
pub(crate) fn empty() -> OpenApi {
    let info = InfoBuilder::new().title("Skep").version("v1").description(Some(
        "Highly available management of Docker Swarm environments. Any manager answers every request. \
         Errors are application/problem+json (RFC 9457).",
    ));
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let tags = rest::RESOURCES
        .iter()
        .map(|resource| TagBuilder::new().name(resource.name).description(Some(resource.about)).build());
    // Collected with the routes are the bodies of single answers, not those of which there is one or the other.
    let components = ComponentsBuilder::new().security_scheme(BEARER, token).schema_from::<Known>().build();
    OpenApiBuilder::new()
        .openapi(OpenApiVersion::Version31)
        .info(info.build())
        .components(Some(components))
        .security(Some([SecurityRequirement::new::<_, _, &str>(BEARER, [])]))
        .tags(Some(tags))
        .build()
}

/// A part of a path is never empty, and of control characters there are none in it.
fn say_what_a_name_is(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(parameter) = parameter else { return };
    let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else { return };
    if parameter.parameter_in == ParameterIn::Path && schema.pattern.is_none() {
        schema.min_length = Some(1);
        schema.pattern = Some(r"^[^\u0000-\u001f\u007f-\u009f]+$".into());
    }
}

fn is_condition(parameter: &RefOr<Parameter>) -> bool {
    let RefOr::T(parameter) = parameter else { return false };
    let is = |header: &HeaderName| parameter.name.eq_ignore_ascii_case(header.as_str());
    parameter.parameter_in == ParameterIn::Header && (is(&IF_MATCH) || is(&IF_NONE_MATCH))
}

fn text() -> String {
    let (_, mut document) = rest::routes().split_for_parts();
    for (path, item) in &mut document.paths.paths {
        let item: &mut PathItem = item;
        for operation in rest::operations(item) {
            if let Some(parameters) = &mut operation.parameters {
                parameters.iter_mut().for_each(say_what_a_name_is);
                parameters
                    .retain(|parameter| precondition::names_an_object(path) || !is_condition(parameter));
            }
        }
        for (method, operation) in [(Method::GET, &mut item.get), (Method::POST, &mut item.post)] {
            if let Some(operation) = operation.as_mut().filter(|_| access::is_open(&method, path)) {
                operation.security = Some(vec![SecurityRequirement::default()]);
            }
        }
    }
    // Plain data with string keys; there is nothing in it that cannot be written.
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}
