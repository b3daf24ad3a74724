//! Changes that are made only if nothing else was changed meanwhile, and answers that are sent only if they are news
//! (`If-Match`, `If-None-Match`; RFC 9110, section 13.1). An object's tag is its revision.
//!
//! A condition is compared within the transaction, so nothing comes between the comparison and the change. A request that is
//! repeated with its key is answered as before, whatever its condition says by then.

use axum::RequestPartsExt as _;
use axum::body::Body;
use axum::extract::{MatchedPath, RawPathParams};
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use skep_ledger::{Record, Revision, Tx};
use skep_model::access::{Group, Role, User};
use skep_model::environment::Environment;
use skep_model::host::Host;
use skep_model::operation::Operation;
use skep_model::registry::RegistryLogin;
use skep_model::snapshot::{Schedule, Snapshot};
use skep_model::stack::Stack;
use skep_model::template::Template;
use skep_model::{CLUSTER, Refusal, Ruling, environment, host};

use crate::problem::{Code, Problem, Reply};

/// What a change may depend on.
#[derive(Debug)]
pub(crate) struct Precondition {
    wanted: Wanted,
    target: &'static Target,
    /// The environment, if the path names one, and the object.
    place: (String, String),
}

#[derive(Debug)]
enum Wanted {
    Revisions(Vec<Revision>),
    Exists,
    Absent,
    Never,
}

/// An object that a path can name.
#[derive(Debug)]
struct Target {
    /// As in the path, and for people.
    word: &'static str,
    revision: fn(&mut Tx<'_>, &(String, String)) -> Ruling<Option<Revision>>,
}

const TARGETS: &[Target] = &[
    Target {
        word: "environment",
        revision: |tx, (_, name)| {
            let id = environment::named(tx, name)?.id;
            of::<Environment>(tx, CLUSTER, id.as_str())
        },
    },
    Target {
        word: "host",
        revision: |tx, (environment, name)| {
            let environment = environment::named(tx, environment)?;
            let id = host::named(tx, &environment, name)?.id;
            of::<Host>(tx, environment.id.as_str(), id.as_str())
        },
    },
    Target {
        word: "stack",
        revision: |tx, (environment, name)| {
            let environment = environment::named(tx, environment)?;
            of::<Stack>(tx, environment.id.as_str(), name)
        },
    },
    Target {
        word: "registry",
        revision: |tx, (environment, name)| {
            let environment = environment::named(tx, environment)?;
            of::<RegistryLogin>(tx, environment.id.as_str(), name)
        },
    },
    Target { word: "template", revision: |tx, (_, name)| of::<Template>(tx, CLUSTER, name) },
    Target { word: "user", revision: |tx, (_, name)| of::<User>(tx, CLUSTER, name) },
    Target { word: "group", revision: |tx, (_, name)| of::<Group>(tx, CLUSTER, name) },
    Target { word: "role", revision: |tx, (_, name)| of::<Role>(tx, CLUSTER, name) },
    Target { word: "operation", revision: |tx, (_, name)| of::<Operation>(tx, CLUSTER, name) },
    Target { word: "snapshot", revision: |tx, (_, name)| of::<Snapshot>(tx, CLUSTER, name) },
    Target { word: "schedule", revision: |tx, (_, name)| of::<Schedule>(tx, CLUSTER, name) },
];

fn of<T: Record>(tx: &mut Tx<'_>, partition: &str, id: &str) -> Ruling<Option<Revision>> {
    Ok(tx.get::<T>(partition, id)?.map(|stored| stored.revision))
}

impl Precondition {
    /// The condition of a request, if it has one.
    pub(crate) async fn of(parts: &mut Parts) -> Reply<Option<Precondition>> {
        let wanted = match (parts.headers.get(IF_MATCH), parts.headers.get(IF_NONE_MATCH)) {
            (None, None) => return Ok(None),
            (Some(value), None) => matching(value)?,
            (None, Some(value)) if value == "*" => Wanted::Absent,
            (None, Some(_)) => {
                return Err(wrong(&IF_NONE_MATCH, "changes take only '*': it must not be there yet"));
            }
            // It would have to be there and not be there.
            (Some(_), Some(_)) => Wanted::Never,
        };
        let route =
            parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
        let target = target(&route).ok_or_else(|| {
            wrong(&IF_MATCH, "the path of this request names no object whose revision could be compared")
        })?;
        let names = parts
            .extract::<RawPathParams>()
            .await
            .map_err(|_| wrong(&IF_MATCH, "the path cannot be read"))?;
        let named = |what: &str| {
            let found = names.iter().find(|(name, _)| *name == what);
            found.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        let place = (named("environment"), named(target.word));
        if place.0.chars().chain(place.1.chars()).any(char::is_control) {
            return Err(Problem::new(Code::MalformedRequest, "a name has no control characters"));
        }
        Ok(Some(Precondition { wanted, target, place }))
    }

    /// Goes on if it holds.
    pub(crate) fn insist(&self, tx: &mut Tx<'_>) -> Ruling<()> {
        let revision = match (self.target.revision)(tx, &self.place) {
            Err(Refusal::NotFound { .. }) => None,
            revision => revision?,
        };
        let holds = match (&self.wanted, revision) {
            (Wanted::Revisions(wanted), Some(revision)) => wanted.contains(&revision),
            (Wanted::Exists, revision) => revision.is_some(),
            (Wanted::Absent, revision) => revision.is_none(),
            (Wanted::Revisions(_), None) | (Wanted::Never, _) => false,
        };
        let what = format!("{} {}", self.target.word, self.place.1);
        if holds { Ok(()) } else { Err(Refusal::PreconditionFailed { what, revision }) }
    }
}

/// Does a path name an object whose revision can be compared?
pub(crate) fn names_an_object(route: &str) -> bool {
    target(route).is_some()
}

/// The object that a path is about: the last one that it names, unless what follows is something else.
fn target(route: &str) -> Option<&'static Target> {
    let (before, after) = route.rsplit_once('}')?;
    let word = before.rsplit_once('{')?.1;
    let about_it = after.is_empty() || after.starts_with("/actions/") || after == "/password";
    TARGETS.iter().find(|target| target.word == word).filter(|_| about_it)
}

fn matching(value: &HeaderValue) -> Reply<Wanted> {
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Wanted::Exists);
    }
    let tags = text.split(',').map(|tag| tag.trim().trim_matches('"').parse());
    let tags: Result<Vec<Revision>, _> = tags.collect();
    tags.map(Wanted::Revisions)
        .map_err(|_| wrong(&IF_MATCH, "send the ETag of the object, its revision in quotes: \"81234\""))
}

