//! Starts `check-host` for hosts that are kept out of the swarm by the network between them, and are in nobody's hands.

use skep_ledger::ReadError;
use skep_model::host;
use skep_model::operation::workflow;

use super::{Decision, Picture};

pub(super) fn plan(picture: &Picture) -> Result<Vec<Decision>, ReadError> {
    let mut decisions = vec![];
    for environment in picture.at_work() {
        let hosts = picture.hosts(environment);
        let has_members = hosts.iter().any(|host| host.membership.is_some());
        let kept_out = hosts
            .iter()
            .filter(|host| host.is_ready() && host.membership.is_none() && !host.may_join(has_members));
        for host in kept_out {
            let subject = host::subject(host);
            if picture.free_again(&subject) {
                decisions.push(Decision {
                    workflow: workflow::CHECK_HOST,
                    subject,
                    environment: environment.id.clone(),
                    why: "the network between it and the swarm was not good enough, or was not checked"
                        .to_owned(),
                });
            }
        }
    }
    Ok(decisions)
}
