//! What a check has to complain about: where, which rule, and what to do about it.

use std::fmt;

/// One complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path of the file, from the root of the repository.
    pub(crate) path: String,
    /// Line, counted from one.
    pub(crate) line: usize,
    /// The rule's name.
    pub(crate) rule: &'static str,
    /// What is wrong.
    pub(crate) problem: String,
    /// What to do.
    pub(crate) fix: String,
}

impl Finding {
    /// A complaint about one line.
    pub(crate) fn new(
        rule: &'static str,
        path: &str,
        line: usize,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding { path: path.to_owned(), line, rule, problem: problem.into(), fix: fix.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}\n    {}", self.path, self.line, self.rule, self.problem, self.fix)
    }
}
