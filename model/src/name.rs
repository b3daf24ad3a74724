//! Names that people choose: unique per scope, safe in URLs, host names and labels.

use serde::{Deserialize, Serialize};

use crate::Refusal;

/// A DNS label, because names become host names and parts of service names.
const NAME_LENGTH_MAX: usize = 63;

/// A checked name: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Checks a name; `what` is the noun that is told when it is no good.
    pub fn parse(what: &'static str, text: &str) -> Result<Name, Refusal> {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let at_an_end = |c: Option<char>| c.is_some_and(|c| c != '-');
        let good = text.len() <= NAME_LENGTH_MAX
            && text.chars().all(inside)
            && at_an_end(text.chars().next())
            && at_an_end(text.chars().last());
        if good {
            Ok(Name(text.to_owned()))
        } else {
            Err(Refusal::InvalidName { what, name: text.to_owned() })
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web-1", "0", &"x".repeat(63)] {
            assert!(Name::parse("host", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"x".repeat(64), "a\0b"] {
            assert!(Name::parse("host", bad).is_err(), "{bad:?}");
        }
    }
}
