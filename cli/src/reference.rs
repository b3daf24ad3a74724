//! The reference page of the commands, derived from the command tree, so that it cannot forget one.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

/// The text of `docs/reference/cli.md` for a program with these commands.
pub fn reference_page(mut root: Command) -> String {
    root.build();
    let mut page = String::from(
        "# Client commands\n\n\
         Made from the program's own command tree; `skep help COMMAND` prints the same on a terminal.\n\n\
         Names work everywhere an id works, also in the form `host/web-1` that `-o name` prints. Results go to standard\n\
         output, everything else to standard error. Exit codes: [exit-codes.md](exit-codes.md).\n\n\
         Settings: a flag wins over an environment variable, and that over the context in\n\
         `$XDG_CONFIG_HOME/skep/config.toml`. If the server's address comes from a flag or a variable, the context's token,\n\
         CA and environment are not used.\n\n\
         ```toml\n\
         current = \"prod\"\n\
         [contexts.prod]\n\
         url = \"https://m1.example.com:8443,https://m2.example.com:8443\"\n\
         env = \"shop\"\n\
         ca_file = \"prod-ca.pem\"          # relative to this file\n\
         token_file = \"prod.token\"\n\
         ```\n\n\
         ## Global options\n\n\
         They may stand before or after the command.\n\n",
    );
    options(&mut page, root.get_arguments().filter(|argument| argument.is_global_set()));
    for command in root.get_subcommands() {
        section(&mut page, command, &mut vec!["skep".to_owned()]);
    }
    page
}

fn section(page: &mut String, command: &Command, words: &mut Vec<String>) {
    words.push(command.get_name().to_owned());
    let has_verbs = command.get_subcommands().any(|verb| verb.get_name() != "help");
    let level = "#".repeat(words.len());
    let _ = writeln!(page, "\n{level} {}\n", words.join(" "));
    if let Some(about) = command.get_about() {
        let _ = writeln!(page, "{about}.");
    }
    let aliases: Vec<String> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        let _ = writeln!(page, "\nAlso: {}.", aliases.join(", "));
    }
    if !has_verbs {
        let _ = writeln!(page, "\n```text\n{}\n```", usage(command, words));
    }
    let own = command.get_arguments().filter(|argument| {
        !argument.is_global_set() && !argument.is_hide_set() && argument.get_id() != "help"
    });
    let own: Vec<&Arg> = own.collect();
    if !own.is_empty() {
        page.push('\n');
        options(page, own.into_iter());
    }
    if let Some(examples) = command.get_before_long_help() {
        let _ = writeln!(page, "\n```text\n{examples}\n```");
    }
    if let (false, Some(exits)) = (has_verbs, command.get_after_long_help()) {
        let _ = writeln!(page, "\nExit codes: {}.", exit_numbers(&exits.to_string()));
    }
    let shown = |verb: &&Command| verb.get_name() != "help" && !verb.is_hide_set();
    for verb in command.get_subcommands().filter(shown) {
        section(page, verb, words);
    }
    words.pop();
}

/// Only the numbers: what they mean stands on a page of its own.
fn exit_numbers(help: &str) -> String {
    let numbers: Vec<&str> = help.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    numbers.join(", ")
}

fn options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    page.push_str("| option | meaning |\n|---|---|\n");
    for argument in arguments {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        // A bar would begin another cell, also between backquotes.
        let cell = |text: String| text.replace('|', "\\|");
        let _ = writeln!(page, "| `{}` | {} |", cell(spelling(argument)), cell(help));
    }
}

/// `-f, --file FILE`, or `NAME` for a positional argument.
fn spelling(argument: &Arg) -> String {
    let names: Vec<String> = (argument.get_short().map(|short| format!("-{short}")).into_iter())
        .chain(argument.get_long().map(|long| format!("--{long}")))
        .collect();
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let values: Vec<String> = match argument.get_value_names() {
        Some(names) if takes_value => names.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    names.join(", ").to_owned()
        + if names.is_empty() || values.is_empty() { "" } else { " " }
        + &values.join(" ")
}

fn usage(command: &Command, words: &[String]) -> String {
    let usage = command.clone().render_usage().to_string();
    let rest = usage.split_once(command.get_name()).map_or("", |(_, rest)| rest);
    // Where there are several, the others are indented as under "Usage:".
    format!("{}{}", words.join(" "), rest.replace("\n       ", "\n"))
}
