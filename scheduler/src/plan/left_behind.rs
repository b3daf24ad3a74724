//! Starts `release-machine` for machines that were left behind: their hosts are gone, and the cloud ledger knows them.

use skep_ledger::ReadError;
use skep_model::operation::workflow;
use skep_model::resource;

use super::{Decision, Picture};

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    for row in picture.resources() {
        let Some(left) = &row.left else { continue };
        let subject = resource::subject(row, left);
        if picture.free_again(&subject) {
            decisions.push(Decision {
                workflow: workflow::RELEASE_MACHINE,
                subject,
                environment: row.environment.clone(),
                why: format!("left behind by environment {}: {}", left.environment, left.why),
            });
        }
    }
    Ok(decisions)
}