fn wrong(header: &HeaderName, why: &str) -> Box<Problem> {
    Problem::new(Code::MalformedRequest, format!("{header} is not understood here: {why}"))
}

/// The tag of an object.
pub(crate) fn tag(revision: Revision) -> HeaderValue {
    // Digits and quotes always are a header.
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// Sends no body to whoever has it already.
pub(crate) fn spare_what_is_known(known: Option<&HeaderValue>, response: &mut Response) {
    let Some(known) = known.and_then(|known| known.to_str().ok()) else { return };
    let Some(tag) = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()) else { return };
    let same = |known: &str| known == "*" || known.trim_start_matches("W/") == tag;
    if response.status() == StatusCode::OK && known.split(',').map(str::trim).any(same) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        without_body(response.headers_mut());
    }
}

fn without_body(headers: &mut HeaderMap) {
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_LENGTH);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_about_the_last_object_that_it_names() {
        for (route, word) in [
            ("/v1/roles/{role}", Some("role")),
            ("/v1/environments/{environment}/hosts/{host}/actions/cordon", Some("host")),
            ("/v1/environments/{environment}/hosts", None),
            ("/v1/environments/{environment}/members/{kind}/{member}", None),
            ("/v1/users/{user}/password", Some("user")),
            ("/v1/tokens", None),
        ] {
            assert_eq!(target(route).map(|target| target.word), word, "{route}");
        }
    }
}
