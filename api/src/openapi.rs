//! The description of the API, made from the same list that the router is made from.

use std::sync::LazyLock;

use http::Method;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, OpenApiVersion};

use crate::change::Known;
use crate::{access, rest};

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

fn text() -> String {
    let (_, mut document) = rest::routes().split_for_parts();
    for (path, item) in &mut document.paths.paths {
        let item: &mut PathItem = item;
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
