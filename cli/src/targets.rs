//! Asking for the same change on several things.

use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::noun::Noun;
use crate::session::Started;

/// The bare names of references.
pub(crate) fn named(noun: &Noun, references: &[String]) -> Result<Vec<String>, Failure> {
    references.iter().map(|reference| noun.named(reference).map(str::to_owned)).collect()
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
