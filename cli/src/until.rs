//! `skep wait`: until things are in a state, or gone.
//!
//! Operations are followed; everything else is asked for once a second, because some states come about by silence (a host
//! whose agent is not heard) and no event tells of them.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::Noun;
use crate::operation::OPERATION;
use crate::session::{self, Session};
use crate::shortcut::thing;
use crate::value::text_at;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// States that do not become another one by waiting.
const WRONG: &[&str] = &["failed", "error", "rejected", "lost"];

/// What `skep wait` can end with.
pub(crate) const EXITS: &[Exit] = &[
    Exit::Done,
    Exit::Usage,
    Exit::NotFound,
    Exit::NotAllowed,
    Exit::WaitedTooLong,
    Exit::OperationFailed,
    Exit::Unreachable,
    Exit::Interrupted,
];

/// What is waited for.
#[derive(Debug, Args)]
pub struct Wait {
    /// What to wait for
    #[arg(required = true, value_name = "TYPE/NAME")]
    things: Vec<String>,
    /// state=STATE, or deleted; if not said: active, and the end of operations
    #[arg(long = "for", value_name = "WHAT", value_parser = condition)]
    condition: Option<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    State(String),
    Deleted,
}

pub(crate) async fn run(command: Wait, session: &Session) -> Result<(), Failure> {
    let things = command.things.iter().map(|reference| thing(reference)).collect::<Result<Vec<_>, _>>()?;
    let began = Instant::now();
    for (noun, name) in things {
        let condition = match command.condition.clone() {
            None if noun.word == OPERATION.word => {
                ended(name, session).await?;
                continue;
            }
            condition => condition.unwrap_or_else(|| Condition::State("active".into())),
        };
        let waiting = until(noun, name, &condition, session);
        let object = match session.settings.timeout {
            None => waiting.await?,
            // The time is for all of them together.
            Some(limit) => match timeout(limit.saturating_sub(began.elapsed()), waiting).await {
                Ok(object) => object?,
                Err(_) => {
                    let reference = noun.reference(name);
                    let what = match &condition {
                        Condition::State(state) => format!("{reference} to be {state}"),
                        Condition::Deleted => format!("{reference} to be gone"),
                    };
                    return Err(Failure::NotYet { after: limit, what });
                }
            },
        };
        print(noun, name, object.as_ref(), session);
    }
    Ok(())
}

/// Waits for the end of an operation; a bad end is a failure.
async fn ended(id: &str, session: &Session) -> Result<(), Failure> {
    let operation = session.client()?.get(&OPERATION.at(&[id], session)?, &[]).await?;
    let ended = session::watch(session, operation).await?;
    if ended["state"] != "succeeded" {
        return Err(Failure::OperationFailed(Box::new(ended)));
    }
    print(&OPERATION, id, Some(&ended), session);
    Ok(())
}

/// The thing when it is as it was waited for; nothing when it is gone.
async fn until(
    noun: &Noun,
    name: &str,
    condition: &Condition,
    session: &Session,
) -> Result<Option<Value>, Failure> {
    let (client, path) = (session.client()?, noun.at(&[name], session)?);
    loop {
        match (client.get(&path, &[]).await, condition) {
            (Ok(object), Condition::State(wished)) => {
                let state = state_of(&object);
                if state == *wished {
                    return Ok(Some(object));
                }
                if WRONG.contains(&state.as_str()) {
                    let message = text_at(&object, "/status/message").unwrap_or_default();
                    return Err(Failure::WentWrong { reference: noun.reference(name), state, message });
                }
            }
            (Ok(_), Condition::Deleted) => {}
            (Err(Failure::Refused(refusal)), Condition::Deleted) if refusal.status == 404 => return Ok(None),
            (Err(failure), _) if failure.may_pass() => {}
            (Err(failure), _) => return Err(failure),
        }
        sleep(PAUSE).await;
    }
}

fn state_of(object: &Value) -> String {
    text_at(object, "/status/state").or_else(|| text_at(object, "/state")).unwrap_or_default()
}

fn print(noun: &Noun, name: &str, object: Option<&Value>, session: &Session) {
    let reference = noun.reference(name);
    match (session.output(Output::Table), object) {
        (Output::Json, Some(object)) => session.print_json(object),
        (Output::Json, None) => {}
        (Output::Name, _) => session.screen.result(&format!("{reference}\n")),
        (_, Some(object)) => session.screen.result(&format!("{reference} is {}\n", state_of(object))),
        (_, None) => session.screen.result(&format!("{reference} is gone\n")),
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    match text.split_once('=') {
        Some(("state", state)) if !state.is_empty() => Ok(Condition::State(state.to_owned())),
        None if text == "deleted" => Ok(Condition::Deleted),
        _ => Err("write state=STATE, such as state=active, or deleted".to_owned()),
    }
}
