//! The page of limits says what the code says.
//!
//! Why here and not in a test of one crate: the limits are in many crates, most of them private, and the page is the one
//! place where they stand together.

use anyhow::Result;

use crate::finding::Finding;
use crate::repository::Repository;

pub(super) const RULE: &str = "limit";

const PAGE: &str = "docs/reference/limits.md";

/// A row of the page's table.
struct Row<'t> {
    line: usize,
    constant: &'t str,
    file: &'t str,
    value: &'t str,
}

pub(super) fn check(repository: &Repository) -> Result<Vec<Finding>> {
    let Some(page) = repository.files.iter().find(|file| file.path == PAGE) else {
        return Ok(vec![Finding::new(RULE, PAGE, 1, "the page is missing", "write down every limit there")]);
    };
    let rows: Vec<Row<'_>> = page.lines().filter_map(|(number, line)| row(number, line)).collect();
    if rows.is_empty() {
        return Ok(vec![Finding::new(
            RULE,
            PAGE,
            1,
            "its table has no rows",
            "keep the columns as they were",
        )]);
    }
    let mut findings = vec![];
    for row in rows {
        let found = repository.files.iter().find(|file| file.path == row.file);
        let found = found.and_then(|file| file.lines().find_map(|(_, line)| value(line, row.constant)));
        if found != Some(row.value) {
            let is = found.unwrap_or("not there");
            let said = format!("{} is said to be {}, but is {is}", row.constant, row.value);
            findings.push(Finding::new(RULE, PAGE, row.line, said, "write what is so, in both columns"));
        }
    }
    Ok(findings)
}

/// ``… | `CONSTANT` in `file` | `value` |``
fn row(number: usize, line: &str) -> Option<Row<'_>> {
    let mut cells = line.strip_suffix('|')?.rsplit('|').map(str::trim);
    let value = code(cells.next()?)?;
    let (constant, file) = cells.next()?.split_once(" in ")?;
    Some(Row { line: number, constant: code(constant)?, file: code(file)?, value })
}

fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

/// The value of a constant, if this line defines it.
fn value<'l>(line: &'l str, constant: &str) -> Option<&'l str> {
    let (before, rest) = line.split_once("const ")?;
    let rest = rest.strip_prefix(constant)?.strip_prefix(':')?;
    (before.trim().is_empty() || before.trim().starts_with("pub")).then_some(())?;
    rest.split_once('=')?.1.trim().strip_suffix(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_has_moved_is_found() {
        let page = "| what | value |\n|---|---|\n| `A_MAX` in `a.rs` | `Duration::from_secs(1)` |\n\
                    | `B_MAX` in `a.rs` | `2` |\n| `C_MAX` in `b.rs` | `3` |\n";
        let code =
            "pub(crate) const A_MAX: Duration = Duration::from_secs(1);\n    const B_MAX: usize = 20;\n";
        let findings = check(&Repository::of(&[(PAGE, page), ("a.rs", code)])).expect("checks");
        let lines: Vec<_> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [4, 5]);
    }
}
