//! `skep apply` and `skep delete`: many things at once, as files say them.
//!
//! Three parts, one after the other: all documents are read and checked (`manifest`, `kind`), then it is asked of each
//! thing what is so already (`plan`), and only then something is sent. Nothing is sent if any document is wrong.

pub(crate) mod kind;
mod manifest;
mod plan;

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use self::manifest::Object;
use self::plan::{Plan, Verdict};
use crate::client::Payload;
use crate::env::ENV;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::flags::Output;
use crate::session::{self, Session};
use crate::table::{Column, Show};
use crate::value::text_at;

/// Files with things in them.
#[derive(Debug, Args)]
pub struct Files {
    /// A file of YAML or JSON documents, a folder of such files, or - for standard input; repeatable
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What became of each thing.
const RESULTS: &[Column] = &[
    Column::new("NAME", Show::Text("/reference")),
    Column::new("ENV", Show::Text("/env")),
    Column::new("RESULT", Show::State("/result")),
    Column::wide("OPERATION", Show::Text("/operation")),
    Column::new("MESSAGE", Show::Free("/message")),
];

/// `skep apply`.
pub(crate) async fn apply(files: Files, session: &Session) -> Result<(), Failure> {
    let objects = manifest::read(&files.files, session).await?;
    let plans = plan::of_all(objects, session).await?;
    let mut report = Report::default();
    for plan in &plans {
        match (&plan.verdict, session.settings.dry_run) {
            (Verdict::Same, _) => report.add(&plan.object, "unchanged", "", None),
            (verdict, true) => report.add(&plan.object, verdict.would(), &plan.changes.join(", "), None),
            (verdict, false) if report.goes_on() => {
                let carried_out = carry_out(plan, session).await;
                report.ended(&plan.object, verdict.done(), carried_out, plans.len(), session);
            }
            (_, false) => report.not_tried(&plan.object),
        }
    }
    report.print(session)
}

/// `skep delete`: what was made first goes last.
pub(crate) async fn delete(files: Files, session: &Session) -> Result<(), Failure> {
    let objects = manifest::read(&files.files, session).await?;
    let mut there = Vec::new();
    for object in objects.into_iter().rev() {
        let now = plan::now(&object, session).await?;
        there.push((object, now.is_some()));
    }
    confirm(&there, session).await?;
    let mut report = Report::default();
    for (object, is_there) in &there {
        match (*is_there, session.settings.dry_run) {
            (false, _) => report.add(object, "not there", "", None),
            (true, true) => report.add(object, "would be removed", "", None),
            (true, false) if report.goes_on() => {
                let removed = remove(object, session).await;
                report.ended(object, "removed", removed, there.len(), session);
            }
            (true, false) => report.not_tried(object),
        }
    }
    report.print(session)
}

/// Environments go by their names, as with `skep env rm`; everything else with one question.
async fn confirm(there: &[(Object, bool)], session: &Session) -> Result<(), Failure> {
    let goes = || there.iter().filter(|(_, is_there)| *is_there).map(|(object, _)| object);
    let (environments, others): (Vec<_>, Vec<_>) =
        goes().partition(|object| object.kind.noun.word == ENV.word);
    if !others.is_empty() {
        let named: Vec<String> = others.into_iter().map(Object::shown).collect();
        session.confirm(&format!("These are removed: {}", named.join(", "))).await?;
    }
    for environment in environments {
        let what = format!("Environment {} is destroyed with its hosts and stacks", environment.name);
        session.confirm_by_name(&what, &environment.name).await?;
    }
    Ok(())
}

/// Sends what is to be sent for a thing; the operation that it has come to, if it is one.
async fn carry_out(plan: &Plan, session: &Session) -> Result<Option<Value>, Failure> {
    let client = session.client()?;
    let mut operation = None;
    for step in &plan.steps {
        let path: Vec<&str> = step.path.iter().map(String::as_str).collect();
        client.begin_part(&format!("{} {}", step.method, step.path.join("/")));
        let payload = match (&step.body, step.condition) {
            (None, _) => Payload::Nothing,
            (Some(body), None) => Payload::Json(body),
            (Some(body), Some(seen)) => Payload::JsonIf(body, seen),
        };
        let answer = client.write(step.method.clone(), &path, &[], payload).await?;
        operation = plan.object.kind.operates.then_some(answer);
    }
    followed(operation, session).await
}

async fn remove(object: &Object, session: &Session) -> Result<Option<Value>, Failure> {
    let path = object.path();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let client = session.client()?;
    client.begin_part(&format!("DELETE {}", path.join("/")));
    let answer = client.write(Method::DELETE, &path, &[], Payload::Nothing).await?;
    followed(object.kind.operates.then_some(answer), session).await
}

/// Waits for the end of an operation, unless nobody wants to.
async fn followed(operation: Option<Value>, session: &Session) -> Result<Option<Value>, Failure> {
    match operation {
        Some(operation) if !session.settings.detach => {
            let ended = session::watch(session, operation).await?;
            match ended["state"] == "succeeded" {
                true => Ok(Some(ended)),
                false => Err(Failure::OperationFailed(Box::new(ended))),
            }
        }
        operation => Ok(operation),
    }
}

/// What has become of them all.
#[derive(Default)]
struct Report {
    rows: Vec<Value>,
    failures: Vec<Failure>,
    not_tried: usize,
}

impl Report {
    fn add(&mut self, object: &Object, result: &str, message: &str, operation: Option<&Value>) {
        self.rows.push(json!({
            "reference": object.kind.noun.reference(&object.name),
            "kind": object.kind.name,
            "name": object.name,
            "env": object.env,
            "result": result,
            "operation": operation.and_then(|operation| text_at(operation, "/id")),
            "message": message,
        }));
    }

