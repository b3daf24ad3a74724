//! `skep ps`: the tasks of an environment or of one stack, where they run and how they are.

use clap::Args;
use serde_json::Value;

use crate::failure::Failure;
use crate::noun::{CHOSEN, Noun};
use crate::session::Session;
use crate::stack::STACK;
use crate::table::{Column, Show};
use crate::value::{list_at, text_at};

pub(crate) const TASK: Noun = Noun {
    word: "task",
    path: &["environments", CHOSEN, "tasks"],
    name: "/id",
    columns: &[
        Column::new("TASK", Show::Text("/id")),
        Column::wide("STACK", Show::Text("/stack")),
        Column::new("SERVICE", Show::With(service)),
        Column::new("STATE", Show::State("/state")),
        Column::new("DESIRED", Show::Text("/desired_state")),
        Column::new("HOST", Show::Text("/host")),
        Column::new("IMAGE", Show::With(image)),
        Column::new("PORTS", Show::With(ports)),
        Column::new("AGE", Show::Age("/updated_at")),
        Column::new("ERROR", Show::Free("/error")),
    ],
    when_none: "No tasks. Deploy something: skep up -f compose.yml --stack NAME",
};

/// Listing tasks.
#[derive(Debug, Args)]
pub struct Ps {
    /// Only the tasks of this stack
    stack: Option<String>,
    /// Tasks, not services: what is listed in any case; scripts may say it
    #[arg(long, hide = true)]
    tasks: bool,
}

pub(crate) async fn run(command: Ps, session: &Session) -> Result<(), Failure> {
    list_of(command.stack.as_deref(), session).await
}

/// The tasks of one stack, or of the whole environment.
pub(crate) async fn list_of(stack: Option<&str>, session: &Session) -> Result<(), Failure> {
    let Some(stack) = stack else { return TASK.list(&[], session).await };
    let path = STACK.at(&[STACK.named(stack)?, "tasks"], session)?;
    session.print_list(&TASK, &session.client()?.list(&path, &[]).await?);
    Ok(())
}

/// `web.2`: the service and which of its replicas; a task of a global service has no number.
fn service(task: &Value) -> Option<String> {
    let service = text_at(task, "/service")?;
    match text_at(task, "/slot").filter(|slot| slot != "0") {
        Some(slot) => Some(format!("{service}.{slot}")),
        None => Some(service),
    }
}

/// The image without its digest, which nobody reads in a table.
fn image(task: &Value) -> Option<String> {
    let image = text_at(task, "/image")?;
    Some(image.split('@').next().unwrap_or_default().to_owned())
}

fn ports(task: &Value) -> Option<String> {
    let ports: Vec<String> = list_at(task, "/ports").iter().filter_map(port).collect();
    (!ports.is_empty()).then(|| ports.join(","))
}

/// `80->8080/tcp`.
pub(crate) fn port(port: &Value) -> Option<String> {
    let target = text_at(port, "/target")?;
    let protocol = text_at(port, "/protocol").unwrap_or_else(|| "tcp".into());
    Some(match text_at(port, "/published") {
        Some(published) => format!("{published}->{target}/{protocol}"),
        None => format!("{target}/{protocol}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_cells_of_a_task() {
        let task =
            json!({"service": "web", "slot": 2, "image": "whoami:v1@sha256:abc", "ports": [{"target": 80}]});
        assert_eq!(service(&task).as_deref(), Some("web.2"));
        assert_eq!(image(&task).as_deref(), Some("whoami:v1"));
        assert_eq!(ports(&task).as_deref(), Some("80/tcp"));
        assert_eq!(service(&json!({"service": "agent", "slot": null})).as_deref(), Some("agent"));
    }
}
