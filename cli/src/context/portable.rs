//! A context as one file, for another machine or another person.
//!
//! ```toml
//! name = "prod"
//! url = "https://10.0.0.11:8443,https://10.0.0.12:8443"
//! env = "shop"                      # what was chosen there; may be missing
//! ca = "-----BEGIN CERTIFICATE…"    # missing if the system's authorities are trusted
//! token = "skp_…"                   # only if it was asked for
//! ```

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use toml_edit::value;
use uuid::Uuid;

use super::files::{AUTHORITIES, beside, change, config, context_of, keep_private, token_file, writing};
use super::{CONTEXT, kept, must_be_free, shown_urls};
use crate::client::trust::certificates;
use crate::failure::Failure;
use crate::input;
use crate::session::Session;
use crate::settings::{ConfigFile, TokenSource, managers};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Portable {
    name: String,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

pub(super) fn export(name: Option<String>, with_token: bool, session: &Session) -> Result<(), Failure> {
    let (name, settings) = kept(name, "skep context export NAME", session)?;
    let token = match (&settings.token, with_token) {
        (_, false) => None,
        (Some(TokenSource::File(file)), true) => Some(read(file)?.trim().to_owned()),
        (Some(TokenSource::Value(secret)), true) => Some(secret.expose().to_owned()),
        (None, true) => {
            return Err(Failure::usage(
                format!("context '{name}' has no token"),
                "leave --with-token out, or sign in first: skep login",
            ));
        }
    };
    let ca = settings.ca_file.as_deref().map(read).transpose()?;
    let portable = Portable { name, url: shown_urls(&settings), env: settings.env, ca, token };
    let text = toml::to_string_pretty(&portable)
        .map_err(|error| Failure::usage(format!("this context cannot be written: {error}"), "rename it"))?;
    session.screen.result(&text);
    Ok(())
}

pub(super) async fn import(from: &Path, name: Option<String>, session: &Session) -> Result<(), Failure> {
    let config = config(session)?;
    let portable: Portable = toml::from_str(&input::text(from).await?).map_err(|error| {
        Failure::usage(
            format!("this is no exported context: {}", error.to_string().trim_end()),
            "make one where the context is: skep context export NAME",
        )
    })?;
    let Portable { name: own, url, env, ca, token } = portable;
    let name = name.unwrap_or(own);
    must_be_free(&name, &ConfigFile::at(config)?, "give it another: skep context import FILE NAME")?;
    managers(&url)?;
    // A name of its own: a context can be renamed.
    let ca_file = format!("{AUTHORITIES}/{}.pem", Uuid::now_v7());
    if let Some(ca) = &ca {
        certificates(ca.as_bytes(), "the file's ca")?;
        let file = beside(config).join(&ca_file);
        keep_private(&file, ca).map_err(writing(&file))?;
    }
    if let Some(token) = &token {
        let file = token_file(config, &name);
        keep_private(&file, token).map_err(writing(&file))?;
    }
    change(config, |document| {
        let context = context_of(document, &name);
        context["url"] = value(url);
        let relative = [
            ("env", env),
            ("ca_file", ca.map(|_| ca_file)),
            ("token_file", token.map(|_| format!("tokens/{name}"))),
        ];
        for (field, is) in relative {
            if let Some(is) = is {
                context[field] = value(is);
            }
        }
    })?;
    session.print_done(&CONTEXT, &json!({"name": name}), "imported");
    session.screen.note(&format!("to choose it: skep use {name}"));
    Ok(())
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file)
        .map_err(|source| Failure::File { doing: format!("read {}", file.display()), source })
}
