//! Every code of the catalogue is what some test is answered with, and stands nowhere else in the product.
//!
//! Why here and not in a test of one crate: rules, doors and backups are tested where they are. A test that only makes
//! a code up does not count, so the client's, which play the manager themselves, are left out; and so are those that
//! need a lab, because a code must be seen by whoever changes something on a plain computer.

use std::ops::RangeInclusive;

use anyhow::{Context, Result};

use crate::finding::Finding;
use crate::repository::Repository;
use crate::rust::{RustFile, Token};

pub(super) const RULE: &str = "code";

const CATALOGUE: &str = "codes/src/catalogue.rs";

/// Where tests name codes that nobody has answered with, or where they need a lab.
const ELSEWHERE: &[&str] = &["bench/", "chaos-tests/", "cli/", "codes/", "xtask/"];

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    let catalogue = repository.file(CATALOGUE).with_context(|| format!("there is no {CATALOGUE}"))?;
    let files = repository.rust_files()?;
    let rows: Vec<(usize, &str, &str)> = catalogue
        .lines()
        .filter_map(|(line, text)| row(text).map(|(name, code)| (line, name, code)))
        .collect();
    let untested = rows.iter().filter(|(_, _, code)| !files.iter().any(|file| expects(file, code)));
    let mut findings: Vec<Finding> = untested
        .map(|(line, name, code)| {
            Finding::new(
                RULE,
                CATALOGUE,
                *line,
                format!("no test is answered with {code} ({name})"),
                "write one that goes the way of a request and asserts the number; a code that nothing leads to is taken out",
            )
        })
        .collect();
    let copies = files.iter().filter(|file| file.path != CATALOGUE && !file.path.starts_with("xtask/"));
    findings.extend(copies.flat_map(|file| copied(file, &rows)));
    Ok(findings)
}

/// `NameTaken = "SKP-1301", …`
fn row(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.trim().split_once(" = \"SKP-")?;
    let digits = rest.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let from = line.find("SKP-")?;
    line.get(from..from + "SKP-".len() + digits.len()).map(|code| (name, code))
}

/// Does a test of this file assert something about the code?
fn expects(file: &RustFile, code: &str) -> bool {
    if ELSEWHERE.iter().any(|folder| file.path.starts_with(folder)) {
        return false;
    }
    let asserts = |token: &Token| token.text.starts_with("assert") || token.text == "is_problem";
    let named = file.tokens.iter().filter(|token| token.in_test && literal(token).contains(code));
    named.filter_map(|token| around(file, token.line)).any(|lines| {
        let inside = file.tokens.iter().filter(|token| lines.contains(&token.line));
        inside.into_iter().any(asserts)
    })
}

/// The lines of the innermost function around a line. What is said in front of a function is not in it.
fn around(file: &RustFile, line: usize) -> Option<RangeInclusive<usize>> {
    let functions = file.functions.iter().map(|function| function.line..=function.line + function.lines - 1);
    functions.filter(|lines| lines.contains(&line)).min_by_key(|lines| lines.end() - lines.start())
}

/// Numbers that are written a second time, other than in a sentence or an example.
fn copied(file: &RustFile, rows: &[(usize, &str, &str)]) -> Vec<Finding> {
    let is_example = |at: usize| at >= 2 && file.tokens[at - 2].text == "example";
    let tokens = file.tokens.iter().enumerate().filter(|(at, token)| !token.in_test && !is_example(*at));
    let found = tokens.filter_map(|(_, token)| {
        rows.iter().find(|(_, _, code)| literal(token) == *code).map(|row| (token, row))
    });
    found
        .map(|(token, (_, name, code))| {
            let problem = format!("{code} is written a second time");
            Finding::new(
                RULE,
                &file.path,
                token.line,
                problem,
                format!("write Code::{name}: {CATALOGUE} knows the number"),
            )
        })
        .collect()
}

/// What is between the quotes, if it is a text.
fn literal(token: &Token) -> &str {
    token.text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "catalogue! {\n    /// Taken.\n    NameTaken = \"SKP-1301\", \"NAME_TAKEN\", 409, retryable: false;\n}\n";

    fn found(path: &str, text: &str) -> Vec<(String, usize)> {
        let findings = check(&Repository::of(&[(CATALOGUE, ROW), (path, text)])).expect("checks");
        findings.into_iter().map(|finding| (finding.path, finding.line)).collect()
    }

    #[test]
    fn a_code_counts_as_tested_where_something_is_asserted_about_it() {
        let untested = vec![(CATALOGUE.to_owned(), 3)];
        let asserted = "#[test]\nfn a() {\n    assert_eq!(refused(), \"SKP-1301\");\n}\n";
        let table = "#[test]\nfn a() {\n    for code in [\"SKP-1301\"] {\n        b.is_problem(409, code);\n    }\n}\n";
        assert_eq!(found("api/tests/a.rs", asserted), []);
        assert_eq!(found("api/tests/a.rs", table), []);
        assert_eq!(found("cli/tests/a.rs", asserted), untested, "the client plays the manager itself");
        assert_eq!(found("api/tests/a.rs", "fn a() -> &'static str {\n    \"SKP-1301\"\n}\n"), untested);
        let said = "/// Not SKP-1301.\n#[test]\nfn a() {\n    // SKP-1301\n    assert!(true);\n}\n";
        assert_eq!(found("api/tests/a.rs", said), untested);
    }

    #[test]
    fn a_number_is_written_once() {
        let tested =
            "#[cfg(test)]\nmod tests {\n    fn a() {\n        assert!(b() == \"SKP-1301\");\n    }\n}\n";
        let text = |product: &str| found("api/src/a.rs", &format!("{product}\n{tested}"));
        assert_eq!(text("const TAKEN: &str = \"SKP-1301\";"), [("api/src/a.rs".to_owned(), 1)]);
        assert_eq!(text("#[schema(example = \"SKP-1301\")]\nstruct A;"), []);
        assert_eq!(text("/// As SKP-1301 says.\nconst HELP: &str = \"see SKP-1301\";"), []);
    }
}
