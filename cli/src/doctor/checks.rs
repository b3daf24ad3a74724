//! What was looked at, and how it is.

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::flags::Output;
use crate::session::Session;
use crate::table::{Column, Show};

/// What was looked at.
const CHECKS: &[Column] = &[
    Column::new("ABOUT", Show::Text("/about")),
    Column::new("CHECK", Show::Text("/check")),
    Column::new("STATE", Show::State("/state")),
    Column::new("MESSAGE", Show::Free("/message")),
];

/// Something that was looked at.
#[derive(Debug, Clone)]
pub struct Check {
    /// `manager/m1`, or `client`.
    about: String,
    check: &'static str,
    verdict: Verdict,
    message: String,
    fix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    Error,
}

impl Check {
    /// Good.
    pub fn ok(about: &str, check: &'static str, message: impl Into<String>) -> Check {
        Check {
            about: about.to_owned(),
            check,
            verdict: Verdict::Ok,
            message: message.into(),
            fix: String::new(),
        }
    }

    /// Works, and should not stay so.
    pub fn warning(
        about: &str,
        check: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Check {
        Check { verdict: Verdict::Warning, fix: fix.into(), ..Check::ok(about, check, message) }
    }

    /// Does not work.
    pub fn error(
        about: &str,
        check: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Check {
        Check { verdict: Verdict::Error, fix: fix.into(), ..Check::ok(about, check, message) }
    }

    pub(crate) fn row(&self) -> Value {
        let state = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Error => "error",
        };
        json!({"about": self.about, "check": self.check, "state": state, "message": self.message, "fix": self.fix})
    }
}

/// Prints the checks, and what helps. An error is a failure; `again` checks anew.
pub(crate) fn tell(checks: &[Check], again: &'static str, session: &Session) -> Result<(), Failure> {
    let rows: Vec<Value> = checks.iter().map(Check::row).collect();
    match session.output(Output::Table) {
        Output::Json => session.print_json(&json!({"items": rows})),
        output => {
            session.print_table(CHECKS, &rows, output);
            for check in checks.iter().filter(|check| !check.fix.is_empty()) {
                session.screen.note(&format!("{} {}: {}", check.about, check.check, check.fix));
            }
        }
    }
    match checks.iter().filter(|check| check.verdict == Verdict::Error).count() {
        0 => Ok(()),
        errors => Err(Failure::Unwell { again: again.to_owned(), errors }),
    }
}
