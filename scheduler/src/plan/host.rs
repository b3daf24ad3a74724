//! Starts `update-host` for nodes that do not have what is wished for them: they have joined since.

use skep_ledger::ReadError;
use skep_model::host;
use skep_model::operation::workflow;

use super::{Decision, Picture};

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    for environment in picture.at_work() {
        for host in picture.hosts(environment) {
            let subject = host::subject(host);
            if host.is_active() && host.outstanding() && picture.free_again(&subject) {
                decisions.push(Decision {
                    workflow: workflow::UPDATE_HOST,
                    subject,
                    environment: environment.id.clone(),
                    why: "its node has joined since something was wished for it".to_owned(),
                });
            }
        }
    }
    Ok(decisions)
}
