//! Asking for the same change on several things.

use reqwest::Method;
use serde_json::Value;

use crate::client::Payload;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::noun::Noun;
use crate::session::{Session, Started};

/// What is done, for the question.
pub(crate) const REMOVING: &str = "Removing from";

/// Removes things of a kind from the chosen environment. A person who is asked first sees what goes.
pub(crate) async fn remove(
    noun: &Noun,
    references: &[String],
    about: fn(&str, &Value) -> String,
    session: &Session,
) -> Result<(), Failure> {
    let names = confirmed(noun, references, about, REMOVING, session).await?;
    remove_confirmed(noun, &names, session).await
}

/// Removes what somebody has said is meant.
pub(crate) async fn remove_confirmed(
    noun: &Noun,
    names: &[String],
    session: &Session,
) -> Result<(), Failure> {
    let client = session.client()?;
    let started = start(names, async |name| {
        client.write(Method::DELETE, &noun.at(&[name], session)?, &[], Payload::Nothing).await
    })
    .await?;
    session.finish(noun, "removed", started).await
}

/// The names of things that a person has seen and wants this done to.
pub(crate) async fn confirmed(
    noun: &Noun,
    references: &[String],
    about: fn(&str, &Value) -> String,
    doing: &str,
    session: &Session,
) -> Result<Vec<String>, Failure> {
    let client = session.client()?;
    let env = session.environment()?;
    let names = references.iter().map(|reference| noun.named(reference).map(str::to_owned));
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    if !session.settings.yes && session.may_ask() {
        for name in &names {
            let object = client.get(&noun.at(&[name], session)?, &[]).await?;
            session.screen.note(&format!("  {}", about(name, &object)));
        }
    }
    session.confirm(&format!("{doing} environment {env}: {}", names.join(", "))).await?;
    Ok(names)
}

/// Sends one request per name, in their order. What would fail for every target alike ends the command at once, as long as
/// nothing was started.
pub(crate) async fn start(
    names: &[String],
    send: impl AsyncFn(&str) -> Result<Value, Failure>,
) -> Result<Vec<Started>, Failure> {
    let mut started: Vec<Started> = Vec::new();
    for name in names {
        let operation = send(name).await;
        match operation {
            Err(failure)
                if concerns_all(&failure) && started.iter().all(|other| other.operation.is_err()) =>
            {
                return Err(failure);
            }
            operation => started.push(Started { name: name.clone(), operation }),
        }
    }
    Ok(started)
}

fn concerns_all(failure: &Failure) -> bool {
    matches!(failure.exit(), Exit::NotAllowed | Exit::Unreachable | Exit::Unknown)
}
