//! `skep driver orphans`: machines with the cluster's tag that it knows nothing of.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Payload;
use crate::driver::DRIVER;
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::Noun;
use crate::session::{Session, verdict};
use crate::table::{Column, Show};
use crate::value::{items, text_at};

pub(crate) const ORPHAN: Noun = Noun {
    word: "orphan",
    // Asked of one driver after the other, so it has no path of its own.
    path: &["drivers"],
    name: "/host",
    columns: &[
        Column::new("MACHINE", Show::Text("/host")),
        Column::new("DRIVER", Show::Text("/driver")),
        Column::new("ADDRESS", Show::Text("/address")),
        Column::new("HOSTNAME", Show::Text("/name")),
        Column::new("AT THE DRIVER", Show::Free("/machine")),
    ],
    when_none: "No orphans: every machine with this cluster's tag is known.",
};

/// Lists the orphans of one driver, or of all that can work here.
pub(crate) async fn list(driver: Option<&str>, session: &Session) -> Result<(), Failure> {
    let mut all = vec![];
    for driver in drivers(driver, session).await? {
        all.extend(of(&driver, session).await?);
    }
    session.print_list(&ORPHAN, &json!({"items": all}));
    Ok(())
}

/// Removes the orphans of a driver that a person has seen.
pub(crate) async fn remove(driver: &str, session: &Session) -> Result<(), Failure> {
    let orphans = of(driver, session).await?;
    if orphans.is_empty() {
        session.screen.note(ORPHAN.when_none);
        return Ok(());
    }
    for orphan in &orphans {
        session.screen.note(&format!("  {}", about(orphan)));
    }
    let what =
        format!("{} machines of driver {driver} are destroyed, with everything on them", orphans.len());
    session.confirm_by_name(&what, driver).await?;
    let (total, mut failures, mut results) = (orphans.len(), vec![], vec![]);
    for orphan in &orphans {
        let tag = ORPHAN.name_of(orphan);
        let path = DRIVER.at(&[driver, "orphans", &tag], session)?;
        match session.client()?.write(Method::DELETE, &path, &[], Payload::Patience).await {
            Ok(removed) => {
                if session.output(Output::Table) != Output::Json {
                    let result = text_at(&removed, "/result").unwrap_or_default();
                    session.print_done(&ORPHAN, &removed, &result);
                }
                results.push(removed);
            }
            Err(failure) => failures.push(failure),
        }
    }
    if session.output(Output::Table) == Output::Json {
        session.print_json(&json!({"items": results}));
    }
    verdict(total, failures, |failure| session.report(failure))
}

async fn drivers(named: Option<&str>, session: &Session) -> Result<Vec<String>, Failure> {
    if let Some(name) = named {
        return Ok(vec![DRIVER.named(name)?.to_owned()]);
    }
    let all = session.client()?.list(&DRIVER.at(&[], session)?, &[]).await?;
    let works = |driver: &&Value| driver["available"] == true;
    Ok(items(&all).iter().filter(works).map(|driver| DRIVER.name_of(driver)).collect())
}

async fn of(driver: &str, session: &Session) -> Result<Vec<Value>, Failure> {
    let path = DRIVER.at(&[driver, "orphans"], session)?;
    let answer = session.client()?.list(&path, &[]).await?;
    Ok(items(&answer).to_vec())
}

fn about(orphan: &Value) -> String {
    let at = |pointer: &str| text_at(orphan, pointer).unwrap_or_default();
    format!("{}: {} at {}, host name {}", at("/host"), at("/machine"), at("/address"), at("/name"))
}
