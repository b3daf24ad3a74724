//! `skep explain`: what an error or a finding means, why, and what helps; also without a server.

use clap::Args;
use skep_codes::Code;

use crate::failure::Failure;
use crate::session::Session;

/// The page that the documentation has, too. Each code of a finding is a heading.
const FINDINGS: &str = include_str!("../../docs/reference/findings.md");

/// What is to be explained.
#[derive(Debug, Args)]
pub struct Explain {
    /// A code: SKP-1203 of an error, SKF-104 of a finding; or the reason, NOT_FOUND
    #[arg(value_name = "CODE")]
    code: String,
}

pub(crate) fn run(wish: &Explain, session: &Session) -> Result<(), Failure> {
    match explained(&wish.code) {
        Some(text) => {
            session.screen.result(&format!("{text}\n"));
            Ok(())
        }
        None => Err(Failure::usage(
            format!("there is no code or reason '{}'", wish.code),
            "codes look like SKP-1203 or SKF-104; they stand in each error message",
        )),
    }
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
