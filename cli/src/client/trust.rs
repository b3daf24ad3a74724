//! Whom a client trusts, and how it says who it is.

use reqwest::header::HeaderValue;
use reqwest::{Certificate, redirect};

use super::{CONNECT_TIMEOUT, reason};
use crate::failure::Failure;
use crate::settings::{Secret, Settings, TokenSource, is_loopback};

/// Trusts the given authority and no other; without one, what the system trusts.
pub(super) fn http_client(settings: &Settings) -> Result<reqwest::Client, Failure> {
    build(reqwest::Client::builder(), settings)
}

/// As [`http_client`], without HTTP/2.
pub(super) fn http1_client(settings: &Settings) -> Result<reqwest::Client, Failure> {
    build(reqwest::Client::builder().http1_only(), settings)
}

fn build(builder: reqwest::ClientBuilder, settings: &Settings) -> Result<reqwest::Client, Failure> {
    let mut builder = builder
        .connect_timeout(CONNECT_TIMEOUT)
        // Managers never redirect; following one could only carry the token elsewhere.
        .redirect(redirect::Policy::none())
        .user_agent(concat!("skep/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).map_err(|source| Failure::File {
            doing: format!("read the CA file {}", path.display()),
            source,
        })?;
        builder = builder.tls_certs_only(certificates(&pem, &path.display().to_string())?);
    }
    // A proxy can only be in the way of an address that is this machine itself.
    if settings.managers.iter().all(is_loopback) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| {
        Failure::usage(
            format!("TLS cannot be set up: {}", reason(&error)),
            "this system trusts no certificate authority; name one with --ca-file or SKEP_CA_FILE",
        )
    })
}

/// The certificates of authorities in a file called `name`; at least one.
pub(crate) fn certificates(pem: &[u8], name: &str) -> Result<Vec<Certificate>, Failure> {
    Certificate::from_pem_bundle(pem)
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| Failure::usage(format!("{name} holds no certificate"), "give the cluster's CA as PEM"))
}

/// The header that says who is asking.
pub(super) fn authorization(source: &TokenSource) -> Result<HeaderValue, Failure> {
    let token = match source {
        TokenSource::Value(secret) => secret.clone(),
        TokenSource::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| Failure::File {
                doing: format!("read the token file {}", path.display()),
                source,
            })?;
            Secret::new(text)
        }
    };
    let not_a_token = |_| Failure::usage("the token is not one line of plain text", "it looks like skp_…");
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", token.expose().trim())).map_err(not_a_token)?;
    value.set_sensitive(true);
    Ok(value)
}
