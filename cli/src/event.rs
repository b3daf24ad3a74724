//! `skep event`: what changes, as it happens.
//!
//! The revision of the last event is the cursor: a stream that breaks off is opened again at the next manager after it, so
//! nothing is missed and little is told twice.

use clap::Subcommand;
use serde_json::Value;

use crate::client::{EventStream, Pauses};
use crate::exit;
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::Verbs;
use crate::session::Session;
use crate::sse;
use crate::value::{clean, text_at};

/// What can be done with changes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Print what changes, as it happens (the default)
    #[command(
        visible_alias = "tail",
        before_long_help = "Examples:\n  skep event watch\n  skep event watch host:prod/* operation\n  skep event watch environment --since 81234 -o json",
        after_long_help = exit::help(exit::READS)
    )]
    Watch(Watch),
}

/// What to follow, from where on, and for how long.
#[derive(Debug, Default, clap::Args)]
pub struct Watch {
    /// What to follow: KIND, KIND:NAME, host:ENV/*; everything if none is given
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Begin after this revision instead of now
    #[arg(long, value_name = "REVISION")]
    since: Option<u64>,
    /// End after so many events
    #[arg(long, value_name = "COUNT")]
    first: Option<u64>,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    let Verb::Watch(watch) = command.verb.unwrap_or(Verb::Watch(Watch::default()));
    follow(watch, session).await
}

/// Prints what is done, as it is written down.
pub(crate) async fn follow_audit(session: &Session) -> Result<(), Failure> {
    follow(Watch { topics: vec!["audit".into()], ..Watch::default() }, session).await
}

async fn follow(watch: Watch, session: &Session) -> Result<(), Failure> {
    let mut follower = Follower {
        session,
        topics: watch.topics.join(","),
        seen: watch.since,
        left: watch.first,
        useful: false,
    };
    let mut pauses = Pauses::new();
    while follower.left != Some(0) {
        match follower.one_stream().await {
            Ok(()) => {}
            Err(failure) if failure.may_pass() => {}
            Err(failure) => return Err(failure),
        }
        if follower.left == Some(0) {
            break;
        }
        // The manager that let us down may be about to stop; another one knows as much.
        session.client()?.move_on();
        pauses.wait(std::mem::take(&mut follower.useful)).await;
    }
    Ok(())
}

/// Follows over as many streams as it takes.
struct Follower<'a> {
    session: &'a Session,
    topics: String,
    /// The cursor.
    seen: Option<u64>,
    /// Events to go; none: until somebody ends it.
    left: Option<u64>,
    /// The current stream has brought something.
    useful: bool,
}

impl Follower<'_> {
    async fn one_stream(&mut self) -> Result<(), Failure> {
        let client = self.session.client()?;
        let query: Vec<_> = match self.topics.is_empty() {
            true => vec![],
            false => vec![("topics", self.topics.as_str())],
        };
        let seen = self.seen.map(|revision| revision.to_string());
        let mut stream = client.events(&["v1", "events"], &query, seen.as_deref()).await?;
        while let Some(events) = stream.next().await? {
            for event in events {
                self.useful = true;
                self.take(&stream, &event)?;
                if self.left == Some(0) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, stream: &EventStream, event: &sse::Event) -> Result<(), Failure> {
        self.seen = event.id.as_deref().and_then(|id| id.parse().ok()).or(self.seen);
        match event.name.as_str() {
            "put" | "delete" => {
                let document = stream.document(event)?;
                // An entry of the audit was told when it was written; that a seal covers it is no news.
                if !document["object"]["seal"].is_null() {
                    return Ok(());
                }
                self.print(&document);
                self.left = self.left.map(|left| left.saturating_sub(1));
            }
            "reset" => self.session.screen.note(&format!(
                "Some changes may be missing; going on from revision {}",
                self.seen.unwrap_or_default()
            )),
            // Bookmarks move the cursor, and later versions may have events of other kinds.
            _ => {}
        }
        Ok(())
    }

    fn print(&self, document: &Value) {
        let line = match self.session.output(Output::Table) {
            // One line each, so that a program can read them as they come.
            Output::Json => return self.session.print_next(document),
            Output::Name => reference(document),
            _ => sentence(document),
        };
        self.session.screen.result(&format!("{line}\n"));
    }
}

/// `host/web-1`; the id, if there is no name.
fn reference(document: &Value) -> String {
    let kind = text_at(document, "/kind").unwrap_or_default().to_lowercase();
    let name = text_at(document, "/object/metadata/name").or_else(|| text_at(document, "/id"));
    format!("{kind}/{}", name.unwrap_or_default())
}

/// One event for people.
fn sentence(document: &Value) -> String {
    let revision = text_at(document, "/revision").unwrap_or_default();
    let mut words = vec![format!("{revision:>8}"), reference(document)];
    words.extend(text_at(document, "/object/metadata/env").map(|env| format!("({env})")));
    if document["kind"] == "AuditEntry" {
        let parts = ["/object/at", "/object/principal", "/object/outcome", "/object/call", "/object/code"];
        let parts = parts.iter().filter_map(|pointer| text_at(document, pointer));
        words = parts.filter(|part| !part.is_empty()).map(|part| clean(&part)).collect();
        return words.join(" ");
    }
    if document["event"] == "delete" {
        words.push("is gone".into());
        return words.join(" ");
    }
    words.extend(text_at(document, "/object/target"));
    words.extend(text_at(document, "/object/status/state").or_else(|| text_at(document, "/object/state")));
    let message =
        text_at(document, "/object/status/message").or_else(|| text_at(document, "/object/message"));
    words.extend(message.filter(|message| !message.is_empty()).map(|message| clean(&message)));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_line() {
        let host = json!({"event": "put", "kind": "Host", "id": "host_1", "revision": 7,
            "object": {"metadata": {"name": "web-1", "env": "prod"}, "status": {"state": "active", "message": ""}}});
        assert_eq!(sentence(&host), "       7 host/web-1 (prod) active");
        let operation = json!({"event": "put", "kind": "Operation", "id": "op_1", "revision": 12,
            "object": {"target": "host/web-1", "state": "waiting", "message": "for its agent"}});
        assert_eq!(sentence(&operation), "      12 operation/op_1 host/web-1 waiting for its agent");
        let gone =
            json!({"event": "delete", "kind": "Stack", "id": "stack_1", "revision": 13, "object": null});
        assert_eq!(sentence(&gone), "      13 stack/stack_1 is gone");
    }
}