    fn ended(
        &mut self,
        object: &Object,
        done: &str,
        ended: Result<Option<Value>, Failure>,
        total: usize,
        session: &Session,
    ) {
        match ended {
            Ok(operation) => self.add(object, done, "", operation.as_ref()),
            Err(failure) => {
                // A single one is reported by whoever ends the command.
                if total > 1 {
                    session.report(&failure);
                }
                self.add(object, "failed", &failure.to_string(), None);
                self.failures.push(failure);
            }
        }
    }

    fn not_tried(&mut self, object: &Object) {
        self.add(object, "not tried", "", None);
        self.not_tried += 1;
    }

    /// What one refusal says is about one thing; without an answer, or before its end, the next ones fare no better.
    fn goes_on(&self) -> bool {
        let stops = |failure: &Failure| {
            matches!(failure.exit(), Exit::Unreachable | Exit::Unknown | Exit::WaitedTooLong)
        };
        !self.failures.iter().any(stops)
    }

    fn print(mut self, session: &Session) -> Result<(), Failure> {
        match session.output(Output::Table) {
            Output::Json => session.print_json(&json!({"items": self.rows})),
            Output::Name => {
                let shown = if session.settings.quiet { "/name" } else { "/reference" };
                let good =
                    self.rows.iter().filter(|row| row["result"] != "failed" && row["result"] != "not tried");
                good.filter_map(|row| text_at(row, shown))
                    .for_each(|name| session.screen.result(&format!("{name}\n")));
            }
            output if session.settings.output.is_some() || !self.failures.is_empty() => {
                session.print_table(RESULTS, &self.rows, output);
            }
            _ => self.rows.iter().for_each(|row| session.screen.result(&sentence(row))),
        }
        let (failed, total) = (self.failures.len() + self.not_tried, self.rows.len());
        match (failed, total) {
            (0, _) => Ok(()),
            (1, 1) => Err(self.failures.remove(0)),
            (failed, total) if failed == total => {
                let exit = self.failures.first().map_or(Exit::Failed, Failure::exit);
                Err(Failure::EachFailed { total, exit })
            }
            (failed, total) => Err(Failure::Partly { failed, total }),
        }
    }
}

/// `stack/shop in prod created`.
fn sentence(row: &Value) -> String {
    let text = |pointer| text_at(row, pointer).filter(|text| !text.is_empty());
    let place = text("/env").map(|env| format!(" in {env}")).unwrap_or_default();
    let message = text("/message").map(|message| format!(" ({message})")).unwrap_or_default();
    let (reference, result) = (text("/reference").unwrap_or_default(), text("/result").unwrap_or_default());
    format!("{reference}{place} {result}{message}\n")
}
