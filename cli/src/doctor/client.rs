//! `skep doctor client`: what this machine needs to talk to managers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use super::checks::{Check, tell};
use crate::failure::Failure;
use crate::session::Session;
use crate::settings::TokenSource;
use crate::value::text_at;

const ABOUT: &str = "client";

/// With more, tokens and certificates are taken for expired, or for not valid yet.
const CLOCK_AHEAD_MAX: SignedDuration = SignedDuration::from_secs(15);

pub(super) async fn check(session: &Session) -> Result<(), Failure> {
    let mut checks = vec![configuration(session), token(session)];
    checks.extend(server(session).await);
    tell(&checks, "skep doctor client", session)
}

fn configuration(session: &Session) -> Check {
    let settings = &session.settings;
    match (&settings.config, &settings.context) {
        (Some(file), Some(context)) => {
            Check::ok(ABOUT, "settings", format!("context {context} of {}", file.display()))
        }
        _ if settings.managers.is_empty() => Check::error(
            ABOUT,
            "settings",
            "no server is known",
            "sign in: skep login https://HOST:8443; or set SKEP_URL",
        ),
        _ => {
            Check::ok(ABOUT, "settings", format!("no context; the server is from: {}", settings.origins.url))
        }
    }
}

fn token(session: &Session) -> Check {
    match &session.settings.token {
        None => Check::warning(ABOUT, "token", "none", "sign in: skep login URL"),
        Some(TokenSource::Value(_)) => Check::warning(
            ABOUT,
            "token",
            "in the variable SKEP_TOKEN, which other processes may read",
            "put it into a file and set SKEP_TOKEN_FILE",
        ),
        Some(TokenSource::File(file)) => of_file(file),
    }
}

fn of_file(file: &Path) -> Check {
    let shown = file.display();
    match std::fs::metadata(file) {
        Err(error) => Check::error(ABOUT, "token", format!("{shown}: {error}"), "sign in again: skep login"),
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => Check::warning(
            ABOUT,
            "token",
            format!("others can read {shown}"),
            format!("chmod 600 {shown}; who may have read it, has it: skep token rotate"),
        ),
        Ok(_) => Check::ok(ABOUT, "token", shown.to_string()),
    }
}

async fn server(session: &Session) -> Vec<Check> {
    let client = match session.client() {
        Ok(client) => client,
        Err(failure) => {
            return vec![Check::error(ABOUT, "server", failure.to_string(), "see the check of the settings")];
        }
    };
    let began = Instant::now();
    let answer = client.raw(Method::GET, &["v1", "meta"], &[], &HeaderMap::new(), None).await;
    let took = began.elapsed();
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            let fix = "is the address right, and does a firewall let it through? skep context show; then, on the managers: skep doctor server";
            return vec![Check::error(ABOUT, "server", failure.to_string(), fix)];
        }
    };
    let clock = answer.header("date").and_then(|date| clock(&date, Timestamp::now()));
    let meta = match answer.json().await {
        Ok(meta) => meta,
        Err(failure) => {
            return vec![Check::error(ABOUT, "server", failure.to_string(), "is this address a manager's?")];
        }
    };
    let text = |pointer: &str| text_at(&meta, pointer).unwrap_or_default();
    let who = match client.get(&["v1", "whoami"], &[]).await {
        Ok(whoami) => Check::ok(ABOUT, "identity", text_at(&whoami, "/principal").unwrap_or_default()),
        Err(failure) => Check::error(ABOUT, "identity", failure.to_string(), "sign in again: skep login"),
    };
    let reached = format!(
        "cluster {}, manager {}, answered in {} ms",
        text("/cluster"),
        text("/node"),
        took.as_millis()
    );
    let mut checks = vec![Check::ok(ABOUT, "server", reached), who];
    let (own, theirs) = (env!("CARGO_PKG_VERSION"), text("/version"));
    checks.push(match own == theirs {
        true => Check::ok(ABOUT, "version", own),
        false => Check::warning(
            ABOUT,
            "version",
            format!("{own}, the server has {theirs}"),
            "take the client of the server's version if something is refused that should work",
        ),
    });
    checks.extend(clock);
    checks
}

/// How far this machine's clock is from the manager's, which says whole seconds.
fn clock(date: &str, now: Timestamp) -> Option<Check> {
    let theirs = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    let ahead = now.duration_since(theirs);
    Some(match ahead.abs() > CLOCK_AHEAD_MAX {
        true => Check::warning(
            ABOUT,
            "clock",
            format!("{} s from the manager's", ahead.abs().as_secs()),
            "keep both with time servers: timedatectl",
        ),
        false => Check::ok(ABOUT, "clock", "as the manager's"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_and_a_token_that_others_can_read_is_told() {
        let now: Timestamp = "2026-11-29T03:32:39Z".parse().unwrap();
        let state = |date: &str| clock(date, now).map(|check| check.row()["state"].clone());
        assert_eq!(state("Sun, 29 Nov 2026 03:32:30 GMT").unwrap(), "ok");
        assert_eq!(state("Sun, 29 Nov 2026 03:30:30 GMT").unwrap(), "warning");
        assert!(state("yesterday").is_none());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert_eq!(of_file(&file).row()["state"], "error");
        std::fs::write(&file, "skp_a").unwrap();
        for (mode, state) in [(0o600, "ok"), (0o644, "warning")] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(of_file(&file).row()["state"], state);
        }
    }
}
