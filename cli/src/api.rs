//! `skep api`: a call of the API as one writes it, with the context's token.
//!
//! For what no command exists for, and for scripts that know the API: the same managers, retries, idempotency keys and
//! exit codes as every other command has.

use std::path::Path;

use clap::Args;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::de::IgnoredAny;

use crate::failure::Failure;
use crate::input;
use crate::session::Session;

/// What may be asked for.
const METHODS: &[Method] = &[Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A call.
#[derive(Debug, Args)]
pub struct Api {
    /// GET, POST, PUT, PATCH or DELETE
    #[arg(value_parser = method)]
    method: Method,
    /// Where, with the query: /v1/environments/prod/hosts?fields=metadata
    path: String,
    /// The body: JSON, @FILE, or - for standard input
    #[arg(value_name = "DATA")]
    body: Option<String>,
    /// The body, said with a flag
    #[arg(long, value_name = "DATA", conflicts_with = "body")]
    data: Option<String>,
    /// A header 'NAME: VALUE'; repeatable
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Read a whole list, also one that comes in several pages
    #[arg(long, conflicts_with_all = ["headers", "include"])]
    paginate: bool,
    /// Print the status and the headers of the answer first
    #[arg(short, long)]
    include: bool,
}

pub(crate) async fn run(call: Api, session: &Session) -> Result<(), Failure> {
    let place = Place::parse(&call.path)?;
    let segments: Vec<&str> = place.segments.iter().map(String::as_str).collect();
    let query: Vec<(&str, &str)> =
        place.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let given = call.body.as_deref().or(call.data.as_deref());
    if call.method == Method::GET && given.is_some() {
        return Err(Failure::usage("GET takes no body", "name what is to be done: POST, PUT or PATCH"));
    }
    if call.paginate {
        if call.method != Method::GET {
            return Err(Failure::usage("--paginate reads lists", "use it with GET"));
        }
        session.print_json(&session.client()?.list(&segments, &query).await?);
        return Ok(());
    }
    let headers: HeaderMap = call.headers.into_iter().collect();
    let body = match given {
        Some(given) => Some(body(given, headers.contains_key(CONTENT_TYPE)).await?),
        None => None,
    };
    let mut answer = session.client()?.raw(call.method, &segments, &query, &headers, body.as_deref()).await?;
    if call.include {
        session.screen.result(&answer.head());
    }
    if answer.is_json() {
        session.print_json(&answer.json().await?);
        return Ok(());
    }
    while let Some(chunk) = answer.chunk().await? {
        session.screen.result_bytes(&chunk);
    }
    Ok(())
}

/// What is to be sent. That it is JSON is seen here, where the line of a mistake can still be named.
async fn body(given: &str, of_another_kind: bool) -> Result<String, Failure> {
    let (text, from) = match (given, given.strip_prefix('@')) {
        ("-", _) => (input::text(Path::new("-")).await?, "standard input"),
        (_, Some(file)) => (input::text(Path::new(file)).await?, file),
        (text, None) => (text.to_owned(), "the body"),
    };
    if !of_another_kind && let Err(error) = serde_json::from_str::<IgnoredAny>(&text) {
        return Err(Failure::usage(
            format!("{from} is not JSON: {error}"),
            "write JSON, @FILE, or - for standard input; for another kind add -H 'Content-Type: …'",
        ));
    }
    Ok(text)
}

/// A path with its query, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    segments: Vec<String>,
    query: Vec<(String, String)>,
}

impl Place {
    fn parse(text: &str) -> Result<Place, Failure> {
        let wrong =
            |why: &str| Failure::usage(format!("'{text}' {why}"), "write a path such as /v1/environments");
        if text.contains("://") {
            return Err(wrong("is an address, not a path; the context says whom to ask"));
        }
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let segments: Option<Vec<String>> =
            path.strip_prefix('/').unwrap_or(path).split('/').map(decoded).collect();
        let segments = segments.ok_or_else(|| wrong("has a % that begins no character"))?;
        if segments.iter().any(|segment| matches!(segment.as_str(), "" | "." | "..")) {
            return Err(wrong("is not a path: a part of it is empty, '.' or '..'"));
        }
        let query = Url::parse(&format!("https://api/?{query}")).map_err(|_| wrong("has no valid query"))?;
        Ok(Place { segments, query: query.query_pairs().into_owned().collect() })
    }
}

/// A segment as it is meant; it is encoded again when it is sent.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = rest.get(2..)?;
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn method(text: &str) -> Result<Method, String> {
    let wanted = METHODS.iter().find(|method| method.as_str().eq_ignore_ascii_case(text));
    wanted.cloned().ok_or_else(|| "write GET, POST, PUT, PATCH or DELETE".to_owned())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || "write NAME: VALUE".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    // It may be a token, and traces show what is not marked.
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_apart_as_it_is_meant() {
        let parsed = |text: &str| {
            let place = Place::parse(text).expect("a path");
            let query: Vec<String> =
                place.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            (place.segments.join("|"), query.join("|"))
        };
        let both = |path: &str, query: &str| (path.to_owned(), query.to_owned());
        assert_eq!(parsed("/v1/environments"), both("v1|environments", ""));
        assert_eq!(parsed("v1/users/a%2Fb?x=1%262&y"), both("v1|users|a/b", "x=1&2|y="));
        for wrong in [
            "",
            "/",
            "/v1//users",
            "/v1/users/",
            "/v1/../x",
            "/v1/%2e%2E/x",
            "/v1/%zz",
            "/v1/%2",
            "https://a/v1",
        ] {
            assert_eq!(Place::parse(wrong).expect_err(wrong).exit() as u8, 2);
        }
    }
}
