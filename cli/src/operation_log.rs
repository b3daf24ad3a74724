//! `skep operation logs`: the lines that an operation has said, and those that it goes on to say.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::client::EventStream;
use crate::failure::Failure;
use crate::flags::Output;
use crate::operation::OPERATION;
use crate::progress::is_final;
use crate::session::Session;
use crate::sse;
use crate::value::{items, text_at};

/// Managers send a heartbeat every 15 s; a stream without one for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// Between two tries to open a stream: first, and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Prints the lines of an operation; with `follow` until it has ended, over as many streams as it takes.
pub(crate) async fn print(id: &str, follow: bool, session: &Session) -> Result<(), Failure> {
    let path = OPERATION.at(&[id, "logs"], session)?;
    let client = session.client()?;
    if !follow {
        let lines = client.get(&path, &[]).await?;
        match session.output(Output::Table) {
            Output::Json => session.print_json(&lines),
            _ => items(&lines).iter().for_each(|line| session.screen.result(&sentence(line))),
        }
        return Ok(());
    }
    let mut reader = Reader { session, next: 0, seen: None };
    let mut pause = PAUSE_FIRST;
    loop {
        let before = reader.seen.clone();
        match client.events(&path, &[], reader.seen.as_deref()).await {
            Ok(stream) => {
                if reader.read(stream).await? {
                    return Ok(());
                }
            }
            Err(failure) if failure.may_pass() => {}
            Err(failure) => return Err(failure),
        }
        // The manager that let us down may be about to stop; another one knows as much.
        client.move_on();
        pause = if reader.seen == before { (pause * 2).min(PAUSE_MAX) } else { PAUSE_FIRST };
        sleep(pause).await;
    }
}

struct Reader<'a> {
    session: &'a Session,
    /// The first line that has not been printed.
    next: u64,
    /// The cursor.
    seen: Option<String>,
}

impl Reader<'_> {
    /// Prints what comes; says whether the operation has ended.
    async fn read(&mut self, mut stream: EventStream) -> Result<bool, Failure> {
        let mut parser = sse::Parser::default();
        loop {
            let Ok(Ok(Some(chunk))) = timeout(SILENCE_MAX, stream.response.chunk()).await else {
                return Ok(false);
            };
            for event in parser.push(&chunk).map_err(|_| unreadable("an event is too long"))? {
                if self.take(&event)? {
                    return Ok(true);
                }
            }
        }
    }

    fn take(&mut self, event: &sse::Event) -> Result<bool, Failure> {
        let document: Value =
            serde_json::from_str(&event.data).map_err(|error| unreadable(&error.to_string()))?;
        match event.name.as_str() {
            "line" => {
                let number = document["number"].as_u64().unwrap_or(self.next);
                if number >= self.next {
                    self.next = number + 1;
                    self.say(&document);
                }
                Ok(false)
            }
            "put" => {
                self.seen = event.id.clone().or(self.seen.take());
                Ok(is_final(&document))
            }
            other => Ok(other == "delete"),
        }
    }

    fn say(&self, line: &Value) {
        let text = match self.session.output(Output::Table) {
            Output::Json => format!("{line}\n"),
            _ => sentence(line),
        };
        self.session.screen.result(&text);
    }
}

fn unreadable(detail: &str) -> Failure {
    Failure::Unreadable { request: "GET /v1/operations/…/logs".into(), detail: detail.to_owned() }
}

/// `2026-11-20T10:00:01Z m1 machine: attempt 1 began: …`
fn sentence(line: &Value) -> String {
    let text = |pointer: &str| text_at(line, pointer).unwrap_or_default();
    let node = text_at(line, "/node").map(|node| format!("{node} ")).unwrap_or_default();
    let step = text_at(line, "/step").map(|step| format!("{step}: ")).unwrap_or_default();
    format!("{} {node}{step}{}\n", text("/at"), text("/text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_when_where_and_what() {
        let line = json!({"number": 1, "at": "2026-11-20T10:00:01Z", "step": "machine", "node": "m1", "text": "undone"});
        assert_eq!(sentence(&line), "2026-11-20T10:00:01Z m1 machine: undone\n");
        let line = json!({"number": 0, "at": "2026-11-20T10:00:01Z", "step": null, "node": null, "text": "asked for"});
        assert_eq!(sentence(&line), "2026-11-20T10:00:01Z asked for\n");
    }
}
