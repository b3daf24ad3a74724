//! `skep operation logs`: the lines that an operation has said, and those that it goes on to say.

use jiff::Timestamp;
use serde_json::Value;

use crate::client::{EventStream, Pauses};
use crate::failure::Failure;
use crate::flags::Output;
use crate::operation::OPERATION;
use crate::progress::is_final;
use crate::session::Session;
use crate::sse;
use crate::value::{clean, items, text_at};

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
    let mut pauses = Pauses::new();
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
        pauses.wait(reader.seen != before).await;
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
        while let Some(events) = stream.next().await? {
            for event in events {
                if self.take(&event, &stream.document(&event)?) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn take(&mut self, event: &sse::Event, document: &Value) -> bool {
        match event.name.as_str() {
            "line" => {
                let number = document["number"].as_u64().unwrap_or(self.next);
                if number >= self.next {
                    self.next = number + 1;
                    self.say(document);
                }
                false
            }
            "put" => {
                self.seen = event.id.clone().or(self.seen.take());
                is_final(document)
            }
            other => other == "delete",
        }
    }

    fn say(&self, line: &Value) {
        match self.session.output(Output::Table) {
            Output::Json => self.session.print_next(line),
            _ => self.session.screen.result(&sentence(line)),
        }
    }
}

/// `2026-11-20T10:00:01Z m1 machine: attempt 1 began: …`
fn sentence(line: &Value) -> String {
    let text = |pointer: &str| clean(&text_at(line, pointer).unwrap_or_default());
    let at = text("/at");
    let at = at.parse::<Timestamp>().map_or(at, |at| format!("{at:.3}"));
    let node = text_at(line, "/node").map(|node| format!("{node} ")).unwrap_or_default();
    let step = text_at(line, "/step").map(|step| format!("{step}: ")).unwrap_or_default();
    format!("{at} {node}{step}{}\n", text("/text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_when_where_and_what() {
        let line = json!({"number": 1, "at": "2026-11-20T10:00:01.123456789Z", "step": "machine", "node": "m1", "text": "failed: a\u{1b}[2Jb"});
        assert_eq!(
            sentence(&line),
            "2026-11-20T10:00:01.123Z m1 machine: failed: a [2Jb\n",
            "fit for a terminal"
        );
        let line = json!({"number": 0, "at": "2026-11-20T10:00:01Z", "step": null, "node": null, "text": "asked for"});
        assert_eq!(sentence(&line), "2026-11-20T10:00:01.000Z asked for\n");
    }
}
