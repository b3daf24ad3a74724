//! `skep operation`: what the cluster is doing and has done.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::Value;

use crate::client::{DRY_RUN, Payload};
use crate::exit;
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::{Noun, Verbs};
use crate::operation_log;
use crate::session::{self, Session};
use crate::table::{Column, Show};
use crate::value::{list_at, text_at};

pub(crate) const OPERATION: Noun = Noun {
    word: "op",
    path: &["operations"],
    name: "/id",
    columns: &[
        Column::new("OPERATION", Show::Text("/id")),
        Column::new("TYPE", Show::Text("/type")),
        Column::new("TARGET", Show::Text("/target")),
        Column::new("ENV", Show::Text("/env")),
        Column::new("STATE", Show::State("/state")),
        Column::new("STEP", Show::With(step)),
        Column::wide("MANAGERS", Show::With(managers)),
        Column::wide("PARENT", Show::Text("/parent")),
        Column::new("AGE", Show::Age("/created_at")),
        Column::new("MESSAGE", Show::FreeWith(message)),
    ],
    when_none: "No operations.",
};

/// What can be done with operations.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the operations (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep op ls\n  skep op ls --state running",
        after_long_help = exit::help(exit::READS)
    )]
    Ls {
        /// Only those in this state
        #[arg(long, value_enum, value_name = "STATE")]
        state: Option<State>,
    },
    /// Show everything about an operation
    #[command(
        before_long_help = "Examples:\n  skep op inspect op_0198f2c1",
        after_long_help = exit::help(exit::READS)
    )]
    Inspect {
        /// The operation's id
        id: String,
    },
    /// Give an operation up: what it made is given back, as far as there is a way
    #[command(
        before_long_help = "Examples:\n  skep op cancel op_0198f2c1 --dry-run\n  skep op cancel op_0198f2c1 --yes",
        after_long_help = exit::help(exit::WAITS)
    )]
    Cancel {
        /// The operation's id
        id: String,
    },
    /// Try again: at once if it waits, as a new operation if it has failed
    #[command(
        before_long_help = "Examples:\n  skep op retry op_0198f2c1\n  skep op retry op_0198f2c1 --detach",
        after_long_help = exit::help(exit::WAITS)
    )]
    Retry {
        /// The operation's id
        id: String,
    },
    /// Let an operation do nothing new until it is resumed
    #[command(
        before_long_help = "Examples:\n  skep op pause op_0198f2c1",
        after_long_help = exit::help(exit::WRITES)
    )]
    Pause {
        /// The operation's id
        id: String,
    },
    /// Let a paused operation go on
    #[command(
        before_long_help = "Examples:\n  skep op resume op_0198f2c1",
        after_long_help = exit::help(exit::WRITES)
    )]
    Resume {
        /// The operation's id
        id: String,
    },
    /// Show what an operation has done, line by line
    #[command(
        before_long_help = "Examples:\n  skep op logs op_0198f2c1\n  skep op logs op_0198f2c1 --follow",
        after_long_help = exit::help(exit::READS)
    )]
    Logs {
        /// The operation's id
        id: String,
        /// Go on until the operation has ended
        #[arg(short, long)]
        follow: bool,
    },
    /// Follow an operation to its end
    #[command(
        before_long_help = "Examples:\n  skep op watch op_0198f2c1\n  skep op watch op_0198f2c1 --progress json",
        after_long_help = exit::help(exit::WAITS)
    )]
    Watch {
        /// The operation's id
        id: String,
    },
}

/// Where an operation can stand.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum State {
    Queued,
    Running,
    Waiting,
    Paused,
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls { state: None }) {
        Verb::Ls { state } => {
            let state = state.and_then(|state| Some(state.to_possible_value()?.get_name().to_owned()));
            let query: Vec<(&str, &str)> = state.iter().map(|state| ("state", state.as_str())).collect();
            OPERATION.list(&query, session).await
        }
        Verb::Inspect { id } => OPERATION.inspect(&id, session).await,
        Verb::Watch { id } => watch(OPERATION.named(&id)?, session).await,
        Verb::Cancel { id } => cancel(OPERATION.named(&id)?, session).await,
        Verb::Retry { id } => retry(OPERATION.named(&id)?, session).await,
        Verb::Pause { id } => act(OPERATION.named(&id)?, "pause", "paused", session).await,
        Verb::Resume { id } => act(OPERATION.named(&id)?, "resume", "resumed", session).await,
        Verb::Logs { id, follow } => operation_log::print(OPERATION.named(&id)?, follow, session).await,
    }
}

async fn watch(id: &str, session: &Session) -> Result<(), Failure> {
    let operation = session.client()?.get(&OPERATION.at(&[id], session)?, &[]).await?;
    let ended = session::watch(session, operation).await?;
    if session.output(Output::Table) == Output::Json {
        session.print_json(&ended);
    }
    if ended["state"] != "succeeded" {
        return Err(Failure::OperationFailed(Box::new(ended)));
    }
    if session.output(Output::Table) != Output::Json {
        let target = text_at(&ended, "/target").unwrap_or_default();
        session.screen.result(&format!("{id} {target} succeeded\n"));
    }
    Ok(())
}

