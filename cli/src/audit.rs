//! `skep audit`: who has done what, and whether what is told of it is what was written.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::pages::PAGE;
use crate::event;
use crate::exit;
use crate::failure::Failure;
use crate::flags::Output;
use crate::noun::{Noun, Verbs};
use crate::session::Session;
use crate::table::{Column, Show};
use crate::value::{items, text_at};

pub(crate) const AUDIT: Noun = Noun {
    word: "audit",
    path: &["audit"],
    name: "/id",
    columns: &[
        Column::new("ENTRY", Show::Text("/id")),
        Column::new("WHEN", Show::Text("/at")),
        Column::new("WHO", Show::Text("/principal")),
        Column::wide("FROM", Show::Text("/address")),
        Column::wide("TOKEN", Show::Text("/token")),
        Column::new("OUTCOME", Show::Text("/outcome")),
        Column::new("CODE", Show::Text("/code")),
        Column::new("TIMES", Show::Text("/count")),
        Column::new("ABOUT", Show::Text("/about")),
        Column::wide("OPERATION", Show::Text("/operation")),
        Column::wide("MANAGER", Show::Text("/node")),
        Column::new("CALL", Show::Free("/call")),
    ],
    when_none: "Nothing that matches was done.",
};

/// Fewer digits of a hash could be found again on purpose.
const HASH_DIGITS_MIN: usize = 16;

/// What can be done with the audit.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List who has done what, oldest first (the default)
    #[command(
        visible_alias = "list",
        before_long_help = "Examples:\n  skep audit ls --since 2026-11-01\n  skep audit ls --by ann --outcome denied\n  skep audit ls -o wide",
        after_long_help = exit::help(exit::READS)
    )]
    Ls(Which),
    /// Print what is done as it happens, until it is interrupted
    #[command(before_long_help = "Examples:\n  skep audit tail\n  skep audit tail -o json", after_long_help = exit::help(exit::READS))]
    Tail,
    /// Print entries as lines of JSON, to keep them elsewhere
    #[command(
        before_long_help = "Examples:\n  skep audit export --since 2026-11-01 > november.jsonl",
        after_long_help = exit::help(exit::READS)
    )]
    Export(Which),
    /// Compare all entries with the seals that vouch for them
    #[command(
        long_about = "Compare all entries with the seals that vouch for them\n\nA seal covers some entries and names the seal before. \
                      Whoever changes or removes an entry, or a seal, breaks the chain from there on. Whoever could rewrite \
                      everything could make another chain: keep the newest seal's hash elsewhere, and compare it with --seal.",
        before_long_help = "Examples:\n  skep audit verify\n  skep audit verify --seal 1204=b5bb9d8014a0f9b1",
        after_long_help = exit::help(exit::READS)
    )]
    Verify {
        /// A seal that was noted before: NUMBER=HASH, of which the first 16 digits are enough
        #[arg(long, value_name = "NUMBER=HASH", value_parser = seal)]
        seal: Vec<(u64, String)>,
    },
}

/// Which entries.
#[derive(Debug, Default, Args)]
pub struct Which {
    /// Only those of this day (UTC) or later
    #[arg(long, value_name = "YYYY-MM-DD")]
    since: Option<String>,
    /// Only those of this day (UTC) or earlier
    #[arg(long, value_name = "YYYY-MM-DD")]
    until: Option<String>,
    /// Only what this one has asked
    #[arg(long, value_name = "PRINCIPAL")]
    by: Option<String>,
    /// Only what ended so: done, denied, refused, failed
    #[arg(long, value_name = "OUTCOME", value_parser = ["done", "denied", "refused", "failed"])]
    outcome: Option<String>,
}

