//! The codes of everything that Skep refuses, and what each of them means.
//!
//! Why a crate of its own: rules refuse, doors answer, backups are found damaged, and the client explains, none of which
//! may know the others. All they share is the catalogue, so it depends on nothing.
//!
//! `nearest` is what refusals of words have in common: which known word may be meant.
//!
//! What varies (a name, a bound) belongs to whoever refuses: `Refusal` of the model, `Problem` of the API.

mod catalogue;
mod nearest;
mod page;

use std::fmt;

pub use catalogue::Code;
pub use nearest::nearest;
pub use page::page;

impl Code {
    /// The code with that number or reason, in any case.
    pub fn named(text: &str) -> Option<Code> {
        let is_it = |code: &&Code| {
            code.number().eq_ignore_ascii_case(text) || code.reason().eq_ignore_ascii_case(text)
        };
        Code::ALL.iter().find(is_it).copied()
    }

    /// Its heading: number, reason, and in brackets how it is answered.
    pub fn heading(self) -> String {
        let status = self.status().map_or_else(|| "a file".to_owned(), |status| status.to_string());
        let retryable = if self.is_retryable() { ", retryable" } else { "" };
        format!("{} {} ({status}{retryable})", self.number(), self.reason())
    }

    /// What it means and what helps, in a paragraph.
    pub fn explanation(self) -> String {
        self.lines().iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
    }
}

/// The number.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.number())
    }
}

/// Codes that came from elsewhere are texts.
impl PartialEq<&str> for Code {
    fn eq(&self, number: &&str) -> bool {
        self.number() == *number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_reasons_are_told_apart() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number(), "{pair:?}");
        }
        let reasons: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.reason()).collect();
        assert_eq!(reasons.len(), Code::ALL.len());
    }

    #[test]
    fn a_code_is_named_like_its_reason() {
        for code in Code::ALL {
            let word = |word: &str| format!("{}{}", &word[..1], word[1..].to_lowercase());
            let name: String = code.reason().split('_').map(word).collect();
            assert_eq!(format!("{code:?}"), name);
        }
    }

    #[test]
    fn numbers_and_states_are_of_their_form_and_each_is_explained() {
        for code in Code::ALL {
            let digits = code.number().strip_prefix("SKP-").unwrap_or_default();
            assert!(digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
            assert!(code.status().is_none_or(|status| (400..600).contains(&status)), "{code}");
            assert!(code.explanation().len() > 60, "{code}: {}", code.explanation());
        }
    }

    #[test]
    fn a_code_is_found_by_number_and_reason() {
        assert_eq!(Code::named("skp-1301"), Some(Code::NameTaken));
        assert_eq!(Code::named("name_taken"), Some(Code::NameTaken));
        assert_eq!(Code::named("SKP-0000"), None);
        assert_eq!(Code::NoLeader.heading(), "SKP-3001 NO_LEADER (503, retryable)");
        assert!(Code::NameTaken == "SKP-1301" && Code::DamagedBackup.status().is_none());
    }
}