async fn asked(id: &str, action: &str, query: &[(&str, &str)], session: &Session) -> Result<Value, Failure> {
    let path = OPERATION.at(&[id, "actions", action], session)?;
    session.client()?.write(Method::POST, &path, query, Payload::Nothing).await
}

async fn act(id: &str, action: &str, done: &str, session: &Session) -> Result<(), Failure> {
    let operation = asked(id, action, &[], session).await?;
    session.print_done(&OPERATION, &operation, done);
    Ok(())
}

async fn cancel(id: &str, session: &Session) -> Result<(), Failure> {
    let dry_run = session.settings.dry_run;
    let plan = asked(id, "cancel", &[DRY_RUN], session).await?;
    if dry_run && session.output(Output::Table) == Output::Json {
        session.print_json(&plan);
        return Ok(());
    }
    let words = about_cancellation(id, &plan);
    if dry_run {
        session.screen.result(&format!("{words}\n"));
        return Ok(());
    }
    session.confirm(&words).await?;
    let operation = asked(id, "cancel", &[], session).await?;
    if session.settings.detach {
        session.print_done(&OPERATION, &operation, "is being cancelled");
        return Ok(());
    }
    let ended = session::watch(session, operation).await?;
    if ended["state"] != "cancelled" {
        return Err(Failure::OperationFailed(Box::new(ended)));
    }
    session.print_done(&OPERATION, &ended, "cancelled");
    Ok(())
}

/// What a person should know before an operation is turned around.
fn about_cancellation(id: &str, plan: &Value) -> String {
    let operation = &plan["operation"];
    let text = |pointer: &str| text_at(operation, pointer).unwrap_or_default();
    let mut lines = vec![format!("Cancelling {} of {} ({id})", text("/type"), text("/target"))];
    for (pointer, title) in [("/gives_back", "Given back"), ("/stays", "Kept")] {
        let fates = list_at(plan, pointer);
        let what = fates.iter().map(|fate| {
            let text = |pointer: &str| text_at(fate, pointer).unwrap_or_default();
            format!("    {}: {}", text("/step"), text("/what"))
        });
        lines.push(format!("  {title}:{}", if fates.is_empty() { " nothing" } else { "" }));
        lines.extend(what);
    }
    lines.join("\n")
}

async fn retry(id: &str, session: &Session) -> Result<(), Failure> {
    let operation = asked(id, "retry", &[], session).await?;
    let again = text_at(&operation, "/id").unwrap_or_default();
    let words =
        if again == id { "is tried at once".to_owned() } else { format!("is tried again as {again}") };
    if session.settings.detach || again == id {
        match session.output(Output::Table) {
            Output::Json => session.print_json(&operation),
            Output::Name => session.screen.result(&format!("{again}\n")),
            _ => session.screen.result(&format!("{} {words}\n", OPERATION.reference(id))),
        }
        return Ok(());
    }
    session.screen.note(&format!("{} {words}", OPERATION.reference(id)));
    watch(&again, session).await
}

/// The step it is at, and how far that is.
fn step(operation: &Value) -> Option<String> {
    let steps = list_at(operation, "/steps");
    let at = steps.iter().position(|step| matches!(step["state"].as_str(), Some("running" | "failed")))?;
    Some(format!("{} {}/{}", text_at(&steps[at], "/name")?, at + 1, steps.len()))
}

/// Who has worked on it, and in how many attempts: a change of leader is visible here.
fn managers(operation: &Value) -> Option<String> {
    let attempts = operation["attempts_by_node"].as_object().filter(|attempts| !attempts.is_empty())?;
    Some(attempts.iter().map(|(node, count)| format!("{node}:{count}")).collect::<Vec<_>>().join(","))
}

/// What goes on, and why it began if nobody asked for it.
fn message(operation: &Value) -> String {
    let message = text_at(operation, "/message").unwrap_or_default();
    match text_at(operation, "/reason") {
        Some(reason) => format!("{message} (begun because {reason})"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_operation_that_nobody_asked_for_says_why_it_began() {
        assert_eq!(message(&json!({"message": "done", "reason": null})), "done");
        let reason = "host prod-2 is ready and in no swarm";
        let shown = message(&json!({"message": "done", "reason": reason}));
        assert_eq!(shown, "done (begun because host prod-2 is ready and in no swarm)");
    }

    #[test]
    fn a_person_sees_what_is_given_back_and_what_is_kept() {
        let plan = json!({
            "operation": {"type": "create-host", "target": "host/web-1"},
            "gives_back": [{"step": "machine", "what": "the machine is given back to its driver"}],
            "stays": []
        });
        assert_eq!(
            about_cancellation("op_1", &plan),
            "Cancelling create-host of host/web-1 (op_1)\n  Given back:\n    \
             machine: the machine is given back to its driver\n  Kept: nothing"
        );
    }

    #[test]
    fn the_cells_of_an_operation() {
        let operation = json!({
            "steps": [{"name": "machine", "state": "done"}, {"name": "join", "state": "running"}],
            "attempts_by_node": {"m1": 4, "m2": 1}
        });
        assert_eq!(step(&operation).as_deref(), Some("join 2/2"));
        assert_eq!(managers(&operation).as_deref(), Some("m1:4,m2:1"));
        assert_eq!(step(&json!({"steps": []})), None);
        assert_eq!(managers(&json!({"attempts_by_node": {}})), None);
    }
}
