//! The reference page `docs/reference/errors.md`, made of the catalogue.

use std::fmt::Write as _;

use crate::Code;

/// What is so for every code.
const PREFACE: &str = "\
# Error codes

Every error of the API is a JSON object (`application/problem+json`, RFC 9457). `code` and `reason` never change their
meaning and are never used for anything else; `detail` is for people and may be worded differently tomorrow. Everything
that varies in `detail` also stands in `params`. `skep explain SKP-1203` shows a section of this page.

In brackets behind each reason: the HTTP status, and `retryable` if the same request may succeed later, as the field
`retryable` says, too. `a file` instead of a status: found by the client in a file, without a manager.

`outcome` says what became of a change: `not_started` (nothing was changed and nothing will be), `unknown` (it may take
effect: repeat the request with the same `Idempotency-Key`), or null. Errors below 500 are decided before anything is
changed. `request_id` finds the request in the log of the manager that the answer's header `Skep-Node` names.
";

/// The whole page, with a section for each code.
pub fn page() -> String {
    let mut page = String::from(PREFACE);
    for code in Code::ALL {
        let _ = write!(page, "\n## {}\n\n{}\n", code.heading(), code.explanation());
    }
    page
}
