//! How long a caller waits, as the header `grpc-timeout` says it: `TimeoutValue TimeoutUnit` of gRPC's
//! [protocol over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
//!
//! Until the answer begins: a stream that has begun goes on until its caller ends it, as callers do when their time is over.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use tokio::time::timeout;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::status;
use crate::problem::{Code, Problem, Reply};

const HEADER: &str = "grpc-timeout";

/// By the protocol.
const DIGITS_MAX: usize = 8;

/// Answers in time, or says that it was not possible.
pub(super) async fn keep(request: Request, next: Next) -> Response {
    let patience = match request.headers().get(HEADER).map(read).transpose() {
        Ok(patience) => patience,
        Err(problem) => return answer(status::refused(&problem, MetadataMap::new())),
    };
    let Some(patience) = patience else {
        return next.run(request).await;
    };
    match timeout(patience, next.run(request)).await {
        Ok(response) => response,
        Err(_) => answer(Status::deadline_exceeded(format!(
            "there was no answer within {patience:?}; what became of a change is unknown: make the same call again, with the \
             same idempotency-key or request_id"
        ))),
    }
}

fn answer(status: Status) -> Response {
    status.into_http::<Body>().into_response()
}

fn read(header: &HeaderValue) -> Reply<Duration> {
    let text = String::from_utf8_lossy(header.as_bytes());
    parse(&text).ok_or_else(|| {
        let detail = format!("{HEADER} is {text:?}, which is no time");
        let hint =
            format!("1 to {DIGITS_MAX} digits and a unit (H, M, S, m, u, n), like 500m for half a second");
        Problem::new(Code::MalformedRequest, detail).hinting(hint)
    })
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_hours(count)),
        'M' => Some(Duration::from_mins(count)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("500m", Some(Duration::from_millis(500))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("100000000S", None),
            ("5", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("5µ", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
