//! How requests are read: strictly. What is not understood is named, never skipped.

mod objects;

use std::ops::Deref;
use std::time::Duration;

use axum::body::{BodyDataStream, Bytes};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::HeaderMap;
use futures::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny, IntoDeserializer as _};
use serde_json::error::Category;
use skep_ledger::View;
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use self::objects::Strict;
use crate::problem::{Code, Problem, Reply};
use crate::{Api, freshness};

/// A client that sends nothing of an archive for so long does not send the rest either.
const BODY_SILENT_MAX: Duration = Duration::from_secs(60);

/// A name or an id as somebody wrote it.
///
/// Whether it exists, or could, is for the rules to say; here it only becomes safe to look up: keys of the ledger
/// are joined with zero bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Reference(String);

impl TryFrom<String> for Reference {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Reference, &'static str> {
        if text.chars().any(char::is_control) {
            Err("a name has no control characters")
        } else {
            Ok(Reference(text))
        }
    }
}

impl Deref for Reference {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The variable parts of the path.
pub(crate) struct Place<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Place<T> {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Reply<Place<T>> {
        let Path(place) = Path::from_request_parts(parts, api).await?;
        Ok(Place(place))
    }
}

/// Where in a path the environment stands.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a part of the path; it is read as a `Place`")]
pub(crate) struct Within {
    /// Its name or id
    environment: String,
}

/// The query.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Params<T> {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Reply<Params<T>> {
        let Query(params) = Query::from_request_parts(parts, api).await?;
        Ok(Params(params))
    }
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Consistency {
    /// What the answering manager knows; works without a leader.
    Stale,
    /// Linearizable, at present.
    #[default]
    Default,
    /// Linearizable.
    Consistent,
}

/// What every read takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Reading {
    /// How fresh the answer must be.
    #[serde(default)]
    #[param(inline, required = false)]
    pub(crate) consistency: Consistency,
}

impl Reading {
    /// How fresh, in the word of the query.
    pub(crate) fn consistency(word: &str) -> Reply<Consistency> {
        Consistency::deserialize(word.into_deserializer()).map_err(|error: serde::de::value::Error| {
            Problem::new(Code::MalformedRequest, format!("consistency: {error}"))
        })
    }
}

/// The state to answer a read from, as fresh as its query asks for.
pub(crate) struct Read(pub(crate) View);

impl FromRequestParts<Api> for Read {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Reply<Read> {
        let Params(Reading { consistency }) = Params::from_request_parts(parts, api).await?;
        Ok(Read(api.read(consistency).await?))
    }
}

impl Api {
    /// The state to answer a read from.
    pub(crate) async fn read(&self, consistency: Consistency) -> Reply<View> {
        match consistency {
            Consistency::Stale => Ok(self.ledger().view()),
            Consistency::Default | Consistency::Consistent => {
                let view = self.ledger().fresh_view().await?;
                freshness::is_consistent();
                Ok(view)
            }
        }
    }
}

/// What comes next of a body that is read as it comes.
pub(crate) async fn next_chunk(chunks: &mut BodyDataStream) -> Reply<Option<Result<Bytes, axum::Error>>> {
    timeout(BODY_SILENT_MAX, chunks.next()).await.map_err(|_| {
        let seconds = BODY_SILENT_MAX.as_secs();
        Problem::new(Code::BodyTooSlow, format!("nothing of the body has come for {seconds} s"))
    })
}

/// Reads a JSON body.
pub(crate) fn json<T: DeserializeOwned>(headers: &HeaderMap, bytes: &Bytes) -> Reply<T> {
    if bytes.is_empty() {
        return Err(Problem::new(Code::MalformedRequest, "the request has no body; JSON is expected"));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("nothing");
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = format!("the body is said to be {essence}; JSON is expected");
        return Err(Problem::new(Code::UnsupportedMediaType, detail)
            .hinting("send the header Content-Type: application/json"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = T::deserialize(Strict(&mut reader)).and_then(|wish| reader.end().map(|()| wish));
    read.map_err(|error| {
        let told = without_value(&error.to_string());
        let (code, words) = match error.classify() {
            // A null where a word is expected counts as bad syntax there, too.
            Category::Syntax | Category::Data if serde_json::from_slice::<IgnoredAny>(bytes).is_ok() => {
                (Code::InvalidBody, "the body is not what is expected here")
            }
            _ => (Code::MalformedRequest, "the body is not JSON"),
        };
        Problem::new(code, format!("{words}: {told}")).at_line(error.line(), told)
    })
}

/// `invalid type: string "hunter2", expected u32` without what was written: it may be a secret in the wrong place.
fn without_value(error: &str) -> String {
    let shown = error.find("invalid ").and_then(|from| error[from..].find(['"', '`']).map(|at| from + at));
    let end = error.rfind(", expected ");
    match (shown, end) {
        (Some(from), Some(to)) if from < to => format!("{}{}", error[..from].trim_end(), &error[to..]),
        _ => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_not_repeated() {
        for (error, told) in [
            (
                "invalid type: string \"a \\\", expected b\", expected u32 at line 1 column 9",
                "invalid type: string, expected u32 at line 1 column 9",
            ),
            (
                "invalid type: integer `5`, expected a string at line 1",
                "invalid type: integer, expected a string at line 1",
            ),
            ("invalid type: map, expected a string", "invalid type: map, expected a string"),
            ("unknown field `x`, expected `user`", "unknown field `x`, expected `user`"),
            ("missing field `user`", "missing field `user`"),
        ] {
            assert_eq!(without_value(error), told);
        }
    }
}
