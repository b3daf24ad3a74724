//! `skep operation`: what the cluster is doing and has done.

use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use crate::exit;
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::{Noun, Verbs};
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
        Column::new("MESSAGE", Show::Free("/message")),
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
    Succeeded,
    Failed,
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
