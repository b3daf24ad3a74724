//! `skep help`: topics that belong to no single command, and the help of commands by their words.

use crate::exit;

/// A topic: its name, what it is about, and its text.
struct Topic {
    name: &'static str,
    text: fn() -> String,
}

/// Every topic.
const TOPICS: &[Topic] = &[Topic { name: "exit-codes", text: exit::topic }];

/// The text of `skep help WORDS…` for a program with these commands: a topic, or the long help of a command.
///
/// Returns what is wrong if the words are neither.
pub(crate) fn help(root: &mut clap::Command, words: &[String]) -> Result<String, String> {
    if let [word] = words
        && let Some(topic) = TOPICS.iter().find(|topic| topic.name == word)
    {
        return Ok((topic.text)());
    }
    root.build();
    let mut command = root;
    for word in words {
        let unknown = || {
            let topics: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
            format!("no command or topic '{}' (topics: {})", words.join(" "), topics.join(", "))
        };
        command = command.find_subcommand_mut(word).ok_or_else(unknown)?;
    }
    Ok(command.render_long_help().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientLine;
    use clap::CommandFactory;

    fn help_of(words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        help(&mut ClientLine::command(), &words)
    }

    #[test]
    fn a_topic_or_a_command_or_nothing() {
        assert!(help_of(&["exit-codes"]).expect("a topic").contains("  130  interrupted"));
        let text = help_of(&["hosts", "create"]).expect("a command by its alias");
        assert!(text.starts_with("Examples:\n  skep host create"), "{text}");
        assert!(text.trim_end().lines().last().expect("a line").contains("130"), "{text}");
        assert!(help_of(&["hots"]).expect_err("no such thing").contains("exit-codes"));
    }
}
