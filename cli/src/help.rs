//! `skep help`: commands in groups, the help of commands by their words, and topics that belong to no single command.

use std::fmt::Write as _;

use clap::Command;

use crate::exit;

/// Commands that belong together, in the order in which one comes to need them.
struct Group {
    title: &'static str,
    commands: &'static [&'static str],
}

/// Every group. Each command is in one (a test compares them with the tree).
const GROUPS: &[Group] = &[
    Group {
        title: "Get going",
        commands: &["dev", "login", "logout", "use", "whoami", "status", "doctor", "version"],
    },
    Group { title: "Applications", commands: &["up", "ps", "stack", "image", "registry"] },
    Group { title: "Infrastructure", commands: &["env", "template", "host", "driver"] },
    Group { title: "People and access", commands: &["user", "group", "role", "token", "audit"] },
    Group {
        title: "Running Skep",
        commands: &[
            "init",
            "server",
            "agent",
            "cluster",
            "snapshot",
            "operation",
            "event",
            "lb-config",
            "debug",
        ],
    },
    Group { title: "Things of any type", commands: &["inspect", "wait", "rm", "apply", "delete", "api"] },
    Group { title: "This client", commands: &["context", "explain", "completion", "man", "help"] },
];

/// What is tried first.
const TRY: &str = "Try:  skep dev --managers 3 --hosts 3   a highly available cluster on this machine\n      \
                   skep up -f compose.yml              deploy a compose file\n      \
                   skep explain SKP-1203               what an error means and what helps";

/// A topic: its name, what it is about, and its text.
struct Topic {
    name: &'static str,
    about: &'static str,
    text: fn() -> String,
}

/// Every topic.
const TOPICS: &[Topic] = &[
    Topic {
        name: "contexts",
        about: "servers, who one is there, and what a working tree says",
        text: || CONTEXTS.into(),
    },
    Topic { name: "environment", about: "the variables that the client reads", text: || ENVIRONMENT.into() },
    Topic { name: "exit-codes", about: "what scripts can rely on", text: exit::topic },
    Topic { name: "formats", about: "tables, JSON, templates and filters", text: || FORMATS.into() },
    Topic { name: "waiting", about: "progress, --detach, Ctrl-C and lost answers", text: || WAITING.into() },
];

const CONTEXTS: &str = "\
A context is a server and who one is there; skep login makes one. They stand in $XDG_CONFIG_HOME/skep/config.toml
(~/.config/skep/config.toml), the tokens beside it, readable by their owner only.

  current = \"prod\"
  [contexts.prod]
  url = \"https://m1.example.com:8443,https://m2.example.com:8443\"
  env = \"shop\"
  ca_file = \"prod-ca.pem\"
  token_file = \"tokens/prod\"

  skep use                 what is chosen
  skep use prod/shop       another context, and the environment shop there
  skep use -               what was chosen before
  skep context show        every value, and where it comes from

A working tree can say in .skep.toml where it belongs; the nearest file counts, from the current folder upwards:

  context = \"prod\"         one of your contexts
  env = \"shop\"
  stack = \"shop\"
  files = [\"compose.yml\"]

It cannot name a server or a token: who clones a repository must not send a token where that says.

A flag wins over a variable, a variable over .skep.toml, and that over the configuration file. A context is one unit: where
the server is named by a flag or a variable, the context's token, authority and environment are left out.
";

const ENVIRONMENT: &str = "\
The client reads these variables. One that is set to nothing counts as not set.

  SKEP_CONTEXT             the context                                    --context
  SKEP_ENV                 the environment                                --env
  SKEP_URL                 the server; several managers with commas       --url
  SKEP_TOKEN_FILE          a file with the token                          --token-file
  SKEP_TOKEN               the token itself; others may see it: prefer the file
  SKEP_CA_FILE             the certificate authority to trust             --ca-file
  SKEP_OUTPUT              table, wide, json, yaml, ndjson, name, csv     --output
  SKEP_PROGRESS            auto, tty, plain, json, none                   --progress
  SKEP_TIMEOUT             how long to wait; 0 = for ever                 --timeout
  SKEP_WAIT                0 = do not wait                                --detach, --wait
  SKEP_CONSISTENCY         stale, default, consistent                     --consistency
  SKEP_RECOVERY_KEY_FILE   opens backups                                  --recovery-key-file
  SKEP_CONFIG_HOME         the folder of config.toml
  CI                       nobody is asked anything
  NO_COLOR                 no colour                                      --no-color
";

const FORMATS: &str = "\
Results go to standard output; progress, hints and warnings to standard error.

  -o table     aligned columns: for people, and no interface
  -o wide      with ids, addresses and versions
  -o json      the object of the API; lists are {\"items\": [...], \"revision\": N}
  -o yaml      the same as YAML; skep apply takes it
  -o ndjson    a line of JSON for each item
  -o name      TYPE/NAME lines, arguments of the next command
  -o csv       all columns of the table
  -q           names alone

  --format 'table {{.Name}}\\t{{.State}}'    a template of Docker's kind
  --jq '.items[].metadata.name'             a filter of jq's kind, no jq needed; also @csv and @tsv, not halt_error

Times are RFC 3339 in UTC where they are not shown as an age. Columns of tables may change; the JSON follows the API.
";

const WAITING: &str = "\
A command that starts an operation waits for its end and shows its steps; with --detach it prints the operation's id. The
operation belongs to the cluster: it goes on when nobody waits.

  Ctrl-C             ends the waiting, not the operation (exit code 130)
  --timeout 5m       gives up waiting (exit code 6)
  skep op watch ID   waits again; from any machine
  skep op cancel ID  gives the operation up

If a manager dies meanwhile, the client goes on at another one at the same revision. A change that got no answer may have
been done (exit code 9): repeating it with the --idempotency-key that was printed does it at most once.

  skep wait host/web-1                        until it is active
  skep wait stack/shop --for state=active
  skep wait env/test --for deleted
";

/// The same program, whose own help has its commands in groups.
#[must_use]
pub fn grouped(root: Command) -> Command {
    let (short, long) = (names_in_groups(&root), all_in_groups(&root));
    root.help_template(
        "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}{after-help}",
    )
    .before_help(short)
    .before_long_help(long)
    .after_help(format!("{TRY}\nRun 'skep COMMAND --help' for details, 'skep help TOPIC' for {}.", topics()))
}

fn topics() -> String {
    TOPICS.iter().map(|topic| topic.name).collect::<Vec<_>>().join(", ")
}

/// The commands of a group that the program has.
fn of_group<'c>(root: &'c Command, group: &Group) -> Vec<&'c Command> {
    group.commands.iter().filter_map(|name| root.find_subcommand(name)).collect()
}

