//! Which managers a client talks to, whom it trusts, and how long it is patient.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use uuid::Uuid;

use super::{Client, RETRY_FOR, Shared, trust};
use crate::failure::Failure;
use crate::screen::Screen;
use crate::settings::{self, Settings};

impl Client {
    /// Builds a client; nothing is sent yet.
    pub(crate) fn new(settings: &Settings, screen: Screen) -> Result<Client, Failure> {
        Client::over(trust::http_client(settings)?, settings, screen, RETRY_FOR)
    }

    /// As [`Client::new`], for connections that become frames: HTTP/2 has none that could.
    pub(crate) fn for_frames(settings: &Settings, screen: Screen) -> Result<Client, Failure> {
        Client::over(trust::http1_client(settings)?, settings, screen, RETRY_FOR)
    }

    /// One manager alone, which is asked once: what it says is about itself, and it may well be dead.
    pub(crate) fn of_one(manager: &str, settings: &Settings, screen: Screen) -> Result<Client, Failure> {
        let settings = Settings { managers: vec![settings::manager(manager)?], ..settings.clone() };
        Client::over(trust::http_client(&settings)?, &settings, screen, Duration::ZERO)
    }

    fn over(
        http: reqwest::Client,
        settings: &Settings,
        screen: Screen,
        retry_for: Duration,
    ) -> Result<Client, Failure> {
        if settings.managers.is_empty() {
            return Err(Failure::usage(
                "no server is named",
                "give --url https://HOST:8443, set SKEP_URL, or write a context into the configuration file",
            ));
        }
        Ok(Client {
            shared: Arc::new(Shared {
                http,
                managers: settings.managers.clone(),
                current: AtomicUsize::new(0),
                authorization: settings.token.as_ref().map(trust::authorization).transpose()?,
                consistency: settings.consistency,
                dry_run: settings.dry_run,
                key: settings.idempotency_key.unwrap_or_else(Uuid::now_v7),
                writes: AtomicUsize::new(0),
                write_under_way: AtomicBool::new(false),
                noticed: AtomicBool::new(settings.quiet),
                screen,
                verbose: settings.verbose,
                retry_for,
            }),
        })
    }
}