impl Which {
    fn query(&self) -> Vec<(&'static str, &str)> {
        let named = [
            ("since", &self.since),
            ("until", &self.until),
            ("principal", &self.by),
            ("outcome", &self.outcome),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        named.collect()
    }
}

pub(crate) async fn run(command: Verbs<Verb>, session: &Session) -> Result<(), Failure> {
    match command.verb.unwrap_or(Verb::Ls(Which::default())) {
        Verb::Ls(which) => AUDIT.list(&which.query(), session).await,
        Verb::Tail => event::follow_audit(session).await,
        Verb::Export(which) => {
            let print = |page: &Value| {
                items(page).iter().for_each(|entry| session.screen.result(&format!("{entry}\n")))
            };
            pages(&["v1", "audit"], &[&which.query()[..], &[("limit", PAGE)]].concat(), session, print).await
        }
        Verb::Verify { seal } => verify(&seal, session).await,
    }
}

/// Takes one page after the other, so that no list is too long.
async fn pages(
    path: &[&str],
    query: &[(&str, &str)],
    session: &Session,
    mut take: impl FnMut(&Value),
) -> Result<(), Failure> {
    let client = session.client()?;
    let mut page = client.get(path, query).await?;
    loop {
        take(&page);
        let Some(cursor) = text_at(&page, "/next_cursor") else { return Ok(()) };
        page = client.get(path, &[query, &[("cursor", cursor.as_str())]].concat()).await?;
    }
}

async fn verify(noted: &[(u64, String)], session: &Session) -> Result<(), Failure> {
    let mut seals = vec![];
    pages(&["v1", "audit", "seals"], &[], session, |page| seals.extend(items(page).iter().cloned())).await?;
    let mut covered: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    let mut open = 0_u64;
    pages(&["v1", "audit"], &[("limit", PAGE)], session, |page| {
        for entry in items(page) {
            match entry["seal"].as_u64() {
                Some(number) => covered.entry(number).or_default().push(entry.clone()),
                None => open += 1,
            }
        }
    })
    .await?;
    let verdict = compare(&seals, &covered, noted);
    let last = seals.last();
    let answer = json!({
        "seals": seals.len(),
        "entries": covered.values().map(Vec::len).sum::<usize>(),
        "open": open,
        "last_seal": last.map(|seal| seal["number"].clone()),
        "last_hash": last.map(|seal| seal["hash"].clone()),
        "broken": verdict,
    });
    match session.output(Output::Table) {
        Output::Json => session.print_json(&answer),
        _ if verdict.is_empty() => session.screen.result(&about(&answer)),
        _ => {}
    }
    for broken in &verdict {
        session.screen.note(&format!("error: the audit is not what was written: {broken}"));
    }
    if verdict.is_empty() { Ok(()) } else { Err(Failure::Ended(1)) }
}

fn about(answer: &Value) -> String {
    let text = |pointer: &str| text_at(answer, pointer).unwrap_or_else(|| "none".into());
    format!(
        "{} entries are as {} seals say, {} wait for a seal.\nKeep the newest seal elsewhere: {}={}\n",
        text("/entries"),
        text("/seals"),
        text("/open"),
        text("/last_seal"),
        text("/last_hash")
    )
}

/// What is wrong, in the order of the seals. Entries that are gone because of their age are the oldest ones, and all of a seal.
fn compare(seals: &[Value], covered: &BTreeMap<u64, Vec<Value>>, noted: &[(u64, String)]) -> Vec<String> {
    let mut broken = vec![];
    let mut previous = "0".repeat(64);
    let oldest_kept = covered.keys().next().copied().unwrap_or(u64::MAX);
    for (index, seal) in seals.iter().enumerate() {
        let number = seal["number"].as_u64().unwrap_or_default();
        let hash = seal["hash"].as_str().unwrap_or_default().to_owned();
        if number != index as u64 + 1 {
            broken.push(format!("seal {} is missing", index + 1));
            return broken;
        }
        if seal["previous"] != previous.as_str() {
            broken.push(format!("seal {number} does not follow seal {}", number - 1));
        }
        let none = vec![];
        let entries = covered.get(&number).unwrap_or(&none);
        let complete = seal["entries"].as_u64() == Some(entries.len() as u64);
        // The day on which entries go cuts through a seal's.
        let went = number < oldest_kept || (number == oldest_kept && !complete);
        let as_sealed = complete && hash_of(&previous, entries) == hash;
        if !went && !as_sealed {
            broken.push(format!("the {} entries that seal {number} covers were changed", seal["entries"]));
        }
        if let Some((_, expected)) =
            noted.iter().find(|(of, noted)| *of == number && !hash.starts_with(noted.as_str()))
        {
            broken.push(format!("seal {number} was {expected} when it was noted, and is {hash}"));
        }
        previous = hash;
    }
    let last = seals.len() as u64;
    broken.extend(noted.iter().filter(|(of, _)| *of > last).map(|(of, _)| format!("seal {of} is missing")));
    broken
}

/// As the managers compute it: the hash before, then each entry as JSON with sorted members and without `seal`, line by line.
fn hash_of(previous: &str, entries: &[Value]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(previous.as_bytes());
    context.update(b"\n");
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|entry| entry["id"].as_str().unwrap_or_default().to_owned());
    for entry in entries {
        let members: BTreeMap<_, _> =
            entry.as_object().into_iter().flatten().filter(|(name, _)| *name != "seal").collect();
        context.update(json!(members).to_string().as_bytes());
        context.update(b"\n");
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seal(text: &str) -> Result<(u64, String), String> {
    let wrong = || format!("'{text}' is no seal: write NUMBER=HASH, as skep audit verify prints it");
    let (number, hash) = text.split_once('=').ok_or_else(wrong)?;
    let number = number.parse().map_err(|_| wrong())?;
    let is_hash = (HASH_DIGITS_MIN..=64).contains(&hash.len()) && hash.chars().all(|c| c.is_ascii_hexdigit());
    if is_hash { Ok((number, hash.to_ascii_lowercase())) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> (Vec<Value>, BTreeMap<u64, Vec<Value>>) {
        let mut previous = "0".repeat(64);
        let (mut seals, mut covered) = (vec![], BTreeMap::new());
        for number in 1..=3_u64 {
            let entries = vec![json!({"id": format!("e{number}"), "principal": "ann", "seal": number})];
            let hash = hash_of(&previous, &entries);
            seals.push(json!({"number": number, "entries": 1, "previous": previous, "hash": hash}));
            covered.insert(number, entries);
            previous = hash;
        }
        (seals, covered)
    }

    #[test]
    fn whatever_is_changed_or_taken_away_is_found() {
        let (seals, covered) = chain();
        assert_eq!(compare(&seals, &covered, &[]), Vec::<String>::new());
        let mut changed = covered.clone();
        changed.get_mut(&2).unwrap()[0]["principal"] = json!("ben");
        assert!(compare(&seals, &changed, &[])[0].contains("seal 2 covers were changed"));
        let mut gone = covered.clone();
        gone.remove(&2);
        assert!(compare(&seals, &gone, &[])[0].contains("seal 2"));
        let without = [seals[0].clone(), seals[2].clone()];
        assert_eq!(compare(&without, &covered, &[]), ["seal 2 is missing"]);
    }

    #[test]
    fn what_has_gone_with_time_is_not_missed() {
        let (seals, mut covered) = chain();
        covered.remove(&1);
        assert_eq!(compare(&seals, &covered, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_chain_that_was_made_anew_is_not_the_one_that_was_noted() {
        let (seals, covered) = chain();
        let hash = seals[1]["hash"].as_str().unwrap().to_owned();
        assert_eq!(compare(&seals, &covered, &[(2, hash.clone())]), Vec::<String>::new());
        assert!(compare(&seals, &covered, &[(2, "f".repeat(64))])[0].contains("seal 2 was ffff"));
        assert_eq!(compare(&seals, &covered, &[(9, hash)]), ["seal 9 is missing"]);
    }

    #[test]
    fn a_seal_is_noted_as_it_is_printed() {
        let hash = "AB".repeat(32);
        assert_eq!(seal(&format!("7={hash}")), Ok((7, hash.to_lowercase())));
        for wrong in ["", "7", "x=00", "7=00"] {
            assert!(seal(wrong).is_err(), "{wrong}");
        }
    }
}