fn names_in_groups(root: &Command) -> String {
    let line = |group: &Group| {
        let names: Vec<&str> = of_group(root, group).iter().map(|command| command.get_name()).collect();
        format!("{:<20}{}", group.title, names.join(" "))
    };
    GROUPS.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn all_in_groups(root: &Command) -> String {
    let mut text = String::new();
    for group in GROUPS {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", group.title);
        for command in of_group(root, group) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:<12}{about}", command.get_name());
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// The text of `skep help WORDS…` for a program with these commands: a topic, or the long help of a command.
///
/// Returns what is wrong if the words are neither.
pub(crate) fn help(root: &mut Command, words: &[String]) -> Result<String, String> {
    if let [word] = words {
        if word == "topics" {
            return Ok(TOPICS.iter().map(|topic| format!("{:<14}{}\n", topic.name, topic.about)).collect());
        }
        if let Some(topic) = TOPICS.iter().find(|topic| topic.name == word) {
            return Ok((topic.text)());
        }
    }
    root.build();
    let mut command = root;
    for word in words {
        let unknown = || format!("no command or topic '{}' (topics: {})", words.join(" "), topics());
        command = command.find_subcommand_mut(word).ok_or_else(unknown)?;
    }
    Ok(command.render_long_help().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::ClientLine;

    fn help_of(words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        help(&mut grouped(ClientLine::command()), &words)
    }

    #[test]
    fn a_topic_or_a_command_or_nothing() {
        assert!(help_of(&["exit-codes"]).expect("a topic").contains("  130  interrupted"));
        for topic in TOPICS {
            assert!(help_of(&[topic.name]).expect("a topic").len() > 200, "{}", topic.name);
            assert!(help_of(&["topics"]).expect("all").contains(topic.about));
        }
        let text = help_of(&["hosts", "create"]).expect("a command by its alias");
        assert!(text.starts_with("Examples:\n  skep host create"), "{text}");
        assert!(text.trim_end().lines().last().expect("a line").contains("130"), "{text}");
        assert!(help_of(&["hots"]).expect_err("no such thing").contains("exit-codes"));
    }

    #[test]
    fn every_command_is_in_one_group() {
        let root = ClientLine::command();
        let named: Vec<&str> = GROUPS.iter().flat_map(|group| group.commands).copied().collect();
        let once: BTreeSet<&str> = named.iter().copied().collect();
        assert_eq!(named.len(), once.len(), "one is in two groups");
        for command in root.get_subcommands() {
            assert!(once.contains(command.get_name()), "{} is in no group", command.get_name());
        }
        // These belong to the program that contains the manager, too.
        let of_managers = ["dev", "init", "server", "agent"];
        for name in once.iter().filter(|name| !of_managers.contains(name)) {
            assert!(root.find_subcommand(name).is_some(), "there is no {name}");
        }
        let text = help_of(&[]).expect("the root");
        assert!(text.contains("Get going\n  login ") && text.contains("Options:"), "{text}");
    }

    #[test]
    fn the_variables_of_the_topic_are_those_that_are_read() {
        let source = concat!(include_str!("settings.rs"), include_str!("settings/origins.rs"));
        let read = source.split('"').filter(|text| text.starts_with("SKEP_") && !text.contains(' '));
        let read: BTreeSet<&str> = read.collect();
        assert!(read.len() > 8);
        for name in read {
            assert!(ENVIRONMENT.contains(&format!("  {name} ")), "{name} is not explained");
        }
    }
}
