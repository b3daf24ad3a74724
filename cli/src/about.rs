//! `skep version` and `skep whoami`: about this client, the server and the person.

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::flags::Output;
use crate::session::Session;
use crate::value::text_at;

/// Version of the client.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints both versions. A server that is away is no failure: the question is also asked to find out.
pub(crate) async fn version(session: &Session) -> Result<(), Failure> {
    let server = match session.client() {
        Ok(client) => client.get_at_once(&["v1", "meta"]).await,
        Err(failure) => Err(failure),
    };
    if session.output(Output::Table) == Output::Json {
        let server = server.as_ref().ok();
        session.print_json(&json!({"client": {"version": VERSION}, "server": server}));
        return Ok(());
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
        _ => session.screen.result(&format!("{}\n", text_at(&answer, "/principal").unwrap_or_default())),
    }
    Ok(())
}

fn about_server(meta: &Value) -> String {
    let text = |pointer: &str| text_at(meta, pointer).unwrap_or_else(|| "?".into());
    format!("{} (cluster {}, manager {})", text("/version"), text("/cluster"), text("/node"))
}
