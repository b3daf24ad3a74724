//! All rules that are checked by reading the files.

mod arrows;
mod bans;
mod code_map;
mod codes;
mod limits;
mod links;
mod manifests;
mod module_docs;
mod places;
mod sizes;

use anyhow::Result;

use crate::finding::Finding;
use crate::repository::Repository;

/// One rule, or several of one kind.
pub(crate) struct Check {
    /// What findings are headed with.
    pub(crate) rule: &'static str,
    /// Looks at the whole repository.
    pub(crate) run: fn(&Repository) -> Result<Vec<Finding>>,
}

/// Every check there is. Findings are printed in this order: the structure first, details last.
pub(crate) const CHECKS: &[Check] = &[
    Check { rule: arrows::RULE, run: arrows::check },
    Check { rule: code_map::RULE, run: code_map::check },
    Check { rule: manifests::RULE, run: manifests::check },
    Check { rule: bans::RULE, run: bans::check },
    Check { rule: module_docs::RULE, run: module_docs::check },
    Check { rule: sizes::RULE, run: sizes::check },
    Check { rule: codes::RULE, run: codes::check },
    Check { rule: limits::RULE, run: limits::check },
    Check { rule: links::RULE, run: links::check },
    Check { rule: places::RULE, run: places::check },
];
