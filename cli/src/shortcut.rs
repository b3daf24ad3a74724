//! `skep inspect TYPE/NAME` and `skep rm TYPE/NAME`: the verbs of the types, for references as `-o name` prints them.

use clap::Args;

use crate::failure::Failure;
use crate::noun::{NOUNS, Noun, Verbs};
use crate::session::{Session, verdict};
use crate::{env, group, host, registry, role, snapshot, stack, template, user};

/// Types that can be looked at one by one.
pub(crate) const SHOWN: &[&str] =
    &["env", "template", "host", "registry", "stack", "op", "snapshot", "user", "group", "role"];

/// Other words for types, as on the command line.
const ALIASES: &[(&str, &str)] = &[("environment", "env"), ("operation", "op")];

/// Things of any type.
#[derive(Debug, Args)]
pub struct Things {
    /// What, as -o name prints it
    #[arg(required = true, value_name = "TYPE/NAME")]
    things: Vec<String>,
}

/// The type and the name in a reference.
pub(crate) fn thing(reference: &str) -> Result<(&'static Noun, &str), Failure> {
    let wrong = || {
        Failure::usage(
            format!("'{reference}' is not TYPE/NAME"),
            format!("types are: {}; -o name prints such references", SHOWN.join(", ")),
        )
    };
    let (word, name) = reference.split_once('/').ok_or_else(wrong)?;
    let word = ALIASES.iter().find(|(alias, _)| *alias == word).map_or(word, |(_, word)| *word);
    let noun = NOUNS.iter().find(|noun| noun.word == word && SHOWN.contains(&word)).ok_or_else(wrong)?;
    Ok((noun, noun.named(name)?))
}

pub(crate) async fn inspect(command: Things, session: &Session) -> Result<(), Failure> {
    let things = command.things.iter().map(|reference| thing(reference)).collect::<Result<Vec<_>, _>>()?;
    let (total, mut failures) = (things.len(), Vec::new());
    for (noun, name) in things {
        if let Err(failure) = noun.inspect(name, session).await {
            failures.push(failure);
        }
    }
    verdict(total, failures, |failure| session.report(failure))
}

pub(crate) async fn remove(command: Things, session: &Session) -> Result<(), Failure> {
    let mut groups: Vec<(&Noun, Vec<String>)> = Vec::new();
    for reference in &command.things {
        let (noun, name) = thing(reference)?;
        match groups.last_mut() {
            Some((last, names)) if last.word == noun.word => names.push(name.to_owned()),
            _ => groups.push((noun, vec![name.to_owned()])),
        }
    }
    let (total, mut failures) = (groups.len(), Vec::new());
    for (noun, names) in groups {
        if let Err(failure) = remove_all(noun, names, session).await {
            failures.push(failure);
        }
    }
    verdict(total, failures, |failure| session.report(failure))
}

/// As the verb of the type does it, with its questions.
async fn remove_all(noun: &Noun, names: Vec<String>, session: &Session) -> Result<(), Failure> {
    match noun.word {
        "host" => {
            return host::run(verb(host::Verb::Rm { names, all: false, keep_machine: false }), session).await;
        }
        "stack" => return stack::run(verb(stack::Verb::Rm { names }), session).await,
        "template" => return template::run(verb(template::Verb::Rm { names }), session).await,
        "snapshot" => return snapshot::run(verb(snapshot::Verb::Rm { ids: names }), session).await,
        _ => {}
    }
    for name in names {
        match noun.word {
            "env" => env::run(verb(env::Verb::Rm { name }), session).await?,
            "user" => user::run(verb(user::Verb::Rm { name }), session).await?,
            "group" => group::run(verb(group::Verb::Rm { name }), session).await?,
            "role" => role::run(verb(role::Verb::Rm { name }), session).await?,
            "registry" => registry::run(verb(registry::Verb::Logout { server: name }), session).await?,
            word => {
                return Err(Failure::usage(
                    format!("{word}/{name} cannot be removed"),
                    "operations are cancelled: skep op cancel ID",
                ));
            }
        }
    }
    Ok(())
}

fn verb<V: clap::Subcommand>(verb: V) -> Verbs<V> {
    Verbs { verb: Some(verb) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_type_and_a_name() {
        for (reference, word, name) in
            [("host/web-1", "host", "web-1"), ("environment/prod", "env", "prod"), ("op/op_1", "op", "op_1")]
        {
            let (noun, named) = thing(reference).expect("a thing");
            assert_eq!((noun.word, named), (word, name));
        }
        for wrong in ["web-1", "host/", "audit/x", "thing/x", "host/.."] {
            assert_eq!(thing(wrong).map(|(_, name)| name).expect_err(wrong).exit() as u8, 2);
        }
        assert!(SHOWN.iter().all(|word| NOUNS.iter().any(|noun| noun.word == *word)));
    }
}
