//! What the process's exit code tells a script.
//!
//! One table, [`EXIT_CODES`]: `skep help exit-codes`, the help of every command and the reference page are derived from it, so
//! a number never means one thing in the code and another in the documentation.

use std::fmt::Write;

/// Every way a client command can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The wanted state was reached.
    Done = 0,
    /// No better class.
    Failed = 1,
    /// The command line, a setting or a file was wrong.
    Usage = 2,
    /// The thing does not exist.
    NotFound = 3,
    /// No valid token, or not enough rights.
    NotAllowed = 4,
    /// It exists already, has changed meanwhile, or something else stands in the way.
    Conflict = 5,
    /// The operation goes on; only the waiting ended.
    WaitedTooLong = 6,
    /// The operation ran and failed.
    OperationFailed = 7,
    /// No manager could take the request.
    Unreachable = 8,
    /// The request was sent and its answer was lost.
    Unknown = 9,
    /// A plan shows changes.
    Changes = 10,
    /// Several targets, some of which failed.
    Partly = 11,
    /// Ctrl-C.
    Interrupted = 130,
}

/// One row of the table.
pub struct Meaning {
    /// The way to end.
    pub exit: Exit,
    /// What it means, for people.
    pub meaning: &'static str,
}

/// All exit codes, in numeric order.
pub const EXIT_CODES: &[Meaning] = &[
    Meaning { exit: Exit::Done, meaning: "done; when waiting, the wanted state was reached" },
    Meaning { exit: Exit::Failed, meaning: "failed, no better class" },
    Meaning {
        exit: Exit::Usage,
        meaning: "wrong usage: unknown flag, bad argument, invalid file; nothing was changed",
    },
    Meaning { exit: Exit::NotFound, meaning: "not found" },
    Meaning { exit: Exit::NotAllowed, meaning: "not signed in, or not allowed" },
    Meaning {
        exit: Exit::Conflict,
        meaning: "conflict: already exists, changed meanwhile, or a precondition does not hold",
    },
    Meaning {
        exit: Exit::WaitedTooLong,
        meaning: "waited too long; the operation continues (its id is printed)",
    },
    Meaning {
        exit: Exit::OperationFailed,
        meaning: "the operation ran and failed, or has paused because somebody has to look (its id is printed)",
    },
    Meaning {
        exit: Exit::Unreachable,
        meaning: "cluster unreachable, no leader, or no quorum; nothing known to have been changed",
    },
    Meaning {
        exit: Exit::Unknown,
        meaning: "outcome unknown: request sent, answer lost; repeating it with the printed idempotency key is safe",
    },
    Meaning { exit: Exit::Changes, meaning: "a plan shows changes (with --exit-code)" },
    Meaning { exit: Exit::Partly, meaning: "partly done: several targets, some failed; a table names each" },
    Meaning {
        exit: Exit::Interrupted,
        meaning: "interrupted (Ctrl-C); work that had been accepted goes on in the cluster",
    },
];

/// What a command that only reads can end with.
pub(crate) const READS: &[Exit] =
    &[Exit::Done, Exit::Usage, Exit::NotFound, Exit::NotAllowed, Exit::Unreachable, Exit::Interrupted];

/// What a command that changes something and is done with the answer can end with.
pub(crate) const WRITES: &[Exit] = &[
    Exit::Done,
    Exit::Usage,
    Exit::NotFound,
    Exit::NotAllowed,
    Exit::Conflict,
    Exit::Unreachable,
    Exit::Unknown,
    Exit::Interrupted,
];

/// What a command can end with that runs another one on a host, besides that one's own code.
pub(crate) const EXECUTES: &[Exit] = &[
    Exit::Done,
    Exit::Failed,
    Exit::Usage,
    Exit::NotFound,
    Exit::NotAllowed,
    Exit::Conflict,
    Exit::Unreachable,
    Exit::Interrupted,
];

/// What a command that starts one operation and waits for it can end with.
pub(crate) const WAITS: &[Exit] = &[
    Exit::Done,
    Exit::Usage,
    Exit::NotFound,
    Exit::NotAllowed,
    Exit::Conflict,
    Exit::WaitedTooLong,
    Exit::OperationFailed,
    Exit::Unreachable,
    Exit::Unknown,
    Exit::Interrupted,
];

/// As [`WAITS`], for a command that takes several targets.
pub(crate) const WAITS_FOR_SEVERAL: &[Exit] = &[
    Exit::Done,
    Exit::Usage,
    Exit::NotFound,
    Exit::NotAllowed,
    Exit::Conflict,
    Exit::WaitedTooLong,
    Exit::OperationFailed,
    Exit::Unreachable,
    Exit::Unknown,
    Exit::Partly,
    Exit::Interrupted,
];

/// The exit code for a manager's refusal.
///
/// The outcome comes first: whatever the status, "unknown" must never look like "nothing happened".
pub(crate) fn of_answer(status: u16, outcome: Option<&str>) -> Exit {
    if outcome == Some("unknown") {
        return Exit::Unknown;
    }
    match status {
        400 | 422 => Exit::Usage,
        401 | 403 => Exit::NotAllowed,
        404 => Exit::NotFound,
        409 | 412 | 428 => Exit::Conflict,
        503 => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

/// The last lines of a command's help: the codes it can end with.
pub(crate) fn help(exits: &[Exit]) -> String {
    let mut text = String::from("Exit codes:\n");
    for Meaning { exit, meaning } in EXIT_CODES.iter().filter(|row| exits.contains(&row.exit)) {
        let _ = writeln!(text, "  {:>3}  {meaning}", *exit as u8);
    }
    text.truncate(text.trim_end().len());
    text
}

/// The help topic `exit-codes`.
pub(crate) fn topic() -> String {
    let every: Vec<Exit> = EXIT_CODES.iter().map(|row| row.exit).collect();
    format!("{}\n\nAll other numbers are free: a later version may give them a meaning.", help(&every))
}

/// The reference page `docs/reference/exit-codes.md`.
pub fn exit_codes_page() -> String {
    let mut page = String::from(
        "# Exit codes of the client commands\n\n\
         Scripts may rely on these numbers; the same list is printed by `skep help exit-codes`.\n\n\
         | code | meaning |\n|---|---|\n",
    );
    for Meaning { exit, meaning } in EXIT_CODES {
        let _ = writeln!(page, "| {} | {meaning} |", *exit as u8);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_exit_code() {
        let table: &[(u16, Option<&str>, u8)] = &[
            (400, None, 2),
            (422, Some("not_started"), 2),
            (401, None, 4),
            (403, None, 4),
            (404, None, 3),
            (409, None, 5),
            (412, None, 5),
            (428, None, 5),
            (429, None, 1),
            (500, None, 1),
            (500, Some("unknown"), 9),
            (502, None, 1),
            (503, Some("not_started"), 8),
            (503, None, 8),
            (503, Some("unknown"), 9),
            (504, None, 1),
        ];
        for (status, outcome, wanted) in table {
            assert_eq!(of_answer(*status, *outcome) as u8, *wanted, "{status} {outcome:?}");
        }
    }

    #[test]
    fn the_table_is_in_numeric_order_and_each_number_stands_once() {
        let numbers: Vec<u8> = EXIT_CODES.iter().map(|row| row.exit as u8).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    }

    #[test]
    fn the_help_of_a_command_names_only_its_own_codes() {
        let text = help(READS);
        assert!(text.contains("    3  not found"), "{text}");
        assert!(!text.contains("idempotency"), "{text}");
    }
}
