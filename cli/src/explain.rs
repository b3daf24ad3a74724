//! `skep explain`: what an error or a finding means, and what stands where in objects; also without a server.

mod page;
mod schema;
mod types;

use clap::Args;
use skep_codes::Code;

use crate::failure::Failure;
use crate::session::Session;
use types::{TYPES, Type};

/// The page that the documentation has, too. Each code of a finding is a heading.
const FINDINGS: &str = include_str!("../../docs/reference/findings.md");

/// What is to be explained.
#[derive(Debug, Args)]
pub struct Explain {
    /// A type, or one of its fields: host, env.spec.mtu; or a code: SKP-1203 of an error, SKF-104 of a finding; or the
    /// reason, NOT_FOUND
    #[arg(value_name = "TYPE[.FIELD]|CODE")]
    what: String,
}

pub(crate) fn run(wish: &Explain, session: &Session) -> Result<(), Failure> {
    let text = match explained(&wish.what) {
        Some(text) => format!("{text}\n"),
        None => page::page(&wish.what).unwrap_or_else(|| Err(unknown(&wish.what)))?,
    };
    session.screen.result(&text);
    Ok(())
}

/// What can follow on the line: types, and the fields of the one that stands there.
pub(crate) fn candidates(typed: &str) -> Vec<String> {
    match typed.rsplit_once('.') {
        Some((so_far, _)) => page::fields(so_far),
        None => TYPES.iter().map(|kind| kind.word().to_owned()).collect(),
    }
}

fn unknown(what: &str) -> Failure {
    let word = what.split('.').next().unwrap_or_default();
    let upper = word.to_ascii_uppercase();
    if upper.starts_with("SKP-") || upper.starts_with("SKF-") {
        return Failure::usage(
            format!("there is no code '{what}'"),
            "codes look like SKP-1203 or SKF-104; they stand in each error message",
        );
    }
    let words = TYPES.iter().flat_map(|kind| kind.words).copied();
    let known = words.chain(Code::ALL.iter().map(|code| code.reason())).chain(reasons(FINDINGS));
    let types: Vec<&str> = TYPES.iter().map(Type::word).collect();
    Failure::usage(
        format!("there is no type, code or reason '{word}'"),
        format!(
            "{}types are: {}; codes look like SKP-1203 or SKF-104",
            page::meant(word, known),
            types.join(", ")
        ),
    )
}

/// The reasons in the headings of a page.
fn reasons(page: &str) -> impl Iterator<Item = &str> {
    let headings = page.lines().filter_map(|line| line.strip_prefix("## "));
    headings.filter_map(|heading| heading.split_whitespace().nth(1)).map(|word| word.trim_end_matches(':'))
}

/// What is known about an error or a finding.
fn explained(code: &str) -> Option<String> {
    let of_error = Code::named(code).map(|code| format!("{}\n\n{}", code.heading(), code.explanation()));
    of_error.or_else(|| section(FINDINGS, &code.to_ascii_uppercase()))
}

/// The section whose heading begins with the code, or has the reason behind it.
fn section(page: &str, wanted: &str) -> Option<String> {
    let mut lines = page.lines().skip_while(|line| {
        let words: Vec<&str> = line.strip_prefix("## ").unwrap_or_default().split_whitespace().collect();
        !words.iter().take(2).any(|word| word.trim_end_matches(':') == wanted)
    });
    let heading = lines.next()?.trim_start_matches("## ");
    let body: Vec<&str> = lines.take_while(|line| !line.starts_with("## ")).collect();
    Some(format!("{heading}\n\n{}", body.join("\n").trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_by_number_and_by_reason() {
        for code in Code::ALL {
            let text = explained(code.number()).expect("is an error");
            assert!(text.starts_with(&format!("{} {} (", code.number(), code.reason())), "{text}");
            assert!(text.ends_with(&code.explanation()) && !text.contains("\n#"), "{text}");
            assert_eq!(explained(&code.reason().to_lowercase()).as_ref(), Some(&text));
        }
        assert_eq!(explained("SKP-0000"), None);
    }

    #[test]
    fn a_finding_is_explained_by_number_and_by_reason() {
        let text = explained("skf-104").expect("is a finding");
        let reason = text.split_whitespace().nth(1).expect("has a reason");
        assert!(text.starts_with("SKF-104 ") && text.len() > 60 && !text.contains("\n## "), "{text}");
        assert_eq!(explained(reason), Some(text.clone()));
    }
}
