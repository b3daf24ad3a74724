//! Other engines, for `skep env upgrade` and `skep host upgrade`.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::Noun;
use crate::session::Session;
use crate::table::{Column, Show};
use crate::targets;
use crate::value::list_at;

/// Which engine, and whether it is only asked.
#[derive(Debug, Args)]
pub struct EngineWish {
    /// The version, as docker version shows it for the server; without it, the newest that a host of the environment has
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
}

const PLAN: &[Column] = &[
    Column::new("HOST", Show::Text("/host")),
    Column::new("SWARM", Show::Text("/swarm")),
    Column::new("ENGINE", Show::Text("/from")),
    Column::new("TO", Show::Text("/to")),
    Column::new("WHAT", Show::Free("/what")),
];

/// Asks for other engines for the objects of these names, or what that would do.
pub(crate) async fn run(
    noun: &Noun,
    names: &[String],
    wish: &EngineWish,
    session: &Session,
) -> Result<(), Failure> {
    let client = session.client()?;
    let body = json!({"version": wish.to});
    let ask = async |name: &str| {
        let path = noun.at(&[noun.named(name)?, "actions", "upgrade"], session)?;
        client.write(Method::POST, &path, &[], Payload::Json(&body)).await
    };
    if !session.settings.dry_run {
        let started = targets::start(names, ask).await?;
        return session.finish(noun, "upgraded", started).await;
    }
    for name in names {
        show(&ask(name).await?, session);
    }
    Ok(())
}

fn show(plan: &Value, session: &Session) {
    match session.output(Output::Table) {
        Output::Json => session.print_json(plan),
        output => session.print_table(PLAN, &rows(plan), output),
    }
}

fn rows(plan: &Value) -> Vec<Value> {
    let row = |host: &Value| {
        let mut row = host.clone();
        row["to"] = plan["version"].clone();
        row
    };
    list_at(plan, "/hosts").iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Look, render};

    #[test]
    fn the_plan_is_a_table_in_the_order_of_what_is_done() {
        let plan = json!({"version": "29.1.2", "hosts": [
            {"host": "web-3", "swarm": "worker", "from": "29.1.1", "what": "evacuate, upgrade, verify, take tasks again"},
            {"host": "web-1", "swarm": "leader", "from": null, "what": "stops here: it is unreachable"},
        ]});
        let now = "2026-11-20T10:00:00Z".parse().expect("a time");
        let look = Look { now, relative: true, width: None, color: false, wide: false };
        assert_eq!(
            render(PLAN, &rows(&plan), &look),
            "HOST    SWARM    ENGINE   TO       WHAT\n\
             web-3   worker   29.1.1   29.1.2   evacuate, upgrade, verify, take tasks again\n\
             web-1   leader   -        29.1.2   stops here: it is unreachable\n"
        );
    }
}
