//! Sessions of browsers: the token is in a cookie that no script can read, and what changes something proves that it comes from
//! our own page.
//!
//! | a request with the cookie …                | proves it by                                            |
//! |--------------------------------------------|---------------------------------------------------------|
//! | that only reads                            | nothing: other pages cannot read the answer             |
//! | that changes something                     | the header `X-Skep-CSRF`                                |
//! | whose connection becomes something else    | that header, or an `Origin` that is where it was sent to|
//!
//! The value of the header is derived from the session, so there is nothing to store, and no other session's will do (OWASP,
//! "Cross-Site Request Forgery Prevention", "HMAC based token pattern"). Scripts cannot set it for another site's request, and cannot give
//! a WebSocket any header, which is why its `Origin`, set by the browser, counts.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use http::header::{COOKIE, HOST, ORIGIN, UPGRADE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::problem::{Code, Problem, Reply};

/// Browsers take a cookie of such a name only over TLS, from this very host, for all of its paths (RFC 6265bis, 4.1.3.2).
const NAME: &str = "__Host-skep";

/// Says that a request comes from our own page.
const CSRF: HeaderName = HeaderName::from_static("x-skep-csrf");

/// What the value is derived for.
const CSRF_LABEL: &[u8] = b"skep: csrf, 1";

/// The token in the cookie of a request.
pub(crate) fn token(headers: &HeaderMap) -> Option<String> {
    // HTTP/2 may carry each pair in a header of its own.
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, token)| token.to_owned())
}

/// Lets the browser keep a session for as long as it lasts; nothing for no seconds makes it forget the one that it has.
pub(crate) fn set(value: &str, seconds: u32) -> Option<HeaderValue> {
    let text = format!("{NAME}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax");
    HeaderValue::try_from(text).ok().map(|mut value| {
        value.set_sensitive(true);
        value
    })
}

/// The value of `X-Skep-CSRF` that goes with a session.
pub(crate) fn csrf(token: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
    skep_wire::random::hex(hmac::sign(&key, CSRF_LABEL).as_ref())
}

/// May a request with this token in its cookie do what it is about to do?
pub(crate) fn ensure_own_page(parts: &Parts, token: &str) -> Reply<()> {
    let becomes_another = parts.headers.contains_key(UPGRADE) || parts.method == Method::CONNECT;
    if parts.method.is_safe() && !becomes_another {
        return Ok(());
    }
    let given = parts.headers.get(CSRF).map(HeaderValue::as_bytes).unwrap_or_default();
    if verify_slices_are_equal(given, csrf(token).as_bytes()).is_ok() {
        return Ok(());
    }
    if becomes_another && parts.method.is_safe() && is_from_here(parts) {
        return Ok(());
    }
    let detail =
        "a request that comes with a session's cookie and changes something needs the header X-Skep-CSRF";
    Err(Problem::new(Code::Csrf, detail).hinting(
        "GET /v1/sessions/current tells its value; programs send Authorization instead of the cookie",
    ))
}

/// Where a request was sent to.
pub(crate) fn host(parts: &Parts) -> Option<Authority> {
    let named = || parts.headers.get(HOST)?.to_str().ok()?.parse().ok();
    parts.uri.authority().cloned().or_else(named)
}

fn is_from_here(parts: &Parts) -> bool {
    let origin = || parts.headers.get(ORIGIN)?.to_str().ok()?.parse::<Uri>().ok();
    let origin = origin().filter(|origin| origin.scheme_str() == Some("https"));
    origin.is_some_and(|origin| origin.authority() == host(parts).as_ref())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn the_token_is_found_among_other_cookies() {
        for (lines, expected) in [
            (vec!["__Host-skep=skp_a_b"], Some("skp_a_b")),
            (vec!["theme=dark; __Host-skep=skp_a_b; x=y"], Some("skp_a_b")),
            (vec!["theme=dark", "__Host-skep=skp_a_b"], Some("skp_a_b")),
            (vec!["skep=skp_a_b", "x__Host-skep=skp_a_b"], None),
            (vec![], None),
        ] {
            let headers = lines.iter().map(|line| (COOKIE, HeaderValue::from_static(line)));
            let headers: HeaderMap = headers.fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            });
            assert_eq!(token(&headers).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_changes_something_or_becomes_something_else_is_proved_to_come_from_here() {
        let right = csrf("skp_a_b");
        let foreign = csrf("skp_c_d");
        let (here, there) = ("https://skep.example.com:8443", "https://evil.example.com");
        for (method, headers, allowed) in [
            ("GET", vec![], true),
            ("GET", vec![("origin", there)], true),
            ("POST", vec![], false),
            ("POST", vec![("origin", here)], false),
            ("POST", vec![("x-skep-csrf", foreign.as_str())], false),
            ("POST", vec![("x-skep-csrf", right.as_str())], true),
            ("DELETE", vec![("x-skep-csrf", "")], false),
            ("GET", vec![("upgrade", "websocket")], false),
            ("GET", vec![("upgrade", "websocket"), ("origin", there)], false),
            ("GET", vec![("upgrade", "websocket"), ("origin", "http://skep.example.com:8443")], false),
            ("GET", vec![("upgrade", "websocket"), ("origin", here)], true),
            ("GET", vec![("upgrade", "websocket"), ("x-skep-csrf", right.as_str())], true),
            ("POST", vec![("upgrade", "skep-frames"), ("origin", here)], false),
        ] {
            let mut request =
                Request::builder().method(method).uri("/v1/x").header("host", "skep.example.com:8443");
            for (name, value) in &headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).expect("is a request").into_parts();
            let problem = ensure_own_page(&parts, "skp_a_b").err().map(|problem| problem.code);
            assert_eq!(problem, (!allowed).then(|| "SKP-1112".to_owned()), "{method} {headers:?}");
        }
    }
}
