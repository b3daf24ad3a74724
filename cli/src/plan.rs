//! `skep env plan` and `skep env apply`: what a template as it is now, and wishes, would change about an environment.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::env::ENV;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::flags::Output;
use crate::session::{Session, Started};
use crate::table::{Column, Show};
use crate::value::{list_at, text_at};

/// What a plan can end with.
pub(crate) const EXITS: &[Exit] = &[
    Exit::Done,
    Exit::Usage,
    Exit::NotFound,
    Exit::NotAllowed,
    Exit::Unreachable,
    Exit::Changes,
    Exit::Interrupted,
];

/// One line for each difference.
const DIFFERENCES: &[Column] = &[
    Column::new("WHAT", Show::Text("/what")),
    Column::new("IS", Show::Text("/is")),
    Column::new("WOULD BE", Show::Text("/would_be")),
    Column::new("WAY", Show::Text("/way")),
    Column::new("HOW", Show::Free("/how")),
];

/// What is to be compared.
#[derive(Debug, Args)]
pub struct Plan {
    /// The environment's name or id
    name: String,
    /// End with 10 if something would be changed by applying, with 0 if nothing would
    #[arg(long)]
    exit_code: bool,
}

/// What is to be applied.
#[derive(Debug, Args)]
pub struct Apply {
    /// The environment's name or id
    name: String,
    /// Only if neither environment nor template has changed since the plan of this revision
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    /// An option that was said for the environment itself and is to follow the template again, such as network.mtu; repeatable
    #[arg(long, value_name = "OPTION")]
    follow: Vec<String>,
}

/// Shows the plan.
pub(crate) async fn plan(wish: Plan, session: &Session) -> Result<(), Failure> {
    let name = ENV.named(&wish.name)?;
    let path = ENV.at(&[name, "plan"], session)?;
    let plan = session.client()?.get(&path, &[]).await?;
    let differences = list_at(&plan, "/differences");
    let revision = text_at(&plan, "/revision").unwrap_or_default();
    match session.output(Output::Table) {
        Output::Json | Output::Name => session.print_json(&plan),
        output => {
            let template = text_at(&plan, "/template").unwrap_or_default();
            if plan["template_exists"] == Value::Bool(false) {
                session.screen.note(&format!("Template {template} is gone: only the swarm is compared."));
            }
            match differences.is_empty() {
                true => session.screen.note(&format!("Nothing differs, at revision {revision}.")),
                false => {
                    session.print_table(DIFFERENCES, differences, output);
                    session.screen.note(&format!("Apply it: skep env apply {name} --if-revision {revision}"));
                }
            }
        }
    }
    let would_change = differences.iter().any(|difference| difference["way"] == "live");
    match wish.exit_code && would_change {
        true => Err(Failure::Ended(Exit::Changes as u8)),
        false => Ok(()),
    }
}

/// Applies the plan and waits.
pub(crate) async fn apply(wish: Apply, session: &Session) -> Result<(), Failure> {
    let path = ENV.at(&[ENV.named(&wish.name)?, "actions", "apply"], session)?;
    let body = json!({"if_revision": wish.if_revision, "follow": wish.follow});
    let operation = session.client()?.write(Method::POST, &path, &[], Payload::Json(&body)).await;
    session.finish(&ENV, "updated", vec![Started { name: wish.name, operation }]).await
}
