//! Kills the leading manager when an operation comes to a step, whichever workflow it runs.
//!
//! Which steps there are is not written here: an operation shows all of its steps before it takes the first one, and
//! changes of operations are followed as they happen. So a new workflow is killed at each of its steps as soon as
//! something in [`life`](crate::life) brings it about.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::lab::Lab;

/// A step of a workflow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The workflow's name.
    pub workflow: String,
    /// The step's name.
    pub step: String,
}

impl Place {
    /// The step of that name of that workflow.
    pub fn new(workflow: impl Into<String>, step: impl Into<String>) -> Place {
        Place { workflow: workflow.into(), step: step.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "{}: {}", self.workflow, self.step)
    }
}

/// A manager that was killed.
#[derive(Debug, Clone)]
pub struct Kill {
    /// At which step an operation was.
    pub place: Place,
    /// Was the step still being done? Otherwise it was over in less time than it takes to see it, and the manager died
    /// right after it.
    pub during: bool,
    /// Who led.
    pub leader: String,
}

impl fmt::Display for Kill {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.during { "during" } else { "right after" };
        write!(text, "{} killed {when} {}", self.leader, self.place)
    }
}

/// Does something, and meanwhile kills the leader as soon as any operation has begun a step that is wanted. Nobody is
/// killed if no operation comes to one.
pub fn with_kill(
    lab: &Lab,
    wanted: impl Fn(&Place) -> bool + Send,
    act: impl FnOnce() -> Result<()>,
) -> Result<Option<Kill>> {
    lab.all_managers_caught_up()?;
    let leader = lab.leader()?;
    // From a known revision on, so that the first change is seen however long it takes to open the stream.
    let since = lab.revision()?.to_string();
    let mut follower =
        Follower(lab.follow(&["event", "watch", "operation", "--since", &since, "-o", "json"])?);
    let changes = follower.0.stdout.take().context("a client without output")?;
    thread::scope(|scope| {
        let watching = scope.spawn(|| kill_at(changes, wanted, || lab.sigkill(&leader)));
        let acted = act().and_then(|()| nobody_works(lab));
        // Its output ends with it, and the watching with that.
        drop(follower);
        let killed = watching.join().unwrap_or_else(|_| bail!("watching the operations ended badly"))?;
        let killed = killed.map(|(place, during)| Kill { place, during, leader: leader.clone() });
        acted.with_context(|| {
            killed.as_ref().map_or_else(|| "nobody was killed".to_owned(), Kill::to_string)
        })?;
        Ok(killed)
    })
}

/// A client command that is ended when nobody needs it any more.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kill_at(
    changes: ChildStdout,
    wanted: impl Fn(&Place) -> bool,
    kill: impl FnOnce() -> Result<()>,
) -> Result<Option<(Place, bool)>> {
    for line in BufReader::new(changes).lines() {
        let event: Value =
            serde_json::from_str(&line.context("reading changes")?).context("reading a change")?;
        if let Some((place, during)) = begun(&event["object"]).into_iter().find(|(place, _)| wanted(place)) {
            kill()?;
            return Ok(Some((place, during)));
        }
    }
    Ok(None)
}

/// The steps that an operation has begun, and whether each is still being done.
fn begun(operation: &Value) -> Vec<(Place, bool)> {
    let workflow = operation["type"].as_str().unwrap_or_default();
    let steps = operation["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let begun = steps.iter().filter(|step| step["state"] != "pending");
    begun.map(|step| (place(workflow, step), step["state"] == "running")).collect()
}

fn place(workflow: &str, step: &Value) -> Place {
    Place::new(workflow, step["name"].as_str().unwrap_or_default())
}

/// Every operation that the managers remember.
pub fn operations(lab: &Lab) -> Result<Vec<Value>> {
    let listed = lab.json(&["op", "ls"])?;
    Ok(listed["items"].as_array().cloned().unwrap_or_default())
}

/// The steps of everything that was done so far.
pub fn places(operations: &[Value]) -> BTreeSet<Place> {
    let of = |operation: &Value| {
        let workflow = operation["type"].as_str().unwrap_or_default().to_owned();
        let steps = operation["steps"].as_array().cloned().unwrap_or_default();
        steps.into_iter().map(move |step| place(&workflow, &step)).collect::<Vec<_>>()
    };
    operations.iter().flat_map(of).collect()
}

/// Waits until every operation has come to its end.
pub fn nobody_works(lab: &Lab) -> Result<()> {
    lab.wait_for("all operations to end", || {
        let all = operations(lab)?;
        let open: Vec<String> =
            all.iter().filter(|operation| operation["ended_at"].is_null()).map(told).collect();
        if open.is_empty() { Ok(Some(())) } else { bail!("still open: {}", open.join("; ")) }
    })
}

/// An operation in a few words.
pub fn told(operation: &Value) -> String {
    let word = |field: &str| operation[field].as_str().unwrap_or("?").to_owned();
    format!("{} of {} is {}: {}", word("type"), word("target"), word("state"), word("message"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn operation(states: [&str; 3]) -> Value {
        let steps: Vec<Value> = ["a", "b", "c"]
            .iter()
            .zip(states)
            .map(|(name, state)| json!({"name": name, "state": state}))
            .collect();
        json!({"type": "make", "target": "host/h", "state": "running", "message": "m", "steps": steps})
    }

    #[test]
    fn a_step_that_is_over_before_it_was_seen_counts_as_begun() {
        let begun = begun(&operation(["done", "running", "pending"]));
        assert_eq!(begun, [(Place::new("make", "a"), false), (Place::new("make", "b"), true)]);
    }

    #[test]
    fn the_steps_of_an_operation_are_known_before_it_takes_them() {
        let places = places(&[operation(["pending"; 3])]);
        assert_eq!(places.len(), 3);
        assert!(places.contains(&Place::new("make", "c")));
    }
}
