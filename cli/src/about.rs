//! `skep version` and `skep whoami`: about this client, the server and the person.

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::flags::Output;
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::{list_at, text_at};

/// Version of the client.
const VERSION: &str = env!("CARGO_PKG_VERSION");

const VERSIONS: &[Column] = &[
    Column::new("CLIENT", Show::Text("/client/version")),
    Column::new("SERVER", Show::Text("/server/version")),
    Column::new("CLUSTER", Show::Text("/server/cluster")),
    Column::new("MANAGER", Show::Text("/server/node")),
    Column::wide("REVISION", Show::Text("/server/revision")),
    Column::new("MESSAGE", Show::Free("/message")),
];

const PRINCIPAL: &[Column] = &[
    Column::new("PRINCIPAL", Show::Text("/principal")),
    Column::new("GROUPS", Show::With(|answer| words(answer, "/groups"))),
    Column::new("PERMISSIONS", Show::With(|answer| words(answer, "/permissions"))),
    Column::new("TOKEN", Show::Text("/token/kind")),
    Column::wide("ID", Show::Text("/token/id")),
    Column::new("ENDS", Show::Free("/token/expires_at")),
];

/// Prints both versions. A server that is away is no failure: the question is also asked to find out.
pub(crate) async fn version(session: &Session) -> Result<(), Failure> {
    let server = match session.client() {
        Ok(client) => client.get_at_once(&["v1", "meta"]).await,
        Err(failure) => Err(failure),
    };
    let mut versions = json!({"client": {"version": VERSION}, "server": server.as_ref().ok()});
    match session.output(Output::Table) {
        Output::Json => {
            session.print_json(&versions);
            return Ok(());
        }
        output @ (Output::Wide | Output::Csv) => {
            versions["message"] = json!(server.as_ref().err().map(ToString::to_string));
            session.print_table(VERSIONS, &[versions], output);
            return Ok(());
        }
        _ => {}
    }
    let server = match &server {
        Ok(meta) => about_server(meta),
        Err(failure) => format!("- ({failure})"),
    };
    session.screen.result(&format!("client  {VERSION}\nserver  {server}\n"));
    Ok(())
}

/// Prints whose token is used.
pub(crate) async fn whoami(session: &Session) -> Result<(), Failure> {
    let answer = session.client()?.get(&["v1", "whoami"], &[]).await?;
    match session.output(Output::Table) {
        Output::Json => session.print_json(&answer),
        output @ (Output::Wide | Output::Csv) => session.print_table(PRINCIPAL, &[answer], output),
        _ => session.screen.result(&format!("{}\n", text_at(&answer, "/principal").unwrap_or_default())),
    }
    Ok(())
}

/// A list as one cell.
fn words(answer: &Value, pointer: &str) -> Option<String> {
    let words: Vec<&str> = list_at(answer, pointer).iter().filter_map(Value::as_str).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn about_server(meta: &Value) -> String {
    let text = |pointer: &str| text_at(meta, pointer).unwrap_or_else(|| "?".into());
    format!("{} (cluster {}, manager {})", text("/version"), text("/cluster"), text("/node"))
}
