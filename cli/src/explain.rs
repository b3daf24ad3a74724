//! `skep explain`: what an error or a finding means, why, and what helps; also without a server.

use clap::Args;

use crate::failure::Failure;
use crate::session::Session;

/// The pages that the documentation has, too. Each code is a heading.
const PAGES: &[&str] =
    &[include_str!("../../docs/reference/errors.md"), include_str!("../../docs/reference/findings.md")];

/// What is to be explained.
#[derive(Debug, Args)]
pub struct Explain {
    /// A code: SKP-1203 of an error, SKF-104 of a finding; or the reason, NOT_FOUND
    #[arg(value_name = "CODE")]
    code: String,
}

pub(crate) fn run(wish: &Explain, session: &Session) -> Result<(), Failure> {
    let wanted = wish.code.to_ascii_uppercase();
    match PAGES.iter().find_map(|page| section(page, &wanted)) {
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
    fn a_code_or_its_reason_is_explained() {
        let by_code = section(PAGES[0], "SKP-1203").expect("is an error");
        assert!(by_code.starts_with("SKP-1203 NOT_FOUND (404)\n\n") && by_code.len() > 80, "{by_code}");
        assert_eq!(section(PAGES[0], "NOT_FOUND"), Some(by_code.clone()));
        assert!(!by_code.contains("SKP-1301"), "{by_code}");
        assert!(
            section(PAGES[1], "SKF-104").is_some_and(|text| text.contains("NODE_DOWN") || text.len() > 60)
        );
        assert_eq!(section(PAGES[0], "SKP-0000"), None);
    }
}
