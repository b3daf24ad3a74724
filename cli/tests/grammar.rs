//! The promises of the command line: aliases, nouns without a verb, flags anywhere, help with examples and exit codes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use clap::{Command, CommandFactory, Parser};
use skep_cli::{ClientLine, Output};

fn parse(line: &str) -> Result<ClientLine, clap::Error> {
    ClientLine::try_parse_from(line.split_whitespace())
}

/// How a command was understood, for comparing two spellings.
fn meaning(line: &str) -> String {
    format!("{:?}", parse(line).unwrap().command)
}

#[test]
fn the_command_tree_is_sound() {
    ClientLine::command().debug_assert();
}

#[test]
fn plurals_and_list_are_aliases() {
    for (long, short) in [
        ("skep hosts list", "skep host ls"),
        ("skep envs ls", "skep env ls"),
        ("skep environments list", "skep env ls"),
        ("skep stacks ps shop", "skep stack ps shop"),
        ("skep templates ls", "skep template list"),
        ("skep drivers", "skep driver"),
        ("skep operations ls", "skep op list"),
        ("skep operation inspect op_1", "skep op inspect op_1"),
        ("skep clusters members", "skep cluster members"),
        ("skep images load x.tar", "skep image load x.tar"),
    ] {
        assert_eq!(meaning(long), meaning(short));
    }
}

#[test]
fn a_noun_without_a_verb_is_a_command() {
    for noun in ["env", "template", "host", "stack", "op", "driver", "cluster", "snapshot"] {
        assert!(parse(&format!("skep {noun}")).is_ok(), "{noun}");
    }
}

#[test]
fn flags_may_stand_anywhere() {
    for line in [
        "skep -e prod -o json host ls",
        "skep host -e prod ls -o json",
        "skep host ls --output=json --env env/prod",
    ] {
        let flags = parse(line).unwrap().flags;
        assert_eq!(flags.env.as_deref(), Some("prod"), "{line}");
        assert_eq!(flags.output, Some(Output::Json), "{line}");
    }
}

#[test]
fn a_variable_in_the_place_of_the_environment_is_explained() {
    let error = parse("skep host ls -e FOO=bar").unwrap_err();
    assert!(error.to_string().contains("'-e' selects the environment"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn hosts_of_a_new_environment_need_a_driver() {
    assert!(parse("skep env create prod -t swarm").is_ok());
    assert!(parse("skep env create prod -t swarm --hosts 3 --driver local --option size=m").is_ok());
    assert!(parse("skep env create prod -t swarm --hosts 3").is_err());
    assert!(parse("skep host create").is_err());
}

#[test]
fn hosts_are_named_or_counted() {
    assert!(parse("skep host create web-1 --driver local --label rack=b --label zone=1").is_ok());
    assert!(parse("skep host create --count 3 --name-prefix web- --driver local").is_ok());
    for wrong in [
        "web-1 --count 3 --name-prefix web-",
        "web-1 --name-prefix web-",
        "web-1 --count 3",
        "--count 3",
        "--name-prefix web-",
        "--count 0 --name-prefix web-",
        "--count 1001 --name-prefix web-",
        "web-1 --label rack",
    ] {
        let error = parse(&format!("skep host create --driver local {wrong}")).expect_err(wrong);
        assert_eq!(error.exit_code(), 2, "{wrong}");
    }
}

#[test]
fn every_command_has_examples_and_exit_codes() {
    fn check(command: &Command, words: &str) {
        let verbs: Vec<&Command> =
            command.get_subcommands().filter(|verb| verb.get_name() != "help").collect();
        assert!(command.get_about().is_some(), "{words} has no line about it");
        if verbs.is_empty() {
            let examples = command.get_before_long_help().unwrap_or_else(|| panic!("{words} has no example"));
            assert!(examples.to_string().starts_with("Examples:\n  "), "{words}: {examples}");
            let exits = command.get_after_long_help().unwrap_or_else(|| panic!("{words} has no exit codes"));
            assert!(exits.to_string().starts_with("Exit codes:\n    0  done"), "{words}: {exits}");
            for example in examples.to_string().lines().skip(1) {
                example_parses(example.trim());
            }
        }
        for verb in verbs {
            check(verb, &format!("{words} {}", verb.get_name()));
        }
    }
    for command in ClientLine::command().get_subcommands() {
        check(command, command.get_name());
    }
}

/// What we tell people to type is understood. Remarks follow after several blanks, pipes come before, files for the output after.
fn example_parses(example: &str) {
    let line = example.split_once("| ").map_or(example, |(_, line)| line);
    let line = line.split_once("   ").map_or(line, |(line, _)| line);
    let line = line.split_once(" > ").map_or(line, |(line, _)| line);
    if let Err(error) = parse(line) {
        panic!("{example}: {error}");
    }
}
