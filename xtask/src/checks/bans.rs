//! Calls that are not made here, each with what to do instead and why.

use anyhow::Result;

use crate::finding::Finding;
use crate::repository::Repository;
use crate::rust::{RustFile, Token};

pub(super) const RULE: &str = "banned call";

/// One thing not to write.
struct Ban {
    /// Rows of tokens, with spaces between words and punctuation.
    rows: &'static [&'static str],
    /// In which files.
    applies: fn(path: &str) -> bool,
    /// In which part of them.
    part: Part,
    /// What to do instead, and why.
    instead: &'static str,
}

enum Part {
    Everywhere,
    Product,
    /// In tests, except between two looks of a loop that has a deadline.
    TestsOutsideLoops,
}

const BANS: &[Ban] = &[
    Ban {
        rows: &["todo !", "unimplemented !", "dbg !"],
        applies: everywhere,
        part: Part::Everywhere,
        instead: "finish it or leave it out: what is merged is what people run",
    },
    Ban {
        rows: &["# [ ignore", "# [ should_panic ]"],
        applies: everywhere,
        part: Part::Everywhere,
        instead: "a test that is not run, or any panic at all, proves nothing: repair it, or expect one certain error",
    },
    Ban {
        rows: &[". unwrap ( )"],
        applies: everywhere,
        part: Part::Product,
        instead: "return an error that says what was tried; where it cannot fail, `expect` with the reason why",
    },
    Ban {
        rows: &["env ! ( \"CARGO_MANIFEST_DIR\""],
        applies: everywhere,
        part: Part::Everywhere,
        instead: "read the variable when the test runs: two checkouts share one folder of builds, and a test of one would look at the files of the other",
    },
    Ban {
        rows: &["process :: exit"],
        applies: |path| !path.starts_with("node/"),
        part: Part::Everywhere,
        instead: "return an ExitCode or an error: whoever ends the process skips everybody's clean-up; only `node` may",
    },
    Ban {
        rows: &[
            "SystemTime :: now",
            "Instant :: now",
            "Timestamp :: now",
            "Zoned :: now",
            "Uuid :: now_v7",
            "Uuid :: new_v4",
            "rand ::",
        ],
        applies: is_pure,
        part: Part::Product,
        instead: "take time and ids as arguments (`tx.now()`, an id from the caller): rules are decided again after a conflict and must come to the same",
    },
    Ban {
        rows: &[
            "tokio ::",
            "std :: fs",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "ToSocketAddrs",
            "std :: process",
            "std :: env",
            "std :: thread",
            "async fn",
        ],
        applies: is_pure,
        part: Part::Product,
        instead: "return an effect or a decision and let the engine do it: rules neither wait nor touch the world",
    },
    Ban {
        rows: &["openraft"],
        applies: |path| !path.starts_with("raft/"),
        part: Part::Everywhere,
        instead: "go through `skep_ledger::Ledger`: only `raft` knows how replicas agree",
    },
    Ban {
        rows: &["rocksdb"],
        applies: |path| !path.starts_with("storage/"),
        part: Part::Everywhere,
        instead: "go through `skep_storage::Store`: only there is it known what is durable when",
    },
    Ban {
        rows: &["sleep ("],
        applies: everywhere,
        part: Part::TestsOutsideLoops,
        instead: "wait for the condition itself, in a loop with a deadline that says what was missing: a pause is too long on one computer and too short on the next",
    },
];

/// Where what is decided must not depend on anything but what was read.
const PURE_PLACES: &[&str] = &[
    "model/src/",
    "ledger/src/apply.rs",
    "ledger/src/row.rs",
    "scheduler/src/effect.rs",
    "scheduler/src/plan/",
    "scheduler/src/workflow.rs",
    "scheduler/src/workflows/",
];

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    let files = repository.rust_files()?;
    Ok(files.iter().flat_map(|file| BANS.iter().flat_map(move |ban| offences(file, ban))).collect())
}

fn offences(file: &RustFile, ban: &Ban) -> Vec<Finding> {
    if !(ban.applies)(&file.path) {
        return vec![];
    }
    let concerns = |token: &&Token| match ban.part {
        Part::Everywhere => true,
        Part::Product => !token.in_test,
        Part::TestsOutsideLoops => token.in_test && !token.in_loop,
    };
    let finding = |row: &str, token: &Token| {
        let written = row.replace(" :: ", "::").replace(' ', "");
        Finding::new(RULE, &file.path, token.line, format!("`{written}`"), ban.instead)
    };
    let found = ban.rows.iter().flat_map(|row| file.find(row).into_iter().map(move |token| (*row, token)));
    found.filter(|(_, token)| concerns(token)).map(|(row, token)| finding(row, token)).collect()
}

fn everywhere(_path: &str) -> bool {
    true
}

fn is_pure(path: &str) -> bool {
    PURE_PLACES.iter().any(|place| path.starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, String)> {
        let findings = check(&Repository::of(&[(path, text)])).expect("checks");
        findings.into_iter().map(|finding| (finding.line, finding.problem)).collect()
    }

    #[test]
    fn unfinished_code_is_found_in_tests_too() {
        let text = "fn a() { todo!() }\n#[test]\n#[ignore = \"slow\"]\nfn b() { dbg!(1); }\n";
        let problems = [(1, "`todo!`".to_owned()), (4, "`dbg!`".to_owned()), (3, "`#[ignore`".to_owned())];
        assert_eq!(found("api/tests/rest.rs", text), problems);
    }

    #[test]
    fn a_folder_of_sources_is_not_compiled_in() {
        let text = "fn a() { env!(\"CARGO_MANIFEST_DIR\"); env!(\"CARGO_PKG_VERSION\"); }\n";
        assert_eq!(found("wire/tests/a.rs", text), [(1, "`env!(\"CARGO_MANIFEST_DIR\"`".to_owned())]);
    }

    #[test]
    fn unwrap_is_for_tests() {
        let text =
            "fn a() { b.unwrap(); b.unwrap_or(1); }\n#[cfg(test)]\nmod tests { fn c() { b.unwrap() } }\n";
        assert_eq!(found("api/src/lib.rs", text), [(1, "`.unwrap()`".to_owned())]);
    }

    #[test]
    fn clocks_and_waiting_are_found_where_code_is_pure_and_only_there() {
        let text = "async fn a() { let now = jiff::Timestamp::now(); tokio::spawn(b) }\n";
        let problems: Vec<_> =
            found("model/src/host.rs", text).into_iter().map(|(_, problem)| problem).collect();
        assert_eq!(problems, ["`Timestamp::now`", "`tokio::`", "`asyncfn`"].map(str::to_owned));
        assert_eq!(found("scheduler/src/engine.rs", text), []);
    }

    #[test]
    fn libraries_stay_behind_their_doors() {
        let text = "use openraft::Raft;\nuse rocksdb::DB;\n";
        assert_eq!(found("raft/src/lib.rs", text), [(2, "`rocksdb`".to_owned())]);
        assert_eq!(found("storage/src/lib.rs", text), [(1, "`openraft`".to_owned())]);
        assert_eq!(found("api/src/lib.rs", "/// Not openraft's business.\nfn a() {}\n"), []);
    }

    #[test]
    fn a_pause_in_a_test_is_for_loops() {
        let text = "async fn a() {\n    sleep(LONG).await;\n    while !b() {\n        sleep(SHORT).await;\n    }\n}\n";
        assert_eq!(found("wire/tests/links.rs", text), [(2, "`sleep(`".to_owned())]);
        assert_eq!(found("wire/src/links.rs", text), []);
    }
}
