//! A Markdown file, as far as rules look into it: links, code in the text, tables, and commands in code blocks.

use crate::repository::File;

/// A piece of a document and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// What is written there.
    pub(crate) text: String,
    /// Line, counted from one.
    pub(crate) line: usize,
}

/// A command line in a block of the language `console`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// Without the prompt.
    pub(crate) text: String,
    /// Line, counted from one.
    pub(crate) line: usize,
    /// The block is marked with `<!-- run by CI -->`.
    pub(crate) run: bool,
}

/// Before a block whose commands are harmless and quick, so that they are run as they stand.
const RUN_MARK: &str = "<!-- run by CI -->";

/// The targets of all links.
pub(crate) fn links(file: &File) -> Vec<Piece> {
    let mut links = vec![];
    for (line, text) in prose(file) {
        let without_code: String = text.split('`').step_by(2).collect();
        for rest in without_code.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                // A title may follow the target.
                let target = target.split_whitespace().next().unwrap_or_default();
                links.push(Piece { text: target.to_owned(), line });
            }
        }
    }
    links
}

/// Everything that stands between single backticks.
pub(crate) fn code_words(file: &File) -> Vec<Piece> {
    let words = |(line, text): (usize, &str)| {
        let words: Vec<_> = text.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        words.into_iter().map(move |text| Piece { text, line })
    };
    prose(file).into_iter().flat_map(words).collect()
}

/// The rows of the first table whose head has all of these columns; each row has the cells of these columns.
pub(crate) fn table(file: &File, columns: &[&str]) -> Option<Vec<(usize, Vec<String>)>> {
    let lines = prose(file);
    let head = |(_, text): &(usize, &str)| columns.iter().all(|column| cells(text).contains(column));
    let start = lines.iter().position(head)?;
    let head = cells(lines[start].1);
    let places: Vec<usize> =
        columns.iter().filter_map(|column| head.iter().position(|cell| cell == column)).collect();
    let row = |(line, text): &(usize, &str)| {
        let cells = cells(text);
        let wanted = places.iter().map(|place| cells.get(*place).copied().unwrap_or_default().to_owned());
        (*line, wanted.collect())
    };
    Some(lines[start..].iter().skip(2).take_while(|(_, text)| text.starts_with('|')).map(row).collect())
}

/// All commands that a reader is shown with a prompt.
pub(crate) fn commands(file: &File) -> Vec<CommandLine> {
    let mut commands = vec![];
    let (mut in_console, mut marked, mut run) = (false, false, false);
    for (line, text) in file.lines() {
        if text.starts_with("```") {
            in_console = text == "```console";
            run = in_console && marked;
            marked = false;
        } else if let Some(command) = text.strip_prefix("$ ").filter(|_| in_console) {
            // A remark behind the command is for the reader.
            let command = command.split("  #").next().unwrap_or(command).trim();
            commands.push(CommandLine { text: command.to_owned(), line, run });
        } else if !text.is_empty() {
            marked = text == RUN_MARK;
        }
    }
    commands
}

/// The lines that are not inside code blocks.
fn prose(file: &File) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let outside = |(_, text): &(usize, &str)| {
        let is_fence = text.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    };
    file.lines().filter(outside).collect()
}

fn cells(row: &str) -> Vec<&str> {
    row.trim().trim_start_matches('|').trim_end_matches('|').split('|').map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "README.md".into(), text: text.into() }
    }

    #[test]
    fn links_and_code_are_taken_from_the_text_only() {
        let file = file("see [a](docs/a.md \"title\") and `[b](b.md)`\n```\n[c](c.md) `d`\n```\n[e](e.md)\n");
        let links: Vec<_> = links(&file).into_iter().map(|link| (link.text, link.line)).collect();
        assert_eq!(links, [("docs/a.md".to_owned(), 1), ("e.md".to_owned(), 5)]);
        let words: Vec<_> = code_words(&file).into_iter().map(|word| word.text).collect();
        assert_eq!(words, ["[b](b.md)"]);
    }

    #[test]
    fn a_table_is_found_by_its_columns() {
        let file = file(
            "| x |\n|---|\n| 1 |\n\n| crate | what | may import |\n|---|---|---|\n| a | z | b c |\n\nend\n",
        );
        assert_eq!(
            table(&file, &["crate", "may import"]),
            Some(vec![(7, vec!["a".to_owned(), "b c".to_owned()])])
        );
        assert_eq!(table(&file, &["crate", "no such column"]), None);
    }

    #[test]
    fn commands_are_what_follows_a_prompt_in_console_blocks() {
        let text = "```console\n$ make demo   # a remark\noutput\n```\n<!-- run by CI -->\n\n```console\n$ skep --help\n```\n```sh\n$ no\n```\n";
        let commands: Vec<_> = commands(&file(text)).into_iter().map(|c| (c.text, c.line, c.run)).collect();
        assert_eq!(commands, [("make demo".to_owned(), 2, false), ("skep --help".to_owned(), 8, true)]);
    }
}
